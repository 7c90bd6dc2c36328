"""Exports of a person: everything that is known of them, for who may ask; and what an erasure makes of it."""

import json

import pytest

from crm_api.domains.privacy import person_export
from tests.privacy.conftest import EMAIL, LAST, someone
from tests.support.examples import attach
from tests.support.jobs import wait, working
from tests.support.org import Org
from tests.support.problems import problem


def ask(person, **body) -> dict:
    answer = person.post("/v1/person_exports", json=body)
    assert answer.status_code == 202, answer.text
    job = wait(person, answer.json(), seconds=30)
    assert job["state"] == "succeeded", job
    return person.get(f"/v1/person_exports/{job['id']}").json()


def content(person, export) -> dict:
    answer = person.get(f"/v1/person_exports/{export['id']}/content")
    assert answer.status_code == 200, answer.text
    return json.loads(answer.content)


@pytest.fixture
def known(org, worker, sequence):
    """A contact with things that belong to it, and one who has nothing to do with it."""
    admin = org.admin
    contact = someone(org.rep)
    account = admin.make("accounts", name="Tea House")
    admin.make("account_contacts", account_id=account["id"], contact_id=contact["id"], role="Boss")
    said = {"purpose": "newsletter", "status": "granted", "at": "2026-01-02T03:04:05Z"}
    admin.make("consents", contact_id=contact["id"], **said)
    lines = [{"description": "Tea", "unit_price": "5"}]
    admin.make("orders", account_id=account["id"], contact_id=contact["id"], currency="EUR", lines=lines)
    attach(admin, "contact", contact["id"], "letter.txt", b"hello")
    share = {"grantee_type": "user", "grantee_id": org.outsider.id, "level": "read", "cause": "Fair"}
    assert admin.post(f"/v1/contacts/{contact['id']}/share", json=share).status_code == 201
    for i in range(5):
        assert org.rep.patch(f"/v1/contacts/{contact['id']}", json={"title": f"Title {i}"}).status_code == 200
    admin.make("contacts", last_name="Stranger", reports_to_id=contact["id"])
    sequence()
    return contact


def test_it_has_all_that_is_known_of_a_contact(org, known, monkeypatch):
    monkeypatch.setattr(person_export, "WINDOW", 7)
    export = ask(org.admin, contact_id=known["id"])
    told = content(org.admin, export)
    assert told["subject"] == {"contact_id": known["id"]}
    records = told["records"]
    assert [row["id"] for row in records["contacts"]] == [known["id"]]
    assert records["contacts"][0] == org.admin.get(f"/v1/contacts/{known['id']}").json()
    assert {name: len(rows) for name, rows in records.items() if rows} == {
        **dict.fromkeys(("contacts", "account_contacts", "consents", "orders", "files"), 1),
    }
    assert records["files"][0]["name"] == "letter.txt"
    assert [row["cause"] for row in told["shares"]] == ["Fair"]
    assert [entry["action"] for entry in told["audit"]] == ["create", "share", *["update"] * 5]
    assert [event["type"] for event in told["events"]][:1] == ["contact.created"]
    assert told["events"][0]["data"]["last_name"] == LAST
    assert export["result"]["rows"] == sum(map(len, records.values())) + 1 + 7 + len(told["events"])
    link = org.admin.post(f"/v1/person_exports/{export['id']}/download_link")
    assert link.status_code == 201


def test_a_lead_is_told_with_the_contact_it_became_and_a_principal_with_what_he_did(org, worker):
    lead = org.admin.make("leads", last_name=LAST, emails=[{"address": EMAIL}])
    for verb in ("work", "qualify", "convert"):
        assert org.admin.post(f"/v1/leads/{lead['id']}/{verb}").status_code == 200
    records = content(org.admin, ask(org.admin, lead_id=lead["id"]))["records"]
    assert [row["last_name"] for row in (*records["contacts"], *records["leads"])] == [LAST, LAST]
    org.rep.make("accounts", name="Secret")
    told = content(org.admin, ask(org.admin, principal_id=org.rep.id))
    assert [row["name"] for row in told["records"]["principals"]] == ["Rep"]
    assert len(told["records"]["api_keys"]) == 1
    assert [(entry["object_type"], entry["action"]) for entry in told["actions"]] == [("account", "create")]
    assert "Secret" not in json.dumps(told)
    assert "secret" not in json.dumps(told["records"]["api_keys"])


