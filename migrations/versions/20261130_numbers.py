"""Numbers of documents are looked for among deleted ones, too."""

import sqlalchemy as sa
from alembic import op

revision = "20261130u"
down_revision = "20261130x"
branch_labels = None
depends_on = None

TABLES = ("orders", "quotes")


def upgrade():
    for table in TABLES:
        op.create_index(
            f"ix_{table}_number", table, ["tenant_id", "number", "id"], postgresql_where=sa.text("number IS NOT NULL")
        )


def downgrade():
    for table in reversed(TABLES):
        op.drop_index(f"ix_{table}_number", table)
