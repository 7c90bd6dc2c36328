"""Quotes and their lines."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import APP, protect, searchable, unsearchable
from crm_api.kernel.migration_search import findable, unfindable

revision = "20261129q"
down_revision = "20261129a"
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        "quotes",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("quoted_on", sa.Date(), nullable=False),
        sa.Column("valid_until", sa.Date(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("previous_id", sa.Uuid(), nullable=True),
        sa.Column("superseded_by_id", sa.Uuid(), nullable=True),
        sa.Column("order_id", sa.Uuid(), nullable=True),
        sa.Column("number", sa.Text(), nullable=True),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("contact_id", sa.Uuid(), nullable=True),
        sa.Column("opportunity_id", sa.Uuid(), nullable=True),
        sa.Column("client_reference", sa.Text(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("prices", sa.Text(), nullable=False),
        sa.Column("price_book_id", sa.Uuid(), nullable=True),
        sa.Column("tax_profile_id", sa.Uuid(), nullable=True),
        sa.Column("payment_terms", sa.Text(), nullable=True),
        sa.Column("billing_address", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("shipping_address", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("tags", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("lines", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("taxes", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("discount_total", sa.BigInteger(), nullable=False),
        sa.Column("net_total", sa.BigInteger(), nullable=False),
        sa.Column("tax_total", sa.BigInteger(), nullable=False),
        sa.Column("gross_total", sa.BigInteger(), nullable=False),
        sa.Column("deepest_discount", sa.BigInteger(), nullable=False),
        sa.Column("margin", sa.BigInteger(), nullable=True),
        sa.Column("is_approved", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("search_text", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=True),
        sa.Column("team_id", sa.Uuid(), nullable=True),
        sa.Column("territory_id", sa.Uuid(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("external_ids", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.CheckConstraint("prices IN ('net', 'gross')", name=op.f("ck_quotes_prices")),
        sa.CheckConstraint(
            "state IN ('draft', 'approved', 'pending_approval', 'sent', 'accepted', 'rejected', 'expired', 'superseded', "
            "'cancelled')",
            name=op.f("ck_quotes_state"),
        ),
        sa.CheckConstraint("valid_until >= quoted_on", name=op.f("ck_quotes_validity")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "account_id"], ["accounts.tenant_id", "accounts.id"], name=op.f("fk_quotes_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "contact_id"], ["contacts.tenant_id", "contacts.id"], name=op.f("fk_quotes_contact_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "opportunity_id"],
            ["opportunities.tenant_id", "opportunities.id"],
            name=op.f("fk_quotes_opportunity_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "order_id"], ["orders.tenant_id", "orders.id"], name=op.f("fk_quotes_order_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "owner_id"], ["principals.tenant_id", "principals.id"], name=op.f("fk_quotes_owner_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "previous_id"], ["quotes.tenant_id", "quotes.id"], name=op.f("fk_quotes_previous_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "price_book_id"],
            ["price_books.tenant_id", "price_books.id"],
            name=op.f("fk_quotes_price_book_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "superseded_by_id"],
            ["quotes.tenant_id", "quotes.id"],
            name=op.f("fk_quotes_superseded_by_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "tax_profile_id"],
            ["tax_profiles.tenant_id", "tax_profiles.id"],
            name=op.f("fk_quotes_tax_profile_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "team_id"], ["teams.tenant_id", "teams.id"], name=op.f("fk_quotes_team_id")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_quotes")),
    )
    op.create_index("ix_quotes_account_id", "quotes", ["tenant_id", "account_id", "id"], unique=False)
    op.create_index(
        "ix_quotes_contact_id",
        "quotes",
        ["tenant_id", "contact_id", "id"],
        unique=False,
        postgresql_where=sa.text("contact_id IS NOT NULL"),
    )
    op.create_index("ix_quotes_created_at", "quotes", ["tenant_id", "created_at", "id"], unique=False)
    op.create_index("ix_quotes_gross_total", "quotes", ["tenant_id", "gross_total", "id"], unique=False)
    op.create_index(
        "ix_quotes_opportunity_id",
        "quotes",
        ["tenant_id", "opportunity_id", "id"],
        unique=False,
        postgresql_where=sa.text("opportunity_id IS NOT NULL"),
    )
    op.create_index("ix_quotes_owner_id", "quotes", ["tenant_id", "owner_id", "created_at", "id"], unique=False)
    op.create_index(
        "ix_quotes_previous_id",
        "quotes",
        ["tenant_id", "previous_id", "id"],
        unique=False,
        postgresql_where=sa.text("previous_id IS NOT NULL"),
    )
    op.create_index(
        "ix_quotes_price_book_id",
        "quotes",
        ["tenant_id", "price_book_id", "id"],
        unique=False,
        postgresql_where=sa.text("price_book_id IS NOT NULL"),
    )
    op.create_index("ix_quotes_quoted_on", "quotes", ["tenant_id", "quoted_on", "id"], unique=False)
    op.create_index(
        "ix_quotes_superseded_by_id",
        "quotes",
        ["tenant_id", "superseded_by_id", "id"],
        unique=False,
        postgresql_where=sa.text("superseded_by_id IS NOT NULL"),
    )
    op.create_index(
        "ix_quotes_tax_profile_id",
        "quotes",
        ["tenant_id", "tax_profile_id", "id"],
        unique=False,
        postgresql_where=sa.text("tax_profile_id IS NOT NULL"),
    )
    op.create_index(
        "ix_quotes_team_id",
        "quotes",
        ["tenant_id", "team_id", "id"],
        unique=False,
        postgresql_where=sa.text("team_id IS NOT NULL"),
    )
    op.create_index(
        "ix_quotes_valid_until",
        "quotes",
        ["tenant_id", "valid_until", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'sent'"),
    )
    op.create_index(
        "uq_quotes_number",
        "quotes",
        ["tenant_id", "number", "revision"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "uq_quotes_order_id",
        "quotes",
        ["tenant_id", "order_id"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "quote_lines",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("quote_id", sa.Uuid(), nullable=False),
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
        sa.Column("taxes", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
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
        sa.Column("custom", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("external_ids", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.CheckConstraint("price_source IN ('book', 'list', 'given')", name=op.f("ck_quote_lines_price_source")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "product_id"], ["products.tenant_id", "products.id"], name=op.f("fk_quote_lines_product_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "quote_id"], ["quotes.tenant_id", "quotes.id"], name=op.f("fk_quote_lines_quote_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "unit_id"], ["units.tenant_id", "units.id"], name=op.f("fk_quote_lines_unit_id")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_quote_lines")),
    )
    op.create_index(
        "ix_quote_lines_product_id",
        "quote_lines",
        ["tenant_id", "product_id", "id"],
        unique=False,
        postgresql_where=sa.text("product_id IS NOT NULL"),
    )
    op.create_index("ix_quote_lines_quote_id", "quote_lines", ["tenant_id", "quote_id", "id"], unique=False)
    op.create_index(
        "ix_quote_lines_unit_id",
        "quote_lines",
        ["tenant_id", "unit_id", "id"],
        unique=False,
        postgresql_where=sa.text("unit_id IS NOT NULL"),
    )
    protect("quotes")
    protect("quote_lines", grants="SELECT, INSERT, UPDATE, DELETE")
    searchable("quotes")
    findable("quotes")
    op.execute(
        """
        CREATE FUNCTION outdated_quotes(day date, most bigint) RETURNS TABLE (tenant_id uuid, id uuid)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
          SELECT q.tenant_id, q.id FROM quotes q
          WHERE q.state = 'sent' AND q.valid_until < day AND q.deleted_at IS NULL
          LIMIT most
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION outdated_quotes(date, bigint) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION outdated_quotes(date, bigint) TO {APP}")


def downgrade():
    op.execute("DROP FUNCTION outdated_quotes(date, bigint)")
    unfindable("quotes")
    unsearchable("quotes")
    for table in ("quote_lines", "quotes"):
        op.drop_table(table)
