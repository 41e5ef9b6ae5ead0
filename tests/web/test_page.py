"""The page in real Chromium, with its fake microphone fed from a file."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
import soundfile
from playwright.sync_api import Browser, Page, sync_playwright

from support.programs import program
from support.triton_calls import speech

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip

# A failure within Playwright's greenlets crashes pytest's report on Python 3.11: long proofs for now.
pytestmark = [pytest.mark.server, pytest.mark.soak]


@pytest.fixture(scope="module")
def speech_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "speech.wav"
    soundfile.write(path, speech(6.0), 16_000, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def browser(speech_file: Path) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        flags = [*FLAGS, f"--use-file-for-fake-audio-capture={speech_file}"]
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=flags)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, web: str) -> Iterator[Page]:
    """The page with its avatars listed; it asks nobody but the service, and logs no error."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: errors.extend([message.text] * (message.type == "error")))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(web)
    page.wait_for_selector("#avatars input")
    yield page
    page.close()
    assert [url for url in asked if not url.startswith((web, "blob:", "data:"))] == []
    assert errors == []


def wait_for(page: Page, expression: str, timeout_s: float = 60) -> None:
    """Wait until JavaScript is true; the page's policy forbids the browser to do it by `eval`."""
    deadline = time.monotonic() + timeout_s
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"{expression}; notice: {page.inner_text('#notice')!r}"
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


def test_a_file_is_watched_live_and_interrupted(page: Page, speech_file: Path) -> None:
    page.set_input_files("#file", speech_file)
    page.click("#speak")  # starts the session too
    wait_for(page, PLAYS)
    wait_until_it_speaks(page)
    page.click("#interrupt")
    wait_for(page, "document.getElementById('f-state').textContent === 'idle'")
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
        assert sum(1 for _ in container.decode(video=0)) == 149


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


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_cut_off(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
