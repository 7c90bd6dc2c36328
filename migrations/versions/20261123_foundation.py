"""Kernel, identity, accounts, contacts."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import APP, protect, searchable, unsearchable

revision = "20261123a"
down_revision = None
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        "access_defaults",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.CheckConstraint("level IN ('private', 'read', 'write')", name=op.f("ck_access_defaults_level")),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_access_defaults")),
    )
    op.create_index(
        "uq_access_defaults_resource",
        "access_defaults",
        ["tenant_id", "resource"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "audit_entries",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("credential_id", sa.Uuid(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("object_type", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("before", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("after", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_audit_entries")),
    )
    op.create_index("ix_audit_entries_object_id", "audit_entries", ["tenant_id", "object_id", "version"], unique=False)
    op.create_table(
        "field_values",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "field", "value", "object_id", name=op.f("pk_field_values")),
    )
    op.create_index("ix_field_values_object", "field_values", ["tenant_id", "object_id"], unique=False)
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("scope", sa.LargeBinary(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "scope", name=op.f("pk_idempotency_keys")),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "idempotency_replies",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("scope", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=False),
        sa.Column("object_type", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("raw", sa.Boolean(), nullable=False),
        sa.Column("image", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "scope", name=op.f("pk_idempotency_replies")),
    )
    op.create_table(
        "outbox",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("transaction_id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("object_type", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("previous", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("origin", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_outbox")),
    )
    op.create_table(
        "roles",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("permissions", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("field_rules", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_roles")),
    )
    op.create_index("ix_roles_created_at", "roles", ["tenant_id", "created_at", "id"], unique=False)
    op.create_index(
        "uq_roles_name", "roles", ["tenant_id", "name_key"], unique=True, postgresql_where=sa.text("deleted_at IS NULL")
    )
    op.create_table(
        "shares",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("object_type", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("grantee_type", sa.Text(), nullable=False),
        sa.Column("grantee_id", sa.Uuid(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("granted_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("grantee_type IN ('user', 'team')", name=op.f("ck_shares_grantee_type")),
        sa.CheckConstraint("level IN ('read', 'write')", name=op.f("ck_shares_level")),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_shares")),
        sa.UniqueConstraint(
            "tenant_id", "object_id", "grantee_id", name=op.f("uq_shares_tenant_id_object_id_grantee_id")
        ),
    )
    op.create_index(
        "ix_shares_grantee_id", "shares", ["tenant_id", "grantee_id", "object_type", "object_id"], unique=False
    )
    op.create_table(
        "teams",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_teams")),
    )
    op.create_index("ix_teams_created_at", "teams", ["tenant_id", "created_at", "id"], unique=False)
    op.create_index(
        "uq_teams_name", "teams", ["tenant_id", "name_key"], unique=True, postgresql_where=sa.text("deleted_at IS NULL")
    )
    op.create_table(
        "tenants",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("access_version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default="true", nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_tenants")),
    )
    op.create_table(
        "principals",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("time_zone", sa.Text(), nullable=True),
        sa.Column("manager_id", sa.Uuid(), nullable=True),
        sa.Column("team_id", sa.Uuid(), nullable=True),
        sa.Column("is_active", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("search_text", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.CheckConstraint("kind IN ('user', 'service')", name=op.f("ck_principals_kind")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "manager_id"],
            ["principals.tenant_id", "principals.id"],
            name=op.f("fk_principals_manager_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "team_id"], ["teams.tenant_id", "teams.id"], name=op.f("fk_principals_team_id")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_principals")),
    )
    op.create_index("ix_principals_created_at", "principals", ["tenant_id", "created_at", "id"], unique=False)
    op.create_index("ix_principals_manager_id", "principals", ["tenant_id", "manager_id", "id"], unique=False)
    op.create_index("ix_principals_name_key", "principals", ["tenant_id", "name_key", "id"], unique=False)
    op.create_index("ix_principals_team_id", "principals", ["tenant_id", "team_id", "id"], unique=False)
    op.create_index(
        "uq_principals_email",
        "principals",
        ["tenant_id", "email"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "accounts",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("legal_name", sa.Text(), nullable=True),
        sa.Column("tax_id", sa.Text(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("is_blocked", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("blocked_reason", sa.Text(), nullable=True),
        sa.Column("industry", sa.Text(), nullable=True),
        sa.Column("website", sa.Text(), nullable=True),
        sa.Column("domain", sa.Text(), nullable=True),
        sa.Column("employees", sa.BigInteger(), nullable=True),
        sa.Column("annual_revenue", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("credit_limit", sa.BigInteger(), nullable=True),
        sa.Column("payment_terms", sa.Text(), nullable=True),
        sa.Column("tax_profile", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("tier", sa.Text(), nullable=True),
        sa.Column("risk", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("country", sa.Text(), nullable=True),
        sa.Column("region", sa.Text(), nullable=True),
        sa.Column("city", sa.Text(), nullable=True),
        sa.Column("postal_code", sa.Text(), nullable=True),
        sa.Column("addresses", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("emails", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("phones", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("tags", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("interests", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
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
        sa.CheckConstraint("status IN ('prospect', 'active', 'at_risk', 'inactive')", name=op.f("ck_accounts_status")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "owner_id"], ["principals.tenant_id", "principals.id"], name=op.f("fk_accounts_owner_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "parent_id"], ["accounts.tenant_id", "accounts.id"], name=op.f("fk_accounts_parent_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "team_id"], ["teams.tenant_id", "teams.id"], name=op.f("fk_accounts_team_id")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_accounts")),
    )
    op.create_index("ix_accounts_annual_revenue", "accounts", ["tenant_id", "annual_revenue", "id"], unique=False)
    op.create_index("ix_accounts_created_at", "accounts", ["tenant_id", "created_at", "id"], unique=False)
    op.create_index("ix_accounts_name_key", "accounts", ["tenant_id", "name_key", "id"], unique=False)
    op.create_index("ix_accounts_owner_id", "accounts", ["tenant_id", "owner_id", "created_at", "id"], unique=False)
    op.create_index("ix_accounts_parent_id", "accounts", ["tenant_id", "parent_id", "id"], unique=False)
    op.create_index("ix_accounts_team_id", "accounts", ["tenant_id", "team_id", "id"], unique=False)
    op.create_index("ix_accounts_updated_at", "accounts", ["tenant_id", "updated_at", "id"], unique=False)
    op.create_index(
        "uq_accounts_tax_id",
        "accounts",
        ["tenant_id", "tax_id"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "api_keys",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("principal_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("allowed_networks", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "principal_id"],
            ["principals.tenant_id", "principals.id"],
            name=op.f("fk_api_keys_principal_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_api_keys")),
    )
    op.create_index("ix_api_keys_created_at", "api_keys", ["tenant_id", "created_at", "id"], unique=False)
    op.create_index("ix_api_keys_principal_id", "api_keys", ["tenant_id", "principal_id", "id"], unique=False)
    op.create_table(
        "role_assignments",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("role_id", sa.Uuid(), nullable=False),
        sa.Column("principal_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "principal_id"],
            ["principals.tenant_id", "principals.id"],
            name=op.f("fk_role_assignments_principal_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "role_id"], ["roles.tenant_id", "roles.id"], name=op.f("fk_role_assignments_role_id")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_role_assignments")),
    )
    op.create_index("ix_role_assignments_role_id", "role_assignments", ["tenant_id", "role_id", "id"], unique=False)
    op.create_index(
        "uq_role_assignments_principal_id",
        "role_assignments",
        ["tenant_id", "principal_id", "role_id"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "team_members",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("team_id", sa.Uuid(), nullable=False),
        sa.Column("principal_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "principal_id"],
            ["principals.tenant_id", "principals.id"],
            name=op.f("fk_team_members_principal_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "team_id"], ["teams.tenant_id", "teams.id"], name=op.f("fk_team_members_team_id")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_team_members")),
    )
    op.create_index("ix_team_members_team_id", "team_members", ["tenant_id", "team_id", "id"], unique=False)
    op.create_index(
        "uq_team_members_principal_id",
        "team_members",
        ["tenant_id", "principal_id", "team_id"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "account_team_members",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("principal_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=True),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.CheckConstraint("level IN ('read', 'write')", name=op.f("ck_account_team_members_level")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "account_id"],
            ["accounts.tenant_id", "accounts.id"],
            name=op.f("fk_account_team_members_account_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "principal_id"],
            ["principals.tenant_id", "principals.id"],
            name=op.f("fk_account_team_members_principal_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_account_team_members")),
    )
    op.create_index(
        "ix_account_team_members_created_at", "account_team_members", ["tenant_id", "created_at", "id"], unique=False
    )
    op.create_index(
        "ix_account_team_members_principal_id",
        "account_team_members",
        ["tenant_id", "principal_id", "id"],
        unique=False,
    )
    op.create_index(
        "uq_account_team_members_account_id",
        "account_team_members",
        ["tenant_id", "account_id", "principal_id"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "contacts",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("first_name", sa.Text(), nullable=True),
        sa.Column("last_name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("salutation", sa.Text(), nullable=True),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("department", sa.Text(), nullable=True),
        sa.Column("account_id", sa.Uuid(), nullable=True),
        sa.Column("reports_to_id", sa.Uuid(), nullable=True),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("birthday", sa.Date(), nullable=True),
        sa.Column("do_not_contact", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("country", sa.Text(), nullable=True),
        sa.Column("region", sa.Text(), nullable=True),
        sa.Column("city", sa.Text(), nullable=True),
        sa.Column("postal_code", sa.Text(), nullable=True),
        sa.Column("addresses", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("emails", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("phones", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("tags", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("consents", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
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
        sa.ForeignKeyConstraint(
            ["tenant_id", "account_id"], ["accounts.tenant_id", "accounts.id"], name=op.f("fk_contacts_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "owner_id"], ["principals.tenant_id", "principals.id"], name=op.f("fk_contacts_owner_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "reports_to_id"],
            ["contacts.tenant_id", "contacts.id"],
            name=op.f("fk_contacts_reports_to_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "team_id"], ["teams.tenant_id", "teams.id"], name=op.f("fk_contacts_team_id")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_contacts")),
    )
    op.create_index("ix_contacts_account_id", "contacts", ["tenant_id", "account_id", "id"], unique=False)
    op.create_index("ix_contacts_created_at", "contacts", ["tenant_id", "created_at", "id"], unique=False)
    op.create_index("ix_contacts_name_key", "contacts", ["tenant_id", "name_key", "id"], unique=False)
    op.create_index("ix_contacts_owner_id", "contacts", ["tenant_id", "owner_id", "created_at", "id"], unique=False)
    op.create_index("ix_contacts_reports_to_id", "contacts", ["tenant_id", "reports_to_id", "id"], unique=False)
    op.create_index("ix_contacts_team_id", "contacts", ["tenant_id", "team_id", "id"], unique=False)
    op.create_index("ix_contacts_updated_at", "contacts", ["tenant_id", "updated_at", "id"], unique=False)
    op.create_table(
        "account_contacts",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("contact_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=True),
        sa.Column("is_active", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("starts_on", sa.Date(), nullable=True),
        sa.Column("ends_on", sa.Date(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "account_id"],
            ["accounts.tenant_id", "accounts.id"],
            name=op.f("fk_account_contacts_account_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "contact_id"],
            ["contacts.tenant_id", "contacts.id"],
            name=op.f("fk_account_contacts_contact_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_account_contacts")),
    )
    op.create_index(
        "ix_account_contacts_account_id", "account_contacts", ["tenant_id", "account_id", "id"], unique=False
    )
    op.create_index(
        "ix_account_contacts_created_at", "account_contacts", ["tenant_id", "created_at", "id"], unique=False
    )
    op.create_index(
        "uq_account_contacts_contact_id",
        "account_contacts",
        ["tenant_id", "contact_id", "account_id"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )

    for table in (
        "access_defaults",
        "roles",
        "teams",
        "principals",
        "accounts",
        "api_keys",
        "role_assignments",
        "team_members",
        "account_team_members",
        "contacts",
        "account_contacts",
    ):
        protect(table)
    protect("audit_entries", grants="SELECT, INSERT")
    protect("outbox", grants="SELECT, INSERT")
    protect("field_values", grants="SELECT, INSERT, DELETE")
    protect("shares", grants="SELECT, INSERT, UPDATE, DELETE")
    protect("idempotency_keys", grants="SELECT, INSERT")
    protect("idempotency_replies", grants="SELECT, INSERT")
    protect("tenants", grants="SELECT, UPDATE (access_version)")
    for table in ("accounts", "contacts", "principals"):
        searchable(table)
    op.execute(
        """
        CREATE FUNCTION forget_idempotency_keys(older_than timestamptz) RETURNS bigint
        LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
          WITH gone AS (DELETE FROM idempotency_keys WHERE created_at < older_than RETURNING tenant_id, scope),
          replies AS (DELETE FROM idempotency_replies r USING gone WHERE r.tenant_id = gone.tenant_id AND r.scope = gone.scope RETURNING 1)
          SELECT count(*) FROM gone
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION forget_idempotency_keys(timestamptz) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION forget_idempotency_keys(timestamptz) TO {APP}")


