"""Reading the catalog. Prices and stock are other modules'; nothing here joins across schemas."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Row, Select, and_, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from cache_policies.positions import Position
from origin.accounts import audit
from origin.catalog.model import (
    AlreadySo,
    Card,
    Category,
    FoundProduct,
    Product,
    Sort,
    Tree,
    UnknownProduct,
    Variant,
    first_colour,
    with_ancestors,
)
from origin.catalog.tables import LISTED, TAKEN_DOWN, category, product, product_category, variant
from origin.events.messages import ProductListed, ProductTakenDown

if TYPE_CHECKING:
    from origin.shop import Shop

_MAX_FOUND: Final = 50

_first_path = (
    select(category.c.path)
    .join(product_category, product_category.c.category_id == category.c.id)
    .where(product_category.c.product_id == product.c.id)
    .order_by(product_category.c.position)
    .limit(1)
    .scalar_subquery()
    .label("category_path")
)
_CARD: Final = (
    product.c.id, product.c.sku, product.c.slug, product.c.name, product.c.options, product.c.attributes, _first_path,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ListingSet:
    """A committed takedown or listing."""

    position: Position
    purge_id: str
    sku: str
    listed: bool


async def tree(connection: AsyncConnection) -> Tree:
    """The category tree."""
    rows = await connection.execute(
        select(category.c.id, category.c.name, category.c.path, category.c.level, category.c.position)
    )
    return Tree([Category(row.id, row.name, row.path, row.level, row.position) for row in rows])


async def page_of(
    connection: AsyncConnection, categories: Sequence[uuid.UUID], sort: Sort, offset: int, limit: int
) -> tuple[int, list[Card]]:
    """How many listed products any of `categories` has, and some of them in the order of `sort`, not one by price.

    Past the last there is nothing to count: 0 and no products.
    """
    assert not sort.by_price, "the catalog knows no prices"
    order: dict[Sort, Sequence[Any]] = {
        Sort.POPULAR: (product.c.popularity.desc(), product.c.sku),
        Sort.NAME: (func.lower(product.c.name), product.c.sku),
        Sort.NEWEST: (product.c.listed_at.desc(), product.c.sku),
    }
    counted = select(*_CARD, func.count().over().label("of")).where(*_members(categories)).order_by(*order[sort])
    rows = (await connection.execute(counted.offset(offset).limit(limit))).all()
    return (rows[0].of if rows else 0), [_card_of(row) for row in rows]


async def skus_in(connection: AsyncConnection, categories: Sequence[uuid.UUID]) -> list[str]:
    """The SKUs of all listed products in any of `categories`, the most popular first."""
    rows = await connection.execute(
        select(product.c.sku).where(*_members(categories)).order_by(product.c.popularity.desc(), product.c.sku)
    )
    return list(rows.scalars())


async def cards(connection: AsyncConnection, skus: Sequence[str]) -> list[Card]:
    """The listed products among `skus`, in their order."""
    found = await _cards(connection, select(*_CARD).where(product.c.sku.in_(skus), product.c.status == LISTED))
    by_sku = {card.sku: card for card in found}
    return [by_sku[sku] for sku in skus if sku in by_sku]


async def most_popular(connection: AsyncConnection, limit: int) -> list[Card]:
    """The listed products that are asked for most."""
    return await _cards(
        connection,
        select(*_CARD)
        .where(product.c.status == LISTED)
        .order_by(product.c.popularity.desc(), product.c.sku)
        .limit(limit),
    )


async def best_of_departments(connection: AsyncConnection) -> dict[str, Card]:
    """The most popular listed product of each department, by the department's path."""
    department = func.split_part(category.c.path, "/", 1)
    best = (
        select(department.label("department"), product.c.sku)
        .join(product_category, product_category.c.product_id == product.c.id)
        .join(category, category.c.id == product_category.c.category_id)
        .where(product.c.status == LISTED)
        .order_by(department, product.c.popularity.desc(), product.c.sku)
        .ext(distinct_on(department))
    )
    skus = {row.department: row.sku for row in await connection.execute(best)}
    found = {card.sku: card for card in await cards(connection, list(skus.values()))}
    return {path: found[sku] for path, sku in skus.items()}


async def all_products(connection: AsyncConnection, offset: int, limit: int) -> list[Card]:
    """Listed products by SKU: the order of the JSON list."""
    return await _cards(
        connection, select(*_CARD).where(product.c.status == LISTED).order_by(product.c.sku).offset(offset).limit(limit)
    )


