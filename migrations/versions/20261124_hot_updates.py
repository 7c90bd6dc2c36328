"""Fewer indexes that a write must touch, room on the page for the new version of a row, short pending lists."""

from alembic import op
from sqlalchemy import text

revision = "20261124a"
down_revision = "20261123a"
branch_labels = None
depends_on = None

CHANGED = ("accounts", "contacts")
SPARSE = (("accounts", "team_id"), ("accounts", "parent_id"), ("contacts", "team_id"), ("contacts", "reports_to_id"))


def upgrade():
    with op.get_context().autocommit_block():
        for table in CHANGED:
            op.execute(f"ALTER TABLE {table} SET (fillfactor = 90)")
            op.execute(f"ALTER INDEX ix_{table}_search_text SET (gin_pending_list_limit = 256)")
            op.drop_index(f"ix_{table}_updated_at", table, postgresql_concurrently=True)
        for table, column in SPARSE:
            replace(table, column, where=text(f"{column} IS NOT NULL"))


def downgrade():
    with op.get_context().autocommit_block():
        for table, column in SPARSE:
            replace(table, column, where=None)
        for table in CHANGED:
            op.create_index(
                f"ix_{table}_updated_at", table, ["tenant_id", "updated_at", "id"], postgresql_concurrently=True
            )
            op.execute(f"ALTER INDEX ix_{table}_search_text RESET (gin_pending_list_limit)")
            op.execute(f"ALTER TABLE {table} RESET (fillfactor)")


def replace(table, column, where):
    op.drop_index(f"ix_{table}_{column}", table, postgresql_concurrently=True)
    op.create_index(
        f"ix_{table}_{column}",
        table,
        ["tenant_id", column, "id"],
        postgresql_where=where,
        postgresql_concurrently=True,
    )
