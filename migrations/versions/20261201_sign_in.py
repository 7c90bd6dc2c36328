"""Signing in: organisations by their handle, passwords, links to set them, second factors, attempts, sessions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import APP, protect

revision = "20261201s"
down_revision = "20261202l"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text())
INSTANT = sa.DateTime(timezone=True)


FUNCTIONS = (
    "organisation_tenant(text)",
    "forget_sign_ins(timestamptz, bigint)",
    "second_factors_sealed_earlier(bytea[], bigint)",
)
TABLES = (
    *("provider_links", "identity_providers"),
    *("recovery_codes", "second_factors", "second_factor_rules", "sign_in_attempts", "password_links", "passwords"),
    "sessions",
)


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
    op.create_table(
        "passwords",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("principal_id", sa.Uuid(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("changed_at", INSTANT, nullable=False),
        belongs("passwords", "principal_id", "principals"),
        sa.PrimaryKeyConstraint("tenant_id", "principal_id", name=op.f("pk_passwords")),
    )
    op.create_table(
        "password_links",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("principal_id", sa.Uuid(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("used_at", INSTANT, nullable=True),
        belongs("password_links", "principal_id", "principals"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_password_links")),
    )
    op.create_index("ix_password_links_principal_id", "password_links", ["tenant_id", "principal_id"])
    op.create_index("ix_password_links_expires_at", "password_links", ["expires_at"])
    op.create_table(
        "second_factors",
        *entity(
            sa.Column("principal_id", sa.Uuid(), nullable=False),
            sa.Column("sealed_secret", sa.LargeBinary(), nullable=False),
            sa.Column("last_step", sa.BigInteger(), nullable=False),
        ),
        belongs("second_factors", "principal_id", "principals"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_second_factors")),
    )
    op.create_table(
        "recovery_codes",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("factor_id", sa.Uuid(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("used_at", INSTANT, nullable=True),
        belongs("recovery_codes", "factor_id", "second_factors"),
        sa.PrimaryKeyConstraint("tenant_id", "factor_id", "hash", name=op.f("pk_recovery_codes")),
    )
    op.create_table(
        "second_factor_rules",
        *entity(sa.Column("role_id", sa.Uuid(), nullable=True)),
        belongs("second_factor_rules", "role_id", "roles"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_second_factor_rules")),
    )
    alive = sa.text("deleted_at IS NULL")
    for table, column in (("second_factors", "principal_id"), ("second_factor_rules", "role_id")):
        name = f"uq_{table}_{column}"
        op.create_index(name, table, ["tenant_id", column], unique=True, postgresql_where=alive)
    op.create_table(
        "sign_in_attempts",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.LargeBinary(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("last_at", INSTANT, nullable=False),
        sa.Column("blocked_until", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "kind", "subject", name=op.f("pk_sign_in_attempts")),
    )
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])
    op.create_index("ix_sign_in_attempts_last_at", "sign_in_attempts", ["last_at"])
    for table, columns in (
        ("sessions", ("principal_id", "created_at")),
        ("second_factors", ("principal_id", "created_at")),
        ("second_factor_rules", ("role_id", "created_at")),
    ):
        for column in columns:
            op.create_index(f"ix_{table}_{column}", table, ["tenant_id", column, "id"])
    op.create_table(
        "identity_providers",
        *entity(
            sa.Column("name", sa.Text(), nullable=False),
            sa.Column("name_key", sa.Text(), nullable=False),
            sa.Column("issuer", sa.Text(), nullable=False),
            sa.Column("client_id", sa.Text(), nullable=False),
            sa.Column("email_domains", JSONB, nullable=False),
            sa.Column("is_active", sa.Boolean(), nullable=False),
            sa.Column("sealed_secret", sa.LargeBinary(), nullable=True),
            sa.Column("secret_changed_at", INSTANT, nullable=True),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_identity_providers")),
    )
    op.create_index(
        "uq_identity_providers_name",
        "identity_providers",
        ["tenant_id", "name_key"],
        unique=True,
        postgresql_where=alive,
    )
    op.create_index("ix_identity_providers_created_at", "identity_providers", ["tenant_id", "created_at", "id"])
    op.create_table(
        "provider_links",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("provider_id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("principal_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        belongs("provider_links", "provider_id", "identity_providers"),
        belongs("provider_links", "principal_id", "principals"),
        sa.PrimaryKeyConstraint("tenant_id", "provider_id", "subject", name=op.f("pk_provider_links")),
        sa.UniqueConstraint("tenant_id", "principal_id", "provider_id", name=op.f("uq_provider_links_principal_id")),
    )
    for table in TABLES:
        protect(table)
    op.create_table(
        "organisations",
        sa.Column("handle", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("handle", name=op.f("pk_organisations")),
        sa.UniqueConstraint("tenant_id", name=op.f("uq_organisations_tenant_id")),
    )
    # Tenants from before: the name in plain letters, with a number for those of one name, the eldest without.
    op.execute(
        """
        INSERT INTO organisations (handle, tenant_id)
        SELECT plain || CASE WHEN n = 1 THEN '' ELSE '-' || n END, tenant_id FROM (
          SELECT tenant_id, plain, row_number() OVER (PARTITION BY plain ORDER BY tenant_id) AS n FROM (
            SELECT tenant_id, coalesce(nullif(trim(BOTH '-' FROM left(
              regexp_replace(lower(name), '[^a-z0-9]+', '-', 'g'), 60)), ''), 'organisation') AS plain
            FROM tenants) named) numbered
        ON CONFLICT DO NOTHING
        """
    )
    op.execute(
        """
        CREATE FUNCTION organisation_tenant(wanted text) RETURNS uuid
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
          SELECT tenant_id FROM organisations WHERE handle = wanted
        $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION forget_sign_ins(older_than timestamptz, most bigint) RETURNS bigint
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
        DECLARE
          gone bigint;
        BEGIN
          WITH attempts AS (
            DELETE FROM sign_in_attempts a USING (
              SELECT tenant_id, kind, subject FROM sign_in_attempts WHERE last_at < older_than
              LIMIT most FOR UPDATE SKIP LOCKED) o
            WHERE a.tenant_id = o.tenant_id AND a.kind = o.kind AND a.subject = o.subject RETURNING 1
          ), links AS (
            DELETE FROM password_links l USING (
              SELECT tenant_id, id FROM password_links WHERE expires_at < older_than
              LIMIT most FOR UPDATE SKIP LOCKED) o
            WHERE l.tenant_id = o.tenant_id AND l.id = o.id RETURNING 1
          ), ended AS (
            DELETE FROM sessions s USING (
              SELECT tenant_id, id FROM sessions WHERE expires_at < older_than
              LIMIT most FOR UPDATE SKIP LOCKED) o
            WHERE s.tenant_id = o.tenant_id AND s.id = o.id RETURNING 1
          )
          SELECT greatest((SELECT count(*) FROM attempts), (SELECT count(*) FROM links), (SELECT count(*) FROM ended))
          INTO gone;
          RETURN gone;
        END $$
        """
    )
    # A sealed value begins with its version and the name of the key: five bytes.
    op.execute(
        """
        CREATE FUNCTION second_factors_sealed_earlier(heads bytea[], most bigint)
        RETURNS TABLE (tenant_id uuid, id uuid)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
          SELECT f.tenant_id, f.id FROM second_factors f WHERE substring(f.sealed_secret FOR 5) = ANY (heads)
          UNION ALL
          SELECT p.tenant_id, p.id FROM identity_providers p WHERE substring(p.sealed_secret FOR 5) = ANY (heads)
          LIMIT most
        $$
        """
    )
    for function in FUNCTIONS:
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {APP}")


def downgrade():
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION {function}")
    for table in ("organisations", *TABLES):
        op.drop_table(table)