async def count_all(connection: AsyncConnection) -> int:
    """How many products are listed."""
    return int(
        await connection.scalar(select(func.count()).select_from(product).where(product.c.status == LISTED)) or 0
    )


async def related_to(connection: AsyncConnection, of: Product, limit: int) -> list[Card]:
    """Popular products of the same categories, the product itself left out."""
    if not of.category_paths:
        return []
    same = select(category.c.id).where(category.c.path.in_(of.category_paths))
    members = select(product_category.c.product_id).where(product_category.c.category_id.in_(same))
    return await _cards(
        connection,
        select(*_CARD)
        .where(product.c.status == LISTED, product.c.id.in_(members), product.c.id != of.id)
        .order_by(product.c.popularity.desc(), product.c.sku)
        .limit(limit),
    )


async def product_by_slug(connection: AsyncConnection, slug: str) -> Product | None:
    """The listed product at this address."""
    return await _product(connection, select(product).where(product.c.slug == slug, product.c.status == LISTED))


async def product_by_sku(connection: AsyncConnection, sku: str) -> Product | None:
    """The listed product with this SKU; a variant's SKU is not one."""
    return await _product(connection, select(product).where(product.c.sku == sku, product.c.status == LISTED))


async def category_paths_of(connection: AsyncConnection, sku: str) -> tuple[str, ...]:
    """The paths of the categories that the product (or the product of the variant) `sku` is in, with all ancestors.

    Empty when there is no such SKU. Taken-down products count: a change of theirs must purge as well.
    """
    rows = await connection.execute(
        select(category.c.path)
        .join(product_category, product_category.c.category_id == category.c.id)
        .join(product, product.c.id == product_category.c.product_id)
        .where(or_(product.c.sku == sku, product.c.id.in_(select(variant.c.product_id).where(variant.c.sku == sku))))
        .order_by(product_category.c.position, category.c.path)
    )
    return with_ancestors(list(rows.scalars()))


