"""Watching a change from a shell while its database fails over: what is saved is watched on, and called saved."""

from __future__ import annotations

import json
from typing import Any, cast

import httpx
import pytest
import typer

from infra.staff_origin import EXIT_FAILED, EXIT_NOT_LIVE, Origin, Refused
from infra.staff_report import LEAST_S, POLL_S, finish

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


class Silence:
    """An origin that says nothing for as long as anybody waits for it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def ask(self, *_: object, within_s: float, **__: object) -> dict[str, Any]:
        self._clock.now += within_s
        raise UNAVAILABLE


@pytest.mark.parametrize("timeout", [0.0, 0.3, 3.0, 10.0])
def test_an_origin_that_says_nothing_is_not_waited_for_longer_than_was_said(clock, timeout):
    with pytest.raises(typer.Exit):
        finish(cast(Origin, Silence(clock)), CHANGED, "12.00 EUR", wait=True, timeout=timeout, as_json=True)
    assert clock.now <= max(timeout, LEAST_S)


@pytest.mark.parametrize(("within", "timeout"), [({}, 17.0), ({"within_s": 3.0}, 3.0), ({"within_s": 60.0}, 17.0)])
def test_a_request_takes_no_longer_than_its_caller_waits(monkeypatch, within, timeout):
    asked: list[float] = []

    def request(*_: object, **named: Any) -> httpx.Response:
        asked.append(named["timeout"])
        raise httpx.ReadTimeout("")

    monkeypatch.setattr(httpx, "request", request)
    with pytest.raises(Refused):
        Origin("http://127.0.0.1:1", None).ask("GET", "/", wait_s=2.0, **within)
    assert asked == [timeout]


def test_whoever_is_signed_out_meanwhile_is_told_at_once(clock, capsys):
    assert watched(WAITING, Refused("not signed in any more")) == EXIT_NOT_LIVE
    assert capsys.readouterr().out.splitlines()[-1] == "saved, but not seen live: not signed in any more"
    assert clock.now == 0.0
