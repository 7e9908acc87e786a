"""`nearshelf policy explain --live`: what the workers of a running edge say about the same request, and hold for it.

Each worker answers on its admin listener with the core's decision under the policies that it runs with, and with what
is in its store. The offline answer is held against each.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from edge.site.tokens import TokenUnusable, find_token
from infra.errors import CommandError
from infra.local.state import read_env
from infra.policy.explain import Asked, visitor_of
from infra.policy.explain_text import line

ASK_S = 5.0
"""How long a worker may take to answer, in seconds."""
TOKEN = "NEARSHELF_ADMIN_TOKEN"  # noqa: S105 - the name of a variable

_COMPARED = (
    ("answer", ("outcome", "status")),
    ("reason", ("outcome", "reason")),
    ("redirect", ("outcome", "location")),
    ("route", ("route", "id")),
    ("policy version", ("route", "version")),
    ("key", ("key", "path")),
    ("key", ("key", "query")),
    ("market", ("market",)),
    ("market of the entry page", ("visitor_market",)),
    ("lifetimes", ("lifetimes",)),
    ("storable", ("storable",)),
    ("tags", ("tags",)),
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the workers of an edge are asked."""

    name: str
    admin_urls: tuple[str, ...]
    token: str


def place_of(name: str, state: Path) -> Place:
    """An edge of the shop that runs with this state folder, or the admin URL of one worker. Raises CommandError."""
    if "://" in name:
        try:
            token = find_token(os.environ, name) or os.environ.get(TOKEN, "")
        except (TokenUnusable, ValueError) as exc:
            raise CommandError(f"no token for {name}: {exc}") from exc
        if not token:
            raise CommandError(
                f"{TOKEN} is not set, and none of this user's edges runs there; set it to the admin token of {name}"
            )
        return Place(name, (name.rstrip("/"),), token)
    token = str(read_env(state)[TOKEN])
    try:
        addresses = json.loads((state / "ready.json").read_text(encoding="utf-8"))["admin"]
    except (OSError, ValueError, KeyError) as exc:
        raise CommandError(f"the shop in {state} is not ready yet; see `nearshelf status`") from exc
    if name not in addresses:
        raise CommandError(
            f"{name!r} is no edge of the shop in {state}; expected {', '.join(addresses)}, or the URL of a worker's "
            "admin listener"
        )
    return Place(name, tuple(addresses[name]), token)


def ask(place: Place, asked: Asked, transport: httpx.BaseTransport | None = None) -> list[dict[str, Any]]:
    """What each worker says. Raises CommandError when one of them cannot be asked."""
    query = {
        "url": asked.url,
        "method": asked.method,
        "country": visitor_of(asked).country,
        "field": [f"{name}: {value}" for name, value in asked.fields],
    }
    headers = {"authorization": f"Bearer {place.token}"}
    answers = []
    with httpx.Client(timeout=ASK_S, trust_env=False, transport=transport) as client:
        for url in place.admin_urls:
            try:
                response = client.get(f"{url}/explain", params=query, headers=headers)
            except (httpx.HTTPError, httpx.InvalidURL) as exc:
                raise CommandError(
                    f"the worker at {url} cannot be asked: {str(exc) or type(exc).__name__}; see `nearshelf status`"
                ) from exc
            if response.status_code == 401:
                raise CommandError(
                    f"the worker at {url} refuses the token; {TOKEN} must be the one it was started with"
                )
            if response.status_code != 200:
                raise CommandError(
                    f"the worker at {url} answered /explain with status {response.status_code}: {response.text[:200]}"
                )
            answers.append(response.json())
    return answers


def authority_of(answers: list[dict[str, Any]]) -> str:
    """The host that the workers took a path without one to be for."""
    return str(answers[0]["authority"])


def contradictions(offline: Mapping[str, Any], answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Wherein a worker's decision is not the offline one (`gateway.explain.told`): what, offline, there."""
    found = []
    if not answer["served"]:
        found.append({"what": "host", "offline": answer["authority"], "live": "421: not served by this edge"})
    for what, path in _COMPARED:
        ours, theirs = _at(offline, path), _at(answer["decision"], path)
        if ours != theirs:
            found.append({"what": what, "offline": ours, "live": theirs})
    return found


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = None if value is None else value[name]
    return value


def live(place: Place, offline: Mapping[str, Any], answers: list[dict[str, Any]]) -> dict[str, Any]:
    """The workers' answers beside the offline decision, as JSON."""
    return {
        "edge": place.name,
        "workers": [{**answer, "contradictions": contradictions(offline, answer)} for answer in answers],
    }


def live_text(found: Mapping[str, Any], policies: str) -> Iterator[str]:
    """The same for people. `policies`: digest of the offline policies."""
    yield line("live", f"edge {found['edge']}", "what its workers say now")
    for worker in found["workers"]:
        decision = worker["decision"]
        lease = "lease held" if worker["lease_held"] else "lease run out: nothing is fresh"
        yield line("worker", f"{worker['worker']} of {worker['edge']}", f"applied {worker['applied']}, {lease}")
        same = "the same as offline"
        if decision["policies"] != policies:
            same = "others than offline; --policies FOLDER compares with those of another folder"
        yield line("", f"policies {decision['policies']}", same)
        for each in worker["contradictions"]:
            differs = f"offline {_said(each['offline'])}, live {_said(each['live'])}"
            yield line("", f"CONTRADICTS {each['what']}", differs)
        if not worker["contradictions"]:
            yield line("", "decides as offline")
        if decision["route"] is not None and not worker["stored"]:
            yield line("stored", "nothing")
        for stored in worker["stored"]:
            yield from _stored(stored, decision)


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _stored(stored: Mapping[str, Any], decision: Mapping[str, Any]) -> Iterator[str]:
    why = f" ({stored['why']})" if stored["why"] else ""
    ttl = f"{stored['ttl_s']} s left" if stored["ttl_s"] >= 0 else f"fresh until {-stored['ttl_s']} s ago"
    yield line("stored", f"{stored['state']}{why}", f"age {stored['age_s']} s, {ttl}")
    at = datetime.fromtimestamp(stored["stored_at"], UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    yield line(
        "", f"status {stored['status']}, {stored['size_bytes']:,} bytes", f"stored at {at}; hits are not counted"
    )
    yield line("", f"position {stored['position']}", "of the catalog, that it was made from")
    version = decision["route"]["version"]
    same = "the policy as it is now" if stored["policy_version"] == version else "another than now: counts as absent"
    yield line("", f"policy version {stored['policy_version']}", same)
    for name, value in stored["vary"]:
        yield line("", f"for {name}: {value if value is not None else 'absent'}")
    yield line("", f"tags {', '.join(stored['tags'])}")
    if stored["if_the_origin_fails"]:
        yield line("", "shown if the origin fails", stored["if_the_origin_fails"])
