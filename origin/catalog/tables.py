"""The tables of schema `catalog`; nobody else touches them.

Every one is public: a transaction that changes a row without a purge-log row is refused at commit.
"""

from __future__ import annotations

import uuid
from typing import Final

from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

metadata = MetaData(schema="catalog")

MAX_SKU: Final = 64
MAX_NAME: Final = 255
MAX_EXTERNAL_ID: Final = 255
MAX_SLUG: Final = 160
MAX_PATH: Final = 500

LISTED: Final = "listed"
TAKEN_DOWN: Final = "taken_down"

product = Table(
    "product",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("external_id", String(MAX_EXTERNAL_ID), nullable=False, unique=True),
    Column("sku", String(MAX_SKU), nullable=False, unique=True),
    Column("slug", String(MAX_SLUG), nullable=False, unique=True),
    Column("name", String(MAX_NAME), nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("attributes", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("options", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("popularity", Integer, nullable=False, server_default="0"),
    Column("status", String(16), nullable=False, server_default=LISTED),
    Column("version", Integer, nullable=False, server_default="1"),
    Column("digest", LargeBinary, nullable=False),
    Column("listed_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    CheckConstraint("status IN ('listed', 'taken_down')", name="product_status"),
    CheckConstraint("popularity >= 0", name="product_popularity"),
)
"""One thing that is sold. `digest` is that of the imported row, so that a re-import knows what did not change.

Its price lives in `pricing`, its stock in `inventory` (origin/decisions/0001-product-row.md).
"""
Index("product_by_popularity", product.c.status, product.c.popularity.desc(), product.c.sku)

variant = Table(
    "variant",
    metadata,
    Column("sku", String(MAX_SKU), primary_key=True),
    Column("product_id", UUID(as_uuid=True), ForeignKey("catalog.product.id", ondelete="CASCADE"), nullable=False),
    Column("options", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("position", Integer, nullable=False),
)
"""One size or colour of a product, with a SKU of its own."""
Index("variant_of_product", variant.c.product_id, variant.c.position)

category = Table(
    "category",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("external_id", String(MAX_EXTERNAL_ID), nullable=False, unique=True),
    Column("parent_id", UUID(as_uuid=True), ForeignKey("catalog.category.id")),
    Column("path", String(MAX_PATH), nullable=False, unique=True),
    Column("name", String(MAX_NAME), nullable=False),
    Column("level", SmallInteger, nullable=False),
    Column("position", Integer, nullable=False),
    CheckConstraint("level >= 1", name="category_level"),
)
"""`path` is the address, such as `kitchen/knives-and-boards`; it starts with the parent's."""
Index("category_children", category.c.parent_id, category.c.position)

product_category = Table(
    "product_category",
    metadata,
    Column("product_id", UUID(as_uuid=True), ForeignKey("catalog.product.id", ondelete="CASCADE"), primary_key=True),
    Column("category_id", UUID(as_uuid=True), ForeignKey("catalog.category.id"), primary_key=True),
    Column("position", SmallInteger, nullable=False),
)
"""The category at position 0 is the one that the product's breadcrumb shows."""
Index("product_category_members", product_category.c.category_id)

_IDS: Final = uuid.UUID("6f1a3c52-8f7e-5f0e-9d0b-2a4c1c9f7b31")


def product_id_of(external_id: str) -> uuid.UUID:
    """The id of the product that its source calls `external_id`: computed, so that an upsert asks nothing first."""
    return uuid.uuid5(_IDS, f"product:{external_id}")


def category_id_of(external_id: str) -> uuid.UUID:
    """The id of the category that its source calls `external_id`."""
    return uuid.uuid5(_IDS, f"category:{external_id}")
