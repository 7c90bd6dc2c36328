"""To which address a link was mailed, and by which a person has shown that it is theirs."""

import sqlalchemy as sa
from alembic import op

revision = "20261209y"
down_revision = "20261209x"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("password_links", sa.Column("mailed_to", sa.Text(), nullable=True))
    op.add_column("passwords", sa.Column("proven_email", sa.Text(), nullable=True))


def downgrade():
    op.drop_column("passwords", "proven_email")
    op.drop_column("password_links", "mailed_to")
