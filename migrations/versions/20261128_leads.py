"""Leads."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import protect, searchable, unsearchable
from crm_api.kernel.migration_search import findable, unfindable

revision = "20261128d"
down_revision = "20261128b"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text())
STATES = ("new", "working", "qualified", "disqualified", "converted")
LINKS = {
    "owner_id": "principals",
    "team_id": "teams",
    "converted_account_id": "accounts",
    "converted_contact_id": "contacts",
    "converted_opportunity_id": "opportunities",
}


def upgrade():
    op.create_table(
        "leads",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("first_name", sa.Text(), nullable=True),
        sa.Column("last_name", sa.Text(), nullable=True),
        sa.Column("name_key", sa.Text(), nullable=True),
        sa.Column("company", sa.Text(), nullable=True),
        sa.Column("company_key", sa.Text(), nullable=True),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("country", sa.Text(), nullable=True),
        sa.Column("website", sa.Text(), nullable=True),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("campaign", sa.Text(), nullable=True),
        sa.Column("utm", JSONB, nullable=True),
        sa.Column("score", sa.BigInteger(), nullable=False),
        sa.Column("estimate", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("emails", JSONB, nullable=False),
        sa.Column("phones", JSONB, nullable=False),
        sa.Column("tags", JSONB, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("disqualified_reason", sa.Text(), nullable=True),
        sa.Column("recycle_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("converted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("converted_account_id", sa.Uuid(), nullable=True),
        sa.Column("converted_contact_id", sa.Uuid(), nullable=True),
        sa.Column("converted_opportunity_id", sa.Uuid(), nullable=True),
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
        sa.Column("custom", JSONB, server_default="{}", nullable=False),
        sa.Column("external_ids", JSONB, server_default="{}", nullable=False),
        sa.CheckConstraint(f"status IN ({', '.join(repr(state) for state in STATES)})", name=op.f("ck_leads_status")),
        *(
            sa.ForeignKeyConstraint(
                ["tenant_id", column], [f"{table}.tenant_id", f"{table}.id"], name=op.f(f"fk_leads_{column}")
            )
            for column, table in LINKS.items()
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_leads")),
    )
    for column in ("name_key", "company_key", "score", "created_at"):
        op.create_index(f"ix_leads_{column}", "leads", ["tenant_id", column, "id"])
    op.create_index("ix_leads_owner_id", "leads", ["tenant_id", "owner_id", "created_at", "id"])
    for column in ("team_id", "converted_account_id", "converted_contact_id", "converted_opportunity_id"):
        given = sa.text(f"{column} IS NOT NULL")
        op.create_index(f"ix_leads_{column}", "leads", ["tenant_id", column, "id"], postgresql_where=given)
    protect("leads")
    searchable("leads")
    findable("leads")


def downgrade():
    unfindable("leads")
    unsearchable("leads")
    op.drop_table("leads")
