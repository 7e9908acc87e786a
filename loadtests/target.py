"""Which shop a run talks to, and the guard that keeps load away from machines that did not ask for it."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
    admin: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Edge -> addresses of its workers' admin listeners; none where the ready file names none."""
    origin_log: Path | None = None
    """The origin's own log of what it was asked, JSON lines."""
    admin_token: str | None = None
    """Opens admin listeners and the origin's figures; None where the state folder tells none."""


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
    target = Target(
        edges={str(name): str(url).rstrip("/") for name, url in edges.items()},
        origin=origin.rstrip("/"),
        state=folder,
        control=_path(found.get("control")),
        admin=_admin(path, found.get("admin", {})),
        origin_log=_path(found.get("origin_log")),
        admin_token=_admin_token(folder),
    )
    addresses = (*target.edges.values(), target.origin, *(url for urls in target.admin.values() for url in urls))
    refuse_strangers(addresses, folder / ALLOW_LIST)
    return target


def _path(value: object) -> Path | None:
    return Path(value) if isinstance(value, str) else None


def _admin(path: Path, value: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict) or not all(isinstance(urls, list) for urls in value.values()):
        raise BadTarget(f"{path}: expected `admin` as edge to a list of addresses, as `nearshelf up` writes it")
    return {str(edge): tuple(str(url).rstrip("/") for url in urls) for edge, urls in value.items()}


def _admin_token(state: Path) -> str | None:
    try:
        found = json.loads((state / "env.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None  # a shop elsewhere, or of somebody else: its figures are not read
    token = found.get("NEARSHELF_ADMIN_TOKEN") if isinstance(found, dict) else None
    return token if isinstance(token, str) and token else None


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
