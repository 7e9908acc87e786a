"""What a policy may say and probably should not: the semantic lints, NS4xx (docs/lints.md explains each).

They look at a route that contradicts nothing. Warnings keep no edge from starting; `nearshelf policy check --strict`
fails for them. The figures below are judgements, each with its reason: change them here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from math import prod

from cache_policies.countries import COUNTRIES, MISTAKEN
from cache_policies.markets import Markets
from cache_policies.origins import Origins
from cache_policies.positions import MAX_TAGS_PER_RESPONSE
from edge.core.freshness import MAX_HEURISTIC_S
from edge.core.policy import (
    ALL,
    ALL_QUERY,
    Auth,
    CachePolicy,
    DataClass,
    Generation,
    OnLeaseLapse,
    Redirect,
    Residency,
    covers,
    parse_pattern,
)
from edge.core.request_rules import FORWARDED_UNSTORED
from edge.policy_remarks import Remarks

MAX_VARIANTS = 50
"""Stored answers of one URL. Beyond it most are asked for once, and the store is filled with what nobody reads."""
VARIANTS_OF_FIELD = {
    "accept": 8,
    "accept-encoding": 4,
    "accept-language": 200,
    "device-memory": 7,
    "dpr": 8,
    "origin": 10,
    "prefer": 4,
    "referer": 10_000,
    "save-data": 2,
    "sec-ch-ua": 50,
    "sec-ch-ua-mobile": 2,
    "sec-ch-ua-platform": 8,
    "user-agent": 10_000,
    "viewport-width": 500,
    "width": 500,
    "x-requested-with": 2,
}
"""How many different values of a field real visitors send, in orders of magnitude; `OTHER_VARIANTS` for all others."""
OTHER_VARIANTS = 10

PRICE_FRESHNESS_BUDGET_S = 900.0
"""How long a price may be shown that no purge names (a rate file of yesterday, rows changed past the log)."""
LONG_NEGATIVE_S = 300.0
"""A 404 that is remembered for longer hides a product that has just been listed."""
LONG_SERVER_ERROR_S = 30.0
"""A 5xx that is remembered for longer keeps a recovered origin looking broken."""
ROOM_FOR_ORIGIN_TAGS = 30
"""A listing page carries a tag for each of its products: 24 of them, its category, its market, its rates."""

_USER_AGENT = frozenset({"user-agent", "sec-ch-ua", "sec-ch-ua-full-version-list"})
_COOKIE = frozenset({"cookie", "cookie2", "set-cookie"})
_TRACKING = re.compile(
    r"utm_.*|_ga|_gl|gclid|gbraid|wbraid|dclid|fbclid|msclkid|yclid|ttclid|twclid|li_fat_id|igshid|mc_[ce]id|_hs(enc|mi)"
    r"|_|cb|cachebust(er)?|nocache|no_cache|rand(om)?|ts|timestamp"
)
_PERSONAL_PARAMETER = re.compile(
    r"(.*[_-])?(token|jwt|session|session_?id|sid|phpsessid|jsessionid|api_?key|password|passwd|secret|signature|email"
    r"|user_?(id|name)?|customer_?(id)?|phone|iban)",
    re.IGNORECASE,
)
_COUNTRY = re.compile(r"(.*[_-])?(country|geo|ipcountry)([_-]?(code|name|region))?", re.IGNORECASE)
_OF_THE_MARKET = re.compile(r"currency|lang|language|locale|market|region", re.IGNORECASE)
_PERSONAL_SEGMENTS = frozenset(
    {
        "account", "accounts", "address", "addresses", "admin", "basket", "billing", "cart", "checkout", "invoice",
        "invoices", "login", "logout", "me", "my", "my-account", "order", "orders", "password", "payment", "payments",
        "profile", "register", "session", "sessions", "sign-in", "sign-up", "signin", "signup", "wishlist",
    }
)  # fmt: skip
_SIGN_IN_SEGMENTS = frozenset({"login", "sign-in", "signin", "sign-up", "signup", "register", "password", "session"})
_ABOUT_THE_ASKER = frozenset({401, 402, 403, 407, 421, 428, 429, 451})
"""Statuses that say something of the one who asked, not of the resource."""
_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_NOT_FORWARDED = ("auth", "cookies", "origin", "query", "request_fields", "residency")
"""Fields about the question to the origin and its answer."""
_NOT_STORED = (
    "collapse_wait", "compress", "generation", "on_lease_lapse", "request_directives", "statuses", "tags", "vary",
)  # fmt: skip
"""Fields about stored answers."""

CLAIMS = {
    Residency.TOKENISE: "tokenise: personal fields leave the jurisdiction only as tokens. That is pseudonymisation "
    "(GDPR Art. 4(5)): whoever holds the vault can undo it, and what was tokenised is still personal data. It does not "
    "claim anonymity. This version has no vault, so the route answers 503",
    Residency.SEAL: "seal: personal fields are encrypted for the jurisdiction's vault before they leave. That is still "
    "a transfer of encrypted personal data to whoever stores it. It does not claim anonymity. This version has no "
    "vault, so the route answers 503",
}
"""What each kind of residency may claim, and no more."""


def estimated_variants(policy: CachePolicy) -> int:
    """How many stored answers one URL may have: the product over the request fields that tell variants apart.

    Each field counts with `VARIANTS_OF_FIELD`, `compress` with two (as it is, and gzip). One that is in `vary` and not
    forwarded does not split our edges' store, because the origin never sees it. `any` counts as one field.
    """
    fields = set(policy.request_fields) & set(policy.vary)
    return prod(VARIANTS_OF_FIELD.get(name, OTHER_VARIANTS) for name in fields) * (2 if policy.compress else 1)


def lint_route(about: Remarks, markets: Markets | None, origins: Origins | None) -> None:
    """Note what one route probably should not say. `markets` and `origins` are None when they could not be read."""
    policy = about.policy
    edge_answers = bool(policy.refuse_status) or policy.redirect is not Redirect.NONE
    if policy.store:
        _key(about)
        _prices(about)
        _stored(about)
        _negative(about)
    else:
        _without_effect(about, _NOT_STORED, "nothing of the route is stored")
        for name in sorted(FORWARDED_UNSTORED.intersection(policy.request_fields)):
            what = f"no effect: {name} is forwarded anyway where nothing is stored"
            about.at("request_fields", "NS418", what, f"Remove {name}.", item=name)
    if edge_answers:
        _without_effect(about, _NOT_FORWARDED, "the edge answers the route itself")
    _persons(about)
    _tags(about)
    _countries(about, markets)
    if not edge_answers:
        _residency(about, markets, origins)
    origin = origins.by_name(policy.origin) if origins is not None else None
    if about.writes("collapse_wait") and origin is not None and policy.collapse_wait_s > origin.response_timeout_s:
        about.at(
            "collapse_wait",
            "NS425",
            f"{policy.collapse_wait_s:g} s, and the origin {origin.name} is given up after "
            f"{origin.response_timeout_s:g} s: nobody waits for so long",
            f"Say {origin.response_timeout_s:g}s at the most.",
        )


def lint_siblings(abouts: Iterable[Remarks], routes: Sequence[CachePolicy], markets: Markets) -> None:
    """Note residency that a slash at the end gets round. `routes`: all that can be read, in the order they are tried.

    An origin that takes both spellings for one page would process personal data where nobody was asked for a place.
    """
    for about in abouts:
        policy = about.policy
        if policy.residency is Residency.NONE or any(part.rest for part in parse_pattern(policy.path)):
            continue
        sibling = policy.path[:-1] if policy.path.endswith("/") else policy.path + "/"
        caught = next((route for route in routes if sibling and covers(route.path, sibling, markets)), None)
        if (
            caught is not None
            and caught.residency is not policy.residency
            and not caught.refuse_status
            and caught.redirect is Redirect.NONE
        ):
            about.at(
                "path",
                "NS431",
                f"{sibling} falls to {caught.id} ({caught.where}), with residency: {caught.residency}: an origin that "
                "takes both for one page would process personal data there",
                f"Add a route for {sibling} with residency: {policy.residency}, or say so of {caught.id}.",
                at_value=True,
            )


def _key(about: Remarks) -> None:
    """What makes more keys and variants than there are answers."""
    policy = about.policy
    _everything(about)
    for field, names in (("request_fields", policy.request_fields), ("vary", policy.vary)):
        for name in names:
            if name in _COOKIE:
                about.at(
                    field,
                    "NS401",
                    f"{name} in the key: every visitor has their own, so every answer is stored once for each",
                    "Remove it; what depends on a cookie is data_class: personal, in a resource of its own.",
                    item=name,
                )
            elif name in _USER_AGENT:
                about.at(
                    field,
                    "NS402",
                    f"{name} in the key: some {VARIANTS_OF_FIELD.get(name, OTHER_VARIANTS):,} values, each a variant",
                    "Remove it and serve one responsive page; sec-ch-ua-mobile has two values where it must differ.",
                    item=name,
                )
            elif _COUNTRY.fullmatch(name):
                _country_in_key(about, field, name, name)
    for name in policy.query:
        _parameter(about, name)
    for part in parse_pattern(policy.path):
        if part.name and _COUNTRY.fullmatch(part.name):
            _country_in_key(about, "path", f"{{{part.name}}}", "")
    variants = estimated_variants(policy)
    if variants > MAX_VARIANTS and not set(policy.vary) & (_USER_AGENT | _COOKIE):
        counted = " x ".join(
            f"{name} {VARIANTS_OF_FIELD.get(name, OTHER_VARIANTS)}"
            for name in policy.vary
            if name in policy.request_fields
        )
        about.at(
            "vary",
            "NS406",
            f"about {variants:,} variants of each URL ({counted}{' x gzip 2' if policy.compress else ''}), the budget "
            f"is {MAX_VARIANTS}",
            "Let the path or a parameter say it in a few values; the origin may normalise and redirect.",
        )
    for name in policy.vary if policy.request_fields != ALL else ():
        if name not in policy.request_fields and name != "accept-encoding" and name not in _COOKIE | _USER_AGENT:
            about.at(
                "vary",
                "NS407",
                f"{name} is not in request_fields: at our edges the origin never sees it, at CloudFront it splits the "
                "key and is forwarded",
                f"Add {name} to request_fields, or remove it from vary.",
                item=name,
            )


def _everything(about: Remarks) -> None:
    """What passes whatever viewers send."""
    policy = about.policy
    if policy.query == ALL_QUERY:
        about.at(
            "query",
            "NS432",
            "all on a stored route: whoever changes a parameter that changes nothing makes a key of their own, and the "
            "origin is asked",
            "List the parameters that change the answer, such as query: [page, sort]; others never reach the origin.",
        )
    if policy.request_fields == ALL:
        about.at(
            "request_fields",
            "NS433",
            "all on a stored route: where the origin looks at a field (Cookie, X-Forwarded-Host, X-Original-URL) and "
            "its Vary does not name it, the answer made for one viewer, or forged by one, is shown to all",
            "List the fields that change the answer, here and in vary; a page made for one visitor is a resource of "
            "its own, with data_class: personal.",
        )
    if policy.honour_request and policy.throttle is None:
        about.at(
            "request_directives",
            "NS434",
            "honour without a throttle: whoever sends Cache-Control: no-cache asks the origin, as often as they like",
            "Add a throttle, such as throttle: {rate: 600/m, burst: 100}, or remove request_directives.",
        )


def _parameter(about: Remarks, name: str) -> None:
    captured = {part.name for part in parse_pattern(about.policy.path)}
    if _TRACKING.fullmatch(name.lower()):
        about.at(
            "query",
            "NS404",
            f"{name} in the key: it changes with every visit and not the answer",
            f"Remove {name}: what is not listed is dropped before the key is made.",
            item=name,
        )
    elif _PERSONAL_PARAMETER.fullmatch(name):
        about.at(
            "query",
            "NS405",
            f"{name} in the key: a secret or a person in an address that is stored, logged and shared",
            "Remove it, or say data_class: personal.",
            item=name,
        )
    elif _COUNTRY.fullmatch(name) or (_OF_THE_MARKET.fullmatch(name) and "market" in captured):
        _country_in_key(about, "query", name, name)


def _country_in_key(about: Remarks, field: str, shown: str, item: str) -> None:
    about.at(
        field,
        "NS403",
        f"{shown} in the key where the market is enough: some 250 countries share a handful of markets",
        "Put {market} in the path: it decides currency, language and tax, and a visitor's country leads to it.",
        item=item,
    )


def _prices(about: Remarks) -> None:
    policy = about.policy
    if not policy.shows_price:
        return
    guessed_s = MAX_HEURISTIC_S if policy.heuristic_percent else 0.0
    shown_s = max(policy.fresh_s, policy.max_fresh_s, guessed_s) + policy.max_stale_while_revalidate_s
    if shown_s > PRICE_FRESHNESS_BUDGET_S:
        about.at(
            "stale_while_revalidate" if about.writes("stale_while_revalidate") else "fresh",
            "NS408",
            f"a price may be shown for {shown_s:,.0f} s, stale while revalidate included, where no purge names it; the "
            f"budget is {PRICE_FRESHNESS_BUDGET_S:g} s",
            f"Keep fresh (or max_fresh) and stale_while_revalidate together at {PRICE_FRESHNESS_BUDGET_S:g}s or less.",
        )
    if policy.generation is Generation.NONE:
        about.at(
            "generation",
            "NS409",
            "none on a route that shows a price: at CloudFront a changed price does not move its key, and stays until "
            "a tag purge or its lifetime ends it",
            "Add generation: product, category or market, whichever the path names.",
        )
    if "market" not in {part.name for part in parse_pattern(policy.path)}:
        about.at(
            "path",
            "NS410",
            "shows a price and has no {market}: whoever asks first decides the currency that all are shown",
            "Put {market} in the path.",
        )
    if policy.on_lease_lapse is OnLeaseLapse.FAIL and policy.max_stale_while_revalidate_s:
        about.at(
            "stale_while_revalidate",
            "NS411",
            "a price without a notice slot is shown after its lifetime, and nothing in it says so",
            "Remove stale_while_revalidate, or say on_lease_lapse: stale-marked and stale_if_error if it is a page.",
        )


def _stored(about: Remarks) -> None:
    policy = about.policy
    unsafe = [method for method in policy.forward_methods if method in _UNSAFE]
    if unsafe and not about.writes("forward_methods"):
        about.at(
            "forward_methods",
            "NS414",
            f"left out, so that {', '.join(unsafe)} reach the origin on a stored route",
            "Add forward_methods: [GET, HEAD], or name the writes that the address takes.",
        )
    lifetimes = (
        policy.fresh_s,
        policy.max_fresh_s,
        policy.max_stale_while_revalidate_s,
        policy.max_stale_if_error_s,
        policy.stale_if_unreachable_s,
    )
    if not any(lifetimes) and not policy.keep_s:
        about.at(
            "fresh",
            "NS429",
            "0s, and neither max_fresh nor a stale window nor keep: nothing of the route is ever kept",
            "Say store: false, or for how long an answer may be fresh, stale or validated.",
        )
    if 0 < policy.keep_s < min(policy.fresh_s, 3600):
        about.at(
            "keep",
            "NS417",
            f"{policy.keep_s:g} s, less than fresh: an answer that was not asked for meanwhile is gone before its "
            "ETag can save a transfer",
            "Keep it for an hour or more, or remove keep.",
        )


def _negative(about: Remarks) -> None:
    for status, seconds in about.policy.negative_s:
        if status in _ABOUT_THE_ASKER:
            about.at(
                "negative",
                "NS416",
                f"{status} says something about who asked, and would be shown to whoever asks next",
                f"Remove {status}: only answers about the resource, such as 404 and 410, may be remembered.",
                item=str(status),
            )
        elif status >= 500 and seconds > LONG_SERVER_ERROR_S:
            about.at(
                "negative",
                "NS415",
                f"{status} for {seconds:g} s: a recovered origin looks broken for so long",
                f"Say {LONG_SERVER_ERROR_S:g}s or less; stale_if_error hides an outage better.",
                item=str(status),
            )
        elif seconds > LONG_NEGATIVE_S:
            about.at(
                "negative",
                "NS415",
                f"{status} for {seconds:g} s: what is listed meanwhile stays missing where no purge names it",
                f"Say {LONG_NEGATIVE_S:g}s or less.",
                item=str(status),
            )


def _without_effect(about: Remarks, names: Iterable[str], why: str) -> None:
    for name in names:
        if about.writes(name) and not about.inherits(name):
            about.at(name, "NS418", f"no effect: {why}", f"Remove {name}.")


def _persons(about: Remarks) -> None:
    policy = about.policy
    segments = {part.literal.lower() for part in parse_pattern(policy.path)}
    personal = sorted(segments & _PERSONAL_SEGMENTS)
    if policy.store and personal:
        about.at(
            "path",
            "NS412",
            f"/{personal[0]} looks like one person's address, and its answers are stored for everybody",
            "Say data_class: personal.",
            at_value=True,
        )
    if policy.data_class is DataClass.PUBLIC and not policy.store:
        for name, said in (
            ("cookies", policy.cookies),
            ("auth", policy.auth is Auth.REQUIRED),
            ("residency", policy.residency is not Residency.NONE),
        ):
            if said:
                about.at(
                    name,
                    "NS413",
                    f"{name} says that the answers are one person's, data_class says public",
                    "Say data_class: personal in place of store: false.",
                )
    if segments & _SIGN_IN_SEGMENTS and policy.takes("POST") and policy.throttle is None and not policy.refuse_status:
        about.at(
            "path",
            "NS420",
            "takes credentials and has no throttle: passwords can be tried as fast as the origin answers",
            "Add a throttle, such as throttle: {rate: 10/m, burst: 5}.",
            at_value=True,
        )


def _tags(about: Remarks) -> None:
    policy = about.policy
    captured = {part.name for part in parse_pattern(policy.path) if part.name}
    if not policy.store:
        return
    for tag in policy.tags:
        names = {name for name in captured if f"{{{name}}}" in tag}
        if "market" in captured and names and "market" not in names:
            about.at(
                "tags",
                "NS419",
                f"{tag} is the same in every market, so that a change in one purges all of them",
                f"Put {{market}} into it, such as {tag.partition(':')[0]}:{{market}}:{{{min(names)}}}.",
                item=tag,
            )
    if ROOM_FOR_ORIGIN_TAGS < len(policy.tags) <= MAX_TAGS_PER_RESPONSE:
        about.at(
            "tags",
            "NS424",
            f"{len(policy.tags)} tags, which leave {MAX_TAGS_PER_RESPONSE - len(policy.tags)} of "
            f"{MAX_TAGS_PER_RESPONSE} to the origin: an answer that needs more is not stored",
            "Keep the tags that something purges by.",
        )


def lint_country(country: str) -> str | None:
    """What is wrong with a country code of the right shape; None for one that exists."""
    if country in COUNTRIES:
        return None
    meant = MISTAKEN.get(country)
    return f"{country} is no country of ISO 3166: nobody comes from there{f'; did you mean {meant}?' if meant else ''}"


def _countries(about: Remarks, markets: Markets | None) -> None:
    if not about.writes("blocked_countries"):
        return
    blocked = about.policy.blocked_countries
    for country in blocked:
        if (what := lint_country(country)) is not None:
            about.at("blocked_countries", "NS421", what, "Write the two letters of ISO 3166-1.", item=country)
    let_in = [country for country in markets.blocked if country not in blocked] if markets is not None else []
    if let_in:
        about.at(
            "blocked_countries",
            "NS428",
            f"in place of what markets.yaml blocks, and without {', '.join(let_in)}: visitors from there are served",
            f"Add {', '.join(let_in)}, or leave blocked_countries out.",
        )


def _residency(about: Remarks, markets: Markets | None, origins: Origins | None) -> None:
    policy = about.policy
    if policy.residency in CLAIMS:
        code = "NS490" if policy.residency is Residency.TOKENISE else "NS491"
        about.at("residency", code, CLAIMS[policy.residency], "")
    if markets is None or origins is None:
        return
    placed = {jurisdiction for origin in origins.all for jurisdiction in origin.jurisdictions}
    if policy.data_class is DataClass.PERSONAL and not about.writes("residency") and len(origins.all) > 1 and placed:
        about.at(
            "residency",
            "NS430",
            "left out for personal data, although origins.yaml says who may hold whose: it goes to one origin for all",
            "Add residency: route, or say residency: none if any of them may see it.",
        )
    if policy.residency is not Residency.ROUTE:
        return
    turned_away = [market for market in markets.all if origins.for_jurisdiction(market.jurisdiction) is None]
    if turned_away:
        about.at(
            "residency",
            "NS422",
            "no origin may hold the personal data of "
            + ", ".join(f"{market.id} ({market.jurisdiction})" for market in turned_away)
            + ": requests of these markets are answered with 503",
            "List their jurisdictions in origins.yaml, or leave it so if these markets shall not have the route.",
        )
    for origin in origins.all:
        second = origins.by_name(origin.reads_fail_over_to) if origin.reads_fail_over_to else None
        if second is not None and (missing := sorted(set(origin.jurisdictions) - set(second.jurisdictions))):
            about.at(
                "residency",
                "NS423",
                f"{origin.name} fails over to {second.name}, which may not hold the data of {', '.join(missing)}: "
                "these reads do not fail over",
                f"Add {', '.join(missing)} to the jurisdictions of {second.name}, or expect 502 while {origin.name} is "
                "down.",
            )
