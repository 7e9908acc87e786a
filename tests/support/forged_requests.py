"""Requests whose clients say that they are somebody else, somewhere else: the same ones for every edge.

Each has an address that it really comes from, the country of that address, and the market that `/` must lead to: by the
switcher's cookie where it holds a market, else by the country. Nothing else that a client writes may move it.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cache_policies.markets import Markets

COUNT = 500
SEED = 4

VISITORS: Mapping[str, str] = MappingProxyType(
    {
        "203.0.113.9": "DE",
        "203.0.113.77": "NO",
        "198.51.100.12": "US",
        "198.51.100.200": "JP",
        "192.0.2.33": "BR",
        "192.0.2.99": "ZZ",
        "2a02:db8:1::7": "GB",
        "2a02:db8:2:3:4:5:6:7": "CA",
        "2a02:db8:3::1": "SG",
        "2a02:db8:4::ffff": "ZZ",
    }
)
"""Where the requests really come from: countries that markets name, one that none does (BR), and unknown (ZZ)."""

COUNTRY_FIELDS = (
    "CF-IPCountry",
    "CF-IPContinent",
    "CloudFront-Viewer-Country",
    "CloudFront-Viewer-Country-Name",
    "CloudFront-Viewer-Country-Region",
    "Nearshelf-Country",
    "Nearshelf-Market",
    "X-Country",
    "X-Country-Code",
    "X-CountryCode",
    "X-Client-Country",
    "X-Client-Geo-Location",
    "X-Viewer-Country",
    "X-Geo-Country",
    "X-GeoIP-Country",
    "X-GeoIP-Country-Code",
    "GEOIP_COUNTRY_CODE",
    "GeoIP-Country-Code",
    "X-AppEngine-Country",
    "X-Appengine-Region",
    "X-Vercel-IP-Country",
    "X-CDN-Country",
    "X-Fastly-Country-Code",
    "Fastly-Geo-Country",
    "Client-Geo-Country",
    "X-Azure-Country",
    "X-Bunny-Country",
    "CDN-RequestCountryCode",
    "X-Market",
    "Market",
    "Country",
)
"""What content delivery networks, and people who read their documentation, call the visitor's country."""

ADDRESS_FIELDS = (
    "X-Forwarded-For",
    "X-Real-IP",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "X-Original-Forwarded-For",
    "X-Forwarded",
    "Forwarded-For",
    "Forwarded",
    "True-Client-IP",
    "CF-Connecting-IP",
    "CF-Connecting-IPv6",
    "Fastly-Client-IP",
    "X-Azure-ClientIP",
    "X-Appengine-User-IP",
    "CloudFront-Viewer-Address",
    "Nearshelf-Client",
    "X-Remote-Addr",
    "Client-IP",
    "Via",
)
"""What they call its address."""

FORGED_ADDRESSES = (
    *VISITORS,
    "133.1.1.1",
    "8.8.8.8",
    "127.0.0.1",
    "10.0.0.1",
    "::1",
    "::ffff:133.1.1.1",
    "::FFFF:8501:101",
    "[2a02:db8:1::7]",
    "[2a02:db8:1::7]:443",
    "133.1.1.1:51234",
    "fe80::1%eth0",
    "2A02:DB8:1:0:0:0:0:7",
    "0:0:0:0:0:ffff:203.0.113.9",
    "64:ff9b::cb00:7109",
    "unknown",
    "_hidden",
    "",
    " ",
    "localhost",
    "1.2.3",
    "256.256.256.256",
    "0x7f000001",
    "2130706433",
    "010.0.0.1",
    "203.0.113.9, ",
    '"[2001:db8:cafe::17]:4711"',
    "999999999999999999999",
    "\xe4\xf6",
)
"""IPv4 and IPv6 in every form, readable and not, of visitors, of hops and of nobody."""


