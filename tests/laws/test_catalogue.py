"""The live database's catalogue: row security, roles, definer functions, grants. Isolation without the application."""
# ruff: noqa: E501 - statements are read better in one line

import asyncio

import asyncpg
import pytest

from crm_api.catalog import CATALOG
from crm_api.kernel.record import Record, Reference

OWN = {"alembic_version", *Reference.metadata.tables}
PREDICATE = "(tenant_id = (NULLIF(current_setting('crm.tenant'::text, true), ''::text))::uuid)"
APPEND_ONLY = ("audit_entries", "outbox", "stage_changes", "tenant_seeds", "forecast_snapshots", "consents")


def as_app(database, work):
    """Runs `work(connection)` as the server's role."""

    async def run():
        connection = await asyncpg.connect(database["app"])
        try:
            return await work(connection)
        finally:
            await connection.close()

    return asyncio.run(run())


def test_every_table_has_row_security_and_exactly_one_policy(sql):
    tables = sql(
        "SELECT c.oid, relname, relrowsecurity, relforcerowsecurity, pg_get_userbyid(relowner) AS owner FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'public' AND relkind IN ('r', 'p') AND NOT relispartition"
    )
    assert {row["relname"] for row in tables} - OWN == set(Record.metadata.tables)
    for table in tables:
        assert table["owner"] == "crm_owner", table["relname"]
        assert not table["relforcerowsecurity"], f"{table['relname']}: FORCE would bind the owner's functions"
        policies = sql("SELECT * FROM pg_policy WHERE polrelid = $1", table["oid"])
        if table["relname"] in OWN:
            continue
        assert table["relrowsecurity"], table["relname"]
        assert len(policies) == 1, table["relname"]
        (policy,) = sql("SELECT * FROM pg_policies WHERE tablename = $1", table["relname"])
        assert (policy["permissive"], policy["cmd"], list(policy["roles"])) == ("PERMISSIVE", "ALL", ["public"])
        assert policy["qual"] == policy["with_check"] == PREDICATE, table["relname"]


def test_definer_functions_are_exactly_those_the_declarations_ask_for(sql):
    searched = {item.table.name for item in CATALOG.resources.values() if item.search}
    expected = {f"{way}_{name}" for name in searched for way in ("search", "seek", "resemble")} | {
        "active_retention_policies",
        "claim_job",
        "erase_recorded",
        "forget_credentials",
        "due_approvals",
        "coalesce_event",
        "forget_idempotency_keys",
        "endpoints_sealed_earlier",
        "failed_endpoints",
        "forget_import_rows",
        "forget_jobs",
        "forget_limit_usage",
        "add_oauth_signing_key",
        "forget_oauth",
        "forget_sign_ins",
        "second_factors_sealed_earlier",
        "job_figures",
        "keep_feed",
        "oauth_signing_keys",
        "organisation_tenant",
        "outdated_quotes",
        "purge_files",
        "webhook_tenants",
        "claim_deliveries",
        "forget_deliveries",
        "sequence_outbox",
        "share_limit_usage",
        "take_turn",
        "tenants_with_expired_leases",
        "tenants_with_expired_shares",
        "tenants_without_snapshots",
    }
    found = sql(
        "SELECT p.oid, proname, prosecdef, proconfig, pg_get_userbyid(proowner) AS owner, "
        "has_function_privilege('crm_app', p.oid, 'EXECUTE') AS app, "
        "EXISTS (SELECT 1 FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE grantee = 0) AS everyone "
        "FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname = 'public' "
        "AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e') "
        "AND prorettype <> 'trigger'::regtype"
    )
    assert {row["proname"] for row in found} == expected
    for row in found:
        assert row["prosecdef"], row["proname"]
        assert row["owner"] == "crm_owner"
        assert "search_path=public, pg_temp" in row["proconfig"]
        assert row["app"]
        assert not row["everyone"], f"{row['proname']}: PUBLIC may execute it"
    assert not sql("SELECT 1 FROM pg_views WHERE schemaname = 'public'"), "a view would need security_invoker"


def test_one_trigger_keeps_who_a_record_is_of_beside_its_values(sql):
    """There is no other, and it does what the caller may do: row security holds for it, too."""
    rows = sql(
        "SELECT tgrelid::regclass::text AS of, tgname, proname, prosecdef, pg_get_userbyid(proowner) AS owner, "
        "proconfig = '{\"search_path=public, pg_temp\"}' AS is_fixed FROM pg_trigger JOIN pg_proc p ON p.oid = tgfoid "
        "WHERE NOT tgisinternal"
    )
    assert {row["of"] for row in rows} == {item.table.name for item in CATALOG.resources.values() if item.owned}
    kinds = {(row["tgname"], row["proname"], row["prosecdef"], row["owner"], row["is_fixed"]) for row in rows}
    assert kinds == {("circle", "move_custom_values", False, "crm_owner", True)}
    functions = sql(
        "SELECT proname FROM pg_proc WHERE prorettype = 'trigger'::regtype AND proowner = 'crm_owner'::regrole"
    )
    assert [row[0] for row in functions] == ["move_custom_values"]


def test_what_is_of_no_tenant_is_closed_to_the_server(sql):
    """Reference tables: few, small, and only the owner's functions touch them."""
    assert set(Reference.metadata.tables) == {"oauth_signing_keys", "organisations", "schedule"}
    for table in Reference.metadata.tables:
        for right in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER", "REFERENCES"):
            assert not sql("SELECT 1 WHERE has_table_privilege('crm_app', $1, $2)", table, right), (table, right)


