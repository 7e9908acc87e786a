"""A session from its first fault to its last: who broke it off, when it is quiet, and what cannot be run."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadtests.chaos import __main__ as command
from loadtests.chaos import run as room
from loadtests.chaos.checkers import Verdicts
from loadtests.chaos.history import Ended, Event, Looked, Session
from loadtests.chaos.run import LOCK, Folder, Plan, alone
from loadtests.chaos.schedule import Episode, Stage
from loadtests.chaos.tally import Tally
from loadtests.faults import FaultsUnavailable
from loadtests.http1 import NoAnswer
from loadtests.target import BadTarget, Target

STAGE = Stage(("eu",), ("eu-1",), ("origin-1",), full_disk=False)
SESSION = Session(1, 0, "2026-01-01T00:00:00+00:00", ("eu",), ())


class Crew:
    """In the place of all that breaks, changes and reads: ends a session as it is told to."""

    def __init__(self) -> None:
        self.raises: BaseException | None = None
        """By the episode that is played next."""
        self.reading: Exception | None = None
        """Why nobody reads any more."""
        self.bites = True
        self.felt = 0
        self.played: list[int] = []
        self.healed = 0
        self.head = None
        self.recent: list[Any] = []

    def __call__(self, *_: object, **__: object) -> Crew:
        return self

    async def play(self, episode: Episode) -> None:
        self.played.append(episode.number)
        self.felt += self.bites
        if self.raises is not None:
            raise self.raises

    async def insist(self, *_: object, **__: object) -> None:
        self.healed += 1

    async def run(self) -> None:
        await asyncio.sleep(0)
        if self.reading is not None:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._raise(self.reading))
        await asyncio.Event().wait()

    async def _raise(self, exc: Exception) -> None:
        raise exc

    async def line(self, _: float) -> None: ...

    async def nothing(self, *_: object) -> None: ...

    sign_in = measure = end = finish = stop = nothing

    def enough(self) -> None: ...

    def tell(self, *_: object) -> None: ...

    async def lost(self) -> list[str]:
        return []

    async def look_everywhere(self, *_: object) -> list[str]:
        return []

    def settled(self) -> dict[Any, int]:
        return {}


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Crew:
    told = Crew()
    for name in ("Merchandise", "Readers", "Breaking"):
        monkeypatch.setattr(room, name, told)
    monkeypatch.setattr(room, "_unless_one_ends", _work_unless_reading_ends)
    return told


async def _work_unless_reading_ends(work: Any, reading: asyncio.Future[Any], _: asyncio.Future[Any]) -> None:
    """Nobody changes anything here, which is no reason to end."""
    await _unless_one_ends(work, reading)


_unless_one_ends = room._unless_one_ends


async def session(crew: Crew, tmp_path: Path, said: list[str] | None = None, **plan: Any) -> list[Event]:
    """What it noted; whatever it raised is dropped, but for what says that the plan is no good."""
    events: list[Event] = []
    folder = Folder.make(tmp_path / "run", Plan(**{"faults": 3, "calm_s": 0.0, "quiet_s": 0.0, **plan}))
    target = Target({"eu": "http://eu"}, "http://origin", tmp_path, None)
    one = room._Session(target, crew, folder, events.append, Verdicts(SESSION), 1)  # type: ignore[arg-type]
    say: Callable[[str], None] = (said if said is not None else []).append
    try:
        await one.play(STAGE, None, [], Tally(), say)  # type: ignore[arg-type]
    except (FaultsUnavailable, NoAnswer, OSError, ExceptionGroup, asyncio.CancelledError):
        assert crew.healed
    return events


def broke_off(events: list[Event]) -> list[str]:
    return [event.wrong for event in events if isinstance(event, Looked) and event.wrong]


async def test_a_session_that_comes_to_its_end_says_so(crew, tmp_path):
    events = await session(crew, tmp_path)
    assert crew.played == [0, 1, 2]
    assert isinstance(events[-1], Ended)
    assert broke_off(events) == []


async def test_a_session_that_the_shop_broke_off_is_wrong_for_ever(crew, tmp_path):
    crew.raises = FaultsUnavailable("after episode 0 the shop is not whole again: eu-1 is stopped")
    (wrong,) = broke_off(await session(crew, tmp_path))
    assert wrong == "broke off: after episode 0 the shop is not whole again: eu-1 is stopped"


async def test_a_session_that_its_own_readers_broke_off_is_wrong(crew, tmp_path):
    crew.reading = NoAnswer("eu: nonsense")
    assert broke_off(await session(crew, tmp_path, quiet_s=5.0)) == ["broke off: eu: nonsense"]


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(asyncio.CancelledError(), id="by hand"),
        pytest.param(OSError(errno.ENOSPC, "No space left on device"), id="no room for the history"),
    ],
)
async def test_a_session_that_ends_for_other_reasons_can_go_on(crew, tmp_path, end):
    crew.raises = end
    events = await session(crew, tmp_path)
    assert crew.played == [0]
    assert events == []


async def test_now_and_then_and_at_the_end_nothing_is_broken(crew, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "QUIET_EVERY", 2)
    said: list[str] = []
    await session(crew, tmp_path, said, faults=3, quiet_s=0.001)
    assert [text == "nothing is broken for 0.001 s" for text in said] == [False, False, True, False, True]


async def test_a_plan_that_finds_nothing_to_break_comes_to_an_end(crew, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "MOST_IN_VAIN", 5)
    crew.bites = False
    with pytest.raises(BadTarget, match="nothing bit in 5 episodes: is there anything for kill relay"):
        await session(crew, tmp_path, kinds=("kill relay",))
    assert len(crew.played) == 5


class Plain:
    """In the place of a shop: one whose disk is not to be filled."""

    def __init__(self, target: Target) -> None: ...

    async def stage(self) -> Stage:
        return STAGE


@pytest.mark.parametrize("also", [["--schedule"], []])
def test_kinds_that_there_is_nothing_for_are_refused_at_once(tmp_path, monkeypatch, capsys, also):
    monkeypatch.setattr(room, "Shop", Plain)
    monkeypatch.setattr(command, "Shop", Plain)
    monkeypatch.setattr(command, "load_target", lambda *_: Target({"eu": "http://eu"}, "http://origin", tmp_path, None))
    assert command.main(["--kinds", "fill disk", "--out", str(tmp_path / "run"), *also]) == 2
    assert "nothing in this shop for fill disk" in capsys.readouterr().err


@pytest.mark.parametrize("background", [False, True], ids=["in a terminal", "of a shell, in the background"])
def test_whoever_ends_it_by_sigterm_is_told_how_it_goes_on(tmp_path, monkeypatch, capsys, background):
    async def until_told(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    def unheard(*_: object) -> None:
        raise AssertionError("nobody listens for SIGTERM")

    monkeypatch.setattr(command, "load_target", lambda *_: Target({"eu": "http://eu"}, "http://origin", tmp_path, None))
    monkeypatch.setattr(command, "run", until_told)
    before = signal.signal(signal.SIGTERM, unheard)
    # A shell has what it runs in the background ignore Ctrl-C.
    interrupts = signal.signal(signal.SIGINT, signal.SIG_IGN if background else signal.default_int_handler)
    try:
        assert command.main(["--out", str(tmp_path / "run")]) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupts)
    assert "interrupted; go on with --resume" in capsys.readouterr().err


def test_two_runs_do_not_break_one_shop(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "load_target", lambda *_: Target({"eu": "http://eu"}, "http://origin", tmp_path, None))
    with alone(tmp_path):
        assert command.main(["--out", str(tmp_path / "run")]) == 2
    assert "another run is breaking this shop" in capsys.readouterr().err
    assert (tmp_path / LOCK).exists()
    assert not (tmp_path / "run").exists()


def test_where_there_is_no_shop_no_run_is_begun(tmp_path, capsys):
    assert command.main(["--out", str(tmp_path / "run"), "--ready", str(tmp_path / "none")]) == 2
    assert "start the shop" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", [["--seed", "3"], ["--kinds", "cut"], ["--out", "elsewhere"]])
def test_what_a_run_is_cannot_be_changed_when_it_goes_on(tmp_path, capsys, option):
    Folder.make(tmp_path / "run", Plan())
    assert command.main(["--resume", str(tmp_path / "run"), *option]) == 2
    assert option[0] in capsys.readouterr().err


def test_how_much_is_wanted_can_be_changed_when_a_run_goes_on(tmp_path):
    Folder.make(tmp_path / "run", Plan(seed=7, orders=2))
    options = ["--faults", "2000", "--answers", "9", "--rate", "700", "--connections", "3", "--calm", "1"]
    given = command.changes_of(command.parse_arguments(options))
    folder = Folder.resume(tmp_path / "run", **given)
    assert folder.plan == Plan(seed=7, faults=2000, answers=9, rate=700.0, connections=3, orders=2, calm_s=1.0)


def test_a_full_disk_is_told_in_a_line(tmp_path, monkeypatch, capsys):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(command, "load_target", full)
    assert command.main(["--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == "chaos: [Errno 28] No space left on device\n"


@pytest.mark.parametrize(
    "options",
    [
        ["--faults", "0"],
        ["--orders", "0"],
        ["--quiet", "-1"],
        ["--answers", "-1"],
        ["--rate", "nan"],
        ["--calm", "inf"],
    ],
)
def test_what_is_not_a_number_of_anything_is_refused(options, capsys):
    assert command.main(options) == 2
    assert options[0] in capsys.readouterr().err
