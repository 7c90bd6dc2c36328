"""Owner, team and territory of the values there are, in portions, and in the indexes; what was done is not done again."""

from uuid import UUID

import sqlalchemy as sa
from alembic import op

revision = "20261208b"
down_revision = "20261208"
branch_labels = None
depends_on = None

CIRCLE = ("owner_id", "team_id", "territory_id")
OWNED = ("accounts", "contacts", "leads", "opportunities", "quotes", "orders")
VALUES = ("text_value", "number_value", "instant_value")
NONE = UUID(int=0)


def upgrade():
    with op.get_context().autocommit_block():
        for table in OWNED:
            _fill(table)
        _indexes(CIRCLE)


def downgrade():
    with op.get_context().autocommit_block():
        _indexes(())


def _fill(table):
    """Where there is an owner already, the trigger has written what a statement of here may not see yet."""
    some = sa.text(
        f"SELECT tenant_id, id FROM {table} WHERE (tenant_id, id) > (:tenant, :id) ORDER BY tenant_id, id LIMIT 5000"
    )
    fill = sa.text(
        "UPDATE custom_values v SET owner_id = r.owner_id, team_id = r.team_id, territory_id = r.territory_id "
        f"FROM {table} r WHERE (r.tenant_id, r.id) > (:tenant, :id) AND (r.tenant_id, r.id) <= (:last_tenant, :last) "
        "AND v.tenant_id = r.tenant_id AND v.object_id = r.id AND v.owner_id IS NULL"
    )
    at = {"tenant": NONE, "id": NONE}
    while rows := op.get_bind().execute(some, at).all():
        tenant, last = rows[-1]
        op.get_bind().execute(fill, {**at, "last_tenant": tenant, "last": last})
        at = {"tenant": tenant, "id": last}


def _indexes(include):
    for value in VALUES:
        name = f"ix_custom_values_{value}"
        op.drop_index(f"{name}_new", "custom_values", postgresql_concurrently=True, if_exists=True)
        op.create_index(
            f"{name}_new",
            "custom_values",
            ["tenant_id", "field_id", value, "object_id"],
            postgresql_where=sa.text(f"{value} IS NOT NULL"),
            postgresql_include=include,
            postgresql_concurrently=True,
        )
        op.drop_index(name, "custom_values", postgresql_concurrently=True, if_exists=True)
        op.execute(f"ALTER INDEX {name}_new RENAME TO {name}")
