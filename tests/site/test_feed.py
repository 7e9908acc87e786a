"""The feed of a site: its workers' questions, its purges, and when one is live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from cache_policies.feed import FEED_PATH, HOLD_S, LEASE_S, LEAVE_PATH, PAGE_ENTRIES, PURGE_PATH, Answer, PurgeWish
from cache_policies.fields import EDGE_KEY_FIELD, REFUSED_EDGE_KEY, REFUSED_FIELD
from cache_policies.positions import PurgeKind
from edge.core.floors import Floors, Lease, Verdict
from edge.purge.follower import Follower, Outcome
from edge.site.feed import RUN_OUT_S, Member, SiteFeed
from edge.site.log import PurgeLog
from tests.support.builders import stored
from tests.support.clock import ManualClock


class Worker:
    """A follower with the rules of the real one, that asks when it is told to."""

    def __init__(self, site: Site, name: str) -> None:
        self.site = site
        self.lease = Lease(LEASE_S)
        self.floors = Floors()
        self.follower = Follower(f"{name}-random", "site", "http://127.0.0.1:9", self.floors, self.lease)
        self.member = site.feed.join(name, f"key-of-{name}")

    async def ask(self) -> list[Outcome]:
        """One question and the lines that come at once."""
        question, asked_at = self.follower.question(), self.site.clock()
        self.site.feed.note(self.member, question)
        async with aclosing(self.site.feed.answer(self.member, question)) as lines:
            answer = Answer.from_json(await anext(lines))
            return [self.follower.on_answer(question, answer, asked_at)]

    async def catch_up(self) -> None:
        while self.follower.applied != self.site.log.head:
            await self.ask()
        await self.ask()


class Site:
    def __init__(self, tmp_path: Path) -> None:
        self.clock = ManualClock()
        self.log = PurgeLog(tmp_path / "purges.log")
        self.audited: list[tuple[str, str, dict[str, Any]]] = []
        self.feed = SiteFeed(self.log, self.clock, lambda *said: self.audited.append(said))

    async def worker(self, name: str) -> Worker:
        worker = Worker(self, name)
        await worker.catch_up()
        return worker

    def purging(
        self, *tags: str, kind: PurgeKind = PurgeKind.HARD, wait_s: float = 10.0
    ) -> asyncio.Task[dict[str, Any]]:
        return asyncio.create_task(self.feed.purge(kind, tags, "127.0.0.1", "why", wait_s))

    async def entered(self, count: int = 1) -> None:
        await until(lambda: len(self.log.entries) >= count)


async def until(statement: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not statement():
            await asyncio.sleep(0)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_a_purge_is_live_when_every_living_worker_has_asked_from_it(site):
    one, two = await site.worker("worker-1"), await site.worker("worker-2")
    purging = site.purging("a")
    await site.entered()
    await one.catch_up()
    assert not purging.done()
    await two.catch_up()
    done = await purging
    assert done["live"]
    assert [(each["worker"], each["outcome"]) for each in done["workers"]] == [
        ("worker-1", "applied"),
        ("worker-2", "applied"),
    ]
    assert (done["position"], done["tags"], done["kind"]) == (str(site.log.head), ["a"], "hard")
    assert [said[:2] for said in site.audited] == [("127.0.0.1", "why")]


async def test_a_held_question_is_answered_as_soon_as_there_is_a_purge(site):
    worker = await site.worker("worker-1")
    question = worker.follower.question()
    site.feed.note(worker.member, question)
    async with aclosing(site.feed.answer(worker.member, question)) as lines:
        assert Answer.from_json(await anext(lines)).entries == ()
        waiting = asyncio.create_task(anext(lines))
        purging = site.purging("a", "b", kind=PurgeKind.SOFT)
        answer = Answer.from_json(await asyncio.wait_for(waiting, HOLD_S))
    assert [(entry.tags, entry.kind) for entry in answer.entries] == [(("a", "b"), PurgeKind.SOFT)]
    await worker.catch_up()
    assert (await purging)["live"]


async def test_what_was_stored_before_a_purge_is_below_the_floor_once_it_is_live(site):
    worker = await site.worker("worker-1")
    before = stored(position=worker.follower.applied, tags=("a",))
    other = stored(position=worker.follower.applied, tags=("b",))
    purging = site.purging("a")
    await site.entered()
    await worker.catch_up()
    assert (await purging)["live"]
    assert worker.floors.judge(before) is Verdict.PURGED
    assert worker.floors.judge(other) is Verdict.CURRENT
    assert worker.floors.judge(stored(position=worker.follower.applied, tags=("a",))) is Verdict.CURRENT


async def test_a_worker_whose_process_has_ended_is_not_waited_for(site):
    one, two = await site.worker("worker-1"), await site.worker("worker-2")
    purging = site.purging("a")
    await site.entered()
    await one.catch_up()
    site.feed.reaped(two.member)
    done = await purging
    assert done["live"]
    assert {each["worker"]: each["outcome"] for each in done["workers"]} == {"worker-1": "applied", "worker-2": "gone"}


async def test_a_frozen_worker_is_waited_for_until_its_lease_has_certainly_run_out(site):
    one, frozen = await site.worker("worker-1"), await site.worker("worker-2")
    purging = site.purging("a")
    await site.entered()
    await one.catch_up()
    site.clock.advance(RUN_OUT_S - 0.01)
    await one.ask()
    await asyncio.sleep(0)
    assert not purging.done()
    assert not frozen.lease.held(site.clock())
    site.clock.advance(0.011)
    await one.ask()
    done = await purging
    assert done["live"]
    assert done["workers"][1] | {"ms": 0} == {"worker": "worker-2", "outcome": "lease ran out", "ms": 0}


async def test_a_purge_that_is_not_live_in_time_says_who_is_waited_for(site):
    one = await site.worker("worker-1")
    await site.worker("worker-2")
    purging = site.purging("a", wait_s=1.0)
    await site.entered()
    await one.catch_up()
    site.clock.advance(1.0)
    await one.ask()
    done = await purging
    assert not done["live"]
    assert done["workers"][1]["outcome"] == "waiting"


async def test_a_worker_that_has_not_asked_yet_is_not_waited_for_and_reads_the_purge_before_it_serves(site):
    one = await site.worker("worker-1")
    late = Worker(site, "worker-2")
    purging = site.purging("a")
    await site.entered()
    await one.catch_up()
    assert [each["worker"] for each in (await purging)["workers"]] == ["worker-1"]
    await late.ask()
    assert [late.follower.caught_up] == [False]
    await late.catch_up()
    assert late.follower.caught_up
    assert late.floors.hard_floor(("a",)) == site.log.head


async def test_a_position_of_another_log_acknowledges_nothing_and_is_answered_with_flush(site):
    worker = await site.worker("worker-1")
    worker.follower.applied_id = "of another log"
    question = worker.follower.question()
    assert not site.feed.note(worker.member, question)
    async with aclosing(site.feed.answer(worker.member, question)) as lines:
        assert Answer.from_json(await anext(lines)).flush
        with pytest.raises(StopAsyncIteration):
            await anext(lines)


async def test_a_long_log_is_told_in_pages(site):
    for number in range(PAGE_ENTRIES + 3):
        site.log.add(site.log.write(PurgeKind.HARD, (f"tag-{number}",)))
    worker = Worker(site, "worker-1")
    await worker.ask()
    await worker.ask()
    assert worker.follower.applied == site.log.entries[PAGE_ENTRIES - 1].position
    assert [worker.follower.caught_up] == [False]
    assert not worker.lease.held(site.clock())
    await worker.catch_up()
    assert worker.follower.caught_up


async def test_until_applied_waits_for_what_is_in_the_log_when_it_begins(site):
    site.log.add(site.log.write(PurgeKind.HARD, ("a",)))
    worker = Worker(site, "worker-1")
    applied = asyncio.create_task(site.feed.until_applied(worker.member))
    await worker.ask()
    await asyncio.sleep(0)
    assert not applied.done()
    await worker.catch_up()
    await asyncio.wait_for(applied, 5)


# --- over HTTP ---


@asynccontextmanager
async def client_of(site: Site, member: Member) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=Starlette(routes=site.feed.routes()))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://site", headers={EDGE_KEY_FIELD: member.key}
    ) as client:
        yield client


async def test_only_keys_that_were_given_out_are_answered(site):
    worker = await site.worker("worker-1")
    question = worker.follower.question().to_json()
    async with client_of(site, Member("x", "wrong")) as client:
        for path in (FEED_PATH, LEAVE_PATH, PURGE_PATH):
            refused = await client.post(path, content=question)
            assert (refused.status_code, refused.headers[REFUSED_FIELD]) == (403, REFUSED_EDGE_KEY)
    site.feed.reaped(worker.member)
    async with client_of(site, worker.member) as client:
        assert (await client.post(FEED_PATH, content=question)).status_code == 403


async def test_a_key_belongs_to_one_process(site):
    worker = await site.worker("worker-1")
    stranger = Follower("another-random", "site", "http://127.0.0.1:9", Floors(), Lease(LEASE_S))
    async with client_of(site, worker.member) as client:
        refused = await client.post(FEED_PATH, content=stranger.question().to_json())
    assert (refused.status_code, worker.member.contact) == (400, worker.follower.contact)


async def test_who_leaves_is_gone_and_comes_not_back_under_its_key(site):
    one, two = await site.worker("worker-1"), await site.worker("worker-2")
    async with client_of(site, two.member) as client:
        assert (await client.post(LEAVE_PATH, content=b"{}")).status_code == 204
        assert (await client.post(FEED_PATH, content=two.follower.question().to_json())).status_code == 503
    purging = site.purging("a")
    await site.entered()
    await one.catch_up()
    assert [each["worker"] for each in (await purging)["workers"]] == ["worker-1"]


async def test_a_worker_can_enter_a_purge(site):
    one = await site.worker("worker-1")
    wish = PurgeWish("site", PurgeKind.SOFT, ("group",), "Cache-Group-Invalidation", 0.0)
    async with client_of(site, one.member) as client:
        done = (await client.post(PURGE_PATH, content=wish.to_json())).json()
        assert (done["tags"], done["kind"], done["live"]) == (["group"], "soft", False)
        assert (await client.post(PURGE_PATH, content=b"{}")).status_code == 400
    assert [said[:2] for said in site.audited] == [("worker-1", "Cache-Group-Invalidation")]


async def test_a_disk_that_is_full_purges_nothing_and_says_so(site, monkeypatch):
    one = await site.worker("worker-1")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    wish = PurgeWish("site", PurgeKind.HARD, ("a",))
    async with client_of(site, one.member) as client:
        answer = await client.post(PURGE_PATH, content=wish.to_json())
    assert answer.status_code == 503
    assert "nothing was purged" in answer.json()["detail"]
    assert site.log.entries == []
    assert site.audited == []
