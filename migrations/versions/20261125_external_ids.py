"""External ids: what other systems call our records, and those systems."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import protect

revision = "20261125c"
down_revision = "20261125b"
branch_labels = None
depends_on = None

RECORDS = (
    "access_defaults",
    "account_contacts",
    "account_team_members",
    "accounts",
    "api_keys",
    "contacts",
    "principals",
    "role_assignments",
    "roles",
    "team_members",
    "teams",
)
KEY = ["tenant_id", "source", "object_type", "external_id"]


def external_ids():
    return sa.Column("external_ids", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False)


def upgrade():
    for table in RECORDS:
        op.add_column(table, external_ids())  # a constant default: no row is touched
    op.create_table(
        "external_ids",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("object_type", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "object_type", "object_id", "source", name=op.f("pk_external_ids")),
    )
    op.create_index(
        "uq_external_ids_external_id", "external_ids", KEY, unique=True, postgresql_where=sa.text("deleted_at IS NULL")
    )
    op.create_index("ix_external_ids_deleted", "external_ids", KEY, postgresql_where=sa.text("deleted_at IS NOT NULL"))
    op.create_table(
        "sources",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("service_account_id", sa.Uuid(), nullable=True),
        sa.Column("owned_fields", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("on_conflict", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        external_ids(),
        sa.CheckConstraint("on_conflict IN ('refuse', 'ignore')", name=op.f("ck_sources_on_conflict")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "service_account_id"],
            ["principals.tenant_id", "principals.id"],
            name=op.f("fk_sources_service_account_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_sources")),
    )
    op.create_index(
        "uq_sources_code", "sources", ["tenant_id", "code"], unique=True, postgresql_where=sa.text("deleted_at IS NULL")
    )
    for column in ("name_key", "created_at"):
        op.create_index(f"ix_sources_{column}", "sources", ["tenant_id", column, "id"])
    op.create_index(
        "ix_sources_service_account_id",
        "sources",
        ["tenant_id", "service_account_id", "id"],
        postgresql_where=sa.text("service_account_id IS NOT NULL"),
    )
    protect("external_ids", grants="SELECT, INSERT, DELETE, UPDATE (deleted_at)")
    protect("sources")


def downgrade():
    op.drop_table("sources")
    op.drop_table("external_ids")
    for table in RECORDS:
        op.drop_column(table, "external_ids")
