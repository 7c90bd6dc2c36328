"""docs/resource.md, followed to the letter: its blocks become a resource that is migrated, served and used."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest

from crm_api.bootstrap import on_database
from tests.support.documents import ROOT, blocks
from tests.support.org import MANAGER, REPRESENTATIVE, Person

DOCUMENT = ROOT / "docs" / "resource.md"
NOUN = "src/crm_api/domains/warranties/warranty.py"
MIGRATE = """
import sys
from alembic import command
from crm_api import migrate
url = sys.argv[1]
migrate.upgrade(url)
command.check(migrate.config(url))
migrate.downgrade(url, "-1")
migrate.upgrade(url)
"""
TENANT = """
import asyncio, json, sys
from crm_api.app import build_kernel
from crm_api.settings import load_settings
from crm_api.tenants import create_tenant

async def main(app, migrate):
    kernel = build_kernel(load_settings(), app)
    new = await create_tenant(kernel, migrate, "Warranties", "admin@example.com")
    await kernel.database.close()
    print(json.dumps({"id": new.administrator_id, "key": new.key, "roles": new.roles}))

asyncio.run(main(*sys.argv[1:]))
"""


pytestmark = pytest.mark.broad  # a server with one more domain takes half a minute to be made


@dataclass
class Product:
    """The product with the document's resource in it, as processes of their own."""

    base_url: str
    roles: dict[str, str]
    admin: Person
    said: str = ""
    """By the command that gave it to the tenants there were."""

    @classmethod
    def of(cls, base_url: str, new: str, said: str = "") -> "Product":
        tenant = json.loads(new)
        return cls(
            base_url, tenant["roles"], Person(SimpleNamespace(base_url=base_url), tenant["id"], tenant["key"]), said
        )

    def person(self, name: str, role: str, manager: Person | None = None) -> Person:
        user = self.admin.make(
            "users", name=name, email=f"{name}@example.com", manager_id=manager.id if manager else None
        )
        self.admin.make("role_assignments", principal_id=user["id"], role_id=self.roles[role])
        key = self.admin.post(f"/v1/users/{user['id']}/issue_key", json={"name": "key"}).json()["key"]
        return Person(SimpleNamespace(base_url=self.base_url), user["id"], key)


def _follow(folder: Path) -> None:
    """A copy of the product, changed as the document says."""
    for part in ("src", "migrations"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "alembic.ini", folder)
    newest = _head()
    for block in blocks(DOCUMENT):
        path = folder / block.rest
        if block.language == "python":
            assert not path.exists(), f"{block.rest} exists already"
            path.parent.mkdir(parents=True, exist_ok=True)
            text = block.text
            if block.rest.startswith("migrations/"):  # "the newest revision", whichever that is by now
                text, changed = re.subn(r'(?m)^down_revision = ".*"$', f'down_revision = "{newest}"', text)
                assert changed == 1
            path.write_text(text, encoding="utf-8")
        else:
            assert block.language == "diff", f"line {block.line}: blocks of this document are files or changes of files"
            path.write_text(_changed(path.read_text(encoding="utf-8"), block.text), encoding="utf-8")


def _head() -> str:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(Config(ROOT / "alembic.ini")).get_current_head()


def _changed(text: str, diff: str) -> str:
    lines = text.splitlines()
    place = None
    for line in diff.splitlines():
        if line.startswith("-"):
            assert lines.count(line[1:]) == 1, f"the document takes out a line that is not there: {line[1:]}"
            place = lines.index(line[1:])
            del lines[place]
        elif line.startswith("+"):
            assert place is not None
            lines.insert(place, line[1:])
            place += 1
    return "\n".join(lines) + "\n"