@dataclass(frozen=True, slots=True)
class ForgedRequest:
    """One request as its client sends it, and what is true of it."""

    number: int
    target: str
    lines: tuple[tuple[str, str], ...]
    """Fields but Host, in the client's spelling and order; names may come twice, values are Latin-1."""
    address: str
    """Where it really comes from, in one spelling: a key of VISITORS."""
    country: str
    """Of that address; ZZ: unknown."""
    switched: str
    """The market that the switcher's cookie holds; empty without one."""
    market: str
    """Id of the market that `/` must lead to."""
    claimed: tuple[str, ...]
    """Countries that its fields claim."""


def forged_requests(markets: Markets, count: int = COUNT, seed: int = SEED) -> tuple[ForgedRequest, ...]:
    """The same `count` requests for the same `seed` and markets, on any machine."""
    chosen = random.Random(seed)
    return tuple(_one(number, chosen, markets) for number in range(count))


def _one(number: int, chosen: random.Random, markets: Markets) -> ForgedRequest:
    address = chosen.choice(list(VISITORS))
    country = VISITORS[address]
    countries = [code for market in markets.all for code in market.countries[:3]]
    claimed: list[str] = []
    lines: list[tuple[str, str]] = []

    def country_line() -> tuple[str, str]:
        claim = chosen.choice(countries)
        claimed.append(claim)
        value = chosen.choice([claim, claim, claim, claim.lower(), f" {claim} ", f"{claim}, {country}", f'"{claim}"'])
        return _spelled(chosen, chosen.choice(COUNTRY_FIELDS)), value

    def address_line() -> tuple[str, str]:
        name = chosen.choice([*ADDRESS_FIELDS, "X-Forwarded-For", "X-Forwarded-For", "Forwarded"])
        addresses = chosen.choices(FORGED_ADDRESSES, k=chosen.randrange(1, 5))
        claimed.extend(VISITORS[each] for each in addresses if VISITORS.get(each, "ZZ") != "ZZ")
        if name == "Forwarded":
            value = ", ".join(f'for="{each}";proto=https' for each in addresses)
        elif name == "Via":
            value = "1.1 nearshelf, 2.0 cloudfront"
        else:
            value = chosen.choice([", ", ",", " ,\t"]).join(addresses)
        return _spelled(chosen, name), value

    # Each field of either kind by its turn, so that none is left out, and more by chance.
    lines.append((_spelled(chosen, COUNTRY_FIELDS[number % len(COUNTRY_FIELDS)]), chosen.choice(countries)))
    claimed.append(lines[0][1])
    lines.extend(country_line() for _ in range(chosen.randrange(3)))
    lines.extend(address_line() for _ in range(chosen.randrange(1, 4)))
    if chosen.random() < 0.1:
        place = base64.b64encode(json.dumps({"country": {"code": "JP"}}).encode()).decode()
        lines.append(("X-NF-Geo", place))
    chosen.shuffle(lines)

    switched = chosen.choice(markets.all).id if chosen.random() < 0.25 else ""
    cookies = chosen.sample(
        ["country=JP", "ns_country=JP", "market=jp-jpy", "NS_MARKET=jp-jpy", "xns_market=gb-gbp"], k=2
    )
    if switched:
        cookies.append(f"ns_market={switched}")
    elif chosen.random() < 0.3:
        cookies.append(
            chosen.choice(["ns_market=", "ns_market=xx-xxx", "ns_market=JP", "ns_market=JP-JPY", "ns_market=/"])
        )
    chosen.shuffle(cookies)
    if switched or chosen.random() < 0.5:
        lines.append(("Cookie", "; ".join(cookies)))
    lines.append(("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)"))
    lines.append(("Accept-Language", chosen.choice(["ja-JP", "de-DE,de;q=0.9", "en-GB", "fr-CA"])))
    return ForgedRequest(
        number=number,
        target=chosen.choice(["/", "/", "/?country=JP", "/?market=jp-jpy&ns_market=jp-jpy", "/?cf-ipcountry=JP"]),
        lines=tuple(lines),
        address=address,
        country=country,
        switched=switched,
        market=switched or markets.for_country(country).id,
        claimed=tuple(claimed),
    )


def _spelled(chosen: random.Random, name: str) -> str:
    return chosen.choice([name, name.lower(), name.upper()])
