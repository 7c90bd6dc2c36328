"""Jobs with their queue, the schedule, the end of shares; old idempotency keys are deleted in chunks."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import APP, protect

revision = "20261125c"
down_revision = "20261125b"
branch_labels = None
depends_on = None

FUNCTIONS = {
    "claim_job(uuid, double precision, text[], uuid[])": """
        -- Gives the first due job of a tenant with as few running ones as any, to whoever shows the token.
        CREATE FUNCTION claim_job(token uuid, seconds double precision, known text[], busy uuid[])
        RETURNS TABLE (tenant_id text, id text, kind text, request_id text, actor text, created_by text, credential_id text,
          parameters text, stand text, scopes text, done bigint, expected bigint, attempts bigint)
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
        DECLARE
          candidate uuid;
          found_id uuid;
        BEGIN
          FOR candidate IN
            WITH RECURSIVE queue AS (  -- from one tenant to the next by index, however many jobs each has
              SELECT (SELECT j.tenant_id FROM jobs j WHERE j.state = 'queued' ORDER BY j.tenant_id LIMIT 1) AS tenant
              UNION ALL
              SELECT (SELECT j.tenant_id FROM jobs j WHERE j.state = 'queued' AND j.tenant_id > q.tenant
                      ORDER BY j.tenant_id LIMIT 1)
              FROM queue q WHERE q.tenant IS NOT NULL
            ), waiting AS (
              SELECT q.tenant FROM queue q WHERE q.tenant IS NOT NULL
              UNION
              SELECT j.tenant_id FROM jobs j WHERE j.state = 'running' AND j.lease_until < clock_timestamp()
            )
            SELECT w.tenant FROM waiting w JOIN tenants t ON t.tenant_id = w.tenant AND t.is_active
            WHERE w.tenant <> ALL (busy)
            ORDER BY (SELECT count(*) FROM jobs r WHERE r.tenant_id = w.tenant AND r.state = 'running'
                      AND r.lease_until >= clock_timestamp()), random()
          LOOP
            SELECT j.id INTO found_id FROM jobs j
              WHERE j.tenant_id = candidate AND j.state = 'running' AND j.lease_until < clock_timestamp()
                AND j.kind = ANY (known)
              LIMIT 1 FOR UPDATE SKIP LOCKED;
            IF found_id IS NULL THEN
              SELECT j.id INTO found_id FROM jobs j
                WHERE j.tenant_id = candidate AND j.state = 'queued' AND j.run_at <= clock_timestamp()
                  AND j.kind = ANY (known)
                ORDER BY j.run_at, j.id LIMIT 1 FOR UPDATE SKIP LOCKED;
            END IF;
            IF found_id IS NOT NULL THEN
              RETURN QUERY UPDATE jobs j SET state = 'running', lease = token, attempts = j.attempts + 1,
                  lease_until = clock_timestamp() + make_interval(secs => seconds),
                  started_at = coalesce(j.started_at, clock_timestamp()),
                  version = j.version + 1, updated_at = clock_timestamp()
                WHERE j.tenant_id = candidate AND j.id = found_id
                RETURNING j.tenant_id::text, j.id::text, j.kind, j.request_id, j.actor, j.created_by::text,
                  j.credential_id::text, j.parameters::text, j.position::text, j.scopes::text,
                  j.done, j.expected, j.attempts;
              RETURN;
            END IF;
          END LOOP;
        END $$
    """,
    "job_figures()": """
        CREATE FUNCTION job_figures()
        RETURNS TABLE (queued bigint, running bigint, failed bigint, lag double precision)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
          WITH RECURSIVE queue AS (
            SELECT (SELECT j.tenant_id FROM jobs j WHERE j.state = 'queued' ORDER BY j.tenant_id LIMIT 1) AS tenant
            UNION ALL
            SELECT (SELECT j.tenant_id FROM jobs j WHERE j.state = 'queued' AND j.tenant_id > q.tenant
                    ORDER BY j.tenant_id LIMIT 1)
            FROM queue q WHERE q.tenant IS NOT NULL
          )
          SELECT (SELECT count(*) FROM (SELECT 1 FROM jobs WHERE state = 'queued' AND run_at <= now() LIMIT 10000) q),
            (SELECT count(*) FROM (SELECT 1 FROM jobs WHERE state = 'running' LIMIT 10000) r),
            (SELECT count(*) FROM (SELECT 1 FROM jobs WHERE state = 'failed' LIMIT 10000) f),
            greatest(0, coalesce((SELECT extract(epoch FROM now() - min(first.run_at)) FROM queue q, LATERAL (
              SELECT j.run_at FROM jobs j WHERE j.tenant_id = q.tenant AND j.state = 'queued'
              ORDER BY j.run_at LIMIT 1) first), 0))::double precision
        $$
    """,
    "forget_jobs(timestamptz, bigint)": """
        CREATE FUNCTION forget_jobs(older_than timestamptz, most bigint) RETURNS bigint
        LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
          WITH old AS (SELECT tenant_id, id FROM jobs WHERE finished_at < older_than ORDER BY finished_at LIMIT most
            FOR UPDATE SKIP LOCKED),
          gone AS (DELETE FROM jobs j USING old WHERE j.tenant_id = old.tenant_id AND j.id = old.id RETURNING 1)
          SELECT count(*) FROM gone
        $$
    """,
    "tenants_with_expired_shares(bigint)": """
        CREATE FUNCTION tenants_with_expired_shares(most bigint) RETURNS SETOF uuid
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
          SELECT DISTINCT oldest.tenant_id FROM (
            SELECT tenant_id FROM shares WHERE expires_at <= now() ORDER BY expires_at LIMIT 10 * most) oldest
          LIMIT most
        $$
    """,
    "take_turn(text, double precision)": """
        -- 0: the turn is the caller's, and the next one comes after the period. Else the seconds until it is due.
        CREATE FUNCTION take_turn(task text, period double precision) RETURNS double precision
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
        DECLARE
          due timestamptz;
          moment timestamptz := clock_timestamp();
        BEGIN
          SELECT s.next_at INTO due FROM schedule s WHERE s.name = task;
          IF due IS NULL OR due <= moment THEN
            INSERT INTO schedule AS s (name, ran_at, next_at)
              VALUES (task, moment, moment + make_interval(secs => period))
              ON CONFLICT (name) DO UPDATE SET ran_at = excluded.ran_at, next_at = excluded.next_at
              WHERE s.next_at <= excluded.ran_at;
            IF FOUND THEN RETURN 0; END IF;
            SELECT s.next_at INTO due FROM schedule s WHERE s.name = task;
          END IF;
          RETURN greatest(0.01, extract(epoch FROM due - clock_timestamp()));
        END $$
    """,
    "forget_idempotency_keys(timestamptz, bigint)": """
        CREATE FUNCTION forget_idempotency_keys(older_than timestamptz, most bigint) RETURNS bigint
        LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
          WITH old AS (SELECT tenant_id, scope FROM idempotency_keys WHERE created_at < older_than
            ORDER BY created_at LIMIT most FOR UPDATE SKIP LOCKED),
          gone AS (DELETE FROM idempotency_keys k USING old WHERE k.tenant_id = old.tenant_id AND k.scope = old.scope
            RETURNING k.tenant_id, k.scope),
          replies AS (DELETE FROM idempotency_replies r USING gone
            WHERE r.tenant_id = gone.tenant_id AND r.scope = gone.scope RETURNING 1)
          SELECT count(*) FROM gone
        $$
    """,
}
BEFORE = """
    CREATE FUNCTION forget_idempotency_keys(older_than timestamptz) RETURNS bigint
        LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
          WITH gone AS (DELETE FROM idempotency_keys WHERE created_at < older_than RETURNING tenant_id, scope),
          replies AS (DELETE FROM idempotency_replies r USING gone WHERE r.tenant_id = gone.tenant_id AND r.scope = gone.scope RETURNING 1)
          SELECT count(*) FROM gone
        $$
