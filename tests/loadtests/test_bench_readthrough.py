"""The bench of the read-through cache: the origin's figures are read rightly, and held against the document."""

from __future__ import annotations

import itertools

import pytest

from loadtests.bench import readthrough
from loadtests.bench.readthrough import KINDS, Measured, Part, addresses, line_of, once_each, read, tables
from loadtests.recorder.run import Cell, Label, Machine, Phase, Run, Status

FIGURES = """\
# TYPE nearshelf_database_statements counter
nearshelf_database_statements_total{pool="log"} 100.0
nearshelf_database_statements_total{pool="writes"} 7.0
nearshelf_database_statements_total{pool="replica-0"} 30.0
nearshelf_database_statements_total{pool="primary-fills"} 4.0
# TYPE nearshelf_readthrough counter
nearshelf_readthrough_total{result="hit"} 9.0
nearshelf_readthrough_total{result="absent"} 1.0
# TYPE nearshelf_readthrough_seconds histogram
nearshelf_readthrough_seconds_bucket{le="0.001",of="write"} 98.0
nearshelf_readthrough_seconds_bucket{le="0.005",of="write"} 99.0
nearshelf_readthrough_seconds_bucket{le="+Inf",of="write"} 100.0
nearshelf_readthrough_seconds_bucket{le="0.001",of="hit"} 9.0
nearshelf_readthrough_seconds_bucket{le="+Inf",of="hit"} 9.0
"""


def part(ms: float, *, statements: float = 0.0, hit_share: float = 0.0, kept_ms: float = 0.0, faults: str = "") -> Part:
    """A run in which every answer took `ms`."""
    run = Run(
        scenario="readthrough",
        description="",
        started_at="2026-11-21T20:00:00Z",
        seed=1,
        generator="paced",
        open_loop=True,
        duration_s=10.0,
        request_digest="",
        machine=Machine("a processor", 2, 1, "6.1"),
        phases=[Phase("steady", 0.0, 10.0)],
    )
    for kind in KINDS:
        cell = Cell(Label("steady", Status.DIRECT, kind, "origin", "eu-eur"), requests=100, codes={"200": 100})
        cell.corrected.add(ms * 1000, 100)
        run.cells.append(cell)
    run.check.faults = [faults] if faults else []
    return Part(run, 0.5, statements, 20.0, hit_share, kept_ms)


def test_what_nobody_asked_for_is_counted_apart():
    counted = read(FIGURES)
    assert (counted.statements, counted.background) == (34.0, 107.0)
    assert counted.results == {"hit": 9.0, "absent": 1.0}


def test_the_bound_within_which_values_were_kept():
    writes = read(FIGURES).writes
    assert readthrough._within(writes, 0.98) == 0.001
    assert readthrough._within(writes, 0.99) == 0.005
    assert readthrough._within(writes, 1.0) == float("inf")
    assert readthrough._within({}, 0.99) == 0.0


@pytest.mark.parametrize(
    ("hit_ms", "miss_ms", "kept_ms", "met"),
    [
        pytest.param(4.0, 40.0, 5.0, True, id="both in time"),
        pytest.param(6.0, 40.0, 5.0, False, id="slow hits"),
        pytest.param(4.0, 51.0, 0.0, False, id="slow misses"),
        pytest.param(4.0, 46.0, 5.0, False, id="slow with their keeping"),
    ],
)
def test_hits_and_misses_with_their_keeping_are_judged(hit_ms, miss_ms, kept_ms, met):
    with_it = Measured(part(miss_ms, kept_ms=kept_ms), part(hit_ms, hit_share=100.0))
    assert line_of(with_it, Measured(part(20.0), part(20.0))).met is met


def test_a_run_whose_generator_fell_behind_is_no_pass():
    with_it, without = Measured(part(10.0), part(1.0)), Measured(part(20.0), part(20.0, faults="it fell behind"))
    line = line_of(with_it, without)
    assert not line.met
    assert line.doubts == ("read-through, without: it fell behind",)


def test_the_tables_tell_all_four_runs_and_every_kind():
    text = tables(
        Measured(part(10.0, statements=5_000), part(1.0, statements=20, hit_share=99.6)),
        Measured(part(11.0, statements=5_000), part(9.0, statements=4_900)),
    )
    assert "| again: hits | 1.00 | 1.00 | 1.00 | 100.00 % | 99.6 % | 20 | 0.50 |" in text
    assert "| again, without | 9.00 | 9.00 | 9.00 | 100.00 % | 0.0 % | 4,900 | 0.50 |" in text
    assert text.count("1.00 / 1.00") == len(KINDS)


def test_every_address_is_asked_for_once_as_an_edge_asks():
    products = [{"sku": f"SKU {n}", "url": f"/eu-eur/products/p-{n}", "category": f"c/{n % 3}"} for n in range(30)]
    asked = addresses(products, "eu-eur", "the key")
    assert {each.route for each in asked} == set(KINDS)
    assert len({each.target for each in asked}) == len(asked) == 30 * 4 + 3 + 2
    assert all(each.fields == (("Nearshelf-Edge-Key", "the key"),) for each in asked)
    assert "/api/v1/eu-eur/prices/SKU%200" in {each.target for each in asked}
    schedule = once_each({"origin": "http://127.0.0.1:1"}, asked)
    assert list(schedule.which) == list(range(len(asked)))
    assert all(one < other for one, other in itertools.pairwise(schedule.due_s))
    assert schedule.digest == once_each({"origin": "http://127.0.0.1:1"}, asked).digest
