"""Recorded demand played again: orders become the visits that led to them, recorded price changes become changes.

Files are JSON lines, gzipped or not:

    {"order": "576080", "placed_at": "2011-11-14T08:10:00Z", "country": "United Kingdom",
     "lines": [{"sku": "22465"}, ...]}
    {"sku": "20679", "week_of": "2010-12-06", "currency": "GBP", "new": "5.95"}

More members are allowed and left alone. `changed_at`, a moment, can stand for `week_of`, some moment of that week.
`country` is a name or two letters of ISO 3166; without it a buyer comes from any market. What the shop does not sell is
left out, counted and said.
"""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from babel import Locale

from cache_policies.currencies import DIGITS
from cache_policies.markets import load_markets
from loadtests.oracle import PriceKey
from loadtests.people import ShopFront, ShownProduct, listing, price, product
from loadtests.plan import Arrival, Deed, Doing, Person
from loadtests.scenario import Replay

MAX_FAULTS = 20
"""Bad lines that are said one by one."""
NAMED = 5
"""Unknown SKUs that are said by name."""
LOOKED_AT_S = 0.4
"""How long a buyer of the run looks at one thing. Not slowed or sped up with the recording: people read as they do."""
_ALIASES = {"eire": "IE", "usa": "US", "rsa": "ZA", "channel islands": "JE", "korea": "KR", "czech republic": "CZ"}
"""Names of countries that are not those of the CLDR."""

NOT_SOLD = "with nothing that is sold here"
NOBODY_PAYS = "in a currency of no market here"
TOO_LATE = "after the end of the run"
"""Why something recorded is not played."""

T = TypeVar("T")


class BadRecording(Exception):
    """A recording cannot be used. Lists its faults, one a line: `orders.jsonl.gz:12: lines[0].sku is missing`."""


class Order(NamedTuple):
    placed_at: datetime
    country: str
    """As recorded; empty where nobody knows."""
    skus: tuple[str, ...]


class PriceChange(NamedTuple):
    at: datetime
    within: timedelta
    """It happened somewhere in so long a time from then on."""
    sku: str
    currency: str
    amount: str
    """Decimal, in the currency."""


@dataclass(frozen=True, slots=True)
class Recordings:
    """What was read, each in the order of its times."""

    orders: tuple[Order, ...]
    price_changes: tuple[PriceChange, ...]
    speed: float | None
    """Recorded seconds in one of the run; None: each recording takes as long as the run."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a recording becomes in a run, in no particular order. The phase of the arrivals is left empty."""

    arrivals: list[Arrival]
    deeds: list[Deed]
    remarks: tuple[str, ...]


