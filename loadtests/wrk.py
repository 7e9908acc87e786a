"""wrk as a generator: requests as fast as the answers come, in C, its whole histogram read from a script.

A closed loop: each connection sends its next request when it has its answer. So it says how much can be carried, and
how long answers take while nothing stalls; it never says what visitors feel, who come when they come. What it gives is
marked so.

wrk adds to its histogram requests that it never sent, guesses of what a stall hid (`stats_correct` in its wrk.c: for
each duration of more than twice the mean interval of a connection, one each interval shorter). A guess is no
measurement: they are taken out again, exactly, and the sum has to be what was answered.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.recorder.histogram import Histogram
from loadtests.recorder.pulses import Pulses

PATIENCE_S = 10
"""What takes longer is not told by wrk but for that it did; its histogram has a place for every microsecond of it."""
_ENDING_S = 120.0

_REQUESTS = """\
local requests, at = {}, 0
local file = assert(io.open(REQUESTS, "rb"))
while true do
  local length = file:read("*n")
  if not length then break end
  file:read(1)
  requests[#requests + 1] = file:read(length)
end
file:close()

function request()
  at = at % #requests + 1
  return requests[at]
end
"""
_MEASURING = """\
local threads = {}
answers, octets = {}, {}

function setup(thread)
  threads[#threads + 1] = thread
end

function response(status, headers, body)
  local said = headers["cache-status"] or headers["Cache-Status"] or ""
  local key = status .. " " .. (said:gsub("ttl=(%-?)%d+", "ttl=%10"))
  answers[key] = (answers[key] or 0) + 1
  octets[key] = (octets[key] or 0) + #body
end

function done(summary, latency)
  local out = assert(io.open(MEASURED, "w"))
  local function tell(name, value) out:write(string.format("%s %.0f\\n", name, value)) end
  tell("requests", summary.requests)
  tell("duration_us", summary.duration)
  for _, name in ipairs({ "connect", "read", "write", "timeout" }) do tell(name, summary.errors[name]) end
  for i = 1, #latency do
    local value, count = latency(i)
    out:write(string.format("latency %.0f %.0f\\n", value, count))
  end
  for _, thread in ipairs(threads) do
    local octets = thread:get("octets")
    for key, count in pairs(thread:get("answers")) do
      out:write(string.format("answer %.0f %.0f %s\\n", count, octets[key], key))
    end
  end
  out:close()
end
"""


class WrkFailed(Exception):
    """wrk measured nothing that can be used. Says why."""


@dataclass(frozen=True, slots=True)
class Answered:
    """Answers with one code and one Cache-Status; each ttl in it is 0, with its sign."""

    code: int
    cache_status: str
    count: int
    body_bytes: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run of wrk says."""

    requests: int
    """Answered."""
    duration_s: float
    latency: Histogram
    """Of every answer; those that took longer than PATIENCE_S with that."""
    answers: Sequence[Answered]
    failed: Mapping[str, int]
    """`connect`, `read`, `write` -> how often; none of these was answered."""
    cpu_share: float
    """Processor time of wrk over the time that passed; 1 is one core."""
    lag: Histogram
    """How late this process woke up beside it: wrk was kept waiting for a core as long."""


def version() -> str:
    """As wrk says it. Raises WrkFailed where there is none."""
    said = subprocess.run([_path(), "-v"], capture_output=True, text=True, check=False).stdout
    return " ".join(said.split()[1:2]) or "unknown"


def asking(requests: Sequence[bytes], path: Path) -> str:
    """The part of a script that sends these whole requests one after the other, and again from the first. They are
    written to `path`, where wrk reads them."""
    path.write_bytes(b"".join(b"%d\n%b" % (len(request), request) for request in requests))
    return f"local REQUESTS = {json.dumps(str(path))}\n{_REQUESTS}"


def run(address: str, requests: Sequence[bytes], *, seconds: int, connections: int, core: int | None) -> Measured:
    """Whole requests, one after the other and again from the first, over so many connections. Raises WrkFailed.

    `core`: where wrk, which has one thread, is to stay; None: anywhere.
    """
    with tempfile.TemporaryDirectory(prefix="nearshelf-wrk-") as name:
        folder = Path(name)
        said = folder / "measured"
        script = f"{asking(requests, folder / 'requests')}local MEASURED = {json.dumps(str(said))}\n{_MEASURING}"
        (folder / "script.lua").write_text(script)
        command = [_path(), "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={PATIENCE_S}s"]
        command += ["-s", str(folder / "script.lua"), address]
        if core is not None:
            command = [*_pinned(core), *command]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            lag = _beside(process, seconds + _ENDING_S)
            out, err = process.communicate()
        finally:
            process.kill()
            process.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if process.returncode or not said.exists():
            last = (err or out).strip().splitlines()[-1:] or [f"status {process.returncode}"]
            raise WrkFailed(f"wrk against {address}: {last[0]}")
        took_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return read_measured(said.read_text("latin-1"), connections=connections, processor_s=took_s, lag=lag)


def _beside(process: subprocess.Popen[str], patience_s: float) -> Histogram:
    """How late this process wakes up until `process` ends. Raises WrkFailed when it does not."""
    began_at, pulses = time.monotonic(), Pulses()
    while process.poll() is None:
        now_s = time.monotonic() - began_at
        if now_s > patience_s:
            raise WrkFailed(f"wrk did not end within {patience_s:.0f} s")
        pulses.come(now_s)
        time.sleep(max(0.0, pulses.next_s - (time.monotonic() - began_at)))
    return pulses.lag


def read_measured(text: str, *, connections: int, processor_s: float, lag: Histogram) -> Measured:
    """What the script wrote, with what was seen of it from outside.

    Raises WrkFailed when its figures do not agree with each other.
    """
    numbers: dict[str, int] = {}
    told: dict[int, int] = {}
    answers: list[Answered] = []
    for line in filter(None, text.split("\n")):
        name, *values = line.split(" ", 3)
        if name == "latency":
            told[int(values[0])] = int(values[1])
        elif name == "answer":
            code, _, said = values[2].partition(" ")
            answers.append(Answered(int(code), said, int(values[0]), int(values[1])))
        else:
            numbers[name] = int(values[0])
    requests, duration_us = numbers["requests"], numbers["duration_us"]
    if not requests or not duration_us:
        raise WrkFailed("nothing was answered")
    each = requests // connections
    measured = told if not each else without_guesses(told, duration_us // each)
    latency = Histogram()
    for value, times in measured.items():
        latency.add(value, times)
    if numbers["timeout"]:
        latency.add(PATIENCE_S * 1_000_000, numbers["timeout"])
    if latency.count != requests:
        raise WrkFailed(
            f"wrk says that {requests:,} requests were answered, and how long {latency.count:,} took: this version "
            "of it counts otherwise than is known here"
        )
    return Measured(
        requests=requests,
        duration_s=duration_us / 1e6,
        latency=latency,
        answers=answers,
        failed={name: numbers[name] for name in ("connect", "read", "write") if numbers[name]},
        cpu_share=processor_s / (duration_us / 1e6),
        lag=lag,
    )


def without_guesses(told: Mapping[int, int], interval_us: int) -> dict[int, int]:
    """Microseconds -> requests as they were measured, from what wrk tells after its correction. Raises WrkFailed.

    Its correction goes upwards and only ever adds below where it is, so going downwards undoes it: what is found at the
    highest is what was measured there, and says what was added below.
    """
    found: dict[int, int] = defaultdict(int, told)
    for value in sorted(told, reverse=True):
        times = found[value]
        if value >= 2 * interval_us and times > 0:
            for guessed in range(value - interval_us, interval_us, -interval_us):
                found[guessed] -= times
    if min(found.values(), default=0) < 0:
        raise WrkFailed(
            "wrk's histogram has fewer requests than its guesses alone: this version of it guesses otherwise"
        )
    return {value: times for value, times in found.items() if times}


def _path() -> str:
    found = shutil.which("wrk")
    if found is None:
        raise WrkFailed("wrk is not on this machine. On Debian: apt-get install wrk")
    return found


def _pinned(core: int) -> list[str]:
    found = shutil.which("taskset")
    if found is None:
        raise WrkFailed("taskset is not on this machine. On Debian: apt-get install util-linux")
    return [found, "-c", str(core)]
