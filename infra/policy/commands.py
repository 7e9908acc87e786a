"""The commands below `nearshelf policy`; each imports its room when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

policy = typer.Typer(help="The cache policies of the edges.", no_args_is_help=True, rich_markup_mode=None)


@policy.command("check")
def policy_check(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FOLDER|FILES]...", help="Folders of *.yaml files, or some; none: those of this shop."),
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
        print(f"nearshelf: {exc}", file=sys.stderr)
        raise typer.Exit(2) from exc
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    print(render(report, Format(form), colour=colour))
    raise typer.Exit(report.exit_status(strict=strict))


@policy.command("fmt")
def policy_fmt(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FOLDER|FILES]...", help="Files, or folders of *.yaml; none: those of this shop."),
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
    import sys

    from infra.policy.fmt import NotFormattable, format_files, write

    try:
        formatted = format_files(paths or [])
        changed = [each for each in formatted if each.changed]
        for each in changed:
            if not only_check:
                write(each)
            print(f"{'would change' if only_check else 'changed'} {each.path}")
    except (NotFormattable, OSError) as exc:
        print(f"nearshelf: {exc}", file=sys.stderr)
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
    from infra.errors import CommandError
    from infra.policy.schema import text, write_schemas

    if out is None:
        print(text(name), end="")
        return
    try:
        for path in write_schemas(out):
            print(path)
    except OSError as exc:
        raise CommandError(f"{out} cannot be written to: {exc.strerror}; name another folder with --out") from exc
