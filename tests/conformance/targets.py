"""The caches that the cases are played against, each started with an empty store in front of the scripted origin.

The peers' configuration is what a careful administrator writes who wants what the RFCs say: no lifetimes, no grace and
no keys of their own, validation and collapsing on.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import httpx

from tests.conformance.player import PurgeCommand
from tests.conformance.script import Feature, Purge
from tests.conformance.wrong import Careless, Mangler, Relay

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Running:
    address: tuple[str, int]
    purge: PurgeCommand | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """`start(origin_port)` runs it; `needs` are the commands it takes."""

    name: str
    start: Callable[[int], AbstractAsyncContextManager[Running]]
    offers: frozenset[Feature] = frozenset({Feature.NO_TARGETED})
    needs: tuple[str, ...] = ()
    version: Callable[[], str] = lambda: ""

    @property
    def is_installed(self) -> bool:
        return all(_found(command) for command in self.needs)


def _found(command: str) -> str | None:
    return shutil.which(command, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _accepts(port: int, process: subprocess.Popen[bytes], output: Path) -> None:
    """Until somebody listens. Raises RuntimeError with what the process wrote when it ends before."""
    deadline = time.monotonic() + 20
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"it does not listen:\n{output.read_text()[-2000:]}") from None
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


@contextlib.asynccontextmanager
async def _process(
    command: list[str], port: int, folder: Path, environment: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[None]:
    """Run `command` until the end of the block, which begins when it listens on `port`."""
    output = folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, cwd=ROOT, env=os.environ | dict(environment))
    try:
        await _accepts(port, process, output)
        yield
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, 10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


NGINX = """
daemon off;
worker_processes 1;
{user}
pid {folder}/pid;
error_log {folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    proxy_cache_path {folder}/cache keys_zone=shared:10m use_temp_path=off;
    upstream origin {{ server 127.0.0.1:{origin} max_fails=0; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_pass_header Date;
            proxy_read_timeout 3s;
            proxy_cache shared;
            proxy_cache_key $scheme$http_host$request_uri;
            proxy_cache_revalidate on;
            proxy_cache_background_update on;
            proxy_cache_lock on;
            proxy_force_ranges on;
            proxy_no_cache $http_authorization;
            proxy_cache_bypass $http_authorization;
        }}
    }}
}}
"""

VARNISH = """
vcl 4.1;
backend default {{
    .host = "127.0.0.1";
    .port = "{origin}";
    .first_byte_timeout = 3s;
}}
"""

HAPROXY = """
global
    maxconn 1000
defaults
    mode http
    timeout connect 3s
    timeout client 10s
    timeout server 3s
cache shared
    total-max-size 64
    max-object-size 1000000
    max-age 86400
    process-vary on
frontend viewers
    bind 127.0.0.1:{port}
    default_backend origin
backend origin
    http-request cache-use shared
    http-response cache-store shared
    server origin 127.0.0.1:{origin}
