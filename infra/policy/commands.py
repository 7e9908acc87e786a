"""The commands below `nearshelf policy`; each imports its room when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cache_policies.folder import folder_called
from infra.errors import CommandError, complain
from infra.state_folder import default_state

policy = typer.Typer(help="The cache policies of the edges.", no_args_is_help=True, rich_markup_mode=None)


@policy.command("check")
def policy_check(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FOLDER|FILES",
            parser=folder_called,
            help="Folders of *.yaml files, some of them, or the name of a profile; none: those of this shop.",
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings end with status 1.")] = False,
    form: Annotated[
        Literal["text", "json", "sarif", "github"], typer.Option("--format", help="For people, programs, or a review.")
    ] = "text",
    target: Annotated[
        Literal["local", "cloudfront"], typer.Option(help="cloudfront: also say what CloudFront does otherwise.")
    ] = "local",
) -> None:
    """Read the policies as an edge would, and report everything wrong with its place and its fix.

    Ends with status 0 when clean, 1 for warnings with --strict, 2 for errors: an edge would not start.

    \b
    Examples:
      nearshelf policy check
      nearshelf policy check my-policies/ --strict
      nearshelf policy check --target cloudfront
      nearshelf policy check --format sarif > policies.sarif
    """
    import os
    import sys

    from infra.policy.check import NotPolicies, Target, check
    from infra.policy.renderings import Format, render

    try:
        report = check(paths or [], Target(target))
    except NotPolicies as exc:
        complain(str(exc))
        raise typer.Exit(2) from exc
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    print(render(report, Format(form), colour=colour))
    raise typer.Exit(report.exit_status(strict=strict))


@policy.command("fmt")
def policy_fmt(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FOLDER|FILES",
            parser=folder_called,
            help="Files, folders of *.yaml, or the name of a profile; none: those of this shop.",
        ),
    ] = None,
    only_check: Annotated[
        bool, typer.Option("--check", help="Write nothing; status 1 if a file would change.")
    ] = False,
) -> None:
    """Put policy files into one form: the order of fields and the spacing. Comments stay, and so does the meaning.

    \b
    Examples:
      nearshelf policy fmt
      nearshelf policy fmt my-policies/
      nearshelf policy fmt --check
    """
    from infra.policy.fmt import NotFormattable, format_files, write

    try:
        formatted = format_files(paths or [])
        changed = [each for each in formatted if each.changed]
        for each in changed:
            if not only_check:
                write(each)
            print(f"{'would change' if only_check else 'changed'} {each.path}")
    except (NotFormattable, OSError) as exc:
        complain(str(exc))
        raise typer.Exit(2) from exc
    same = len(formatted) - len(changed)
    print(f"{same} of {len(formatted)} files {'are' if only_check else 'were'} in their canonical form")
    raise typer.Exit(1 if only_check and changed else 0)


@policy.command("schema")
def policy_schema(
    name: Annotated[
        Literal["policy", "markets", "origins"], typer.Argument(metavar="[NAME]", help="policy, markets or origins.")
    ] = "policy",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write all of them into this folder and print nothing of them.")
    ] = None,
) -> None:
    """Print a JSON Schema for editors: of policy files, markets.yaml or origins.yaml.

    The first line of a file tells its editor: `# yaml-language-server: $schema=schema/policy.schema.json`.

    \b
    Examples:
      nearshelf policy schema
      nearshelf policy schema markets
      nearshelf policy schema --out my-policies/schema
    """
    from infra.policy.schema import text, write_schemas

    if out is None:
        print(text(name), end="")
        return
    try:
        for path in write_schemas(out):
            print(path)
    except OSError as exc:
        raise CommandError(f"{out} cannot be written to: {exc.strerror}; name another folder with --out") from exc


@policy.command("explain")
def policy_explain(
    url: Annotated[
        str | None, typer.Argument(metavar="[URL]", help="An address, or a path with its query, in quotes.")
    ] = None,
    country: Annotated[str, typer.Option(metavar="DE", help="Where the viewer is; else by --peer.")] = "",
    peer: Annotated[str, typer.Option(metavar="ADDRESS", help="The viewer's address.")] = "",
    method: Annotated[str, typer.Option(metavar="GET")] = "GET",
    header: Annotated[list[str] | None, typer.Option(metavar="'NAME: VALUE'", help="A field; repeat it.")] = None,
    cookie: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A cookie; repeat it.")] = None,
    answer: Annotated[
        list[str] | None,
        typer.Option(metavar="'NAME: VALUE'", help="A field of the origin's answer, as if it were known; repeat it."),
    ] = None,
    policies: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            parser=folder_called,
            help="Where the *.yaml files are, or the name of a profile; none: those of this shop.",
        ),
    ] = None,
    live: Annotated[
        str, typer.Option(metavar="EDGE|URL", help="Ask a running edge, too: us, eu, ap, or a worker's admin URL.")
    ] = "",
    log: Annotated[str, typer.Option(metavar="LINE", help="A line of an edge's access log; -: lines from stdin.")] = "",
    har: Annotated[Path | None, typer.Option(metavar="FILE", help="An HTTP Archive; every entry.")] = None,
    curl: Annotated[str, typer.Option(metavar="COMMAND", help="A curl command, in quotes.")] = "",
    *,
    state: Annotated[
        Path, typer.Option(default_factory=default_state, show_default=False, help="Of the shop that --live asks.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Say what an edge does with a request, and which line of which file says so. Asks nobody, but for --live.

    Currency and language are not said: they follow from the market, and that from address, switcher or country.
    Ends with status 3 when an edge (--live), or what happened (--log, --har), is not what the policies say.

    \b
    Examples:
      nearshelf policy explain '/eu-eur/c/lighting?page=2&utm_source=mail' --country DE
      nearshelf policy explain / --cookie ns_market=gb-gbp --country FR
      nearshelf policy explain /eu-eur/ --live eu
      nearshelf policy explain --curl "curl -I http://127.0.0.1:8082/eu-eur/"
    """
    from dataclasses import replace

    from infra.policy import explain_command
    from infra.policy.explain import Asked, pairs_of
    from infra.policy.explain_log import of_curl

    of_a_url: dict[str, object] = {"method": method != "GET", "header": header, "cookie": cookie}
    if log or har:
        of_a_url |= {"peer": peer, "answer": answer, "live": live}
    way = explain_command.one_way({"url": url, "log": log, "har": har, "curl": curl}, of_a_url)
    if way == "log":
        raise typer.Exit(explain_command.explain_log(log, policies, country, as_json=as_json))
    if way == "har" and har is not None:
        raise typer.Exit(explain_command.explain_har(har, policies, country, as_json=as_json))
    asked = of_curl(curl) if way == "curl" else Asked(url or "", method, pairs_of(header or (), cookie or ()))
    asked = replace(asked, country=country, peer=peer, answer=pairs_of(answer) if answer else None)
    raise typer.Exit(explain_command.explain_asked(asked, policies, live=live, state=state, as_json=as_json))


