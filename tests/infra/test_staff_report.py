"""Watching a change from a shell while its database fails over: what is saved is watched on, and called saved."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
import typer

from infra.staff_origin import EXIT_FAILED, EXIT_NOT_LIVE, Origin, Refused
from infra.staff_report import POLL_S, finish

CHANGED = {"position": "1.7", "purge_id": "a-b"}
LIVE = {"state": "live", "elapsed_ms": 231.4, "final": True, "workers": [], "standbys": [], "read_back": []}
WAITING = LIVE | {"state": "waiting", "final": False}
UNAVAILABLE = Refused("no database is in charge just now", EXIT_FAILED)


class Clock:
    """Time passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("infra.staff_report.time", clock)
    return clock


class Answers:
    """An origin that gives one after the other, the last one again and again."""

    def __init__(self, *answers: dict[str, Any] | Refused) -> None:
        self._answers = list(answers)

    def ask(self, *_: object, **__: object) -> dict[str, Any]:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Refused):
            raise answer
        return answer


def watched(*answers: dict[str, Any] | Refused, as_json: bool = False) -> int:
    """The exit code."""
    origin = cast(Origin, Answers(*answers))
    try:
        finish(origin, CHANGED, "12.00 EUR", wait=True, timeout=3.0, as_json=as_json)
    except typer.Exit as end:
        return end.exit_code
    return 0


def test_a_failover_is_waited_out(clock, capsys):
    assert watched(WAITING, UNAVAILABLE, UNAVAILABLE, LIVE) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "live in 231 ms: 0 of 0 workers"
    assert clock.now == 2 * POLL_S


def test_what_is_saved_is_called_so_when_nobody_can_tell_how_far_it_is(clock, capsys):
    assert watched(WAITING, UNAVAILABLE) == EXIT_NOT_LIVE
    assert capsys.readouterr().out.splitlines() == [
        "12.00 EUR; saved at 1.7",
        "saved, but not seen live: no database is in charge just now",
    ]
    assert clock.now == 3.0
    assert watched(UNAVAILABLE, as_json=True) == EXIT_NOT_LIVE
    document = json.loads(capsys.readouterr().out)
    assert (document["changed"], document["report"], document["exit_code"]) == (CHANGED, None, EXIT_NOT_LIVE)


def test_whoever_is_signed_out_meanwhile_is_told_at_once(clock, capsys):
    assert watched(WAITING, Refused("not signed in any more")) == EXIT_NOT_LIVE
    assert capsys.readouterr().out.splitlines()[-1] == "saved, but not seen live: not signed in any more"
    assert clock.now == 0.0
