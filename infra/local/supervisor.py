"""Runs a whole shop on this machine: starts it in order, keeps it running, stops it cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import secrets
import signal
import time
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any

from cache_policies.folder import folder_called
from cache_policies.reading import PACKAGED_POLICIES
from infra.failover.keeping import KeptDatabases
from infra.local import ports
from infra.local.asking import answers, fetch
from infra.local.control import ControlServer
from infra.local.errors import LocalError
from infra.local.external import ExternalDatabases
from infra.local.faults import Faults
from infra.local.greeting import greet
from infra.local.policies import PolicyNews, Said
from infra.local.processes import (
    BACKOFF_S,
    SETTLED_S,
    Child,
    Log,
    Nursery,
    Program,
    Tether,
    describe_status,
    run_once,
    tail,
)
from infra.local.programs import Programs, digest_of_migrations
from infra.local.relay_link import RelayLink
from infra.local.services import Servers
from infra.local.state import State, write_atomically
from infra.local.topology import Options, Topology
from infra.local.voice import Voice

READY_S = 60.0
"""How long the origin, and then the edges, may take until they answer."""
OPEN_FILES = 16_384
ADMIN_EMAIL = "admin@nearshelf.example"


class Supervisor:
    """One local shop. `run` is its whole life."""

    def __init__(
        self, options: Options, state: State, chosen: Topology, voice: Voice, ready_file: Path | None = None
    ) -> None:
        self.options = options
        self.state = state
        self.topology = chosen
        self.voice = voice
        self.ready_file = ready_file
        self.children: dict[str, Child] = {}
        """In the order of starting."""
        self.tether = Tether(state.runtime, state.descriptor)
        self.servers = Servers(state, self.tether)
        external = ExternalDatabases.of(os.environ)
        self.databases = KeptDatabases(
            self.servers,
            external,
            state,
            voice,
            failover=options.failover,
            accept_loss=options.accept_loss,
            moved=self._find_primary_again,
        )
        self.programs = Programs(state, chosen, self.servers, self.databases)
        self.relay = RelayLink()
        self.nurseries = {module: self.programs.nursery(module, self.tether) for module in ("origin", "edge.gateway")}
        self.faults = Faults(self)
        self.is_ready = False
        self.resting: dict[str, None] = {}
        """Names of children that were stopped on purpose, in that order."""
        self._waking = asyncio.Lock()
        self._control = ControlServer(state.control, self.faults.obey)
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._news: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._signals = 0

    # --- a whole life ---

    async def run(self) -> int:
        """Start, run until SIGINT or SIGTERM, stop; the exit status of the program.

        Raises LocalError when it cannot start; by then everything is stopped again.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._signalled)
        starting = asyncio.ensure_future(self.start())
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await stopping
        finally:
            for task in (starting, stopping):
                task.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)
            began = time.monotonic()
            await self.stop()
            self.voice.line(f"stopped in {time.monotonic() - began:.1f} s")
        return 0 if self.is_ready else 130

    def _signalled(self) -> None:
        self._signals += 1
        if self._signals == 1:
            self.voice.line("\nstopping; once more forces it")
            self._stop.set()
        else:
            for child in (*self.children.values(), *self.servers.children()):
                child.kill()

    async def start(self) -> None:
        """Raises LocalError when something does not start."""
        if self.ready_file is not None:
            self.ready_file.unlink(missing_ok=True)
        await self.tether.start()
        await self._control.start()
        for nursery in self.nurseries.values():
            await nursery.start()  # reads modules while the databases start
        if self.databases.external is None or not self.programs.redis_of_others:
            await asyncio.to_thread(self.servers.prepare)
        await together(self._start_valkey(), self._start_postgres())
        news = self._policy_news()
        await self._start_origin_and_edges()
        await news.begin()
        self._write_files()
        self.is_ready = True
        greet(self.voice, self.state, self.topology, sku=await self._example_sku(), email=ADMIN_EMAIL)
        self._news = asyncio.ensure_future(news.run())

    async def stop(self) -> None:
        """Edges first, so that they can tell the origin that they leave; then the origin; then the databases."""
        self._remove_files()
        watching = [*self._keepers.values(), *([] if self._news is None else [self._news])]
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        await self.databases.stop()
        await self._control.stop()
        for names in ([*self._edge_names()], ["relay"], [*self.topology.origin_workers]):
            await asyncio.gather(*(self.children[name].stop() for name in names if name in self.children))
        for nursery in self.nurseries.values():
            await nursery.stop()
        await self.servers.stop()
        await self.tether.stop()

    # --- the parts, in order ---

    async def _start_valkey(self) -> None:
        if not self.programs.redis_of_others:
            self._keep(await self.servers.start_valkey())

    async def _start_postgres(self) -> None:
        for child in await self.databases.start_primary():
            self.children[child.name] = child
        await together(self.databases.start_standby(), self._migrate())
        await together(self._seed(), self._hire_admin())

    def _find_primary_again(self) -> None:
        """Tell the origin's workers that another server may be the primary."""
        for name in self.topology.origin_workers:
            child = self.children.get(name)
            if child is not None and child.is_running and child.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    child.process.send_signal(signal.SIGUSR1)

    async def _migrate(self) -> None:
        """Bring the tables up to date, unless an earlier run did so with the very same migrations."""
        version = digest_of_migrations()
        # Databases of others may have been exchanged since.
        if self.databases.external is not None or not self.state.remembers("migrated", version):
            await self._once("migrate", "migrate")
            self.state.remember("migrated", version)

    async def _seed(self) -> None:
        if self.options.products == 0 or self.state.remembers("seeded", "yes"):
            return
        self.voice.step(f"making a catalog of {self.options.products} products (only the first time)")
        await self._once("seed", "seed", "--products", str(self.options.products), "--seed", str(self.options.seed))
        self.state.remember("seeded", "yes")

    async def _hire_admin(self) -> None:
        """The first member of staff, with a random password."""
        if self.state.admin_password.exists():
            return
        draft = self.state.folder / "admin-password.new"
        write_atomically(draft, secrets.token_urlsafe(12) + "\n")
        await self._once("staff-add", "staff-add", ADMIN_EMAIL, "--role", "admin", "--password-file", str(draft))
        draft.replace(self.state.admin_password)

    async def _once(self, name: str, *arguments: str) -> None:
        """Run `python -m origin ...` to its end."""
        program = self.programs.once(name, *arguments)
        await run_once(program, Log(self.state.logs / f"{name}.log"), self.tether, self.nurseries["origin"])

    async def _start_origin_and_edges(self) -> None:
        """Edges are forked while the origin's workers connect: they wait for it by themselves, and cores are few."""
        origin = [await self._ensure(program, self.nurseries["origin"]) for program in self.programs.origin()]
        await together(self._await_origin(origin), self._start_edges())

    async def _await_origin(self, workers: list[Child]) -> None:
        await self._until_ready(workers, self.topology.origin_readiness)
        self._keep(*workers)
        self.voice.step(f"the origin answers ({len(workers)} workers)")

    async def _start_relay(self) -> None:
        replication = self.servers.line.relay_plan() if self.databases.external is None else []
        plan = json.dumps(self.topology.relay_plan() + replication)
        program = self.programs.python("relay", "infra.local.relay", {}, plan, talks=True)
        relay = await self._ensure(program)
        await self.relay.attach(relay)
        self._keep(relay)

    async def _start_edges(self) -> None:
        await self._start_relay()
        workers = [await self._ensure(program, self.nurseries["edge.gateway"]) for program in self.programs.edges()]
        await self._until_edges_ready(workers)
        self._keep(*workers)
        self.voice.step(f"{len(self.topology.edges)} edges answer ({len(workers)} workers)")

    async def _until_edges_ready(self, workers: list[Child]) -> None:
        admin = {worker.name: worker.admin_url for edge in self.topology.edges for worker in edge.workers}
        await self._until_ready(workers, [f"{admin[worker.name]}/readyz" for worker in workers])

    # --- processes ---

    def _edge_names(self) -> Iterable[str]:
        return (worker.name for edge in self.topology.edges for worker in edge.workers)

    async def _ensure(self, program: Program, nursery: Nursery | None = None) -> Child:
        """The child of this name, running."""
        child = self.children.get(program.name)
        if child is None:
            child = Child(program, Log(self.state.logs / f"{program.name}.log"), self.tether, nursery)
            self.children[program.name] = child
        if not child.is_running:
            await child.start()
        return child

    # --- keeping it running ---

    def _keep(self, *children: Child) -> None:
        """From now on, start them again when they end."""
        for child in children:
            self.children[child.name] = child
            keeper = self._keepers.get(child.name)
            if keeper is None or keeper.done():
                self._keepers[child.name] = asyncio.ensure_future(self._keeper(child))

    async def _keeper(self, child: Child) -> None:
        failures = 0
        while True:
            status = await child.wait()
            lived_s = time.monotonic() - child.started_at
            failures = 0 if lived_s > SETTLED_S else failures + 1
            pause_s = BACKOFF_S[min(max(failures - 1, 0), len(BACKOFF_S) - 1)]
            words = child.last_words()
            self.voice.warn(
                f"{child.name} ended ({describe_status(status)}); starting it again in {pause_s:g} s"
                + (f"; it said last: {words[-1][:200]}" if words else "")
            )
            await asyncio.sleep(pause_s)
            child.restarts += 1
            try:
                await self.revive(child)
            except (LocalError, OSError) as exc:
                self.voice.warn(str(exc))

    async def revive(self, child: Child) -> None:
        """Start a child that has ended, and tell it what its predecessor was told."""
        if child is self.servers.valkey:
            await self.servers.restart_valkey()
            return
        await child.start()
        if child.name == "relay":
            await self.relay.attach(child)
            await self.faults.repeat_cuts()

    async def rest(self, child: Child) -> None:
        """Stop a child and leave it stopped until `wake`."""
        self.resting[child.name] = None
        if self.databases.are(child.name):
            self.databases.hold(child.name)
        keeper = self._keepers.pop(child.name, None)
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
        await child.stop()

    async def wake(self, children: list[Child]) -> None:
        """Start children that were put to rest, and wait until they answer."""
        asked = [child for child in children if child.name in self.resting]
        # Another client may wake the same ones: nobody is started twice, and both wait.
        async with self._waking:
            stopped = [child for child in asked if child.name in self.resting]
            databases = [child.name for child in stopped if self.databases.are(child.name)]
            stopped = [child for child in stopped if child.name not in databases]
            if databases:
                await self.databases.wake(databases)
            for child in stopped:
                await self.revive(child)
            for name in (*databases, *(child.name for child in stopped)):
                self.resting.pop(name, None)
        origin = [child for child in asked if child.name in self.topology.origin_workers]
        edges = [child for child in asked if child.name in set(self._edge_names())]
        if origin:
            await self._until_ready(origin, self.topology.origin_readiness)
        if edges:
            await self._until_edges_ready(edges)
        self._keep(*stopped)

    async def _until_ready(self, children: list[Child], urls: list[str]) -> None:
        """Until every address answers 200. Raises LocalError when a child ends, or time runs out."""
        deadline = time.monotonic() + READY_S
        waiting = list(urls)
        while waiting:
            waiting = [url for url in waiting if not await answers(url)]
            for child in children:
                if not child.is_running:
                    raise LocalError(f"{child.name} ended while starting; {tail(child.last_words(12), child.log)}")
            if waiting and time.monotonic() > deadline:
                raise LocalError(
                    f"{waiting[0]} did not say it was ready within {READY_S:.0f} s; "
                    + tail(children[0].last_words(12), children[0].log)
                )
            if waiting:
                await asyncio.sleep(0.03)

    # --- telling ---

    def _write_files(self) -> None:
        ready = {
            **self.topology.addresses(),
            "control": str(self.state.control),
            "state": str(self.state.folder),
            "origin_log": str(self.programs.origin_log.path),
        }
        env = {
            "DATABASE_URL": self.databases.database_url,
            "REPLICA_URLS": self.databases.replica_urls,
            "ADMIN_DATABASE_URL": self.databases.admin_database_url,
            "REDIS_URL": self.programs.redis_url,
            "ORIGIN_URL": self.topology.origin_url,
            "CONSOLE_URL": f"{self.topology.origin_url}/console",
            "CONTROL": str(self.state.control),
            "NEARSHELF_EDGE_KEY": self.programs.secrets.edge_key,
            "NEARSHELF_ADMIN_TOKEN": self.programs.secrets.admin_token,
            "ADMIN_EMAIL": ADMIN_EMAIL,
            "ADMIN_PASSWORD_FILE": str(self.state.admin_password),
        }
        write_atomically(self.state.env_file, json.dumps(env, indent=2) + "\n")
        text = json.dumps(ready, indent=2) + "\n"
        write_atomically(self.state.ready_file, text)
        if self.ready_file is not None:
            write_atomically(self.ready_file, text, 0o644)

    def _remove_files(self) -> None:
        for path in (self.state.env_file, self.state.ready_file, self.ready_file):
            if path is not None:
                path.unlink(missing_ok=True)

    async def _example_sku(self) -> str:
        """A product to try things on; `SKU` in an empty shop."""
        listing = await fetch(f"{self.topology.origin_url}/api/v1/eu-eur/products")
        products = json.loads(listing)["products"] if listing else []
        return str(products[0]["sku"]) if products else "SKU"

    def _policy_news(self) -> PolicyNews:
        folder = folder_called(os.environ.get("NEARSHELF_POLICIES") or PACKAGED_POLICIES)

        def took(digest: str) -> None:
            self.voice.line(f"policies {digest} are in force on every edge")

        def refused(digest: str, faults: tuple[str, ...]) -> None:
            self.voice.alarm(
                f"The policies in {folder} cannot be used",
                [*faults, f"Every edge goes on with those from before ({digest}) until the files are mended."],
            )

        def late(workers: list[str]) -> None:
            self.voice.warn(f"not all edge workers have the same policies: {', '.join(workers)} differ from the others")

        return PolicyNews(folder, self._said_of_policies, took=took, refused=refused, late=late, clock=time.monotonic)

    async def _said_of_policies(self) -> dict[str, Said]:
        """What each edge worker says of its policies; none of one that is stopped or frozen on purpose."""
        token = {"Authorization": f"Bearer {self.programs.secrets.admin_token}"}
        found = {}
        for worker in (worker for edge in self.topology.edges for worker in edge.workers):
            child = self.children[worker.name]
            answer = None
            if child.is_running and not child.frozen:
                answer = await fetch(f"{worker.admin_url}/status", token)
            if answer is not None:
                said = json.loads(answer)["policies"]
                found[worker.name] = Said(said["digest"], tuple(said["refused"]))
        return found

    async def status(self) -> dict[str, Any]:
        """What runs, for `nearshelf status`."""
        now = time.monotonic()
        processes = [
            {
                "name": child.name,
                "role": self.databases.role_of(child.name),
                "pid": child.pid,
                "restarts": child.restarts,
                "up_s": round(now - child.started_at, 1) if child.is_running else None,
                "condition": "stopped" if not child.is_running else "frozen" if child.frozen else "running",
            }
            for child in self.children.values()
        ]
        return {
            "ready": self.is_ready,
            "supervisor": os.getpid(),
            "processes": processes,
            "ports": {str(port): what for port, what in sorted(self.topology.ports().items())},
            "questions": self.topology.questions(),
            "rtt_ms": {edge.name: edge.rtt_ms for edge in self.topology.edges},
            "replication": await self.databases.replication(),
            "failover": self.databases.status(),
            "faults": await self.faults.active(),
            **self.topology.addresses(),
        }


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """Do all of it at once; the first failure ends the rest and is raised as it is."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        # Once each: a second cancellation would reach what a task does to tidy up after the first, which gather() does.
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    failures = [exc for task in tasks if not task.cancelled() and (exc := task.exception()) is not None]
    if failures:
        raise failures[0]


def _allow_many_connections() -> None:
    """Raise the soft limit of open files, which the children inherit: a relayed connection takes two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def up(options: Options, folder: Path, *, ready_file: Path | None = None, quiet: bool = False) -> int:
    """Run a shop in `folder` until it is told to stop; the exit status. Raises LocalError."""
    voice = Voice(quiet)
    if ready_file is not None and not ready_file.absolute().parent.is_dir():
        raise LocalError(f"--ready-file {ready_file}: there is no folder {ready_file.absolute().parent}")
    _allow_many_connections()
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Until the event loop takes over: leave as after Ctrl-C, not in the middle of things.
        signal.signal(number, signal.default_int_handler)
    if not folder.exists():
        ports.choose(options).release()  # a folder is made for a shop that can start
    with State(folder) as state:
        chosen = ports.choose(options)
        try:
            return asyncio.run(Supervisor(options, state, chosen.topology, voice, ready_file).run())
        finally:
            chosen.release()


def clean(folder: Path) -> bool:
    """Remove a state folder and everything in it; False when there is none. Raises LocalError when it is in use."""
    if not folder.exists():
        return False
    with State(folder) as state:
        state.remove()
    return True