def _run(code: str, environment: dict[str, str], folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def products(admin_url, new_database, worker_id, tmp_path_factory):
    """As a tenant sees it that was there before the resource was, and as a new one does."""
    folder = tmp_path_factory.mktemp("product")
    _follow(folder)
    name = f"crm_resource_{worker_id}"
    new_database(name)
    app, migrate = on_database(admin_url, name, "crm_app"), on_database(admin_url, name, "crm_migrate")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CRM_")},
        "PYTHONPATH": str(folder / "src"),
        "CRM_DATABASE_URL": app,
        "CRM_MIGRATE_URL": migrate,
        "CRM_SECRET": "a secret of thirty-two characters or more",
        "CRM_LOG_LEVEL": "error",
    }
    earlier = {**environment, "PYTHONPATH": str(ROOT / "src")}
    old = _run(TENANT, earlier, ROOT, app, migrate)
    _run(MIGRATE, environment, folder, migrate)
    said = _run("from crm_api.cli import main; main()", environment, folder, "migrate")
    new = _run(TENANT, environment, folder, app, migrate)
    command = ["-m", "uvicorn", "--factory", "crm_api.app:create_app", "--port", str(port), "--log-level", "error"]
    server = subprocess.Popen([sys.executable, *command], cwd=folder, env=environment)
    try:
        base_url = f"http://127.0.0.1:{port}"
        _wait(f"{base_url}/readyz", server)
        yield Product.of(base_url, old, said), Product.of(base_url, new)
    finally:
        server.terminate()
        server.wait(30)


def _wait(url: str, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server stopped"
        try:
            if httpx2.get(url, timeout=2).status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.1)
    raise AssertionError("the server did not become ready")


@pytest.fixture(scope="module")
def product(products):
    return products[1]


@pytest.fixture(scope="module")
def staff(product):
    manager = product.person("manager", MANAGER)
    rep = product.person("rep", REPRESENTATIVE, manager)
    return SimpleNamespace(manager=manager, rep=rep, outsider=product.person("outsider", REPRESENTATIVE))


def test_the_noun_is_short():
    (noun,) = [block for block in blocks(DOCUMENT) if block.rest == NOUN]
    assert noun.text.count("\n") < 100


def test_it_is_created_read_changed_and_deleted(staff):
    account = staff.rep.make("accounts", name="Buyer")
    made = staff.rep.make(
        "warranties", name="Pump, five years", account_id=account["id"], coverage="2500", currency="EUR"
    )
    assert (made["object"], made["status"], made["coverage"], made["owner_id"]) == (
        "warranty",
        "draft",
        "2500.00",
        staff.rep.id,
    )
    path = f"/v1/warranties/{made['id']}"
    assert staff.rep.get(path).json() == made
    changed = staff.rep.patch(path, json={"ends_on": "2030-01-31"}, headers={"If-Match": '"1"'})
    assert (changed.status_code, changed.json()["ends_on"], changed.headers["etag"]) == (200, "2030-01-31", '"2"')
    assert staff.rep.patch(path, json={"status": "active"}).json()["errors"][0]["code"] == "read_only_field"
    assert staff.rep.delete(path).status_code == 204
    assert staff.rep.get(path).status_code == 404
    assert staff.rep.post(f"{path}/restore").json()["ends_on"] == "2030-01-31"


def test_a_tenant_that_was_there_before_has_it_too(products):
    before, new = products
    assert "The default roles of 1 tenant got what this version adds." in before.said
    permissions = [
        {
            role["default_role"]: sorted((grant["permission"], grant["reach"]) for grant in role["permissions"])
            for role in each.admin.all("/v1/roles")
        }
        for each in (before, new)
    ]
    assert permissions[0] == permissions[1]
    manager = before.person("before_manager", MANAGER)
    rep = before.person("before_rep", REPRESENTATIVE, manager)
    account = rep.make("accounts", name="Loyal")
    made = rep.make("warranties", name="Late, but there", account_id=account["id"])
    assert manager.get(f"/v1/warranties/{made['id']}").json() == made
    assert rep.post(f"/v1/warranties/{made['id']}/void").json()["permission"] == "warranties:void"


def test_it_is_filtered_sorted_paged_searched_and_grouped(staff):
    account = staff.rep.make("accounts", name="Collector")
    names = {"Boiler": "2031-05-01", "Árbol": None, "Crane": "2029-02-03", "Door": None}
    for name, ends in names.items():
        staff.rep.make("warranties", name=name, account_id=account["id"], ends_on=ends)

    def listed(**params):
        return [row["name"] for row in staff.rep.all("/v1/warranties", account_id=account["id"], **params)]

    assert listed(sort="name", limit=1) == ["Árbol", "Boiler", "Crane", "Door"]
    assert listed(sort="ends_on,name", limit=1) == ["Crane", "Boiler", "Árbol", "Door"]
    assert listed(ends_on_gte="2030-01-01") == ["Boiler"]
    assert sorted(listed(ends_on_is_null="true")) == ["Door", "Árbol"]
    assert listed(q="arbo") == ["Árbol"]
    tree = {
        "and": [{"field": "account.name", "value": "Collector"}, {"field": "name", "op": "contains", "value": "oo"}]
    }
    found = staff.rep.post("/v1/warranties/search", json={"filter": tree, "fields": ["name"], "count": "exact"}).json()
    assert ([row["name"] for row in found["data"]], found["count"]["value"]) == (["Door"], 1)
    assert set(found["data"][0]) == {"id", "object", "version", "name"}
    groups = staff.rep.post(
        "/v1/warranties/aggregate",
        json={
            "group_by": ["status"],
            "measures": [{"op": "count"}],
            "filter": {"field": "account_id", "value": account["id"]},
        },
    ).json()
    assert groups["data"] == [{"group": {"status": "draft"}, "measures": [4]}]


