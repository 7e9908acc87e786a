"""A scenario's requests by a generator that carries more than locust: the paced one, or wrk (loadtests/volume.py).

For scenarios that only ask. What is changed, purged or broken during a run is locust's, with the judge of prices.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from loadtests.client import Connection
from loadtests.conductor import CannotStart, Options, folder_of, look_around, read
from loadtests.planning import BadPlan, make_plan
from loadtests.recorder.run import Run, write_run
from loadtests.replay import BadRecording
from loadtests.report.files import write_reports
from loadtests.target import BadTarget
from loadtests.thresholds import judge
from loadtests.volume import CONNECTIONS, Figures, Generator, VolumeFailed, schedule_of, volume_run


def carry_out(
    options: Options,
    generator: Generator,
    *,
    edge: str | None = None,
    connections: int = CONNECTIONS,
    core: int | None = None,
    say: Callable[[str], None] = print,
) -> tuple[Run, Path]:
    """The run, judged, and the folder with its files. Raises CannotStart.

    `edge`: only what this one is asked; None: all are. `connections`: to each edge. `core`: where the generator stays.
    """
    wanted = read(options)
    target, scenario = wanted.target, wanted.scenario
    edges = target.edges if edge is None else {name: url for name, url in target.edges.items() if name == edge}
    if not edges:
        raise CannotStart(f"no edge {edge!r}; there are {', '.join(target.edges)}")
    try:
        with Connection(next(iter(target.edges.values()))) as connection:
            front = look_around(connection, scenario.people.to_find)
        plan = make_plan(scenario, front, list(target.edges), options.seed)
        schedule = schedule_of(plan, edges)
        say(f"{scenario.name}: {len(schedule.due_s):,} requests in {schedule.duration_s:g} s by {generator}")
        run = volume_run(
            schedule,
            scenario=scenario.name,
            description=scenario.description,
            seed=options.seed,
            generator=generator,
            connections=connections,
            core=core,
            figures=None if target.admin_token is None else Figures(target.admin, target.origin, target.admin_token),
        )
    except (BadTarget, BadPlan, BadRecording, VolumeFailed) as exc:
        raise CannotStart(str(exc)) from exc
    run.check.remarks += plan.remarks
    if any(arrival.asks_again for arrival in plan.arrivals):
        run.check.remarks.append("no browser kept anything: what the plan asks for again came in full")
    run.check.remarks.append("no price was judged: that is locust's")
    run.thresholds = judge(run, wanted.thresholds)
    folder = options.out or folder_of(target, scenario)
    write_run(run, folder)
    write_reports(run, folder)
    return run, folder
