"""The catalog: products, variants, the category tree.

Revision ID: 0002_catalog
Revises: 0001_events
"""

from alembic import op

revision = "0002_catalog"
down_revision = "0001_events"
branch_labels = None
depends_on = None

_PUBLIC = ("product", "variant", "category", "product_category")

_TABLES = (
    "CREATE SCHEMA catalog",
    """
    CREATE TABLE catalog.product (
        id uuid PRIMARY KEY,
        external_id varchar(255) NOT NULL UNIQUE,
        sku varchar(64) NOT NULL UNIQUE,
        slug varchar(160) NOT NULL UNIQUE,
        name varchar(255) NOT NULL,
        description text NOT NULL DEFAULT '',
        attributes jsonb NOT NULL DEFAULT '{}',
        options jsonb NOT NULL DEFAULT '[]',
        popularity integer NOT NULL DEFAULT 0 CONSTRAINT product_popularity CHECK (popularity >= 0),
        status varchar(16) NOT NULL DEFAULT 'listed'
            CONSTRAINT product_status CHECK (status IN ('listed', 'taken_down')),
        version integer NOT NULL DEFAULT 1,
        digest bytea NOT NULL,
        listed_at timestamptz NOT NULL DEFAULT now(),
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX product_by_popularity ON catalog.product (status, popularity DESC, sku)",
    """
    CREATE TABLE catalog.variant (
        sku varchar(64) PRIMARY KEY,
        product_id uuid NOT NULL REFERENCES catalog.product ON DELETE CASCADE,
        options jsonb NOT NULL DEFAULT '{}',
        position integer NOT NULL
    )
    """,
    "CREATE INDEX variant_of_product ON catalog.variant (product_id, position)",
    """
    CREATE TABLE catalog.category (
        id uuid PRIMARY KEY,
        external_id varchar(255) NOT NULL UNIQUE,
        parent_id uuid REFERENCES catalog.category,
        path varchar(500) NOT NULL UNIQUE,
        name varchar(255) NOT NULL,
        level smallint NOT NULL CONSTRAINT category_level CHECK (level >= 1),
        position integer NOT NULL
    )
    """,
    "CREATE INDEX category_children ON catalog.category (parent_id, position)",
    """
    CREATE TABLE catalog.product_category (
        product_id uuid NOT NULL REFERENCES catalog.product ON DELETE CASCADE,
        category_id uuid NOT NULL REFERENCES catalog.category,
        position smallint NOT NULL,
        PRIMARY KEY (product_id, category_id)
    )
    """,
    "CREATE INDEX product_category_members ON catalog.product_category (category_id)",
)


def upgrade() -> None:
    for statement in _TABLES:
        op.execute(statement)
    for table in _PUBLIC:
        # Rule 11: a transaction that changes what pages show, and writes no purge-log row, is refused at commit.
        op.execute(f"SELECT events.watch('catalog.{table}')")
    op.execute("GRANT USAGE ON SCHEMA catalog TO nearshelf")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA catalog TO nearshelf")


def downgrade() -> None:
    op.execute("DROP SCHEMA catalog CASCADE")
