"""What the origin's statements do, told once more for the simulated database.

Each stands beside the SQL that it retells, by the statement's own text: one that changes there is unknown here, and the
simulated database refuses it. `tests/simulation/engine/test_statements.py` plays both and compares what they give.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

from sqlalchemy import TextClause, text

from cache_policies.positions import Position, PurgeKind
from origin import db, snapshot, whereabouts
from origin.events import feed, observer, purge_log
from tests.simulation.engine.storage import PURGE_LOG, Key
from tests.simulation.engine.transactions import Handler, Refused, View

CLOCK: Key = ("clock", "one")
CHARGE: Key = ("supervisor_lease", "one")
CONTACT, PROGRESS, SETTLED = "contact", "progress", "settled_epoch"
LONGEST_CHARGE_S = 2.0

Values = Mapping[str, Any]
Locking = Generator[Key, None, Any]


class Clock(NamedTuple):
    epoch: int
    cv: int
    fork_cv: int = 0
    timeline: int = 1


class Logged(NamedTuple):
    """A row of events.purge_log, without its position."""

    id: str
    kind: str
    tags: tuple[str, ...]
    fork_cv: int | None
    at: float
    """By the server's wall clock."""


class Known(NamedTuple):
    """A row of events.contact, without the worker."""

    edge: str
    contact: int
    applied: Position
    public_url: str
    left_at: float | None = None


class Progress(NamedTuple):
    state: str
    report: str


class Charge(NamedTuple):
    """The row of events.supervisor_lease; times by the server's wall clock."""

    holder: str
    renewed_at: float
    until: float


# -- rows that are given back ------------------------------------------------------------------------------------------


class Page(NamedTuple):
    what: str
    epoch: int
    cv: int
    id: str
    kind: str
    tags: tuple[str, ...] | None
    fork_cv: int | None


class Head(NamedTuple):
    epoch: int
    cv: int


class Place(NamedTuple):
    epoch: int
    cv: int
    id: str


class Epoch(NamedTuple):
    epoch: int
    cv: int
    fork_cv: int


class Seen(NamedTuple):
    instance: str
    flushed: int
    contacts: str
    standbys: str
    epoch: int
    settled: bool
    lost: str


class Report(NamedTuple):
    report: str | None
    id: str
    age_s: float


class Counted(NamedTuple):
    rows: int


class Sight(NamedTuple):
    is_standby: bool
    in_charge: bool
    epoch: int


# -- who is in charge --------------------------------------------------------------------------------------------------


def is_in_charge(view: View) -> bool:
    """events.in_charge()"""
    server = view.server
    if not server.is_primary or view.get(*CLOCK).timeline != server.timeline:
        return False
    charge = view.get(*CHARGE)
    return charge is None or bool(charge.renewed_at <= server.process.wall() < charge.until)


def in_charge(view: View, values: Values) -> list[tuple[bool]]:
    return [(is_in_charge(view),)]


def say(view: View, values: Values) -> list[Sight]:
    return [Sight(not view.server.is_primary, is_in_charge(view), view.get(*CLOCK).epoch)]


def renew_charge(view: View, values: Values) -> Locking:
    server = view.server
    now, basis, length_s = server.process.wall(), values["basis"], values["length_s"]
    if not 0 < length_s <= LONGEST_CHARGE_S:
        raise Refused(f"a supervisor lease lasts up to 2 s, not {length_s}", "22023")
    if basis is None or basis > now:
        raise Refused(f"the basis of a supervisor lease lies in the past of this server, and {basis} does not", "22023")
    yield CHARGE
    known = view.get(*CHARGE)
    if known is not None and known.holder != values["holder"] and is_in_charge(view):
        raise Refused(f"the supervisor {known.holder} has this server in charge until {known.until}", "55006")
    view.put(*CHARGE, Charge(values["holder"], now, basis + length_s))
    return [(now,)]


def end_supervision(view: View, values: Values) -> Locking:
    yield CHARGE
    view.put(*CHARGE, None)
    return 1


def read_wall_clock(view: View, values: Values) -> list[tuple[float]]:
    return [(view.server.process.wall(),)]


def commit_locally(view: View, values: Values) -> int:
    view.commit_as("local")
    return 0


# -- the clock and the purge log ---------------------------------------------------------------------------------------


