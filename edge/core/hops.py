"""Who a visitor is when trusted hops stand in front: the right-most address that none of them answers for.

A hop appends the address of whoever spoke to it to X-Forwarded-For, so that only what trusted hops wrote themselves
counts, read from the right. Everything left of it is what the client says about itself, and nobody reads it. Forwarded
(RFC 7239) is not read at all: two fields that say the same are two chances to be told something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

FORWARDED_FOR_FIELD = "x-forwarded-for"
CLIENT_PREFIX_V6 = 64
"""What one subscriber has of IPv6, at the least: whoever is counted by single addresses is not counted at all."""

_PORT = r"(?::[0-9]{1,5})?"
_WITH_PORT = re.compile(rf"([0-9.]+){_PORT}|\[([0-9A-Fa-f:.]+)(?:%[0-9A-Za-z._~-]+)?\]{_PORT}")
_V6 = re.compile(r"([0-9A-Fa-f:.]+)(?:%[0-9A-Za-z._~-]+)?")
_MAX_CHARACTERS = 80
"""An IPv6 address with brackets, zone id and port; what is longer is none, and not remembered either."""
_CARRY_IPV4 = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))
"""IPv4 mapped into IPv6 (RFC 4291 §2.5.5.2), and what a translator makes of it (RFC 6052 §2.1): the last 32 bits."""


class TrustedHops:
    """Networks whose hosts write X-Forwarded-For truthfully. Immutable; a look-up costs as many steps as there are
    different prefix lengths, however many networks there are."""

    __slots__ = ("_by_length", "networks")

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self.networks: tuple[Network, ...] = tuple(networks)
        by_length: dict[tuple[int, int], set[int]] = {}
        for network in self.networks:
            host_bits = network.max_prefixlen - network.prefixlen
            by_length.setdefault((network.version, host_bits), set()).add(int(network.network_address) >> host_bits)
        self._by_length = [(version, bits, frozenset(found)) for (version, bits), found in by_length.items()]

    @classmethod
    def parse(cls, texts: Iterable[str]) -> TrustedHops:
        """Networks in CIDR notation, or single addresses. Raises ValueError saying what is wrong with which.

        What takes in every address, alone or together, is refused: each visitor could then say where it comes from.
        """
        networks: list[Network] = []
        for text in texts:
            try:
                network = ip_network(text)
            except ValueError as exc:
                raise ValueError(f"{exc}; expected a network such as 10.0.0.0/8 or 2001:db8::/32") from None
            if isinstance(network, IPv6Network) and any(map(network.subnet_of, _CARRY_IPV4)):
                network = IPv4Network((int(network.network_address) & 0xFFFF_FFFF, network.prefixlen - 96))
            if network.prefixlen == 0:
                raise ValueError(f"{text} takes in every address, so that visitors could choose their country")
            networks.append(network)
        v4 = [network for network in networks if isinstance(network, IPv4Network)]
        v6 = [network for network in networks if isinstance(network, IPv6Network)]
        for of_kind, collapsed in ((v4, collapse_addresses(v4)), (v6, collapse_addresses(v6))):
            if any(network.prefixlen == 0 for network in collapsed):
                listed = ", ".join(map(str, of_kind))
                raise ValueError(
                    f"{listed} together take in every address, so that visitors could choose their country"
                )
        return cls(networks)

    def __bool__(self) -> bool:
        return bool(self.networks)

    def __contains__(self, address: Address) -> bool:
        number, of_version = int(address), address.version
        return any(version == of_version and number >> bits in found for version, bits, found in self._by_length)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrustedHops) and other.networks == self.networks

    def __hash__(self) -> int:
        return hash(self.networks)

    def __repr__(self) -> str:
        return f"TrustedHops({', '.join(map(str, self.networks))})"


def client_address(peer: str, forwarded_for_lines: Iterable[str], trusted: TrustedHops) -> str | None:
    """The address of the client in its one spelling; None when nobody who is trusted can say it.

    `peer` is the socket's other end; unless it is trusted, it is the client. Else the lines of X-Forwarded-For, joined
    in their order, are walked from the right over trusted hops to the first address that is none of them. A member
    that cannot be read ends the walk with None, and so does a list without such an address: what stands further left
    may be anybody's word. Empty members are no members (RFC 9110 §5.6.1).
    """
    address = parse_address(peer)
    if address is None or address not in trusted:
        return None if address is None else str(address)
    for member in reversed(",".join(forwarded_for_lines).split(",")):
        text = member.strip(" \t")
        if not text:
            continue
        address = parse_address(text)
        if address is None:
            return None
        if address not in trusted:
            return str(address)
    return None


def parse_address(text: str) -> Address | None:
    """The address in a member of X-Forwarded-For, or of a socket; None when it is none.

    As hops write them: IPv4 and IPv6, in brackets or not, with a port or not, IPv6 with a zone id, which means nothing
    to anybody else and is left out. IPv4 that IPv6 carries (`_CARRY_IPV4`) is IPv4. IPv4 is four decimal numbers
    without leading zeros.
    """
    return _parsed(text) if len(text) <= _MAX_CHARACTERS else None


@lru_cache(4_096)
def _parsed(text: str) -> Address | None:
    found = _WITH_PORT.fullmatch(text)
    if found is not None:
        plain, bracketed = found[1], found[2]
    else:
        v6 = _V6.fullmatch(text)
        if v6 is None:
            return None
        plain, bracketed = None, v6[1]
    try:
        if plain is not None:
            return IPv4Address(plain)
        address = IPv6Address(bracketed)
    except ValueError:
        return None
    if any(address in network for network in _CARRY_IPV4):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


@lru_cache(4_096)
def counted_as(address: str) -> str:
    """By what a client at `address`, in its one spelling, is counted: itself, or the /64 of an IPv6 address."""
    if ":" not in address:
        return address
    return str(IPv6Network((address, CLIENT_PREFIX_V6), strict=False))
