"""What the databases of a run have written, told to its promise: the one history by which everything is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cache_policies.positions import Position, PurgeEntry, PurgeKind
from origin.events.live import LiveReport, LiveState, Outcome
from tests.simulation.coverage import Coverage
from tests.simulation.edges import EdgeWorker
from tests.simulation.engine.cluster import Cluster
from tests.simulation.engine.servers import Server
from tests.simulation.engine.statements import CHARGE, CONTACT
from tests.simulation.engine.storage import PURGE_LOG, Record
from tests.simulation.promise import Invariant, Promise, Violation
from tests.simulation.shop import TABLE


class Truth:
    """`workers`: those that run, or did so last, by the name of their place. `on_violation` hears of each violation."""

    def __init__(
        self,
        cluster: Cluster,
        coverage: Coverage,
        workers: Mapping[str, EdgeWorker],
        on_violation: Callable[[Violation], None],
    ) -> None:
        self.promise = Promise(coverage, lambda: cluster.loop.now, on_violation, self.learn)
        self.by_id: dict[str, EdgeWorker] = {}
        """Every edge worker that there has been, as the registry knows it."""
        self._cluster = cluster
        self._coverage = coverage
        self._workers = workers
        self._known = 1
        """Commits of the cluster that the promise knows."""
        self._lost = 0
        """Changes that were lost by then."""
        self._entries: dict[Position, PurgeEntry] = {}

    def became_visible(self, server: Server, record: Record) -> None:
        """A database shows `record` from here on. One that was just put in charge is so alone."""
        self.learn()
        if CHARGE in record.writes:
            in_charge = self._cluster.in_charge()
            self._coverage.checked(Invariant.FENCED)
            if len(in_charge) > 1:
                self.promise.violated(Invariant.FENCED, f"{' and '.join(in_charge)} are in charge", *in_charge)

    def learn(self) -> None:
        """Tell the promise what databases have written since."""
        records, promise = self._cluster.records, self.promise
        while self._known < len(records):
            record = records[self._known]
            self._known += 1
            position = record.position
            if position is None:
                self._registered(record)
                continue
            logged = record.writes[PURGE_LOG, position]
            entry = PurgeEntry(position, logged.id, PurgeKind(logged.kind), logged.tags, logged.fork_cv)
            if position in self._entries and position.epoch == promise.epoch:
                promise.crashed_before(position)
            self._entries[position] = entry
            if entry.kind is PurgeKind.EPOCH:
                # By what was inherited, whatever the entry says of that.
                promise.promoted(position.epoch, self._inherited(record))
                self._coverage.struck("promotion")
                if promise.lost > self._lost:
                    self._lost = promise.lost
                    self._coverage.struck("tail-lost")
            promise.committed(
                position, [(key, number) for (table, key), number in record.writes.items() if table == TABLE]
            )

    def _inherited(self, record: Record) -> int:
        """The highest `cv` in the log of the server that made `record`, before that."""
        log = self._cluster.servers[record.made_by].log
        return next(each.position.cv for each in reversed(log[: record.number - 1]) if each.position is not None)

    def _registered(self, record: Record) -> None:
        """A database has written what it takes a worker to have applied."""
        for (table, key), known in record.writes.items():
            if table == CONTACT and known is not None and key in self.by_id:
                worker = self.by_id[key]
                self.promise.acknowledged(worker.name, known.applied, worker.follower.highest)

    def reported(self, report: LiveReport) -> None:
        """What is known of a change was told to somebody, or is kept to be told."""
        for each in report.workers:
            worker = self.by_id.get(each.worker)
            if worker is not None and each.outcome is Outcome.ACKNOWLEDGED:
                self.promise.acknowledged(worker.name, report.position, worker.follower.highest)
        if report.state in {LiveState.LIVE, LiveState.SHOWN}:
            standing = [worker.standing for worker in self._workers.values()]
            live = report.state is LiveState.LIVE
            self.promise.reported(report.position, standing, live=live, floors_of=self._floors_refuse)

    def _floors_refuse(self, worker: str, position: Position) -> bool:
        entry = self._entries.get(position)
        return entry is None or self._workers[worker].refuses(entry)
