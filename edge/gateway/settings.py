"""What one edge worker is told by its environment: read once, here, and nowhere deeper."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from cache_policies.folder import folder_called, profiles, why_unreadable
from cache_policies.kinds import NAME
from cache_policies.origins import Origins
from cache_policies.reading import did_you_mean
from edge.core.hops import TrustedHops
from edge.gateway.origin import Caps, is_origin_url, tls_context
from edge.gateway.record import NoLog, opened
from edge.gateway.server import Limits
from edge.gateway.tls import TlsUnusable, server_context
from edge.gateway.visitors import countries_of

_FIELD_NAME = re.compile(r"[a-z][a-z0-9-]{0,60}")
_PARAMETER = re.compile(r"[A-Za-z0-9._~-]{1,40}")
MOST_NOTED_PARAMETERS = 16
_TLS = ("NEARSHELF_TLS_CERT", "NEARSHELF_TLS_KEY")


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
    access_log_query: tuple[str, ...] = ()
    """Parameters that it tells although no policy counts them: NEARSHELF_ACCESS_LOG_QUERY, default none."""
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
    """How much of each origin this worker takes: NEARSHELF_ORIGIN_CONNECTIONS, NEARSHELF_ORIGIN_TAG_CONNECTIONS,
    NEARSHELF_ORIGIN_QUEUE and NEARSHELF_ORIGIN_QUEUE_S."""
    refresh_hottest: int = 100
    """Stored responses that are fetched anew behind the viewers' backs after a purge, those asked for most:
    NEARSHELF_REFRESH_HOTTEST; 0: none."""
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
        read = _Environment(env)
        listen, origin_urls, tls = read.address("NEARSHELF_LISTEN"), read.urls("NEARSHELF_ORIGIN_URL"), read.tls()
        settings = cls(
            edge=read.needed("NEARSHELF_EDGE"),
            listen=listen,
            admin_listen=read.address("NEARSHELF_ADMIN_LISTEN"),
            public_url=read.url("NEARSHELF_PUBLIC_URL", f"{'https' if tls else 'http'}://{listen}"),
            origin_urls=origin_urls,
            feed_urls=read.urls("NEARSHELF_FEED_URL", origin_urls or ("http://unset",)),
            edge_key=read.needed("NEARSHELF_EDGE_KEY"),
            admin_token=read.needed("NEARSHELF_ADMIN_TOKEN"),
            policies=read.policies("NEARSHELF_POLICIES"),
            store_bytes=read.store_bytes("NEARSHELF_STORE_BYTES"),
            access_log=read.access_log("NEARSHELF_ACCESS_LOG"),
            access_log_query=read.parameters("NEARSHELF_ACCESS_LOG_QUERY"),
            hosts=tuple(host.lower() for host in _members(env.get("NEARSHELF_HOSTS", ""))),
            siblings=read.path("NEARSHELF_SIBLINGS"),
            regional=read.redis("NEARSHELF_REGIONAL"),
            regional_space=env.get("NEARSHELF_REGIONAL_SPACE", ""),
            origins=read.origins("NEARSHELF_ORIGINS"),
            origin_caps=Caps(
                connections=int(read.number("NEARSHELF_ORIGIN_CONNECTIONS", "64", 1, "connections")),
                tag_connections=int(read.number("NEARSHELF_ORIGIN_TAG_CONNECTIONS", "32", 1, "connections")),
                queue=int(read.number("NEARSHELF_ORIGIN_QUEUE", "128", 0, "requests")),
                queue_s=read.number("NEARSHELF_ORIGIN_QUEUE_S", "1", 0, "seconds"),
            ),
            refresh_hottest=int(read.number("NEARSHELF_REFRESH_HOTTEST", "100", 0, "responses")),
            origin_health=read.health("NEARSHELF_ORIGIN_HEALTH"),
            origin_ca=read.certificates("NEARSHELF_ORIGIN_CA"),
            loop=read.loop("NEARSHELF_LOOP"),
            trusted_hops=read.trusted_hops("NEARSHELF_TRUSTED_HOPS"),
            mmdb=read.mmdb("NEARSHELF_MMDB"),
            country_field=read.country_field("NEARSHELF_COUNTRY_FIELD"),
            positions=read.positions("NEARSHELF_POSITIONS"),
            tls_cert=tls.get("NEARSHELF_TLS_CERT"),
            tls_key=tls.get("NEARSHELF_TLS_KEY"),
            lifeline=read.lifeline("NEARSHELF_LIFELINE"),
        )
        faults = read.faults
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


class _Environment:
    """The variables of a worker, each read by the method for its kind. What is wrong is noted in `faults` and read as
    something harmless, so that one start names every fault."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self.faults: list[str] = []

    def _fault(self, name: str, what: str) -> None:
        self.faults.append(f"{name}: {what}")

    def needed(self, name: str) -> str:
        value = self._env.get(name, "")
        if not value:
            self._fault(name, "not set")
        return value

    def address(self, name: str) -> Address:
        text = self.needed(name)
        if text.startswith("unix:/"):
            return Address(text.removeprefix("unix:"), 0)
        host, colon, port = text.rpartition(":")
        if text and not (colon and host and port.isdigit() and int(port) < 65_536):
            self._fault(name, f"{text!r}, expected HOST:PORT such as 127.0.0.1:8081")
            return Address("", 0)
        return Address(host.strip("[]"), int(port or 0))

    def url(self, name: str, default: str) -> str:
        text = self._env.get(name) or default
        # A default is ours: that of a listener whose port is yet to be found has port 0.
        if text != default and not is_origin_url(text):
            self._fault(name, f"{text!r}, expected http://HOST:PORT without a path")
        return text.rstrip("/")

    def urls(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        found = tuple(text.rstrip("/") for text in _members(self._env.get(name, ""))) or default
        if not found:
            self.needed(name)
        for text in found:
            if not is_origin_url(text):
                self._fault(name, f"{text!r}, expected http://HOST:PORT without a path")
        if len(set(found)) < len(found):
            self._fault(name, "the same address twice, expected each once")
        return found

    def origins(self, name: str) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for member in _members(self._env.get(name, "")):
            origin, _, listed = (part.strip() for part in member.partition("="))
            theirs = tuple(text.strip().rstrip("/") for text in listed.split("|"))
            if not (re.fullmatch(NAME, origin) and all(map(is_origin_url, theirs))):
                self._fault(
                    name,
                    f"{member!r}, expected NAME=http://HOST:PORT, the name as in origins.yaml; "
                    "several addresses with | between them",
                )
            elif origin in found:
                self._fault(name, f"{origin} is there twice, expected once: NAME=URL|URL for several addresses")
            elif len(set(theirs)) < len(theirs):
                self._fault(name, f"{member!r}, the same address twice, expected each once")
            found[origin] = theirs
        return found

    def number(self, name: str, default: str, least: float, unit: str) -> float:
        text = self._env.get(name) or default
        digits = r"\d{1,6}(\.\d+)?" if unit == "seconds" else r"\d{1,6}"
        if re.fullmatch(digits, text, re.ASCII) is None or float(text) < least:
            self._fault(name, f"{text!r}, expected {unit}, {least:g} or more")
            return least
        return float(text)

    def store_bytes(self, name: str) -> int:
        text = self._env.get(name) or "256000000"
        if not (text.isdigit() and int(text) >= 1_000_000):
            self._fault(name, f"{text!r}, expected bytes, 1000000 or more")
            return 0
        return int(text)

    def path(self, name: str) -> Path | None:
        text = self._env.get(name)
        return Path(text) if text else None

    def policies(self, name: str) -> Path | None:
        named = self._env.get(name)
        folder = folder_called(named) if named else None
        if folder is not None and (why := why_unreadable(folder)):
            self._fault(name, f"{named!r} cannot be read: {why}")
        elif folder is not None and not folder.is_dir():
            self._fault(name, f"{named!r} is neither a folder nor a profile ({', '.join(profiles())})")
        return folder

    def access_log(self, name: str) -> str:
        """Made here already if it is not there: lines must not be lost for want of a folder or a right."""
        target = self._env.get(name, "")
        if target not in {"", "-"}:
            try:
                os.close(opened(target))
            except NoLog as exc:
                self._fault(name, str(exc))
        return target

    def parameters(self, name: str) -> tuple[str, ...]:
        """Names of parameters; each is a place in every line that has it, so that they are few."""
        found = tuple(dict.fromkeys(_members(self._env.get(name, ""))))
        if wrong := [each for each in found if _PARAMETER.fullmatch(each) is None]:
            self._fault(name, f"{wrong[0]!r}, expected names of parameters, commas between them, such as sort, page")
        elif len(found) > MOST_NOTED_PARAMETERS:
            self._fault(name, f"{len(found)} names, expected {MOST_NOTED_PARAMETERS} at the most")
        return found

    def loop(self, name: str) -> str:
        loop = self._env.get(name) or "asyncio"
        if loop not in {"asyncio", "uvloop"}:
            self._fault(name, f"{loop!r}, expected asyncio or uvloop")
        elif loop == "uvloop" and find_spec("uvloop") is None:
            self._fault(name, "uvloop is not installed; it comes with the extra fast: nearshelf[fast]")
        return loop

    def redis(self, name: str) -> str:
        url = self._env.get(name, "")
        if url and not _is_redis(url):
            self._fault(
                name,
                f"{_without_password(url)!r}, expected redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH",
            )
        return url

    def trusted_hops(self, name: str) -> TrustedHops:
        try:
            return TrustedHops.parse(_members(self._env.get(name, "")))
        except ValueError as exc:
            self._fault(name, str(exc))
            return TrustedHops()

    def mmdb(self, name: str) -> Path | None:
        path = self.path(name)
        if path is not None:
            try:
                countries_of(path)
            except ValueError as exc:
                self._fault(name, f"{str(path)!r} {exc}")
        return path

    def country_field(self, name: str) -> str:
        found = self._env.get(name, "").lower()
        if found and _FIELD_NAME.fullmatch(found) is None:
            self._fault(name, f"{found!r}, expected a field such as cloudfront-viewer-country")
        elif found and not self._env.get("NEARSHELF_TRUSTED_HOPS"):
            self._fault(name, "set without NEARSHELF_TRUSTED_HOPS, and nobody else's word for it counts")
        return found

    def positions(self, name: str) -> Positions:
        text = self._env.get(name) or Positions.ORIGIN.value
        if text not in set(Positions):
            self._fault(name, f"{text!r}, expected {' or '.join(Positions)}")
            return Positions.ORIGIN
        return Positions(text)

    def tls(self) -> dict[str, Path]:
        """Certificate and key by the names of their variables; empty where neither is set."""
        found = {name: Path(self._env[name]) for name in _TLS if self._env.get(name)}
        if len(found) == 1:
            self._fault(next(iter(found)), "set alone; a certificate needs its key, and a key its certificate")
        elif found:
            try:
                server_context(*found.values())
            except TlsUnusable as exc:
                self._fault(" and ".join(_TLS), str(exc))
        return found

    def health(self, name: str) -> str:
        path = self._env.get(name, "")
        if path and re.fullmatch(r"/[\x21-\x22\x24-\x7e]*", path) is None:
            self._fault(name, f"{path!r}, expected a path such as /healthz")
        return path

    def certificates(self, name: str) -> Path | None:
        path = self.path(name)
        if path is not None:
            try:
                tls_context(str(path))
            except OSError as exc:
                self._fault(name, f"{str(path)!r} holds no certificates that can be read: {exc}")
        return path

    def lifeline(self, name: str) -> int | None:
        text = self._env.get(name, "")
        if text and not text.isdigit():
            self._fault(name, f"{text!r}, expected the number of a descriptor")
            return None
        return int(text) if text else None


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
