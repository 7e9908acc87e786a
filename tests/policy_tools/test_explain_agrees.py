"""`explain` and a running worker agree: 10,000 generated requests on real sockets, each held against its JSON."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache_policies.tags import is_path_tag
from edge.core.hops import TrustedHops
from edge.core.key import CacheKey
from infra.policy.explain import Asked, Explainer
from tests.policy_tools.shops import club_folder
from tests.support.edge_shop import EdgeShop
from tests.support.raw_http import RawViewer
from tests.support.scripted_origin import Reply, Seen

REQUESTS = 10_000
COUNTRY_FIELD = "cloudfront-viewer-country"

MARKETS = ("eu-eur", "us-usd", "gb-gbp", "jp-jpy")
NAMES = ("oak-lamp", "SKU-1", "caf%C3%A9", "a.b", "%6cight", "%C3%84", "a&b=(c)", "~x")
ODD = ("..", ".", "%2e%2E", "a%2Fb", "a%5cb", "a%00", "a%4", "", "%25", "b{c}", "a%252Fb")
SHAPES = (
    *("/", "/{m}/", "/{m}", "/{m}/c/{n}", "/{m}/c/{n}/{n}", "/{m}/products/{n}", "/{m}/products/{n}/"),
    *("/{m}/club/{n}", "/{m}/club/{n}", "/{m}/club/{n}/anything", "/{m}/club/{n}/anything"),
    *("/{m}/club/{n}/account", "/{m}/club/{n}/friends", "/{m}/club/{n}/letters/{n}"),
    *("/{m}/cart", "/{m}/cart/items", "/{m}/checkout", "/{m}/checkout/{n}", "/{m}/account", "/{m}/account/{n}"),
    *("/api/v1/{m}/prices/{n}", "/api/v1/{m}/stock/{n}", "/api/v1/{m}/products", "/api/v1/{m}/products/{n}"),
    *("/art/0123/{n}", "/static/0123/{n}", "/console", "/console/{n}", "/api/staff/v1/{n}", "/market"),
    *("/edge/v1/feed", "/livez", "/readyz", "/metrics", "/robots.txt", "/{n}/{n}", "/xx-xxx/c/{n}"),
)
PARAMETERS = (
    "page=2",
    "page=%32",
    "sort=price",
    "sort=a+b",
    "variant=S-1",
    "utm_source=mail",
    "gclid",
    "%70age=3",
    "x=%FF",
)
METHODS = ("GET", "GET", "GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
FIELDS = (
    ("Cookie", "ns_market=gb-gbp; a=b"),
    ("Cookie", "ns_market=xx-xxx"),
    ("User-Agent", "Mozilla/5.0 (compatible; Googlebot/2.1)"),
    ("Authorization", "Bearer somebody"),
    ("Accept-Language", "de-AT, de;q=0.8"),
    ("X-Whatever", "1"),
    ("Cache-Control", "no-cache"),
    ("Cache-Control", "no-store"),
    ("Cache-Control", "only-if-cached"),
)
COUNTRIES = ("DE", "FR", "US", "JP", "BR", "KP", "GB")
PROPOSALS = (
    "",
    "max-age=20",
    "max-age=100000",
    "max-age=400, stale-while-revalidate=5",
    "max-age=60, stale-if-error=0",
    "max-age=60, public",
)


@dataclass(frozen=True)
class Question:
    """One generated request."""

    method: str
    target: str
    fields: tuple[tuple[str, str], ...]
    country: str

    def asked(self, host: str) -> Asked:
        reply = answer_to(self.target)
        pairs = (("Host", host), *self.fields)
        return Asked(self.target, self.method, pairs, self.country, "", tuple(reply.headers.items()), reply.status)


def generated(rng: random.Random) -> Question:
    def filled(hole: re.Match[str]) -> str:
        if hole[0] == "{m}":
            return rng.choice(MARKETS)
        return rng.choice(ODD if rng.random() < 0.08 else NAMES)

    path = re.sub(r"\{.\}", filled, rng.choice(SHAPES))
    query = "&".join(rng.sample(PARAMETERS, rng.randint(1, 3))) if rng.random() < 0.5 else ""
    fields = tuple(rng.sample(FIELDS, rng.randint(1, 2))) if rng.random() < 0.4 else ()
    if len({name for name, _ in fields}) < len(fields):
        fields = fields[:1]
    country = rng.choice(COUNTRIES) if rng.random() < 0.6 else "ZZ"
    return Question(rng.choice(METHODS), f"{path}?{query}" if query else path, fields, country)


def answer_to(target: str) -> Reply:
    """What the origin says to the path of `target`: by the path alone, so that everybody knows it."""
    rng = random.Random(target.partition("?")[0])
    fields = {"catalog-version": "1.5", "cache-tag": f"t:{rng.randint(1, 9)}, all:things", "etag": '"v1"'}
    status = rng.choice([200, 200, 200, 404, 410, 301])
    proposal = rng.choice(PROPOSALS)
    if proposal:
        fields["cdn-cache-control"] = proposal
    if rng.random() < 0.1:
        fields |= rng.choice([{"set-cookie": "a=b"}, {"vary": "cookie"}, {"vary": "accept-language"}])
    return Reply(b"{}", status, fields)


class Told:
    """The origin answers the normalised target as explain was told for the one that was sent."""

    def __init__(self) -> None:
        self.target = "/"

    def __call__(self, seen: Seen) -> Reply:
        return answer_to(self.target)


async def ask(shop: EdgeShop, viewer: RawViewer, question: Question) -> tuple[RawViewer, int, str]:
    """Send one request; the viewer for the next one, the status and Location of the answer."""
    lines = [f"{name}: {value}" for name, value in question.fields]
    if question.country != "ZZ":
        lines.append(f"{COUNTRY_FIELD}: {question.country}")
    if question.method in {"POST", "PUT"}:
        lines.append("Content-Length: 0")
    viewer.get(question.target, shop.host, *lines, method=question.method)
    response = await viewer.response(to=question.method)
    if response.headers.get("connection") == "close":
        viewer.writer.transport.abort()
        viewer = await shop.viewer()
    return viewer, response.status, response.headers.get("location", "")


def disagreement(told: dict[str, Any], line: dict[str, Any], status: int, location: str, shop: EdgeShop) -> str:
    """Wherein the worker did otherwise than explain says; empty: in nothing."""
    outcome, route, key = told["outcome"], told["route"], told["key"]
    if line["route"] != ("-" if route is None or key is None else route["id"]):
        return f"route {line['route']}"
    reason = outcome["reason"]
    if outcome["cache"] == "miss" and not told["store"]["storable"]:
        # The answer of the origin may not be stored: then the reason is why.
        reason = told["store"]["reason"]
    if (line["cache"], line["reason"]) != (outcome["cache"], reason):
        return f"{line['cache']} {line['reason']}"
    if line.get("fwd") != outcome["fwd"]:
        return f"fwd {line.get('fwd')}"
    if outcome["status"] is not None and (status, location) != (outcome["status"], outcome["location"] or ""):
        return f"status {status} {location}"
    if key is None:
        return ""
    if route["data_class"] == "public":
        path = next(part["value"] for part in key["parts"] if part["part"] == "path")
        query = {
            part["part"].removeprefix("query "): part["value"] for part in key["parts"] if "query " in part["part"]
        }
        if (line["path"], line.get("query", {})) != (path, query):
            return f"key {line['path']} {line.get('query')}"
    held = shop.gateway.store.peek(cache_key_of(key))
    if bool(held) != bool(told["store"]["storable"]):
        return f"stored {bool(held)}"
    if held:
        lived = told["lifetimes"]
        stored = held[0]
        kept = (
            stored.fresh_until - stored.stored_at + stored.initial_age_s,
            stored.revalidate_until - stored.fresh_until,
            stored.error_until - stored.fresh_until,
            stored.unreachable_until - stored.fresh_until,
        )
        names = ("fresh", "stale_while_revalidate", "stale_if_error", "stale_if_unreachable")
        ours = tuple(lived[name]["seconds"] for name in names)
        if tuple(round(each, 3) for each in kept) != ours:
            return f"lifetimes {kept}"
        # Explain tells the tags that both edges know; that of its path everything has, here alone.
        if [tag for tag in stored.tags if not is_path_tag(tag)] != [tag["tag"] for tag in told["tags"]["values"]]:
            return f"tags {stored.tags}"
        if stored.policy_version != route["version"]:
            return f"policy version {stored.policy_version}"
        if stored.key.market != (told["market"] or {"value": ""})["value"]:
            return f"market {stored.key.market}"
    return ""


def cache_key_of(key: dict[str, Any]) -> CacheKey:
    """The key whose parts explain tells."""
    by_name = {part["part"]: part["value"] for part in key["parts"]}
    query = tuple(
        (part["part"].removeprefix("query ") if part["part"] != "query" else "*", part["value"])
        for part in key["parts"]
        if part["part"].startswith("query")
    )
    return CacheKey(by_name["authority"], by_name["path"], query, by_name.get("market", ""))


def cannot_be_hit(told: dict[str, Any], line: dict[str, Any]) -> str:
    """Why the second answer to the same request is not the hit that explain's lifetime promises; empty: it is."""
    fresh_s = told["lifetimes"]["fresh"]["seconds"]
    if fresh_s == 0:
        return "" if line["cache"] != "hit" else "hit without a lifetime"
    if (line["cache"], line["ttl"]) != ("hit", fresh_s):
        return f"again: {line['cache']} {line.get('reason')} {line['ttl']} s"
    return ""


