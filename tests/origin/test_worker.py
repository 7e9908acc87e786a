"""`python -m origin` as a process: workers share a port, stop cleanly, and say what is wrong."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import cast

import pytest

from origin.app import _told_of_moves
from origin.db import Database
from tests.support.servers import DatabaseUrls

ROOT = Path(__file__).parents[2]


def environment(database: DatabaseUrls, port: int) -> dict[str, str]:
    return os.environ | {
        "DATABASE_URL": database.primary,
        "REPLICA_URLS": database.replica,
        "ADMIN_DATABASE_URL": database.admin,
        "NEARSHELF_EDGE_KEY": "the key of the edges in tests",
        "NEARSHELF_LISTEN": f"127.0.0.1:{port}",
    }


def origin(*arguments: str, env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "origin", *arguments],
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ready(port: int, *workers: subprocess.Popen[str]) -> dict[str, object]:
    deadline = time.monotonic() + 60
    while True:
        assert all(worker.poll() is None for worker in workers), "a worker ended while it was starting"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as response:
                return json.loads(response.read())
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_workers_share_a_port_and_stop_cleanly(database, port):
    env = environment(database, port)
    workers = [origin(env=env), origin("serve", env=env)]
    try:
        assert ready(port, *workers)["ready"] is True
        for worker, number in zip(workers, (signal.SIGTERM, signal.SIGINT), strict=True):
            # The last one may still be reading its modules: what counts is that it was asked while it served.
            assert worker.stderr is not None
            while "Application startup complete" not in (line := worker.stderr.readline()):
                assert line, "the worker ended"
            worker.send_signal(signal.SIGUSR1)  # a supervisor's word that the primary has moved: no reason to stop
            worker.send_signal(number)
        for worker in workers:
            _, errors = worker.communicate(timeout=30)
            assert worker.returncode == 0, errors
            assert "Traceback" not in errors
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
                worker.communicate()


async def test_word_of_a_move_does_not_end_a_worker_that_commits_its_last_orders():
    """It looks no more then, and what the signal does by itself is to end the process."""
    looked = asyncio.Event()

    class Places:
        async def look_again(self) -> None:
            looked.set()

    before = signal.getsignal(signal.SIGUSR1)
    try:
        with _told_of_moves(cast(Database, Places())):
            signal.raise_signal(signal.SIGUSR1)
            async with asyncio.timeout(5):
                await looked.wait()
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, before)


def test_a_port_that_is_taken_is_named(database):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        worker = origin(env=environment(database, port))
        _, errors = worker.communicate(timeout=60)
    assert worker.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in errors
    assert "NEARSHELF_LISTEN" in errors


def test_an_environment_that_cannot_be_used_is_said_before_anything_starts():
    env = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "ADMIN_DATABASE_URL"}}
    for arguments, name in (((), "DATABASE_URL"), (("migrate",), "ADMIN_DATABASE_URL")):
        run = origin(*arguments, env=env)
        _, errors = run.communicate(timeout=60)
        assert run.returncode == 2
        assert name in errors
        assert "Traceback" not in errors


@pytest.mark.parametrize("arguments", [(), ("seed", "--products", "30")])
def test_markets_that_cannot_be_used_are_said_before_anything_starts(tmp_path, arguments):
    (tmp_path / "markets.yaml").write_text("default: eu-eur\nmarkets:\n  eu-eur:\n    currency: euro\n")
    env = os.environ | {
        "DATABASE_URL": "postgresql+asyncpg://nobody@127.0.0.1:9/none",
        "NEARSHELF_EDGE_KEY": "the key of the edges in tests",
        "NEARSHELF_LISTEN": "127.0.0.1:0",
        "NEARSHELF_POLICIES": str(tmp_path),
    }
    run = origin(*arguments, env=env)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 2, errors
    assert "markets.yaml:4:" in errors
    assert "NEARSHELF_POLICIES" in errors
    assert "Traceback" not in errors


def test_migrating_twice_and_seeding_twice_change_nothing_the_second_time(database, tmp_path):
    env = environment(database, 1)
    for arguments in (("migrate",), ("seed", "--products", "30"), ("migrate",)):
        run = origin(*arguments, env=env)
        _, errors = run.communicate(timeout=60)
        assert run.returncode == 0, errors
    run = origin("seed", "--products", "30", env=env)
    output, _ = run.communicate(timeout=60)
    assert (run.returncode, "nothing was changed" in output) == (0, True)
    password = tmp_path / "password"
    password.write_text("a long enough passphrase\n")
    run = origin("staff-add", "anna@example.com", "--role", "editor", "--password-file", str(password), env=env)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors


def test_a_member_of_staff_who_cannot_be_added_is_refused_in_one_line(database, tmp_path):
    env = environment(database, 1)
    password = tmp_path / "password"
    password.write_text("a long enough passphrase\n")
    run = origin("staff-add", "no address", "--password-file", str(password), env=env)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 1
    assert errors.startswith("python -m origin staff-add: ")
    assert "no address" in errors
    assert len(errors.splitlines()) == 1
