"""From values to HTML: what each page of the storefront shows. No I/O but reading templates, once."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any, Final
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

from cache_policies.markets import Market, Markets, TaxDisplay
from origin.catalog import art
from origin.catalog.model import PAGE_SIZE, Card, Category, Product, Sort, Tree, Variant
from origin.inventory.model import Band
from origin.money import amount_text, format_money
from origin.pricing.model import Price

SHOP_NAME: Final = "Linden & Loaf"
SHOP_LINE: Final = "Good things for everyday rooms"
MAX_DESCRIPTION_SHOWN: Final = 155
"""Characters of a meta description: what result pages show."""

STATIC: Final[Mapping[str, tuple[bytes, str]]] = {
    "site.css": (files("origin").joinpath("static/site.css").read_bytes(), "text/css; charset=utf-8"),
    "page.js": (files("origin").joinpath("static/page.js").read_bytes(), "text/javascript; charset=utf-8"),
    "icon.svg": (files("origin").joinpath("static/icon.svg").read_bytes(), "image/svg+xml"),
}
"""Content and media type of the files at `/static/{digest}/{name}`."""

_BAND_WORDS: Final = {Band.IN_STOCK: "In stock", Band.LOW: "Low stock", Band.OUT: "Sold out"}
_BAND_SCHEMA: Final = {
    Band.IN_STOCK: "https://schema.org/InStock",
    Band.LOW: "https://schema.org/LimitedAvailability",
    Band.OUT: "https://schema.org/OutOfStock",
}


def static_digest(name: str) -> str:
    """The digest in the address of a static file."""
    return _DIGESTS[name]


_DIGESTS: Final = {name: hashlib.sha256(content).hexdigest()[:16] for name, (content, _) in STATIC.items()}


def static_path(name: str) -> str:
    """`/static/{digest}/{name}`."""
    return f"/static/{_DIGESTS[name]}/{name}"


def product_path(market: str, slug: str) -> str:
    """`/{market}/products/{slug}`."""
    return f"/{market}/products/{quote(slug)}"


def category_path(market: str, path: str) -> str:
    """`/{market}/c/{category...}`."""
    return f"/{market}/c/{quote(path)}"


def listing_query(sort: Sort, page: int) -> str:
    """The query of a listing, in one spelling: nothing for what is the default."""
    pairs = [("page", str(page))] if page > 1 else []
    if sort is not Sort.POPULAR:
        pairs.append(("sort", sort.value))
    return f"?{urlencode(pairs)}" if pairs else ""


@dataclass(frozen=True, slots=True)
class Shown:
    """A product in a listing, with everything that its card says."""

    sku: str
    name: str
    href: str
    picture: str
    price: Price | None
    price_text: str
    band: Band

    @property
    def band_word(self) -> str:
        return _BAND_WORDS[self.band]


@dataclass(frozen=True, slots=True)
class ShownVariant:
    """A variant on the page of its product."""

    sku: str
    label: str
    href: str
    price: Price | None
    price_text: str
    band: Band
    chosen: bool

    @property
    def band_word(self) -> str:
        return _BAND_WORDS[self.band]


@dataclass(frozen=True, slots=True)
class Offers:
    """What prices and stock say about the SKUs of a page, in one market."""

    market: Market
    skus: Collection[str]
    """All of them: for one without a price, that too is something that prices say."""
    prices: Mapping[str, Price]
    bands: Mapping[str, Band]

    @property
    def hang_on_rates(self) -> bool:
        """Whether a rate made any price here, or could make one that is missing."""
        return any((price := self.prices.get(sku)) is None or price.source == "converted" for sku in self.skus)

    def text(self, sku: str) -> str:
        price = self.prices.get(sku)
        return "" if price is None else format_money(price.money, self.market.language)

    def band(self, sku: str) -> Band:
        return self.bands.get(sku, Band.OUT)

    def card(self, card: Card) -> Shown:
        return Shown(
            sku=card.sku,
            name=card.name,
            href=product_path(self.market.id, card.slug),
            picture=art.path_of(card),
            price=self.prices.get(card.sku),
            price_text=self.text(card.sku),
            band=self.band(card.sku),
        )

    def variant(self, product: Product, variant: Variant, chosen: str) -> ShownVariant:
        return ShownVariant(
            sku=variant.sku,
            label=variant.label,
            href=f"{product_path(self.market.id, product.slug)}?{urlencode({'variant': variant.sku})}",
            price=self.prices.get(variant.sku),
            price_text=self.text(variant.sku),
            band=self.band(variant.sku),
            chosen=variant.sku == chosen,
        )


@dataclass(frozen=True, slots=True)
class Frame:
    """What surrounds every page: the market, the tree, and where the page is."""

    market: Market
    markets: Markets
    tree: Tree
    origin: str
    """Scheme and authority as the viewer wrote them, such as `https://shop.example`; empty when not known."""
    path: str
    """Of this page, with the query in its one spelling; starts with the market."""

    def in_market(self, market: Market) -> str:
        """The address of this page in another market, absolute when it can be."""
        return f"{self.origin}/{market.id}{self.path[len(self.market.id) + 1 :]}"

    @property
    def canonical(self) -> str:
        return f"{self.origin}{self.path}"

    @property
    def departments(self) -> Sequence[Category]:
        return self.tree.departments()

    @property
    def tax_note(self) -> str:
        if self.market.tax_display is TaxDisplay.INCLUDED:
            return "Prices include tax."
        return "Prices exclude sales tax."


class Pages:
    """Every page as bytes."""

    @cached_property
    def _environment(self) -> Environment:
        environment = Environment(
            loader=PackageLoader("origin", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        environment.globals |= {
            "shop_name": SHOP_NAME,
            "shop_line": SHOP_LINE,
            "css": static_path("site.css"),
            "icon": static_path("icon.svg"),
            "script": static_path("page.js"),
            "category_path": category_path,
            "band_words": _BAND_WORDS,
        }
        return environment

    def home(self, frame: Frame, popular: Sequence[Shown], showcase: Mapping[str, Shown]) -> bytes:
        """`showcase`: for departments, by path, the product whose picture stands for it."""
        return self._render(
            "home.html",
            frame,
            title=f"{SHOP_NAME} · {SHOP_LINE}",
            about=f"{SHOP_NAME}: cookware, tableware, lighting, furniture and more, made to be used every day.",
            popular=popular,
            showcase=showcase,
        )

    def category(
        self, frame: Frame, category: Category, products: Sequence[Shown], *, sort: Sort, page: int, count: int
    ) -> bytes:
        pages = max(1, -(-count // PAGE_SIZE))
        base = category_path(frame.market.id, category.path)
        links = [(each.label, f"{base}{listing_query(each, 1)}", each is sort) for each in Sort]
        of_page = f", page {page} of {pages}" if pages > 1 else ""
        return self._render(
            "category.html",
            frame,
            title=f"{category.name}{of_page} · {SHOP_NAME}",
            about=f"{category.name} at {SHOP_NAME}: {_count(count, 'product')} in {frame.market.currency}{of_page}.",
            category=category,
            trail=frame.tree.trail(category.path)[:-1],
            children=frame.tree.children(category.path),
            products=products,
            sorts=links,
            count=count,
            count_text=_count(count, "product"),
            first=(page - 1) * PAGE_SIZE + 1,
            page=page,
            pages=pages,
            numbers=_page_numbers(page, pages),
            href=lambda number: f"{base}{listing_query(sort, number)}",
        )

    def product(self, frame: Frame, product: Product, offers: Offers, chosen: str, related: Sequence[Shown]) -> bytes:
        """`chosen`: the SKU whose price stands at the top: the product's own, or one of its variants'."""
        path = product.category_paths[0] if product.category_paths else ""
        shown = offers.card(product.card)
        price = offers.prices.get(chosen)
        return self._render(
            "product.html",
            frame,
            title=f"{product.name} · {SHOP_NAME}",
            about=_shortened(product.description) or f"{product.name} at {SHOP_NAME}.",
            product=product,
            shown=shown,
            chosen=chosen,
            price=price,
            price_text=offers.text(chosen),
            band=offers.band(chosen),
            band_word=_BAND_WORDS[offers.band(chosen)],
            choose=_choice_of(product),
            variants=[offers.variant(product, variant, chosen) for variant in product.variants],
            trail=frame.tree.trail(path),
            facts=_facts(product.attributes),
            related=related,
            data=_structured(frame, product, shown, chosen, price, offers.band(chosen)),
        )

    def not_found(self, frame: Frame, what: str) -> bytes:
        """`what`: a sentence that says what is not here."""
        return self._render(
            "not_found.html", frame, title=f"Not found · {SHOP_NAME}", about="This page is not here.", what=what
        )

    def _render(self, template: str, frame: Frame, **values: Any) -> bytes:
        text = self._environment.get_template(template).render(frame=frame, market=frame.market, **values)
        return text.encode()


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _choice_of(product: Product) -> str:
    """`Choose a size and colour`."""
    names = [str(option["name"]).replace("_", " ") for option in product.options]
    return f"Choose a {' and '.join(names)}" if names else "Choose one"


def _page_numbers(page: int, pages: int) -> list[int]:
    """The first, the last and those around `page`; 0 stands for a gap."""
    wanted = sorted({1, pages, *range(max(1, page - 1), min(pages, page + 1) + 1)})
    numbers: list[int] = []
    for number in wanted:
        if numbers and number - numbers[-1] == 2:
            numbers.append(number - 1)
        elif numbers and number - numbers[-1] > 2:
            numbers.append(0)
        numbers.append(number)
    return numbers


def _shortened(text: str) -> str:
    words = " ".join(text.split())
    if len(words) <= MAX_DESCRIPTION_SHOWN:
        return words
    return words[:MAX_DESCRIPTION_SHOWN].rpartition(" ")[0].rstrip(",;:.–- ") + "…"


def _facts(attributes: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = []
    for name, value in sorted(attributes.items(), key=lambda pair: pair[0].lower()):
        if text := _fact(value):
            label = name.replace("_", " ").strip()
            facts.append((label[:1].upper() + label[1:], text))
    return facts


def _fact(value: Any) -> str:
    match value:
        case True:
            return "Yes"
        case False:
            return "No"
        case list():
            return ", ".join(filter(None, map(_fact, value)))
        case _:
            return str(value)


def _structured(
    frame: Frame, product: Product, shown: Shown, chosen: str, price: Price | None, band: Band
) -> dict[str, Any]:
    """The product for machines (schema.org)."""
    data: dict[str, Any] = {
        "@context": "https://schema.org",
        "@type": "Product",
        "name": product.name,
        "sku": chosen,
        "description": _shortened(product.description),
        "image": f"{frame.origin}{shown.picture}",
    }
    if price is not None:
        data["offers"] = {
            "@type": "Offer",
            "url": frame.canonical,
            "price": amount_text(price.money),
            "priceCurrency": price.money.currency,
            "availability": _BAND_SCHEMA[band],
        }
    return data
