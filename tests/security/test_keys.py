"""API keys: what is no key, whose key has ended, what a key may not do, and where a key must never be written."""

import asyncio
import io
import json
import secrets
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx2
import pytest
import structlog

from crm_api import logging
from crm_api.domains.identity.credentials import new_key
from tests.support.org import REPRESENTATIVE, Org
from tests.support.problems import problem, request_bytes, send_raw
from tests.support.server import LiveServer


def issue(person, principal: str | None = None, **values: Any) -> dict[str, Any]:
    answer = person.post(f"/v1/users/{principal or person.id}/issue_key", json={"name": "extra", **values})
    assert answer.status_code == 201, answer.text
    return answer.json()


def ask(server: LiveServer, key: str, path: str = "/v1/me", method: str = "GET", **options: Any):
    headers = {"Authorization": f"Bearer {key}", **options.pop("headers", {})}
    return httpx2.request(method, server.base_url + path, headers=headers, verify=False, **options)


def fetch(url: str, sql: str, *values: Any) -> list[Any]:
    async def work() -> list[Any]:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetch(sql, *values)
        finally:
            await connection.close()

    return asyncio.run(work())


# ---------------------------------------------------------------- what is no key


def test_every_wrong_key_gets_the_same_answer(org, server):
    other = Org.create(server)
    key = org.rep.key
    head, secret = key[:-49], key[-49:-6]
    tenant, key_id = org.tenant_id, uuid.uuid4()
    foreign, _ = new_key(other.tenant_id, key_id)
    unknown, _ = new_key(tenant, key_id)
    no_tenant, _ = new_key(uuid.uuid4(), key_id)
    forged_secret, _ = new_key(tenant, uuid.UUID(org.rep.get("/v1/me").json()["credential_id"]))
    wrong = {
        "checksum": key[:-1] + ("0" if key[-1] != "0" else "1"),
        "secret, checksum kept": head + secret[::-1] + key[-6:],
        "secret, checksum right": forged_secret,
        "another tenant's id": foreign,
        "unknown id": unknown,
        "unknown tenant": no_tenant,
        "lower case": key.lower(),
        "environment": key.replace("crm_dev_", "crm_live_"),
        "a space inside": key[:20] + " " + key[20:],
        "a NUL": key + "%00",
        "long": key + "x" * 5000,
        "empty parts": "crm_dev__",
        "letters": "x" * 100,
        "underscores": "_" * 100,
        "number too large": "crm_dev_" + "z" * 43 + "_" + "z" * 49,
    }
    wrong |= {f"cut to {length}": key[:length] for length in (4, 8, 30, 51, 60, len(key) - 1)}
    replies = set()
    for name, text in wrong.items():
        body = problem(ask(server, text), 401, code="unauthenticated")
        replies.add((body["title"], body["detail"], json.dumps(body["errors"])))
        assert text not in json.dumps(body), name
    assert len(replies) == 1, replies
    assert ask(server, key).status_code == 200


def test_other_schemes_are_refused(org, server):
    for value in (
        org.rep.key,
        f"Basic {org.rep.key}",
        "Bearer",
        "Bearer ",
        f"Bearer  {org.rep.key}",
        f"Bearer {org.rep.key}, Bearer {org.rep.key}",
        f"Token {org.rep.key}",
        "Bearer \u00fc",
    ):
        data = request_bytes("GET", "/v1/me", [("Authorization", value)])
        answer = send_raw(server.base_url, data)
        problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")
    for path in (f"/v1/me?access_token={org.rep.key}", f"/v1/accounts?api_key={org.rep.key}"):
        problem(httpx2.get(server.base_url + path, verify=False), 401)
    assert ask(server, org.rep.key, headers={"Authorization": f"bearer {org.rep.key}"}).status_code == 200


