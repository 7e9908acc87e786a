"""The shop that runs in a state folder, as commands reach it: by its control socket."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from infra.state_folder import default_state

State = Annotated[
    Path,
    typer.Option(
        default_factory=default_state,
        show_default=False,
        help="Where databases, logs and secrets of the shop are. [default: .nearshelf in the checkout]",
    ),
]


def ask_shop(state: Path, request: dict[str, Any]) -> dict[str, Any]:
    """What the supervisor of the shop in `state` answers."""
    from infra.local import control
    from infra.local.state import read_env

    return control.ask(Path(read_env(state)["CONTROL"]), request)
