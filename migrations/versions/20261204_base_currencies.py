"""What documents come to in the base currency of the tenant, and earn; how the price of a line came about."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import protect

revision = "20261204a"
down_revision = "20261204k"
branch_labels = None
depends_on = None

_DOCUMENTS = ("orders", "quotes")
_LINES = ("order_lines", "quote_lines", "opportunity_lines")
_SUMS = ("exchange_rate", "base_net_total", "base_gross_total")

_MARGIN = "greatest(margin::numeric * 100000000 / net_total, -1000000000)"


def upgrade():
    op.create_table(
        "base_currencies",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("external_ids", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_base_currencies")),
    )
    for column in ("valid_from", "created_at"):
        op.create_index(f"ix_base_currencies_{column}", "base_currencies", ["tenant_id", column, "id"])
    op.create_index(
        "uq_base_currencies_valid_from",
        "base_currencies",
        ["tenant_id", "valid_from"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    protect("base_currencies")
    for table in _LINES:
        op.add_column(table, sa.Column("explanation", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    for table in _DOCUMENTS:
        op.add_column(table, sa.Column("base_currency", sa.Text(), nullable=True))
        for name in (*_SUMS, "known_margin"):
            op.add_column(table, sa.Column(name, sa.BigInteger(), nullable=True))
        op.execute(f"UPDATE {table} SET known_margin = {_MARGIN} WHERE margin IS NOT NULL AND net_total > 0")
    with op.get_context().autocommit_block():
        for table in _DOCUMENTS:
            columns = ["tenant_id", "base_gross_total", "id"]
            op.create_index(f"ix_{table}_base_gross_total", table, columns, postgresql_concurrently=True)


def downgrade():
    with op.get_context().autocommit_block():
        for table in _DOCUMENTS:
            op.drop_index(f"ix_{table}_base_gross_total", table, postgresql_concurrently=True)
    for table in _DOCUMENTS:
        for name in ("base_currency", *_SUMS, "known_margin"):
            op.drop_column(table, name)
    for table in _LINES:
        op.drop_column(table, "explanation")
    op.drop_table("base_currencies")