"""


@contextlib.asynccontextmanager
async def _nginx(origin_port: int) -> AsyncIterator[Running]:
    with tempfile.TemporaryDirectory(prefix="nearshelf-conformance-") as name:
        folder, port = Path(name), _free_port()
        user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, origin=origin_port, user=user))
        command = [_found("nginx") or "nginx", "-p", name, "-c", str(folder / "nginx.conf"), "-e", f"{name}/error.log"]
        async with _process(command, port, folder):
            yield Running(("127.0.0.1", port))


@contextlib.asynccontextmanager
async def _varnish(origin_port: int) -> AsyncIterator[Running]:
    with tempfile.TemporaryDirectory(prefix="nearshelf-conformance-") as name:
        folder, port = Path(name), _free_port()
        (folder / "default.vcl").write_text(VARNISH.format(origin=origin_port))
        command = [_found("varnishd") or "varnishd", "-F", "-j", "none", "-n", f"{name}/work", "-s", "malloc,64m"]
        command += ["-a", f"127.0.0.1:{port}", "-f", str(folder / "default.vcl")]
        # Only what the origin says, no grace of its own, and old copies kept to be validated.
        for parameter in ("default_ttl=0", "default_grace=0", "default_keep=3600", "backend_remote_error_holddown=0"):
            command += ["-p", parameter]
        async with _process(command, port, folder):
            yield Running(("127.0.0.1", port))


@contextlib.asynccontextmanager
async def _haproxy(origin_port: int) -> AsyncIterator[Running]:
    with tempfile.TemporaryDirectory(prefix="nearshelf-conformance-") as name:
        folder, port = Path(name), _free_port()
        (folder / "haproxy.cfg").write_text(HAPROXY.format(port=port, origin=origin_port))
        async with _process([_found("haproxy") or "haproxy", "-f", str(folder / "haproxy.cfg")], port, folder):
            yield Running(("127.0.0.1", port))


def _wrong(make: Callable[[int], Relay | Careless]) -> Callable[[int], AbstractAsyncContextManager[Running]]:
    @contextlib.asynccontextmanager
    async def start(origin_port: int) -> AsyncIterator[Running]:
        async def purge(order: Purge, scene: str) -> None:
            """Nothing is done, and nothing is said about it."""

        async with make(origin_port) as cache:
            yield Running(cache.address, purge)

    return start


def _version(command: str, *arguments: str) -> Callable[[], str]:
    """The first thing in its own words that looks like a version."""

    def ask() -> str:
        done = subprocess.run([_found(command) or command, *arguments], capture_output=True, text=True, check=False)
        found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
        return found[0] if found else ""

    return ask


TOKEN = "conformance-only"


@contextlib.asynccontextmanager
async def _nearshelf(origin_port: int) -> AsyncIterator[Running]:
    with tempfile.TemporaryDirectory(prefix="nearshelf-conformance-") as name:
        port, admin_port = _free_port(), _free_port()
        command = [sys.executable, "-c", "from infra.cli import main; main()", "edge", "--policies", "rfc9111"]
        command += ["--origin", f"http://127.0.0.1:{origin_port}", "--state", name]
        command += ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin_port}"]
        async with (
            _process(command, port, Path(name), {"NEARSHELF_ADMIN_TOKEN": TOKEN}),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{admin_port}", trust_env=False, timeout=20) as admin,
        ):
            await _follows(admin)

            async def purge(order: Purge, scene: str) -> None:
                said: dict[str, object] = {"soft": order.soft, "reason": "conformance"}
                if order.tags:
                    said["tags"] = [f"{tag}-{scene}" for tag in order.tags]
                if order.target is not None:
                    said["paths"] = [f"/{scene}{order.target}"]
                answer = await admin.post("/purge", json=said, headers={"authorization": f"Bearer {TOKEN}"})
                if answer.status_code != 200 or not answer.json()["live"]:
                    raise RuntimeError(f"the purge was not carried out: {answer.status_code} {answer.text}")

            yield Running(("127.0.0.1", port), purge)


async def _follows(admin: httpx.AsyncClient) -> None:
    """Until the worker follows the purge log. Raises RuntimeError when it does not within twenty seconds."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            answer = await admin.get("/readyz")
            if answer.status_code == 200:
                return
        await asyncio.sleep(0.05)
    raise RuntimeError("the edge does not become ready")


EVERYTHING = frozenset(Feature)

NEARSHELF = Target("nearshelf", _nearshelf, EVERYTHING - {Feature.NO_TARGETED})
NGINX_TARGET = Target("nginx", _nginx, needs=("nginx",), version=_version("nginx", "-v"))
VARNISH_TARGET = Target("Varnish", _varnish, needs=("varnishd", "gcc"), version=_version("varnishd", "-V"))
HAPROXY_TARGET = Target("HAProxy", _haproxy, needs=("haproxy",), version=_version("haproxy", "-v"))
PEERS = (NGINX_TARGET, VARNISH_TARGET, HAPROXY_TARGET)
WRONG = (
    Target("keeps everything", _wrong(lambda port: Relay(port, keeps=True)), EVERYTHING),
    Target("keeps nothing", _wrong(lambda port: Relay(port, keeps=False)), EVERYTHING),
    Target("mangles everything", _wrong(lambda port: Mangler(port, good=0)), EVERYTHING),
    Target("mangles by and by", _wrong(lambda port: Mangler(port, good=2)), EVERYTHING),
    Target("careless", _wrong(lambda port: Careless(port, strict=False)), EVERYTHING),
    Target("overcautious", _wrong(lambda port: Careless(port, strict=True)), EVERYTHING),
)