"""


def executable(signature):
    op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO {APP}")


def upgrade():
    op.create_table(
        "jobs",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("done", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("expected", sa.BigInteger(), nullable=True),
        sa.Column("parameters", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("position", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("problem", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("attempts", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("run_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease", sa.Uuid(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("credential_id", sa.Uuid(), nullable=True),
        sa.Column("scopes", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.CheckConstraint("actor IN ('user', 'service', 'system')", name=op.f("ck_jobs_actor")),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name=op.f("ck_jobs_state")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_jobs")),
    )
    for name, columns, state in (
        ("queue", ["tenant_id", "run_at", "id"], "queued"),
        ("running", ["tenant_id", "id"], "running"),
        ("failed", ["tenant_id", "id"], "failed"),
    ):
        op.create_index(f"ix_jobs_{name}", "jobs", columns, postgresql_where=sa.text(f"state = '{state}'"))
    op.create_index("ix_jobs_finished_at", "jobs", ["finished_at"], postgresql_where=sa.text("finished_at IS NOT NULL"))
    op.create_index("ix_jobs_created_by", "jobs", ["tenant_id", "created_by", "created_at", "id"])
    op.create_index("ix_jobs_created_at", "jobs", ["tenant_id", "created_at", "id"])
    protect("jobs")
    op.create_table(
        "schedule",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("ran_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_schedule")),
    )
    op.create_index(
        "ix_shares_expires_at", "shares", ["expires_at"], postgresql_where=sa.text("expires_at IS NOT NULL")
    )
    op.execute("DROP FUNCTION forget_idempotency_keys(timestamptz)")
    for signature, text in FUNCTIONS.items():
        op.execute(text)
        executable(signature)


def downgrade():
    for signature in FUNCTIONS:
        op.execute(f"DROP FUNCTION {signature}")
    op.execute(BEFORE)
    executable("forget_idempotency_keys(timestamptz)")
    op.drop_index("ix_shares_expires_at", table_name="shares")
    op.drop_table("schedule")
    op.drop_table("jobs")
