"""What one edge worker is told by its environment: read once, here, and nowhere deeper."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from cache_policies.folder import folder_called, profiles
from cache_policies.kinds import NAME
from cache_policies.origins import Origins
from cache_policies.reading import did_you_mean
from edge.core.hops import TrustedHops
from edge.gateway.origin import Caps, is_origin_url, tls_context
from edge.gateway.server import Limits
from edge.gateway.tls import TlsUnusable, server_context
from edge.gateway.visitors import countries_of

_FIELD_NAME = re.compile(r"[a-z][a-z0-9-]{0,60}")


class Positions(StrEnum):
    """Whose purge log this worker follows, and where the positions of what it stores come from."""

    ORIGIN = "origin"
    """The origin's; each response carries the position it was read at."""
    SITE = "site"
    """That of the site this worker belongs to (`edge/site/`); each response counts as read at what the worker had
    applied when its fill began."""


class SettingsError(Exception):
    """The environment cannot be used. Reads: NEARSHELF_LISTEN: '8081', expected HOST:PORT such as 127.0.0.1:8081."""


@dataclass(frozen=True, slots=True)
class Address:
    """A listener's host and port; port 0 takes a free one. A host that starts with a slash is the path of a socket."""

    host: str
    port: int

    @property
    def is_path(self) -> bool:
        return self.host.startswith("/")

    def __str__(self) -> str:
        if self.is_path:
            return f"unix:{self.host}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """One edge worker. docs/settings.md says the same for its operator."""

    edge: str
    """Name of the edge this worker belongs to: NEARSHELF_EDGE."""
    listen: Address
    """Where viewers come in, shared by the edge's workers through SO_REUSEPORT: NEARSHELF_LISTEN."""
    admin_listen: Address
    """Where operators look in, one address per worker: NEARSHELF_ADMIN_LISTEN."""
    public_url: str
    """How viewers spell this edge: NEARSHELF_PUBLIC_URL, default http:// and the listen address."""
    origin_urls: tuple[str, ...]
    """Where fills and forwarded writes go, one or several addresses of the default origin: NEARSHELF_ORIGIN_URL."""
    feed_urls: tuple[str, ...]
    """Where questions go: NEARSHELF_FEED_URL, default the origin's."""
    edge_key: str = field(repr=False)
    """Secret shared with the origin: NEARSHELF_EDGE_KEY."""
    admin_token: str = field(repr=False)
    """Bearer token of the admin listener: NEARSHELF_ADMIN_TOKEN."""
    policies: Path | None = None
    """Folder of the cache policies: NEARSHELF_POLICIES, a path or the name of a profile, default the packaged ones."""
    store_bytes: int = 256_000_000
    """Budget of this worker's store, in bytes: NEARSHELF_STORE_BYTES."""
    access_log: str = ""
    """Path, `-` for standard output, empty for none: NEARSHELF_ACCESS_LOG."""
    hosts: tuple[str, ...] = ()
    """Authorities served besides the loopback ones on the listen port and the public one: NEARSHELF_HOSTS."""
    siblings: Path | None = None
    """Folder in which the edge's workers on this machine find each other, short enough to hold sockets:
    NEARSHELF_SIBLINGS, default none."""
    regional: str = field(default="", repr=False)
    """The store that the workers of this edge's site share, redis://, rediss:// or unix://: NEARSHELF_REGIONAL, default
    none."""
    regional_space: str = ""
    """What tells this site's records there from those of sites with another purge log: NEARSHELF_REGIONAL_SPACE,
    default the edge's name."""
    origins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Addresses of the origins of origins.yaml by name, the default one's left out: NEARSHELF_ORIGINS."""
    origin_caps: Caps = field(default_factory=Caps)
    """How much of each origin this worker takes: NEARSHELF_ORIGIN_CONNECTIONS, NEARSHELF_ORIGIN_QUEUE and
    NEARSHELF_ORIGIN_QUEUE_S."""
    origin_health: str = ""
    """Path by which addresses of origins are checked: NEARSHELF_ORIGIN_HEALTH, default none."""
    origin_ca: Path | None = None
    """Certificates of whom origins on https may be vouched for by, PEM: NEARSHELF_ORIGIN_CA, default the system's."""
    loop: str = "asyncio"
    """`asyncio`, or `uvloop` where the extra `fast` is installed: NEARSHELF_LOOP."""
    trusted_hops: TrustedHops = field(default_factory=TrustedHops)
    """Networks whose X-Forwarded-For is believed: NEARSHELF_TRUSTED_HOPS, default none."""
    mmdb: Path | None = None
    """Database of countries by address, in place of the registries' delegations: NEARSHELF_MMDB."""
    country_field: str = ""
    """Field in which every trusted hop writes the country, lower case: NEARSHELF_COUNTRY_FIELD."""
    positions: Positions = Positions.ORIGIN
    """Whose purge log is followed: NEARSHELF_POSITIONS."""
    tls_cert: Path | None = None
    """Certificate chain, PEM: with it viewers are spoken to over TLS: NEARSHELF_TLS_CERT."""
    tls_key: Path | None = None
    """Its private key, PEM, not encrypted: NEARSHELF_TLS_KEY."""
    lifeline: int | None = None
    """Descriptor of a pipe whose end of file says that the parent is gone: NEARSHELF_LIFELINE, default none."""
    limits: Limits = field(default_factory=Limits)

    @property
    def scheme(self) -> str:
        """How viewers speak to the data listener."""
        return "http" if self.tls_cert is None else "https"

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> GatewaySettings:
        """Raises SettingsError, naming every variable that is missing or wrong."""
        faults: list[str] = []

        def needed(name: str) -> str:
            value = env.get(name, "")
            if not value:
                faults.append(f"{name}: not set")
            return value

        def address(name: str) -> Address:
            text = needed(name)
            if text.startswith("unix:/"):
                return Address(text.removeprefix("unix:"), 0)
            host, colon, port = text.rpartition(":")
            if text and not (colon and host and port.isdigit() and int(port) < 65_536):
                faults.append(f"{name}: {text!r}, expected HOST:PORT such as 127.0.0.1:8081")
                return Address("", 0)
            return Address(host.strip("[]"), int(port or 0))

        def url(name: str, default: str = "") -> str:
            text = env.get(name) or default or needed(name)
            # A default is ours: that of a listener whose port is yet to be found has port 0.
            if text and text != default and not is_origin_url(text):
                faults.append(f"{name}: {text!r}, expected http://HOST:PORT without a path")
            return text.rstrip("/")

        def urls(name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
            found = tuple(text.rstrip("/") for text in _members(env.get(name, ""))) or default
            if not found:
                needed(name)
            faults.extend(
                f"{name}: {text!r}, expected http://HOST:PORT without a path"
                for text in found
                if not is_origin_url(text)
            )
            if len(set(found)) < len(found):
                faults.append(f"{name}: the same address twice, expected each once")
            return found

        def origins(name: str) -> dict[str, tuple[str, ...]]:
            found: dict[str, tuple[str, ...]] = {}
            for member in _members(env.get(name, "")):
                origin, _, listed = (part.strip() for part in member.partition("="))
                theirs = tuple(text.strip().rstrip("/") for text in listed.split("|"))
                if not (re.fullmatch(NAME, origin) and all(map(is_origin_url, theirs))):
                    faults.append(
                        f"{name}: {member!r}, expected NAME=http://HOST:PORT, the name as in origins.yaml; "
                        "several addresses with | between them"
                    )
                elif origin in found:
                    faults.append(f"{name}: {origin} is there twice, expected once: NAME=URL|URL for several addresses")
                elif len(set(theirs)) < len(theirs):
                    faults.append(f"{name}: {member!r}, the same address twice, expected each once")
                found[origin] = theirs
            return found

        def number(name: str, default: str, least: float, unit: str) -> float:
            text = env.get(name) or default
            if re.fullmatch(r"\d{1,6}" if unit != "seconds" else r"\d{1,6}(\.\d+)?", text, re.ASCII) is None or (
                float(text) < least
            ):
                faults.append(f"{name}: {text!r}, expected {unit}, {least:g} or more")
                return least
            return float(text)

        listen = address("NEARSHELF_LISTEN")
        store_bytes = env.get("NEARSHELF_STORE_BYTES") or "256000000"
        if not (store_bytes.isdigit() and int(store_bytes) >= 1_000_000):
            faults.append(f"NEARSHELF_STORE_BYTES: {store_bytes!r}, expected bytes, 1000000 or more")
            store_bytes = "0"
        loop = env.get("NEARSHELF_LOOP") or "asyncio"
        if loop not in {"asyncio", "uvloop"}:
            faults.append(f"NEARSHELF_LOOP: {loop!r}, expected asyncio or uvloop")
        elif loop == "uvloop" and find_spec("uvloop") is None:
            faults.append("NEARSHELF_LOOP: uvloop is not installed; it comes with the extra fast: nearshelf[fast]")
        regional = env.get("NEARSHELF_REGIONAL", "")
        if regional and not _is_redis(regional):
            faults.append(
                f"NEARSHELF_REGIONAL: {_without_password(regional)!r}, expected redis://HOST:PORT/DB, "
                "rediss://HOST:PORT/DB or unix:///PATH"
            )
        policies = folder_called(named) if (named := env.get("NEARSHELF_POLICIES")) else None
        if policies is not None and not policies.is_dir():
            faults.append(f"NEARSHELF_POLICIES: {named!r} is neither a folder nor a profile ({', '.join(profiles())})")
        trusted_hops = TrustedHops()
        try:
            trusted_hops = TrustedHops.parse(_members(env.get("NEARSHELF_TRUSTED_HOPS", "")))
        except ValueError as exc:
            faults.append(f"NEARSHELF_TRUSTED_HOPS: {exc}")
        mmdb = env.get("NEARSHELF_MMDB")
        if mmdb:
            try:
                countries_of(Path(mmdb))
            except ValueError as exc:
                faults.append(f"NEARSHELF_MMDB: {mmdb!r} {exc}")
        country_field = env.get("NEARSHELF_COUNTRY_FIELD", "").lower()
        if country_field and _FIELD_NAME.fullmatch(country_field) is None:
            faults.append(
                f"NEARSHELF_COUNTRY_FIELD: {country_field!r}, expected a field such as cloudfront-viewer-country"
            )
        elif country_field and not env.get("NEARSHELF_TRUSTED_HOPS"):
            faults.append(
                "NEARSHELF_COUNTRY_FIELD: set without NEARSHELF_TRUSTED_HOPS, and nobody else's word for it counts"
            )
        positions = env.get("NEARSHELF_POSITIONS") or Positions.ORIGIN.value
        if positions not in set(Positions):
            faults.append(f"NEARSHELF_POSITIONS: {positions!r}, expected {' or '.join(Positions)}")
            positions = Positions.ORIGIN.value
        tls = {name: Path(env[name]) for name in ("NEARSHELF_TLS_CERT", "NEARSHELF_TLS_KEY") if env.get(name)}
        if len(tls) == 1:
            faults.append(f"{next(iter(tls))}: set alone; a certificate needs its key, and a key its certificate")
        elif tls:
            try:
                server_context(*tls.values())
            except TlsUnusable as exc:
                faults.append(f"NEARSHELF_TLS_CERT and NEARSHELF_TLS_KEY: {exc}")
        lifeline = env.get("NEARSHELF_LIFELINE") or ""
        if lifeline and not lifeline.isdigit():
            faults.append(f"NEARSHELF_LIFELINE: {lifeline!r}, expected the number of a descriptor")
            lifeline = ""
        origin_urls = urls("NEARSHELF_ORIGIN_URL")
        caps = Caps(
            connections=int(number("NEARSHELF_ORIGIN_CONNECTIONS", "64", 1, "connections")),
            queue=int(number("NEARSHELF_ORIGIN_QUEUE", "128", 0, "requests")),
            queue_s=number("NEARSHELF_ORIGIN_QUEUE_S", "1", 0, "seconds"),
        )
        health = env.get("NEARSHELF_ORIGIN_HEALTH", "")
        if health and re.fullmatch(r"/[\x21-\x22\x24-\x7e]*", health) is None:
            faults.append(f"NEARSHELF_ORIGIN_HEALTH: {health!r}, expected a path such as /healthz")
            health = ""
        ca = env.get("NEARSHELF_ORIGIN_CA")
        if ca:
            try:
                tls_context(ca)
            except OSError as exc:
                faults.append(f"NEARSHELF_ORIGIN_CA: {ca!r} holds no certificates that can be read: {exc}")
        settings = cls(
            edge=needed("NEARSHELF_EDGE"),
            listen=listen,
            admin_listen=address("NEARSHELF_ADMIN_LISTEN"),
            public_url=url("NEARSHELF_PUBLIC_URL", f"{'https' if tls else 'http'}://{listen}"),
            origin_urls=origin_urls,
            feed_urls=urls("NEARSHELF_FEED_URL", origin_urls or ("http://unset",)),
            edge_key=needed("NEARSHELF_EDGE_KEY"),
            admin_token=needed("NEARSHELF_ADMIN_TOKEN"),
            policies=policies,
            store_bytes=int(store_bytes),
            access_log=env.get("NEARSHELF_ACCESS_LOG", ""),
            hosts=tuple(host.lower() for host in _members(env.get("NEARSHELF_HOSTS", ""))),
            siblings=Path(env["NEARSHELF_SIBLINGS"]) if env.get("NEARSHELF_SIBLINGS") else None,
            regional=regional,
            regional_space=env.get("NEARSHELF_REGIONAL_SPACE", ""),
            origins=origins("NEARSHELF_ORIGINS"),
            origin_caps=caps,
            origin_health=health,
            origin_ca=Path(ca) if ca else None,
            loop=loop,
            trusted_hops=trusted_hops,
            mmdb=Path(mmdb) if mmdb else None,
            country_field=country_field,
            positions=Positions(positions),
            tls_cert=tls.get("NEARSHELF_TLS_CERT"),
            tls_key=tls.get("NEARSHELF_TLS_KEY"),
            lifeline=int(lifeline) if lifeline else None,
        )
        if not settings.edge.replace("-", "").isalnum() or len(settings.edge) > 32:
            faults.append(f"NEARSHELF_EDGE: {settings.edge!r}, expected letters, digits and -, at most 32")
        if faults:
            raise SettingsError("this edge worker cannot start:\n  " + "\n  ".join(sorted(set(faults))))
        return settings

    def address_faults(self, origins: Origins) -> tuple[str, ...]:
        """Why a worker with these settings cannot work with `origins`; empty when it can.

        Each of them has an address, and each address an origin: one left over is a name that was misspelt.
        """
        others = {origin.name for origin in origins.all} - {origins.default}
        missing = [
            f"origins.yaml declares the origin {name}, and there is no address for it: "
            f"set NEARSHELF_ORIGINS={name}=http://HOST:PORT"
            for name in others - set(self.origins)
        ]
        default = f"; the address of {origins.default}, the default one, is NEARSHELF_ORIGIN_URL"
        left_over = [
            f"NEARSHELF_ORIGINS has an address for {name}, and origins.yaml declares no such origin"
            + (default if name == origins.default else did_you_mean(name, others))
            for name in set(self.origins) - others
        ]
        return tuple(sorted(missing + left_over))

    def authorities(self, port: int) -> frozenset[str]:
        """Every authority this worker answers to, lower case, when it listens on `port`."""
        public = urlsplit(self.public_url).netloc.lower()
        loopback = {f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"}
        usual = 80 if self.tls_cert is None else 443
        bare = {"127.0.0.1", "localhost", "[::1]"} if port == usual else set()
        return frozenset(loopback | bare | {public} | set(self.hosts))


def _is_redis(text: str) -> bool:
    """Whether it is the address of a Redis that can be asked."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    if parts.scheme == "unix":
        return parts.path.startswith("/")
    return (
        parts.scheme in {"redis", "rediss"}
        and bool(parts.hostname)
        and re.fullmatch(r"(/[0-9]*)?", parts.path) is not None
    )


def _without_password(url: str) -> str:
    return re.sub(r"//[^/]*@", "//...@", url)


def _members(text: str) -> list[str]:
    return [member.strip() for member in text.split(",") if member.strip()]
