"""Servers that others run, in place of the embedded ones: DATABASE_URL, REPLICA_URLS, ADMIN_DATABASE_URL, REDIS_URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from infra.local.errors import LocalError

SCHEME = "postgresql+asyncpg://"


@dataclass(frozen=True, slots=True)
class ExternalDatabases:
    """PostgreSQL servers of others, one of them a primary."""

    database_url: str
    """All servers that may be the primary, as the application's role."""
    replica_urls: str
    admin_database_url: str
    """The same as their administrator, who may migrate, promote and raise the epoch."""
    standbys: str
    """Names of the standbys that may be promoted; empty: all that stream."""

    @classmethod
    def of(cls, env: Mapping[str, str]) -> Self | None:
        """Those that `env` names; None where it names none. Raises LocalError when it does not say enough."""
        database_url, replica_urls = env.get("DATABASE_URL", ""), env.get("REPLICA_URLS", "")
        admin = env.get("ADMIN_DATABASE_URL", "")
        if not database_url:
            if replica_urls:
                raise LocalError("REPLICA_URLS is set and DATABASE_URL is not; name the primary too, or neither")
            return None
        if not admin:
            raise LocalError(
                "DATABASE_URL is set, so `up` uses those servers, and needs ADMIN_DATABASE_URL, their administrator, "
                "to make the tables and to promote; to have it run servers of its own, unset DATABASE_URL"
            )
        named = [("DATABASE_URL", database_url), ("ADMIN_DATABASE_URL", admin)]
        named += [("REPLICA_URLS", url.strip()) for url in replica_urls.split(",") if url.strip()]
        for name, url in named:
            if not url.startswith(SCHEME):
                raise LocalError(
                    f"{name} must start with {SCHEME}, not {url.split('://')[0][:40]}://; "
                    "where it is meant for something else, unset it here"
                )
            try:
                _arguments(url)
            except (ArgumentError, ValueError) as exc:
                raise LocalError(f"{name} cannot be used: {exc}") from exc
        return cls(database_url, replica_urls, admin, env.get("NEARSHELF_STANDBYS", "").strip(", "))

    def addresses(self) -> dict[str, dict[str, Any]]:
        """Arguments of asyncpg.connect for the administrator of each server, by HOST:PORT."""
        admin = _arguments(self.admin_database_url)
        common = {name: value for name, value in admin.items() if name not in {"host", "port", "target_session_attrs"}}
        found: dict[str, dict[str, Any]] = {}
        urls = [self.admin_database_url, self.database_url, *self.replica_urls.split(",")]
        for url in (url.strip() for url in urls if url.strip()):
            of_url = _arguments(url)
            hosts, ports = _many(of_url.get("host", "localhost")), _many(of_url.get("port", 5432))
            for host, port in zip(hosts, ports * len(hosts) if len(ports) == 1 else ports, strict=True):
                found.setdefault(f"{host}:{port}", {**common, "host": host, "port": int(port)})
        return found


def _arguments(url: str) -> dict[str, Any]:
    """What asyncpg.connect is told. Raises ArgumentError or ValueError."""
    connect_args: dict[str, Any] = dialect().create_connect_args(make_url(url))[1]  # type: ignore[no-untyped-call]
    return connect_args


def _many(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
