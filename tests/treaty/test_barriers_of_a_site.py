"""Rule 2 on real processes in front of an origin that knows nothing of positions: `nearshelf edge` with two workers,
with and without the tier that they share (docs/freshness.md, "How it is proved").

Each story holds the origin's answer, purges until that is live, lets the answer go and asks again, over so many
connections that both workers are asked: what was read before the purge must not come back, in whatever form it comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.support.scripted_origin import Held, Pace, Reply, ScriptedOrigin, Seen, changed
from tests.support.site import RunningSite

TIMES = 12
LARGE = 400_000


def says(body: bytes, tag: str, cache_control: str = "max-age=600", **more: str) -> Reply:
    fields = {"cache-control": cache_control, "cache-tag": tag, "content-type": "text/plain"}
    return Reply(body, headers=fields | {name.replace("_", "-"): value for name, value in more.items()})


class Story:
    """One address with a tag of its own."""

    def __init__(self, site: RunningSite, origin: ScriptedOrigin, name: str) -> None:
        self.site = site
        self.origin = origin
        self.tag = name
        self.path = f"/{name}"

    async def ask(self, method: str = "GET", **fields: str) -> httpx.Response:
        """Over a connection of its own: the kernel chooses a worker for it."""
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            headers = {name.replace("_", "-"): value for name, value in fields.items()}
            return await client.request(method, f"{self.site.url}{self.path}", headers=headers)

    def asking(self, method: str = "GET", **fields: str) -> asyncio.Task[httpx.Response]:
        return asyncio.create_task(self.ask(method, **fields))

    async def purge(self, new: Reply | Callable[[Seen], Reply]) -> None:
        """From here on the origin says `new`; returns when the purge is live."""
        self.origin.on(self.path, new)
        done = await self.site.purge(tags=[self.tag])
        assert done["live"], done

    async def is_new_everywhere(self, status: int = 200) -> None:
        first = await asyncio.gather(*[self.ask() for _ in range(TIMES)])
        again = await asyncio.gather(*[self.ask() for _ in range(TIMES)])
        assert {(each.status_code, each.content) for each in (*first, *again)} == {(status, b"new")}, self.tag
        assert any("; hit" in each.headers["cache-status"] for each in again), self.tag

    async def overtakes(self, held: Held, old: Reply, *asking: asyncio.Task[httpx.Response], status: int = 200) -> None:
        """The purge overtakes what is held. Whoever asked before it may have either."""
        await self.purge(says(b"new", self.tag))
        held.answer(old)
        for each in await asyncio.gather(*asking):
            assert each.status_code in {200, 206, status}, self.tag
        await self.is_new_everywhere()


async def a_page(site: RunningSite, origin: ScriptedOrigin) -> None:
    for chunked in (False, True):
        story = Story(site, origin, f"page-{chunked}")
        with origin.holding(story.path) as held:
            viewer = story.asking()
            await held.arrived()
            await story.overtakes(held, changed(says(b"old", story.tag), chunked=chunked), viewer)


async def the_head_of_a_page(site: RunningSite, origin: ScriptedOrigin) -> None:
    story = Story(site, origin, "head")
    with origin.holding(story.path) as held:
        viewer = story.asking("HEAD")
        await held.arrived()
        await story.overtakes(held, says(b"old", story.tag), viewer)


async def a_part_of_a_page(site: RunningSite, origin: ScriptedOrigin) -> None:
    story = Story(site, origin, "part")
    with origin.holding(story.path) as held:
        viewer = story.asking(range="bytes=0-1")
        await held.arrived()
        await story.overtakes(held, says(b"old", story.tag), viewer)


async def viewers_who_wait_together(site: RunningSite, origin: ScriptedOrigin) -> None:
    story = Story(site, origin, "crowd")
    with origin.holding(story.path) as held:
        crowd = [story.asking() for _ in range(TIMES)]
        await held.arrived()
        await story.overtakes(held, says(b"old", story.tag), *crowd)


async def a_confirmation(site: RunningSite, origin: ScriptedOrigin) -> None:
    story = Story(site, origin, "not-modified")
    origin.on(story.path, says(b"old", story.tag, "no-cache", etag='"old"'))
    await story.ask()
    with origin.holding(story.path) as held:
        crowd = [story.asking() for _ in range(TIMES)]
        await held.arrived()
        unchanged = changed(says(b"", story.tag, "max-age=600", etag='"old"'), status=304)
        await story.purge(says(b"new", story.tag, etag='"new"'))
        held.answer(unchanged)
        await asyncio.gather(*crowd)
    await story.is_new_everywhere()


async def a_refresh_in_the_background(site: RunningSite, origin: ScriptedOrigin) -> None:
    story = Story(site, origin, "refresh")
    # As old as it may become when it arrives.
    origin.on(story.path, says(b"old", story.tag, "max-age=600, stale-while-revalidate=600", age="600"))
    await story.ask()
    with origin.holding(story.path) as held:
        shown = [story.asking() for _ in range(TIMES)]
        await held.arrived()
        await story.overtakes(held, says(b"old", story.tag), *shown)


async def an_error_page(site: RunningSite, origin: ScriptedOrigin) -> None:
    story = Story(site, origin, "not-found")
    with origin.holding(story.path) as held:
        viewer = story.asking()
        await held.arrived()
        await story.overtakes(held, changed(says(b"nothing", story.tag), status=404), viewer, status=404)


async def a_large_answer_halfway(site: RunningSite, origin: ScriptedOrigin) -> None:
    for chunked in (False, True):
        story = Story(site, origin, f"large-{chunked}")
        pace = Pace(LARGE // 2)
        old = changed(says(b"o" * LARGE, story.tag), pace=pace, chunked=chunked)
        origin.on(story.path, old)
        async with (
            httpx.AsyncClient(trust_env=False, timeout=30) as client,
            client.stream("GET", f"{site.url}{story.path}") as early,
        ):
            pieces = early.aiter_raw()
            body = await anext(pieces)
            await story.purge(says(b"new", story.tag))
            # It is still growing, and nobody joins it.
            assert {(await story.ask()).content for _ in range(TIMES)} == {b"new"}
            pace.to(LARGE)
            async for piece in pieces:
                body += piece
        assert body == b"o" * LARGE
        await story.is_new_everywhere()


async def a_write(site: RunningSite, origin: ScriptedOrigin) -> None:
    """No purge: the write itself is what overtakes, at every worker of this machine."""
    story = Story(site, origin, "write")
    origin.on(story.path, says(b"old", story.tag))
    await asyncio.gather(*[story.ask() for _ in range(TIMES)])
    origin.on(story.path, lambda seen: Reply(b"", 204) if seen.method == "POST" else says(b"new", story.tag))
    assert (await story.ask("POST")).status_code == 204
    # The other worker hears of it without waiting: by the time of the second answer.
    await story.ask()
    await story.is_new_everywhere()


STORIES: tuple[Callable[[RunningSite, ScriptedOrigin], Awaitable[None]], ...] = (
    a_page,
    the_head_of_a_page,
    a_part_of_a_page,
    viewers_who_wait_together,
    a_confirmation,
    a_refresh_in_the_background,
    an_error_page,
    a_large_answer_halfway,
    a_write,
)


@pytest.mark.timeout(180)
async def test_two_workers(tmp_path):
    async with ScriptedOrigin() as origin, RunningSite(tmp_path, "--origin", origin.url) as site:
        for story in STORIES:
            await story(site, origin)


@pytest.mark.timeout(180)
async def test_two_workers_and_their_tier(tmp_path, valkey):
    arguments = ("--regional", valkey.servers.redis_url)
    async with ScriptedOrigin() as origin, RunningSite(tmp_path, "--origin", origin.url, *arguments) as site:
        for story in STORIES:
            await story(site, origin)
        assert sum(worker["status"]["regional"]["found"] for worker in (await site.status())["workers"]) > 0