def test_without_a_key_every_route_is_closed(org, server):
    catalog = server.kernel.catalog
    for name in catalog.resources:
        for method, path in (
            ("GET", f"/v1/{name}"),
            ("POST", f"/v1/{name}"),
            ("POST", f"/v1/{name}/search"),
            ("POST", f"/v1/{name}/aggregate"),
            ("GET", f"/v1/{name}/{uuid.uuid4()}"),
            ("PATCH", f"/v1/{name}/{uuid.uuid4()}"),
            ("DELETE", f"/v1/{name}/{uuid.uuid4()}"),
        ):
            problem(httpx2.request(method, server.base_url + path, verify=False), 401, 404, 405)
    problem(httpx2.get(server.base_url + "/v1/me", verify=False), 401)


# ---------------------------------------------------------------- keys that end


def test_an_expired_key(org, server):
    soon = (datetime.now(UTC) + timedelta(seconds=1.2)).isoformat()
    key = issue(org.rep, expires_at=soon)["key"]
    assert ask(server, key).status_code == 200
    time.sleep(1.4)
    problem(ask(server, key), 401)
    problem(ask(server, key, "/v1/accounts"), 401)
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    problem(org.rep.post(f"/v1/users/{org.rep.id}/issue_key", json={"name": "x", "expires_at": past}), 422)


@pytest.fixture(scope="module")
def second(database, server, tmp_path_factory):
    """Another server over the same database, with the same secret: another process as far as memory is concerned."""
    with LiveServer(database["app"], database["migrate"], server.settings.data_dir) as live:
        yield live


def test_a_revoked_key_is_refused_here_at_once_and_elsewhere_within_five_seconds(org, server, second):
    made = issue(org.rep)
    key = made["key"]
    for place in (server, second):
        assert ask(place, key, "/v1/accounts").status_code == 200
        assert ask(place, key).status_code == 200
    assert org.rep.post(f"/v1/api_keys/{made['id']}/revoke").status_code == 200
    for path in ("/v1/accounts", "/v1/me", f"/v1/accounts/{uuid.uuid4()}"):
        problem(ask(server, key, path), 401)
    started = time.monotonic()
    while ask(second, key, "/v1/accounts").status_code != 401:
        assert time.monotonic() - started < 5
        time.sleep(0.05)
    problem(ask(second, key), 401)
    problem(ask(second, key, "/v1/accounts", "POST", json={"name": "x"}), 401)
    problem(org.rep.post(f"/v1/api_keys/{made['id']}/revoke"), 409)
    assert org.rep.get("/v1/me").status_code == 200


def test_a_revoked_key_writes_nothing_on_another_server(org, server, second):
    made = issue(org.rep)
    assert ask(second, made["key"], "/v1/accounts", "POST", json={"name": "Before"}).status_code == 201
    assert org.rep.post(f"/v1/api_keys/{made['id']}/revoke").status_code == 200
    problem(ask(second, made["key"], "/v1/accounts", "POST", json={"name": "After"}), 401)
    assert [row["name"] for row in org.rep.all("/v1/accounts")] == ["Before"]


@pytest.mark.parametrize("end", ["inactive", "deleted"])
def test_a_person_who_left(org, server, second, end):
    for place in (server, second):
        assert ask(place, org.rep.key, "/v1/accounts").status_code == 200
    if end == "inactive":
        assert org.admin.patch(f"/v1/users/{org.rep.id}", json={"is_active": False}).status_code == 200
    else:
        assert org.admin.delete(f"/v1/users/{org.rep.id}").status_code == 204
    for place in (server, second):
        problem(ask(place, org.rep.key, "/v1/accounts"), 401)
        problem(ask(place, org.rep.key), 401)
        problem(ask(place, org.rep.key, "/v1/accounts", "POST", json={"name": "x"}), 401)


def test_a_deleted_role_takes_its_permissions_along(org, server, second):
    for place in (server, second):
        assert ask(place, org.rep.key, "/v1/accounts").status_code == 200
    assert org.admin.delete(f"/v1/roles/{org.roles[REPRESENTATIVE]}").status_code == 204
    for place in (server, second):
        problem(ask(place, org.rep.key, "/v1/accounts", "POST", json={"name": "x"}), 403)
        answer = ask(place, org.rep.key, "/v1/accounts")
        problem(answer, 403)


