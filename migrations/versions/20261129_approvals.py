"""Approval rules and approvals; orders wait for them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import APP, protect

revision = "20261129a"
down_revision = "20261128o"
branch_labels = None
depends_on = None

STATES = "state IN ('draft', 'confirmed', 'on_hold', 'closed', 'cancelled'"


def upgrade():
    op.create_table(
        "approval_rules",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("object_type", sa.Text(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("amount_over", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("discount_over", sa.BigInteger(), nullable=True),
        sa.Column("margin_under", sa.BigInteger(), nullable=True),
        sa.Column("account_id", sa.Uuid(), nullable=True),
        sa.Column("account_tier", sa.Text(), nullable=True),
        sa.Column("account_risk", sa.Text(), nullable=True),
        sa.Column("exempt_role_ids", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("steps", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("external_ids", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.CheckConstraint("amount_over IS NULL OR currency IS NOT NULL", name=op.f("ck_approval_rules_currency")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "account_id"],
            ["accounts.tenant_id", "accounts.id"],
            name=op.f("fk_approval_rules_account_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_approval_rules")),
    )
    op.create_index(
        "ix_approval_rules_account_id",
        "approval_rules",
        ["tenant_id", "account_id", "id"],
        unique=False,
        postgresql_where=sa.text("account_id IS NOT NULL"),
    )
    op.create_index("ix_approval_rules_created_at", "approval_rules", ["tenant_id", "created_at", "id"], unique=False)
    op.create_index("ix_approval_rules_name", "approval_rules", ["tenant_id", "name", "id"], unique=False)
    op.create_table(
        "approvals",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("object_type", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("requested_by_id", sa.Uuid(), nullable=True),
        sa.Column("reasons", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("steps", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("approver_id", sa.Uuid(), nullable=True),
        sa.Column("approver_role_id", sa.Uuid(), nullable=True),
        sa.Column("decisions", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("remind_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reminders", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("external_ids", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.CheckConstraint(
            "status IN ('pending', 'approved', 'rejected', 'withdrawn')", name=op.f("ck_approvals_status")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "approver_id"],
            ["principals.tenant_id", "principals.id"],
            name=op.f("fk_approvals_approver_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "approver_role_id"],
            ["roles.tenant_id", "roles.id"],
            name=op.f("fk_approvals_approver_role_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "requested_by_id"],
            ["principals.tenant_id", "principals.id"],
            name=op.f("fk_approvals_requested_by_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_approvals")),
    )
    op.create_index(
        "ix_approvals_approver_id",
        "approvals",
        ["tenant_id", "approver_id", "id"],
        unique=False,
        postgresql_where=sa.text("approver_id IS NOT NULL"),
    )
    op.create_index(
        "ix_approvals_approver_role_id",
        "approvals",
        ["tenant_id", "approver_role_id", "id"],
        unique=False,
        postgresql_where=sa.text("approver_role_id IS NOT NULL"),
    )
    op.create_index("ix_approvals_created_at", "approvals", ["tenant_id", "created_at", "id"], unique=False)
    op.create_index("ix_approvals_object_id", "approvals", ["tenant_id", "object_id", "id"], unique=False)
    op.create_index(
        "ix_approvals_remind_at",
        "approvals",
        ["tenant_id", "remind_at", "id"],
        unique=False,
        postgresql_where=sa.text("remind_at IS NOT NULL"),
    )
    op.create_index(
        "ix_approvals_requested_by_id",
        "approvals",
        ["tenant_id", "requested_by_id", "id"],
        unique=False,
        postgresql_where=sa.text("requested_by_id IS NOT NULL"),
    )
    op.create_index(
        "uq_approvals_object_id",
        "approvals",
        ["tenant_id", "object_id"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL AND status = 'pending'"),
    )
    protect("approval_rules")
    protect("approvals")
    op.execute(
        """
        CREATE FUNCTION due_approvals(at timestamptz, most bigint) RETURNS TABLE (tenant_id uuid, id uuid)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
          SELECT a.tenant_id, a.id FROM approvals a
          WHERE a.status = 'pending' AND a.remind_at <= at AND a.deleted_at IS NULL
          LIMIT most
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION due_approvals(timestamptz, bigint) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION due_approvals(timestamptz, bigint) TO {APP}")
    op.add_column("orders", sa.Column("is_approved", sa.Boolean(), server_default="false", nullable=False))
    op.drop_constraint(op.f("ck_orders_state"), "orders")
    op.create_check_constraint(op.f("ck_orders_state"), "orders", f"{STATES}, 'pending_approval')")


def downgrade():
    op.drop_constraint(op.f("ck_orders_state"), "orders")
    op.execute("UPDATE orders SET state = 'draft' WHERE state = 'pending_approval'")
    op.create_check_constraint(op.f("ck_orders_state"), "orders", f"{STATES})")
    op.drop_column("orders", "is_approved")
    op.execute("DROP FUNCTION due_approvals(timestamptz, bigint)")
    op.drop_table("approvals")
    op.drop_table("approval_rules")
