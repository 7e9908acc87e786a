"""Several addresses, queues, budgets: who is asked, who waits, and what is never sent twice."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from cache_policies.origins import Origin, Origins
from edge.core.http import Headers
from edge.gateway.origin import Caps, Deadlines, ErrorKind, OriginError, OriginPool, Rank, is_origin_url
from edge.gateway.origin.breaker import Breaker, RetryBudget
from edge.gateway.origin.health import Health
from edge.gateway.origins import OriginPools
from tests.support.clock import ManualClock
from tests.support.raw_origin import RawConnection, RawOrigin, refusing_url
from tests.support.scripted_origin import Reply, ScriptedOrigin

HOST = Headers((("host", "shop"),))
SLOW = Deadlines(connect_s=5, head_s=5, idle_s=5, total_s=5)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest_asyncio.fixture
async def two() -> AsyncIterator[tuple[RawOrigin, RawOrigin]]:
    async with RawOrigin() as one, RawOrigin() as other:
        yield one, other


def pool_to(*urls: str, clock: ManualClock | None = None, caps: Caps | None = None) -> OriginPool:
    return OriginPool(urls, clock or ManualClock(), deadlines=SLOW, caps=caps or Caps())


async def turns(count: int = 5) -> None:
    """Let everything happen that needs no wait."""
    for _ in range(count):
        await asyncio.sleep(0)


async def ask(pool: OriginPool, method: str = "GET", body: bytes | None = None) -> bytes:
    read = await (await pool.send(method, "/a", HOST, body)).read(1_000)
    assert read is not None
    return read


# -- who is asked ------------------------------------------------------------------------------------------------------


async def test_requests_under_way_are_spread_evenly():
    async with ScriptedOrigin() as one, ScriptedOrigin() as two, ScriptedOrigin() as three:
        origins = (one, two, three)
        pool = pool_to(*(origin.url for origin in origins))
        held = [await pool.send("GET", "/a", HOST) for _ in range(9)]
        assert [origin.count("/a") for origin in origins] == [3, 3, 3]
        for response in held:
            await response.read(1_000)
        for _ in range(6):
            await ask(pool)
        assert [origin.count("/a") for origin in origins] == [5, 5, 5]
        pool.close()


async def test_who_is_slow_gets_fewer(two):
    pool = pool_to(two[0].url, two[1].url)
    asking = [asyncio.create_task(ask(pool)) for _ in range(4)]
    slow = [await two[0].accepted() for _ in range(2)]
    quick = [await two[1].accepted() for _ in range(2)]
    for connection in quick:
        await connection.answer(OK)
    while sum(task.done() for task in asking) < 2:
        await asyncio.sleep(0)
    more = [asyncio.create_task(ask(pool)) for _ in range(2)]
    for connection in quick:
        await connection.answer(OK)
    assert await asyncio.gather(*more) == [b"ok"] * 2
    assert [address.under_way for address in pool.addresses] == [2, 0]
    for connection in slow:
        await connection.answer(OK)
    await asyncio.gather(*asking)
    pool.close()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_whoever_refuses_connections_is_passed_over_without_losing_a_request(method):
    async with ScriptedOrigin() as origin:
        origin.on("/a", Reply(b"ok"))
        pool = pool_to(refusing_url(), origin.url)
        for _ in range(30):
            assert await ask(pool, method, b"order" if method == "POST" else None) == b"ok"
        assert origin.count("/a") == 30
        # Until its breaker opens. Nothing was sent, so that nothing was sent again.
        assert (pool.passed_on, pool.retries.used) == (Breaker.FAILURES, 0)
        assert [address.breaker.is_open for address in pool.addresses] == [True, False]
        pool.close()


async def test_nobody_is_asked_more_than_once_when_nobody_listens():
    pool = pool_to(refusing_url(), refusing_url(), refusing_url())
    with pytest.raises(OriginError) as found:
        await ask(pool)
    assert found.value.kind is ErrorKind.CONNECTION_REFUSED
    assert [address.failures for address in pool.addresses] == [1, 1, 1]
    assert pool.under_way == 0


async def test_each_address_has_a_breaker_and_all_of_them_open_leave_the_origin_alone():
    clock = ManualClock()
    pool = pool_to(refusing_url(), refusing_url(), clock=clock)
    for _ in range(Breaker.FAILURES):
        with pytest.raises(OriginError):
            await ask(pool)
    with pytest.raises(OriginError) as found:
        await ask(pool)
    assert found.value.kind is ErrorKind.DESTINATION_UNAVAILABLE
    assert pool.status()["left_alone"]
    clock.advance(Breaker.FIRST_PAUSE_S)
    with pytest.raises(OriginError) as found:
        await ask(pool)
    assert found.value.kind is ErrorKind.CONNECTION_REFUSED


# -- what is sent again ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_a_safe_request_without_an_answer_goes_to_another_address(two, method):
    pool = pool_to(two[0].url, two[1].url)
    asking = asyncio.create_task(pool.send(method, "/a", HOST))
    waiting = {asyncio.create_task(origin.accepted()): origin for origin in two}
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    first = done.pop()
    await first.result().request()
    first.result().reset()
    (second,) = set(waiting) - {first}
    head = await (await second).answer(OK if method != "HEAD" else b"HTTP/1.1 200 OK\r\n\r\n")
    assert head.startswith(f"{method} /a HTTP/1.1\r\n".encode())
    assert (await asking).status == 200
    assert (pool.retries.used, pool.passed_on) == (1, 0)
    (await asking).abandon()
    pool.close()


@pytest.mark.parametrize(
    ("method", "body"),
    [("POST", b"order"), ("PUT", b"x"), ("DELETE", None), ("POST", None), ("PATCH", b"x"), ("GET", b"body")],
)
async def test_whatever_may_have_been_received_is_never_sent_twice(two, method, body):
    pool = pool_to(two[0].url, two[1].url)
    asking = asyncio.create_task(ask(pool, method, body))
    waiting = [asyncio.create_task(origin.accepted()) for origin in two]
    done, (never,) = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    connection = done.pop().result()
    await connection.request()
    connection.reset()
    with pytest.raises(OriginError) as found:
        await asking
    assert found.value.kind is ErrorKind.CONNECTION_TERMINATED
    assert not never.done()
    never.cancel()
    assert pool.retries.used == 0
    pool.close()


async def test_a_read_over_a_connection_that_was_closed_meanwhile_is_sent_once_more(two):
    origin, _ = two
    pool = pool_to(origin.url)
    asking = asyncio.create_task(ask(pool))
    connection = await origin.accepted()
    await connection.answer(OK)
    assert await asking == b"ok"
    again = asyncio.create_task(ask(pool))
    await connection.request()
    connection.reset()
    fresh = await origin.accepted()
    await fresh.answer(OK)
    assert await again == b"ok"
    assert (pool.retries.used, pool.addresses[0].failures) == (1, 0)
    pool.close()


async def test_a_single_address_that_hangs_up_on_a_new_connection_is_believed(two):
    pool = pool_to(two[0].url)
    asking = asyncio.create_task(ask(pool))
    connection = await two[0].accepted()
    await connection.request()
    connection.reset()
    with pytest.raises(OriginError):
        await asking
    assert two[0].connections == 1


async def test_retries_of_a_failing_origin_stay_within_a_tenth():
    async with ScriptedOrigin() as one, ScriptedOrigin() as two:
        for origin in (one, two):
            origin.on("/a", Reply(reset=True))
        pool = pool_to(one.url, two.url)
        for _ in range(1_000):
            with pytest.raises(OriginError):
                await ask(pool)
            for address in pool.addresses:
                address.breaker.succeeded()
        sent = one.count("/a") + two.count("/a")
        budget = RetryBudget()
        assert 1_090 < sent <= 1_000 + 1_000 * budget.SHARE + budget.FIRST + 1
        assert pool.status()["sent_again"] == sent - 1_000
        assert pool.status()["not_sent_again"] == 2_000 - sent
        pool.close()


def test_the_budget_is_a_tenth_with_a_little_saved_up_and_a_floor():
    budget = RetryBudget()
    assert [budget.take(0.0) for _ in range(5)] == [True, True, True, True, False]
    assert [budget.take(at) for at in (4.9, 5.0, 5.1, 9.9, 10.0)] == [False, True, False, False, True]
    for _ in range(9):
        budget.request()
    assert not budget.take(10.0)
    budget.request()
    budget.request()
    assert budget.take(10.0)
    for _ in range(100_000):
        budget.request()
    assert [budget.take(10.0) for _ in range(11)] == [True] * 10 + [False]


# -- who waits ---------------------------------------------------------------------------------------------------------


async def first_of(origin: RawOrigin, pool: OriginPool) -> tuple[RawConnection, asyncio.Task[bytes]]:
    """A request that holds the only place."""
    asking = asyncio.create_task(ask(pool))
    return await origin.accepted(), asking


async def test_who_came_first_is_served_first(two):
    origin, _ = two
    pool = pool_to(origin.url, caps=Caps(connections=1, queue=10, queue_s=5))
    connection, asking = await first_of(origin, pool)
    order: list[int] = []

    async def wait_in_line(number: int) -> None:
        await ask(pool)
        order.append(number)

    line = []
    for number in range(5):
        line.append(asyncio.create_task(wait_in_line(number)))
        await turns()
    assert pool.status()["waiting"] == 5
    for _ in range(6):
        await connection.answer(OK)
    await asyncio.gather(asking, *line)
    assert order == [0, 1, 2, 3, 4]
    assert origin.connections == 1
    pool.close()


async def test_one_too_many_is_refused_at_once(two):
    origin, _ = two
    pool = pool_to(origin.url, caps=Caps(connections=1, queue=2, queue_s=math.inf))
    connection, asking = await first_of(origin, pool)
    line = [asyncio.create_task(ask(pool)) for _ in range(2)]
    await turns()
    with pytest.raises(OriginError) as found:
        await ask(pool)
    assert found.value.kind is ErrorKind.CONNECTION_LIMIT_REACHED
    assert pool.status()["turned_away"] == 1
    assert not pool.addresses[0].breaker.is_open
    for _ in range(3):
        await connection.answer(OK)
    await asyncio.gather(asking, *line)
    pool.close()


async def test_nobody_waits_where_there_is_no_queue(two):
    pool = pool_to(two[0].url, caps=Caps(connections=1, queue=0))
    connection, asking = await first_of(two[0], pool)
    with pytest.raises(OriginError) as found:
        await ask(pool)
    assert found.value.kind is ErrorKind.CONNECTION_LIMIT_REACHED
    await connection.answer(OK)
    await asking
    pool.close()


async def test_waiting_ends_and_takes_no_place_with_it(two):
    pool = pool_to(two[0].url, caps=Caps(connections=1, queue=5, queue_s=0.01))
    connection, asking = await first_of(two[0], pool)
    with pytest.raises(OriginError) as found:
        await ask(pool)
    assert found.value.kind is ErrorKind.CONNECTION_LIMIT_REACHED
    assert (pool.status()["waiting"], pool.under_way) == (0, 1)
    await connection.answer(OK)
    await asking
    assert pool.under_way == 0
    pool.close()


@pytest.mark.parametrize("when", ["while it waits", "in the turn in which it gets its place"])
async def test_who_is_called_off_leaves_its_place_to_the_next(two, when):
    origin, _ = two
    pool = pool_to(origin.url, caps=Caps(connections=1, queue=5, queue_s=5))
    asking = asyncio.create_task(pool.send("GET", "/a", HOST))
    connection = await origin.accepted()
    await connection.answer(OK)
    held = await asking
    first, second = (asyncio.create_task(ask(pool)) for _ in range(2))
    await turns()
    if when == "while it waits":
        first.cancel()
        await turns()
    await held.read(100)
    # The first one has its place by now, unless it was called off, and has not heard of it.
    first.cancel()
    await connection.answer(OK)
    assert await second == b"ok"
    assert first.cancelled()
    assert (pool.under_way, pool.status()["waiting"]) == (0, 0)
    pool.close()


async def test_no_wake_up_is_lost_whatever_becomes_of_those_who_wait():
    """Seeded: requests are started, called off, cut short and answered in any order; all places are free at the end."""
    chosen = random.Random(4)
    async with ScriptedOrigin() as origin, ScriptedOrigin() as other:
        for each in (origin, other):
            each.on("/a", lambda seen: Reply(b"ok", reset=chosen.random() < 0.2))
        pool = pool_to(origin.url, other.url, caps=Caps(2, 8, 5.0))
        tasks: list[asyncio.Task[bytes]] = []
        for _ in range(600):
            tasks.append(asyncio.create_task(ask(pool)))
            if chosen.random() < 0.4:
                chosen.choice(tasks).cancel()
            await turns(chosen.randrange(3))
            assert all(0 <= address.under_way <= 2 for address in pool.addresses)
            assert pool.status()["waiting"] <= 8
            for address in pool.addresses:
                address.breaker.succeeded()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(each) for each in found} == {bytes, OriginError, asyncio.CancelledError}
        assert (pool.under_way, pool.status()["waiting"]) == (0, 0)
        for each in (origin, other):
            each.on("/a", Reply(b"ok"))
        assert await asyncio.gather(*(ask(pool) for _ in range(8))) == [b"ok"] * 8
        pool.close()


async def test_those_who_wait_are_told_when_the_origin_is_left_alone(two):
    origin, _ = two
    pool = pool_to(origin.url, caps=Caps(connections=1, queue=5, queue_s=math.inf))
    connection, asking = await first_of(origin, pool)
    line = asyncio.create_task(ask(pool))
    await turns()
    for _ in range(Breaker.FAILURES):
        pool.addresses[0].breaker.failed(pool._clock())
    await connection.request()
    connection.reset()
    with pytest.raises(OriginError):
        await asking
    with pytest.raises(OriginError) as found:
        await line
    assert found.value.kind is ErrorKind.DESTINATION_UNAVAILABLE


async def left_alone(pool: OriginPool, clock: ManualClock) -> None:
    """Its pause has just ended."""
    for _ in range(Breaker.FAILURES):
        pool.addresses[0].breaker.failed(clock())
    with pytest.raises(OriginError):
        pool.turn_at_once("/a", Rank())
    clock.advance(Breaker.FIRST_PAUSE_S)


async def test_who_did_not_need_the_origin_after_all_leaves_the_trial_to_the_next():
    """Another worker had it, say. Else nobody would find out that the origin is well again."""
    async with ScriptedOrigin() as origin:
        clock = ManualClock()
        pool = pool_to(origin.url, clock=clock)
        before = pool.turn_at_once("/a", Rank())
        await left_alone(pool, clock)
        trial = pool.turn_at_once("/a", Rank())
        assert before is not None
        assert trial is not None
        before.release()
        with pytest.raises(OriginError):
            pool.turn_at_once("/a", Rank())
        trial.release()
        trial = pool.turn_at_once("/a", Rank())
        assert trial is not None
        await (await pool.send("GET", "/a", HOST, turn=trial)).read(1_000)
        trial.release()
        assert not pool.addresses[0].breaker.is_open
        assert pool.under_way == 0
        pool.close()


async def test_who_leaves_just_when_it_is_their_turn_to_try_leaves_that_to_the_next(two):
    origin, _ = two
    clock = ManualClock()
    pool = pool_to(origin.url, clock=clock, caps=Caps(connections=1, queue=5, queue_s=math.inf))
    turn = pool.turn_at_once("/a", Rank())
    assert turn is not None
    waiting = asyncio.create_task(pool.turn("/a", Rank()))
    await turns()
    await left_alone(pool, clock)
    turn.release()
    waiting.cancel()
    await turns()
    assert waiting.cancelled()
    trial = pool.turn_at_once("/a", Rank())
    assert trial is not None
    trial.release()
    assert pool.under_way == 0
    pool.close()


async def test_whether_an_origin_can_be_reached_again_only_a_new_connection_tells(two):
    origin, _ = two
    clock = ManualClock()
    pool = pool_to(origin.url, clock=clock)
    kept, asking = await first_of(origin, pool)
    await kept.answer(OK)
    await asking
    await left_alone(pool, clock)
    asking = asyncio.create_task(ask(pool))
    await (await origin.accepted()).answer(OK)
    assert await asking == b"ok"
    pool.close()


async def test_a_slow_origin_takes_nothing_from_another():
    caps = Caps(connections=2, queue=2, queue_s=math.inf)
    async with RawOrigin() as slow, ScriptedOrigin() as quick:
        quick.on("/a", Reply(b"ok"))
        names = Origins((Origin("slow"), Origin("quick")), "slow")
        pools = OriginPools((slow.url,), {"quick": (quick.url,)}, names, ManualClock(), caps=caps)
        stuck = [asyncio.create_task(ask(pools.pool(names.all[0]))) for _ in range(4)]
        await turns()
        with pytest.raises(OriginError):
            await ask(pools.pool(names.all[0]))
        for _ in range(20):
            assert await ask(pools.pool(names.all[1])) == b"ok"
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        assert pools.pool(names.all[0]).under_way == 0
        assert list(pools.status()) == ["slow", "quick"]
        pools.close()


async def test_closing_ends_what_is_under_way_and_what_waits(two):
    pool = pool_to(two[0].url, caps=Caps(connections=1, queue=5, queue_s=math.inf))
    _, asking = await first_of(two[0], pool)
    line = asyncio.create_task(ask(pool))
    await turns()
    pool.close()
    assert [type(each) for each in await asyncio.gather(asking, line, return_exceptions=True)] == [OriginError] * 2
    with pytest.raises(OriginError):
        await ask(pool)
    assert pool.under_way == 0


# -- health ------------------------------------------------------------------------------------------------------------


def test_an_address_goes_down_after_three_failed_checks_and_up_after_two_good_ones():
    health = Health()
    said = [True, False, False, True, False, False, False, False, True, False, True, True, True]
    changed = [health.heard(good) for good in said]
    assert [at for at, each in enumerate(changed) if each] == [6, 11]
    assert health.is_up


async def checked(pool: OriginPool, times: int) -> None:
    for _ in range(times):
        for address in pool.addresses:
            await pool.check(address, "/healthz")


async def test_an_address_that_fails_its_checks_is_not_asked_until_it_passes_them():
    async with ScriptedOrigin() as well, ScriptedOrigin() as ill:
        for origin in (well, ill):
            origin.on("/a", Reply(b"ok"))
            origin.on("/healthz", Reply(b"fine"))
        pool = pool_to(well.url, ill.url)
        ill.on("/healthz", Reply(b"no", 503))
        await checked(pool, Health.FALLS)
        assert [address["up"] for address in pool.status()["addresses"]] == [True, False]
        for _ in range(10):
            await ask(pool)
        assert (well.count("/a"), ill.count("/a")) == (10, 0)
        ill.on("/healthz", Reply(b"", 302, {"location": "http://elsewhere.example/"}))
        await checked(pool, Health.RISES)
        for _ in range(10):
            await ask(pool)
        assert ill.count("/a") == 5
        pool.close()


async def test_when_all_are_down_all_are_asked():
    async with ScriptedOrigin() as one, ScriptedOrigin() as two:
        for origin in (one, two):
            origin.on("/a", Reply(b"ok"))
        pool = pool_to(one.url, two.url)
        await checked(pool, Health.FALLS)
        assert [address["up"] for address in pool.status()["addresses"]] == [False, False]
        assert [await ask(pool) for _ in range(6)] == [b"ok"] * 6
        assert (one.count("/a"), two.count("/a")) == (3, 3)
        pool.close()


async def test_a_check_takes_no_place_and_waits_for_none(two):
    origin, _ = two
    pool = pool_to(origin.url, caps=Caps(connections=1, queue=0))
    connection, asking = await first_of(origin, pool)
    checking = asyncio.create_task(pool.check(pool.addresses[0], "/healthz"))
    head = await (await origin.accepted()).answer(OK)
    await checking
    assert head.startswith(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1:")
    assert pool.addresses[0].health.is_up
    await connection.answer(OK)
    await asking
    pool.close()


async def test_an_address_that_is_well_again_is_no_longer_left_alone():
    async with ScriptedOrigin() as origin:
        origin.on("/healthz", Reply(b"fine"))
        pool = pool_to(origin.url)
        address = pool.addresses[0]
        for _ in range(Breaker.FAILURES):
            address.breaker.failed(pool._clock())
        for _ in range(Health.FALLS):
            address.health.heard(False)
        await checked(pool, Health.RISES)
        assert not address.breaker.is_open
        pool.close()


# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("http://10.0.0.1", True),
        ("http://10.0.0.1:8080/", True),
        ("https://origin.example:8443", True),
        ("http://[::1]:8080", True),
        ("http://user@10.0.0.1", False),
        ("http://user:word@10.0.0.1", False),
        ("http://10.0.0.1/path", False),
        ("http://10.0.0.1?", False),
        ("http://10.0.0.1#", False),
        ("http://10.0.0.1?a=b", False),
        ("http://10.0.0.1:0", False),
        ("http://10.0.0.1:port", False),
        ("http://10.0.0.1:99999", False),
        ("http://a b", False),
        ("http://a\nb", False),
        ("http://", False),
        ("ftp://10.0.0.1", False),
        ("unix:/tmp/socket", False),
        ("file:///etc/passwd", False),
        ("//10.0.0.1", False),
        ("10.0.0.1:80", False),
    ],
)
def test_an_origin_is_a_scheme_a_host_and_a_port(url, taken):
    assert is_origin_url(url) == taken
    if not taken:
        with pytest.raises(ValueError, match="not an origin's address"):
            OriginPool((url,), ManualClock())


async def test_all_addresses_of_a_name_are_tried(monkeypatch):
    async with ScriptedOrigin() as origin:
        origin.on("/a", Reply(b"ok"))
        port = int(origin.url.rpartition(":")[2])
        loop = asyncio.get_running_loop()
        looked_up: list[str] = []
        dead = refusing_url().rpartition(":")[2]

        async def getaddrinfo(host: str, *_: object, **__: object) -> Sequence[tuple[object, ...]]:
            looked_up.append(host)
            return [(2, 1, 6, "", ("127.0.0.1", int(dead))), (2, 1, 6, "", ("127.0.0.1", port))]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        pool = pool_to(f"http://shop.invalid:{port}")
        assert await ask(pool) == b"ok"
        pool.close()
        again = pool_to(f"http://shop.invalid:{port}")
        assert await ask(again) == b"ok"
        assert looked_up == ["shop.invalid"] * 2
        again.close()


async def test_an_origin_may_have_an_address_of_version_six():
    async with RawOrigin("::1") as origin:
        pool = pool_to(origin.url)
        asking = asyncio.create_task(ask(pool))
        await (await origin.accepted()).answer(OK)
        assert await asking == b"ok"
        pool.close()


async def test_a_redirect_is_passed_on_and_never_followed(two):
    pool = pool_to(two[0].url)
    asking = asyncio.create_task(pool.send("GET", "/a", HOST))
    location = f"{two[1].url}/secret".encode()
    reply = b"HTTP/1.1 302 Found\r\nlocation: " + location + b"\r\ncontent-length: 0\r\n\r\n"
    await (await two[0].accepted()).answer(reply)
    response = await asking
    assert (response.status, response.headers.get("location")) == (302, location.decode())
    assert two[1].connections == 0
    response.abandon()
    pool.close()
