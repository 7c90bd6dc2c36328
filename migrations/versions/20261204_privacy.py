"""Privacy: consents, legal holds, erasures, retention policies, the function that erases from what is only added to."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import APP, protect

revision = "20261204p"
down_revision = "20261204a"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text())
ERASE = "erase_recorded(uuid, uuid, text, text, bigint, jsonb, text)"
POLICIES = "active_retention_policies(bigint)"


def _entity(table: str, *columns: sa.Column, checks: tuple = ()) -> None:
    op.create_table(
        table,
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        *columns,
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", JSONB, server_default="{}", nullable=False),
        sa.Column("external_ids", JSONB, server_default="{}", nullable=False),
        *checks,
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f(f"pk_{table}")),
    )


def _text(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _id(name: str, *, nullable: bool = True) -> sa.Column:
    return sa.Column(name, sa.Uuid(), nullable=nullable)


def _at(name: str, *, nullable: bool = True) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _reference(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant_id", column], [f"{target}.tenant_id", f"{target}.id"], name=op.f(f"fk_{table}_{column}")
    )


def _one_of(table: str, column: str, *values: str) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=op.f(f"ck_{table}_{column}"))


def _about_person(table: str) -> tuple:
    return (
        _reference(table, "contact_id", "contacts"),
        _reference(table, "lead_id", "leads"),
        sa.CheckConstraint("num_nonnulls(contact_id, lead_id) > 0", name=op.f(f"ck_{table}_person")),
    )


def _sortable(table: str, *columns: str) -> None:
    for column in columns:
        op.create_index(f"ix_{table}_{column}", table, ["tenant_id", column, "id"])


def _sparse(table: str, *columns: str) -> None:
    for column in columns:
        kept = sa.text(f"{column} IS NOT NULL")
        op.create_index(f"ix_{table}_{column}", table, ["tenant_id", column, "id"], postgresql_where=kept)


def upgrade():
    _entity(
        "consents",
        *(_id("contact_id"), _id("lead_id"), _text("purpose"), _text("basis"), _text("channel"), _text("status")),
        *(_at("at", nullable=False), _text("evidence", nullable=True), _id("file_id"), _text("source", nullable=True)),
        checks=(
            *_about_person("consents"),
            _reference("consents", "file_id", "files"),
            _one_of(
                *("consents", "basis", "consent", "contract", "legal_obligation", "vital_interests", "public_task"),
                "legitimate_interests",
            ),
            _one_of("consents", "channel", "email", "phone", "sms", "letter", "any"),
            _one_of("consents", "status", "granted", "withdrawn"),
        ),
    )
    _sortable("consents", "at", "created_at")
    _sparse("consents", "contact_id", "lead_id", "file_id")
    # What was said is recorded for good. A merge moves it to the survivor, an erasure takes the words out.
    moved = "contact_id, lead_id, evidence, source, custom, external_ids, version, updated_at, updated_by"
    protect("consents", grants=f"SELECT, INSERT, UPDATE ({moved})")
    _entity(
        "legal_holds",
        *(_id("contact_id"), _id("lead_id"), _text("reason")),
        checks=_about_person("legal_holds"),
    )
    _sortable("legal_holds", "created_at")
    _sparse("legal_holds", "contact_id", "lead_id")
    protect("legal_holds")
    _entity(
        "erasures",
        *(_text("object_type"), _id("object_id", nullable=False), _text("basis"), _text("reference", nullable=True)),
        *(_text("state"), _id("job_id"), _id("policy_id")),
        sa.Column("objects", JSONB, server_default="[]", nullable=False),
        sa.Column("kinds", JSONB, server_default="{}", nullable=False),
        sa.Column("counts", JSONB, server_default="{}", nullable=False),
        *(_text("digest", nullable=True), _at("finished_at"), sa.Column("obstacles", JSONB, nullable=True)),
        checks=(
            _one_of(
                *("erasures", "basis", "request", "consent_withdrawn", "objection", "unlawful", "legal_obligation"),
                "no_longer_needed",
            ),
            _one_of("erasures", "state", "running", "blocked", "done"),
        ),
    )
    _sortable("erasures", "created_at", "object_id")
    op.create_index(
        "uq_erasures_object_id",
        "erasures",
        ["tenant_id", "object_id"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL AND state = 'running'"),
    )
    protect("erasures")
    _entity(
        "retention_policies",
        *(_text("name"), _text("resource"), sa.Column("filter", JSONB, nullable=True)),
        sa.Column("untouched_months", sa.BigInteger(), nullable=False),
        *(_text("effect"), _text("state"), _at("ran_at")),
        checks=(
            _one_of("retention_policies", "resource", "contacts", "leads"),
            _one_of("retention_policies", "effect", "erase", "delete"),
            _one_of("retention_policies", "state", "draft", "active", "paused"),
        ),
    )
    _sortable("retention_policies", "name", "created_at")
    protect("retention_policies")
    _accounts()
    _functions()


def _accounts() -> None:
    op.add_column("accounts", sa.Column("habits", JSONB, server_default="[]", nullable=False))
    _entity("account_relation_types", *(_text(name) for name in ("code", "label", "inverse_label")))
    _sortable("account_relation_types", "code", "created_at")
    op.create_index(
        "uq_account_relation_types_code",
        "account_relation_types",
        ["tenant_id", "code"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    protect("account_relation_types")
    ends = {"from_account_id": "accounts", "to_account_id": "accounts", "type_id": "account_relation_types"}
    _entity(
        "account_relations",
        *(_id(name, nullable=False) for name in ends),
        *(sa.Column(name, sa.Date(), nullable=True) for name in ("valid_from", "valid_until")),
        checks=(
            *(_reference("account_relations", name, target) for name, target in ends.items()),
            sa.CheckConstraint("from_account_id <> to_account_id", name=op.f("ck_account_relations_accounts")),
            sa.CheckConstraint("valid_until >= valid_from", name=op.f("ck_account_relations_period")),
        ),
    )
    _sortable("account_relations", *ends, "created_at")
    protect("account_relations")


def _scrubbed(row: str, column: str) -> str:
    """JSON of a recorded row without what tells of the person: by field where it is their record, by text anywhere."""
    mine = f"CASE WHEN {row}.object_id = ANY (ids) THEN coalesce(replaced -> {row}.object_type, '{{}}') ELSE '{{}}' END"
    whole = (
        f"(SELECT coalesce(jsonb_object_agg(f.key, CASE WHEN m.mine ? f.key THEN m.mine -> f.key ELSE f.value END), "
        f"'{{}}'::jsonb) FROM jsonb_each({row}.{column}) f, (SELECT {mine} AS mine) m)"
    )
    return f"regexp_replace({whole}::text, pattern, 'erased', 'gi')::jsonb"


_LEAST = {"uuid": "00000000-0000-0000-0000-000000000000", "bigint": "-1", "bytea": "\\x"}


def _part(table: str, key: str, cast: str, change: str, hit: str, further: str = "") -> str:
    """Goes on through a table in the order of its key, and changes what is hit: a range of its index at a time."""
    after = f"t.tenant_id = wanted AND t.{key} > coalesce(since, '{_LEAST[cast]}')::{cast}"
    return f"""
          SELECT b.place::text INTO upto FROM (
            SELECT t.{key} AS place FROM {table} t WHERE {after} ORDER BY t.{key} LIMIT most) b
          ORDER BY b.place DESC LIMIT 1;
          RETURN QUERY WITH hit AS (
            UPDATE {table} t SET {change}{further}
            WHERE {after} AND t.{key} <= upto::{cast} AND ({hit}) RETURNING 1
          )
          SELECT upto, (SELECT count(*) FROM hit);"""


def _functions() -> None:
    payload = "(t.previous::text || t.data::text) ~* pattern"
    event = f"previous = {_scrubbed('t', 'previous')}, data = {_scrubbed('t', 'data')}"
    audit = _part(
        "audit_entries",
        "id",
        "uuid",
        f"before = {_scrubbed('t', 'before')}, after = {_scrubbed('t', 'after')}",
        "t.object_id = ANY (ids) OR (t.before::text || t.after::text) ~* pattern",
    )
    outbox = _part("outbox", "id", "bigint", event, f"t.object_id = ANY (ids) OR {payload}")
    feed = _part("feed", "seq", "bigint", event, f"t.object_id = ANY (ids) OR {payload}")
    # A reply of several records that shows the person goes as a whole: what is whose cannot be told apart in it.
    shown = '(t.image::text ~ \'"object": "(contact|lead)"\' AND t.image::text ~ known)'
    replies = _part(
        "idempotency_replies",
        "scope",
        "bytea",
        f"image = CASE WHEN t.object_id <> ALL (ids) AND {shown} THEN '{{}}'::jsonb ELSE {_scrubbed('t', 'image')} END",
        f"t.object_id = ANY (ids) OR {shown} OR t.image::text ~* pattern",
    )
    empty = '{"before": {}, "after": {}, "external_ids": {}, "children": [], "shares": []}'
    merges = _part(
        "merges",
        "id",
        "uuid",
        f"journal = '{empty}'::jsonb",
        "t.survivor_id = ANY (ids) OR t.merged_id = ANY (ids)",
    )
    attempts = _part(
        "webhook_attempts",
        "id",
        "uuid",
        "request = CASE WHEN d.object_id = ANY (ids) THEN '{}' ELSE regexp_replace(t.request, pattern, 'erased', 'gi') "
        "END, reply = CASE WHEN d.object_id = ANY (ids) THEN NULL "
        "ELSE regexp_replace(t.reply, pattern, 'erased', 'gi') END",
        "d.tenant_id = wanted AND d.id = t.delivery_id "
        "AND (d.object_id = ANY (ids) OR t.request ~* pattern OR t.reply ~* pattern)",
        " FROM webhook_deliveries d",
    )
    jobs = _part(
        "jobs",
        "id",
        "uuid",
        "parameters = regexp_replace(t.parameters::text, pattern, 'erased', 'gi')::jsonb, "
        "result = regexp_replace(t.result::text, pattern, 'erased', 'gi')::jsonb, "
        "problem = regexp_replace(t.problem::text, pattern, 'erased', 'gi')::jsonb",
        "concat(t.parameters, t.result, t.problem) ~* pattern",
    )
    # The file and the sample of an import that had such a row go with it; its bytes are deleted by their lease.
    imports = """, freed AS (
            UPDATE imports i SET sample = '[]', storage_key = NULL FROM (SELECT DISTINCT h.import_id FROM hit h) g
            WHERE i.tenant_id = wanted AND i.id = g.import_id RETURNING old.storage_key
          ), leased AS (
            INSERT INTO storage_leases (tenant_id, storage_key, expires_at)
            SELECT wanted, f.storage_key, now() FROM freed f WHERE f.storage_key IS NOT NULL
            ON CONFLICT (tenant_id, storage_key) DO UPDATE SET expires_at = now() RETURNING 1
          )"""
    rows = f"""
          RETURN QUERY WITH batch AS MATERIALIZED (
            SELECT t.import_id, t.row FROM import_rows t
            WHERE t.tenant_id = wanted AND (since IS NULL OR (t.import_id, t.row)
              > (split_part(since, ' ', 1)::uuid, split_part(since, ' ', 2)::bigint))
            ORDER BY t.import_id, t.row LIMIT most
          ), hit AS (
            UPDATE import_rows t SET data = '{{}}', before = NULL, key = NULL, problems = NULL FROM batch b
            WHERE t.tenant_id = wanted AND t.import_id = b.import_id AND t.row = b.row
              AND (t.object_id = ANY (ids) OR concat(t.data, t.before, t.key, t.problems) ~* pattern)
            RETURNING t.import_id
          ){imports}
          SELECT (SELECT b.import_id || ' ' || b.row FROM batch b ORDER BY b.import_id DESC, b.row DESC LIMIT 1),
            (SELECT count(*) FROM hit);"""
    samples = f"""
          RETURN QUERY WITH hit AS (
            SELECT t.id AS import_id FROM imports t WHERE t.tenant_id = wanted
              AND (t.sample::text || t.defaults::text) ~* pattern
          ){imports}
          SELECT NULL::text, (SELECT count(*) FROM hit);"""
    parts = {
        "audit_entries": audit,
        "idempotency_replies": replies,
        "merges": merges,
        "import_rows": rows,
        "imports": samples,
        "webhook_attempts": attempts,
        "jobs": jobs,
        "outbox": "PERFORM pg_advisory_xact_lock(hashtextextended('sequence_outbox', 0));" + outbox,
        "feed": feed,
    }
    cases = "".join(f"\n        WHEN '{name}' THEN {body}" for name, body in parts.items())
    # It reaches the records that a running erasure of this tenant names, and puts nothing there but what means "erased".
    # The sequencer's lock keeps an event from being moved while it is changed, which would have it moved twice.
    op.execute(
        f"""
        CREATE FUNCTION erase_recorded(wanted uuid, erasure uuid, part text, since text, most bigint, replaced jsonb,
          pattern text) RETURNS TABLE (following text, changed bigint)
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
        DECLARE
          ids uuid[];
          known text;
          upto text;
        BEGIN
          SELECT ARRAY (SELECT o.id::uuid FROM jsonb_array_elements_text(e.objects) o (id)) INTO ids FROM erasures e
            WHERE e.tenant_id = wanted AND e.id = erasure AND e.state = 'running'
              AND wanted = nullif(current_setting('crm.tenant', true), '')::uuid;
          IF ids IS NULL THEN
            RAISE EXCEPTION 'no such erasure runs';
          END IF;
          IF EXISTS (SELECT 1 FROM jsonb_each(replaced) t, jsonb_each(t.value) f WHERE f.value <> ALL (ARRAY [
              'null', '[]', '{{}}', '"Erased"', '"{"0" * 64}"']::jsonb[])) THEN
            RAISE EXCEPTION 'nothing may stand there but what means erased';
          END IF;
          known := coalesce(nullif(array_to_string(ids, '|'), ''), 'nothing');
        CASE part{cases}
        END CASE;
        END $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION active_retention_policies(most bigint) RETURNS TABLE (tenant_id uuid, id uuid)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
          SELECT p.tenant_id, p.id FROM retention_policies p WHERE p.state = 'active' AND p.deleted_at IS NULL
          ORDER BY p.ran_at NULLS FIRST LIMIT most
        $$
        """
    )
    for function in (ERASE, POLICIES):
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {APP}")


def downgrade():
    for function in (ERASE, POLICIES):
        op.execute(f"DROP FUNCTION {function}")
    op.drop_column("accounts", "habits")
    for table in (
        "account_relations",
        "account_relation_types",
        "retention_policies",
        "erasures",
        "legal_holds",
        "consents",
    ):
        op.drop_table(table)
