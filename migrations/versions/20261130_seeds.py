"""Which seeds a tenant got."""

import sqlalchemy as sa
from alembic import op

from crm_api.kernel.migration import protect

revision = "20261130s"
down_revision = "20261129p"
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        "tenant_seeds",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "name", name=op.f("pk_tenant_seeds")),
    )
    protect("tenant_seeds", grants="SELECT, INSERT")


def downgrade():
    op.drop_table("tenant_seeds")
