"""What stands behind the admin listener of a site: its purge log, and its workers, each asked over its own socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import httpx
import orjson

from cache_policies.feed import MAX_PURGE_WAIT_S
from edge.gateway.entries import Wanted
from edge.gateway.explain import NoRequest
from edge.gateway.figures import Counts, Figures, Spread
from edge.gateway.purges import Order, PurgeFailed
from edge.gateway.worker_admin import counted_soon, overview_of, worker_figures
from edge.gateway.worker_figures import process_figures
from edge.site.feed import SiteFeed
from edge.site.figures import LOOK_EVERY_S, AddedUp
from edge.site.log import LogUnusable
from edge.site.workers import State, Worker

ASK_S = 6.0
"""How long a worker may take to tell something; it walks its store for three at the most."""
ASK_FIGURES_S = 1.5
"""The same for its figures: a scrape is not kept waiting by a worker that hangs."""
ASK_AGAIN_S = 0.5
_END = b""
_T = TypeVar("_T")


class SiteBehind:
    """A site and all of its workers (`gateway.admin.Behind`). A worker that does not answer is left out."""

    def __init__(self, name: str, feed: SiteFeed, workers: Sequence[Worker]) -> None:
        self._name = name
        self._feed = feed
        self._workers = workers
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._streams: set[asyncio.Queue[bytes]] = set()
        self._added_up = AddedUp(name)
        self._asking = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look at what the workers count, so that little is lost when one of them dies."""
        self._looking = asyncio.get_running_loop().create_task(self._look())

    def end_streams(self) -> None:
        """Who looks at what happens sees no more of it."""
        for messages in self._streams:
            with contextlib.suppress(asyncio.QueueFull):
                messages.put_nowait(_END)

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        for client in self._clients.values():
            await client.aclose()

    def readiness(self) -> tuple[int, dict[str, Any]]:
        ready = sum(worker.state is State.READY for worker in self._workers)
        told = {"status": self._state(ready), "workers": {"ready": ready, "of": len(self._workers)}}
        return (200 if ready else 503), told

    def _state(self, ready: int) -> str:
        return "ready" if ready == len(self._workers) else "degraded" if ready else "starting"

    async def status(self) -> dict[str, Any]:
        told = dict(await self._ask_all(lambda worker: self._get(worker, "/status")))
        return {
            "site": self._name,
            "position": str(self._feed.log.head),
            "log": {
                "start": str(self._feed.log.start),
                "entries": len(self._feed.log.entries),
                "began_anew": self._feed.log.began_anew,
            },
            "workers": [
                {
                    "name": worker.name,
                    "pid": worker.pid,
                    "state": worker.state.value,
                    "restarts": worker.restarts,
                    "applied": None if worker.member is None else str(worker.member.applied),
                    "status": told.get(worker),
                }
                for worker in self._workers
            ],
        }

    async def overview(self) -> dict[str, Any]:
        told = dict(await self._ask_all(lambda worker: self._get(worker, "/status")))
        figures = [
            worker_figures(worker.name, worker.state.value, told.get(worker, _SILENT), worker.restarts)
            for worker in self._workers
        ]
        state = self.readiness()[1]["status"]
        return overview_of(self._name, state, str(self._feed.log.head), figures, list(told.values()))

    async def figures(self) -> Figures:
        await self._ask_figures()
        own = await asyncio.to_thread(process_figures)
        states = [worker.state for worker in self._workers]
        feed, log = self._feed, self._feed.log
        own.counts.add(
            Counts(
                counters={"nearshelf_site_restarts": {(): sum(worker.restarts for worker in self._workers)}},
                spreads={"nearshelf_purge_ack_seconds": {(): Spread(tuple(feed.acks.counts), feed.acks.seconds)}},
            )
        )
        own.gauges["nearshelf_site_workers"] = {(state.value,): states.count(state) for state in State}
        alive = [worker for worker in self._workers if worker.state is State.READY]
        total = self._added_up.total([worker.name for worker in alive], own)
        # Known better here, where the log is kept: a worker that hears nothing does not know how far it is behind, and
        # each of them applies every purge.
        lags = [log.head.cv - worker.member.applied.cv for worker in alive if worker.member is not None]
        total.gauges["nearshelf_purge_lag_messages"] = {(): max(lags, default=0)}
        total.counts.counters["nearshelf_purges"] = {(kind.value,): count for kind, count in feed.entered.items()}
        return total

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self._ask_figures()

    async def _ask_figures(self) -> None:
        """Ask every worker what it has counted. One after the other call, so that no older answer comes last."""
        async with self._asking:
            for worker, figures in await self._ask_all(self._figures_of):
                self._added_up.take(worker.name, figures)

    async def _figures_of(self, worker: Worker) -> Figures:
        answer = await self._client(worker).get("/figures", headers=_token(worker), timeout=ASK_FIGURES_S)
        return Figures.from_json(answer.content)

    async def explain(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What the first worker that answers says of the request; what is held, by all of them."""
        fields = [("field", f"{name}:{value}") for name, value in asked["fields"]]
        asked_for = [("url", asked["url"]), ("method", asked["method"]), ("country", asked["country"]), *fields]
        told = await self._ask_all(lambda worker: self._get(worker, "/explain", asked_for))
        if not told:
            raise NoRequest("no worker answers at the moment")
        found: dict[str, Any] = dict(told[0][1])
        if "error" in found:
            raise NoRequest(found["error"])
        held = _merged([(worker.name, stored) for worker, each in told for stored in each["stored"]], _VARIANT)
        return {**found, "worker": None, "stored": held}

    async def entries(self, wanted: Wanted) -> dict[str, Any]:
        """Those of all workers; what several of them hold alike is one entry, with how many hold it."""
        asked = [
            ("key", wanted.key), ("tag", wanted.tag), ("older", str(wanted.older_s)), ("state", wanted.state),
            ("limit", str(wanted.limit)),
        ]  # fmt: skip
        told = await self._ask_all(lambda worker: self._get(worker, "/entries", asked))
        entries = _merged([(worker.name, entry) for worker, found in told for entry in found["entries"]], _ENTRY)
        return {
            "entries": entries[: wanted.limit],
            "matched": max([len(entries), *(found["matched"] for _, found in told)]),
            "keys": max([0, *(found["keys"] for _, found in told)]),
            "complete": all(found["complete"] for _, found in told),
        }

    async def carrying(self, tags: Sequence[str]) -> int | None:
        """Over all workers: what two of them hold counts twice. None: one of them could not say."""
        body = orjson.dumps({"tags": list(tags)})
        told = await self._ask_all(lambda worker: self._post(worker, "/carrying", body))
        counts: list[int] = [found["objects"] for _, found in told if isinstance(found.get("objects"), int)]
        return sum(counts) if told and len(counts) == len(told) else None

    async def requests(self, limit: int) -> list[dict[str, Any]]:
        told = await self._ask_all(lambda worker: self._get(worker, "/requests", [("limit", str(limit))]))
        found = [{**request, "worker": worker.name} for worker, each in told for request in each["requests"]]
        return sorted(found, key=lambda request: float(request["time"]), reverse=True)[:limit]

    async def live(self) -> AsyncIterator[bytes]:
        """The streams of all workers in one, for as long as somebody takes it; a worker that comes later joins."""
        messages: asyncio.Queue[bytes] = asyncio.Queue(32)

        async def follow(worker: Worker) -> None:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    async with self._client(worker).stream("GET", "/requests/live", headers=_token(worker)) as stream:
                        async for line in stream.aiter_lines():
                            if line.startswith("data: "):
                                await messages.put(_named(line.removeprefix("data: "), worker))
                await asyncio.sleep(ASK_AGAIN_S)

        self._streams.add(messages)
        following = [asyncio.create_task(follow(worker)) for worker in self._workers]
        try:
            while (message := await messages.get()) != _END:
                yield message
        finally:
            self._streams.discard(messages)
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)

    async def purge(self, order: Order, who: str) -> dict[str, Any]:
        counting = await counted_soon(self.carrying(order.tags))
        try:
            done = await self._feed.purge(order.kind, order.tags, who, order.reason, MAX_PURGE_WAIT_S)
        except LogUnusable as exc:
            counting.cancel()
            raise PurgeFailed(str(exc)) from exc
        done["objects"] = await counting
        return done

    # --- asking workers ---

    async def _ask_all(self, ask: Callable[[Worker], Awaitable[_T]]) -> list[tuple[Worker, _T]]:
        """What each worker that is ready and answers says, in their order."""
        ready = [worker for worker in self._workers if worker.state is State.READY]
        told = await asyncio.gather(*(ask(worker) for worker in ready), return_exceptions=True)
        found = []
        for worker, answer in zip(ready, told, strict=True):
            if isinstance(answer, BaseException):
                if not isinstance(answer, httpx.HTTPError | ValueError):
                    raise answer
            else:
                found.append((worker, answer))
        return found

    async def _get(self, worker: Worker, path: str, asked: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
        answer = await self._client(worker).get(path, params=list(asked), headers=_token(worker))
        found: dict[str, Any] = orjson.loads(answer.content)
        return found

    async def _post(self, worker: Worker, path: str, body: bytes) -> dict[str, Any]:
        answer = await self._client(worker).post(path, content=body, headers=_token(worker))
        found: dict[str, Any] = orjson.loads(answer.content)
        return found

    def _client(self, worker: Worker) -> httpx.AsyncClient:
        if worker.name not in self._clients:
            self._clients[worker.name] = httpx.AsyncClient(
                transport=httpx.AsyncHTTPTransport(uds=str(worker.admin)), base_url="http://worker", timeout=ASK_S
            )
        return self._clients[worker.name]


def _named(message: str, worker: Worker) -> bytes:
    """A message of a live stream, the worker called as its site calls it."""
    told = orjson.loads(message)
    for request in told["requests"]:
        request["worker"] = worker.name
    return orjson.dumps(told)


def _token(worker: Worker) -> dict[str, str]:
    return {"authorization": f"Bearer {worker.admin_token}"}


_SILENT: Mapping[str, Any] = {"applied": None, "viewers": 0, "store": {"responses": 0, "size_bytes": 0}}
"""In place of what a worker would have said."""
_ENTRY = ("authority", "target", "market", "vary", "status", "position", "etag", "body_bytes", "tags")
_VARIANT = ("vary", "status", "position", "etag", "tags")
"""What tells two entries apart, whoever holds them."""


def _merged(held: Sequence[tuple[str, dict[str, Any]]], by: Sequence[str]) -> list[dict[str, Any]]:
    """Entries that are alike as one, with who holds it; the one told first speaks for all."""
    found: dict[bytes, dict[str, Any]] = {}
    for name, entry in held:
        identity = orjson.dumps([entry[part] for part in by])
        if identity in found:
            known = found[identity]
            known["held_by"] += f", {name}"
            if "hits" in entry:
                known["hits"] += entry["hits"]
        else:
            found[identity] = {**entry, "held_by": name}
    return list(found.values())
