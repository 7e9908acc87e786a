"""Access logs as `policy diff --replay` reads them: several, rotated, gzipped, and what is wrong with a line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from cache_policies.positions import Position
from infra.errors import CommandError
from infra.policy.access_log import read_logs
from tests.policy_tools.test_replay import BEGAN_AT, LAMPS, hit, line


def paths_in_order(*logs: Path) -> list[str]:
    log = read_logs(logs)
    return [log.addresses[log.asked[place]].path for place in log.order]


def test_logs_of_several_workers_are_one_in_the_order_of_time(tmp_path):
    (tmp_path / "eu-1.log").write_text(line(0, "/a") + line(4, "/b"))
    (tmp_path / "eu-2.log").write_text(line(1, "/c") + line(3, "/d"))
    assert paths_in_order(tmp_path / "eu-1.log", tmp_path / "eu-2.log") == ["/a", "/c", "/d", "/b"]


def test_a_request_stands_where_it_was_received(tmp_path):
    (tmp_path / "log").write_text(line(1, "/quick", ms=10) + line(2, "/slow", ms=1_500))
    assert paths_in_order(tmp_path / "log") == ["/slow", "/quick"]


def test_a_folder_stands_for_its_logs_rotated_and_gzipped(tmp_path):
    (tmp_path / "eu-1.access.log").write_text(line(2, "/new"))
    (tmp_path / "eu-1.access.log.1").write_text(line(1, "/old"))
    (tmp_path / "eu-1.access.log.2.gz").write_bytes(gzip.compress(line(0, "/oldest").encode()))
    (tmp_path / "eu-1.log").write_text("no log of accesses")
    asked = {"time": BEGAN_AT, "edge_key": True, "host": "h", "path": "/old", "source": "replica-0"}
    (tmp_path / "origin.access.log").write_text(json.dumps(asked) + "\n")
    assert paths_in_order(tmp_path, tmp_path / "eu-1.access.log") == ["/oldest", "/old", "/new"]


def test_a_folder_without_a_log_is_said(tmp_path):
    with pytest.raises(CommandError, match="holds no edge's log"):
        read_logs([tmp_path])


def test_a_line_that_is_still_being_written_is_left_out_and_counted(tmp_path):
    (tmp_path / "log").write_text(line(0, "/a") + line(1, "/b")[:40])
    log = read_logs([tmp_path / "log"])
    assert (len(log), log.unfinished) == (1, 1)


def test_what_is_wrong_in_a_gzipped_log_is_said_with_its_line(tmp_path):
    path = tmp_path / "log.gz"
    path.write_bytes(gzip.compress((line(0, "/a") + "{}\n").encode()))
    with pytest.raises(CommandError, match=r"log\.gz:2: no line of an edge's access log \(no 'cache'\)"):
        read_logs([path])


def test_a_file_that_is_cut_or_not_there_is_said(tmp_path):
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(line(0, "/a").encode() * 100)[:-30])
    for path in (cut, tmp_path / "nothing"):
        with pytest.raises(CommandError, match="cannot be read as an access log"):
            read_logs([path])


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"path": 7}, "edge, method and path are texts"),
        ({"status": "200"}, "status is a whole number"),
        ({"query": ["sort"]}, "has no attribute"),
        ({"query": {"sort": 7}}, ""),
        ({"position": "first"}, "not a position"),
        ({"position": "1.3", "said": {}, "size": "many"}, "invalid literal"),
        ({"ms": 1e15}, "expected seconds since the epoch"),
        ({"time": -5}, "expected seconds since the epoch"),
        ({"age": "old", "cache": "hit"}, ""),
    ],
)
def test_a_line_with_a_member_that_is_none_is_refused(tmp_path, said, why):
    (tmp_path / "log").write_text(json.dumps(json.loads(line(0, "/a")) | said) + "\n")
    with pytest.raises(CommandError, match=r"log:1: no line of an edge's access log") as found:
        read_logs([tmp_path / "log"])
    assert why in str(found.value)


def test_what_a_fetched_answer_tells_is_read(tmp_path):
    told = {"position": "1.7", "aged": 0.25, "size": 5_000, "said": {"fresh": 60, "no_stale": True}, "origin_ms": 80}
    (tmp_path / "log").write_text(line(0, LAMPS, **told) + hit(9, LAMPS, 9, 51) + line(20, LAMPS, floor="1.9"))
    log = read_logs([tmp_path / "log"])
    first, _, purged = (log.details.get(place) for place in log.order)
    assert first is not None
    assert purged is not None
    assert (first.origin_s, first.position, first.aged_s) == (0.08, Position(1, 7), 0.25)
    assert purged.floor == Position(1, 9)
    ((at, said),) = log.said.items()
    assert (at[1], said.fresh_s, said.no_stale, said.stale_if_error_s) == (200, 60, True, None)
    assert list(log.sizes.values()) == [5_000]


def test_viewers_who_hung_up_and_addresses_that_were_malformed_are_left_out(tmp_path):
    malformed = json.loads(line(1, "x", cache="edge", reason="bad-encoding", status=400))
    del malformed["path"]
    (tmp_path / "log").write_text(line(0, "/a") + json.dumps(malformed) + "\n" + line(2, "/b", cache="gone"))
    assert paths_in_order(tmp_path / "log") == ["/a"]
