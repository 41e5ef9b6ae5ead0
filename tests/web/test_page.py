"""The page in real Chromium, with its fake microphone fed from a file."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import av
import numpy as np
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from lipsync_benchmarks.case import speech_samples
from lipsync_benchmarks.doors.browser import FLAGS, Probe, decoded
from lipsync_benchmarks.doors.curves import begin_of_sound, compare
from lipsync_benchmarks.doors.mouth import Mouth, render_mouth, write_wav
from lipsync_embedded import Server
from lipsync_web import WebSettings
from support.drawn_avatar import NAME
from support.programs import program
from support.web import running

pytestmark = pytest.mark.server
CLIP_S = 4.0
TIMESTAMP_BITS = 28


def origin(video: int, audio: int) -> tuple[int, int]:
    """Return the RTP timestamps of a session's first frame and of its audio."""
    return video >> TIMESTAMP_BITS << TIMESTAMP_BITS, audio >> TIMESTAMP_BITS << TIMESTAMP_BITS


@pytest.fixture(scope="module")
def service(drawn_server: Server) -> Iterator[str]:
    """The URL of a web service whose avatar's mouth follows the speech."""
    settings = WebSettings(
        drawn_server.grpc_url,
        max_sessions=2,
        connect_timeout_s=60.0,
        unwatched_timeout_s=60.0,
        stall_s=1000.0,  # however slow the machine, no frame is left out
    )
    numbers = cycle(range(1, 1 << 4))
    with pytest.MonkeyPatch.context() as patch, running(settings) as url:
        # Instead of random ones: RTP timestamps that tell how far they are from the session's beginning.
        patch.setattr("aiortc.rtcrtpsender.random32", lambda: next(numbers) << TIMESTAMP_BITS)
        yield url


@pytest.fixture(scope="module")
def speech_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "speech.wav"
    write_wav(path, speech_samples(CLIP_S))
    return path


@pytest.fixture(scope="module")
def browser(speech_file: Path) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        flags = [*FLAGS, f"--use-file-for-fake-audio-capture={speech_file}"]
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=flags)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, service: str) -> Iterator[Page]:
    """The page with its avatars listed; it asks nobody but the service, and logs no error.

    The browser logs each refused request by itself; the page shows the reason.
    """
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: errors.extend([message.text] * is_error(message)))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(service)
    page.wait_for_selector("#avatars input")
    yield page
    page.close()
    assert [url for url in asked if not url.startswith((service, "blob:", "data:"))] == []
    assert errors == []


def is_error(message: ConsoleMessage) -> bool:
    refused = message.text.startswith("Failed to load resource") and "status of 400" in message.text
    return message.type == "error" and not refused


def wait_for(page: Page, expression: str, timeout_s: float = 60) -> None:
    """Wait until JavaScript is true; the page's policy forbids the browser to do it by `eval`."""
    deadline = time.monotonic() + timeout_s
    while not page.evaluate(expression):
        shown = f"notice: {page.inner_text('#notice')!r}, figures: {page.inner_text('#figures')!r}"
        assert time.monotonic() < deadline, f"{expression}; {shown}"
        page.wait_for_timeout(50)


PLAYS = "(v => v.videoWidth === 320 && v.currentTime > 0.2)(document.getElementById('video'))"


def wait_until_it_speaks(page: Page) -> None:
    wait_for(page, "document.getElementById('f-state').textContent === 'speaking'")


def test_the_microphone_makes_the_avatar_speak(page: Page) -> None:
    page.click("#start")
    wait_for(page, PLAYS)
    page.click("#microphone")
    wait_until_it_speaks(page)
    assert page.get_attribute("#microphone", "aria-pressed") == "true"
    page.click("#microphone")
    wait_for(page, "document.getElementById('microphone').getAttribute('aria-pressed') === 'false'")
    page.click("#stop")
    wait_for(page, "document.getElementById('f-state').textContent === 'off'")


