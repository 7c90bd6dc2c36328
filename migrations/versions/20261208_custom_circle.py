"""Owner, team and territory stand beside each custom value, so that walks leave out what is closed to their caller."""

import sqlalchemy as sa
from alembic import op

from crm_api.kernel.migration import circled, uncircled

revision = "20261208"
down_revision = "20261207"
branch_labels = None
depends_on = None

CIRCLE = ("owner_id", "team_id", "territory_id")
OWNED = ("accounts", "contacts", "leads", "opportunities", "quotes", "orders")


def upgrade():
    for name in CIRCLE:
        op.add_column("custom_values", sa.Column(name, sa.Uuid(), nullable=True))
    op.execute(
        """
        CREATE FUNCTION move_custom_values() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
        BEGIN
          UPDATE custom_values SET owner_id = NEW.owner_id, team_id = NEW.team_id, territory_id = NEW.territory_id
            WHERE tenant_id = NEW.tenant_id AND object_id = NEW.id;
          RETURN NULL;
        END $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION move_custom_values() FROM PUBLIC")
    for table in OWNED:
        circled(table)


def downgrade():
    for table in OWNED:
        uncircled(table)
    op.execute("DROP FUNCTION move_custom_values()")
    for name in CIRCLE:
        op.drop_column("custom_values", name)
