"""How long a viewer waits for somebody else's flight before it sends one of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

HELD_UP_S = 0.02
"""A wait that ended so much later than it should have tells that this process was held up, as in a crowd of requests:
the answer may be here and not be read yet."""
LATE_WAIT_S = 1.0
"""How much longer it is waited for then, once."""

T = TypeVar("T")


async def wait_patiently(
    wanted: asyncio.Future[T],
    turn: Callable[[], asyncio.Future[float] | None],
    until: float,
    patience_s: float,
    clock: Callable[[], float],
) -> T | None:
    """What comes of `wanted`; None when that takes beyond `until`, or `patience_s` from its turn at the origin on: to
    ask beside what stands in line would only lengthen the line.

    `turn`: when that came or will have come, of what had to wait for one. Times are those of `clock`.
    """
    held_up = False
    while True:
        late_s = await _wait_until(wanted, until - clock())
        if wanted.done():
            # Perhaps in the very turn of the loop in which the wait was over.
            return wanted.result()
        its_turn = turn()
        if its_turn is not None and not its_turn.done():
            either: list[asyncio.Future[Any]] = [wanted, its_turn]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if wanted.done():
                return wanted.result()
            until = its_turn.result() + patience_s
        elif its_turn is not None and its_turn.result() + patience_s > until:
            until = its_turn.result() + patience_s
        elif late_s >= HELD_UP_S and not held_up:
            held_up, until = True, clock() + min(patience_s, LATE_WAIT_S)
        else:
            return None


async def _wait_until(wanted: asyncio.Future[T], wait_s: float) -> float:
    """Wait for `wanted`, so long at the most; by how much later than that it ended."""
    loop = asyncio.get_running_loop()
    due = loop.time() + max(0.0, wait_s)
    await asyncio.wait([wanted], timeout=max(0.0, wait_s))
    return loop.time() - due
