"""The process that sends: `python -m loadtests.paced FOLDER`, started by loadtests/volume.py.

FOLDER has the schedule and `order.json`; the run is written beside them, and `began`: its second 0 on time.monotonic().
SIGINT and SIGTERM: nothing more is sent, and the run is told as one that was cut short.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TypedDict

from loadtests.paced.schedule import Schedule
from loadtests.paced.sender import Sender, tell
from loadtests.recorder.recorder import Recorder
from loadtests.recorder.run import write_run

GENERATOR = "paced"


class Order(TypedDict):
    """How a schedule is carried out; the contents of `order.json`."""

    scenario: str
    description: str
    seed: int
    connections: int
    """To each edge."""
    patience_s: float
    core: int | None
    """Where the process is to stay; None: anywhere."""


def main(folder: Path) -> int:
    order: Order = json.loads((folder / "order.json").read_text())
    schedule = Schedule.read(folder)
    if order["core"] is not None:
        os.sched_setaffinity(0, {order["core"]})
    recorder = Recorder(
        scenario=order["scenario"],
        description=order["description"],
        seed=order["seed"],
        generator=GENERATOR,
        request_digest=schedule.digest,
        phases=schedule.phases,
        duration_s=schedule.duration_s,
    )
    for due_s in schedule.due_s:
        recorder.intend(due_s)
    sender = Sender(schedule, connections=order["connections"], patience_s=order["patience_s"])
    signal.signal(signal.SIGINT, sender.stop)
    signal.signal(signal.SIGTERM, sender.stop)
    sent = sender.run(recorder)
    tell(recorder, schedule, sent)
    run = recorder.finish(sent.ended_s, cut_short="interrupted" if sent.was_cut else None)
    write_run(run, folder)
    (folder / "began").write_text(repr(sender.began_at))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
