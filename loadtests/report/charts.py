"""Plots from marks: lines, areas, bars, dots and rules on a panel with its axes; panels above each other share time.

Every chart is drawn twice, for a desk and for a phone, so that its text has the same size on both; style.css shows one.
Colours are classes (`hit`, `e1`, ...) that style.css gives a value for light and for dark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from loadtests.recorder.run import Run
from loadtests.report import svg
from loadtests.report.scales import Scale, Seconds, TickText

X_AXIS_PX = 20
TITLE_PX = 25
"""Room above a panel for its title."""
STRIP_PX = 13
"""Height of one kind of event below the panels."""
READOUT_PX = 18
LETTER_PX = 6.3
"""About as wide as a letter is at the size of labels."""


@dataclass(frozen=True, slots=True)
class Size:
    """For which screen a chart is drawn; pixels."""

    width: int
    left: int
    right: int
    narrow: bool = False

    @property
    def inner(self) -> int:
        return self.width - self.left - self.right


WIDE = Size(760, 56, 74)
NARROW = Size(350, 46, 40, narrow=True)


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points; None lifts the pen. A lone point is a dot."""

    points: Sequence[tuple[float, float | None]]
    look: str
    style: str = ""
    """`dash`, `thin`, or both."""
    label: str = ""
    """Written behind its end."""


@dataclass(frozen=True, slots=True)
class Area:
    """Filled between two heights: (x, low, high)."""

    points: Sequence[tuple[float, float, float] | None]
    """None ends one area; the next point begins another."""
    look: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Bars:
    """Upright bars: (from x, to x, from y, to y)."""

    bars: Sequence[tuple[float, float, float, float]]
    look: str


@dataclass(frozen=True, slots=True)
class Dots:
    points: Sequence[tuple[float, float]]
    look: str
    style: str = ""
    """`hollow`, `small`."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A reference line across the panel, at a value of y, or of x with `upright`."""

    at: float
    label: str
    upright: bool = False
    down: float = 11
    """Upright: how far below the frame's top the label stands, so that two do not cover each other."""
    short: str = ""
    """The label where there is little room; empty: the same."""


Mark = Line | Area | Bars | Dots | Rule


@dataclass(slots=True)
class Panel:
    """One pair of axes. `y` is told the pixels of its lower and upper end."""

    y: Callable[[float, float], Scale]
    y_text: TickText
    marks: Sequence[Mark]
    height: int = 90
    title: str = ""
    y_ticks: int = 4


@dataclass(frozen=True, slots=True)
class Column:
    """A part of the x axis, and what is said of it when it is pointed at."""

    from_x: float
    to_x: float
    said: str


@dataclass(slots=True)
class Chart:
    """A finished drawing, for both screens."""

    wide: Markup
    narrow: Markup
    legend: Sequence[tuple[str, str, str]] = field(default_factory=list)
    """(look, style, words); style is that of a mark: `line`, `line dash`, `area`, `dot`, ..."""


# --- a panel --------------------------------------------------------------------------------------------------------


def _drawn_panel(panel: Panel, size: Size, x: Scale, top: float, clip: str) -> Markup:
    """Grid, marks and the axis on the left of a panel whose frame begins at `top`."""
    bottom = top + panel.height
    y = panel.y(bottom, top)
    right = size.width - size.right
    parts = []
    for tick in y.ticks(panel.y_ticks):
        at = y(tick)
        parts.append(svg.el("line", x1=size.left, x2=right, y1=at, y2=at, class_="grid"))
        parts.append(svg.text(size.left - 6, at + 4, panel.y_text(tick), look="tick", anchor="end"))
    marks = [_drawn(mark, x, y, top, bottom, size) for mark in panel.marks if not isinstance(mark, Rule)]
    parts.append(svg.el("g", *marks, clip_path=f"url(#{clip})"))
    parts += [_drawn(mark, x, y, top, bottom, size) for mark in panel.marks if isinstance(mark, Rule)]
    parts.append(svg.el("line", x1=size.left, x2=right, y1=bottom, y2=bottom, class_="axis"))
    if panel.title:
        parts.append(svg.text(size.left, top - 5, panel.title, look="panel-title"))
    parts += _end_labels(panel, y, top, bottom, size)
    return svg.join(parts)


