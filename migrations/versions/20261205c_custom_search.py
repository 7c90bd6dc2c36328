"""Custom fields that text search looks into."""

import sqlalchemy as sa
from alembic import op

revision = "20261205c"
down_revision = "20261205v"
branch_labels = None
depends_on = None

_SEARCHED = ("accounts", "contacts", "leads", "products", "opportunities", "quotes", "orders")


def upgrade():
    op.add_column("custom_fields", sa.Column("is_searchable", sa.Boolean(), server_default="false", nullable=False))


def downgrade():
    for table in _SEARCHED:  # what nobody could hide then
        op.execute(
            f"UPDATE {table} SET search_text = regexp_replace(search_text, '\\x1e.*', '') "
            "WHERE strpos(search_text, chr(30)) > 0"
        )
    op.drop_column("custom_fields", "is_searchable")
