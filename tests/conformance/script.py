"""What a case is made of: what viewers ask, what the origin answers, and what must come of it.

Plain values. `player.py` plays them; the chapters under `cases/` are written with the short hands at the end.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from http_sf import Token

from tests.conformance.cache_status import last_member


class Kind(StrEnum):
    REQUIRED = "required"
    """A MUST or MUST NOT: who fails it does not conform."""
    OPTIONAL = "optional"
    """A SHOULD, or what a good cache does with what it may do."""
    INFORMATION = "information"
    """Either answer conforms; which one is given is worth knowing."""


REQUIRED, OPTIONAL, INFORMATION = Kind.REQUIRED, Kind.OPTIONAL, Kind.INFORMATION


class Came(StrEnum):
    """Where an answer must have come from, judged by what reached the origin and which of its answers is shown."""

    STORE = "store"
    """Nothing reached the origin."""
    ORIGIN = "origin"
    """What the origin answered to this very request."""
    VALIDATED = "validated"
    """A stored answer, after the origin said 304 to a conditional request."""
    ASKED = "asked"
    """Origin or validated: nothing was shown before the origin had been asked."""
    BEHIND = "behind"
    """A stored answer, shown before the origin had answered; the origin may have been asked behind it."""
    FALLBACK = "fallback"
    """A stored answer, after the origin was asked and failed."""
    FAILED = "failed"
    """An error or a cut: the origin was asked and failed, and nothing of it, nor anything stored, passes as whole."""
    ITSELF = "itself"
    """An answer of the cache's own making: nothing reached the origin, and nothing of its is shown."""
    ANY = "any"


class Place(Protocol):
    """Where and when a case is played."""

    began: float
    authority: str
    """The cache's, as viewers name it."""

    @property
    def path(self) -> str: ...


@dataclass(frozen=True, slots=True)
class At:
    """A moment, as text: seconds from the beginning of the case, in the format of RFC 9110 §5.6.7 or another."""

    offset_s: int
    form: str = "%a, %d %b %Y %H:%M:%S GMT"

    def text(self, place: Place) -> str:
        return time.strftime(self.form, time.gmtime(place.began + self.offset_s))


@dataclass(frozen=True, slots=True)
class Here:
    """An address of the case itself: its path with `target` added."""

    target: str = ""
    form: str = "{path}"
    """`{path}` stands for it, `{authority}` for the cache's host and port, `{name}` for a word of this case alone."""

    def text(self, place: Place) -> str:
        return self.form.format(path=place.path + self.target, authority=place.authority, name=place.path[1:])


RFC_850 = "%A, %d-%b-%y %H:%M:%S GMT"
ASCTIME = "%a %b %e %H:%M:%S %Y"

Value = str | At | Here
Field = tuple[str, Value]


def text_of(value: Value, place: Place) -> str:
    return value if isinstance(value, str) else value.text(place)


class Framing(StrEnum):
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


class Break(StrEnum):
    REFUSE = "refuse"
    """The origin's port is closed."""
    RESET = "reset"
    """The connection is reset when the request has come."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the origin answers when it is asked. To each final answer it adds a serial number of its own."""

    status: int = 200
    fields: tuple[Field, ...] = ()
    body: bytes | None = None
    """None: a line that names the case and the serial number."""
    date: bool = True
    """Whether the present is added as Date where `fields` have none."""
    framing: Framing = Framing.LENGTH
    interim: tuple[tuple[int, tuple[Field, ...]], ...] = ()
    """What is sent before: (103, fields)."""
    delay_s: float = 0.0
    """Until the head is sent."""
    pause_s: float = 0.0
    """In the middle of the body."""
    cut_after: int | None = None
    """Bytes of the body after which the connection ends."""
    breaks: Break | None = None
    raw: bytes | None = None
    """Sent as it is, with `{serial}` and `{date}` filled in, and the connection closed after it."""
    unranged: Answer | None = None
    """What is sent instead when the request has no Range: not every cache forwards it."""
    when_conditional: tuple[Field, ...] | None = None
    """Fields of the 304 that is sent instead when the request has If-None-Match or If-Modified-Since."""

    def or_304(self, *fields: Field) -> Answer:
        return replace(self, when_conditional=fields)

    def but(self, **changed: object) -> Answer:
        return replace(self, **changed)  # type: ignore[arg-type]  # any of its fields


class Check(Protocol):
    def fault(self, values: list[str], place: Place) -> str | None:
        """What is wrong with the lines of a field; None when nothing is. No lines: the field is not there."""


@dataclass(frozen=True, slots=True)
class Is:
    """The lines, joined, are exactly this."""

    value: Value

    def fault(self, values: list[str], place: Place) -> str | None:
        expected = text_of(self.value, place)
        found = ", ".join(values)
        return None if values and found == expected else f"expected {expected!r}, found {found if values else None!r}"


