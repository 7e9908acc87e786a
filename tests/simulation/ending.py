"""How a run ends: everything is mended, and all must be well again, each within the time that it has a right to.

Whoever follows the log has caught up; a last change becomes live, and so does every change that has not been called
that; nobody waits any more, also of those who came when all was mended; and every worker shows every page as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cache_policies.positions import Position
from origin.db import Durability
from tests.simulation.engine.cluster import FIRST
from tests.simulation.engine.storage import PURGE_LOG
from tests.simulation.origins import CHANGE_DEADLINE_S
from tests.simulation.promise import Change, Invariant
from tests.simulation.shop import PAGES, ROWS

if TYPE_CHECKING:
    from tests.simulation.edges import EdgeWorker
    from tests.simulation.origins import OriginWorker
    from tests.simulation.world import World

REPAIRED_S = 4.5
"""After the last fault is mended, whoever follows the log has caught up: what had broken off is asked again when its
deadline is over (`follower.STREAM_DEADLINE_S`), and then 2 s. Of a worker that starts later, from there; of one that
has many pages of the log to read, which are far shorter here than the shop's, by a round trip for each later."""
QUIET_S = 14.0
"""After the last fault is mended, all is well, also what was asked for and begun anew meanwhile."""
FAILOVER_S = 8.0
"""By so much later, where a primary may be lost in the last moment: it is found out, and another one is promoted."""
FOLLOWS_S = 2.0
"""What was committed so long ago, whoever follows the log has applied."""
VIEWER_S = 6.0
"""No viewer waits longer where nothing is broken: a fill, one that has to be asked for again, and those before it."""
TRIES = 3
"""Of somebody whose change is not confirmed: it is refused, or nobody knows, while the databases change places."""
REFRESHED_S = 3.0
"""After it was looked at once more, a page that may be shown stale while it is refreshed has been."""


