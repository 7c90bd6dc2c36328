"""Territories, who works in them, the rules that assign, and foreign keys to them on what has an owner."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import protect

revision = "20261204t"
down_revision = "20261204p"
branch_labels = None
depends_on = None

OWNED = ("accounts", "contacts", "leads", "opportunities", "orders", "quotes")
RULED = ("accounts", "leads")
TABLES = ("territories", "territory_members", "territory_rules")


def upgrade():
    _territories()
    _members()
    _rules()
    for table in RULED:
        op.add_column(table, sa.Column("territory_rule_id", sa.Uuid(), nullable=True))
        op.add_column(table, sa.Column("territory_pinned", sa.Boolean(), server_default="false", nullable=False))
    keys = [(table, "territory_id", "territories") for table in OWNED]
    keys += [(table, "territory_rule_id", "territory_rules") for table in RULED]
    for table, column, target in keys:
        op.create_foreign_key(
            f"fk_{table}_{column}",
            table,
            target,
            ["tenant_id", column],
            ["tenant_id", "id"],
            postgresql_not_valid=True,
        )
    with op.get_context().autocommit_block():
        for table, column, _ in keys:
            op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT fk_{table}_{column}")
            op.create_index(
                f"ix_{table}_{column}",
                table,
                ["tenant_id", column, "id"],
                postgresql_where=sa.text(f"{column} IS NOT NULL"),
                postgresql_concurrently=True,
            )


def downgrade():
    for table in reversed(RULED):
        op.drop_constraint(f"fk_{table}_territory_rule_id", table)
        op.drop_column(table, "territory_rule_id")
        op.drop_column(table, "territory_pinned")
    for table in reversed(OWNED):
        op.drop_constraint(f"fk_{table}_territory_id", table)
        op.drop_index(f"ix_{table}_territory_id", table)
    for table in reversed(TABLES):
        op.drop_table(table)


def _territories():
    op.create_table(
        "territories",
        *_every_record(),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("is_active", sa.Boolean(), server_default="true", nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "parent_id"],
            ["territories.tenant_id", "territories.id"],
            name=op.f("fk_territories_parent_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_territories")),
    )
    _index("territories", "code", "name_key", "created_at")
    op.create_index(
        "ix_territories_parent_id",
        "territories",
        ["tenant_id", "parent_id", "id"],
        postgresql_where=sa.text("parent_id IS NOT NULL"),
    )
    _unique("uq_territories_code", "territories", "code")
    protect("territories")


def _members():
    op.create_table(
        "territory_members",
        *_every_record(),
        sa.Column("territory_id", sa.Uuid(), nullable=False),
        sa.Column("principal_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.CheckConstraint("role IN ('member', 'lead')", name=op.f("ck_territory_members_role")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "territory_id"],
            ["territories.tenant_id", "territories.id"],
            name=op.f("fk_territory_members_territory_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "principal_id"],
            ["principals.tenant_id", "principals.id"],
            name=op.f("fk_territory_members_principal_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_territory_members")),
    )
    _index("territory_members", "territory_id")
    _unique("uq_territory_members_principal_id", "territory_members", "principal_id", "territory_id")
    protect("territory_members")


def _rules():
    listed = ("countries", "postal_codes", "industries")
    numbers = ("employees_min", "employees_max", "revenue_min", "revenue_max")
    op.create_table(
        "territory_rules",
        *_every_record(),
        sa.Column("territory_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default="true", nullable=False),
        *(sa.Column(name, postgresql.JSONB(), nullable=False) for name in listed),
        *(sa.Column(name, sa.BigInteger(), nullable=True) for name in numbers),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "territory_id"],
            ["territories.tenant_id", "territories.id"],
            name=op.f("fk_territory_rules_territory_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_territory_rules")),
    )
    _index("territory_rules", "territory_id", "priority", "created_at")
    _unique("uq_territory_rules_name", "territory_rules", "name_key")
    protect("territory_rules")


def _every_record():
    return (
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("external_ids", postgresql.JSONB(), server_default="{}", nullable=False),
    )


def _index(table, *columns):
    for column in columns:
        op.create_index(f"ix_{table}_{column}", table, ["tenant_id", column, "id"])


def _unique(name, table, *columns):
    op.create_index(name, table, ["tenant_id", *columns], unique=True, postgresql_where=sa.text("deleted_at IS NULL"))
