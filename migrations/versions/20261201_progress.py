"""How much of each line of an order was shipped and invoiced."""

import sqlalchemy as sa
from alembic import op

revision = "20261201p"
down_revision = "20261130u"
branch_labels = None
depends_on = None


def upgrade():
    for name in ("shipped_quantity", "invoiced_quantity"):
        op.add_column("order_lines", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))


def downgrade():
    for name in ("invoiced_quantity", "shipped_quantity"):
        op.drop_column("order_lines", name)
