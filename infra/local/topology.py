"""Which processes a local shop has, where they listen and how far they are from the origin. Pure.

The default layout counts from a port base: the origin at the base, edges from base + 1, the workers' admin listeners
from base + 11, the relay from base + 21 (two addresses per edge: fills, then questions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from infra.local.errors import LocalError

HOST = "127.0.0.1"
DEFAULT_PORT_BASE = 8080
DEFAULT_RTT_MS = {"us": 2.0, "eu": 80.0, "ap": 180.0}
"""Round trip between each edge and the origin's region, which is next to `us`."""
CHANNELS = ("fills", "questions")
HIGHEST_RTT_MS = 10_000.0
MOST_WORKERS = 8


@dataclass(frozen=True, slots=True)
class Options:
    """What a person can choose about a local shop."""

    port_base: int = DEFAULT_PORT_BASE
    """0: free ports."""
    rtt_ms: dict[str, float] = field(default_factory=lambda: dict(DEFAULT_RTT_MS))
    origin_workers: int = 2
    edge_workers: int = 2
    """Of each edge."""
    products: int = 5000
    """Of the demo catalog, which is made when the catalog is empty; 0: none is made."""
    seed: int = 1
    """Of the demo catalog: the same seed, the same catalog."""
    failover: Literal["auto", "hand"] | None = None
    """Whether a lost primary is replaced without being asked; None: where the databases are ours."""
    accept_loss: bool = False
    """Start with a primary that may lack acknowledged changes, where no other can be had."""

    def __post_init__(self) -> None:
        for name, value, lowest, highest in (
            ("--origin-workers", self.origin_workers, 1, MOST_WORKERS),
            ("--edge-workers", self.edge_workers, 1, MOST_WORKERS),
            ("--products", self.products, 0, 1_000_000),
        ):
            if not lowest <= value <= highest:
                raise LocalError(f"{name} {value}: must be from {lowest} to {highest}")
        if self.port_base != 0 and not 1024 <= self.port_base <= 65_535 - self.ports_needed + 1:
            highest = 65_535 - self.ports_needed + 1
            raise LocalError(f"--port-base {self.port_base}: must be from 1024 to {highest}, or 0 for free ports")

    @property
    def ports_needed(self) -> int:
        """From the base on, gaps included."""
        return _relay_offset(len(self.rtt_ms), self.edge_workers) + len(self.rtt_ms) * len(CHANNELS)


def parse_rtts(texts: Sequence[str]) -> dict[str, float]:
    """The round trips in milliseconds, from `eu=120` and the like over the defaults.

    Raises LocalError that says which text is wrong and how it should look.
    """
    rtt_ms = dict(DEFAULT_RTT_MS)
    for text in texts:
        edge, equals, number = text.partition("=")
        if not equals or edge not in rtt_ms:
            raise LocalError(
                f"--rtt {text}: expected EDGE=MILLISECONDS, with EDGE one of {', '.join(rtt_ms)}; e.g. eu=120"
            )
        try:
            value = float(number.removesuffix("ms"))
        except ValueError:
            value = -1.0
        if not 0 <= value <= HIGHEST_RTT_MS:
            raise LocalError(f"--rtt {text}: the round trip is a number of milliseconds from 0 to {HIGHEST_RTT_MS:.0f}")
        rtt_ms[edge] = value
    return rtt_ms


@dataclass(frozen=True, slots=True)
class Worker:
    """One process of an edge."""

    name: str
    """`eu-1`."""
    admin_port: int

    @property
    def admin_url(self) -> str:
        return f"http://{HOST}:{self.admin_port}"


@dataclass(frozen=True, slots=True)
class Edge:
    """One edge: workers that share a port, and the relay's addresses that lead to the origin."""

    name: str
    rtt_ms: float
    port: int
    fills_port: int
    questions_port: int
    workers: tuple[Worker, ...]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


