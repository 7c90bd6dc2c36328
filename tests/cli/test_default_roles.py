"""What a new version adds to the default roles reaches the tenants there are, once, and leaves their choices alone."""

import asyncio
import json
from types import SimpleNamespace
from uuid import UUID, uuid4

import asyncpg
import pytest

from crm_api import migrate
from crm_api.bootstrap import bootstrap, on_database
from crm_api.catalog import CATALOG
from crm_api.commands.database import Place
from crm_api.commands.default_roles import give
from crm_api.domains.identity.default_roles import MANAGER, READER, REPRESENTATIVE
from crm_api.domains.identity.give_defaults import default_roles
from crm_api.kernel.domain import Domain
from crm_api.settings import Settings
from tests.support.command import Serving, crm_api
from tests.support.org import Person

pytestmark = pytest.mark.broad  # its databases take ten seconds

BLOCK = {"permission": "accounts:block", "reach": "own"}
LATE = Domain("late", roles={REPRESENTATIVE: (("accounts:block", "own"),), "Collector": (("accounts:unblock", "all"),)})
BEFORE = "20261124b"
SINCE = [{"permission": "jobs:*", "reach": "own"}]
"""What all but administrators got later than that."""


def prepared(admin_url, name, data_dir):
    """Settings of a database of its own: other tests' tenants are not to be given anything."""
    asyncio.run(bootstrap(admin_url, name))
    return settings(admin_url, name, data_dir)


def settings(admin_url, name, data_dir):
    """Of a process over that database."""
    return {
        "database_url": on_database(admin_url, name, "crm_app"),
        "migrate_url": on_database(admin_url, name, "crm_migrate"),
        "data_dir": data_dir,
    }


