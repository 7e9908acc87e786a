"""`nearshelf catalog import`: JSON lines into the catalog, every fault named, all of it or nothing.

Two passes. The first reads the files line by line, checks each row by itself and against the rows before it,
and puts good products aside in a temporary file; what it keeps in memory is categories, SKUs and ids. The
second runs inside one unit of work: it checks against the shop as it is, writes in batches, and is rolled
back when anything was wrong (unless `keep_valid`). The rows and their rules: docs/catalog-import.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final, Protocol

import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from cache_policies.markets import Markets, load_markets
from origin.accounts import audit
from origin.catalog import service as catalog
from origin.catalog import tables
from origin.catalog.demo import demo_catalog
from origin.catalog.import_files import Fault, FileSource, Place, RowSource, Source
from origin.catalog.import_purges import Changed
from origin.catalog.import_rows import (
    CATEGORY_FIELDS,
    MAX_INT,
    MAX_LEVEL,
    PRODUCT_FIELDS,
    CategoryRow,
    RowReader,
    kind_of,
    skus_of,
)
from origin.catalog.import_shop import StoredCatalog
from origin.catalog.text import tidy_name
from origin.db import Database, Durability, UnitOfWork
from origin.inventory import service as inventory
from origin.pricing import service as pricing

DEFAULT_QUANTITY: Final = 100
"""Pieces on hand of a product whose source does not say."""
_BATCH: Final = 1_000
_SPOOL_BYTES: Final = 32 * 1_048_576


@dataclass(slots=True)
class Outcome:
    """What an import did. With faults and without `keep_valid` nothing was written: `committed` is False."""

    products: int = 0
    """Good product rows read."""
    categories: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    faults: int = 0
    warnings: int = 0
    committed: bool = False
    position: str = ""
    """Of the purge-log entry; empty when nothing had changed."""
    seconds: float = 0.0


class Reporter(Protocol):
    """Who is told how an import goes."""

    def fault(self, fault: Fault) -> None: ...

    def warning(self, fault: Fault) -> None: ...

    def read(self, file: str, rows: int, done_bytes: int, total_bytes: int) -> None: ...

    def finished(self, file: str, rows: int) -> None: ...

    def written(self, rows: int, of: int) -> None: ...


@dataclass(slots=True)
class _Read:
    """What the first pass found out."""

    categories: dict[str, CategoryRow] = field(default_factory=dict)
    product_ids: dict[str, Place] = field(default_factory=dict)
    skus: dict[str, Place] = field(default_factory=dict)
    category_uses: dict[str, tuple[Place, str]] = field(default_factory=dict)
    """The first use of each category id by a product, and the field that holds it."""
    unknown_fields: Counter[str] = field(default_factory=Counter)


class _Rejected(Exception):
    """Rolls the unit of work back: something was wrong and nothing is to be kept."""


class _NothingChanged(Exception):
    """Rolls the unit of work back: the shop already is what the files say."""


class Importer:
    """One import. `keep_valid`: write what is good although something is not; bad rows go to `rejects`."""

    def __init__(
        self,
        database: Database,
        markets: Markets,
        report: Reporter,
        *,
        actor: str,
        keep_valid: bool = False,
        rejects: IO[bytes] | None = None,
    ) -> None:
        self._database = database
        self._markets = markets
        self._report = report
        self._actor = actor
        self._keep_valid = keep_valid
        self._rejects = rejects
        self._read = _Read()
        self._shop = StoredCatalog.empty()
        self._lacking: Mapping[str, list[str]] = {}
        self._changed = Changed()
        self.outcome = Outcome()

    async def run(self, sources: Sequence[Source]) -> Outcome:
        """Imports `sources` as one. Database errors are the caller's; what is wrong with rows is reported."""
        started = time.monotonic()
        await self._look_at_the_shop()
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as spool:
            for source in sources:
                self._read_source(source, spool)
            self._check_cycles()
            self._check_parents()
            self._make_missing()
            for name, count in sorted(self._read.unknown_fields.items()):
                text = f"not a field of docs/catalog-import.md, ignored in {_count(count, 'row')}"
                self._warn(Place(sources[0].name, 1), name, text)
            self.outcome.categories = len(self._read.categories)
            if not self.outcome.faults or self._keep_valid:
                with contextlib.suppress(_Rejected, _NothingChanged):
                    async with self._database.unit_of_work(
                        actor=self._actor, cause="catalog import", durability=Durability.LOCAL
                    ) as work:
                        await self._write(work, [Path(source.name).name for source in sources], spool)
                    self.outcome.position = str(work.position)
                self.outcome.committed = not self.outcome.faults or self._keep_valid
        self.outcome.seconds = time.monotonic() - started
        return self.outcome

    async def _look_at_the_shop(self) -> None:
        """Reads what rows are checked against, in a unit of work that is rolled back: nobody is kept waiting meanwhile.

        The second pass looks again, under a lock.
        """
        with contextlib.suppress(_NothingChanged):
            async with self._database.unit_of_work(actor=self._actor, cause="catalog import") as work:
                await pricing.ensure_rates(work.connection, self._markets, self._actor)
                self._shop = await StoredCatalog.load(work.connection)
                self._lacking = await self._lacking_rates(work.connection)
                raise _NothingChanged

    # First pass: rows by themselves, and against the rows before them.

    def _read_source(self, source: Source, spool: IO[bytes]) -> None:
        rows = 0
        for number, line, why in source.lines():
            place = Place(source.name, number)
            if line is None:
                self._fault(place, "", why)
                self.outcome.rejected += 1
                continue
            rows += 1
            if rows % 250 == 0:
                self._report.read(source.name, rows, source.done_bytes(), source.total_bytes)
            self._read_row(place, line.rstrip(b"\r\n"), spool)
        self._report.finished(source.name, rows)

    def _read_row(self, place: Place, line: bytes, spool: IO[bytes]) -> None:
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as exc:
            self._reject(line, [Fault(place, "", f"not JSON: {exc.msg} at column {exc.colno}")])
            return
        if not isinstance(value, dict):
            self._reject(line, [Fault(place, "", f"a row is a JSON object, not {kind_of(value)}")])
            return
        if value.keys() & {"sku", "prices", "category_ids"}:
            self._read_product(place, line, value, spool)
        elif value.keys() & {"parent_id", "level"}:
            self._read_category(place, line, value)
        else:
            text = "neither a product (no sku, prices or category_ids) nor a category (no parent_id or level)"
            self._reject(line, [Fault(place, "", text)])

    def _read_category(self, place: Place, line: bytes, value: dict[str, Any]) -> None:
        row = RowReader(place, value)
        category_id = row.text("id", longest=tables.MAX_EXTERNAL_ID)
        name = row.text("name", longest=tables.MAX_NAME, tidy=True)
        parent_id = row.text("parent_id", longest=tables.MAX_EXTERNAL_ID, required=False) or None
        self._read.unknown_fields.update(value.keys() - CATEGORY_FIELDS)
        if category_id and (first := self._read.categories.get(category_id)):
            row.fault("id", f"duplicate category {category_id!r}, first at {first.place}")
        if row.faults:
            self._reject(line, row.faults)
            return
        self._read.categories[category_id] = CategoryRow(category_id, parent_id, name, place, line)

    def _read_product(self, place: Place, line: bytes, value: dict[str, Any], spool: IO[bytes]) -> None:
        row = RowReader(place, value)
        record = row.product()
        skus = skus_of(record)
        own: dict[str, str] = {}
        for name, sku in skus:
            if sku and (first := self._read.skus.get(sku)):
                row.fault(name, f"duplicate SKU {sku!r}, first at {first}")
            elif sku and sku in own:
                row.fault(name, f"duplicate SKU {sku!r}, first in {own[sku]} of the same row")
            own.setdefault(sku, name)
        if record["id"] and (first := self._read.product_ids.get(record["id"])):
            row.fault("id", f"duplicate product {record['id']!r}, first at {first}")
        row.faults += [*self._faults_of_skus(self._shop, place, record), *self._faults_of_rates(place, record)]
        self._read.unknown_fields.update(value.keys() - PRODUCT_FIELDS)
        # A row that is rejected has used its names all the same: its twin is a duplicate, not a replacement.
        for _, sku in skus:
            self._read.skus.setdefault(sku, place)
        self._read.product_ids.setdefault(record["id"], place)
        if row.faults:
            self._reject(line, row.faults)
            return
        for at, category_id in enumerate(record["categories"]):
            self._read.category_uses.setdefault(category_id, (place, f"category_ids[{at}]"))
        self.outcome.products += 1
        spool.write(b"%d %s\n" % (place.line, place.file.encode()))
        spool.write(orjson.dumps(record) + b"\n" + line + b"\n")

    def _check_cycles(self) -> None:
        """Categories that are their own ancestors."""
        state: dict[str, int] = {}
        for start in list(self._read.categories):
            trail: list[str] = []
            at: str | None = start
            while at is not None and at in self._read.categories and not state.get(at):
                state[at] = 1
                trail.append(at)
                at = self._read.categories[at].parent_id
            if at is not None and state.get(at) == 1:
                ring = trail[trail.index(at) :]
                shown = " > ".join(repr(each) for each in [*ring, at])
                for member in ring:
                    category = self._read.categories.pop(member)
                    self._reject(
                        category.raw, [Fault(category.place, "parent_id", f"its parents form a cycle: {shown}")]
                    )
            for each in trail:
                state[each] = 2

    def _check_parents(self) -> None:
        """Categories with a parent that is nowhere, or too many; and those below them, until all is said."""
        known, shop = self._read.categories, self._shop.categories
        while True:
            bad = []
            for row in known.values():
                if row.parent_id and row.parent_id not in known and row.parent_id not in shop:
                    bad.append((row, f"unknown parent {row.parent_id!r}: neither a good row here nor the shop has it"))
                elif (level := self._level_of(row)) > MAX_LEVEL:
                    bad.append((row, f"this is level {level} of the tree, which has at most {MAX_LEVEL}"))
            for row, text in bad:
                del known[row.id]
                self._reject(row.raw, [Fault(row.place, "parent_id", text)])
            if not bad:
                return

    def _level_of(self, row: CategoryRow) -> int:
        level, at = 1, row.parent_id
        while at is not None and level <= MAX_LEVEL:
            described = self._read.categories.get(at)
            stored = self._shop.categories.get(at)
            at = described.parent_id if described is not None else stored.parent if stored is not None else None
            level += 1
        return level

    def _make_missing(self) -> None:
        """Categories that products name and nobody describes are made from their ids, parents included."""
        for category_id, (place, name) in self._read.category_uses.items():
            parts = category_id.split("/")
            if len(parts) > MAX_LEVEL:
                parts = [category_id]
            for length in range(len(parts), 0, -1):
                made_id = "/".join(parts[:length])
                if made_id in self._read.categories or made_id in self._shop.categories:
                    break
                parent = "/".join(parts[: length - 1]) or None
                words = parts[length - 1].replace("-", " ").replace("_", " ").strip() or made_id
                title = tidy_name(words)[: tables.MAX_NAME]
                self._read.categories[made_id] = CategoryRow(made_id, parent, title, place, b"")
                self._warn(place, name, f"no file describes category {made_id!r}, it was made from its id as {title!r}")

    # Second pass: against the shop as it is now, and into it.

    async def _write(self, work: UnitOfWork, names: Sequence[str], spool: IO[bytes]) -> None:
        connection = work.connection
        # One import at a time: two would each take the slugs and paths that the other has not committed yet.
        await connection.execute(select(func.pg_advisory_xact_lock(0x6E656172, 0x696D70)))
        shop = await StoredCatalog.load(connection)
        rates_added = await pricing.ensure_rates(connection, self._markets, self._actor)
        changed_categories = await self._write_categories(connection, shop)
        batch: list[_Prepared] = []
        done = 0
        for place, record, line in _spooled(spool):
            done += 1
            if faults := self._faults_of_skus(shop, place, record):
                # Somebody else's import came in between.
                self.outcome.products -= 1
                self._reject(line, faults)
            else:
                digest = hashlib.sha256(orjson.dumps(record, option=orjson.OPT_SORT_KEYS)).digest()
                known = shop.products.get(record["id"])
                if known is not None and known.digest == digest:
                    self.outcome.unchanged += 1
                else:
                    self.outcome.added += known is None
                    self.outcome.updated += known is not None
                    slug = known.slug if known is not None else shop.new_slug(record)
                    batch.append(_Prepared(record, slug, digest))
            if len(batch) >= _BATCH:
                await self._write_batch(connection, shop, batch)
                batch.clear()
                self._report.written(done, self.outcome.products)
        if batch:
            await self._write_batch(connection, shop, batch)
        self._report.written(done, self.outcome.products)
        if self.outcome.faults and not self._keep_valid:
            raise _Rejected
        if not (self.outcome.added or self.outcome.updated or changed_categories or rates_added):
            raise _NothingChanged
        await audit.write(
            connection,
            actor=self._actor,
            action="catalog.import",
            subject=", ".join(names)[:500],
            after={
                "added": self.outcome.added,
                "updated": self.outcome.updated,
                "unchanged": self.outcome.unchanged,
                "rejected": self.outcome.rejected,
            },
            purge_id=work.purge_id,
        )
        for event in self._changed.events(beside=bool(changed_categories or rates_added)):
            work.record(event)

    async def _lacking_rates(self, connection: AsyncConnection) -> dict[str, list[str]]:
        """By the currency of a base price, the markets' currencies without a rate; one without any is absent."""
        rates = await pricing.currencies_with_rates(connection)
        wanted = {market.currency for market in self._markets.all}
        bases = {base for base, _ in rates} | wanted
        return {base: sorted(to for to in wanted if to != base and (base, to) not in rates) for base in bases}

    def _faults_of_skus(self, shop: StoredCatalog, place: Place, record: Mapping[str, Any]) -> list[Fault]:
        """SKUs that another product of the shop has."""
        return [
            Fault(place, name, f"SKU {sku!r} belongs to product {owner!r}, which is in the shop")
            for name, sku in skus_of(record)
            if (owner := shop.sku_owners.get(sku, record["id"])) != record["id"]
        ]

    def _faults_of_rates(self, place: Place, record: Mapping[str, Any]) -> list[Fault]:
        """Prices that could not be converted for every market."""
        based = [("prices[0].currency", record["prices"])]
        based += [(f"variants[{at}].prices[0].currency", each["prices"]) for at, each in enumerate(record["variants"])]
        faults = []
        for name, prices in based:
            if prices and (missing := self._lacking.get(prices[0][0], ["any market's currency"])):
                text = (
                    f"there is no rate from {prices[0][0]} to {', '.join(missing)}: set one first (nearshelf rate set)"
                )
                faults.append(Fault(place, name, text))
        return faults

    async def _write_categories(self, connection: AsyncConnection, shop: StoredCatalog) -> int:
        changed = shop.merge(self._read.categories.values())
        if not changed:
            return 0
        moved = [category.id for category in changed if category.stored_path not in {None, category.path}]
        if moved:
            # Paths are unique at every moment; a path that one gives up may be another's new one.
            away = update(tables.category).where(tables.category.c.id == func.any(moved))
            await connection.execute(away.values(path=func.concat("~", tables.category.c.external_id)))
        statement = insert(tables.category)
        statement = statement.on_conflict_do_update(
            index_elements=[tables.category.c.id],
            set_={name: statement.excluded[name] for name in ("parent_id", "path", "name", "level", "position")},
        )
        rows = [
            {
                "id": category.id,
                "external_id": category.external_id,
                "parent_id": None if category.parent is None else tables.category_id_of(category.parent),
                "path": category.path,
                "name": category.name,
                "level": category.level,
                "position": category.position,
            }
            for category in sorted(changed, key=lambda each: each.level)
        ]
        await connection.execute(statement, rows)
        return len(rows)

    async def _write_batch(self, connection: AsyncConnection, shop: StoredCatalog, batch: Sequence[_Prepared]) -> None:
        before = await self._skus_so_far(connection, batch)
        paths_before = await catalog.category_paths_of_all(connection, before.values())
        await self._put_batch(connection, shop, batch)
        paths_after = await catalog.category_paths_of_all(connection, [each.record["sku"] for each in batch])
        for each in batch:
            sku = each.record["sku"]
            shown_as = [(sku, paths_after[sku])]
            if (old := before.get(each.record["id"])) is not None:
                shown_as.append((old, paths_before[old]))
            self._changed.add(each.slug, shown_as)

    async def _skus_so_far(self, connection: AsyncConnection, batch: Sequence[_Prepared]) -> dict[str, str]:
        """By id of the file: the SKUs of those products that the shop has."""
        rows = await connection.execute(
            select(tables.product.c.external_id, tables.product.c.sku).where(
                tables.product.c.external_id.in_([each.record["id"] for each in batch])
            )
        )
        return {row.external_id: row.sku for row in rows}

    async def _put_batch(self, connection: AsyncConnection, shop: StoredCatalog, batch: Sequence[_Prepared]) -> None:
        products, variants, members, changed = [], [], [], []
        for each in batch:
            record, product_id = each.record, tables.product_id_of(each.record["id"])
            changed.append(product_id)
            listed = datetime.fromisoformat(record["listed_at"]) if record["listed_at"] else None
            products.append(
                {
                    "id": product_id,
                    "external_id": record["id"],
                    "sku": record["sku"],
                    "slug": each.slug,
                    "name": record["name"],
                    "description": record["description"],
                    "attributes": record["attributes"],
                    "options": record["options"],
                    "popularity": record["popularity"],
                    "digest": each.digest,
                    "listed_at": listed or shop.now,
                }
            )
            variants += [
                {"sku": variant["sku"], "product_id": product_id, "options": variant["options"], "position": at}
                for at, variant in enumerate(record["variants"])
            ]
            members += [
                {"product_id": product_id, "category_id": tables.category_id_of(category_id), "position": at}
                for at, category_id in enumerate(record["categories"])
            ]
        statement = insert(tables.product)
        kept = {"id", "external_id", "slug"}
        statement = statement.on_conflict_do_update(
            index_elements=[tables.product.c.id],
            set_={
                **{name: statement.excluded[name] for name in products[0] if name not in kept},
                "version": tables.product.c.version + 1,
                "updated_at": func.now(),
            },
        )
        await connection.execute(statement, products)
        await connection.execute(delete(tables.variant).where(tables.variant.c.product_id == func.any(changed)))
        members_of = tables.product_category.c.product_id
        await connection.execute(delete(tables.product_category).where(members_of == func.any(changed)))
        if variants:
            await connection.execute(insert(tables.variant), variants)
        await connection.execute(insert(tables.product_category), members)
        await pricing.load_base_prices(connection, (row for each in batch for row in each.base_prices()))
        by_currency = [(market.currency, market.id) for market in self._markets.all]
        await pricing.load_prices(
            connection, (row for each in batch for row in each.market_prices(by_currency)), self._actor
        )
        await inventory.load_stock(connection, (row for each in batch for row in each.stock()))

    # Saying what is wrong.

    def _fault(self, place: Place, name: str, text: str) -> None:
        self.outcome.faults += 1
        self._report.fault(Fault(place, name, text))

    def _warn(self, place: Place, name: str, text: str) -> None:
        self.outcome.warnings += 1
        self._report.warning(Fault(place, name, text))

    def _reject(self, line: bytes, faults: Sequence[Fault]) -> None:
        for fault in faults:
            self._fault(fault.place, fault.field, fault.text)
        self.outcome.rejected += 1
        if self._rejects is not None:
            self._rejects.write(line + b"\n")


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A product on its way into the tables."""

    record: Mapping[str, Any]
    slug: str
    digest: bytes

    def _priced(self) -> Iterator[tuple[str, Sequence[tuple[str, int]]]]:
        """Each SKU with its prices; a variant without prices has the product's."""
        yield self.record["sku"], self.record["prices"]
        for variant in self.record["variants"]:
            yield variant["sku"], variant["prices"] or self.record["prices"]

    def base_prices(self) -> Iterator[tuple[str, str, int]]:
        for sku, prices in self._priced():
            currency, minor_units = prices[0]
            yield sku, currency, minor_units

    def market_prices(self, markets: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str, str, int]]:
        """Prices after the first are the own prices of the markets that sell in their currency."""
        for sku, prices in self._priced():
            for currency, minor_units in prices[1:]:
                for market_currency, market in markets:
                    if market_currency == currency:
                        yield sku, market, currency, minor_units

    def stock(self) -> Iterator[tuple[str, int]]:
        quantities = [variant["quantity"] for variant in self.record["variants"]]
        own = self.record["quantity"]
        if own is None:
            known = [quantity for quantity in quantities if quantity is not None]
            own = sum(known) if known else DEFAULT_QUANTITY
        yield self.record["sku"], min(own, MAX_INT)
        for variant, quantity in zip(self.record["variants"], quantities, strict=True):
            yield variant["sku"], own if quantity is None else quantity


