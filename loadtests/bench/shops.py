"""A whole shop as a bench starts it: `nearshelf up` in a folder of its own, on free ports, ended with the block."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench.measuring import BenchError, Server
from loadtests.target import BadTarget, Target, load_target

READY_S = 120.0
STOP_S = 60.0


@dataclass(frozen=True, slots=True)
class BenchShop:
    """A running shop."""

    target: Target
    process: subprocess.Popen[bytes]
    """Of `up`, from which everything in the shop descends, databases and all."""

    def listener(self, name: str, url: str) -> Server:
        """One of its listeners, as benches know servers; its CPU time is that of the whole shop."""
        return Server(name, port_of(url), self.process, "Cache-Status", lambda value: "; hit" in value)


def port_of(url: str) -> int:
    """The port of `http://HOST:PORT`."""
    return int(url.rpartition(":")[2])


@contextmanager
def running_shop(
    *, products: int, arguments: Sequence[str] = (), settings: Mapping[str, str] | None = None
) -> Iterator[BenchShop]:
    """A shop with `products` products. `arguments`: further ones of `up`; `settings`: further variables of the
    environment, for every process of it. Raises BenchError when it does not start, with what it said."""
    folder = Path(tempfile.mkdtemp(prefix="nearshelf-bench-"))
    if os.geteuid() == 0:
        folder.chmod(0o711)  # root's databases run as another account
    ready, said = folder / "ready.json", folder / "up.log"
    command = [
        *(sys.executable, "-m", "infra.cli", "up", "--port-base", "0", "--products", str(products)),
        *("--state", str(folder / "state"), "--ready-file", str(ready), *arguments),
    ]
    with said.open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **(settings or {})}, stdout=output, stderr=output, start_new_session=True
        )
    try:
        until = time.monotonic() + READY_S
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > until:
                raise BenchError(f"the shop did not start:\n{said.read_text()[-2000:]}")
            time.sleep(0.05)
        try:
            target = load_target(ready, folder / "state")
        except BadTarget as exc:
            raise BenchError(str(exc)) from exc
        yield BenchShop(target, process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)
