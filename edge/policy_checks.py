"""What no field says alone: the contradictions within a route, and between routes, markets and origins.

Every fault has a code of `cache_policies.codes` (docs/lints.md explains each): NS2xx here is about one route, NS3xx
about several things. What is allowed and probably a mistake is in `policy_lints`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress

from cache_policies.markets import MARKETS_FILE, Markets
from cache_policies.origins import Origins
from cache_policies.positions import MAX_TAG_CHARACTERS, MAX_TAGS_PER_RESPONSE
from cache_policies.reading import Fault, Place, Value, did_you_mean
from edge.core.policy import (
    ALL,
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
from edge.policy_lints import lint_country, lint_route, lint_siblings
from edge.policy_remarks import Noted, Remarks, WrittenRoute

DEFAULT_FILE = "default.yaml"
"""Tried last; its last route must match every path."""

LIFETIME_FIELDS = (
    "fresh", "heuristic", "max_fresh", "stale_while_revalidate", "max_stale_while_revalidate", "stale_if_error",
    "max_stale_if_error", "stale_if_unreachable", "keep", "negative",
)  # fmt: skip
_PRICE_SEGMENTS = frozenset({"prices", "stock"})
_IN_TAG = re.compile(r"\{([^{}]*)\}")
_BUCKET_OF = {
    Generation.PRODUCT: ("slug", "sku"),
    Generation.CATEGORY: ("category",),
    Generation.MARKET: ("market",),
}
"""What the path must capture, one of them, so that the Function at CloudFront can name the bucket."""


def check_all(
    routes: Sequence[WrittenRoute], markets: Markets | None, origins: Origins | None, faults: list[Fault]
) -> None:
    """Add to `faults` what the routes, in the order they are tried, contradict: themselves and each other.

    `markets` and `origins` are None when they could not be read, which is a fault already.
    """
    _check_ids(routes)
    noted = Noted(faults)
    remarks = [Remarks(route, noted) for route in routes]
    for about in remarks:
        _check_route(about)
    if not routes or not _takes_everything(routes[-1].policy.path):
        faults.append(
            Fault(
                Place(DEFAULT_FILE, 1, 1),
                "",
                "the last route must have the path /{rest...}, so that every request has one",
                "NS303",
                f"End {DEFAULT_FILE} with a route whose path is /{{rest...}} and that says store: false.",
            )
        )
    if origins is not None:
        for about in remarks:
            _check_origin(about, origins)
    if markets is not None:
        _check_shadows(remarks, markets)
        for about in remarks:
            _check_markets(about, markets, origins)
    noted = Noted(faults)
    clean = [about for about in remarks if about.is_clean(noted)]
    for about in clean:
        lint_route(about, markets, origins)
    if markets is not None:
        lint_siblings(clean, [about.policy for about in remarks if about.readable("path")], markets)


def check_markets(document: Value, markets: Markets) -> None:
    """Note what markets.yaml contradicts in itself, and which of its countries do not exist."""
    blocked = document.fields().get("blocked")
    for item in blocked[1].items() if blocked is not None else ():
        market = next((market for market in markets.all if market.country == item.written), None)
        if market is not None:
            item.fault(
                f"{market.country} is the country of {market.id}: the market's own visitors would be answered with 451",
                "NS308",
                f"Remove {market.country}, or retire the market.",
            )
    entries = document.fields()["markets"][1].fields().values()
    for value in [*(entry.fields()["countries"][1] for _, entry in entries), *([blocked[1]] if blocked else [])]:
        for item in value.items():
            if (what := lint_country(str(item.written))) is not None:
                item.fault(what, "NS421", "Write the two letters of ISO 3166-1.")


def check_origins(document: Value, origins: Origins) -> None:
    """Note what origins.yaml contradicts in itself."""
    names = [origin.name for origin in origins.all]
    for name, (_, entry) in document.fields()["origins"][1].fields().items():
        if "reads_fail_over_to" not in entry.fields():
            continue
        place, value = entry.fields()["reads_fail_over_to"]
        if value.written == name:
            what = f"{name} fails over to itself, expected another origin"
            fix = "Name another origin, or remove reads_fail_over_to."
            document.faults.append(Fault(place, value.path, what, "NS307", fix))
        elif value.written not in names:
            hint = did_you_mean(str(value.written), names) or f", expected one of {', '.join(names)}"
            what = f"{value.written} is no origin here{hint}"
            document.faults.append(Fault(value.place, value.path, what, "NS306", "Write the name of an origin here."))


def needs_markets(routes: Sequence[WrittenRoute]) -> Fault | None:
    """What is wrong with a folder that has these routes and no markets.yaml; None: no route asks for a market."""
    for policy, _ in routes:
        asks = "its path has {market}" if "market" in _captured(policy) else ""
        if policy.redirect is Redirect.MARKET:
            asks = "redirect: market leads to one"
        elif policy.residency is not Residency.NONE:
            asks = f"residency: {policy.residency} goes by the jurisdiction of one"
        if asks:
            return Fault(
                Place(MARKETS_FILE, 1, 1),
                "",
                f"cannot be read: No such file or directory; {policy.id} ({policy.where}) needs a market: {asks}",
                "NS001",
                f"Add {MARKETS_FILE}, readable by this user.",
            )
    return None


def _takes_everything(pattern: str) -> bool:
    with suppress(ValueError):
        return [part.rest for part in parse_pattern(pattern)] == [True]
    return False


def _check_ids(routes: Sequence[WrittenRoute]) -> None:
    first: dict[str, CachePolicy] = {}
    for policy, value in routes:
        earlier = first.setdefault(policy.id, policy)
        if earlier is not policy:
            value.faults.append(
                Fault(
                    value.place,
                    value.path,
                    f"{policy.id} is an id already taken at {earlier.where}, expected another",
                    "NS302",
                    "Give one of the two another id: logs, reports and `explain` name routes by it.",
                )
            )


def _check_route(about: Remarks) -> None:
    """The contradictions between the fields of one route."""
    policy = about.policy
    if not (about.readable("data_class") and about.readable("store")):
        # Whether anything is stored is not known, and nearly all below depends on it.
        return
    if policy.data_class is DataClass.PERSONAL and policy.store:
        about.at(
            "store",
            "NS201",
            "true with data_class personal, expected false: what belongs to one person is never stored",
            "Leave store out, or say data_class: public if the answer is the same for everybody.",
        )
    if not policy.store or policy.data_class is DataClass.PERSONAL:
        why = "data_class personal" if policy.data_class is DataClass.PERSONAL else "store false"
        for name in LIFETIME_FIELDS:
            if about.writes(name):
                about.at(
                    name,
                    "NS202",
                    f"a lifetime with {why}, expected none: nothing of it is stored",
                    f"Remove {name}.",
                )
        if policy.auth is Auth.SHARED:
            about.at(
                "auth",
                "NS224",
                f"shared with {why}, expected optional: there is no stored answer to share",
                "Say auth: optional, which forwards it.",
            )
    else:
        _check_stored(about)
    _check_prices(about)
    if policy.redirect is not Redirect.NONE and (policy.store or policy.refuse_status):
        about.at(
            "redirect",
            "NS213",
            "on a route that is stored or refused, expected store: false and no refuse: the edge answers it",
            "Say store: false and remove refuse, or remove redirect.",
        )
    _check_captures(about)
    _check_tags(about)


def _check_stored(about: Remarks) -> None:
    policy = about.policy
    if not about.writes("fresh"):
        about.at(
            "fresh",
            "NS203",
            "missing on a stored route, expected the lifetime where the origin is silent (0s: none)",
            "Add fresh, such as fresh: 300s; or say store: false.",
        )
    for name, default_s, ceiling_s in (
        ("fresh", policy.fresh_s, policy.max_fresh_s),
        ("stale_while_revalidate", policy.stale_while_revalidate_s, policy.max_stale_while_revalidate_s),
        ("stale_if_error", policy.stale_if_error_s, policy.max_stale_if_error_s),
    ):
        if ceiling_s < default_s:
            about.at(
                f"max_{name}",
                "NS204",
                f"less than {name}, expected at least as much: it is the ceiling of what the origin may propose",
                f"Raise max_{name}, lower {name}, or leave max_{name} out: then {name} is the ceiling.",
            )
    if policy.cookies:
        about.at(
            "cookies",
            "NS205",
            "true on a stored route, expected false: what a cookie decides must not be shown to the next viewer",
            "Say data_class: personal, or remove cookies.",
        )
    if policy.heuristic_percent and policy.fresh_s and about.readable("fresh"):
        about.at(
            "heuristic",
            "NS222",
            "beside fresh, which counts where the origin is silent, expected fresh: 0s: both answer the same question",
            "Say fresh: 0s, or remove heuristic.",
        )
    if policy.refuse_status:
        about.at(
            "refuse",
            "NS207",
            "on a stored route, expected store: false: nothing of it is ever forwarded",
            "Say store: false, or remove refuse.",
        )
    for method in policy.methods:
        if method not in {"GET", "HEAD"}:
            about.at(
                "methods",
                "NS208",
                "more than GET and HEAD on a stored route, expected only these: others are forwarded",
                f"Move {method} to forward_methods.",
                item=method,
            )
    if policy.vary == ALL and policy.request_fields != ALL and about.readable("request_fields"):
        about.at(
            "vary",
            "NS223",
            "any where the origin gets to see the fields of a list only, expected this list: a variant by another "
            "field would split the store for nothing",
            "Write the names of request_fields here, too; or say request_fields: all.",
        )
    for name in () if ALL in (policy.vary, policy.request_fields) else policy.request_fields:
        if name != "authorization" and name not in policy.vary and about.readable("vary"):
            about.at(
                "request_fields",
                "NS209",
                f"{name} is forwarded but not in vary, expected it there too: answers that depend on it are variants",
                f"Add {name} to vary, or do not forward it.",
                item=name,
            )
    for field, names in (("request_fields", policy.request_fields), ("vary", policy.vary)):
        if "authorization" in names:
            about.at(
                field,
                "NS221",
                "authorization on a stored route: an answer made for one person would be stored under their credential",
                "Remove it; auth: optional lets such requests past the store, both ways.",
                item="authorization",
            )
    if policy.auth is Auth.REQUIRED:
        about.at(
            "auth",
            "NS214",
            "required on a stored route: who may see an answer is not asked again when it comes from the store",
            "Say store: false, or auth: optional if the answer without Authorization is for everybody.",
        )
    if policy.honour_request and policy.shows_price:
        about.at(
            "request_directives",
            "NS225",
            "honour on a route that shows a price, expected ignore: max-stale would ask for prices that are old",
            "Remove request_directives.",
        )
    if policy.residency is not Residency.NONE:
        about.at(
            "residency",
            "NS215",
            f"{policy.residency} on a stored route: residency is about personal data, which is never stored",
            "Say data_class: personal, or remove residency.",
        )
    if policy.compress and "accept-encoding" in policy.vary:
        about.at(
            "vary",
            "NS216",
            "accept-encoding beside compress: the edge asks for the plain answer and compresses it itself",
            "Remove accept-encoding from vary, and from request_fields.",
            item="accept-encoding",
        )


def _check_prices(about: Remarks) -> None:
    policy = about.policy
    for name, stale_s in (
        ("stale_if_error", policy.stale_if_error_s),
        ("max_stale_if_error", 0.0 if policy.stale_if_error_s else policy.max_stale_if_error_s),
        ("stale_if_unreachable", policy.stale_if_unreachable_s),
    ):
        if stale_s and policy.shows_price and policy.on_lease_lapse is OnLeaseLapse.FAIL:
            about.at(
                name,
                "NS210",
                "a route that shows a price and answers on_lease_lapse: fail, expected 0s: nothing in its answer can "
                "say that the price is being confirmed",
                f"Remove {name}, or say on_lease_lapse: stale-marked if the page has a notice slot.",
            )
    if (
        policy.on_lease_lapse is OnLeaseLapse.STALE_MARKED
        and not policy.stale_if_error_s
        and about.readable("stale_if_error")
    ):
        about.at(
            "on_lease_lapse",
            "NS211",
            "stale-marked without stale_if_error, expected a time for which the stale page may be shown",
            "Add stale_if_error, such as stale_if_error: 1d, or say on_lease_lapse: fail.",
        )
    literals = {part.literal for part in parse_pattern(policy.path)}
    if literals & _PRICE_SEGMENTS and not policy.shows_price:
        about.at(
            "shows_price",
            "NS212",
            "false for an address of prices or stock, expected true: a browser must ask again every time",
            "Add shows_price: true.",
        )


def _check_captures(about: Remarks) -> None:
    """The bucket of a generation, and the names in tags, come from the path."""
    policy = about.policy
    if not about.readable("path"):
        return
    captured = _captured(policy)
    if policy.generation is not Generation.NONE:
        wanted = _BUCKET_OF[policy.generation]
        if "market" not in captured or not captured & set(wanted):
            parts = " and ".join(
                ["{market}"] if wanted == ("market",) else ["{market}", " or ".join(f"{{{name}}}" for name in wanted)]
            )
            about.at(
                "generation",
                "NS220",
                f"{policy.generation} needs {parts} in the path: that names the bucket whose position goes into the "
                "key at CloudFront",
                f"Capture {parts} in path, or choose another generation.",
            )
    for tag in policy.tags:
        for name in _IN_TAG.findall(tag):
            if name not in captured:
                known = ", ".join(f"{{{each}}}" for each in sorted(captured)) or "nothing"
                hint = did_you_mean(name, captured)
                about.at(
                    "tags",
                    "NS217",
                    f"{{{name}}} is not captured by {policy.path}, which captures {known}{hint}",
                    "Use a name that stands in braces in path.",
                    item=tag,
                )


def _captured(policy: CachePolicy) -> set[str]:
    return {part.name for part in parse_pattern(policy.path) if part.name}


def _check_tags(about: Remarks) -> None:
    tags = about.policy.tags
    if len(tags) > MAX_TAGS_PER_RESPONSE:
        about.at(
            "tags",
            "NS218",
            f"{len(tags)} tags, a response carries {MAX_TAGS_PER_RESPONSE} with the origin's own: CloudFront drops "
            "what is beyond, and our edges store nothing of it",
            "Keep the tags that something purges by.",
            item=tags[MAX_TAGS_PER_RESPONSE],
        )
    for tag in tags:
        # What is captured has one character at least.
        least = len(_IN_TAG.sub("x", tag))
        if least > MAX_TAG_CHARACTERS:
            about.at(
                "tags",
                "NS219",
                f"{least} characters at least, a tag has {MAX_TAG_CHARACTERS}",
                "Shorten it.",
                item=tag,
            )


def _check_origin(about: Remarks, origins: Origins) -> None:
    policy = about.policy
    if policy.origin and origins.by_name(policy.origin) is None:
        names = [origin.name for origin in origins.all]
        hint = did_you_mean(policy.origin, names) or f", expected one of {', '.join(names)}"
        about.at(
            "origin",
            "NS304",
            f"{policy.origin} is no origin of origins.yaml{hint}",
            "Name an origin that is there, add this one to origins.yaml, or leave origin out for the default.",
        )


def _check_markets(about: Remarks, markets: Markets, origins: Origins | None) -> None:
    policy = about.policy
    for market in markets.all:
        if about.writes("blocked_countries") and market.country in policy.blocked_countries:
            about.at(
                "blocked_countries",
                "NS308",
                f"{market.country} is the country of {market.id}: the market's own visitors would be answered with 451",
                f"Remove {market.country}, or retire the market.",
                item=market.country,
            )
    if policy.residency is Residency.ROUTE and origins is not None:
        listed = {jurisdiction for origin in origins.all for jurisdiction in origin.jurisdictions}
        needed = {market.jurisdiction for market in markets.all}
        if not listed & needed:
            about.at(
                "residency",
                "NS305",
                "route, and no origin lists the jurisdiction of any market: every request would be answered with 503",
                f"Say in origins.yaml which jurisdictions each origin holds, such as jurisdictions: [{min(needed)}].",
            )


def _check_shadows(remarks: Sequence[Remarks], markets: Markets) -> None:
    known = [about for about in remarks if about.readable("path") and about.writes("path")]
    for number, about in enumerate(known):
        for earlier in (each.policy for each in known[:number]):
            if covers(earlier.path, about.policy.path, markets):
                about.at(
                    "path",
                    "NS301",
                    f"{about.policy.path} is never reached: {earlier.id} ({earlier.where}) matches all of it first, "
                    "expected another path or an earlier place",
                    f"Put {about.policy.id} before {earlier.id}.",
                    at_value=True,
                )
                break
