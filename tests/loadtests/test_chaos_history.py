"""A history comes back as it was written, also when its writer was killed."""

from __future__ import annotations

import errno
import gzip
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.chaos import history as room
from loadtests.chaos.history import (
    BadHistory,
    Began,
    Broken,
    Committed,
    Doubtful,
    Event,
    History,
    Live,
    Other,
    Price,
    Refused,
    Repaired,
    Seen,
    Session,
    Settled,
    left_behind,
    read_history,
)
from loadtests.chaos.run import Folder, Plan, alone, judged
from loadtests.oracle import PriceKey
from loadtests.target import BadTarget

SESSION = Session(7, 0, "2026-01-01T00:00:00+00:00", ("us", "eu"), (Price(PriceKey("eu-eur", "SKU-1"), 1000),))
EVENTS: list[Event] = [
    Began(1.0, 1, 0, 1200),
    Committed(1.1, 1, "1.8"),
    Settled(1.2, 1, True),
    Live(1.5, 1),
    Seen(2.123457, 2.0, "eu", "/eu-eur/products/one", ((0, 1200),), "hit"),
    Other(3.0, 2.9, "us", "/us-usd/", 0, True, ""),
    Repaired(4.0, 3, "eu-1", None, 20.5, True),
    Broken(5.0, 1, "cut", "cut eu", "eu"),
]


def write(path: Path, events: list[Event] = EVENTS) -> None:
    with History.writing(path, SESSION, lambda _: None) as history:
        for event in events:
            history.note(event)


def test_what_was_written_is_read(tmp_path):
    write(tmp_path / "history.gz")
    session, events = read_history(tmp_path / "history.gz")
    assert session == SESSION
    assert list(events) == EVENTS


def test_who_watches_is_told_as_it_is_written(tmp_path):
    watched: list[Event] = []
    with History.writing(tmp_path / "history.gz", SESSION, watched.append) as history:
        history.note(EVENTS[0])
        assert watched == EVENTS[:1]


def test_every_event_has_a_name_of_its_own():
    kinds = room.Event.__args__
    assert {kind.__name__.lower() for kind in kinds} == set(room._EVENTS)


def test_whoever_is_killed_leaves_all_but_the_last_answers(tmp_path):
    """What was noted before the kill is in the file: an observer's own memory is never flushed."""
    path = tmp_path / "history.gz"
    child = os.fork()
    if not child:
        with History.writing(path, SESSION, lambda _: None) as history:
            for number in range(3_000):
                history.note(Seen(number / 100, number / 100, "eu", f"/{number}", ((0, 1200),), "hit"))
            history.note(Began(31.0, 1, 0, 1300))
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    session, events = read_history(path)
    found = list(events)
    assert session == SESSION
    assert len(found) == 3_001
    assert found[-1] == Began(31.0, 1, 0, 1300)


def test_a_history_is_there_with_its_first_line_or_not_at_all(tmp_path):
    path = tmp_path / "history.gz"
    with History.writing(path, SESSION, lambda _: None):
        session, events = read_history(path)
        assert session == SESSION
        assert list(events) == []


@pytest.mark.parametrize(
    ("events", "amounts"),
    [
        pytest.param([], {1000}, id="nothing was changed"),
        pytest.param([Began(1.0, 1, 0, 1200), Committed(1.1, 1, "1.8")], {1200}, id="a confirmed one"),
        pytest.param([Began(1.0, 1, 0, 1200)], {1000, 1200}, id="one under way"),
        pytest.param([Began(1.0, 1, 0, 1200), Doubtful(1.1, 1)], {1000, 1200}, id="a doubtful one"),
        pytest.param([Began(1.0, 1, 0, 1200), Refused(1.1, 1)], {1000}, id="a refused one"),
        pytest.param([Began(1.0, 1, 0, 1200), Doubtful(1.1, 1), Settled(2.0, 1, True)], {1200}, id="one that is there"),
        pytest.param([Began(1.0, 1, 0, 1200), Doubtful(1.1, 1), Settled(2.0, 1, False)], {1000}, id="one that is not"),
        pytest.param([Began(1.0, 1, -1, 0), Committed(1.1, 1, "1.8")], {1000}, id="a purge"),
    ],
)
def test_what_a_price_may_be_after_a_session_that_was_killed(events, amounts):
    assert left_behind(SESSION, events) == {PriceKey("eu-eur", "SKU-1"): amounts}


