"""Every watched price at every edge, held against the primary: what an edge shows as current has to be true."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from loadtests import people
from loadtests.http1 import Connection, NoAnswer
from loadtests.oracle import PriceKey

TIMES = 2
"""How often each price is read at each edge, on connections of their own: for its workers."""
LINES = 3
"""Connections for that, each time: to an edge that is far away the prices would take long one after the other."""
PATIENCE_S = 5.0
"""For one answer."""
AGAIN_S = 0.1
"""Pause after a price that was not shown."""


class Reading(NamedTuple):
    """One price at one edge."""

    edge: str
    key: PriceKey
    amount: int | None
    """Minor units; None: it was not shown in time."""
    why: str = ""
    """What was answered instead, last."""


@dataclass(slots=True)
class Look:
    """What became of all readings."""

    ghosts: list[str] = field(default_factory=list)
    """Amounts of changes that are gone, or never were."""
    old: list[str] = field(default_factory=list)
    """Other amounts that are not true."""
    unread: list[str] = field(default_factory=list)
    asked: int = 0

    @property
    def read(self) -> int:
        return self.asked - len(self.unread)


async def readings(edges: Mapping[str, str], keys: Sequence[PriceKey], within_s: float) -> list[Reading]:
    """These prices as every edge shows them, TIMES each; what is not shown is asked for again until `within_s` is over.

    Whatever is answered with 200 is shown as current, also where `Cache-Status` calls it stale: JSON has no place that
    could say so (docs/faults.md, "What counts").
    """
    until = time.monotonic() + within_s
    lines = [
        _line(edge, url, keys[first::LINES], until)
        for edge, url in edges.items()
        for _ in range(TIMES)
        for first in range(LINES)
    ]
    return [each for found in await asyncio.gather(*lines) for each in found]


async def _line(edge: str, url: str, keys: Iterable[PriceKey], until: float) -> list[Reading]:
    async with Connection(url, timeout_s=PATIENCE_S) as connection:
        return [await _reading(connection, edge, key, until) for key in keys]


async def _reading(connection: Connection, edge: str, key: PriceKey, until: float) -> Reading:
    why = "there was no time left to ask"
    while time.monotonic() < until:
        try:
            answer = await connection.request(
                "GET", people.price(key.market, key.sku).target, {"Accept": "application/json"}
            )
            why = str(answer.status)
            if answer.status == 200:
                return Reading(edge, key, int(json.loads(answer.body)["amount_minor"]))
        except NoAnswer as exc:
            why = str(exc)
        except (ValueError, KeyError, TypeError) as exc:
            why = f"200, and no price in it: {exc!r}"
        await asyncio.sleep(AGAIN_S)
    return Reading(edge, key, None, why)


def judged(
    found: Iterable[Reading],
    truths: Sequence[Mapping[PriceKey, int]],
    doubtful: Collection[tuple[PriceKey, int]],
) -> Look:
    """`truths`: what the primary said before and after the prices were read. A change that had got no answer may come
    in between. `doubtful`: amounts that were never acknowledged, or may be lost."""
    look = Look()
    for edge, key, amount, why in found:
        look.asked += 1
        where = f"{edge}: {key.market} {key.sku}"
        if amount is None:
            look.unread.append(f"{where}: {why}")
        elif all(amount != truth[key] for truth in truths):
            wrong = look.ghosts if (key, amount) in doubtful else look.old
            wrong.append(f"{where} shown at {amount}, and is {truths[-1][key]}")
    return look
