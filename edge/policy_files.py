"""YAML -> PolicySet: every fault at once, each with file, line and column, what was found and what was expected."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache_policies.codes import Severity
from cache_policies.folder import policy_files_in, why_unreadable
from cache_policies.kinds import Field, Kind, meant_name, only, referred, whole
from cache_policies.markets import MARKETS_FILE, Markets, read_markets
from cache_policies.origins import Origins
from cache_policies.origins_file import ORIGINS_FILE, read_origins
from cache_policies.reading import PACKAGED_POLICIES, Fault, Place, PolicyError, Refused, Value, read_document
from edge.core.policy import CachePolicy, PolicySet
from edge.policy_checks import DEFAULT_FILE, check_all, check_markets, check_origins, needs_markets
from edge.policy_remarks import WrittenRoute
from edge.route_fields import DEFAULTS_FIELDS, ROUTE_FIELDS, ROUTE_ID, read_route

__all__ = [
    "PACKAGED_POLICIES",
    "POLICY_FIELDS",
    "Fault",
    "PolicyError",
    "PolicyFiles",
    "load_policies",
    "read_policies",
    "read_routes",
]


@dataclass(frozen=True, slots=True)
class PolicyFiles:
    """The `*.yaml` of a folder: what they say, and everything that is wrong with them."""

    policies: PolicySet | None
    """None when any fault is an error."""
    faults: tuple[Fault, ...]
    """Errors, warnings and notes, by file, line and column."""
    places: Mapping[str, Mapping[str, Place]]
    """Route id -> field -> where it was written: in the route, in its file's `defaults`, or, of `blocked_countries`, in
    markets.yaml; absent: the default."""
    texts: Mapping[str, str]
    """File name -> text, of every file that could be opened."""


def load_policies(directory: Path | None = None) -> PolicySet:
    """The policies of every `*.yaml` in `directory` (default: the packaged ones), with its markets and origins.

    Files are read in the order of their names, default.yaml last. Raises PolicyError, whose `faults` are all the
    errors, when there are any: a gateway does not start with policies that it understands in part.
    """
    found = read_policies(directory)
    if found.policies is None:
        raise PolicyError(fault for fault in found.faults if fault.severity is Severity.ERROR)
    return found.policies


def read_policies(directory: Path | None = None) -> PolicyFiles:
    """Everything that the `*.yaml` in `directory` (default: the packaged ones) say, and every fault of every file.

    Without markets.yaml there are no markets, and it is a fault if a route needs one.
    """
    directory = directory or PACKAGED_POLICIES
    if why := why_unreadable(directory):
        what = f"the folder {directory} cannot be read: {why}"
        fault = Fault(Place(DEFAULT_FILE, 1, 1), "", what, "NS001", "Let this user read the folder and enter it.")
        return PolicyFiles(None, (fault,), {}, {})
    faults: list[Fault] = []
    texts: dict[str, str] = {}
    document = None
    markets: Markets | None = Markets()
    if has_markets := (directory / MARKETS_FILE).exists():
        document = read_document(directory / MARKETS_FILE, faults, texts)
        markets = read_markets(document) if document is not None else None
    if document is not None and markets is not None:
        check_markets(document, markets)
    blocked_at = document.fields()["blocked"][0] if document is not None and "blocked" in document.fields() else None
    origins: Origins | None = Origins()
    if (directory / ORIGINS_FILE).exists():
        document = read_document(directory / ORIGINS_FILE, faults, texts)
        origins = read_origins(document) if document is not None else None
        if document is not None and origins is not None:
            check_origins(document, origins)
    routes: list[WrittenRoute] = []
    for path in _policy_paths(directory, faults):
        document = read_document(path, faults, texts)
        if document is not None:
            routes.extend(read_routes(document, markets))
    if not has_markets and (need := needs_markets(routes)) is not None:
        faults.append(need)
        markets = None
    check_all(routes, markets, origins, faults)
    places: dict[str, dict[str, Place]] = {}
    for policy, value in reversed(routes):
        places[policy.id] = {name: at for name, (at, _) in value.fields().items()}
        if blocked_at is not None:
            places[policy.id].setdefault("blocked_countries", blocked_at)
    policies = None
    if markets is not None and not any(fault.severity is Severity.ERROR for fault in faults):
        policies = PolicySet((route.policy for route in routes), markets, origins)
    return PolicyFiles(policies, tuple(sorted(set(faults))), places, texts)


def _policy_paths(directory: Path, faults: list[Fault]) -> list[Path]:
    """The policy files, in the order they are read; what only looks like one is a fault."""
    found = []
    for path in policy_files_in(directory):
        if path.suffix != ".yaml":
            what = f"not read, because it ends in {path.suffix}; expected .yaml"
            faults.append(
                Fault(Place(path.name, 1, 1), "", what, "NS014", f"Call it {path.stem}.yaml, or move it away.")
            )
        elif path.name not in {MARKETS_FILE, ORIGINS_FILE, DEFAULT_FILE}:
            found.append(path)
    return [*found, directory / DEFAULT_FILE]


def read_routes(document: Value, markets: Markets | None) -> list[WrittenRoute]:
    """The routes of one policy file, each with what its `defaults` add; what cannot be read is noted."""
    only(document, POLICY_FIELDS)
    defaults, routes = (each.of(document, {}) for each in POLICY_FIELDS)
    found: list[WrittenRoute] = []
    for route_id, (place, value) in routes.items():
        if re.fullmatch(ROUTE_ID, route_id) is None:
            what = f"id {route_id}, expected small letters, digits and hyphens, such as product-page"
            meant = meant_name(route_id)
            fix = (
                f"Call it {meant}."
                if re.fullmatch(ROUTE_ID, meant)
                else "Begin with a small letter; 40 characters at most."
            )
            value.faults.append(Fault(place, value.path, what, "NS114", fix))
        with suppress(Refused):
            only(value, ROUTE_FIELDS)
            whole_route = Value(value.place, value.path, defaults | value.fields(), value.faults)
            policy = CachePolicy(id=route_id, where=str(place), **read_route(whole_route, markets))
            found.append(WrittenRoute(policy, whole_route))
    return found


def _defaults(value: Value) -> dict[str, tuple[Place, Value]]:
    """The fields that are known here; each is read once, so that a fault is noted even where no route takes it."""
    written = value.fields("a mapping from field to value")
    if "path" in written:
        place, path = written["path"]
        what = "a path in defaults, expected it in each route"
        value.faults.append(Fault(place, path.path, what, "NS101", "Move path into the routes."))
        value = Value(
            value.place, value.path, {name: entry for name, entry in written.items() if name != "path"}, value.faults
        )
    only(value, DEFAULTS_FIELDS)
    known = {each.name: each for each in DEFAULTS_FIELDS}
    for name, (_, entry) in written.items():
        if name in known:
            with suppress(Refused):
                known[name].kind.read(entry)
    return {name: entry for name, entry in written.items() if name in known}


def _routes(value: Value) -> dict[str, tuple[Place, Value]]:
    return value.fields("a mapping from id to route")


POLICY_FIELDS: tuple[Field[Any], ...] = (
    Field(
        "defaults",
        Kind(_defaults, referred(DEFAULTS_FIELDS)),
        "fields of a route",
        "none",
        "what holds for every route of this file that does not say otherwise; any field but `path`",
    ),
    Field(
        "routes",
        Kind(
            _routes,
            {"type": "object", "propertyNames": whole(ROUTE_ID), "additionalProperties": referred(ROUTE_FIELDS)},
        ),
        "id: route",
        "required",
        "the routes, in the order they are tried, by the id that logs, reports and metrics know them by",
    ),
)
"""Every field of a policy file."""
