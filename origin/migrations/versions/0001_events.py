"""The clock, the purge log, the registry of edge workers, and the watch over publicly shown tables."""

from __future__ import annotations

from alembic import op

revision = "0001_events"
down_revision = None
branch_labels = None
depends_on = None

APPLICATION_ROLE = """
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'nearshelf') THEN
    CREATE ROLE nearshelf LOGIN;
  END IF;
END $$
"""

TABLES = """
CREATE SCHEMA events;

CREATE TABLE events.clock (
  one boolean PRIMARY KEY DEFAULT true CONSTRAINT clock_has_one_row CHECK (one),
  epoch integer NOT NULL CHECK (epoch >= 1),
  cv bigint NOT NULL CHECK (cv >= 1),
  fork_cv bigint NOT NULL CHECK (fork_cv >= 0)
) WITH (fillfactor = 50);
COMMENT ON TABLE events.clock IS
  'The position of this database: every snapshot that sees it sees every change up to it.';
COMMENT ON COLUMN events.clock.epoch IS 'Raised by the first transaction of a promoted or restored primary.';
COMMENT ON COLUMN events.clock.cv IS 'Counts the transactions that changed anything shown publicly, without gaps.';
COMMENT ON COLUMN events.clock.fork_cv IS 'The cv that this epoch inherited from the one before.';

CREATE TABLE events.purge_log (
  epoch integer NOT NULL,
  cv bigint NOT NULL,
  id uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
  kind text NOT NULL CHECK (kind IN ('hard', 'soft')),
  tags text[] NOT NULL
    CHECK (cardinality(tags) BETWEEN 1 AND 1000 AND array_position(tags, NULL) IS NULL AND '' <> ALL (tags)),
  cause text NOT NULL,
  actor text NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  PRIMARY KEY (epoch, cv)
);
CREATE INDEX purge_log_xid ON events.purge_log (xid);
COMMENT ON TABLE events.purge_log IS 'What each position purged. Append-only: write it with events.log_purge.';

CREATE TABLE events.contact (
  worker text PRIMARY KEY,
  edge text NOT NULL,
  contact bigint NOT NULL CHECK (contact >= 1),
  applied_epoch integer NOT NULL,
  applied_cv bigint NOT NULL,
  public_url text NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE events.contact IS
  'The registered edge workers: number of their latest question, and what they have applied.';

CREATE TABLE events.progress (
  epoch integer NOT NULL,
  cv bigint NOT NULL,
  state text NOT NULL CHECK (state IN ('waiting', 'shown', 'live')),
  report jsonb NOT NULL,
  written_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (epoch, cv),
  FOREIGN KEY (epoch, cv) REFERENCES events.purge_log ON DELETE CASCADE
);
COMMENT ON TABLE events.progress IS
  'How each change became live: worker, edge, outcome and milliseconds. Display only.';

-- Holds a row only while a transaction runs, so it need not survive a crash nor reach a standby.
CREATE UNLOGGED TABLE events.unlogged_change (xid xid8 PRIMARY KEY, relation text NOT NULL);
COMMENT ON TABLE events.unlogged_change IS
  'Running transactions that changed a shown table; checked and emptied at commit.';
"""

