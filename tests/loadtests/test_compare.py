"""Two runs compared: alike or refused, and what is shown to differ and what is not."""

from __future__ import annotations

import json
import math
import random

import pytest

from loadtests.bootstrap import Interval, Tails, draws_of, interval_of, mean, ratio
from loadtests.compare import Better, Change, Outcome, Unlike, as_json_text, as_text, compare, differences_of
from loadtests.recorder.histogram import Histogram
from loadtests.report.compared import compared_html
from loadtests.units import Kind
from tests.support.load_runs import Shape, made_run

DRAWS = 200


def outcomes(found):
    return {change.name: change.outcome for change in found.changes}


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda run: setattr(run, "scenario", "flash-sale"), "scenario: steady-day in A, flash-sale in B"),
        (lambda run: setattr(run, "seed", 8), "seed: 7 in A, 8 in B"),
        (lambda run: setattr(run, "request_digest", "ff"), "request digest: "),
        (lambda run: setattr(run, "duration_s", 90.0), "duration: 60.0 s in A, 90.0 s in B"),
        (lambda run: setattr(run.machine, "cpu", "another"), "cpu: Example CPU at 2.5 GHz in A, another in B"),
        (lambda run: setattr(run.machine, "cores", 8), "cores: 2 in A, 8 in B"),
        (lambda run: setattr(run, "generator", "wrk"), "generator: locust in A, wrk in B"),
        (lambda run: setattr(run, "open_loop", False), "loop: open in A, closed in B"),
        (lambda run: run.check.faults.append("it fell behind"), "B is invalid: it fell behind"),
    ],
)
def test_unlike_runs_are_refused_and_the_difference_is_named(change, named):
    before, after = made_run(Shape(changes=0)), made_run(Shape(changes=0, noise=2))
    assert differences_of(before, after) == []
    change(after)
    with pytest.raises(Unlike) as caught:
        compare(before, after, draws=DRAWS)
    assert named in str(caught.value)
    assert "--force" in str(caught.value)


def test_every_difference_is_named_and_with_force_they_stay_named():
    before, after = made_run(Shape(seconds=30)), made_run(Shape(seconds=20, seed=9))
    with pytest.raises(Unlike) as caught:
        compare(before, after, draws=DRAWS)
    assert [line.strip().partition(":")[0] for line in str(caught.value).splitlines()[1:-1]] == [
        "seed",
        "request digest",
        "duration",
    ]
    found = compare(before, after, force=True, draws=DRAWS)
    assert len(found.differences) == 3
    assert as_text(found).count("NOT ALIKE: ") == 3
    assert "Why these runs should not be compared" in compared_html(found)


# --- verdicts -------------------------------------------------------------------------------------------------------


def test_another_run_of_the_same_plan_and_shop_shows_no_difference_where_nothing_moved():
    found = outcomes(compare(made_run(Shape()), made_run(Shape(noise=2)), draws=DRAWS))
    assert found["hit ratio"] is Outcome.SAME
    assert found["HIT p50"] is Outcome.SAME
    assert found["origin requests/s"] is Outcome.SAME


def test_what_a_worse_policy_does_is_found_and_what_it_does_not_is_not():
    found = compare(made_run(Shape()), made_run(Shape(noise=2, hit_ratio=0.85)), draws=DRAWS)
    assert outcomes(found)["hit ratio"] is Outcome.WORSE
    assert outcomes(found)["origin requests/s"] is Outcome.WORSE
    assert outcomes(found)["HIT p50"] is Outcome.SAME
    assert found.worse
    change = next(change for change in found.changes if change.name == "hit ratio")
    assert change.interval is not None
    assert change.interval.low <= change.change <= change.interval.high < 0


def test_everything_slower_is_found_and_the_other_way_round_it_is_faster():
    slow, fast = made_run(Shape(slower=1.3, noise=2)), made_run(Shape())
    there, back = compare(fast, slow, draws=DRAWS), compare(slow, fast, draws=DRAWS)
    for name in ("HIT p50", "HIT p95", "MISS p50", "purge to fresh p50"):
        assert outcomes(there)[name] is Outcome.WORSE
        assert outcomes(back)[name] is Outcome.BETTER
    assert not any(outcome is Outcome.WORSE for outcome in outcomes(back).values())


def test_changes_that_never_became_live_are_not_left_out():
    before, after = made_run(Shape()), made_run(Shape(noise=2))
    for change in after.changes[::3]:
        change.live_ms = None
        change.fresh_ms = dict.fromkeys(change.fresh_ms)
    found = {change.name: change for change in compare(before, after, draws=DRAWS).changes}
    for name in ("price live p95", "purge to fresh p95"):
        assert found[name].after == 30e6
        assert found[name].outcome is Outcome.WORSE


def test_changes_are_paired_by_their_price_though_one_of_them_was_refused_in_one_run():
    before, after = made_run(Shape()), made_run(Shape())
    del after.changes[5]
    found = {change.name: change for change in compare(before, after, draws=DRAWS).changes}
    for name in ("price live p50", "price live p95"):
        assert found[name].change == 0
        assert found[name].interval == (0, 0)