def _spooled(spool: IO[bytes]) -> Iterator[tuple[Place, dict[str, Any], bytes]]:
    spool.seek(0)
    while head := spool.readline():
        line, _, name = head.rstrip(b"\n").partition(b" ")
        yield Place(name.decode(), int(line)), orjson.loads(spool.readline()), spool.readline().rstrip(b"\n")


def _count(number: int, noun: str) -> str:
    many = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else many}"


# The command, and the demo catalog by the same road.


class Plain:
    """Says how an import goes in plain lines on standard error: for pipes, logs and tests."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._written = 0

    def fault(self, fault: Fault) -> None:
        self._write(str(fault))

    def warning(self, fault: Fault) -> None:
        self._write(f"{fault} (warning)")

    def read(self, file: str, rows: int, done_bytes: int, total_bytes: int) -> None: ...

    def finished(self, file: str, rows: int) -> None:
        self._write(f"read {file}: {_count(rows, 'row')}")

    def written(self, rows: int, of: int) -> None:
        if rows != self._written and (rows >= of or rows - self._written >= 10_000):
            self._written = rows
            self._write(f"checked and wrote {rows:,} of {of:,} products")


class Bars:
    """The same with a bar for each step, on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeElapsedColumn(),
            console=console,
        )  # fmt: skip
        self._tasks: dict[str, Any] = {}

    def fault(self, fault: Fault) -> None:
        self._console.print(str(fault), style="red", markup=False, highlight=False, soft_wrap=True)

    def warning(self, fault: Fault) -> None:
        self._console.print(f"{fault} (warning)", style="yellow", markup=False, highlight=False, soft_wrap=True)

    def read(self, file: str, rows: int, done_bytes: int, total_bytes: int) -> None:
        self._show(f"reading {Path(file).name}", done_bytes, total_bytes, _count(rows, "row"))

    def finished(self, file: str, rows: int) -> None:
        self._show(f"reading {Path(file).name}", 1, 1, _count(rows, "row"))

    def written(self, rows: int, of: int) -> None:
        self._show("writing products", rows, of, f"{rows:,} of {of:,}")

    def _show(self, step: str, done: int, of: int, told: str) -> None:
        if step not in self._tasks:
            self._tasks[step] = self.progress.add_task(step, total=max(of, 1), told=told)
        self.progress.update(self._tasks[step], total=max(of, 1), completed=done if of else 1, told=told)


