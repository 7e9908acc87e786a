"""`nearshelf policy diff --replay`: what a log would have been under other policies, against what it then really is."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from cache_policies.positions import Position
from edge.policy_files import load_policies
from infra import cli
from infra.errors import CommandError
from infra.policy.access_log import read_logs
from infra.policy.replay import Replayed, as_json, lines_of_text, replay
from tests.policy_tools.shops import SMALL, SMALL_ORIGINS
from tests.policy_tools.test_diff import edited
from tests.support.edge_shop import EdgeShop
from tests.support.scripted_origin import Reply, Seen, page

SHORTER = ("pages.yaml", "fresh: 300s", "fresh: 20s")
NO_STALE = ("pages.yaml", "stale_while_revalidate: 60s", "stale_while_revalidate: 0s")


def answer(seen: Seen, position: Position) -> Reply:
    """As new as anything; silent about lifetimes, but for one in four addresses; one in ten is not there."""
    last = seen.path.rpartition("-")[2]
    number = int(last) if last.isdigit() else 1
    cdn, status = "max-age=45" if number % 4 == 0 else "", 404 if number % 10 == 0 else 200
    return page(cdn=cdn, cache_control="", status=status, position=str(position))


async def recorded(tmp_path: Path, folder: Path, requests: int = 1_500) -> tuple[Path, int]:
    """The log of a worker with the policies of `folder` after an hour of one seeded shop's traffic, and how many
    requests the origin got."""
    tmp_path.mkdir()
    rng = random.Random(7)
    async with EdgeShop(tmp_path, policies=load_policies(folder), settings=SMALL_ORIGINS) as shop:
        shop.origin.otherwise = lambda seen: answer(seen, shop.position)
        viewer = await shop.viewer()
        for _ in range(requests):
            shop.later(rng.expovariate(1 / 2))
            if rng.random() < 0.01:
                shop.purge("page:list")
            kind, number = rng.choice(["c/lamps", "c/lamps", "stories/story", "robots"]), int(rng.paretovariate(1))
            target = f"/eu-eur/{kind}-{min(number, 12)}" + rng.choice(["", "?page=2", "?utm_source=x"])
            viewer.get(target, shop.host)
            await viewer.response()
            await shop.until(lambda: len(shop.gateway._flights) == 0)
        shop.log_lines()
        return tmp_path / "access.log", len(shop.origin.seen)


def replayed(log: Path, before: Path, after: Path) -> Replayed:
    return replay(read_logs([log]), load_policies(before), load_policies(after))


async def test_the_predicted_hit_ratio_is_within_two_points_of_a_real_run(tmp_path):
    log, _ = await recorded(tmp_path / "log", SMALL)
    for name, edits, least in (
        ("same", (), 0.0),
        ("shorter", (SHORTER,), 0.005),
        ("no-stale", (SHORTER, NO_STALE), 0.1),
    ):
        after = edited(tmp_path / name, *edits)
        found = replayed(log, SMALL, after)
        told = as_json(found)
        ratio = told["hit_ratio"]
        assert found.recorded.all.hit_ratio == pytest.approx(ratio["before"], abs=0.02)
        really_log, asked = await recorded(tmp_path / f"{name}-log", after)
        really = replayed(really_log, after, after).recorded.all.hit_ratio
        print(f"{name}: predicted {ratio['after']:.3f}, really {really:.3f}, before {ratio['before']:.3f}")
        assert really == pytest.approx(ratio["after"], abs=0.01)
        assert asked / found.seconds == pytest.approx(told["origin_requests_per_s"]["after"], rel=0.05)
        assert ratio["after"] <= ratio["before"] - least
        assert (found.extra_origin_per_s > 0.01) == bool(edits)
        assert (found.cold > 0) == bool(edits)
        assert {name for name, each in told["routes"].items() if each["changed"]} == ({"list-page"} if edits else set())
        assert not found.cautions
        assert found.objects > 20


BEGAN_AT = 1_795_000_000.0


def line(time: float, path: str, **said: Any) -> str:
    known = {
        "time": BEGAN_AT + time, "edge": "eu", "worker": "w", "method": "GET", "route": "list-page", "path": path,
        "status": 200, "cache": "miss", "reason": "cold", "stored": True, "ttl": 300, "age": None, "bytes": 1, "ms": 1,
    }  # fmt: skip
    return json.dumps(known | said) + "\n"


def hit(time: float, path: str, age: int, ttl: int, **said: Any) -> str:
    return line(time, path, cache="hit", reason="", stored=False, ttl=ttl, age=age, **said)


LAMPS = "/eu-eur/c/lamps"


def log_of(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "access.log"
    path.write_text("".join(lines))
    return path


def test_objects_go_cold_when_their_policy_is_another(tmp_path):
    after = edited(tmp_path / "after", ("pages.yaml", "query: [sort, page]", "query: [page]"))
    log = log_of(
        tmp_path,
        line(0, LAMPS),
        line(1, LAMPS, query={"page": "2"}),
        line(2, "/eu-eur/stories/one"),
        line(3, "/robots.txt", cache="pass", stored=False, reason="policy-never-stores"),
    )
    found = replayed(log, SMALL, after)
    assert (found.objects, found.cold) == (3, 2)
    assert replayed(log, SMALL, SMALL).cold == 0


def test_parameters_that_no_longer_count_are_one_key(tmp_path):
    after = edited(tmp_path / "after", ("pages.yaml", "query: [sort, page]", "query: [page]"))
    log = log_of(tmp_path, *(line(n, LAMPS, query={"sort": str(n)}) for n in range(10)))
    found = replayed(log, SMALL, after)
    assert (found.before.all.hits, found.after.all.hits) == (0, 9)
    assert found.extra_origin_per_s == pytest.approx(-1.0)


def test_a_purge_is_where_the_log_shows_one(tmp_path):
    log = log_of(
        tmp_path, line(0, LAMPS), hit(10, LAMPS, 10, 290), line(20, LAMPS, cache="validated", reason="purged-hard")
    )
    assert replayed(log, SMALL, SMALL).before.all.origin == 2


def test_edges_have_stores_of_their_own(tmp_path):
    log = log_of(tmp_path, line(0, LAMPS), line(1, LAMPS, edge="us"))
    assert replayed(log, SMALL, SMALL).before.all.hits == 0


def test_the_lifetime_that_the_origin_proposed_is_read_from_the_log(tmp_path):
    log = log_of(tmp_path, line(0, LAMPS, ttl=30), hit(20, LAMPS, 20, 10), line(95, LAMPS, ttl=30))
    assert replayed(log, SMALL, SMALL).before.all.hits == 1
    silent = log_of(tmp_path, line(0, LAMPS, ttl=600), hit(20, LAMPS, 20, 580), hit(500, LAMPS, 500, 100))
    assert replayed(silent, SMALL, SMALL).before.all.hits == 2


def test_what_an_edge_refused_and_what_has_no_address_are_left_out_and_counted(tmp_path):
    personal = json.loads(line(1, "x", cache="pass", reason="policy-never-stores", stored=False))
    del personal["path"]
    refused = line(2, LAMPS, method="POST", cache="edge", reason="method", status=405)
    log = log_of(tmp_path, line(0, LAMPS), json.dumps(personal) + "\n", "\n", refused)
    found = replayed(log, SMALL, SMALL)
    assert (found.lines, found.without_address, found.before.all.passed) == (3, 1, 1)
    assert any("1 of them without an address" in text for text in lines_of_text(found))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON\n",
        "{}\n",
        '{"time": "x"}\n',
        line(float("nan"), LAMPS),
        line(float("inf"), LAMPS),
        line(0, LAMPS, status=float("inf")),
        "[" * 100_000 + "\n",
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_log_is_said_with_its_line(text, tmp_path):
    with pytest.raises(CommandError, match="access"):
        read_logs([log_of(tmp_path, text)])
    if text:
        with pytest.raises(CommandError, match=":2: no line"):
            read_logs([log_of(tmp_path, line(0, LAMPS), text)])


def test_the_command_prints_the_prediction_in_every_form(tmp_path, capsys):
    after = edited(tmp_path / "after", SHORTER)
    log = log_of(tmp_path, line(0, LAMPS), hit(50, LAMPS, 50, 250), hit(100, LAMPS, 100, 200))
    words = ["policy", "diff", str(SMALL), str(after), "--replay", str(log)]
    assert cli.run([*words, "--format", "json"]) == 2
    found = json.loads(capsys.readouterr().out)["replay"]
    assert found["hit_ratio"]["before"] == pytest.approx(2 / 3)
    assert found["origin_requests_per_s"]["extra"] == pytest.approx(0.02)
    for form in ("text", "md"):
        assert cli.run([*words, "--format", form]) == 2
        assert "hit ratio 66.7 % -> 66.7 %" in capsys.readouterr().out  # stale hits now, refreshed behind the viewer