def test_an_inactive_tenant(org, server, second, database):
    assert ask(second, org.rep.key, "/v1/accounts").status_code == 200
    fetch(
        database["admin"],
        "UPDATE tenants SET is_active = false, access_version = access_version + 1 WHERE tenant_id = $1",
        org.tenant_id,
    )
    for place in (server, second):
        for key in (org.rep.key, org.admin.key):
            problem(ask(place, key, "/v1/accounts"), 401)
            problem(ask(place, key), 401)


# ---------------------------------------------------------------- from where


def test_networks(org, server):
    for networks, works in (
        (["127.0.0.0/8"], True),
        (["127.0.0.1/32", "2001:db8::/32"], True),
        (["10.0.0.0/8"], False),
        (["2001:db8::/32"], False),
        (["::ffff:0:0/96"], False),
        (["0.0.0.0/0"], True),
        (["::/0"], False),
    ):
        made = issue(org.rep, allowed_networks=networks)
        forged = {"X-Forwarded-For": "10.1.2.3", "X-Real-IP": "10.1.2.3", "Forwarded": "for=10.1.2.3"}
        for headers in ({}, forged, {"X-Forwarded-For": "2001:db8::1"}):
            answer = ask(server, made["key"], headers=headers)
            assert (answer.status_code == 200) == works, (networks, headers, answer.text)
        assert org.rep.post(f"/v1/api_keys/{made['id']}/revoke").status_code == 200
    for wrong in ("10.0.0.1/8", "10.0.0.0/33", "x", "", "::1/129", "10.0.0.0/8 "):
        body = {"name": "x", "allowed_networks": [wrong]}
        answer = org.rep.post(f"/v1/users/{org.rep.id}/issue_key", json=body)
        if answer.status_code == 201:  # white space around a value is taken off
            assert wrong != wrong.strip()
        else:
            problem(answer, 422)


def test_a_trusted_proxy_is_believed_about_its_own_client_only(org, database, server):
    options = {"trusted_proxies": "127.0.0.1"}
    made = issue(org.rep, allowed_networks=["10.0.0.0/8"])
    with LiveServer(database["app"], database["migrate"], server.settings.data_dir, **options) as proxied:
        assert ask(proxied, made["key"], headers={"X-Forwarded-For": "10.1.2.3"}).status_code == 200
        assert ask(proxied, made["key"], headers={"X-Forwarded-For": "8.8.8.8, 10.1.2.3"}).status_code == 200
        for claimed in ("10.1.2.3, 8.8.8.8", "8.8.8.8", "nonsense", "", "10.1.2.3, nonsense"):
            problem(ask(proxied, made["key"], headers={"X-Forwarded-For": claimed}), 401)
        problem(ask(proxied, made["key"]), 401)


# ---------------------------------------------------------------- how many


def test_two_live_keys_however_many_ask_at_once(org):
    """One key exists from the start, so one more may come to be."""

    def one(number: int):
        return org.rep.post(f"/v1/users/{org.rep.id}/issue_key", json={"name": f"k{number}"})

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(one, range(10)))
    assert [answer.status_code for answer in answers].count(201) == 1
    for answer in answers:
        if answer.status_code != 201:
            problem(answer, 409)
    live = [key for key in org.admin.all("/v1/api_keys", principal_id=org.rep.id) if key["revoked_at"] is None]
    assert len(live) == 2


# ---------------------------------------------------------------- what a key may do


