"""Real servers for tests: the embedded PostgreSQL and Valkey, and a whole running shop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from infra.failover.sql import STANDBY
from infra.local import control
from infra.local.binaries import NotInstalled, find_binaries
from infra.local.postgres import PRIMARY_PORT, STANDBY_PORT
from infra.local.processes import Tether
from infra.local.services import Servers
from infra.local.state import State
from infra.local.supervisor import ADMIN_EMAIL

T = TypeVar("T")
ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder that the servers' account can reach, which pytest's own is not when root runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="nearshelf-test-"))
    if os.geteuid() == 0:
        folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def why_not_here() -> str | None:
    """Why there are no embedded servers on this machine; None when there are."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            find_binaries(Path(folder))
        except NotInstalled as exc:
            return str(exc)
    return None


@dataclass(frozen=True)
class DatabaseUrls:
    """One database, as the origin would be told of it."""

    name: str
    primary: str
    """Of the application's role."""
    replica: str
    """The same on the standby."""
    admin: str
    """Of the superuser, on the primary."""


class EmbeddedServers:
    """The embedded servers, run by an event loop in a thread of its own, so that any test can use them."""

    def __init__(self, folder: Path) -> None:
        self._state = State(folder / "state")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="embedded servers", daemon=True)
        self._stack = contextlib.ExitStack()
        self._numbers = itertools.count(1)
        self._tether: Tether
        self.servers: Servers

    def __enter__(self) -> Self:
        self._state = self._stack.enter_context(self._state)
        self._thread.start()
        self._tether = Tether(self._state.runtime, self._state.descriptor)
        self.run(self._tether.start())
        self.servers = Servers(self._state, self._tether)
        self.servers.prepare()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.servers.stop())
        self.run(self._tether.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._stack.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(90)

    def start_valkey(self) -> None:
        self.run(self.servers.start_valkey())

    def start_postgres(self) -> None:
        """Primary and standby, with the origin's tables."""
        self.run(self.servers.start_primary())
        self.run(self.servers.start_standby())
        self.migrate()

    def migrate(self) -> None:
        """Make the origin's tables."""
        environment = {
            "DATABASE_URL": self.servers.database_url,
            "ADMIN_DATABASE_URL": self.servers.admin_database_url,
            "NEARSHELF_EDGE_KEY": "only-for-the-migration",
        }
        subprocess.run(
            [sys.executable, "-m", "origin", "migrate"],
            env=os.environ | environment,
            check=True,
            cwd=ROOT,
            capture_output=True,
            timeout=60,
        )

    # --- what tests do with it ---

    def urls(self, name: str = "nearshelf") -> DatabaseUrls:
        def of(role: str, port: int) -> str:
            return f"postgresql+asyncpg://{role}@/{name}?host={self.servers.sockets}&port={port}"

        return DatabaseUrls(
            name, of("nearshelf", PRIMARY_PORT), of("nearshelf", STANDBY_PORT), of("postgres", PRIMARY_PORT)
        )

    def copy(self) -> DatabaseUrls:
        """A new database with the tables and nothing in them, on the primary and already on the standby."""
        name = f"copy{next(self._numbers)}"
        self.run(self._execute(f"CREATE DATABASE {name} TEMPLATE nearshelf STRATEGY wal_log"))
        self.wait_for_replay()
        return self.urls(name)

    def drop(self, name: str) -> None:
        self.run(self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))

    def wait_for_replay(self) -> None:
        """Until the standby shows everything that is committed now."""
        self.run(self._wait_for_replay())

    def pause_replay(self) -> None:
        """The standby shows nothing newer until `resume_replay`."""
        self.run(self.servers.pause_replay())

    def resume_replay(self) -> None:
        self.run(self.servers.resume_replay())

    def delay_replay(self, delay_ms: int) -> None:
        self.run(self.servers.delay_replay(delay_ms))

    @property
    def standby_name(self) -> str:
        return STANDBY

    @property
    def redis_url(self) -> str:
        return self.servers.redis_url

    async def _execute(self, statement: str) -> None:
        async with self.servers.connection(PRIMARY_PORT, "postgres") as connection:
            await connection.execute(statement)

    async def _wait_for_replay(self) -> None:
        async with (
            self.servers.connection(PRIMARY_PORT, "postgres") as primary,
            self.servers.connection(STANDBY_PORT, "postgres") as standby,
        ):
            position = await primary.fetchval("SELECT pg_current_wal_lsn()")
            deadline = time.monotonic() + 30
            while not await standby.fetchval("SELECT pg_last_wal_replay_lsn() >= $1, pg_sleep(0.001)", position):
                assert time.monotonic() < deadline, "the standby does not catch up; is its replay paused?"


