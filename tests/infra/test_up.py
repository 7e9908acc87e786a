"""`nearshelf up` as a person meets it: it starts, keeps running, breaks on command, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.local import ports
from infra.local.postgres import PRIMARY_PORT, STANDBY_PORT
from tests.support.servers import Stack

pytestmark = [
    pytest.mark.database,
    pytest.mark.alone,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for leftover processes in /proc"),
]

SMALL = ("--origin-workers", "1", "--edge-workers", "1")


@pytest.fixture
def shop(scratch: Path, tmp_path: Path, _servers_exist: None) -> Iterator[Stack]:
    """A small shop of the test's own, not yet started."""
    folder = scratch / tmp_path.name
    folder.mkdir(mode=0o711)
    shop = Stack(folder, products=0, arguments=SMALL)
    yield shop
    if shop.process.poll() is None:
        shop.stop()


def descendants(pid: int) -> set[int]:
    """Every process below `pid`."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found |= {int(child), *descendants(int(child))}
    return found


def alive(pids: set[int]) -> dict[int, str]:
    """Those that still run, with their command lines."""
    return {pid: command_line(pid) for pid in pids if " Z " not in stat(pid)}


def stat(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return " Z "


def until(condition: Callable[[], object], within_s: float = 90.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def sql(shop: Stack, port: int, statement: str) -> object:
    import asyncio

    import asyncpg

    async def ask() -> object:
        folder = shop.env["ADMIN_DATABASE_URL"].split("host=")[1].partition(":")[0]
        connection = await asyncpg.connect(host=folder, port=port, user="postgres", database="nearshelf")
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(ask())


def get(url: str) -> int:
    """The status of a GET; 0 when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def all_ports(shop: Stack) -> list[int]:
    return [int(port) for port in shop.ask("status")["ports"]]


def test_ctrl_c_leaves_nothing_behind_and_the_next_start_finds_the_data(shop):
    shop.start()
    processes, used = descendants(shop.process.pid), all_ports(shop)
    runtime = Path((shop.state / "runtime").read_text().strip())
    password = shop.staff_password
    assert len(processes) > 8
    assert not any(ports.is_free(port) for port in used)
    sql(shop, PRIMARY_PORT, "CREATE TABLE public.kept AS SELECT 7 AS number")

    assert shop.stop(signal.SIGINT) == 0
    assert not alive(processes)
    assert all(ports.is_free(port) for port in used)
    assert not runtime.exists()
    assert {path.name for path in shop.state.iterdir()} & {"env.json", "ready.json", "pid", "runtime"} == set()

    shop.start()
    assert sql(shop, PRIMARY_PORT, "SELECT number FROM public.kept") == 7
    until(lambda: sql(shop, STANDBY_PORT, "SELECT number FROM public.kept") == 7)
    assert shop.staff_password == password
    assert "only the first time" not in shop.output.read_text().split("stopped in")[1]
    assert shop.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize("log", ["databases.log", "pg-2.log", "us-1.log"])
def test_a_signal_while_it_starts_stops_what_was_started(shop, log):
    """The appearance of a log is the moment at which that process is started."""
    command = [sys.executable, "-c", "from infra.cli import main; main()", "up", "--port-base", "0", "--products", "0"]
    with shop.output.open("wb") as output:
        shop.process = subprocess.Popen(
            [*command, "--state", str(shop.state), *SMALL], stdout=output, stderr=output, start_new_session=True
        )
    until(lambda: (shop.state / "logs" / log).exists() or shop.process.poll() is not None)
    processes = descendants(shop.process.pid)
    assert shop.stop(signal.SIGTERM) in {0, 130}, shop.output.read_text()
    assert not alive(processes)
    assert "Traceback" not in shop.output.read_text()
    if log != "us-1.log":
        # What was half made is no obstacle.
        shop.start()
        assert shop.stop() == 0


def test_when_up_itself_is_killed_everything_else_ends_and_the_next_start_recovers(shop):
    shop.start()
    processes, used = descendants(shop.process.pid), all_ports(shop)
    shop.process.kill()
    shop.process.wait()
    until(lambda: not alive(processes))
    assert all(ports.is_free(port) for port in used)
    shop.start()
    assert shop.stop() == 0


def test_without_even_the_tether_the_next_start_ends_what_was_left(shop):
    shop.start()
    processes = descendants(shop.process.pid)
    for pid in {shop.process.pid, *(pid for pid in processes if "tether.py" in command_line(pid))}:
        os.kill(pid, signal.SIGKILL)
    shop.process.wait()
    shop.start()
    assert not alive(processes)
    assert shop.stop() == 0


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_a_second_up_on_one_state_folder_is_refused(stack):
    run = stack.nearshelf("up", "--state", str(stack.state), "--port-base", "0", check=False)
    assert run.returncode == 1
    assert f"(process {stack.process.pid}) is running" in run.stderr
    assert get(f"{stack.origin}/readyz") == 200


