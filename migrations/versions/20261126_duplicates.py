"""Duplicates: settings, and merges: which record took which one in, and how to take that back."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import protect

revision = "20261126dup"
down_revision = "20261126s"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text())
INSTANT = sa.DateTime(timezone=True)


def upgrade():
    op.create_table(
        "merges",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("object_type", sa.Text(), nullable=False),
        sa.Column("survivor_id", sa.Uuid(), nullable=False),
        sa.Column("merged_id", sa.Uuid(), nullable=False),
        sa.Column("merged_at", INSTANT, nullable=False),
        sa.Column("merged_by", sa.Uuid(), nullable=True),
        sa.Column("undone_at", INSTANT, nullable=True),
        sa.Column("journal", JSONB, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_merges")),
    )
    for column in ("merged_id", "survivor_id"):
        op.create_index(f"ix_merges_{column}", "merges", ["tenant_id", "object_type", column, "id"])
    op.create_table(
        "duplicate_checks",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("on_create", sa.Text(), nullable=False),
        sa.Column("score", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", INSTANT, nullable=True),
        sa.Column("custom", JSONB, server_default="{}", nullable=False),
        sa.Column("external_ids", JSONB, server_default="{}", nullable=False),
        sa.CheckConstraint("on_create IN ('allow', 'refuse')", name=op.f("ck_duplicate_checks_on_create")),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_duplicate_checks")),
    )
    op.create_index(
        "uq_duplicate_checks_resource",
        "duplicate_checks",
        ["tenant_id", "resource"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index("ix_duplicate_checks_created_at", "duplicate_checks", ["tenant_id", "created_at", "id"])
    for table in ("merges", "duplicate_checks"):
        protect(table)


def downgrade():
    op.drop_table("duplicate_checks")
    op.drop_table("merges")
