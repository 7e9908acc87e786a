"""One run: a shop with edges, an origin and databases, viewers and merchandisers, and what goes wrong, from one seed.

For a while faults strike and rows change; then everything is mended, and all must be well again (`ending.py`).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from unittest.mock import patch

import origin.events.purge_log as purge_log_module
from cache_policies.markets import Markets, load_markets
from cache_policies.positions import Position
from edge.core.policy import PolicySet
from edge.policy_files import PACKAGED_POLICIES, load_policies
from infra.failover.steps import Record as Recorded
from origin.db import Durability
from origin.events.live import LiveReport
from tests.simulation.asking import choose
from tests.simulation.coverage import Coverage
from tests.simulation.edges import EdgeWorker, address_of
from tests.simulation.ending import Ending
from tests.simulation.engine.cluster import FIRST, Cluster
from tests.simulation.engine.links import NEAR_S
from tests.simulation.engine.loop import SimLoop
from tests.simulation.engine.network import Network
from tests.simulation.engine.patches import simulated
from tests.simulation.engine.processes import Process
from tests.simulation.engine.valkey import SimValkey
from tests.simulation.faults import STRIKES, UNSUPERVISED, due_in
from tests.simulation.origins import Failing, OriginWorker
from tests.simulation.plan import Plan, plan_of
from tests.simulation.promise import Invariant, Violation
from tests.simulation.shop import ROWS, TABLE, is_listed, kind_of, know_rows
from tests.simulation.supervisor import Supervisor
from tests.simulation.truth import Truth
from tests.simulation.viewers import Said
from tests.simulation.waiting import Waiting

STORM_S = 20.0
"""How long faults strike, in virtual seconds."""
MOST_WAITING = 60
"""Viewers of one worker who wait for an answer: then no more of them come."""
ASKS = 2
"""Of one fill, where purges keep overtaking it."""
GROWS_BEYOND = 500
"""Bytes of a body that is handed on as it grows; the shop's own limit is a hundred times that."""
PAGE_OF_ENTRIES = 3
TAIL_OF_ENTRIES = 12


@dataclass(slots=True)
class Result:
    """What one run was."""

    seed: int
    steps: int
    trace: int
    """What happened in which order, as 64 bits."""
    served: int
    checked: int
    virtual_s: float
    coverage: Coverage
    violations: list[Violation] = field(default_factory=list)
    story: list[tuple[float, str, str]] = field(default_factory=list)
    """Only where it was asked for."""
    plan: Plan | None = None


@dataclass(slots=True)
class Machine:
    """The clocks that the processes of one machine share, as `Process` has them."""

    rate: float
    offset_s: float
    wall_offset_s: float


