"""Where a visitor is: by the socket's other end, or by what trusted hops say; never by what a client says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import iptocc
import maxminddb

from cache_policies.market_values import UNKNOWN_COUNTRY
from edge.core.hops import FORWARDED_FOR_FIELD, TrustedHops, client_address, counted_as, parse_address

_COUNTRY = re.compile(r"[A-Z]{2}")
_NETWORKS_TRIED = 1_000
"""Of an operator's database when it is opened: one that names no country in these names none."""

CountryOf = Callable[[str], str]
"""The country of an address in its one spelling: two capital letters, or UNKNOWN_COUNTRY."""


class Visitor(NamedTuple):
    """Who sent a request, as far as anybody who is trusted can say."""

    address: str
    """In its one spelling; empty when unknown."""
    country: str
    counted_as: str
    """Whom a throttle counts: the address, the /64 of an IPv6 one, the trusted hop itself when it did not say."""


class Connection(Protocol):
    """What is looked at of a viewer's connection."""

    peer: str
    visitor: Visitor | None
    """Kept for the connection's life where the other end speaks for itself alone."""


class Visitors:
    """`country_field`: name of the field, lower case, in which every trusted hop writes the country; empty: countries
    come from addresses, by `country_of`."""

    def __init__(self, trusted: TrustedHops, country_of: CountryOf, country_field: str = "") -> None:
        self._trusted = trusted
        self._country_of = country_of
        self._country_field = country_field.encode()

    def of(self, viewer: Connection, fields: Iterable[tuple[bytes, bytes]]) -> Visitor:
        """Who sent a request with these `fields`, as they came off the wire. One look-up for each connection, for each
        request where the other end is a trusted hop."""
        if viewer.visitor is not None:
            return viewer.visitor
        peer = parse_address(viewer.peer)
        if peer is None or peer not in self._trusted:
            visitor = viewer.visitor = self._at("" if peer is None else str(peer), viewer.peer)
            return visitor
        named: dict[bytes, list[str]] = {FORWARDED_FOR_FIELD.encode(): [], self._country_field: []}
        for name, value in fields:
            lines = named.get(name.lower())
            if lines is not None:
                lines.append(value.decode("latin-1").strip(" \t"))
        address = client_address(viewer.peer, named[FORWARDED_FOR_FIELD.encode()], self._trusted)
        visitor = self._at(address or "", viewer.peer)
        if not self._country_field:
            return visitor
        said = named[self._country_field]
        known = len(said) == 1 and _COUNTRY.fullmatch(said[0]) is not None
        return visitor._replace(country=said[0] if known else UNKNOWN_COUNTRY)

    def _at(self, address: str, peer: str) -> Visitor:
        if not address:
            return Visitor("", UNKNOWN_COUNTRY, peer)
        return Visitor(address, self._country_of(address), counted_as(address))


def registered_country(address: str) -> str:
    """Where `address` is registered, by the delegations of the five registries (iptocc)."""
    try:
        return iptocc.country_code(address) or UNKNOWN_COUNTRY
    except ValueError:
        return UNKNOWN_COUNTRY


def countries_of(path: Path) -> CountryOf:
    """Look-ups in an operator's MMDB. Raises ValueError saying why the file cannot be used.

    Known layouts: `country.iso_code` (GeoLite2, GeoIP2, DB-IP), `country_code` or `country` as text (IPinfo, others).
    """
    try:
        reader = maxminddb.open_database(path)
        names_some = any(_country_in(record) for _, record in islice(reader, _NETWORKS_TRIED))
    except OSError as exc:
        raise ValueError(f"cannot be read: {exc.strerror or exc}") from exc
    except (maxminddb.InvalidDatabaseError, ValueError) as exc:
        raise ValueError(f"is no usable MMDB file: {exc}") from exc
    if not names_some:
        kind = reader.metadata().database_type
        reader.close()
        raise ValueError(f"names no country, it is of the kind {kind}; expected one such as GeoLite2-Country")

    def country_of(address: str) -> str:
        try:
            return _country_in(reader.get(address)) or UNKNOWN_COUNTRY
        except (maxminddb.InvalidDatabaseError, ValueError):
            # A damaged record, or an IPv6 address where only IPv4 is known: nobody knows where that is.
            return UNKNOWN_COUNTRY

    return country_of


def _country_in(record: object) -> str:
    """The country that a record names; empty for none."""
    if not isinstance(record, dict):
        return ""
    country = record.get("country")
    code = country.get("iso_code") if isinstance(country, dict) else record.get("country_code", country)
    return code if isinstance(code, str) and _COUNTRY.fullmatch(code) else ""
