"""Who saw which price when: flags a price that was already replaced when somebody asked for it.

Pure: no clock, no I/O. Every time is in seconds of one monotonic clock, that of the process that judges. It changes
prices itself (or through its merchandisers), so it knows each price's history; it notes when a change was *reported*
live, which is never before it was live; and it notes when a request was *sent*, which is never after the edge decided
what to answer. So an old price in the answer to a request sent at or after the report is a broken promise of the edge,
whatever the machine's scheduling did in between.

Every amount given to one price must be new to it: the amount then says which change an answer shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class PriceKey(NamedTuple):
    """One price: of a SKU, product or variant, in one market."""

    market: str
    sku: str


class Verdict(StrEnum):
    OK = "ok"
    """The price of before a change not yet live, or of one that nothing live has replaced."""
    SUPERSEDED = "superseded"
    """Replaced by a change that had been reported live before the request was sent."""
    ALIEN = "alien"
    """Never this price's amount: another product's or market's, or somebody else changes prices too."""
    UNBORN = "unborn"
    """The amount of a change whose commit had not been asked for when the answer had arrived."""
    GHOST = "ghost"
    """The amount of a change that was certainly not in the shop any more when the request was sent."""


@dataclass(slots=True)
class Change:
    """One amount in the history of a price."""

    key: PriceKey
    amount: int
    """Minor units of the market's currency."""
    begun_at: float
    """When its commit was about to be asked for; it can be seen from then on."""
    committed_at: float | None = None
    """When the shop had confirmed its commit, which is after it."""
    live_at: float | None = None
    """When it was reported live (or shown everywhere)."""
    refused: bool = False
    """Certainly not committed: nobody may see it."""
    gone_at: float | None = None
    """When it was certain that the shop does not have it: a database that failed over may have shown it before."""


@dataclass(frozen=True, slots=True)
class Judgement:
    verdict: Verdict
    vacuous: bool
    """Nothing about this price had ever become live: no answer could have been wrong."""
    superseded_by: Change | None = None
    """The latest live change that the answer should have shown, or something newer."""
    replaced_s: float = 0.0
    """How long before the request was sent the shown amount had been replaced by a live change, seconds."""
    stale_s: float | None = None
    """How long before the answer arrived the commit of what replaced the shown amount had been confirmed, live or not,
    seconds; None when nothing had."""


@dataclass(slots=True)
class _History:
    initial: int | None = None
    changes: list[Change] = field(default_factory=list)


class Oracle:
    """The history of every price that this process changes, and the judge of what is shown."""

    def __init__(self) -> None:
        self._histories: dict[PriceKey, _History] = {}

    def __contains__(self, key: PriceKey) -> bool:
        return key in self._histories

    def start(self, key: PriceKey, amount: int | None) -> None:
        """Watch a price that shows `amount` before its first change; None: not known, so any amount may be it."""
        if key in self._histories:
            raise ValueError(f"{key} is watched already")
        self._histories[key] = _History(initial=amount)

    def began(self, key: PriceKey, amount: int, at: float) -> Change:
        """A commit is about to be asked for. One at a time per price: order of calls is order of commits.

        Raises ValueError when the price is not watched, or had this amount before.
        """
        history = self._histories.get(key)
        if history is None:
            raise ValueError(f"{key} is not watched")
        if self.had(key, amount):
            raise ValueError(f"{key} had the amount {amount} before: an answer could not be told apart")
        change = Change(key, amount, at)
        history.changes.append(change)
        return change

    @staticmethod
    def committed(change: Change, at: float) -> None:
        """The shop confirmed that the change is committed."""
        change.committed_at = at

    @staticmethod
    def live(change: Change, at: float) -> None:
        """The shop reported the change live (or shown everywhere); the first report counts."""
        if change.live_at is None:
            change.live_at = at

    @staticmethod
    def refused(change: Change) -> None:
        """The shop refused the change, and so cannot have committed it."""
        change.refused = True

    @staticmethod
    def gone(change: Change, at: float) -> None:
        """The shop does not have the change, and never will again."""
        change.gone_at = at

    def initial(self, key: PriceKey) -> int | None:
        """The amount before the first change, where it is known."""
        return self._histories[key].initial

    def current(self, key: PriceKey) -> int | None:
        """The amount that was asked for last, or the initial one."""
        history = self._histories[key]
        for change in reversed(history.changes):
            if not change.refused and change.gone_at is None:
                return change.amount
        return history.initial

    def had(self, key: PriceKey, amount: int) -> bool:
        """Whether a price has, or had, this amount: it could not be told apart as the amount of another change."""
        history = self._histories[key]
        return amount == history.initial or any(change.amount == amount for change in history.changes)

    def is_shown(self, change: Change, amount: int) -> bool:
        """Whether an answer with `amount` shows the change, or one after it."""
        changes = self._histories[change.key].changes
        return any(later.amount == amount for later in changes[changes.index(change) :])

    def judge(self, key: PriceKey, amount: int, sent_at: float, received_at: float) -> Judgement | None:
        """Whether an answer that shows `amount` to a request sent at `sent_at` keeps the promise.

        None when the price is not watched. A change that replaced the shown amount without ever being reported live
        proves nothing; one after it that was does.
        """
        history = self._histories.get(key)
        if history is None:
            return None
        # From the end: what an answer shows is nearly always among the latest of a long history.
        backwards = range(len(history.changes) - 1, -1, -1)
        live_ats = ((i, history.changes[i].live_at) for i in backwards)
        latest_live = next((i for i, live_at in live_ats if live_at is not None and live_at <= sent_at), -1)
        vacuous = latest_live < 0
        shown = next((i for i in backwards if history.changes[i].amount == amount), None)
        if shown is None:
            if history.initial is not None and amount != history.initial:
                return Judgement(Verdict.ALIEN, vacuous)
            shown = -1
        elif history.changes[shown].refused:
            return Judgement(Verdict.ALIEN, vacuous)
        elif history.changes[shown].begun_at > received_at:
            return Judgement(Verdict.UNBORN, vacuous)
        elif (gone_at := history.changes[shown].gone_at) is not None and gone_at <= sent_at:
            return Judgement(Verdict.GHOST, vacuous=False)
        confirmed_at = next(
            (
                change.committed_at
                for change in history.changes[shown + 1 :]
                if change.committed_at is not None and change.committed_at <= received_at
            ),
            None,
        )
        stale_s = None if confirmed_at is None else received_at - confirmed_at
        if shown >= latest_live:
            return Judgement(Verdict.OK, vacuous, stale_s=stale_s)
        replaced_at = min(
            change.live_at
            for change in history.changes[shown + 1 : latest_live + 1]
            if change.live_at is not None and change.live_at <= sent_at
        )
        return Judgement(
            Verdict.SUPERSEDED,
            vacuous=False,
            superseded_by=history.changes[latest_live],
            replaced_s=sent_at - replaced_at,
            stale_s=stale_s,
        )