@dataclass(frozen=True, slots=True)
class Topology:
    """All of it."""

    origin_port: int
    questions_port: int
    """Of the origin's worker that answers questions and nothing else: no page in the making delays a purge there."""
    origin_workers: dict[str, int]
    """Name of each of the origin's processes and the port it listens at."""
    edges: tuple[Edge, ...]

    @property
    def origin_url(self) -> str:
        return f"http://{HOST}:{self.origin_port}"

    @property
    def origin_readiness(self) -> list[str]:
        """What to ask until the origin answers, pages and questions alike."""
        return [f"http://{HOST}:{port}/readyz" for port in (self.origin_port, self.questions_port)]

    def ports(self) -> dict[int, str]:
        """Every port, with what listens there."""
        found = {self.origin_port: "the origin", self.questions_port: "the origin's listener for questions"}
        for edge in self.edges:
            found[edge.port] = f"edge {edge.name}"
            for worker in edge.workers:
                found[worker.admin_port] = f"the admin listener of {worker.name}"
            found[edge.fills_port] = f"the relay of {edge.name}'s fills"
            found[edge.questions_port] = f"the relay of {edge.name}'s questions"
        return found

    def addresses(self) -> dict[str, object]:
        """What --ready-file says."""
        return {
            "edges": {edge.name: edge.url for edge in self.edges},
            "origin": self.origin_url,
            "console": f"{self.origin_url}/console",
            "admin": {edge.name: [worker.admin_url for worker in edge.workers] for edge in self.edges},
        }

    def questions(self) -> dict[str, str]:
        """Where each edge asks its questions, and `origin`, to which these all lead."""
        ways = {edge.name: f"http://{HOST}:{edge.questions_port}" for edge in self.edges}
        return {"origin": f"http://{HOST}:{self.questions_port}", **ways}

    def relay_plan(self) -> list[dict[str, Any]]:
        """The argument of infra.local.relay."""
        channels = []
        for edge in self.edges:
            near = (edge.fills_port, edge.questions_port)
            for channel, port, target in zip(CHANNELS, near, (self.origin_port, self.questions_port), strict=True):
                channels.append(
                    {"edge": edge.name, "channel": channel, "port": port, "target_port": target, "rtt_ms": edge.rtt_ms}
                )
        return channels


def plan(options: Options, base: int) -> Topology:
    """The processes and ports of a shop whose ports count from `base`."""
    admin = base + _admin_offset(len(options.rtt_ms))
    relay = base + _relay_offset(len(options.rtt_ms), options.edge_workers)
    edges = []
    for number, (name, rtt_ms) in enumerate(options.rtt_ms.items()):
        workers = tuple(
            Worker(f"{name}-{worker + 1}", admin + number * options.edge_workers + worker)
            for worker in range(options.edge_workers)
        )
        edges.append(Edge(name, rtt_ms, base + 1 + number, relay + 2 * number, relay + 2 * number + 1, workers))
    questions_port = base + 1 + len(edges)
    origin_workers = {f"origin-{number + 1}": base for number in range(options.origin_workers)}
    origin_workers["origin-questions"] = questions_port
    return Topology(base, questions_port, origin_workers, tuple(edges))


def _admin_offset(edges: int) -> int:
    return max(11, 2 + edges)


def _relay_offset(edges: int, workers: int) -> int:
    return max(21, _admin_offset(edges) + edges * workers)


# --- environments: what each process is told ---


@dataclass(frozen=True, slots=True)
class Secrets:
    """Made anew at each start."""

    edge_key: str
    admin_token: str


def origin_environment(
    port: int,
    secrets: Secrets,
    database_url: str,
    replica_url: str,
    redis_url: str,
    standby: str,
    *,
    metrics: str,
    access_log: str,
) -> dict[str, str]:
    """`metrics`: the folder in which the workers count together. `access_log`: the file that they all write."""
    return {
        "DATABASE_URL": database_url,
        "REPLICA_URLS": replica_url,
        "REDIS_URL": redis_url,
        "NEARSHELF_LISTEN": f"{HOST}:{port}",
        "NEARSHELF_EDGE_KEY": secrets.edge_key,
        "NEARSHELF_STANDBYS": standby,
        "NEARSHELF_ADMIN_TOKEN": secrets.admin_token,
        "NEARSHELF_METRICS_DIR": metrics,
        "NEARSHELF_ACCESS_LOG": access_log,
    }


def edge_environment(
    edge: Edge, worker: Worker, secrets: Secrets, *, access_log: str, siblings: str, regional: str, run: str
) -> dict[str, str]:
    """`siblings`: the folder in which the edge's workers meet. `regional`: the store that they share. `run`: names this
    run of the shop, and no other."""
    return {
        "NEARSHELF_EDGE": edge.name,
        "NEARSHELF_LISTEN": f"{HOST}:{edge.port}",
        "NEARSHELF_ADMIN_LISTEN": f"{HOST}:{worker.admin_port}",
        "NEARSHELF_PUBLIC_URL": edge.url,
        "NEARSHELF_ORIGIN_URL": f"http://{HOST}:{edge.fills_port}",
        "NEARSHELF_FEED_URL": f"http://{HOST}:{edge.questions_port}",
        "NEARSHELF_SIBLINGS": siblings,
        "NEARSHELF_REGIONAL": regional,
        # The store may be one of others, and hold what another shop, or this one before it was made anew, has kept
        # there: with positions of another purge log, under the same addresses.
        "NEARSHELF_REGIONAL_SPACE": f"{edge.name}:{run}",
        "NEARSHELF_EDGE_KEY": secrets.edge_key,
        "NEARSHELF_ADMIN_TOKEN": secrets.admin_token,
        "NEARSHELF_ACCESS_LOG": access_log,
    }