@policy.command("diff")
def policy_diff(
    before: Annotated[str, typer.Argument(metavar="A", help="A folder, or REV:FOLDER of the git repository here.")],
    after: Annotated[str, typer.Argument(metavar="B", help="The same; REV alone is its cache_policies.")],
    form: Annotated[
        Literal["text", "md", "json"], typer.Option("--format", help="For people, a pull request, or programs.")
    ] = "text",
    replay: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="LOG",
            help="An access log, gzipped or not, or a folder of them; repeat it. Predicts hit ratio and origin load.",
        ),
    ] = None,
    store_size: Annotated[
        str,
        typer.Option(metavar="SIZE", help="Of each worker's store, for the prediction: 256MB; none: no limit."),
    ] = "",
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Count requests from then on, those before only fill the stores.")
    ] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="Count requests before then: 2026-11-21T20:00:00Z.")] = "",
    exit_code: Annotated[
        bool, typer.Option("--exit-code/--no-exit-code", help="Whether a change ends with status 2.")
    ] = True,
) -> None:
    """Say what edges do otherwise under other policies: routes, keys, lifetimes, what becomes cacheable.

    Ends with status 0 without a change, 2 with one, 1 when one side cannot be read.

    \b
    Examples:
      nearshelf policy diff HEAD:cache_policies cache_policies
      nearshelf policy diff main HEAD --format md
      nearshelf policy diff cache_policies my-policies --replay access.log --replay access.log.1.gz
    """
    from infra.policy import diff_command

    prediction = diff_command.prediction(replay or (), store_size=store_size, since=since, until=until)
    raise typer.Exit(diff_command.run(before, after, form=form, prediction=prediction, exit_code=exit_code))


@policy.command("test")
def policy_test(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILES|FOLDER]...",
            help="Scenario files, or folders of them; none: scenarios/ beside the policies.",
        ),
    ] = None,
    policies: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            parser=folder_called,
            help="Where the *.yaml files are, or the name of a profile; none: those of this shop.",
        ),
    ] = None,
    min_coverage: Annotated[
        float, typer.Option(metavar="PERCENT", min=0, max=100, help="Fail when fewer of the routes are exercised.")
    ] = 0.0,
    junit: Annotated[Path | None, typer.Option(metavar="PATH", help="Write a report for a build server there.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Play scenarios against the policies: requests, purges and failures at times of a virtual clock.

    The gateway's own code answers, in this process; nothing is waited for. Ends with status 0 when everything is as
    expected, 1 when something is not or coverage is too low, 2 when a file cannot be read.

    \b
    Examples:
      nearshelf policy test
      nearshelf policy test my-policies/scenarios/ --policies my-policies/
      nearshelf policy test --min-coverage 100 --junit build/policies.xml
    """
    import os
    import sys

    from infra.policy.renderings import Paint
    from infra.policy.scenario_reports import in_json, in_junit, in_text
    from infra.policy.scenarios import NoScenarios, run_scenarios

    try:
        tested = run_scenarios(paths or [], policies)
    except NoScenarios as exc:
        complain(str(exc))
        raise typer.Exit(2) from exc
    if junit is not None:
        try:
            junit.parent.mkdir(parents=True, exist_ok=True)
            junit.write_text(in_junit(tested))
        except OSError as exc:
            raise CommandError(f"{junit} cannot be written: {exc.strerror}; name another file with --junit") from exc
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    print(in_json(tested) if as_json else in_text(tested, min_coverage, Paint(colour)))
    raise typer.Exit(tested.exit_status(min_coverage))