LOG = """
CREATE FUNCTION events.log_purge(
  kind text, tags text[], cause text, actor text, id uuid DEFAULT gen_random_uuid(), OUT epoch integer, OUT cv bigint
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
  WITH tick AS (UPDATE events.clock AS c SET cv = c.cv + 1 RETURNING c.epoch, c.cv)
  INSERT INTO events.purge_log AS l (epoch, cv, id, kind, tags, cause, actor)
  SELECT tick.epoch, tick.cv, log_purge.id, log_purge.kind, log_purge.tags, log_purge.cause, log_purge.actor FROM tick
  RETURNING l.epoch, l.cv INTO STRICT log_purge.epoch, log_purge.cv;
END $$;
COMMENT ON FUNCTION events.log_purge IS
  'Take the next position for this transaction and say what it purges. Call it last: it holds a lock until the commit.';

CREATE FUNCTION events.stamp_purge() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
  -- Never the caller's word: the check at commit goes by them.
  NEW.xid := pg_catalog.pg_current_xact_id();
  NEW.at := pg_catalog.clock_timestamp();
  IF NOT EXISTS (SELECT FROM events.clock WHERE clock.epoch = NEW.epoch AND clock.cv = NEW.cv) THEN
    RAISE EXCEPTION 'purge-log row %.% does not bear the position of the clock', NEW.epoch, NEW.cv
      USING ERRCODE = 'integrity_constraint_violation', HINT = 'Use events.log_purge(kind, tags, cause, actor).';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER stamp_purge BEFORE INSERT ON events.purge_log FOR EACH ROW EXECUTE FUNCTION events.stamp_purge();

CREATE FUNCTION events.keep_purge_log() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
  IF TG_OP = 'DELETE' AND pg_catalog.current_setting('nearshelf.trimming', true) = 'on' THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION 'the purge log is append-only: % refused', TG_OP
    USING ERRCODE = 'integrity_constraint_violation',
          DETAIL = 'Edges follow it by number; a row that changed or vanished would be a change they never hear of.',
          HINT = 'events.trim_purge_log(keep) forgets the oldest rows.';
END $$;
CREATE TRIGGER keep_purge_log BEFORE UPDATE OR DELETE ON events.purge_log
  FOR EACH ROW EXECUTE FUNCTION events.keep_purge_log();
CREATE TRIGGER keep_purge_log_whole BEFORE TRUNCATE ON events.purge_log
  FOR EACH STATEMENT EXECUTE FUNCTION events.keep_purge_log();

CREATE FUNCTION events.trim_purge_log(keep bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
  oldest_kept record;
  oldest_young record;
  forgotten bigint;
BEGIN
  SELECT epoch, cv INTO oldest_kept FROM events.purge_log
   ORDER BY epoch DESC, cv DESC OFFSET greatest(keep, 1) - 1 LIMIT 1;
  IF NOT FOUND THEN
    RETURN 0;
  END IF;
  SELECT epoch, cv INTO oldest_young FROM events.purge_log
   WHERE at >= pg_catalog.clock_timestamp() - interval '1 hour' ORDER BY epoch, cv LIMIT 1;
  PERFORM pg_catalog.set_config('nearshelf.trimming', 'on', true);
  DELETE FROM events.purge_log
   WHERE (epoch, cv) < (oldest_kept.epoch, oldest_kept.cv)
     AND (oldest_young.epoch IS NULL OR (epoch, cv) < (oldest_young.epoch, oldest_young.cv));
  GET DIAGNOSTICS forgotten = ROW_COUNT;
  PERFORM pg_catalog.set_config('nearshelf.trimming', 'off', true);
  RETURN forgotten;
END $$;
COMMENT ON FUNCTION events.trim_purge_log IS
  'Forget the oldest rows, but never one of the newest `keep`, one younger than an hour, or the last.';

CREATE FUNCTION events.keep_clock() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
  RAISE EXCEPTION 'the clock row stays: % refused', TG_OP USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER keep_clock BEFORE DELETE OR TRUNCATE ON events.clock
  FOR EACH STATEMENT EXECUTE FUNCTION events.keep_clock();

CREATE FUNCTION events.check_clock() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM events.purge_log WHERE (epoch, cv) = (NEW.epoch, NEW.cv)) THEN
    RAISE EXCEPTION 'the clock was set to %.%, which the purge log does not have', NEW.epoch, NEW.cv
      USING ERRCODE = 'integrity_constraint_violation', HINT = 'Use events.log_purge(kind, tags, cause, actor).';
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER check_clock AFTER INSERT OR UPDATE ON events.clock
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION events.check_clock();

INSERT INTO events.clock (epoch, cv, fork_cv) VALUES (1, 1, 0);
INSERT INTO events.purge_log (epoch, cv, kind, tags, cause, actor)
VALUES (1, 1, 'hard', ARRAY['*'], 'the shop was made', 'migration 0001');
"""

