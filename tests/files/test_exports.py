"""Exports: who gets which rows and fields, in which form, and what becomes of the file."""

import asyncio
import csv
import io
import json
import time
import zipfile
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from crm_api.adapters.storage import storage
from crm_api.domains.exchange import export as exports
from crm_api.domains.exchange.tables import cell
from crm_api.domains.files.lease import delete_expired
from crm_api.kernel import feed
from tests.support.asking import code
from tests.support.jobs import start, wait, working
from tests.support.problems import problem

FORMULAS = ("=1+1", "+SUM(A1)", "-cmd|'/C calc'!A0", "@SUM(1)", "\t=1", "\r=1")


@pytest.fixture(scope="module")
def worker(server):
    with working(server):
        yield


@pytest.fixture(scope="module")
def firm(shared_org, worker):
    """Accounts of two branches, some with names that a spreadsheet would work out."""
    for i in range(7):
        shared_org.rep.make("accounts", name=f"Rep {i}", credit_limit=f"-{i}.5000", tier="AB"[i % 2])
    for i in range(3):
        shared_org.outsider.make("accounts", name=f"Outsider {i}")
    return shared_org


def ask(person, **body) -> dict:
    answer = person.post("/v1/exports", json={"resource": "accounts", **body})
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    job = wait(person, answer.json())
    assert job["state"] == "succeeded", job
    return person.get(f"/v1/exports/{job['id']}").json()


def content(person, export) -> bytes:
    answer = person.get(f"/v1/exports/{export['id']}/content")
    assert answer.status_code == 200, answer.text
    return answer.content


def rows_of(person, export) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content(person, export).decode(), newline="")))


def lines_of(person, export) -> list[dict]:
    return [json.loads(line) for line in content(person, export).splitlines()]


@pytest.mark.parametrize("who", ["rep", "manager", "outsider", "reader", "admin", "colleague"])
def test_an_export_has_the_rows_of_a_search(firm, who, monkeypatch):
    monkeypatch.setattr(exports, "PAGE", 2)
    person = firm.people[who]
    body = {"filter": {"field": "name", "op": "contains", "value": "e"}, "sort": ["-name"]}
    expected = person.post("/v1/accounts/search", json={**body, "limit": 200}).json()["data"]
    export = ask(person, format="ndjson", **body)
    assert lines_of(person, export) == expected
    assert export["result"]["rows"] == len(expected) == export["done"]
    assert len(expected) == {"rep": 7, "manager": 7, "outsider": 3, "colleague": 0}.get(who, 10)
    found = rows_of(person, ask(person, fields=["name", "credit_limit", "tier"], **body))
    assert found == [
        {"name": r["name"], "credit_limit": r["credit_limit"] or "", "tier": r["tier"] or ""} for r in expected
    ]


def test_another_tenants_rows_are_in_none(firm, server):
    from tests.support.org import Org

    other = Org.create(server)
    export = ask(other.admin)
    assert rows_of(other.admin, export) == []
    mine = ask(firm.rep, fields=["name"])
    for path in ("", "/content"):
        problem(other.admin.get(f"/v1/exports/{mine['id']}{path}"), 404)


def test_a_hidden_field_is_neither_exported_nor_asked_by(firm):
    rules = [{"resource": "accounts", "field": "credit_limit", "rule": "hidden"}]
    grants = (("accounts:read", "all"), ("exports:*", "own"), ("jobs:*", "own"))
    blind = firm.person("blind", firm.role("Blind", *grants, field_rules=rules))
    found = rows_of(blind, ask(blind))
    assert len(found) == 10
    assert "credit_limit" not in found[0]
    assert all("credit_limit" not in row for row in lines_of(blind, ask(blind, format="ndjson")))
    tree = {"field": "credit_limit", "op": "lt", "value": "0"}
    for body in ({"fields": ["name", "credit_limit"]}, {"filter": tree}):
        problem(blind.post("/v1/exports", json={"resource": "accounts", **body}), 403)
    problem(blind.post("/v1/exports", json={"resource": "contacts"}), 403)


