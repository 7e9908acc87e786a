"""What became of every round, and whether the promises of a failover were kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtests.statistics import percentiles

WRITES_BACK_S = 5.0
"""After a kill, changes are taken again within this."""


@dataclass(slots=True)
class Round:
    """One loss of the primary."""

    kind: str
    """How it was lost, and by which fences the old one was kept from going on."""
    old: str
    new: str = ""
    writes_back_s: float | None = None
    """From the loss to the first acknowledged change that was asked for after it; None: none was."""
    opened_s: float | None = None
    """From the supervisor's noticing it to a primary that takes changes."""
    prices_refused_s: float = 0.0
    """From the first to the last 503 to readers of prices."""
    prices_refused: int = 0
    without_retry_after: int = 0
    tail: int = 0
    """Prices that edges had shown, and that the promoted primary does not have."""
    ghosts: list[str] = field(default_factory=list)
    """Prices at edges, 2 s after the promotion, of changes that are in no history."""
    acknowledged_by_old: list[str] = field(default_factory=list)
    answered_by_old: list[str] = field(default_factory=list)
    """Questions that it answered, and changes that it took though they may be lost."""
    may_answer: bool = False
    """Nothing was to keep the old one from that: commits that wait for a standby keep what is to survive."""
    whole_s: float | None = None
    """From the loss until the primary could be lost again."""


@dataclass(slots=True)
class Report:
    """All rounds; times in seconds."""

    seed: int = 0
    rounds: list[Round] = field(default_factory=list)
    page_answers: int = 0
    page_failures: list[str] = field(default_factory=list)
    price_statuses: dict[str, int] = field(default_factory=dict)
    price_failures: list[str] = field(default_factory=list)
    acknowledged: int = 0
    unacknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    """Acknowledged changes that are not in the log any more."""
    duration_s: float = 0.0
    ended_early: str = ""
    """Why there were fewer rounds than planned."""

    @property
    def kills(self) -> list[Round]:
        return [each for each in self.rounds if each.kind.startswith("kill")]

    @property
    def tails(self) -> list[Round]:
        return [each for each in self.rounds if each.tail]

    @property
    def freezes(self) -> list[Round]:
        return [each for each in self.rounds if each.kind.startswith("freeze")]

    @property
    def broken(self) -> list[str]:
        """The promises that were not kept, in words."""
        late = [each for each in self.kills if each.writes_back_s is None or each.writes_back_s >= WRITES_BACK_S]
        ghosts = [ghost for each in self.rounds for ghost in each.ghosts]
        old = [f"{each.old}: {what}" for each in self.rounds for what in each.acknowledged_by_old]
        answered = [what for each in self.rounds if not each.may_answer for what in each.answered_by_old]
        bare = sum(each.without_retry_after for each in self.rounds)
        found = [
            (len(late), f"kills after which changes were taken again only after {WRITES_BACK_S:g} s"),
            (len(self.page_failures), "failed reads of cached pages"),
            (len(self.lost), "acknowledged changes lost"),
            (len(ghosts), "ghosts at edges 2 s after a promotion"),
            (len(old), "acknowledgements by an old primary"),
            (len(answered), "answers by an old primary that was fenced by more than its commits"),
            (bare, "503 without Retry-After"),
        ]
        return [f"{count} {what}" for count, what in found if count]

    @property
    def passed(self) -> bool:
        seen = bool(self.rounds) and self.page_answers > 0 and self.acknowledged > 0
        return seen and not self.broken and not self.ended_early

    def to_json(self) -> dict[str, Any]:
        from dataclasses import asdict

        return {**asdict(self), "passed": self.passed, "broken": self.broken}


def render(report: Report) -> str:
    """For people."""
    refused = [each.prices_refused_s for each in report.rounds if each.prices_refused]
    lines = [
        f"kills of the primary           {len(report.kills)}",
        f"  changes taken again, s       {_times([each.writes_back_s for each in report.kills])}",
        f"freezes of the primary         {len(report.freezes)}"
        + "".join(f"  {kind} {count}" for kind, count in Counter(each.kind for each in report.freezes).items()),
        f"  changes taken again, s       {_times([each.writes_back_s for each in report.freezes])}",
        f"  acknowledged by the old one  {sum(len(each.acknowledged_by_old) for each in report.rounds)}",
        f"  answered by the old one      {_answers(report)}",
        f"supervisor: noticed to open, s {_times([each.opened_s for each in report.rounds])}",
        f"loss to whole again, s         {_times([each.whole_s for each in report.rounds])}",
        f"reads of cached pages          {report.page_answers}, failed {len(report.page_failures)}",
        "reads of prices by status      " + _counts(report.price_statuses) + f"  none {len(report.price_failures)}",
        f"  503 for, s                   {_times(refused)} in {len(refused)} rounds",
        f"  503 without Retry-After      {sum(each.without_retry_after for each in report.rounds)}",
        f"changes acknowledged           {report.acknowledged}",
        f"  of them lost                 {len(report.lost)}",
        f"changes not acknowledged       {report.unacknowledged}",
        f"promotions that lost prices    {len(report.tails)}",
        f"  that edges had shown         {sum(each.tail for each in report.tails)}",
        f"ghosts 2 s after promotion     {sum(len(each.ghosts) for each in report.rounds)}",
        f"seed {report.seed}, {report.duration_s:.0f} s",
    ]
    details = [
        *report.lost,
        *report.page_failures[:10],
        *(ghost for each in report.rounds for ghost in each.ghosts),
        *(f"{each.old} acknowledged {what}" for each in report.rounds for what in each.acknowledged_by_old),
        *(f"{each.old}, {each.kind}: answered {what}" for each in report.rounds for what in each.answered_by_old),
    ]
    lines += [f"  {detail}" for detail in details]
    lines += [f"BROKEN: {what}" for what in report.broken]
    lines += [f"NOT ALL ROUNDS: {report.ended_early}"] if report.ended_early else []
    lines.append("PASSED" if report.passed else "FAILED")
    return "\n".join(lines)


def _answers(report: Report) -> str:
    expected = sum(len(each.answered_by_old) for each in report.rounds if each.may_answer)
    every = sum(len(each.answered_by_old) for each in report.rounds)
    return f"{every}" + (f", of them as is expected without kill and lease {expected}" if expected else "")


def _times(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    never = len(values) - len(known)
    # In milliseconds, since percentiles are rounded to a tenth.
    found = percentiles([value * 1000 for value in known])
    text = "  ".join(f"{name} {ms / 1000:.2f}" for name, ms in found.items()) or "-"
    return text + (f"  never {never}" if never else "")


def _counts(counts: dict[str, int]) -> str:
    return "  ".join(f"{name} {count}" for name, count in sorted(counts.items()))
