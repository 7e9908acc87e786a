"""Purging through an edge: `nearshelf purge --admin URL`. What it does is the admin listener's business."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import typer

from edge.gateway.purges import NOTHING_STORED, BadOrder, order_of
from infra.staff_origin import EXIT_FAILED, EXIT_NOT_LIVE, EXIT_NOT_REPLICATED, Refused, running_shop

TIMEOUT_S: Final = 40.0
"""A purge waits ten seconds for the slowest worker at the most, and then the responses are counted."""
_LOCAL: Final = {"127.0.0.1", "::1", "localhost"}


def purge_through(
    admin: str, tags: Sequence[str], paths: Sequence[str], everything: bool, *, soft: bool, reason: str, as_json: bool
) -> None:
    """Order a purge and tell what was done. Exit status 3 or 4, as for a change of a shop, when it is not live.

    Raises Refused.
    """
    url = _checked(admin)
    if not (tags or paths or everything):
        raise Refused("say what to purge: --tag, --path or --all")
    order: dict[str, Any] = {"soft": soft, "reason": reason}
    if everything:
        order["all"] = True
    if tags:
        order["tags"] = list(tags)
    if paths:
        order["paths"] = list(paths)
    try:
        order_of(order)
    except BadOrder as exc:
        raise Refused(str(exc)) from exc
    done = _ordered(url, order)
    if as_json:
        typer.echo(json.dumps(done, indent=2))
    else:
        for line in (*_lines(url, done), *_left_out(paths)):
            typer.echo(line)
    if not done["live"]:
        raise typer.Exit(EXIT_NOT_REPLICATED if done.get("state") == "shown" else EXIT_NOT_LIVE)


def _checked(admin: str) -> str:
    url = admin if "://" in admin else f"http://{admin}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        usable = usable and parts.path in {"", "/"} and "@" not in parts.netloc
    except ValueError:
        usable = False
    if not usable:
        raise Refused(f"--admin {admin}: expected the address of an admin listener, such as http://127.0.0.1:8081")
    return url.rstrip("/")


def _ordered(url: str, order: Mapping[str, Any]) -> dict[str, Any]:
    import httpx

    try:
        answer = httpx.post(
            f"{url}/purge",
            json=order,
            headers={"authorization": f"Bearer {_token(url)}"},
            timeout=TIMEOUT_S,
            # A proxy has nothing to do with an edge on this machine.
            trust_env=urlsplit(url).hostname not in _LOCAL,
        )
    except httpx.TransportError as exc:
        why = str(exc) or type(exc).__name__
        if url.startswith("https:") and "WRONG_VERSION_NUMBER" in why:
            raise Refused(f"{url} speaks no TLS: an admin listener is plain; write --admin http://...", 2) from exc
        raise Refused(
            f"the admin listener at {url} cannot be reached: {why}; does an edge run with --admin at that address?",
            EXIT_FAILED,
        ) from exc
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict) or (answer.is_success and "position" not in found):
        raise Refused(
            f"{url} answered {answer.status_code}, and not as an admin listener does; see --admin there",
            EXIT_FAILED,
        )
    if answer.status_code == 401:
        raise Refused(f"the admin listener at {url} does not know the token; see NEARSHELF_ADMIN_TOKEN")
    if not answer.is_success:
        why = str(found.get("error") or answer.status_code)
        raise Refused(why, EXIT_FAILED if answer.status_code >= 500 else 2)
    return found


def _token(url: str) -> str:
    """That of the edge at `url`: from its file, if this user runs it; else of the shop that runs here, if it is one of
    its edges'; else from the environment. Raises Refused."""
    from edge.site.tokens import TokenUnusable, find_token

    try:
        found = find_token(os.environ, url)
    except TokenUnusable as exc:
        raise Refused(str(exc)) from exc
    token = found or _shops_token(url) or os.environ.get("NEARSHELF_ADMIN_TOKEN")
    if not token:
        raise Refused(
            f"no token for the admin listener at {url}: none of this user's edges runs there; set NEARSHELF_ADMIN_TOKEN"
        )
    if not (token.isascii() and token.isprintable()):
        raise Refused("the admin token is not printable ASCII; see NEARSHELF_ADMIN_TOKEN")
    return token


def _shops_token(url: str) -> str | None:
    """That of the shop that `nearshelf up` runs here, if `url` is the admin listener of one of its workers."""
    shop = running_shop()
    if shop is None:
        return None
    try:
        ready = json.loads((Path(shop["STATE"]) / "ready.json").read_text(encoding="utf-8"))
        listeners = {_spelt(each) for edge in ready["admin"].values() for each in edge}
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return shop.get("NEARSHELF_ADMIN_TOKEN") if _spelt(url) in listeners else None


def _spelt(url: str) -> tuple[str, int | None]:
    parts = urlsplit(url)
    return ("127.0.0.1" if parts.hostname in _LOCAL else parts.hostname or "", parts.port)


def _lines(url: str, done: Mapping[str, Any]) -> list[str]:
    workers, tags = done["workers"], done["tags"]
    names = ", ".join(tags[:3]) + (f" and {len(tags) - 3} more" if len(tags) > 3 else "")
    waiting = [worker for worker in workers if worker["outcome"] == "waiting"]
    lines = [f"purged {done['kind']}: {names}; at {done['position']}"]
    if done.get("objects") is not None:
        held = done["objects"]
        found = f"{held:,} stored response{'' if held == 1 else 's'} found that it applies to"
        lines.append(found if held else f"{found}: {NOTHING_STORED}")
    count = f"{len(workers) - len(waiting)} of {len(workers)} worker{'' if len(workers) == 1 else 's'}"
    silent = [worker for worker in workers if worker["outcome"] == "lease ran out"]
    if waiting:
        lines.append(f"not live: {count}, waiting for {', '.join(_name(worker) for worker in waiting)}")
    else:
        waited = (
            f", of which the lease of {', '.join(_name(worker) for worker in silent)} was waited out" if silent else ""
        )
        live = "live" if done["live"] else "shown everywhere, not yet replicated,"
        lines.append(f"{live} in {done['seconds'] * 1000:.0f} ms: {count}{waited}")
    return lines


def _left_out(paths: Sequence[str]) -> list[str]:
    """What was written beside a path and plays no part."""
    if any("://" in path for path in paths):
        return ["of an address the path alone counts: purged at every host, whatever the query"]
    if any("?" in path for path in paths):
        return ["what follows ? in a path does not count: purged whatever the query"]
    return []


def _name(worker: Mapping[str, Any]) -> str:
    edge = worker.get("edge")
    return f"{edge} {worker['worker'][:6]}" if edge else str(worker["worker"])
