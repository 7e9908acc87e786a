"""The documents' table: a run is read rightly, held against what the document says, and a doubtful one is no pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.bench import continents, documents, lines, measuring
from loadtests.bench.continents import CONTINENTS, direct_name
from loadtests.bench.documents import Spent, asked_as
from loadtests.bench.hits import Shop
from loadtests.bench.lines import Line
from loadtests.bench.measuring import Verdict
from loadtests.bench.volleys import believed, volley
from loadtests.people import ShopFront, ShownProduct
from loadtests.recorder.histogram import Histogram
from loadtests.recorder.run import Cell, Label, Machine, Phase, Run, Status

pytestmark = pytest.mark.alone

COMMAND = [sys.executable, "-m", "loadtests.bench"]
CANNOT_RUN = measuring.cannot_run(["taskset", "wrk"])


def cell(
    ms: float,
    times: int = 1,
    *,
    status: Status = Status.HIT,
    route: str = "product",
    edge: str = "eu",
    code: str = "200",
    phase: str = "steady",
) -> Cell:
    found = Cell(Label(phase, status, route, edge, "eu-eur"), requests=times, codes={code: times})
    found.corrected.add(ms * 1000, times)
    return found


def run_of(*cells: Cell, faults: tuple[str, ...] = ()) -> Run:
    run = Run(
        scenario="bench",
        description="",
        started_at="2026-11-21T20:00:00Z",
        seed=1,
        generator="paced",
        open_loop=True,
        duration_s=10.0,
        request_digest="",
        machine=Machine("a processor", 2, 1, "6.1"),
        phases=[Phase("warm-up", 0.0, 2.0, counts=False), Phase("steady", 2.0, 12.0)],
        cells=list(cells),
    )
    run.check.faults = list(faults)
    return run


# -- what a run says ---------------------------------------------------------------------------------------------------


def test_warm_up_counts_for_nothing():
    found = volley(run_of(cell(1.0, 10), cell(900.0, 5, phase="warm-up")))
    assert (found.requests, found.ms(1.0)) == (10, 1.0)


def test_what_got_no_answer_is_neither_up_nor_in_time_however_quickly_it_failed():
    found = volley(run_of(cell(1.0, 9_995), cell(0.5, 5, status=Status.ERROR, code="502")))
    assert found.up == pytest.approx(99.95)
    assert found.within(50.0) == pytest.approx(99.95)


def test_slow_answers_are_up_and_not_in_time():
    found = volley(run_of(cell(1.0, 90), cell(80.0, 10)))
    assert found.up == 100.0
    assert found.within(50.0) == pytest.approx(90.0)


def test_stale_answers_are_hits_and_confirmed_ones_are_not():
    hits, stale = cell(1, 6), cell(1, 2, status=Status.STALE)
    confirmed, passed = cell(9, 2, status=Status.REVALIDATED), cell(1, 5, status=Status.PASS)
    assert volley(run_of(hits, stale, confirmed, passed)).hit_ratio == 80.0


def test_nothing_asked_is_no_success():
    found = volley(run_of())
    assert (found.up, found.within(50.0), found.hit_ratio) == (0.0, 0.0, 0.0)


def foreign(monkeypatch: pytest.MonkeyPatch, *cores: float) -> None:
    """What anything else on the machine takes during each run."""
    found = iter(cores)
    monkeypatch.setattr(measuring.Foreign, "cores", lambda self: next(found))


def test_a_run_that_anything_else_disturbed_is_tried_again(monkeypatch):
    foreign(monkeypatch, 0.5, 0.05)
    assert believed(run_of, 3, "x").check.valid
    foreign(monkeypatch, 0.5, 0.4)
    [fault] = believed(run_of, 2, "x").check.faults
    assert fault == "anything else took 0.40 of the machine's cores (at most 0.12)"


def test_a_generator_that_fell_behind_is_tried_again_and_the_last_try_keeps_its_faults(monkeypatch):
    foreign(monkeypatch, *[0.0] * 4)
    runs = iter([run_of(faults=("behind",)), run_of()])
    assert believed(lambda: next(runs), 3, "x").check.valid
    runs = iter([run_of(faults=("behind",)), run_of(faults=("again",))])
    assert believed(lambda: next(runs), 2, "x").check.faults == ["again"]


# -- lines and verdicts ------------------------------------------------------------------------------------------------


def test_the_gateway_meets_its_line():
    line = documents.gateway_line(Spent(run_of(cell(0.4, 100_000)), cores=0.21))
    assert line.met
    assert "| 0.21 | met |" in lines.table([line])
    assert [str(verdict) for verdict in line.verdicts] == [
        "met: gateway, 10,000/s: % within 50 ms: 100.00, at least 99.99",
        "met: gateway: % answered: 100.00, at least 99.95",
        "met: gateway: hits, p99 at the edge, ms: 0.40, at most 20",
    ]


@pytest.mark.parametrize(
    ("slow", "missed"),
    [
        pytest.param(cell(60.0, 20), "within 50 ms", id="two in ten thousand are too slow"),
        pytest.param(cell(1.0, 60, status=Status.ERROR, code="no answer"), "% answered", id="six are not answered"),
        pytest.param(cell(30.0, 1_500), "p99 at the edge", id="one in a hundred takes more than 20 ms"),
    ],
)
def test_the_gateway_misses_its_line(slow, missed):
    line = documents.gateway_line(Spent(run_of(cell(0.4, 99_000), slow), cores=0.21))
    assert not line.met
    assert "**NOT MET**" in lines.table([line])
    assert any(missed in str(verdict) for verdict in line.verdicts if not verdict.met)


def test_what_cannot_be_believed_is_not_met():
    line = documents.gateway_line(Spent(run_of(cell(0.4, 100), faults=("its loop came round late",)), cores=0.2))
    assert all(verdict.met for verdict in line.verdicts)
    assert not line.met
    assert "**doubtful**" in lines.table([line])
    assert "- **DOUBTFUL**: gateway: its loop came round late" in lines.judged([line, line])
    assert lines.judged([line, line]).count("DOUBTFUL") == 1


def test_a_line_without_a_figure_to_judge_is_no_miss():
    line = Line("something", "so much", "2")
    assert line.met
    assert lines.table([line]).endswith("| something | so much | 2 | - |")


@pytest.mark.parametrize(("answered", "met"), [(10_000, True), (10_150, True), (10_300, False), (9_700, False)])
def test_a_throttle_lets_through_what_it_says(answered, met):
    run = run_of(cell(1.0, answered), cell(0.5, 5_000, status=Status.EDGE, code="429"))
    line = documents.throttle_line(Spent(run, 0.1), seconds=10.0)
    assert line.met is met
    assert "5,000 refused with 429" in line.measured


def test_files_are_judged_apart_from_the_catalog():
    run = run_of(cell(20.0, 9_000), cell(7.0, 1_000, route="file"))
    service, static = documents.catalog_lines(Spent(run, 0.5))
    assert (service.met, static.met) == (True, False)
    assert static.verdicts == (Verdict("static files, p99 at the edge, ms", 7.0, 5.0),)


def test_a_continent_is_judged_by_its_own_edge():
    europe = CONTINENTS[1]
    run = run_of(
        cell(22.0, 960),
        cell(110.0, 40, status=Status.MISS),
        cell(150.0, 200, edge=direct_name(europe), status=Status.DIRECT),
        cell(900.0, 500, edge="ap"),
    )
    late = Histogram()
    late.add(150.0)
    line = continents.line_of(europe, run, late)
    assert line.met
    assert "hits p50 22.0, p95 22.0, p99 22.0 ms, 100.0 % under 100" in line.measured
    assert "all, 96.0 % of them hits" in line.measured
    assert "Without: p50 150.0, p95 150.0, p99 150.0 ms, 0.0 % under 100" in line.measured
    assert "the edge saves 128 ms at the median" in line.measured
    assert "late by 0.15 ms" in line.measured


# -- what is asked for -------------------------------------------------------------------------------------------------


def test_a_request_of_the_hit_bench_is_what_it_was():
    [whole] = Shop(1, 2_000).requests(1, "127.0.0.1:80", "br")
    asked = asked_as(whole)
    text = whole.decode()
    assert text.startswith(f"GET {asked.target} HTTP/1.1\r\n")
    assert "Host" not in dict(asked.fields)
    assert all(f"\r\n{name}: {value}\r\n" in text for name, value in asked.fields)
    assert len(asked.fields) == text.count("\r\n") - 3  # without the first line, Host and the empty one


def test_popular_products_are_asked_for_more_and_files_a_tenth():
    asked = documents.catalog_requests(["A", "B/1"], ["/static/1/site.css", "/art/2/a.svg"])
    assert [each.target for each in asked][:4] == [
        "/api/v1/eu-eur/products/A",
        "/api/v1/eu-eur/prices/A",
        "/api/v1/eu-eur/products/B%2F1",
        "/api/v1/eu-eur/prices/B%2F1",
    ]
    weights = documents.zipf_weights(asked)
    assert weights[0] == weights[1] == pytest.approx(2**0.8 * weights[2])
    assert sum(weights[-2:]) == pytest.approx(0.1 * sum(weights))


def test_both_ways_of_a_continent_are_asked_for_the_same_pages():
    front = ShopFront(("us-usd",), ("kitchen",), tuple(ShownProduct(f"p{n}", f"S{n}", ("kitchen",)) for n in range(4)))
    asked, weights = continents.requests(front)

    def targets(edge: str) -> list[str]:
        return [each.target for each in asked if each.edge == edge]

    assert targets("ap") == targets("ap, no edge")
    assert targets("ap")[:4] == ["/jp-jpy/products/p0", "/jp-jpy/", "/jp-jpy/c/kitchen", "/jp-jpy/products/p1"]
    share = sum(weight for each, weight in zip(asked, weights, strict=True) if each.edge.endswith("no edge"))
    assert share == pytest.approx(continents.DIRECT_SHARE * sum(weights))


def test_the_throttle_is_that_of_the_documents(tmp_path: Path):
    text = (documents.throttled_policies(tmp_path) / "prices.yaml").read_text()
    route = text.partition("  product:\n")[2]
    assert "throttle: {rate: 1000/s, burst: 100}" in route
    assert "fresh: 60s" in route


def test_the_cores_that_a_rate_takes():
    assert documents.cores_for(5_000, cpu_us=940.0) == pytest.approx(4.7)


@pytest.mark.skipif(CANNOT_RUN is not None, reason=str(CANNOT_RUN))
def test_a_part_that_is_none_is_refused():
    found = subprocess.run([*COMMAND, "documents", "--only", "gatway"], capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "expected some of gateway, throttle" in found.stderr


@pytest.mark.skipif(CANNOT_RUN is not None, reason=str(CANNOT_RUN))
def test_a_short_run_of_the_throttle_gives_the_table():
    command = [*COMMAND, "documents", "--only", "throttle", "--seconds", "1", "--tries", "1"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert found.returncode in {0, 1}, found.stderr
    assert "| `/products` at the gateway: a throttle of 1,000 a second, cached for 60 s |" in found.stdout
    assert "throttle: answered a second" in found.stdout
