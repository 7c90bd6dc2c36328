"""Files on records, and leases of bytes that no record has yet."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import APP, protect

revision = "20261126f"
down_revision = "20261126dup"
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        "files",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("object_type", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("storage_key", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("external_ids", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_files")),
    )
    op.create_index("ix_files_object_id", "files", ["tenant_id", "object_type", "object_id", "id"])
    op.create_index("ix_files_created_at", "files", ["tenant_id", "created_at", "id"])
    protect("files")
    op.create_table(
        "storage_leases",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("storage_key", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "storage_key", name=op.f("pk_storage_leases")),
    )
    op.create_index("ix_storage_leases_expires_at", "storage_leases", ["expires_at"])
    protect("storage_leases", grants="SELECT, INSERT, UPDATE, DELETE")  # UPDATE locks a lease while its bytes go
    op.execute(
        """
        CREATE FUNCTION tenants_with_expired_leases(most bigint) RETURNS SETOF uuid
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
          SELECT DISTINCT oldest.tenant_id FROM (
            SELECT tenant_id FROM storage_leases WHERE expires_at <= now() ORDER BY expires_at LIMIT 10 * most) oldest
          LIMIT most
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION tenants_with_expired_leases(bigint) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION tenants_with_expired_leases(bigint) TO {APP}")


def downgrade():
    op.execute("DROP FUNCTION tenants_with_expired_leases(bigint)")
    op.drop_table("storage_leases")
    op.drop_table("files")
