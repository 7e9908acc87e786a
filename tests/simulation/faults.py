"""What goes wrong in a run: drawn from the seed, each with its end.

A run has only some of the kinds of faults, so that others are seen alone, too. Whatever is broken is mended by itself
after a while, or by `heal_all`.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.engine.processes import Process
from tests.simulation.origins import Failing
from tests.simulation.shop import PRICES

if TYPE_CHECKING:
    from tests.simulation.world import World

Strike = Callable[["World", Random], bool]
"""Lets a fault happen, and sees to its end; False: there is nothing now that it could happen to."""


def _lasting(draws: Random, shortest_s: float = 0.2, longest_s: float = 6.0) -> float:
    """How long a fault lasts: short ones are more frequent."""
    return shortest_s + (longest_s - shortest_s) * draws.random() ** 2


def _one(draws: Random, processes: list[Process]) -> Process | None:
    usable = [process for process in processes if process.alive and not process.stopped]
    return draws.choice(usable) if usable else None


# -- processes ---------------------------------------------------------------------------------------------------------


def edge_killed(world: World, draws: Random) -> bool:
    """One worker, or with it all those of its edge: its machine."""
    process = _one(draws, world.edge_processes())
    if process is None:
        return False
    names = [process.name, *(world.siblings(process.name) if draws.random() < 0.3 else ())]
    world.note(f"kill -9 {' '.join(names)}")
    for name in names:
        world.kill_edge(name)
        world.later(_lasting(draws, 0.01, 3.0), world.start_edge, name)
    return True


def edge_stopped(world: World, draws: Random) -> bool:
    process = _one(draws, world.edge_processes())
    if process is None:
        return False
    world.note(f"{process.name} is told to stop")
    world.stop_edge(process.name)
    return True


def _frozen(world: World, draws: Random, processes: list[Process], *, suspended: bool = False) -> bool:
    process = _one(draws, processes)
    if process is None:
        return False
    lasts_s = _lasting(draws)
    world.note(f"{process.name} {'sleeps' if suspended else 'is frozen'} for {lasts_s:.2f} s")
    if suspended:
        process.suspend()
    else:
        process.freeze()
    world.later(lasts_s, world.wake, process)
    return True


def edge_frozen(world: World, draws: Random) -> bool:
    return _frozen(world, draws, world.edge_processes())


def edge_suspended(world: World, draws: Random) -> bool:
    return _frozen(world, draws, world.edge_processes(), suspended=True)


def origin_frozen(world: World, draws: Random) -> bool:
    return _frozen(world, draws, world.origin_processes())


def origin_suspended(world: World, draws: Random) -> bool:
    return _frozen(world, draws, world.origin_processes(), suspended=True)


def _stalls(world: World, draws: Random, processes: list[Process]) -> bool:
    process = _one(draws, processes)
    if process is None:
        return False
    process.stalls = (draws.choice((0.005, 0.02)), draws.choice((0.3, 3.0)))
    lasts_s = _lasting(draws, 0.5, 4.0)
    world.note(f"{process.name} is stopped in the middle of what it does, now and then, for {lasts_s:.2f} s")

    def end() -> None:
        process.stalls = None

    world.later(lasts_s, end)
    return True


def edge_stalls(world: World, draws: Random) -> bool:
    return _stalls(world, draws, world.edge_processes())


def origin_stalls(world: World, draws: Random) -> bool:
    return _stalls(world, draws, world.origin_processes())


def origin_killed(world: World, draws: Random) -> bool:
    process = _one(draws, world.origin_processes())
    if process is None:
        return False
    world.note(f"kill -9 {process.name}")
    world.kill_origin(process.name)
    world.later(_lasting(draws, 0.01, 3.0), world.start_origin, process.name)
    return True


def clock_stepped(world: World, draws: Random) -> bool:
    process = _one(draws, [*world.edge_processes(), *world.origin_processes()])
    if process is None:
        return False
    step_s = draws.choice((-86_400.0, -30.0, 30.0, 86_400.0))
    world.note(f"the wall clock of {process.name} is stepped by {step_s:+.0f} s")
    world.step_wall_clock(process.name, step_s)
    return True


def _pages_fail(world: World, draws: Random, failing: Failing) -> bool:
    origin, share = draws.choice(world.origin_names()), draws.choice((0.5, 1.0))
    lasts_s = _lasting(draws, 0.5, 8.0)
    world.note(f"{origin} answers with {failing.value}, {share:.0%} of the time, for {lasts_s:.2f} s")
    world.fail_pages(origin, (failing, share))
    world.later(lasts_s, world.fail_pages, origin, None)
    return True


def pages_fail(world: World, draws: Random) -> bool:
    return _pages_fail(world, draws, Failing.ERRORS)


def pages_cut_short(world: World, draws: Random) -> bool:
    return _pages_fail(world, draws, Failing.CUT_SHORT)


# -- the network -------------------------------------------------------------------------------------------------------


def edge_cut(world: World, draws: Random) -> bool:
    edge = draws.choice(world.edge_names())
    lasts_s = _lasting(draws)
    both = draws.random() < 0.6
    origins = world.origin_names()
    ends = ([edge], origins) if both or draws.random() < 0.5 else (origins, [edge])
    world.note(f"the way {'between' if both else 'from'} {ends[0]} {'and' if both else 'to'} {ends[1]} is cut")
    world.network.cut(*ends, both=both)
    world.later(lasts_s, world.network.heal, [edge], origins)
    return True


def edge_slow(world: World, draws: Random) -> bool:
    edge = draws.choice(world.edge_names())
    longest_s = draws.choice((0.2, 0.8, 1.9))
    world.note(f"what {edge} and the origin say to each other takes up to {longest_s} s")
    links = list(world.network.links([edge], world.origin_names()))
    for link in links:
        link.delay = (longest_s / 4, longest_s)

    def end() -> None:
        for link in links:
            link.delay = world.delay_between(link.origin, link.target)

    world.later(_lasting(draws), end)
    return True


def _messages(world: World, draws: Random, kind: str, chance: float) -> bool:
    edge = draws.choice(world.edge_names())
    links = list(world.network.links([edge], [*world.origin_names(), *world.siblings(edge)]))
    world.note(f"of what {edge} asks and hears, {chance:.0%} meet: {kind}")
    for link in links:
        setattr(link, kind, chance)

    def end() -> None:
        for link in links:
            setattr(link, kind, 0.0)

    world.later(_lasting(draws, 0.5, 8.0), end)
    return True


def messages_lost(world: World, draws: Random) -> bool:
    return _messages(world, draws, "loss", draws.choice((0.2, 0.6, 1.0)))


def messages_repeated(world: World, draws: Random) -> bool:
    return _messages(world, draws, "repeat", 0.5)


def messages_reordered(world: World, draws: Random) -> bool:
    return _messages(world, draws, "shuffle", 0.4)


def connections_reset(world: World, draws: Random) -> bool:
    edge, origin = draws.choice(world.edge_names()), draws.choice(world.origin_names())
    if not world.network.reset(edge, origin):
        return False
    world.note(f"the connections from {edge} to {origin} are reset")
    return True


def bytes_torn(world: World, draws: Random) -> bool:
    edge = draws.choice(world.edge_names())
    links = list(world.network.links([edge], world.origin_names()))
    for link in links:
        link.tear = 0.5

    def end() -> None:
        for link in links:
            link.tear = 0.0

    world.later(_lasting(draws, 1.0, 8.0), end)
    return True


# -- databases ---------------------------------------------------------------------------------------------------------


def origin_cut_off(world: World, draws: Random) -> bool:
    """One origin worker does not reach one database."""
    origin, server = draws.choice(world.origin_names()), draws.choice(world.servers)
    world.note(f"the way between {origin} and {server} is cut")
    world.network.cut([origin], [server])
    world.later(_lasting(draws, 0.2, 3.0), world.network.heal, [origin], [server])
    return True


def replica_lags(world: World, draws: Random) -> bool:
    name = draws.choice(world.replicas())
    longest_s = draws.choice((0.2, 1.0, 5.0, 10.0))
    world.note(f"{name} replays up to {longest_s} s late")
    world.cluster.replay_lag(name, (0.0, longest_s))
    world.later(_lasting(draws, 1.0, 10.0), world.normal_lag, name)
    return True


def replica_paused(world: World, draws: Random) -> bool:
    name = draws.choice(world.replicas())
    world.note(f"{name} replays nothing")
    world.cluster.pause(name)
    world.later(_lasting(draws, 0.5, 8.0), world.cluster.resume, name)
    return True


def server_clock_stepped(world: World, draws: Random) -> bool:
    """Forwards, or back by more than a lease lasts: one that is set back within a lease lengthens it, as
    docs/freshness.md says."""
    name, step_s = draws.choice(world.servers), draws.choice((-86_400.0, -600.0, 3.0, 30.0, 86_400.0))
    world.note(f"the wall clock of {name} is stepped by {step_s:+.0f} s")
    world.cluster.step_clock(name, step_s)
    return True


def _killed(world: World, draws: Random, name: str, what: str) -> bool:
    if not world.cluster.servers[name].process.alive:
        return False
    world.note(f"kill -9 {name}, {what}")
    world.kill_server(name)
    if not world.plan.supervised:
        world.later(_lasting(draws, 0.1, 3.0), world.start_server, name)
    return True


def replica_killed(world: World, draws: Random) -> bool:
    return _killed(world, draws, draws.choice(world.replicas()), "a standby")


def primary_killed(world: World, draws: Random) -> bool:
    """Without a supervisor it comes back as what it was; with one the standby takes its place."""
    return _killed(world, draws, world.cluster.primary, "the primary")


def streaming_stopped(world: World, draws: Random) -> bool:
    """A standby receives nothing more: what is committed meanwhile without waiting for it may be lost."""
    name = draws.choice(world.replicas())
    lasts_s = _lasting(draws, 0.3, 7.0)
    world.note(f"{name} receives nothing for {lasts_s:.2f} s")
    world.cluster.stop_streaming(name)
    world.later(lasts_s, world.cluster.start_streaming, name)
    return True


def failover_with_a_tail_lost(world: World, draws: Random) -> bool:
    """What is committed meanwhile without waiting for the standby is shown by edges, and then there is no such past."""
    primary = world.cluster.primary
    process = world.cluster.servers[primary].process
    if not process.alive or process.stopped:
        return False
    name = draws.choice(world.replicas())
    world.note(f"{name} receives nothing, and then {primary} is lost")
    world.cluster.stop_streaming(name)
    for _ in range(draws.randrange(1, 4)):
        world.later(draws.uniform(0.05, 0.6), world.change_locally)
    loses = world.kill_server if draws.random() < 0.7 else world.freeze_server
    world.while_it_storms(draws.uniform(0.7, 2.5), loses, primary)
    world.later(draws.uniform(2.6, 5.0), world.cluster.start_streaming, name)
    world.later(_lasting(draws, 3.0, 8.0), world.wake, process)
    return True


def registration_lost(world: World, draws: Random) -> bool:
    """A worker leaves, and its successor's registration is lost with the primary, before it can register again: nobody
    at the new primary knows of anybody there who holds a lease."""
    edge = _one(draws, world.edge_processes())
    if edge is None or not world.cluster.servers[world.cluster.primary].process.alive:
        return False
    world.note(f"{edge.name} is told to stop; its successor's registration is to be lost")
    world.stop_edge(edge.name)
    name = edge.name

    def when_it_is_back() -> None:
        if not edge.alive and world.is_up(name):
            world.while_it_storms(0.0, _lose_what_comes, world, draws, name)
        else:
            world.while_it_storms(0.05, when_it_is_back)

    when_it_is_back()
    return True


def _lose_what_comes(world: World, draws: Random, edge: str) -> None:
    primary, standby = world.cluster.primary, draws.choice(world.replicas())
    origins = world.origin_names()
    world.note(f"{standby} receives nothing; then {edge} is cut off, and {primary} is lost")
    world.cluster.stop_streaming(standby)
    world.while_it_storms(0.8, world.network.cut, [edge], origins)
    world.while_it_storms(0.85, world.kill_server, primary)
    for _ in range(draws.randrange(2, 6)):
        world.later(draws.uniform(1.0, 2.6), world.change_locally)
    world.later(draws.uniform(3.0, 5.0), world.network.heal, [edge], origins)
    world.later(5.0, world.cluster.start_streaming, standby)


def halves_parted(world: World, draws: Random) -> bool:
    """The primary, one worker of the origin and one edge on this side; everybody else on the other, where the standby
    is promoted: as long as it is not found out, both sides have a shop."""
    primary = world.cluster.primary
    origin, edge = draws.choice(world.origin_names()), draws.choice(world.edge_names())
    here = [primary, origin, edge, *world.siblings(edge)]
    everybody = (*world.servers, *world.origin_names(), *world.edge_names(), "supervisor", "valkey")
    there = [name for name in everybody if name not in here]
    world.note(f"the way between {here} and {there} is cut")
    world.network.cut(here, there)
    lasts_s = draws.uniform(4.0, 12.0)
    for _ in range(draws.randrange(1, 6)):
        world.later(draws.uniform(0.5, lasts_s), world.change_locally)
    world.later(lasts_s, world.network.heal, here, there)
    return True


def database_frozen(world: World, draws: Random) -> bool:
    """Of a frozen primary its connections live on: it may go on where it was when another was promoted long ago."""
    return _frozen(world, draws, [server.process for server in world.cluster.servers.values()])


def supervisor_frozen(world: World, draws: Random) -> bool:
    return _frozen(world, draws, world.supervisor_processes())


def supervisor_killed(world: World, draws: Random) -> bool:
    process = _one(draws, world.supervisor_processes())
    if process is None:
        return False
    world.note("kill -9 supervisor, which takes its servers along")
    process.kill()
    for name in world.servers:
        world.kill_server(name)
    world.later(_lasting(draws, 0.1, 3.0), world.start_supervisor)
    return True


def supervisor_cut_off(world: World, draws: Random) -> bool:
    server = draws.choice(world.servers)
    world.note(f"the way between the supervisor and {server} is cut")
    world.network.cut(["supervisor"], [server])
    world.later(_lasting(draws, 0.2, 5.0), world.network.heal, ["supervisor"], [server])
    return True


def database_cut_off(world: World, draws: Random) -> bool:
    """Nobody but the origin's workers reaches one server: the side of the old primary that viewers are on."""
    server = draws.choice(world.servers)
    others = [name for name in (*world.servers, "supervisor") if name != server]
    world.note(f"the way between {server} and {others} is cut")
    world.network.cut([server], others)
    world.later(_lasting(draws, 0.2, 7.0), world.network.heal, [server], others)
    return True


