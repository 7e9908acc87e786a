"""The commands below `nearshelf load`; each imports its room when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from infra.errors import complain
from infra.state_folder import default_state

load = typer.Typer(
    help="Load runs: what is measured, and what became of it (docs/load-testing.md).",
    no_args_is_help=True,
    rich_markup_mode=None,
)

REFUSED = 2
"""Exit status when there was nothing to do the work on: no run, faulty thresholds, runs that are not alike."""

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or its run.json.gz.")]


def refuse(text: object) -> NoReturn:
    """Say why the command was not carried out, and end with REFUSED."""
    complain(str(text))
    raise typer.Exit(REFUSED)


@load.command("list")
def load_list() -> None:
    """Name the scenarios that come with nearshelf, and what happens in each.

    \b
    Example:
      nearshelf load list
    """
    from infra.load_run import list_scenarios

    print(list_scenarios())


@load.command("run")
def load_run(
    scenario: Annotated[str, typer.Argument(metavar="SCENARIO", help="A name that `load list` shows, or a file.")],
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed sends the same requests.")] = 1,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the run. [default: load/SCENARIO-TIME in the state]")
    ] = None,
    duration: Annotated[str, typer.Option(metavar="TIME", help="Instead of the scenario's own: 20s, 5m.")] = "",
    rate: Annotated[float | None, typer.Option(metavar="N", help="Requests a second, likewise.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Any field of the scenario: people.bot=0; repeat it."),
    ] = None,
    users: Annotated[
        int | None,
        typer.Option(
            "--users", "-u", metavar="N", help="Most requests on their way at a time; not by locust: to each edge."
        ),
    ] = None,
    thresholds: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Instead of the scenario's own: one a line, # for comments.")
    ] = None,
    generator: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="locust; or, for a scenario that only asks, paced (10,000 requests a second) or wrk (closed loop).",
        ),
    ] = "locust",
    edge: Annotated[
        str | None, typer.Option(metavar="EDGE", help="Only what this edge is asked; not by locust.")
    ] = None,
    ready: Annotated[Path | None, typer.Option(metavar="PATH", help="Ready file of the shop.")] = None,
    *,
    state: Annotated[
        Path,
        typer.Option(default_factory=default_state, show_default=False, help="State folder of the shop."),
    ],
) -> None:
    """Run a scenario against the running shop: locust, open loop, without a browser, with a report at the end.

    Exit status: 0 everything is met, 1 a threshold or the promise is broken, 2 it could not start, 3 it is invalid;
    1 as well when an invalid run showed an old price: the answer that showed it proves it.

    \b
    Examples:
      nearshelf load run steady-day
      nearshelf load run flash-sale --seed 7 --duration 30s
      nearshelf load run ./my.yaml --rate 80 --set people.bot=0 --thresholds nightly.txt --out build/load
      nearshelf load run bot-crawl --generator paced --rate 2000
    """
    from infra.load_run import control_of, run_locust
    from loadtests.conductor import CannotStart, Options, read, settings_of

    try:
        given = settings_of(settings or (), duration=duration, rate="" if rate is None else f"{rate:g}")
        options = Options(scenario, seed, out, given, thresholds, ready, state)
        read(options)
    except CannotStart as exc:
        refuse(exc)
    if generator != "locust":
        from infra.load_volume import run_volume

        try:
            raise typer.Exit(run_volume(options, generator, edge, users))
        except CannotStart as exc:
            refuse(exc)
    if edge is not None:
        refuse("--edge: locust plays everybody, at every edge; leave it out, or choose another --generator")
    arguments = ["--scenario", scenario, "--seed", str(seed), "--state", str(state)]
    for name, value in (("out", out), ("duration", duration), ("rate", rate), ("thresholds", thresholds)):
        arguments += [f"--{name}", str(value)] if value else []
    for text in settings or ():
        arguments += ["--set", text]
    if users is not None:
        arguments += ["--users", str(users)]
    if ready is not None:
        arguments += ["--ready", str(ready)]
    raise typer.Exit(run_locust(arguments, control_of(state)))


@load.command("report")
def load_report(
    run: RunFolder,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the files go; left out: into the run's folder.")
    ] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Judge by these instead of the scenario's own: one a line, # for comments."),
    ] = None,
) -> None:
    """Write a run's report again: report.html, cells.csv, seconds.csv, junit.xml.

    Exit status: 0 everything is met, 1 a threshold or the promise is broken, 2 no such run, 3 the run is invalid
    (1 if it showed an old price).

    \b
    Examples:
      nearshelf load report .nearshelf/load/flash-sale-20261121-204300
      nearshelf load report .nearshelf/load/flash-sale-20261121-204300 --thresholds nightly.txt --out build/load
    """
    from loadtests.recorder.run import BadRun, read_run
    from loadtests.report.files import write_reports
    from loadtests.report.terminal import exit_status, lines_of
    from loadtests.thresholds import ThresholdError, judge, read_thresholds

    try:
        found = read_run(run)
        if thresholds is not None:
            found.thresholds = judge(found, read_thresholds(thresholds))
        written = write_reports(found, out or (run if run.is_dir() else run.parent))
    except (BadRun, ThresholdError) as exc:
        refuse(exc)
    except OSError as exc:
        refuse(f"{exc.filename or out}: cannot be written: {exc.strerror}; name another folder with --out")
    for line in lines_of(found):
        print(line)
    print(f"report: {written[0]}")
    raise typer.Exit(exit_status(found))


@load.command("compare")
def load_compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="Folder of a run: how it was.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="Folder of another: how it is now.")],
    force: Annotated[
        bool, typer.Option("--force", help="Compare although the runs are not alike; the differences stay named.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the page goes. [default: compared.html in B]")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed gives the same intervals.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="The table as JSON.")] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Status 1 when a figure is worse.")] = False,
) -> None:
    """Compare two runs second by second: what changed, by how much, and whether that can be chance.

    Runs of other scenarios, seeds, requests, durations or machines are not compared without --force.
    Exit status: 0 compared, 1 worse (with --exit-code), 2 not compared.

    \b
    Examples:
      nearshelf load compare .nearshelf/load/steady-day-20261121-204300 .nearshelf/load/steady-day-20261121-205100
      nearshelf load compare before/ after/ --exit-code --html build/compared.html
    """
    from loadtests.compare import Unlike, as_json_text, as_text, compare
    from loadtests.recorder.run import BadRun, read_run
    from loadtests.report.compared import write_compared

    try:
        found = compare(read_run(before), read_run(after), force=force, seed=seed)
        page = html or (after if after.is_dir() else after.parent) / "compared.html"
        write_compared(found, page)
    except (BadRun, Unlike) as exc:
        refuse(exc)
    except OSError as exc:
        refuse(f"{exc.filename}: cannot be written: {exc.strerror}; name another file with --html")
    print(as_json_text(found) if as_json else as_text(found))
    if not as_json:
        print(f"page: {page}")
    raise typer.Exit(1 if exit_code and found.worse else 0)


@load.command("trend")
def load_trend(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Where runs are, however deep; left out: those of this shop.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the page goes. [default: trend.html in DIR]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The table as JSON.")] = False,
) -> None:
    """Show how the figures of each scenario moved over many runs.

    Exit status: 0 shown, 2 no run was found.

    \b
    Examples:
      nearshelf load trend
      nearshelf load trend nightly/ --html build/trend.html
    """
    from loadtests.report.trends import write_trend
    from loadtests.trend import NoRuns, as_json_text, as_text, read_trend

    folder = folder or default_state() / "load"
    try:
        found = read_trend(folder)
        page = html or folder / "trend.html"
        write_trend(found, page)
    except NoRuns as exc:
        refuse(exc)
    except OSError as exc:
        refuse(f"{exc.filename}: cannot be written: {exc.strerror}; name another file with --html")
    for unread in found.unread:
        complain(unread)
    print(as_json_text(found) if as_json else as_text(found))
    if not as_json:
        print(f"page: {page}")