@dataclass(frozen=True, slots=True)
class Absent:
    def fault(self, values: list[str], place: Place) -> str | None:
        return f"expected none, found {values!r}" if values else None


@dataclass(frozen=True, slots=True)
class Present:
    def fault(self, values: list[str], place: Place) -> str | None:
        return None if values else "expected one, found none"


@dataclass(frozen=True, slots=True)
class Without:
    """None of the lines holds this text; the field may be missing."""

    text: str

    def fault(self, values: list[str], place: Place) -> str | None:
        return f"expected no {self.text!r} in {values!r}" if any(self.text in value for value in values) else None


@dataclass(frozen=True, slots=True)
class Matching:
    """The lines, joined, match a regular expression somewhere."""

    pattern: str

    def fault(self, values: list[str], place: Place) -> str | None:
        found = ", ".join(values)
        return None if values and re.search(self.pattern, found) else f"expected /{self.pattern}/, found {found!r}"


@dataclass(frozen=True, slots=True)
class Lines:
    """So many lines, in this order."""

    values: tuple[str, ...]

    def fault(self, values: list[str], place: Place) -> str | None:
        return None if tuple(values) == self.values else f"expected the lines {self.values!r}, found {values!r}"


@dataclass(frozen=True, slots=True)
class Once:
    def fault(self, values: list[str], place: Place) -> str | None:
        return None if len(values) == 1 else f"expected one line, found {values!r}"


@dataclass(frozen=True, slots=True)
class Between:
    """One line that is a whole number from `low` to `high`."""

    low: int
    high: int

    def fault(self, values: list[str], place: Place) -> str | None:
        if len(values) == 1 and values[0].isascii() and values[0].isdigit() and self.low <= int(values[0]) <= self.high:
            return None
        return f"expected one number from {self.low} to {self.high}, found {values!r}"


@dataclass(frozen=True, slots=True)
class Status:
    """The last member of Cache-Status has these parameters: a value, one of several, or one in a range; None: it has no
    such parameter."""

    parameters: Mapping[str, object]

    def fault(self, values: list[str], place: Place) -> str | None:
        found = last_member(values)
        if found is None:
            return f"not a list of structured fields: {values!r}"
        for name, expected in self.parameters.items():
            value = found.get(name)
            value = str(value) if isinstance(value, Token) else value
            if isinstance(expected, range):
                matches = isinstance(value, int) and value in expected
            elif isinstance(expected, tuple):
                matches = value in expected
            else:
                matches = value == expected
            if not matches:
                return f"expected {name}={expected!r} in {values!r}"
        return None


Checks = Mapping[str, "Check | Value | None"]
"""By field name. Text and moments mean Is, None means Absent."""


def check_of(expected: Check | Value | None) -> Check:
    if expected is None:
        return Absent()
    return Is(expected) if isinstance(expected, str | At | Here) else expected


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of a viewer on a connection of its own, and what must come of it."""

    answers: tuple[Answer, ...] = ()
    """What the origin answers, the first to the first request and so on, the last to all others. Empty: an answer
    that nobody may keep."""
    came: Came = Came.ANY
    method: str = "GET"
    target: str = ""
    """What is added to the path of the case: `/other`, `?a=1`."""
    fields: tuple[Field, ...] = ()
    body: bytes = b""
    chunked: bool = False
    """Whether the body is sent in chunks."""
    host: str = "127.0.0.1"
    """Without its port, which is the cache's."""
    version: str = "HTTP/1.1"
    status: tuple[int, ...] = ()
    """Empty: that of the answer which is shown, or 200."""
    has: Checks = field(default_factory=dict)
    """What its fields must be."""
    shows: bytes | None = None
    """The body it must have; None: that of the origin's answer which it shows."""
    contains: bytes = b""
    """What the body must hold somewhere, without regard to case."""
    of: tuple[int, ...] = ()
    """Serial numbers of the answers that it may show; empty: any."""
    saw: Checks = field(default_factory=dict)
    """What the fields of the last request that the origin got for it must be."""
    saw_method: str = ""
    saw_body: bytes | None = None
    asked: tuple[int, int] | None = None
    """How many requests reach the origin until the answer is complete: at least, at most."""
    interim: tuple[tuple[int, Checks], ...] | None = None
    """The interim responses; None: any."""
    interim_within_s: float | None = None
    """By when the last of them must have come."""
    unfolded: bool = False
    """Whether no line of the head may begin with a blank."""
    parts: tuple[tuple[str, bytes], ...] | None = None
    """The parts of multipart/byteranges: Content-Range and bytes."""
    streams: bool = False
    """Whether the first byte of the body must come before the origin has sent the last one."""
    within_s: float | None = None
    before_s: float = 0.0
    """Pause before it is sent."""
    after_purge: bool = False
    """Whether it is sent once the purge of its `Together` was acknowledged."""
    hangs_up_after_s: float | None = None
    given: bool = False
    """Whether this only leads up to what is tested: if it does not come about, nothing is said of the rest."""

    @property
    def breaks(self) -> bool:
        """Whether the origin does what makes some caches leave it alone for a while."""
        return any((answer.breaks or answer.raw or answer.cut_after) is not None for answer in self.answers)

    @property
    def refuses(self) -> bool:
        return any(answer.breaks is Break.REFUSE for answer in self.answers)


