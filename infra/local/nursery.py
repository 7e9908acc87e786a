"""Starts many workers of one kind for the price of one.

    python -m infra.local.nursery edge.gateway

Most of a worker's start is Python reading modules: 0.6 s for an edge worker, 1.7 s for one of the origin, and a shop
has eight, on few cores. The nursery reads the modules once and forks a worker whenever it is told to, as servers with
a pre-fork model do. What is forked is `main()` of the module's `__main__`, with the environment it would have been
started with. Commands come as JSON lines on standard input, news goes to standard output:

    {"name": "eu-1", "arguments": [], "env": {...}, "log": "/path/eu-1.log"}
                                                                    ->  {"started": 4711}
                                                                        {"ended": 4711, "status": -9}

The nursery itself has no threads and no event loop, so that a fork copies nothing half-done. It ends when its input
does; its workers are then the tether's to end.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.local import wall_clock

Main = Callable[[], int | None]


def say(news: dict[str, Any]) -> None:
    os.write(1, json.dumps(news).encode() + b"\n")


def fork(main: Main, command: dict[str, Any]) -> int:
    """The process number of a new worker."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        sys.argv[1:] = command["arguments"]
        become_worker(command["name"], command["env"], command["log"])
        status = main() or 0
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException:  # noqa: BLE001 - the end of a process: all that is left is to say why
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        # Not sys.exit: the nursery's own frames are still below us.
        os._exit(status)


def become_worker(name: str, environment: dict[str, str], log: str) -> None:
    """Everything that a fresh process would have for itself, and a name by which `top` tells it from its siblings."""
    os.setsid()
    with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="utf-8") as own:  # noqa: PTH123 - Linux
        own.write(name)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDWR)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    # Including the wake-up pipe of the nursery.
    os.closerange(3, max(nothing, output, 64) + 1)
    os.environ.clear()
    os.environ.update(environment)
    wall_clock.obey(wall_clock.file_beside(Path(log)))


def reap() -> None:
    """Report every worker that has ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        say({"ended": pid, "status": os.waitstatus_to_exitcode(status)})


def serve(main: Main) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    pending = b""
    while True:
        ready, _, _ = select.select([0, reading], [], [])
        if reading in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(reading, 4096)
            reap()
        if 0 in ready:
            data = os.read(0, 1 << 16)
            if not data:
                return
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                command = json.loads(line)
                say({"started": fork(main, command)})


def main(arguments: list[str]) -> int:
    # Ctrl-C and the like are for the supervisor, which knows the order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Until a worker listens: a primary that moves meanwhile is found anyhow.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    wall_clock.ignore()
    module = importlib.import_module(f"{arguments[0]}.__main__")
    sys.argv = [f"python -m {arguments[0]}"]
    # What is loaded now is shared by all workers; a collection would write to it and end the sharing.
    gc.collect()
    gc.freeze()
    serve(module.main)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
