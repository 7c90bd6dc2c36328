"""Imports, and the rows of their files."""

import json

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import APP, protect

revision = "20261126i"
down_revision = "20261126b"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text())
STATES = ("created", "uploaded", "validating", "validated", "applying", "applied", "reverting", "reverted")
COUNTS = dict.fromkeys(
    (
        *("rows", "create", "update", "skip", "invalid", "created", "updated", "unchanged", "skipped", "failed"),
        *("reverted", "kept"),
    ),
    0,
)


def upgrade():
    op.create_table(
        "imports",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("encoding", sa.Text(), nullable=True),
        sa.Column("delimiter", sa.Text(), nullable=True),
        sa.Column("sheet", sa.Text(), nullable=True),
        sa.Column("mapping", JSONB, nullable=False),
        sa.Column("match_on", JSONB, nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("nulls", JSONB, nullable=False),
        sa.Column("defaults", JSONB, nullable=False),
        sa.Column("allow_duplicates", sa.Boolean(), nullable=False),
        sa.Column("rows_per_second", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), server_default="created", nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("storage_key", sa.Text(), nullable=True),
        sa.Column("columns", JSONB, server_default="[]", nullable=False),
        sa.Column("suggestions", JSONB, server_default="[]", nullable=False),
        sa.Column("sample", JSONB, server_default="[]", nullable=False),
        sa.Column("counts", JSONB, server_default=json.dumps(COUNTS), nullable=False),
        sa.Column("validated", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", JSONB, server_default="{}", nullable=False),
        sa.Column("external_ids", JSONB, server_default="{}", nullable=False),
        sa.CheckConstraint(f"state IN ({', '.join(repr(state) for state in STATES)})", name=op.f("ck_imports_state")),
        sa.CheckConstraint("format IN ('csv', 'xlsx', 'ndjson')", name=op.f("ck_imports_format")),
        sa.CheckConstraint("mode IN ('create', 'skip', 'update', 'upsert')", name=op.f("ck_imports_mode")),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_imports")),
    )
    op.create_index("ix_imports_created_by", "imports", ["tenant_id", "created_by", "created_at", "id"])
    op.create_index("ix_imports_created_at", "imports", ["tenant_id", "created_at", "id"])
    protect("imports")
    op.create_table(
        "import_rows",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("import_id", sa.Uuid(), nullable=False),
        sa.Column("row", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("data", JSONB, nullable=False),
        sa.Column("before", JSONB, nullable=True),
        sa.Column("problems", JSONB, nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "import_id"],
            ["imports.tenant_id", "imports.id"],
            name=op.f("fk_import_rows_import_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "import_id", "row", name=op.f("pk_import_rows")),
        postgresql_with={"fillfactor": 60},  # each row is written again where it stands
    )
    op.create_index(
        "ix_import_rows_problems",
        "import_rows",
        ["tenant_id", "import_id", "row"],
        postgresql_where=sa.text("problems IS NOT NULL"),
    )
    op.create_index(
        "ix_import_rows_key",
        "import_rows",
        ["tenant_id", "import_id", "key"],
        postgresql_where=sa.text("key IS NOT NULL"),
    )
    protect("import_rows", grants="SELECT, INSERT, UPDATE, DELETE")
    op.execute(
        """
        CREATE FUNCTION forget_import_rows(older_than timestamptz, most bigint) RETURNS bigint
        LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
          WITH gone AS (
            DELETE FROM import_rows r WHERE r.ctid = ANY (ARRAY (
              SELECT old.ctid FROM imports i CROSS JOIN LATERAL (
                SELECT o.ctid FROM import_rows o WHERE o.tenant_id = i.tenant_id AND o.import_id = i.id LIMIT most) old
              WHERE i.updated_at < older_than LIMIT most))
            RETURNING 1)
          SELECT count(*) FROM gone
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION forget_import_rows(timestamptz, bigint) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION forget_import_rows(timestamptz, bigint) TO {APP}")


def downgrade():
    op.execute("DROP FUNCTION forget_import_rows(timestamptz, bigint)")
    op.drop_table("import_rows")
    op.drop_table("imports")
