"""Merges: which record took which one in, and how to take that back."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import protect

revision = "20261126dup"
down_revision = "20261125e"
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
    protect("merges")


def downgrade():
    op.drop_table("merges")
