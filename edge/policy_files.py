"""YAML -> PolicySet: every fault at once, each with file, line and column, what was found and what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cache_policies.markets import Markets, load_markets
from cache_policies.reading import PACKAGED_POLICIES, Fault, Place, PolicyError, Refused, Value, read_document
from edge.core.policy import (
    ALL_QUERY,
    CachePolicy,
    DataClass,
    Generation,
    OnLeaseLapse,
    PolicySet,
    Redirect,
    covers,
    parse_pattern,
)
from edge.core.storing import HOP_BY_HOP

__all__ = ["PACKAGED_POLICIES", "ROUTE_FIELDS", "Fault", "PolicyError", "load_policies"]

MARKETS_FILE = "markets.yaml"
DEFAULT_FILE = "default.yaml"

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

_LIFETIME_FIELDS = ("fresh", "max_fresh", "stale_while_revalidate", "stale_if_error", "keep", "negative")
_PRICE_SEGMENTS = frozenset({"prices", "stock"})
_ID = re.compile(r"[a-z][a-z0-9-]{0,39}")
_METHOD = re.compile(r"[A-Z]{1,20}")
_PARAMETER = re.compile(r"[A-Za-z0-9._~-]{1,40}")
_FIELD = re.compile(r"[a-z][a-z0-9-]{0,60}")
# What the edge writes itself, or decides about by other fields of a policy.
_NEVER_FORWARDED = HOP_BY_HOP | {"host", "content-length", "cookie", "min-catalog-version", "via"}


class _Route(NamedTuple):
    policy: CachePolicy
    value: Value


def load_policies(directory: Path | None = None) -> PolicySet:
    """The policies of every `*.yaml` in `directory` (default: the packaged ones), with its markets.

    Files are read in the order of their names, default.yaml last. Raises PolicyError, whose `faults` are all that is
    wrong, when anything is: a gateway does not start with policies that it understands in part.
    """
    directory = directory or PACKAGED_POLICIES
    faults: list[Fault] = []
    markets: Markets | None = None
    try:
        markets = load_markets(directory)
    except PolicyError as exc:
        faults.extend(exc.faults)
    routes: list[_Route] = []
    for path in _policy_paths(directory):
        document = read_document(path, faults)
        if document is not None:
            routes.extend(_read_file(document))
    _check_ids(routes)
    for policy, value in routes:
        _check(policy, value)
    if not routes or not _takes_everything(routes[-1].policy.path):
        faults.append(
            Fault(
                Place(DEFAULT_FILE, 1, 1),
                "",
                "the last route must have the path /{rest...}, so that every request has one",
            )
        )
    if markets is not None and not faults:
        _check_shadows(routes, markets)
    if faults or markets is None:
        raise PolicyError(faults)
    return PolicySet((route.policy for route in routes), markets)


def _policy_paths(directory: Path) -> list[Path]:
    found = sorted(path for path in directory.glob("*.yaml") if path.name not in {MARKETS_FILE, DEFAULT_FILE})
    return [*found, directory / DEFAULT_FILE]


def _takes_everything(pattern: str) -> bool:
    with suppress(ValueError):
        return [part.rest for part in parse_pattern(pattern)] == [True]
    return False


def _read_file(document: Value) -> list[_Route]:
    document.only(("routes",))
    routes = document.required("routes", lambda value: value.fields("a mapping from id to route"), None) or {}
    found: list[_Route] = []
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
            found.append(_Route(_read_route(route_id, place, value), value))
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


def _check_ids(routes: Sequence[_Route]) -> None:
    first: dict[str, CachePolicy] = {}
    for policy, value in routes:
        earlier = first.setdefault(policy.id, policy)
        if earlier is not policy:
            value.fault(f"{policy.id} is an id already taken at {earlier.where}, expected another")


def _check(policy: CachePolicy, value: Value) -> None:
    """What no field says alone: the contradictions between the fields of one route."""
    written = value.fields()

    def at(name: str, what: str) -> None:
        if any(fault.field == f"{value.path}.{name}" for fault in value.faults):
            # It could not be read, so nothing can be said about what it contradicts.
            return
        place = written[name][0] if name in written else value.place
        value.faults.append(Fault(place, f"{value.path}.{name}", what))

    def each(names: Sequence[str], what: Callable[[str], str]) -> None:
        for name in names:
            if name in written:
                at(name, what(name))

    if policy.data_class is DataClass.PERSONAL:
        if policy.store:
            at("store", "true with data_class personal, expected false: what belongs to one person is never stored")
        each(_LIFETIME_FIELDS, lambda _: "a lifetime with data_class personal, expected none: it is never stored")
    elif not policy.store:
        each(_LIFETIME_FIELDS, lambda _: "a lifetime with store false, expected none: nothing of it is stored")
    if policy.store:
        _check_stored(policy, written, at)
    if policy.stale_if_error_s and policy.shows_price and policy.on_lease_lapse is OnLeaseLapse.FAIL:
        at(
            "stale_if_error",
            "a route that shows a price and answers on_lease_lapse: fail, expected 0s: nothing in its answer can say "
            "that the price is being confirmed",
        )
    if policy.on_lease_lapse is OnLeaseLapse.STALE_MARKED and not policy.stale_if_error_s:
        at(
            "on_lease_lapse",
            "stale-marked without stale_if_error, expected a time for which the stale page may be shown",
        )
    literals = {part.literal for part in parse_pattern(policy.path)}
    if literals & _PRICE_SEGMENTS and not policy.shows_price:
        at("shows_price", "false for an address of prices or stock, expected true: a browser must ask again every time")
    if policy.redirect is not Redirect.NONE and (policy.store or policy.refuse_status):
        at("redirect", "on a route that is stored or refused, expected store: false and no refuse: the edge answers it")


def _check_stored(policy: CachePolicy, written: dict[str, tuple[Place, Value]], at: Callable[[str, str], None]) -> None:
    if "fresh" not in written:
        at("fresh", "missing on a stored route, expected the lifetime where the origin is silent (0s: none)")
    if policy.max_fresh_s < policy.fresh_s:
        at("max_fresh", "less than fresh, expected at least as much: it is the ceiling of what the origin may propose")
    if policy.cookies:
        at(
            "cookies",
            "true on a stored route, expected false: what a cookie decides must not be shown to the next viewer",
        )
    if policy.query == ALL_QUERY:
        at("query", "all on a stored route, expected the parameters that count: any other would make a key of its own")
    if policy.refuse_status:
        at("refuse", "on a stored route, expected store: false: nothing of it is ever forwarded")
    if not set(policy.methods) <= {"GET", "HEAD"}:
        at("methods", "more than GET and HEAD on a stored route, expected only these: others are forwarded")
    for name in policy.request_fields:
        if name not in policy.vary:
            at(
                "request_fields",
                f"{name} is forwarded but not in vary, expected it there too: answers that depend on it are variants",
            )


def _check_shadows(routes: Sequence[_Route], markets: Markets) -> None:
    for number, (policy, value) in enumerate(routes):
        for earlier, _ in routes[:number]:
            if covers(earlier.path, policy.path, markets):
                _, path = value.fields()["path"]
                value.faults.append(
                    Fault(
                        path.place,
                        path.path,
                        f"{policy.path} is never reached: {earlier.id} ({earlier.where}) matches all of it first, "
                        "expected another path or an earlier place",
                    )
                )
                break
