"""The drawn character as SVG: background, body, head. Light comes from the upper left."""

from __future__ import annotations

from motion import HEIGHT, WIDTH, Pose
from mouth import DEFINITIONS, JAW_DROP, MOUTH_Y, Mouth, mouth_svg


def _blur(name: str, deviation: float) -> str:
    return (
        f'<filter id="{name}" x="-60%" y="-60%" width="220%" height="220%">'
        f'<feGaussianBlur stdDeviation="{deviation}"/></filter>'
    )


def _linear(
    name: str, stops: tuple[tuple[float, str], ...], x2: float = 0.0, y2: float = 1.0
) -> str:
    inner = "".join(f'<stop offset="{at}" stop-color="{colour}"/>' for at, colour in stops)
    return f'<linearGradient id="{name}" x1="0" y1="0" x2="{x2}" y2="{y2}">{inner}</linearGradient>'


def _radial(name: str, stops: tuple[tuple[float, str], ...], cx: float, cy: float, r: float) -> str:
    inner = "".join(
        f'<stop offset="{at}" stop-color="{colour[:7]}" stop-opacity="{int(colour[7:] or "ff", 16) / 255:.3f}"/>'
        for at, colour in stops
    )
    return f'<radialGradient id="{name}" cx="{cx}" cy="{cy}" r="{r}">{inner}</radialGradient>'


_DEFINITIONS = "".join(
    (
        _blur("b2", 1.6),
        _blur("b4", 4.0),
        _blur("b8", 8.0),
        _blur("b14", 14.0),
        _radial("skin", ((0, "#ffdcc0"), (0.55, "#f7bf9c"), (1, "#dc9070")), 0.38, 0.36, 0.75),
        _linear("neck", ((0, "#d98f6e"), (1, "#efb08d"))),
        _linear("hair", ((0, "#8a4a34"), (0.35, "#5f2d26"), (1, "#371a1d")), 0.6, 1.0),
        _linear("hairBack", ((0, "#4a2322"), (1, "#2b1318"))),
        _linear("knit", ((0, "#f2b54a"), (0.5, "#e39a33"), (1, "#b96f22")), 0.7, 1.0),
        _linear("collar", ((0, "#f6c566"), (1, "#cf8429"))),
        _radial("iris", ((0, "#7fb58a"), (0.55, "#3f8272"), (1, "#173c3c")), 0.5, 0.62, 0.6),
        _linear("white", ((0, "#cfd3da"), (0.45, "#ffffff"), (1, "#f4efec"))),
        DEFINITIONS,
    )
)


