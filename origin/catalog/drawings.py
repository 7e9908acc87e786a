"""The drawings: strokes, then one function for each motif. Each stands on a ground of 400 by 400, on a table line at
y = 310, in whole coordinates: no float, so that no machine writes a digit differently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape


@dataclass(frozen=True, slots=True)
class Ink:
    """The colours of one picture, and what its digest decides."""

    ground: str
    shape: str
    main: str
    dark: str
    light: str
    accent: str
    chance: bytes

    def pick(self, at: int, of: int) -> int:
        """A number below `of`; each `at` is another throw."""
        return self.chance[at] % of


GROUNDS: Final = (
    ("#f2e8d9", "#e6d5ba"), ("#e3e9dd", "#cfdac6"), ("#dfe8ea", "#c6d8dc"), ("#f3e1d8", "#e8cbbc"),
    ("#efe6ee", "#dfcfdd"), ("#f6ecc9", "#ecdba0"), ("#e8e4de", "#d5cec3"), ("#dde3f0", "#c5cfe4"),
)  # fmt: skip
"""Pairs of a ground and the shape that is laid on it."""


def ground(ink: Ink) -> str:
    """What is behind the thing."""
    match ink.pick(3, 4):
        case 0:
            shape = _circle(200, 190, 142, ink.shape)
        case 1:
            shape = _path("M70 310V190a130 130 0 0 1 260 0v120z", ink.shape)
        case 2:
            shape = _rect(0, 250, 400, 150, 0, ink.shape)
        case _:
            shape = _path("M0 400V270c90-60 150 20 230-10s110-90 170-70v210z", ink.shape)
    return _rect(0, 0, 400, 400, 0, ink.ground) + shape


def placed(ink: Ink, body: str, *, mirrored: bool) -> str:
    """The thing on the table line with its shadow, a little larger or smaller, `mirrored` or not as chance has it."""
    shadow = '<ellipse cx="200" cy="312" rx="112" ry="11" fill="#3a2a18" opacity=".14"/>'
    size = (92, 97, 102)[ink.pick(4, 3)]
    flip = -1 if mirrored and ink.pick(5, 2) else 1
    scale = f"{'-' if flip < 0 else ''}{size // 100}.{size % 100:02d} {size // 100}.{size % 100:02d}"
    return f'<g transform="translate(200 310) scale({scale}) translate(-200 -310)">{shadow}{body}</g>'


# The strokes that drawings are made of.


def _rect(x: int, y: int, width: int, height: int, radius: int, fill: str) -> str:
    rounded = f' rx="{radius}"' if radius else ""
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}"{rounded} fill="{fill}"/>'


def _circle(x: int, y: int, radius: int, fill: str) -> str:
    return f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{fill}"/>'


def _oval(x: int, y: int, across: int, down: int, fill: str) -> str:
    return f'<ellipse cx="{x}" cy="{y}" rx="{across}" ry="{down}" fill="{fill}"/>'


def _path(way: str, fill: str) -> str:
    return f'<path d="{way}" fill="{fill}"/>'


def _line(way: str, stroke: str, width: int) -> str:
    return (
        f'<path d="{way}" fill="none" stroke="{stroke}" stroke-width="{width}" '
        'stroke-linecap="round" stroke-linejoin="round"/>'
    )


def _steam(ink: Ink, x: int, y: int) -> str:
    if ink.pick(6, 3):
        return ""
    way = f"M{x} {y}c-14-16 14-24 0-42M{x + 34} {y + 4}c-14-16 14-24 0-42"
    return f'<g opacity=".6">{_line(way, "#fff", 7)}</g>'


def _leaf(x: int, y: int, to_x: int, to_y: int, fill: str, bulge: int = 22) -> str:
    across, down = (x + to_x) // 2, (y + to_y) // 2
    side, rise = (y - to_y) * bulge // 100, (to_x - x) * bulge // 100
    return _path(f"M{x} {y}Q{across + side} {down + rise} {to_x} {to_y}Q{across - side} {down - rise} {x} {y}z", fill)


def _trim(ink: Ink, x: int, y: int, width: int, height: int) -> str:
    """A pattern for a flat side: bands, dots, a dipped foot, a sprig, or nothing."""
    middle, low = x + width // 2, y + height
    match ink.pick(7, 5):
        case 0:
            rows = (y + height // 3, y + height // 3 + 16)
            return "".join(_rect(x, row, width, 7, 0, ink.light) for row in rows)
        case 1:
            step = width // 5
            return "".join(
                _circle(x + step * column + step // 2 * (row % 2) + step // 2, y + height // 4 + row * 26, 5, ink.light)
                for row in range(max(1, height * 3 // 4 // 26))
                for column in range(4 + (row + 1) % 2)
            )
        case 2:
            return _rect(x, low - height // 3, width, height // 3, 0, ink.dark)
        case 3:
            stem = _line(f"M{middle} {low - height // 5}V{y + height // 4}", ink.light, 4)
            leaves = [
                _leaf(middle, y + height * part // 10, middle + side * 30, y + height * (part - 2) // 10, ink.light, 30)
                for part, side in ((8, 1), (7, -1), (5, 1), (4, -1))
            ]
            return stem + "".join(leaves)
        case _:
            return ""


def _clipped(name: str, way: str, inner: str) -> str:
    """`inner`, as far as it is inside `way`."""
    if not inner:
        return ""
    return f'<clipPath id="{name}"><path d="{way}"/></clipPath><g clip-path="url(#{name})">{inner}</g>'


def _shaded(ink: Ink, way: str, inner: str, shade_from: int) -> str:
    """A solid body: its colour, its pattern, and shade on the side away from the light."""
    shade = f'<rect x="{shade_from}" width="400" height="400" fill="{ink.dark}" opacity=".35"/>'
    return _path(way, ink.main) + _clipped("b", way, inner + shade)


# Drawings, each on the table line.


def _mug(ink: Ink) -> str:
    width = 66 + ink.pick(8, 3) * 7
    left, right, top = 190 - width, 190 + width, 168 - ink.pick(9, 3) * 12
    if ink.pick(10, 2):
        body = f"M{left} {top}H{right}V282q0 28-28 28H{left + 28}q-28 0-28-28z"
    else:
        body = f"M{left} {top}H{right}q4 110-34 142H{left + 34}q-38-32-34-142z"
    handle = _line(f"M{right - 6} {top + 34}h20c44 0 44 74 0 74h-24", ink.dark, 17)
    return (
        handle
        + _shaded(ink, body, _trim(ink, left, top, 2 * width, 310 - top), 190 + width // 2)
        + _oval(190, top, width, 12, ink.light)
        + _oval(190, top + 2, width - 9, 8, "#5b4030" if ink.pick(6, 3) == 0 else ink.dark)
        + _steam(ink, 172, top - 14)
    )


def _teapot(ink: Ink) -> str:
    body = "M104 236c0-58 42-82 94-82s94 24 94 82c0 46-34 74-94 74s-94-28-94-74z"
    spout = _path("M270 262c34-4 34-56 62-78l18 14c-22 22-24 96-72 100z", ink.dark)
    handle = (
        _line("M128 190C62 168 44 262 118 268", ink.dark, 15)
        if ink.pick(8, 2)
        else _line("M140 168C140 84 256 84 256 168", "#a5763f", 12)
    )
    lid = _path("M146 164c10-30 94-30 104 0z", ink.light) + _circle(198, 134, 13, ink.dark)
    return handle + spout + _shaded(ink, body, _trim(ink, 104, 154, 188, 156), 240) + lid


def _kettle(ink: Ink) -> str:
    body = "M108 310c-16 0-20-14-16-32l22-84c6-22 20-32 42-32h88c22 0 36 10 42 32l22 84c4 18 0 32-16 32z"
    spout = _path("M288 236l44-50 22 10-40 84z", ink.dark)
    handle = _line("M142 164C142 82 258 82 258 164", "#3b342d", 15)
    lid = _path("M152 164q48-34 96 0z", ink.light) + _circle(200, 138, 10, "#3b342d")
    return handle + spout + _shaded(ink, body, "", 244) + lid


def _pan(ink: Ink) -> str:
    top = 208 - ink.pick(8, 3) * 14
    body = f"M78 {top}H262V280q0 30-30 30H108q-30 0-30-30z"
    handle = _line(f"M262 {top + 22}L366 {top + 6}", "#3b342d", 17) + _circle(356, top + 7, 4, ink.ground)
    lid = (
        _path(f"M72 {top}q98-50 196 0z", ink.light) + _rect(158, top - 48, 24, 20, 8, "#3b342d")
        if ink.pick(9, 2)
        else _oval(170, top, 92, 10, ink.light) + _oval(170, top + 2, 82, 7, ink.dark)
    )
    return handle + _shaded(ink, body, "", 214) + lid


def _skillet(ink: Ink) -> str:
    pan = _circle(178, 214, 104, ink.dark) + _circle(178, 214, 90, ink.main) + _circle(178, 214, 78, ink.dark)
    handle = _line("M252 152L342 78", ink.dark, 24) + _circle(338, 82, 7, ink.ground)
    egg = _path(
        "M132 214c-10-34 34-56 64-40 34-10 56 30 34 54 4 34-54 42-72 22-20 0-28-18-26-36z", "#fffaf0"
    ) + _circle(178, 212, 21, "#eeae3c")
    leaves = _leaf(140, 250, 196, 206, "#7f9d64", 40) + _leaf(222, 254, 168, 190, "#678a51", 40)
    return handle + pan + (egg if ink.pick(8, 2) else leaves)


def _casserole(ink: Ink) -> str:
    body = "M82 206H318V276q0 34-34 34H116q-34 0-34-34z"
    ears = _line("M82 228H54M318 228h28", ink.dark, 19)
    lid = _path("M74 206q4-52 126-54 122 2 126 54z", ink.main) + _path("M74 206q10-34 78-46-40 16-48 46z", ink.light)
    return (
        ears
        + _shaded(ink, body, "", 252)
        + lid
        + _rect(74, 200, 252, 11, 5, ink.dark)
        + _rect(180, 134, 40, 20, 9, "#3b342d")
    )


def _knife(ink: Ink) -> str:
    wide = 40 + ink.pick(8, 3) * 8
    blade = _path(f"M178 214L178 66q{wide + 18} 50 {wide} 148z", "#d8dde0")
    edge = _path(f"M{178 + wide - 8} 214q12-86-26-122 52 52 {34} 122z", "#eef1f2")
    grip = _rect(174, 214, 34, 110, 13, ink.main) + _rect(174, 214, 12, 110, 6, ink.dark)
    rivets = "".join(_circle(192, y, 4, "#e9dcc3") for y in (238, 266, 294))
    block = _rect(170, 208, 44, 12, 3, "#9aa0a4")
    board = _rect(76, 300, 248, 16, 6, "#b98d57")
    return (
        f'{board}<g transform="rotate({(-14, 12, 24)[ink.pick(9, 3)]} 196 250)">{blade}{edge}{grip}{block}{rivets}</g>'
    )


def _board(ink: Ink) -> str:
    plate = (
        _rect(118, 96, 164, 216, 22, ink.main) + _rect(182, 58, 36, 52, 15, ink.main)
        if ink.pick(8, 2)
        else _circle(200, 212, 100, ink.main) + _rect(180, 66, 40, 60, 16, ink.main)
    )
    hole = _circle(200, 82, 8, ink.ground)
    grain = _line("M146 150q50 14 108-4M144 190q60 16 112-2M146 232q54-16 110 2M150 272q50 10 100-4", ink.dark, 3)
    food = (
        _circle(232, 236, 31, "#c9503b") + _leaf(228, 210, 256, 190, "#6a8f55", 40)
        if ink.pick(9, 2)
        else _path("M168 262q12-66 72-66 16 52-34 78z", "#e8bd57") + _circle(208, 236, 7, "#d49f35")
    )
    return plate + hole + f'<g opacity=".45">{grain}</g>' + food


def _tin(ink: Ink) -> str:
    body = "M84 214H316L292 310H108z"
    cake = _path("M96 214q10-68 104-70 94 2 104 70z", "#c98f52") + _line(
        "M140 176l36 22M186 160l30 30M232 164l22 24", "#a56d36", 6
    )
    ribs = "".join(_line(f"M{x} 222l{(200 - x) // 10} 84", ink.dark, 4) for x in range(112, 300, 22))
    return cake + _shaded(ink, body, f'<g opacity=".5">{ribs}</g>', 262) + _rect(76, 206, 248, 15, 7, ink.light)


def _bowl(ink: Ink) -> str:
    top = 206 - ink.pick(8, 3) * 10
    body = f"M80 {top}H320q-4 82-72 104H152q-68-22-72-104z"
    inside = _oval(200, top, 120, 15, ink.light) + _oval(200, top + 3, 108, 10, ink.dark)
    fruit = (
        _circle(154, top - 18, 34, "#d98a3d")
        + _circle(226, top - 24, 38, "#b9483a")
        + _leaf(226, top - 60, 256, top - 84, "#6a8f55", 40)
        if ink.pick(9, 3) == 0
        else ""
    )
    return (
        fruit
        + _shaded(ink, body, _trim(ink, 80, top, 240, 310 - top), 262)
        + (inside if not fruit else _oval(200, top, 120, 8, ink.light))
    )


def _jar(ink: Ink) -> str:
    glass = ink.main if ink.pick(8, 2) else "#cfe0df"
    fill = ("#a9713f", "#e4d3ae", "#7a3b2c", "#d8a94d")[ink.pick(9, 4)]
    body = _rect(116, 150, 168, 160, 26, glass) + _rect(128, 196, 144, 104, 18, fill)
    label = _rect(150, 218, 100, 56, 7, "#fffaf0") + _line("M166 238h68M166 254h44", ink.dark, 5)
    lid = (
        _rect(124, 112, 152, 40, 10, "#c49a66") + _line("M136 132h128", "#a87d49", 4)
        if ink.pick(10, 2)
        else _rect(128, 118, 144, 34, 9, ink.dark) + _rect(128, 118, 144, 12, 6, ink.light)
    )
    shine = '<rect x="132" y="170" width="12" height="112" rx="6" fill="#fff" opacity=".45"/>'
    return body + label + lid + shine


def _bottle(ink: Ink) -> str:
    glass = ("#4f6b3a", "#8a5a2b", "#3a4f45", "#a3b06a")[ink.pick(8, 4)]
    body = _path("M174 84h52v54c0 24 34 34 34 74v84q0 14-14 14h-92q-14 0-14-14v-84c0-40 34-50 34-74z", glass)
    label = (
        _rect(140, 214, 120, 66, 4, "#fbf4e4")
        + _rect(140, 222, 120, 5, 0, ink.accent)
        + _circle(200, 250, 15, ink.accent)
    )
    cap = _rect(170, 62, 60, 32, 7, ink.dark)
    sprig = _line("M300 310q-6-60 14-96", "#6a7f4e", 5) + "".join(
        _leaf(303 + at * 2, 286 - at * 22, 330 - at * 46 % 60, 262 - at * 24, "#82985f", 30) for at in range(3)
    )
    return body + label + cap + '<rect x="150" y="196" width="9" height="104" rx="4" fill="#fff" opacity=".3"/>' + sprig


def _plate(ink: Ink) -> str:
    rim = _circle(200, 204, 122, ink.main) + _circle(200, 204, 118, ink.light) + _circle(200, 204, 84, ink.main)
    match ink.pick(8, 3):
        case 0:
            deco = "".join(
                _circle(x, y, 5, ink.dark)
                for x, y in (
                    (200, 102),
                    (272, 132),
                    (302, 204),
                    (272, 276),
                    (200, 306),
                    (128, 276),
                    (98, 204),
                    (128, 132),
                )
            )
        case 1:
            deco = f'<circle cx="200" cy="204" r="101" fill="none" stroke="{ink.dark}" stroke-width="6"/>'
        case _:
            deco = (
                _leaf(200, 258, 200, 150, ink.dark, 30)
                + _leaf(200, 240, 248, 190, ink.dark, 30)
                + _leaf(200, 240, 152, 190, ink.dark, 30)
            )
    return rim + deco


def _tumbler(ink: Ink) -> str:
    drink = ("#e9c46a", "#d9eef0", "#e4a18f", "#b9d7a8")[ink.pick(8, 4)]
    glass = f'<path d="M132 120H268L250 310H150z" fill="{ink.light}" opacity=".75"/>'
    ribs = "".join(_line(f"M{x} 130L{200 + (x - 200) * 75 // 100} 300", "#fff", 3) for x in range(152, 260, 16))
    straw = _line("M236 200L264 66", ink.accent, 9) if ink.pick(9, 2) else ""
    return (
        straw
        + glass
        + _path("M138 180H262L251 298H149z", drink)
        + _oval(200, 180, 62, 8, "#ffffff66")
        + f'<g opacity=".45">{ribs}</g>'
        + _oval(200, 120, 68, 9, "#ffffff99")
    )


def _wineglass(ink: Ink) -> str:
    wine = ("#7c2440", "#e7cf7c", "#d98a86")[ink.pick(8, 3)]
    bowl = "M138 92H262c12 80-22 118-62 118s-74-38-62-118z"
    return (
        _line("M200 208V300", "#dfe9ea", 9)
        + _oval(200, 304, 54, 9, "#dfe9ea")
        + f'<path d="{bowl}" fill="#eef5f5" opacity=".8"/>'
        + _clipped("w", bowl, _rect(120, 140, 160, 90, 0, wine))
        + _oval(200, 92, 62, 8, "#ffffffaa")
        + f'<g opacity=".6">{_line("M154 112q-6 44 14 68", "#fff", 6)}</g>'
    )


def _jug(ink: Ink) -> str:
    body = "M146 104H246l22-14-12 44c30 62 34 100 10 176H146c-30-62-16-112 0-146z"
    handle = _line("M152 136C88 130 86 236 134 238", ink.dark, 15)
    flowers = ""
    if ink.pick(8, 2):
        flowers = _line("M186 104q-14-44-34-58M204 104V40M220 104q8-34 34-48", "#6a7f4e", 5) + "".join(
            _circle(x, y, 17, fill) + _circle(x, y, 6, "#f6e3a1")
            for x, y, fill in ((150, 46, ink.accent), (204, 38, "#e8b7a6"), (256, 54, ink.accent))
        )
    return flowers + handle + _shaded(ink, body, _trim(ink, 130, 104, 150, 206), 236)


def _cutlery(ink: Ink) -> str:
    steel, shade = "#ccd2d5", "#a9b0b4"
    fork = _line("M128 150v46M146 150v46M164 150v46", steel, 9) + _path(
        "M123 190h46q0 34-15 40v10h-16v-10q-15-6-15-40z", steel
    )
    knife = _path("M192 240V96q34 30 26 144z", steel)
    spoon = _oval(268, 174, 27, 40, steel) + _oval(266, 170, 18, 28, shade) + _rect(260, 206, 16, 40, 4, steel)
    grips = "".join(_rect(x, 236, 22, 82, 10, ink.main) + _rect(x, 236, 8, 82, 4, ink.dark) for x in (135, 194, 257))
    return fork + knife + spoon + grips


def _utensil(ink: Ink) -> str:
    crock = "M126 214H274L264 310H136z"
    spoon = _line("M168 220L140 104", "#b98a55", 13) + _oval(134, 82, 25, 36, "#c89b66")
    whisk = _line("M208 220V120", "#a9b0b4", 10) + "".join(
        f'<ellipse cx="208" cy="84" rx="{across}" ry="46" fill="none" stroke="#bfc5c9" stroke-width="4"/>'
        for across in (8, 19, 30)
    )
    turner = _line("M242 220L272 118", "#8a6038", 12) + _path("M252 118L262 52h40l6 74z", "#9c6f43")
    return (
        spoon
        + whisk
        + turner
        + _shaded(ink, crock, _trim(ink, 126, 214, 148, 96), 232)
        + _rect(120, 206, 160, 14, 7, ink.light)
    )


def _pin(ink: Ink) -> str:
    roll = (
        _rect(92, 196, 216, 62, 26, ink.main)
        + _rect(92, 232, 216, 26, 13, ink.dark)
        + _rect(108, 206, 184, 9, 4, ink.light)
    )
    ends = _rect(46, 214, 52, 26, 12, ink.dark) + _rect(302, 214, 52, 26, 12, ink.dark)
    dough = _path("M92 312q-6-34 54-40 62-14 122 0 52 8 44 40z", "#f1dfbd")
    return dough + f'<g transform="rotate({(-16, -8, 10)[ink.pick(8, 3)]} 200 226)">{ends}{roll}</g>'


def _tablelamp(ink: Ink) -> str:
    shade = ("M142 74H258L300 190H100z", "M156 84H244L282 184H118z", "M120 96q80-50 160 0l24 88H96z")[ink.pick(8, 3)]
    base = (
        "M184 190h32l18 92q4 18-14 18h-40q-18 0-14-18z",
        "M176 202q-34 30-20 66 10 26 14 34h60q4-8 14-34 14-36-20-66z",
        "M192 190h16v92h26q14 0 14 20h-96q0-20 14-20h26z",
    )[ink.pick(9, 3)]
    glow = '<path d="M100 190L58 312h284L300 190z" fill="#fff3c4" opacity=".5"/>'
    foot = _rect(140, 298, 120, 13, 6, ink.dark)
    return (
        glow
        + _path(base, ink.main)
        + foot
        + _path(shade, "#f4e7c9")
        + _clipped("l", shade, f'<rect x="216" width="200" height="400" fill="{ink.main}" opacity=".28"/>')
        + _circle(200, 200, 8, "#fff")
    )


def _floorlamp(ink: Ink) -> str:
    if ink.pick(8, 2):
        pole = _line("M128 306V120Q130 52 214 60", ink.dark, 9) + _rect(88, 300, 82, 11, 5, ink.dark)
        shade = _path("M178 66q44-36 88 0l22 66H156z", ink.main)
        return '<path d="M156 132L120 312h220L288 132z" fill="#fff3c4" opacity=".45"/>' + pole + shade
    legs = _line("M200 150L142 306M200 150L258 306M200 150V306", "#a1763f", 9)
    return (
        '<path d="M130 146L92 312h216L270 146z" fill="#fff3c4" opacity=".4"/>'
        + legs
        + _path("M152 50H248L274 150H126z", ink.main)
        + _path("M208 50h40l26 100h-56z", ink.dark)
    )


def _pendant(ink: Ink) -> str:
    dome = (
        "M96 214q8-104 104-104t104 104z",
        "M132 214L172 112h56l40 102z",
        "M120 214q20-24 24-62 6-42 56-42t56 42q4 38 24 62z",
    )[ink.pick(8, 3)]
    return (
        '<path d="M104 214L40 400H360L296 214z" fill="#fff3c4" opacity=".4"/>'
        + _line("M200 0V108", "#3b342d", 5)
        + _rect(184, 96, 32, 20, 6, "#b08d3f")
        + _shaded(ink, dome, "", 226)
        + _oval(200, 214, 66, 9, "#fff3c4")
    )


def _candle(ink: Ink) -> str:
    tall = 130 + ink.pick(8, 3) * 20
    top = 310 - tall
    flame = _path(f"M200 {top - 66}q26 32 12 52-12 14-24 0-14-20 12-52z", "#f2b544") + _path(
        f"M200 {top - 40}q12 16 6 26-6 7-12 0-6-10 6-26z", "#fff0c2"
    )
    wax = f"M146 {top}H254V300q0 10-10 10H156q-10 0-10-10z"
    glow = f'<circle cx="200" cy="{top - 36}" r="70" fill="#fff3c4" opacity=".5"/>'
    return (
        glow
        + _line(f"M200 {top}v-16", "#3b342d", 5)
        + flame
        + _shaded(ink, wax, _trim(ink, 146, top, 108, tall), 226)
        + _oval(200, top, 54, 9, ink.light)
    )


def _lantern(ink: Ink) -> str:
    frame = _rect(130, 150, 140, 160, 10, ink.dark) + _rect(144, 166, 112, 124, 6, "#fbeec2")
    bars = _line("M200 166V290M144 228H256", ink.dark, 5)
    light = _rect(184, 236, 32, 54, 4, "#f6f0e2") + _path("M200 188q18 24 8 38-8 10-16 0-10-14 8-38z", "#f2a93b")
    roof = _path("M118 152L166 104H234L282 152z", ink.main) + _line("M168 104Q200 36 232 104", ink.dark, 7)
    return frame + light + bars + roof + _rect(122, 298, 156, 14, 5, ink.main)


def _chair(ink: Ink) -> str:
    legs = _line("M136 226L120 308M258 226L276 308M150 226V300M246 226V300", ink.dark, 11)
    seat = _path("M118 208H282l-8 26H126z", ink.main)
    match ink.pick(8, 3):
        case 0:
            back = (
                _line("M134 208L126 84M266 208L274 84", ink.main, 12)
                + _rect(116, 72, 168, 26, 12, ink.main)
                + _line("M164 98V206M188 98V206M212 98V206M236 98V206", ink.main, 6)
            )
        case 1:
            back = _line("M136 208V78M264 208V78", ink.main, 13) + "".join(
                _rect(136, y, 128, 18, 8, ink.main) for y in (88, 124, 160)
            )
        case _:
            back = _line("M136 208Q116 82 200 78 284 82 264 208", ink.main, 14) + _path(
                "M142 150q58-20 116 0v-30q-58-26-116 0z", ink.light
            )
    return legs + back + seat + _rect(126, 228, 148, 8, 4, ink.dark)


def _armchair(ink: Ink) -> str:
    legs = _line("M122 290L114 310M278 290L286 310", "#7c5438", 11)
    back = _path("M116 246V130q0-44 46-44h76q46 0 46 44v116z", ink.main)
    seat = _rect(118, 208, 164, 52, 20, ink.light) + _rect(110, 240, 180, 54, 14, ink.main)
    arms = _rect(84, 184, 46, 108, 22, ink.dark) + _rect(270, 184, 46, 108, 22, ink.dark)
    buttons = (
        "".join(_circle(x, y, 5, ink.dark) for x, y in ((166, 134), (200, 126), (234, 134), (182, 168), (218, 168)))
        if ink.pick(8, 2)
        else _rect(160, 140, 80, 70, 14, ink.accent)
    )
    return legs + back + buttons + seat + arms


def _stool(ink: Ink) -> str:
    tall = ink.pick(8, 2) * 46
    top = 208 - tall
    legs = _line(f"M156 {top}L126 308M244 {top}L274 308M200 {top}V302", ink.dark, 12) + _line(
        f"M142 {top + 62}H258", ink.dark, 8
    )
    return (
        legs
        + _oval(200, top, 92, 19, ink.dark)
        + _oval(200, top - 8, 92, 17, ink.main)
        + _oval(200, top - 12, 64, 8, ink.light)
    )


def _table(ink: Ink) -> str:
    legs = _line("M124 198L104 308M276 198L296 308", ink.dark, 13) + (
        _line("M170 200L160 296M230 200L240 296", ink.dark, 9) if ink.pick(8, 2) else ""
    )
    top = _rect(70, 176, 260, 24, 10, ink.main) + _rect(70, 190, 260, 10, 5, ink.dark)
    vase = (
        _path("M182 176q-16-34 8-54h20q24 20 8 54z", ink.accent)
        + _line("M200 124V76M200 110q-24-8-30-34M200 104q22-6 32-30", "#6a7f4e", 5)
        + _circle(200, 72, 12, "#e8b7a6")
        + _circle(168, 74, 10, "#f1d27f")
        + _circle(234, 72, 10, "#e8b7a6")
    )
    books = (
        _rect(150, 160, 84, 16, 3, ink.accent)
        + _rect(158, 145, 70, 15, 3, "#f1e8d6")
        + _rect(154, 131, 62, 14, 3, ink.light)
    )
    return legs + top + (vase if ink.pick(9, 2) else books)


def _desk(ink: Ink) -> str:
    legs = _line("M84 196V308M316 196V308", ink.dark, 13)
    top = _rect(62, 178, 276, 22, 7, ink.main)
    drawers = _rect(216, 200, 100, 44, 4, ink.light) + _circle(266, 222, 6, ink.dark)
    lamp = _line("M112 178V146l34-40", "#3b342d", 7) + _path("M130 92l44 22-6 30-56-28z", ink.accent)
    return legs + drawers + top + lamp + _rect(196, 158, 76, 20, 3, "#f6f0e2") + _rect(204, 146, 62, 12, 3, ink.accent)


def _shelf(ink: Ink) -> str:
    frame = _line("M112 66V308M288 66V308", ink.dark, 11)
    boards = "".join(_rect(102, y, 196, 14, 4, ink.main) for y in (112, 196, 280))
    dyes = (ink.accent, "#e8d9bd", ink.light, "#8c6b4f", ink.dark)
    books = "".join(
        _rect(
            126 + at * 19,
            112 - 44 - (at * 7 + ink.chance[8]) % 14,
            15,
            44 + (at * 7 + ink.chance[8]) % 14,
            2,
            dyes[at % 5],
        )
        for at in range(5)
    )
    pot = (
        _path("M140 196l6-34h40l6 34z", "#c4714b")
        + _leaf(166, 164, 140, 120, "#6a8f55", 30)
        + _leaf(166, 164, 192, 122, "#82a36c", 30)
    )
    bowl = _path("M210 196h62q-4-32-31-32t-31 32z", ink.accent)
    box = (
        _rect(130, 240, 62, 40, 5, "#cfae7d")
        + _rect(216, 226, 26, 54, 3, ink.light)
        + _rect(246, 236, 22, 44, 3, ink.accent)
    )
    return frame + books + pot + bowl + box + boards


def _cabinet(ink: Ink) -> str:
    legs = _line("M106 296V310M294 296V310", ink.dark, 12)
    body = (
        _rect(80, 160, 240, 138, 10, ink.main)
        + _rect(94, 174, 102, 110, 5, ink.light)
        + _rect(204, 174, 102, 110, 5, ink.light)
    )
    reeds = (
        "".join(_line(f"M{x} 180V278", ink.main, 3) for x in (*range(106, 194, 12), *range(216, 304, 12)))
        if ink.pick(8, 2)
        else ""
    )
    knobs = _circle(184, 228, 6, "#b08d3f") + _circle(216, 228, 6, "#b08d3f")
    vase = _path("M132 160q-14-36 4-58h20q18 22 4 58z", ink.accent) + _line(
        "M146 104V62M146 92q20-8 26-30", "#6a7f4e", 5
    )
    return legs + vase + body + reeds + knobs + _rect(220, 146, 72, 14, 3, "#e8d9bd")


def _cushion(ink: Ink) -> str:
    way = "M92 128q108-26 216 0 26 82 0 172-108 22-216 0-26-90 0-172z"
    match ink.pick(8, 4):
        case 0:
            deco = "".join(_rect(70, y, 260, 11, 0, ink.light) for y in range(146, 300, 32))
        case 1:
            deco = "".join(
                _line(f"M{x} 100L{x + 210} 320M{x + 210} 100L{x} 320", ink.light, 3) for x in range(-60, 340, 52)
            )
        case 2:
            deco = _leaf(200, 280, 200, 150, ink.light, 24) + "".join(
                _leaf(200, 270 - at * 30, 200 + side * 74, 214 - at * 26, ink.light, 26)
                for at in range(3)
                for side in (1, -1)
            )
        case _:
            deco = "".join(
                _circle(x, y, 8, ink.light) for y in range(146, 300, 42) for x in range(118 + y % 4 * 10, 300, 44)
            )
    return _shaded(ink, way, deco, 250) + _line(
        "M92 128q108-26 216 0 26 82 0 172-108 22-216 0-26-90 0-172z", ink.dark, 5
    )


def _folded(ink: Ink) -> str:
    layers = "".join(
        _rect(94, y, 212, 44, 20, fill)
        for y, fill in ((266, ink.dark), (222, ink.main), (178, ink.light), (134, ink.main))
    )
    match ink.pick(8, 3):
        case 0:
            deco = (
                _rect(130, 134, 14, 44, 0, ink.accent)
                + _rect(152, 134, 6, 44, 0, ink.accent)
                + _rect(130, 222, 14, 44, 0, ink.accent)
            )
        case 1:
            deco = _line("M110 156h180M110 244h180", ink.dark, 3)
        case _:
            deco = _line(
                "M120 178v16M142 178v16M164 178v16M186 178v16M208 178v16M230 178v16M252 178v16M274 178v16", ink.main, 5
            )
    return layers + deco + (_line("M200 128V312M94 222H306", "#a5763f", 5) if ink.pick(9, 3) == 0 else "")


def _rug(ink: Ink) -> str:
    way = "M112 84H288V312H112z"
    match ink.pick(8, 3):
        case 0:
            deco = "".join(
                _rect(112, y, 176, 15, 0, fill)
                for y, fill in (
                    (104, ink.light),
                    (140, ink.accent),
                    (176, ink.light),
                    (212, ink.accent),
                    (248, ink.light),
                    (282, ink.accent),
                )
            )
        case 1:
            deco = _path("M200 108l64 90-64 90-64-90z", ink.light) + _path("M200 148l36 50-36 50-36-50z", ink.accent)
        case _:
            deco = "".join(
                _rect(112 + x * 44, 84 + y * 38, 44, 38, 0, ink.light)
                for y in range(6)
                for x in range(4)
                if (x + y) % 2
            )
    fringe = _line(
        "M118 84v-14M140 84v-14M162 84v-14M184 84v-14M206 84v-14M228 84v-14M250 84v-14M272 84v-14", ink.dark, 4
    )
    return _path(way, ink.main) + deco + fringe + f'<g transform="translate(0 396) scale(1 -1)">{fringe}</g>'


def _bed(ink: Ink) -> str:
    head = _rect(72, 106, 256, 130, 18, "#a1763f")
    pillows = _rect(96, 166, 96, 58, 22, "#fffaf0") + _rect(208, 166, 96, 58, 22, "#fffaf0")
    quilt = "M64 226q136-24 272 0v64q0 12-12 12H76q-12 0-12-12z"
    deco = (
        "".join(_line(f"M{x} 210V310", ink.light, 6) for x in range(84, 336, 30))
        if ink.pick(8, 2)
        else _rect(60, 214, 280, 30, 0, ink.light)
    )
    return head + pillows + _shaded(ink, quilt, deco, 268) + _line("M88 302v8M312 302v8", "#7c5438", 11)


def _pot(ink: Ink) -> str:
    pot = "M136 214H264L248 310H152z"
    leaf, deep = ("#6a8f55", "#4f7343") if ink.pick(8, 2) else ("#7d9f6b", "#587d4c")
    match ink.pick(9, 3):
        case 0:
            plant = "".join(
                _leaf(200, 216, x, y, fill, 20)
                for x, y, fill in (
                    (114, 124, deep),
                    (286, 124, deep),
                    (150, 78, leaf),
                    (250, 78, leaf),
                    (200, 54, deep),
                )
            )
        case 1:
            plant = "".join(
                _leaf(200 + side * 10, 216, 200 + side * reach, top, fill, 11)
                for side, reach, top, fill in (
                    (-1, 66, 74, leaf),
                    (1, 66, 78, leaf),
                    (-1, 28, 46, deep),
                    (1, 30, 52, deep),
                    (1, 2, 40, leaf),
                )
            )
        case _:
            plant = _line("M200 214V84M200 170q-40-10-52-50M200 146q40-8 54-46", deep, 6) + "".join(
                _circle(x, y, 25, fill)
                for x, y, fill in (
                    (148, 114, leaf),
                    (254, 94, leaf),
                    (200, 74, deep),
                    (170, 150, deep),
                    (234, 140, leaf),
                )
            )
    return plant + _shaded(ink, pot, _trim(ink, 136, 214, 128, 96), 226) + _rect(126, 202, 148, 26, 8, ink.light)


def _can(ink: Ink) -> str:
    body = "M112 190H240L254 310H98z"
    spout = _path("M240 282L330 142l18 10-84 158z", ink.dark) + _path("M318 134l42 24-8 14-42-24z", ink.dark)
    handle = _line("M122 190Q128 92 224 132", ink.dark, 13)
    drops = "".join(_circle(x, y, 4, "#8fb8d4") for x, y in ((358, 190), (372, 210), (356, 222)))
    return (
        handle
        + spout
        + _shaded(ink, body, _trim(ink, 98, 190, 156, 120), 212)
        + _oval(176, 190, 64, 10, ink.light)
        + drops
    )


def _trowel(ink: Ink) -> str:
    blade = _path("M166 196q34-12 68 0 8 72-34 122-42-50-34-122z", "#b4bbbe") + _path(
        "M200 194q20-2 34 2 8 72-34 122z", "#929a9e"
    )
    tool = (
        blade
        + _rect(192, 150, 16, 52, 5, "#8d9498")
        + _rect(181, 62, 38, 96, 18, ink.main)
        + _rect(181, 140, 38, 11, 3, "#b08d3f")
    )
    soil = (
        _path("M92 314q20-34 62-30 44-18 90 0 48-6 66 30z", "#6d4f38")
        + _leaf(286, 288, 312, 246, "#6a8f55", 34)
        + _leaf(286, 288, 264, 254, "#82a36c", 34)
    )
    return f'<g transform="rotate({(-12, 10)[ink.pick(8, 2)]} 200 300)">{tool}</g>{soil}'


def _birdhouse(ink: Ink) -> str:
    body = _rect(134, 154, 132, 132, 6, ink.main) + "".join(
        _line(f"M134 {y}H266", ink.dark, 2) for y in (186, 220, 254)
    )
    roof = _path("M112 160L200 78l88 82-14 12-74-68-74 68z", ink.dark)
    bird = _path("M256 128q4-28 32-28 18 0 22 14l14 4-14 8q-4 28-38 28-20 0-34 10 4-22 18-36z", ink.accent) + _circle(
        294, 114, 3, "#22211d"
    )
    return (
        _line("M200 286V312", "#7c5438", 15)
        + _path("M140 160l60-56 60 56z", ink.main)
        + body
        + roof
        + _circle(200, 200, 25, "#3b2c20")
        + _line("M200 238v14", "#7c5438", 7)
        + bird
    )


def _pouch(ink: Ink) -> str:
    body = "M118 124H282L292 300q0 12-12 12H120q-12 0-12-12z"
    label = _rect(144, 184, 112, 84, 6, "#fffaf0") + _line("M162 248h76", ink.dark, 5)
    bean = _oval(200, 216, 19, 25, "#6b4429") + _line("M200 194q-9 22 0 44", "#4a2d19", 4)
    leaf = _leaf(182, 236, 222, 194, "#6a8f55", 40)
    return (
        _shaded(ink, body, _trim(ink, 108, 124, 184, 186) if ink.pick(8, 2) else "", 246)
        + _rect(112, 104, 176, 28, 6, ink.dark)
        + _line("M126 118H274", ink.light, 3)
        + label
        + (bean if ink.pick(9, 2) else leaf)
    )


def _caddy(ink: Ink) -> str:
    body = _rect(122, 132, 156, 180, 14, ink.main) + _rect(122, 268, 156, 20, 0, ink.dark)
    lid = _rect(128, 92, 144, 48, 12, ink.light) + _rect(122, 126, 156, 14, 5, ink.dark)
    label = (
        _oval(200, 208, 52, 42, "#fffaf0")
        + _leaf(180, 226, 224, 188, "#6a8f55", 40)
        + _leaf(186, 216, 176, 182, "#82a36c", 36)
    )
    return body + lid + label


def _bar(ink: Ink) -> str:
    foil = _path("M120 96H280V150H120z", "#d9dcde")
    squares = "".join(
        _rect(124 + x * 52, 76 + y * 40, 47, 36, 5, "#5b3826") + _rect(130 + x * 52, 81 + y * 40, 35, 10, 3, "#7c5238")
        for y in range(2)
        for x in range(3)
    )
    sleeve = (
        _rect(112, 148, 176, 164, 8, ink.main)
        + _clipped("s", "M112 148h176v164H112z", _trim(ink, 112, 148, 176, 164))
        + _rect(144, 202, 112, 54, 5, "#fffaf0")
        + _line("M162 222h76M172 238h56", ink.dark, 5)
    )
    return f'<g transform="rotate({(-6, 5)[ink.pick(8, 2)]} 200 220)">{foil}{squares}{sleeve}</g>'


def _tote(ink: Ink) -> str:
    body = "M104 156H296L310 300q0 12-12 12H102q-12 0-12-12z"
    handles = _line("M148 162Q152 62 200 62T252 162", ink.dark, 13)
    leaves = (
        _leaf(236, 160, 268, 84, "#6a8f55", 24) + _leaf(246, 160, 300, 110, "#82a36c", 24) if ink.pick(8, 2) else ""
    )
    return (
        leaves
        + handles
        + _shaded(ink, body, _trim(ink, 96, 156, 208, 156), 256)
        + _rect(98, 150, 204, 15, 6, ink.light)
    )


def _backpack(ink: Ink) -> str:
    body = "M112 176q0-92 88-92t88 92v108q0 28-28 28H140q-28 0-28-28z"
    loop = _line("M172 88q0-34 28-34t28 34", ink.dark, 11)
    flap = _path("M112 176q0-92 88-92t88 92v20q-88 34-176 0z", ink.dark)
    pocket = _rect(138, 226, 124, 70, 15, ink.light)
    straps = (
        _rect(158, 190, 13, 60, 4, "#a5763f")
        + _rect(229, 190, 13, 60, 4, "#a5763f")
        + _rect(154, 214, 21, 14, 3, "#e3c987")
        + _rect(225, 214, 21, 14, 3, "#e3c987")
    )
    return loop + _path(body, ink.main) + flap + pocket + straps


def _notebook(ink: Ink) -> str:
    pages = _rect(128, 92, 156, 220, 6, "#f6f0e2")
    cover = _rect(116, 86, 160, 222, 9, ink.main) + _rect(116, 86, 26, 222, 9, ink.dark)
    band = _rect(244, 86, 11, 222, 0, ink.accent)
    label = _rect(160, 128, 68, 42, 4, "#fffaf0") + _line("M170 144h48M170 156h30", ink.dark, 3)
    pencil = (
        '<g transform="rotate(18 310 220)">'
        + _rect(302, 130, 15, 150, 2, "#d9a441")
        + _path("M302 280h15l-7 24z", "#f1dfbd")
        + _rect(302, 118, 15, 14, 3, "#c8756a")
        + "</g>"
    )
    return f'<g transform="rotate({(-5, 0, -9)[ink.pick(8, 3)]} 200 220)">{pages}{cover}{band}{label}</g>' + (
        pencil if ink.pick(9, 2) else ""
    )


def _pens(ink: Ink) -> str:
    cup = "M136 208H264V296q0 14-14 14H150q-14 0-14-14z"
    stems = ""
    for at, (x, tilt, fill) in enumerate(
        ((156, -10, ink.accent), (186, -2, "#d9a441"), (214, 6, ink.light), (240, 14, "#b9483a"))
    ):
        top = 84 + (ink.chance[10 + at] % 4) * 10
        stems += (
            f'<g transform="rotate({tilt} {x} 260)">'
            + _rect(x - 8, top + 22, 16, 200, 2, fill)
            + _path(f"M{x - 8} {top + 22}h16l-8-24z", "#f1dfbd")
            + "</g>"
        )
    return stems + _shaded(ink, cup, _trim(ink, 136, 208, 128, 102), 226)


def _book(ink: Ink) -> str:
    cover = (
        _rect(128, 84, 158, 226, 5, ink.main)
        + _rect(128, 84, 20, 226, 4, ink.dark)
        + _rect(164, 108, 106, 178, 3, ink.light)
    )
    title = _rect(178, 126, 78, 11, 3, ink.dark) + _rect(190, 146, 54, 8, 3, ink.dark)
    match ink.pick(8, 3):
        case 0:
            picture = _circle(217, 218, 36, ink.accent) + _leaf(217, 250, 217, 180, ink.dark, 30)
        case 1:
            picture = _path("M178 270l30-60 22 34 14-22 20 48z", ink.accent) + _circle(242, 190, 13, "#f2c45c")
        case _:
            picture = _path("M182 206h70q0 50-35 56-35-6-35-56z", ink.accent) + _line(
                "M206 194q-8-10 0-20M228 194q-8-10 0-20", ink.dark, 4
            )
    return _rect(142, 302, 144, 11, 3, "#f6f0e2") + cover + title + picture


def _soap(ink: Ink) -> str:
    bar = _rect(106, 222, 188, 84, 34, ink.main) + _rect(120, 230, 160, 30, 15, ink.light)
    stamp = _line("M158 274h84", ink.dark, 5)
    suds = "".join(
        f'<circle cx="{x}" cy="{y}" r="{r}" fill="#fff" opacity=".75"/>'
        for x, y, r in (
            (130, 208, 24),
            (166, 192, 17),
            (198, 206, 26),
            (238, 196, 19),
            (154, 164, 9),
            (222, 160, 12),
            (270, 210, 14),
        )
    )
    return bar + stamp + suds


def _brush(ink: Ink) -> str:
    bristles = "".join(_line(f"M{x} 182V232", "#e9d9b6", 9) for x in range(126, 282, 13))
    tool = (
        bristles
        + _rect(112, 142, 184, 44, 21, ink.main)
        + _rect(112, 166, 184, 20, 10, ink.dark)
        + _rect(290, 150, 76, 24, 11, ink.main)
    )
    return f'<g transform="translate(-20 34) rotate({(-8, 6)[ink.pick(8, 2)]} 200 200)">{tool}</g>'


def _mirror(ink: Ink) -> str:
    glass = (
        _circle(200, 184, 112, ink.main)
        + _circle(200, 184, 96, "#dce9ec")
        + _path("M140 214L226 112l24 16-88 112z", "#eef6f7")
    )
    return _line("M200 290V308", ink.dark, 15) + glass + _rect(142, 302, 116, 11, 5, ink.dark)


def _shirt(ink: Ink) -> str:
    way = "M150 92q50 30 100 0l66 34-26 62-28-12V310H138V176l-28 12-26-62z"
    return _shaded(ink, way, _trim(ink, 138, 150, 124, 160), 236) + _line("M150 92q50 44 100 0", ink.dark, 8)


def _trousers(ink: Ink) -> str:
    way = "M136 84H264L280 310H216L200 168 184 310H120z"
    return _shaded(ink, way, "", 226) + _rect(134, 84, 132, 22, 4, ink.dark) + _line("M200 106V166", ink.dark, 4)


def _shoe(ink: Ink) -> str:
    way = "M84 204q40 22 66-24 46 60 128 74 42 8 42 40H84z"
    return (
        _shaded(ink, way, "", 270)
        + _rect(78, 288, 250, 22, 10, "#f6f0e2")
        + _line("M160 204l26-16M182 224l26-18M208 240l24-18", "#f6f0e2", 7)
    )


def _watch(ink: Ink) -> str:
    strap = _rect(168, 60, 64, 100, 12, ink.main) + _rect(168, 232, 64, 82, 12, ink.main)
    return (
        strap
        + _circle(200, 196, 72, ink.dark)
        + _circle(200, 196, 60, "#fffaf0")
        + _line("M200 196V156M200 196l26 16", "#3b342d", 7)
        + _rect(270, 188, 12, 16, 4, ink.dark)
    )


def _screen(ink: Ink) -> str:
    return (
        _rect(84, 112, 232, 152, 14, "#33363a")
        + _rect(96, 124, 208, 128, 6, ink.main)
        + _path("M96 252l70-70 50 44 40-32 48 58z", ink.light)
        + _circle(254, 156, 17, "#f6e3a1")
        + _rect(180, 264, 40, 34, 0, "#4b4e52")
        + _rect(136, 296, 128, 14, 6, "#33363a")
    )


def _guitar(ink: Ink) -> str:
    body = _circle(188, 262, 62, ink.main) + _circle(204, 196, 44, ink.main)
    neck = _rect(198, 46, 20, 150, 4, "#5b3b25") + _rect(192, 34, 32, 32, 6, "#3b2c20")
    hole, bridge = _circle(200, 222, 21, "#3b2c20"), _rect(166, 276, 48, 11, 3, "#3b2c20")
    strings = _line("M204 60V278M212 60V278", "#f1e8d6", 2)
    return f'<g transform="rotate(16 200 220) translate(0 -12)">{body}{neck}{hole}{bridge}{strings}</g>'


def _gem(ink: Ink) -> str:
    chain = _line("M104 92Q120 226 200 236T296 92", "#d3a94b", 6)
    return (
        chain
        + _path("M200 232l44 34-44 56-44-56z", ink.main)
        + _path("M200 232l20 34-20 56-20-56z", ink.light)
        + _line("M156 266H244", ink.dark, 3)
    )


def _basket(ink: Ink) -> str:
    food = (
        _circle(150, 190, 36, "#c9503b")
        + _circle(212, 178, 40, "#e0a03c")
        + _leaf(250, 210, 300, 110, "#6a8f55", 24)
        + _leaf(244, 206, 262, 96, "#82a36c", 22)
        + _circle(262, 198, 30, "#7c4a63")
    )
    weave = "".join(_line(f"M84 {y}q28-14 58 0t58 0 58 0 58 0", "#a1763f", 5) for y in (240, 264, 288))
    return food + _path("M80 208H320L296 312H104z", "#c79a63") + weave + _rect(72, 200, 256, 20, 10, "#a1763f")


def _loaf(ink: Ink) -> str:
    crumb = _path("M72 270q-8-84 62-84h132q70 0 62 84-2 40-36 40H108q-34 0-36-40z", "#c98f52")
    return (
        crumb
        + _path("M84 262q-2-62 54-64h124q56 2 54 64-60-36-116-36t-116 36z", "#dba968")
        + _line("M140 218l26 30M190 212l26 32M240 216l24 28", "#f3dcae", 9)
    )


def _cheese(ink: Ink) -> str:
    return (
        _path("M84 226L282 146q44 22 40 80z", "#f3d27a")
        + _rect(84, 226, 238, 82, 5, "#e8bd57")
        + _circle(140, 262, 17, "#cf9f3a")
        + _circle(212, 282, 12, "#cf9f3a")
        + _circle(254, 252, 20, "#cf9f3a")
        + _oval(214, 200, 19, 9, "#dcb24d")
    )


def _fish(ink: Ink) -> str:
    dish = _oval(200, 262, 150, 44, "#f4efe6") + _oval(200, 258, 122, 32, "#e6ddce")
    body = _path("M96 230q74-74 172-18l54-36v96l-54-30q-98 44-172-12z", ink.main)
    return dish + body + _circle(138, 222, 6, "#22211d") + _line("M174 204q16 26 0 50M206 196q18 30 2 60", ink.light, 5)


def _heart(ink: Ink) -> str:
    way = "M200 300C96 226 78 170 112 132q44-38 88 14 44-52 88-14c34 38 16 94-88 168z"
    return _line("M200 146V60", "#a5763f", 5) + _shaded(ink, way, _trim(ink, 100, 130, 200, 170), 236)


def _bell(ink: Ink) -> str:
    tree = _path("M200 64l84 118h-40l60 88H96l60-88h-40z", "#4f7a52") + _rect(184, 270, 32, 42, 3, "#7c5438")
    balls = "".join(
        _circle(x, y, 11, fill)
        for x, y, fill in (
            (176, 152, ink.main),
            (226, 166, "#e0b040"),
            (158, 232, "#e0b040"),
            (206, 214, ink.main),
            (250, 240, ink.accent),
        )
    )
    return tree + balls + _path("M200 40l8 18 20 2-15 13 4 20-17-10-17 10 4-20-15-13 20-2z", "#e0b040")


def _clock(ink: Ink) -> str:
    bells = (
        _circle(148, 106, 30, ink.dark)
        + _circle(252, 106, 30, ink.dark)
        + _line("M138 292l-18 20M262 292l18 20", ink.dark, 13)
    )
    face = _circle(200, 204, 106, ink.main) + _circle(200, 204, 86, "#fffaf0")
    ticks = _line("M200 130v12M200 266v12M126 204h12M262 204h12", "#3b342d", 6)
    return bells + face + ticks + _line("M200 204V156M200 204l36 20", "#3b342d", 8) + _circle(200, 204, 8, ink.accent)


def _box(ink: Ink) -> str:
    body = _rect(98, 170, 204, 140, 6, ink.main) + _rect(88, 140, 224, 42, 6, ink.dark)
    ribbon = _rect(186, 140, 28, 170, 0, ink.accent) + _path(
        "M200 140q-62-8-58-46 10-30 58 46 48-76 58-46 4 38-58 46z", ink.accent
    )
    return body + ribbon


_SPRIG: Final = ((176, 200, 104), (170, 240, 130), (170, 160, 130))


def _card(ink: Ink) -> str:
    flap = _rect(92, 140, 216, 150, 6, ink.main) + _path("M92 146l108 82 108-82v-6H92z", ink.dark)
    sprig = "".join(_leaf(200, foot, x, y, ink.accent, 30) for foot, x, y in _SPRIG)
    return f'<g transform="rotate(-6 200 220)">{_rect(116, 84, 168, 140, 6, "#fffaf0")}{sprig}{flap}</g>'


def _toy(ink: Ink) -> str:
    ears = _circle(136, 112, 32, ink.dark) + _circle(264, 112, 32, ink.dark)
    head = _circle(200, 164, 84, ink.main) + _oval(200, 188, 38, 29, ink.light)
    face = (
        _circle(168, 148, 8, "#22211d")
        + _circle(232, 148, 8, "#22211d")
        + _oval(200, 174, 13, 9, "#22211d")
        + _line("M200 184v10q-12 12-22 2M200 194q12 12 22 2", "#22211d", 4)
    )
    return _path("M120 312q4-70 80-70t80 70z", ink.main) + _oval(200, 290, 40, 24, ink.light) + ears + head + face


def _ball(ink: Ink) -> str:
    return _circle(200, 204, 106, ink.main) + _line(
        "M200 98V310M94 204H306M128 124q72 80 0 160M272 124q-72 80 0 160", ink.dark, 5
    )


def _tool(ink: Ink) -> str:
    tool = (
        _rect(188, 130, 26, 186, 10, ink.main)
        + _rect(188, 130, 9, 186, 4, ink.dark)
        + _path("M132 84h110q32 0 42 30l-34 4q-6-10-20-10v30H132z", "#8d9498")
    )
    return f'<g transform="rotate({(-14, 14)[ink.pick(8, 2)]} 200 240)">{tool}</g>'


def _spray(ink: Ink) -> str:
    body = _rect(136, 172, 128, 140, 22, ink.main) + _rect(136, 216, 128, 60, 0, "#fffaf0")
    return (
        body
        + _rect(176, 126, 48, 50, 6, ink.dark)
        + _rect(186, 92, 28, 40, 5, "#e9e4da")
        + _path("M152 84h76v24h-76z", ink.dark)
        + _leaf(180, 262, 222, 228, ink.accent, 40)
    )


def _carton(ink: Ink) -> str:
    body = (
        _rect(130, 146, 140, 166, 4, ink.main)
        + _path("M130 146l34-50h72l34 50z", ink.light)
        + _rect(164, 76, 72, 24, 4, ink.dark)
    )
    return (
        body
        + _rect(230, 146, 40, 166, 4, ink.dark)
        + _circle(182, 226, 37, "#fffaf0")
        + _leaf(166, 242, 200, 208, ink.accent, 40)
    )


def _snack(ink: Ink) -> str:
    bag = "M120 96q80 14 160 0 14 108 6 210-86 14-172 0-8-102 6-210z"
    return (
        _shaded(ink, bag, _rect(100, 236, 200, 40, 0, ink.accent), 250)
        + _line("M122 112q78 12 156 0M118 292q82 12 164 0", ink.light, 4)
        + _oval(200, 186, 54, 38, "#fffaf0")
        + _path("M166 190q30-34 66-10-22 34-66 10z", "#e0b040")
    )


def monogram(ink: Ink, name: str) -> str:
    """For what has no drawing: its initial on a paper tag, under a sprig."""
    initial = next((character for character in name.upper() if character.isalnum()), "•")
    card = _rect(104, 84, 192, 226, 16, ink.main) + _rect(118, 98, 164, 198, 9, ink.light)
    sprig = _line("M200 280V236", ink.dark, 4) + "".join(
        _leaf(200, 280 - at * 12, 200 + side * (34 - at * 4), 254 - at * 14, ink.dark, 30)
        for at in range(3)
        for side in (1, -1)
    )
    letter = (
        f'<text x="200" y="212" text-anchor="middle" font-family="Georgia,serif" font-size="104" fill="{ink.dark}">'
        f"{escape(initial)}</text>"
    )
    return card + letter + sprig


MOTIFS: Final[Mapping[str, Callable[[Ink], str]]] = {
    name.removeprefix("_"): drawing
    for name, drawing in {
        "_mug": _mug, "_teapot": _teapot, "_kettle": _kettle, "_pan": _pan, "_skillet": _skillet,
        "_casserole": _casserole, "_knife": _knife, "_board": _board, "_tin": _tin, "_bowl": _bowl, "_jar": _jar,
        "_bottle": _bottle, "_plate": _plate, "_tumbler": _tumbler, "_wineglass": _wineglass, "_jug": _jug,
        "_cutlery": _cutlery, "_utensil": _utensil, "_pin": _pin, "_tablelamp": _tablelamp, "_floorlamp": _floorlamp,
        "_pendant": _pendant, "_candle": _candle, "_lantern": _lantern, "_chair": _chair, "_armchair": _armchair,
        "_stool": _stool, "_table": _table, "_desk": _desk, "_shelf": _shelf, "_cabinet": _cabinet,
        "_cushion": _cushion, "_folded": _folded, "_rug": _rug, "_bed": _bed, "_pot": _pot, "_can": _can,
        "_trowel": _trowel, "_birdhouse": _birdhouse, "_pouch": _pouch, "_caddy": _caddy, "_bar": _bar, "_tote": _tote,
        "_backpack": _backpack, "_notebook": _notebook, "_pens": _pens, "_book": _book, "_soap": _soap,
        "_brush": _brush, "_mirror": _mirror, "_shirt": _shirt, "_trousers": _trousers, "_shoe": _shoe,
        "_watch": _watch, "_screen": _screen, "_guitar": _guitar, "_gem": _gem, "_basket": _basket, "_loaf": _loaf,
        "_cheese": _cheese, "_fish": _fish, "_heart": _heart, "_bell": _bell, "_clock": _clock, "_box": _box,
        "_card": _card, "_toy": _toy, "_ball": _ball, "_tool": _tool, "_spray": _spray, "_carton": _carton,
        "_snack": _snack,
    }.items()
}  # fmt: skip
