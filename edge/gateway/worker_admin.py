"""What stands behind the admin listener of one worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import httpx
import orjson

from cache_policies.feed import MAX_PURGE_WAIT_S, PURGE_PATH, PurgeWish
from edge.gateway.entries import Entries, Wanted
from edge.gateway.explain import described_request
from edge.gateway.figures import Figures
from edge.gateway.purges import Order, PurgeFailed
from edge.gateway.recent import Recent
from edge.gateway.worker_figures import figures_of

if TYPE_CHECKING:
    from edge.gateway.app import Gateway

COUNT_FIRST_S = 0.05


class WorkerBehind:
    """One worker (`admin.Behind`). `keeper` speaks to whoever keeps the purge log, with patience for a whole purge."""

    def __init__(self, gateway: Gateway, entries: Entries, recent: Recent, keeper: httpx.AsyncClient) -> None:
        self._gateway = gateway
        self._entries = entries
        self._recent = recent
        self._keeper = keeper

    def readiness(self) -> tuple[int, dict[str, Any]]:
        # An edge whose origin is down stays ready: taking it out of service would turn stale pages into no pages.
        if not self._gateway.follower.caught_up:
            return 503, {"status": "starting", "why": "the purge log has not been applied yet"}
        if not self._gateway.holds_lease:
            return 200, {"status": "degraded", "why": "the lease has lapsed: nothing is served as fresh"}
        return 200, {"status": "ready"}

    async def status(self) -> dict[str, Any]:
        return self._gateway.status()

    async def overview(self) -> dict[str, Any]:
        _, ready = self.readiness()
        status = self._gateway.status()
        worker = worker_figures(status["worker"][:6], ready["status"], status)
        return overview_of(status["edge"], ready["status"], status["applied"], [worker], [status])

    async def figures(self) -> Figures:
        return await figures_of(self._gateway)

    async def explain(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        described = described_request(asked["url"], asked["method"], asked["fields"])
        return self._gateway.explain(described, asked["country"])

    async def entries(self, wanted: Wanted) -> dict[str, Any]:
        return await self._entries.find(wanted)

    async def carrying(self, tags: Sequence[str]) -> int | None:
        return await self._entries.carrying(tags)

    async def requests(self, limit: int) -> list[dict[str, Any]]:
        return self._recent.latest(limit)

    async def live(self) -> AsyncIterator[bytes]:
        async for message in self._recent.live():
            yield orjson.dumps(message)

    async def purge(self, order: Order, who: str) -> dict[str, Any]:
        """Into the log that this worker follows, the origin's or the site's: whoever follows it applies it, too."""
        reason = " ".join(part for part in (order.reason, f"ordered from {who}") if part)[:500]
        wish = PurgeWish(self._gateway.settings.edge, order.kind, order.tags, reason, MAX_PURGE_WAIT_S)
        counting = await counted_soon(self._entries.carrying(order.tags))
        try:
            answer = await self._keeper.post(PURGE_PATH, content=wish.to_json())
        except httpx.HTTPError as exc:
            counting.cancel()
            why = str(exc) or type(exc).__name__
            raise PurgeFailed(f"the purge log did not answer ({why}): purged or not, order it again", 504) from exc
        done: dict[str, Any] = _object(answer.content)
        if not answer.is_success:
            counting.cancel()
            why = done.get("detail") or done.get("title") or f"status {answer.status_code}"
            raise PurgeFailed(f"nothing was purged: {why}", 400 if answer.status_code < 500 else 503)
        if not done.keys() >= _TOLD_OF_A_PURGE:
            counting.cancel()
            raise PurgeFailed("the purge log's answer cannot be read: purged or not, order it again", 502)
        done["objects"] = await counting
        return done


_TOLD_OF_A_PURGE = frozenset({"kind", "live", "position", "seconds", "tags", "workers"})
"""What the keeper of a log says of a purge that it has entered (docs/wire.md)."""


async def counted_soon(count: Coroutine[Any, Any, int | None]) -> asyncio.Task[int | None]:
    """The count of what a purge applies to, begun before it: what is purged is soon forgotten. Waits for it for
    COUNT_FIRST_S; of a store that takes longer, the purge is not kept waiting."""
    counting = asyncio.create_task(count)
    await asyncio.wait({counting}, timeout=COUNT_FIRST_S)
    return counting


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def worker_figures(name: str, state: str, status: Mapping[str, Any], restarts: int = 0) -> dict[str, Any]:
    """A worker's line in the overview, from its `/status`."""
    store = status["store"]
    return {
        "name": name,
        "state": state,
        "applied": status["applied"],
        "responses": store["responses"],
        "size_bytes": store["size_bytes"],
        "viewers": status["viewers"],
        "restarts": restarts,
    }


def overview_of(
    name: str,
    state: str,
    position: str | None,
    workers: Sequence[Mapping[str, Any]],
    statuses: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The figures of the front page: those of all workers that answered, added up."""
    outcomes: dict[str, int] = {}
    for status in statuses:
        for ended, count in status["cache"].items():
            outcome = ended.partition(":")[0]
            outcomes[outcome] = outcomes.get(outcome, 0) + count
    return {
        "name": name,
        "state": state,
        "position": position,
        "workers": list(workers),
        "outcomes": {outcome: count for outcome, count in outcomes.items() if count},
        "bytes_sent": sum(status["bytes_sent"] for status in statuses),
        **{
            figure: sum(status["store"][figure] for status in statuses)
            for figure in ("keys", "responses", "size_bytes", "max_bytes")
        },
    }