def background_svg() -> str:
    """Return the SVG of the background, WIDTH x HEIGHT: a wall, a low sun, leaves."""
    leaves = "".join(
        _leaf(x, y, angle, size, colour)
        for x, y, angle, size, colour in (
            (70, 760, -28, 3.1, "#2f7f78"),
            (190, 770, -4, 3.7, "#3b958b"),
            (-10, 640, -58, 2.6, "#256a66"),
            (300, 770, 20, 2.4, "#2f7f78"),
            (1200, 760, 24, 3.2, "#2f7f78"),
            (1080, 775, 2, 3.5, "#3b958b"),
            (1290, 620, 56, 2.7, "#256a66"),
            (975, 770, -22, 2.3, "#2f7f78"),
        )
    )
    return (
        "<defs>"
        + _linear("wall", ((0, "#bfe3dd"), (0.55, "#8fcac4"), (1, "#4f9e9b")), 0.25, 1.0)
        + _radial("sun", ((0, "#fff1d6ff"), (0.7, "#ffdca8ff"), (1, "#fbc583ff")), 0.42, 0.36, 0.7)
        + _radial("halo", ((0, "#fff3d6cc"), (1, "#fff3d600")), 0.5, 0.5, 0.5)
        + _blur("soft", 3.0)
        + "</defs>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="url(#wall)"/>'
        '<circle cx="640" cy="330" r="430" fill="url(#halo)"/>'
        '<circle cx="640" cy="336" r="286" fill="url(#sun)"/>'
        '<g fill="#ffffff" opacity=".28" filter="url(#soft)"><rect x="118" y="128" width="190" height="30" rx="15"/>'
        '<rect x="66" y="160" width="150" height="30" rx="15"/><rect x="1010" y="196" width="180" height="30" rx="15"/>'
        '<rect x="1090" y="164" width="120" height="30" rx="15"/></g>'
        f'<g filter="url(#soft)">{leaves}</g>'
    )


def _leaf(x: float, y: float, angle: float, size: float, colour: str) -> str:
    return (
        f'<g transform="translate({x} {y}) rotate({angle}) scale({size})">'
        f'<path d="M0 0C-26 -24 -24 -66 0 -96C24 -66 26 -24 0 0Z" fill="{colour}"/>'
        '<path d="M0 0C26 -24 24 -66 0 -96Z" fill="#ffffff" opacity=".10"/>'
        '<path d="M0 0V-86M0 -22L-12 -38M0 -22L12 -38M0 -44L-11 -60M0 -44L11 -60" stroke="#d8f2e8"'
        ' stroke-width="1.1" opacity=".45" fill="none"/></g>'
    )


def figure_svg(pose: Pose, mouth: Mouth) -> str:
    """Return the SVG of the character in a pose with a mouth, in frame coordinates."""
    head = (
        f"translate({pose.x:.3f} {pose.y:.3f}) rotate({pose.roll_deg:.3f}) scale({pose.scale:.4f})"
    )
    body_x = 640 + 0.35 * (pose.x - 640)
    body = f"translate({body_x:.3f} {356 + 1.6 * pose.breath:.3f})"
    return (
        f"<defs>{_DEFINITIONS}</defs>"
        f'<g transform="{head}">{_hair_back(pose)}</g>'
        f'<g transform="{body}">{_BODY}</g>'
        f'<g transform="{head}">{_neck(pose)}</g>'
        f'<g transform="{body}">{_COLLAR}</g>'
        f'<g transform="{head}">{_head(pose, mouth)}</g>'
    )


_BODY = (
    '<path d="M-262 380C-258 292 -232 262 -158 238C-104 222 -62 214 -50 196H50C62 214 104 222 158 238'
    'C232 262 258 292 262 380Z" fill="url(#knit)"/>'
    '<path d="M-262 380C-258 292 -232 262 -158 238C-140 270 -150 330 -150 380Z" fill="#ffd98a" opacity=".25"/>'
    '<path d="M262 380C258 292 232 262 158 238C140 270 150 330 150 380Z" fill="#7d3f12" opacity=".28"/>'
    '<g stroke="#b36a1f" stroke-width="2" opacity=".28" fill="none">'
    + "".join(
        f'<path d="M{x} {236 + abs(x) * 0.12:.0f}C{x * 1.05:.0f} 290 {x * 1.05:.0f} 330 {x} 380"/>'
        for x in range(-132, 133, 22)
    )
    + "</g>"
    '<path d="M-92 214C-60 262 60 262 92 214C70 250 -70 250 -92 214Z" fill="#8a4a14" opacity=".5" filter="url(#b4)"/>'
)
_COLLAR = (
    '<path d="M-66 176C-40 200 40 200 66 176C76 196 78 216 76 232C40 258 -40 258 -76 232C-78 216 -76 196 -66 176Z"'
    ' fill="url(#collar)"/>'
    '<path d="M-66 176C-40 200 40 200 66 176L69 186C40 208 -40 208 -69 186Z" fill="#ffe0a0" opacity=".65"/>'
    '<g stroke="#a8611c" stroke-width="2" opacity=".30" fill="none">'
    + "".join(
        f'<path d="M{x} {198 - abs(x) * 0.16:.0f}L{x * 1.14:.0f} {249 - abs(x) * 0.17:.0f}"/>'
        for x in range(-60, 61, 12)
    )
    + "</g>"
)


def _neck(pose: Pose) -> str:
    return (
        '<path d="M-52 80C-50 140 -58 172 -62 196C-30 226 30 226 62 196C58 172 50 140 52 80Z" fill="url(#neck)"/>'
        f'<ellipse cx="{8 - 4 * pose.turn:.2f}" cy="146" rx="62" ry="32" fill="#8e4632" opacity=".55"'
        ' filter="url(#b8)"/>'
    )


def _hair_back(pose: Pose) -> str:
    shift = -5 * pose.turn
    return (
        f'<g transform="translate({shift:.2f} 0)">'
        '<path d="M-136 -50C-150 -150 -84 -206 0 -206C84 -206 150 -150 138 -50C140 10 158 70 150 128'
        'C148 160 120 178 92 172L-92 172C-122 178 -150 160 -150 128C-158 70 -138 10 -136 -50Z"'
        ' fill="url(#hairBack)"/>'
        '<path d="M-150 128C-146 92 -138 60 -136 10C-126 60 -128 120 -112 172C-134 172 -150 156 -150 128Z"'
        ' fill="#6b342a" opacity=".55"/></g>'
    )


def _head(pose: Pose, mouth: Mouth) -> str:
    near, far = 5.0 * pose.turn, 8.0 * pose.turn
    drop = JAW_DROP * max(0.0, mouth.jaw)
    nod = 3.0 * pose.nod
    face = (
        "M-113 -70C-118 0 -114 44 -99 84"
        f"C{-84:.1f} {118 + 0.6 * drop:.2f} -44 {150 + drop:.2f} 0 {150 + drop:.2f}"
        f"C44 {150 + drop:.2f} {84:.1f} {118 + 0.6 * drop:.2f} 99 84"
        "C114 44 118 0 113 -70C110 -140 60 -172 0 -172C-60 -172 -110 -140 -113 -70Z"
    )
    return (
        f'<clipPath id="face"><path d="{face}"/></clipPath>'
        + _ears()
        + f'<path d="{face}" fill="url(#skin)"/>'
        '<g clip-path="url(#face)">'
        '<path d="M60 -180C118 -100 116 40 40 170L140 170V-180Z" fill="#c0664a" opacity=".28" filter="url(#b14)"/>'
        f'<ellipse cx="0" cy="{166 + drop:.2f}" rx="80" ry="17" fill="#b0583f" opacity=".42" filter="url(#b8)"/>'
        '<path d="M-130 -190H130V-60C100 -64 92 -96 78 -112C20 -84 -60 -84 -96 -62C-104 -40 -104 10 -110 40L-130 40Z"'
        ' fill="#8c3f2c" opacity=".42" filter="url(#b8)"/>'
        "</g>"
        f'<g transform="translate({near:.2f} {nod:.2f})">{_cheeks()}{_eyes(pose)}{_brows(pose)}</g>'
        f'<g transform="translate({far:.2f} {nod * 1.3:.2f})">{_NOSE}</g>'
        f'<g transform="translate({near:.2f} {MOUTH_Y + nod:.2f})">{mouth_svg(mouth)}</g>'
        f"{_hair_front(pose)}"
    )


def _ears() -> str:
    ear = (
        '<g transform="translate({x} 4) scale({s} 1)"><ellipse rx="15" ry="26" fill="#eaa583"/>'
        '<path d="M4 -14C-8 -14 -9 10 2 14" stroke="#b5674c" stroke-width="3" fill="none" opacity=".6"/>'
        '<circle cx="-1" cy="31" r="6.5" fill="#f7d678"/><circle cx="-3" cy="29" r="2.2" fill="#fffbe8"/></g>'
    )
    return ear.format(x=-114, s=1) + ear.format(x=114, s=-1)


def _cheeks() -> str:
    freckles = "".join(
        f'<circle cx="{side * x}" cy="{y}" r="{r}" fill="#b8623f" opacity=".42"/>'
        for side in (-1, 1)
        for x, y, r in (
            (52, 36, 1.7),
            (62, 41, 1.4),
            (45, 43, 1.4),
            (71, 35, 1.3),
            (57, 48, 1.2),
            (38, 36, 1.2),
        )
    )
    return (
        '<ellipse cx="-64" cy="46" rx="27" ry="17" fill="#ef6f5e" opacity=".42" filter="url(#b8)"/>'
        '<ellipse cx="64" cy="46" rx="27" ry="17" fill="#ef6f5e" opacity=".40" filter="url(#b8)"/>'
        '<ellipse cx="-58" cy="28" rx="22" ry="8" fill="#fff0dc" opacity=".35" filter="url(#b4)"/>'
        + freckles
    )


_NOSE = (
    '<path d="M6 -6C10 14 17 28 19 40C14 50 4 52 0 52C10 40 6 14 6 -6Z" fill="#b85f45" opacity=".42" filter="url(#b2)"/>'
    '<path d="M-15 44C-12 52 -4 48 0 52C4 48 12 52 15 44" fill="none" stroke="#a9523c" stroke-width="2.6"'
    ' stroke-linecap="round" opacity=".75"/>'
    '<ellipse cx="-3" cy="34" rx="5.5" ry="8" fill="#fff3e4" opacity=".65" filter="url(#b2)"/>'
    '<path d="M-2 -18C-4 0 -4 14 -3 26" stroke="#fff0dc" stroke-width="5" opacity=".35" fill="none" filter="url(#b2)"/>'
)


def _eyes(pose: Pose) -> str:
    parts = []
    top = -17.0 + 21.0 * pose.lid
    for side in (-1, 1):
        opening = (
            f"M-27 3C-20 {top * 0.95:.2f} -8 {top * 1.22:.2f} 4 {top * 1.2:.2f}"
            f"C16 {top * 1.1:.2f} 24 {top * 0.45:.2f} 28 -2C22 11 10 15 -2 14C-14 13 -22 9 -27 3Z"
        )
        lash = (
            f"M-28 4C-20 {top * 0.95:.2f} -8 {top * 1.22:.2f} 4 {top * 1.2:.2f}"
            f"C16 {top * 1.1:.2f} 24 {top * 0.45:.2f} 33 -7"
        )
        crease = f"M-22 {top - 6:.2f}C-10 {top * 1.2 - 7:.2f} 12 {top * 1.2 - 7:.2f} 27 {top * 0.6 - 8:.2f}"
        gaze = 2.5 * pose.turn * side
        parts.append(
            f'<g transform="translate({side * 51} -10) scale({side} 1)">'
            f'<clipPath id="eye{side}"><path d="{opening}"/></clipPath>'
            f'<path d="{opening}" fill="url(#white)"/>'
            f'<g clip-path="url(#eye{side})"><g transform="translate({gaze:.2f} -1)">'
            '<circle r="15.5" fill="#123030"/><circle r="14.2" fill="url(#iris)"/><circle r="6.6" fill="#0c1516"/></g>'
            f'<path d="M-32 -34H36V{top + 9:.2f}C16 {top + 2:.2f} -16 {top + 2:.2f} -32 {top + 14:.2f}Z" fill="#3a2030"'
            ' opacity=".30" filter="url(#b2)"/>'
            f'<g transform="translate({gaze:.2f} 0) scale({side} 1)"><circle cx="-5" cy="-7" r="4.3" fill="#fff"/>'
            '<circle cx="5" cy="5" r="2.2" fill="#fff" opacity=".75"/></g></g>'
            f'<path d="{crease}" stroke="#a8553f" stroke-width="2.2" fill="none" opacity=".55" stroke-linecap="round"/>'
            f'<path d="{lash}" stroke="#2c1416" stroke-width="5" fill="none" stroke-linecap="round"/>'
            f'<path d="M26 {top * 0.5 - 1:.2f}L36 {top * 0.55 - 5:.2f}M20 {top * 0.85 - 1:.2f}L28 {top * 0.95 - 7:.2f}"'
            ' stroke="#2c1416" stroke-width="3" stroke-linecap="round"/>'
            '<path d="M-18 14C-8 19 10 19 20 11" stroke="#b5654c" stroke-width="1.8" fill="none" opacity=".6"/></g>'
        )
    return "".join(parts)


def _brows(pose: Pose) -> str:
    lift = -52 - 2.0 * pose.nod + 1.5 * pose.lid
    return "".join(
        f'<path transform="translate({side * 51} {lift:.2f}) scale({side} 1)"'
        ' d="M-27 4C-14 -9 12 -11 31 3C12 -4 -12 -2 -26 9Z" fill="#51261f"/>'
        for side in (-1, 1)
    )


def _hair_front(pose: Pose) -> str:
    shift = 2.0 * pose.turn
    return (
        f'<g transform="translate({shift:.2f} 0)">'
        '<path d="M70 -128C40 -100 -40 -92 -84 -70C-104 -58 -108 -20 -112 24C-118 62 -116 108 -98 142'
        "C-118 146 -140 120 -138 84C-136 40 -142 -20 -136 -70C-128 -158 -70 -204 4 -202"
        "C82 -200 134 -150 138 -66C142 -16 136 40 138 84C140 120 118 146 98 142C116 108 118 62 112 24"
        'C112 -30 104 -82 70 -128Z" fill="url(#hair)"/>'
        '<path d="M66 -130C34 -116 -50 -118 -92 -84C-70 -118 -10 -136 40 -146Z" fill="#b8704a" opacity=".45"/>'
        '<path d="M-118 -96C-100 -150 -52 -182 4 -186C-44 -172 -84 -140 -100 -92Z" fill="#c98358" opacity=".50"'
        ' filter="url(#b2)"/>'
        '<path d="M84 -122C104 -96 118 -50 120 10C126 -40 120 -100 96 -134Z" fill="#9a5a40" opacity=".45"'
        ' filter="url(#b2)"/>'
        '<g fill="none" stroke="#2e1417" stroke-width="2" opacity=".35" stroke-linecap="round">'
        '<path d="M60 -134C0 -116 -70 -112 -104 -68"/><path d="M50 -146C-10 -136 -80 -126 -118 -70"/>'
        '<path d="M-126 -40C-128 10 -130 60 -122 110"/><path d="M-118 0C-122 40 -124 80 -112 124"/>'
        '<path d="M126 -40C130 10 130 60 122 110"/><path d="M92 -122C112 -90 122 -40 124 20"/></g>'
        '<path d="M-130 20C-132 60 -130 90 -120 118" stroke="#a8623f" stroke-width="4" opacity=".4" fill="none"'
        ' filter="url(#b2)"/></g>'
    )
