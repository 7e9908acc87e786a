"""What a site is told by its command line, checked whole before anything is started; and what each worker is told."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from cache_policies.kinds import NAME
from edge.core.policy import PolicySet
from edge.gateway.settings import Address, GatewaySettings, Positions, SettingsError
from edge.policy_files import PolicyError, load_policies
from edge.site.tokens import MIN_CHARACTERS, user_state

MOST_WORKERS = 64
_UNITS = {"kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}
_SIZE = re.compile(r"([0-9]{1,9})(kB|MB|GB)")
_WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - to be told apart, not to listen at
_ADDRESSES_OF = {"localhost": {"127.0.0.1", "::1"}}
_HOST = re.compile(r"[a-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9a-f:.]{2,45}\](:[0-9]{1,5})?")

OPTION_OF = {
    "NEARSHELF_ORIGIN_URL": "--origin",
    "NEARSHELF_ORIGINS": "--origin",
    "NEARSHELF_LISTEN": "--listen",
    "NEARSHELF_STORE_BYTES": "--store-size",
    "NEARSHELF_POLICIES": "--policies",
    "NEARSHELF_REGIONAL": "--regional",
    "NEARSHELF_TLS_CERT": "--tls-cert",
    "NEARSHELF_TLS_KEY": "--tls-key",
    "NEARSHELF_HOSTS": "--host",
    "NEARSHELF_ACCESS_LOG": "--access-log",
    "NEARSHELF_EDGE": "--name",
}
"""How the command line calls what a worker's environment calls otherwise."""


