"""What the machine says of itself, read from a /proc that was written down."""

from __future__ import annotations

import os

import pytest

from loadtests.recorder.machine import Reading, read_now, taken_between, this_machine, versions_here

CPUINFO = "processor\t: 0\nmodel name\t: AMD EPYC\nprocessor\t: 1\nmodel name\t: AMD EPYC\n"
MEMINFO = "MemTotal:        8000000 kB\nMemFree: 1 kB\n"
STAT = "cpu  100 10 50 700 20 5 15 100 40 3\ncpu0 1 1 1 1 1 1 1 1 1 1\nintr 3\n"


@pytest.fixture
def proc(tmp_path):
    for name, text in {"cpuinfo": CPUINFO, "meminfo": MEMINFO, "stat": STAT}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_machine_is_named(proc):
    found = this_machine(proc)
    assert (found.cpu, found.memory_bytes, found.cores) == ("AMD EPYC", 8_192_000_000, os.cpu_count())
    assert found.kernel.endswith(os.uname().release)


def test_what_guests_took_is_not_counted_twice(proc):
    found = read_now(clock=lambda: 3.0, proc=proc)
    assert (found.at, found.machine_ticks, found.busy_ticks, found.steal_ticks) == (3.0, 1000, 180, 100)
    assert found.process_s > 0


def test_shares_between_two_readings():
    before = Reading(10.0, 1.0, 1000, 300, 10)
    after = Reading(14.0, 3.0, 1800, 600, 90)
    found = taken_between(before, after, ticks_per_s=100)
    assert (found.seconds, found.cpu_share, found.busy_cores, found.steal_share) == (4.0, 0.5, 0.75, 0.1)


def test_no_time_is_no_share():
    once = Reading(10.0, 1.0, 1000, 300, 10)
    assert taken_between(once, once).cpu_share == 0
    assert taken_between(once, once).steal_share == 0


def test_a_machine_without_proc_fails_nothing(tmp_path):
    found = read_now(proc=tmp_path)
    assert (found.machine_ticks, found.steal_ticks) == (0, 0)
    assert this_machine(tmp_path).memory_bytes == 0


def test_versions_are_those_that_are_here():
    found = versions_here(["no-such-package-anywhere"])
    assert found["nearshelf"].startswith("0.")
    assert found["no-such-package-anywhere"] == "unknown"
    assert found["python"].count(".") == 2
