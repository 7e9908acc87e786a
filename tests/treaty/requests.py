"""Requests that every edge must route, key and refuse alike: gateway, CloudFront Function, Lambda@Edge handler.

Written against the packaged policies. `fault` is the reason of a 400; `status` an answer of the edge itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    name: str
    target: str
    """Path and query as the viewer sent them."""
    route: str = ""
    market: str = ""
    path: str = ""
    """The path in the key; empty: as in the target."""
    query: tuple[tuple[str, str], ...] = ()
    fault: str = ""
    status: int = 0
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)


CASES = [
    Case("home", "/eu-eur/", "home", "eu-eur"),
    Case("home without its slash is no route of its own", "/eu-eur", "default"),
    Case("unknown market", "/xx-xxx/", "default"),
    Case("market in capitals is another address", "/EU-EUR/", "default"),
    Case("product", "/gb-gbp/products/oak-lamp", "product-page", "gb-gbp"),
    Case("product with a trailing slash", "/gb-gbp/products/oak-lamp/", "default"),
    Case("product of an unknown market", "/de-eur/products/oak-lamp", "default"),
    Case("deeper than a product", "/gb-gbp/products/oak-lamp/reviews", "default"),
    Case(
        "variant counts",
        "/gb-gbp/products/oak-lamp?variant=S-1",
        "product-page",
        "gb-gbp",
        "/gb-gbp/products/oak-lamp",
        (("variant", "S-1"),),
    ),
    Case(
        "tracking parameters do not",
        "/gb-gbp/products/oak-lamp?utm_source=x&variant=S-1&gclid=9",
        "product-page",
        "gb-gbp",
        "/gb-gbp/products/oak-lamp",
        (("variant", "S-1"),),
    ),
    Case("category", "/us-usd/c/lighting", "category-page", "us-usd"),
    Case("category below a category", "/us-usd/c/lighting/desk/oak", "category-page", "us-usd"),
    Case("category without a name", "/us-usd/c/", "default"),
    Case(
        "query in the order of the policy",
        "/us-usd/c/lighting?page=2&sort=price",
        "category-page",
        "us-usd",
        "/us-usd/c/lighting",
        (("sort", "price"), ("page", "2")),
    ),
    Case(
        "the same, other way round",
        "/us-usd/c/lighting?sort=price&page=2",
        "category-page",
        "us-usd",
        "/us-usd/c/lighting",
        (("sort", "price"), ("page", "2")),
    ),
    Case(
        "an encoded parameter name",
        "/us-usd/c/lighting?%70age=2",
        "category-page",
        "us-usd",
        "/us-usd/c/lighting",
        (("page", "2"),),
    ),
    Case(
        "blanks in a value",
        "/us-usd/c/lighting?sort=a+b%20c",
        "category-page",
        "us-usd",
        "/us-usd/c/lighting",
        (("sort", "a b c"),),
    ),
    Case(
        "letters beyond ASCII in a value",
        "/us-usd/c/lighting?sort=%C3%A4%21%28",
        "category-page",
        "us-usd",
        "/us-usd/c/lighting",
        (("sort", "ä!("),),
    ),
    Case(
        "a parameter without a value",
        "/us-usd/c/lighting?sort",
        "category-page",
        "us-usd",
        "/us-usd/c/lighting",
        (("sort", ""),),
    ),
    Case(
        "an ampersand within a value",
        "/us-usd/c/lighting?sort=a%26page%3D2",
        "category-page",
        "us-usd",
        "/us-usd/c/lighting",
        (("sort", "a&page=2"),),
    ),
    Case(
        "parameter names in capitals are others",
        "/us-usd/c/lighting?PAGE=2",
        "category-page",
        "us-usd",
        "/us-usd/c/lighting",
    ),
    Case("a parameter twice", "/us-usd/c/lighting?page=2&page=3", fault="repeated-parameter"),
    Case("a parameter twice, once encoded", "/us-usd/c/lighting?page=2&%70age=3", fault="repeated-parameter"),
    Case("a value that is not UTF-8", "/us-usd/c/lighting?page=%FF", fault="bad-encoding"),
    Case("a value with half an escape", "/us-usd/c/lighting?page=%2", fault="bad-encoding"),
    Case("a control in a value", "/us-usd/c/lighting?page=2%0D%0A", fault="encoded-control"),
    Case(
        "rubbish in a parameter that does not count",
        "/us-usd/c/lighting?utm=%FF%2",
        "category-page",
        "us-usd",
        "/us-usd/c/lighting",
    ),
    Case("unreserved letters are decoded", "/us-usd/c/%6cight%2Ding", "category-page", "us-usd", "/us-usd/c/light-ing"),
    Case("escapes in capitals", "/us-usd/c/caf%c3%a9", "category-page", "us-usd", "/us-usd/c/caf%C3%A9"),
    Case("quotes and braces are encoded", '/us-usd/c/a"b{c}', "category-page", "us-usd", "/us-usd/c/a%22b%7Bc%7D"),
    Case("reserved characters stay", "/us-usd/c/a&b=(c);d@e", "category-page", "us-usd"),
    Case("a dot segment", "/us-usd/c/../cart", fault="dot-segment"),
    Case("an encoded dot segment", "/us-usd/c/%2e%2E/cart", fault="dot-segment"),
    Case("a single dot", "/us-usd/./", fault="dot-segment"),
    Case("dots within a name", "/us-usd/c/..lighting...", "category-page", "us-usd"),
    Case("an empty segment", "/us-usd//c/lighting", fault="empty-segment"),
    Case("an encoded slash", "/us-usd/c/a%2Fb", fault="encoded-slash"),
    Case("an encoded backslash", "/us-usd/c/a%5cb", fault="encoded-slash"),
    Case("a backslash", "/us-usd/c/a\\b", fault="bad-character"),
    Case("an encoded nul", "/us-usd/c/a%00", fault="encoded-control"),
    Case("half an escape in the path", "/us-usd/c/a%4", fault="bad-encoding"),
    Case("a double encoding is one name", "/us-usd/c/a%252Fb", "category-page", "us-usd"),
    Case("price", "/api/v1/jp-jpy/prices/SKU-1", "price", "jp-jpy"),
    Case("price, its case kept", "/api/v1/jp-jpy/prices/sku-1", "price", "jp-jpy"),
    Case(
        "price takes no parameters",
        "/api/v1/jp-jpy/prices/SKU-1?currency=USD",
        "price",
        "jp-jpy",
        "/api/v1/jp-jpy/prices/SKU-1",
    ),
    Case("stock", "/api/v1/sg-sgd/stock/SKU-1", "stock", "sg-sgd"),
    Case(
        "the list of products and one product",
        "/api/v1/sg-sgd/products?page=3",
        "product-list",
        "sg-sgd",
        "/api/v1/sg-sgd/products",
        (("page", "3"),),
    ),
    Case("product in the API", "/api/v1/sg-sgd/products/SKU-1", "product", "sg-sgd"),
    Case("HEAD has the key of GET", "/eu-eur/products/oak-lamp", "product-page", "eu-eur", method="HEAD"),
    Case("POST to a page", "/eu-eur/products/oak-lamp", status=405, method="POST"),
    Case("DELETE of a price", "/api/v1/eu-eur/prices/SKU-1", status=405, method="DELETE"),
    Case("cart", "/eu-eur/cart", "cart", "eu-eur", cookies={"ns_cart": "1"}),
    Case(
        "the cart's query passes as it is",
        "/eu-eur/cart?b=2&a=1&a=%FF",
        "cart",
        "eu-eur",
        "/eu-eur/cart",
        (("*", "b=2&a=1&a=%FF"),),
    ),
    Case("POST to the cart", "/eu-eur/cart/items", "cart-pages", "eu-eur", method="POST", cookies={"ns_cart": "1"}),
    Case("PUT to the cart", "/eu-eur/cart/items/1", "cart-pages", "eu-eur", method="PUT"),
    Case("checkout", "/eu-eur/checkout/pay", "checkout-pages", "eu-eur", method="POST"),
    Case(
        "cookies change no key",
        "/eu-eur/products/oak-lamp",
        "product-page",
        "eu-eur",
        cookies={"ns_market": "us-usd", "x": "y"},
    ),
    Case(
        "nor does a client's country",
        "/eu-eur/products/oak-lamp",
        "product-page",
        "eu-eur",
        headers={"nearshelf-country": "US", "x-country": "US"},
    ),
    Case(
        "nor a client's generation",
        "/eu-eur/products/oak-lamp",
        "product-page",
        "eu-eur",
        headers={"nearshelf-generation": "9.9", "min-catalog-version": "9.9"},
    ),
    Case("switching the market", "/market", "market-switcher", method="POST"),
    Case("the feed is not for viewers", "/edge/v1/feed", status=404, method="POST"),
    Case("nor is the origin's life", "/livez", status=404),
    Case("nor what it counts", "/metrics", status=404),
    Case("nor its readiness", "/readyz?x=1", status=404),
    Case("nor either, written otherwise", "/%6civez", status=404),
    Case("art", "/art/0123456789abcdef/SKU-1.svg", "art"),
    Case("static", "/static/0123456789abcdef/shop.css?v=1", "static", path="/static/0123456789abcdef/shop.css"),
    Case("anything else", "/robots.txt", "default"),
    Case(
        "anything else, with its query",
        "/search?q=oak%20lamp",
        "default",
        path="/search",
        query=(("*", "q=oak%20lamp"),),
    ),
]
"""By name; names are unique."""