WATCH = """
CREATE FUNCTION events.note_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
  INSERT INTO events.unlogged_change (xid, relation)
  VALUES (pg_catalog.pg_current_xact_id(), pg_catalog.format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME))
  ON CONFLICT DO NOTHING;
  RETURN NULL;
END $$;

CREATE FUNCTION events.check_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
  DELETE FROM events.unlogged_change WHERE xid = NEW.xid;
  -- The row must also be at the clock: after a restore, an old row may bear the number of this transaction.
  IF NOT EXISTS (
    SELECT FROM events.purge_log JOIN events.clock USING (epoch, cv) WHERE purge_log.xid = NEW.xid
  ) THEN
    RAISE EXCEPTION 'this transaction changes %, which the shop shows publicly, without a purge-log row', NEW.relation
      USING ERRCODE = 'integrity_constraint_violation',
            DETAIL = 'Edges would go on showing what they have stored. Nothing was changed.',
            HINT = 'Before the commit: SELECT events.log_purge(''hard'', ARRAY[''*''], ''why'', ''who''); '
                   'or change it through the application, which names the tags.';
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER check_change AFTER INSERT ON events.unlogged_change
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION events.check_change();

CREATE FUNCTION events.watch(relation regclass, VARIADIC columns name[] DEFAULT '{}') RETURNS void
LANGUAGE plpgsql SET search_path = '' AS $$
DECLARE
  of_columns text;
BEGIN
  SELECT ' OF ' || pg_catalog.string_agg(pg_catalog.quote_ident(c), ', ') INTO of_columns FROM unnest(columns) AS c;
  EXECUTE pg_catalog.format(
    'CREATE TRIGGER note_change AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE%s ON %s '
    'FOR EACH STATEMENT EXECUTE FUNCTION events.note_change()', of_columns, relation);
END $$;
COMMENT ON FUNCTION events.watch IS
  'From now on, a transaction that changes this table (updates: these columns, if any are named) is refused at commit '
  'unless it has a purge-log row. Costs one index look-up a statement and one check a transaction.';

CREATE FUNCTION events.standbys() RETURNS TABLE (name text, flushed bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
  SELECT application_name, (flush_lsn - '0/0'::pg_catalog.pg_lsn)::bigint
    FROM pg_catalog.pg_stat_replication WHERE state IN ('streaming', 'catchup') ORDER BY application_name
$$;
COMMENT ON FUNCTION events.standbys IS
  'The standbys that follow this server, and how far their log is on disk, in bytes.';
"""

GRANTS = """
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA events FROM PUBLIC;
GRANT USAGE ON SCHEMA events TO nearshelf;
GRANT SELECT ON events.clock, events.purge_log TO nearshelf;
GRANT SELECT, INSERT, UPDATE, DELETE ON events.contact TO nearshelf;
GRANT SELECT, INSERT, UPDATE ON events.progress TO nearshelf;
GRANT EXECUTE ON FUNCTION events.log_purge, events.trim_purge_log, events.standbys TO nearshelf;
"""


def upgrade() -> None:
    """Schema `events`, its guards, and what the application may do there."""
    for part in (APPLICATION_ROLE, TABLES, LOG, WATCH, GRANTS):
        # asyncpg prepares what it runs through SQLAlchemy, and a prepared statement is a single one.
        for statement in _statements(part):
            op.execute(statement)


def _statements(sql: str) -> list[str]:
    """The statements in `sql`: each ends with a semicolon at the end of a line, outside of `$$`."""
    statements: list[str] = []
    lines: list[str] = []
    quoted = False
    for line in sql.strip().splitlines():
        lines.append(line)
        quoted ^= line.count("$$") % 2 == 1
        if line.rstrip().endswith(";") and not quoted:
            statements.append("\n".join(lines))
            lines = []
    if lines:
        statements.append("\n".join(lines))
    return statements
