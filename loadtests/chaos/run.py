"""A run under faults: its folder, its sessions, and each session from the first look at the shop to the last.

    DIR/run.json            what the run is: seed, faults wanted, rate; all but the seed and the kinds may change
    DIR/session-N.jsonl.gz  the history of each session
    DIR/session-N.json      what was found in it, written at its end
    DIR/next                the number of the episode with which the next session begins

A session that was killed leaves its history and its place, and what it found is read from the history again. One that
the shop broke off has said so in its history.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import errno
import fcntl
import json
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from loadtests.chaos import schedule
from loadtests.chaos.breaking import Breaking
from loadtests.chaos.checkers import Verdicts
from loadtests.chaos.history import (
    REPAIRED_WITHIN_S,
    Ended,
    Event,
    History,
    Looked,
    Price,
    Session,
    left_behind,
    read_history,
)
from loadtests.chaos.merchandise import Merchandise, facts_of
from loadtests.chaos.readers import Readers, Street
from loadtests.chaos.shop import Shop
from loadtests.chaos.tally import Tally
from loadtests.discovery import discover
from loadtests.faults import FaultsUnavailable
from loadtests.http1 import Connection
from loadtests.oracle import PriceKey
from loadtests.staff import StaffApi, StaffError, show_product
from loadtests.target import BadTarget, Target, read_object

PRODUCTS = 40
"""Products that shoppers know; found by following links."""
PRICES = 60
"""Prices (a product in a market) that change."""
LINE_PAUSE_S = 1.0
"""Between two orders of a line."""
FINISH_S = 60.0
"""How long a session waits at its end until every confirmed change is live."""
LATE_ORDERS_S = 15.0
"""After a session that was killed: an order of its may still be under way, for which the origin has ten seconds."""
QUIET_EVERY = 25
"""Episodes, after which nothing is broken for a while: how edges answer then is judged."""
MOST_IN_VAIN = 30
"""Episodes in a row of which nothing bites: this plan finds nothing to break in this shop."""
LOCK = "chaos.lock"
"""In the shop's state folder: held by whoever breaks it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is."""

    seed: int = 1
    faults: int = 1_000
    """That bite."""
    answers: int = 0
    """Answers that could have been old: while there are fewer, faults go on."""
    rate: float = 350.0
    """Requests a second of all readers together."""
    connections: int = 8
    """Readers of each edge."""
    orders: int = 4
    """On their way at the same time: changes and purges, for each of which all edges fetch anew."""
    calm_s: float = 60.0
    """At the beginning of each session nothing is broken for so long, to be compared with."""
    quiet_s: float = 20.0
    """Nor after every `QUIET_EVERY` episodes, and after the last."""
    kinds: tuple[str, ...] = tuple(schedule.KINDS)
    repaired_within_s: float = REPAIRED_WITHIN_S

    @property
    def load(self) -> str:
        """What goes on beside the faults, in words."""
        return (
            f"{self.rate:g} requests/s, {self.connections} readers of each edge, {self.orders} orders at once, until "
            f"{self.faults:,} faults bit and {self.answers:,} answers could have been old"
        )


