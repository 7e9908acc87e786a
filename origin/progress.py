"""How far a change is: the observer's report, what was changed, and the price read back through every edge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cache_policies.markets import Market
from cache_policies.positions import Position
from origin.accounts import audit
from origin.errors import NotFound
from origin.events.entries import LoggedPurge, entry_at
from origin.events.live import LiveReport, LiveState
from origin.events.observer import ReadBack
from origin.money import amount_text
from origin.pricing.service import prices

if TYPE_CHECKING:
    from origin.accounts.audit import AuditEntry
    from origin.shop import Shop

MAX_WAIT_S = 20.0
"""One question about a change is held so long at most."""
MOST_CHANGES = 20
"""Told of what was done at one position. The audit list has all of it."""


class NoSuchChange(NotFound):
    """The purge log has no such position."""

    def __init__(self, position: str) -> None:
        super().__init__(f"there is no change at {position[:40]!r}, or it is so old that the purge log forgot it")


@dataclass(frozen=True, slots=True)
class PriceShown:
    """The price that a change left in one market: what edges should show now."""

    market: Market
    sku: str
    amount: str
    superseded: bool
    """The price has changed again since."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Everything that is known of one change."""

    report: LiveReport
    purge: LoggedPurge | None
    """None: the log does not have it, because it is lost."""
    changes: tuple[AuditEntry, ...]
    """What was done at this position, at most `MOST_CHANGES`: several where prices were set together, or purges merged.
    What whoever asks has done comes first. Empty for what nobody ordered."""
    changes_total: int
    price: PriceShown | None
    read_back: tuple[ReadBack, ...]
    """From each edge, once every worker is done; only for a price: of several, that of `change`."""

    @property
    def change(self) -> AuditEntry | None:
        """What was done; of several, the first."""
        return self.changes[0] if self.changes else None

    @property
    def can_come_further(self) -> bool:
        """Whether looking again may show more: not when live, nor without a standby that could still follow."""
        report = self.report
        return report.state is LiveState.WAITING or (report.state is LiveState.SHOWN and bool(report.standbys))

    @property
    def verdict(self) -> str:
        """One line for people."""
        report = self.report
        workers = f"{report.done} of {len(report.workers)} workers"
        match report.state:
            case LiveState.LIVE:
                return f"live in {report.elapsed_ms:.0f} ms: {workers}"
            case LiveState.SHOWN:
                return f"shown everywhere, not yet replicated: {workers}"
            case LiveState.WAITING:
                return f"on its way: {workers}"
            case LiveState.LOST:
                return "lost: the primary database failed before the change was on the one that took its place"

    def to_json(self) -> dict[str, Any]:
        """As the staff API and the console's script read it (docs/merchandising.md)."""
        report = self.report
        return {
            "position": str(report.position),
            "state": report.state.value,
            "elapsed_ms": report.elapsed_ms,
            "verdict": self.verdict,
            "final": not self.can_come_further,
            "purge": None if self.purge is None else _purge_json(self.purge),
            "change": None if self.change is None else audit_json(self.change),
            "changes": [audit_json(change) for change in self.changes],
            "changes_total": self.changes_total,
            "workers": [
                {
                    "edge": worker.edge,
                    "worker": worker.worker,
                    "outcome": worker.outcome.value,
                    "ms": worker.ms,
                    "url": worker.public_url,
                }
                for worker in report.workers
            ],
            "standbys": [{"name": standby.name, "flushed": standby.flushed} for standby in report.standbys],
            "superseded": self.price is not None and self.price.superseded,
            "read_back": [
                {
                    "edge": read.edge,
                    "url": read.url,
                    "status": read.status,
                    "amount": read.amount,
                    "currency": None if self.price is None else self.price.market.currency,
                    "as_expected": read.as_expected,
                    "cache_status": read.cache_status,
                    "ms": read.ms,
                    "error": read.error,
                }
                for read in self.read_back
            ],
        }


def _purge_json(purge: LoggedPurge) -> dict[str, Any]:
    return {
        "id": purge.entry.id,
        "kind": purge.entry.kind.value,
        "tags": list(purge.entry.tags),
        "cause": purge.cause,
        "actor": purge.actor,
        "at": purge.at.isoformat(),
    }


def audit_json(entry: AuditEntry) -> dict[str, Any]:
    """An entry of the audit list as JSON."""
    return {
        "id": entry.id,
        "at": entry.at.isoformat(),
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "before": entry.before,
        "after": entry.after,
        "reason": entry.reason,
        "purge_id": entry.purge_id,
    }


async def progress_of(shop: Shop, position_text: str, *, asked_by: str, wait_s: float, read_back: bool) -> Progress:
    """How far the change at a position is, after waiting at most `wait_s` for it to become live.

    `asked_by`: whose part in it is told first. `read_back`: also read the price through every edge, once every worker
    is done. Raises WireError for what is no position, NoSuchChange for one that the purge log neither holds nor knows
    to be lost, NotInCharge where it cannot say.
    """
    position = Position.parse(position_text)
    changes: Sequence[AuditEntry] = ()
    total = 0
    async with shop.database.writes.connect() as connection:
        purge = await entry_at(connection, position)
        if purge is not None:
            of_purge = audit.entries_of_purge(connection, purge.entry.id, actor=asked_by, limit=MOST_CHANGES)
            changes, total = await of_purge
    if purge is None and await shop.observer.report(position) is None:
        raise NoSuchChange(position_text)
    report = await shop.observer.wait_live(position, min(max(wait_s, 0.0), MAX_WAIT_S))
    price = await _price_after(shop, changes[0] if changes else None)
    reads: list[ReadBack] = []
    if read_back and price is not None and report.state in {LiveState.LIVE, LiveState.SHOWN}:
        reads = await shop.observer.read_back(report, price.market.id, price.sku, price.amount)
    return Progress(report, purge, tuple(changes), total, price, tuple(reads))


async def _price_after(shop: Shop, change: AuditEntry | None) -> PriceShown | None:
    """The price that edges should show now, if `change` was one of a price."""
    if change is None or not change.action.startswith("price.") or change.after is None:
        return None
    market_id, _, sku = change.subject.partition("/")
    market = shop.markets.by_id(market_id)
    if market is None:
        return None
    async with shop.database.writes.connect() as connection:
        price = (await prices(connection, shop.markets, market, [sku])).get(sku)
    if price is None:
        return None
    amount = amount_text(price.money)
    return PriceShown(market, sku, amount, price.version != change.after.get("version"))
