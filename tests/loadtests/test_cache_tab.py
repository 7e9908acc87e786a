"""What the tab of cache figures shows while a run is under way."""

from __future__ import annotations

import pytest

from loadtests.cache_tab import COLUMNS, rows_of
from loadtests.recorder.run import Cell, Label, Status


def cell(status: Status, edge: str, route: str, requests: int, ms: float, octets: int = 100) -> Cell:
    found = Cell(Label("run", status, route, edge, "eu-eur"), requests=requests, body_bytes=requests * octets)
    found.corrected.add(ms * 1000, requests)
    return found


CELLS = [
    cell(Status.HIT, "eu", "product", 6, ms=0.4),
    cell(Status.STALE, "eu", "product", 1, ms=0.5),
    cell(Status.MISS, "eu", "product", 2, ms=90),
    cell(Status.REVALIDATED, "eu", "home", 1, ms=80, octets=0),
    cell(Status.PASS, "us", "product", 3, ms=5),
    cell(Status.EDGE, "us", "home", 4, ms=0.1),
    cell(Status.ERROR, "us", "home", 5, ms=2000),
]


def test_everything_first_then_each_edge_with_its_routes():
    places = [(row["edge"], row["route"]) for row in rows_of(CELLS)]
    assert places == [
        ("all", "all"),
        ("eu", "all"),
        ("eu", "home"),
        ("eu", "product"),
        ("us", "all"),
        ("us", "home"),
        ("us", "product"),
    ]


def test_a_row_has_every_column_and_counts_each_request_once():
    for row in rows_of(CELLS):
        assert set(row) == {key for key, _ in COLUMNS}
        parts = ("hit", "stale", "revalidated", "miss", "pass", "edge_answers", "error")
        assert row["requests"] == sum(int(row[part]) for part in parts)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        pytest.param(("all", "all"), {"requests": "22", "hit_ratio": "70.0 %", "miss_p50": "89.9 ms"}, id="everything"),
        pytest.param(
            ("eu", "product"), {"hit_ratio": "77.8 %", "byte_hit_ratio": "77.8 %", "hit_p50": "400 us"}, id="hits"
        ),
        pytest.param(("us", "product"), {"pass": "3", "hit_ratio": "-", "hit_p50": "-"}, id="pass is in no ratio"),
        pytest.param(
            ("us", "home"), {"edge_answers": "4", "error": "5", "hit_ratio": "-"}, id="nor is what never came"
        ),
    ],
)
def test_figures(place, expected):
    (row,) = [row for row in rows_of(CELLS) if (row["edge"], row["route"]) == place]
    assert {key: str(row[key]).replace("\N{NO-BREAK SPACE}", " ") for key in expected} == expected


def test_nothing_yet():
    assert rows_of([]) == []
