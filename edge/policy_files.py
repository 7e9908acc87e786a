"""YAML -> PolicySet: every fault at once, each with file, line and column, what was found and what was expected."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cache_policies.codes import Severity
from cache_policies.markets import Markets, load_markets
from cache_policies.reading import PACKAGED_POLICIES, Fault, Place, PolicyError, Refused, Value, read_document
from edge.core.http import HOP_BY_HOP
from edge.core.policy import (
    ALL_QUERY,
    CachePolicy,
    DataClass,
    Generation,
    OnLeaseLapse,
    PolicySet,
    Redirect,
    parse_pattern,
)
from edge.policy_checks import DEFAULT_FILE, WrittenRoute, check_all

__all__ = ["PACKAGED_POLICIES", "ROUTE_FIELDS", "Fault", "PolicyError", "PolicyFiles", "load_policies", "read_policies"]

MARKETS_FILE = "markets.yaml"

ROUTE_FIELDS = (
    "path",
    "data_class",
    "methods",
    "forward_methods",
    "refuse",
    "redirect",
    "store",
    "fresh",
    "max_fresh",
    "stale_while_revalidate",
    "stale_if_error",
    "keep",
    "negative",
    "query",
    "request_fields",
    "vary",
    "cookies",
    "shows_price",
    "on_lease_lapse",
    "generation",
    "collapse_wait",
    "max_body",
)
"""Every field of a route; each is explained in cache_policies/README.md."""

_ID = re.compile(r"[a-z][a-z0-9-]{0,39}")
_METHOD = re.compile(r"[A-Z]{1,20}")
_PARAMETER = re.compile(r"[A-Za-z0-9._~-]{1,40}")
_FIELD = re.compile(r"[a-z][a-z0-9-]{0,60}")
# What the edge writes itself, or decides about by other fields of a policy.
_NEVER_FORWARDED = HOP_BY_HOP | {"host", "content-length", "cookie", "min-catalog-version", "via"}


@dataclass(frozen=True, slots=True)
class PolicyFiles:
    """The `*.yaml` of a folder: what they say, and everything that is wrong with them."""

    policies: PolicySet | None
    """None when any fault is an error."""
    faults: tuple[Fault, ...]
    """Errors, warnings and notes, by file, line and column."""
    places: Mapping[str, Mapping[str, Place]]
    """Route id -> field -> where it was written, in the route or in its file's `defaults`; absent: the default."""
    texts: Mapping[str, str]
    """File name -> text, of every file that could be opened."""


def load_policies(directory: Path | None = None) -> PolicySet:
    """The policies of every `*.yaml` in `directory` (default: the packaged ones), with its markets.

    Files are read in the order of their names, default.yaml last. Raises PolicyError, whose `faults` are all the
    errors, when there are any: a gateway does not start with policies that it understands in part.
    """
    found = read_policies(directory)
    if found.policies is None:
        raise PolicyError(fault for fault in found.faults if fault.severity is Severity.ERROR)
    return found.policies


def read_policies(directory: Path | None = None) -> PolicyFiles:
    """Everything that the `*.yaml` in `directory` (default: the packaged ones) say, and every fault of every file."""
    directory = directory or PACKAGED_POLICIES
    faults: list[Fault] = []
    texts: dict[str, str] = {}
    markets: Markets | None = None
    try:
        markets = load_markets(directory)
    except PolicyError as exc:
        faults.extend(exc.faults)
    routes: list[WrittenRoute] = []
    for path in _policy_paths(directory):
        document = read_document(path, faults)
        if document is not None:
            routes.extend(_read_file(document))
    for path in [*_policy_paths(directory), directory / MARKETS_FILE]:
        with suppress(OSError):
            texts[path.name] = path.read_text(encoding="utf-8", errors="replace")
    check_all(routes, markets, None, faults)
    places = {
        route.policy.id: {name: at for name, (at, _) in route.value.fields().items()} for route in reversed(routes)
    }
    wrong = any(fault.severity is Severity.ERROR for fault in faults)
    policies = None if wrong or markets is None else PolicySet((route.policy for route in routes), markets)
    return PolicyFiles(policies, tuple(sorted(set(faults))), places, texts)


def _policy_paths(directory: Path) -> list[Path]:
    found = sorted(path for path in directory.glob("*.yaml") if path.name not in {MARKETS_FILE, DEFAULT_FILE})
    return [*found, directory / DEFAULT_FILE]