def test_scopes_and_roles_intersect(org, server):
    account = org.rep.make("accounts", name="Own")
    key = issue(org.rep, scopes=["accounts:read"])["key"]
    path = f"/v1/accounts/{account['id']}"
    assert ask(server, key, path).status_code == 200
    for method, target, body in (
        ("PATCH", path, {"name": "x"}),
        ("POST", "/v1/accounts", {"name": "x"}),
        ("DELETE", path, None),
        ("POST", f"{path}/activate", None),
        ("GET", "/v1/contacts", None),
        ("GET", "/v1/users", None),
        ("POST", f"/v1/users/{org.rep.id}/issue_key", {"name": "x"}),
    ):
        problem(ask(server, key, target, method, json=body), 403)
    wide = issue(org.admin, org.reader.id, scopes=["accounts:admin"])
    problem(ask(server, wide["key"], path, "PATCH", json={"name": "x"}), 403)
    assert ask(server, wide["key"], path).status_code == 200
    assert org.rep.get(path).json() == account


def test_a_scope_holds_on_every_way_to_a_record(org, server):
    """What the scope does not cover is not reached through a relation of what it covers."""
    account = org.rep.make("accounts", name="Secret name", industry="Espionage")
    contact = org.rep.make("contacts", last_name="Open", account_id=account["id"])
    key = issue(org.rep, scopes=["contacts:read"])["key"]
    path = f"/v1/contacts/{contact['id']}"
    assert ask(server, key, path).json()["account_id"] == account["id"]
    for target in (f"{path}?expand=account", "/v1/contacts?expand=account", "/v1/contacts?expand=owner.manager"):
        answer = ask(server, key, target)
        assert "Secret name" not in answer.text
        problem(answer, 403)
    tree = {"filter": {"field": "account.industry", "op": "eq", "value": "Espionage"}}
    problem(ask(server, key, "/v1/contacts/search", "POST", json=tree), 403)
    accounts = org.person("narrow", REPRESENTATIVE)
    narrow = issue(accounts, scopes=["accounts:read"])["key"]
    problem(ask(server, narrow, "/v1/accounts?expand=contacts"), 403)
    problem(ask(server, narrow, f"/v1/access/explain?resource=contacts&id={contact['id']}"), 403, 404)


def test_a_key_gives_no_key_more_than_it_has_itself(org, server):
    narrow = issue(org.admin, scopes=["identity:write", "identity:read", "accounts:read"])["key"]
    target = f"/v1/users/{org.rep.id}/issue_key"
    for scopes in (None, ["accounts:write"], ["identity:admin"], ["identity:write", "contacts:read"]):
        body = {"name": "x", **({} if scopes is None else {"scopes": scopes})}
        problem(ask(server, narrow, target, "POST", json=body), 403)
    given = ask(server, narrow, target, "POST", json={"name": "x", "scopes": ["accounts:read"]})
    assert given.status_code == 201
    assert ask(server, given.json()["key"], "/v1/accounts").status_code == 200


# ---------------------------------------------------------------- where a key must not be written


class Canary:
    """Collects what the product logs while it runs, in the form it is written."""

    def __init__(self) -> None:
        self.stream = io.BytesIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue().decode()


@contextmanager
def logs(level: str):
    """The product's own logging, at a level, into memory; asyncpg and others through the standard library too."""
    import logging as standard

    canary = Canary()
    before = structlog.get_config()
    logging.configure(level, "json")
    structlog.configure(logger_factory=structlog.BytesLoggerFactory(canary.stream), cache_logger_on_first_use=False)
    handler = standard.StreamHandler(io.TextIOWrapper(canary.stream, write_through=True))
    handler.addFilter(lambda record: not record.name.startswith(("httpx", "httpcore")))  # the test's own client
    root, old = standard.getLogger(), standard.getLogger().level
    root.addHandler(handler)
    root.setLevel(getattr(standard, level.upper()))
    rebound = _rebind_loggers()
    try:
        yield canary
    finally:
        root.removeHandler(handler)
        root.setLevel(old)
        handler.stream.detach()
        structlog.configure(**before)
        for module, logger in rebound:
            module.log = logger


def _rebind_loggers() -> list[tuple[Any, Any]]:
    """Module loggers keep the configuration of their first use; here they take the present one."""
    from crm_api.adapters import mail
    from crm_api.domains.identity import access
    from crm_api.domains.sign_in import answering, provider, second_factor
    from crm_api.kernel import edge

    found = [(module, module.log) for module in (edge, access, answering, provider, second_factor, mail)]
    for module, _ in found:
        module.log = structlog.get_logger(module.__name__)
    return found


