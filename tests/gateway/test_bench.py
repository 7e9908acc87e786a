"""The bench runs: one short round of the gateway alone, or a clear word about what is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

COMMAND = [sys.executable, "-m", "loadtests.bench.hits"]


def test_what_is_missing_is_named():
    run = subprocess.run(COMMAND, env={"PATH": "/nowhere"}, capture_output=True, text=True, timeout=60)
    assert run.returncode == 2
    assert "wrk" in run.stderr
    assert "apt-get install" in run.stderr


@pytest.mark.skipif(
    any(shutil.which(name) is None for name in ("wrk", "nginx", "taskset")), reason="needs wrk, nginx and taskset"
)
def test_a_round_gives_a_table():
    run = subprocess.run(
        [*COMMAND, "--pairs", "1", "--seconds", "1", "--tries", "1"], capture_output=True, text=True, timeout=110
    )
    assert run.returncode == 0, run.stderr
    assert "| nearshelf, no log |" in run.stdout
    assert "CPU us/req" in run.stdout
