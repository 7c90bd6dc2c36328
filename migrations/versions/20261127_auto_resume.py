"""Finds endpoints of webhooks that were paused by their failures, to try them again."""

from alembic import op

from crm_api.kernel.migration import APP

revision = "20261127r"
down_revision = "20261126i"
branch_labels = None
depends_on = None


def upgrade():
    op.execute(
        """
        CREATE FUNCTION failed_endpoints(older_than timestamptz, most bigint)
        RETURNS TABLE (tenant_id uuid, id uuid)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
          SELECT e.tenant_id, e.id FROM webhook_endpoints e
          WHERE e.status = 'paused' AND e.updated_by IS NULL AND e.updated_at < older_than AND e.deleted_at IS NULL
          LIMIT most
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION failed_endpoints(timestamptz, bigint) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION failed_endpoints(timestamptz, bigint) TO {APP}")


def downgrade():
    op.execute("DROP FUNCTION failed_endpoints(timestamptz, bigint)")
