"""The mouth: five parameters, and the SVG that is drawn from them."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

MOUTH_Y = 84.0
"""Height of the closed lips' line in the head's coordinates, pixels at scale 1."""
JAW_DROP = 13.0
"""Distance that the chin sinks at `jaw` = 1, pixels at scale 1."""

_OPENING = 42.0
_HALF_WIDTH = 40.0
_POINTS = 33


@dataclass(frozen=True)
class Mouth:
    """A mouth shape.

    jaw    0 closed .. 1 wide open
    width  -1 narrow .. 1 spread
    round  0 .. 1 pursed, lips forward
    teeth  0 .. 1 upper teeth shown (with a small `jaw`: the lip at the teeth, as in "f")
    tongue 0 .. 1 tongue raised towards the teeth, as in "l"
    """

    jaw: float = 0.0
    width: float = 0.0
    round: float = 0.0
    teeth: float = 0.0
    tongue: float = 0.0

    def values(self) -> tuple[float, ...]:
        """Return the five numbers, in the order of the fields."""
        return astuple(self)


CLOSED = Mouth()

_Curve = list[tuple[float, float]]


def _path(points: _Curve) -> str:
    return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in points) + "Z"


def _arc(half: float, height: float, power: float, lift: float) -> _Curve:
    """Return a bow from (-half, lift) to (half, lift), `height` away from that line in the middle."""
    curve: _Curve = []
    for i in range(_POINTS):
        u = -math.cos(math.pi * i / (_POINTS - 1))
        curve.append((half * u, lift * abs(u) ** 2 + height * (1.0 - abs(u) ** power)))
    return curve


def mouth_svg(mouth: Mouth) -> str:
    """Return the SVG of lips, teeth and tongue; (0, 0) is the middle of the closed lips' line."""
    jaw = max(0.0, mouth.jaw)
    half = _HALF_WIDTH + 7.0 * mouth.width - 15.0 * mouth.round - 2.0 * jaw
    opening = _OPENING * jaw
    corner = -4.0 - 2.5 * mouth.width + 3.0 * mouth.round + 0.16 * opening
    rise, fall = -0.20 * opening, 0.80 * opening
    power = 2.2 + 0.8 * mouth.round
    # The closed line bows down a little, so the mouth smiles at rest.
    inner_top = _arc(half - 2.0, rise + 1.6, power, corner)
    inner_bottom = _arc(half - 2.0, fall + 1.6, power, corner)

    stretch = 1.0 - 0.12 * mouth.width - 0.15 * jaw
    upper = (8.0 + 3.5 * mouth.round) * stretch
    lower = (11.5 + 3.0 * mouth.round) * stretch
    upper_edge: _Curve = []
    for x, y in inner_top:
        u = x / half
        bow = 1.0 - 0.26 * math.exp(-((u / 0.13) ** 2)) - 0.25 * u * u
        upper_edge.append((x * (half + 1.0) / (half - 2.0), y - upper * bow * _taper(u)))
    lower_edge = [
        (
            x * (half + 1.0) / (half - 2.0),
            y + lower * (1 - 0.3 * (x / half) ** 2) * _taper(x / half),
        )
        for x, y in inner_bottom
    ]
    cavity = _path(inner_top + inner_bottom[::-1])
    upper_lip = _path(upper_edge + inner_top[::-1])
    lower_lip = _path(inner_bottom + lower_edge[::-1])
    low = fall + 1.6 + lower
    parts = [
        f'<ellipse cx="0" cy="{low + 7:.2f}" rx="{half * 0.55:.2f}" ry="4.5"'
        ' fill="#a8503c" opacity=".42" filter="url(#b4)"/>',
        f'<path d="{_path(upper_edge + lower_edge[::-1])}" fill="#b9603f" opacity=".35"'
        ' filter="url(#b2)"/>',
        f'<clipPath id="cav"><path d="{cavity}"/></clipPath>',
        f'<path d="{cavity}" fill="url(#cavity)"/>',
        f'<g clip-path="url(#cav)">{_inside(mouth, half, rise, fall, opening)}</g>',
        f'<path d="{upper_lip}" fill="url(#lipU)"/>',
        f'<path d="{lower_lip}" fill="url(#lipL)"/>',
    ]
    glow = max(0.0, 1.0 - 0.3 * jaw)
    parts.append(
        f'<ellipse cx="-5" cy="{fall + 1.6 + lower * 0.45:.2f}" rx="{half * 0.33:.2f}" ry="2.4"'
        f' fill="#ffd9cf" opacity="{0.62 * glow:.3f}" filter="url(#b2)"/>'
    )
    line = "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in inner_top)
    parts.append(
        f'<path d="{line}" fill="none" stroke="#6d1f27" stroke-width="2" stroke-linecap="round"'
        ' opacity=".85"/>'
    )
    for side in (-1, 1):
        parts.append(
            f'<ellipse cx="{side * (half + 2):.2f}" cy="{corner + 0.6:.2f}" rx="4" ry="2.6"'
            ' fill="#8a3a2c" opacity=".55" filter="url(#b2)"/>'
        )
    return "".join(parts)


