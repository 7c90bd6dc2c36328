"""Search across resources: functions that find text, and text like it."""

from crm_api.kernel.migration_search import findable, unfindable

revision = "20261126s"
down_revision = "20261125e"
branch_labels = None
depends_on = None

TABLES = ("accounts", "contacts", "principals")


def upgrade():
    for table in TABLES:
        findable(table)


def downgrade():
    for table in TABLES:
        unfindable(table)
