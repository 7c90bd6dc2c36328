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
VALUES = ("text_value", "number_value", "instant_value")


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
        # where there is an owner already, the trigger has written what this statement may not see yet
        op.execute(
            f"UPDATE custom_values v SET owner_id = r.owner_id, team_id = r.team_id, territory_id = r.territory_id "
            f"FROM {table} r WHERE r.tenant_id = v.tenant_id AND r.id = v.object_id AND v.owner_id IS NULL"
        )
    _indexes(CIRCLE)


def downgrade():
    _indexes(())
    for table in OWNED:
        uncircled(table)
    op.execute("DROP FUNCTION move_custom_values()")
    for name in CIRCLE:
        op.drop_column("custom_values", name)


def _indexes(include):
    with op.get_context().autocommit_block():
        for value in VALUES:
            name = f"ix_custom_values_{value}"
            op.create_index(
                f"{name}_new",
                "custom_values",
                ["tenant_id", "field_id", value, "object_id"],
                postgresql_where=sa.text(f"{value} IS NOT NULL"),
                postgresql_include=include,
                postgresql_concurrently=True,
            )
            op.drop_index(name, "custom_values", postgresql_concurrently=True)
            op.execute(f"ALTER INDEX {name}_new RENAME TO {name}")
