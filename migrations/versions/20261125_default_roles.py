"""Which default role a role was made from, and what that has given it; roles of existing tenants are marked."""

import json

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "20261125a"
down_revision = "20261124b"
branch_labels = None
depends_on = None

SALES = ("accounts", "account_team_members", "contacts", "account_contacts")
EVERY = ("read", "create", "update", "delete")
STATES = ("activate", "mark_at_risk", "deactivate")
SELF = [("users:read", "all"), ("users:issue_key", "own"), ("api_keys:*", "own")]
ACTIONS = {"accounts": (*EVERY, "share", *STATES), "contacts": (*EVERY, "share")}
GIVEN = {  # what tenants were created with until now
    "Administrator": [("*:*", "all")],
    "Sales manager": [*SELF, *((f"{name}:*", "subordinates") for name in SALES)],
    "Sales representative": [
        *SELF,
        *((f"{name}:{action}", "own") for name in SALES for action in ACTIONS.get(name, EVERY)),
    ],
    "Reader": [("users:read", "all"), *((f"{name}:read", "all") for name in SALES)],
}


def upgrade():
    op.add_column("roles", sa.Column("default_role", sa.Text(), nullable=True))
    op.add_column(
        "roles",
        sa.Column("default_grants", postgresql.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False),
    )
    # The name a role was made with, by nobody: renamed ones are found too, and a customer's own "Reader" is not.
    for name, given in GIVEN.items():
        grants = json.dumps([{"permission": permission, "reach": reach} for permission, reach in given])
        mark = sa.text(
            """
            UPDATE roles r SET default_role = :name, default_grants = CAST(:grants AS jsonb)
            FROM audit_entries a
            WHERE a.tenant_id = r.tenant_id AND a.object_id = r.id AND a.object_type = 'role'
              AND a.action = 'create' AND a.actor_id IS NULL AND a.after ->> 'name' = :name
            """
        )
        op.execute(mark.bindparams(name=name, grants=grants))


def downgrade():
    op.drop_column("roles", "default_grants")
    op.drop_column("roles", "default_role")
