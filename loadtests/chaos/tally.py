"""What was found in one session or in all of a run, as figures that add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from loadtests.chaos.checkers import ENOUGH_CALM, Verdicts
from loadtests.oracle import Verdict
from loadtests.recorder.histogram import Histogram

KEPT = 50
MADE_AND_NEVER_FELT = 10
"""A kind of fault that was to be made so often and never bit is not one that was tried."""


@dataclass(slots=True)
class Tally:
    """Times as histograms of microseconds."""

    sessions: int = 0
    seconds: float = 0.0
    ended: int = 0
    """Sessions that came to their end, and looked whether everything was as before."""
    over: bool = False
    """The last one did."""
    loads: Counter[str] = field(default_factory=Counter)
    """What went on beside the faults, in words -> in how many sessions."""
    made: Counter[str] = field(default_factory=Counter)
    """Kind of fault -> how many the shop says that it made."""
    refused: Counter[str] = field(default_factory=Counter)
    """Kind -> how many the shop says that it could not make."""
    felt: Counter[str] = field(default_factory=Counter)
    """Kind -> of how many something was seen: these count."""
    answers: int = 0
    """Complete ones and failures."""
    checked: int = 0
    """Answers that showed a price of the run."""
    telling: int = 0
    """Of these, how many could have been wrong."""
    soon: int = 0
    """Of these, how many were asked for right after a change was live (`checkers.SOON_S`)."""
    old_prices: int = 0
    ghosts: int = 0
    other_verdicts: int = 0
    """Prices that were never set, or not yet asked for."""
    unreadable: int = 0
    marked: int = 0
    """Pages that said that their prices were being confirmed."""
    failed: Counter[str] = field(default_factory=Counter)
    """Edge -> answers 4xx and 5xx, or none."""
    calm_s: Counter[str] = field(default_factory=Counter)
    """Edge -> for how many seconds its failures were judged: nothing was broken at it. Whole ones."""
    calm_answers: Counter[str] = field(default_factory=Counter)
    """Edge -> how many answers and failures were judged so; every edge has its entry."""
    confirmed: int = 0
    """Changes and purges."""
    live: int = 0
    never_live: int = 0
    gone: int = 0
    """Confirmed, and lost with a database."""
    repairs: Histogram = field(default_factory=Histogram)
    """Of a worker, since the origin could be asked again."""
    restarts: Histogram = field(default_factory=Histogram)
    """Of a worker that was killed itself, since its first answer."""
    repairs_in_all: Histogram = field(default_factory=Histogram)
    """Since a fault was mended, or a process killed."""
    most_memory_bytes: int = 0
    most_files: int = 0
    """By how much any process has grown."""
    calm: Histogram = field(default_factory=Histogram)
    """From the order of a change to live, while nothing is broken."""
    faulty: Histogram = field(default_factory=Histogram)
    staleness: Histogram = field(default_factory=Histogram)
    wrong: list[str] = field(default_factory=list)
    wrong_count: int = 0

    @classmethod
    def of(cls, verdicts: Verdicts) -> Self:
        promise, purges, availability = verdicts.promise, verdicts.purges, verdicts.availability
        wrong = verdicts.wrong()
        known = (Verdict.OK, Verdict.SUPERSEDED, Verdict.GHOST)
        return cls(
            sessions=1,
            seconds=verdicts.last_at,
            ended=int(verdicts.recovery.ended),
            over=verdicts.recovery.ended,
            loads=Counter({verdicts.session.load: 1}),
            made=+verdicts.bites.made,
            refused=Counter(verdicts.bites.refused),
            felt=Counter(verdicts.bites.felt),
            answers=sum(availability.answered.values()) + sum(availability.failed.values()),
            checked=promise.answers,
            telling=promise.telling,
            soon=promise.soon,
            old_prices=promise.old_prices,
            ghosts=promise.ghosts,
            other_verdicts=sum(count for verdict, count in promise.verdicts.items() if verdict not in known),
            unreadable=promise.unreadable,
            marked=availability.marked,
            failed=Counter(availability.failed),
            calm_s=Counter({edge: round(seconds) for edge, seconds in availability.calm_s.items()}),
            calm_answers=Counter(availability.calm_answers),
            confirmed=purges.confirmed,
            live=purges.live,
            never_live=purges.never_live,
            gone=purges.gone,
            repairs=verdicts.repairs.seconds,
            restarts=verdicts.repairs.restarts,
            repairs_in_all=verdicts.repairs.in_all,
            most_memory_bytes=verdicts.growth.most_memory_bytes,
            most_files=verdicts.growth.most_files,
            calm=verdicts.latencies.calm,
            faulty=verdicts.latencies.faulty,
            staleness=promise.staleness,
            wrong=wrong[:KEPT],
            wrong_count=len(wrong),
        )

    @property
    def faults(self) -> int:
        """Those of which something was seen."""
        return self.felt.total()

    @property
    def unproved(self) -> list[str]:
        """Why nothing was proved, whatever was found; empty: something was."""
        missing = {
            "no fault bit": self.faults,
            "nothing became live": self.live,
            "no answer could have been wrong": self.telling,
            "no repair was seen": self.repairs.count,
            "nobody looked at the end": self.ended and self.over,
        }
        tried = self.made + self.refused
        return [
            *(text for text, count in missing.items() if not count),
            *(
                f"{kind}: tried {count:,} times, made {self.made[kind]:,} times and never seen to bite"
                for kind, count in sorted(tried.items())
                if count >= MADE_AND_NEVER_FELT and not self.felt[kind]
            ),
            *(
                f"edge {edge}: {count:,} answers were asked for while nothing was broken at it"
                for edge, count in sorted(self.calm_answers.items())
                if count < ENOUGH_CALM
            ),
        ]

    @property
    def passed(self) -> bool:
        return not self.unproved and not self.wrong_count

    def add(self, other: Tally) -> None:
        """Count what `other` counted, too."""
        self.over = other.over
        for name in _COUNTERS:
            getattr(self, name).update(getattr(other, name))
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in _MOST:
            setattr(self, name, max(getattr(self, name), getattr(other, name)))
        for name in _HISTOGRAMS:
            getattr(self, name).merge(getattr(other, name))
        self.wrong = (self.wrong + other.wrong)[:KEPT]

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return {
            **{name: getattr(self, name) for name in (*_SUMS, *_MOST)},
            **{name: getattr(self, name).to_json() for name in _HISTOGRAMS},
            **{name: dict(getattr(self, name)) for name in _COUNTERS},
            "over": self.over,
            "wrong": self.wrong,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError for what `to_json` did not write."""
        found = cls(over=bool(value["over"]), wrong=list(value["wrong"]))
        for name in _COUNTERS:
            setattr(found, name, Counter(value[name]))
        for name in (*_SUMS, *_MOST):
            setattr(found, name, value[name])
        for name in _HISTOGRAMS:
            setattr(found, name, Histogram.from_json(value[name]))
        return found


_SUMS = (
    "sessions",
    "ended",
    "seconds",
    "answers",
    "checked",
    "telling",
    "soon",
    "old_prices",
    "ghosts",
    "other_verdicts",
    "unreadable",
    "marked",
    "confirmed",
    "live",
    "never_live",
    "gone",
    "wrong_count",
)
_COUNTERS = ("loads", "made", "refused", "felt", "failed", "calm_s", "calm_answers")
_MOST = ("most_memory_bytes", "most_files")
_HISTOGRAMS = ("repairs", "restarts", "repairs_in_all", "calm", "faulty", "staleness")
