"""Requests made of the policies' own patterns, and what the origin says to them: the same for the same seed.

Some are what browsers send; others say that they are somebody else, or are spelled so that two readers might disagree.
Nothing here knows how an edge decides.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from email.utils import formatdate

from edge.core.policy import ALL_QUERY, CachePolicy, PolicySet
from tests.support.cloudfront_reader.stack import DOMAIN
from tests.support.edge_shop import WALL
from tests.support.forged_requests import COUNTRY_FIELDS
from tests.support.scripted_origin import Reply

SHOP = "shop.example"
HOSTS = (*(SHOP,) * 8, SHOP.upper(), DOMAIN)
OTHER_HOSTS = ("other.example", "shop.example.", f"{SHOP}:8443")

NAMES = ("oak-lamp", "SKU-1", "sku-1", "caf%C3%A9", "caf%c3%a9", "a.b", "%6cight", "%C3%84", "a&b=(c)", "~x", "a%252Fb")
ODD = ("..", ".", "%2e%2E", "a%2Fb", "a%5cb", "a\\b", "a%00", "a%4", "", "%FF", "b{c}", '"', "a%7Fb")
STRANGE_MARKETS = ("xx-xxx", "EU-EUR", "eu-EUR", "de-eur", "e%75-eur", "eu-eur%20")
STRANGE_PATHS = (
    "/", "//", "/..", "/./", "/robots.txt", "/%6civez", "/console/%2e%2e/livez", "/art/0/1/2/3", "/eu-eur", "/eu-eur//",
    "/api/v1/eu-eur/prices/a/b", "/api/v1/xx-xxx/prices/a", "/eu-eur/products/a/b", "/eu-eur/c", "/eu-eur/c/",
)  # fmt: skip
VALUES = ("2", "price", "a+b", "a%20b", "%C3%A4", "%FF", "%", "%0a", "", "a=b", "%26", "%3D", "'()*!", "~", "<", "[1]")
NOISE = ("utm_source=mail", "gclid", "PAGE=2", "%FF=1", "constructor=1", "%70age=3", "", "a=%FF", "so%72t=x")
METHODS = (*("GET",) * 12, "HEAD", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
AGENTS = ("Mozilla/5.0 (X11; Linux x86_64)", "Mozilla/5.0 (compatible; Googlebot/2.1)", "curl/8", "BingBot")
CODINGS = ("gzip", "gzip, deflate, br", "br", "identity", "gzip;q=0", "deflate")
COOKIES = (
    "ns_market=gb-gbp", "ns_market=jp-jpy", "ns_market=xx-xxx", "ns_market=", 'ns_market="eu-eur"', "NS_MARKET=eu-eur",
    "a=b", "ns_cart=1", "constructor=x", "a=b=c",
)  # fmt: skip
UNITS = ("metric", "Metric", "metric ", "imperial", "imperial,metric", "imperial, metric")
COUNTRIES = ("DE", "FR", "US", "JP", "BR", "KP", "SY", "GB", "NO", "SG")
PROPOSALS = (
    "", "", "max-age=20", "max-age=100000", "max-age=400, stale-while-revalidate=5", "max-age=60, stale-if-error=0",
    "max-age=0", "no-store", "private", "no-cache", "max-age=30, must-revalidate",
)  # fmt: skip
TO_VIEWERS = ("no-cache", "no-cache", "private, no-store", "public, max-age=60", "", "max-age=0, s-maxage=300")


@dataclass(frozen=True)
class Generated:
    """One request as a viewer sends it."""

    method: str
    target: str
    lines: tuple[tuple[str, str], ...]
    """Fields but Host, in lower case."""
    host: str
    country: str
    """Where it really comes from; empty: nobody knows."""
    ip: str
    """Its own, so that no throttle counts two together."""

    def __str__(self) -> str:
        return f"{self.method} {self.target} {dict(self.lines)} {self.host} from {self.country or 'nowhere'}"


def generated_requests(policies: PolicySet, count: int, seed: int) -> list[Generated]:
    rng = random.Random(seed)
    return [_one(policies, rng, number) for number in range(count)]


def _one(policies: PolicySet, rng: random.Random, number: int) -> Generated:
    policy = policies.policies[number % len(policies.policies)]
    path = rng.choice(STRANGE_PATHS) if rng.random() < 0.05 else _path(policy, policies, rng)
    query = _query(policy, rng)
    ip = f"198.18.{number >> 8 & 255}.{number & 255}" if rng.random() < 0.8 else f"2001:db8:{number:x}::7"
    return Generated(
        rng.choice(METHODS),
        f"{path}?{query}" if query or rng.random() < 0.02 else path,
        _lines(policy, rng),
        rng.choice(OTHER_HOSTS) if rng.random() < 0.02 else rng.choice(HOSTS),
        rng.choice(COUNTRIES) if rng.random() < 0.8 else "",
        ip,
    )


def _path(policy: CachePolicy, policies: PolicySet, rng: random.Random) -> str:
    def filled(hole: re.Match[str]) -> str:
        if hole[1] == "market":
            return rng.choice(STRANGE_MARKETS) if rng.random() < 0.06 else rng.choice(policies.markets.all).id
        many = rng.choice([1, 1, 2, 3]) if hole[2] or rng.random() < 0.04 else 1
        return "/".join(_name(rng) for _ in range(many))

    path = re.sub(r"\{([a-z_]+)(\.\.\.)?\}", filled, policy.path)
    if rng.random() < 0.02:
        path += "/"
    return path


def _name(rng: random.Random) -> str:
    if rng.random() < 0.06:
        return rng.choice(ODD)
    return rng.choice(NAMES) if rng.random() < 0.5 else f"item-{rng.randrange(30)}"


def _query(policy: CachePolicy, rng: random.Random) -> str:
    if rng.random() < 0.45:
        return ""
    names = ("page", "sort", "variant") if policy.query in {(), ALL_QUERY} else policy.query
    pairs = [f"{rng.choice(names)}={rng.choice(VALUES)}" for _ in range(rng.choice([0, 1, 1, 1, 2, 2, 3]))]
    pairs += rng.sample(NOISE, rng.choice([0, 0, 1, 2]))
    rng.shuffle(pairs)
    return "&".join(pairs)


def _lines(policy: CachePolicy, rng: random.Random) -> tuple[tuple[str, str], ...]:
    lines: list[tuple[str, str]] = []

    def maybe(chance: float, name: str, values: tuple[str, ...]) -> None:
        if rng.random() < chance:
            lines.append((name, rng.choice(values)))

    maybe(0.3, "user-agent", AGENTS)
    maybe(0.25, "accept-encoding", CODINGS)
    maybe(0.5 if policy.auth != "none" else 0.1, "authorization", ("Bearer somebody", "Basic x"))
    maybe(0.5 if "x-unit-system" in policy.vary else 0.05, "x-unit-system", UNITS)
    maybe(0.1, "accept-language", ("de-AT, de;q=0.8", "ja"))
    maybe(0.1, "if-none-match", ('"v1"', 'W/"v1"', '"v2"', "*"))
    maybe(0.1, "content-type", ("application/json",))
    maybe(0.1, "x-csrf-token", ("t",))
    maybe(0.05, "traceparent", ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",))
    maybe(0.05, "cache-control", ("no-cache", "max-age=0", "only-if-cached"))
    if rng.random() < 0.15:
        lines.append((rng.choice(COUNTRY_FIELDS).lower(), rng.choice(COUNTRIES)))
    maybe(0.1, "x-forwarded-for", ("133.1.1.1", "8.8.8.8, ::1"))
    maybe(0.05, "x-forwarded-host", ("evil.example",))
    maybe(0.05, "nearshelf-generation", ("9.9", "none"))
    maybe(0.05, "nearshelf-edge-key", ("guess",))
    maybe(0.05, "min-catalog-version", ("9.9",))
    if rng.random() < 0.3:
        cookies = rng.choices(COOKIES, k=rng.choice([1, 2, 3]))
        lines.append(("cookie", "; ".join(cookies)))
    return tuple(lines)


def answer_to(path: str, origin: str, wall: float = WALL) -> Reply:
    """What an origin says to a path at `wall`: every kind of answer, by chance, but always the same."""
    rng = random.Random(path)
    if rng.random() < 0.2 and origin == "shop":
        return Reply(b"broken here", rng.choice([500, 502, 503, 504]), {"cache-control": "no-store"})
    status = rng.choice([200, 200, 200, 200, 404, 410, 301, 302, 403, 500, 503])
    fields = {"catalog-version": "1.5", "cache-tag": f"t:{rng.randint(1, 9)}, all:things", "etag": '"v1"'}
    fields["content-type"] = rng.choice(["text/html; charset=utf-8", "application/json", "image/png"])
    fields["date"] = formatdate(wall, usegmt=True)
    for name, values in (("cdn-cache-control", PROPOSALS), ("cache-control", TO_VIEWERS)):
        value = rng.choice(values)
        if value:
            fields[name] = value
    if status in {301, 302}:
        fields["location"] = "/elsewhere"
    if rng.random() < 0.4:
        fields |= rng.choice(
            [
                {"set-cookie": "a=b; Path=/; Secure"}, {"vary": "cookie"}, {"vary": "x-unit-system"}, {"age": "7"},
                {"nearshelf-expires-at": str(int(wall) + 33)}, {"nearshelf-expires-at": str(int(wall) - 3)},
                {"expires": formatdate(wall + 90, usegmt=True)}, {"catalog-version": "none"}, {"cache-tag": ""},
                {"cache-tag": "Capital"}, {"vary": "*"}, {"nearshelf-anything": "1"}, {"x-own": "1"}, {"etag": 'W/"w"'},
                {"last-modified": formatdate(wall - 90, usegmt=True)}, {"content-encoding": "gzip"},
            ]
        )  # fmt: skip
    fields = {name: value for name, value in fields.items() if value}
    body = b"<p>hello</p>" * rng.choice([1, 1, 200])
    return Reply(body, status, fields, until_close=rng.random() < 0.03, chunked=rng.random() < 0.1)