@pytest.fixture
def broken_database(admin_url, worker_id):
    """A database of its own, which a test may break."""
    from crm_api.bootstrap import on_database
    from tests.conftest import _copy_template

    name = f"crm_broken_{worker_id}_{secrets.token_hex(3)}"
    asyncio.run(_copy_template(admin_url, name))
    return {"app": on_database(admin_url, name, "crm_app"), "migrate": on_database(admin_url, name, "crm_migrate"),
            "admin": on_database(admin_url, name)}  # fmt: skip


@pytest.mark.parametrize("level", ["debug", "error"])
def test_keys_are_in_no_log(broken_database, server, level):
    data = server.settings.data_dir
    with LiveServer(broken_database["app"], broken_database["migrate"], data) as live, logs(level) as canary:
        org = Org.create(live)
        made = issue(org.rep, allowed_networks=["127.0.0.0/8"])
        keys = [org.rep.key, org.admin.key, made["key"]]
        for key in keys:
            assert ask(live, key, "/v1/accounts").status_code == 200
            ask(live, key, f"/v1/accounts/{key}")
            ask(live, key, f"/v1/{key}")
            ask(live, key, f"/v1/accounts?q={key}")
            ask(live, key, "/v1/accounts", "POST", json={"name": key, "industry": key})
            ask(live, key, "/v1/accounts", "POST", json={"nmae": key}, headers={"Idempotency-Key": key})
            ask(live, key, headers={"X-Request-ID": key})
            ask(live, key[:-3] + "abc")
        fetch(broken_database["admin"], "ALTER TABLE accounts RENAME COLUMN industry TO sector")
        for key in keys:
            failed = ask(live, key, "/v1/accounts")
            body = problem(failed, 500, code="internal")
            assert "industry" not in failed.text
            problem(ask(live, key, "/v1/accounts", "POST", json={"name": key}), 500)
            problem(ask(live, key, f"/v1/accounts/{uuid.uuid4()}?expand=owner"), 500)
        text = canary.text
        assert body["request_id"] in text, "the log has the failure under its request id"
        assert "UndefinedColumn" in text
        for key in keys:
            assert key not in text
            assert key[-49:-6] not in text, "the secret"
            assert key[-49:] not in text


def test_secrets_are_nowhere_in_the_database(org, server, database):
    canary = f"canary-{secrets.token_hex(12)}"
    headers = {"Idempotency-Key": canary}
    target = f"/v1/users/{org.rep.id}/issue_key"
    first = org.rep.post(target, json={"name": "kept"}, headers=headers)
    again = org.rep.post(target, json={"name": "kept"}, headers=headers)
    key = first.json()["key"]
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == {"id": first.json()["id"], "object": "api_key", "name": "kept"}
    assert ask(server, key).status_code == 200
    stored = _everything(database["admin"])
    assert first.json()["id"] in stored, "the search looks at what is there"
    assert canary in stored, "the event names the Idempotency-Key, so that its sender knows its own write again"
    for secret in (key, key[-49:-6], org.admin.key[-49:-6], org.rep.key[-49:-6]):
        assert secret not in stored
        assert secret.encode().hex() not in stored
    shown = json.dumps(org.admin.all("/v1/api_keys")) + json.dumps(org.admin.all("/v1/audit_log", limit=200))
    assert first.json()["id"] in shown
    assert "secret" not in shown
    assert key[-49:-6] not in shown


def _everything(url: str) -> str:
    """Every value of every table, as text."""

    async def work() -> str:
        connection = await asyncpg.connect(url)
        try:
            tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            found = []
            for (table,) in tables:
                found += [row[0] for row in await connection.fetch(f'SELECT t::text FROM "{table}" t')]  # noqa: S608
            return "\n".join(found)
        finally:
            await connection.close()

    return asyncio.run(work())
