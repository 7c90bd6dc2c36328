"""Finds endpoints of webhooks whose secrets an earlier secret of the installation has sealed, to seal them anew."""

from alembic import op

from crm_api.kernel.migration import APP

revision = "20261202r"
down_revision = "20261201c"
branch_labels = None
depends_on = None


def upgrade():
    # A sealed value begins with its version and the name of the key: five bytes.
    op.execute(
        """
        CREATE FUNCTION endpoints_sealed_earlier(heads bytea[], most bigint)
        RETURNS TABLE (tenant_id uuid, id uuid)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
          SELECT e.tenant_id, e.id FROM webhook_endpoints e
          WHERE substring(e.sealed_headers FOR 5) = ANY (heads) OR substring(e.sealed_secrets FOR 5) = ANY (heads)
          LIMIT most
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION endpoints_sealed_earlier(bytea[], bigint) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION endpoints_sealed_earlier(bytea[], bigint) TO {APP}")


def downgrade():
    op.execute("DROP FUNCTION endpoints_sealed_earlier(bytea[], bigint)")
