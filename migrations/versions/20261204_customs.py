"""Custom fields: what tenants declare, and the index of their values."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import protect

revision = "20261204k"
down_revision = "20261203d"
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        "custom_fields",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("labels", postgresql.JSONB(), nullable=False),
        sa.Column("help", sa.Text(), nullable=True),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("is_required", sa.Boolean(), nullable=False),
        sa.Column("is_unique", sa.Boolean(), nullable=False),
        sa.Column("is_filterable", sa.Boolean(), nullable=False),
        sa.Column("default_value", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("choices", postgresql.JSONB(), nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("target", sa.Text(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("index_state", sa.Text(), nullable=False),
        sa.Column("index_build", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("external_ids", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.CheckConstraint(
            "kind IN ('text', 'long_text', 'number', 'decimal', 'money', 'date', 'instant', 'boolean', 'choice', "
            "'multi_choice', 'reference', 'url', 'email', 'phone')",
            name=op.f("ck_custom_fields_kind"),
        ),
        sa.CheckConstraint("state IN ('active', 'retired')", name=op.f("ck_custom_fields_state")),
        sa.CheckConstraint("index_state IN ('none', 'building', 'ready')", name=op.f("ck_custom_fields_index_state")),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_custom_fields")),
    )
    op.create_index(
        "uq_custom_fields_key",
        "custom_fields",
        ["tenant_id", "resource", "key"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index("ix_custom_fields_position", "custom_fields", ["tenant_id", "position", "id"])
    op.create_index("ix_custom_fields_created_at", "custom_fields", ["tenant_id", "created_at", "id"])
    protect("custom_fields")
    op.create_table(
        "custom_values",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("field_id", sa.Uuid(), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("text_value", sa.Text(), nullable=True),
        sa.Column("number_value", sa.BigInteger(), nullable=True),
        sa.Column("instant_value", sa.DateTime(timezone=True), nullable=True),
        sa.Column("unique_key", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "field_id"],
            ["custom_fields.tenant_id", "custom_fields.id"],
            name=op.f("fk_custom_values_field_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "field_id", "object_id", name=op.f("pk_custom_values")),
    )
    op.create_index(
        "uq_custom_values_unique_key",
        "custom_values",
        ["tenant_id", "field_id", "unique_key"],
        unique=True,
        postgresql_where=sa.text("unique_key IS NOT NULL"),
    )
    op.create_index("ix_custom_values_object_id", "custom_values", ["tenant_id", "object_id"])
    for name in ("text_value", "number_value", "instant_value"):
        op.create_index(
            f"ix_custom_values_{name}",
            "custom_values",
            ["tenant_id", "field_id", name, "object_id"],
            postgresql_where=sa.text(f"{name} IS NOT NULL"),
        )
    protect("custom_values", grants="SELECT, INSERT, UPDATE, DELETE")


def downgrade():
    op.drop_table("custom_values")
    op.drop_table("custom_fields")
