"""Accounts are found by their industry, also from records that refer to them."""

import sqlalchemy as sa
from alembic import op

revision = "20261207"
down_revision = "20261206p"
branch_labels = None
depends_on = None


def upgrade():
    with op.get_context().autocommit_block():
        op.create_index(
            "ix_accounts_industry",
            "accounts",
            ["tenant_id", "industry", "id"],
            postgresql_where=sa.text("industry IS NOT NULL"),
            postgresql_concurrently=True,
        )


def downgrade():
    with op.get_context().autocommit_block():
        op.drop_index("ix_accounts_industry", "accounts", postgresql_concurrently=True)
