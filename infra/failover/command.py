"""`nearshelf failover`: the primary handed over by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from infra.state_folder import default_state


def failover(
    state: Annotated[
        Path,
        typer.Option(default_factory=default_state, show_default=False, help="The state folder of the running shop."),
    ],
    to: Annotated[
        str | None, typer.Option("--to", metavar="NAME", help="Which standby; left out: the one that is furthest.")
    ] = None,
    accept_loss: Annotated[
        bool,
        typer.Option("--accept-loss", help="Promote it although it may lack changes that were acknowledged."),
    ] = False,
) -> None:
    """Make the standby the primary, and the primary its standby (docs/failover.md).

    Pages from the edges' stores are served throughout; changes of prices are refused for a moment, with Retry-After.

    \b
    Examples:
      nearshelf failover
      nearshelf failover --to pg-2
    """
    from infra.local import control
    from infra.local.state import read_env

    asked = {"do": "failover", "to": to, "accept_loss": accept_loss}
    print(told(control.ask(Path(read_env(state)["CONTROL"]), asked)["failover"]))


def told(move: dict[str, Any]) -> str:
    """One line for people."""
    return (
        f"{move['new']} is the primary, {move['old']} no more: fenced after {move['fenced_ms']:.0f} ms, promoted after "
        f"{move['promoted_ms']:.0f} ms, taking changes after {move['opened_ms']:.0f} ms"
    )