def test_of_a_history_that_was_cut_short_the_beginning_is_read(tmp_path):
    path = tmp_path / "history.gz"
    write(path, EVENTS * 200)
    path.write_bytes(path.read_bytes()[:-20])
    _, events = read_history(path)
    found = list(events)
    assert found
    assert found == (EVENTS * 200)[: len(found)]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        pytest.param([], "not the history", id="empty"),
        pytest.param(['{"v": 99}'], "version 99", id="another version"),
        pytest.param(["no json"], "not the history", id="something else"),
    ],
)
def test_what_is_no_history_is_refused(tmp_path, lines, words):
    path = tmp_path / "history.gz"
    with gzip.open(path, "wt") as file:
        file.writelines(line + "\n" for line in lines)
    with pytest.raises(BadHistory, match=words):
        read_history(path)


def test_an_event_that_nobody_knows_is_refused_with_its_line(tmp_path):
    path = tmp_path / "history.gz"
    with gzip.open(path, "wt") as file:
        file.write(json.dumps(SESSION.to_json()) + "\n" + '["began", 1, 1, 0, 5]\n' + '["eaten", 1]\n')
    _, events = read_history(path)
    with pytest.raises(BadHistory, match="line 3"):
        list(events)


def test_a_file_that_is_not_packed_is_refused(tmp_path):
    (tmp_path / "history.gz").write_text("hello")
    with pytest.raises(BadHistory, match="gzip"):
        read_history(tmp_path / "history.gz")


def test_a_run_goes_on_where_it_was_and_adds_up_what_was_found(tmp_path):
    folder = Folder.make(tmp_path / "run", Plan(seed=7, faults=12, kinds=("cut",)))
    assert folder.next_episode == 0
    folder.played(4)
    write(folder.history(0))

    again = Folder.resume(tmp_path / "run")
    assert again.plan == folder.plan
    assert (again.next_episode, again.sessions()) == (5, 1)
    # The session was killed before it wrote what it had found: that is read from its history.
    assert again.tally().live == 1
    again.write(0, judged(again.history(0)))
    assert again.tally().live == 1


def test_a_run_is_not_begun_where_there_is_one(tmp_path):
    Folder.make(tmp_path, Plan())
    with pytest.raises(BadTarget, match="--resume"):
        Folder.make(tmp_path, Plan())


def test_a_run_that_is_not_there_cannot_go_on(tmp_path):
    with pytest.raises(BadTarget, match=r"run\.json"):
        Folder.resume(tmp_path)


def test_a_run_is_not_begun_where_a_file_is(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(BadTarget, match="--out"):
        Folder.make(tmp_path / "run", Plan())


@pytest.mark.parametrize("text", ["", '{"sessions": 1, "ended', "{}"])
def test_a_summary_that_was_cut_short_is_made_anew_from_the_history(tmp_path, text):
    folder = Folder.make(tmp_path / "run", Plan())
    write(folder.history(0))
    folder.write(0, judged(folder.history(0)))
    whole = folder.tally().to_json()
    (tmp_path / "run" / "session-0.json").write_text(text)
    assert folder.tally().to_json() == whole
    assert whole["live"] == 1


def test_a_summary_is_written_as_a_whole(tmp_path, monkeypatch):
    """Whoever is killed, or finds no room, leaves what was there before."""
    folder = Folder.make(tmp_path / "run", Plan())
    write(folder.history(0))
    folder.write(0, judged(folder.history(0)))

    def no_room(self: Path, text: str) -> int:
        with self.open("w") as file:
            file.write(text[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", no_room)
    with pytest.raises(OSError, match="No space"):
        folder.write(0, judged(folder.history(0)))
    with pytest.raises(OSError, match="No space"):
        folder.played(3)
    assert folder.tally().live == 1
    assert folder.next_episode == 0


def test_a_run_goes_on_under_another_load_which_is_kept(tmp_path):
    Folder.make(tmp_path / "run", Plan(seed=7, faults=1_000))
    again = Folder.resume(tmp_path / "run", faults=2_000, rate=700.0)
    assert again.plan == Plan(seed=7, faults=2_000, rate=700.0)
    assert Folder.resume(tmp_path / "run").plan == again.plan
    assert "700 requests/s" in again.plan.load
    assert "2,000 faults" in again.plan.load


def test_a_shop_is_broken_by_one_run_at_a_time(tmp_path):
    with alone(tmp_path), pytest.raises(BadTarget, match="another run"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


def test_whoever_is_killed_keeps_nobody_from_breaking_the_shop(tmp_path):
    holds, told = os.pipe()
    child = os.fork()
    if not child:
        with alone(tmp_path):
            os.write(told, b"held")
            signal.pause()
    os.read(holds, 4)
    with pytest.raises(BadTarget), alone(tmp_path):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with alone(tmp_path):
        pass


def test_the_load_of_a_session_comes_back(tmp_path):
    path = tmp_path / "history.gz"
    with History.writing(path, replace(SESSION, load="700 requests/s"), lambda _: None):
        pass
    assert read_history(path)[0].load == "700 requests/s"
