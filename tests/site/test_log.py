"""The purge log of a site on its disk: what it survives, and what it does when it cannot be believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cache_policies.positions import Position, PurgeKind
from edge.site.log import EPOCHS_BEGAN, LogUnusable, PurgeLog

WALL = 1_795_000_000.25
EPOCH = 1_795_000_000 - EPOCHS_BEGAN


def opened(path: Path, wall: float = WALL, **bounds: int) -> PurgeLog:
    return PurgeLog(path, wall=lambda: wall, **bounds)


def purge(log: PurgeLog, *tags: str) -> Position:
    entry = log.write(PurgeKind.HARD, tags)
    log.add(entry)
    return entry.position


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "purges.log"


def test_a_first_log_begins_at_the_wall_clock(path):
    log = opened(path)
    assert (log.head, log.entries, log.began_anew) == (Position(EPOCH, 250_000), [], "there was none")
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_was_written_is_there_after_the_next_start(path):
    log = opened(path)
    positions = [purge(log, "a", "b"), purge(log, "*")]
    log.close()
    again = opened(path, WALL + 50)
    assert again.began_anew is None
    assert (again.identity, again.start, again.start_id) == (log.identity, log.start, log.start_id)
    assert again.entries == log.entries
    assert [entry.position for entry in again.entries] == positions
    assert positions == [Position(EPOCH, 250_001), Position(EPOCH, 250_002)]
    assert purge(again, "c") == Position(EPOCH, 250_003)


def test_an_entry_counts_when_it_was_added_and_not_before(path):
    log = opened(path)
    entry = log.write(PurgeKind.SOFT, ("a",))
    assert log.after(log.start, log.start_id) == ()
    log.add(entry)
    assert log.after(log.start, log.start_id) == (entry,)


def test_after_knows_positions_with_their_ids_only(path):
    log = opened(path)
    purge(log, "a")
    purge(log, "b")
    first, second = log.entries
    assert log.after(first.position, first.id) == (second,)
    assert log.after(second.position, second.id) == ()
    for position, entry_id in (
        (first.position, second.id),
        (Position(first.position.epoch - 1, first.position.cv), first.id),
        (Position(EPOCH, log.start.cv - 1), log.start_id),
        (Position(EPOCH, second.position.cv + 1), "x"),
    ):
        assert log.after(position, entry_id) is None


DAMAGES = {
    "a bit has flipped": lambda text: text.replace(b'"b"', b'"c"', 1),
    "the last line is torn": lambda text: text[:-10],
    "the last line has no end": lambda text: text[:-1],
    "a line is missing": lambda text: b"".join(text.splitlines(True)[:1] + text.splitlines(True)[2:]),
    "a line is there twice": lambda text: text + text.splitlines(True)[-1],
    "nothing is left": lambda text: b"",
    "something else": lambda text: b"hello\n",
    "not text": lambda text: b"\xff\xfe\x00",
    "an empty line": lambda text: text + b"\n",
    "the head is missing": lambda text: b"".join(text.splitlines(True)[1:]),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_log_is_another_one_in_a_higher_epoch(path, how):
    log = opened(path)
    purge(log, "a", "b")
    purge(log, "d")
    text = path.read_bytes()
    damaged = DAMAGES[how](text)
    assert damaged != text
    path.write_bytes(damaged)
    again = opened(path, WALL + 100)
    assert again.began_anew
    assert again.identity != log.identity
    assert again.head > log.head
    assert again.head.epoch > log.head.epoch
    assert again.entries == []
    assert path.with_name("purges.log.damaged").read_bytes() == damaged
    assert opened(path).entries == []


def test_the_epoch_rises_although_the_clock_went_back(path):
    log = opened(path)
    purge(log, "a")
    with path.open("ab") as file:
        file.write(b"x")
    assert opened(path, WALL - 1_000_000).head.epoch == EPOCH + 1


def test_two_logs_begun_in_one_second_share_no_positions(path):
    first = opened(path)
    last = purge(first, "a")
    path.unlink()
    assert opened(path, WALL + 0.1).head > last


def test_trimming_leaves_the_newest_and_says_where_it_starts(path):
    log = opened(path, keep_entries=10)
    while not log.wants_trimming:
        purge(log, f"tag-{len(log.entries)}")
    assert len(log.entries) == 21
    entries, identity = list(log.entries), log.identity
    draft = log.trimmed()
    assert draft is not None
    log.take(draft)
    assert log.entries == entries[-10:]
    assert (log.start, log.start_id) == (entries[10].position, entries[10].id)
    assert log.after(entries[9].position, entries[9].id) is None
    purge(log, "more")
    again = opened(path)
    assert (again.began_anew, again.identity, again.entries) == (None, identity, log.entries)


def test_trimming_goes_by_size_as_well(path):
    log = opened(path, keep_bytes=5_000)
    while not log.wants_trimming:
        purge(log, *(f"tag-{number:04d}" for number in range(50)))
    draft = log.trimmed()
    assert draft is not None
    assert draft.size < 6_000
    assert draft.entries


def test_a_purge_that_cannot_be_written_leaves_nothing_behind(path, monkeypatch):
    log = opened(path)
    purge(log, "a")
    before = path.read_bytes()
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", _full)
        with pytest.raises(LogUnusable, match="nothing was purged"):
            log.write(PurgeKind.HARD, ("b",))
    assert path.read_bytes() == before
    position = purge(log, "c")
    assert position == Position(EPOCH, 250_002)
    assert [entry.tags for entry in opened(path).entries] == [("a",), ("c",)]


def _full(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(LogUnusable, match="cannot be written: No such file or directory"):
        opened(tmp_path / "nowhere" / "purges.log")
