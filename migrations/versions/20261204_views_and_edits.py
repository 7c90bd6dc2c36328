"""Saved views, and what edits of many records did, so that they can be taken back."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import protect

revision = "20261204v"
down_revision = "20261204t"
branch_labels = None
depends_on = None

_JSON = postgresql.JSONB(astext_type=sa.Text())


def upgrade():
    op.create_table(
        "saved_views",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("filter", _JSON, nullable=True),
        sa.Column("sort", _JSON, nullable=False),
        sa.Column("columns", _JSON, nullable=False),
        sa.Column("visibility", sa.Text(), nullable=False),
        sa.Column("team_id", sa.Uuid(), nullable=True),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", _JSON, server_default="{}", nullable=False),
        sa.Column("external_ids", _JSON, server_default="{}", nullable=False),
        sa.CheckConstraint("visibility IN ('private', 'team', 'everyone')", name=op.f("ck_saved_views_visibility")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "team_id"], ["teams.tenant_id", "teams.id"], name=op.f("fk_saved_views_team_id")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_saved_views")),
    )
    for column in ("created_at", "created_by", "position", "team_id"):
        op.create_index(f"ix_saved_views_{column}", "saved_views", ["tenant_id", column, "id"])
    op.create_table(
        "edited_records",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("before", _JSON, nullable=False),
        sa.Column("after", _JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "job_id"],
            ["jobs.tenant_id", "jobs.id"],
            name=op.f("fk_edited_records_job_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "job_id", "object_id", name=op.f("pk_edited_records")),
    )
    op.create_index("ix_edited_records_object_id", "edited_records", ["tenant_id", "object_id"])
    op.create_table(
        "edit_undos",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("undo_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "job_id"],
            ["jobs.tenant_id", "jobs.id"],
            name=op.f("fk_edit_undos_job_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "undo_id"],
            ["jobs.tenant_id", "jobs.id"],
            name=op.f("fk_edit_undos_undo_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "job_id", name=op.f("pk_edit_undos")),
    )
    op.create_index("ix_edit_undos_undo_id", "edit_undos", ["tenant_id", "undo_id"])
    protect("saved_views")
    protect("edited_records", grants="SELECT, INSERT, DELETE")
    protect("edit_undos", grants="SELECT, INSERT")


def downgrade():
    for table in ("edit_undos", "edited_records", "saved_views"):
        op.drop_table(table)
