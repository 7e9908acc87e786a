"""A release that renders otherwise takes a position with `*` (freshness rule 1).

Prices and rates are rows, but templates, the code that fills them and the markets are files. A worker that starts
compares a digest of those files with the one in `events.release`; where they differ, what edges have stored is what
another release rendered, and everything is purged.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from asyncpg import InterfaceError, PostgresError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

import cache_policies
from cache_policies.positions import Position
from origin.db import Database
from origin.events.messages import CatalogReplaced

ORIGIN = Path(__file__).parent
CONTRACTS = Path(cache_policies.__file__).parent
"""The modules that origin and edges share: tags, markets, positions."""
LIBRARIES = ("babel", "iso4217", "jinja2")
"""They write what a page shows: amounts, with how many digits, and the page."""
RETRY_S = 1.0
"""Pause between attempts while the primary does not answer."""

_log = logging.getLogger(__name__)

_NOTED = text("SELECT digest FROM events.release")
_LOCKED = text("SELECT digest FROM events.release FOR UPDATE")
_NOTE = text("UPDATE events.release SET digest = :digest")


def release_digest(policies: Path, origin: Path = ORIGIN, contracts: Path = CONTRACTS) -> str:
    """The SHA-256, in hexadecimal, of everything that decides how a row is rendered. Reads about a hundred files.

    `policies`: the folder of markets.yaml. Migrations are left out: they render nothing. Raises OSError.
    """
    digest = hashlib.sha256()
    for library in LIBRARIES:
        digest.update(f"{library} {version(library)}\n".encode())
    for root, file in _files(policies, origin, contracts):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(root).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _files(policies: Path, origin: Path, contracts: Path) -> Iterator[tuple[Path, Path]]:
    migrations = origin / "migrations"
    for file in sorted(origin.rglob("*.py")):
        if not file.is_relative_to(migrations):
            yield origin, file
    for folder in ("templates", "static"):
        for file in sorted((origin / folder).rglob("*")):
            if file.is_file():
                yield origin, file
    for file in sorted(contracts.glob("*.py")):
        yield contracts, file
    yield policies, policies / "markets.yaml"


async def note_release(database: Database, digest: str) -> Position | None:
    """Make `digest` the release that is noted; the position with `*` that this took, None when it was noted already.

    Of several workers that start together one takes the position: they compare once more under the row's lock.
    """
    async with database.log.connect() as connection:
        if (await connection.execute(_NOTED)).scalar_one() == digest:
            return None
    async with database.unit_of_work(actor="origin worker", cause=f"release {digest[:12]} renders otherwise") as work:
        if (await work.connection.execute(_LOCKED)).scalar_one() == digest:
            return None
        await work.connection.execute(_NOTE, {"digest": digest})
        work.record(CatalogReplaced())
    _log.info("release %s renders otherwise than the one before: %s purges everything", digest[:12], work.position)
    return work.position


@asynccontextmanager
async def noted_release(database: Database, digest: str) -> AsyncIterator[None]:
    """Note the release of a worker that starts.

    A primary that does not answer keeps no worker from starting, as replicas can serve meanwhile: what edges have
    stored stays in the old form until it answers again, and then everything is purged.
    """
    retry: asyncio.Task[None] | None = None
    if not await _attempt(database, digest):
        retry = asyncio.create_task(_until_noted(database, digest), name="release")
    try:
        yield
    finally:
        if retry is not None:
            retry.cancel()
            await asyncio.gather(retry, return_exceptions=True)


async def _until_noted(database: Database, digest: str) -> None:
    while True:
        await asyncio.sleep(RETRY_S)
        if await _attempt(database, digest):
            return


async def _attempt(database: Database, digest: str) -> bool:
    try:
        await note_release(database, digest)
    except (SQLAlchemyError, PostgresError, InterfaceError, OSError) as exc:
        _log.warning("release %s could not be noted, trying again in %g s: %s", digest[:12], RETRY_S, exc)
        return False
    return True
