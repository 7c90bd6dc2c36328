"""Lines of opportunities, and the amount that follows from them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import protect

revision = "20261130l"
down_revision = "20261130t"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("opportunities", sa.Column("lines", postgresql.JSONB(), server_default="[]", nullable=False))
    op.add_column("opportunities", sa.Column("priced_on", sa.Date(), nullable=True))
    op.add_column("opportunities", sa.Column("lines_total", sa.BigInteger(), nullable=True))
    op.add_column("opportunities", sa.Column("lines_currency", sa.Text(), nullable=True))
    op.create_check_constraint(
        op.f("ck_opportunities__amount_follows_lines"),
        "opportunities",
        "lines_total IS NULL OR amount IS NOT DISTINCT FROM lines_total",
    )
    op.create_check_constraint(
        op.f("ck_opportunities__currency_follows_lines"),
        "opportunities",
        "lines_currency IS NULL OR currency IS NOT DISTINCT FROM lines_currency",
    )
    op.create_table(
        "opportunity_lines",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("opportunity_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("product_id", sa.Uuid(), nullable=True),
        sa.Column("sku", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.Uuid(), nullable=True),
        sa.Column("unit_price", sa.BigInteger(), nullable=False),
        sa.Column("price_source", sa.Text(), nullable=False),
        sa.Column("price_book_id", sa.Uuid(), nullable=True),
        sa.Column("price_entry_id", sa.Uuid(), nullable=True),
        sa.Column("found_price", sa.BigInteger(), nullable=True),
        sa.Column("discount_percent", sa.BigInteger(), nullable=True),
        sa.Column("discount_amount", sa.BigInteger(), nullable=True),
        sa.Column("discount", sa.BigInteger(), nullable=False),
        sa.Column("tax_class", sa.Text(), nullable=True),
        sa.Column("tax_percent", sa.BigInteger(), nullable=True),
        sa.Column("taxes", postgresql.JSONB(), nullable=False),
        sa.Column("net_amount", sa.BigInteger(), nullable=False),
        sa.Column("tax_amount", sa.BigInteger(), nullable=False),
        sa.Column("gross_amount", sa.BigInteger(), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("origin_line_id", sa.Uuid(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("external_ids", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.CheckConstraint("price_source IN ('book', 'list', 'given')", name=op.f("ck_opportunity_lines_price_source")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "opportunity_id"],
            ["opportunities.tenant_id", "opportunities.id"],
            name=op.f("fk_opportunity_lines_opportunity_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "product_id"],
            ["products.tenant_id", "products.id"],
            name=op.f("fk_opportunity_lines_product_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "unit_id"], ["units.tenant_id", "units.id"], name=op.f("fk_opportunity_lines_unit_id")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_opportunity_lines")),
    )
    op.create_index("ix_opportunity_lines_opportunity_id", "opportunity_lines", ["tenant_id", "opportunity_id", "id"])
    for column in ("product_id", "unit_id"):
        op.create_index(
            f"ix_opportunity_lines_{column}",
            "opportunity_lines",
            ["tenant_id", column, "id"],
            postgresql_where=sa.text(f"{column} IS NOT NULL"),
        )
    protect("opportunity_lines", grants="SELECT, INSERT, UPDATE, DELETE")


def downgrade():
    op.drop_table("opportunity_lines")
    for column in ("amount", "currency"):
        op.drop_constraint(op.f(f"ck_opportunities__{column}_follows_lines"), "opportunities")
    for column in ("lines_currency", "lines_total", "priced_on", "lines"):
        op.drop_column("opportunities", column)
