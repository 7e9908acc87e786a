"""What was purged stays purged while a site breaks: workers that freeze or are killed, a parent that is gone, a purge
log that is damaged, and a tier in which somebody else has written.

The workers are real processes behind `nearshelf edge`, before an origin that knows nothing of positions, with the tier
that they share: whatever they had when they broke may still lie there. Nothing here sleeps: every wait is for a
condition (`test_barriers_of_a_site.py` has the same where nothing breaks).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cache_policies.feed import LEASE_S
from cache_policies.positions import Position
from edge.core.key import CacheKey
from edge.core.stored import StoredResponse
from edge.store.codec import encode
from tests.support.scripted_origin import Reply, ScriptedOrigin
from tests.support.site import is_running
from tests.support.site_stories import NEW, Stage, Story, says, staged
from tests.support.site_viewers import WITHIN_S, until

pytestmark = [pytest.mark.alone, pytest.mark.timeout(180)]

LOG = Path("state") / "purges.log"


@contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """While in it, they do not run."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            if is_running(pid):
                os.kill(pid, signal.SIGCONT)


async def pid_of(stage: Stage, worker: str) -> int:
    found: dict[str, int] = {each["name"]: each["pid"] for each in (await stage.site.status())["workers"]}
    return found[worker]


async def is_stored(story: Story) -> None:
    """The old page, at every worker and in the tier."""
    story.origin.on(story.path, story.says_old())
    for worker in story.viewers.names:
        await story.ask(worker)
        assert (await story.ask(worker)).is_hit
    assert story.stage.records is not None
    await story.stage.records.has(story.path)


async def have_ended(pids: list[int]) -> bool:
    return not any(is_running(pid) for pid in pids)


async def has_grown(log: Path, size: int) -> None:
    """The purge is on the disk."""

    async def is_longer() -> bool:
        return log.stat().st_size > size

    await until(is_longer, f"{log.name} is longer than {size} bytes")


async def test_a_worker_that_is_frozen_while_a_purge_goes_round(tmp_path, valkey):
    async with ScriptedOrigin() as origin, staged(tmp_path, origin, workers=2, tier=valkey.redis_url) as stage:
        stored, filling = Story(stage, "stored"), Story(stage, "filling")
        await is_stored(stored)
        with origin.holding(filling.path) as held:
            asked_before = await filling.asking(stage.other)
            await held.arrived()
            late = [await stage.viewers.another(stage.other) for _ in range(2)]
            # Opened now: the kernel gives new connections to frozen workers, too.
            waiting = await stage.viewers.another(stage.first)
            with frozen(await pid_of(stage, stage.other)):
                stored.is_old_from_here_on()
                origin.on(stored.path, stored.says_new())
                origin.on(filling.path, filling.says_new())
                done = await stage.site.purge(tags=[stored.tag, filling.tag])
                assert done["live"]
                outcomes = {worker["worker"]: worker["outcome"] for worker in done["workers"]}
                assert outcomes == {stage.first: "applied", stage.other: "lease ran out"}
                # Its last question was sent a moment before it froze, at the earliest.
                assert done["seconds"] > LEASE_S / 2
                stored.live = filling.live = Position.parse(done["position"])
                # The other worker answers at once; what the frozen one claimed, when the claim has run out.
                assert (await stored.ask(stage.first)).body == NEW
                waiting.send(filling.path)
                for viewer, story in zip(late, (stored, filling), strict=True):
                    viewer.send(story.path)
                held.answer(filling.says_old())
                assert (await waiting.response()).body == NEW
            for viewer in late:
                assert (await viewer.response()).body == NEW
            assert (await asked_before.response()).status == 200
        await until(partial(a_new_hit, stored, stage.other), f"{stage.other} has its lease again")
        for story in (stored, filling):
            await story.is_new_everywhere()


async def test_a_worker_that_is_killed_while_a_purge_goes_round(tmp_path, valkey):
    async with ScriptedOrigin() as origin, staged(tmp_path, origin, workers=2, tier=valkey.redis_url) as stage:
        stored, filling, untouched = (Story(stage, name) for name in ("stored", "filling", "untouched"))
        for story in (stored, untouched):
            await is_stored(story)
        with origin.holding(filling.path) as held:
            await filling.asking(stage.other)
            await held.arrived()
            log = tmp_path / LOG
            size, victim = log.stat().st_size, await pid_of(stage, stage.other)
            with frozen(victim):
                stored.is_old_from_here_on()
                for story in (stored, filling, untouched):
                    origin.on(story.path, story.says_new())
                purging = asyncio.create_task(stage.site.purge(tags=[stored.tag, filling.tag]))
                await has_grown(log, size)
                os.kill(victim, signal.SIGKILL)
                done = await purging
            assert done["live"]
            outcomes = {worker["worker"]: worker["outcome"] for worker in done["workers"]}
            assert outcomes == {stage.first: "applied", stage.other: "gone"}
            stored.live = filling.live = Position.parse(done["position"])
            held.answer(filling.says_old())
            await stage.site.until_ready(restarts=1)
            await stage.reaches_its_tier()
            await stage.viewers.pin()
        for story in (stored, filling):
            await story.is_new_everywhere()
        # What was not purged the new process has from the others of its site, and the origin is not asked for it.
        asked = origin.count(untouched.path)
        assert (await untouched.ask(stage.other)).body == untouched.old
        assert origin.count(untouched.path) == asked


