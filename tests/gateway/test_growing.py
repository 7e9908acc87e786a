"""One body on its way, and those who read it."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest

from cache_policies.positions import Position
from edge.core.http import Headers
from edge.core.key import CacheKey
from edge.core.stored import StoredResponse
from edge.gateway.growing import PIECE_BYTES, WINDOW_BYTES, CutShort, Growing, Reader

PIECE = b"x" * 10_000


class Crowd:
    waiting = 0


def stored() -> StoredResponse:
    return StoredResponse(
        key=CacheKey("h", "/x", (), ""),
        policy_version="v",
        status=200,
        headers=Headers(),
        body=b"",
        vary=(),
        etag=None,
        position=Position(1, 1),
        tags=("t",),
        stored_at=0.0,
        initial_age_s=0.0,
        no_cache=False,
        fresh_until=1.0,
        revalidate_until=1.0,
        error_until=1.0,
        keep_until=1.0,
    )


def growing(crowd: Crowd | None = None) -> Growing:
    return Growing(stored(), None, crowd or Crowd(), fwd_status=200, sent_at=0.0, origin_s=0.0)


async def rest_of(reader: Reader) -> bytes:
    pieces = []
    while data := await reader.next():
        pieces.append(bytes(data))
    return b"".join(pieces)


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_reader_gets_each_piece_as_it_comes():
    body = growing()
    reader = body.join()
    asked = asyncio.create_task(reader.next())
    await turn()
    assert not asked.done()
    body.feed(b"first")
    assert await asked == b"first"
    body.feed(b"second")
    assert body.finish() == b"firstsecond"
    assert await rest_of(reader) == b"second"


async def test_who_joins_late_reads_from_the_start():
    body = growing()
    first = body.join()
    body.feed(b"a")
    assert await first.next() == b"a"
    late = body.join()
    body.feed(b"b")
    body.finish()
    assert await rest_of(late) == b"ab"
    assert await rest_of(first) == b"b"


async def test_what_is_complete_is_read_on_from_the_whole_at_any_place():
    body = growing()
    readers = [body.join() for _ in range(4)]
    for number, reader in enumerate(readers):
        for _ in range(number):
            await reader.next()
        body.feed(bytes([65 + number]) * 40_000)
    whole = body.finish()
    assert [len(await rest_of(reader)) for reader in readers] == [len(whole) - number * 40_000 for number in range(4)]


async def test_a_body_that_is_cut_has_no_end():
    body = growing()
    reader = body.join()
    body.feed(b"half")
    body.cut("connection_terminated")
    assert await reader.next() == b"half"
    with pytest.raises(CutShort, match="connection_terminated"):
        await reader.next()
    assert not body.joinable


async def test_readers_hold_no_copies():
    tracemalloc.start()
    try:
        body = growing()
        for _ in range(200):
            body.feed(bytes(10_000))
        before = tracemalloc.get_traced_memory()[0]
        readers = [body.join() for _ in range(500)]
        for number, reader in enumerate(readers):
            for _ in range(number % 200):
                await reader.next()
        assert tracemalloc.get_traced_memory()[0] - before < 500 * 1_000
    finally:
        tracemalloc.stop()


async def test_a_slow_reader_holds_up_nobody_while_the_body_may_still_be_stored():
    body = growing()
    slow, quick = body.join(), body.join()
    for _ in range(100):
        body.feed(PIECE)
        assert await quick.next() == PIECE
    assert body.finish() == PIECE * 100
    assert len(await rest_of(slow)) == 1_000_000


async def test_a_body_that_outgrew_its_limit_waits_for_the_slowest_reader():
    body = growing()
    slow, quick = body.join(), body.join()
    for _ in range(WINDOW_BYTES // len(PIECE) + 1):
        body.feed(PIECE)
        await quick.next()
    body.outgrow()
    waiting = asyncio.create_task(body.room())
    await turn()
    assert not waiting.done()
    await slow.next()
    assert await waiting is True
    slow.leave()
    body.feed(PIECE)
    assert await quick.next() == PIECE
    assert body._held == 0


async def test_a_body_that_outgrew_its_limit_is_let_go_as_it_is_read():
    body = growing()
    reader = body.join()
    body.outgrow()
    for _ in range(1_000):
        body.feed(PIECE)
        assert await body.room()
        assert await reader.next() == PIECE
        assert body._held <= PIECE_BYTES
    body.finish()
    assert await reader.next() == b""


async def test_when_nobody_reads_it_any_more_a_body_that_is_not_stored_ends():
    body = growing()
    reader = body.join()
    for _ in range(WINDOW_BYTES // len(PIECE) + 1):
        body.feed(PIECE)
    body.outgrow()
    waiting = asyncio.create_task(body.room())
    await turn()
    reader.leave()
    assert await waiting is False


async def test_nothing_is_let_go_while_one_of_those_who_waited_may_still_join():
    crowd = Crowd()
    crowd.waiting = 1
    body = growing(crowd)
    body.feed(b"start")
    body.outgrow()
    assert await body.room()
    crowd.waiting = 0
    reader = body.join()
    body.somebody_left()
    body.finish()
    assert await rest_of(reader) == b"start"
