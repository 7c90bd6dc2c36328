"""Webhooks: endpoints, what is on its way to them, each attempt, and how they do."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import APP, protect

revision = "20261125d"
down_revision = "20261125c"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text())
INSTANT = sa.DateTime(timezone=True)
FUNCTIONS = (
    "webhook_tenants(integer)",
    "claim_deliveries(uuid, integer, integer, integer, uuid[])",
    "forget_deliveries(timestamptz, bigint)",
)


def upgrade():
    op.create_table(
        "webhook_endpoints",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("principal_id", sa.Uuid(), nullable=False),
        sa.Column("event_types", JSONB, nullable=False),
        sa.Column("filter", JSONB, nullable=True),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("ordering", sa.Text(), nullable=False),
        sa.Column("exclude_own", sa.Boolean(), nullable=False),
        sa.Column("throttle", sa.BigInteger(), nullable=True),
        sa.Column("header_names", JSONB, server_default="[]", nullable=False),
        sa.Column("sealed_headers", sa.LargeBinary(), nullable=True),
        sa.Column("sealed_secrets", sa.LargeBinary(), nullable=True),
        sa.Column("secrets_changed_at", INSTANT, nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", INSTANT, nullable=True),
        sa.Column("custom", JSONB, server_default="{}", nullable=False),
        sa.CheckConstraint("payload IN ('full', 'thin')", name=op.f("ck_webhook_endpoints_payload")),
        sa.CheckConstraint("ordering IN ('none', 'per_object')", name=op.f("ck_webhook_endpoints_ordering")),
        sa.CheckConstraint("status IN ('active', 'paused', 'disabled')", name=op.f("ck_webhook_endpoints_status")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "principal_id"],
            ["principals.tenant_id", "principals.id"],
            name=op.f("fk_webhook_endpoints_principal_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_webhook_endpoints")),
    )
    for column in ("principal_id", "created_at"):
        op.create_index(f"ix_webhook_endpoints_{column}", "webhook_endpoints", ["tenant_id", column, "id"])
    op.create_table(
        "webhook_deliveries",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("object_type", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("due_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT, nullable=True),
        sa.Column("lease", sa.Uuid(), nullable=True),
        sa.Column("lease_until", INSTANT, nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'delivered', 'failed', 'suppressed')", name=op.f("ck_webhook_deliveries_state")
        ),
        sa.CheckConstraint("kind IN ('event', 'resend', 'replay', 'test')", name=op.f("ck_webhook_deliveries_kind")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "endpoint_id"],
            ["webhook_endpoints.tenant_id", "webhook_endpoints.id"],
            name=op.f("fk_webhook_deliveries_endpoint_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index("ix_webhook_deliveries_endpoint_id", "webhook_deliveries", ["tenant_id", "endpoint_id", "id"])
    pending = sa.text("state = 'pending'")
    op.create_index(
        "ix_webhook_deliveries_due",
        "webhook_deliveries",
        ["tenant_id", "endpoint_id", "due_at"],
        postgresql_where=pending,
    )
    op.create_index(
        "ix_webhook_deliveries_object",
        "webhook_deliveries",
        ["tenant_id", "endpoint_id", "object_id", "seq"],
        postgresql_where=pending,
    )
    op.create_table(
        "webhook_attempts",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("delivery_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("milliseconds", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("reply", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "endpoint_id"],
            ["webhook_endpoints.tenant_id", "webhook_endpoints.id"],
            name=op.f("fk_webhook_attempts_endpoint_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_webhook_attempts")),
    )
    for column in ("endpoint_id", "delivery_id"):
        op.create_index(f"ix_webhook_attempts_{column}", "webhook_attempts", ["tenant_id", column, "id"])
    op.create_table(
        "webhook_states",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("failures", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failing_since", INSTANT, nullable=True),
        sa.Column("closed_until", INSTANT, nullable=True),
        sa.Column("free_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "endpoint_id", name=op.f("pk_webhook_states")),
    )
    op.create_table(
        "webhook_fanouts",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_webhook_fanouts")),
    )
    for table in ("webhook_endpoints", "webhook_deliveries", "webhook_states", "webhook_fanouts"):
        protect(table)
    protect("webhook_attempts", grants="SELECT, INSERT")
    op.execute(
        """
        CREATE FUNCTION webhook_tenants(most integer) RETURNS TABLE (tenant uuid, seq bigint)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
          SELECT f.tenant_id, f.seq FROM webhook_fanouts f JOIN feed_heads h ON h.tenant_id = f.tenant_id
          WHERE h.seq > f.seq LIMIT most
        $$
        """
    )
    # For each endpoint that may be sent to now, some of what is due, in turns: a dead receiver takes its own turn only.
    op.execute(
        """
        CREATE FUNCTION claim_deliveries(worker uuid, most integer, each integer, seconds integer, busy uuid[])
        RETURNS TABLE (tenant_id uuid, id uuid, endpoint_id uuid, seq bigint, event_type text, object_id uuid,
          kind text, attempts bigint, created_at timestamptz)
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
        #variable_conflict use_column
        BEGIN
          RETURN QUERY
          WITH open_ AS (
            SELECT e.tenant_id, e.id, e.ordering, e.throttle,
              CASE WHEN s.closed_until IS NOT NULL THEN 1
                WHEN e.throttle IS NOT NULL THEN least(each, e.throttle) ELSE each END AS room
            FROM webhook_endpoints e
            LEFT JOIN webhook_states s ON s.tenant_id = e.tenant_id AND s.endpoint_id = e.id
            WHERE e.status = 'active' AND e.deleted_at IS NULL AND e.id <> ALL (busy)
              AND (s.closed_until IS NULL OR s.closed_until <= now()) AND (s.free_at IS NULL OR s.free_at <= now())
              AND EXISTS (SELECT FROM webhook_deliveries d WHERE d.tenant_id = e.tenant_id AND d.endpoint_id = e.id
                AND d.state = 'pending' AND d.due_at <= now())
            ORDER BY random()
          ), taken AS (
            SELECT d.tenant_id, d.id, o.id AS endpoint, o.throttle
            FROM open_ o CROSS JOIN LATERAL (
              SELECT d.tenant_id, d.id FROM webhook_deliveries d
              WHERE d.tenant_id = o.tenant_id AND d.endpoint_id = o.id AND d.state = 'pending' AND d.due_at <= now()
                AND (d.lease_until IS NULL OR d.lease_until < now())
                AND (o.ordering = 'none' OR NOT EXISTS (
                  SELECT FROM webhook_deliveries earlier
                  WHERE earlier.tenant_id = d.tenant_id AND earlier.endpoint_id = d.endpoint_id
                    AND earlier.object_id = d.object_id AND earlier.state = 'pending' AND earlier.seq < d.seq))
              ORDER BY d.due_at LIMIT o.room FOR UPDATE SKIP LOCKED
            ) d LIMIT most
          ), slowed AS (
            INSERT INTO webhook_states AS s (tenant_id, endpoint_id, free_at)
            SELECT t.tenant_id, t.endpoint, now() + make_interval(secs => count(*)::float / t.throttle)
            FROM taken t WHERE t.throttle IS NOT NULL GROUP BY t.tenant_id, t.endpoint, t.throttle
            ON CONFLICT (tenant_id, endpoint_id) DO UPDATE SET free_at = excluded.free_at
          )
          UPDATE webhook_deliveries d SET lease = worker, lease_until = now() + make_interval(secs => seconds)
          FROM taken t WHERE d.tenant_id = t.tenant_id AND d.id = t.id
          RETURNING d.tenant_id, d.id, d.endpoint_id, d.seq, d.event_type, d.object_id, d.kind, d.attempts, d.created_at;
        END $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION forget_deliveries(older_than timestamptz, most bigint) RETURNS bigint
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
        DECLARE
          gone bigint;
        BEGIN
          WITH old_ AS (
            SELECT d.tenant_id, d.id FROM webhook_deliveries d
            WHERE d.finished_at < older_than OR (d.state = 'pending' AND EXISTS (
              SELECT FROM webhook_endpoints e WHERE e.tenant_id = d.tenant_id AND e.id = d.endpoint_id
                AND e.deleted_at < older_than))
            LIMIT most FOR UPDATE OF d SKIP LOCKED
          ), tries AS (
            DELETE FROM webhook_attempts a USING old_ o WHERE a.tenant_id = o.tenant_id AND a.delivery_id = o.id
          ), deliveries AS (
            DELETE FROM webhook_deliveries d USING old_ o WHERE d.tenant_id = o.tenant_id AND d.id = o.id RETURNING 1
          )
          SELECT count(*) INTO gone FROM deliveries;
          RETURN gone;
        END $$
        """
    )
    for function in FUNCTIONS:
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {APP}")


def downgrade():
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION {function}")
    for table in ("webhook_fanouts", "webhook_states", "webhook_attempts", "webhook_deliveries", "webhook_endpoints"):
        op.drop_table(table)
