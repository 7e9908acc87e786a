"""Thresholds: what can be written, what is said of what cannot, and the verdict on each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cache_policies.reading import Place
from loadtests.recorder.histogram import Histogram
from loadtests.recorder.run import (
    Cell,
    GeneratorCheck,
    Label,
    Machine,
    Phase,
    PriceChange,
    Prices,
    Purge,
    Run,
    Second,
    Status,
)
from loadtests.thresholds import ThresholdError, judge, parse_threshold, read_thresholds

AT = Place("nightly.txt", 3, 5)


def histogram(*values_ms: float) -> Histogram:
    found = Histogram()
    for value in values_ms:
        found.add(value * 1000)
    return found


def cell(phase: str, status: Status, route: str, edge: str, *ms: float, body_bytes: int = 1000) -> Cell:
    late = [value + 2000 for value in ms]
    return Cell(Label(phase, status, route, edge, "eu-eur"), histogram(*late), histogram(*ms), len(ms), body_bytes)


@pytest.fixture
def run() -> Run:
    """Ten hits and two misses at rest, two hits in a storm, one error; a hit in warm-up that no figure is about."""
    return Run(
        scenario="x", description="", started_at="2026-11-21T20:43:00Z", seed=1, generator="locust", open_loop=True,
        duration_s=30, request_digest="00", machine=Machine("cpu", 2, 1, "Linux"),
        phases=[Phase("warm-up", 0, 10, counts=False), Phase("rest", 10, 20), Phase("storm", 20, 30)],
        cells=[
            cell("warm-up", Status.HIT, "product", "eu", *[900.0] * 50),
            cell("rest", Status.HIT, "product", "eu", *[4.0] * 9, 10.0, body_bytes=9000),
            cell("rest", Status.MISS, "category", "us", 80.0, 90.0, body_bytes=1000),
            cell("storm", Status.HIT, "product", "eu", 6.0, 7.0, body_bytes=0),
            cell("storm", Status.ERROR, "product", "eu", 1.0, body_bytes=0),
        ],
        seconds=[Second(at_s, intended=4, sent=5, in_time=3) for at_s in range(30)],
        changes=[
            PriceChange(12, "eu-eur", "A", 5, 200.0, {"eu": 90.0, "us": 20.0}),
            PriceChange(14, "eu-eur", "B", 5, None, {"eu": 100.0, "sa": None}),
        ],
        purges=[Purge(5, 1, 9000.0), Purge(12, 1, 40.0), Purge(13, 2, 60.0), Purge(25, 1, 80.0), Purge(31, 1, None)],
        prices=Prices(answers_checked=9, answers_telling=4),
        series={
            "nearshelf_origin_fetches_total{pop=eu,route=product,result=2xx}": [(0, 500), (10, 600), (30, 700)],
            "nearshelf_origin_fetches_total{pop=us,route=product,result=2xx}": [(0, 7), (30, 67)],
            "nearshelf_cache_bytes{pop=eu}": [(0.0, 10.0), (20.0, 90.0), (30.0, 40.0)],
            "nearshelf_cache_max_bytes{pop=eu}": [(0.0, 100.0), (30.0, 100.0)],
        },
        figures={"origin_fetches{edge=eu}": 1.0, "origin_fetches{edge=us}": 2.0, "purged_tags": 5, "deeds_late": 0},
        check=GeneratorCheck(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "met", "measured"),
    [
        ("uncorrected_p50{status=hit} < 5ms", True, 4.0),
        ("uncorrected_p50{status=hit} < 4ms", False, 4.0),
        ("uncorrected_p50 { status = HIT } <= 0.005 s", True, 0.004),
        ("uncorrected_p100{status=hit} < 11000us", True, 10_000),
        ("p50{status=hit} > 2s", True, 2.004),
        ("p50{status=hit,phase=storm} < 1.5 * p50{status=hit,phase=rest}", True, 2_006_000),
        ("uncorrected_max{phase=storm,status=hit} < uncorrected_max{phase=rest,status=hit} * 0.5", False, 7_000),
        ("uncorrected_max{phase=storm,status=hit} < uncorrected_max{phase=rest,status=hit}", True, 7_000),
        ("uncorrected_mean{status=miss} == 85ms", True, 85),
        ("uncorrected_max{phase=warm-up} == 900ms", True, 900),
        ("hit_ratio > 0.85", True, 12 / 14),
        ("hit_ratio > 85.8 %", False, 100 * 12 / 14),
        ("hit_ratio{route=category} == 0", True, 0),
        ("byte_hit_ratio >= 90%", True, 90),
        ("requests{status=hit} == 12", True, 12),
        ("requests{status=pass} == 0", True, 0),
        ("errors == 0", False, 1),
        ("errors{phase=rest} == 0", True, 0),
        ("error_share < 10%", True, 100 / 15),
        ("rps == 0.75", True, 0.75),
        ("achieved >= 0.98", False, 0.75),
        ("mean_bytes{route=product} < 1kB", True, 9 / 13),
        ("live_p50 < 300ms", True, 200),
        ("purge_live_p75 < 100ms", True, 80),
        ("purge_live_max{phase=rest} < 50ms", False, 60),
        ("purged_tags == 5", True, 5),
        ("deeds_late == 0", True, 0),
        ("purge_to_fresh_p75 < 2s", True, 0.1),
        ("purge_to_fresh_max{edge=us} <= 20ms", True, 20),
        ("origin_rps < 7.1", True, (100 + 40) / 20),
        ("origin_rps{edge=us} < 2", False, 2.0),
        ("origin_requests{phase=storm} <= 70", True, 70),
        ("store_share < 1.0", True, 0.9),
        ("store_bytes <= 0.09 kB", True, 0.09),
        ("old_prices == 0", True, 0),
        ("origin_fetches{edge=eu} == 1", True, 1),
        ("origin_fetches == 3", True, 3),
        ("origin_fetches != 3", False, 3),
    ],
)
def test_a_threshold_is_judged_by_what_was_measured(run, text, met, measured):
    (verdict,) = judge(run, [parse_threshold(text, AT)])
    assert verdict.measured == pytest.approx(measured, rel=0.008)
    assert verdict.met is met
    assert verdict.text == text
    assert verdict.where == "nightly.txt:3"
    assert verdict.said.startswith(f"{text}: {'' if met else 'not met, '}measured ")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("p99{route=listing} < 1s", "no request with route=listing; there were category and product"),
        ("p99{route=categories} < 1s", "did you mean category?"),
        ("requests{route=listing} == 0", "no request with route=listing"),
        ("p99{phase=strom} < 1s", "did you mean storm?"),
        ("live_p99 < 300ms", "1 of 2 changes never became live"),
        ("purge_live_p99 < 2s", "1 of 4 purges never became live"),
        ("purge_live_p99{phase=strom} < 2s", "nothing was purged there and then"),
        ("leases_waited_out == 0", "the scenario took no such figure"),
        ("purge_to_fresh_p99 < 2s", "1 of 4 probes never saw the new price"),
        ("purge_to_fresh_p99{edge=ap} < 2s", "no probe looked for a new price there"),
        ("coalesced > 0", "nearshelf_edge_coalesced_total was not scraped"),
        ("origin_fetches{edge=ap} == 0", "the run has origin_fetches{edge=eu} and origin_fetches{edge=us}"),
        ("origin_rps{phase=storn} < 3", "did you mean storm?"),
        ("store_share{edge=us} < 1.0", "were not scraped"),
        ("p50{phase=storm} < 2 * p50{phase=calm}", "no request with phase=calm"),
    ],
)
def test_what_was_not_measured_is_not_met_and_says_why(run, text, why):
    (verdict,) = judge(run, [parse_threshold(text, AT)])
    assert not verdict.met
    assert verdict.measured is None
    assert why in verdict.said


@pytest.mark.parametrize(
    ("text", "prices", "said"),
    [
        ("wrong_prices == 0", Prices(), "the oracle checked no answer"),
        ("old_prices == 0", Prices(), "no answer could have shown one"),
        ("old_prices == 0", Prices(answers_checked=900), "no answer could have shown one"),
    ],
)
def test_an_oracle_that_saw_nothing_has_not_proved_that_no_old_price_was_shown(run, text, prices, said):
    run.prices = prices
    (verdict,) = judge(run, [parse_threshold(text, AT)])
    assert not verdict.met
    assert said in verdict.said


def test_a_change_that_was_begun_after_the_end_belongs_to_the_last_phase(run):
    run.changes = [PriceChange(12, "eu-eur", "A", 5, 200.0), PriceChange(31, "eu-eur", "B", 5, 900.0)]
    for text, measured in (
        ("live_max < 2s", 0.9),
        ("live_max{phase=storm} < 2s", 0.9),
        ("live_max{phase=rest} < 2s", 0.2),
    ):
        (verdict,) = judge(run, [parse_threshold(text, AT)])
        assert verdict.measured == pytest.approx(measured)


def test_a_closed_loop_has_no_durations_from_intended_times(run):
    run = replace(run, open_loop=False, cells=[replace(each, corrected=Histogram()) for each in run.cells])
    plain, uncorrected = judge(run, [parse_threshold(text, AT) for text in ("p99 < 9s", "uncorrected_p99 < 9s")])
    assert not plain.met
    assert "write uncorrected_" in plain.said
    assert uncorrected.met


def test_a_verdict_shows_as_many_digits_as_tell_the_figure_from_its_limit(run):
    run.cells = [cell("rest", Status.HIT, "product", "eu", *[0.2] * 9999, 0.1)]
    run.cells.append(cell("rest", Status.MISS, "product", "eu", 0.2))
    (verdict,) = judge(run, [parse_threshold("hit_ratio == 1", AT)])
    assert not verdict.met
    assert "measured 0.9999," in verdict.said


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("p99{status=hit} < 15", 23, "15 without a unit, expected one such as 15ms or 2s"),
        ("p99{status=hit} < 15mss", 25, "mss, expected a unit of p99: us, ms, s; did you mean ms?"),
        ("hit_ration > 0.9", 5, "no figure is called hit_ration; did you mean hit_ratio?"),
        ("purge_to_fresh_95 < 2s", 5, "did you mean purge_to_fresh_p95?"),
        ("p101 < 2s", 5, "no figure is called p101"),
        (
            "p99{state=hit} < 1s",
            9,
            "state, expected one of the labels of p99: phase, status, route, edge and market; did you",
        ),
        (
            "p99{status=hti} < 1s",
            16,
            "hti, expected a status: hit, stale, revalidated, miss, pass, edge, error, direct; did",
        ),
        (
            "hit_ratio{status=hit} > 1",
            15,
            "status, expected one of the labels of hit_ratio: phase, route, edge and market",
        ),
        ("old_prices{edge=eu} == 0", 16, "old_prices takes no labels"),
        ("p99{status=hit,status=miss} < 1s", 20, "status a second time"),
        ("p99{status=hit < 1s", 20, "<, expected a comma or }"),
        ("p99{status} < 1s", 15, "}, expected = behind status"),
        ("p99{} < 1s", 9, "}, expected one of the labels"),
        ("p99 = 1s", 9, "=, expected a comparison: !=, <, <=, ==, >, >=; write == for equal"),
        ("p99", 8, "the end of the line, expected a comparison"),
        ("p99 <", 10, "the end of the line, expected a number or a figure"),
        ("p99 < 1s or so", 14, "or, expected nothing more: one threshold a line"),
        ("p99 < 2ms * p50", 11, "a factor with a unit, 2ms"),
        ("p99 < 2 * hit_ratio", 15, "hit_ratio is share, expected what p99 can be held against: time"),
        ("errors < 5 ms", 16, "ms, expected none: errors is a plain number"),
        ("< 5", 5, "<, expected the name of a figure"),
        ("p99 < é", 11, "é, expected a number or a figure"),
    ],
)
def test_a_fault_names_its_column_and_what_was_expected(text, column, said):
    with pytest.raises(ThresholdError) as caught:
        parse_threshold(text, AT)
    (problem,) = caught.value.problems
    assert (problem.place.line, problem.place.column) == (3, column)
    assert said in problem.what


def test_a_file_holds_one_a_line_with_comments_and_reports_every_fault_at_once(tmp_path: Path):
    file = tmp_path / "nightly.txt"
    file.write_text("# the night\n\n  hit_ratio > 0.9   # enough\np99 < 3\n   errrors == 0\n")
    with pytest.raises(ThresholdError) as caught:
        read_thresholds(file)
    assert str(caught.value).splitlines() == [
        "nightly.txt:4:7: 3 without a unit, expected one such as 15ms or 2s",
        "nightly.txt:5:4: no figure is called errrors; did you mean errors?",
    ]
    file.write_text("# the night\n\n  hit_ratio > 0.9   # enough\n")
    (found,) = read_thresholds(file)
    assert (found.text, found.place) == ("hit_ratio > 0.9", Place("nightly.txt", 3, 3))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"# nothing\n", "no threshold, expected one a line"),
        (b"p99 < 1\xff", "not UTF-8 text: byte 7"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, content, said):
    if content is not None:
        (tmp_path / "nightly.txt").write_bytes(content)
    with pytest.raises(ThresholdError, match=f"nightly.txt:1:1: {said}"):
        read_thresholds(tmp_path / "nightly.txt")
