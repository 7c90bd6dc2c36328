"""Signing in: sessions of browsers."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import protect

revision = "20261201s"
down_revision = "20261201p"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text())
INSTANT = sa.DateTime(timezone=True)


def entity(*columns):
    """The columns of every record, with these among them."""
    return (
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        *columns,
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", INSTANT, nullable=True),
        sa.Column("custom", JSONB, server_default="{}", nullable=False),
        sa.Column("external_ids", JSONB, server_default="{}", nullable=False),
    )


def belongs(table, column, target):
    """A foreign key within the tenant."""
    return sa.ForeignKeyConstraint(
        ["tenant_id", column], [f"{target}.tenant_id", f"{target}.id"], name=op.f(f"fk_{table}_{column}")
    )


def upgrade():
    op.create_table(
        "sessions",
        *entity(
            sa.Column("principal_id", sa.Uuid(), nullable=False),
            sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
            sa.Column("methods", JSONB, nullable=False),
            sa.Column("address", sa.Text(), nullable=False),
            sa.Column("user_agent", sa.Text(), nullable=False),
            sa.Column("last_seen_at", INSTANT, nullable=False),
            sa.Column("expires_at", INSTANT, nullable=False),
            sa.Column("revoked_at", INSTANT, nullable=True),
        ),
        belongs("sessions", "principal_id", "principals"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_sessions")),
    )
    for column in ("principal_id", "created_at"):
        op.create_index(f"ix_sessions_{column}", "sessions", ["tenant_id", column, "id"])
    protect("sessions")


def downgrade():
    op.drop_table("sessions")