class Silent:
    """Shows no progress. Rows that we made ourselves have no faults: one is a broken promise."""

    def fault(self, fault: Fault) -> None:
        raise AssertionError(f"the demo catalog is at fault: {fault}")

    def warning(self, fault: Fault) -> None:
        raise AssertionError(f"the demo catalog is at fault: {fault}")

    def read(self, file: str, rows: int, done_bytes: int, total_bytes: int) -> None: ...

    def finished(self, file: str, rows: int) -> None: ...

    def written(self, rows: int, of: int) -> None: ...


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


def summary(outcome: Outcome, rejects: Path | None = None) -> list[str]:
    """What to say at the end."""
    faults, rows = _count(outcome.faults, "fault"), _count(outcome.rejected, "row")
    if not outcome.committed:
        return [f"{faults} in {rows}: nothing was changed. Mend them, or import the rest with --keep-valid."]
    good = f"{_count(outcome.products, 'product')} and {_count(outcome.categories, 'category')}"
    done = f"{outcome.added:,} added, {outcome.updated:,} updated, {outcome.unchanged:,} unchanged"
    lines = [f"{good} in {outcome.seconds:.1f} s: {done}."]
    if outcome.faults:
        where = f"they are in {rejects}" if rejects is not None else "name a file with --rejects to keep them"
        lines.append(f"{faults} in {rows} that were not imported; {where}.")
    if outcome.position:
        lines.append(f"Live pages follow from position {outcome.position}.")
    return lines


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
