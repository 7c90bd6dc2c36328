"""Shares with territories; text, expansions and defaults of saved views."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import protect

revision = "20261205v"
down_revision = "20261204v"
branch_labels = None
depends_on = None

_JSON = postgresql.JSONB(astext_type=sa.Text())
REFERENCES = (("saved_view_id", "saved_views"), ("principal_id", "principals"), ("role_id", "roles"))


def upgrade():
    op.add_column("saved_views", sa.Column("q", sa.Text(), nullable=True))
    op.add_column("saved_views", sa.Column("expand", _JSON, server_default="[]", nullable=False))
    _defaults()
    _grantees("'user', 'team', 'territory'")


def downgrade():
    op.execute("DELETE FROM shares WHERE grantee_type = 'territory'")
    _grantees("'user', 'team'")
    op.drop_table("default_views")
    for column in ("expand", "q"):
        op.drop_column("saved_views", column)


def _defaults():
    op.create_table(
        "default_views",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("saved_view_id", sa.Uuid(), nullable=False),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("principal_id", sa.Uuid(), nullable=True),
        sa.Column("role_id", sa.Uuid(), nullable=True),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("set_by", sa.Uuid(), nullable=True),
        sa.CheckConstraint(
            "audience = CASE WHEN principal_id IS NOT NULL THEN 'me' WHEN role_id IS NOT NULL THEN 'role' "
            "ELSE 'everyone' END AND (principal_id IS NULL OR role_id IS NULL)",
            name=op.f("ck_default_views_audience"),
        ),
        *(
            sa.ForeignKeyConstraint(
                ["tenant_id", column], [f"{table}.tenant_id", f"{table}.id"], name=op.f(f"fk_default_views_{column}")
            )
            for column, table in REFERENCES
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_default_views")),
    )
    op.create_index(
        "uq_default_views_resource",
        "default_views",
        ["tenant_id", "audience", "principal_id", "role_id", "resource"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )
    op.create_index("ix_default_views_saved_view_id", "default_views", ["tenant_id", "saved_view_id", "id"])
    for column in ("principal_id", "role_id"):
        op.create_index(
            f"ix_default_views_{column}",
            "default_views",
            ["tenant_id", column, "id"],
            postgresql_where=sa.text(f"{column} IS NOT NULL"),
        )
    protect("default_views", grants="SELECT, INSERT, UPDATE, DELETE")


def _grantees(types):
    """What a share may be for; the table is read without keeping writes out."""
    op.drop_constraint("ck_shares_grantee_type", "shares", type_="check")
    op.create_check_constraint(
        op.f("ck_shares_grantee_type"), "shares", f"grantee_type IN ({types})", postgresql_not_valid=True
    )
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE shares VALIDATE CONSTRAINT ck_shares_grantee_type")