def _drawn(mark: Mark, x: Scale, y: Scale, top: float, bottom: float, size: Size) -> Markup:
    match mark:
        case Line():
            points = [None if value is None else (x(at), y(value)) for at, value in mark.points]
            drawn = svg.el("path", d=svg.path_of(points), class_=f"line {mark.look} {mark.style}".rstrip())
            return drawn + _lone(points, mark.look)
        case Area():
            outline = "".join(_outline(part, x, y) for part in _parts(mark.points))
            return svg.el("path", d=outline, class_=f"area {mark.look} {mark.style}".rstrip())
        case Bars():
            return svg.el("path", d="".join(_bar(x, y, bar) for bar in mark.bars), class_=f"bar {mark.look}")
        case Dots():
            radius = 2.2 if "small" in mark.style else 4.2
            dots = [svg.el("circle", cx=x(at), cy=y(value), r=radius) for at, value in mark.points]
            return svg.el("g", *dots, class_=f"dot {mark.look} {mark.style}".rstrip()) if dots else Markup("")
        case Rule(upright=True):
            at, label = x(mark.at), mark.short if mark.short and size.narrow else mark.label
            line = svg.el("line", x1=at, x2=at, y1=top, y2=bottom, class_="rule")
            near_end = at > size.width - size.right - LETTER_PX * len(label)
            shift, anchor = (-4, "end") if near_end else (4, None)
            return line + svg.text(at + shift, top + mark.down, label, look="note", anchor=anchor)
        case Rule():
            at, right = y(mark.at), size.width - size.right
            line = svg.el("line", x1=size.left, x2=right, y1=at, y2=at, class_="rule")
            above = at - 4 if at - top > 14 else at + 12
            return line + svg.text(right - 4, above, mark.label, look="note", anchor="end")


def _parts(points: Sequence[tuple[float, float, float] | None]) -> list[list[tuple[float, float, float]]]:
    """Points between the gaps."""
    parts: list[list[tuple[float, float, float]]] = [[]]
    for point in points:
        if point is None:
            parts.append([])
        else:
            parts[-1].append(point)
    return [part for part in parts if part]


def _outline(part: Sequence[tuple[float, float, float]], x: Scale, y: Scale) -> str:
    there = [(x(at), y(high)) for at, _, high in part]
    back = [(x(at), y(low)) for at, low, _ in reversed(part)]
    return svg.path_of([*there, *back]) + "Z"


def _lone(points: Sequence[tuple[float, float] | None], look: str) -> Markup:
    """Dots for points that no line reaches."""
    fenced = [None, *points, None]
    lone = [
        here
        for before, here, after in zip(fenced, points, fenced[2:], strict=False)
        if here and not before and not after
    ]
    dots = [svg.el("circle", cx=x, cy=y, r=1.8) for x, y in lone]
    return svg.el("g", *dots, class_=f"dot {look}") if dots else Markup("")


def _bar(x: Scale, y: Scale, bar: tuple[float, float, float, float]) -> str:
    left, right, low, high = x(bar[0]), x(bar[1]), y(bar[2]), y(bar[3])
    if low - high < 0.05:
        return ""
    gap = 0.5 if right - left > 3 else 0.0
    return f"M{svg.px(left + gap)} {svg.px(low)}V{svg.px(high)}H{svg.px(right - gap)}V{svg.px(low)}Z"


def _end_labels(panel: Panel, y: Scale, top: float, bottom: float, size: Size) -> list[Markup]:
    """Names behind the ends of lines, moved apart where they would cover each other."""
    wanted: list[tuple[float, Line]] = []
    for mark in panel.marks:
        if isinstance(mark, Line) and mark.label:
            last = next((value for _, value in reversed(mark.points) if value is not None), None)
            if last is not None:
                wanted.append((y(last) + 4, mark))
    wanted.sort(key=lambda each: each[0])
    placed: list[Markup] = []
    lowest = top - 2
    for number, (at, line) in enumerate(wanted):
        below = 12.5 * (len(wanted) - number - 1)
        lowest = min(max(at, lowest + 12.5), bottom + 4 - below)
        if len(line.label) * LETTER_PX * 1.1 > size.right:
            continue
        placed.append(svg.text(size.width - size.right + 5, lowest, line.label, look=f"end {line.look}"))
    return placed


