"""What a sales document takes off or adds as a whole: a discount, shipping, and the rounding of what is to be paid."""

import sqlalchemy as sa
from alembic import op

revision = "20261201c"
down_revision = "20261201p"
branch_labels = None
depends_on = None

_DOCUMENTS = ("orders", "quotes")
_LISTS = (*_DOCUMENTS, "opportunities")
_LINES = ("order_lines", "quote_lines", "opportunity_lines")
_PLAIN = '{"kind": "item", "document_discount": "0.00"}'


def upgrade():
    for table in _DOCUMENTS:
        for name in ("discount_percent", "discount_amount", "round_to", "payable_total"):
            op.add_column(table, sa.Column(name, sa.BigInteger(), nullable=True))
        for name in ("shipping_total", "rounding"):
            op.add_column(table, sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))
        op.execute(f"UPDATE {table} SET payable_total = gross_total")
        op.alter_column(table, "payable_total", nullable=False)
        op.create_check_constraint(op.f(f"ck_{table}_payable_total"), table, "payable_total = gross_total + rounding")
    for table in _LINES:
        op.add_column(table, sa.Column("kind", sa.Text(), server_default="item", nullable=False))
        op.add_column(table, sa.Column("document_discount", sa.BigInteger(), server_default="0", nullable=False))
        op.create_check_constraint(op.f(f"ck_{table}_kind"), table, "kind IN ('item', 'shipping')")
    for table in _LISTS:
        _relist(table, f"line || '{_PLAIN}'::jsonb")


def downgrade():
    for table in _LISTS:
        _relist(table, "line - 'kind' - 'document_discount'")
    for table in _LINES:
        op.drop_constraint(op.f(f"ck_{table}_kind"), table)
        op.drop_column(table, "document_discount")
        op.drop_column(table, "kind")
    for table in _DOCUMENTS:
        op.drop_constraint(op.f(f"ck_{table}_payable_total"), table)
        for name in ("rounding", "shipping_total", "payable_total", "round_to", "discount_amount", "discount_percent"):
            op.drop_column(table, name)


def _relist(table, line):
    lines = f"SELECT jsonb_agg({line} ORDER BY n) FROM jsonb_array_elements(lines) WITH ORDINALITY AS found(line, n)"
    op.execute(f"UPDATE {table} SET lines = ({lines}) WHERE lines <> '[]'::jsonb")
