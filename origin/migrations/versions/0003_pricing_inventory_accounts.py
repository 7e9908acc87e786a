"""Prices, rates, stock and its bands, staff, sessions, the audit list.

Revision ID: 0003_pricing_inventory_accounts
Revises: 0002_catalog
"""

from alembic import op

revision = "0003_pricing_inventory_accounts"
down_revision = "0002_catalog"
branch_labels = None
depends_on = None

_PRICING = (
    "CREATE SCHEMA pricing",
    """
    CREATE TABLE pricing.base_price (
        sku text PRIMARY KEY,
        currency text NOT NULL CONSTRAINT base_price_currency CHECK (currency ~ '^[A-Z]{3}$'),
        minor_units bigint NOT NULL CONSTRAINT base_price_amount CHECK (minor_units >= 0)
    )
    """,
    # A removed price keeps its row, without an amount: its version goes on counting.
    """
    CREATE TABLE pricing.price (
        sku text NOT NULL,
        market text NOT NULL,
        currency text NOT NULL CONSTRAINT price_currency CHECK (currency ~ '^[A-Z]{3}$'),
        minor_units bigint CONSTRAINT price_amount CHECK (minor_units >= 0),
        version integer NOT NULL CONSTRAINT price_version CHECK (version >= 0),
        updated_at timestamptz NOT NULL DEFAULT now(),
        updated_by text NOT NULL,
        PRIMARY KEY (sku, market)
    )
    """,
    """
    CREATE TABLE pricing.rate (
        base text NOT NULL CONSTRAINT rate_base CHECK (base ~ '^[A-Z]{3}$'),
        quote text NOT NULL CONSTRAINT rate_quote CHECK (quote ~ '^[A-Z]{3}$'),
        rate numeric(24, 12) NOT NULL CONSTRAINT rate_above_zero CHECK (rate > 0),
        updated_at timestamptz NOT NULL DEFAULT now(),
        updated_by text NOT NULL,
        PRIMARY KEY (base, quote),
        CONSTRAINT rate_of_two CHECK (base <> quote)
    )
    """,
    "SELECT events.watch('pricing.base_price')",
    "SELECT events.watch('pricing.price')",
    "SELECT events.watch('pricing.rate')",
    "GRANT USAGE ON SCHEMA pricing TO nearshelf",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA pricing TO nearshelf",
)

_INVENTORY = (
    "CREATE SCHEMA inventory",
    """
    CREATE TABLE inventory.stock (
        sku text PRIMARY KEY,
        on_hand integer NOT NULL CONSTRAINT stock_on_hand CHECK (on_hand >= 0),
        low_at integer NOT NULL DEFAULT 5 CONSTRAINT stock_low_at CHECK (low_at >= 0)
    )
    """,
    # What the public is told, apart from the counts: selling a piece changes nothing here, so it needs no purge. A SKU
    # without a row is out.
    """
    CREATE TABLE inventory.band (
        sku text PRIMARY KEY,
        band text NOT NULL CONSTRAINT band_word CHECK (band IN ('in_stock', 'low', 'out'))
    )
    """,
    """
    CREATE FUNCTION inventory.keep_band() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
    DECLARE
        old_band text;
        new_band text := 'out';
    BEGIN
        IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND OLD.sku <> NEW.sku) THEN
            DELETE FROM inventory.band WHERE sku = OLD.sku;
        END IF;
        IF TG_OP = 'DELETE' THEN
            RETURN NULL;
        END IF;
        IF NEW.on_hand > 0 THEN
            new_band := CASE WHEN NEW.on_hand <= NEW.low_at THEN 'low' ELSE 'in_stock' END;
        END IF;
        SELECT band INTO old_band FROM inventory.band WHERE sku = NEW.sku;
        IF coalesce(old_band, 'out') <> new_band THEN
            INSERT INTO inventory.band VALUES (NEW.sku, new_band)
                ON CONFLICT (sku) DO UPDATE SET band = excluded.band;
        END IF;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER keep_band AFTER INSERT OR UPDATE OR DELETE ON inventory.stock
        FOR EACH ROW EXECUTE FUNCTION inventory.keep_band()
    """,
    "SELECT events.watch('inventory.band')",
    "GRANT USAGE ON SCHEMA inventory TO nearshelf",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON inventory.stock TO nearshelf",
    "GRANT SELECT ON inventory.band TO nearshelf",
)

_ACCOUNTS = (
    "CREATE SCHEMA accounts",
    """
    CREATE TABLE accounts.staff (
        email text PRIMARY KEY CONSTRAINT staff_email CHECK (email = lower(email)),
        name text NOT NULL,
        role text NOT NULL CONSTRAINT staff_role CHECK (role IN ('viewer', 'editor', 'admin')),
        password_hash text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE TABLE accounts.session (
        token bytea PRIMARY KEY CONSTRAINT session_token CHECK (length(token) = 32),
        staff text NOT NULL REFERENCES accounts.staff ON DELETE CASCADE,
        csrf text NOT NULL,
        kind text NOT NULL CONSTRAINT session_kind CHECK (kind IN ('browser', 'token')),
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX session_of_staff ON accounts.session (staff)",
    "CREATE INDEX session_end ON accounts.session (expires_at)",
    """
    CREATE TABLE accounts.login_attempt (
        bucket text PRIMARY KEY,
        attempts integer NOT NULL,
        window_start timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE TABLE accounts.audit (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT clock_timestamp(),
        actor text NOT NULL,
        action text NOT NULL,
        subject text NOT NULL,
        before jsonb,
        after jsonb,
        reason text NOT NULL DEFAULT '',
        purge_id text
    )
    """,
    "CREATE INDEX audit_purge ON accounts.audit (purge_id) WHERE purge_id IS NOT NULL",
    "CREATE INDEX audit_actor ON accounts.audit (actor, id DESC)",
    # Rows are added and read. The application's role has no right to more; the triggers stop the owner as well.
    """
    CREATE FUNCTION accounts.refuse_to_alter_audit() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'the audit list is append-only: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
    END
    $$
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON accounts.audit
        FOR EACH ROW EXECUTE FUNCTION accounts.refuse_to_alter_audit()
    """,
    """
    CREATE TRIGGER no_truncate BEFORE TRUNCATE ON accounts.audit
        FOR EACH STATEMENT EXECUTE FUNCTION accounts.refuse_to_alter_audit()
    """,
    "GRANT USAGE ON SCHEMA accounts TO nearshelf",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON accounts.staff, accounts.session, accounts.login_attempt TO nearshelf",
    "GRANT SELECT ON accounts.audit TO nearshelf",
    # Not `at`: when something happened is for the database to say.
    "GRANT INSERT (actor, action, subject, before, after, reason, purge_id) ON accounts.audit TO nearshelf",
)


def upgrade() -> None:
    for statement in (*_PRICING, *_INVENTORY, *_ACCOUNTS):
        op.execute(statement)


def downgrade() -> None:
    for schema in ("accounts", "inventory", "pricing"):
        op.execute(f"DROP SCHEMA {schema} CASCADE")
