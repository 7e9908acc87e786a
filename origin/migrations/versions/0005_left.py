"""A worker that left stays known for a while, so that a late question of its does not register it again.

Revision ID: 0005_left
Revises: 0004_release
"""

from alembic import op

revision = "0005_left"
down_revision = "0004_release"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE events.contact ADD COLUMN left_at timestamptz")
    op.execute("COMMENT ON COLUMN events.contact.left_at IS 'Set: the worker left, and nobody waits for it.'")


def downgrade() -> None:
    op.execute("DELETE FROM events.contact WHERE left_at IS NOT NULL")
    op.execute("ALTER TABLE events.contact DROP COLUMN left_at")
