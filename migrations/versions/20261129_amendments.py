"""Amendments of orders."""

import sqlalchemy as sa
from alembic import op

revision = "20261129m"
down_revision = "20261129q"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("orders", sa.Column("amendment", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("orders", sa.Column("amendment_reason", sa.Text()))


def downgrade():
    op.drop_column("orders", "amendment_reason")
    op.drop_column("orders", "amendment")