def failover_asked_for(world: World, draws: Random) -> bool:
    world.note("somebody asks for a failover")
    return world.hand_over()


def edge_left_behind(world: World, draws: Random) -> bool:
    """An edge hears nothing, while the log goes on and forgets where it was."""
    edge, origins = draws.choice(world.edge_names()), world.origin_names()
    lasts_s = draws.uniform(0.8, 4.0)
    world.note(f"{edge} hears nothing for {lasts_s:.2f} s, and the log is trimmed")
    world.network.cut([edge], origins)
    for _ in range(draws.randrange(2, 5)):
        world.later(draws.uniform(0.1, 0.6), world.change_locally)
    world.while_it_storms(lasts_s - 0.1, world.trim_log, draws.choice(origins), 1)
    world.later(lasts_s, world.network.heal, [edge], origins)
    return True


def price_war(world: World, draws: Random) -> bool:
    """One price changes faster than an edge can ask for it, and some of what the edge is told about that is lost."""
    edge, row = draws.choice(world.edge_names()), draws.choice(PRICES)
    links = list(world.network.links([edge], world.origin_names()))
    changes, every_s = draws.randrange(15, 30), draws.uniform(0.04, 0.12)
    world.note(f"{row} changes {changes} times, once in {every_s:.2f} s, and the way from {edge} to the origin is long")
    for link in links:
        link.delay, link.loss = (0.05, 0.25), 0.2
    for number in range(changes):
        world.later(number * every_s, world.change_locally, row)

    def end() -> None:
        for link in links:
            link.delay, link.loss = world.delay_between(link.origin, link.target), 0.0

    world.later(changes * every_s, end)
    return True


