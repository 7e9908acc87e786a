"""What became of every round, and whether the promises of a failover were kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtests.statistics import percentiles

WRITES_BACK_S = {"kill": 5.0, "freeze": 12.0}
"""Changes are taken again within this. A killed primary is noticed at once; a frozen one by its silence, and where
nobody may kill it its lease is waited out as well: 5.8 s was the longest that was measured, and this is twice that."""
REFUSED_S = {"kill": 6.0, "freeze": 12.0}
"""No edge refuses prices for longer. After a kill an edge may lose its lease of 2 s, and wait for its next question to
be answered by a new primary; after a freeze the supervisor's lease is waited out first. Measured were 2.5 s at most:
this is twice that and more, and far from for ever."""
READ_WITHIN_S = REFUSED_S["freeze"]
"""Once a change is live, every price can be read at every edge within this."""
LIVE_WITHIN_S = 30.0
"""After the last change, it is reported live within this: nothing is in the first 4 s of an epoch (rule 8)."""


@dataclass(slots=True)
class Round:
    """One loss of the primary."""

    kind: str
    """How it was lost, and by which fences the old one was kept from going on."""
    old: str
    new: str = ""
    writes_back_s: float | None = None
    """From the order of the loss to the first change that was asked for once it was carried out, and acknowledged by
    the new primary; None: none was."""
    opened_s: float | None = None
    """From the supervisor's noticing it to a primary that takes changes."""
    prices_refused_s: float = 0.0
    """From the first to the last refusal to readers of prices, at the edge where that was longest."""
    prices_refused: int = 0
    tail: int = 0
    """Prices that edges had shown, and that the promoted primary does not have."""
    prices_asked: int = 0
    """Prices that were to be read once the last change was live: each watched one at each edge, more than once."""
    prices_read: int = 0
    unread: list[str] = field(default_factory=list)
    """Those of them that an edge did not show in time, and why."""
    ghosts: list[str] = field(default_factory=list)
    """Prices at edges, 2 s after the promotion or later, of changes that are in no history."""
    old_prices: list[str] = field(default_factory=list)
    """Prices at edges, once the last change was live, that the primary does not have any more."""
    not_live: list[str] = field(default_factory=list)
    """The last change, where it was not reported live in time, and why."""
    asked_of_old: int = 0
    """Questions to the old primary after it went on, and changes that may be lost; it may answer these at most."""
    acknowledged_by_old: list[str] = field(default_factory=list)
    answered_by_old: list[str] = field(default_factory=list)
    """Questions that it answered, and changes that it took though they may be lost."""
    may_answer: bool = False
    """Nothing was to keep the old one from that: commits that wait for a standby keep what is to survive."""
    whole_s: float | None = None
    """From the loss until the primary could be lost again."""

    @property
    def sort(self) -> str:
        """`kill` or `freeze`."""
        return self.kind.partition(",")[0].partition(" ")[0]

    @property
    def is_late(self) -> bool:
        return self.writes_back_s is None or self.writes_back_s >= WRITES_BACK_S[self.sort]