class Ending:
    """Of `world`, whose faults have struck."""

    def __init__(self, world: World) -> None:
        self._world = world
        failover_s = FAILOVER_S if world.plan.supervised else 0.0
        self._mended_at = world.loop.now
        self._caught_up_by = self._mended_at + REPAIRED_S + failover_s
        self._well_by = self._mended_at + QUIET_S + failover_s
        self._reads_on_s: dict[EdgeWorker, float] = {}
        """How long those that were there when all was mended may take to read what was in the log then."""
        self._head: Position | None = None
        self._caught_up: set[str] = set()
        """Workers that were seen to follow the log."""
        self._last: Change | None = None
        """The last change, once it is confirmed."""
        self._pending: list[Change] = []

    def play(self) -> None:
        """Mend everything, and see that all is well again."""
        self._world.heal_all()
        for name in self._world.plan.edges:
            worker = self._world.workers[name]
            self._reads_on_s[worker] = self._reading_s(worker.follower.applied)
        self._well_by += max(self._reads_on_s.values())
        for step in (
            self._until_repaired,
            self._until_well,
            self._until_no_change_waits,
            self._until_every_page_is_shown,
        ):
            if self._world.promise.violations:
                return
            step()

    # -- who follows ---------------------------------------------------------------------------------------------------

    def _until_repaired(self) -> None:
        loop, cluster = self._world.loop, self._world.cluster
        loop.run(self._caught_up_by - FOLLOWS_S)
        self._head = cluster.head
        loop.run(self._caught_up_by)
        for name in self._world.plan.edges:
            self._look_whether_caught_up(name)

    def _reading_s(self, applied: Position | None) -> float:
        """How long it may take to read on from there to the end of the log, or all of it; each page is a round trip."""
        return self._world.pages_after(applied) * 2 * self._world.plan.far

    def _look_whether_caught_up(self, name: str) -> None:
        """That worker follows the log again, and holds its lease; of one that has just begun it is seen later."""
        world, now = self._world, self._world.loop.now
        worker = world.workers[name]
        begun_at = worker.started_at if world.is_up(name) else now
        reads_on_s = self._reads_on_s.get(worker, self._reading_s(None))
        by = max(begun_at + REPAIRED_S, self._caught_up_by) + reads_on_s
        if by > now:
            world.later(by - now, self._look_whether_caught_up, name)
            return
        applied, leased = worker.follower.applied, worker.standing.leased
        if applied is None or self._head is None or applied < self._head or not leased:
            world.promise.violated(
                Invariant.ANSWERED,
                f"{now - self._mended_at:.1f} s after everything was mended {name} has applied {applied} of "
                f"{self._head} and {'holds' if leased else 'holds no'} lease",
                name,
            )
            return
        self._caught_up.add(name)
        world.promise.answered()

    # -- what becomes live ---------------------------------------------------------------------------------------------

    def _until_well(self) -> None:
        """Somebody asks again about every change that was not called live, and something is changed once more."""
        world = self._world
        server = world.cluster.servers[world.cluster.primary]
        seen = server.snapshot()
        self._pending = [
            change
            for change in world.promise.changes.values()
            if change.position not in {None, FIRST}
            and change.live_at is None
            and change.lost_by is None
            and server.storage.get(PURGE_LOG, change.position, seen) is not None
        ]
        for position in dict.fromkeys(change.position for change in self._pending):
            assert position is not None
            worker = world.some_origin()
            worker.process.start(worker.look_again_at, position)
        self._change_something(TRIES)
        world.loop.run(self._well_by)

    def _change_something(self, tries: int) -> None:
        worker = self._world.some_origin()
        worker.process.start(self._try_to_change, worker, tries)

    async def _try_to_change(self, worker: OriginWorker, tries: int) -> None:
        number = self._world.next_number()
        if await worker.change({ROWS[0]: number}, Durability.SURVIVES):
            self._last = self._world.promise.changes[number]
        elif tries > 1:
            self._world.later(0.0, self._change_something, tries - 1)

    def _until_no_change_waits(self) -> None:
        """Whoever changed something in the last moment has a right to wait until the deadline of that."""
        world = self._world
        world.is_visited = False
        by = self._well_by + CHANGE_DEADLINE_S
        while (
            (world.waiting.are_there(world.plan.origins) or len(self._caught_up) < len(world.plan.edges))
            and world.loop.now < by
            and not world.promise.violations
        ):
            world.loop.run(world.loop.now + 1.0)
        for change in (self._last, *(change for change in self._pending if change.lost_by is None)):
            if change is None or change.live_at is None:
                told = "the last change" if change is None else f"{change.row}={change.number} of {change.position}"
                world.promise.violated(
                    Invariant.ANSWERED,
                    f"{told} is not live {world.loop.now - self._mended_at:.1f} s after everything was mended",
                    ROWS[0] if change is None else change.row,
                )
            else:
                world.promise.answered()
        for name in world.plan.edges:
            if name not in self._caught_up:
                world.promise.violated(Invariant.ANSWERED, f"{name} never comes so far that it could catch up", name)

    # -- what is shown -------------------------------------------------------------------------------------------------

    def _until_every_page_is_shown(self) -> None:
        """Each worker shows each page as it is; what may be shown stale meanwhile has been refreshed."""
        world = self._world
        self._ask_for_every_page(newest=False)
        world.loop.run(world.loop.now + REFRESHED_S)
        self._ask_for_every_page(newest=True)
        asked_at = world.loop.now
        world.loop.run(asked_at + 0.5)
        while world.waiting.since and world.loop.now < asked_at + VIEWER_S and not world.promise.violations:
            world.loop.run(world.loop.now + 0.5)
        for who, what, since in world.waiting.since.values():
            if since <= asked_at:
                world.promise.waits_for_ever(who, what, since)

    def _ask_for_every_page(self, *, newest: bool) -> None:
        for name in self._world.plan.edges:
            worker = self._world.workers[name]
            for page in PAGES:
                worker.process.post(0.0, worker.viewers.ask_for, page, newest)
