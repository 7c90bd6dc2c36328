"""Currency rates, taxes and price books."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import protect

revision = "20261128b"
down_revision = "20261128c"
branch_labels = None
depends_on = None

TABLES = (
    "currency_rates",
    "tax_profiles",
    "tax_rates",
    "price_books",
    "price_entries",
)

ACCOUNTS = {"price_book_id": "price_books", "tax_profile_id": "tax_profiles"}
"""What accounts refer to."""


def upgrade():
    op.create_table(
        "currency_rates",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("base_currency", sa.Text(), nullable=False),
        sa.Column("quote_currency", sa.Text(), nullable=False),
        sa.Column("rate", sa.BigInteger(), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("external_ids", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.CheckConstraint("base_currency <> quote_currency", name=op.f("ck_currency_rates_currencies")),
        sa.CheckConstraint("rate > 0", name=op.f("ck_currency_rates_rate")),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_currency_rates")),
    )
    op.create_index("ix_currency_rates_created_at", "currency_rates", ["tenant_id", "created_at", "id"])
    op.create_index("ix_currency_rates_quote_currency", "currency_rates", ["tenant_id", "quote_currency", "id"])
    op.create_index("ix_currency_rates_valid_from", "currency_rates", ["tenant_id", "valid_from", "id"])
    op.create_index(
        "uq_currency_rates_pair",
        "currency_rates",
        ["tenant_id", "base_currency", "quote_currency", "valid_from"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "tax_profiles",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("rounding", sa.Text(), nullable=False),
        sa.Column("prices_include_tax", sa.Boolean(), nullable=False),
        sa.Column("exempt", sa.Boolean(), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("external_ids", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.CheckConstraint("rounding IN ('line', 'document')", name=op.f("ck_tax_profiles_rounding")),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_tax_profiles")),
    )
    op.create_index("ix_tax_profiles_created_at", "tax_profiles", ["tenant_id", "created_at", "id"])
    op.create_index(
        "ix_tax_profiles_default",
        "tax_profiles",
        ["tenant_id"],
        postgresql_where=sa.text("is_default AND deleted_at IS NULL"),
    )
    op.create_index("ix_tax_profiles_name_key", "tax_profiles", ["tenant_id", "name_key", "id"])
    op.create_index(
        "uq_tax_profiles_code",
        "tax_profiles",
        ["tenant_id", "code"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "tax_rates",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tax_profile_id", sa.Uuid(), nullable=False),
        sa.Column("tax_class", sa.Text(), nullable=False),
        sa.Column("country", sa.Text(), nullable=True),
        sa.Column("region", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("percent", sa.BigInteger(), nullable=False),
        sa.Column("is_compound", sa.Boolean(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=False),
        sa.Column("valid_until", sa.Date(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("external_ids", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.CheckConstraint("country IS NOT NULL OR region IS NULL", name=op.f("ck_tax_rates_region")),
        sa.CheckConstraint("percent BETWEEN 0 AND 100000000", name=op.f("ck_tax_rates_percent")),
        sa.CheckConstraint("valid_until >= valid_from", name=op.f("ck_tax_rates_validity")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "tax_profile_id"],
            ["tax_profiles.tenant_id", "tax_profiles.id"],
            name=op.f("fk_tax_rates_tax_profile_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_tax_rates")),
    )
    op.create_index("ix_tax_rates_class", "tax_rates", ["tenant_id", "tax_profile_id", "tax_class", "valid_from"])
    op.create_index("ix_tax_rates_created_at", "tax_rates", ["tenant_id", "created_at", "id"])
    op.create_index("ix_tax_rates_name_key", "tax_rates", ["tenant_id", "name_key", "id"])
    op.create_index("ix_tax_rates_valid_from", "tax_rates", ["tenant_id", "valid_from", "id"])
    op.create_table(
        "price_books",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("prices_include_tax", sa.Boolean(), nullable=False),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("adjustment_percent", sa.BigInteger(), nullable=True),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=True),
        sa.Column("valid_until", sa.Date(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("external_ids", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.CheckConstraint("adjustment_percent >= -100000000", name=op.f("ck_price_books_adjustment_percent")),
        sa.CheckConstraint("valid_until >= valid_from", name=op.f("ck_price_books_validity")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "parent_id"],
            ["price_books.tenant_id", "price_books.id"],
            name=op.f("fk_price_books_parent_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_price_books")),
    )
    op.create_index("ix_price_books_created_at", "price_books", ["tenant_id", "created_at", "id"])
    op.create_index(
        "ix_price_books_default",
        "price_books",
        ["tenant_id", "currency"],
        postgresql_where=sa.text("is_default AND deleted_at IS NULL"),
    )
    op.create_index("ix_price_books_name_key", "price_books", ["tenant_id", "name_key", "id"])
    op.create_index(
        "ix_price_books_parent_id",
        "price_books",
        ["tenant_id", "parent_id", "id"],
        postgresql_where=sa.text("parent_id IS NOT NULL"),
    )
    op.create_index(
        "uq_price_books_code",
        "price_books",
        ["tenant_id", "code"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "price_entries",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("price_book_id", sa.Uuid(), nullable=False),
        sa.Column("product_id", sa.Uuid(), nullable=True),
        sa.Column("category_id", sa.Uuid(), nullable=True),
        sa.Column("minimum_quantity", sa.BigInteger(), nullable=False),
        sa.Column("price", sa.BigInteger(), nullable=True),
        sa.Column("adjustment_percent", sa.BigInteger(), nullable=True),
        sa.Column("rounding_step", sa.BigInteger(), nullable=True),
        sa.Column("valid_from", sa.Date(), nullable=True),
        sa.Column("valid_until", sa.Date(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("external_ids", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.CheckConstraint("adjustment_percent >= -100000000", name=op.f("ck_price_entries_adjustment_percent")),
        sa.CheckConstraint("num_nonnulls(price, adjustment_percent) = 1", name=op.f("ck_price_entries_rule")),
        sa.CheckConstraint("num_nonnulls(product_id, category_id) = 1", name=op.f("ck_price_entries_subject")),
        sa.CheckConstraint("price >= 0", name=op.f("ck_price_entries_price")),
        sa.CheckConstraint("rounding_step > 0", name=op.f("ck_price_entries_rounding_step")),
        sa.CheckConstraint("valid_until >= valid_from", name=op.f("ck_price_entries_validity")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "category_id"],
            ["product_categories.tenant_id", "product_categories.id"],
            name=op.f("fk_price_entries_category_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "price_book_id"],
            ["price_books.tenant_id", "price_books.id"],
            name=op.f("fk_price_entries_price_book_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "product_id"], ["products.tenant_id", "products.id"], name=op.f("fk_price_entries_product_id")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_price_entries")),
    )
    op.create_index(
        "ix_price_entries_category", "price_entries", ["tenant_id", "price_book_id", "category_id", "minimum_quantity"]
    )
    op.create_index(
        "ix_price_entries_category_id",
        "price_entries",
        ["tenant_id", "category_id", "id"],
        postgresql_where=sa.text("category_id IS NOT NULL"),
    )
    op.create_index("ix_price_entries_created_at", "price_entries", ["tenant_id", "created_at", "id"])
    op.create_index(
        "ix_price_entries_product", "price_entries", ["tenant_id", "price_book_id", "product_id", "minimum_quantity"]
    )
    op.create_index(
        "ix_price_entries_product_id",
        "price_entries",
        ["tenant_id", "product_id", "id"],
        postgresql_where=sa.text("product_id IS NOT NULL"),
    )
    for table in TABLES:
        protect(table)
    op.drop_column("accounts", "tax_profile")
    for column, table in ACCOUNTS.items():
        op.add_column("accounts", sa.Column(column, sa.Uuid()))
        op.create_foreign_key(f"fk_accounts_{column}", "accounts", table, ["tenant_id", column], ["tenant_id", "id"])
        op.create_index(
            f"ix_accounts_{column}",
            "accounts",
            ["tenant_id", column, "id"],
            postgresql_where=sa.text(f"{column} IS NOT NULL"),
        )


def downgrade():
    for column in ACCOUNTS:
        op.drop_column("accounts", column)
    op.add_column("accounts", sa.Column("tax_profile", sa.Text()))
    for table in reversed(TABLES):
        op.drop_table(table)
