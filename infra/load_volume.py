"""`nearshelf load run --generator`: more requests than locust carries, from a process of their own."""

from __future__ import annotations

from loadtests.conductor import CannotStart, Options
from loadtests.report.terminal import exit_status, lines_of
from loadtests.volume import CONNECTIONS, Generator
from loadtests.volume_scenario import carry_out


def run_volume(options: Options, generator: str, edge: str | None, connections: int | None) -> int:
    """Carry out one run and print what it says; its exit status. Raises CannotStart.

    `edge`: only what this one is asked. `connections`: to each edge.
    """
    names = [each.value for each in Generator]
    if generator not in names:
        raise CannotStart(f"--generator {generator}: expected locust, {' or '.join(names)}")
    run, folder = carry_out(options, Generator(generator), edge=edge, connections=connections or CONNECTIONS)
    for line in lines_of(run):
        print(line)
    print(f"report: {folder / 'report.html'}")
    return exit_status(run)
