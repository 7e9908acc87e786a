"""people.yaml -> People: who uses the shop, with the place of every fault. Its fields may stand in a scenario, too."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from cache_policies.kinds import DURATION, NAME, Field, Kind, only, whole_number
from cache_policies.reading import Refused, Value, closest
from loadtests.plan import Person
from loadtests.scenario import Bots, People

PEOPLE_FILE = Path(__file__).parent / "people.yaml"
K = TypeVar("K")
V = TypeVar("V")

_MARKET = re.compile("[a-z]{2}-[a-z]{3}")
_EDGE = re.compile(NAME)
FUNNEL = ("view", "add", "buy")


def number(low: float, high: float, expected: str) -> Kind[float]:
    """A number from `low` to `high` in plain decimal digits."""

    def read(value: Value) -> float:
        text = value.written
        if not isinstance(text, str):
            raise value.refuse(expected, "NS103")
        if value.quoted or re.fullmatch(r"-?(?:0|[1-9][0-9]{0,9})(?:\.[0-9]{1,9})?", text) is None:
            raise value.refuse(expected, "NS118")
        if not low <= float(text) <= high:
            raise value.refuse(expected, "NS118")
        return float(text)

    return Kind(read, {"type": "number", "minimum": low, "maximum": high})


SHARE = number(0, 1, "a share from 0 to 1, such as 0.3")
WEIGHT = number(0, 1e6, "a share of zero or more, such as 35")


def keyed(key: Callable[[Value, str], K], each: Kind[V], expected: str, *, weights: bool = False) -> Kind[dict[K, V]]:
    """A mapping whose names `key` reads (it gets the value below a name, to report faults of the name there).

    With `weights` one of its values has to be above zero.
    """

    def read(value: Value) -> dict[K, V]:
        found: dict[K, V] = {}
        before = len(value.faults)
        for name, (place, below) in value.fields(expected).items():
            named = Value(place, below.path, name, value.faults)
            with suppress(Refused):
                found[key(named, name)] = each.read(below)
        if weights and len(value.faults) == before and not any(found.values()):
            raise value.refuse(f"{expected}, one of them above zero", "NS118")
        if len(value.faults) > before:
            raise Refused
        return found

    return Kind(read, {"type": "object"})


def _market(named: Value, name: str) -> str:
    if _MARKET.fullmatch(name) is None:
        raise named.refuse("the id of a market, such as eu-eur", "NS123")
    return name


def _edge(value: Value) -> str:
    text = value.text("the name of an edge, such as eu", "NS104")
    if _EDGE.fullmatch(text) is None:
        raise value.refuse("the name of an edge, such as eu", "NS104")
    return text


def words(*known: str) -> Callable[[Value, str], str]:
    """One of these as the name of a field."""

    def read(named: Value, name: str) -> str:
        if name not in known:
            meant = closest(name, known)
            hint = f"; did you mean {meant}?" if meant else ""
            raise named.refuse(f"one of {', '.join(known)}{hint}", "NS104", f"Write {meant or known[0]}.")
        return name

    return read


def _persons(*known: Person) -> Callable[[Value, str], Person]:
    read = words(*known)
    return lambda named, name: Person(read(named, name))


MARKETS_MIX = keyed(_market, WEIGHT, "a mapping from market to its share", weights=True)
PEOPLE_MIX = keyed(
    _persons(Person.BROWSER, Person.SEARCHER, Person.BOT),
    WEIGHT,
    "a mapping from browser, searcher and bot to their shares",
    weights=True,
)

BOT_FIELDS: tuple[Field[Any], ...] = (
    Field(
        "crawlers",
        whole_number(1, 1_000, "a whole number from 1 to 1000", "NS118"),
        "number",
        "`12`",
        "how many crawl at the same time, each one market",
    ),
    Field("heads", SHARE, "share", "`0.05`", "their requests that are HEAD"),
    Field("asks_again", SHARE, "share", "`0.5`", "their requests for a page seen before that go with If-None-Match"),
)


def _bots(value: Value) -> dict[str, Any]:
    value.fields("a mapping with crawlers, heads and asks_again")
    only(value, BOT_FIELDS)
    found = {each.name: each.of(value, None) for each in BOT_FIELDS}
    return {name: read for name, read in found.items() if read is not None}


PEOPLE_FIELDS: tuple[Field[Any], ...] = (
    Field(
        "popularity",
        number(0.6, 1.1, "an exponent from 0.6 to 1.1"),
        "number from 0.6 to 1.1",
        "`0.8`",
        "the k-th most popular product is asked for k^-popularity times as often as the first",
        ("zipf", "exponent"),
    ),
    Field(
        "products",
        whole_number(1, 1_000_000, "a whole number from 1 to 1000000", "NS118"),
        "number",
        "`100`",
        "how many products people know: the most popular ones",
    ),
    Field(
        "catalogue",
        whole_number(1, 1_000_000, "a whole number from 1 to 1000000", "NS118"),
        "number",
        "`100`",
        "how many products are looked for in the shop: bots read them all, purge storms purge them all",
        ("catalog",),
    ),
    Field("markets", MARKETS_MIX, "market: share", "six markets", "where visitors buy"),
    Field(
        "home_edges",
        keyed(_market, Kind(_edge, {"type": "string"}), "a mapping from market to the edge near it"),
        "market: edge",
        "six markets",
        "which edge visitors of a market ask; one without takes the edges in turn",
    ),
    Field("people", PEOPLE_MIX, "person: share", "45, 20, 35", "who sends requests: `browser`, `searcher`, `bot`"),
    Field(
        "think",
        keyed(_persons(Person.BROWSER, Person.SEARCHER), DURATION, "a mapping from browser and searcher to a duration"),
        "person: duration",
        "`3s`, `2s`",
        "how long a person looks at something before the next request, on average",
        ("think_time", "wait", "wait_time"),
    ),
    Field("returns", SHARE, "share", "`0.3`", "visitors who come back for another session"),
    Field(
        "bots",
        Kind(_bots, {"type": "object"}),
        "mapping",
        "12, 0.05, 0.5",
        "`crawlers`: how many at a time; `heads`: share of HEAD; `asks_again`: share of If-None-Match for pages seen",
    ),
    Field(
        "funnel",
        keyed(words(*FUNNEL), WEIGHT, "a mapping from view, add and buy to their shares", weights=True),
        "step: share",
        "96.7, 2.5, 0.8",
        "what sessions lead to; `add` and `buy` do nothing while nothing can be bought",
    ),
)


def read_people(document: Value, otherwise: People | None = None) -> People | None:
    """What a mapping says of people, its other fields left alone; what it leaves out is as in `otherwise`.

    None, with the faults noted, where anything is wrong, or missing without `otherwise`.
    """
    before = len(document.faults)
    found = {each.name: each.of(document, None) for each in PEOPLE_FIELDS}
    bots = found["bots"] or {}
    if otherwise is None:
        absent = [name for name in found if name not in document.fields()]
        absent += [f"bots.{each.name}" for each in BOT_FIELDS if found["bots"] is not None and each.name not in bots]
        for name in absent:
            document.fault(f"{name} is missing", "NS102", f"Add {name}.")
    if len(document.faults) > before:
        return None
    if otherwise is None:
        return People(**{**found, "bots": Bots(**bots)})
    given = {name: value for name, value in found.items() if value is not None}
    # Who thinks how long, and which edge is near: said one by one. A mix is only itself as a whole.
    for name in ("think", "home_edges"):
        given[name] = {**getattr(otherwise, name), **given.get(name, {})}
    return replace(otherwise, **{**given, "bots": replace(otherwise.bots, **bots)})
