"""Minutes of speech on the page in headless Chromium: frames, freezes, and mouth against sound."""

from __future__ import annotations

import shutil
import time

import click
import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Page, sync_playwright

from ..case import AVATAR, WORK
from ..tables import table
from .browser import FLAGS, Probe, decoded
from .curves import compare, find
from .mouth import Mouth, write_wav
from .programs import web_service

_WINDOW_S = 60.0
_FOUND = 0.5  # least correlation of a place that counts
_SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
_PLAYS = "document.getElementById('video').currentTime > 0.2"


def measure_page(url: str, clip: NDArray[np.float32], mouth: Mouth, minutes: int) -> str:
    """Return the table of the page, minute by minute.

    Args:
        url: of the lip-sync server.
        clip: float32 (n,) at 16 kHz, repeated for the whole time.
        mouth: of the clip.
    """
    path = WORK / "doors.wav"
    write_wav(path, np.resize(clip, round(16_000 * (60.0 * minutes - 5))))
    with web_service(url) as (address, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(address)
        page.wait_for_selector("#avatars input")
        page.click("#start")
        while not page.evaluate(_PLAYS):
            page.wait_for_timeout(50)
        first_s = decoded(page)["first_frame_s"]
        probe = Probe(page, mouth)
        page.set_input_files("#file", path)
        page.click("#speak")
        page.wait_for_timeout(3000)
        for name, (width, height) in _SIZES.items():
            page.set_viewport_size({"width": width, "height": height})
            page.screenshot(path=WORK / f"page-{name}.png")
        probe.clear()
        lines = [_minute(page, probe, n + 1, mouth) for n in range(minutes)]
        browser.close()
    head = ["minute", "decoded per second", "freezes", "repeated", "correlation", "with loudness"]
    return f"""
The page in Chromium, {AVATAR} avatar: first frame {first_s:.2f} s after Start; then minute by minute:

{table([*head, "shift ms"], lines)}"""


def _minute(page: Page, probe: Probe, number: int, mouth: Mouth) -> list[str]:
    before, begun = decoded(page), time.monotonic()
    repeated = _repeated(page)
    while time.monotonic() < begun + _WINDOW_S:
        page.wait_for_timeout(1000)
        probe.take()
    after, seconds = decoded(page), time.monotonic() - begun
    line = [
        str(number),
        f"{(after['decoded'] - before['decoded']) / seconds:.1f}",
        f"{after['freezes'] - before['freezes']:.0f}",
        str(_repeated(page) - repeated),
    ]
    try:
        sound = probe.sound()
        sync = compare(probe.opening(), sound, mouth.opening, mouth.loud, find(sound, mouth.loud))
        if sync.correlation < _FOUND:
            raise ValueError("the clip was not found")
        line += [f"{sync.correlation:.2f}", f"{sync.loudness:.2f}", f"{sync.shift_ms:+.0f}"]
    except (ValueError, IndexError):  # too little was played in this minute
        line += ["-", "-", "-"]
    probe.clear()
    click.echo(f"  {line}", err=True)
    return line


def _repeated(page: Page) -> int:
    figures = page.evaluate("window.lipsync.session.figures()")
    return int(figures["service"]["repeated"])
