"""Limits of their own for tenants, and what busy callers used."""

import sqlalchemy as sa
from alembic import op

from crm_api.kernel.migration import APP, protect

revision = "20261202l"
down_revision = "20261202r"
branch_labels = None
depends_on = None

FUNCTIONS = {
    # What is told counts from when it was used: a caller who asks evenly owes nothing, however late others are told.
    "share_limit_usage(uuid[], uuid[], float8[], float8[], float8)": """
        CREATE FUNCTION share_limit_usage(
          tenants uuid[], ids uuid[], spans float8[], ages float8[], most float8
        ) RETURNS TABLE (id uuid, ahead float8)
        LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
          INSERT INTO limit_usage AS known (tenant_id, id, since, due)
          SELECT given.tenant, given.id, now() - given.age * interval '1 second',
                 least(now() + (given.span - given.age) * interval '1 second', now() + most * interval '1 second')
          FROM unnest(tenants, ids, spans, ages) AS given(tenant, id, span, age)
          ORDER BY given.tenant, given.id
          ON CONFLICT (tenant_id, id) DO UPDATE SET
            since = excluded.since,
            due = least(greatest(known.due + (excluded.due - excluded.since), excluded.due),
                        now() + most * interval '1 second')
          RETURNING known.id, extract(epoch FROM known.due - now())::float8
        $$
    """,
    "forget_limit_usage(timestamptz, bigint)": """
        CREATE FUNCTION forget_limit_usage(older_than timestamptz, most bigint) RETURNS bigint
        LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        DECLARE gone bigint;
        BEGIN
          DELETE FROM limit_usage u USING (
            SELECT tenant_id, id FROM limit_usage WHERE due < older_than LIMIT most FOR UPDATE SKIP LOCKED
          ) old WHERE u.tenant_id = old.tenant_id AND u.id = old.id;
          GET DIAGNOSTICS gone = ROW_COUNT;
          RETURN gone;
        END $$
    """,
}


def upgrade():
    for name in ("credential_rate", "tenant_rate"):
        op.add_column("tenants", sa.Column(name, sa.BigInteger(), nullable=True))
    op.create_table(
        "limit_usage",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_limit_usage")),
    )
    protect("limit_usage", grants="SELECT")
    for name, text in FUNCTIONS.items():
        op.execute(text)
        op.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {name} TO {APP}")


def downgrade():
    for name in FUNCTIONS:
        op.execute(f"DROP FUNCTION {name}")
    op.drop_table("limit_usage")
    for name in ("tenant_rate", "credential_rate"):
        op.drop_column("tenants", name)