class Stack:
    """A shop that `nearshelf up` runs for the whole test session, on ports of its own."""

    def __init__(self, folder: Path, products: int = 300, arguments: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.output = folder / "up.log"
        self._ready_file = folder / "ready.json"
        self._products = products
        self._arguments = arguments
        self._signed_in = False
        self.process: subprocess.Popen[bytes]
        self.addresses: dict[str, Any] = {}

    def start(self, within_s: float = 110.0) -> None:
        command = [
            *(sys.executable, "-c", "from infra.cli import main; main()", "up"),
            *("--port-base", "0", "--products", str(self._products), "--state", str(self.state)),
            *("--ready-file", str(self._ready_file), *self._arguments),
        ]
        self._ready_file.unlink(missing_ok=True)  # of a run that was killed
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT, start_new_session=True)
        deadline = time.monotonic() + within_s
        while not self._ready_file.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"nearshelf up did not become ready:\n{self.output.read_text()[-4000:]}")
            time.sleep(0.02)
        self.addresses = json.loads(self._ready_file.read_text())

    def stop(self, number: int = signal.SIGINT, within_s: float = 60.0) -> int:
        """The exit status of `up`."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    # --- addresses ---

    @property
    def edges(self) -> dict[str, str]:
        """The address of each edge: {"us": "http://127.0.0.1:...", ...}."""
        return self.addresses["edges"]

    @property
    def origin(self) -> str:
        return self.addresses["origin"]

    @property
    def console(self) -> str:
        return self.addresses["console"]

    @property
    def admin(self) -> dict[str, list[str]]:
        """The admin listeners of each edge, a worker each."""
        return self.addresses["admin"]

    @property
    def env(self) -> dict[str, str]:
        """env.json: database addresses, the edges' key, the admin token."""
        return json.loads((self.state / "env.json").read_text())

    # --- staff ---

    @property
    def staff_email(self) -> str:
        return ADMIN_EMAIL

    @property
    def staff_password(self) -> str:
        return (self.state / "admin-password").read_text().strip()

    # --- faults ---

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """One command on the control socket (docs/faults.md): `ask("cut", edge="eu", channel="questions")`."""
        return control.ask(Path(self.addresses["control"]), {"do": do, **arguments})

    # --- the command line ---

    def command_environment(self) -> dict[str, str]:
        """With this, `nearshelf ...` and `./dev ...` mean this shop, and staff are signed in."""
        environment = {
            "NEARSHELF_STATE": str(self.state),
            "NEARSHELF_ORIGIN_URL": self.origin,
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        if not self._signed_in:
            password = self.env["ADMIN_PASSWORD_FILE"]
            self._run(environment, "login", "--email", self.staff_email, "--password-file", password)
            self._signed_in = True
        return environment

    def nearshelf(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `nearshelf ARGUMENTS` on this shop, signed in."""
        return self._run(self.command_environment(), *arguments, check=check)

    def _run(
        self, environment: dict[str, str], *arguments: str, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", "from infra.cli import main; main()", *arguments],
            env=os.environ | environment | {"NO_COLOR": "1"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=90,
            stdin=subprocess.DEVNULL,
        )
        if check:
            assert done.returncode == 0, f"nearshelf {' '.join(arguments)}: {done.stdout}\n{done.stderr}"
        return done

    def with_its_addresses(self, text: str) -> str:
        """`text` with the default addresses of the documents replaced by this shop's."""
        urls = [self.origin, *self.edges.values()]
        ports = {str(8080 + number): url.rpartition(":")[2] for number, url in enumerate(urls)}
        for number, url in enumerate(url for urls in self.admin.values() for url in urls):
            ports[str(8091 + number)] = url.rpartition(":")[2]
        return re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda found: ports.get(found[0], found[0]), text)
