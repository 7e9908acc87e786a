"""Who saw which price when, as a table."""

from __future__ import annotations

import csv

from loadtests.oracle import PriceKey, Verdict
from loadtests.sightings import HEADER, Sighting, Sightings

KEY = PriceKey("eu-eur", "SKU-1")


def _seen(at: float, stale_s: float | None = None) -> Sighting:
    return Sighting(at, "eu", "browser 7", "product", KEY, 1200, Verdict.OK, stale_s, "hit")


def test_rows_are_written_by_time_since_the_run_began(tmp_path):
    sightings = Sightings()
    sightings.add(_seen(12.5))
    sightings.add(_seen(11.25, stale_s=0.0125))
    sightings.write(tmp_path / "prices.csv", begun_at=10.0)
    with (tmp_path / "prices.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == HEADER
    assert rows == [
        ["1.250000", "eu", "browser 7", "product", "eu-eur", "SKU-1", "1200", "ok", "12.500", "hit"],
        ["2.500000", "eu", "browser 7", "product", "eu-eur", "SKU-1", "1200", "ok", "", "hit"],
    ]


def test_prices_that_had_been_replaced_are_kept_although_there_is_no_room_for_others():
    sightings = Sightings(most=2)
    for at in range(5):
        sightings.add(_seen(at))
    sightings.add(_seen(9, stale_s=1.0))
    assert (len(sightings), sightings.left_out) == (3, 3)