@pytest.mark.parametrize("who", ["manager", "rep", "reader", "outsider"])
def test_it_takes_a_permission_of_its_own(org, worker, who):
    contact = someone(org.rep)
    person = getattr(org, who)
    problem(person.post("/v1/person_exports", json={"contact_id": contact["id"]}), 403)
    export = ask(org.admin, contact_id=contact["id"])
    for path in ("", "/content"):
        assert person.get(f"/v1/person_exports/{export['id']}{path}").status_code in (403, 404)


def test_bad_requests_are_refused(org, server, worker):
    contact, other = someone(org.admin), someone(Org.create(server).admin)
    post = org.admin.post
    problem(post("/v1/person_exports", json={}), 422)
    problem(post("/v1/person_exports", json={"contact_id": contact["id"], "principal_id": org.rep.id}), 422)
    problem(post("/v1/person_exports", json={"contact_id": other["id"]}), 422)
    problem(post("/v1/person_exports", json={"contact_id": contact["id"], "format": "csv"}), 422)
    export = ask(org.admin, contact_id=contact["id"])
    problem(org.outsider.get(f"/v1/person_exports/{export['id']}/content"), 403)


def test_an_erasure_withdraws_exports_that_are_there_or_under_way(org, server, erase, worker, monkeypatch, traces):
    """One that runs is cancelled, one that is done is gone; one that begins later has nothing of the person."""
    admin, contact = org.admin, someone(org.admin)
    other = admin.make("accounts", name="Tea House")
    done = ask(admin, contact_id=contact["id"])
    rows = admin.post("/v1/exports", json={"resource": "contacts", "format": "ndjson"})
    rows = wait(admin, rows.json())
    kept = wait(admin, admin.post("/v1/exports", json={"resource": "accounts"}).json())
    slow = _held_up(monkeypatch)
    running = admin.post("/v1/person_exports", json={"contact_id": contact["id"]}).json()
    slow["entered"].wait(10)
    erase(admin, contact_id=contact["id"])
    slow["go"].set()
    assert wait(admin, running)["state"] == "cancelled"
    problem(admin.get(f"/v1/person_exports/{running['id']}/content"), 409)
    problem(admin.get(f"/v1/person_exports/{done['id']}/content"), 404)
    problem(admin.get(f"/v1/exports/{rows['id']}/content"), 404)
    assert admin.get(f"/v1/exports/{kept['id']}/content").status_code == 200
    assert other["name"].encode() in admin.get(f"/v1/exports/{kept['id']}/content").content
    late = wait(admin, admin.post("/v1/exports", json={"resource": "contacts", "format": "ndjson"}).json())
    sent = admin.get(f"/v1/exports/{late['id']}/content").text
    assert contact["id"] in sent
    assert LAST not in sent
    retried = admin.post(f"/v1/jobs/{running['id']}/retry")
    assert retried.status_code == 200, retried.text
    assert wait(admin, running)["state"] == "succeeded"
    assert LAST not in admin.get(f"/v1/person_exports/{running['id']}/content").text
    assert traces(org) == []


def _held_up(monkeypatch):
    """Exports of a person stop after their pages were read, until they are let go."""
    import asyncio
    import threading

    flags = {"entered": threading.Event(), "go": threading.Event()}
    real = person_export.alive

    async def alive(run, work):
        flags["entered"].set()
        await asyncio.to_thread(flags["go"].wait, 30)
        return await real(run, work)

    monkeypatch.setattr(person_export, "alive", alive)
    return flags


def test_bytes_of_withdrawn_exports_are_deleted(org, server, erase, worker, sql):
    contact = someone(org.admin)
    done = ask(org.admin, contact_id=contact["id"])
    (row,) = sql("SELECT position->>'storage_key' AS key FROM jobs WHERE id = $1", done["id"])
    erase(org.admin, contact_id=contact["id"])
    (lease,) = sql("SELECT expires_at <= now() AS over FROM storage_leases WHERE storage_key = $1", row["key"])
    assert lease["over"]
    with working(server):
        problem(org.admin.get(f"/v1/person_exports/{done['id']}/content"), 404)