class Folder:
    """A run's folder."""

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path = path
        self.plan = plan

    @classmethod
    def make(cls, path: Path, plan: Plan) -> Folder:
        """Raises BadTarget where there is a run already, or nothing can be written."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            if (path / "run.json").exists():
                raise BadTarget(f"{path}: there is a run already; go on with it by --resume {path}")
            _replace(path / "run.json", json.dumps(asdict(plan), indent=2) + "\n")
        except OSError as exc:
            raise BadTarget(f"--out: {exc}") from exc
        return cls(path, plan)

    @classmethod
    def resume(cls, path: Path, **other: Any) -> Folder:
        """`other`: what changes of the plan, for what is left of it. Raises BadTarget where there is no run."""
        found = read_object(path / "run.json", "name the folder of a run that was begun with --out")
        try:
            plan = Plan(**{**found, "kinds": tuple(found["kinds"])})
        except (TypeError, KeyError) as exc:
            raise BadTarget(f"{path / 'run.json'}: {exc!r}; it is of another version") from exc
        folder = cls(path, replace(plan, **other))
        if folder.plan != plan:
            _replace(path / "run.json", json.dumps(asdict(folder.plan), indent=2) + "\n")
        return folder

    def sessions(self) -> int:
        return len(list(self.path.glob("session-*.jsonl.gz")))

    def history(self, number: int) -> Path:
        return self.path / f"session-{number}.jsonl.gz"

    @property
    def next_episode(self) -> int:
        try:
            return int((self.path / "next").read_text())
        except FileNotFoundError:
            return 0

    def played(self, episode: int) -> None:
        _replace(self.path / "next", str(episode + 1))

    def tally(self) -> Tally:
        """What was found in all sessions so far. Raises BadHistory."""
        whole = Tally()
        for number in range(self.sessions()):
            whole.add(self._tally_of(number))
        return whole

    def _tally_of(self, number: int) -> Tally:
        summary = self.path / f"session-{number}.json"
        try:
            return Tally.from_json(json.loads(summary.read_text()))
        except (OSError, ValueError, KeyError, TypeError):
            return judged(self.history(number))  # none, or cut short, or of another version

    def write(self, number: int, tally: Tally) -> None:
        _replace(self.path / f"session-{number}.json", json.dumps(tally.to_json(), indent=2) + "\n")


def _replace(path: Path, text: str) -> None:
    """All of it or what was there before, whoever is killed when."""
    draft = path.with_name(path.name + ".new")
    draft.write_text(text)
    draft.replace(path)


@contextlib.contextmanager
def alone(state: Path) -> Iterator[None]:
    """For who breaks the shop with this state folder; let go by whatever end. Raises BadTarget while another does."""
    with (state / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise BadTarget(f"{state}: another run is breaking this shop; two would spoil each other") from exc
        yield


def judged(path: Path) -> Tally:
    """What a history holds, judged anew. Raises BadHistory."""
    session, events = read_history(path)
    verdicts = Verdicts(session)
    for event in events:
        verdicts.see(event)
    return Tally.of(verdicts)


async def run(target: Target, folder: Folder, say: Callable[[str], None]) -> Tally:
    """One session that goes on where the last one ended, to the last of the faults. Returns the whole run's tally.

    The caller holds the shop (`alone`). Raises BadTarget, StaffError or FaultsUnavailable when it cannot begin, or the
    shop cannot be mended any more, and OSError when the history cannot be written.
    """
    before = folder.tally()
    number = folder.sessions()
    shop = Shop(target)
    stage = await shop.stage()
    if not stage.full_disk:
        say("the shop's disk is not one that may be filled: that fault is left out (docs/faults.md)")
    if not schedule.possible(stage, folder.plan.kinds):
        raise BadTarget(f"--kinds: there is nothing in this shop for {', '.join(folder.plan.kinds)}")
    await shop.insist({"do": "heal"})
    wrong = await shop.until_whole()
    if wrong:
        raise FaultsUnavailable(f"the shop is not whole to begin with: {wrong}")
    kept = await _kept(target, folder.history(number - 1)) if number else None
    seed = folder.plan.seed + 1_000 * number
    street, prices = await _prices(target, seed)
    session = Session(
        folder.plan.seed,
        number,
        dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        tuple(target.edges),
        tuple(price for price, _, _ in prices),
        folder.plan.repaired_within_s,
        folder.plan.load,
    )
    verdicts = Verdicts(session)
    with History.writing(folder.history(number), session, verdicts.see) as history:
        if kept is not None:
            history.note(Looked(0.0, "prices that the session before had confirmed", kept))
        one = _Session(target, shop, folder, history.note, verdicts, seed)
        await one.play(stage, street, prices, before, say)
    tally = Tally.of(verdicts)
    folder.write(number, tally)
    before.add(tally)
    return before


class _Session:
    """Everything that goes on at the same time."""

    def __init__(
        self,
        target: Target,
        shop: Shop,
        folder: Folder,
        note: Callable[[Event], None],
        verdicts: Verdicts,
        seed: int,
    ) -> None:
        self._target = target
        self._shop = shop
        self._folder = folder
        self._note = note
        self._verdicts = verdicts
        self._seed = seed

    async def play(
        self,
        stage: schedule.Stage,
        street: Street,
        prices: list[tuple[Price, int, int]],
        before: Tally,
        say: Callable[[str], None],
    ) -> None:
        plan, began_at = self._folder.plan, time.monotonic()

        def now() -> float:
            return time.monotonic() - began_at

        goods = Merchandise(self._target, prices, seed=self._seed, note=self._note, now=now)
        await goods.sign_in()
        readers = Readers(
            self._target.edges,
            street,
            seed=self._seed,
            connections=plan.connections,
            rate=plan.rate,
            note=self._note,
            began_at=began_at,
            recent=goods.recent,
        )
        goods.told = readers.tell
        breaking = Breaking(self._shop, stage, note=self._note, head=lambda: goods.head, began_at=began_at)
        reading = asyncio.create_task(readers.run())
        changing = asyncio.gather(*(goods.line(LINE_PAUSE_S) for _ in range(plan.orders)))
        try:
            await _unless_one_ends(asyncio.sleep(plan.calm_s), reading, changing)
            await breaking.measure()
            episodes = self._episodes(breaking, stage, before, say)
            await _unless_one_ends(episodes, reading, changing)
            goods.enough()
            await changing
            await goods.finish(FINISH_S)
            await breaking.end()
            await self._look(goods, readers, now)
            self._note(Ended(now()))
        except Exception as exc:  # noqa: BLE001 - whatever it is, the history has to say that nobody stopped it by hand
            cause = _first_of(exc)
            if not _is_ours(cause):
                self._note(Looked(now(), "the session", f"broke off: {str(cause) or type(cause).__name__}"))
            raise cause from (None if cause is exc else exc)
        finally:
            # Whatever happens, the shop is left whole.
            with contextlib.suppress(FaultsUnavailable):
                await self._shop.insist({"do": "heal"}, within_s=10.0)
            await goods.stop()
            await _cancelled(reading, changing)

    async def _episodes(
        self, breaking: Breaking, stage: schedule.Stage, before: Tally, say: Callable[[str], None]
    ) -> None:
        plan, promise, bit_last = self._folder.plan, self._verdicts.promise, self._folder.next_episode - 1
        for episode in schedule.episodes(plan.seed, self._folder.next_episode, stage, plan.kinds):
            if before.faults + breaking.felt >= plan.faults and before.telling + promise.telling >= plan.answers:
                break
            felt = breaking.felt
            await breaking.play(episode)
            self._folder.played(episode.number)
            say(
                f"{before.faults + breaking.felt:5d} faults  {before.telling + promise.telling:9,d} answers that could "
                f"have been old of {before.checked + promise.answers:9,d}  "
                f"{before.live + self._verdicts.purges.live:6,d} changes live  "
                f"{before.wrong_count + len(self._verdicts.wrong())} wrong  "
                f"after {', '.join(fault.kind for fault in episode.faults)}"
            )
            bit_last = episode.number if breaking.felt > felt else bit_last
            if episode.number - bit_last >= MOST_IN_VAIN:
                raise BadTarget(
                    f"nothing bit in {MOST_IN_VAIN} episodes: is there anything for {', '.join(plan.kinds)}?"
                )
            if episode.number % QUIET_EVERY == QUIET_EVERY - 1:
                await self._quiet(say)
        await self._quiet(say)

    async def _quiet(self, say: Callable[[str], None]) -> None:
        """Nothing is broken for a while: how the edges answer is judged."""
        say(f"nothing is broken for {self._folder.plan.quiet_s:g} s")
        await asyncio.sleep(self._folder.plan.quiet_s)

    async def _look(self, goods: Merchandise, readers: Readers, now: Callable[[], float]) -> None:
        """What has to be as before, seen from outside: every price, at the primary and at every edge."""
        try:
            wrong = await goods.lost()
        except StaffError as exc:
            wrong = [str(exc)]
        self._note(Looked(now(), "confirmed prices at the primary", "; ".join(wrong)))
        for edge, url in self._target.edges.items():
            wrong = await readers.look_everywhere(edge, url, goods.settled())
            self._note(Looked(now(), f"confirmed prices at edge {edge}", "; ".join(wrong)))


async def _unless_one_ends(work: Coroutine[Any, Any, None], *others: asyncio.Future[Any]) -> None:
    """Do the work; what else goes on until cancelled is not to end before, and why it did is raised."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task, *others}, return_when=asyncio.FIRST_COMPLETED)
        for other in others:
            if other.done():
                other.result()
        await task
    finally:
        await _cancelled(task)


