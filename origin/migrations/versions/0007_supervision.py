"""Who may answer questions and take changes: the server that the supervisor has in charge, as long as its lease lasts.

Without a supervisor it is every primary, until one is promoted: that one begins an epoch first.

Revision ID: 0007_supervision
Revises: 0006_epochs
"""

from alembic import op

revision = "0007_supervision"
down_revision = "0006_epochs"
branch_labels = None
depends_on = None

_SUPERVISION = (
    """
    CREATE TABLE events.supervisor_lease (
      one boolean PRIMARY KEY DEFAULT true CONSTRAINT supervisor_lease_has_one_row CHECK (one),
      holder text NOT NULL CHECK (holder <> ''),
      renewed_at timestamptz NOT NULL,
      until timestamptz NOT NULL
    ) WITH (fillfactor = 50)
    """,
    """
    COMMENT ON TABLE events.supervisor_lease IS
      'Until when this server is in charge, by its own clock. No row: no supervisor ever had it, and it is in charge.'
    """,
    """
    CREATE FUNCTION events.in_charge() RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
    BEGIN
      IF pg_catalog.pg_is_in_recovery() THEN
        RETURN false;
      END IF;
      -- Promoted or restored, and the epoch not yet raised: its positions would mean two things.
      IF (SELECT clock.timeline <> events.timeline() FROM events.clock) THEN
        RETURN false;
      END IF;
      -- Before `renewed_at`: the clock was set back, and `until` says nothing any more.
      RETURN coalesce(
        (SELECT pg_catalog.clock_timestamp() >= lease.renewed_at AND pg_catalog.clock_timestamp() < lease.until
           FROM events.supervisor_lease AS lease),
        true);
    END $$
    """,
    """
    COMMENT ON FUNCTION events.in_charge IS
      'Whether this server may answer questions, take changes and say what is live, now: it is no standby, has begun '
      'an epoch if it was promoted, and the supervisor, if there is one, has it in charge.'
    """,
    """
    CREATE FUNCTION events.renew_supervisor_lease(holder text, basis timestamptz, length interval)
    RETURNS timestamptz LANGUAGE plpgsql SET search_path = '' AS $$
    DECLARE
      now_here CONSTANT timestamptz NOT NULL := pg_catalog.clock_timestamp();
      known events.supervisor_lease;
    BEGIN
      IF length <= interval '0' OR length > interval '2 seconds' THEN
        RAISE EXCEPTION 'a supervisor lease lasts up to 2 s, not %', length
          USING ERRCODE = 'invalid_parameter_value',
                DETAIL = 'What a promoted primary waits out before anything is live goes by that.';
      END IF;
      IF basis IS NULL OR basis > now_here THEN
        RAISE EXCEPTION 'the basis of a supervisor lease lies in the past of this server, and % does not', basis
          USING ERRCODE = 'invalid_parameter_value', HINT = 'Begin anew: SELECT clock_timestamp().';
      END IF;
      SELECT * INTO known FROM events.supervisor_lease FOR UPDATE;
      IF FOUND AND known.holder <> renew_supervisor_lease.holder AND events.in_charge() THEN
        RAISE EXCEPTION 'the supervisor % has this server in charge until %', known.holder, known.until
          USING ERRCODE = 'object_in_use', HINT = 'Two supervisors would promote two servers: end one of them.';
      END IF;
      INSERT INTO events.supervisor_lease AS lease (holder, renewed_at, until)
      VALUES (renew_supervisor_lease.holder, now_here, basis + length)
      ON CONFLICT (one) DO UPDATE
        SET holder = excluded.holder, renewed_at = excluded.renewed_at, until = excluded.until;
      RETURN now_here;
    END $$
    """,
    """
    COMMENT ON FUNCTION events.renew_supervisor_lease IS
      'Have this server in charge until `basis` + `length`; returns its clock, the basis of the next renewal. '
      '`basis` is what the renewal before returned, so that one which waits in the socket of a frozen server grants '
      'nothing when that goes on. On a promoted server: in the transaction of events.raise_epoch, after it.'
    """,
    """
    CREATE FUNCTION events.end_supervision() RETURNS void LANGUAGE sql SET search_path = '' AS $$
      DELETE FROM events.supervisor_lease
    $$
    """,
    """
    COMMENT ON FUNCTION events.end_supervision IS
      'From now on this server is in charge without a supervisor: only where nobody promotes another one.'
    """,
    # As in 0001, and refused where this server is not in charge: last, as close to the commit as it can be.
    """
    CREATE OR REPLACE FUNCTION events.log_purge(
      kind text, tags text[], cause text, actor text, id uuid DEFAULT gen_random_uuid(),
      OUT epoch integer, OUT cv bigint
    ) LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
    BEGIN
      WITH tick AS (UPDATE events.clock AS c SET cv = c.cv + 1 RETURNING c.epoch, c.cv)
      INSERT INTO events.purge_log AS l (epoch, cv, id, kind, tags, cause, actor)
      SELECT tick.epoch, tick.cv, log_purge.id, log_purge.kind, log_purge.tags, log_purge.cause, log_purge.actor
        FROM tick
      RETURNING l.epoch, l.cv INTO STRICT log_purge.epoch, log_purge.cv;
      IF NOT events.in_charge() THEN
        RAISE EXCEPTION 'this server is not in charge: no change is taken here'
          USING ERRCODE = 'NS503',
                DETAIL = 'Its supervisor has not renewed its lease (events.supervisor_lease), as another server may '
                         'have been promoted; or this one was, and has not begun an epoch (events.clock.timeline).',
                HINT = 'Ask the server that is in charge. Where there is to be no supervisor: '
                       'SELECT events.end_supervision(). Where somebody promoted or restored this one: '
                       'SELECT events.raise_epoch(''who'').';
      END IF;
    END $$
    """,
    """
    CREATE TABLE events.settled_epoch (epoch integer PRIMARY KEY)
    """,
    """
    COMMENT ON TABLE events.settled_epoch IS
      'Epochs that have lasted so long that no lease of the one before is in force: from then on, changes can be live.'
    """,
    "INSERT INTO events.settled_epoch (epoch) SELECT epoch FROM events.clock",
    # To PUBLIC by default: whoever may call renews leases.
    """
    REVOKE ALL ON FUNCTION events.in_charge, events.renew_supervisor_lease, events.end_supervision FROM PUBLIC
    """,
    "GRANT EXECUTE ON FUNCTION events.in_charge TO nearshelf",
    "GRANT SELECT, INSERT ON events.settled_epoch TO nearshelf",
)

_NO_SUPERVISION = (
    """
    CREATE OR REPLACE FUNCTION events.log_purge(
      kind text, tags text[], cause text, actor text, id uuid DEFAULT gen_random_uuid(),
      OUT epoch integer, OUT cv bigint
    ) LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
    BEGIN
      WITH tick AS (UPDATE events.clock AS c SET cv = c.cv + 1 RETURNING c.epoch, c.cv)
      INSERT INTO events.purge_log AS l (epoch, cv, id, kind, tags, cause, actor)
      SELECT tick.epoch, tick.cv, log_purge.id, log_purge.kind, log_purge.tags, log_purge.cause, log_purge.actor
        FROM tick
      RETURNING l.epoch, l.cv INTO STRICT log_purge.epoch, log_purge.cv;
    END $$
    """,
    "DROP TABLE events.settled_epoch",
    "DROP FUNCTION events.end_supervision",
    "DROP FUNCTION events.renew_supervisor_lease",
    "DROP FUNCTION events.in_charge",
    "DROP TABLE events.supervisor_lease",
)


def upgrade() -> None:
    for statement in _SUPERVISION:
        op.execute(statement)


def downgrade() -> None:
    for statement in _NO_SUPERVISION:
        op.execute(statement)
