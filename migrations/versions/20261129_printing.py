"""Templates of printed documents."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import protect

revision = "20261129p"
down_revision = "20261129m"
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        "document_templates",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("object_type", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("footer", sa.Text(), nullable=True),
        sa.Column("logo_file_id", sa.Uuid(), nullable=True),
        sa.Column("is_default", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("default_mark", sa.Boolean(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("external_ids", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "logo_file_id"],
            ["files.tenant_id", "files.id"],
            name=op.f("fk_document_templates_logo_file_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_document_templates")),
    )
    op.create_index("ix_document_templates_created_at", "document_templates", ["tenant_id", "created_at", "id"])
    op.create_index("ix_document_templates_name_key", "document_templates", ["tenant_id", "name_key", "id"])
    op.create_index(
        "ix_document_templates_logo_file_id",
        "document_templates",
        ["tenant_id", "logo_file_id", "id"],
        postgresql_where=sa.text("logo_file_id IS NOT NULL"),
    )
    op.create_index(
        "uq_document_templates_default_mark",
        "document_templates",
        ["tenant_id", "object_type", "language", "default_mark"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    protect("document_templates")


def downgrade():
    op.drop_table("document_templates")