@pytest.fixture(scope="module")
def mouth(drawn_server: Server) -> Mouth:
    return render_mouth(drawn_server.grpc_url, NAME, speech_samples(CLIP_S))


def record_until(probe: Probe, condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"{what}; notice: {probe.page.inner_text('#notice')!r}"
        probe.page.wait_for_timeout(200)
        probe.take()


def test_the_mouth_moves_with_the_sound_that_is_heard(
    page: Page, speech_file: Path, mouth: Mouth
) -> None:
    page.click("#start")
    wait_for(page, PLAYS)
    first = decoded(page)["first_frame_s"]
    assert 0 < first < page.evaluate("performance.now() - window.lipsync.startedAt") / 1000
    probe = Probe(page, mouth, origin)
    page.set_input_files("#file", speech_file)
    page.click("#speak")
    record_until(probe, lambda: probe.frames > 0 and probe.heard_s() > 0.5, "nothing was heard")
    begun = begin_of_sound(probe.sound())
    record_until(probe, lambda: probe.sound().times[-1] > begun + CLIP_S + 1, "it did not end")
    sync = compare(probe.opening(), probe.sound(), mouth.opening, mouth.loud, begun)
    figures = decoded(page)
    print(f"{sync}; {figures}")
    assert sync.correlation > 0.8
    assert abs(sync.shift_ms) < 40, "a frame"
    assert figures["decoded"] >= probe.frames > 40
    assert 0 <= figures["freezes"] < figures["decoded"]
    page.click("#stop")


def test_an_interruption_is_heard_and_seen(page: Page, mouth: Mouth, tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    write_wav(path, speech_samples(15.0))
    page.set_input_files("#file", path)
    page.click("#speak")  # starts the session too
    wait_for(page, PLAYS)
    probe = Probe(page, mouth)
    record_until(probe, lambda: probe.frames > 0 and probe.heard_s() > 0.5, "nothing was heard")
    page.click("#interrupt")
    wait_for(page, "document.getElementById('f-state').textContent === 'idle'")
    probe.take()
    ended, frames = probe.heard_s(), probe.frames
    record_until(probe, lambda: probe.frames > frames + 50, "no frames came after the interruption")
    print(f"{probe.heard_s():.2f} s were heard")
    assert probe.heard_s() < ended + 2, "no more than what was on its way"
    values = probe.opening().values
    assert np.median(values[-15:]) < 0.3 * values.max(), "the mouth is closed"
    page.click("#stop")


def test_a_file_is_rendered_and_downloaded(page: Page, speech_file: Path, tmp_path: Path) -> None:
    page.set_input_files("#file", speech_file)
    page.click("#render")
    page.wait_for_selector("#download:not([hidden])", timeout=60_000)
    with page.expect_download() as download:
        page.click("#download")
    path = tmp_path / "video.mp4"
    download.value.save_as(path)
    with av.open(io.BytesIO(path.read_bytes())) as container:
        assert sum(1 for _ in container.decode(video=0)) == 99


def test_a_file_that_is_no_audio_is_explained(page: Page, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no audio")
    page.set_input_files("#file", tmp_path / "notes.txt")
    page.click("#render")
    page.wait_for_selector("#notice:not([hidden])", timeout=60_000)
    assert "audio or video file" in page.inner_text("#notice")


def test_the_keyboard_reaches_every_control(page: Page, speech_file: Path) -> None:
    page.set_input_files("#file", speech_file)
    seen = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.name"))
    assert {"start", "avatar", "file", "speak", "render"} <= seen


def test_the_api_page_shows_every_operation(page: Page, tmp_path: Path) -> None:
    page.click("text=HTTP API")
    page.wait_for_selector("#addJob")
    for name in ("listAvatars", "getJob", "deleteJob", "watchJob", "getVideo"):
        assert page.is_visible(f"#{name} h2")
    assert "Idempotency-Key" in page.inner_text("#addJob")
    page.screenshot(path=tmp_path / "api.png", full_page=True)
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_cut_off(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
