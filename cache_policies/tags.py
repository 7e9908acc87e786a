"""The spelling of every cache tag: made here and nowhere else.

A tag is lower case and percent-encoded, because CloudFront compares tags without regard to case and
separates them by commas. Two names that differ only in case share a tag, which purges too much, never
too little. Which change names which tag is `origin/events/purge_map.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cache_policies.percent import percent_encoded
from cache_policies.positions import MAX_TAG_CHARACTERS

EVERYTHING = "*"
"""The tag that every response carries without saying so."""

_PATH = "path:"
_OF_A_MARKET = frozenset({"p", "d", "s", "c", "cp", "h", "n", "l", "rates", "many"})
"""Kinds of tags that name their market after the kind."""
# Commas and blanks separate tags where they travel; `*` alone is EVERYTHING, and within a name it looks like a pattern.
_NOT_IN_A_SITE_TAG = re.compile(rb"[^!-)+\--~]")
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


def _part(name: str) -> str:
    return percent_encoded(name.lower()).lower()


def product_tag(market: str, sku: str) -> str:
    """Price, stock band and copy of one product in one market, its variants included.

    Carried by whatever shows the product, and by the 404 of an unknown SKU.
    """
    return f"p:{market}:{_part(sku)}"


def department_tag(market: str, category_path: str) -> str:
    """Price, stock band and copy of every product whose first category is, or is below, that at the top of
    `category_path`: what changes more of them than an entry can name names this.

    Carried by whatever shows one of them.
    """
    return f"d:{market}:{_part(category_path.partition('/')[0])}"


def slug_tag(market: str, slug: str) -> str:
    """Which product the address `/{market}/products/{slug}` shows; also its 404."""
    return f"s:{market}:{_part(slug)}"


def category_tag(market: str, path: str) -> str:
    """Name, membership and default order of one category; also its 404."""
    return f"c:{market}:{_part(path)}"


def category_prices_tag(market: str, path: str) -> str:
    """The order by price of one category: any price below it may move what a page shows."""
    return f"cp:{market}:{_part(path)}"


def home_tag(market: str) -> str:
    """What the home page selects."""
    return f"h:{market}"


def navigation_tag(market: str) -> str:
    """The category tree that every page's header shows."""
    return f"n:{market}"


def list_tag(market: str) -> str:
    """Membership and order of the whole product list (`/api/v1/{market}/products`)."""
    return f"l:{market}"


def rates_tag(market: str) -> str:
    """Prices that were converted by a rate row into this market's currency."""
    return f"rates:{market}"


def many_tag(market: str) -> str:
    """Stands for the tags of a response that would need more than fit; every change in the market names it."""
    return f"many:{market}"


def picture_tag(sku: str) -> str:
    """The drawn picture of one product; its address holds its digest, so only a takedown names it."""
    return f"pic:{_part(sku)}"


def pictures_tag() -> str:
    """Every drawn picture: what changes more of them than an entry can name names this."""
    return "pics"


def market_tag(market: str) -> str:
    """Whatever is shown of one market: what changes more of it than an entry can name names this."""
    return f"m:{market}"


def tag_of_all(tag: str) -> str | None:
    """The tag that stands for all of the kind of `tag`: that of its market, or of all pictures. Every response that
    carries `tag` carries it, too. None: there is none."""
    kind, _, rest = tag.partition(":")
    if kind in _OF_A_MARKET:
        return market_tag(rest.partition(":")[0])
    return pictures_tag() if kind == "pic" else None


def asset_tag(name: str) -> str:
    """A style sheet or the like whose address holds its digest: only a purge by hand, or of everything, names it."""
    return f"file:{_part(name)}"


def filled_tag(template: str, captured: Mapping[str, str]) -> str:
    """The tag that a policy's `cat:{market}:{category}` stands for, its names spelled as in every other tag.

    `captured`: name -> text, decoded. Raises KeyError for a name that is not among them.
    """
    return _PLACEHOLDER.sub(lambda found: _part(captured[found[1]]), template)


def path_tag(path: str) -> str:
    """What a purge by address names: the normalised path (`edge.core.key.normalise_path`) that every stored response
    was asked for by, whatever its query. An edge adds it itself; it is told to nobody and counts against no limit.

    Paths that differ only in case, or only beyond the longest tag, share one.
    """
    return f"{_PATH}{path.lower().replace(',', '%2c').replace('*', '%2a')}"[:MAX_TAG_CHARACTERS]


def is_path_tag(tag: str) -> bool:
    return tag.startswith(_PATH)


def site_tag(name: bytes) -> str:
    """The tag for a name that an origin of somebody else's made up: Cache-Tag, Surrogate-Key and Cache-Groups share
    one space of names. What cannot stand in a list is percent-encoded, `*` too, so that it is never EVERYTHING.

    `name` is bytes, those of a field or of what a person types, in UTF-8: nobody says how a field is encoded, so only
    ASCII has small and capital letters here. A tag comes back unchanged.
    """
    return _NOT_IN_A_SITE_TAG.sub(lambda found: b"%%%02x" % found[0][0], name).lower().decode("ascii")