def _read_file(document: Value) -> list[WrittenRoute]:
    document.only(("routes",))
    routes = document.required("routes", lambda value: value.fields("a mapping from id to route"), None) or {}
    found: list[WrittenRoute] = []
    for route_id, (place, value) in routes.items():
        if _ID.fullmatch(route_id) is None:
            value.faults.append(
                Fault(
                    place,
                    value.path,
                    f"id {route_id}, expected small letters, digits and hyphens, such as product-page",
                )
            )
        with suppress(Refused):
            found.append(WrittenRoute(_read_route(route_id, place, value), value))
    return found


def _read_route(route_id: str, place: Place, value: Value) -> CachePolicy:
    value.only(ROUTE_FIELDS)
    data_class = value.optional("data_class", lambda at: at.choice(DataClass), DataClass.PUBLIC)
    fresh_s = _seconds(value, "fresh")
    return CachePolicy(
        id=route_id,
        path=value.required("path", _path, "/"),
        where=str(place),
        data_class=data_class,
        methods=value.optional("methods", lambda at: at.words(_METHOD, "methods in capitals"), ("GET", "HEAD")),
        forward_methods=value.optional(
            "forward_methods",
            lambda at: at.words(_METHOD, "methods in capitals"),
            ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
        ),
        refuse_status=value.optional(
            "refuse", lambda at: at.status(lambda status: 400 <= status < 500, "a status from 400 to 499"), 0
        ),
        store=value.optional("store", lambda at: at.boolean(), data_class is DataClass.PUBLIC),
        fresh_s=fresh_s,
        max_fresh_s=_seconds(value, "max_fresh", fresh_s),
        stale_while_revalidate_s=_seconds(value, "stale_while_revalidate"),
        stale_if_error_s=_seconds(value, "stale_if_error"),
        keep_s=_seconds(value, "keep"),
        negative_s=value.optional("negative", _negative, ()),
        query=value.optional("query", _query, ()),
        request_fields=value.optional("request_fields", _request_fields, ()),
        vary=value.optional("vary", lambda at: at.words(_FIELD, "field names in small letters"), ()),
        cookies=value.optional("cookies", lambda at: at.boolean(), default=False),
        shows_price=value.optional("shows_price", lambda at: at.boolean(), default=False),
        on_lease_lapse=value.optional("on_lease_lapse", lambda at: at.choice(OnLeaseLapse), OnLeaseLapse.FAIL),
        generation=value.optional("generation", lambda at: at.choice(Generation), Generation.NONE),
        redirect=value.optional("redirect", lambda at: at.choice(Redirect), Redirect.NONE),
        collapse_wait_s=_seconds(value, "collapse_wait", CachePolicy("", "").collapse_wait_s),
        max_body_bytes=value.optional("max_body", lambda at: at.size_bytes(), CachePolicy("", "").max_body_bytes),
    )


def _seconds(value: Value, name: str, default: float = 0.0) -> float:
    return value.optional(name, lambda at: at.duration_s(), default)


def _path(value: Value) -> str:
    pattern = value.text("a path pattern such as /{market}/products/{slug}")
    try:
        parse_pattern(pattern)
    except ValueError as exc:
        value.fault(f"{pattern}: {exc}")
        raise Refused from exc
    return pattern


def _query(value: Value) -> tuple[str, ...]:
    if value.written == "all":
        return ALL_QUERY
    return value.words(_PARAMETER, "parameter names, or the word all")


def _negative(value: Value) -> tuple[tuple[int, float], ...]:
    found: list[tuple[int, float]] = []
    for name, (place, seconds) in value.fields("a mapping from status to duration, such as {404: 10s}").items():
        if re.fullmatch(r"[45][0-9]{2}", name) is None:
            value.faults.append(Fault(place, seconds.path, f"status {name}, expected one from 400 to 599"))
            continue
        with suppress(Refused):
            found.append((int(name), seconds.duration_s()))
    return tuple(sorted(found))


def _request_fields(value: Value) -> tuple[str, ...]:
    names = value.words(_FIELD, "field names in small letters")
    for item in value.items():
        name = item.written
        if not isinstance(name, str):
            continue
        if name in _NEVER_FORWARDED or name.startswith(("nearshelf-", "x-forwarded-", "if-")):
            item.fault(f"{name} is written by the edge itself, expected a field of the viewer")
    return names
