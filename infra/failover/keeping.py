"""The databases of one local shop, ours or those of others, with a primary in charge for as long as the shop runs."""

from __future__ import annotations

import asyncio
import os
import socket
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from cache_policies import clock
from infra.failover.embedded import EmbeddedDriver
from infra.failover.external import ExternalDriver
from infra.failover.machine import Machine
from infra.failover.records import OURS, record, recorded
from infra.failover.runner import Driver, Runner
from infra.failover.sql import STANDBY, TROUBLE, in_words
from infra.failover.steps import Done, Freed, Held, Phase, Record, Rejoin, Say
from infra.local.errors import LocalError
from infra.local.external import ExternalDatabases
from infra.local.postgres import Databases
from infra.local.processes import Child
from infra.local.state import OUR_OWN, State
from infra.local.voice import Voice

SETTLE_S = 60.0
"""How long a stopped database may take until it runs again, and a broken pair of them until it is whole."""
REPLICATION_S = 3.0
"""How long the databases may take to say how replication goes, when somebody wants to know."""


class KeptDatabases:
    """Start them with `start_primary`, then `start_standby`; `stop` watching before they are stopped."""

    def __init__(
        self,
        servers: Databases,
        external: ExternalDatabases | None,
        state: State,
        voice: Voice,
        *,
        failover: Literal["auto", "hand"] | None,
        accept_loss: bool = False,
        moved: Callable[[], None],
    ) -> None:
        """`external`: those of others, in place of `servers`. `failover`: who replaces a lost primary; None: we do, if
        the servers are ours. `accept_loss`: start with one that may lack acknowledged changes where no other can be
        had. `moved`: called when another primary can be worked with."""
        self.servers = servers
        self.external = external
        self._state = state
        self._voice = voice
        self._automatic = external is None if failover is None else failover == "auto"
        if self._automatic and external is not None and not external.standbys:
            raise LocalError(
                "--failover auto needs NEARSHELF_STANDBYS where others run the servers: what the standbys are called "
                "(their application_name) that have every change before it is live. Whoever else streams counts as "
                "well as long as nobody is named, and a standby without the last changes could be promoted"
            )
        self._accept_loss = accept_loss
        self._moved = moved
        servers.tell = voice.warn
        self._embedded: EmbeddedDriver | None = None
        self._runner: Runner | None = None
        self._running: asyncio.Task[None] | None = None

    # --- addresses ---

    @property
    def database_url(self) -> str:
        return self.servers.database_url if self.external is None else self.external.database_url

    @property
    def replica_urls(self) -> str:
        return self.servers.replica_url if self.external is None else self.external.replica_urls

    @property
    def admin_database_url(self) -> str:
        return self.servers.admin_database_url if self.external is None else self.external.admin_database_url

    @property
    def standbys(self) -> str:
        """Names of those that may be promoted, as the origin is told."""
        return STANDBY if self.external is None else self.external.standbys

    # --- a whole life ---

    async def start_primary(self) -> list[Child]:
        """Run it, or find it, and put it in charge; our children, the standby's too. Raises LocalError."""
        if self.external is not None:
            addresses = self.external.addresses()
            driver = ExternalDriver(addresses, self._state, self._holder, moved=self._announce)
            known = await driver.find_primary(accept_loss=self._accept_loss)
            self._state.belongs_to(await driver.identity_of(known.primary))
            await self.supervise(driver, known, list(addresses))
            self._voice.step(f"PostgreSQL at {known.primary} is the primary; none is run here (DATABASE_URL)")
            return []
        self._state.belongs_to(OUR_OWN)
        servers = self.servers
        if not any(node.data.exists() for node in servers.nodes.values()):
            self._voice.step("making the databases (only the first time)")
        known = self._known()
        servers.primary_name = known.primary
        self._embedded = EmbeddedDriver(servers, self._state, self._holder, moved=self._announce, tell=self._voice.warn)
        try:
            await servers.start_primary()
        except (LocalError, *TROUBLE) as exc:
            known = self._instead(known, exc if isinstance(exc, LocalError) else LocalError(in_words(exc)))
            servers.primary_name = known.primary
            await servers.start_primary()
        primary, standby = servers.primary.name, servers.standby.name
        runner = await self.supervise(self._embedded, known, [primary, standby], down=[standby])
        self._embedded.watch(primary, runner.submit)
        return [node.child for node in servers.nodes.values()]

    def _known(self) -> Record:
        """Who is the primary by what an earlier run recorded, or else by the data itself. Raises LocalError."""
        path = self._state.folder / OURS
        known, servers = recorded(path), self.servers
        if known is not None:
            if known.primary in servers.nodes:
                return known
            raise LocalError(f"{path} names {known.primary!r} as the primary; there are {', '.join(servers.nodes)}")
        primaries = [node.name for node in servers.nodes.values() if node.data.exists() and not node.is_standby]
        if len(primaries) > 1:
            raise LocalError(
                f"{path} is gone, and {' and '.join(primaries)} were both a primary: write into it which of them was "
                'the last, as {"primary": "...", "promotable": null, "epoch": 0}'
            )
        return Record(primaries[0] if primaries else servers.primary_name, None, 0)

    def _instead(self, known: Record, why: LocalError) -> Record:
        """The primary cannot be started: whom to start as the primary. Raises LocalError where nobody may be."""
        standby = self.servers.standby
        if not standby.data.exists() or not standby.is_standby:
            raise why
        if known.promotable != standby.name and not self._accept_loss:
            raise LocalError(
                f"{why}\n  {standby.name} may lack changes that {known.primary} acknowledged; "
                "`nearshelf up --accept-loss` gives them up, and makes it the primary"
            ) from why
        if not self._automatic and not self._accept_loss:
            raise LocalError(f"{why}\n  `nearshelf up --failover auto` makes {standby.name} the primary") from why
        self._voice.warn(f"{known.primary}, the primary, cannot be started: {standby.name} is made the primary; {why}")
        instead = Record(standby.name, None, known.epoch + 1)
        record(self._state.folder / OURS, instead)
        return instead

    async def start_standby(self) -> None:
        """Run it where it is ours. Raises LocalError."""
        if self._embedded is None:
            return
        step = Rejoin(self.servers.standby.name, self.servers.primary.name)
        try:
            await self.servers.start_standby()
        except TROUBLE as exc:
            raise LocalError(f"{step.node} cannot follow {step.primary}: {in_words(exc)}") from exc
        self._embedded.watch(step.node, self.runner.submit)
        self.runner.submit(Done(step))
        self._voice.step("PostgreSQL runs, and a standby follows it")

    async def stop(self) -> None:
        """Watch no more. The servers go on."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def supervise(self, driver: Driver, known: Record, nodes: list[str], down: Sequence[str] = ()) -> Runner:
        """Put the primary of `known` in charge, and watch. `down`: those yet to be started. Raises LocalError."""
        machine = Machine(
            nodes,
            known.primary,
            known.promotable,
            clock.now(),
            epoch=known.epoch,
            down=down,
            automatic=self._automatic,
            keeps=self.external is None,
            named=[name.strip() for name in self.standbys.split(",") if name.strip()],
        )
        self._runner = Runner(machine, driver, self._say)
        self._running = asyncio.ensure_future(self._runner.run())
        self._running.add_done_callback(self._watched)
        await self._until(
            lambda: machine.phase is Phase.STEADY,
            f"{known.primary} could not be put in charge within {SETTLE_S:.0f} s; what was said above tells why",
        )
        return self._runner

    def _watched(self, running: asyncio.Task[None]) -> None:
        """Nobody watches any more. The rest goes on: edges have pages to show."""
        if running.cancelled() or (mistake := running.exception()) is None:
            return
        self._voice.alarm(
            "The databases are not watched any more",
            [
                "By a mistake of nearshelf's own. Without a lease no change is taken: stop `up`, and start it again.",
                *"".join(traceback.format_exception(mistake)).splitlines(),
            ],
        )

    @property
    def _holder(self) -> str:
        """Who holds the supervisor lease: this run and no other."""
        return f"{socket.gethostname()}/{os.getpid()}/{self._state.runtime.name}"

    def _announce(self, primary: str) -> None:
        self._moved()

    def _say(self, said: Say) -> None:
        if said.alarming:
            self._voice.warn(said.text)
        else:
            self._voice.step(said.text)

    # --- what people want of them ---

    @property
    def runner(self) -> Runner:
        """Once there is a primary."""
        assert self._runner is not None
        return self._runner

    def are(self, name: str) -> bool:
        """Whether this is the name of one of our servers."""
        return name in self.servers.nodes

    def role_of(self, name: str) -> str | None:
        """What a server of ours is now; None for anything else."""
        if name not in self.servers.nodes:
            return None
        return "primary" if name == self.servers.primary_name else "standby"

    def hold(self, name: str) -> None:
        """A server is about to be stopped on purpose, and stays away until `wake`."""
        self.runner.submit(Held(name))

    async def wake(self, names: Iterable[str]) -> None:
        """Have servers run that were stopped on purpose. Raises LocalError."""
        wanted, machine = set(names), self.runner.machine
        for name in wanted:
            self.runner.submit(Freed(name))
        await self._until(
            lambda: not machine.down & wanted,
            f"{', '.join(sorted(wanted))}: not running again after {SETTLE_S:.0f} s; the log says why",
        )

    async def until_whole(self) -> None:
        """Until the primary could be lost without a loss. Raises LocalError."""
        machine = self.runner.machine
        await self._until(
            lambda: machine.is_whole,
            f"the databases are not whole again after {SETTLE_S:.0f} s: `nearshelf status` shows what is missing",
        )

    async def _until(self, condition: Callable[[], bool], otherwise: str) -> None:
        try:
            async with asyncio.timeout(SETTLE_S):
                await self.runner.until(condition)
        except TimeoutError as exc:
            raise LocalError(otherwise) from exc

    def disarmed(self) -> list[str]:
        """Fences that a failover goes without."""
        return [] if self._runner is None else self._runner.disarmed()

    def status(self) -> dict[str, Any] | None:
        """Who is what, and how the last failover went."""
        return None if self._runner is None else self._runner.status()

    async def replication(self) -> dict[str, Any]:
        """How far the standby is behind; `error` where that cannot be known."""
        if self.external is not None:
            return {"state": "unknown", "error": "others run the databases"}
        try:
            async with asyncio.timeout(REPLICATION_S):
                return await self.servers.replication()
        except Exception as exc:  # noqa: BLE001 - any database may be stopped by a fault, which is what we report
            return {"state": "unknown", "error": str(exc) or type(exc).__name__}