def read_clock(view: View, values: Values) -> list[Head]:
    return [Head(*view.get(*CLOCK)[:2])]


def read_head(view: View, values: Values) -> list[Head]:
    return read_clock(view, values) if is_in_charge(view) else []


def log_purge(view: View, values: Values) -> Locking:
    yield CLOCK
    clock = view.get(*CLOCK)
    position = Position(clock.epoch, clock.cv + 1)
    yield PURGE_LOG, position
    view.put(*CLOCK, clock._replace(cv=position.cv))
    view.put(
        PURGE_LOG,
        position,
        Logged(str(values["id"]), values["kind"], tuple(values["tags"]), None, view.server.process.wall()),
    )
    if not is_in_charge(view):
        raise Refused("this server is not in charge: no change is taken here", db.NOT_IN_CHARGE)
    return [Head(*position)]


def raise_epoch(view: View, values: Values) -> Locking:
    yield CLOCK
    before = view.get(*CLOCK)
    clock = Clock(max(before.epoch, values["above"]) + 1, before.cv + 1, before.cv, view.server.timeline)
    position = Position(clock.epoch, clock.cv)
    yield PURGE_LOG, position
    view.put(*CLOCK, clock)
    id_ = view.server.cluster.new_id()
    view.put(PURGE_LOG, position, Logged(id_, PurgeKind.EPOCH.value, (), clock.fork_cv, view.server.process.wall()))
    return [Epoch(*clock[:3])]


def read_after(view: View, values: Values) -> list[Page]:
    after, limit = Position(values["epoch"], values["cv"]), values["limit"]
    rows: list[Page] = []
    later: list[Page] = []
    answers = is_in_charge(view)
    for number, (position, row) in enumerate(view.newest(PURGE_LOG)):
        if number == 0 and answers:
            rows.append(Page("head", position.epoch, position.cv, row.id, row.kind, None, row.fork_cv))
        if position <= after:
            break
        later.append(Page("entry", position.epoch, position.cv, row.id, row.kind, row.tags, row.fork_cv))
    oldest, row = next(view.rows(PURGE_LOG))
    rows.append(Page("oldest", oldest.epoch, oldest.cv, row.id, row.kind, None, row.fork_cv))
    known = view.get(PURGE_LOG, after)
    if known is not None and known.id == values["id"]:
        rows.append(Page("known", after.epoch, after.cv, known.id, known.kind, None, known.fork_cv))
    later.reverse()
    return rows + later[:limit]


def read_shared(view: View, values: Values) -> list[Place]:
    for position, row in view.newest(PURGE_LOG):
        if position.epoch <= values["epoch"]:
            return [Place(position.epoch, position.cv, row.id)] if position.cv < values["cv"] else []
    return []


def trim(view: View, values: Values) -> Locking:
    """As if everything were older than an hour: no run is as long."""
    positions = [position for position, _ in view.rows(PURGE_LOG)]
    surplus = positions[: max(0, len(positions) - max(values["keep"], 1))]
    for position in surplus:
        yield PURGE_LOG, position
        view.put(PURGE_LOG, position, None)
    return [Counted(len(surplus))]


# -- contacts ----------------------------------------------------------------------------------------------------------


def note_contact(view: View, values: Values) -> Locking:
    worker = values["worker"]
    yield CONTACT, worker
    known = view.get(CONTACT, worker)
    if known is None:
        return 0
    asked = Position(values["epoch"], values["cv"])
    row = view.get(PURGE_LOG, asked)
    news = asked > known.applied and row is not None and row.id == values["id"]
    view.put(
        CONTACT,
        worker,
        known._replace(
            contact=max(known.contact, values["contact"]),
            applied=asked if news else known.applied,
            edge=values["edge"],
            public_url=values["public_url"],
        ),
    )
    return 1


def register(view: View, values: Values) -> Locking:
    worker = values["worker"]
    yield CONTACT, worker
    if view.get(CONTACT, worker) is not None:
        return 0
    view.put(CONTACT, worker, Known(values["edge"], values["contact"], Position(0, 0), values["public_url"]))
    return 1


def leave(view: View, values: Values) -> Locking:
    worker = values["worker"]
    yield CONTACT, worker
    known = view.get(CONTACT, worker) or Known("", 1, Position(0, 0), "")
    view.put(CONTACT, worker, known._replace(left_at=view.server.process.wall()))
    return 1


