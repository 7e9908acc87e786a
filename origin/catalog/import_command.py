"""`nearshelf catalog import`, and the demo catalog by the same road."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from rich.console import Console
from sqlalchemy import select

from cache_policies.markets import load_markets
from origin.catalog import tables
from origin.catalog.demo import demo_catalog
from origin.catalog.import_files import Fault, FileSource, Place, RowSource
from origin.catalog.import_report import Bars, Outcome, Plain, Reporter, Silent, summary
from origin.catalog.importer import Importer
from origin.db import Database


def command(files: list[Path], *, keep_valid: bool, rejects: Path | None, dsn: str) -> int:
    """`nearshelf catalog import`. Exit code 0: imported; 2: something was wrong and nothing was changed.

    With `keep_valid` the good rows are imported (exit code 0 as well) and the others go to `rejects`, line by line as
    they were, so that they can be mended and imported by themselves. Raises what the database raises.
    """
    console = Console(stderr=True)
    plain = Plain(lambda line: print(line, file=sys.stderr))
    for file in files if rejects is not None else ():
        with contextlib.suppress(OSError):
            if rejects is not None and rejects.samefile(file):
                plain.fault(Fault(Place(str(rejects), 1), "", "rejected rows cannot be written to a file that is read"))
                return 2
    bars = Bars(console) if console.is_terminal else None
    with contextlib.ExitStack() as stack:
        kept: IO[bytes] | None = None
        if keep_valid and rejects is not None:
            try:
                kept = stack.enter_context(_appearing_whole(rejects))
            except OSError as exc:
                plain.fault(Fault(Place(str(rejects), 1), "", f"rejected rows cannot be written here: {exc.strerror}"))
                return 2
        if bars is not None:
            stack.enter_context(bars.progress)
        outcome = asyncio.run(_import(files, dsn, bars or plain, keep_valid=keep_valid, rejects=kept))
    for line in summary(outcome, rejects if keep_valid else None):
        print(line, file=sys.stderr)
    return 0 if outcome.committed else 2


@contextlib.contextmanager
def _appearing_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that is there once all of it is: until then, and after an exception, `path` is as it was.

    A device or a pipe is written as it is. Raises OSError.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            yield file
        return
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    with partial.open("xb") as file:
        try:
            yield file
            file.close()
            partial.replace(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


async def _import(
    files: Sequence[Path], dsn: str, report: Reporter, *, keep_valid: bool, rejects: IO[bytes] | None
) -> Outcome:
    markets = load_markets()
    database = Database(dsn, markets=markets, statement_timeout_s=0)
    try:
        importer = Importer(database, markets, report, actor="catalog import", keep_valid=keep_valid, rejects=rejects)
        return await importer.run([FileSource(path) for path in files])
    finally:
        await database.close()


async def seed(database: Database, *, products: int = 5_000, seed: int = 1) -> Outcome | None:
    """Loads the demo catalog, if the shop has no product at all; None when it has some."""
    async with database.writes.connect() as connection:
        if await connection.scalar(select(tables.product.c.id).limit(1)) is not None:
            return None
    importer = Importer(database, database.markets, Silent(), actor="demo catalog")
    return await importer.run([RowSource(f"demo catalog, seed {seed}", demo_catalog(products, seed))])