async def test_explain_and_a_running_worker_agree_on_10000_requests(tmp_path: Path) -> None:
    explainer = Explainer(club_folder(tmp_path / "policies"))
    rng = random.Random(3)
    settings = {"trusted_hops": TrustedHops.parse(["127.0.0.1"]), "country_field": COUNTRY_FIELD}
    routes: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    async with EdgeShop(tmp_path, policies=explainer.policies, settings=settings) as shop:
        origin = shop.origin.otherwise = Told()
        viewer = await shop.viewer()
        log_file = shop.gateway._log
        assert log_file is not None
        with shop.log_path.open() as log:
            for _ in range(REQUESTS):
                question = generated(rng)
                origin.target = question.target
                shop.gateway.store.clear()
                told = explainer.explain(question.asked(shop.host))
                viewer, status, location = await ask(shop, viewer, question)
                log_file.flush()
                line = json.loads(log.readline())
                why = disagreement(told, line, status, location, shop)
                stored = told["key"] is not None and told["store"]["storable"]
                heeded = any(name == "Cache-Control" for name, _ in question.fields)
                if stored and not why and not heeded and rng.random() < 0.2:
                    viewer, _, _ = await ask(shop, viewer, question)
                    log_file.flush()
                    why = cannot_be_hit(told, json.loads(log.readline()))
                    outcomes["asked again"] += 1
                if why:
                    wrong.append(f"{question}: {why}; {line} {told['outcome']}")
                routes[line["route"]] += 1
                outcomes["stored" if stored else f"{line['cache']} {line.get('reason', '')}"] += 1
    print(f"{REQUESTS} requests, {len(wrong)} disagreements; {len(routes)} routes; {dict(outcomes)}")
    assert wrong[:5] == []
    assert set(routes) == {policy.id for policy in explainer.policies.policies} | {"-"}
    for outcome in (
        "stored", "asked again", "pass unsafe-method", "pass policy-never-stores", "pass authorization", "edge method",
        "edge market-redirect", "edge country-blocked", "edge authorization-missing", "edge residency", "edge no-vault",
        "edge only-if-cached", "pass request-no-store", "miss authorization", "edge dot-segment",
        "edge repeated-parameter", "miss set-cookie", "miss vary", "miss status",
    ):  # fmt: skip
        assert outcomes[outcome] >= 10, outcome
