"""What an operator may order purged, read strictly; and the tags that it stands for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cache_policies.feed import MAX_PURGE_REASON_CHARACTERS
from cache_policies.percent import percent_encoded
from cache_policies.positions import MAX_TAG_CHARACTERS, MAX_TAGS_PER_ENTRY, PurgeKind
from cache_policies.tags import EVERYTHING, path_tag, site_tag
from edge.core.key import BadTarget, normalise_path

MAX_BODY_BYTES = 60_000
"""Of an order: what an origin takes in one request, too."""
NOTHING_STORED = "nothing stored carries it; what is being fetched now is covered"
"""What a purge tells that no stored response was found for."""
_MEMBERS = frozenset({"tags", "paths", "all", "soft", "reason"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")


class BadOrder(ValueError):
    """An order that names nothing, too much, or something that cannot be purged; the text says which part."""


class PurgeFailed(Exception):
    """Nobody has purged anything, or nobody knows: the text says which. `status` is that of the answer."""

    def __init__(self, text: str, status: int = 503) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Order:
    """A purge that may be carried out."""

    kind: PurgeKind
    tags: tuple[str, ...]
    reason: str = ""


def order_of(value: object) -> Order:
    """The order in decoded JSON: `{"tags": [...], "paths": [...], "all": false, "soft": false, "reason": ""}`.

    Raises BadOrder; a member that is not known is a mistake, not a wish for later.
    """
    if not isinstance(value, Mapping):
        raise BadOrder('expected a JSON object such as {"tags": ["product-1"]}')
    if odd := sorted(set(value) - _MEMBERS):
        raise BadOrder(f"{str(odd[0])[:40]!a} is not part of an order; it has {', '.join(sorted(_MEMBERS))}")
    everything, soft, reason = value.get("all", False), value.get("soft", False), value.get("reason", "")
    if not isinstance(everything, bool) or not isinstance(soft, bool):
        raise BadOrder("all and soft are true or false")
    if not isinstance(reason, str) or len(reason) > MAX_PURGE_REASON_CHARACTERS:
        raise BadOrder(f"reason is text of at most {MAX_PURGE_REASON_CHARACTERS} characters")
    tags = [_tag(text) for text in _texts(value, "tags")] + [_path(text) for text in _texts(value, "paths")]
    if everything:
        if tags:
            raise BadOrder("all is everything already; name it alone")
        tags = [EVERYTHING]
    if not tags:
        raise BadOrder("it names nothing: give tags, paths or all")
    distinct = tuple(dict.fromkeys(tags))
    if len(distinct) > MAX_TAGS_PER_ENTRY:
        raise BadOrder(f"one purge names at most {MAX_TAGS_PER_ENTRY} tags and paths, not {len(distinct)}")
    if EVERYTHING in distinct and len(distinct) > 1:
        raise BadOrder("* is everything already; name it alone")
    return Order(PurgeKind.SOFT if soft else PurgeKind.HARD, distinct, reason)


def _texts(value: Mapping[str, Any], name: str) -> list[str]:
    found = value.get(name, [])
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise BadOrder(f"{name} is a list of texts")
    return found


def _tag(text: str) -> str:
    """A tag as it is spelt where it is compared: an origin's name for it, in any case, or as the entries show it.

    What an origin would mean as several tags is refused, and so is what looks like a pattern: a purge that can never
    find anything must not look like one that has.
    """
    name = text.strip()
    if name == EVERYTHING:
        return name
    if not name or _CONTROL.search(name):
        raise BadOrder(f"{text[:80]!a} is not a tag: it is empty, or has controls that no field carries")
    if "," in name or " " in name:
        raise BadOrder(
            f"{text[:80]!a} is not one tag: commas separate tags, and in Surrogate-Key blanks do; name each by itself "
            "(repeat --tag), or write %2c and %20 for those that belong to a name"
        )
    if "*" in name:
        raise BadOrder(
            f"{text[:80]!a}: there are no wildcards; name a tag that all of them carry, or * alone for everything; "
            "write %2a for a * that belongs to a name"
        )
    tag = site_tag(name.encode())
    if len(tag) > MAX_TAG_CHARACTERS:
        raise BadOrder(f"a tag has at most {MAX_TAG_CHARACTERS} characters: {tag[:40]!a}...")
    return tag


def _path(text: str) -> str:
    """The tag of a path; of a whole address its path counts, at every host."""
    path = text.strip()
    if "://" in path:
        path = "/" + path.partition("://")[2].partition("/")[2]
    path = path.partition("?")[0].partition("#")[0]
    if "*" in path:
        raise BadOrder(
            f"{text[:80]!a}: there are no wildcards; name each path, a tag that all of them carry, or everything "
            "(--all); write %2A for a * that belongs to a path"
        )
    try:
        return path_tag(normalise_path(_BEYOND_ASCII.sub(lambda found: percent_encoded(found[0]), path)))
    except BadTarget as exc:
        raise BadOrder(f"{text[:80]!a} is not a path: {exc.fault.value}; expected one such as /products/lamp") from exc