async def category_paths_of_all(connection: AsyncConnection, skus: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The same for each of `skus`, which are those of products."""
    rows = await connection.execute(
        select(product.c.sku, category.c.path)
        .join(product_category, product_category.c.product_id == product.c.id)
        .join(category, category.c.id == product_category.c.category_id)
        .where(product.c.sku.in_(skus))
        .order_by(product.c.sku, product_category.c.position, category.c.path)
    )
    paths: dict[str, list[str]] = {sku: [] for sku in skus}
    for row in rows:
        paths[row.sku].append(row.path)
    return {sku: with_ancestors(of_one) for sku, of_one in paths.items()}


async def products_of(connection: AsyncConnection, skus: Collection[str]) -> dict[str, FoundProduct]:
    """By SKU: the product that has it, or one of whose variants has it; taken down ones too, without unknown ones."""
    own = select(product.c.sku.label("asked"), product.c.sku, product.c.name, product.c.slug)
    of_variant = select(variant.c.sku.label("asked"), product.c.sku, product.c.name, product.c.slug).join(
        product, product.c.id == variant.c.product_id
    )
    rows = await connection.execute(
        own.where(product.c.sku.in_(skus)).union_all(of_variant.where(variant.c.sku.in_(skus)))
    )
    return {row.asked: FoundProduct(row.sku, row.name, row.slug) for row in rows}


async def product_of(connection: AsyncConnection, sku: str) -> FoundProduct | None:
    """The product whose SKU, or one of whose variants' SKUs, is `sku`; taken down ones too."""
    row = (
        await connection.execute(
            select(product.c.sku, product.c.name, product.c.slug).where(
                or_(product.c.sku == sku, product.c.id.in_(select(variant.c.product_id).where(variant.c.sku == sku)))
            )
        )
    ).one_or_none()
    return None if row is None else FoundProduct(row.sku, row.name, row.slug)


async def keep_in_place(connection: AsyncConnection, *skus: str, changing: bool = False) -> None:
    """Until the transaction ends, an import waits that would move the product of one of `skus` (or of the variant).

    That goes for the categories that it is in as well. An import that has moved them already is waited for.
    Call it before `category_paths_of` where the paths decide what is purged. Categories come first, as in an import.
    `changing`: the products' own rows will be written.
    """
    wanted = select(product.c.id).where(
        or_(product.c.sku.in_(skus), product.c.id.in_(select(variant.c.product_id).where(variant.c.sku.in_(skus))))
    )
    members = select(product_category.c.category_id).where(product_category.c.product_id.in_(wanted))
    await connection.execute(
        select(category.c.id).where(category.c.id.in_(members)).order_by(category.c.id).with_for_update(read=True)
    )
    await connection.execute(wanted.order_by(product.c.id).with_for_update(read=not changing))


async def set_listed(shop: Shop, actor: str, sku: str, listed: bool, reason: str = "") -> ListingSet:
    """Takes a product out of the shop, or back in; its data stays, its addresses are 404 while it is out.

    Raises UnknownProduct for what is not the SKU of a product, AlreadySo when there is nothing to do.
    """
    status = LISTED if listed else TAKEN_DOWN
    cause = "product listed" if listed else "product taken down"
    async with shop.database.unit_of_work(actor=actor, cause=cause) as work:
        await keep_in_place(work.connection, sku, changing=True)
        row = (
            await work.connection.execute(
                select(product.c.id, product.c.slug, product.c.status).where(product.c.sku == sku)
            )
        ).one_or_none()
        if row is None:
            raise UnknownProduct(sku)
        if row.status == status:
            raise AlreadySo(sku, listed)
        await work.connection.execute(update(product).where(product.c.id == row.id).values(status=status))
        paths = await category_paths_of(work.connection, sku)
        work.record(ProductListed(sku, row.slug, paths) if listed else ProductTakenDown(sku, row.slug, paths))
        await audit.write(
            work.connection,
            actor=actor,
            action="product.list" if listed else "product.takedown",
            subject=sku,
            before={"status": row.status},
            after={"status": status},
            reason=reason,
            purge_id=work.purge_id,
        )
    assert work.position is not None
    return ListingSet(work.position, work.purge_id, sku, listed)


async def find_products(connection: AsyncConnection, text: str, limit: int) -> list[FoundProduct]:
    """Products for somebody who typed `text`: a SKU or its beginning, a variant's SKU, or words of the name.

    The exact SKU comes first, then SKUs that begin so, then names that hold every word; the popular before
    the others. At most 50, whatever `limit` says; no text, no products.
    """
    words = text.split()
    if not words:
        return []
    typed = " ".join(words)
    starts = product.c.sku.istartswith(typed, autoescape=True)
    of_variant = product.c.id.in_(
        select(variant.c.product_id).where(variant.c.sku.istartswith(typed, autoescape=True)).limit(_MAX_FOUND)
    )
    named = and_(*(product.c.name.icontains(word, autoescape=True) for word in words[:8]))
    exact = func.lower(product.c.sku) == literal(typed.lower())
    rows = await connection.execute(
        select(product.c.sku, product.c.name, product.c.slug)
        .where(or_(starts, of_variant, named))
        .order_by(exact.desc(), starts.desc(), of_variant.desc(), product.c.popularity.desc(), product.c.sku)
        .limit(max(0, min(limit, _MAX_FOUND)))
    )
    return [FoundProduct(row.sku, row.name, row.slug) for row in rows]


def _members(categories: Sequence[uuid.UUID]) -> tuple[Any, ...]:
    members = select(product_category.c.product_id).where(product_category.c.category_id == func.any(list(categories)))
    return product.c.status == LISTED, product.c.id.in_(members)


async def _cards(connection: AsyncConnection, statement: Select[Any]) -> list[Card]:
    return [_card_of(row) for row in await connection.execute(statement)]


def _card_of(row: Row[Any]) -> Card:
    return Card(row.id, row.sku, row.slug, row.name, row.category_path or "", first_colour(row.options, row.attributes))


async def _product(connection: AsyncConnection, statement: Select[Any]) -> Product | None:
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        return None
    paths = await connection.execute(
        select(category.c.path)
        .join(product_category, product_category.c.category_id == category.c.id)
        .where(product_category.c.product_id == row.id)
        .order_by(product_category.c.position, category.c.path)
    )
    variants = await connection.execute(
        select(variant.c.sku, variant.c.options).where(variant.c.product_id == row.id).order_by(variant.c.position)
    )
    return Product(
        id=row.id,
        external_id=row.external_id,
        sku=row.sku,
        slug=row.slug,
        name=row.name,
        description=row.description,
        attributes=row.attributes,
        options=row.options,
        popularity=row.popularity,
        version=row.version,
        listed_at=row.listed_at,
        category_paths=list(paths.scalars()),
        variants=[Variant(each.sku, each.options) for each in variants],
    )
