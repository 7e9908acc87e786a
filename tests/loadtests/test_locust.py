"""The locust run in a process of its own, because locust patches whatever imports it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fake_shop import FakeShop

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("locust") is None, reason="locust is not installed: the group `load` of pyproject.toml"
)


def locust(ready: Path, seconds: int = 6) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "--only-summary"]
    return subprocess.run(
        [*command, "-u", "8", "-r", "8", "-t", f"{seconds}s"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
        env={**os.environ, "NEARSHELF_READY": str(ready)},
    )


def test_an_honest_shop_exits_0_with_a_table_by_cache_status(tmp_path):
    with FakeShop(tmp_path).running() as shop:
        found = locust(shop.ready)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "hit  " in found.stdout
    assert "old prices shown after live    0" in found.stdout


def test_an_old_price_after_live_exits_1(tmp_path):
    with FakeShop(tmp_path, lambda edge, path: edge == "eu").running() as shop:
        found = locust(shop.ready)
    assert found.returncode == 1
    assert "SUPERSEDED: eu GET" in found.stdout


def test_another_machine_is_refused(tmp_path):
    ready = tmp_path / "ready.json"
    ready.write_text('{"edges": {"us": "http://shop.example"}, "origin": "http://shop.example"}')
    found = locust(ready)
    assert found.returncode != 0
    assert "load goes to this machine only" in found.stderr
