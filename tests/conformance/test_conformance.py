"""Our gateway as `nearshelf edge --policies rfc9111` runs it, against every case, over sockets."""

from __future__ import annotations

import asyncio

import pytest

from tests.conformance import lint
from tests.conformance.__main__ import play
from tests.conformance.chapters import CASES
from tests.conformance.known import KNOWN
from tests.conformance.player import Outcome, Verdict
from tests.conformance.script import Case, Feature
from tests.conformance.targets import NEARSHELF

JUDGED = [case for case in CASES if case.needs is not Feature.NO_TARGETED]


@pytest.fixture(scope="module")
def run() -> tuple[dict[str, Verdict], list[str]]:
    """One gateway, started once: what came of every case, and what was wrong with any response."""
    verdicts, faults = asyncio.run(play(NEARSHELF, list(CASES), lint.faults, second_try=True))
    return {verdict.case.id: verdict for verdict in verdicts}, faults


@pytest.mark.timeout(180)
@pytest.mark.parametrize("case", JUDGED, ids=lambda case: case.id)
def test_the_gateway_passes(case: Case, run: tuple[dict[str, Verdict], list[str]]):
    verdict = run[0][case.id]
    if case.id in KNOWN:
        assert verdict.outcome is not Outcome.PASSED, "it is passed now: take it out of known.py"
        pytest.skip(KNOWN[case.id])
    assert verdict.outcome is Outcome.PASSED, f"{case.says} (RFC {case.anchor}): {verdict.why}"


def test_hardly_anything_takes_a_second_try(run: tuple[dict[str, Verdict], list[str]]):
    twice = [verdict.case.id for verdict in run[0].values() if verdict.outcome is Outcome.PASSED and verdict.tries > 1]
    assert len(twice) <= 4, twice


def test_every_response_is_well_formed(run: tuple[dict[str, Verdict], list[str]]):
    assert run[1] == []