def _first_of(exc: Exception) -> Exception:
    """What was raised, or the first of several."""
    while isinstance(exc, ExceptionGroup):
        exc = exc.exceptions[0]
    return exc


def _is_ours(exc: Exception) -> bool:
    """What says nothing against the shop: a plan that does not fit it, or no room left for the history."""
    return isinstance(exc, BadTarget) or (isinstance(exc, OSError) and exc.errno in {errno.ENOSPC, errno.EDQUOT})


async def _cancelled(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _kept(target: Target, path: Path) -> str:
    """What the shop has lost of what an earlier session had confirmed; empty: nothing. Raises BadTarget or
    StaffError."""
    await asyncio.sleep(LATE_ORDERS_S)
    staff, wrong = await StaffApi.signed_in(target), []
    async with staff.session() as session:
        for key, amounts in left_behind(*read_history(path)).items():
            amount, _ = facts_of(await session.ask(show_product(key.sku)), key)
            if amount not in amounts:
                wrong.append(f"{key.sku} ({key.market}) is {amount}, expected {' or '.join(map(str, sorted(amounts)))}")
    return "; ".join(wrong)


async def _prices(target: Target, seed: int) -> tuple[Street, list[tuple[Price, int, int]]]:
    """What is watched: each price with its version and the digits of its currency. Raises BadTarget or StaffError."""
    first = next(iter(target.edges.values()))
    async with Connection(first) as connection:
        front = await discover(connection, PRODUCTS)
    if not front.products:
        raise BadTarget(f"{first}: no product was found by following links; is the shop seeded?")
    rng = random.Random(f"prices {seed}")
    every = [PriceKey(market, item.sku) for market in front.markets for item in front.products]
    keys = rng.sample(every, min(PRICES, len(every)))
    staff = await StaffApi.signed_in(target)
    found = []
    async with staff.session() as session:
        for key in keys:
            document = await session.ask(show_product(key.sku))
            amount, version = facts_of(document, key)
            text = next(str(facts["amount"]) for facts in document["prices"] if facts["market"] == key.market)
            found.append((Price(key, amount), version, len(text.partition(".")[2])))
    return Street(front, keys), found
