"""Which shop a run talks to, and the guard that keeps load away from machines that did not ask for it."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ALLOW_LIST = "load-targets.txt"
"""In the state folder: hosts beside loopback that load may be sent to, one a line, `#` starts a comment."""


class BadTarget(Exception):
    """A run cannot start. Reads: what is wrong, with which file or host, and what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    """The addresses of a running shop and the folder of its state."""

    edges: Mapping[str, str]
    """Name of each edge -> its address."""
    origin: str
    state: Path
    control: Path | None
    """The supervisor's control socket; None where the shop does not run on this machine."""


def state_folder() -> Path:
    """The state folder: NEARSHELF_STATE, or `.nearshelf` at the project's root."""
    return Path(os.environ.get("NEARSHELF_STATE") or Path(__file__).resolve().parent.parent / ".nearshelf")


def load_target(ready: Path | None = None, state: Path | None = None) -> Target:
    """The shop that `ready` describes, else NEARSHELF_READY, else the state folder's ready file. Raises BadTarget."""
    folder = state or state_folder()
    path = ready or Path(os.environ.get("NEARSHELF_READY") or folder / "ready.json")
    found = read_object(path, "start the shop with `./dev up`, or name its ready file in NEARSHELF_READY")
    edges, origin = found.get("edges"), found.get("origin")
    if not isinstance(edges, dict) or not edges or not isinstance(origin, str):
        raise BadTarget(f"{path}: expected `edges` (name to address) and `origin`, as `nearshelf up` writes them")
    folder = Path(str(found.get("state") or folder))
    socket = found.get("control")
    target = Target(
        {str(name): str(url).rstrip("/") for name, url in edges.items()},
        origin.rstrip("/"),
        folder,
        Path(socket) if isinstance(socket, str) else None,
    )
    refuse_strangers((*target.edges.values(), target.origin), folder / ALLOW_LIST)
    return target


def refuse_strangers(urls: Iterable[str], allow_list: Path) -> None:
    """Raises BadTarget unless every address is loopback or its host is in `allow_list`."""
    allowed: set[str] = set()
    if allow_list.exists():
        lines = (line.partition("#")[0].strip().lower() for line in allow_list.read_text("utf-8").splitlines())
        allowed = {line for line in lines if line}
    for url in urls:
        host = (urlsplit(url).hostname or "").lower()
        if not is_loopback(host) and host not in allowed:
            raise BadTarget(
                f"{url}: load goes to this machine only. If {host or 'this host'} is yours to load, "
                f"write its name on a line of {allow_list}"
            )


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its very name; a name that must be looked up is not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a file. Raises BadTarget, with `remedy` as the advice."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as exc:
        raise BadTarget(f"{path}: not there; {remedy}") from exc
    except (OSError, ValueError) as exc:
        raise BadTarget(f"{path}: {exc}; {remedy}") from exc
    if not isinstance(value, dict):
        raise BadTarget(f"{path}: expected a JSON object; {remedy}")
    return value
