"""The cases themselves: complete, well-formed, and each of them failed by some cache that is wrong."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from fnmatch import fnmatch

import pytest

from tests.conformance.__main__ import play
from tests.conformance.chapters import BY_ID, CASES
from tests.conformance.known import KNOWN
from tests.conformance.lines import LINES
from tests.conformance.player import Outcome
from tests.conformance.script import Kind
from tests.conformance.targets import NGINX_TARGET, WRONG

SPOILT_ONLY = {"vary-passed-on"}
"""Only a cache that mangles what it keeps gets these wrong: they are about keeping it as it came."""


def test_each_case_has_an_id_of_its_own():
    assert [name for name, count in Counter(case.id for case in CASES).items() if count > 1] == []
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.-]+", case.id) for case in CASES)


def test_each_case_names_the_section_it_is_about():
    unnamed = [case.id for case in CASES if not re.fullmatch(r"\d{4} §\d+(\.\d+)*|docs/freshness\.md", case.anchor)]
    assert unnamed == []


def test_there_are_enough_of_them():
    assert len(CASES) >= 400
    assert sum(case.kind is Kind.REQUIRED for case in CASES) >= 300


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[:40])
def test_every_point_is_tested(line):
    unknown = [pattern for pattern in LINES[line] if not any(fnmatch(name, pattern) for name in BY_ID)]
    assert LINES[line]
    assert unknown == []


def test_known_failures_are_cases():
    assert set(KNOWN) <= set(BY_ID)
    assert all(len(why) > 20 for why in KNOWN.values())


@pytest.mark.timeout(300)
async def test_a_cache_that_is_wrong_fails():
    """Every case is failed by at least one of them, and by one that does not just mangle what it keeps."""
    played = await asyncio.gather(*(play(target, list(CASES)) for target in WRONG))
    failed: dict[str, set[str]] = {case.id: set() for case in CASES}
    for target, (verdicts, _) in zip(WRONG, played, strict=True):
        for verdict in verdicts:
            if verdict.outcome is Outcome.FAILED:
                failed[verdict.case.id].add(target.name)
    unfailing = {name for name, by in failed.items() if not by - {"mangles by and by"}}
    assert unfailing == SPOILT_ONLY
    assert all(failed[name] for name in SPOILT_ONLY)


@pytest.mark.timeout(120)
@pytest.mark.skipif(not NGINX_TARGET.is_installed, reason="nginx is not installed")
async def test_a_peer_gets_through_the_cases():
    """That nginx keeps what says max-age and does not look at Age is well known; it shows that peers are reached."""
    wanted = [BY_ID["fresh-max-age"], BY_ID["age-counts"], BY_ID["store-no-store"]]
    verdicts, _ = await play(NGINX_TARGET, wanted)
    assert [verdict.outcome for verdict in verdicts] == [Outcome.PASSED, Outcome.FAILED, Outcome.PASSED]
