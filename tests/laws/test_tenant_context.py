"""Mixed requests of several tenants over a small pool, with errors and cancellations: never another tenant's row."""

import asyncio
import random

import orjson
import pytest

from crm_api.app import build_kernel, create_app
from crm_api.kernel.database import _SET_TENANT
from tests.support.org import Org
from tests.support.server import edge_of


async def call(edge, method: str, path: str, key: str, body=None, query: str = "") -> tuple[int, bytes]:
    """One request in process, so that it can be cancelled at any await."""
    sent = {"status": 0, "body": b""}
    content = b"" if body is None else orjson.dumps(body)

    async def receive():
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message):
        if message["type"] == "http.response.start":
            sent["status"] = message["status"]
        else:
            sent["body"] += message.get("body", b"")

    headers = [(b"authorization", f"Bearer {key}".encode()), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode()}
    await edge(
        {**scope, "headers": headers, "client": ("127.0.0.1", 1), "http_version": "1.1", "scheme": "http"},
        receive,
        send,
    )
    return sent["status"], sent["body"]


def kinds(org, others):
    """Requests with what their answer may be: reads, writes, and each sort of failure."""
    mine = org.rows[0]
    theirs = random.choice(others).rows[0]  # noqa: S311 - a test
    return [
        ("GET", "/v1/accounts", None, "limit=5&expand=owner", (200,)),
        ("GET", f"/v1/accounts/{mine}", None, "", (200,)),
        ("GET", f"/v1/accounts/{theirs}", None, "", (404,)),
        ("GET", "/v1/accounts", None, "q=tenant", (200,)),
        ("POST", "/v1/accounts/search", {"filter": {"field": "id", "op": "in", "value": [mine, theirs]}}, "", (200,)),
        ("POST", "/v1/accounts/aggregate", {"group_by": ["owner_id"], "measures": [{"op": "count"}]}, "", (200,)),
        ("POST", "/v1/accounts", {"name": f"Tenant {org.tenant_id}"}, "", (201,)),
        ("POST", "/v1/accounts", {"name": "x", "parent_id": theirs}, "", (422,)),
        ("POST", "/v1/accounts", {"name": "x", "id": mine}, "", (409,)),
        ("PATCH", f"/v1/accounts/{theirs}", {"name": "taken"}, "", (404,)),
        ("PATCH", f"/v1/accounts/{mine}", {"parent_id": mine}, "", (409,)),
        ("POST", f"/v1/accounts/{mine}/unblock", None, "", (409,)),
        ("GET", "/v1/accounts", None, "limit=0", (422,)),
    ]


async def storm(edge, orgs, number: int, seed: int) -> dict[str, int]:
    draw = random.Random(seed)  # noqa: S311 - repeatable
    figures = {"done": 0, "cancelled": 0}
    gate = asyncio.Semaphore(24)

    async def one() -> None:
        org = draw.choice(orgs)
        method, path, body, query, allowed = draw.choice(kinds(org, [other for other in orgs if other is not org]))
        async with gate:
            task = asyncio.create_task(call(edge, method, path, org.admin.key, body, query))
            if draw.random() < 0.2:
                await asyncio.sleep(draw.random() * 0.01)
                task.cancel()
            try:
                status, content = await task
            except asyncio.CancelledError:
                figures["cancelled"] += 1
                return
        assert status in (*allowed, 503) or (status == 409 and method != "GET"), (method, path, query, status, content)
        for other in orgs:
            if other is not org:
                assert f"Tenant {other.tenant_id}".encode() not in content
                if status == 200:
                    assert other.admin.id.encode() not in content
        figures["done"] += 1

    await asyncio.gather(*(one() for _ in range(number)))
    return figures


@pytest.fixture(scope="module")
def orgs(server):
    found = []
    for _ in range(3):
        org = Org.create(server)
        org.rows = [org.admin.make("accounts", name=f"Tenant {org.tenant_id}")["id"] for _ in range(3)]
        found.append(org)
    return found


def run_storm(server, orgs, number: int, **options) -> dict[str, int]:
    settings = server.settings.model_copy(update={"pool_size": 3, "pool_timeout": 20.0, **options})
    edge = edge_of(create_app(settings))
    edge.kernel = build_kernel(settings, settings.database_url)

    async def work():
        database = edge.kernel.database
        await database.open()
        try:
            figures = await storm(edge, orgs, number, 7)
            assert database.in_use == 0
            assert database._open <= 4
            for link in database._idle:  # what the process remembers is what the connection has
                if link.tenant is not None:
                    assert await link.connection.fetchval("SELECT current_setting('crm.tenant', true)") == str(
                        link.tenant
                    )
                assert not link.connection.is_in_transaction()
            return figures
        finally:
            await database.close()

    return server.run(work(), timeout=600)


@pytest.mark.parametrize("context", ["session", "transaction"])
def test_two_thousand_mixed_requests_never_show_another_tenants_row(server, orgs, sql, context):
    figures = run_storm(server, orgs, 2_000 if context == "session" else 500, tenant_context=context)
    assert figures["cancelled"] > 10
    assert figures["done"] > 300
    check_rows(orgs, sql)


@pytest.mark.full
def test_ten_thousand_mixed_requests_never_show_another_tenants_row(server, orgs, sql):
    figures = run_storm(server, orgs, 10_000)
    assert figures["done"] > 5_000
    check_rows(orgs, sql)


def check_rows(orgs, sql) -> None:
    for org in orgs:
        names = {row["name"] for row in sql("SELECT name FROM accounts WHERE tenant_id = $1", org.tenant_id)}
        assert names == {f"Tenant {org.tenant_id}"}
        actors = {
            str(row["actor_id"])
            for row in sql(
                "SELECT actor_id FROM audit_entries WHERE tenant_id = $1 AND object_type = 'account'", org.tenant_id
            )
        }
        assert actors == {org.admin.id}


def test_the_tenant_is_set_in_one_place():
    import ast
    from pathlib import Path

    import crm_api

    assert "crm.tenant" in _SET_TENANT
    root = Path(crm_api.__file__).parent
    rooms = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and ("set_config('crm.tenant'" in node.value or "LOCAL crm.tenant" in node.value)
    }
    assert rooms == {"kernel/database.py"}