def read_recordings(replay: Replay) -> Recordings:
    """The files. Raises BadRecording with every fault."""
    if replay.orders is None and replay.price_changes is None:
        raise BadRecording(
            "nothing to replay: name recorded orders or price changes, "
            "--set replay.orders=orders.jsonl.gz --set replay.price_changes=price_changes.jsonl.gz"
        )
    faults: list[str] = []
    orders = _lines(replay.orders, _order, faults) if replay.orders else []
    changes = _lines(replay.price_changes, _price_change, faults) if replay.price_changes else []
    if faults:
        more = [f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
        raise BadRecording("\n".join([*faults[:MAX_FAULTS], *more]))
    orders.sort(key=lambda order: order.placed_at)
    changes.sort(key=lambda change: change.at)
    return Recordings(tuple(orders), tuple(changes), replay.speed)


def _lines(path: Path, read: Callable[[Mapping[str, Any]], T], faults: list[str]) -> list[T]:
    found: list[T] = []
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode("utf-8")
    except (OSError, EOFError, ValueError) as exc:
        faults.append(f"{path.name}: cannot be read: {exc}; expected JSON lines in UTF-8, gzipped or not")
        return found
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            if not isinstance(value, dict):
                raise _Wrong(f"{line[:60]}, expected a JSON object")
            found.append(read(value))
        except (ValueError, _Wrong) as exc:
            said = exc if isinstance(exc, _Wrong) else f"not JSON: {exc}"
            faults.append(f"{path.name}:{number}: {said}")
    if not found and not faults:
        faults.append(f"{path.name}: nothing in it, expected JSON lines")
    return found


class _Wrong(Exception):
    """A line that is not as it should be."""


def _order(value: Mapping[str, Any]) -> Order:
    lines = value.get("lines")
    if not isinstance(lines, list) or not lines:
        raise _Wrong("lines is missing, expected a list of objects with sku")
    skus = tuple(
        _text(line if isinstance(line, dict) else {}, "sku", f"lines[{n}].sku") for n, line in enumerate(lines)
    )
    country = value.get("country")
    return Order(_moment(value, "placed_at"), country if isinstance(country, str) else "", skus)


def _price_change(value: Mapping[str, Any]) -> PriceChange:
    amount = _text(value, "new", "new")
    try:
        decimal = Decimal(amount)
    except InvalidOperation as exc:
        raise _Wrong(f"new: {amount}, expected a decimal amount such as 5.95") from exc
    if not decimal.is_finite() or decimal <= 0:
        raise _Wrong(f"new: {amount}, expected an amount above zero")
    currency = _text(value, "currency", "currency")
    if currency not in DIGITS:
        raise _Wrong(f"currency: {currency}, expected one of ISO 4217, such as GBP")
    if decimal != round(decimal, DIGITS[currency]):
        raise _Wrong(f"new: {amount}, expected at most {DIGITS[currency]} digits after the point for {currency}")
    sku = _text(value, "sku", "sku")
    if "changed_at" in value:
        return PriceChange(_moment(value, "changed_at"), timedelta(0), sku, currency, amount)
    return PriceChange(_moment(value, "week_of"), timedelta(weeks=1), sku, currency, amount)


def _text(value: Mapping[str, Any], name: str, said: str) -> str:
    found = value.get(name)
    if not isinstance(found, str) or not found:
        raise _Wrong(f"{said} is missing, expected text")
    return found


def _moment(value: Mapping[str, Any], name: str) -> datetime:
    text = _text(value, name, name)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise _Wrong(f"{name}: {text}, expected a time of ISO 8601 such as 2011-11-14T08:10:00Z") from exc
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def replayed(
    recordings: Recordings,
    front: ShopFront,
    edge_of: Callable[[str], str],
    span: tuple[float, float],
    rng: random.Random,
) -> Replayed:
    """The recordings laid over a part of a run, from and to in its seconds."""
    known = {item.sku.lower(): item for item in front.products}
    unknown: Counter[str] = Counter()
    remarks: list[str] = []
    arrivals: list[Arrival] = []
    deeds: list[Deed] = []
    if recordings.orders:
        placed = [order.placed_at for order in recordings.orders]
        times = _Times(placed[0], placed[-1], span, recordings.speed)
        played, unsold = 0, 0
        for number, (order, at_s) in enumerate(zip(recordings.orders, times.of(placed), strict=False)):
            items = [item for sku in order.skus if (item := known.get(sku.lower())) is not None]
            unknown.update(sku for sku in order.skus if sku.lower() not in known)
            if not items:
                unsold += 1
                continue
            played += 1
            arrivals += _bought(number, items, market_of(order.country, front, rng), edge_of, at_s, span[0], rng)
        left_out = {NOT_SOLD: unsold, TOO_LATE: len(recordings.orders) - played - unsold}
        remarks.append(_said("recorded orders", played, left_out, times.speed))
    if recordings.price_changes:
        begins, ends = recordings.price_changes[0].at, max(each.at + each.within for each in recordings.price_changes)
        times = _Times(begins, ends, span, recordings.speed)
        # Of a change that only its week is known of, some moment in that week.
        happened = sorted(
            ((each.at + rng.random() * each.within, each) for each in recordings.price_changes),
            key=lambda pair: pair[0],
        )
        played, unsold, elsewhere = 0, 0, 0
        for (_, change), at_s in zip(happened, times.of(moment for moment, _ in happened), strict=False):
            markets = _markets_paying(change.currency, front)
            item = known.get(change.sku.lower())
            if item is None:
                unknown[change.sku] += 1
                unsold += 1
            elif not markets:
                elsewhere += 1
            else:
                deeds += [
                    Deed(at_s, Doing.PRICE, key=PriceKey(market, item.sku), amount=_written(change))
                    for market in markets
                ]
                played += 1
        too_late = len(recordings.price_changes) - played - unsold - elsewhere
        left_out = {NOT_SOLD: unsold, NOBODY_PAYS: elsewhere, TOO_LATE: too_late}
        remarks.append(_said("recorded price changes", played, left_out, times.speed))
    if unknown:
        named = ", ".join(sku for sku, _ in unknown.most_common(NAMED))
        more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
        remarks.append(
            f"{len(unknown)} SKUs of the recordings are not sold here, {unknown.total()} lines left out: {named}{more}"
        )
    return Replayed(arrivals, deeds, tuple(remarks))


class _Times:
    """Recorded moments as seconds of a run."""

    def __init__(self, begins: datetime, ends: datetime, span: tuple[float, float], speed: float | None) -> None:
        self._begins = begins
        self._from_s, self._to_s = span
        self.speed = speed or max((ends - begins) / timedelta(seconds=1), 1.0) / (self._to_s - self._from_s)

    def of(self, moments: Iterable[datetime]) -> Iterator[float]:
        """Of moments in their order, as far as the run lasts."""
        for moment in moments:
            at_s = self._from_s + (moment - self._begins) / timedelta(seconds=1) / self.speed
            if at_s > self._to_s:
                return
            yield at_s


def _said(what: str, played: int, left_out: Mapping[str, int], speed: float) -> str:
    """`left_out`: why -> how many."""
    recorded = played + sum(left_out.values())
    share = f"{played} of {recorded}" if played < recorded else f"all {recorded}"
    why = [f"{count} {reason}" for reason, count in left_out.items() if count]
    beside = f" ({', '.join(why)})" if why else ""
    return f"{share} {what} played{beside}, {speed:,.4g} recorded seconds in one"


def _bought(
    number: int,
    items: Sequence[ShownProduct],
    market: str,
    edge_of: Callable[[str], str],
    at_s: float,
    from_s: float,
    rng: random.Random,
) -> list[Arrival]:
    """The visits that led to an order, the last when it was placed: a listing now and then, each product, its price."""
    visits = []
    for item in items:
        if item.categories and rng.random() < 0.3:
            visits.append(listing(market, rng.choice(item.categories)))
        visits.append(product(market, item.slug))
        visits.append(price(market, item.sku))
    edge = edge_of(market)
    found: list[Arrival] = []
    for visit in reversed(visits):
        if at_s < from_s:
            break  # before the run
        found.append(Arrival(at_s, "", Person.BROWSER, BUYERS_FROM + number, edge, "GET", visit))
        at_s -= rng.expovariate(1 / LOOKED_AT_S)
    return found


BUYERS_FROM = 1_000_000_000
"""Numbers of recorded buyers begin here: nobody else is one of them."""


def market_of(country: str, front: ShopFront, rng: random.Random) -> str:
    """The shop's market for a recorded country; any where it is not known, or where its market is not this shop's."""
    code = country.upper() if len(country) == 2 else _codes().get(country.lower(), "")
    market = _by_country().get(code)
    return market if market in front.markets else rng.choice(front.markets)


@cache
def _by_country() -> Mapping[str, str]:
    return {country: market.id for market in load_markets().all for country in market.countries}


@cache
def _codes() -> Mapping[str, str]:
    """English names of countries, in small letters -> two letters."""
    territories = Locale("en").territories
    return {name.lower(): code for code, name in territories.items() if len(code) == 2} | _ALIASES


@cache
def _currencies() -> Mapping[str, str]:
    return {market.id: market.currency for market in load_markets().all}


def _markets_paying(currency: str, front: ShopFront) -> list[str]:
    """The shop's markets that pay in a currency; a market of another policy folder by its id, country-currency."""
    return [
        market for market in front.markets if _currencies().get(market, market.partition("-")[2].upper()) == currency
    ]


def _written(change: PriceChange) -> str:
    """The amount with the digits of its currency."""
    return f"{Decimal(change.amount):.{DIGITS[change.currency]}f}"
