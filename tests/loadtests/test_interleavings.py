"""The table of interleavings: what ours claims holds, each row can fail, and the origin behind it does what it says."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from cache_policies.feed import FEED_PATH, Answer, Question
from cache_policies.positions import Position
from loadtests.http1 import Connection, NoAnswer
from loadtests.interleavings import __main__ as command
from loadtests.interleavings import scenes
from loadtests.interleavings.caches import Cache, Edge, Site, Told
from loadtests.interleavings.origin import EDGE_KEY, Origin, Page, Trouble
from loadtests.interleavings.peers import Nginx, NginxStale, Varnish
from loadtests.interleavings.scenes import SCENES
from loadtests.interleavings.stage import Shown, Stage
from loadtests.interleavings.table import Column, Finding, Verdict, notes, table
from tests.loadtests.wrong_caches import Deaf, Deletes

ROOT = Path(__file__).parents[2]


@pytest.mark.alone
def test_ours_does_what_it_claims():
    """The command that docs/freshness.md names, in short, against ours alone: what peers do is for the table."""
    rows = ["a1", "a2", "a3", "a4", "a5", "a6", "b1", "c1", "c3", "c5", "d1", "e1"]
    chosen = ["--only", ",".join(rows), "--against", "nearshelf,nearshelf edge"]
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.interleavings", *chosen],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=115,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"| {len(rows)} in all | {len(rows)} holds |" in done.stdout


async def test_each_interleaving_is_failed_by_a_cache_that_is_wrong(monkeypatch):
    monkeypatch.setattr(scenes, "MANY", 30)
    deletes, deaf = await command.columns_of([Deletes, Deaf], SCENES)
    for scene in SCENES:
        found = [deletes.findings[scene.id], deaf.findings[scene.id]]
        failed = [each for each in found if each.verdict not in {Verdict.HOLDS, Verdict.NOT_PLAYED}]
        assert failed, f"{scene.id} {scene.title}: {found}"
    # The race that deleting has, and what a lost order is called.
    assert deletes.findings["a1"].verdict is Verdict.FAILS
    assert deletes.findings["b1"].words == "old price, after it says so; until a second purge"
    assert deaf.findings["c1"].verdict is Verdict.CANNOT


NEW, MARKED = Shown(200, 1200, marked=False), Shown(200, 1000, marked=True)
OLD, BROKEN, REFUSED, NOTHING = (
    Shown(200, 1000, False),
    Shown(502, None, False),
    Shown(503, None, False),
    Shown(0, None, False),
)


@pytest.mark.parametrize(
    ("shown", "verdict", "where_it_may_refuse"),
    [
        pytest.param([NEW], Verdict.HOLDS, Verdict.HOLDS, id="the new price"),
        pytest.param([REFUSED, NEW], Verdict.HOLDS, Verdict.HOLDS, id="the new price in the end"),
        pytest.param([NEW, OLD], Verdict.FAILS, Verdict.FAILS, id="the old price"),
        pytest.param([OLD, NEW], Verdict.FAILS, Verdict.FAILS, id="the old price at first"),
        pytest.param([BROKEN, BROKEN], Verdict.FAILS, Verdict.HOLDS, id="502 throughout"),
        pytest.param([REFUSED], Verdict.FAILS, Verdict.HOLDS, id="503"),
        pytest.param([MARKED], Verdict.FAILS, Verdict.HOLDS, id="marked as being confirmed"),
        pytest.param([NOTHING], Verdict.FAILS, Verdict.FAILS, id="no answer"),
        pytest.param([Shown(404, None, False)], Verdict.FAILS, Verdict.FAILS, id="a page that is gone"),
    ],
)
def test_a_row_holds_where_the_new_price_is_shown_or_a_refusal_is_right(shown, verdict, where_it_may_refuse):
    origin = Origin()
    stage = Stage(origin, cast(Cache, None), "a1")
    page = stage.page()
    stage.happens(page)
    told = Told(True, "live by its report")
    assert stage.judged(page, told, shown).verdict is verdict
    assert stage.judged(page, told, shown, may_refuse=True).verdict is where_it_may_refuse


@pytest.mark.parametrize("status", [0, 502])
async def test_whoever_answers_nothing_holds_in_no_row_but_those_where_a_refusal_is_right(monkeypatch, status):
    """Once what leads up to a row has come about."""
    refuses = {"c3", "c4", "e1", "e2"} if status else set()

    def judged(self: Stage, page: Page, told: Told, shown: Sequence[Shown], **may: bool) -> Finding:
        return right(self, page, told, [Shown(status, None, False) for _ in shown], **may)

    right = Stage.judged
    monkeypatch.setattr(Stage, "judged", judged)
    rows = [scene for scene in SCENES if scene.id[0] in "abc" or scene.id in {"e1", "e2"}]
    (column,) = await command.columns_of([Deletes], rows)
    played = {row: found for row, found in column.findings.items() if found.verdict is not Verdict.NOT_PLAYED}
    assert {row for row, found in played.items() if found.verdict is Verdict.HOLDS} == refuses & set(played)
    assert refuses <= set(played)


def test_nothing_to_play_is_said(capsys):
    assert command.main(["--only", "z9"]) == 2
    assert "rows are a1, a2" in capsys.readouterr().err
    assert command.main(["--against", "squid"]) == 2
    assert "caches are nearshelf, nearshelf edge, Varnish, nginx" in capsys.readouterr().err


def test_what_ours_claims_are_rows_of_the_table():
    rows = {scene.id for scene in SCENES}
    assert Edge.claims is None
    assert Site.claims is not None
    assert Site.claims <= rows
    assert not Varnish.claims
    assert not Nginx.claims
    assert not NginxStale.claims


def test_a_claim_that_does_not_hold_is_broken():
    fails, cannot = Finding(Verdict.FAILS, "old price"), Finding(Verdict.CANNOT, "old price")
    not_played = Finding(Verdict.NOT_PLAYED, "it does not ask")
    columns = [
        Column("nearshelf", "", {"a1": Finding(Verdict.HOLDS, "new price"), "b1": fails}),
        Column("nearshelf edge", "", {"a1": cannot, "b1": fails}),
        Column("nginx", "", {"a1": fails, "b1": fails}),
        Column("nearshelf", "", {"a2": not_played}),
    ]
    assert command.broken_claims([Edge, Site, Nginx, Edge], columns) == [
        "nearshelf, b1: **fails**: old price",
        "nearshelf edge, a1: cannot: old price",
        "nearshelf, a2: not played: it does not ask",
    ]


def test_the_table_counts():
    columns = [
        Column("ours", "it asks", {"a1": Finding(Verdict.HOLDS, "new price"), "a2": Finding(Verdict.HOLDS, "404")}),
        Column("theirs", "told", {"a1": Finding(Verdict.FAILS, "old price"), "a2": Finding(Verdict.CANNOT, "lost")}),
    ]
    assert table([("a1", "one"), ("a2", "two")], columns).splitlines() == [
        "| | ours | theirs |",
        "|---|---|---|",
        "| **a1** one | holds: new price | **fails**: old price |",
        "| **a2** two | holds: 404 | cannot: lost |",
        "| 2 in all | 2 holds | 1 **fails**, 1 cannot |",
    ]
    assert notes(columns) == "- **ours**: it asks.\n- **theirs**: told."


async def test_a_replica_that_lags_answers_whoever_demands_nothing_more():
    async with Origin() as origin, Connection(origin.url) as connection:
        page = origin.page("/p", ("p:1",), "max-age=60")
        page.replica_at = origin.head.cv
        changed = origin.change([page], "p:1")

        async def asked(**fields: str) -> tuple[str, bytes]:
            named = {name.replace("_", "-"): value for name, value in fields.items()}
            answer = await connection.request("GET", "/p", named)
            return answer.headers["catalog-version"], answer.body

        key = {"nearshelf_edge_key": EDGE_KEY}
        version, body = await asked(**key)
        assert (version, b'value="1000"' in body) == ("1.1", True)
        assert (await asked(min_catalog_version=str(changed)))[0] == "1.1", "without the key nothing is demanded"
        for minimum in (str(changed), "head"):
            version, body = await asked(min_catalog_version=minimum, **key)
            assert (version, b'value="1200"' in body) == (str(changed), True)
        assert (await asked(min_catalog_version="1.1", **key))[0] == "1.1"


async def test_a_barrier_holds_what_was_read_before():
    async with Origin() as origin, Connection(origin.url) as viewer, Connection(origin.url) as later:
        page = origin.page("/p", ("p:1",), "max-age=60")
        barrier = page.barrier()
        early = asyncio.create_task(viewer.request("GET", "/p"))
        await barrier.reached()
        origin.change([page], "p:1")
        assert b'value="1200"' in (await later.request("GET", "/p")).body
        barrier.release()
        assert b'value="1000"' in (await early).body
        assert page.fetches == 2


async def test_live_is_when_the_worker_has_asked_from_there():
    async with Origin() as origin, Connection(origin.url) as connection:
        page = origin.page("/p", ("p:1",), "max-age=60")

        async def asks(contact: int, after: Position | None, after_id: str | None) -> Answer:
            question = Question("a-worker", "edge", contact, after, after_id, "http://edge")
            return Answer.from_json((await connection.request("POST", FEED_PATH, {}, question.to_json())).body)

        start = (await asks(1, None, None)).start
        assert start is not None
        changed = origin.change([page], "p:1")
        told = await asks(2, *start)
        assert [entry.tags for entry in told.entries] == [("p:1",)]
        assert not (await origin.live(changed, 0.0)).done
        reporting = asyncio.create_task(asks(3, told.head, told.head_id))
        assert await origin.live(changed, 10.0) == (True, "live by its report")
        origin.lose_questions()
        with pytest.raises(NoAnswer):
            await reporting


@pytest.mark.parametrize("trouble", [Trouble.RESET, Trouble.CUT_SHORT])
async def test_a_page_in_trouble_gives_no_whole_answer(trouble):
    async with Origin() as origin, Connection(origin.url) as connection:
        page = origin.page("/p", ("p:1",), "max-age=60")
        page.trouble = trouble
        with pytest.raises(NoAnswer):
            await connection.request("GET", "/p")


async def test_an_origin_that_refuses_can_come_back():
    async with Origin() as origin, Connection(origin.url) as connection:
        origin.page("/p", ("p:1",), "max-age=60")
        assert (await connection.request("GET", "/p")).status == 200
        await origin.refuse()
        with pytest.raises(NoAnswer):
            await connection.request("GET", "/p")
        await origin.listen()
        assert (await connection.request("GET", "/p")).status == 200