def test_what_may_not_be_read_any_more_is_not_given(firm):
    grants = (("accounts:read", "all"), ("exports:*", "own"), ("jobs:*", "own"))
    role = firm.role("Passing", *grants)
    person = firm.person("passing", role)
    export = ask(person)
    path = f"/v1/exports/{export['id']}"
    url = person.post(f"{path}/download_link").json()["url"]
    rules = [{"resource": "accounts", "field": "credit_limit", "rule": "hidden"}]
    assert firm.admin.patch(f"/v1/roles/{role}", json={"field_rules": rules}).status_code == 200
    problem(person.get(f"{path}/content"), 403)
    with httpx2.Client(base_url=firm.server.base_url) as anybody:
        problem(anybody.get(url), 403)


@pytest.mark.parametrize("text", FORMULAS)
def test_a_cell_is_not_worked_out(text):
    assert cell(text) == f"'{text}"
    assert [cell(value) for value in ("-12.5", "a=1", None, True, ["=1"])] == ["-12.5", "a=1", "", "true", '["=1"]']


@pytest.mark.parametrize("format_", ["csv", "xlsx"])
def test_no_cell_is_a_formula(org, worker, format_):
    for text in FORMULAS:
        org.rep.make("accounts", name="x", legal_name=text)
    org.rep.make("accounts", name="x", credit_limit="-12.5000", website="https://example.com")
    export = ask(org.rep, format=format_, fields=["legal_name", "credit_limit", "website", "version"], sort=["id"])
    if format_ == "csv":
        found = rows_of(org.rep, export)
        assert [row["legal_name"] for row in found] == [*(f"'{text.strip()}" for text in FORMULAS), ""]
        assert found[-1]["credit_limit"].startswith("-12.5")
        return
    with zipfile.ZipFile(io.BytesIO(content(org.rep, export))) as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
        assert not any("hyperlink" in book.read(name).decode() for name in book.namelist())
    assert "<f>" not in sheet
    assert "'=1+1" in sheet
    assert 't="inlineStr"><is><t>-12.5' in sheet


def test_the_feed_goes_on_where_an_export_began(firm, server):
    export = ask(firm.rep, format="ndjson", fields=["id", "version"])
    mirror = {row["id"]: row["version"] for row in lines_of(firm.rep, export)}
    first = next(iter(mirror))
    assert firm.rep.patch(f"/v1/accounts/{first}", json={"tier": "C"}).status_code == 200
    made = firm.rep.make("accounts", name="Rep later")
    server.run(feed.sequence(server.kernel))
    since = export["result"]["cursor"]
    asked = {"since": since, "types": "account.*", "limit": 200}
    for event in firm.rep.get("/v1/changes", params=asked).json()["data"]:
        item = event["object"]
        if item["version"] > mirror.get(item["id"], 0):
            mirror[item["id"]] = item["version"]
    now = {row["id"]: row["version"] for row in firm.rep.all("/v1/accounts", limit=200)}
    assert mirror == now
    firm.rep.delete(f"/v1/accounts/{made['id']}")


def test_a_link_is_for_who_asked(firm):
    export = ask(firm.rep, fields=["name"])
    path = f"/v1/exports/{export['id']}"
    url = firm.rep.post(f"{path}/download_link").json()["url"]
    with httpx2.Client(base_url=firm.server.base_url) as anybody:
        answer = anybody.get(url)
        assert (answer.status_code, answer.content) == (200, content(firm.rep, export))
        assert answer.headers["content-disposition"].startswith('attachment; filename="accounts.csv"')
        problem(anybody.get(url[:-1] + ("A" if url[-1] != "A" else "B")), 401)
        problem(anybody.get(url.replace(export["id"], ask(firm.rep)["id"])), 401)
    problem(firm.manager.get(url), 401)
    problem(firm.manager.get(f"{path}/content"), 404)
    assert code(firm.admin.get(f"{path}/content")) == (403, "forbidden")