def test_roles_cannot_bypass_row_security(sql):
    roles = {row["rolname"]: row for row in sql("SELECT * FROM pg_roles WHERE rolname LIKE 'crm_%'")}
    assert set(roles) == {"crm_owner", "crm_migrate", "crm_app"}
    for name, role in roles.items():
        for attribute in ("rolsuper", "rolbypassrls", "rolcreaterole", "rolcreatedb", "rolreplication"):
            assert not role[attribute], (name, attribute)
    assert not roles["crm_owner"]["rolcanlogin"]
    assert not sql(
        "SELECT 1 WHERE pg_has_role('crm_app', 'crm_owner', 'MEMBER') OR pg_has_role('crm_app', 'crm_migrate', 'MEMBER')"
    )
    assert not sql("SELECT 1 FROM pg_class WHERE relowner = 'crm_app'::regrole")


def test_the_servers_role_has_no_more_rights_than_it_needs(sql):
    lists = [part for item in CATALOG.resources.values() for part in item.parts.values() if not part.journal]
    parts = {part.model.__tablename__ for part in lists}
    for table in sorted(set(Record.metadata.tables)):
        (row,) = sql(
            "SELECT "
            + ", ".join(
                f"has_table_privilege('crm_app', '{table}', '{right}') AS {right.lower()}"
                for right in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER", "REFERENCES")
            )
        )
        assert row["select"]
        assert {right for right in ("truncate", "trigger", "references") if row[right]} == set(), table
        assert row["delete"] == (
            table
            in (
                "custom_values",
                "default_views",
                "edited_records",
                "external_ids",
                "field_values",
                "import_rows",
                "shares",
                "storage_leases",
            )
            or table in parts
        ), table
        if table in APPEND_ONLY or table.startswith("idempotency"):
            assert row["insert"]
            assert not row["update"], table
    (row,) = sql(
        "SELECT has_any_column_privilege('crm_app', 'audit_entries', 'UPDATE') AS audit, has_any_column_privilege('crm_app', 'outbox', 'UPDATE') AS outbox, has_schema_privilege('crm_app', 'public', 'CREATE') AS make, has_table_privilege('crm_app', 'tenants', 'UPDATE') AS tenants, has_table_privilege('crm_app', 'tenants', 'INSERT') AS add"
    )
    assert dict(row) == {"audit": False, "outbox": False, "make": False, "tenants": False, "add": False}
    changed = sql(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'merges'::regclass AND attnum > 0 "
        "AND has_column_privilege('crm_app', attrelid, attnum, 'UPDATE')"
    )
    assert [row["attname"] for row in changed] == ["undone_at"], "what a merge did is recorded for good"


@pytest.mark.parametrize(
    "command",
    [
        "UPDATE {0} SET tenant_id = tenant_id",
        "DELETE FROM {0}",
        "TRUNCATE {0}",
        "DROP TABLE {0}",
        "ALTER TABLE {0} DISABLE ROW LEVEL SECURITY",
    ],
)
@pytest.mark.parametrize("table", APPEND_ONLY)
def test_what_was_recorded_stays(database, world, table, command):
    async def work(connection):
        await connection.execute("SELECT set_config('crm.tenant', $1, false)", str(world.tenant_id))
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(command.format(table))

    as_app(database, work)


@pytest.mark.parametrize("setting", [None, "", "00000000-0000-0000-0000-000000000000"])
def test_without_a_tenant_no_row_is_visible_and_none_can_be_written(database, world, setting):
    async def work(connection):
        if setting is not None:
            await connection.execute("SELECT set_config('crm.tenant', $1, false)", setting)
        for table in Record.metadata.tables:
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0, table  # noqa: S608 - our own names
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(
                "INSERT INTO teams (tenant_id, id, name, name_key, created_at, updated_at) VALUES ($1, gen_random_uuid(), 'x', 'x', now(), now())",
                world.tenant_id,
            )

    as_app(database, work)


def test_isolation_holds_without_the_applications_predicate(database, server, world, sql):
    """Raw statements as the server's role, with another tenant's setting."""
    from tests.support.org import Org

    other = Org.create(server)

    async def work(connection):
        await connection.execute("SELECT set_config('crm.tenant', $1, false)", str(other.tenant_id))
        for table in Record.metadata.tables:
            tenants = {row[0] for row in await connection.fetch(f"SELECT DISTINCT tenant_id FROM {table}")}  # noqa: S608 - our own names
            assert tenants <= {other.tenant_id}, table
            named = await connection.fetchval(f"SELECT count(*) FROM {table} WHERE tenant_id = $1", world.tenant_id)  # noqa: S608 - our own names
            assert named == 0, table
        for resource in CATALOG.resources.values():
            if resource.search:
                found = await connection.fetch(
                    f"SELECT search_{resource.table.name}($1, $2, 100)", world.tenant_id, ["%"]
                )
                assert found == [], resource.plural
        changed = await connection.execute("UPDATE accounts SET name = 'taken' WHERE tenant_id = $1", world.tenant_id)
        assert changed == "UPDATE 0"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(
                "UPDATE accounts SET tenant_id = $1", world.tenant_id
            ) if await connection.fetchval("SELECT count(*) FROM accounts") else await connection.execute(
                "INSERT INTO field_values VALUES ($1, 'f', 'v', gen_random_uuid())", world.tenant_id
            )

    as_app(database, work)
    assert sql("SELECT count(*) AS n FROM accounts WHERE tenant_id = $1", world.tenant_id)[0]["n"] > 0