def test_a_taken_port_is_named_before_anything_is_started(stack, tmp_path):
    port = int(stack.origin.rpartition(":")[2])
    run = stack.nearshelf("up", "--state", str(tmp_path / "state"), "--port-base", str(port), check=False)
    assert run.returncode == 1
    assert f"port {port}, for the origin, is taken" in run.stderr
    assert "--port-base" in run.stderr
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("name", ["eu-1", "origin-2", "relay", "valkey", "standby", "primary"])
def test_what_dies_is_started_again_and_that_is_said(faults, name):
    # A server keeps its name; who is the primary may have changed, and does when the primary dies.
    processes = faults.ask("status")["processes"]
    name = next((one["name"] for one in processes if one["role"] == name), name)

    def process():
        return next(one for one in faults.ask("status")["processes"] if one["name"] == name)

    before = process()
    faults.ask("kill", name=name)
    until(lambda: process()["restarts"] == before["restarts"] + 1 and process()["condition"] == "running")
    assert process()["pid"] != before["pid"]
    assert f"{name} ended (killed by SIGKILL)" in faults.output.read_text()
    until(lambda: get(f"{faults.origin}/readyz") == 200)
    until(lambda: faults.ask("status")["replication"]["state"] == "streaming")
    until(lambda: all(get(f"{url}/readyz") == 200 for urls in faults.admin.values() for url in urls))


def edge_restarts(shop: Stack) -> dict[str, int]:
    processes = shop.ask("status")["processes"]
    return {one["name"]: one["restarts"] for one in processes if one["name"][:2] in shop.edges}


def test_workers_come_back_when_the_process_that_forks_them_dies(faults):
    children = Path(f"/proc/{faults.process.pid}/task/{faults.process.pid}/children").read_text().split()
    nursery = next(int(pid) for pid in children if "nursery\0edge.gateway" in command_line(int(pid)))
    workers = {url for urls in faults.admin.values() for url in urls}
    before = edge_restarts(faults)
    os.kill(nursery, signal.SIGKILL)
    until(lambda: edge_restarts(faults) == {name: restarts + 1 for name, restarts in before.items()})
    until(lambda: all(get(f"{url}/readyz") == 200 for url in workers))


def relay(faults) -> dict[str, Any]:
    return next(each for each in faults.ask("status")["processes"] if each["name"] == "relay")


def test_a_cut_of_an_edge_survives_the_relay(faults):
    faults.ask("cut", edge="eu", channel="questions")
    killed = relay(faults)
    faults.ask("kill", name="relay")
    until(lambda: relay(faults)["pid"] != killed["pid"] and relay(faults)["condition"] == "running")
    assert "eu: questions cut" in faults.ask("faults")["faults"]
    assert "no faults in force" in faults.nearshelf("fault", "heal").stdout


def test_the_origin_stops_and_starts_on_command(faults):
    assert "origin-1 is stopped" in faults.nearshelf("fault", "stop", "origin").stdout
    assert get(f"{faults.origin}/readyz") == 0
    # Nothing starts it again by itself: its absence is what was asked for.
    assert faults.ask("faults")["faults"] == [
        f"{name} is stopped" for name in ("origin-1", "origin-2", "origin-questions")
    ]
    assert "no faults in force" in faults.nearshelf("fault", "start", "origin").stdout
    assert get(f"{faults.origin}/readyz") == 200


def test_a_frozen_worker_is_shown_and_thaws(faults):
    faults.ask("freeze", name="ap-2")
    assert "ap-2         frozen" in faults.nearshelf("status").stdout
    pid = next(one["pid"] for one in faults.ask("status")["processes"] if one["name"] == "ap-2")
    assert stat(pid).rpartition(") ")[2].startswith("T")
    faults.ask("thaw", name="ap-2")
    until(lambda: get(f"{faults.admin['ap'][1]}/readyz") == 200)


def test_replay_is_paused_and_resumed_on_command(faults):
    faults.ask("pause-replay")
    status = faults.nearshelf("status").stdout
    assert "replay paused" in status
    faults.nearshelf("fault", "resume-replay")
    faults.nearshelf("fault", "delay-replay", "1500")
    assert faults.ask("faults")["faults"] == ["replay on the standby is delayed by 1500ms"]
    faults.nearshelf("fault", "delay-replay", "0")
    assert faults.ask("faults")["faults"] == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["kill", "mars-1"], "no process 'mars-1'; there are us, eu, ap, origin", id="kill nobody"),
        pytest.param(["cut", "mars"], "no edge 'mars'; there are us, eu, ap", id="cut nothing"),
        pytest.param(["cut", "eu", "--channel", "gossip"], "no channel 'gossip'", id="cut no channel"),
        pytest.param(["delay-replay", "9999999"], "from 0 to 600000", id="a delay too long"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_with_what_there_is(stack, words, expected):
    run = stack.nearshelf("fault", *words, check=False)
    assert run.returncode == 1
    assert expected in run.stderr


def test_the_ready_file_has_the_addresses(stack):
    assert set(stack.addresses) == {"edges", "origin", "console", "admin", "control", "state", "origin_log"}
    assert list(stack.edges) == ["us", "eu", "ap"]
    assert [len(urls) for urls in stack.admin.values()] == [2, 2, 2]
    assert stack.console == f"{stack.origin}/console"
    for url in (*stack.edges.values(), stack.origin):
        assert get(f"{url}/eu-eur/") == 200


def test_the_commands_that_it_shows_find_it_wherever_its_state_is(stack):
    shown = stack.output.read_text().partition("in another terminal:\n")[2]
    assert shown.startswith(f"     export NEARSHELF_STATE={stack.state.resolve()}\n")


def test_no_other_account_can_read_its_secrets_or_command_it(stack):
    for path in (stack.state / "env.json", stack.state / "admin-password", Path(stack.addresses["control"])):
        assert path.stat().st_mode & 0o077 == 0
