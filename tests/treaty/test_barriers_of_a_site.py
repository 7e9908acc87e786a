"""Rule 2 on real processes in front of an origin that knows nothing of positions: `nearshelf edge` with one worker and
with two, with and without the tier that they share (docs/freshness.md, "How it is proved").

Each story holds the origin's answer, purges until that is live, lets the answer go and asks again, each worker over a
connection to it: what was read before the purge must not come back, in whatever form it comes, and must not lie in any
store, in any message between workers or in any record of the tier. `test_faults_of_a_site.py` has the same with broken
workers, parents, logs and tiers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.scripted_origin import Pace, Reply, ScriptedOrigin, changed
from tests.support.site_stories import NEW, Stage, Story, says, staged
from tests.support.site_viewers import Records, until

LARGE = 400_000

ORDERS: dict[str, Callable[[Story], dict[str, Any]]] = {
    "tag": lambda story: {"tags": [story.tag]},
    "path": lambda story: {"paths": [f"{story.path}?whatever=1"]},
    "all": lambda story: {"all": True},
    "soft-tag": lambda story: {"tags": [story.tag], "soft": True},
    "soft-path": lambda story: {"paths": [story.path], "soft": True},
    "soft-all": lambda story: {"all": True, "soft": True},
}


async def a_page(stage: Stage) -> None:
    for chunked in (False, True):
        story = Story(stage, f"page-{chunked}")
        with story.origin.holding(story.path) as held:
            viewer = await story.asking(stage.first)
            await held.arrived()
            await story.purge(story.says_new())
            await story.let_go(held, changed(story.says_old(), chunked=chunked), viewer)


async def each_way_to_purge(stage: Stage) -> None:
    for name, order in ORDERS.items():
        story = Story(stage, f"by-{name}")
        with story.origin.holding(story.path) as held:
            viewer = await story.asking(stage.first)
            await held.arrived()
            await story.purge(story.says_new(), **order(story))
            late = await story.asking(stage.first)
            held.answer(story.says_old())
            # Who came after the purge was live is shown nothing older, whoever's fill it shared.
            assert (await late.response()).body == NEW, story.tag
            await story.let_go(held, story.says_old(), viewer)


async def other_names_for_tags(stage: Stage) -> None:
    """Surrogate-Key, blanks between; Cache-Groups, a structured list."""
    for field, value in (("surrogate-key", "x y {}"), ("cache-groups", '"x", "{}"')):
        story = Story(stage, f"named-by-{field}")
        fields = {"cache-control": "max-age=600", field: value.format(story.tag)}
        with story.origin.holding(story.path) as held:
            viewer = await story.asking(stage.first)
            await held.arrived()
            await story.purge(Reply(NEW, headers=fields))
            await story.let_go(held, Reply(story.old, headers=fields), viewer)
        # It is by that name that it is found.
        story.origin.on(story.path, Reply(b"newer", headers=fields))
        assert (await stage.site.purge(tags=[story.tag]))["live"]
        for worker in stage.viewers.names:
            assert (await story.ask(worker)).body == b"newer", story.tag


async def the_head_of_a_page(stage: Stage) -> None:
    story = Story(stage, "head")
    with story.origin.holding(story.path) as held:
        viewer = await story.asking(stage.first, method="HEAD")
        await held.arrived()
        await story.purge(story.says_new())
        await story.let_go(held, story.says_old(), viewer)


async def a_part_of_a_page(stage: Stage) -> None:
    story = Story(stage, "part")
    with story.origin.holding(story.path) as held:
        viewer = await story.asking(stage.first, "Range: bytes=0-1")
        await held.arrived()
        await story.purge(story.says_new())
        await story.let_go(held, story.says_old(), viewer)
    for worker in stage.viewers.names:
        part = await story.ask(worker, "Range: bytes=1-")
        assert (part.status, part.body) == (206, NEW[1:])


async def viewers_who_wait_together(stage: Stage) -> None:
    story = Story(stage, "crowd")
    with story.origin.holding(story.path) as held:
        crowd = [await story.asking(stage.first) for _ in range(6)]
        await held.arrived()
        await stage.viewers.have_read_everything()
        assert len(held.seen) == 1
        await story.purge(story.says_new())
        await story.let_go(held, story.says_old(), *crowd)


async def a_viewer_who_hangs_up(stage: Stage) -> None:
    """The fill goes on for nobody."""
    story = Story(stage, "hung-up")
    with story.origin.holding(story.path) as held:
        viewer = await story.asking(stage.first)
        await held.arrived()
        viewer.hang_up()
        await story.purge(story.says_new())
        await story.let_go(held, story.says_old())


async def a_viewer_of_the_other_worker(stage: Stage) -> None:
    """With a tier the other worker waits for the claim of the first; without one it asks the origin as well."""
    story = Story(stage, "both")
    with story.origin.holding(story.path) as held:
        viewer = await story.asking(stage.first)
        await held.arrived()
        other = await stage.viewers.another(stage.other)
        claims = 0 if stage.records is None else await stage.records.calls("set")
        other.send(story.path)
        if stage.first == stage.other:
            await stage.viewers.have_read_everything()
        elif stage.records is not None:
            await until(_more_claims(stage.records, claims), "the other worker asks for the claim")
        else:
            await held.arrived()
        assert len(held.seen) == (2 if stage.records is None and stage.first != stage.other else 1)
        await story.purge(story.says_new())
        late = await story.asking(stage.other)
        await stage.viewers.have_read_everything()
        held.answer(story.says_old())
        assert (await late.response()).body == NEW
        await story.let_go(held, story.says_old(), viewer, other)


def _more_claims(records: Records, before: int) -> Callable[[], Awaitable[bool]]:
    async def are_there() -> bool:
        return await records.calls("set") > before

    return are_there


async def a_confirmation(stage: Stage) -> None:
    for kind in ("hard", "soft"):
        story = Story(stage, f"not-modified-{kind}")
        story.origin.on(story.path, story.says_old("no-cache", etag='"old"'))
        await story.ask(stage.first)
        with story.origin.holding(story.path) as held:
            crowd = [await story.asking(stage.first) for _ in range(3)]
            assert (await held.arrived()).headers["if-none-match"] == '"old"'
            unchanged = changed(says(b"", story.tag, "max-age=600", etag='"old"'), status=304)
            await story.purge(story.says_new(etag='"new"'), tags=[story.tag], soft=kind == "soft")
            await story.let_go(held, unchanged, *crowd)


async def a_refresh_in_the_background(stage: Stage) -> None:
    for kind in ("200", "304"):
        story = Story(stage, f"refresh-{kind}")
        # As old as it may become when it arrives.
        lives = "max-age=600, stale-while-revalidate=600"
        story.origin.on(story.path, story.says_old(lives, age="600", etag='"old"'))
        await story.ask(stage.first)
        again = story.says_old(lives, etag='"old"')
        with story.origin.holding(story.path) as held:
            shown = await story.ask(stage.first)
            assert (shown.is_hit, shown.body) == (True, story.old)
            await held.arrived()
            await story.purge(story.says_new())
            late = await story.asking(stage.first)
            held.answer(again if kind == "200" else changed(again, status=304, body=b""))
            assert (await late.response()).body == NEW
            await story.is_new_everywhere()


async def an_error_page(stage: Stage) -> None:
    """What was not there, and is created: an answer that is held, and one that is stored."""
    held_one, stored_one = Story(stage, "not-found-held"), Story(stage, "not-found-stored")
    with stage.origin.holding(held_one.path) as held:
        viewer = await held_one.asking(stage.first)
        await held.arrived()
        await held_one.purge(held_one.says_new())
        await held_one.let_go(held, changed(held_one.says_old(), status=404), viewer, status=404)

    stage.origin.on(stored_one.path, changed(stored_one.says_old(), status=404))
    for worker in stage.viewers.names:
        await stored_one.ask(worker)
        assert (await stored_one.ask(worker)).is_hit
    await stored_one.purge(stored_one.says_new())
    await stored_one.is_new_everywhere()


async def a_large_answer_halfway(stage: Stage) -> None:
    for chunked in (False, True):
        story = Story(stage, f"large-{chunked}", old=b"o" * LARGE)
        pace = Pace(LARGE // 2)
        story.origin.on(story.path, changed(story.says_old(), pace=pace, chunked=chunked))
        early = await story.asking(stage.first)
        begun = await early.head()
        assert begun.status == 200
        await story.purge(story.says_new())
        # It is still growing, and nobody joins it.
        for worker in stage.viewers.names:
            assert (await story.ask(worker)).body == NEW
        pace.to(LARGE)
        assert await early.body_after(begun) == story.old
        await story.is_new_everywhere()


async def a_large_answer_that_is_cut_short_after_a_purge(stage: Stage) -> None:
    story = Story(stage, "large-cut", old=b"o" * LARGE)
    pace = Pace(LARGE // 2)
    story.origin.on(story.path, changed(story.says_old(), pace=pace))
    early = await story.asking(stage.first)
    begun = await early.head()
    await story.purge(story.says_new())
    pace.cut()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await early.body_after(begun)
    await story.is_new_everywhere()


async def a_write(stage: Stage) -> None:
    """No purge: the write itself is what overtakes, at every worker of this machine."""
    story = Story(stage, "write")
    story.origin.on(story.path, story.says_old())
    for worker in stage.viewers.names:
        await story.ask(worker)
        assert (await story.ask(worker)).is_hit
    story.origin.on(story.path, lambda seen: Reply(b"", 204) if seen.method == "POST" else story.says_new())
    story.is_old_from_here_on()
    assert (await story.ask(stage.other, "Content-Length: 0", method="POST")).status == 204
    await story.is_new_everywhere()


async def a_write_while_a_fill_is_under_way(stage: Stage) -> None:
    """Through the worker that fills, and through the other one. It names what it changes by Location."""
    for number, writer in enumerate(stage.viewers.names, 1):
        story = Story(stage, f"write-under-way-{number}")
        form = f"{story.path}-form"
        stage.origin.on(form, Reply(b"", 303, {"location": story.path, "cache-control": "no-store"}))
        with stage.origin.holding(story.path) as held:
            viewer = await story.asking(stage.first)
            await held.arrived()
            stage.origin.on(story.path, story.says_new())
            written = await stage.viewers.at[writer].ask(form, "Content-Length: 0", method="POST")
            assert written.status == 303
            await stage.viewers.have_read_everything()
            await story.let_go(held, story.says_old(), viewer)


Telling = Callable[[Stage], Awaitable[None]]
STORIES: tuple[Telling, ...] = (
    a_page,
    each_way_to_purge,
    other_names_for_tags,
    the_head_of_a_page,
    a_part_of_a_page,
    viewers_who_wait_together,
    a_viewer_who_hangs_up,
    a_viewer_of_the_other_worker,
    a_confirmation,
    a_refresh_in_the_background,
    an_error_page,
    a_large_answer_halfway,
    a_large_answer_that_is_cut_short_after_a_purge,
    a_write,
    a_write_while_a_fill_is_under_way,
)


async def tell(folder: Path, workers: int, tier: str | None = None) -> None:
    """Every story, one after another, before one site."""
    async with ScriptedOrigin() as origin, staged(folder, origin, workers=workers, tier=tier) as stage:
        for story in STORIES:
            await story(stage)


@pytest.mark.timeout(180)
async def test_one_worker(tmp_path):
    await tell(tmp_path, 1)


@pytest.mark.timeout(180)
async def test_one_worker_and_a_tier(tmp_path, valkey):
    await tell(tmp_path, 1, valkey.redis_url)


@pytest.mark.timeout(180)
async def test_two_workers(tmp_path):
    await tell(tmp_path, 2)


@pytest.mark.timeout(180)
async def test_two_workers_and_their_tier(tmp_path, valkey):
    await tell(tmp_path, 2, valkey.redis_url)
