"""What the storefront's pages and its JSON show, and the tags that they carry for it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import httpx
import orjson
import pytest
from sqlalchemy import text

from cache_policies import tags
from cache_policies.markets import load_markets
from origin.catalog import import_command, service
from origin.catalog.model import PAGE_SIZE, Sort
from origin.db import Database
from origin.inventory import service as inventory
from origin.money import format_money
from origin.pricing import service as pricing
from origin.shop import open_shop
from tests.support.html_page import Page, read_page
from tests.support.origin import OriginClient, settings_of
from tests.support.servers import DatabaseUrls, EmbeddedServers

MARKETS = load_markets()
PRODUCTS = 240


@pytest.fixture(scope="module")
def filled(postgres: EmbeddedServers) -> Iterator[DatabaseUrls]:
    """A database with a demo catalog, for all the tests here: they only read."""
    urls = postgres.copy()

    async def fill() -> None:
        database = Database(urls.primary, markets=MARKETS)
        assert await import_command.seed(database, products=PRODUCTS, seed=7)
        await database.close()

    asyncio.run(fill())
    yield urls
    postgres.drop(urls.name)


@pytest.fixture
async def origin(filled: DatabaseUrls):
    async with open_shop(settings_of(filled, replicas=False)) as shop, OriginClient(shop) as client:
        yield client


async def page_at(origin: OriginClient, address: str, status: int = 200) -> tuple[Page, httpx.Response]:
    response = await origin.get(address)
    assert response.status_code == status, response.text[:400]
    return read_page(response.text), response


def tags_of(response: httpx.Response) -> set[str]:
    return set(response.headers["cache-tag"].split(", "))


async def everything(origin: OriginClient) -> dict[str, str]:
    """An address of each kind of page, by its kind."""
    async with origin.shop.database.writes.connect() as connection:
        [popular, *_] = await service.most_popular(connection, 1)
        with_variants = await connection.scalar(
            text(
                "SELECT slug FROM catalog.product p JOIN catalog.variant v ON v.product_id = p.id ORDER BY slug LIMIT 1"
            )
        )
        [bare] = (
            await connection.execute(
                text(
                    "SELECT slug FROM catalog.product p WHERE NOT EXISTS"
                    " (SELECT FROM catalog.variant v WHERE v.product_id = p.id) ORDER BY slug LIMIT 1"
                )
            )
        ).scalars()
    return {
        "home": "/eu-eur/",
        "department": "/eu-eur/c/kitchen",
        "by price": "/eu-eur/c/kitchen?sort=price-up",
        "second page": "/jp-jpy/c/kitchen?page=2&sort=name",
        "leaf": "/gb-gbp/c/table/mugs-and-cups/mugs",
        "popular": f"/us-usd/products/{popular.slug}",
        "variants": f"/eu-eur/products/{with_variants}",
        "bare": f"/ca-cad/products/{bare}",
    }


async def test_every_page_is_well_formed_light_and_has_its_slot(origin: OriginClient):
    for kind, address in (await everything(origin)).items():
        page, response = await page_at(origin, address)
        assert page.comments == ["nearshelf:notice"], kind
        assert response.text.index('<main id="main"') < response.text.index("<!--nearshelf:notice-->")
        assert len(response.content) < 40_000, kind
        assert page.one("html").attributes["lang"] == "en"
        assert page.one("meta", name="description").attributes["content"]
        [script, *data] = page.all("script")
        assert script.text == ""
        assert script.attributes["src"].startswith("/static/")
        assert all(each.attributes == {"type": "application/ld+json"} for each in data), kind
        first, *later = [image for image in page.all("img") if image.attributes["src"].startswith("/art/")]
        assert first.attributes["fetchpriority"] == "high", kind
        assert not any("fetchpriority" in image.attributes for image in later), kind
        assert len(page.all("link", rel="stylesheet")) == 1


async def test_every_price_is_the_price_in_the_market_s_own_writing(origin: OriginClient):
    for kind, address in (await everything(origin)).items():
        page, _ = await page_at(origin, address)
        market = MARKETS.by_id(address.split("/")[1])
        assert market is not None
        shown = page.all("data")
        assert shown, kind
        async with origin.shop.database.writes.connect() as connection:
            prices = await pricing.prices(connection, MARKETS, market, [each.attributes["data-sku"] for each in shown])
        for each in shown:
            price = prices[each.attributes["data-sku"]]
            assert each.attributes["class"] == "price"
            assert each.attributes["value"] == str(price.money.minor_units)
            assert each.text == format_money(price.money, market.language)


async def test_every_page_carries_the_tags_of_all_that_it_shows(origin: OriginClient):
    for kind, address in (await everything(origin)).items():
        page, response = await page_at(origin, address)
        market = address.split("/")[1]
        carried = tags_of(response)
        assert len(carried) <= 50
        assert tags.navigation_tag(market) in carried, kind
        skus = {each.attributes["data-sku"] for each in page.all("data")}
        pictured = {image.attributes["src"].rpartition("/")[2].removesuffix(".svg") for image in page.all("img")}
        async with origin.shop.database.writes.connect() as connection:
            for sku in skus | {sku for sku in pictured if "-" in sku}:
                found = await service.product_of(connection, sku)
                assert found is not None, sku
                assert tags.product_tag(market, found.sku) in carried, (kind, sku)
            currencies = MARKETS.by_id(market)
            assert currencies is not None
            prices = await pricing.prices(connection, MARKETS, currencies, list(skus))
            sources = {price.source for price in prices.values()}
        if "converted" in sources or "price" in kind:
            assert tags.rates_tag(market) in carried, kind


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("/eu-eur/", {tags.home_tag("eu-eur")}),
        ("/eu-eur/c/kitchen", {tags.category_tag("eu-eur", "kitchen")}),
        (
            "/eu-eur/c/kitchen?sort=price-down",
            {tags.category_tag("eu-eur", "kitchen"), tags.category_prices_tag("eu-eur", "kitchen")},
        ),
        ("/api/v1/eu-eur/products", {tags.list_tag("eu-eur")}),
    ],
)
async def test_what_a_listing_selects_has_its_tag(origin: OriginClient, address: str, wanted: set[str]):
    response = await origin.get(address)
    assert wanted <= tags_of(response)


async def test_a_product_page_carries_its_address_and_the_categories_it_is_related_in(origin: OriginClient):
    address = (await everything(origin))["variants"]
    _, response = await page_at(origin, address)
    slug = address.rpartition("/")[2]
    async with origin.shop.database.writes.connect() as connection:
        product = await service.product_by_slug(connection, slug)
    assert product is not None
    assert tags.slug_tag("eu-eur", slug) in tags_of(response)
    assert {tags.category_tag("eu-eur", path) for path in product.category_paths} <= tags_of(response)


@pytest.mark.parametrize(
    ("address", "tag"),
    [
        ("/eu-eur/products/nope", tags.slug_tag("eu-eur", "nope")),
        ("/eu-eur/c/nope", tags.category_tag("eu-eur", "nope")),
        ("/eu-eur/c/kitchen?page=999", tags.category_tag("eu-eur", "kitchen")),
        ("/eu-eur/what/is/this", tags.navigation_tag("eu-eur")),
    ],
)
async def test_what_is_not_there_says_so_briefly_and_can_be_purged(origin: OriginClient, address: str, tag: str):
    page, response = await page_at(origin, address, 404)
    assert page.comments == ["nearshelf:notice"]
    assert {tag, tags.navigation_tag("eu-eur")} <= tags_of(response)
    assert response.headers["cdn-cache-control"].startswith("max-age=30, stale-while-revalidate=0, stale-if-error=")
    assert "catalog-version" in response.headers


@pytest.mark.parametrize("address", ["/xx-xxx/", "/xx-xxx/c/kitchen", "/api/v1/xx-xxx/products", "/wp-login.php"])
async def test_what_belongs_to_no_market_is_not_kept(origin: OriginClient, address: str):
    response = await origin.get(address)
    assert response.status_code == 404
    assert response.headers["cache-control"] == "no-store"


async def test_pages_have_24_products_each_once_and_know_their_neighbours(origin: OriginClient):
    for sort in Sort:
        seen: list[str] = []
        address: str | None = f"/eu-eur/c/kitchen{'' if sort is Sort.POPULAR else f'?sort={sort}'}"
        while address is not None:
            page, _ = await page_at(origin, address)
            cards = [link.attributes["href"] for link in page.all("a") if "/products/" in link.attributes["href"]]
            assert len(cards) <= PAGE_SIZE
            seen += cards
            following = page.all("link", rel="next")
            address = following[0].attributes["href"] if following else None
            assert [link.attributes["href"] for link in page.all("a", rel="next")] == (
                [address] if address is not None else []
            )
        assert len(seen) == len(set(seen))
        async with origin.shop.database.writes.connect() as connection:
            tree = await service.tree(connection)
            assert len(seen) == len(await service.skus_in(connection, tree.subtree("kitchen")))


async def test_listings_are_in_the_order_that_they_say(origin: OriginClient):
    async def values(sort: Sort) -> list[int]:
        page, _ = await page_at(origin, f"/eu-eur/c/kitchen?sort={sort}")
        return [int(each.attributes["value"]) for each in page.all("data")]

    up, down = await values(Sort.PRICE_UP), await values(Sort.PRICE_DOWN)
    assert up == sorted(up)
    assert down == sorted(down, reverse=True)
    assert up[0] < down[0]
    page, _ = await page_at(origin, "/eu-eur/c/kitchen?sort=name")
    names = [heading.text.lower() for heading in page.all("h2")]
    assert names == sorted(names)


@pytest.mark.parametrize("query", ["?sort=nonsense", "?page=0", "?page=-1", "?page=1x", "?page=٣", "?page=99999999999"])
async def test_a_query_that_makes_no_sense_is_the_first_page(origin: OriginClient, query: str):
    page, _ = await page_at(origin, f"/eu-eur/c/kitchen{query}")
    assert page.one("link", rel="canonical").attributes["href"] == "http://origin/eu-eur/c/kitchen"


async def test_a_variant_is_chosen_by_its_link(origin: OriginClient):
    address = (await everything(origin))["variants"]
    page, _ = await page_at(origin, address)
    links = [link.attributes["href"] for link in page.all("a", rel="nofollow")]
    assert links
    for link in links:
        chosen, response = await page_at(origin, link)
        sku = link.rpartition("=")[2]
        assert chosen.all("data")[0].attributes["data-sku"] == sku
        [current] = chosen.all("a", rel="nofollow", aria_current="true")
        assert current.attributes["href"] == link
        assert chosen.one("link", rel="canonical").attributes["href"].endswith(address)
        data = orjson.loads(chosen.one("script", type="application/ld+json").text)
        assert data["sku"] == sku
        assert response.text.count("<!--nearshelf:notice-->") == 1
    unknown, _ = await page_at(origin, f"{address}?variant=NOPE")
    assert unknown.all("data")[0].attributes["data-sku"] not in {link.rpartition("=")[2] for link in links}


async def test_each_market_links_to_the_same_page_in_the_others(origin: OriginClient):
    page, _ = await page_at(origin, "/eu-eur/c/kitchen?sort=name&page=2")
    assert page.one("link", rel="canonical").attributes["href"] == "http://origin/eu-eur/c/kitchen?page=2&sort=name"
    alternates = {link.attributes["hreflang"]: link.attributes["href"] for link in page.all("link", rel="alternate")}
    assert alternates["en-JP"] == "http://origin/jp-jpy/c/kitchen?page=2&sort=name"
    assert alternates["x-default"] == "http://origin/us-usd/c/kitchen?page=2&sort=name"
    assert len(alternates) == len(MARKETS.all) + 1


async def test_a_host_that_is_no_host_is_not_repeated(origin: OriginClient):
    response = await origin.get("/eu-eur/", headers={"host": 'evil"><script>'})
    page = read_page(response.text)
    assert page.one("link", rel="canonical").attributes["href"] == "/eu-eur/"


async def test_the_switcher_remembers_and_goes_to_the_same_page(origin: OriginClient):
    page, _ = await page_at(origin, "/eu-eur/c/kitchen?sort=name")
    form = page.one("form", action="/market")
    assert form.attributes["method"] == "post"
    fields = {"return_to": page.one("input", name="return_to").attributes["value"], "market": "jp-jpy"}
    assert fields["market"] in {button.attributes["value"] for button in page.all("button", name="market")}
    response = await origin.post("/market", data=fields)
    assert response.status_code == 303
    assert response.headers["location"] == "/jp-jpy/c/kitchen?sort=name"
    assert response.headers["cache-control"] == "no-store"
    cookie = response.headers["set-cookie"]
    assert cookie.startswith("ns_market=jp-jpy; HttpOnly; Max-Age=31536000; Path=/; SameSite=lax")
    entry = await origin.get("/", headers={"cookie": "ns_market=jp-jpy"})
    assert (entry.status_code, entry.headers["location"]) == (302, "/jp-jpy/")


@pytest.mark.parametrize(
    ("headers", "location"),
    [
        ({}, "/us-usd/"),
        ({"nearshelf-country": "JP"}, "/us-usd/"),  # not from an edge
        ({"nearshelf-country": "JP", "nearshelf-edge-key": "the key of the edges in tests"}, "/jp-jpy/"),
        ({"nearshelf-country": "QQ", "nearshelf-edge-key": "the key of the edges in tests"}, "/us-usd/"),
        ({"cookie": "ns_market=nope"}, "/us-usd/"),
    ],
)
async def test_the_way_in(origin: OriginClient, headers: dict[str, str], location: str):
    response = await origin.get("/", headers=headers)
    assert (response.status_code, response.headers["location"]) == (302, location)


async def test_the_switcher_refuses_what_it_does_not_know(origin: OriginClient):
    assert (await origin.post("/market", data={"market": "xx-xxx"})).status_code == 404
    assert (await origin.post("/market", data={"market": "jp-jpy", "x": "y" * 9_000})).status_code == 413
    assert (await origin.get("/eu-eur")).headers["location"] == "/eu-eur/"


async def test_pictures_and_sheets_are_kept_for_ever_and_only_under_their_digest(origin: OriginClient):
    page, _ = await page_at(origin, "/eu-eur/")
    addresses = {image.attributes["src"] for image in page.all("img")}
    addresses |= {page.one("link", rel="stylesheet").attributes["href"], page.one("script").attributes["src"]}
    for address in addresses:
        response = await origin.get(address)
        assert response.status_code == 200, address
        assert "immutable" in response.headers["cdn-cache-control"]
        assert "catalog-version" in response.headers
        digest = address.split("/")[2]
        wrong = await origin.get(address.replace(digest, "0" * 16))
        assert wrong.status_code == 404
    assert (await origin.get("/art/0000000000000000/NOPE.svg")).status_code == 404


async def test_the_sheet_asks_nobody_else_and_respects_what_the_reader_wants(origin: OriginClient):
    page, _ = await page_at(origin, "/eu-eur/")
    sheet = (await origin.get(page.one("link", rel="stylesheet").attributes["href"])).text
    assert not re.search(r"url\(|@import", sheet)
    for wish in ("prefers-color-scheme: dark", "prefers-reduced-motion: reduce", "print"):
        assert f"@media ({wish})" in sheet or f"@media {wish}" in sheet


async def test_an_unchanged_page_is_304_with_its_labels(origin: OriginClient):
    for address in (*(await everything(origin)).values(), "/api/v1/eu-eur/products"):
        first = await origin.get(address)
        again = await origin.get(address, headers={"if-none-match": first.headers["etag"]})
        assert again.status_code == 304
        for name in ("etag", "cache-tag", "catalog-version", "cdn-cache-control"):
            assert again.headers[name] == first.headers[name]


async def test_the_json_list_leads_through_all_products(origin: OriginClient):
    address = "/api/v1/jp-jpy/products"
    skus: list[str] = []
    while address:
        response = await origin.get(address)
        document = response.json()
        assert document["count"] == PRODUCTS
        assert {tags.product_tag("jp-jpy", each["sku"]) for each in document["products"]} <= tags_of(response)
        assert "stale-if-error=0" in response.headers["cdn-cache-control"]
        skus += [each["sku"] for each in document["products"]]
        address = document["next"]
    assert skus == sorted(set(skus))
    assert len(skus) == PRODUCTS
    past = await origin.get("/api/v1/jp-jpy/products?page=999")
    assert (past.status_code, past.headers["content-type"]) == (404, "application/problem+json")


async def test_the_json_of_a_product_is_found_by_its_sku_and_by_a_variant_s(origin: OriginClient):
    slug = (await everything(origin))["variants"].rpartition("/")[2]
    async with origin.shop.database.writes.connect() as connection:
        product = await service.product_by_slug(connection, slug)
        assert product is not None
        market = MARKETS.by_id("jp-jpy")
        assert market is not None
        prices = await pricing.prices(connection, MARKETS, market, [product.sku])
        bands = await inventory.bands(connection, [product.sku])
    document = (await origin.get(f"/api/v1/jp-jpy/products/{product.sku}")).json()
    assert document["price"]["amount_minor"] == prices[product.sku].money.minor_units
    assert document["price"]["amount"] == str(prices[product.sku].money.minor_units)
    assert document["stock"] == bands[product.sku].value
    assert [variant["sku"] for variant in document["variants"]] == [variant.sku for variant in product.variants]
    of_variant = await origin.get(f"/api/v1/jp-jpy/products/{product.variants[0].sku}")
    assert of_variant.json() == document
    assert tags.product_tag("jp-jpy", product.sku) in tags_of(of_variant)


async def test_the_json_of_no_product_can_be_purged_when_there_is_one(origin: OriginClient):
    response = await origin.get("/api/v1/eu-eur/products/NOPE")
    assert response.status_code == 404
    assert response.json()["detail"] == "No product has the SKU 'NOPE'."
    assert tags_of(response) == {"p:eu-eur:nope", "l:eu-eur", "m:eu-eur"}


async def test_products_are_found_by_sku_by_variant_and_by_words(origin: OriginClient):
    async with origin.shop.database.writes.connect() as connection:
        [card, *_] = await service.most_popular(connection, 1)
        product = await service.product_by_sku(connection, card.sku)
        assert product is not None
        by_sku = await service.find_products(connection, f"  {card.sku.lower()} ", 5)
        by_words = await service.find_products(connection, " ".join(reversed(card.name.split())), 50)
        assert by_sku[0].sku == card.sku
        assert card.sku in {found.sku for found in by_words}
        assert await service.find_products(connection, "   ", 5) == []
        assert await service.find_products(connection, "%", 5) == []
        assert len(await service.find_products(connection, "a", 3)) == 3
        assert await service.category_paths_of(connection, "NOPE") == ()
        paths = await service.category_paths_of(connection, card.sku)
        assert paths[0] == card.category_path.split("/")[0]
        assert paths[-1] == card.category_path


async def test_an_empty_shop_has_its_pages(database: DatabaseUrls):
    async with open_shop(settings_of(database, replicas=False)) as shop, OriginClient(shop) as client:
        page, _ = await page_at(client, "/eu-eur/")
        assert page.all("data") == []
        assert (await client.get("/api/v1/eu-eur/products")).json()["products"] == []
