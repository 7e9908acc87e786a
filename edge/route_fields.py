"""Every field of a policy file: how it is read, its unit, its default and what it means.

These tables are the reader of policies (`policy_files`), the JSON Schema for editors (`infra/policy/schema.py`) and,
by test, the tables of cache_policies/README.md: a field cannot exist without all three.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from cache_policies.kinds import (
    BOOLEAN,
    COUNTRY,
    DURATION,
    NAME,
    ORIGIN_NAME,
    SIZE,
    Field,
    choice,
    listed,
    whole_number,
)
from cache_policies.markets import Markets
from cache_policies.reading import Value
from edge.core.freshness import MAX_HEURISTIC_S
from edge.core.policy import (
    Auth,
    CachePolicy,
    DataClass,
    Generation,
    OnLeaseLapse,
    Redirect,
    Residency,
)
from edge.route_kinds import (
    FORWARD_METHODS,
    METHODS,
    NEGATIVE,
    PATH,
    QUERY,
    REFUSED_STATUS,
    REQUEST_DIRECTIVES,
    REQUEST_FIELDS,
    STATUSES,
    TAGS,
    THROTTLE,
    VARY,
)

ROUTE_ID = NAME


@dataclass(frozen=True, slots=True)
class RouteField(Field[Any]):
    """A field of a route, and what it becomes."""

    attribute: str = ""
    """Of CachePolicy; empty: called like the field."""
    otherwise: Callable[[Mapping[str, Any], Markets | None], Any] | None = None
    """The value where nothing is written, by what is known of the fields before it; None: that of CachePolicy."""

    @property
    def becomes(self) -> str:
        return self.attribute or self.name


_DEFAULTS = {each.name: each.default for each in fields(CachePolicy) if each.init}


def read_route(value: Value, markets: Markets | None) -> dict[str, Any]:
    """The attributes of a CachePolicy, defaults included, as `value` says; what cannot be read is noted."""
    known: dict[str, Any] = {}
    for each in ROUTE_FIELDS:
        default = each.otherwise(known, markets) if each.otherwise else _DEFAULTS[each.becomes]
        known[each.becomes] = each.of(value, default)
    return known


def _blocked(_: Mapping[str, Any], markets: Markets | None) -> tuple[str, ...]:
    return markets.blocked if markets is not None else ()


ROUTE_FIELDS: tuple[RouteField, ...] = (
    RouteField(
        "path",
        PATH,
        "pattern",
        "required",
        "literal segments, `{name}` for one segment, `{name...}` for the rest (one or more characters); `{market}` "
        "matches the ids in `markets.yaml` and nothing else",
        ("url", "route", "match", "pattern", "address"),
        otherwise=lambda known, _: "/",
    ),
    RouteField(
        "data_class",
        choice(DataClass),
        "`public`, `personal`",
        "`public`",
        "`personal` is never stored, whatever a header says, and may have no lifetime",
        ("class", "data"),
    ),
    RouteField(
        "methods",
        METHODS,
        "list",
        "`[GET, HEAD]`",
        "methods answered from the store, on a route that stores",
    ),
    RouteField(
        "forward_methods",
        FORWARD_METHODS,
        "list, or `all`",
        "`[GET, HEAD, POST, PUT, PATCH, DELETE]`",
        "methods passed to the origin; one in neither list is answered by 405. `all`: whatever comes",
        ("allowed_methods",),
    ),
    RouteField(
        "refuse",
        REFUSED_STATUS,
        "status 400-499, or `none`",
        "`none`",
        "the edge answers with this status itself and never forwards",
        ("deny", "reject"),
        attribute="refuse_status",
    ),
    RouteField(
        "redirect",
        choice(Redirect),
        "`none`, `market`",
        "`none`",
        "`market`: the edge answers 302 to the visitor's market, never stored",
    ),
    RouteField(
        "store",
        BOOLEAN,
        "`true`, `false`",
        "`true` for public",
        "whether anything of the route is kept",
        ("cache", "cacheable"),
        otherwise=lambda known, _: known["data_class"] is DataClass.PUBLIC,
    ),
    RouteField(
        "fresh",
        DURATION,
        "duration",
        "required if stored",
        "freshness lifetime where the origin is silent",
        ("ttl", "default_ttl", "max_age", "s_maxage", "lifetime"),
        attribute="fresh_s",
    ),
    RouteField(
        "heuristic",
        whole_number(0, 100, "a share in percent from 0 to 100", "NS118"),
        "percent",
        "`0`",
        "freshness where the origin states none: this share of the time since Last-Modified, one day at the most (RFC "
        "9111 §4.2.2). In place of a `fresh` beyond `0s`",
        ("heuristics", "lm_factor"),
        attribute="heuristic_percent",
    ),
    RouteField(
        "max_fresh",
        DURATION,
        "duration",
        "as `fresh`, with `heuristic` one day",
        "ceiling of the freshness lifetime that the origin may propose",
        ("max_ttl",),
        attribute="max_fresh_s",
        otherwise=lambda known, _: MAX_HEURISTIC_S if known["heuristic_percent"] else known["fresh_s"],
    ),
    RouteField(
        "stale_while_revalidate",
        DURATION,
        "duration",
        "`0s`",
        "after freshness, served while one refresh runs in the background, where the origin is silent (RFC 5861)",
        ("swr",),
        attribute="stale_while_revalidate_s",
    ),
    RouteField(
        "max_stale_while_revalidate",
        DURATION,
        "duration",
        "as `stale_while_revalidate`",
        "ceiling of what the origin may propose of it",
        ("max_swr",),
        attribute="max_stale_while_revalidate_s",
        otherwise=lambda known, _: known["stale_while_revalidate_s"],
    ),
    RouteField(
        "stale_if_error",
        DURATION,
        "duration",
        "`0s`",
        "after freshness, served when the origin fails, where it is silent (RFC 5861)",
        ("sie", "grace"),
        attribute="stale_if_error_s",
    ),
    RouteField(
        "max_stale_if_error",
        DURATION,
        "duration",
        "as `stale_if_error`",
        "ceiling of what the origin may propose of it",
        ("max_sie", "max_grace"),
        attribute="max_stale_if_error_s",
        otherwise=lambda known, _: known["stale_if_error_s"],
    ),
    RouteField(
        "stale_if_unreachable",
        DURATION,
        "duration",
        "`0s`",
        "after freshness, served while no connection to the origin can be made or it breaks, whether or not the answer "
        "asks for that (RFC 9111 §4.2.4); what forbids stale answers forbids it",
        ("offline", "stale_if_disconnected"),
        attribute="stale_if_unreachable_s",
    ),
    RouteField(
        "keep",
        DURATION,
        "duration",
        "`0s`",
        "after the stale windows: kept only to be validated, so that an unchanged body costs a 304",
        attribute="keep_s",
    ),
    RouteField(
        "negative",
        NEGATIVE,
        "status: duration",
        "`{}`",
        "error answers that may be stored, and for how long at the most: `{404: 10s}`; never served stale",
        ("errors", "negative_ttl", "error_caching"),
        attribute="negative_s",
    ),
    RouteField(
        "statuses",
        STATUSES,
        "`cacheable`, `any`",
        "`cacheable`",
        "which answers may be stored. `cacheable`: 200, 301, 308, and what `negative` names. `any`: every final status "
        "that states its freshness, unknown ones included (RFC 9111 §3)",
        ("status", "status_codes", "cacheable_statuses"),
        attribute="any_status",
    ),
    RouteField(
        "tags",
        TAGS,
        "list",
        "`[]`",
        "cache tags added to those of the answer when it is stored: `cat:{market}:{category}`, where `{name}` stands "
        "for what the path captured. At most 50 with the origin's, of 256 characters each",
        ("cache_tags", "surrogate_keys"),
    ),
    RouteField(
        "query",
        QUERY,
        "list, or `all`",
        "`[]`",
        "parameters that count, in the order of the key; all others are dropped and not forwarded. One that is there "
        "twice is refused with 400. `all`: whatever comes, in the key and passed on as received",
        ("parameters", "params", "query_string", "query_params"),
    ),
    RouteField(
        "request_fields",
        REQUEST_FIELDS,
        "list, or `all`",
        "`[]`",
        "request fields forwarded beyond the built-in list; on a stored route each must be in `vary`. `all`: every "
        "end-to-end field, Cookie among them, and Set-Cookie passes to the one viewer who asked",
        ("headers", "request_headers", "forward_headers"),
    ),
    RouteField(
        "vary",
        VARY,
        "list, or `any`",
        "`[]`",
        "fields that an answer may vary on; one that varies on another field is not stored. `any`: all that the answer "
        "names, with `request_fields: all`; one that varies on `*` is never stored",
    ),
    RouteField(
        "request_directives",
        REQUEST_DIRECTIVES,
        "`ignore`, `honour`",
        "`ignore`",
        "whether the Cache-Control of requests counts: no-cache, no-store, max-age, min-fresh, max-stale and "
        "only-if-cached (RFC 9111 §5.2.1), and Pragma where there is none",
        ("honor_request", "honour_request", "request_cache_control"),
        attribute="honour_request",
    ),
    RouteField(
        "cookies",
        BOOLEAN,
        "`true`, `false`",
        "`false`",
        "whether Cookie and Set-Cookie pass; never on a stored route",
        ("cookie",),
    ),
    RouteField(
        "auth",
        choice(Auth),
        "`none`, `optional`, `shared`, `required`",
        "`none` if stored, else `optional`",
        "what becomes of a request's Authorization. `none`: it never reaches the origin. `optional`: it is forwarded, "
        "and such a request is answered neither from the store nor into it. `shared`: it is forwarded, and the answer "
        "is for everybody where it says `public`, `must-revalidate` or `s-maxage` (RFC 9111 §3.5), only where answers "
        "are stored. `required`: 401 without one, only where nothing is stored",
        ("authorization", "authentication"),
        otherwise=lambda known, _: Auth.NONE if known["store"] else Auth.OPTIONAL,
    ),
    RouteField(
        "throttle",
        THROTTLE,
        "rate, or `{rate, burst}`, or `none`",
        "`none`",
        "how often one client address (of IPv6: one /64) may ask, counted by each worker: `100/s`, "
        "`{rate: 600/m, burst: 100}`. Beyond it: 429 with Retry-After",
        ("rate_limit", "ratelimit", "limit", "rate"),
    ),
    RouteField(
        "blocked_countries",
        listed(COUNTRY, "two capital letters"),
        "list of countries",
        "`blocked` of `markets.yaml`",
        "visitors from there are answered with 451, by the country of the connection alone; who comes from an unknown "
        "country is served",
        ("blocked", "geofence", "geo", "countries"),
        otherwise=_blocked,
    ),
    RouteField(
        "residency",
        choice(Residency),
        "`none`, `route`, `tokenise`, `seal`",
        "`none`",
        "`route`: sent only to an origin that lists the jurisdiction of the request's market, else 503. `tokenise` and "
        "`seal` need a vault, which this version has not: 503. Only where nothing is stored",
    ),
    RouteField(
        "origin",
        ORIGIN_NAME,
        "name in `origins.yaml`",
        "its `default`",
        "which origin is asked; where it is belongs to the deployment",
        ("backend", "upstream"),
    ),
    RouteField(
        "shows_price",
        BOOLEAN,
        "`true`, `false`",
        "`false`",
        "a price or stock band is in the answer: it leaves the edge as `Cache-Control: no-cache` with its ETag, a "
        "stale-marked page also as `no-store`",
        ("price", "prices"),
    ),
    RouteField(
        "on_lease_lapse",
        choice(OnLeaseLapse),
        "`fail`, `stale-marked`",
        "`fail`",
        "when the edge has heard nothing from the purge log for the lease (2 s) and the origin does not answer: 503, "
        "or the stored page with its notice filled",
    ),
    RouteField(
        "generation",
        choice(Generation),
        "`none`, `product`, `category`, `market`",
        "`none`",
        "CloudFront only: the bucket whose position goes into the key",
        ("bucket",),
    ),
    RouteField(
        "compress",
        BOOLEAN,
        "`true`, `false`",
        "`false`",
        "answers of 1,000 bytes and more are compressed for whoever accepts it: br, zstd or gzip by our gateway, br or "
        "gzip by CloudFront. Not beside `vary: [accept-encoding]`",
        ("compression", "gzip", "brotli"),
    ),
    RouteField(
        "collapse_wait",
        DURATION,
        "duration",
        "`5s`",
        "how long a viewer waits for the forward request of another before asking itself",
        attribute="collapse_wait_s",
    ),
    RouteField(
        "max_body",
        SIZE,
        "size",
        "`2MB`",
        "a larger answer is passed on and not stored",
        ("max_size",),
        attribute="max_body_bytes",
    ),
)
"""Every field of a route, in the order of README.md; a default may depend on fields before it."""

DEFAULTS_FIELDS = tuple(each for each in ROUTE_FIELDS if each.name != "path")
"""What `defaults` may say for every route of its file."""