def forget_left(view: View, values: Values) -> Locking:
    now = view.server.process.wall()
    gone = [
        worker for worker, known in view.rows(CONTACT) if known.left_at is not None and known.left_at < now - 3_600.0
    ]
    for worker in gone:
        yield CONTACT, worker
        view.put(CONTACT, worker, None)
    return len(gone)


def forget(view: View, values: Values) -> Locking:
    worker = values["worker"]
    yield CONTACT, worker
    known = view.get(CONTACT, worker)
    if known is None or known.contact != values["contact"]:
        return 0
    view.put(CONTACT, worker, None)
    return 1


# -- what is live ------------------------------------------------------------------------------------------------------


def read_view(view: View, values: Values) -> list[Seen]:
    server = view.server
    if not is_in_charge(view):
        return []
    contacts = [
        [worker, known.edge, known.contact, *known.applied, known.public_url]
        for worker, known in view.rows(CONTACT)
        if known.left_at is None
    ]
    standbys = sorted(server.followers.items())
    epoch = view.get(*CLOCK).epoch
    oldest, _ = next(view.rows(PURGE_LOG))
    lost = []
    for *at, id_ in zip(values["epochs"], values["cvs"], values["ids"], strict=True):
        entry = view.get(PURGE_LOG, Position(*at))
        # What was trimmed here would be an hour old, and nobody follows a change for so long.
        is_lost = entry is None or entry.id != id_ if Position(*at) > oldest else not _was_logged(view, Position(*at))
        if is_lost:
            lost.append(at)
    settled = view.get(SETTLED, epoch) is not None
    given = json.dumps(contacts), json.dumps(standbys), epoch, settled, json.dumps(lost)
    return [Seen(server.instance, server.flushed, *given)]


def _was_logged(view: View, position: Position) -> bool:
    """Whether its log has ever had an entry at `position`."""
    return any(record.writes.get((PURGE_LOG, position)) is not None for record in view.server.log)


def settle(view: View, values: Values) -> Locking:
    yield SETTLED, values["epoch"]
    view.put(SETTLED, values["epoch"], True)
    return 1


def write_progress(view: View, values: Values) -> Locking:
    position = Position(values["epoch"], values["cv"])
    yield PROGRESS, position
    if view.get(PURGE_LOG, position) is None:
        raise Refused("violates foreign key constraint: the purge log has no such position", "23503")
    known = view.get(PROGRESS, position)
    if known is not None and known.state == "live":
        return 0
    view.put(PROGRESS, position, Progress(values["state"], values["report"]))
    return 1


def read_progress(view: View, values: Values) -> list[Report]:
    position = Position(values["epoch"], values["cv"])
    logged = view.get(PURGE_LOG, position)
    if logged is None:
        return []
    known = view.get(PROGRESS, position)
    return [Report(None if known is None else known.report, logged.id, view.server.process.wall() - logged.at)]


RENEW = text("SELECT events.renew_supervisor_lease(:holder, :basis, :length)")
END = text("SELECT events.end_supervision()")
EPOCH = text("SELECT epoch, cv, fork_cv FROM events.raise_epoch(:actor, :above)")
WALL_CLOCK = text("SELECT clock_timestamp()")

STATEMENTS: dict[str, Handler] = {
    statement.text if isinstance(statement, TextClause) else statement: handler
    for statement, handler in (
        (db.LOCALLY, commit_locally),
        (db._IN_CHARGE, in_charge),
        (db._LOG_PURGE, log_purge),
        (whereabouts._SAY, say),
        (snapshot._CLOCK, read_clock),
        (snapshot._HEAD, read_head),
        (purge_log._READ_AFTER, read_after),
        (purge_log._SHARED, read_shared),
        (purge_log._TRIM, trim),
        (feed._CONTACT, note_contact),
        (feed._REGISTER, register),
        (feed._LEAVE, leave),
        (feed._FORGET_LEFT, forget_left),
        (observer._VIEW, read_view),
        (observer._SETTLE, settle),
        (observer._FORGET, forget),
        (observer._WRITE_PROGRESS, write_progress),
        (observer._READ_PROGRESS, read_progress),
        (RENEW, renew_charge),
        (END, end_supervision),
        (EPOCH, raise_epoch),
        (WALL_CLOCK, read_wall_clock),
    )
}
"""By the text of the origin's statements, and of those of a supervisor."""