@dataclass(slots=True)
class Report:
    """All rounds; times in seconds."""

    seed: int = 0
    rounds: list[Round] = field(default_factory=list)
    page_answers: int = 0
    page_failures: list[str] = field(default_factory=list)
    price_statuses: dict[str, int] = field(default_factory=dict)
    """Status, or `no answer` -> reads."""
    price_failures: list[str] = field(default_factory=list)
    """Reads of prices that were neither answered with 200 nor refused with 503."""
    without_retry_after: int = 0
    """503 to readers of prices that do not say when to come again."""
    refused_outside: int = 0
    """Refusals to readers of prices in none of these rounds: before, between and after. They break no promise."""
    acknowledged: int = 0
    unacknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    """Acknowledged changes that are not in the log any more."""
    tails_asked: int = 0
    tails_tried: int = 0
    tails_spared: int = 0
    """Of these, how often nothing was killed: the standby had been away for too long to be promoted."""
    duration_s: float = 0.0
    ended_early: str = ""
    """Why there were fewer rounds than planned."""

    @property
    def kills(self) -> list[Round]:
        return [each for each in self.rounds if each.sort == "kill"]

    @property
    def tails(self) -> list[Round]:
        return [each for each in self.rounds if each.tail]

    @property
    def freezes(self) -> list[Round]:
        return [each for each in self.rounds if each.sort == "freeze"]

    @property
    def broken(self) -> list[str]:
        """The promises that were not kept, in words."""
        rounds = self.rounds
        answered = [what for each in rounds if not each.may_answer for what in each.answered_by_old]
        found = [
            *(
                (
                    sum(each.is_late for each in rounds if each.sort == sort),
                    f"{sort}s after which no change was taken again within {within_s:g} s",
                )
                for sort, within_s in WRITES_BACK_S.items()
            ),
            (len(self.page_failures), "failed reads of cached pages"),
            (len(self.price_failures), "reads of prices answered with neither 200 nor 503"),
            (self.without_retry_after, "503 without Retry-After"),
            *(
                (
                    sum(each.prices_refused_s > within_s for each in rounds if each.sort == sort),
                    f"{sort}s after which an edge refused prices for more than {within_s:g} s",
                )
                for sort, within_s in REFUSED_S.items()
            ),
            (len(self.lost), "acknowledged changes lost"),
            (sum(len(each.not_live) for each in rounds), f"last changes not reported live within {LIVE_WITHIN_S:g} s"),
            (sum(len(each.ghosts) for each in rounds), "ghosts at edges 2 s after a promotion or later"),
            (sum(len(each.old_prices) for each in rounds), "old prices at edges after live"),
            (
                sum(each.prices_asked - each.prices_read for each in rounds),
                "prices that an edge did not show",
            ),
            (sum(not each.prices_asked for each in rounds), "rounds after which no price was looked at"),
            (sum(len(each.acknowledged_by_old) for each in rounds), "acknowledgements by an old primary"),
            (len(answered), "answers by an old primary that was fenced by more than its commits"),
        ]
        return [f"{count} {what}" for count, what in found if count]

    @property
    def empty(self) -> list[str]:
        """What the run was to try and did not, in words: it does not count."""
        wanting = []
        if not (self.rounds and self.page_answers and self.price_statuses.get("200") and self.acknowledged):
            wanting.append("nothing was lost, read or changed")
        if len(self.tails) < self.tails_asked:
            wanting.append(f"{len(self.tails)} kills lost a tail, and {self.tails_asked} were to: {self.tails_told}")
        asked, answered = self.expected_of_old
        if answered < asked:
            wanting.append(
                f"old primaries that nothing kept from answering were asked {asked} times, and answered {answered}: "
                "of the others it is not known either whether they would have been heard"
            )
        return wanting

    @property
    def tails_told(self) -> str:
        """How often one was to be lost, in words."""
        nothing = self.tails_tried - self.tails_spared - len(self.tails)
        return f"tried {self.tails_tried} times, nothing killed {self.tails_spared}, nothing lost {nothing}"

    @property
    def expected_of_old(self) -> tuple[int, int]:
        """Questions to old primaries that nothing was to keep from answering, and their answers."""
        free = [each for each in self.rounds if each.may_answer]
        return sum(each.asked_of_old for each in free), sum(len(each.answered_by_old) for each in free)

    @property
    def passed(self) -> bool:
        return not self.broken and not self.empty and not self.ended_early

    def to_json(self) -> dict[str, Any]:
        from dataclasses import asdict

        return {**asdict(self), "passed": self.passed, "broken": self.broken, "empty": self.empty}


def render(report: Report) -> str:
    """For people."""
    refused = [each.prices_refused_s for each in report.rounds if each.prices_refused]
    read = sum(each.prices_read for each in report.rounds)
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
        f"reads of prices by status      {_counts(report.price_statuses)}",
        f"  503 for, s                   {_times(refused)} in {len(refused)} rounds",
        f"  503 without Retry-After      {report.without_retry_after}",
        f"  503 outside of rounds        {report.refused_outside}",
        f"changes acknowledged           {report.acknowledged}",
        f"  of them lost                 {len(report.lost)}",
        f"changes not acknowledged       {report.unacknowledged}",
        f"promotions that lost prices    {len(report.tails)} of {report.tails_asked}; {report.tails_told}",
        f"  that edges had shown         {sum(each.tail for each in report.tails)}",
        f"ghosts 2 s after promotion     {sum(len(each.ghosts) for each in report.rounds)}",
        f"prices read at edges           {read} of {sum(each.prices_asked for each in report.rounds)}",
        f"  old after live               {sum(len(each.old_prices) for each in report.rounds)}",
        f"seed {report.seed}, {report.duration_s:.0f} s",
    ]
    details = [
        *report.lost,
        *report.page_failures[:10],
        *report.price_failures[:10],
        *(ghost for each in report.rounds for ghost in each.ghosts),
        *[text for each in report.rounds for text in each.old_prices][:10],
        *[text for each in report.rounds for text in each.unread][:10],
        *(f"not live: {text}" for each in report.rounds for text in each.not_live),
        *(f"{each.old} acknowledged {what}" for each in report.rounds for what in each.acknowledged_by_old),
        *(f"{each.old}, {each.kind}: answered {what}" for each in report.rounds for what in each.answered_by_old),
    ]
    lines += [f"  {detail}" for detail in details]
    lines += [f"BROKEN: {what}" for what in report.broken]
    lines += [f"DOES NOT COUNT: {what}" for what in report.empty]
    lines += [f"NOT ALL ROUNDS: {report.ended_early}"] if report.ended_early else []
    lines.append("PASSED" if report.passed else "FAILED")
    return "\n".join(lines)


def _answers(report: Report) -> str:
    asked = sum(each.asked_of_old for each in report.rounds)
    every = sum(len(each.answered_by_old) for each in report.rounds)
    text = f"{every}" + (f", asked {asked}" if asked else "")
    expected, answered = report.expected_of_old
    return text + (f"; as is expected without kill and lease {answered} of {expected}" if expected else "")


def _times(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    never = len(values) - len(known)
    # In milliseconds, since percentiles are rounded to a tenth.
    found = percentiles([value * 1000 for value in known])
    text = "  ".join(f"{name} {ms / 1000:.2f}" for name, ms in found.items()) or "-"
    return text + (f"  never {never}" if never else "")


def _counts(counts: dict[str, int]) -> str:
    return "  ".join(f"{name} {count}" for name, count in sorted(counts.items()))