def test_a_file_is_forgotten_in_time(org, server, sql, worker):
    export = ask(org.rep, fields=["name"])
    path = f"/v1/exports/{export['id']}"
    (row,) = sql("SELECT storage_key FROM storage_leases WHERE tenant_id = $1", org.tenant_id)
    file = server.settings.data_dir / "files" / row["storage_key"]
    assert file.is_file()
    server.run(delete_expired(server.kernel, storage(server.settings)))
    assert file.is_file()
    later = timedelta(days=server.settings.export_days)
    assert abs((sql_time(sql, org) - time.time()) - later.total_seconds()) < 60
    sql("UPDATE storage_leases SET expires_at = now() WHERE tenant_id = $1", org.tenant_id)
    past = '{"expires_at": "2026-01-01T00:00:00Z"}'
    ours = "WHERE tenant_id = $1 AND id = $2"
    sql(f"UPDATE jobs SET result = result || '{past}' {ours}", org.tenant_id, export["id"])  # noqa: S608 - our own text
    server.run(delete_expired(server.kernel, storage(server.settings)))
    assert not file.exists()
    problem(org.rep.get(f"{path}/content"), 404)
    problem(org.rep.post(f"{path}/download_link"), 404)


def sql_time(sql, org) -> float:
    (row,) = sql("SELECT expires_at FROM storage_leases WHERE tenant_id = $1", org.tenant_id)
    return row["expires_at"].timestamp()


@pytest.mark.broad  # faults/test_jobs has it, of other jobs
def test_an_export_whose_worker_is_cut_off_begins_again(org, server, monkeypatch):
    monkeypatch.setattr(exports, "PAGE", 2)
    for i in range(5):
        org.rep.make("accounts", name=f"Row {i}")
    page, calls = exports._page, []

    async def cut(run, body, cursor):
        calls.append(cursor)
        if len(calls) == 2:
            await asyncio.sleep(60)  # as if the process had died: it says nothing any more
        return await page(run, body, cursor)

    monkeypatch.setattr(exports, "_page", cut)
    with working(server, lease=1.0):
        job = org.rep.post("/v1/exports", json={"resource": "accounts", "fields": ["name"], "sort": ["name"]}).json()
        assert wait(org.rep, job)["state"] == "succeeded"
    assert len(calls) == 2 + 3
    found = rows_of(org.rep, org.rep.get(f"/v1/exports/{job['id']}").json())
    assert [row["name"] for row in found] == [f"Row {i}" for i in range(5)]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"resource": "nothing"}, "/resource"),
        ({"resource": "accounts", "fields": ["nothing"]}, "/fields/0"),
        ({"resource": "accounts", "filter": {"field": "nothing", "op": "eq", "value": 1}}, "/filter"),
        ({"resource": "accounts", "format": "pdf"}, "/format"),
        ({"resource": "accounts", "more": 1}, "/more"),
    ],
)
def test_an_impossible_export_is_refused_at_once(shared_org, body, place):
    found = problem(shared_org.rep.post("/v1/exports", json=body), 422)
    assert found["errors"][0]["pointer"] == place


def test_a_file_is_not_there_before_its_end(shared_org):
    """This one begins tomorrow."""
    person, later = shared_org.reader, datetime.now(UTC) + timedelta(days=1)
    waiting = start(person, exports.EXPORT, exports.ExportRequest(resource="accounts"), at=later)
    path = f"/v1/exports/{waiting['id']}"
    for state in ("queued", "cancelled"):
        for answer in (person.get(f"{path}/content"), person.post(f"{path}/download_link")):
            assert code(answer) == (409, "transition_refused")
            assert (answer.json()["state"], answer.json()["allowed_from"]) == (state, ["succeeded"])
        person.post(f"/v1/jobs/{waiting['id']}/cancel")


def test_the_same_request_is_one_export(shared_org):
    headers = {"Idempotency-Key": "export-one"}
    first, second = (
        shared_org.rep.post("/v1/exports", json={"resource": "contacts"}, headers=headers) for _ in range(2)
    )
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] == second.json()["id"]
