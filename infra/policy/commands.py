"""The commands below `nearshelf policy`; each imports its room when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

policy = typer.Typer(help="The cache policies of the edges.", no_args_is_help=True, rich_markup_mode=None)


@policy.command("check")
def policy_check(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", help="Where the *.yaml files are; none: those of this shop.")
    ] = None,
) -> None:
    """Read the policies as an edge would, and report every fault with file, line and column.

    \b
    Examples:
      nearshelf policy check
      nearshelf policy check my-policies/
    """
    import time

    from edge.policy_files import PACKAGED_POLICIES, PolicyError, load_policies
    from infra.errors import CommandError

    folder = folder or PACKAGED_POLICIES
    if not folder.is_dir():
        raise CommandError(f"{folder} is not a folder; name the one that holds the policies' *.yaml files")
    began = time.monotonic()
    try:
        policies = load_policies(folder)
    except PolicyError as exc:
        for fault in exc.faults:
            print(fault)
        count = len(exc.faults)
        print("1 fault; an edge would not start" if count == 1 else f"{count} faults; an edge would not start")
        raise typer.Exit(1) from exc
    spent_ms = (time.monotonic() - began) * 1000
    print(
        f"no fault in {folder}: {len(policies.policies)} routes, {len(policies.markets.all)} markets, "
        f"digest {policies.digest}; {spent_ms:.0f} ms"
    )
