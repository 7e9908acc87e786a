"""The rounds: wait until the shop is whole, take its primary away, watch, mend."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from loadtests import people
from loadtests.discovery import discover
from loadtests.failovers.looking import Look, judged, readings
from loadtests.failovers.old_primary import Addresses, OldPrimary
from loadtests.failovers.report import LIVE_WITHIN_S, READ_WITHIN_S, Report, Round
from loadtests.failovers.witnesses import Merchandisers, Shoppers, Write, refused_s
from loadtests.faults import Breakage, FaultsUnavailable, what_is_wrong
from loadtests.http1 import Connection, NoAnswer
from loadtests.oracle import PriceKey
from loadtests.staff import StaffApi, StaffError, ask_progress, progress_of, show_product
from loadtests.target import BadTarget, Target, read_object

PRODUCTS = 40
PAGES = 60
PRICES = 24
MERCHANDISERS = 3
WHOLE_WITHIN_S = 120.0
BACK_WITHIN_S = 60.0
"""After a loss, this long a change that is taken again is waited for."""
GHOST_S = 2.0
"""After a promotion, this long an edge may take to know what the new primary inherited."""
TAIL_S = 0.7
"""How long changes go on that the standby does not get."""
AT_ONCE_S = 2.0
"""For a look at prices that edges may refuse: what they do not show until then is of no account."""
TAIL_TRIES = 3
"""How often a tail is tried to be lost for each that is asked for, on average."""
SETTLED = frozenset({"live", "lost"})
"""How a change ends in a shop that is whole."""
SHOWN = SETTLED | {"shown"}
"""And in one whose old primary is away: what no standby has is never called more, and held to the same promise."""
MEND_S = 10.0
"""For so long the shop is asked again to mend what is broken."""
SETTLE_S = 1.0
"""Between a shop that is whole and its next loss, on average."""
LOOK_S = 0.05
ASK_S = 1.0
"""How long the origin holds one question whether a change is live."""
FENCES: tuple[tuple[str, ...], ...] = ((), ("kill",), ("kill", "sync"), ("kill", "lease"), ("lease", "sync"))
"""What rounds with a frozen primary go without, in turn: nothing, the kill, then all but one of the three."""
LOOKERS = 6
"""How many look for lost changes at once."""
KILL_S, TAIL_ROUND_S, AFTER_FREEZE_S = 18.0, 22.0, 18.0
"""What a round takes on two cores with nothing else to do, all in all; a freeze beside the time it is frozen."""


@dataclass(frozen=True, slots=True)
class Plan:
    kills: int = 50
    freezes: int = 20
    tails: int = 10
    """Kills with changes at edges that the standby never had; one that loses none is tried again."""
    frozen_s: float = 30.0
    seed: int = 1
    rate: float = 120.0
    """Requests a second: pages and prices, half each."""

    @property
    def about_s(self) -> float:
        """How long all of it takes, about."""
        frozen_s = self.freezes * (self.frozen_s + AFTER_FREEZE_S)
        return self.kills * KILL_S + self.tails * TAIL_ROUND_S + frozen_s


class Loss(NamedTuple):
    """How the primary was lost. Moments of time.monotonic()."""

    ordered_at: float
    done_at: float
    """Until then the old one may have acknowledged anything."""
    moves: int
    """Failovers of this shop before this one."""
    epoch: int
    """The highest that had been given out."""

    @classmethod
    def since(cls, ordered_at: float, status: Mapping[str, Any]) -> Loss:
        """Just now, by what the shop said of itself before."""
        return cls(ordered_at, time.monotonic(), status["failover"]["moves"], status["failover"]["epoch"])


class Run:
    """One run against a running shop."""

    def __init__(self, target: Target, staff: StaffApi, plan: Plan, tell: Callable[[str], None]) -> None:
        """`tell`: hears of each round when it is over. Raises BadTarget where the shop cannot be broken from here."""
        if target.control is None:
            raise BadTarget(
                "the primary of a shop can be taken away only where `nearshelf up` runs it, on this machine"
            )
        self.target = target
        self.plan = plan
        self.report = Report(seed=plan.seed, tails_asked=plan.tails)
        self._staff = staff
        self._tell = tell
        self._breakage = Breakage(target.control)
        self._rng = random.Random(f"failovers {plan.seed}")
        self._addresses = Addresses.of(read_object(target.state / "env.json", "is the shop running?"))
        self._keys: list[PriceKey] = []
        self._excused = 0
        """Refusals to readers of prices that came in some round."""
        self.pages: Shoppers
        self.prices: Shoppers
        self.merchandisers: Merchandisers

    async def run(self) -> Report:
        """All rounds, kills and freezes mixed by the seed; `report.ended_early` tells why there were not all of them.

        Raises BadTarget, StaffError, NoAnswer or FaultsUnavailable when there was no round at all.
        """
        begun = time.monotonic()
        await self._meet()
        self._tell(f"{sum((self.plan.kills, self.plan.freezes, self.plan.tails))} rounds, about {about(self.plan)}")
        kinds = ["kill"] * self.plan.kills + ["freeze"] * self.plan.freezes + ["tail"] * self.plan.tails
        self._rng.shuffle(kinds)
        witnesses = [
            asyncio.ensure_future(work)
            for work in (self.pages.run(), self.prices.run(), self.merchandisers.run(MERCHANDISERS))
        ]
        try:
            await self._play(kinds, witnesses)
        except (StaffError, NoAnswer, FaultsUnavailable, OSError) as exc:
            if not self.report.rounds:
                raise
            self.report.ended_early = str(exc) or type(exc).__name__
            self._tell(f"     no further: {self.report.ended_early}")
        finally:
            for witness in witnesses:
                witness.cancel()
            await asyncio.gather(*witnesses, return_exceptions=True)
            await self._mend()
        try:
            await self._until_whole()
            await self._look_for_lost()
        except (StaffError, NoAnswer, FaultsUnavailable, OSError) as exc:
            self.report.ended_early = self.report.ended_early or str(exc) or type(exc).__name__
        self._sum_up(time.monotonic() - begun)
        return self.report

    async def _play(self, kinds: Iterable[str], witnesses: Iterable[asyncio.Future[None]]) -> None:
        """These rounds in their order; one in which no tail was lost is played again at the end, TAIL_TRIES times as
        many as were asked for at most."""
        left = deque(kinds)
        again = (TAIL_TRIES - 1) * self.plan.tails
        frozen = 0
        while left:
            kind = left.popleft()
            await self._until_whole()
            await asyncio.sleep(self._rng.uniform(0.5, 1.5) * SETTLE_S)
            if kind == "kill":
                await self._kill()
            elif kind == "freeze":
                await self._freeze(FENCES[frozen % len(FENCES)])
                frozen += 1
            elif not await self._lose_a_tail() and again:
                again -= 1
                left.append(kind)
            for witness in witnesses:
                if witness.done():
                    witness.result()

    # --- before ---

    async def _meet(self) -> None:
        """Find products, and warm pages and prices that no change of ours touches: of other markets."""
        first = next(iter(self.target.edges.values()))
        async with Connection(first) as connection:
            front = await discover(connection, PRODUCTS)
            if len(front.markets) < 2 or not front.products:
                raise BadTarget(f"{first}: needs products in two markets or more; is the shop seeded?")
            digits = {}
            # The last market's prices change; the others' pages are read.
            changing, *quiet = reversed(front.markets)
            self._keys = [PriceKey(changing, product.sku) for product in front.products[:PRICES]]
            answer = await connection.request("GET", people.price(changing, self._keys[0].sku).target)
            digits[changing] = len(json.loads(answer.body)["amount"].partition(".")[2])
        pages = [people.home(market).target for market in quiet]
        pages += [people.listing(market, category).target for market in quiet for category in front.categories[:4]]
        pages += [people.product(market, product.slug).target for market in quiet for product in front.products]
        prices = [people.price(market, product.sku).target for market in quiet for product in front.products]
        seed = str(self.plan.seed)
        rate = self.plan.rate / 2
        self.pages = Shoppers(self.target.edges, self._some(pages), rate, f"pages {seed}")
        self.prices = Shoppers(self.target.edges, self._some(prices), rate, f"prices {seed}")
        self.merchandisers = Merchandisers(self._staff, self._keys, digits, f"staff {seed}")
        await self.pages.warm_up()
        await self.prices.warm_up()

    def _some(self, targets: list[str]) -> list[str]:
        return self._rng.sample(targets, min(PAGES, len(targets)))

    # --- rounds ---

    async def _kill(self) -> None:
        status = await self._status()
        old = str(status["failover"]["primary"])
        pid = next(process["pid"] for process in status["processes"] if process["name"] == old)
        whole = self._rng.random() < 0.5
        played = Round("kill of its processes" if whole else "kill of its first process", old)
        ordered_at = time.monotonic()
        if whole:
            await self._ask({"do": "kill", "name": old})
        else:
            os.kill(pid, signal.SIGKILL)
        loss = Loss.since(ordered_at, status)
        await self._after_the_loss(played, loss)
        await self._to_its_end(played, loss)

    async def _lose_a_tail(self) -> bool:
        """Killed while edges show changes that nobody else has: no promise but that they are not shown any more.
        Whether there were such changes."""
        self.report.tails_tried += 1
        # First: without that fence a change is acknowledged before the standby has it.
        self.merchandisers.giving_up = True
        await self._ask({"do": "disarm", "fence": "sync"})
        # The supervisor lets commits go when it looks next; of a standby that is away by then, only after 5 s.
        await self._until(lambda status: status["failover"]["promotable"] is not None and _is_not_waited_for(status))
        cut_at = time.monotonic()
        await self._ask({"do": "cut", "edge": "replication"})
        await asyncio.sleep(TAIL_S)
        # At once, and only what has changed: a standby that is away for 5 s is not promoted any more.
        changed = {write.key for write in self.merchandisers.writes if write.begun_at >= cut_at}
        shown = await readings(self.target.edges, list(changed), AT_ONCE_S)
        status = await self._status()
        played = Round("kill with a lost tail", str(status["failover"]["primary"]))
        if status["failover"]["promotable"] is None:
            self.report.tails_spared += 1
            self._tell("     a standby that was away for too long: nothing was killed")
            await self._ask({"do": "heal"})
            await self._until_whole()
            self.merchandisers.giving_up = False
            return False
        ordered_at = time.monotonic()
        await self._ask({"do": "kill", "name": played.old})
        loss = Loss.since(ordered_at, status)
        await self._after_the_loss(played, loss)
        doubtful, truth = self.merchandisers.doubtful(), await self._truth()
        gone = {(each.key, each.amount) for each in shown if each.amount not in (None, truth[each.key])}
        played.tail = len(gone & doubtful)
        await self._ask({"do": "heal"})
        await self._to_its_end(played, loss)
        return played.tail > 0

    async def _freeze(self, without: tuple[str, ...]) -> None:
        """Frozen for a while, with somebody else promoted meanwhile; then it goes on, and is asked directly."""
        # Without that fence a change is acknowledged before the standby has it: it may be lost, and is not counted.
        self.merchandisers.giving_up = "sync" in without
        for fence in without:
            await self._ask({"do": "disarm", "fence": fence})
        await self._until(lambda status: status["failover"]["promotable"] is not None)
        status = await self._status()
        old = str(status["failover"]["primary"])
        kept_by = [fence for fence in ("kill", "lease", "sync") if fence not in without]
        played = Round(f"freeze, kept by {'+'.join(kept_by)}", old, may_answer=kept_by == ["sync"])
        # `pg-2` is the second of the servers that an origin worker is told of.
        asked = await OldPrimary.met(self._addresses, int(old.rpartition("-")[2]) - 1)
        await asked.change()
        ordered_at = time.monotonic()
        await self._ask({"do": "freeze", "name": old})
        loss = Loss.since(ordered_at, status)
        asked.commit()
        await self._after_the_loss(played, loss)
        await asyncio.sleep(max(0.0, ordered_at + self.plan.frozen_s - time.monotonic()))
        with contextlib.suppress(FaultsUnavailable):  # it was killed, and runs again
            await self._ask({"do": "thaw", "name": old})
        said = await asked.asked()
        played.asked_of_old = said.asked
        played.acknowledged_by_old, played.answered_by_old = said.acknowledged, said.answered
        await self._ask({"do": "heal"})
        await self._to_its_end(played, loss)

    async def _after_the_loss(self, played: Round, loss: Loss) -> None:
        """Until changes are taken again; then nobody changes anything while edges are looked at for ghosts, and once
        the last change is live for old prices as well."""
        back_at = await self.merchandisers.back_at(loss.done_at, loss.epoch, BACK_WITHIN_S)
        played.writes_back_s = None if back_at is None else round(back_at - loss.ordered_at, 3)
        status = await self._until(lambda status: status["failover"]["moves"] > loss.moves and _is_open(status))
        played.new = str(status["failover"]["primary"])
        opened_ms = status["failover"]["last"]["opened_ms"]
        played.opened_s = round(opened_ms / 1000, 3)
        await self.merchandisers.rest()
        await asyncio.sleep(max(0.0, GHOST_S - (time.monotonic() - (back_at or loss.ordered_at))))
        played.ghosts += (await self._look(AT_ONCE_S)).ghosts
        await self._look_when_live(played, SHOWN)
        self.merchandisers.may.set()

    async def _to_its_end(self, played: Round, loss: Loss) -> None:
        """Until the shop is whole again, and every edge shows every price as it is."""
        await self._until_whole()
        played.whole_s = round(time.monotonic() - loss.ordered_at, 3)
        await self.merchandisers.rest()
        self.merchandisers.giving_up = False
        await self._look_when_live(played, SETTLED)
        self.merchandisers.may.set()
        self._over(played, loss.ordered_at)

    async def _look_when_live(self, played: Round, enough: Collection[str]) -> None:
        """Wait for the last change as staff do, then read every price at every edge. Nobody changes any meanwhile."""
        head = self.merchandisers.head()
        why = "" if head is None else await self._not_live(str(head), enough)
        look = await self._look(READ_WITHIN_S)
        played.prices_asked += look.asked
        played.prices_read += look.read
        played.unread += look.unread
        played.ghosts += look.ghosts
        if why:
            # Until then an edge may show the price of before.
            played.not_live.append(f"{head}: {why}")
        else:
            played.old_prices += look.old

    async def _not_live(self, position: str, enough: Collection[str]) -> str:
        """Why a change is in none of these states in time; empty: it is."""
        give_up_at = time.monotonic() + LIVE_WITHIN_S
        async with self._staff.session() as session:
            while True:
                try:
                    state = progress_of(await session.ask(ask_progress(position, ASK_S))).state
                    why = "" if state in enough else f"still {state!r}"
                except StaffError as exc:
                    why = str(exc)
                if not why or time.monotonic() > give_up_at:
                    return why
                await asyncio.sleep(LOOK_S)

    async def _look(self, within_s: float) -> Look:
        """All prices of ours at all edges, held against the primary."""
        before = await self._truth()
        found = await readings(self.target.edges, self._keys, within_s)
        return judged(found, (before, await self._truth()), self.merchandisers.doubtful())

    async def _truth(self) -> dict[PriceKey, int]:
        """Every price of ours as the primary has it."""
        found = {}
        async with self._staff.session() as session:
            for key in self._keys:
                prices = (await session.ask(show_product(key.sku)))["prices"]
                found[key] = next(price["amount_minor"] for price in prices if price["market"] == key.market)
        return found

    def _over(self, played: Round, lost_at: float) -> None:
        refused = [each for each in self.prices.seen.refused if each.at >= lost_at]
        self._excused += len(refused)
        played.prices_refused = len(refused)
        played.prices_refused_s = round(refused_s(refused), 3)
        self.report.rounds.append(played)
        back = "never" if played.writes_back_s is None else f"{played.writes_back_s:.2f} s"
        self._tell(
            f"{len(self.report.rounds):3}  {played.kind:32} {played.old} -> {played.new}  changes taken again after "
            f"{back}, open after {played.opened_s or 0:.2f} s, prices refused for {played.prices_refused_s:.2f} s, "
            f"whole after {played.whole_s or 0:.1f} s"
            + (f", {played.tail} lost prices had been shown" if played.tail else "")
            + (f", GHOSTS {len(played.ghosts)}" if played.ghosts else "")
            + (f", OLD PRICES {len(played.old_prices)}" if played.old_prices else "")
            + (f", NOT SHOWN {len(played.unread)}" if played.unread else "")
            + (f", NOT LIVE {played.not_live}" if played.not_live else "")
            + (f", OLD PRIMARY ACKNOWLEDGED {played.acknowledged_by_old}" if played.acknowledged_by_old else "")
            + (f", old primary answered {', '.join(played.answered_by_old)}" if played.answered_by_old else "")
        )

    # --- after ---

    async def _look_for_lost(self) -> None:
        """Whether every acknowledged change is in the log, under its position and as what it was."""
        writes = iter(self.merchandisers.acknowledged())

        async def look() -> None:
            async with self._staff.session() as session:
                for write in writes:
                    if why := await _missing(session, write):
                        self.report.lost.append(f"{write.key.market} {write.key.sku} at {write.position}: {why}")

        await asyncio.gather(*(look() for _ in range(LOOKERS)))

    def _sum_up(self, duration_s: float) -> None:
        report, pages, prices = self.report, self.pages.seen, self.prices.seen
        report.page_answers = pages.answers
        report.page_failures = [
            *pages.failed,
            *(f"{each.edge} {each.target}: {each.status}" for each in pages.refused),
        ]
        report.price_statuses = {**prices.by_status, **({"no answer": len(prices.failed)} if prices.failed else {})}
        refused = [each for each in prices.refused if each.status == 503]
        others = [each for each in prices.refused if each.status != 503]
        report.price_failures = [*prices.failed, *(f"{each.edge} {each.target}: {each.status}" for each in others)]
        report.without_retry_after = sum(not each.retry_after for each in refused)
        report.refused_outside = len(prices.refused) - self._excused
        report.acknowledged = len(self.merchandisers.acknowledged())
        report.unacknowledged = len(self.merchandisers.writes) - report.acknowledged
        report.duration_s = round(duration_s, 1)

    # --- the shop ---

    async def _ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        asked = asyncio.ensure_future(asyncio.to_thread(self._breakage.ask, command))
        try:
            return await asyncio.shield(asked)
        finally:
            # Whoever interrupts us waits for what is being broken: mended before, it would stay broken.
            await asyncio.wait({asked})

    async def _mend(self) -> None:
        """Whatever happens, the shop is left whole."""
        give_up_at = time.monotonic() + MEND_S
        while True:
            try:
                await self._ask({"do": "heal"})
            except FaultsUnavailable as exc:
                if time.monotonic() > give_up_at:
                    self._tell(f"     not mended: {exc}; `nearshelf fault heal` mends it")
                    return
                await asyncio.sleep(LOOK_S)
            else:
                return

    async def _status(self) -> dict[str, Any]:
        return await self._ask({"do": "status"})

    async def _until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The status that meets `condition`. Raises FaultsUnavailable when none does in time."""
        give_up_at = time.monotonic() + WHOLE_WITHIN_S
        while True:
            status = await self._status()
            if condition(status):
                return status
            if time.monotonic() > give_up_at:
                raise FaultsUnavailable(f"the shop is not whole after {WHOLE_WITHIN_S:g} s: {status['failover']}")
            await asyncio.sleep(LOOK_S)

    async def _until_whole(self) -> None:
        await self._until(lambda status: not what_is_wrong(status))


def about(plan: Plan) -> str:
    """How long it takes, in words."""
    return f"{plan.about_s / 60:.0f} minutes" if plan.about_s > 90 else f"{plan.about_s:.0f} s"


def _is_not_waited_for(status: Mapping[str, Any]) -> bool:
    """Whether the standby follows, and changes are acknowledged before it has them."""
    replication = status["replication"]
    return replication["state"] == "streaming" and not replication["waited_for"]


def _is_open(status: Mapping[str, Any]) -> bool:
    last = status["failover"]["last"]
    return last is not None and last["opened_ms"] is not None


async def _missing(session: Any, write: Write) -> str | None:
    """Why an acknowledged change counts as lost; None: it is there."""
    assert write.position is not None
    try:
        known = await session.ask(ask_progress(write.position, 0.0))
    except StaffError as exc:
        return str(exc)
    change = known.get("change") or {}
    if known.get("state") == "lost":
        return "lost"
    if change.get("subject") != f"{write.key.market}/{write.key.sku}":
        return f"it is a change of {change.get('subject')!r} now"
    set_to = (change.get("after") or {}).get("amount")
    return None if set_to == write.text else f"it set {set_to}, and was acknowledged as {write.text}"