def x_axis(x: Scale, x_text: TickText, size: Size, at: float, most: int) -> Markup:
    parts = []
    last_right = -1e9
    for tick in x.ticks(most):
        place, label = x(tick), x_text(tick)
        half = len(label) * LETTER_PX / 2
        if place - half < last_right + 6:
            continue
        last_right = place + half
        parts.append(svg.el("line", x1=place, x2=place, y1=at, y2=at + 4, class_="axis"))
        parts.append(svg.text(place, at + 16, label, look="tick", anchor="middle"))
    return svg.join(parts)


def drawing(size: Size, height: float, title: str, description: str, parts: Sequence[Markup]) -> Markup:
    """The SVG element itself, with what it shows in words for whoever does not see it."""
    name = _name(title, size)
    return svg.el(
        "svg",
        svg.el("title", title, id=f"{name}-title"),
        svg.el("desc", description, id=f"{name}-desc"),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {size.width} {svg.px(height)}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        class_="narrow" if size.narrow else "wide",
    )


def _name(title: str, size: Size) -> str:
    """What the elements of a drawing are named after; titles are unique on a page."""
    return f"{svg.slug(title)}-{'narrow' if size.narrow else 'wide'}"


def _clip(name: str, size: Size, top: float, height: float) -> Markup:
    """A little more than the frame: half of a line's width belongs to it."""
    frame = svg.el("rect", x=size.left - 1, y=top - 2, width=size.inner + 2, height=height + 3)
    return svg.el("clipPath", frame, id=name)


# --- panels with an x axis of their own -------------------------------------------------------------------------------


def plot(
    panel: Panel,
    x: Callable[[float, float], Scale],
    x_text: TickText,
    title: str,
    description: str,
    *,
    x_ticks: int = 8,
    legend: Sequence[tuple[str, str, str]] = (),
) -> Chart:
    """One panel. `x` is told the pixels of its left and right end."""

    def drawn(size: Size) -> Markup:
        top = TITLE_PX if panel.title else 8
        across = x(size.left, size.width - size.right)
        clip = f"{_name(title, size)}-frame"
        bottom = top + panel.height
        ticks = x_ticks // 2 + 1 if size.narrow else x_ticks
        uprights = [
            svg.el("line", x1=across(tick), x2=across(tick), y1=top, y2=bottom, class_="grid")
            for tick in across.ticks(ticks)
        ]
        parts = [
            _clip(clip, size, top, panel.height),
            *uprights,
            _drawn_panel(panel, size, across, top, clip),
            x_axis(across, x_text, size, bottom, ticks),
        ]
        return drawing(size, bottom + X_AXIS_PX, title, description, parts)

    return Chart(drawn(WIDE), drawn(NARROW), legend)


# --- panels above each other, over the time of a run ----------------------------------------------------------------


def timeline(
    run: Run,
    panels: Sequence[Panel],
    title: str,
    description: str,
    *,
    columns: Sequence[Column] = (),
    legend: Sequence[tuple[str, str, str]] = (),
    kinds: Sequence[str] = ("price", "purge", "policy"),
) -> Chart:
    """Panels over the seconds of a run, with its phases, its faults and a strip of events below."""

    def drawn(size: Size) -> Markup:
        across = Seconds(length_s(run), size.left, size.width - size.right)
        tops, top = [], float(READOUT_PX)
        for panel in panels:
            top += TITLE_PX if panel.title else 6
            tops.append(top)
            top += panel.height
        strips = [kind for kind in kinds if any(event.kind == kind for event in run.events)]
        bottom = top + (len(strips) * STRIP_PX + 6 if strips else 0)
        parts = [_phases(run, across, size, READOUT_PX, top), _faults(run, across, READOUT_PX, top)]
        for number, (panel, at) in enumerate(zip(panels, tops, strict=True)):
            clip = f"{_name(title, size)}-{number}"
            parts += [_clip(clip, size, at, panel.height), _drawn_panel(panel, size, across, at, clip)]
        parts += [_strip(run, kind, across, size, top + 6 + number * STRIP_PX) for number, kind in enumerate(strips)]
        parts.append(x_axis(across, across.text, size, bottom, 6 if size.narrow else 12))
        if not size.narrow:
            parts.append(_columns(columns, across, size, READOUT_PX, top))
        return drawing(size, bottom + X_AXIS_PX, title, description, parts)

    return Chart(drawn(WIDE), drawn(NARROW), legend)


