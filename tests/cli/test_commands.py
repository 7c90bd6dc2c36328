"""What the commands say and do, beside serving."""

import re
import subprocess
import sys

import orjson
import pytest
from typer.testing import CliRunner

from crm_api import migrate
from crm_api.catalog import CATALOG
from crm_api.cli import app
from crm_api.commands.explain import describe, show
from crm_api.kernel.collective import collective_operations
from crm_api.kernel.router import operations
from crm_api.settings import Settings
from tests.support.command import ROOT, crm_api, environment
from tests.support.org import Person

HEAVY = ("sqlalchemy", "fastapi", "alembic", "asyncpg", "uvicorn")


def settings(server, database):
    return {
        "database_url": database["app"],
        "migrate_url": database["migrate"],
        "data_dir": server.settings.data_dir,
    }


def test_help_imports_nothing_heavy():
    code = f"import sys, crm_api.cli; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    listed = CliRunner().invoke(app, ["--help"]).output
    for name in ("serve", "demo", "migrate", "bootstrap", "openapi", "explain", "tenants", "keys"):
        assert name in listed


@pytest.mark.parametrize("resource", CATALOG.resources.values(), ids=CATALOG.resources.keys())
def test_explain_names_every_route_and_rule(resource, capsys):
    found = describe(resource.plural, "Sales representative")
    show(found)
    text = capsys.readouterr().out
    many = [item for item in collective_operations(CATALOG) if item.resource is resource]
    for operation in (*operations(resource), *many):
        assert re.search(
            rf"{operation.method} +{re.escape(operation.path)} +{operation.operation_id} +{operation.permission}", text
        )
    for word in (*resource.events, *resource.filterable, *(rule.name for rule in resource.rows)):
        assert word in text
    for edge in resource.lifecycle.edges if resource.lifecycle else ():
        assert edge.verb in text
    assert orjson.loads(orjson.dumps(found)) == found


def test_explain_shows_the_sql_of_the_role():
    assert "p_subordinates" not in describe("account", "Administrator")["sample"]["list"]
    representative = describe("accounts", "Sales representative")["sample"]
    assert representative["policies"] == ["reach:own", "share", "account_team"]
    assert "accounts.tenant_id = $" in representative["get"]
    assert "ORDER BY" in representative["list"]


def test_explain_suggests_what_was_meant(refused):
    assert "perhaps accounts, " in refused("explain", "acounts")


@pytest.mark.broad  # it takes nine seconds, and `make test` checks it by itself
def test_openapi_check_fails_on_drift(tmp_path):
    file, run = tmp_path / "new" / "openapi.json", CliRunner()
    assert run.invoke(app, ["openapi", "--output", str(file)]).exit_code == 0
    assert file.read_bytes().endswith(b"}\n")
    assert run.invoke(app, ["openapi", "--check", "--output", str(file)]).exit_code == 0
    file.write_bytes(file.read_bytes().replace(b'\n  "openapi"', b'\n  "openapy"', 1))
    drifted = run.invoke(app, ["openapi", "--check", "--output", str(file)])
    assert drifted.exit_code == 1
    assert '-  "openapy"' in drifted.output
    file.unlink()
    assert run.invoke(app, ["openapi", "--check", "--output", str(file)]).exit_code == 1


def test_tenant_and_keys_work_over_http(server, database, here, refused):
    where = settings(server, database)
    done = crm_api("tenants", "create", "Ñandú & Sons", "--email", "boss@nandu.example", **where)
    assert done.returncode == 0, done.stderr
    tenant, _, administrator, first = (line.split()[1] for line in done.stdout.splitlines())
    with Person(server, administrator, first) as boss:
        assert boss.get("/v1/me").json()["tenant_id"] == tenant
    assert f"{tenant}  " in here("tenants", "list", **where).out

    issued = here("keys", "issue", "Boss@Nandu.example", "--tenant", "Ñandú & Sons", **where)
    assert issued.code == 0, issued.err
    with Person(server, administrator, issued.out.strip()) as boss:
        keys = boss.get("/v1/api_keys").json()["data"]
        assert sorted(key["name"] for key in keys) == ["first key", "issued by the operator"]
    assert "revoke one first" in refused("keys", "issue", administrator, "--tenant", tenant, **where)

    assert here("keys", "revoke", first, **where).code == 0
    with Person(server, administrator, first) as boss:
        assert boss.get("/v1/me").status_code == 401


