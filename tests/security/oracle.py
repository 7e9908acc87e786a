"""The oracle: what a clean viewer gets after an attack is what a fresh edge gives it, or the attack has worked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.security.edges import Pair
from tests.security.routes import Place, Route
from tests.security.strict import Answer
from tests.security.viewer import Lines, request_bytes

OF_THE_MOMENT = frozenset({"age", "date", "cache-status", "x-request-id"})
"""Fields that two answers to one question may differ in."""
AT_ONCE = 16
MOST_SHOWN = 20

AGENT = ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)")
CLEAN: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("somebody in Japan", (AGENT, ("X-Forwarded-For", "133.1.1.1"))),
    (
        "somebody in Germany, logged in",
        (
            AGENT,
            ("X-Forwarded-For", "193.99.144.80"),
            ("Cookie", "ns_session=of-the-clean-one; ns_cart=1"),
            ("Authorization", "Bearer of-the-clean-one"),
        ),
    ),
)
"""The viewers who come after an attack: another client, from another country, with and without a login."""


@dataclass
class Tally:
    """What one row of the table has come to."""

    row: str
    what: str
    attacks: int = 0
    requests: int = 0
    routes: set[str] = field(default_factory=set)
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def differs(self, text: str) -> None:
        self.differences.append(text)

    def hold(self, statement: bool, text: str) -> None:
        """A promise besides the oracle's."""
        if not statement:
            self.differs(text)


@dataclass(frozen=True, slots=True)
class Attack:
    """`says`: in words. `sends`: requests with their methods, one after the other; whatever is said to them. `clean`:
    the address that is asked for afterwards."""

    says: str
    route: Route
    clean: Place
    sends: tuple[tuple[bytes, str], ...]
    method: str = "GET"
    """Of the clean requests."""


def attack(
    says: str,
    route: Route,
    *,
    lines: Lines = (),
    method: str = "GET",
    suffix: str = "",
    body: bytes = b"",
    clean_suffix: str = "",
) -> Attack:
    """One odd request for an address of `route` that nobody has asked for."""
    place = route.fresh()
    data = request_bytes(method, place.target + suffix, place.host, lines, body)
    return Attack(says, route, Place(place.host, place.target + clean_suffix), ((data, method),))


def seen(answer: Answer) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
    """What counts of an answer."""
    return answer.status, tuple(sorted(pair for pair in answer.fields if pair[0] not in OF_THE_MOMENT)), answer.body


def difference(attacked: Answer, fresh: Answer) -> str | None:
    """The first thing in which two answers differ."""
    if attacked.status != fresh.status:
        return f"status {attacked.status}, from a fresh edge {fresh.status}"
    one, other = seen(attacked), seen(fresh)
    if one[1] != other[1]:
        added, lacks = set(one[1]) - set(other[1]), set(other[1]) - set(one[1])
        return f"fields: has {sorted(added)}, lacks {sorted(lacks)}"
    if one[2] != other[2]:
        return f"body {one[2][:300]!r}, from a fresh edge {other[2][:300]!r}"
    return None


async def judge(tally: Tally, pair: Pair, each: Attack) -> None:
    """Attack one edge, and compare what clean viewers then get of both."""
    tally.attacks += 1
    tally.routes.add(each.route.id)
    for data, method in each.sends:
        await pair.attacked.attacker.ask(data, method)
        tally.requests += 1
    await judge_clean(tally, pair, each.says, each.route, each.clean, each.method)


async def judge_clean(tally: Tally, pair: Pair, says: str, route: Route, place: Place, method: str = "GET") -> None:
    for who, lines in CLEAN:
        data = request_bytes(method, place.target, place.host, lines)
        one = await pair.attacked.clean.ask(data, method)
        other = await pair.fresh.clean.ask(data, method)
        tally.requests += 2
        found = difference(one, other)
        if found is None and one.status < 200:
            found = f"no answer at all: {one.body[:80]!r}"
        if found is not None:
            tally.differs(f"{route.id}: after {says}, {who} gets for {place.host}{place.target}: {found}")


async def judge_all(tally: Tally, pair: Pair, attacks: Iterable[Attack], at_once: int = AT_ONCE) -> Tally:
    """All of them, several at a time."""
    rest = iter(attacks)

    async def work() -> None:
        for each in rest:
            await judge(tally, pair, each)

    await asyncio.gather(*(work() for _ in range(at_once)))
    return tally


def in_words(tallies: Sequence[Tally]) -> str:
    """The table, and what is wrong."""
    lines = [f"{'row':>4}  {'attack':44} {'attacks':>9} {'requests':>10} {'routes':>7} {'differences':>12}"]
    lines += [
        f"{tally.row:>4}  {tally.what[:44]:44} {tally.attacks:9,} {tally.requests:10,} {len(tally.routes):7} "
        f"{len(tally.differences):12,}"
        for tally in tallies
    ]
    for tally in tallies:
        lines += [f"row {tally.row}: {text}" for text in tally.differences[:MOST_SHOWN]]
        lines += [f"row {tally.row}: note: {text}" for text in tally.notes]
    return "\n".join(lines)
