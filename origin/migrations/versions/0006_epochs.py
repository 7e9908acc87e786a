"""A promoted or restored primary begins an epoch, and says in the purge log what it inherited.

Revision ID: 0006_epochs
Revises: 0005_left
"""

from alembic import op

revision = "0006_epochs"
down_revision = "0005_left"
branch_labels = None
depends_on = None

_EPOCHS = (
    "ALTER TABLE events.purge_log ADD COLUMN fork_cv bigint",
    """
    COMMENT ON COLUMN events.purge_log.fork_cv IS
      'Of kind epoch: the cv that it inherited from the history before it. What that had beyond it is lost.'
    """,
    """
    ALTER TABLE events.purge_log
      DROP CONSTRAINT purge_log_kind_check,
      DROP CONSTRAINT purge_log_tags_check,
      ADD CONSTRAINT purge_log_kind_check CHECK (kind IN ('hard', 'soft', 'epoch')),
      ADD CONSTRAINT purge_log_tags_check CHECK (
        array_position(tags, NULL) IS NULL AND '' <> ALL (tags)
        AND CASE kind WHEN 'epoch' THEN cardinality(tags) = 0 ELSE cardinality(tags) BETWEEN 1 AND 1000 END),
      ADD CONSTRAINT purge_log_fork_cv_check CHECK (
        CASE kind WHEN 'epoch' THEN fork_cv IS NOT NULL AND fork_cv = cv - 1 ELSE fork_cv IS NULL END)
    """,
    # By the default once, for the row that is there; from then on `raise_epoch` writes it.
    "ALTER TABLE events.clock ADD COLUMN timeline text NOT NULL DEFAULT left(pg_walfile_name(pg_current_wal_lsn()), 8)",
    "ALTER TABLE events.clock ALTER COLUMN timeline DROP DEFAULT",
    """
    COMMENT ON COLUMN events.clock.timeline IS
      'Which the server wrote when the epoch began: one that writes another was promoted or restored since.'
    """,
    """
    CREATE FUNCTION events.timeline() RETURNS text LANGUAGE sql SET search_path = '' AS $$
      SELECT left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8)
    $$
    """,
    "COMMENT ON FUNCTION events.timeline IS 'The timeline that this server writes; fails on one in recovery.'",
    """
    CREATE FUNCTION events.raise_epoch(
      actor text, above integer DEFAULT 0, OUT epoch integer, OUT cv bigint, OUT fork_cv bigint
    ) LANGUAGE plpgsql SET search_path = '' AS $$
    BEGIN
      WITH tick AS (
        UPDATE events.clock AS c
           SET epoch = greatest(c.epoch, raise_epoch.above) + 1, fork_cv = c.cv, cv = c.cv + 1,
               timeline = events.timeline()
        RETURNING c.epoch, c.cv, c.fork_cv
      )
      INSERT INTO events.purge_log AS l (epoch, cv, kind, tags, cause, actor, fork_cv)
      SELECT tick.epoch, tick.cv, 'epoch', '{}', 'a primary was promoted or restored', raise_epoch.actor, tick.fork_cv
        FROM tick
      RETURNING l.epoch, l.cv, l.fork_cv INTO STRICT raise_epoch.epoch, raise_epoch.cv, raise_epoch.fork_cv;
    END $$
    """,
    """
    COMMENT ON FUNCTION events.raise_epoch IS
      'Begin an epoch: the first transaction of a promoted or restored primary, before it answers anybody. '
      '`above`: the highest epoch that whoever promotes has heard of, so that no epoch is given out twice.'
    """,
    # For whoever promotes, never for the application.
    "REVOKE ALL ON FUNCTION events.raise_epoch, events.timeline FROM PUBLIC",
)

_NO_EPOCHS = (
    "DROP FUNCTION events.raise_epoch",
    "DROP FUNCTION events.timeline",
    "ALTER TABLE events.clock DROP COLUMN timeline",
    # Refused where an epoch has begun: the rows that say so can neither stay nor go.
    """
    ALTER TABLE events.purge_log
      DROP CONSTRAINT purge_log_kind_check,
      DROP CONSTRAINT purge_log_tags_check,
      ADD CONSTRAINT purge_log_kind_check CHECK (kind IN ('hard', 'soft')),
      ADD CONSTRAINT purge_log_tags_check CHECK (
        cardinality(tags) BETWEEN 1 AND 1000 AND array_position(tags, NULL) IS NULL AND '' <> ALL (tags)),
      DROP CONSTRAINT purge_log_fork_cv_check,
      DROP COLUMN fork_cv
    """,
)


def upgrade() -> None:
    for statement in _EPOCHS:
        op.execute(statement)


def downgrade() -> None:
    for statement in _NO_EPOCHS:
        op.execute(statement)
