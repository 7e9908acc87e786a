"""Ends what a supervisor started, if the supervisor is killed before it could.

    python -m infra.local.tether RUNTIME_FOLDER

The supervisor holds the other end of standard input and says, a line of JSON each, which processes it has started and
which have ended: `{"add": 4711, "signal": 15}`, `{"remove": 4711}`. When the input ends, whatever is left is sent its
signal, in the reverse order of starting, then killed after GRACE_S, and the runtime folder is removed. After an
orderly stop nothing is left and the tether just ends.

It runs in a session of its own, so that Ctrl-C does not reach it, and inherits the lock on the state folder, so that
nobody starts there while it still works. Asking the kernel (PR_SET_PDEATHSIG) would need code between fork and exec,
would be for Linux only, and could neither keep an order nor tidy up.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time

GRACE_S = 5.0
"""How long the processes have, all together, to end by themselves."""
STEP_S = 0.5
"""How long the later started have before the earlier started are asked: edges tell the origin that they leave."""


class Tethered:
    """A process, held so that its number cannot be mistaken for a later one where the kernel allows that."""

    def __init__(self, pid: int, stop_signal: int) -> None:
        self.pid = pid
        self.stop_signal = stop_signal
        self.descriptor: int | None = None
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                self.descriptor = os.pidfd_open(pid)

    def send(self, number: int) -> bool:
        """Whether it is still there to be sent anything."""
        try:
            if sys.platform == "linux" and self.descriptor is not None:
                signal.pidfd_send_signal(self.descriptor, number)
            else:
                os.kill(self.pid, number)
        except OSError:
            return False
        return True

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)


def stop_all(tethered: list[Tethered]) -> None:
    """Ask in reverse order, wait, then insist. The processes are not our children, so asking is all the waiting."""
    deadline = time.monotonic() + GRACE_S
    for process in reversed(tethered):
        if sys.platform != "win32":
            process.send(signal.SIGCONT)  # a frozen process could not hear the next one
        process.send(process.stop_signal)
        patience = time.monotonic() + STEP_S / max(1, len(tethered))
        while process.send(0) and time.monotonic() < patience:
            time.sleep(0.01)
    while time.monotonic() < deadline and any(process.send(0) for process in tethered):
        time.sleep(0.02)
    for process in tethered:
        process.send(signal.SIGKILL)


def main(arguments: list[str]) -> int:
    runtime = arguments[0]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    tethered: dict[int, Tethered] = {}
    for line in sys.stdin:
        try:
            message = json.loads(line)
        except ValueError:
            continue  # the supervisor was killed in the middle of a line
        if "add" in message:
            tethered[message["add"]] = Tethered(message["add"], message["signal"])
        elif (gone := tethered.pop(message["remove"], None)) is not None:
            gone.close()
    stop_all(list(tethered.values()))
    shutil.rmtree(runtime, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
