"""`nearshelf policy explain`: everything that the policies say about one request, each with the place it is written at.

Decides nothing itself: `edge.gateway.explain` tells what the core's functions decide, and here every value gets its
file and line, and what CloudFront makes of the route. Reads policy files, touches no network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cache_policies.folder import profiles, why_unreadable
from cache_policies.market_values import UNKNOWN_COUNTRY, Market
from cache_policies.markets import MARKETS_FILE
from cache_policies.positions import MAX_TAGS_PER_RESPONSE
from cache_policies.reading import PACKAGED_POLICIES, Place, Value, parse_document
from cache_policies.tags import EVERYTHING
from edge.core.hops import parse_address
from edge.core.http import Headers, Request, Response
from edge.core.key import CacheKey, query_text
from edge.core.market import MARKET_COOKIE, MarketSource
from edge.core.policy import ALL, ALL_QUERY, CachePolicy, PolicySet, Residency
from edge.core.residency import Unplaced, place
from edge.gateway.explain import Decision, NoRequest, decide, described_request, told
from edge.gateway.visitors import registered_country
from edge.policy_files import read_policies
from infra.errors import CommandError
from infra.policy.explain_cloudfront import CloudFront
from infra.policy.explain_words import AUTH, NOT_STORED, PASSED, in_words, refusal_in_words

_COUNTRY = re.compile(r"[A-Z]{2}")

_LIFETIMES = (
    ("fresh", "fresh_s", ""),
    ("max_fresh", "fresh_s", "fresh"),
    ("stale_while_revalidate", "stale_while_revalidate_s", ""),
    ("max_stale_while_revalidate", "stale_while_revalidate_s", "stale_while_revalidate"),
    ("stale_if_error", "stale_if_error_s", ""),
    ("max_stale_if_error", "stale_if_error_s", "stale_if_error"),
    ("stale_if_unreachable", "stale_if_unreachable_s", ""),
    ("keep", "keep_s", ""),
)
"""Field, attribute of Kept, and, of a ceiling, the field that it is the ceiling of."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as somebody describes it."""

    url: str
    """An address, or a path with its query: then for whichever host the shop has."""
    method: str = "GET"
    fields: tuple[tuple[str, str], ...] = ()
    country: str = ""
    """Two capital letters; empty: by `peer`."""
    peer: str = ""
    """Address of the viewer; empty: unknown."""
    answer: tuple[tuple[str, str], ...] | None = None
    """Fields of the origin's answer; None: nothing is known of it."""
    answer_status: int = 200

    def request(self, authority: str = "") -> Request:
        """As the edge would parse it; without a host of its own, for `authority`. Raises CommandError."""
        try:
            return described_request(self.url, self.method, self.fields, self.peer, authority)
        except NoRequest as exc:
            raise CommandError(str(exc)) from exc

    def response(self) -> Response | None:
        """What the origin is taken to say."""
        if self.answer is None:
            return None
        return Response(self.answer_status, Headers((name.lower(), value.strip(" \t")) for name, value in self.answer))


@dataclass(frozen=True, slots=True)
class Visitor:
    """Where somebody asks from, and who says so."""

    country: str
    source: str


def visitor_of(asked: Asked) -> Visitor:
    """By what was said, else by where the address is registered. Raises CommandError for what is no country."""
    if asked.country:
        if _COUNTRY.fullmatch(asked.country) is None:
            raise CommandError(f"{asked.country!r} is no country: expected two capital letters of ISO 3166, such as DE")
        return Visitor(asked.country, "--country")
    if asked.peer:
        address = parse_address(asked.peer)
        if address is None:
            raise CommandError(f"{asked.peer!r} is no address: expected one such as 192.0.2.7 or 2001:db8::7")
        country = registered_country(str(address))
        return Visitor(country, f"where {asked.peer} is registered")
    return Visitor(UNKNOWN_COUNTRY, "unknown: neither --country nor --peer")


