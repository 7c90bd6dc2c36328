"""What forecasts said on a day."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import APP, protect

revision = "20261130t"
down_revision = "20261130s"
branch_labels = None
depends_on = None

FIGURES = ("closed", "commit", "best_case", "pipeline", "weighted")


def upgrade():
    op.create_table(
        "forecast_snapshots",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("principal_id", sa.Uuid(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("period_start", sa.Date(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("taken_on", sa.Date(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in FIGURES),
        sa.Column("quota", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("external_ids", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.CheckConstraint("period IN ('month', 'quarter')", name=op.f("ck_forecast_snapshots_period")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "principal_id"],
            ["principals.tenant_id", "principals.id"],
            name=op.f("fk_forecast_snapshots_principal_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_forecast_snapshots")),
    )
    op.create_index(
        "uq_forecast_snapshots_day",
        "forecast_snapshots",
        ["tenant_id", "period", "period_start", "principal_id", "currency", "taken_on"],
        unique=True,
        postgresql_nulls_not_distinct=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    for column in ("principal_id", "period_start", "taken_on"):
        op.create_index(f"ix_forecast_snapshots_{column}", "forecast_snapshots", ["tenant_id", column, "id"])
    protect("forecast_snapshots", grants="SELECT, INSERT")
    op.execute(
        """
        -- Tenants after this one, in order, that have something to forecast and no snapshot since a day.
        CREATE FUNCTION tenants_without_snapshots(since date, after uuid, most bigint) RETURNS SETOF uuid
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
          SELECT t.tenant_id FROM tenants t
          WHERE t.tenant_id > after AND t.is_active
            AND NOT EXISTS (
              SELECT 1 FROM forecast_snapshots s WHERE s.tenant_id = t.tenant_id AND s.taken_on >= since)
            AND (EXISTS (SELECT 1 FROM opportunities o WHERE o.tenant_id = t.tenant_id)
              OR EXISTS (SELECT 1 FROM forecast_quotas q WHERE q.tenant_id = t.tenant_id))
          ORDER BY t.tenant_id LIMIT most
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION tenants_without_snapshots(date, uuid, bigint) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION tenants_without_snapshots(date, uuid, bigint) TO {APP}")


def downgrade():
    op.execute("DROP FUNCTION tenants_without_snapshots(date, uuid, bigint)")
    op.drop_table("forecast_snapshots")