def log_trimmed(world: World, draws: Random) -> bool:
    process = _one(draws, world.origin_processes())
    if process is None:
        return False
    keep = draws.randrange(1, 4)
    world.note(f"the purge log is trimmed to {keep} entries")
    world.trim_log(process.name, keep)
    return True


# -- Valkey ------------------------------------------------------------------------------------------------------------


def valkey_forgets(world: World, draws: Random) -> bool:
    """Everything, or some of it, as one does that is full."""
    share = draws.choice((0.3, 0.7, 1.0))
    forgotten = world.valkey.evict(share)
    world.note(f"Valkey forgets {forgotten} keys")
    return forgotten > 0


def valkey_cut(world: World, draws: Random) -> bool:
    world.note("nobody reaches Valkey")
    everybody = [*world.edge_names(), *world.origin_names()]
    world.network.cut(everybody, ["valkey"])
    world.later(_lasting(draws), world.network.heal, everybody, ["valkey"])
    return True


STRIKES: dict[str, Strike] = {
    strike.__name__.replace("_", "-"): strike
    for strike in (
        edge_killed, edge_stopped, edge_frozen, edge_suspended, edge_stalls,
        origin_killed, origin_frozen, origin_suspended, origin_stalls, pages_fail, pages_cut_short, clock_stepped,
        edge_cut, edge_slow, messages_lost, messages_repeated, messages_reordered, connections_reset, bytes_torn,
        origin_cut_off, replica_lags, replica_paused, replica_killed, primary_killed, streaming_stopped,
        database_frozen, database_cut_off, server_clock_stepped,
        supervisor_frozen, supervisor_killed, supervisor_cut_off, failover_asked_for,
        failover_with_a_tail_lost, registration_lost, halves_parted,
        log_trimmed, edge_left_behind, price_war, valkey_forgets, valkey_cut,
    )
}  # fmt: skip
"""Every kind of fault, by its name."""
_NEED_A_SUPERVISOR = ("supervisor-", "failover-", "registration-", "halves-")
UNSUPERVISED = tuple(name for name in STRIKES if not name.startswith(_NEED_A_SUPERVISOR))
"""Those that there are without a supervisor, too."""
DUE = 10
"""Kinds whose turn it is in one run, whatever else it has."""


def due_in(seed: int) -> list[str]:
    """The kinds whose turn it is in the run of `seed`: runs that follow each other go through all of them."""
    kinds = list(STRIKES)
    return [kinds[(seed * DUE + number) % len(kinds)] for number in range(DUE)]
