"""Which origin a request may be sent to, and which one its read may fail over to.

Personal data of a route with a residency rule reaches only origins that list the jurisdiction of the request's market:
nobody else, not even when nobody else answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cache_policies.market_values import Markets
from cache_policies.origins import Origin, Origins
from edge.core.policy import CachePolicy, Residency


class Why(StrEnum):
    """Why a request may be sent to nobody: the `detail` of the edge's 503."""

    RESIDENCY = "residency"
    """No origin lists the jurisdiction of its market."""
    NO_VAULT = "no-vault"
    """The route wants personal fields replaced or encrypted by the jurisdiction's vault, and there is none."""


UNPLACED_WORDS = "This is not available for this market at the moment."
"""What a visitor is told with that 503."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Who is asked."""

    origin: Origin
    fail_over: Origin | None = None
    """Who is asked when a GET or HEAD got no usable answer from `origin`; None: nobody. Writes never fail over."""


@dataclass(frozen=True, slots=True)
class Unplaced:
    """The request must not leave the edge: 503, not to be stored."""

    why: Why


def place(policy: CachePolicy, market_id: str, country: str, markets: Markets, origins: Origins) -> Placed | Unplaced:
    """Who may be asked for a request of `policy`.

    `market_id` is the market in the path, empty where the pattern has none; then `country` (two capital letters, ZZ
    when unknown) decides, as it does for the entry page: whom no market names is a customer of the default one. What a
    visitor chose in the market switcher plays no part.
    """
    if policy.residency in {Residency.TOKENISE, Residency.SEAL}:
        return Unplaced(Why.NO_VAULT)
    origin = _declared(origins, policy.origin)
    if policy.residency is Residency.NONE:
        return Placed(origin, _fail_over(origin, origins))
    market = markets.by_id(market_id) if market_id else markets.for_country(country)
    if market is None:
        return Unplaced(Why.RESIDENCY)
    jurisdiction = market.jurisdiction
    holder = origin if jurisdiction in origin.jurisdictions else origins.for_jurisdiction(jurisdiction)
    if holder is None:
        return Unplaced(Why.RESIDENCY)
    second = _fail_over(holder, origins)
    return Placed(holder, second if second is not None and jurisdiction in second.jurisdictions else None)


def _fail_over(origin: Origin, origins: Origins) -> Origin | None:
    return _declared(origins, origin.reads_fail_over_to) if origin.reads_fail_over_to else None


def _declared(origins: Origins, name: str) -> Origin:
    origin = origins.by_name(name)
    assert origin is not None, f"the reader of policies lets no origin {name!r} pass that is not declared"
    return origin