def test_percentiles_that_hang_on_a_few_requests_are_not_compared():
    found = outcomes(compare(made_run(Shape()), made_run(Shape(noise=2)), draws=DRAWS))
    assert "HIT p99" in found  # of five thousand
    assert "MISS p50" in found
    assert "MISS p99" not in found  # of three hundred: three requests are beyond it


def test_the_same_seed_gives_the_same_intervals_and_another_gives_others():
    before, after = made_run(Shape(seconds=30)), made_run(Shape(seconds=30, noise=2))
    first, again, other = (compare(before, after, seed=seed, draws=DRAWS).changes for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_runs_of_a_closed_loop_are_compared_by_their_rate():
    shape = Shape(seconds=30, open_loop=False, scraped=False)
    found = compare(made_run(shape), made_run(Shape(seconds=30, open_loop=False, scraped=False, noise=2)), draws=DRAWS)
    assert "requests/s" in outcomes(found)
    assert "achieved" not in outcomes(found)
    assert "origin requests/s" not in outcomes(found)


@pytest.mark.parametrize(
    ("better", "interval", "outcome"),
    [
        (Better.LESS, Interval(0.01, 0.2), Outcome.WORSE),
        (Better.LESS, Interval(-0.2, -0.01), Outcome.BETTER),
        (Better.MORE, Interval(0.01, 0.2), Outcome.BETTER),
        (Better.MORE, Interval(-0.2, -0.01), Outcome.WORSE),
        (Better.LESS, Interval(-0.2, 0.01), Outcome.SAME),
        (Better.LESS, Interval(0.0, 0.2), Outcome.SAME),
        (Better.NEITHER, Interval(0.1, 0.2), Outcome.OTHER),
        (Better.LESS, None, Outcome.UNKNOWN),
    ],
)
def test_a_verdict_needs_an_interval_without_zero(better, interval, outcome):
    assert Change("x", Kind.TIME, better, 1.0, 1.1, interval).outcome is outcome


def test_json_has_what_the_table_has():
    found = compare(made_run(Shape(seconds=30)), made_run(Shape(seconds=30, noise=2, slower=2)), draws=DRAWS)
    document = json.loads(as_json_text(found))
    assert document["worse"] is True
    assert [figure["name"] for figure in document["figures"]] == [change.name for change in found.changes]
    text = as_text(found)
    assert all(change.name in text for change in found.changes)
    assert "no difference shown" in text


# --- the bootstrap ----------------------------------------------------------------------------------------------------


def test_a_draw_has_as_many_seconds_of_each_phase_as_the_run():
    for weights in draws_of([7, 20, 1], seed=3, draws=50):
        assert (sum(weights[:7]), sum(weights[7:27]), sum(weights[27:])) == (7, 20, 1)


def test_neighbours_are_drawn_together():
    weights = draws_of([100], seed=3, draws=1)[0]
    alone = sum(
        1 for at, weight in enumerate(weights) if weight and not weights[at - 1] and not weights[(at + 1) % 100]
    )
    assert alone == 0


def test_percentiles_of_drawn_seconds_are_those_of_their_merged_histograms():
    dice = random.Random(5)
    seconds: list[Histogram | None] = []
    for _ in range(30):
        histogram = Histogram()
        for _ in range(dice.randrange(40)):
            histogram.add(dice.lognormvariate(7, 1.5))
        seconds.append(histogram)
    seconds[4] = None
    tails = Tails(seconds)
    for weights in draws_of([30], seed=1, draws=20):
        merged = Histogram()
        for each, weight in zip(seconds, weights, strict=True):
            if each is not None:
                for _ in range(weight):
                    merged.merge(each)
        for share, found in zip((0.5, 0.95, 0.99), tails.percentiles_us((0.5, 0.95, 0.99), weights), strict=True):
            assert found == pytest.approx(merged.percentile_us(share), rel=0.01)
    assert all(math.isnan(value) for value in Tails([None, Histogram()]).percentiles_us((0.5,), [1, 1]))


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Of two runs with the same mean: 95 of 100 intervals of the difference hold 0, less what few blocks cost."""
    dice = random.Random(11)
    held, trials = 0, 200
    for trial in range(trials):
        one, other = ([dice.gauss(10, 2) for _ in range(80)] for _ in range(2))
        drawn = [mean(other)(weights) - mean(one)(weights) for weights in draws_of([80], seed=trial, draws=200)]
        interval = interval_of(drawn)
        assert interval is not None
        held += not interval.excludes_zero
    assert 0.87 <= held / trials <= 0.99


def test_nothing_to_divide_by_is_no_figure_and_too_few_figures_are_no_interval():
    assert math.isnan(ratio([1.0], [0.0])([1]))
    assert interval_of([math.nan] * 90 + [1.0] * 10) is None
    assert interval_of([float(value) for value in range(1001)]) == Interval(25.0, 975.0)
