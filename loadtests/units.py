"""How figures are written for people: three digits that count, the unit that fits, never a false zero."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What a figure is, and so in which unit it is kept."""

    TIME = "time"
    """Microseconds."""
    SHARE = "share"
    """0 to 1."""
    RATE = "rate"
    """A second."""
    BYTES = "bytes"
    COUNT = "count"


UNITS: dict[str, tuple[Kind, float]] = {
    "us": (Kind.TIME, 1),
    "ms": (Kind.TIME, 1e3),
    "s": (Kind.TIME, 1e6),
    "%": (Kind.SHARE, 0.01),
    "B": (Kind.BYTES, 1),
    "kB": (Kind.BYTES, 1e3),
    "MB": (Kind.BYTES, 1e6),
    "GB": (Kind.BYTES, 1e9),
}
"""Unit -> what it measures, and how much of the kept unit one of it is."""

THIN = "\u202f"
"""Between groups of thousands: narrow, and never broken."""
NO_BREAK = "\u00a0"
MINUS = "\u2212"


def digits(value: float, significant: int = 3) -> str:
    """So many digits that count; all of a whole number's. Zeros after the point are kept: they were measured."""
    if value == 0:
        return "0"
    size = abs(value)
    places = max(0, significant - 1 - _exponent(size, significant))
    text = f"{size:,.{places}f}".replace(",", THIN)
    return MINUS + text if value < 0 else text


def _exponent(size: float, significant: int) -> int:
    """The power of ten of the first digit once rounded: 9.996 is written 10.0."""
    return int(f"{size:.{significant - 1}e}".partition("e")[2])


def time_text(us: float) -> str:
    """A duration in the unit in which it is at least one: `412 us`, `4.21 ms`, `2.00 s`."""
    size = abs(us)
    if size < 999.5:
        return f"{_whole_or(us)}{NO_BREAK}us"
    if size < 999_500:
        return f"{digits(us / 1e3)}{NO_BREAK}ms"
    return f"{digits(us / 1e6)}{NO_BREAK}s"


def _whole_or(us: float) -> str:
    return digits(us) if us != round(us) else count_text(us)


def share_text(share: float) -> str:
    """Percent with a tenth; near the ends, where a tenth hides what matters, with as much as it takes: `99.987 %`."""
    percent = share * 100
    places = 1
    while places < 4 and 0 < share < 1 and f"{percent:.{places}f}" in {f"{0:.{places}f}", f"{100:.{places}f}"}:
        places += 1
    return f"{percent:.{places}f}".replace("-", MINUS) + f"{NO_BREAK}%"


def count_text(value: float) -> str:
    """A whole number in groups of three; one that is not whole with three digits that count."""
    if value == round(value):
        return f"{value:,.0f}".replace(",", THIN).replace("-", MINUS)
    return digits(value)


def rate_text(value: float) -> str:
    return f"{digits(value)}{NO_BREAK}/s"


def bytes_text(value: float) -> str:
    """In steps of a thousand: `812 B`, `30.1 kB`, `64.0 MB`."""
    size = abs(value)
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= 0.9995 * one:
            return f"{digits(value / one)}{NO_BREAK}{unit}"
    return f"{count_text(round(value))}{NO_BREAK}B"


def text_of(value: float, kind: Kind) -> str:
    """A figure of a kind, in that kind's kept unit, with a unit that fits."""
    match kind:
        case Kind.TIME:
            return time_text(value)
        case Kind.SHARE:
            return share_text(value)
        case Kind.RATE:
            return rate_text(value)
        case Kind.BYTES:
            return bytes_text(value)
        case Kind.COUNT:
            return count_text(value)


def in_words(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"


def plural(number: int, one: str, many: str = "") -> str:
    """`1 request`, `1 204 requests`."""
    return f"{count_text(number)} {one if number == 1 else many or one + 's'}"
