"""Up, down to nothing, up again; and the models say what the migrations made."""
# ruff: noqa: E501 - statements are read better in one line

import asyncio

import asyncpg
import pytest
from alembic import command

from crm_api import migrate
from crm_api.bootstrap import bootstrap, on_database


@pytest.fixture(scope="module")
def fresh(admin_url, worker_id) -> dict[str, str]:
    name = f"crm_migrations_{worker_id}"
    asyncio.run(bootstrap(admin_url, name))
    return {"admin": on_database(admin_url, name), "migrate": on_database(admin_url, name, "crm_migrate")}


def objects(url: str) -> dict[str, list[str]]:
    """Everything of ours in the database: tables with columns, indexes, constraints, policies, functions, grants."""

    async def read():
        connection = await asyncpg.connect(url)
        try:
            found = {}
            for name, text in {
                "columns": "SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' || coalesce(column_default, '') FROM information_schema.columns WHERE table_schema = 'public'",
                "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
                "constraints": "SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(c.oid) FROM pg_constraint c JOIN pg_namespace n ON n.oid = connamespace WHERE nspname = 'public' AND conrelid <> 0",
                "policies": "SELECT tablename || ' ' || policyname || ' ' || qual FROM pg_policies",
                "triggers": "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
                "grants": "SELECT table_name || ' ' || grantee || ' ' || privilege_type FROM information_schema.role_table_grants WHERE table_schema = 'public' AND grantee = 'crm_app'",
                "functions": "SELECT p.oid::regprocedure || prosrc FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname = 'public' AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')",
            }.items():
                found[name] = sorted(row[0] for row in await connection.fetch(text))
            return found
        finally:
            await connection.close()

    return asyncio.run(read())


def test_up_down_up_and_the_models_agree(fresh):
    empty = objects(fresh["admin"])
    migrate.upgrade(fresh["migrate"])
    command.check(migrate.config(fresh["migrate"]))
    first = objects(fresh["admin"])
    assert all(first.values())
    migrate.downgrade(fresh["migrate"], "base")
    left = {
        name: [text for text in texts if "alembic_version" not in text]
        for name, texts in objects(fresh["admin"]).items()
    }
    assert left == empty
    migrate.upgrade(fresh["migrate"])
    assert objects(fresh["admin"]) == first
    command.check(migrate.config(fresh["migrate"]))


def test_there_is_one_line_of_revisions(fresh):
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(migrate.config(fresh["migrate"]))
    assert len(script.get_heads()) == 1
    assert len(script.get_bases()) == 1
    assert all(not revision.is_merge_point and not revision.is_branch_point for revision in script.walk_revisions())
