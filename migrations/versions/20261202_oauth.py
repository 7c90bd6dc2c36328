"""The authorization server: clients, grants, devices, and the keys that tokens are signed with."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import APP, protect

revision = "20261202o"
down_revision = "20261201s"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text())
INSTANT = sa.DateTime(timezone=True)
FUNCTIONS = {
    "oauth_signing_keys()": """
        RETURNS TABLE (kid text, sealed bytea, created_at timestamptz, signs_from timestamptz)
        LANGUAGE sql STABLE SECURITY DEFINER ROWS 5 SET search_path = public, pg_temp AS $$
          SELECT k.kid, k.sealed, k.created_at, k.signs_from FROM oauth_signing_keys k
        $$
    """,
    "add_oauth_signing_key(key text, private bytea, since timestamptz, unless_since timestamptz, unread text[], "
    "forget_before timestamptz)": """
        RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
        BEGIN
          PERFORM pg_advisory_xact_lock(hashtextextended('oauth_signing_keys', 0));
          IF EXISTS (SELECT 1 FROM oauth_signing_keys k
                     WHERE k.created_at > unless_since AND k.kid <> ALL (unread)) THEN
            RETURN false;
          END IF;
          INSERT INTO oauth_signing_keys (kid, sealed, created_at, signs_from)
            VALUES (key, private, clock_timestamp(), since);
          DELETE FROM oauth_signing_keys k WHERE k.created_at <
            (SELECT max(n.created_at) FROM oauth_signing_keys n WHERE n.signs_from < forget_before);
          RETURN true;
        END $$
    """,
    "forget_oauth(older_than timestamptz, most bigint)": """
        RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
        DECLARE codes bigint; grants bigint;
        BEGIN
          DELETE FROM oauth_device_codes d USING (
            SELECT c.tenant_id, c.id FROM oauth_device_codes c WHERE c.expires_at < older_than LIMIT most) o
            WHERE d.tenant_id = o.tenant_id AND d.id = o.id;
          GET DIAGNOSTICS codes = ROW_COUNT;
          DELETE FROM oauth_grants d USING (
            SELECT g.tenant_id, g.id FROM oauth_grants g
            WHERE coalesce(g.revoked_at, greatest(g.created_at, g.last_used_at, g.refresh_expires_at)) < older_than
              AND (g.kind <> 'client_credentials' OR g.revoked_at IS NOT NULL)
              AND NOT EXISTS (
                SELECT 1 FROM oauth_device_codes c WHERE c.tenant_id = g.tenant_id AND c.grant_id = g.id)
            LIMIT most) o
            WHERE d.tenant_id = o.tenant_id AND d.id = o.id;
          GET DIAGNOSTICS grants = ROW_COUNT;
          RETURN greatest(codes, grants);
        END $$
    """,
}


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
        "oauth_clients",
        *entity(
            sa.Column("name", sa.Text(), nullable=False),
            sa.Column("client_id", sa.Text(), nullable=False),
            sa.Column("client_type", sa.Text(), nullable=False),
            sa.Column("redirect_uris", JSONB, nullable=False),
            sa.Column("grant_types", JSONB, nullable=False),
            sa.Column("scopes", JSONB, nullable=False),
            sa.Column("service_account_id", sa.Uuid(), nullable=True),
            sa.Column("is_active", sa.Boolean(), server_default="true", nullable=False),
            sa.Column("hashed_secret", sa.LargeBinary(), nullable=True),
            sa.Column("hashed_earlier", sa.LargeBinary(), nullable=True),
            sa.Column("earlier_until", INSTANT, nullable=True),
            sa.Column("secret_changed_at", INSTANT, nullable=True),
        ),
        sa.CheckConstraint("client_type IN ('confidential', 'public')", name=op.f("ck_oauth_clients_client_type")),
        belongs("oauth_clients", "service_account_id", "principals"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_oauth_clients")),
    )
    op.create_index("ix_oauth_clients_created_at", "oauth_clients", ["tenant_id", "created_at", "id"])
    op.create_index(
        "ix_oauth_clients_service_account_id",
        "oauth_clients",
        ["tenant_id", "service_account_id", "id"],
        postgresql_where=sa.text("service_account_id IS NOT NULL"),
    )
    op.create_index(
        "uq_oauth_clients_client_id",
        "oauth_clients",
        ["tenant_id", "client_id"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "oauth_grants",
        *entity(
            sa.Column("kind", sa.Text(), nullable=False),
            sa.Column("principal_id", sa.Uuid(), nullable=False),
            sa.Column("oauth_client_id", sa.Uuid(), nullable=False),
            sa.Column("scopes", JSONB, nullable=False),
            sa.Column("session_id", sa.Uuid(), nullable=True),
            sa.Column("signed_in_by", sa.Uuid(), nullable=True),
            sa.Column("authenticated_at", INSTANT, nullable=True),
            sa.Column("methods", JSONB, nullable=False),
            sa.Column("nonce", sa.Text(), nullable=True),
            sa.Column("redirect_uri", sa.Text(), nullable=True),
            sa.Column("code_challenge", sa.Text(), nullable=True),
            sa.Column("code_hash", sa.LargeBinary(), nullable=True),
            sa.Column("code_expires_at", INSTANT, nullable=True),
            sa.Column("code_used_at", INSTANT, nullable=True),
            sa.Column("refresh_family", sa.LargeBinary(), nullable=True),
            sa.Column("refresh_hash", sa.LargeBinary(), nullable=True),
            sa.Column("refresh_expires_at", INSTANT, nullable=True),
            sa.Column("last_used_at", INSTANT, nullable=True),
            sa.Column("revoked_at", INSTANT, nullable=True),
        ),
        sa.CheckConstraint(
            "kind IN ('authorization_code', 'client_credentials', 'device_code')", name=op.f("ck_oauth_grants_kind")
        ),
        belongs("oauth_grants", "principal_id", "principals"),
        belongs("oauth_grants", "oauth_client_id", "oauth_clients"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_oauth_grants")),
    )
    for column in ("principal_id", "created_at"):
        op.create_index(f"ix_oauth_grants_{column}", "oauth_grants", ["tenant_id", column, "id"])
    op.create_index("ix_oauth_grants_oauth_client_id", "oauth_grants", ["tenant_id", "oauth_client_id", "id"])
    op.create_table(
        "oauth_device_codes",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("oauth_client_id", sa.Uuid(), nullable=False),
        sa.Column("user_code", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", JSONB, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("asked_at", INSTANT, nullable=True),
        sa.Column("decided_at", INSTANT, nullable=True),
        sa.Column("grant_id", sa.Uuid(), nullable=True),
        sa.Column("redeemed_at", INSTANT, nullable=True),
        belongs("oauth_device_codes", "oauth_client_id", "oauth_clients"),
        belongs("oauth_device_codes", "grant_id", "oauth_grants"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_oauth_device_codes")),
        sa.UniqueConstraint("tenant_id", "user_code", name="uq_oauth_device_codes_user_code"),
    )
    for column in ("oauth_client_id", "grant_id"):
        op.create_index(f"ix_oauth_device_codes_{column}", "oauth_device_codes", ["tenant_id", column])
    for table in ("oauth_clients", "oauth_grants", "oauth_device_codes"):
        protect(table)
    op.create_table(
        "oauth_signing_keys",
        sa.Column("kid", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("signs_from", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("kid", name=op.f("pk_oauth_signing_keys")),
    )
    for signature, body in FUNCTIONS.items():
        op.execute(f"CREATE FUNCTION {signature} {body}")
        name = signature.partition("(")[0]
        op.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {name} TO {APP}")


def downgrade():
    for signature in FUNCTIONS:
        op.execute(f"DROP FUNCTION {signature.partition('(')[0]}")
    for table in ("oauth_signing_keys", "oauth_device_codes", "oauth_grants", "oauth_clients"):
        op.drop_table(table)
