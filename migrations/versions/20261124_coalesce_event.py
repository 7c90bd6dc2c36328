"""One generic event for each object and transaction: the function that merges a second change into the first's event."""

from alembic import op

from crm_api.kernel.migration import APP

revision = "20261124b"
down_revision = "20261124a"
branch_labels = None
depends_on = None

SIGNATURE = "coalesce_event(uuid, bigint, text, bigint, jsonb, jsonb)"


def upgrade():
    # The server's role may only add to the outbox. This may change a row, as long as the transaction that wrote it runs.
    op.execute(
        """
        CREATE FUNCTION coalesce_event(wanted uuid, place bigint, kind text, number bigint, before jsonb, image jsonb)
        RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
        DECLARE
          earlier outbox%ROWTYPE;
        BEGIN
          SELECT * INTO earlier FROM outbox o
            WHERE o.tenant_id = wanted AND o.id = place AND o.xmin = pg_current_xact_id()::xid
              AND wanted = nullif(current_setting('crm.tenant', true), '')::uuid;
          IF NOT FOUND THEN
            RAISE EXCEPTION 'outbox row % was not written by this transaction', place;
          END IF;
          IF kind IS NULL THEN
            DELETE FROM outbox o WHERE o.tenant_id = wanted AND o.id = place;
            RETURN NULL;
          END IF;
          UPDATE outbox o SET type = o.object_type || '.' || kind, version = number, data = image,
            previous = CASE
              WHEN kind IN ('created', 'restored') THEN '{}'::jsonb
              WHEN earlier.type = earlier.object_type || '.deleted' THEN (
                SELECT coalesce(jsonb_object_agg(p.key, p.value), '{}'::jsonb) FROM jsonb_each(earlier.previous) p
                WHERE p.value IS DISTINCT FROM image -> p.key AND p.key NOT IN ('version', 'updated_at', 'updated_by'))
              ELSE before || earlier.previous
            END
            WHERE o.tenant_id = wanted AND o.id = place;
          RETURN place;
        END $$
        """
    )
    op.execute(f"REVOKE ALL ON FUNCTION {SIGNATURE} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {SIGNATURE} TO {APP}")


def downgrade():
    op.execute(f"DROP FUNCTION {SIGNATURE}")
