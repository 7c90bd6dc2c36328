"""Shares with territories; text, expansions and defaults of saved views."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import protect

revision = "20261205v"
down_revision = "20261204v"
branch_labels = None
depends_on = None


def upgrade():
    _grantees("'user', 'team', 'territory'")


def downgrade():
    op.execute("DELETE FROM shares WHERE grantee_type = 'territory'")
    _grantees("'user', 'team'")


def _grantees(types):
    """What a share may be for; the table is read without keeping writes out."""
    op.drop_constraint("ck_shares_grantee_type", "shares", type_="check")
    op.create_check_constraint(
        op.f("ck_shares_grantee_type"), "shares", f"grantee_type IN ({types})", postgresql_not_valid=True
    )
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE shares VALIDATE CONSTRAINT ck_shares_grantee_type")
