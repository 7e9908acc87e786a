"""The process that keeps a site: its purge log, its workers, its admin listener. `run` is its whole life."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette

from edge import clock
from edge.gateway.admin import admin_app
from edge.gateway.listening import HelperServer, bind
from edge.gateway.settings import Address
from edge.site.admin import SiteBehind
from edge.site.feed import SiteFeed
from edge.site.log import LogUnusable, PurgeLog
from edge.site.settings import SiteError, SiteSettings, public_url
from edge.site.tokens import TokenUnusable, token_file, write_token
from edge.site.workers import State, Worker, WorkerFailed

logger = logging.getLogger("nearshelf.site")

LOG_FILE = "purges.log"
ORIGIN_LOOK_S = 2.0
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def run(settings: SiteSettings, env: Mapping[str, str]) -> int:
    """Keep a site until SIGINT or SIGTERM; the exit status. SIGHUP: the workers read their policies again.

    Raises SiteError when it cannot start; then nothing of it is left running.
    """
    settings.check(env)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("httpx", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return asyncio.run(Site(settings, env).run())


class Site:
    """One site. `env`: what its workers inherit beside what they are told."""

    def __init__(self, settings: SiteSettings, env: Mapping[str, str]) -> None:
        self.settings = settings
        self.workers: list[Worker] = []
        self._env = env
        self._began = time.monotonic()
        self._stopping = asyncio.Event()
        self._signals = 0
        self._left = contextlib.AsyncExitStack()
        """What is to be undone at the end, the last first."""
        self._keeping: list[asyncio.Task[None]] = []

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled)
        # At a terminal it says that the terminal is gone.
        loop.add_signal_handler(signal.SIGHUP, self._signalled if sys.stdin.isatty() else self._reload)
        async with self._left:
            starting = asyncio.create_task(self._start())
            stopping = asyncio.create_task(self._stopping.wait())
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
                await self._stop_workers()
        _say(f"stopped in {time.monotonic() - began:.1f} s")
        return 0

    def _signalled(self) -> None:
        self._signals += 1
        if self._signals == 1:
            _say("stopping: answering what was begun; once more forces it")
            self._stopping.set()
        else:
            for worker in self.workers:
                worker.signal(signal.SIGKILL)

    def _reload(self) -> None:
        for worker in self.workers:
            worker.signal(signal.SIGHUP)

    # --- starting ---

    async def _start(self) -> None:
        """Raises SiteError."""
        settings = self.settings
        self._hold_state()
        listen = self._reserve()
        admin_socket = None if settings.admin is None else self._bound(settings.admin, "--admin")
        log = self._open_log()
        feed = SiteFeed(log, clock.now, _note_purge)
        feed_url = await self._serve_feed(feed)
        folder = _runtime_folder()
        self._left.callback(shutil.rmtree, folder, ignore_errors=True)
        (settings.state / "runtime").write_text(f"{folder}\n", encoding="utf-8")
        environment = {
            **self._env,
            **settings.at(listen),
            "NEARSHELF_FEED_URL": feed_url,
            # Not the name: another site that happens to have the same one has purged other things.
            "NEARSHELF_REGIONAL_SPACE": log.identity,
        }
        if settings.workers > 1:
            environment["NEARSHELF_SIBLINGS"] = str(folder / "siblings")
        lifeline, held = os.pipe()
        self._left.callback(os.close, lifeline)
        self._left.callback(os.close, held)
        self.workers = [
            Worker(number, feed, folder, environment, lifeline, _warn) for number in range(1, settings.workers + 1)
        ]
        if log.began_anew is not None:
            _say(f"purge log: a new one in {settings.state}, because {log.began_anew}")
        try:
            async with asyncio.TaskGroup() as group:
                for worker in self.workers:
                    group.create_task(worker.start())
        except* WorkerFailed as failed:
            raise SiteError(f"this edge cannot start:\n{failed.exceptions[0]}") from None
        token = "" if admin_socket is None else await self._serve_admin(feed, admin_socket)
        self._keeping = [asyncio.create_task(worker.keep()) for worker in self.workers]
        await self._greet(listen, None if admin_socket is None else _address(admin_socket), token)

    def _hold_state(self) -> None:
        """Take the state folder, for as long as this process lives; tidy up after a run that was killed."""
        folder = self.settings.state
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            raise SiteError(f"the state folder {folder} cannot be used: {exc.strerror}; see --state") from exc
        self._left.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise SiteError(
                f"another edge runs with the state folder {folder}; stop it, or name another folder with --state"
            ) from exc
        with contextlib.suppress(OSError):
            stale = Path((folder / "runtime").read_text(encoding="utf-8").strip())
            if stale.name.startswith("nearshelf-edge-"):
                shutil.rmtree(stale, ignore_errors=True)

    def _reserve(self) -> Address:
        """The address that viewers come in at, with a port that stays ours: bound here, listened at by the workers."""
        wanted = self.settings.listen
        # Without SO_REUSEPORT first: whoever listens there already is found out, even another edge of this user's.
        self._bound(wanted, "--listen", keep=False)
        reserved = self._bound(wanted, "--listen", reuse_port=True)
        return _address(reserved)

    def _bound(self, address: Address, option: str, *, reuse_port: bool = False, keep: bool = True) -> socket.socket:
        try:
            bound = bind(address, reuse_port=reuse_port)
        except OSError as exc:
            raise SiteError(f"{option} {address}: {exc.strerror or exc}; {_instead(address, exc)}") from exc
        if keep:
            self._left.callback(bound.close)
        else:
            bound.close()
        return bound

    def _open_log(self) -> PurgeLog:
        try:
            log = PurgeLog(self.settings.state / LOG_FILE)
        except LogUnusable as exc:
            raise SiteError(f"{exc}; see --state") from exc
        self._left.callback(log.close)
        return log

    async def _serve_feed(self, feed: SiteFeed) -> str:
        bound = bind(Address("127.0.0.1", 0))
        server = HelperServer(Starlette(routes=feed.routes()), bound)
        server.start()
        self._left.push_async_callback(server.stop)
        return f"http://{_address(bound)}"

    async def _serve_admin(self, feed: SiteFeed, bound: socket.socket) -> str:
        """The file of the token; empty when the token was given."""
        token, where = self.settings.admin_token, ""
        file = token_file(self._env, *bound.getsockname()[:2])
        if token:
            # Of a run that was killed: the command would rather believe it than the environment.
            file.unlink(missing_ok=True)
        else:
            try:
                token, where = write_token(file), str(file)
            except TokenUnusable as exc:
                raise SiteError(f"{exc}; or give a token in NEARSHELF_ADMIN_TOKEN") from exc
            self._left.callback(file.unlink, missing_ok=True)
        behind = SiteBehind(self.settings.name, feed, self.workers)
        behind.start()
        self._left.push_async_callback(behind.close)
        server = HelperServer(admin_app(token, behind, clock.now), bound)
        server.start()
        self._left.push_async_callback(server.stop)
        self._left.callback(behind.end_streams)
        return where

    async def _stop_workers(self) -> None:
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        await asyncio.gather(*(worker.stop() for worker in self.workers))

    # --- what people read ---

    async def _greet(self, listen: Address, admin: Address | None, token: str) -> None:
        settings = self.settings
        url = public_url(settings.scheme, listen, ())
        ready = sum(worker.state is State.READY for worker in self.workers)
        seconds = time.monotonic() - self._began
        _say(f"ready in {seconds:.1f} s: {ready} worker{'s' if ready > 1 else ''}, policies {settings.policies.name}")
        _say(f"  viewers   {url}" + (f", also as {', '.join(settings.hosts)}" if settings.hosts else ""))
        for origin in settings.origins:
            _say(f"  origin    {origin}{await _origin_says(origin)}")
        if settings.regional:
            _say(f"  tier      {urlsplit(settings.regional).hostname or settings.regional}: shared by the workers")
        if admin is not None:
            _say(f"  explorer  http://{admin}/  (any name, the token as password)")
            _say(f"  token     {token or 'as in NEARSHELF_ADMIN_TOKEN'}")
        if not settings.hosts and listen.host not in LOOPBACK:
            _warn("no --host is given: whoever asks for another name than this machine's own is answered with 421")
        if admin is not None and admin.host not in LOOPBACK:
            _warn(f"the admin listener at {admin} can be reached from elsewhere, and speaks no TLS")
        insecure = " -k" if settings.tls_cert is not None else ""
        _say(f"  try       curl{insecure} -i {url}/")
        if admin is not None:
            _say(f"            nearshelf purge --admin http://{admin} --path /")


def _instead(address: Address, refused: OSError) -> str:
    """What to do about an address that cannot be listened at."""
    if refused.errno in {errno.EACCES, errno.EPERM} and address.port < 1024:
        return "ports below 1024 need the right CAP_NET_BIND_SERVICE; give it to this process, or choose 1024 or more"
    if refused.errno == errno.EADDRNOTAVAIL or isinstance(refused, socket.gaierror):
        return f"{address.host} is no address of this machine; name one of its own, or 0.0.0.0 for all of them"
    return "choose another port, or stop what is there"


def _runtime_folder() -> Path:
    """For the workers' sockets, for this user alone: a socket's path has 107 characters at the most."""
    parent = tempfile.gettempdir()
    try:
        return Path(tempfile.mkdtemp(prefix="nearshelf-edge-", dir=parent if len(parent) <= 40 else "/tmp"))  # noqa: S108 - mkdtemp makes it private
    except OSError as exc:
        raise SiteError(f"no folder for sockets can be made in {parent}: {exc.strerror}; see TMPDIR") from exc


async def _origin_says(origin: str) -> str:
    """Nothing when somebody listens at the address, else that nobody does: the edge runs all the same."""
    parts = urlsplit(origin.partition("=")[2] if "=" in origin.partition("://")[0] else origin)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        async with asyncio.timeout(ORIGIN_LOOK_S):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except (OSError, TimeoutError) as exc:
        return f"  (nobody answers there yet: {getattr(exc, 'strerror', None) or 'no connection in time'})"
    writer.close()
    return ""


def _address(bound: socket.socket) -> Address:
    host, port = bound.getsockname()[:2]
    return Address(host, port)


def _note_purge(who: str, reason: str, done: Mapping[str, Any]) -> None:
    """Purges of operators are told by the admin listener; those that an origin's answers ask for, here."""
    if who.startswith("worker-"):
        logger.info("purged %s at %s by %s (%s)", done["kind"], done["position"], who, ascii(reason)[1:-1])


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, flush=True)


def _warn(text: str) -> None:
    logger.warning("%s", text)
