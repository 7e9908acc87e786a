"""What no field says alone: the contradictions within a route, and between routes, markets and origins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from cache_policies.markets import Markets
from cache_policies.origins import Origins
from cache_policies.reading import Fault, Place, Value
from edge.core.policy import ALL_QUERY, CachePolicy, DataClass, OnLeaseLapse, Redirect, covers, parse_pattern

DEFAULT_FILE = "default.yaml"
"""Tried last; its last route must match every path."""

_LIFETIME_FIELDS = ("fresh", "max_fresh", "stale_while_revalidate", "stale_if_error", "keep", "negative")
_PRICE_SEGMENTS = frozenset({"prices", "stock"})


class WrittenRoute(NamedTuple):
    """A route as it was understood, and as it was written: its own fields and those of the file's `defaults`."""

    policy: CachePolicy
    value: Value


def check_all(
    routes: Sequence[WrittenRoute], markets: Markets | None, origins: Origins | None, faults: list[Fault]
) -> None:
    """Add to `faults` what the routes, in the order they are tried, contradict: themselves and each other.

    `markets` and `origins` are None when they could not be read, which is a fault already.
    """
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


def _takes_everything(pattern: str) -> bool:
    with suppress(ValueError):
        return [part.rest for part in parse_pattern(pattern)] == [True]
    return False


def _check_ids(routes: Sequence[WrittenRoute]) -> None:
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


def _check_shadows(routes: Sequence[WrittenRoute], markets: Markets) -> None:
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
