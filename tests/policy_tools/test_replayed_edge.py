"""What an edge of an access log is taken to do, request by request: workers, flights, purges, losses, outages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cache_policies.reading import PACKAGED_POLICIES
from edge.core.policy import PolicySet
from edge.policy_files import load_policies
from infra.errors import CommandError
from infra.policy.access_log import read_logs
from infra.policy.replay import Replayed, Span, Tally, as_json, replay
from infra.policy.replayed_edge import NO_LIMIT
from tests.policy_tools.test_replay import BEGAN_AT, hit, line, log_of

PAGE = "/eu-eur/lamp"


@pytest.fixture
def policies(tmp_path: Path):
    """A set of one route for everything, with these fields."""

    def make(**fields: Any) -> PolicySet:
        folder = tmp_path / f"policies-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        said = ({} if "store" in fields else {"fresh": "10s", "keep": "1h"}) | fields
        route = "".join(f"    {name}: {value}\n" for name, value in said.items())
        (folder / "default.yaml").write_text(f"routes:\n  all:\n    path: /{{rest...}}\n{route}")
        (folder / "markets.yaml").write_text((PACKAGED_POLICIES / "markets.yaml").read_text())
        return load_policies(folder)

    return make


def predicted(tmp_path: Path, before: PolicySet, after: PolicySet, *lines: str, **options: Any) -> Replayed:
    return replay(read_logs([log_of(tmp_path, *lines)]), before, after, **options)


def fetched(time: float, path: str = PAGE, **said: Any) -> str:
    """A line of an answer that was fetched, from an origin that says nothing of lifetimes."""
    known = {"position": "1.5", "aged": 0.0, "size": 3_000, "said": {}, "origin_ms": 0, "ms": 0, "route": "all"}
    return line(time, path, **(known | said))


def shown(time: float, path: str = PAGE, **said: Any) -> str:
    return hit(time, path, 1, 1, **({"route": "all", "ms": 0} | said))


def counts(tally: Tally) -> tuple[int, int, int]:
    return tally.hits, tally.misses, tally.origin


def test_workers_of_an_edge_share_what_they_stored(tmp_path, policies):
    a = policies()
    found = predicted(tmp_path, a, a, fetched(0, worker="one"), shown(1, worker="two"))
    assert counts(found.before.all) == (1, 1, 1)


def test_who_asks_while_a_fetch_is_under_way_waits_for_it_and_has_missed(tmp_path, policies):
    a = policies()
    slow = fetched(1.0, ms=1_000, origin_ms=1_000)
    waits = fetched(1.0, ms=400, origin_ms=1_000, collapsed=True)
    found = predicted(tmp_path, a, a, slow, waits, shown(1.1))
    assert counts(found.before.all) == (1, 2, 1)


def test_workers_without_a_shared_tier_each_fetch_at_the_same_time(tmp_path, policies):
    a = policies()
    both = [fetched(1.0, ms=1_000, origin_ms=1_000, worker=name) for name in ("one", "two")]
    assert predicted(tmp_path, a, a, *both).before.all.origin == 2
    tier = fetched(9, "/eu-eur/x", cache="regional", reason="regional")
    assert predicted(tmp_path, a, a, *both, tier).before.all.origin == 2  # one for each of the addresses


def test_what_a_worker_found_in_the_tier_is_a_miss_and_no_request_to_the_origin(tmp_path, policies):
    a = policies()
    regional = fetched(2, worker="two", cache="regional", reason="regional")
    found = predicted(tmp_path, a, policies(fresh="20s"), fetched(0), regional, shown(3, worker="two"))
    assert counts(found.before.all) == counts(found.after.all) == (1, 2, 1)


def test_what_is_too_large_to_be_passed_on_each_worker_gets_for_itself(tmp_path, policies):
    a = policies()
    large = [fetched(0, size=400_000, worker="one"), fetched(1, size=400_000, worker="two"), shown(2, worker="two")]
    assert counts(predicted(tmp_path, a, a, *large).before.all) == (1, 2, 2)


def test_a_refresh_is_behind_the_viewers_back_and_takes_as_long_as_fetches_do(tmp_path, policies):
    a, b = policies(fresh="20s"), policies(fresh="5s", stale_while_revalidate="10s")
    log = [fetched(0.2, ms=200, origin_ms=200), shown(8.0), shown(8.1), shown(8.3), shown(14)]
    found = predicted(tmp_path, a, b, *log)
    assert counts(found.before.all) == (4, 1, 1)
    assert (found.after.all.hits, found.after.all.stale, found.after.all.origin) == (4, 3, 3)


def test_a_purge_is_held_against_where_an_object_was_read(tmp_path, policies):
    """Two orders of a listing are one object under the policies after: one purge is one fetch more, not two."""
    a, b = policies(query="[sort]"), policies()
    log = [
        fetched(0, query={"sort": "up"}),
        fetched(1, query={"sort": "down"}),
        fetched(2, query={"sort": "up"}, reason="purged-hard", floor="1.6", position="1.6"),
        fetched(3, query={"sort": "down"}, reason="purged-hard", floor="1.6", position="1.6"),
        shown(4, query={"sort": "up"}),
    ]
    found = predicted(tmp_path, a, b, *log)
    assert counts(found.before.all) == (1, 4, 4)
    assert counts(found.after.all) == (3, 2, 2)


def test_a_soft_purge_leaves_what_may_be_shown_stale(tmp_path, policies):
    a, b = policies(stale_while_revalidate="30s", fresh="30s"), policies(fresh="30s")
    purged = fetched(1, cache="stale", reason="purged-soft", floor="1.6", stored=False, ttl=29, age=1)
    log = [fetched(0), purged, shown(2)]
    found = predicted(tmp_path, a, b, *log)
    assert (found.before.all.stale, found.before.all.misses) == (1, 1)
    assert counts(found.after.all) == (1, 2, 2)


def test_what_a_line_proves_to_be_lost_is_lost_under_both(tmp_path, policies):
    a, b = policies(), policies(fresh="60s")
    found = predicted(tmp_path, a, b, fetched(0), fetched(5, reason="cold"), shown(6))
    assert counts(found.before.all) == counts(found.after.all) == (1, 2, 2)


def test_a_store_that_is_too_small_loses_objects(tmp_path, policies):
    a = policies(fresh="1h")
    log = [fetched(number, f"/eu-eur/lamp-{number}", size=40_000) for number in range(40)]
    log += [shown(100 + number, f"/eu-eur/lamp-{number}") for number in range(40)]
    assert predicted(tmp_path, a, a, *log).before.all.hits == 40
    small = predicted(tmp_path, a, a, *log, store_bytes=1_000_000)
    assert small.before.all.hits < 30
    assert small.before.store_bytes <= 1_000_000


def test_the_origins_word_counts_as_far_as_each_policy_lets_it(tmp_path, policies):
    a, b = policies(fresh="10s"), policies(fresh="10s", max_fresh="60s")
    log = [fetched(0, said={"fresh": 30}), fetched(20, said={"fresh": 30}, reason="expired"), shown(25)]
    found = predicted(tmp_path, a, b, *log)
    assert counts(found.before.all) == (1, 2, 2)
    assert counts(found.after.all) == (2, 1, 1)


@pytest.mark.parametrize(
    ("said", "hits"), [({"fresh": 60, "no_cache": True}, 0), ({"fresh": 60, "no_stale": True}, 1), ({"fresh": 60}, 2)]
)
def test_what_the_origin_forbids_no_policy_allows(tmp_path, policies, said, hits):
    a = policies(fresh="10s", stale_while_revalidate="60s")
    log = [fetched(0, said=said), fetched(5, said=said, reason="no-cache"), fetched(20, said=said, reason="expired")]
    assert predicted(tmp_path, a, a, *log).after.all.hits == hits


def test_an_answer_that_no_policy_would_store_is_stored_under_none(tmp_path, policies):
    a, b = policies(), policies(fresh="1h")
    log = [line(number, PAGE, reason="no-store", stored=False, ttl=None, route="all") for number in range(3)]
    assert counts(predicted(tmp_path, a, b, *log).after.all) == (0, 3, 3)


def test_error_answers_live_by_each_policy(tmp_path, policies):
    a, b = policies(negative="{404: 2s}"), policies(negative="{404: 60s}")
    log = [fetched(0, status=404), fetched(5, status=404, reason="expired")]
    found = predicted(tmp_path, a, b, *log)
    assert (found.before.all.hits, found.after.all.hits) == (0, 1)


def test_conditions_and_parts_say_nothing_of_what_is_stored(tmp_path, policies):
    a, b = policies(fresh="60s"), policies(fresh="2s")
    log = [fetched(0), shown(1, status=304), shown(10, status=206), shown(11, status=304)]
    assert counts(predicted(tmp_path, a, b, *log).after.all) == (2, 2, 2)


def test_head_is_fetched_whole_and_kept_for_get(tmp_path, policies):
    a = policies()
    assert counts(predicted(tmp_path, a, a, fetched(0, method="HEAD"), shown(1)).before.all) == (1, 1, 1)


def test_a_write_makes_what_is_stored_unusable(tmp_path, policies):
    a, b = policies(), policies(fresh="60s")
    written = line(2, PAGE, method="POST", cache="pass", reason="unsafe-method", stored=False, ttl=None, route="all")
    found = predicted(tmp_path, a, b, fetched(0), written, fetched(3, reason="cold"))
    assert (counts(found.after.all), found.after.all.passed) == ((0, 2, 3), 1)


def test_variants_are_told_apart_where_the_policy_lists_their_field(tmp_path, policies):
    listed = {"vary": "[accept-language]", "request_fields": "[accept-language]"}
    a, b = policies(**listed), policies()
    varies = {"vary": "accept-language"}
    log = [
        fetched(0, variant="aaaa", **varies),
        fetched(1, variant="bbbb", **varies),
        shown(2, variant="aaaa"),
        shown(3, variant="bbbb"),
    ]
    found = predicted(tmp_path, a, b, *log)
    assert counts(found.before.all) == (2, 2, 2)
    assert counts(found.after.all) == (0, 4, 4)  # what varies on a field that is not listed is not stored


def test_while_an_origin_fails_only_what_is_stored_can_be_shown(tmp_path, policies):
    failing = {"cache": "error", "reason": "connection_timeout", "status": 503, "stored": False, "ttl": None}
    log = [
        fetched(0, "/eu-eur/a"),
        fetched(1),
        line(20, "/eu-eur/b", route="all", **failing),
        shown(22),
        line(24, "/eu-eur/c", route="all", **failing),
        fetched(40, "/eu-eur/a", reason="expired"),
        fetched(41, reason="expired"),
    ]
    a = policies(fresh="30s")
    without, with_stale = (policies(fresh="5s", stale_if_error=window) for window in ("0s", "60s"))
    assert predicted(tmp_path, a, without, *log).after.all.failed == 3
    found = predicted(tmp_path, a, with_stale, *log).after.all
    assert (found.failed, found.stale) == (2, 1)


def test_a_log_that_begins_in_the_middle_tells_what_was_there(tmp_path, policies):
    a, b = policies(fresh="60s"), policies(fresh="20s")
    log = [hit(0, PAGE, 5, 55, route="all"), hit(10, PAGE, 15, 45, route="all"), hit(30, PAGE, 35, 25, route="all")]
    found = predicted(tmp_path, a, b, *log)
    assert (found.before.all.hits, found.after.all.hits) == (3, 2)


def test_a_lapsed_lease_lapses_under_both(tmp_path, policies):
    a, b = policies(), policies(fresh="60s")
    lapsed = fetched(2, cache="validated", reason="lease-lapsed")
    assert counts(predicted(tmp_path, a, b, fetched(0), lapsed, shown(3)).after.all) == (1, 2, 2)


def test_what_was_refused_is_asked_again_under_policies_that_do_not_refuse_it(tmp_path, policies):
    refused = {"cache": "edge", "reason": "refused", "status": 404, "stored": False, "ttl": None, "route": "all"}
    log = [line(number, PAGE, **refused) for number in range(3)]
    throttled = line(4, PAGE, **(refused | {"reason": "throttled", "status": 429}))
    before = policies(store="false", refuse=404)
    found = predicted(tmp_path, before, policies(), *log, throttled)
    assert (found.before.all.requests, counts(found.after.all)) == (0, (2, 1, 1))


def test_a_part_of_a_log_can_be_counted_while_all_of_it_fills_the_stores(tmp_path, policies):
    a = policies()
    log = [fetched(0), shown(1), shown(2), fetched(30, "/eu-eur/other")]
    found = predicted(tmp_path, a, a, *log, counted=Span(BEGAN_AT + 1, BEGAN_AT + 2))
    assert (found.lines, counts(found.before.all), counts(found.recorded.all)) == (1, (1, 0, 0), (1, 0, 0))
    with pytest.raises(CommandError, match="no request is counted: the logs reach from 2026-"):
        predicted(tmp_path, a, a, *log, counted=Span(BEGAN_AT + 90))


def test_a_parameter_that_the_log_does_not_tell_is_a_caution(tmp_path, policies):
    a, b = policies(), policies(query="[sort]")
    (caution,) = predicted(tmp_path, a, b, fetched(0), shown(1)).cautions
    assert "all: no line tells the parameter sort" in caution
    assert "NEARSHELF_ACCESS_LOG_QUERY" in caution
    told = [fetched(0, query={"sort": "up"}), shown(1, query={"sort": "up"}), shown(2, query={"sort": "down"})]
    found = predicted(tmp_path, a, b, *told)
    assert not found.cautions
    assert (found.before.all.hits, found.after.all.hits) == (2, 1)


def test_what_else_a_log_does_not_tell_is_a_caution(tmp_path, policies):
    stored, passed = policies(), policies(store="false")
    log = line(0, PAGE, cache="pass", reason="policy-never-stores", stored=False, ttl=None, route="all")
    assert "nothing of it was stored" in predicted(tmp_path, passed, stored, log).cautions[0]
    everything = policies(query="all", max_fresh="1d")
    assert any("whole queries" in each for each in predicted(tmp_path, stored, everything, fetched(0)).cautions)
    assert any(
        "variants by x-a" in each
        for each in predicted(tmp_path, stored, policies(vary="[x-a]", request_fields="[x-a]"), fetched(0)).cautions
    )
    other = predicted(tmp_path, stored, stored, fetched(0, route="elsewhere"))
    assert "1 requests were answered by other routes" in other.cautions[0]
    off = predicted(tmp_path, policies(fresh="1s"), stored, fetched(0), *(shown(5 * n) for n in range(1, 9)))
    assert "were they in force" in off.cautions[0]


def test_each_edge_and_route_has_figures_of_its_own(tmp_path, policies):
    a = policies()
    found = as_json(predicted(tmp_path, a, policies(fresh="1s"), fetched(0), shown(5), fetched(0, edge="us")))
    assert found["edges"]["eu"]["before"] == pytest.approx(0.5)
    assert (found["edges"]["us"]["requests"], found["edges"]["eu"]["after"]) == (1, 0.0)
    assert found["routes"]["all"]["recorded"] == pytest.approx(1 / 3)
    assert found["store_bytes"]["before"] == pytest.approx(3_000, abs=200)


def test_a_limit_that_is_none_holds_everything():
    assert NO_LIMIT > 10**15