def test_it_expands_account_and_owner(staff):
    account = staff.rep.make("accounts", name="Opened")
    made = staff.rep.make("warranties", name="Window", account_id=account["id"])
    seen = staff.rep.get(f"/v1/warranties/{made['id']}", params={"expand": "account,owner"}).json()
    assert (seen["account"], seen["owner"]["name"]) == (account, "rep")


def test_its_graph_and_its_verb(staff):
    account = staff.rep.make("accounts", name="Mover")
    made = staff.rep.make("warranties", name="Lift", account_id=account["id"], ends_on="2030-01-01")
    path = f"/v1/warranties/{made['id']}"
    early = staff.rep.post(f"{path}/extend", json={"ends_on": "2031-01-01"})
    assert (early.status_code, early.json()["code"]) == (409, "conflict")
    assert staff.rep.post(f"{path}/activate").json()["status"] == "active"
    assert staff.rep.post(f"{path}/activate").json()["code"] == "transition_refused"
    backwards = staff.rep.post(f"{path}/extend", json={"ends_on": "2029-01-01"})
    assert (backwards.status_code, backwards.json()["errors"][0]["pointer"]) == (422, "/ends_on")
    key = {"Idempotency-Key": f"extend-{made['id']}"}
    first = staff.rep.post(f"{path}/extend", json={"ends_on": "2031-01-01"}, headers=key)
    assert (first.status_code, first.json()["ends_on"]) == (200, "2031-01-01")
    again = staff.rep.post(f"{path}/extend", json={"ends_on": "2031-01-01"}, headers=key)
    assert (again.json(), again.headers["idempotency-replayed"]) == (first.json(), "true")
    assert staff.rep.post(f"{path}/void").json()["permission"] == "warranties:void"
    actions = {each["action"]: each["allowed"] for each in staff.manager.get(f"{path}/transitions").json()["data"]}
    assert actions == {"activate": False, "void": True}
    assert staff.manager.post(f"{path}/void").json()["status"] == "void"


def test_changes_are_in_the_audit_log(staff, product):
    account = staff.rep.make("accounts", name="Auditor")
    made = staff.rep.make("warranties", name="Scale", account_id=account["id"])
    staff.rep.post(f"/v1/warranties/{made['id']}/activate")
    entries = product.admin.all("/v1/audit_log", object_id=made["id"])
    assert [(entry["action"], entry["actor_id"]) for entry in reversed(entries)] == [
        ("create", staff.rep.id),
        ("activate", staff.rep.id),
    ]


def test_who_may_see_it(staff, product):
    account = staff.rep.make("accounts", name="Private")
    made = staff.rep.make("warranties", name="Safe", account_id=account["id"])
    path = f"/v1/warranties/{made['id']}"
    assert staff.manager.get(path).status_code == 200
    assert staff.outsider.get(path).status_code == 404
    assert staff.outsider.all("/v1/warranties") == []
    refused = staff.outsider.post("/v1/warranties", json={"name": "Mine", "account_id": account["id"]})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/account_id")
    grantee = {"grantee_type": "user", "grantee_id": staff.outsider.id}
    assert staff.manager.post(f"/v1/accounts/{account['id']}/share", json=grantee).status_code == 201
    assert staff.outsider.get(path).json() == made, "whoever may see the account may see its warranties"
    explained = product.admin.get(
        "/v1/access/explain", params={"resource": "warranties", "id": made["id"], "principal": staff.outsider.id}
    ).json()
    rules = {rule["rule"]: rule["grants"] for rule in explained["rules"]}
    assert (explained["allowed"], rules["through:accounts"], rules["reach:own"]) == (True, True, False)
