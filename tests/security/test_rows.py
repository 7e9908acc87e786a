"""A seeded sample of every row, against the edges as processes: no difference to a fresh edge."""

from __future__ import annotations

import pytest

from tests.security.__main__ import run
from tests.security.oracle import in_words
from tests.security.rows import ROWS

pytestmark = pytest.mark.alone


@pytest.mark.timeout(180)
async def test_a_sample_of_every_row_makes_no_difference_to_a_fresh_edge():
    tallies = await run(dict(ROWS), most=6, seed=4)
    assert not [text for tally in tallies for text in tally.differences], in_words(tallies)
    assert {tally.row for tally in tallies} >= set(ROWS)
    assert all(tally.requests for tally in tallies if not tally.notes)


@pytest.mark.long
@pytest.mark.timeout(3_600)
async def test_every_row_makes_no_difference_to_a_fresh_edge():
    tallies = await run(dict(ROWS), most=None, seed=1)
    assert not [text for tally in tallies for text in tally.differences], in_words(tallies)