def _taper(u: float) -> float:
    return float(max(0.0, 1.0 - abs(u) ** 3.2) ** 0.7)


def _inside(mouth: Mouth, half: float, rise: float, fall: float, opening: float) -> str:
    """Return the SVG of tongue and teeth; the caller clips them to the cavity."""
    tongue_top = fall + 3.0 - opening * (0.34 + 0.42 * mouth.tongue)
    tongue = (
        f'<ellipse cx="0" cy="{tongue_top + 16:.2f}" rx="{half * 0.66:.2f}" ry="16" fill="url(#tongue)"/>'
        f'<ellipse cx="-3" cy="{tongue_top + 6:.2f}" rx="{half * 0.3:.2f}" ry="2.6" fill="#ffc4bd"'
        ' opacity=".45" filter="url(#b2)"/>'
    )
    depth = 2.0 + 10.0 * mouth.teeth
    top = rise - 8.0
    teeth = (
        f'<path d="M{-half:.2f} {top:.2f}H{half:.2f}V{rise + depth * 0.3:.2f}'
        f"Q{half * 0.6:.2f} {rise + 1.6 + depth:.2f} 0 {rise + 1.6 + depth:.2f}"
        f'Q{-half * 0.6:.2f} {rise + 1.6 + depth:.2f} {-half:.2f} {rise + depth * 0.3:.2f}Z"'
        ' fill="url(#teeth)"/>'
    )
    seams = "".join(
        f'<path d="M{x:.1f} {top:.2f}V{rise + depth - 1.5 - abs(x) * 0.12:.2f}" stroke="#c9b8b0"'
        ' stroke-width=".8" opacity=".5"/>'
        for x in (-22, -11.5, 0, 11.5, 22)
        if abs(x) < half - 8
    )
    return tongue + (teeth + seams if mouth.teeth > 0.02 else "")


DEFINITIONS = (
    '<linearGradient id="lipU" x1="0" y1="0" x2="0" y2="1"><stop offset="0" stop-color="#c75a58"/>'
    '<stop offset="1" stop-color="#9c3540"/></linearGradient>'
    '<linearGradient id="lipL" x1="0" y1="0" x2="0" y2="1"><stop offset="0" stop-color="#b9474c"/>'
    '<stop offset=".5" stop-color="#d86a66"/><stop offset="1" stop-color="#bd4f4e"/></linearGradient>'
    '<linearGradient id="cavity" x1="0" y1="0" x2="0" y2="1"><stop offset="0" stop-color="#2a0911"/>'
    '<stop offset="1" stop-color="#581420"/></linearGradient>'
    '<linearGradient id="tongue" x1="0" y1="0" x2="0" y2="1"><stop offset="0" stop-color="#dd7a78"/>'
    '<stop offset="1" stop-color="#a8434c"/></linearGradient>'
    '<linearGradient id="teeth" x1="0" y1="0" x2="0" y2="1"><stop offset="0" stop-color="#cfc3bd"/>'
    '<stop offset=".6" stop-color="#fffaf4"/><stop offset="1" stop-color="#efe6df"/></linearGradient>'
)
