"""Bytes of deleted files go in time; what a merge did is recorded for good."""

import sqlalchemy as sa
from alembic import op

from crm_api.kernel.migration import APP

revision = "20261126b"
down_revision = "20261126f"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("files", sa.Column("purged_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_files_deleted_at",
        "files",
        ["deleted_at"],
        postgresql_where=sa.text("deleted_at IS NOT NULL AND purged_at IS NULL"),
    )
    # Whoever asks, a file that was deleted today keeps its bytes. They go with the lease that has them from now on.
    op.execute(
        """
        CREATE FUNCTION purge_files(older_than timestamptz, most bigint) RETURNS bigint
        LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
          WITH old AS (SELECT tenant_id, id FROM files
            WHERE deleted_at < least(older_than, now() - interval '1 day') AND purged_at IS NULL
            ORDER BY deleted_at LIMIT most FOR UPDATE SKIP LOCKED),
          purged AS (UPDATE files f SET purged_at = now() FROM old
            WHERE f.tenant_id = old.tenant_id AND f.id = old.id RETURNING f.tenant_id, f.storage_key),
          leased AS (INSERT INTO storage_leases (tenant_id, storage_key, expires_at)
            SELECT tenant_id, storage_key, now() FROM purged ON CONFLICT DO NOTHING RETURNING 1)
          SELECT count(*) FROM purged
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION purge_files(timestamptz, bigint) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION purge_files(timestamptz, bigint) TO {APP}")
    op.execute(f"REVOKE UPDATE ON merges FROM {APP}")
    op.execute(f"GRANT UPDATE (undone_at) ON merges TO {APP}")


def downgrade():
    op.execute(f"REVOKE UPDATE (undone_at) ON merges FROM {APP}")
    op.execute(f"GRANT UPDATE ON merges TO {APP}")
    op.execute("DROP FUNCTION purge_files(timestamptz, bigint)")
    op.drop_index("ix_files_deleted_at", table_name="files")
    op.drop_column("files", "purged_at")
