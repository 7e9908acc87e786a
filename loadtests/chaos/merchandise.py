"""Prices that change all the time and purges that are ordered now and then, whatever is broken meanwhile.

What got no answer is doubtful: then the shop is asked which amount and which version the price has, and the next change
names that version. When it is taken, what was doubtful and is not there can never come: nobody's memory is trusted.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cache_policies.positions import Position
from loadtests import people, staff
from loadtests.chaos.checkers import PURGE
from loadtests.chaos.history import Began, Committed, Doubtful, Event, Live, Price, Refused, Settled
from loadtests.http1 import Connection
from loadtests.oracle import PriceKey
from loadtests.staff import StaffApi, StaffError, StaffSession
from loadtests.target import Target

LIVE, LOST = "live", "lost"
"""States of a change that survives a promotion, too, and of one that did not. `shown` is less: it is waited for."""
PATIENCE_S = 20.0
"""For an order: longer than anything is frozen, so that doubt is rare."""
WAIT_S = 2.0
"""How long the origin holds one question whether a change is live."""
PAUSE_S = 0.25
"""After a question that failed."""
MOST_WAITING = 40
"""Changes that are waited for at a time; beyond it nothing more is changed."""
PURGES = 0.1
"""Share of the orders that are purges of a product."""
REASON = "chaos"


@dataclass(slots=True)
class _Priced:
    """One price as it is known to be."""

    place: int
    key: PriceKey
    digits: int
    amount: int
    """As the primary has it, as far as is known."""
    version: int
    confirmed: int | None
    """The amount that was confirmed last; None: it is gone with a database."""
    doubtful: dict[int, int] = field(default_factory=dict)
    """Changes that got no answer since then -> their amounts."""
    busy: bool = False


class Merchandise:
    """What changes. `note` writes events, `now` is seconds of the session."""

    def __init__(
        self,
        target: Target,
        prices: Sequence[tuple[Price, int, int]],
        *,
        seed: int,
        note: Callable[[Event], None],
        now: Callable[[], float],
    ) -> None:
        """`prices`: each with its version and the digits of its currency."""
        self._target = target
        self._note = note
        self._now = now
        self.told: Callable[[PriceKey], None] = lambda _: None
        """Hears of each price that is live."""
        self._rng = random.Random(f"merchandise {seed}")
        self._amounts = people.Merchandiser(seed)
        self._prices = [
            _Priced(place, price.key, digits, price.amount, version, price.amount)
            for place, (price, version, digits) in enumerate(prices)
        ]
        self._next = 0
        self._enough = False
        self._waiting: set[asyncio.Task[None]] = set()
        self._staff: StaffApi | None = None
        self.recent: deque[PriceKey] = deque(maxlen=12)
        """Prices that changed last."""
        self.head = Position(0, 0)
        """The highest position that was confirmed."""
        self.states: dict[str, int] = {}
        """State of a change when it was asked about, and was not live -> how often."""

    async def sign_in(self) -> None:
        """Raises BadTarget or StaffError."""
        self._staff = await StaffApi.signed_in(self._target)

    async def line(self, pause_s: float) -> None:
        """One after the other until it is enough."""
        while not self._enough:
            free = [price for price in self._prices if not price.busy]
            if not free or len(self._waiting) >= MOST_WAITING:
                await asyncio.sleep(PAUSE_S)
                continue
            price = self._rng.choice(free)
            price.busy = True
            try:
                if price.doubtful and not await self._settle(price):
                    await asyncio.sleep(PAUSE_S)
                elif self._rng.random() < PURGES:
                    await self._purge(price)
                else:
                    await self._change(price)
            finally:
                price.busy = False
            await asyncio.sleep(self._rng.uniform(0.5, 1.5) * pause_s)

    def enough(self) -> None:
        """No order is begun any more; those under way come to their end, so that nobody has to guess it."""
        self._enough = True

    async def finish(self, within_s: float) -> None:
        """Wait until all that was confirmed is live, and settle what is doubtful, as far as there is time."""
        give_up_at = time.monotonic() + within_s
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=within_s)
        for price in self._prices:
            while price.doubtful and time.monotonic() < give_up_at:
                if await self._settle(price) and price.doubtful:
                    await self._change(price)
                if price.doubtful:
                    await asyncio.sleep(PAUSE_S)  # who refuses at once would be asked at once
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=max(1.0, give_up_at - time.monotonic()))
        await self.stop()

    async def stop(self) -> None:
        for task in list(self._waiting):
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)

    def settled(self) -> Mapping[PriceKey, int]:
        """What every price has to be, of those of which that is certain."""
        return {
            price.key: price.confirmed for price in self._prices if price.confirmed is not None and not price.doubtful
        }

    async def lost(self) -> list[str]:
        """Prices of which the shop's primary says another amount than it confirmed. Raises StaffError."""
        found = []
        for key, confirmed in self.settled().items():
            amount, _ = await self._ask_facts(key)
            if amount != confirmed:
                found.append(f"{key.sku} ({key.market}) is {amount}, confirmed was {confirmed}")
        return found

    # --- one order ---

    async def _change(self, price: _Priced) -> None:
        number, amount = self._number(), self._amounts.next_amount(price.key, price.amount)
        self._note(Began(self._now(), number, price.place, amount))
        text = people.amount_text(amount, price.digits)
        try:
            answer = await self._ask(staff.change_price(price.key, text, REASON, price.version))
            position, version = str(answer["position"]), int(answer["price"]["version"])
        except StaffError as exc:
            if exc.refused:
                self._note(Refused(self._now(), number))
                with contextlib.suppress(StaffError):
                    await self._look(price)
            else:
                self._note(Doubtful(self._now(), number))
                price.doubtful[number] = amount
            return
        self._note(Committed(self._now(), number, position))
        # Each would have changed the version that this change had to name.
        self._none_of(price)
        price.amount, price.version, price.confirmed = amount, version, amount
        self.recent.append(price.key)
        self._wait_for(number, position, price)

    async def _purge(self, price: _Priced) -> None:
        number = self._number()
        self._note(Began(self._now(), number, PURGE, 0))
        order = staff.Exchange(
            "POST", f"{staff.PREFIX}/purges", {"product": price.key.sku, "kind": "hard", "reason": REASON}
        )
        try:
            position = str((await self._ask(order))["position"])
        except StaffError as exc:
            self._note((Refused if exc.refused else Doubtful)(self._now(), number))
            return
        self._note(Committed(self._now(), number, position))
        self._wait_for(number, position, price)

    def _number(self) -> int:
        self._next += 1
        return self._next

    # --- doubt ---

    async def _settle(self, price: _Priced) -> bool:
        """Ask whether what was doubtful is there; whether there was an answer. What is not there is certain only once
        another change was taken."""
        with contextlib.suppress(StaffError):
            await self._look(price)
            return True
        return False

    async def _look(self, price: _Priced) -> None:
        """What the primary says of a price. Raises StaffError."""
        price.amount, price.version = await self._ask_facts(price.key)
        there = next((number for number, amount in price.doubtful.items() if amount == price.amount), None)
        if there is not None:
            del price.doubtful[there]
            self._note(Settled(self._now(), there, there=True))
            self._none_of(price)
            price.confirmed = price.amount

    def _none_of(self, price: _Priced) -> None:
        """What is still doubtful is not there, and cannot come any more."""
        for number in price.doubtful:
            self._note(Settled(self._now(), number, there=False))
        price.doubtful.clear()

    async def _ask_facts(self, key: PriceKey) -> tuple[int, int]:
        """Amount and version. Raises StaffError."""
        document = await self._ask(staff.show_product(key.sku))
        return facts_of(document, key)

    # --- live ---

    def _wait_for(self, number: int, position: str, price: _Priced) -> None:
        self.head = max(self.head, Position.parse(position))
        task = asyncio.create_task(self._until_live(number, position, price))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _until_live(self, number: int, position: str, price: _Priced) -> None:
        while True:
            try:
                progress = staff.progress_of(await self._ask(staff.ask_progress(position, WAIT_S)))
            except StaffError:
                await asyncio.sleep(PAUSE_S)
                continue
            if progress.state == LIVE:
                self._note(Live(self._now(), number))
                self.told(price.key)
                return
            if progress.state == LOST:
                self._is_lost(number, price)
                return
            self.states[progress.state] = self.states.get(progress.state, 0) + 1
            if progress.state != "waiting":
                await asyncio.sleep(PAUSE_S)  # the answer came at once, and would again

    def _is_lost(self, number: int, price: _Priced) -> None:
        """The shop has no such change any more."""
        self._note(Settled(self._now(), number, there=False))
        price.confirmed = None

    async def _ask(self, exchange: staff.Exchange) -> dict[str, Any]:
        """One exchange over a connection of its own: a kept one may be broken, and a change is not sent twice. Raises
        StaffError."""
        assert self._staff is not None
        async with Connection(self._target.origin, timeout_s=PATIENCE_S) as connection:
            try:
                return await StaffSession(connection, self._staff.token).ask(exchange)
            except StaffError as exc:
                if exc.status != 401:
                    raise
        # Signed out by a database that failed over. Nothing was done.
        await self.sign_in()
        async with Connection(self._target.origin, timeout_s=PATIENCE_S) as connection:
            return await StaffSession(connection, self._staff.token).ask(exchange)


def facts_of(document: Mapping[str, Any], key: PriceKey) -> tuple[int, int]:
    """Amount and version of a price in what the staff API says of its product. Raises StaffError."""
    for facts in document.get("prices", ()):
        if facts["market"] == key.market and facts["amount_minor"] is not None:
            return int(facts["amount_minor"]), int(facts["version"])
    raise StaffError(f"{key.sku} has no price in {key.market}")
