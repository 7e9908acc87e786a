"""What is in the shop already, as far as an import must know it: who has which SKU and address, and the tree."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import tables
from origin.catalog.import_rows import CategoryRow
from origin.catalog.text import slugify


@dataclass(slots=True)
class StoredCategory:
    external_id: str
    id: uuid.UUID
    parent: str | None
    path: str
    name: str
    level: int
    position: int
    stored_path: str | None
    """As the database has it; None: it is new."""


@dataclass(frozen=True, slots=True)
class StoredProduct:
    slug: str
    digest: bytes


@dataclass(slots=True)
class StoredCatalog:
    """What is in the shop already, as far as an import must know it."""

    products: dict[str, StoredProduct]
    sku_owners: dict[str, str]
    slugs: set[str]
    categories: dict[str, StoredCategory]
    now: datetime

    @classmethod
    def empty(cls) -> StoredCatalog:
        return cls({}, {}, set(), {}, datetime.now(UTC))

    @classmethod
    async def load(cls, connection: AsyncConnection) -> StoredCatalog:
        products, owners, slugs = {}, {}, set()
        columns = tables.product.c
        for row in await connection.execute(select(columns.external_id, columns.sku, columns.slug, columns.digest)):
            products[row.external_id] = StoredProduct(row.slug, row.digest)
            owners[row.sku] = row.external_id
            slugs.add(row.slug)
        owned = select(tables.variant.c.sku, columns.external_id).join(
            tables.product, columns.id == tables.variant.c.product_id
        )
        owners |= {row.sku: row.external_id for row in await connection.execute(owned)}
        rows = list(await connection.execute(select(tables.category)))
        external = {row.id: row.external_id for row in rows}
        categories = {
            row.external_id: StoredCategory(
                row.external_id,
                row.id,
                external.get(row.parent_id),
                row.path,
                row.name,
                row.level,
                row.position,
                row.path,
            )
            for row in rows
        }
        now = await connection.scalar(select(func.now()))
        assert isinstance(now, datetime)
        return cls(products, owners, slugs, categories, now)

    def new_slug(self, record: Mapping[str, Any]) -> str:
        """An address that no product has: of the name, else with the SKU, else with a digest of the id."""
        base = slugify(record["name"]) or "product"
        digest = hashlib.sha256(record["id"].encode()).hexdigest()
        for slug in (base, f"{base}-{slugify(record['sku'], 30)}".rstrip("-"), f"{base}-{digest[:12]}"):
            if slug not in self.slugs:
                self.slugs.add(slug)
                return slug
        raise AssertionError("two ids share a digest")

    def merge(self, rows: Iterable[CategoryRow]) -> list[StoredCategory]:
        """Takes the files' categories in and works out every path anew; gives what is new or differs from before.

        A category keeps the last part of its address for life; a new one gets it from its name, or from its id
        where a sibling has it. It moves, with all below it, when its parent changes.
        """
        before = {
            key: (each.parent, each.path, each.name, each.level, each.position) for key, each in self.categories.items()
        }
        position = max((each.position for each in self.categories.values()), default=-1) + 1
        for row in rows:
            known = self.categories.get(row.id)
            if known is None:
                self.categories[row.id] = StoredCategory(
                    row.id, tables.category_id_of(row.id), row.parent_id, "", row.name, 0, position, None
                )
                position += 1
            elif row.raw:
                known.parent, known.name = row.parent_id, row.name
        self._break_cycles(before)
        self._settle_paths()
        return [
            each
            for key, each in self.categories.items()
            if before.get(key) != (each.parent, each.path, each.name, each.level, each.position)
        ]

    def _break_cycles(self, before: Mapping[str, tuple[Any, ...]]) -> None:
        """The files have no cycle, but together with what the shop has they may: then the shop's parent stays."""
        for key, each in self.categories.items():
            seen, at = {key}, each.parent
            while at is not None and at not in seen:
                seen.add(at)
                at = self.categories[at].parent
            if at == key and key in before:
                each.parent = before[key][0]

    def _settle_paths(self) -> None:
        children: dict[str | None, list[StoredCategory]] = {}
        for each in self.categories.values():
            children.setdefault(each.parent, []).append(each)
        taken: set[str] = set()
        level, parents = 1, [("", None)]
        while parents:
            following: list[tuple[str, Any]] = []
            for parent_path, parent in parents:
                # Those that have an address choose first: a newcomer never takes it away.
                for each in sorted(children.get(parent, ()), key=lambda one: (one.stored_path is None, one.position)):
                    prefix = f"{parent_path}/" if parent_path else ""
                    own = each.stored_path.rpartition("/")[2] if each.stored_path else slugify(each.name, 50)
                    whole_id = slugify(each.external_id, 60)
                    digest = hashlib.sha256(each.external_id.encode()).hexdigest()[:8]
                    each.path = next(
                        path
                        for part in (own, whole_id, f"{own}-{digest}".strip("-"))
                        if part and (path := f"{prefix}{part}") not in taken
                    )
                    each.level = level
                    taken.add(each.path)
                    following.append((each.path, each.external_id))
            parents, level = following, level + 1
