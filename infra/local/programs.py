"""What the Python processes of one local shop are told: commands, environments, logs."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path

from cache_policies.folder import folder_called
from infra.failover.keeping import KeptDatabases
from infra.local import topology
from infra.local.processes import Log, Nursery, Program, Tether
from infra.local.services import Servers
from infra.local.state import CHILD_OF, State
from infra.local.topology import Topology


class Programs:
    """Those of one run, with secrets of its own."""

    def __init__(self, state: State, chosen: Topology, servers: Servers, databases: KeptDatabases) -> None:
        self._state = state
        self._topology = chosen
        self._servers = servers
        self._databases = databases
        self.secrets = topology.Secrets(secrets.token_urlsafe(32), secrets.token_urlsafe(32))
        self._run = secrets.token_urlsafe(9)
        self.origin_log = Log(state.logs / "origin.access.log")
        """What the origin was asked for, a line each, of all its workers."""
        self.redis_of_others = os.environ.get("REDIS_URL", "")

    @property
    def redis_url(self) -> str:
        return self.redis_of_others or self._servers.redis_url

    def python(
        self, name: str, module: str, environment: dict[str, str], *arguments: str, talks: bool = False
    ) -> Program:
        """A process of ours. It inherits our environment, so that a person can tune what we do not set."""
        env = {**os.environ, "PYTHONUNBUFFERED": "1", CHILD_OF: str(self._state.folder), **environment}
        if policies := env.get("NEARSHELF_POLICIES"):
            env["NEARSHELF_POLICIES"] = str(folder_called(policies).absolute())  # its working directory is another
        argv = (sys.executable, "-P", "-m", module, *arguments)
        return Program(name, argv, env, self._state.folder, arguments=arguments, talks=talks)

    def once(self, name: str, *arguments: str) -> Program:
        """`python -m origin ...` to its end, which may do what the databases' administrator may."""
        environment = self._origin_environment(self._topology.origin_port)
        environment["ADMIN_DATABASE_URL"] = self._databases.admin_database_url
        return self.python(name, "origin", environment, *arguments)

    def origin(self) -> Iterable[Program]:
        """Its workers."""
        for name, port in self._topology.origin_workers.items():
            yield self.python(name, "origin", self._origin_environment(port))

    def _origin_environment(self, port: int) -> dict[str, str]:
        return topology.origin_environment(
            port,
            self.secrets,
            self._databases.database_url,
            self._databases.replica_urls,
            self.redis_url,
            self._databases.standbys,
            metrics=str(self._state.runtime / "origin-metrics"),
            access_log=str(self.origin_log.path),
        )

    def edges(self) -> Iterable[Program]:
        """The workers of all of them."""
        for edge in self._topology.edges:
            for worker in edge.workers:
                log = Log(self._state.logs / f"{worker.name}.access.log")
                environment = topology.edge_environment(
                    edge,
                    worker,
                    self.secrets,
                    access_log=str(log.path),
                    siblings=str(self._state.runtime / f"edge-{edge.name}"),
                    regional=self.redis_url,
                    run=self._run,
                )
                yield self.python(worker.name, "edge.gateway", environment)

    def nursery(self, module: str, tether: Tether) -> Nursery:
        program = self.python(f"{module} nursery", "infra.local.nursery", {}, module, talks=True)
        return Nursery(program, Log(self._state.logs / f"{module}.nursery.log"), tether)


def digest_of_migrations() -> str:
    """The same as long as no migration of the origin's tables changes."""
    spec = importlib.util.find_spec("origin")
    assert spec is not None
    digest = hashlib.sha256()
    for location in spec.submodule_search_locations or ():
        for path in sorted((Path(location) / "migrations").rglob("*")):
            if path.suffix in {".py", ".sql"}:
                digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
