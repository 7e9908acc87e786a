"""A full disk, a wrong clock, a way that leads elsewhere: each is made, noticed, and ended without a trace."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local import wall_clock
from infra.local.disk import NAME, Disk
from infra.local.errors import LocalError
from infra.local.replication_line import ReplicationLine


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    why_not = mounted.stderr.decode().strip()
    if why_not:
        pytest.skip(f"a disk of its own takes root and mount(8): {why_not}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_small_disk_is_filled_and_given_back(small_disk):
    disk = Disk(small_disk)
    assert disk.why_not() is None
    disk.fill()
    assert disk.is_full
    with pytest.raises(OSError, match="No space"):
        (small_disk / "more").write_bytes(b"x" * 8192)
    disk.empty()
    assert not disk._file.exists()
    (small_disk / "more").write_bytes(b"x" * 8192)


def test_the_machines_own_disk_is_not_filled(tmp_path, monkeypatch):
    monkeypatch.setattr("infra.local.disk.MOST_BYTES", 1)
    with pytest.raises(LocalError, match="fill-disk"):
        Disk(tmp_path).fill()
    assert not (tmp_path / NAME).exists()


WORKER = """
import sys, time
from pathlib import Path
from infra.local import wall_clock
wall_clock.obey(Path(sys.argv[1]))
monotonic = time.monotonic
for _ in sys.stdin:
    print(time.time(), flush=True)
"""


class Worker:
    """A process that tells its wall clock when asked."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def off_s(self) -> float:
        """By how much it is wrong."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert select.select([self.process.stdout], [], [], 20)[0]
        return float(self.process.stdout.readline()) - time.time()

    def step(self, off_s: float) -> None:
        wall_clock.write(self.file, off_s)
        self.process.send_signal(wall_clock.step_signal())


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(tmp_path / "eu-1.clock")
    yield worker
    worker.process.kill()
    worker.process.wait()
    for stream in (worker.process.stdin, worker.process.stdout):
        assert stream is not None
        stream.close()


@pytest.mark.skipif(not wall_clock.is_there(), reason="no real-time signals here")
def test_a_clock_is_set_wrong_and_right_again(worker):
    assert abs(worker.off_s()) < 1
    worker.step(-3600.0)
    assert abs(worker.off_s() + 3600) < 1
    worker.step(86_400.0)
    assert abs(worker.off_s() - 86_400) < 1
    worker.step(0.0)
    assert abs(worker.off_s()) < 1
    assert not worker.file.exists()


@pytest.mark.skipif(not wall_clock.is_there(), reason="no real-time signals here")
def test_a_worker_that_is_started_again_is_as_wrong_as_before(tmp_path):
    wall_clock.write(tmp_path / "eu-1.clock", 60.0)
    worker = Worker(tmp_path / "eu-1.clock")
    try:
        assert abs(worker.off_s() - 60) < 1
    finally:
        worker.process.kill()
        worker.process.communicate()


@pytest.mark.skipif(not wall_clock.is_there(), reason="no real-time signals here")
def test_who_cannot_listen_yet_is_not_ended_by_being_told():
    program = "from infra.local import wall_clock; wall_clock.ignore(); print(1, flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    os.kill(process.pid, wall_clock.step_signal())
    process.communicate("\n")
    assert process.returncode == 0
    assert wall_clock.step_signal() not in {signal.SIGTERM, signal.SIGINT}


def test_the_way_of_replication_leads_where_it_is_told(tmp_path):
    sockets, folder = tmp_path / "pg", tmp_path / "wal"
    sockets.mkdir()
    folder.mkdir()
    (sockets / ".s.PGSQL.5432").write_text("the primary")
    (folder / "relay.5432").write_text("the relay")
    line, way = ReplicationLine(folder, sockets, (5432,)), folder / ".s.PGSQL.5432"
    line.lead_directly()
    assert way.read_text() == "the primary"
    line.lead_through_relay()
    assert way.read_text() == "the relay"
    line.lead_nowhere()
    assert not way.exists()
    line.lead_nowhere()
    line.lead_directly()
    assert way.read_text() == "the primary"
    (channel,) = line.relay_plan()
    assert (channel["path"], channel["target_path"]) == (str(folder / "relay.5432"), str(sockets / ".s.PGSQL.5432"))