def _phases(run: Run, x: Scale, size: Size, top: float, bottom: float) -> Markup:
    parts = []
    for phase in run.phases:
        left, right = x(phase.from_s), x(phase.to_s)
        if not phase.counts:
            parts.append(svg.el("rect", x=left, y=top, width=right - left, height=bottom - top, class_="uncounted"))
        if phase.from_s > 0:
            parts.append(svg.el("line", x1=left, x2=left, y1=top - 14, y2=bottom, class_="phase"))
        name = phase.name if phase.counts else f"{phase.name}, not counted"
        room = right - left - 12
        name = name if len(name) * LETTER_PX < room else phase.name
        if len(name) * LETTER_PX < room:
            parts.append(svg.text(left + 4, top - 5, name, look="note"))
    return svg.join(parts)


def length_s(run: Run) -> float:
    """Of the axis of time: to the last second in which anything happened."""
    last = max((second.at_s + 1 for second in run.seconds), default=0)
    return max(run.duration_s, float(last), 1.0)


def fault_windows(run: Run) -> list[tuple[float, float, str]]:
    """From each fault to what healed it, or to the end."""
    found, began = [], None
    for event in sorted(run.events, key=lambda event: event.at_s):
        if event.kind == "fault" and began is None:
            began = event
        elif event.kind == "heal" and began is not None:
            found.append((began.at_s, event.at_s, began.text))
            began = None
    if began is not None:
        found.append((began.at_s, run.duration_s, began.text))
    return found


def _faults(run: Run, x: Scale, top: float, bottom: float) -> Markup:
    parts = []
    for from_s, to_s, words in fault_windows(run):
        left, right = x(from_s), x(to_s)
        parts.append(svg.el("rect", x=left, y=top, width=right - left, height=bottom - top, class_="fault"))
        if len(words) * LETTER_PX < right - left + 30:
            parts.append(svg.text(left + 4, top + 10, words, look="note fault-note"))
    return svg.join(parts)


def _strip(run: Run, kind: str, x: Scale, size: Size, top: float) -> Markup:
    places = sorted({svg.px(x(event.at_s)) for event in run.events if event.kind == kind}, key=float)
    ticks = "".join(f"M{place} {svg.px(top + 2)}v{STRIP_PX - 4}" for place in places)
    return svg.text(size.left - 6, top + 10, kind, look="tick", anchor="end") + svg.el("path", d=ticks, class_="event")


def _columns(columns: Sequence[Column], x: Scale, size: Size, top: float, bottom: float) -> Markup:
    """What is said where the pointer is: without a script, by :hover alone."""
    parts = []
    right = size.width - size.right
    for column in columns:
        left, width = x(column.from_x), x(column.to_x) - x(column.from_x)
        middle = left + width / 2
        parts.append(
            svg.el(
                "g",
                svg.el("rect", x=left, y=0, width=width, height=bottom),
                svg.el("path", d=f"M{svg.px(middle)} {top}V{svg.px(bottom)}"),
                svg.text(right, 12, column.said, look="readout", anchor="end"),
                class_="at",
            )
        )
    cover = svg.el("rect", x=size.left, y=0, width=size.inner, height=top - 1, class_="cover")
    return svg.el("g", cover, *parts, class_="columns", aria_hidden="true") if parts else Markup("")
