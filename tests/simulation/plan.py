"""What the world of one run is like: drawn from its seed, so that runs differ in what they are made of, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tests.simulation.edges import MEETS, EdgeSettings
from tests.simulation.faults import STRIKES, UNSUPERVISED
from tests.simulation.origins import OriginSettings
from tests.simulation.shop import Lifetimes

FAULT_POINTS = (*STRIKES, *MEETS, "promotion", "tail-lost", "message-lost", "message-repeated", "message-late")
"""What must have happened in a run that counts: what was done, and what came of it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the world of one run is like, as drawn from its seed."""

    edges: tuple[str, ...]
    """Workers, each `EDGE/NUMBER`."""
    origins: tuple[str, ...]
    servers: tuple[str, ...]
    """Databases, the primary first."""
    edge: EdgeSettings
    origin: OriginSettings
    far: float
    """Seconds between an edge and the origin, one way, at the most."""
    view_every_s: float
    """Between two viewers of one worker, on average: so many that runs are about answers rather than about polling, so
    few that about five steps of the world lie between two of them."""
    change_every_s: float
    strike_every_s: float
    strikes: tuple[str, ...]
    """Kinds of faults that this run has."""
    supervised: bool
    """Whether a supervisor promotes the standby when the primary is lost; without one it is only started again."""
    may_kill: bool
    """Whether the supervisor can end the processes of servers, or has to wait for their leases."""


def plan_of(draws: Random, due: Sequence[str] = ()) -> Plan:
    """The plan that `draws` gives, for a world in which the faults that are `due` can strike."""
    edges = draws.choice((("eu/1", "eu/2"), ("eu/1", "us/1"), ("eu/1", "eu/2", "us/1"), ("eu/1",)))
    supervised = draws.random() < 0.6 or not all(name in UNSUPERVISED for name in due)
    # The machine keeps two servers, whichever of them is the standby.
    servers = ("db-a", "db-b") if supervised else draws.choice((("db-a", "db-b"), ("db-a", "db-b", "db-c")))
    strikes = [name for name in (STRIKES if supervised else UNSUPERVISED) if draws.random() < 0.4]
    lifetimes = Lifetimes(draws.choice((1, 3, 8, 60)), draws.choice((0, 3, 30)), draws.choice((0, 10, 60)))
    return Plan(
        edges=edges,
        origins=draws.choice((("origin/1",), ("origin/1", "origin/2"), ("origin/1", "origin/2"))),
        servers=servers,
        edge=EdgeSettings(
            store_bytes=draws.choice((8_000, 20_000, 10_000_000, 10_000_000, 10_000_000)),
            max_floors=draws.choice((4, 8, 1_000)),
            regional=draws.random() < 0.5,
            refresh_hottest=draws.choice((0, 0, 5)),
        ),
        origin=OriginSettings(
            primary_url=url_of(*servers),
            replica_urls=(url_of(*servers, role="standby"), *(url_of(server) for server in servers[2:])),
            # With a supervisor the standby changes its place: whichever follows is the one that may be promoted.
            standbys=() if supervised else (servers[1],),
            lifetimes=lifetimes,
            readthrough=draws.random() < 0.4,
            pieces_s=draws.choice((0.01, 0.3)),
        ),
        far=draws.choice((0.005, 0.04, 0.15)),
        view_every_s=draws.choice((0.0015, 0.003, 0.006)),
        change_every_s=draws.choice((0.7, 2.0, 4.0)),
        strike_every_s=draws.choice((0.5, 1.2, 3.0)),
        strikes=tuple(strikes),
        supervised=supervised,
        may_kill=draws.random() < 0.6,
    )


def url_of(*servers: str, role: str = "primary") -> str:
    """The address of whichever of `servers` has that role; of one alone, whatever it is."""
    if len(servers) == 1:
        return f"postgresql+asyncpg://{servers[0]}/shop"
    hosts = "&".join(f"host={server}:5432" for server in servers)
    return f"postgresql+asyncpg:///shop?{hosts}&target_session_attrs={role}"
