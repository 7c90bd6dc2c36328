"""Products: units, categories, products, and what bundles consist of."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import protect, searchable, unsearchable
from crm_api.kernel.migration_search import findable, unfindable

revision = "20261128a"
down_revision = "20261127r"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text())
INSTANT = sa.DateTime(timezone=True)
LIVE = sa.text("deleted_at IS NULL")


def _front():
    return (
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
    )


def _rest(table):
    return (
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", INSTANT, nullable=True),
        sa.Column("custom", JSONB, server_default="{}", nullable=False),
        sa.Column("external_ids", JSONB, server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f(f"pk_{table}")),
    )


def _reference(table, column, other):
    return sa.ForeignKeyConstraint(
        ["tenant_id", column], [f"{other}.tenant_id", f"{other}.id"], name=op.f(f"fk_{table}_{column}")
    )


def _indexes(table, sorted_by, sparse=()):
    for column in sorted_by:
        op.create_index(f"ix_{table}_{column}", table, ["tenant_id", column, "id"])
    for column in sparse:
        kept = sa.text(f"{column} IS NOT NULL")
        op.create_index(f"ix_{table}_{column}", table, ["tenant_id", column, "id"], postgresql_where=kept)


def _unique(table, *columns):
    name = f"uq_{table}_{columns[0]}"
    op.create_index(name, table, ["tenant_id", *columns], unique=True, postgresql_where=LIVE)


def upgrade():
    op.create_table(
        "units",
        *_front(),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("decimals", sa.BigInteger(), nullable=False),
        *_rest("units"),
    )
    op.create_table(
        "product_categories",
        *_front(),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        _reference("product_categories", "parent_id", "product_categories"),
        *_rest("product_categories"),
    )
    op.create_table(
        "products",
        *_front(),
        sa.Column("sku", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("category_id", sa.Uuid(), nullable=True),
        sa.Column("unit_id", sa.Uuid(), nullable=False),
        sa.Column("conversions", JSONB, nullable=False),
        sa.Column("tracking", sa.Text(), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=True),
        sa.Column("list_price", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("tax_class", sa.Text(), nullable=False),
        sa.Column("barcode", sa.Text(), nullable=True),
        sa.Column("specification", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("weight", sa.BigInteger(), nullable=True),
        sa.Column("attributes", JSONB, nullable=False),
        sa.Column("variant_of_id", sa.Uuid(), nullable=True),
        sa.Column("replaced_by_id", sa.Uuid(), nullable=True),
        sa.Column("tags", JSONB, nullable=False),
        sa.Column("search_text", sa.Text(), nullable=False),
        sa.CheckConstraint("kind IN ('goods', 'service', 'bundle')", name=op.f("ck_products_kind")),
        sa.CheckConstraint("tracking IN ('none', 'lot', 'serial')", name=op.f("ck_products_tracking")),
        sa.CheckConstraint("status IN ('active', 'retired')", name=op.f("ck_products_status")),
        _reference("products", "category_id", "product_categories"),
        _reference("products", "unit_id", "units"),
        _reference("products", "variant_of_id", "products"),
        _reference("products", "replaced_by_id", "products"),
        *_rest("products"),
    )
    op.create_table(
        "product_components",
        *_front(),
        sa.Column("product_id", sa.Uuid(), nullable=False),
        sa.Column("component_id", sa.Uuid(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        _reference("product_components", "product_id", "products"),
        _reference("product_components", "component_id", "products"),
        *_rest("product_components"),
    )
    _indexes("units", ("code", "name_key", "created_at"))
    _unique("units", "code")
    _indexes("product_categories", ("name_key", "created_at"), ("parent_id",))
    _unique("product_categories", "code")
    _indexes(
        "products",
        ("sku", "name_key", "list_price", "created_at", "unit_id"),
        ("category_id", "variant_of_id", "replaced_by_id"),
    )
    _unique("products", "sku")
    _unique("products", "barcode")
    _indexes("product_components", ("product_id", "component_id", "position", "created_at"))
    _unique("product_components", "product_id", "component_id")
    for table in ("units", "product_categories", "products", "product_components"):
        protect(table)
    searchable("products")
    findable("products")


def downgrade():
    unfindable("products")
    unsearchable("products")
    for table in ("product_components", "products", "product_categories", "units"):
        op.drop_table(table)
