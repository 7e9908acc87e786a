"""What an answer shows, read as a stranger would: prices in pages and JSON, links, and where it came from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import unquote

from loadtests.oracle import PriceKey
from loadtests.recorder.run import Status

_DATA = re.compile(r"<data\s([^>]*)>")
_ATTRIBUTE = re.compile(r'([a-z-]+)="([^"]*)"')
_HREF = re.compile(r'\shref="(/[^"#?]*)')
NOTICE_SLOT = b"<!--nearshelf:notice-->"
"""Where an edge may say that prices are being confirmed; gone where it did."""
_PASSED = frozenset({"bypass", "method"})
"""Values of `fwd` for what no stored response could have answered (RFC 9211 §2.2)."""


class Unreadable(ValueError):
    """An answer that should show prices does not follow docs/wire.md."""


def shown_prices(market: str, content_type: str, body: bytes) -> list[tuple[PriceKey, int]]:
    """Every price that a page or a JSON answer shows, in minor units. Raises Unreadable."""
    if content_type.startswith("text/html"):
        return list(_page_prices(market, body.decode("utf-8")))
    if content_type.startswith("application/json"):
        try:
            return list(_json_prices(market, json.loads(body)))
        except ValueError as exc:
            raise Unreadable(f"not JSON: {exc}") from exc
    return []


def _page_prices(market: str, page: str) -> Iterator[tuple[PriceKey, int]]:
    for tag in _DATA.finditer(page):
        attributes = dict(_ATTRIBUTE.findall(tag[1]))
        if "price" not in attributes.get("class", "").split():
            continue
        try:
            yield PriceKey(market, unescape(attributes["data-sku"])), int(attributes["value"])
        except (KeyError, ValueError) as exc:
            raise Unreadable(f"a price without data-sku or a whole value: {tag[0]}") from exc


def _json_prices(market: str, value: Any) -> Iterator[tuple[PriceKey, int]]:
    """Objects with `amount_minor`, however deep; the SKU stands beside it or in the nearest object around it."""
    yield from _objects(market, value, None)


def _objects(market: str, value: Any, sku: str | None) -> Iterator[tuple[PriceKey, int]]:
    if isinstance(value, list):
        for item in value:
            yield from _objects(market, item, sku)
    elif isinstance(value, dict):
        own = value.get("sku")
        sku = own if isinstance(own, str) else sku
        amount = value.get("amount_minor")
        if isinstance(amount, int):
            if sku is None:
                raise Unreadable("an amount_minor without a sku")
            yield PriceKey(str(value.get("market", market)), sku), amount
        for item in value.values():
            yield from _objects(market, item, sku)


def links(page: bytes) -> list[str]:
    """The paths that a page links to, in its order, each once, as written (still percent-encoded)."""
    return list(dict.fromkeys(unescape(path) for path in _HREF.findall(page.decode("utf-8"))))


def products_on(market: str, page: bytes) -> dict[str, str]:
    """Slug -> SKU of the products that a listing shows: each price belongs to the product linked last before it."""
    text = page.decode("utf-8")
    found: dict[str, str] = {}
    slug: str | None = None
    pattern = re.compile(rf'\shref="/{re.escape(market)}/products/([^"#?/]+)(?=["#?])|<data\s([^>]*)>')
    for token in pattern.finditer(text):
        if token[1] is not None:
            slug = unquote(unescape(token[1]))
            continue
        attributes = dict(_ATTRIBUTE.findall(token[2]))
        if slug is not None and slug not in found and "price" in attributes.get("class", "").split():
            found[slug] = unescape(attributes.get("data-sku", ""))
    return {slug: sku for slug, sku in found.items() if sku}


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """Where an answer came from, by the member of Cache-Status nearest to the viewer (RFC 9211)."""

    name: str
    """`hit`, `hit, stale`, the reason for forwarding (`fwd=uri-miss`, `fwd=stale`...), `edge` or `none`."""
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.detail})" if self.detail else self.name


def cache_status(headers: Mapping[str, str]) -> CacheStatus:
    """The last member of Cache-Status; `none` where there is no such field (the origin itself, a refusal).

    A stored response served although it is not fresh has a detail that names staleness, or a negative ttl. `edge` is
    the edge's own answer, such as a refusal.
    """
    parameters = _nearest_member(headers)
    if parameters is None:
        return CacheStatus("none")
    detail = parameters.get("detail", "")
    if "hit" in parameters:
        stale = detail.startswith("stale") or parameters.get("ttl", "0").startswith("-")
        return CacheStatus("hit, stale" if stale else "hit", detail if stale else "")
    if "fwd" in parameters:
        return CacheStatus(f"fwd={parameters['fwd']}", detail)
    return CacheStatus("edge", detail)


def status_of(headers: Mapping[str, str], code: int | None) -> Status:
    """The class that an answer is counted in, by its code and the member of Cache-Status nearest to the viewer.

    `headers`: names in lower case, repeated lines joined by a comma. `code`: None when there was no complete answer.
    What was shown from the store after the origin had been asked in vain is STALE. What this edge got from a tier
    behind it, or by another viewer's request, is a MISS of its own store.
    """
    if code is None or code >= 500:
        return Status.ERROR
    parameters = _nearest_member(headers)
    if parameters is None:
        return Status.DIRECT
    if "hit" in parameters:
        stale = parameters.get("detail", "").startswith("stale") or parameters.get("ttl", "0").startswith("-")
        return Status.STALE if stale else Status.HIT
    if "fwd" not in parameters:
        return Status.EDGE
    if parameters["fwd"] in _PASSED:
        return Status.PASS
    if parameters.get("detail", "").startswith("stale"):
        return Status.STALE
    return Status.REVALIDATED if parameters.get("fwd-status") == "304" else Status.MISS


def _nearest_member(headers: Mapping[str, str]) -> dict[str, str] | None:
    """The parameters of the last member of Cache-Status, values without quotes; None where there is no such field."""
    field = headers.get("cache-status", "")
    if not field:
        return None
    parameters: dict[str, str] = {}
    for part in field.split(",")[-1].split(";")[1:]:
        name, _, value = part.strip().partition("=")
        parameters[name] = value.strip('"')
    return parameters


def is_marked(headers: Mapping[str, str], body: bytes) -> bool:
    """Whether a page says that its prices are being confirmed: shown, but not as current (rule 5)."""
    return "stale-marked" in headers.get("cache-status", "") and NOTICE_SLOT not in body
