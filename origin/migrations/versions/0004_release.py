"""Which release rendered what edges have stored.

Revision ID: 0004_release
Revises: 0003_pricing_inventory_accounts
"""

from alembic import op

revision = "0004_release"
down_revision = "0003_pricing_inventory_accounts"
branch_labels = None
depends_on = None

_RELEASE = (
    """
    CREATE TABLE events.release (
        one boolean PRIMARY KEY DEFAULT true CONSTRAINT release_has_one_row CHECK (one),
        digest text NOT NULL
    )
    """,
    "COMMENT ON TABLE events.release IS 'The digest of the release that renders: a worker that starts compares it.'",
    # No release has this digest: the first worker takes a position, as nobody knows what rendered before.
    "INSERT INTO events.release (digest) VALUES ('')",
    "SELECT events.watch('events.release')",
    "GRANT SELECT ON events.release TO nearshelf",
    "GRANT UPDATE (digest) ON events.release TO nearshelf",
)


def upgrade() -> None:
    for statement in _RELEASE:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE events.release")