def downgrade():
    op.execute("DROP FUNCTION forget_idempotency_keys(timestamptz)")
    for table in ("accounts", "contacts", "principals"):
        unsearchable(table)
    op.drop_index(
        "uq_account_contacts_contact_id", table_name="account_contacts", postgresql_where=sa.text("deleted_at IS NULL")
    )
    op.drop_index("ix_account_contacts_created_at", table_name="account_contacts")
    op.drop_index("ix_account_contacts_account_id", table_name="account_contacts")
    op.drop_table("account_contacts")
    op.drop_index("ix_contacts_updated_at", table_name="contacts")
    op.drop_index("ix_contacts_team_id", table_name="contacts")
    op.drop_index("ix_contacts_reports_to_id", table_name="contacts")
    op.drop_index("ix_contacts_owner_id", table_name="contacts")
    op.drop_index("ix_contacts_name_key", table_name="contacts")
    op.drop_index("ix_contacts_created_at", table_name="contacts")
    op.drop_index("ix_contacts_account_id", table_name="contacts")
    op.drop_table("contacts")
    op.drop_index(
        "uq_account_team_members_account_id",
        table_name="account_team_members",
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.drop_index("ix_account_team_members_principal_id", table_name="account_team_members")
    op.drop_index("ix_account_team_members_created_at", table_name="account_team_members")
    op.drop_table("account_team_members")
    op.drop_index(
        "uq_team_members_principal_id", table_name="team_members", postgresql_where=sa.text("deleted_at IS NULL")
    )
    op.drop_index("ix_team_members_team_id", table_name="team_members")
    op.drop_table("team_members")
    op.drop_index(
        "uq_role_assignments_principal_id",
        table_name="role_assignments",
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.drop_index("ix_role_assignments_role_id", table_name="role_assignments")
    op.drop_table("role_assignments")
    op.drop_index("ix_api_keys_principal_id", table_name="api_keys")
    op.drop_index("ix_api_keys_created_at", table_name="api_keys")
    op.drop_table("api_keys")
    op.drop_index("uq_accounts_tax_id", table_name="accounts", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index("ix_accounts_updated_at", table_name="accounts")
    op.drop_index("ix_accounts_team_id", table_name="accounts")
    op.drop_index("ix_accounts_parent_id", table_name="accounts")
    op.drop_index("ix_accounts_owner_id", table_name="accounts")
    op.drop_index("ix_accounts_name_key", table_name="accounts")
    op.drop_index("ix_accounts_created_at", table_name="accounts")
    op.drop_index("ix_accounts_annual_revenue", table_name="accounts")
    op.drop_table("accounts")
    op.drop_index("uq_principals_email", table_name="principals", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index("ix_principals_team_id", table_name="principals")
    op.drop_index("ix_principals_name_key", table_name="principals")
    op.drop_index("ix_principals_manager_id", table_name="principals")
    op.drop_index("ix_principals_created_at", table_name="principals")
    op.drop_table("principals")
    op.drop_table("tenants")
    op.drop_index("uq_teams_name", table_name="teams", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index("ix_teams_created_at", table_name="teams")
    op.drop_table("teams")
    op.drop_index("ix_shares_grantee_id", table_name="shares")
    op.drop_table("shares")
    op.drop_index("uq_roles_name", table_name="roles", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index("ix_roles_created_at", table_name="roles")
    op.drop_table("roles")
    op.drop_table("outbox")
    op.drop_table("idempotency_replies")
    op.drop_index("ix_idempotency_keys_created_at", table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_index("ix_field_values_object", table_name="field_values")
    op.drop_table("field_values")
    op.drop_index("ix_audit_entries_object_id", table_name="audit_entries")
    op.drop_table("audit_entries")
    op.drop_index(
        "uq_access_defaults_resource", table_name="access_defaults", postgresql_where=sa.text("deleted_at IS NULL")
    )
    op.drop_table("access_defaults")
