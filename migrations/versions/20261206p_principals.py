"""Links by which a new password ends API keys, too."""

import sqlalchemy as sa
from alembic import op

revision = "20261206p"
down_revision = "20261205c"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("password_links", sa.Column("revokes_keys", sa.Boolean(), server_default="false", nullable=False))


def downgrade():
    op.drop_column("password_links", "revokes_keys")
