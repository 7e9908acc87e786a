"""JSON lines into the catalog, every fault named, all of it or nothing.

Two passes. The first reads the files line by line, checks each row by itself and against the rows before it,
and puts good products aside in a temporary file; what it keeps in memory is categories, SKUs and ids. The
second runs inside one unit of work: it checks against the shop as it is, writes in batches, and is rolled
back when anything was wrong (unless `keep_valid`). The rows and their rules: docs/catalog-import.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final

import orjson
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from cache_policies.markets import Markets
from origin.accounts import audit
from origin.catalog import service as catalog
from origin.catalog import tables
from origin.catalog.import_files import Fault, Place, Source
from origin.catalog.import_purges import Changed
from origin.catalog.import_report import Outcome, Reporter, counted
from origin.catalog.import_rows import (
    CATEGORY_FIELDS,
    MAX_LEVEL,
    PRODUCT_FIELDS,
    CategoryRow,
    Prepared,
    RowReader,
    kind_of,
    skus_of,
)
from origin.catalog.import_shop import StoredCatalog
from origin.catalog.text import tidy_name
from origin.db import Database, Durability, UnitOfWork
from origin.inventory import service as inventory
from origin.pricing import service as pricing

_BATCH: Final = 1_000
_SPOOL_BYTES: Final = 32 * 1_048_576


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
                text = f"not a field of docs/catalog-import.md, ignored in {counted(count, 'row')}"
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
        batch: list[Prepared] = []
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
                    batch.append(Prepared(record, slug, digest))
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

    async def _write_batch(self, connection: AsyncConnection, shop: StoredCatalog, batch: Sequence[Prepared]) -> None:
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

    async def _skus_so_far(self, connection: AsyncConnection, batch: Sequence[Prepared]) -> dict[str, str]:
        """By id of the file: the SKUs of those products that the shop has."""
        rows = await connection.execute(
            select(tables.product.c.external_id, tables.product.c.sku).where(
                tables.product.c.external_id.in_([each.record["id"] for each in batch])
            )
        )
        return {row.external_id: row.sku for row in rows}

    async def _put_batch(self, connection: AsyncConnection, shop: StoredCatalog, batch: Sequence[Prepared]) -> None:
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


def _spooled(spool: IO[bytes]) -> Iterator[tuple[Place, dict[str, Any], bytes]]:
    spool.seek(0)
    while head := spool.readline():
        line, _, name = head.rstrip(b"\n").partition(b" ")
        yield Place(name.decode(), int(line)), orjson.loads(spool.readline()), spool.readline().rstrip(b"\n")