@pytest.fixture(scope="module")
def where(admin_url, new_database, worker_id, tmp_path_factory):
    name = f"crm_roles_{worker_id}"
    new_database(name)
    return settings(admin_url, name, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def base_url(where, tmp_path_factory):
    with Serving(tmp_path_factory.mktemp("log") / "log", **where) as serving:
        yield serving.base_url


@pytest.fixture
def admin(where, base_url):
    """The administrator of a tenant that this version made."""
    name = f"Tenant {uuid4()}"
    made = crm_api("tenants", "create", name, "--email", "admin@example.com", **where)
    assert made.returncode == 0, made.stderr
    tenant, _, administrator, key = (line.split()[1] for line in made.stdout.splitlines())
    person = Person(SimpleNamespace(base_url=base_url), administrator, key)
    person.tenant = tenant
    return person


@pytest.fixture
def newer(monkeypatch):
    """From here on, commands are those of a version with one more domain."""
    return lambda: monkeypatch.setattr(CATALOG, "domains", (*CATALOG.domains, LATE))


def of(admin, default):
    return next(role for role in admin.all("/v1/roles") if role["default_role"] == default)


def rep_of(admin):
    user = admin.make("users", name="Rep", email="rep@example.com")
    admin.make("role_assignments", principal_id=user["id"], role_id=of(admin, REPRESENTATIVE)["id"])
    key = admin.post(f"/v1/users/{user['id']}/issue_key", json={"name": "key"}).json()["key"]
    return Person(SimpleNamespace(base_url=str(admin.base_url)), user["id"], key)


def test_a_new_domain_reaches_a_tenant_and_takes_nothing_back(admin, where, here, newer):
    rep, role = rep_of(admin), of(admin, REPRESENTATIVE)
    account = rep.make("accounts", name="Late payer")
    block = f"/v1/accounts/{account['id']}/block"
    assert rep.post(block, json={"reason": "late"}).json()["permission"] == "accounts:block"
    kept = [grant for grant in role["permissions"] if grant["permission"] != "contacts:delete"]
    assert len(kept) == len(role["permissions"]) - 1
    change = {"name": "Hunter", "permissions": kept}
    assert admin.patch(f"/v1/roles/{role['id']}", json=change).status_code == 200

    newer()
    said = here("migrate", **where)
    assert (said.code, said.out.splitlines()[0].endswith("already.")) == (0, True), said
    assert "got what this version adds" in said.out

    found = admin.get(f"/v1/roles/{role['id']}").json()
    assert (found["name"], found["default_role"], found["version"]) == ("Hunter", REPRESENTATIVE, 3)
    assert found["permissions"] == [*kept, BLOCK]
    assert of(admin, "Collector")["permissions"] == [{"permission": "accounts:unblock", "reach": "all"}]
    assert of(admin, MANAGER)["version"] == of(admin, READER)["version"] == 1
    last = admin.all("/v1/audit_log", object_id=role["id"])[0]
    assert (last["action"], last["actor_id"], last["version"]) == ("update", None, 3)
    assert (last["before"]["permissions"], last["after"]["permissions"]) == (kept, [*kept, BLOCK])
    assert rep.post(block, json={"reason": "late"}).status_code == 200

    assert admin.patch(f"/v1/roles/{role['id']}", json={"permissions": kept}).status_code == 200
    assert "adds" not in here("migrate", **where).out
    assert admin.get(f"/v1/roles/{role['id']}").json()["permissions"] == kept


def test_a_deleted_default_role_stays_deleted_and_a_taken_name_is_left_alone(admin, where, here, newer):
    role = of(admin, REPRESENTATIVE)
    assert admin.delete(f"/v1/roles/{role['id']}").status_code == 204
    own = admin.make("roles", name="Collector", permissions=[{"permission": "accounts:read", "reach": "own"}])
    newer()
    assert f"Tenant {admin.tenant} has a role 'Collector' of its own" in here("migrate", **where).out
    names = [item["name"] for item in admin.all("/v1/roles", sort="name")]
    assert names == ["Administrator", "Collector", "Reader", "Sales manager"]
    assert admin.get(f"/v1/roles/{own['id']}").json() == own
    assert own["default_role"] is None
    assert admin.post(f"/v1/roles/{role['id']}/restore").status_code == 200
    here("migrate", **where)
    assert BLOCK in of(admin, REPRESENTATIVE)["permissions"]
    assert admin.delete(f"/v1/roles/{own['id']}").status_code == 204
    here("migrate", **where)
    assert of(admin, "Collector")["permissions"] == [{"permission": "accounts:unblock", "reach": "all"}]


def test_several_processes_at_once_give_everything_once(admin, where, newer):
    newer()
    place = Place(Settings(**where), where["database_url"], where["migrate_url"], embedded=False)

    async def together():
        return await asyncio.gather(*(give(place) for _ in range(4)))

    said = [line for lines in asyncio.run(together()) for line in lines if "got what" in line]
    assert len(said) == 1
    assert [of(admin, name)["version"] for name in (REPRESENTATIVE, "Collector", READER)] == [2, 1, 1]
    collectors = [role for role in admin.all("/v1/roles") if role["name"] == "Collector"]
    assert len(collectors) == 1


def test_without_the_servers_role_it_says_what_is_left_to_do(admin, where, here, newer):
    newer()
    said = here("migrate", **{**where, "database_url": where["migrate_url"]})
    assert (said.code, "set CRM_DATABASE_URL" in said.out) == (0, True), said
    assert of(admin, REPRESENTATIVE)["version"] == 1
    here("migrate", **where)
    assert of(admin, REPRESENTATIVE)["version"] == 2


ROLE = """
    INSERT INTO roles (tenant_id, id, name, name_key, permissions, field_rules, created_at, updated_at, deleted_at)
    VALUES ($1, $2, $3, lower($3), $4, '[]', now(), now(), CASE WHEN $5 THEN now() END)
"""
MADE = """
    INSERT INTO audit_entries (tenant_id, id, at, actor_id, request_id, object_type, object_id, version, action,
      before, after)
    VALUES ($1, uuidv7(), now(), $2, 'cli', 'role', $3, 1, 'create', '{}', jsonb_build_object('name', $4::text))
"""


def test_roles_of_tenants_from_before_are_marked(admin_url, worker_id, tmp_path, here, newer):
    """By the name they were made with: one is renamed, one deleted, one a customer's own under a freed name."""
    where = prepared(admin_url, f"crm_marked_{worker_id}", tmp_path)
    migrate.upgrade(where["migrate_url"], BEFORE)
    tenant, ids = uuid4(), {name: uuid4() for name in ("renamed", "deleted", "manager", "own")}
    given = {role: [grant for grant in grants if grant not in SINCE] for role, grants in default_roles(CATALOG).items()}

    async def run(work):
        connection = await asyncpg.connect(on_database(admin_url, f"crm_marked_{worker_id}"))
        try:
            return await work(connection)
        finally:
            await connection.close()

    async def fill(connection):
        await connection.execute("INSERT INTO tenants VALUES ($1, 'Old', now())", tenant)
        for key, name, made_as, actor, gone in (
            ("renamed", "Hunter", REPRESENTATIVE, None, False),
            ("deleted", READER, READER, None, True),
            ("own", READER, READER, uuid4(), False),
            ("manager", MANAGER, MANAGER, None, False),
        ):
            grants = [] if key == "own" else given[made_as]
            await connection.execute(ROLE, tenant, ids[key], name, json.dumps(grants), gone)
            await connection.execute(MADE, tenant, actor, ids[key], made_as)

    async def roles(connection):
        found = await connection.fetch(
            "SELECT id, default_role, permissions, version FROM roles WHERE tenant_id = $1", tenant
        )
        return {row["id"]: (row["default_role"], json.loads(row["permissions"]), row["version"]) for row in found}

    asyncio.run(run(fill))
    newer()
    said = here("migrate", **where)
    assert said.code == 0, said
    found = asyncio.run(run(roles))
    assert found.pop(ids["renamed"]) == (REPRESENTATIVE, [*given[REPRESENTATIVE], *SINCE, BLOCK], 2)
    assert found.pop(ids["deleted"]) == (READER, given[READER], 1)
    assert found.pop(ids["manager"]) == (MANAGER, [*given[MANAGER], *SINCE], 2)
    assert found.pop(ids["own"]) == (None, [], 1)
    assert sorted(role for role, _, _ in found.values()) == ["Administrator", "Collector"]
    assert here("migrate", **where).out.splitlines() == [f"The database is at {migrate.revisions()[-1]} already."]


PIPELINES_GONE = ["DELETE FROM stages WHERE tenant_id = $1", "DELETE FROM pipelines WHERE tenant_id = $1"]


def test_seeds_come_once_and_stay_away_when_they_are_deleted(admin, where, here):
    account = admin.make("accounts", name="First")
    first = admin.make("opportunities", name="Without configuration", account_id=account["id"])
    (pipeline,) = admin.all("/v1/pipelines")
    assert (pipeline["id"], pipeline["is_default"]) == (first["pipeline_id"], True)
    kinds = [stage["kind"] for stage in admin.all("/v1/stages", sort="position")]
    assert kinds == ["open", "open", "open", "open", "won", "lost"]
    (unit,) = admin.all("/v1/units")
    assert unit["code"] == "piece"
    assert admin.delete(f"/v1/units/{unit['id']}").status_code == 204
    said = here("migrate", **where)
    assert (said.code, "to begin with" in said.out) == (0, False), said
    assert (admin.all("/v1/units"), len(admin.all("/v1/pipelines"))) == ([], 1)


def test_seeds_reach_tenants_from_before_that_have_none_of_their_own(admin, where, here):
    async def forget(statements):
        connection = await asyncpg.connect(where["migrate_url"])
        try:
            await connection.execute("SET ROLE crm_owner")
            await connection.execute("SELECT set_config('crm.tenant', $1, false)", str(admin.tenant))
            await connection.execute("DELETE FROM tenant_seeds WHERE tenant_id = $1", UUID(admin.tenant))
            for statement in statements:
                await connection.execute(statement, UUID(admin.tenant))
        finally:
            await connection.close()

    asyncio.run(forget([*PIPELINES_GONE, "DELETE FROM units WHERE tenant_id = $1"]))
    own = admin.make("units", code="kg", name="Kilogram")
    assert "1 tenant got records to begin with." in here("migrate", **where).out
    assert [unit["id"] for unit in admin.all("/v1/units")] == [own["id"]]
    assert [(row["name"], row["is_default"]) for row in admin.all("/v1/pipelines")] == [("Standard", True)]
    place = Place(Settings(**where), where["database_url"], where["migrate_url"], embedded=False)
    asyncio.run(forget(PIPELINES_GONE))

    async def together():
        return await asyncio.gather(*(give(place) for _ in range(3)))

    said = [line for lines in asyncio.run(together()) for line in lines]
    assert said == ["1 tenant got records to begin with."]
    assert (len(admin.all("/v1/pipelines")), len(admin.all("/v1/stages"))) == (1, 6)