class Explainer:
    """The policies of one folder, read once. Raises CommandError when an edge would not start with them."""

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or PACKAGED_POLICIES
        if why := why_unreadable(folder):
            raise CommandError(f"{folder} cannot be read: {why}; let this user read the folder and enter it")
        if not folder.is_dir():
            raise CommandError(
                f"{folder} is neither a folder nor a profile ({', '.join(profiles())}); name the folder that holds the "
                "policies' *.yaml files"
            )
        found = read_policies(folder)
        if found.policies is None:
            raise CommandError(
                f"no edge would start with the policies in {folder}; see `nearshelf policy check {folder}`"
            )
        self.policies: PolicySet = found.policies
        self._places = found.places
        self._texts = found.texts

    # -- places --------------------------------------------------------------------------------------------------------

    def at(self, policy: CachePolicy, name: str) -> dict[str, Any]:
        """Where a field was written: `from` is route, defaults or default, `at` file:line, None for a default."""
        place = self._places.get(policy.id, {}).get(name)
        if place is None:
            return {"from": "default", "at": None}
        if place.file == MARKETS_FILE:
            return {"from": MARKETS_FILE, "at": _line(place)}
        return {"from": "defaults" if place in self._defaults else "route", "at": _line(place)}

    @cached_property
    def _defaults(self) -> frozenset[Place]:
        """Of every field that a file gives to all its routes."""
        found: set[Place] = set()
        for name, text in self._texts.items():
            document = parse_document(text, name, [])
            if document is not None and "defaults" in document.fields():
                value = document.fields()["defaults"][1]
                if isinstance(value.written, dict):
                    found.update(place for place, _ in value.written.values())
        return frozenset(found)

    @cached_property
    def _markets(self) -> Value | None:
        return parse_document(self._texts.get(MARKETS_FILE, ""), MARKETS_FILE, [])

    def _market_place(self, *path: str) -> str | None:
        """file:line of a field of markets.yaml, by its path; None where it is not written."""
        value, place = self._markets, None
        for name in path:
            if value is None or not isinstance(value.written, dict) or name not in value.written:
                return None
            place, value = value.written[name]
        return _line(place) if place else None

    # -- telling -------------------------------------------------------------------------------------------------------

    def explain(self, asked: Asked, authority: str = "") -> dict[str, Any]:
        """Everything, as JSON. `authority` is for an address without a host. Raises CommandError."""
        request, visitor = asked.request(authority), visitor_of(asked)
        decision = decide(request, self.policies, visitor.country, asked.response())
        match, key = decision.match, decision.key
        plain = told(decision, self.policies)
        found: dict[str, Any] = {
            "answer": "offline",
            "policies": self.policies.digest,
            "request": {
                "method": request.method,
                "authority": request.authority or None,
                "target": _target(request.path, request.query),
            },
            "normalised": None if key is None else self._normalised(decision, key),
            "outcome": {**plain["outcome"], "why": self._why(decision)},
            "route": None if match is None else self._route(decision, match.policy),
            "visitor": self._visitor(decision, visitor, request),
            "market": self._market(decision),
            "key": None if key is None else self._key(decision, key, plain),
        }
        if match is None:
            return found
        policy = match.policy
        return {
            **found,
            "store": self._store(decision, policy),
            "lifetimes": self._lifetimes(decision, policy, answered=asked.answer is not None),
            "tags": self._tags(decision, policy, answered=asked.answer is not None),
            "purged_by": [*decision.tags, EVERYTHING] if plain["storable"] else [],
            "viewer": self._viewer(policy),
            "rules": self._rules(decision, policy),
            "forward": plain["forward"],
            "cloudfront": self.cloudfront.of(request.path, policy),
        }

    def _normalised(self, decision: Decision, key: CacheKey) -> dict[str, Any]:
        assert decision.match is not None
        policy = decision.match.policy
        rule = self.at(policy, "query")["at"] or f"{_line_of(policy)} (no query)"
        return {
            "target": _target(key.path, query_text(key)),
            "dropped": [{"parameter": name, "by": rule} for name in decision.dropped],
        }

    def _why(self, decision: Decision) -> str:
        if decision.cache == "edge":
            return refusal_in_words(decision)
        if decision.cache == "pass":
            return PASSED[decision.reason]
        return "what an empty store says; a fresh response would be a hit"

    def _route(self, decision: Decision, policy: CachePolicy) -> dict[str, Any]:
        return {
            "id": policy.id,
            "at": _line_of(policy),
            "path": policy.path,
            "version": policy.version,
            "data_class": policy.data_class.value,
            "passed_over": [
                {
                    "id": passed.policy.id,
                    "at": _line_of(passed.policy),
                    "path": passed.policy.path,
                    "segment": passed.mismatch.segment,
                    "why": in_words(passed.mismatch),
                }
                for passed in decision.passed_over
            ],
        }

    def _visitor(self, decision: Decision, visitor: Visitor, request: Request) -> dict[str, Any]:
        country = {"value": visitor.country, "from": visitor.source}
        if decision.visitor is None:
            return {"country": country, "market": None}
        market, source = decision.visitor
        at = self._market_place("markets", market.id, "countries")
        if source is MarketSource.SWITCHER:
            why, at = f"cookie {MARKET_COOKIE}, of the market switcher", None
        elif source is MarketSource.CRAWLER:
            why, at = "a crawler's user agent: the default market", self._market_place("default")
        elif source is MarketSource.COUNTRY:
            why = f"country {decision.country}"
        else:
            why, at = f"default: no market names {decision.country}", self._market_place("default")
        return {
            "country": country,
            "market": {"value": market.id, "from": why, "at": at},
        }

    def _market(self, decision: Decision) -> dict[str, Any] | None:
        """The market whose prices and habits the answer follows; None where the address has none."""
        if decision.market:
            market = self.policies.markets.by_id(decision.market)
            source = "the address"
        elif decision.location and decision.visitor is not None:
            market, source = decision.visitor.market, "the redirect"
        else:
            return None
        assert market is not None
        return {
            "value": market.id,
            "from": source,
            "at": self._market_place("markets", market.id),
            **{
                name: {"value": value, "at": self._market_place("markets", market.id, name)}
                for name, value in (
                    ("currency", market.currency),
                    ("language", market.language),
                    ("tax_display", market.tax_display.value),
                    ("jurisdiction", market.jurisdiction),
                )
            },
            "price_list": self._price_list(market),
        }

    def _price_list(self, market: Market) -> dict[str, Any]:
        markets = self.policies.markets
        rounding = markets.rounding_of(market.currency)
        if rounding.ending is not None:
            how = f"then to the nearest price that ends in {rounding.ending} minor units"
        elif rounding.step != 1:
            how = f"then to whole steps of {rounding.step} minor units, half a step up"
        else:
            how = "rounded half up to the digits of its currency"
        return {
            "value": f"prices set for {market.id}; else base price x rate to {market.currency}, {how}",
            "at": self._market_place("currencies", market.currency),
        }

    def _key(self, decision: Decision, key: CacheKey, plain: Mapping[str, Any]) -> dict[str, Any]:
        assert decision.match is not None
        policy, request = decision.match.policy, decision.request
        said_by = "the address" if "host" not in request.headers else "the field Host"
        parts = [
            {"part": "authority", "value": key.authority or None, "from": said_by if key.authority else "any host"},
            {"part": "path", "value": key.path, "from": "the address"},
        ]
        listed = self.at(policy, "query")["at"]
        if policy.query == ALL_QUERY:
            parts += [{"part": "query", "value": text, "from": f"as received, by {listed}"} for _, text in key.query]
        else:
            parts += [
                {"part": f"query {name}", "value": value, "from": f"listed by {listed}"} for name, value in key.query
            ]
        if key.market:
            parts.append({"part": "market", "value": key.market, "from": f"{{market}} in {policy.path}"})
        written = self.at(policy, "vary")["at"]
        variant: list[dict[str, str | None]]
        if policy.vary == ALL:
            variant = [{"field": "what the answer's Vary names", "value": "unknown offline", "from": f"by {written}"}]
        else:
            variant = [
                {"field": name, "value": request.headers.joined(name), "from": f"listed by {written}"}
                for name in policy.vary
            ]
        return {"parts": parts, "variant": variant, "digest": plain["key"]["digest"]}

    def _store(self, decision: Decision, policy: CachePolicy) -> dict[str, Any]:
        if decision.cache == "edge":
            return {"storable": False, "reason": decision.reason, "why": "the edge answers it itself", "at": None}
        reason = decision.do_not_store
        if reason is None:
            labels = "Catalog-Version" if policy.tags else "Catalog-Version and Cache-Tag"
            why = f"if it carries {labels} (where the origin keeps the purge log), and no Set-Cookie"
            if policy.any_status:
                why += "; of any status that states its freshness"
            return {"storable": True, "reason": None, "why": why, "at": _line_of(policy)}
        name = {"personal-data": "data_class", "policy-never-stores": "store"}.get(reason.value)
        at = _line_of(policy) if name is None else self.at(policy, name)["at"] or _line_of(policy)
        return {"storable": False, "reason": reason.value, "why": NOT_STORED.get(reason.value, ""), "at": at}

    def _lifetimes(self, decision: Decision, policy: CachePolicy, *, answered: bool) -> dict[str, Any] | None:
        if decision.ceiling is None:
            return None
        _, kept = decision.kept[0]
        found: dict[str, Any] = {}
        for name, attribute, below in _LIFETIMES:
            value = getattr(decision.ceiling if below else kept, attribute)
            at = self.at(policy, name)
            if below and at["at"] is None:
                by = "heuristic" if name == "max_fresh" and policy.heuristic_percent else below
                at = {"from": f"as {below}" if by == below else f"with {by}", "at": self.at(policy, by)["at"]}
            if answered and not below and name != "keep" and value != getattr(policy, attribute):
                at = {"from": "the origin's answer", "at": None}
            found[name] = {"seconds": value, **at}
        found["heuristic"] = {"percent": policy.heuristic_percent, **self.at(policy, "heuristic")}
        negative = self.at(policy, "negative")
        found["negative"] = [
            {"status": status, "seconds": lived.fresh_s, **negative} for status, lived in decision.kept[1:]
        ]
        found["proposed"] = "in this" if answered else "unknown offline: it may be shorter, or longer up to max_fresh"
        return found

    def _tags(self, decision: Decision, policy: CachePolicy, *, answered: bool) -> dict[str, Any]:
        at = self.at(policy, "tags")["at"]
        return {
            "values": [{"tag": tag, "at": at} for tag in decision.tags],
            "of_the_origin": "in the list" if answered else "unknown offline: Cache-Tag of its answer",
            "limit": MAX_TAGS_PER_RESPONSE,
        }

    def _viewer(self, policy: CachePolicy) -> dict[str, Any]:
        vary = ["any"] if policy.vary == ALL else list(policy.vary)
        if policy.compress:
            vary.append("accept-encoding")
        return {
            "cache_control": {
                "value": policy.viewer_cache_control or "the origin's",
                **self.at(policy, "shows_price"),
            },
            "vary": {"value": vary, **self.at(policy, "compress" if policy.compress and not policy.vary else "vary")},
        }

    def _rules(self, decision: Decision, policy: CachePolicy) -> dict[str, Any]:
        placed = place(policy, decision.market, decision.country, self.policies.markets, self.policies.origins)
        residency = {"value": policy.residency.value, **self.at(policy, "residency")}
        if policy.residency is not Residency.NONE:
            residency["why"] = (
                placed.why.value if isinstance(placed, Unplaced) else f"{placed.origin.name} lists the jurisdiction"
            )
        origin: dict[str, Any] = {"value": None, **self.at(policy, "origin")}
        if not isinstance(placed, Unplaced):
            origin["value"] = placed.origin.name
            origin["reads_fail_over_to"] = placed.fail_over.name if placed.fail_over else None
        throttle = policy.throttle
        return {
            "auth": {"value": policy.auth.value, "effect": AUTH[policy.auth], **self.at(policy, "auth")},
            "throttle": {
                "value": None
                if throttle is None
                else {"rate_per_s": throttle.rate_per_s, "burst": throttle.burst, "counted_by": "client address"},
                **self.at(policy, "throttle"),
            },
            "request_directives": {
                "value": "honour" if policy.honour_request else "ignore",
                **self.at(policy, "request_directives"),
            },
            "residency": residency,
            "origin": origin,
            "blocked": {"value": list(policy.blocked_countries), **self.at(policy, "blocked_countries")},
            "on_lease_lapse": {"value": policy.on_lease_lapse.value, **self.at(policy, "on_lease_lapse")},
        }

    @cached_property
    def cloudfront(self) -> CloudFront:
        """What the compiler makes of these policies."""
        return CloudFront(self.policies)


def _target(path: str, query: str) -> str:
    return f"{path}?{query}" if query else path


def _line(place: Place) -> str:
    return f"{place.file}:{place.line}"


def _line_of(policy: CachePolicy) -> str:
    """file:line of where a route was written."""
    return policy.where.rpartition(":")[0]


def pairs_of(lines: Sequence[str], cookies: Sequence[str] = ()) -> tuple[tuple[str, str], ...]:
    """Fields as the command line takes them: `K: V` each, and cookies `a=b` joined into one field.

    Raises CommandError for a line without a colon.
    """
    fields = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise CommandError(f"{line!r} is no field: expected 'Name: value', in quotes")
        fields.append((name.strip(), value.strip()))
    if cookies:
        fields.append(("cookie", "; ".join(cookies)))
    return tuple(fields)
