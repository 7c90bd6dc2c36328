"""One open approval of each document: ids are unique among documents of one kind, not among all."""

import sqlalchemy as sa
from alembic import op

revision = "20261130x"
down_revision = "20261130l"
branch_labels = None
depends_on = None

_OPEN = sa.text("deleted_at IS NULL AND status = 'pending'")


def upgrade():
    _replace("tenant_id", "object_type", "object_id")


def downgrade():
    _replace("tenant_id", "object_id")


def _replace(*columns):
    op.drop_index("uq_approvals_object_id", table_name="approvals", postgresql_where=_OPEN)
    op.create_index("uq_approvals_object_id", "approvals", list(columns), unique=True, postgresql_where=_OPEN)
