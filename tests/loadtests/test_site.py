"""An edge for any origin under fire: the run that the documents name, in short."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.site import Missing, valkey_program

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[2]


def test_a_dead_tier_costs_no_request_and_a_dead_worker_only_its_own():
    try:
        valkey_program()
    except Missing as exc:
        pytest.skip(str(exc))
    if shutil.which("openssl") is None:
        pytest.skip("needs the command openssl")
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.site", "--seconds", "1", "--viewers", "16"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("-> kept") == 2
