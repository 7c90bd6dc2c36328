"""Who still uses what is deprecated."""

import sqlalchemy as sa
from alembic import op

from crm_api.kernel.migration import protect

revision = "20261203d"
down_revision = "20261202o"
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        "deprecation_uses",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("credential_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("uses", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "credential_id", "name", name=op.f("pk_deprecation_uses")),
    )
    protect("deprecation_uses")


def downgrade():
    op.drop_table("deprecation_uses")
