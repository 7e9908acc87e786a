"""Failover of servers that others run: by SQL, without a hand on their processes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from infra.failover.records import OF_OTHERS, record, recorded
from infra.failover.sql import TROUBLE, SqlServers, in_words
from infra.failover.steps import Announce, Event, Open, Probe, Promote, Record, Seen, Step, Stop, TakeBack, Unleash
from infra.local.errors import LocalError
from infra.local.state import State


class ExternalDriver:
    """What the machine wants, asked of servers that are not ours: only the lease of an old primary is sure to end."""

    def __init__(
        self, addresses: Mapping[str, Mapping[str, Any]], state: State, holder: str, *, moved: Callable[[str], None]
    ) -> None:
        """`addresses`: of their administrator. `moved`: hears who is the primary, once it can be worked with."""
        self._sql = SqlServers(addresses, holder)
        self._nodes: Sequence[str] = tuple(addresses)
        self._path = state.folder / OF_OTHERS
        self._moved = moved

    async def find_primary(self, *, accept_loss: bool) -> Record:
        """Who is the primary now, with what an earlier run recorded. Raises LocalError where that is not clear, or
        where it lacks an epoch, so changes that were acknowledged, unless `accept_loss`."""
        known = recorded(self._path) or Record("", None, 0)
        found: dict[str, Seen] = {}
        said = []
        for node in self._nodes:
            try:
                seen = await self._sql.probe(Probe(node))
            except TROUBLE as exc:
                said.append(f"{node}: {in_words(exc)}")
                continue
            said.append(f"{node}: {'a standby' if seen.in_recovery else f'a primary of epoch {seen.epoch}'}")
            if not seen.in_recovery:
                found[node] = seen
        words = "; ".join(said)
        if known.primary in found and all(_is_behind(seen, found[known.primary]) for seen in found.values()):
            return Record(known.primary, None, known.epoch)
        # One that somebody else promoted while we did not run, or the only one there is.
        newest = [node for node in found if all(_is_behind(seen, found[node]) for seen in found.values())]
        if len(newest) != 1:
            what = "more than one is a primary" if found else "none is a primary that answers"
            if not found and f"{known.primary}: a standby" in said:
                what += (
                    f"; {known.primary} was to be it: unless another one was since, make it that by "
                    "`SELECT pg_promote()` there"
                )
            raise LocalError(f"of the servers of DATABASE_URL and REPLICA_URLS, {what} ({words})")
        primary, seen = newest[0], found[newest[0]]
        if seen.epoch < known.epoch and not accept_loss and not await self._is_behind_as_well(known.primary, seen):
            raise LocalError(
                f"{primary} may lack changes that {known.primary} acknowledged as the primary: bring that one back, or "
                f"give them up with `nearshelf up --accept-loss` ({words})"
            )
        return Record(primary, None, known.epoch)

    async def identity_of(self, node: str) -> str:
        """What this server, its standbys and its copies have in common, and no other server has. Raises LocalError."""
        try:
            return await self._sql.identity_of(node)
        except TROUBLE as exc:
            raise LocalError(f"{node}, the primary, does not say which database it is: {in_words(exc)}") from exc

    async def _is_behind_as_well(self, known: str, primary: Seen) -> bool:
        """The one that was to be promoted is a standby that has heard of no later epoch either: the run that had
        written it down ended before it was promoted."""
        if known not in self._nodes:
            return False
        try:
            seen = await self._sql.probe(Probe(known))
            return seen.in_recovery and await self._sql.epoch_of(known) <= primary.epoch
        except TROUBLE:
            return False

    async def probe(self, step: Probe) -> Seen:
        return await self._sql.probe(step)

    def record(self, step: Record) -> None:
        record(self._path, step)

    def announce(self, step: Announce) -> None:
        self._moved(step.node)

    async def carry_out(self, step: Step, submit: Callable[[Event], None]) -> bool:
        match step:
            case Stop(heir=None):
                with contextlib.suppress(*TROUBLE):
                    await self._sql.turn_away(step)
            case Stop(heir=str(heir)):
                await self._sql.turn_away(step)
                await self._sql.until_flushed(step, heir)
            case TakeBack():
                await self._sql.take_back(step)
            case Promote():
                await self._sql.promote(step)
            case Open():
                await self._sql.open(step)
            case Unleash():
                await self._sql.unleash(step)
            case _:
                raise AssertionError(step)
        return False

    async def close(self) -> None:
        await self._sql.close()


def _is_behind(one: Seen, other: Seen) -> bool:
    """The history of `one` goes no further than that of `other`."""
    return one.timeline <= other.timeline and one.epoch <= other.epoch
