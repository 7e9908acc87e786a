"""Counters and gauges that were scraped each second."""

from __future__ import annotations

import pytest

from loadtests import scraped
from loadtests.recorder.run import Machine, Run


def run_with(**series: list[tuple[float, float]]) -> Run:
    return Run("x", "", "2026-11-21T20:43:00Z", 1, "locust", True, 10.0, "00", Machine("cpu", 2, 1, "k"), series=series)


def a_run(series: dict[str, list[tuple[float, float]]]) -> Run:
    return run_with(**series)


@pytest.mark.parametrize(
    ("key", "name", "labels"),
    [
        ("up", "up", {}),
        ("hits{pop=eu,why=room}", "hits", {"edge": "eu", "why": "room"}),
        ('hits{edge="eu",path="/a,b=\\"c\\""}', "hits", {"edge": "eu", "path": '/a,b=\\"c\\"'}),
        ("not a metric", "not a metric", {}),
    ],
)
def test_a_key_is_read_with_its_labels_quoted_or_not(key, name, labels):
    assert scraped.labels_of(key) == (name, tuple(labels.items()))


def test_an_increase_is_over_windows_and_all_series_that_match():
    run = a_run({
        "fetches{pop=eu,route=a}": [(0.0, 100.0), (5.0, 150.0), (10.0, 160.0)],
        "fetches{pop=eu,route=b}": [(0.0, 0.0), (10.0, 10.0)],
        "fetches{pop=us,route=a}": [(0.0, 5.0), (10.0, 6.0)],
    })  # fmt: skip
    assert scraped.increase(run, "fetches", [(0, 10)]) == pytest.approx(71)
    assert scraped.increase(run, "fetches", [(0, 5)], {"edge": "eu"}) == pytest.approx(55)
    assert scraped.increase(run, "fetches", [(5, 10)], {"edge": "eu", "route": "a"}) == pytest.approx(10)
    assert scraped.increase(run, "fetches", [(0, 10)], {"edge": "ap"}) is None


def test_what_the_origin_did_not_answer_is_told_apart():
    run = a_run({
        "f{edge=eu,result=2xx}": [(0.0, 0.0), (10.0, 7.0)],
        "f{edge=eu,result=304}": [(0.0, 0.0), (10.0, 2.0)],
        "f{edge=eu,result=connection_refused}": [(0.0, 0.0), (10.0, 40.0)],
        "f{edge=us,result=2xx}": [(0.0, 0.0), (10.0, 1.0)],
    })  # fmt: skip
    assert scraped.increase(run, "f", [(0, 10)], which=scraped.answered) == pytest.approx(10)
    assert scraped.increase(run, "f", [(0, 10)], which=scraped.unanswered) == pytest.approx(40)
    assert scraped.increase(run, "f", [(0, 10)], {"edge": "us"}, scraped.unanswered) == 0
    assert scraped.rates(run, "f", {"edge": "eu"}, which=scraped.answered)["eu"][3] == pytest.approx(0.9)


def test_a_counter_that_appears_later_began_at_nothing_and_one_that_falls_lost_a_process():
    run = a_run({"up{pop=eu}": [(0.0, 1.0), (9.0, 1.0)], "late{pop=eu}": [(4.0, 3.0), (5.0, 4.0)]})
    assert scraped.increase(run, "late", [(0, 10)]) == pytest.approx(4)
    run = a_run({"c{pop=eu}": [(0.0, 10.0), (1.0, 14.0), (2.0, 7.0), (3.0, 9.0)]})
    assert scraped.increase(run, "c", [(0, 10)]) == pytest.approx(4 + 2)


def test_rates_are_of_whole_seconds_that_were_scraped_and_added_up_per_edge():
    run = a_run({
        "c{pop=eu,why=a}": [(0.0, 0.0), (2.0, 4.0), (3.0, 4.0)],
        "c{pop=eu,why=b}": [(0.0, 0.0), (3.0, 3.0)],
    })  # fmt: skip
    assert scraped.rates(run, "c") == {"eu": {0: pytest.approx(3), 1: pytest.approx(3), 2: pytest.approx(1)}}
    by_why = scraped.rates(run, "c", by=lambda series: series.labels["why"])
    assert by_why["b"] == {0: pytest.approx(1), 1: pytest.approx(1), 2: pytest.approx(1)}


def test_levels_of_several_series_of_an_edge_are_added_up_each_by_its_last_value():
    run = a_run(
        {"g{pop=eu,part=a}": [(0.0, 1.0), (2.0, 3.0)], "g{pop=eu,part=b}": [(1.0, 10.0)], "g{pop=us}": [(0.0, 7.0)]}
    )
    assert scraped.levels(run, "g") == {"eu": [(0.0, 1.0), (1.0, 11.0), (2.0, 13.0)], "us": [(0.0, 7.0)]}


def test_nothing_was_scraped():
    run = a_run({})
    assert scraped.increase(run, "c", [(0, 1)]) is None
    assert scraped.rates(run, "c") == {}
    assert scraped.levels(run, "c") == {}
    assert scraped.began_at_s(run) is None
