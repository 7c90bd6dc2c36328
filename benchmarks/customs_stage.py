"""A million accounts with custom fields, their parents and contacts, as the API would have written them."""
# ruff: noqa: E501 - SQL

import json
from typing import Any
from uuid import UUID

from benchmarks import load
from benchmarks.stage import Stage, connect
from crm_api.app import build_kernel
from crm_api.domains.customs.custom_field import CUSTOM_FIELDS
from crm_api.domains.identity.default_roles import ADMINISTRATOR
from crm_api.kernel.repository import create
from crm_api.kernel.unit_of_work import system, transact
from crm_api.settings import load_settings
from crm_api.tenants import add_key, add_user

FIELDS = {
    "grade": ("choice", "text_value", "industry", "to_jsonb(NEW.industry)"),
    "score": ("number", "number_value", "annual_revenue", "to_jsonb(NEW.annual_revenue / 10000)"),
    "nick": ("text", "text_value", "name", "to_jsonb(NEW.name_key)"),
    "since": ("date", "number_value", "created_at", "to_jsonb((NEW.created_at AT TIME ZONE 'UTC')::date)"),
}
"""Of each: kind, column of the index, declared field with the same values, and what a record has."""
_TYPED = {
    "choice": "custom->>'{key}'",
    "text": "custom->>'{key}'",
    "number": "(custom->>'{key}')::bigint",
    "date": "(custom->>'{key}')::date - date '0001-01-01' + 1",
}
# $2 of each account's number: four fifths have a parent among the first tenth of those before them
_TRIGGER = """
CREATE SCHEMA IF NOT EXISTS bench;
CREATE TABLE IF NOT EXISTS bench.since (at timestamptz);
{common}
CREATE OR REPLACE FUNCTION bench.furnish() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE i bigint := substr(NEW.tax_id, 3); since timestamptz := (SELECT at FROM bench.since); p bigint;
BEGIN
  NEW.custom := jsonb_build_object({values});
  IF i > 10 AND bench.dice(61, i, 5) > 0 THEN
    p := 1 + bench.dice(60, i, i / 10);
    NEW.parent_id := bench.id('account', p, bench.at(p, since));
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER furnish BEFORE INSERT ON accounts FOR EACH ROW WHEN (NEW.created_via = 'import') EXECUTE FUNCTION bench.furnish();
ALTER TABLE accounts ENABLE ALWAYS TRIGGER furnish;
"""
_INDEXES = """
SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename = 'custom_values'
  AND indexname NOT IN (SELECT conname FROM pg_constraint)
"""


async def fill(stage: Stage, rows: int, late: list[str]) -> dict[str, str]:
    """Loads the accounts and an administrator; gives the ids of the fields that are not filterable yet, by key."""
    connection = await connect(stage)
    try:
        told = [f"'{key}', {value}" for key, (_, _, _, value) in FIELDS.items()]
        told += [f"'{key}', to_jsonb(NEW.employees)" for key in late]
        await connection.execute(_TRIGGER.format(common=load.COMMON, values=", ".join(told)))
        await load.load(stage, 1, rows, rows)
        await connection.execute("DROP TRIGGER furnish ON accounts")
        ids = await _declare(stage, late)
        await connection.execute(
            "SET session_replication_role = replica; SET maintenance_work_mem = '1GB'; SET jit = off"
        )
        indexes = await connection.fetch(_INDEXES)
        for row in indexes:
            await connection.execute(f'DROP INDEX "{row["indexname"]}"')
        for key, (kind, column, _, _) in FIELDS.items():
            value = _TYPED[kind].format(key=key)
            await connection.execute(
                f"INSERT INTO custom_values (tenant_id, field_id, object_id, {column}, owner_id, team_id, territory_id) "
                f"SELECT tenant_id, $1, id, {value}, owner_id, team_id, territory_id FROM accounts WHERE {value} IS NOT NULL ORDER BY id",
                UUID(ids[key]),
            )
        for row in indexes:
            await connection.execute(row["indexdef"])
        await connection.execute("VACUUM (ANALYZE, FREEZE) custom_values")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()
    return {key: ids[key] for key in late}


async def _declare(stage: Stage, late: list[str]) -> dict[str, str]:
    kernel = build_kernel(load_settings(), stage.app_url)
    connection = await connect(stage)
    try:
        ctx = system(kernel, stage.tenant, "benchmark")
        role = await connection.fetchval(
            "SELECT id::text FROM roles WHERE tenant_id = $1 AND name = $2", stage.tenant, ADMINISTRATOR
        )
        person = await add_user(ctx, {"name": "Admin", "email": "benchmark@example.com"}, role)
        stage.keys["admin"] = await add_key(ctx, person, "admin")
        found = {}
        for key, kind in {**{key: field[0] for key, field in FIELDS.items()}, **dict.fromkeys(late, "number")}.items():
            choices = [{"value": value} for value in load.INDUSTRIES] if kind == "choice" else []
            given: dict[str, Any] = {"key": key, "kind": kind, "choices": choices, "is_filterable": key not in late}
            body = json.dumps({"resource": "accounts", "label": key, **given})
            assert CUSTOM_FIELDS.create is not None  # noqa: S101 - it has one
            values = CUSTOM_FIELDS.create.model_validate_json(body).model_dump()
            made = await transact(ctx, lambda inner, values=values: create(inner, CUSTOM_FIELDS, values))
            found[key] = str(made["id"])
        return found
    finally:
        await connection.close()
        await kernel.database.close()
