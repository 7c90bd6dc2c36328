"""An undo that took nothing back gives its place to the next one."""

from alembic import op

from crm_api.kernel.migration import APP

revision = "20261209u"
down_revision = "20261209"
branch_labels = None
depends_on = None


def upgrade():
    op.execute(f"GRANT UPDATE (undo_id) ON edit_undos TO {APP}")


def downgrade():
    op.execute(f"REVOKE UPDATE (undo_id) ON edit_undos FROM {APP}")
