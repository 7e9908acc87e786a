"""Large answers: first bytes go out before the last arrive, several viewers read one fill, and a purge meets it halfway
(docs/freshness.md, rule 2)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from edge.core.policy import CachePolicy, PolicySet
from edge.gateway.growing import WINDOW_BYTES
from edge.gateway.handover import AT_ONCE_BYTES
from edge.gateway.server import Limits
from tests.support.builders import MARKETS
from tests.support.edge_shop import EdgeShop
from tests.support.raw_http import RawViewer
from tests.support.scripted_origin import Pace, Reply, Seen, changed, page

FILM = "/film"
TAG = "film"
MAX_BODY = 2_000_000
BODY = bytes(range(256)) * 2_000
"""512,000 bytes."""
TOO_LONG = BODY * 32
"""More than the buffers of a connection hold."""
POLICIES = PolicySet(
    [CachePolicy("everything", "/{rest...}", fresh_s=60.0, max_fresh_s=600.0, max_body_bytes=MAX_BODY)], MARKETS
)


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[EdgeShop]:
    async with EdgeShop(tmp_path, policies=POLICIES) as shop:
        yield shop


class Reading:
    """One viewer who reads as the test says."""

    def __init__(self, viewer: RawViewer) -> None:
        self.viewer = viewer
        self.head = ""

    @classmethod
    async def of(cls, shop: EdgeShop, *lines: str, method: str = "GET") -> Reading:
        viewer = await shop.viewer()
        viewer.get(FILM, shop.host, *lines, method=method)
        return cls(viewer)

    async def begun(self) -> Reading:
        async with asyncio.timeout(5):
            self.head = (await self.viewer.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        return self

    @property
    def is_chunked(self) -> bool:
        return "transfer-encoding: chunked" in self.head

    async def read(self, size: int) -> bytes:
        async with asyncio.timeout(5):
            if not self.is_chunked:
                return await self.viewer.reader.readexactly(size)
            data = b""
            while len(data) < size:
                chunk = int((await self.viewer.reader.readuntil(b"\r\n")).strip(), 16)
                assert chunk, "the body ended too soon"
                data += (await self.viewer.reader.readexactly(chunk + 2))[:-2]
            return data

    async def is_cut(self) -> bool:
        """Whether the connection ends without a proper end of the body."""
        async with asyncio.timeout(5):
            try:
                rest = await self.viewer.reader.read()
            except ConnectionError:
                return True
        return not rest.endswith(b"0\r\n\r\n") or not self.is_chunked


def film(
    body: bytes = BODY, *, position: str = "1.5", etag: str = '"v1"', pace: Pace | None = None, chunked: bool = False
) -> Reply:
    return changed(page(body, position=position, tags=TAG, etag=etag), pace=pace, chunked=chunked)


both_framings = pytest.mark.parametrize("chunked", [False, True])


@both_framings
async def test_the_first_bytes_go_out_before_the_last_arrive(shop, chunked):
    pace = Pace(100_000)
    shop.origin.on(FILM, film(pace=pace, chunked=chunked))
    viewer = await (await Reading.of(shop)).begun()
    assert viewer.is_chunked is chunked
    assert await viewer.read(100_000) == BODY[:100_000]
    pace.to(len(BODY))
    assert await viewer.read(len(BODY) - 100_000) == BODY[100_000:]
    await shop.until(lambda: not len(shop.gateway._flights))
    again = await shop.get(FILM)
    assert (again.is_hit, again.body) == (True, BODY)


@both_framings
async def test_leader_followers_and_those_who_come_later_read_one_fill(shop, chunked):
    pace = Pace(0)
    shop.origin.on(FILM, film(pace=pace, chunked=chunked))
    first = [await Reading.of(shop) for _ in range(5)]
    await shop.has_waiters(5)
    pace.to(200_000)
    for viewer in first:
        await viewer.begun()
        assert await viewer.read(200_000) == BODY[:200_000]
    late = await (await Reading.of(shop)).begun()
    assert await late.read(200_000) == BODY[:200_000]
    pace.to(len(BODY))
    for viewer in [*first, late]:
        assert await viewer.read(len(BODY) - 200_000) == BODY[200_000:]
    assert shop.origin.count(FILM) == 1
    assert "collapsed" in late.head


async def test_the_fill_goes_on_when_its_leader_leaves(shop):
    pace = Pace(100_000)
    shop.origin.on(FILM, film(pace=pace))
    leader = await (await Reading.of(shop)).begun()
    follower = await (await Reading.of(shop)).begun()
    leader.viewer.writer.transport.abort()
    pace.to(len(BODY))
    assert await follower.read(len(BODY)) == BODY
    assert (await shop.get(FILM)).is_hit
    assert shop.origin.count(FILM) == 1


@both_framings
@pytest.mark.parametrize("soft", [False, True])
async def test_a_purge_while_it_grows_ends_it_for_nobody_and_nobody_joins_it_any_more(shop, chunked, soft):
    pace = Pace(100_000)
    shop.origin.on(FILM, film(pace=pace, chunked=chunked))
    reader = await (await Reading.of(shop)).begun()
    position = shop.purge(TAG, soft=soft)
    shop.origin.on(FILM, film(b"new", position=str(position), etag='"v2"'))
    after = await shop.get(FILM)
    assert after.body == b"new"
    pace.to(len(BODY))
    assert await reader.read(len(BODY)) == BODY
    assert shop.origin.count(FILM) == 2
    again = await shop.get(FILM)
    assert (again.is_hit, again.body) == (True, b"new")


async def test_what_a_purge_overtook_while_it_grew_is_not_stored(shop):
    pace = Pace(100_000)
    shop.origin.on(FILM, film(pace=pace))
    reader = await (await Reading.of(shop)).begun()
    position = shop.purge(TAG)
    pace.to(len(BODY))
    assert await reader.read(len(BODY)) == BODY
    await shop.until(lambda: not shop.gateway._flights._flying)
    assert shop.gateway.store.stats().responses == 0
    shop.origin.on(FILM, film(b"new", position=str(position)))
    after = await shop.get(FILM)
    assert (after.is_hit, after.body) == (False, b"new")


async def test_an_answer_that_begins_below_the_floors_is_asked_for_again(shop):
    pace = Pace(0)
    shop.origin.on(FILM, film(pace=pace))
    viewer = await Reading.of(shop)
    await shop.until(lambda: shop.origin.count(FILM) == 1)
    position = shop.purge(TAG)
    shop.origin.on(FILM, film(b"new", position=str(position)))
    pace.to(len(BODY))
    await viewer.begun()
    assert await viewer.read(3) == b"new"


@both_framings
async def test_readers_of_a_body_that_is_cut_short_are_hung_up_on_and_nothing_is_stored(shop, chunked):
    pace = Pace(100_000)
    shop.origin.on(FILM, film(pace=pace, chunked=chunked))
    viewers = [await (await Reading.of(shop)).begun() for _ in range(3)]
    pace.cut()
    for viewer in viewers:
        assert await viewer.is_cut()
    shop.origin.on(FILM, film())
    after = await shop.get(FILM)
    assert (after.is_hit, after.body) == (False, BODY)


async def test_head_and_preconditions_are_answered_from_the_head(shop):
    pace = Pace(100_000)
    shop.origin.on(FILM, film(pace=pace))
    reader = await (await Reading.of(shop)).begun()
    head = await shop.get(FILM, method="HEAD")
    assert (head.status, head.headers["content-length"], head.body) == (200, str(len(BODY)), b"")
    unchanged = await shop.get(FILM, 'If-None-Match: "v1"')
    assert unchanged.status == 304
    pace.to(len(BODY))
    assert await reader.read(len(BODY)) == BODY
    assert shop.origin.count(FILM) == 1


async def test_a_part_waits_for_the_whole_and_is_cut_from_it(shop):
    pace = Pace(100_000)
    shop.origin.on(FILM, film(pace=pace))
    reader = await (await Reading.of(shop)).begun()
    part = shop.asking(FILM, "Range: bytes=10-19")
    await shop.has_waiters(2)
    pace.to(len(BODY))
    assert await reader.read(len(BODY)) == BODY
    answer = await part
    assert (answer.status, answer.body) == (206, BODY[10:20])
    assert shop.origin.count(FILM) == 1


async def test_what_turns_out_too_large_is_passed_on_unstored_and_the_key_is_remembered(shop):
    pace = Pace(100_000)
    shop.origin.on(FILM, film(TOO_LONG, pace=pace, chunked=True))
    viewers = [await (await Reading.of(shop)).begun() for _ in range(3)]
    pace.to(len(TOO_LONG))
    read = await asyncio.gather(*[viewer.read(len(TOO_LONG)) for viewer in viewers])
    assert set(read) == {TOO_LONG}
    assert shop.origin.count(FILM) == 1
    apart = [await (await Reading.of(shop)).begun() for _ in range(2)]
    await asyncio.gather(*[viewer.read(len(TOO_LONG)) for viewer in apart])
    assert shop.origin.count(FILM) == 3
    assert not any("hit" in viewer.head.split("cache-status")[1].split("\r\n")[0] for viewer in apart)


async def test_bodies_that_grow_at_once_share_half_of_the_store_s_room(tmp_path):
    async with EdgeShop(tmp_path, policies=POLICIES, settings={"store_bytes": 1_600_000}) as shop:
        pace = Pace(100_000)
        shop.origin.on(FILM, film(pace=pace))
        shop.origin.on("/other", film())
        first = await (await Reading.of(shop)).begun()
        pace.to(len(BODY) - 1)
        assert await first.read(len(BODY) - 1) == BODY[:-1]
        assert (await shop.get("/other")).body == BODY
        pace.to(len(BODY))
        assert await first.read(1) == BODY[-1:]
        await shop.until(lambda: not shop.gateway._flights._flying)
        assert (await shop.get(FILM)).is_hit
        assert not (await shop.get("/other")).is_hit


async def test_of_what_is_too_large_no_more_is_held_than_the_slowest_reader_lacks(shop):
    pace = Pace(100_000)
    shop.origin.on(FILM, film(TOO_LONG, pace=pace, chunked=True))
    slow, quick = [await (await Reading.of(shop)).begun() for _ in range(2)]
    (flight,) = shop.gateway._flights._under_way.values()
    growing = flight.growing
    quick_reads = asyncio.create_task(quick.read(len(TOO_LONG)))
    pace.to(len(TOO_LONG))
    await shop.until(lambda: growing._room is not None and not growing._room.done())
    assert WINDOW_BYTES <= growing._held <= MAX_BODY + 2 * WINDOW_BYTES
    assert not quick_reads.done()
    assert await slow.read(len(TOO_LONG)) == TOO_LONG
    assert await quick_reads == TOO_LONG
    assert growing._held == 0


async def test_a_part_of_what_turns_out_too_large_is_asked_for_by_itself(shop):
    pace = Pace(100_000)
    shop.origin.on(FILM, film(TOO_LONG, pace=pace, chunked=True))
    reader = await (await Reading.of(shop)).begun()
    part = shop.asking(FILM, "Range: bytes=10-19")
    await shop.has_waiters(2)
    shop.origin.on(FILM, Reply(TOO_LONG[10:20], 206, {"content-range": f"bytes 10-19/{len(TOO_LONG)}"}))
    pace.to(len(TOO_LONG))
    assert await reader.read(len(TOO_LONG)) == TOO_LONG
    answer = await part
    assert (answer.status, answer.body) == (206, TOO_LONG[10:20])
    assert shop.origin.last(FILM).headers["range"] == "bytes=10-19"


async def test_a_part_of_what_is_known_to_be_too_large_never_brings_the_whole(shop):
    """A byte of a film must not make the edge fetch the film (RangeAmp)."""
    sent = []

    def answer(seen):
        sent.append(seen.headers.get("range"))
        if "range" in seen.headers:
            whole = f"bytes 0-0/{len(TOO_LONG)}"
            return Reply(TOO_LONG[:1], 206, {"content-range": whole, "cache-control": "max-age=60"})
        return film(TOO_LONG)

    shop.origin.on(FILM, answer)
    for _ in range(3):
        part = await shop.get(FILM, "Range: bytes=0-0")
        assert (part.status, part.body) == (206, TOO_LONG[:1])
    assert sent == [None, "bytes=0-0", "bytes=0-0", "bytes=0-0"]


async def test_a_write_while_it_grows_keeps_it_out_of_the_store(shop):
    pace = Pace(100_000)
    shop.origin.on(FILM, lambda seen: Reply(b"", 204) if seen.method == "POST" else film(pace=pace))
    reader = await (await Reading.of(shop)).begun()
    assert (await shop.get(FILM, "Content-Length: 0", method="POST")).status == 204
    shop.origin.on(FILM, film(b"new"))
    assert (await shop.get(FILM)).body == b"new"
    pace.to(len(BODY))
    assert await reader.read(len(BODY)) == BODY
    again = await shop.get(FILM)
    assert (again.is_hit, again.body) == (True, b"new")


async def test_a_long_hit_waits_for_its_viewer_not_in_memory(tmp_path):
    policies = PolicySet(
        [CachePolicy("everything", "/{rest...}", fresh_s=60.0, max_fresh_s=600.0, max_body_bytes=10_000_000)], MARKETS
    )
    body = BODY * 16
    limits = Limits(write_buffer_bytes=65_536)
    async with EdgeShop(tmp_path, policies=policies, limits=limits) as shop:
        shop.origin.on(FILM, film(body))
        await shop.get(FILM)
        server = shop.gateway.server
        assert server is not None
        for lines in ((), ('If-None-Match: "other"',)):
            viewer = await (await Reading.of(shop, *lines)).begun()
            assert "; hit" in viewer.head
            await shop.until(lambda: any(conn._write_paused for conn in server.connections))
            waiting = [conn.transport.get_write_buffer_size() for conn in server.connections if conn.transport]
            assert max(waiting) <= AT_ONCE_BYTES
            assert await viewer.read(len(body)) == body
            viewer.viewer.writer.transport.abort()


async def test_early_hints_reach_the_viewer_who_asked_and_are_not_stored(shop):
    link = ("link", "</style.css>; rel=preload")
    shop.origin.on(FILM, changed(film(b"page"), hints=(link, ("set-cookie", "a=b"))))
    viewer = await Reading.of(shop)
    await viewer.begun()
    assert viewer.head.startswith("http/1.1 103 ")
    assert "link: </style.css>; rel=preload" in viewer.head
    assert "set-cookie" not in viewer.head
    await viewer.begun()
    assert viewer.head.startswith("http/1.1 200 ")
    assert await viewer.read(4) == b"page"
    assert (await shop.get(FILM)).is_hit


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_the_order_nobody_is_shown_what_was_purged_before_it_asked(tmp_path, seed):
    """Viewers come and go, the origin gets on or breaks off, purges and writes fall anywhere in between."""
    rng = random.Random(seed)
    paces: list[Pace] = []
    checked = 0
    async with EdgeShop(tmp_path, policies=POLICIES) as shop:

        def answers(seen: Seen) -> Reply:
            if seen.method == "POST":
                return Reply(b"", 204)
            paces.append(Pace(rng.choice([0, 50_000, 100_000])))
            # As an origin that is up to date: the number of the last change is all that it shows.
            body = b"%08d" % shop.position.cv * 40_000
            return film(
                body, position=str(shop.position), etag=f'"{shop.position}"', pace=paces[-1], chunked=rng.random() < 0.5
            )

        async def view(asked_at: int, method: str) -> None:
            nonlocal checked
            viewer = await shop.viewer()
            viewer.get(FILM, shop.host, method=method)
            try:
                response = await viewer.response(to=method)
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            assert response.status in {200, 502, 503}
            if response.status == 200:
                shown = int(response.headers["etag"].partition(".")[2].rstrip('"'))
                assert shown >= asked_at
                if method == "GET":
                    assert response.body == b"%08d" % shown * 40_000
                checked += 1

        shop.origin.on(FILM, answers)
        viewers: list[asyncio.Task[None]] = []
        for _ in range(60):
            match rng.choice(["view", "view", "view", "head", "purge", "soft", "write", "on", "on", "cut", "leave"]):
                case "view":
                    viewers.append(asyncio.create_task(view(shop.position.cv, "GET")))
                case "head":
                    viewers.append(asyncio.create_task(view(shop.position.cv, "HEAD")))
                case "purge":
                    shop.purge(TAG)
                case "soft":
                    shop.purge(TAG, soft=True)
                case "write":
                    await shop.get(FILM, "Content-Length: 0", method="POST")
                case "on" if paces:
                    pace = rng.choice(paces)
                    pace.to(pace.allowed + rng.choice([10_000, 100_000, 400_000]))
                case "cut" if paces and rng.random() < 0.3:
                    rng.choice(paces).cut()
                case "leave" if viewers and shop._viewers:
                    rng.choice(shop._viewers).writer.transport.abort()
            for _ in range(rng.randrange(8)):
                await asyncio.sleep(0)
        while not all(viewer.done() for viewer in viewers):
            for pace in paces:
                pace.to(400_000)
            await asyncio.sleep(0)
        await asyncio.gather(*viewers)
        await shop.until(lambda: not shop.gateway._flights._flying)
        assert checked >= 10
        after = asyncio.create_task(view(shop.position.cv, "GET"))
        while not after.done():
            for pace in paces:
                pace.to(400_000)
            await asyncio.sleep(0)
        await after
