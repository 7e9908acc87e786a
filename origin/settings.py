"""What an origin worker is told by its environment, read once at the entry (docs/settings.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cache_policies.folder import folder_called
from cache_policies.markets import PACKAGED_POLICIES
from origin.whereabouts import Role, Whereabouts


class SettingsError(ValueError):
    """The environment does not say what the worker needs; every fault is named."""


@dataclass(frozen=True, slots=True)
class OriginSettings:
    """One origin worker's settings; each is a row of docs/settings.md."""

    database_url: str
    """The primary, as a SQLAlchemy URL of the application role; with several hosts, whichever of them is it."""
    replica_urls: tuple[str, ...] = ()
    """Standbys that answer reads, each as such a URL; without one the primary does, capped."""
    redis_url: str = ""
    """Where workers nudge each other and keep answers; empty: none, which costs milliseconds."""
    readthrough: bool = True
    """Whether answers are kept there, and given again."""
    listen_host: str = "127.0.0.1"
    listen_port: int = 8080
    """Shared by all workers of this origin (SO_REUSEPORT); 0: any free port."""
    edge_key: str = field(default="", repr=False)
    """The secret that edges show; empty: no edge is believed."""
    policies: Path = PACKAGED_POLICIES
    standbys: tuple[str, ...] = ()
    """Names of the standbys that may be promoted; empty: all that stream."""
    admin_token: str = field(default="", repr=False)
    """Bearer token of /metrics; empty: there is no such address."""
    metrics: Path | None = None
    """Folder in which all workers of this origin count; None: each for itself."""
    access_log: str = ""
    """Path, `-` for standard output, empty for none."""
    midnight: Mapping[str, tzinfo] = field(default_factory=dict)
    """By market: the time zone at whose midnight it is refreshed; the others never are."""
    midnight_jitter_s: float = 900.0
    """Up to so much later."""
    midnight_warm: int = 100
    """Pages asked for through every edge after that, those that are asked for most."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """The settings in `env`. Raises SettingsError that names every fault."""
        faults: list[str] = []
        database_url = env.get("DATABASE_URL", "")
        replica_urls = _commas(env.get("REPLICA_URLS", ""))
        if not database_url:
            faults.append("DATABASE_URL is not set: the primary, such as postgresql+asyncpg://nearshelf@/nearshelf")
        for name, urls in (("DATABASE_URL", [database_url] if database_url else []), ("REPLICA_URLS", replica_urls)):
            faults.extend(fault for url in urls if (fault := _fault_of(name, url)))
        host, port = "127.0.0.1", 8080
        listen = env.get("NEARSHELF_LISTEN", "127.0.0.1:8080")
        host_text, _, port_text = listen.rpartition(":")
        if host_text and port_text.isascii() and port_text.isdigit() and int(port_text) <= 65535:
            host, port = host_text.strip("[]"), int(port_text)
        else:
            faults.append(f"NEARSHELF_LISTEN must be HOST:PORT, not {listen[:80]!r}")
        edge_key = env.get("NEARSHELF_EDGE_KEY", "")
        if len(edge_key) < 16:
            faults.append("NEARSHELF_EDGE_KEY must be the secret shared with the edges, 16 characters or more")
        policies = folder_called(env.get("NEARSHELF_POLICIES") or PACKAGED_POLICIES)
        if not policies.is_dir():
            faults.append(f"NEARSHELF_POLICIES names no directory: {policies}")
        admin_token = env.get("NEARSHELF_ADMIN_TOKEN", "")
        if admin_token and not (len(admin_token) >= 16 and admin_token.isascii() and admin_token.isprintable()):
            faults.append("NEARSHELF_ADMIN_TOKEN must be 16 printable ASCII characters or more, or not be set")
        redis_url = env.get("REDIS_URL", "")
        if redis_url and not redis_url.startswith(("redis://", "rediss://", "unix://")):
            faults.append(f"REDIS_URL must start with redis://, rediss:// or unix://, not {redis_url[:12]!r}")
        readthrough = env.get("NEARSHELF_READTHROUGH", "on")
        if readthrough not in {"on", "off"}:
            faults.append(f"NEARSHELF_READTHROUGH must be on or off, not {readthrough[:40]!r}")
        midnight: dict[str, tzinfo] = {}
        for member in _commas(env.get("NEARSHELF_MIDNIGHT", "")):
            market, _, zone = member.partition("=")
            try:
                midnight[market.strip()] = _zone(zone.strip())
            except ValueError as exc:
                faults.append(f"NEARSHELF_MIDNIGHT must be MARKET=TIME ZONE, such as eu-eur=Europe/Berlin: {exc}")
        jitter_s, warm = env.get("NEARSHELF_MIDNIGHT_JITTER", "900"), env.get("NEARSHELF_MIDNIGHT_WARM", "100")
        faults.extend(
            f"{name} must be a whole number of {unit}, 0 to {most}, not {written[:40]!r}"
            for name, written, unit, most in (
                ("NEARSHELF_MIDNIGHT_JITTER", jitter_s, "seconds", 3_600),
                ("NEARSHELF_MIDNIGHT_WARM", warm, "pages", 10_000),
            )
            if not (written.isascii() and written.isdigit() and int(written) <= most)
        )
        if faults:
            raise SettingsError("the environment of the origin is not usable:\n  " + "\n  ".join(faults))
        return cls(
            database_url=database_url,
            replica_urls=tuple(replica_urls),
            redis_url=redis_url,
            readthrough=readthrough == "on",
            listen_host=host,
            listen_port=port,
            edge_key=edge_key,
            policies=policies,
            standbys=tuple(_commas(env.get("NEARSHELF_STANDBYS", ""))),
            admin_token=admin_token,
            metrics=Path(env["NEARSHELF_METRICS_DIR"]) if env.get("NEARSHELF_METRICS_DIR") else None,
            access_log=env.get("NEARSHELF_ACCESS_LOG", ""),
            midnight=midnight,
            midnight_jitter_s=float(jitter_s),
            midnight_warm=int(warm),
        )


def _fault_of(name: str, url: str) -> str | None:
    """What is wrong with a database's URL."""
    if not url.startswith("postgresql+asyncpg://"):
        return f"{name} must start with postgresql+asyncpg://, not {url.partition('://')[0][:40]}://"
    try:
        role = Whereabouts(url).role
    except ValueError as exc:
        return f"{name} cannot be used: {exc}; several hosts are written ?host=A:5432&host=B:5432"
    if name == "DATABASE_URL" and role is Role.STANDBY:
        return f"{name} is the primary: its target_session_attrs must not be standby"
    return None


def _zone(name: str) -> tzinfo:
    """The time zone of this name in the IANA database. Raises ValueError when this system does not know it."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise ValueError(f"this system knows no time zone {name[:60]!r}") from exc


def _commas(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
