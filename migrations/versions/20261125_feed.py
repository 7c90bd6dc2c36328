"""The change feed: committed events in one order for each tenant, in partitions by week."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import APP, protect

revision = "20261125b"
down_revision = "20261125a"
branch_labels = None
depends_on = None

FUNCTIONS = ("sequence_outbox(integer)", "keep_feed(integer)")


def upgrade():
    op.create_table(
        "feed_heads",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("epoch", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("floor", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_feed_heads")),
    )
    op.create_table(
        "feed",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("transaction_id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("object_type", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("previous", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("origin", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "seq", "moved_at", name=op.f("pk_feed")),
        postgresql_partition_by="RANGE (moved_at)",
    )
    for table in ("feed_heads", "feed"):
        protect(table, grants="SELECT")
    # Staging ids are drawn after the row's lock, so their order is the order of commits of each record. One mover at a
    # time: the lock is held until the move is committed, so that whoever sees a number sees all numbers below it.
    # They are drawn before the commit, so one below those that were moved may come late: no move may skip what is below.
    # Rows go by their place: by key the planner, which sees a table that is empty most of the time, scans all dead rows.
    op.execute(
        """
        CREATE FUNCTION sequence_outbox(most integer) RETURNS TABLE (tenant uuid, moved bigint)
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
        BEGIN
          IF NOT pg_try_advisory_xact_lock(hashtextextended('sequence_outbox', 0)) THEN RETURN; END IF;
          RETURN QUERY
          WITH RECURSIVE waiting AS (
            (SELECT o.tenant_id FROM outbox o ORDER BY o.tenant_id LIMIT 1)
            UNION ALL
            SELECT (SELECT o.tenant_id FROM outbox o WHERE o.tenant_id > w.tenant_id ORDER BY o.tenant_id LIMIT 1)
            FROM waiting w WHERE w.tenant_id IS NOT NULL
          ), batch AS MATERIALIZED (
            SELECT b.*, row_number() OVER (PARTITION BY b.tenant_id ORDER BY b.id) AS n
            FROM waiting w CROSS JOIN LATERAL (
              SELECT o.ctid AS place, o.* FROM outbox o WHERE o.tenant_id = w.tenant_id ORDER BY o.id LIMIT most) b
            WHERE w.tenant_id IS NOT NULL
          ), raised AS (
            INSERT INTO feed_heads AS h (tenant_id, epoch, seq)
            SELECT b.tenant_id, gen_random_uuid(), count(*) FROM batch b GROUP BY b.tenant_id
            ON CONFLICT (tenant_id) DO UPDATE SET seq = h.seq + excluded.seq
            RETURNING h.tenant_id, h.seq - coalesce(old.seq, 0) AS added, coalesce(old.seq, 0) AS base
          ), gone AS (
            DELETE FROM outbox o WHERE o.ctid = ANY(ARRAY(SELECT b.place FROM batch b))
          ), added AS (
            INSERT INTO feed (tenant_id, seq, moved_at, event_id, at, transaction_id, type, object_type, object_id,
              version, previous, data, actor_id, origin)
            SELECT b.tenant_id, r.base + b.n, now(), b.event_id, b.at, b.transaction_id, b.type, b.object_type,
              b.object_id, b.version, b.previous, b.data, b.actor_id, b.origin
            FROM batch b JOIN raised r ON r.tenant_id = b.tenant_id
          )
          SELECT r.tenant_id, r.added FROM raised r;
        END $$
        """
    )
    # Attaching a partition takes a weaker lock than creating one as such: readers and the mover go on.
    op.execute(
        """
        CREATE FUNCTION keep_feed(days integer) RETURNS bigint
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '500ms' AS $$
        DECLARE
          monday date := date_trunc('week', now() AT TIME ZONE 'UTC')::date;
          part text;
          dropped bigint := 0;
        BEGIN
          PERFORM pg_advisory_xact_lock(hashtextextended('keep_feed', 0));
          FOR i IN 0..5 LOOP
            part := 'feed_' || to_char(monday + 7 * i, 'YYYYMMDD');
            IF to_regclass(part) IS NULL THEN
              EXECUTE format('CREATE TABLE %I (LIKE feed INCLUDING ALL)', part);
              EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', part);
              EXECUTE format('ALTER TABLE feed ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', part,
                (monday + 7 * i)::timestamp AT TIME ZONE 'UTC', (monday + 7 * i + 7)::timestamp AT TIME ZONE 'UTC');
            END IF;
          END LOOP;
          FOR part IN
            SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'feed'::regclass
              AND inhrelid::regclass::text < 'feed_' || to_char(monday - days - 7, 'YYYYMMDD')
          LOOP
            EXECUTE format('DROP TABLE %I', part);
            dropped := dropped + 1;
          END LOOP;
          IF dropped > 0 THEN
            UPDATE feed_heads h SET floor = coalesce((SELECT min(f.seq) - 1 FROM feed f WHERE f.tenant_id = h.tenant_id), h.seq);
          END IF;
          RETURN dropped;
        END $$
        """
    )
    for function in FUNCTIONS:
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {APP}")
    op.execute("SELECT keep_feed(90)")


def downgrade():
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION {function}")
    op.drop_table("feed")
    op.drop_table("feed_heads")
