"""`nearshelf load list` and `load run`: locust without a browser, in a process of its own because it patches itself."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from infra.errors import CommandError, complain
from infra.local import control
from infra.local.errors import LocalError

LOCUSTFILE = Path("loadtests") / "locustfile.py"
CONCLUDED = frozenset({0, 1, 2, 3})
"""Exit statuses of a run that has mended what it broke, or broken nothing."""
INTERRUPTED_TEXT = "stopping: the shop is being mended, and what was measured is being written; a moment"


def list_scenarios() -> str:
    """The scenarios that come with the project, each with what it does."""
    from loadtests.scenario_files import load_scenario, scenario_names

    lines = []
    for name in scenario_names():
        scenario = load_scenario(name)
        phases = ", ".join(phase.name for phase in scenario.phases)
        length = f"{scenario.warmup_s + scenario.duration_s:g} s at {scenario.rate:g} requests/s"
        lines += [f"{name:<16}{length}; {phases}", f"{'':<16}{scenario.description}"]
    return "\n".join(lines)


def run_locust(arguments: Sequence[str], control_socket: Path | None) -> int:
    """Carry out one run; its exit status. Whoever stops this process stops the run, which then mends the shop.

    A run that was killed, or failed itself, could mend nothing: the shop is healed here, if it was whole before.
    """
    if importlib.util.find_spec("locust") is None:
        raise CommandError("locust is not installed; install the group `load` of pyproject.toml, or use `./dev`")
    whole = _is_whole(control_socket)
    root = Path(__file__).parents[1]
    # Nothing of locust's own is printed: its tables are in the run's folder.
    command = [sys.executable, "-m", "locust", "-f", str(root / LOCUSTFILE), "--headless", "--only-summary"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))}
    process = subprocess.Popen(
        [*command, "--skip-log-setup", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        # A Ctrl-C is for us, who pass it on once.
        start_new_session=True,
    )
    with _passing_on(process):
        status = process.wait()
    if status not in CONCLUDED:
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        complain(f"locust {how}: nothing was judged, and no report was written")
        if whole and control_socket is not None and not _is_whole(control_socket):
            control.ask(control_socket, {"do": "heal"})
            complain("what it had broken in the shop is mended")
        return 3
    return status


def control_of(state: Path) -> Path | None:
    """The control socket of the shop that runs with this state folder; None where none does."""
    from infra.local.state import read_env

    try:
        return Path(read_env(state)["CONTROL"])
    except (LocalError, CommandError, KeyError):
        return None


def _is_whole(control_socket: Path | None) -> bool:
    """Whether nothing of the shop is broken on purpose."""
    if control_socket is None:
        return False
    try:
        return not control.ask(control_socket, {"do": "faults"})["faults"]
    except LocalError:
        return False


@contextlib.contextmanager
def _passing_on(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever asks this process to end asks locust."""

    def end(number: int, frame: FrameType | None) -> None:
        complain(INTERRUPTED_TEXT)
        process.terminate()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
