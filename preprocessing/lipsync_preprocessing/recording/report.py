"""The page report.html of a dataset: a contact sheet, curves, warnings. It asks no server for anything."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from lipsync_preprocessing.contract import FRAME_RATE
from lipsync_preprocessing.dataset.types import Image, Rect
from lipsync_preprocessing.recording.findings import Finding
from lipsync_preprocessing.recording.rest import RestLoop
from lipsync_preprocessing.recording.square import tremble
from lipsync_preprocessing.recording.track import Track

Floats = npt.NDArray[np.float64]

_SHEET, _SHOWN_FINDINGS = 24, 30
_TILE_HEIGHT = 150  # pixels
_WIDTH, _GRAPH_HEIGHT = 1000, 130  # pixels
_MOST_POINTS = 1000
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1060px; margin: 2em auto;
  padding: 0 1em; color: #222; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; }
td, th { padding: .25em .9em .25em 0; text-align: left; vertical-align: top; }
.sheet { display: flex; flex-wrap: wrap; gap: 6px; } figure { margin: 0; }
figcaption { font-size: 12px; color: #555; } img { display: block; border-radius: 3px; }
svg { width: 100%; background: #f6f6f4; border-radius: 4px; }
.good { color: #17692f; } .bad { color: #a13200; }
"""


def write_report(
    path: Path,
    name: str,
    frames: Path,
    track: Track,
    findings: Sequence[Finding],
    rest: RestLoop | None,
) -> None:
    """Write the page.

    Args:
        path: the file.
        name: of the recording.
        frames: the folder of {k}.jpg.
        track: the measurements.
        findings: the warnings; their seconds count from the video's beginning.
        rest: the rest loop.
    """
    parts = [
        f"<h1>{escape(name)}</h1>",
        _figures(track, rest),
        _warnings(findings),
        "<h2>Frames, with the face square</h2>",
        _sheet(frames, track.rects, _even(len(track), _SHEET)),
    ]
    if rest is not None:
        parts += [
            "<h2>The rest loop</h2>",
            f"<p>Frames {rest.first} to {rest.last}; its first, middle and last frame:</p>",
            _sheet(frames, track.rects, [rest.first, (rest.first + rest.last) // 2, rest.last]),
        ]
    x, y, side = track.square.T
    raw_x, raw_y, raw_side = track.raw.T
    parts += [
        "<h2>The face square over time</h2>",
        _graph("middle, x in pixels", [("#c9c4b8", raw_x), ("#17692f", x)]),
        _graph("top, y in pixels", [("#c9c4b8", raw_y), ("#17692f", y)]),
        _graph("side in pixels", [("#c9c4b8", raw_side), ("#17692f", side)]),
        "<p>Grey is as measured, green is smoothed.</p>",
        "<h2>Mouth and audio</h2>",
        _graph(
            "gap between the lips, percent of the eyes' distance",
            [("#a13200", 100 * track.opening)],
        ),
        _graph("level of the audio, dB of full scale", [("#2b4c8c", np.maximum(track.level, -80))]),
    ]
    path.write_text(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(name)}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n",
        encoding="utf-8",
    )


def _figures(track: Track, rest: RestLoop | None) -> str:
    width, height = track.size
    rested = (
        f"{rest.seconds:.1f} s, its ends {rest.difference:.1f} pixels apart" if rest else "none"
    )
    rows = (
        ("Length", f"{len(track) / FRAME_RATE:.1f} s, {len(track)} frames of {width}x{height}"),
        ("Face found in", f"{track.found.mean():.2%} of the frames"),
        ("Side of the face square", f"{np.median(track.square[:, 2]):.0f} pixels, the median"),
        (
            "Tremble of the square",
            f"{tremble(track.raw):.2f} pixels measured, {tremble(track.square):.2f} kept",
        ),
        ("Rest loop", rested),
    )
    cells = "".join(f"<tr><th>{escape(a)}</th><td>{escape(b)}</td></tr>" for a, b in rows)
    return f"<table>{cells}</table>"


def _warnings(findings: Sequence[Finding]) -> str:
    if not findings:
        return '<h2 class="good">No warnings</h2>'
    items = "".join(f"<li>{escape(str(finding))}</li>" for finding in findings[:_SHOWN_FINDINGS])
    if len(findings) > _SHOWN_FINDINGS:
        items += f"<li>and {len(findings) - _SHOWN_FINDINGS} more</li>"
    title = "1 warning" if len(findings) == 1 else f"{len(findings)} warnings"
    return f'<h2 class="bad">{title}</h2><ul>{items}</ul>'


def _even(count: int, wanted: int) -> list[int]:
    return sorted({int(k) for k in np.linspace(0, count - 1, min(count, wanted))})


def _sheet(frames: Path, rects: Sequence[Rect], shown: Sequence[int]) -> str:
    figures = []
    for k in shown:
        tile = base64.b64encode(_tile(frames / f"{k}.jpg", rects[k])).decode()
        figures.append(
            f'<figure><img alt="frame {k}" src="data:image/jpeg;base64,{tile}">'
            f"<figcaption>{k}: {k / FRAME_RATE:.2f} s</figcaption></figure>"
        )
    return f'<div class="sheet">{"".join(figures)}</div>'


def _tile(path: Path, rect: Rect) -> bytes:
    image: Image = np.asarray(cv2.imread(str(path)), np.uint8)
    thick = max(1, image.shape[0] // 200)
    cv2.rectangle(image, rect[:2], rect[2:], (0, 220, 0), thick)
    scale = _TILE_HEIGHT / image.shape[0]
    size = max(1, round(image.shape[1] * scale)), _TILE_HEIGHT
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])[1])


def _graph(title: str, curves: Sequence[tuple[str, Floats]]) -> str:
    """Return curves over time as SVG, with their range and the seconds as labels."""
    low = min(float(values.min()) for _, values in curves)
    high = max(float(values.max()) for _, values in curves)
    span = max(high - low, 1e-6)
    count = len(curves[0][1])
    lines = []
    for colour, values in curves:
        at = np.linspace(0, count - 1, min(count, _MOST_POINTS)).astype(int)
        x = at / max(count - 1, 1) * _WIDTH
        y = 8 + (1 - (values[at] - low) / span) * (_GRAPH_HEIGHT - 30)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        lines.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        )
    text = f"{title}: {low:.1f} to {high:.1f}; 0 to {count / FRAME_RATE:.0f} s"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_GRAPH_HEIGHT}" role="img">{"".join(lines)}'
        f'<text x="6" y="{_GRAPH_HEIGHT - 6}" font-size="12" fill="#555">{escape(text)}</text></svg>'
    )
