"""`python -m origin`: one worker of the origin, or one of its chores."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import uvicorn

from cache_policies.markets import load_markets
from cache_policies.reading import PolicyError
from origin.app import make_app
from origin.errors import ShopError
from origin.metrics import Metrics, share
from origin.record import AccessLog
from origin.settings import OriginSettings, SettingsError

KEEP_ALIVE_S = 75
"""An idle connection is kept for so long: longer than an edge keeps one in its pool, so that edges close first."""
STOP_S = 5
"""A stopping worker gives open requests so long to end; a held question ends by itself in half a second."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worker or the chore that `argv` names; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m origin", description=__doc__)
    chores = parser.add_subparsers(dest="chore", metavar="CHORE")
    chores.add_parser("serve", help="run one worker (also without a chore)")
    chores.add_parser("migrate", help="bring the database to the newest schema (ADMIN_DATABASE_URL)")
    seed = chores.add_parser("seed", help="load the demo catalog into an empty shop")
    seed.add_argument("--products", type=int, default=5000)
    seed.add_argument("--seed", type=int, default=1)
    staff = chores.add_parser("staff-add", help="add a member of staff")
    staff.add_argument("email")
    staff.add_argument("--role", choices=["viewer", "editor", "admin"], default="viewer")
    staff.add_argument(
        "--password-file", type=Path, required=True, help="a file that holds the password; - reads it from stdin"
    )
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        match arguments.chore:
            case "migrate":
                return _migrate()
            case "seed":
                return asyncio.run(_seed(arguments.products, arguments.seed))
            case "staff-add":
                return asyncio.run(_staff_add(arguments.email, arguments.role, _password(arguments.password_file)))
            case _:
                return _serve()
    except SettingsError as exc:
        print(exc, file=sys.stderr)
        return 2
    except PolicyError as exc:
        print(f"{parser.prog} cannot start, the markets of NEARSHELF_POLICIES cannot be used:\n{exc}", file=sys.stderr)
        return 2
    except ShopError as exc:
        print(f"{parser.prog} {arguments.chore}: {exc}", file=sys.stderr)
        return 1


def _serve() -> int:
    # Says that the primary has moved; until this worker serves, it looks for itself.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    settings = OriginSettings.from_env(os.environ)
    markets = load_markets(settings.policies)
    if unknown := sorted(set(settings.midnight) - {market.id for market in markets.all}):
        known = ", ".join(market.id for market in markets.all)
        raise SettingsError(f"NEARSHELF_MIDNIGHT names {', '.join(unknown)}, and the markets are {known}")
    metrics, log = _metrics(settings.metrics), _access_log(settings.access_log)
    try:
        listener = _listen(settings.listen_host, settings.listen_port)
    except OSError as exc:
        print(
            f"cannot listen on {settings.listen_host}:{settings.listen_port}: {exc.strerror}; "
            "another program may have the port, NEARSHELF_LISTEN names another",
            file=sys.stderr,
        )
        return 2
    config = uvicorn.Config(
        make_app(settings, markets, metrics, log),
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # Addresses and schemes of viewers come from our edges only (app.EdgeKey).
        proxy_headers=False,
        backlog=1024,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
    )
    server = _Server(config)
    # Uvicorn stops gracefully and then raises the signal once more: to have been asked to stop is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stopped)
    with listener:
        server.run(sockets=[listener])
    return 0 if server.started else 1


class _Server(uvicorn.Server):
    """What is loaded when it listens lives as long as the process: no request waits while a collector looks at it."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.collect()
        gc.freeze()


def _metrics(folder: Path | None) -> Metrics:
    try:
        return Metrics(None if folder is None else share(folder))
    except OSError as exc:
        raise SettingsError(f"NEARSHELF_METRICS_DIR {folder} cannot be used: {exc.strerror}") from exc


def _access_log(target: str) -> AccessLog | None:
    try:
        return AccessLog(target) if target else None
    except OSError as exc:
        raise SettingsError(
            f"NEARSHELF_ACCESS_LOG {target} cannot be written: {exc.strerror}; name a file that this user may append "
            "to, or - for standard output"
        ) from exc


def _stopped(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(0)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket on an address that several workers share."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.set_inheritable(True)
    except OSError:
        listener.close()
        raise
    return listener


def _migrate() -> int:
    from origin.migrations import upgrade

    url = os.environ.get("ADMIN_DATABASE_URL", "")
    if not url:
        raise SettingsError("ADMIN_DATABASE_URL is not set: migrations need the database's owner")
    upgrade(url)
    return 0


async def _seed(products: int, seed: int) -> int:
    from origin.catalog.import_command import seed as seed_demo
    from origin.catalog.import_report import summary
    from origin.shop import open_shop

    async with open_shop(OriginSettings.from_env(os.environ), statement_timeout_s=0) as shop:
        outcome = await seed_demo(shop.database, products=products, seed=seed)
    print("the shop has a catalog already: nothing was changed" if outcome is None else summary(outcome)[0])
    return 0


def _password(file: Path) -> str:
    return (sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")).rstrip("\n")


async def _staff_add(email: str, role: str, password: str) -> int:
    from origin.accounts.service import add_staff
    from origin.shop import open_shop

    async with open_shop(OriginSettings.from_env(os.environ)) as shop:
        await add_staff(shop, email, role, password)
    return 0


if __name__ == "__main__":
    sys.exit(main())