class SiteError(Exception):
    """The site cannot run as it was told to. The text says every reason, and nothing has been started."""


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """One site: some workers that serve one address, and the process that keeps them."""

    origins: tuple[str, ...]
    """Addresses of the default origin; `NAME=ADDRESS` for the others of origins.yaml."""
    listen: Address
    policies: Path
    name: str
    state: Path
    """Where the purge log is kept."""
    workers: int = 1
    admin: Address | None = None
    store_bytes: int = 256_000_000
    """Of each worker."""
    regional: str = ""
    hosts: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    access_log: str = ""
    admin_token: str = field(default="", repr=False)
    """Empty: made at the start."""

    @property
    def scheme(self) -> str:
        return "http" if self.tls_cert is None else "https"

    def at(self, listen: Address) -> dict[str, str]:
        """What every worker of a site that listens at `listen` is told, whoever started it."""
        default = ",".join(origin for origin in self.origins if "=" not in origin.partition("://")[0])
        named = ",".join(origin for origin in self.origins if "=" in origin.partition("://")[0])
        return {
            "NEARSHELF_POSITIONS": Positions.SITE.value,
            "NEARSHELF_EDGE": self.name,
            "NEARSHELF_LISTEN": str(listen),
            "NEARSHELF_PUBLIC_URL": public_url(self.scheme, listen, self.hosts),
            "NEARSHELF_ORIGIN_URL": default,
            "NEARSHELF_ORIGINS": named,
            "NEARSHELF_POLICIES": str(self.policies),
            "NEARSHELF_STORE_BYTES": str(self.store_bytes),
            "NEARSHELF_ACCESS_LOG": self.access_log,
            "NEARSHELF_HOSTS": ",".join(with_ports(self.hosts, listen.port)),
            "NEARSHELF_TLS_CERT": "" if self.tls_cert is None else str(self.tls_cert),
            "NEARSHELF_TLS_KEY": "" if self.tls_key is None else str(self.tls_key),
            **({"NEARSHELF_REGIONAL": self.regional} if self.regional else {}),
        }

    def check(self, env: Mapping[str, str]) -> tuple[GatewaySettings, PolicySet]:
        """What a worker would make of these settings in `env`, and the policies. Raises SiteError with every fault."""
        faults: list[str] = []
        policies = None
        try:
            policies = load_policies(self.policies)
        except PolicyError as exc:
            faults.append(f"--policies {self.policies} cannot be used:\n    " + str(exc).replace("\n", "\n    "))
        # What the parent gives in the end is there in form only.
        given = {
            "NEARSHELF_ADMIN_LISTEN": "unix:/admin",
            "NEARSHELF_EDGE_KEY": "key",
            "NEARSHELF_ADMIN_TOKEN": "token",
            "NEARSHELF_FEED_URL": "http://127.0.0.1:1",
            **({} if self.listen.port else {"NEARSHELF_PUBLIC_URL": "http://127.0.0.1:1"}),
        }
        worker = None
        try:
            # A host that is none is told as such, not also as the address that it would make.
            sound = replace(self, hosts=tuple(host for host in self.hosts if _HOST.fullmatch(host)))
            worker = GatewaySettings.from_env({**env, **sound.at(self.listen), **given})
        except SettingsError as exc:
            faults.extend(_in_options(line.strip()) for line in str(exc).splitlines()[1:])
        if worker is not None and policies is not None:
            faults.extend(_in_options(fault) for fault in worker.address_faults(policies.origins))
        if not 1 <= self.workers <= MOST_WORKERS:
            faults.append(f"--workers {self.workers}: expected 1 to {MOST_WORKERS}")
        faults += [
            f"--host {host or repr(host)}: expected a name such as shop.example, or with a port, shop.example:8443"
            for host in self.hosts
            if _HOST.fullmatch(host) is None
        ]
        faults += self._circles()
        if self.admin_token and len(self.admin_token) < MIN_CHARACTERS:
            faults.append(f"NEARSHELF_ADMIN_TOKEN: expected {MIN_CHARACTERS} characters or more")
        if faults or worker is None or policies is None:
            raise SiteError("this edge cannot start:\n  " + "\n  ".join(dict.fromkeys(faults)))
        return worker, policies

    def _circles(self) -> list[str]:
        """Listeners of this site that are in each other's way, and origins that are the site itself."""
        faults = []
        if self.admin is not None and (_meet(self.listen, self.admin) or _meet(self.admin, self.listen)):
            faults.append(f"--admin {self.admin}: that is where viewers come in (--listen); choose another port")
        for origin in self.origins:
            parts = urlsplit(origin.partition("=")[2] if "=" in origin.partition("://")[0] else origin)
            there = Address(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
            for option, own in (("--listen", self.listen), ("--admin", self.admin)):
                if own is not None and _meet(own, there):
                    faults.append(
                        f"--origin {origin}: that is this edge itself ({option} {own}), and it would ask itself for "
                        "ever; name the server behind it"
                    )
        return faults


def _meet(own: Address, other: Address) -> bool:
    """Whether what `own` listens at is reached at `other`, as far as can be told without asking for names."""
    if not own.port or own.port != other.port:
        return False
    one, two = (_ADDRESSES_OF.get(each.host.lower().rstrip("."), {each.host.lower()}) for each in (own, other))
    if one & two:
        return True
    return any(host in _WILDCARDS for host in one) and any(host in _WILDCARDS or _is_here(host) for host in two)


def _is_here(host: str) -> bool:
    """Whether `host` is an address of this machine."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            socket.inet_pton(probe.family, host)
            probe.bind((host, 0))
    except OSError:
        return False
    return True


def address_of(option: str, text: str) -> Address:
    """The listener that an option names. Raises SiteError."""
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65_536):
        raise SiteError(f"{option} {text}: expected HOST:PORT such as 127.0.0.1:8080")
    return Address(host.strip("[]"), int(port))


def size_of(option: str, text: str) -> int:
    """The bytes that an option names. Raises SiteError."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise SiteError(f"{option} {text}: expected a size such as 256MB or 2GB")
    return int(found[1]) * _UNITS[found[2]]


def checked_origins(texts: Sequence[str]) -> tuple[str, ...]:
    """The origins of the command line. Raises SiteError for what is no address."""
    for text in texts:
        name, equals, address = text.partition("=")
        url = address if equals and "://" not in name else text
        if equals and "://" not in name and re.fullmatch(NAME, name) is None:
            raise SiteError(f"--origin {text}: {name!r} is no name of an origin, expected one of origins.yaml")
        try:
            parts = urlsplit(url)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
            usable = usable and parts.path in {"", "/"} and not (parts.query or parts.fragment or "@" in parts.netloc)
        except ValueError:
            usable = False
        if not usable or "," in url:
            raise SiteError(
                f"--origin {text}: expected an address without a path, such as http://127.0.0.1:8000; "
                "repeat --origin for several"
            )
    if all("=" in text.partition("://")[0] for text in texts):
        raise SiteError("--origin: the default origin has no address; give one without NAME=")
    return tuple(text.rstrip("/") for text in texts)


def default_state(env: Mapping[str, str], listen: Address) -> Path:
    """Where a site keeps its purge log if nobody says: by where it listens, in the user's state folder."""
    return user_state(env) / "edge" / str(listen).replace("[", "").replace("]", "").replace(":", "_")


def with_ports(hosts: Sequence[str], port: int) -> list[str]:
    """A host that was named without a port, as clients may spell it: bare, and with the port that is listened at."""
    found: list[str] = []
    for host in hosts:
        bare = host.endswith("]") or ":" not in host
        found += [host, f"{host}:{port}"] if bare else [host]
    return list(dict.fromkeys(found))


def public_url(scheme: str, listen: Address, hosts: Sequence[str]) -> str:
    """How somebody on this machine, or who knows the first host, reaches the site."""
    if hosts:
        return f"{scheme}://{hosts[0]}"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.host, listen.host)  # noqa: S104 - where to knock instead
    return f"{scheme}://{Address(host, listen.port)}"


def _in_options(fault: str) -> str:
    """A complaint about a worker's environment, as whoever typed the command knows it."""
    for variable, option in OPTION_OF.items():
        fault = re.sub(rf"\b{variable}\b", option, fault)
    return fault
