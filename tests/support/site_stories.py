"""Stories told to a running site: an answer of the origin is held, a purge overtakes it, and who sees what.

A stage is the site with everything that looks at it; a story is one address before it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache_policies.positions import Position
from tests.support.raw_http import RawResponse
from tests.support.scripted_origin import Held, Reply, ScriptedOrigin, Seen
from tests.support.site import RunningSite
from tests.support.site_viewers import HOST, Ear, Pinned, Records, Viewers, until

NEW = b"new"


def says(body: bytes, tag: str, cache_control: str = "max-age=600", **more: str) -> Reply:
    fields = {"cache-control": cache_control, "cache-tag": tag, "content-type": "text/plain"}
    return Reply(body, headers=fields | {name.replace("_", "-"): value for name, value in more.items()})


@dataclass
class Stage:
    """A running site with everything that looks at it. `ear` is None with one worker, `records` without a tier."""

    site: RunningSite
    origin: ScriptedOrigin
    viewers: Viewers
    ear: Ear | None
    records: Records | None

    async def reaches_its_tier(self) -> None:
        """Returns once every worker does."""

        async def is_reached() -> bool:
            workers = (await self.site.status())["workers"]
            return all(worker["status"] and worker["status"]["regional"]["up"] for worker in workers)

        if self.records is not None:
            await until(is_reached, "every worker reaches the tier")

    @property
    def first(self) -> str:
        """The worker that leads."""
        return self.viewers.names[0]

    @property
    def other(self) -> str:
        """Another one, where there is one."""
        return self.viewers.names[-1]


class Story:
    """One address with a tag of its own. `old` must not be kept by anybody once it was purged."""

    def __init__(self, stage: Stage, name: str, old: bytes = b"old page") -> None:
        self.stage = stage
        self.origin = stage.origin
        self.viewers = stage.viewers
        self.tag = name
        self.path = f"/{name}"
        self.old = old
        self.live: Position | None = None
        self._heard_before = 0

    def says_old(self, cache_control: str = "max-age=600", **more: str) -> Reply:
        return says(self.old, self.tag, cache_control, **more)

    def says_new(self, **more: str) -> Reply:
        return says(NEW, self.tag, **more)

    async def asking(self, worker: str, *lines: str, method: str = "GET") -> Pinned:
        """A viewer of `worker` who waits for an answer."""
        viewer = await self.viewers.another(worker)
        viewer.send(self.path, *lines, method=method)
        return viewer

    async def ask(self, worker: str, *lines: str, method: str = "GET") -> RawResponse:
        return await self.viewers.at[worker].ask(self.path, *lines, method=method)

    def is_old_from_here_on(self) -> None:
        """Whatever is told of what is old after this is too much."""
        self._heard_before = self._told_old()

    async def purge(self, new: Reply | Callable[[Seen], Reply], **order: Any) -> None:
        """From here on the origin says `new`; returns when the purge is live at every worker."""
        self.is_old_from_here_on()
        self.origin.on(self.path, new)
        done = await self.stage.site.purge(**(order or {"tags": [self.tag]}))
        assert done["live"], done
        assert {worker["outcome"] for worker in done["workers"]} == {"applied"}, done
        assert len(done["workers"]) == len(self.viewers.names)
        self.live = Position.parse(done["position"])

    async def let_go(self, held: Held, old: Reply, *waiting: Pinned, status: int = 200) -> None:
        """What was held comes; whoever asked before the purge may have either."""
        held.answer(old)
        for viewer in waiting:
            response = await viewer.response()
            assert response.status in {200, 206, status}, (self.tag, response)
        await self.is_new_everywhere()

    async def is_new_everywhere(self, status: int = 200) -> None:
        """From every worker, and from its store the second time."""
        await self.viewers.have_read_everything()
        for worker in self.viewers.names:
            for response in (await self.ask(worker), again := await self.ask(worker)):
                assert (response.status, response.body) == (status, NEW), (self.tag, worker, response)
            assert again.is_hit, (self.tag, worker, again)
        await self.is_kept_nowhere()

    async def is_kept_nowhere(self) -> None:
        """What was read before the purge is in no store, no message to a sibling and no record of the tier."""
        assert self._told_old() == self._heard_before, self.tag
        found = (await self.stage.site.client.get("/entries", params={"key": self.path, "limit": "50"})).json()
        assert found["complete"]
        entries = [entry for entry in found["entries"] if entry["target"] == self.path and entry["state"] != "purged"]
        assert entries, self.tag
        for entry in entries:
            assert entry["body_bytes"] == len(NEW), (self.tag, entry)
            assert self.live is None or Position.parse(entry["position"]) >= self.live, (self.tag, entry)
        records = self.stage.records
        if records is not None:

            async def holds_the_new_one_only() -> bool:
                return [stored.body for stored in await records.of(self.path)] == [NEW]

            await until(holds_the_new_one_only, f"the tier holds nothing but what is new of {self.path}")

    def _told_old(self) -> int:
        ear = self.stage.ear
        return 0 if ear is None else sum(heard.body == self.old for heard in ear.stored(self.path))


@contextlib.asynccontextmanager
async def staged(
    folder: Path, origin: ScriptedOrigin, *, workers: int, tier: str | None = None
) -> AsyncIterator[Stage]:
    """A site before `origin` that is watched, ready with all of its workers and its tier."""
    arguments = ("--origin", origin.url, "--host", HOST, *(() if tier is None else ("--regional", tier)))
    async with contextlib.AsyncExitStack() as stack:
        site = await stack.enter_async_context(RunningSite(folder, *arguments, workers=workers))
        viewers = await stack.enter_async_context(Viewers(site))
        assert len(viewers.names) == workers
        ear = stack.enter_context(Ear(site)) if workers > 1 else None
        records = None if tier is None else await stack.enter_async_context(Records(tier, site))
        stage = Stage(site, origin, viewers, ear, records)
        await stage.reaches_its_tier()
        yield stage
        assert not any("Traceback" in line for line in site.errors), site.errors
