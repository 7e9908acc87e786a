"""Long runs: in their order from several processes, stopped, killed and gone on with, and what is said meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.simulation import progress
from tests.simulation.__main__ import Progress, main
from tests.simulation.players import RUNS_AT_ONCE, PlayerEnded
from tests.simulation.progress import CannotResume, digest_of_code, play_until
from tests.simulation.runs import Totals

ROOT = Path(__file__).parents[2]
SERVES = 10
"""Of each run that is only pretended."""
ENDLESS = """
from pathlib import Path
from tests.simulation.progress import play_until
from tests.simulation.test_progress import pretend
play_until(10**9, 7, processes=2, resume=Path({file!r}), playing=pretend)
"""


def pretend(seed: int, first: int, many: int) -> Totals:
    """In place of worlds; the first batches take the longest."""
    time.sleep(0.05 if first < 2 * RUNS_AT_ONCE else 0.001)
    return Totals(seed, "", many, 100 * many, 2 * SERVES * many, SERVES * many, traces=set(range(first, first + many)))


def end_in_the_middle(seed: int, first: int, many: int) -> Totals:
    """A player that is killed in its second batch."""
    if first:
        os._exit(9)
    return pretend(seed, first, many)


def counted(totals: Totals) -> tuple[int, int, int, set[int]]:
    return totals.runs, totals.checked, totals.steps, totals.traces


def test_runs_are_counted_in_their_order_from_several_processes():
    heard: list[int] = []
    totals = play_until(25 * SERVES, 7, processes=2, heard=lambda so_far: heard.append(so_far.runs), playing=pretend)
    assert heard == list(range(0, 29, RUNS_AT_ONCE))
    assert counted(totals) == (28, 280, 2_800, set(range(28)))


def test_a_run_that_is_stopped_goes_on_where_it_was(tmp_path: Path):
    file = tmp_path / "progress.json"
    heard: list[int] = []
    stopped = play_until(
        25 * SERVES,
        7,
        resume=file,
        heard=lambda so_far: heard.append(so_far.runs),
        stopping=lambda: heard[-1] >= 2 * RUNS_AT_ONCE,
        playing=pretend,
    )
    assert stopped.runs == 2 * RUNS_AT_ONCE
    assert counted(Totals.from_json(file.read_text())) == counted(stopped)
    assert counted(play_until(25 * SERVES, 7, resume=file, playing=pretend)) == (28, 280, 2_800, set(range(28)))


def test_a_run_that_is_killed_leaves_a_whole_file_and_no_process(tmp_path: Path):
    file = tmp_path / "progress.json"
    run = subprocess.Popen([sys.executable, "-c", ENDLESS.format(file=str(file))], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        while not file.exists():
            assert run.poll() is None
            time.sleep(0.01)
    finally:
        run.kill()
    # Whoever is left of it holds this pipe open.
    run.communicate(timeout=60)
    held = Totals.from_json(file.read_text())
    assert held.runs >= RUNS_AT_ONCE
    assert held.traces == set(range(held.runs))
    more = play_until(held.checked + SERVES, 7, resume=file, playing=pretend)
    assert counted(more)[:2] == (held.runs + RUNS_AT_ONCE, held.checked + RUNS_AT_ONCE * SERVES)


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "progress.json"
    before = Totals(7, digest_of_code(), 4, 400, 80, 40)
    file.write_text(before.to_json())

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        play_until(25 * SERVES, 7, resume=file, playing=pretend)
    assert file.read_text() == before.to_json()


def test_a_player_that_ends_is_told(tmp_path: Path):
    file = tmp_path / "progress.json"
    with pytest.raises(PlayerEnded, match="played runs 4 to 7 of seed 7 has ended with exit code 9"):
        play_until(25 * SERVES, 7, resume=file, playing=end_in_the_middle)
    assert Totals.from_json(file.read_text()).runs == RUNS_AT_ONCE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("no progress", "does not hold the progress of a run", id="something else"),
        pytest.param('{"format": 0}', "format 0, only 2 is understood", id="another format"),
        pytest.param(Totals(7, "c0de").to_json(), "is of seed 7, not 8", id="another seed"),
        pytest.param(Totals(8, "c0de").to_json(), r"is of other code \(c0de, now [0-9a-f]{16}\)", id="other code"),
    ],
)
def test_a_file_that_is_not_of_this_run_is_refused(tmp_path: Path, text: str, said: str):
    file = tmp_path / "progress.json"
    file.write_text(text)
    with pytest.raises(CannotResume, match=said):
        play_until(1, 8, resume=file)
    assert file.read_text() == text


def test_a_file_in_no_folder_is_refused(tmp_path: Path):
    with pytest.raises(CannotResume, match=r"there is no folder .*/away; make it, or name another file"):
        play_until(1, 8, resume=tmp_path / "away" / "progress.json")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--processes", "0"], "'0' is no whole number from 1 on"),
        (["--serves", "-5"], "'-5' is no whole number from 1 on"),
        (["--replay", "-1"], "'-1' is no whole number from 0 on"),
    ],
)
def test_numbers_that_cannot_be_are_refused(capsys: pytest.CaptureFixture, arguments: list[str], said: str):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_the_digest_is_of_the_code_alone(tmp_path: Path):
    room = tmp_path / progress.ROOMS[0]
    room.mkdir()
    (room / "rules.py").write_text("A = 1")
    first = digest_of_code(tmp_path)
    (room / "README.md").write_text("words")
    (room / "test_rules.py").write_text("assert True")
    (room / "rules.pyc").write_bytes(b"compiled")
    assert digest_of_code(tmp_path) == first
    (room / "rules.py").write_text("A = 2")
    assert digest_of_code(tmp_path) != first
    (room / "rules.py").rename(room / "other.py")
    assert len({first, digest_of_code(tmp_path), digest_of_code()}) == 3


def test_a_signal_stops_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "progress.json"

    def interrupted(seed: int, first: int, processes: int, stopping, playing):
        yield pretend(seed, first, RUNS_AT_ONCE)
        signal.raise_signal(signal.SIGTERM)
        assert stopping()

    monkeypatch.setattr(progress, "batches", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    assert main(["--serves", "1000", "--seed", "7", "--resume", str(file)]) == 3
    assert signal.getsignal(signal.SIGTERM) is before
    told = capsys.readouterr().out
    assert "Stopped at 40 of 1,000 checked serves" in told
    assert f"go on with: python -m tests.simulation --serves 1000 --seed 7 --processes 2 --resume {file}" in told
    assert Totals.from_json(file.read_text()).checked == 40


def test_progress_says_the_pace_of_this_command_and_what_is_left(capsys: pytest.CaptureFixture[str]):
    now = 100.0
    said = Progress(50_000, lambda: now)
    said(Totals(7, "", 10, 0, 0, 10_000))
    now = 105.0
    said(Totals(7, "", 15, 0, 0, 15_000))
    now = 110.0
    said(Totals(7, "", 20, 0, 0, 20_000))
    assert capsys.readouterr().err.splitlines() == [
        "goes on from 10,000 checked serves in 10 runs",
        "        20,000 checked serves in 20 runs, 0 violations; 1,000 a second, 0:00:30 to go",
    ]