class World:
    """One run from `seed`. `telling`: keep its story. `storm_s`: how long faults strike."""

    def __init__(self, seed: int, *, telling: bool = False, storm_s: float = STORM_S) -> None:
        self.loop = loop = SimLoop(seed, telling=telling)
        self.telling = telling
        self.due = due_in(seed)
        """Kinds of faults whose turn it is."""
        self.plan = plan_of(loop.draws("plan"), self.due)
        self.network = Network(loop, self.delay_between)
        self._numbers = 0
        rows = {row: self._first_number(row) for row in ROWS}
        self.cluster = Cluster(
            loop, self.network, self.plan.servers, {(TABLE, row): number for row, number in rows.items()}
        )
        self.valkey = SimValkey(loop, self.network, "valkey")
        self.policies, self.markets = shop_files()
        self.coverage = Coverage()
        self.workers: dict[str, EdgeWorker] = {}
        """Those that run, or did so last, by the name of their place."""
        self.truth = Truth(self.cluster, self.coverage, self.workers, self._violated)
        self.promise = self.truth.promise
        for row, number in rows.items():
            self.promise.begins_with(row, kind_of(row), number, FIRST)
        self.waiting = Waiting()
        self.said = Said()
        self.servers = self.plan.servers
        self.supervisor: Supervisor | None = None
        self._recorded = Recorded(self.plan.servers[0], None, 0)
        self.origins: dict[str, OriginWorker] = {}
        self._processes: dict[str, Process] = {}
        self._machines: dict[str, Machine] = {}
        self._may_kill = self.plan.may_kill
        self._storm_s = storm_s
        self._storming = True
        self.is_visited = True
        """Whether viewers come of themselves."""
        self._people = loop.draws("people")
        self._weather = loop.draws("faults")
        self._clocks = loop.draws("clocks")

    # -- a run ---------------------------------------------------------------------------------------------------------

    def run(self, *, mends: bool = True) -> Result:
        """Let it happen, to its end or to the first violation. `mends`: False: its end is that of the storm."""
        loop, promise = self.loop, self.promise
        collects = gc.isenabled()
        gc.disable()
        try:
            with simulated(loop, self.network), smaller():
                self._begin()
                loop.run(self._storm_s)
                if mends and not promise.violations:
                    Ending(self).play()
                for worker in self.workers.values():
                    self._count_what_it_met(worker)
                self._count_what_messages_met()
                self._look_at_faults()
                loop.close()
        finally:
            if collects:
                gc.enable()
        return Result(
            loop.seed,
            loop.steps,
            loop.trace,
            promise.counts.served,
            promise.counts.checked,
            loop.now,
            self.coverage,
            promise.violations,
            loop.story,
            self.plan,
        )

    def _begin(self) -> None:
        plan = self.plan
        know_rows(self.cluster)
        self.cluster.on_visible.append(self.truth.became_visible)
        for server in plan.servers[1:]:
            self.normal_lag(server)
        self.start_supervisor()
        for name in plan.origins:
            self.start_origin(name)
        for name in plan.edges:
            self.start_edge(name)
        self.later(plan.change_every_s, self._change)
        if plan.strikes:
            self.later(1.0, self._strike)
            for name in self.due:
                self.later(self._weather.uniform(0.5, 0.8 * self._storm_s), self._due, name)

    def note(self, text: str) -> None:
        """Something happened that a reader of the story wants to know."""
        self.loop.note(text)

    def later(self, delay_s: float, callback: Callable[..., object], *args: object) -> None:
        """`callback(*args)` in `delay_s` virtual seconds, from outside of every process."""
        self.loop.after(self.loop.world, delay_s, callback, *args)

    def while_it_storms(self, delay_s: float, callback: Callable[..., object], *args: object) -> None:
        """The same for what breaks something: not when everything has been mended meanwhile."""
        self.later(delay_s, lambda: callback(*args) if self._storming else None)

    def _violated(self, violation: Violation) -> None:
        self.note(f"VIOLATION of {violation.invariant.value}: {violation.text}")
        self.loop.stop()

    # -- who is there --------------------------------------------------------------------------------------------------

    def edge_names(self) -> list[str]:
        return list(self.plan.edges)

    def origin_names(self) -> list[str]:
        return list(self.plan.origins)

    def edge_processes(self) -> list[Process]:
        return [self._processes[name] for name in self.plan.edges]

    def origin_processes(self) -> list[Process]:
        return [self._processes[name] for name in self.plan.origins]

    def replicas(self) -> list[str]:
        return [name for name in self.servers if name != self.cluster.primary]

    def siblings(self, worker: str) -> list[str]:
        """The other workers of its edge."""
        edge = worker.partition("/")[0]
        return [name for name in self.plan.edges if name != worker and name.partition("/")[0] == edge]

    def siblings_of(self, worker: str) -> list[str]:
        """The addresses of the other workers of its edge."""
        return [address_of(name) for name in self.siblings(worker)]

    def pages_after(self, applied: Position | None) -> int:
        """In how many pages a worker can read what it has not applied of the log; None: it has applied nothing."""
        behind = self.cluster.head.cv - (applied or FIRST).cv
        return max(0, -(-behind // PAGE_OF_ENTRIES))

    def delay_between(self, origin: str, target: str) -> tuple[float, float]:
        """Edges are far from origin and databases, and near their siblings; the origin's own are near each other."""
        far = (origin in self.plan.edges) != (target in self.plan.edges) and "valkey" not in {origin, target}
        return (self.plan.far / 2, self.plan.far) if far else NEAR_S

    def _process(self, name: str) -> Process:
        machine = self._machine_of(name)
        process = self.loop.process(
            name, rate=machine.rate, offset_s=machine.offset_s, wall_offset_s=machine.wall_offset_s
        )
        self._processes[name] = process
        return process

    def _machine_of(self, name: str) -> Machine:
        """The workers of an edge share a machine; everybody else has one alone."""
        place = name.partition("/")[0] if name in self.plan.edges else name
        if place not in self._machines:
            draws = self._clocks
            # A lease is counted by one clock and its end by another: they may differ by 1 % (rule 6).
            rate, offset_s = draws.uniform(0.9955, 1.0045), draws.uniform(1_000.0, 1_000_000.0)
            self._machines[place] = Machine(rate, offset_s, 1_767_225_600.0 + draws.uniform(-2.0, 2.0))
        return self._machines[place]

    def step_wall_clock(self, name: str, seconds: float) -> None:
        """The wall clock of the machine that the process `name` runs on is stepped."""
        machine = self._machine_of(name)
        machine.wall_offset_s += seconds
        for other, process in self._processes.items():
            if self._machine_of(other) is machine:
                process.wall_offset_s = machine.wall_offset_s

    # -- edges ---------------------------------------------------------------------------------------------------------

    def start_edge(self, name: str) -> None:
        """A new worker takes its place, unless one is there."""
        old = self._processes.get(name)
        if old is not None and old.alive:
            return
        process = self._process(name)
        process.start(self._edge, process)

    async def _edge(self, process: Process) -> None:
        edge = process.name.partition("/")[0]
        worker = EdgeWorker(self, process, edge, self.plan.edge, self.plan.origin.lifetimes, self._clocks)
        self.note(f"{process.name} starts as {worker.id}")
        self.workers[process.name] = self.truth.by_id[worker.id] = worker
        self._next_viewer(worker)
        await worker.run()

    def kill_edge(self, name: str) -> None:
        self._processes[name].kill()
        worker = self.workers.get(name)
        if worker is not None:
            self._count_what_it_met(worker)
        self.waiting.forget(name)

    def stop_edge(self, name: str) -> None:
        """It stops by itself, is waited for, and is started again."""
        worker, process = self.workers.get(name), self._processes[name]
        if worker is None or worker.process is not process or worker.stopping:
            return

        async def stop() -> None:
            await worker.stop()
            self.later(0.0, self._ended, process)

        process.start(stop)

    def _ended(self, process: Process) -> None:
        if process.alive:
            self.kill_edge(process.name)
        self.later(0.1, self.start_edge, process.name)

    def is_up(self, edge: str) -> bool:
        """Whether a worker of that place runs and is not about to stop."""
        worker = self.workers.get(edge)
        return worker is not None and worker.process.alive and not worker.stopping

    def lost_history(self, worker: EdgeWorker) -> None:
        """It stops at once, and is started again with an empty store."""
        self.coverage.struck("lost-history")
        self.note(f"{worker.name} does not trust its store any more")
        self.later(0.0, self._ended, worker.process)

    def wake(self, process: Process) -> None:
        if process.frozen:
            process.wake()
            self.note(f"{process.name} wakes")

    def _count_what_it_met(self, worker: EdgeWorker) -> None:
        """Faults that are not done to a worker: it comes by them."""
        for name, times in worker.met().items():
            if times:
                self.coverage.faults[name] += times

    def _count_what_messages_met(self) -> None:
        messages = self.network.messages
        for name, times in (
            ("message-lost", messages.lost),
            ("message-repeated", messages.repeated),
            ("message-late", messages.late),
        ):
            if times:
                self.coverage.faults[name] += times

    # -- origin --------------------------------------------------------------------------------------------------------

    def start_origin(self, name: str) -> None:
        old = self._processes.get(name)
        if old is not None and old.alive:
            return
        process = self._process(name)
        process.start(self._origin, process)

    async def _origin(self, process: Process) -> None:
        worker = OriginWorker(self, process, self.plan.origin, self._clocks)
        await worker.start()
        self.origins[process.name] = worker
        self.note(f"{process.name} serves")

    def kill_origin(self, name: str) -> None:
        self._processes[name].kill()
        self.origins.pop(name, None)
        self.waiting.forget(name)

    def kill_server(self, name: str) -> None:
        self.cluster.servers[name].process.kill()

    def freeze_server(self, name: str) -> None:
        self.cluster.servers[name].process.freeze()

    def start_server(self, name: str) -> None:
        """A database that was killed comes back as what it was; where there is a supervisor, that sees to it."""
        if not self.plan.supervised and not self.cluster.servers[name].process.alive:
            self.note(f"{name} is started again")
            self.cluster.start(name)

    # -- supervisor ----------------------------------------------------------------------------------------------------

    def supervisor_processes(self) -> list[Process]:
        return [self._processes["supervisor"]] if self.plan.supervised else []

    def start_supervisor(self) -> None:
        old = self._processes.get("supervisor")
        if self.plan.supervised and (old is None or not old.alive):
            process = self._process("supervisor")
            process.start(self._supervise, process)

    async def _supervise(self, process: Process) -> None:
        def keep(step: Recorded) -> None:
            self._recorded = step

        self.supervisor = supervisor = Supervisor(
            self.cluster,
            process,
            self._recorded,
            may_kill=self._may_kill,
            reaches=lambda server: not self.network.link("supervisor", server).is_cut,
            moved=self._moved,
            keep=keep,
        )
        await supervisor.run()

    def _moved(self, primary: str) -> None:
        """The supervisor tells origin workers who is the primary; some do not hear it."""
        self.note(f"{primary} is the primary now")
        for worker in self.origins.values():
            if worker.process.alive and self._weather.random() < 0.7:
                worker.process.start(worker.database.look_again)

    def hand_over(self) -> bool:
        """Somebody asks the supervisor for a failover."""
        supervisor = self.supervisor
        if supervisor is None or not supervisor.process.alive or supervisor.process.stopped:
            return False
        supervisor.process.start(supervisor.hand_over)
        return True

    def normal_lag(self, name: str) -> None:
        self.cluster.replay_lag(name, (0.0, 0.02))

    def trim_log(self, origin: str, keep: int) -> None:
        worker = self.origins.get(origin)
        if worker is not None and worker.process.alive:
            worker.process.start(worker.trim_log, keep)

    # -- people --------------------------------------------------------------------------------------------------------

    def _next_viewer(self, worker: EdgeWorker) -> None:
        # From outside: on a worker that wakes it comes among everything else that has arrived meanwhile.
        worker.process.post(self._people.expovariate(1.0) * self.plan.view_every_s, self._view, worker)

    def _view(self, worker: EdgeWorker) -> None:
        if worker.stopping or not self.is_visited:
            return
        if worker.viewers.under_way < MOST_WAITING:
            worker.viewers.ask(*choose(self._people), self._people)
        self._next_viewer(worker)

    def _first_number(self, row: str) -> int:
        """What `row` is at the beginning: everything is in the shop."""
        number = self.next_number()
        while row.startswith("listed:") and not is_listed(number):
            number = self.next_number()
        return number

    def next_number(self) -> int:
        """One that no change of the run has yet."""
        self._numbers += 1
        return self._numbers

    def _change(self) -> None:
        """Somebody changes something, at one of the origin's workers."""
        if not self._storming:
            return
        people = self._people
        self.later(people.expovariate(1.0) * self.plan.change_every_s, self._change)
        times = 1 if people.random() < 0.9 else people.randrange(3, 7)
        for _ in range(times):
            count = 1 if people.random() < 0.8 else 3
            rows = people.sample(ROWS, count)
            durability = Durability.LOCAL if people.random() < 0.3 else Durability.SURVIVES
            self._change_rows(rows, durability, everything=people.random() < 0.06)

    def change_locally(self, row: str | None = None) -> None:
        """Somebody changes something that may be lost with the primary; None: anything."""
        if self._storming:
            self._change_rows([row or self._people.choice(ROWS)], Durability.LOCAL)

    def fail_pages(self, origin: str, fails: tuple[Failing, float] | None) -> None:
        """From now on a worker of the origin does that wrong with pages, so often of one time; None: nothing."""
        worker = self.origins.get(origin)
        if worker is not None:
            worker.fails = fails

    def _change_rows(self, rows: list[str], durability: Durability, *, everything: bool = False) -> None:
        if any(worker.process.alive for worker in self.origins.values()):
            worker = self.some_origin()
            writes = {row: self.next_number() for row in rows}
            worker.process.start(lambda: worker.change(writes, durability, everything=everything))

    def some_origin(self) -> OriginWorker:
        """One of those that run, whoever that is. Raises IndexError where none does."""
        return self._people.choice([worker for worker in self.origins.values() if worker.process.alive])

    def reported(self, report: LiveReport) -> None:
        """What is known of a change was told to somebody, or is kept to be told."""
        self.truth.reported(report)

    # -- the weather ---------------------------------------------------------------------------------------------------

    def _strike(self) -> None:
        if not self._storming:
            return
        weather = self._weather
        self.later(weather.expovariate(1.0) * self.plan.strike_every_s, self._strike)
        self._strike_with(weather.choice(self.plan.strikes))

    def _strike_with(self, name: str) -> bool:
        if not ((self.plan.supervised or name in UNSUPERVISED) and STRIKES[name](self, self._weather)):
            return False
        self.coverage.struck(name)
        return True

    def _due(self, name: str) -> None:
        """It is the turn of that kind of fault: now, or as soon as there is anything that it could happen to."""
        if self._storming and not self._strike_with(name):
            self.later(0.5, self._due, name)

    def heal_all(self) -> None:
        """Everything is mended, at once."""
        self._storming = False
        self.note("everything is mended")
        self.network.heal()
        everybody = [*self.plan.edges, *self.plan.origins, *self.plan.servers, "valkey", "supervisor"]
        for link in self.network.links(everybody, everybody, both=False):
            link.delay = self.delay_between(link.origin, link.target)
            link.loss = link.repeat = link.shuffle = link.tear = 0.0
        for process in list(self._processes.values()):
            process.stalls = None
            self.wake(process)
        for origin in self.plan.origins:
            self.fail_pages(origin, None)
        for name, server in self.cluster.servers.items():
            self.wake(server.process)
            self.start_server(name)
            self.cluster.start_streaming(name)
            self.cluster.resume(name)
            self.normal_lag(name)
        self._may_kill = True
        if self.supervisor is not None and self.supervisor.process.alive:
            # An old primary that could not be ended is ended now, and comes back as a standby.
            self.supervisor.process.post(0.0, self.supervisor.runner.arm)
        self.start_supervisor()
        for name in self.plan.origins:
            self.start_origin(name)
        for name in self.plan.edges:
            self.start_edge(name)

    def _look_at_faults(self) -> None:
        for fault in self.loop.faults[:3]:
            self.promise.violated(Invariant.ANSWERED, f"a callback or a task failed: {fault}")


@cache
def shop_files() -> tuple[PolicySet, Markets]:
    """The shop's own policies and markets."""
    return load_policies(), load_markets(PACKAGED_POLICIES)


@contextmanager
def smaller() -> Iterator[None]:
    """Bounds of the real code made so small that short runs meet them: pages of the log, its tail, bodies that grow."""
    read_after = purge_log_module.read_after
    known = read_after.__defaults__
    with (
        patch.object(purge_log_module, "TAIL_ENTRIES", TAIL_OF_ENTRIES),
        patch("edge.gateway.fills.WHOLE_BYTES", GROWS_BEYOND),
        patch("edge.gateway.fills.MAX_ASKS", ASKS),
    ):
        read_after.__defaults__ = (PAGE_OF_ENTRIES,)
        try:
            yield
        finally:
            read_after.__defaults__ = known
