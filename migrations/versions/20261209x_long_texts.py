"""Long texts are not filterable, as filters always had it."""

from alembic import op

revision = "20261209x"
down_revision = "20261209u"
branch_labels = None
depends_on = None


def upgrade():
    op.execute("UPDATE custom_fields SET is_filterable = false WHERE kind = 'long_text' AND is_filterable")


def downgrade():
    """Either value means the same there."""