@dataclass(frozen=True, slots=True)
class Purge:
    """Purge by the cache's own command; a tag gets `-` and the case's name added, so that cases do not meet."""

    tags: tuple[str, ...] = ()
    target: str | None = None
    soft: bool = False


@dataclass(frozen=True, slots=True)
class Together:
    """Requests that are under way at the same time. The same target's answers stand at the first of them."""

    asks: tuple[Ask, ...]
    asked: tuple[int, int] | None = None
    """How many requests reach the origin for all of them: at least, at most."""
    alike: bool = False
    """Whether all must show one and the same answer of the origin."""
    apart: bool = False
    """Whether no two may show the same answer of the origin."""
    within_s: float | None = None
    """From the first request to the end of the last answer."""
    purge: Purge | None = None
    """Carried out, and acknowledged, `purge_after_s` after the first request."""
    purge_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Landed:
    """Wait until the origin has answered so many requests of this case, in all."""

    answers: int
    within_s: float = 3.0


Step = Ask | Together | Pause | Landed | Purge


class Feature(StrEnum):
    """What a cache may or may not offer at all; who does not is not held to it."""

    TARGETED = "targeted fields (RFC 9213)"
    CACHE_STATUS = "Cache-Status (RFC 9211)"
    GROUPS = "cache groups (RFC 9875)"
    PURGE = "purge by tag"
    NO_TARGETED = "is no CDN in the sense of RFC 9213"


@dataclass(frozen=True, slots=True)
class Case:
    id: str
    anchor: str
    """RFC and section: `9111 §4.2.1`."""
    kind: Kind
    says: str
    """What is tested, as a sentence about the cache."""
    steps: tuple[Step, ...]
    needs: Feature | None = None

    @property
    def asks(self) -> tuple[Ask, ...]:
        """Every request in it."""
        found: list[Ask] = []
        for step in self.steps:
            found.extend(step.asks if isinstance(step, Together) else [step] if isinstance(step, Ask) else [])
        return tuple(found)

    @property
    def breaks(self) -> bool:
        """Whether the origin fails in it; such cases are played by themselves."""
        return any(ask.breaks for ask in self.asks)


# --- short hands ------------------------------------------------------------------------------------------------------


def case(name: str, anchor: str, kind: Kind, says: str, *steps: Step, needs: Feature | None = None) -> Case:
    return Case(name, anchor, kind, says, steps, needs)


def ok(*fields: Field, status: int = 200, body: bytes | None = None) -> Answer:
    return Answer(status, fields, body)


def cc(value: str, *fields: Field, status: int = 200, body: bytes | None = None) -> Answer:
    """An answer with this Cache-Control."""
    return Answer(status, (("Cache-Control", value), *fields), body)


def ask(*answers: Answer, came: Came = Came.ORIGIN, **others: object) -> Ask:
    return Ask(answers, came, **_tidied(others))  # type: ignore[arg-type]  # fields of Ask


def fill(*answers: Answer, **others: object) -> Ask:
    """The first request of a case, which leads up to what is tested."""
    return Ask(answers, Came.ORIGIN, given=True, **_tidied(others))  # type: ignore[arg-type]  # fields of Ask


def again(came: Came = Came.STORE, *answers: Answer, **others: object) -> Ask:
    return Ask(answers, came, **_tidied(others))  # type: ignore[arg-type]  # fields of Ask


def _tidied(others: dict[str, object]) -> dict[str, object]:
    """One status, one serial number, one count of requests may be written without its brackets."""
    if isinstance(status := others.get("status"), int):
        others["status"] = (status,)
    if isinstance(serial := others.get("of"), int):
        others["of"] = (serial,)
    if isinstance(count := others.get("asked"), int):
        others["asked"] = (count, count)
    return others


RESET = Answer(breaks=Break.RESET)
REFUSE = Answer(breaks=Break.REFUSE)
FRESH = cc("max-age=3600")
STALE_IN_S = 2.1
"""After this pause `max-age=1` has passed, also for caches that count whole seconds."""


def grown_stale(
    *fields: Field, body: bytes | None = None, status: int = 200, says: str = "", **others: object
) -> tuple[Step, ...]:
    """Something is stored, and has become stale: by waiting, so that caches which ignore Age get as far as others."""
    return (fill(cc(f"max-age=1{says}", *fields, body=body, status=status), **others), Pause(STALE_IN_S))