async def test_a_parent_that_freezes(tmp_path, valkey):
    """Nobody may call anything fresh that a purge could have reached meanwhile."""
    async with ScriptedOrigin() as origin, staged(tmp_path, origin, workers=2, tier=valkey.redis_url) as stage:
        story = Story(stage, "page")
        await is_stored(story)
        with frozen(stage.site.process.pid):
            for worker in stage.viewers.names:
                await until(partial(no_hit, story, worker), f"{worker} takes nothing for fresh")
            origin.on(story.path, story.says_new())
            for worker in stage.viewers.names * 2:
                response = await story.ask(worker)
                assert (response.is_hit, response.body) == (False, NEW), response
        for worker in stage.viewers.names:
            await until(partial(a_new_hit, story, worker), f"{worker} has its lease again")
        await story.purge(Reply(b"newer", headers={"cache-control": "max-age=600"}))
        for worker in stage.viewers.names:
            assert (await story.ask(worker)).body == b"newer"


async def no_hit(story: Story, worker: str) -> bool:
    response = await story.ask(worker)
    assert response.body == story.old
    return not response.is_hit


async def a_new_hit(story: Story, worker: str) -> bool:
    response = await story.ask(worker)
    assert response.body == NEW
    return response.is_hit


async def test_a_parent_that_is_killed_before_anybody_has_applied_the_purge(tmp_path, valkey):
    """It was on the disk, so that it counts after the next start, which finds a full tier."""
    async with ScriptedOrigin() as origin:
        async with staged(tmp_path, origin, workers=2, tier=valkey.redis_url) as stage:
            earlier, last, untouched = (Story(stage, name) for name in ("earlier", "last", "untouched"))
            for story in (earlier, last, untouched):
                await is_stored(story)
            assert (await stage.site.purge(tags=[earlier.tag]))["live"]
            log, pids = tmp_path / LOG, await stage.site.pids()
            size = log.stat().st_size
            with frozen(*pids):
                purging = asyncio.create_task(stage.site.client.post("/purge", json={"tags": [last.tag]}))
                await has_grown(log, size)
                stage.site.process.kill()
                await until(partial(have_ended, [stage.site.process.pid]), "the parent is gone")
                await asyncio.wait({purging}, timeout=WITHIN_S)
                assert purging.done()
                assert purging.exception() is not None, "acknowledged while nobody had applied it"
            await until(partial(have_ended, pids), "the workers end when their parent is gone")

        for story in (earlier, last, untouched):
            origin.on(story.path, story.says_new())
        asked = origin.count(untouched.path)
        async with staged(tmp_path, origin, workers=2, tier=valkey.redis_url) as stage:
            assert (await stage.site.status())["log"]["began_anew"] is None
            for name in ("earlier", "last"):
                await Story(stage, name).is_new_everywhere()
            again = Story(stage, untouched.tag)
            for worker in stage.viewers.names:
                assert (await again.ask(worker)).body == again.old
            assert origin.count(again.path) == asked