def test_a_suspended_tenant_is_refused_at_once(server, database, here, refused, org):
    where = settings(server, database)
    org.rep.make("accounts", name="Before")
    assert here("tenants", "suspend", str(org.tenant_id), **where).code == 0
    refusals = [person.get("/v1/accounts").status_code for person in (org.rep, org.admin)]
    refusals.append(org.rep.post("/v1/accounts", json={"name": "After"}).status_code)
    assert refusals == [401, 401, 401]
    assert "(inactive) Tenant" in here("tenants", "list", **where).out
    assert here("tenants", "resume", str(org.tenant_id), **where).code == 0
    assert [account["name"] for account in org.rep.all("/v1/accounts")] == ["Before"]
    assert "no tenant" in refused("tenants", "suspend", "01900000-0000-7000-8000-000000000000", **where)


def test_a_tenant_gets_limits_of_its_own(server, database, here, org):
    where = settings(server, database)
    before = org.rep.get("/v1/units").headers["ratelimit-policy"]

    def policy() -> str:
        org.rep.get("/v1/units")  # by this the process learns that something changed
        return org.rep.get("/v1/units").headers["ratelimit-policy"]

    assert here("tenants", "limit", str(org.tenant_id), "--credential", "3", "--tenant", "5", **where).code == 0
    window = server.settings.rate_window
    assert policy().startswith(f'"credential";q={3 * window};w={window}, "tenant";q={5 * window};w={window}, ')
    assert here("tenants", "limit", str(org.tenant_id), **where).code == 0
    assert policy() == before


def test_wrong_addresses_and_settings_are_one_line(database, refused, tmp_path):
    closed = "postgresql://crm_app@127.0.0.1:1/crm"
    process = crm_api("serve", "--port", "0", database_url=closed, data_dir=tmp_path)
    assert process.returncode == 1
    assert process.stderr.startswith("crm-api: PostgreSQL does not answer: ")
    assert len(process.stderr.splitlines()) == 1
    assert process.stdout == ""
    assert "PostgreSQL does not answer" in refused("migrate", database_url=closed)
    assert "Input should be less than" in refused("serve", pool_size=9999)
    nobody = database["app"].replace("crm_app@", "nobody@")
    assert '"nobody" does not exist' in refused("tenants", "list", database_url=nobody)
    assert "Set CRM_MIGRATE_URL" in refused("tenants", "list", database_url=database["app"])
    where = {"database_url": database["app"], "migrate_url": database["migrate"], "data_dir": tmp_path}
    assert refused("tenants", "create", "X", "--email", "x", **where) == "crm-api: 'x' is no e-mail address."


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"smtp_url": "smtp://mail"}, "CRM_SMTP_URL needs CRM_PUBLIC_URL: letters hold links."),
        ({"public_url": "crm.example"}, "CRM_PUBLIC_URL is https:// and a host, without a path."),
        ({"cors_origins": "https://a.example, b.example"}, "CRM_CORS_ORIGINS: 'b.example' is no origin such as"),
        ({"cors_origins": "https://a.example/"}, "CRM_CORS_ORIGINS: 'https://a.example/' is no origin such as"),
        ({"trusted_proxies": "10.0.0.0/8"}, "CRM_TRUSTED_PROXIES: '10.0.0.0/8' does not appear to be an IPv4"),
        ({"egress_ca": "/absent.pem"}, "CRM_EGRESS_CA: there is no file /absent.pem."),
        ({"pool_siz": "5"}, "CRM_POOL_SIZ is no setting. Did you mean CRM_POOL_SIZE?"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(settings, line, tmp_path):
    process = crm_api("serve", "--port", "0", data_dir=tmp_path, **settings)
    assert process.returncode == 1
    assert process.stderr.startswith(f"crm-api: {line}")
    assert len(process.stderr.splitlines()) == 1


def test_origins_and_proxies_are_read(monkeypatch):
    monkeypatch.setenv("CRM_CORS_ORIGINS", "*, http://localhost:5173, https://app.example.com, http://[::1]:80")
    monkeypatch.setenv("CRM_TRUSTED_PROXIES", "127.0.0.1, 0:0:0:0:0:0:0:1")
    found = Settings()
    assert found.cors_origins == ("*", "http://localhost:5173", "https://app.example.com", "http://[::1]:80")
    assert found.trusted_proxies == ("127.0.0.1", "::1")


def test_bootstrap_and_migrate_prepare_a_database(admin_url, database, here, refused, tmp_path):
    name = f"{database['name']}_prepared"
    said = here("bootstrap", admin_url, "--database", name)
    assert f"created database {name}" in said.out, said
    assert "CREATEROLE" in here("bootstrap", "--print-rights").out
    where = {"data_dir": tmp_path}
    for setting, role in (("database_url", "app"), ("migrate_url", "migrate")):
        where[setting] = database[role].replace(f"/{database['name']}?", f"/{name}?")
    line = refused("serve", "--port", "0", **where)
    assert "has no tables of ours" in line
    assert migrate.revisions()[-1] in line
    assert here("migrate", **where).out.startswith(f"The database is at {migrate.revisions()[-1]}, it was at nothing")
    assert "already" in here("migrate", **where).out