def flipped(log: Path) -> None:
    text = bytearray(log.read_bytes())
    text[len(text) // 2] ^= 1
    log.write_bytes(bytes(text))


def lost(log: Path) -> None:
    log.unlink()


async def test_a_purge_log_that_is_damaged(tmp_path, valkey):
    """A new one begins, and nothing is served that was stored before: neither what lies in the tier under the old log,
    nor the same records where the new one's workers look for theirs. (`tests/site/test_log.py` has more damages.)"""
    damages: tuple[Callable[[Path], None], ...] = (flipped, lost)
    before: dict[str, list[bytes]] = {}
    async with ScriptedOrigin() as origin:
        for number, damage in enumerate((None, *damages)):
            if damage is not None:
                damage(tmp_path / LOG)
            origin.on("/page", says(b"%d" % number, "page"))
            async with staged(tmp_path, origin, workers=1, tier=valkey.redis_url) as stage:
                assert stage.records is not None
                anew = (await stage.site.status())["log"]["began_anew"]
                assert anew is not None, damage
                for name, values in before.items():
                    # A restored tier, or somebody who copies: where this log's records belong.
                    await stage.records.copy(f"{stage.records.prefix}{name}", values)
                for _ in range(2):
                    assert (await stage.viewers.at[stage.first].ask("/page")).body == b"%d" % number, damage
                for _ in range(3):
                    assert (await stage.site.purge(tags=["something-else"]))["live"]
                await stage.records.has("/page")
                found = await stage.records.all()
                before = {name.removeprefix(stage.records.prefix): values for name, values in found.items()}


@asynccontextmanager
async def template(tmp_path: Path, valkey: Any, origin: ScriptedOrigin) -> AsyncIterator[tuple[Stage, StoredResponse]]:
    """A site of one worker with a tier, and a record that this worker has written there."""
    async with staged(tmp_path, origin, workers=1, tier=valkey.redis_url) as stage:
        assert stage.records is not None
        origin.on("/genuine", says(b"genuine", "genuine"))
        await stage.viewers.at[stage.first].ask("/genuine")
        await stage.records.has("/genuine")
        (genuine,) = await stage.records.of("/genuine")
        yield stage, genuine


Forgery = Callable[[StoredResponse, CacheKey], tuple[StoredResponse, bytes | None]]
"""A response as it is planted under the name of a key, and other bytes in place of its record."""


def of_a_key(genuine: StoredResponse, key: CacheKey, **more: Any) -> StoredResponse:
    return replace(genuine, key=key, body=b"planted", tags=(key.path[1:],), **more)


def with_text(old: bytes, new: bytes) -> Forgery:
    def forged(genuine: StoredResponse, key: CacheKey) -> tuple[StoredResponse, bytes]:
        stored = of_a_key(genuine, key)
        record = encode(stored)
        assert old in record
        return stored, record.replace(old, new)

    return forged


def at(move: Callable[[Position], Position]) -> Forgery:
    return lambda genuine, key: (of_a_key(genuine, key, position=move(genuine.position)), None)


FORGERIES: dict[str, Forgery] = {
    "another-version": with_text(b'{"v":', b'{"v":1'),
    "another-key": lambda genuine, key: (replace(of_a_key(genuine, key), key=genuine.key), None),
    "another-host": lambda genuine, key: (replace(of_a_key(genuine, key), key=key._replace(authority="evil:1")), None),
    "another-policy": lambda genuine, key: (of_a_key(genuine, key, policy_version="0" * 12), None),
    "garbage": lambda genuine, key: (of_a_key(genuine, key), b"\x00\xff" * 50),
    "no-record": lambda genuine, key: (of_a_key(genuine, key), b""),
    "cut-short": lambda genuine, key: (of_a_key(genuine, key), encode(of_a_key(genuine, key))[:-1]),
    "line-break": lambda genuine, key: (
        of_a_key(genuine, key, headers=genuine.headers.with_(("x-evil", "a\r\nset-cookie: b=c"))),
        None,
    ),
    "no-position": with_text(b'"position":"', b'"position":"x'),
    "an-ended-epoch": at(lambda position: Position(position.epoch - 1, position.cv + 1000)),
    "before-the-log": at(lambda position: Position(position.epoch, max(0, position.cv - 1000))),
    "past-the-head": at(lambda position: Position(position.epoch, position.cv + 1000)),
    "an-epoch-to-come": at(lambda position: Position(position.epoch + 1, 0)),
}


async def test_records_that_somebody_else_wrote(tmp_path, valkey):
    async with ScriptedOrigin() as origin, template(tmp_path, valkey, origin) as (stage, genuine):
        records, viewer = stage.records, stage.viewers.at[stage.first]
        assert records is not None
        # Somebody who writes what a worker would have written is believed: that the others are not is due to what is
        # wrong with them. A purge applies to it like to any other.
        plain = genuine.key._replace(path="/plain")
        await records.plant(records.name_of(plain), of_a_key(genuine, plain))
        assert (await viewer.ask("/plain")).body == b"planted"
        origin.on("/plain", says(NEW, "plain"))
        assert (await stage.site.purge(tags=["plain"]))["live"]
        assert (await viewer.ask("/plain")).body == NEW

        for name, forge in FORGERIES.items():
            key = genuine.key._replace(path=f"/{name}")
            stored, record = forge(genuine, key)
            origin.on(key.path, says(NEW, name))
            await records.plant(records.name_of(key), stored, record)
            first, again = await viewer.ask(key.path), await viewer.ask(key.path)
            assert (first.body, again.body, again.is_hit) == (NEW, NEW, True), (name, first)
            assert "x-evil" not in first.headers
        status = (await stage.site.status())["workers"][0]["status"]["regional"]
        assert status["unreadable"] >= 7, status
