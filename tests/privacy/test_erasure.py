"""Erasure: the person is found nowhere afterwards, and that it was done is proved."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from crm_api.catalog import CATALOG
from crm_api.domains.privacy import erase as erasing
from crm_api.domains.privacy.emptying import belonging
from crm_api.domains.privacy.person import SUBJECTS
from crm_api.kernel.problems import invalid
from crm_api.kernel.record import FieldValue
from tests.privacy.conftest import EMAIL, FIRST, LAST, NEEDLES, PHONE, someone
from tests.support.examples import attach
from tests.support.imports import run, send
from tests.support.jobs import wait
from tests.support.problems import problem
from tests.support.receiver import Receiver
from tests.support.webhooks import work


def test_a_person_is_found_in_no_row_of_any_table(org, server, erase, traces, sequence, monkeypatch):
    """Everything that can have a trace has one: record, links, files, consents, logs, replies, deliveries, imports."""
    monkeypatch.setattr(erasing, "MOST", 7)  # every place takes several steps
    admin = org.admin
    with Receiver() as receiver:
        robot = admin.make("service_accounts", name="Robot")
        (role,) = admin.all("/v1/roles", name="Administrator")
        admin.make("role_assignments", principal_id=robot["id"], role_id=role["id"])
        endpoint = {"url": receiver.url, "event_types": ["*"], "principal_id": robot["id"]}
        made = admin.post("/v1/webhook_endpoints", json=endpoint)
        assert made.status_code == 201, made.text
        contact = _everywhere(org, admin)
        server.run(work(server))
        assert any(NEEDLES[1] in str(message.body).lower() for message in receiver.messages)
        before = {table for table, _ in traces(org)}
        assert before >= {
            *("contacts", "leads", "field_values", "audit_entries", "feed", "idempotency_replies", "merges", "files"),
            *("import_rows", "imports", "webhook_attempts", "jobs", "consents", "account_contacts", "shares"),
            *("external_ids", "legal_holds", "custom_values", "edited_records", "saved_views"),
        }, before
        receiver.messages.clear()
        erasure = erase(admin, contact_id=contact, basis="request", reference="DSR-17")
        left = traces(org)
        assert left == [], left
        sequence()
        assert traces(org) == []
        server.run(work(server))
        told = [message.event for message in receiver.messages if message.event["type"] == "contact.erased"]
        assert {event["object"]["id"] for event in told} >= {contact}
        assert not any(needle in str(m.body).lower() for m in receiver.messages for needle in NEEDLES)
    assert traces(org) == []
    assert erasure["state"] == "done"
    assert (erasure["basis"], erasure["reference"], erasure["created_by"]) == ("request", "DSR-17", admin.id)
    assert set(erasure["kinds"]["contacts"]) >= {"first_name", "last_name", "emails", "phones", "addresses"}
    assert len(erasure["digest"]) == 64
    assert erasure["counts"]["contacts"] == 2
    assert erasure["counts"]["audit_entries"] > 3
    shown = admin.get(f"/v1/contacts/{contact}").json()
    assert (shown["last_name"], shown["first_name"], shown["emails"], shown["city"]) == ("Erased", None, [], None)
    audit = admin.all("/v1/audit_log", object_id=contact)
    assert {"create", "update", "erase"} <= {entry["action"] for entry in audit}
    (created,) = [entry for entry in audit if entry["action"] == "create"]
    assert created["after"]["last_name"] == "Erased"


def _everywhere(org, admin) -> str:
    """Leaves traces of a person; gives the id of the contact."""
    admin.make("sources", code="erp", name="ERP")
    for key, unique in (("nickname", True), ("alias", False)):
        admin.make("custom_fields", resource="contacts", key=key, kind="text", label=key, is_unique=unique)
    contact = someone(admin)["id"]
    custom = {"nickname": f"{FIRST} {LAST}", "alias": EMAIL}
    assert admin.patch(f"/v1/contacts/{contact}", json={"custom": custom}).status_code == 200
    assert admin.post(f"/v1/contacts/{contact}/link", json={"source": "erp", "external_id": EMAIL}).status_code == 200
    headers = {"Idempotency-Key": "one"}
    body = {"last_name": LAST, "department": f"Of {FIRST}", "emails": [{"address": EMAIL}]}
    double = admin.post("/v1/contacts", json=body, headers=headers).json()["id"]
    change = {"operation": "update_contact", "id": contact, "body": {"title": f"Dr {LAST}"}}
    batch = {"operations": [change]}
    answer = admin.post("/v1/batch", json=batch, headers={"Idempotency-Key": "two"})
    assert answer.status_code == 200, answer.text
    answer = admin.post(f"/v1/contacts/{contact}/merge", json={"other_id": double})
    assert answer.status_code == 200, answer.text
    account = admin.make("accounts", name="Tea House")["id"]
    admin.make("account_contacts", account_id=account, contact_id=contact, role=f"Boss {LAST}")
    admin.make(
        "consents",
        contact_id=contact,
        purpose="newsletter",
        status="granted",
        at="2026-01-02T03:04:05Z",
        evidence=f"{FIRST} signed.",
    )
    answer = admin.post("/v1/contacts/edit", json={"ids": [contact], "changes": {"department": f"{FIRST} {LAST}"}})
    assert answer.status_code == 202, answer.text
    wait(admin, answer.json())
    attach(admin, "contact", contact, f"{LAST}.txt", b"hello")
    gone = attach(admin, "contact", contact, f"{LAST}-old.txt", b"hello")
    assert admin.delete(f"/v1/files/{gone['id']}").status_code == 204
    share = {"grantee_type": "user", "grantee_id": org.rep.id, "level": "read", "cause": f"Visit to {LAST}"}
    assert admin.post(f"/v1/contacts/{contact}/share", json=share).status_code == 201
    hold = admin.make("legal_holds", contact_id=contact, reason=f"{LAST} against us")
    assert admin.delete(f"/v1/legal_holds/{hold['id']}").status_code == 204
    lead = admin.make("leads", first_name=FIRST, last_name=LAST, company=f"{LAST} Ltd", emails=[{"address": EMAIL}])
    for verb in ("work", "qualify"):
        assert admin.post(f"/v1/leads/{lead['id']}/{verb}").status_code == 200
    body = {"contact": {"id": contact}, "account": {"id": account}}
    answer = admin.post(f"/v1/leads/{lead['id']}/convert", json=body)
    assert answer.status_code == 200, answer.text
    imported = admin.make(
        "imports", name="People", resource="contacts", mapping=[{"column": "n", "field": "last_name"}]
    )
    send(admin, imported, f"n,mail\nSmith,a@example.org\n{FIRST} {LAST},{EMAIL}\n")
    run(admin, imported, "validate")
    tree = {"field": "emails", "op": "any", "value": [EMAIL]}
    answer = admin.post("/v1/exports", json={"resource": "accounts", "filter": tree})
    assert answer.status_code == 202, answer.text
    wait(admin, answer.json())
    for n, condition in enumerate(({"field": "emails", "op": "any", "value": [EMAIL]}, None)):
        admin.make("saved_views", name=f"View {n}", resource="contacts", filter=condition, q=f"{LAST}, {FIRST}")
    return contact


WORDS = ("likes umbrellas", "umbrella maker", "umbrella tag", "umbrella word", "umbrella note")


def test_what_an_edit_of_many_set_is_erased_with_the_person(org, erase, traces, sequence):
    admin = org.admin
    for key, kind in (("hobby", "text"), ("words", "multi_choice")):
        more = {"choices": [{"value": "x"}], "is_open": True} if kind == "multi_choice" else {}
        admin.make("custom_fields", resource="contacts", key=key, kind=kind, label=key, **more)
    admin.make("sources", code="erp", name="ERP")
    contact, other = someone(admin)["id"], admin.make("contacts", last_name="Other")["id"]
    answer = admin.post(f"/v1/contacts/{contact}/link", json={"source": "erp", "external_id": "Z-1"})
    assert answer.status_code == 200, answer.text
    told = {
        "changes": {"description": WORDS[0], "title": WORDS[1], "language": "de", "custom": {"hobby": WORDS[4]}},
        "add": {"tags": [WORDS[2]], "custom.words": [WORDS[3]]},
    }
    by_filter = {"field": "last_name", "op": "eq", "value": LAST}
    cleared = {"description": None, "title": None, "tags": [], "custom": {"hobby": None, "words": None}}
    jobs = []
    for n, which in enumerate(({"ids": [contact, other]}, {"ids": ["ext:erp:Z-1"]}, {"filter": by_filter})):
        answer = admin.post("/v1/contacts/edit", json={**which, **told}, headers={"Idempotency-Key": f"edit-{n}"})
        assert answer.status_code == 202, answer.text
        jobs.append(wait(admin, answer.json()))
        for id_ in (contact, other):
            assert admin.patch(f"/v1/contacts/{id_}", json=cleared).status_code == 200
    kept = {"ids": [other], "changes": {"description": "likes boats"}}
    answer = admin.post("/v1/contacts/edit", json=kept)
    untouched = wait(admin, answer.json())
    sequence()
    assert {table for table, _ in traces(org, WORDS)} >= {"jobs", "audit_entries", "feed", "idempotency_replies"}
    erase(admin, contact_id=contact)
    sequence()
    left = [(table, row) for table, row in traces(org, WORDS) if other not in row or "changes" in row]
    assert left == []
    for job in jobs:
        parameters = admin.get(f"/v1/jobs/{job['id']}").json()["parameters"]
        assert (parameters["resource"], parameters["changes"]) == ("contacts", {"language": "de"})
        assert parameters["add"] == {}
        (begun,) = [row for row in admin.all("/v1/audit_log", object_id=job["id"]) if row["action"] == "create"]
        assert begun["after"]["parameters"] == parameters
    assert admin.get(f"/v1/jobs/{untouched['id']}").json()["parameters"] == untouched["parameters"]


def test_erasing_twice_and_by_an_old_id_changes_nothing_more(org, erase, sql):
    contact = someone(org.admin)
    first = erase(org.admin, contact_id=contact["id"])
    row = sql("SELECT first_name, last_name, emails, search_text FROM contacts WHERE id = $1", contact["id"])
    second = erase(org.admin, contact_id=contact["id"])
    assert first["state"] == second["state"] == "done"
    assert second["kinds"]["contacts"] == []
    again = sql("SELECT first_name, last_name, emails, search_text FROM contacts WHERE id = $1", contact["id"])
    assert list(map(dict, row)) == list(map(dict, again))


def test_a_deleted_and_a_merged_record_are_erased_too(org, erase, traces):
    contact, other = someone(org.admin), someone(org.admin)
    third = someone(org.admin)
    merge = {"other_id": other["id"]}
    assert org.admin.post(f"/v1/contacts/{contact['id']}/merge", json=merge).status_code == 200
    assert org.admin.post(f"/v1/contacts/{third['id']}/merge", json={"other_id": contact["id"]}).status_code == 200
    assert org.admin.delete(f"/v1/contacts/{third['id']}").status_code == 204
    erase(org.admin, contact_id=other["id"])  # from the far end of the chain
    assert traces(org) == []
    answer = org.admin.post(f"/v1/contacts/{third['id']}/restore")
    assert answer.status_code == 200, answer.text
    answer = org.admin.post(f"/v1/contacts/{third['id']}/unmerge", json={"other_id": contact["id"]})
    assert answer.status_code == 200, answer.text
    assert traces(org) == []


def test_what_belongs_to_others_stays_theirs(org, erase):
    """An address that another record has, a name that is a part of another: neither is touched."""
    admin = org.admin
    shared, near = "office@example.net", f"x{EMAIL}"
    contact = someone(admin, emails=[{"address": EMAIL}, {"address": shared}])
    other = admin.make("contacts", first_name="Ann", last_name=f"{LAST}-Miller", emails=[{"address": near}])
    account = admin.make("accounts", name="Office", emails=[{"address": shared}])
    erase(admin, contact_id=contact["id"])
    assert admin.get(f"/v1/contacts/{other['id']}").json() == other
    (made,) = admin.all("/v1/audit_log", object_id=other["id"])
    assert made["after"]["emails"] == other["emails"]
    (made,) = admin.all("/v1/audit_log", object_id=account["id"])
    assert made["after"]["emails"][0]["address"] == shared


def test_documents_under_way_and_holds_keep_the_data(org, erase):
    admin = org.admin
    account, contact = admin.make("accounts", name="Tea House"), someone(admin)
    lines = [{"description": "Tea", "unit_price": "5"}]
    terms = {"account_id": account["id"], "contact_id": contact["id"], "currency": "EUR", "lines": lines}
    order = admin.make("orders", **terms)
    quote = admin.make("quotes", **terms)
    hold = admin.make("legal_holds", contact_id=contact["id"], reason="Lawsuit 12/26")
    refused = problem(admin.post("/v1/erasures", json={"contact_id": contact["id"]}), 409, "erasure_blocked")
    named = {(item["code"], item["resource"]): item["ids"] for item in refused["obstacles"]}
    assert named == {
        ("legal_hold", "legal_holds"): [hold["id"]],
        ("open_documents", "orders"): [order["id"]],
        ("open_documents", "quotes"): [quote["id"]],
    }
    seen = admin.post("/v1/erasures/preview", json={"contact_id": contact["id"]}).json()
    assert len(seen["obstacles"]) == 3
    assert admin.get(f"/v1/contacts/{contact['id']}").json() == contact
    assert admin.delete(f"/v1/legal_holds/{hold['id']}").status_code == 204
    for path in (f"orders/{order['id']}", f"quotes/{quote['id']}"):
        answer = admin.post(f"/v1/{path}/cancel", json={"reason": "Over."})
        assert answer.status_code == 200, answer.text
    seen = admin.post("/v1/erasures/preview", json={"contact_id": contact["id"]}).json()
    assert (seen["obstacles"], seen["kept"]) == ([], {"orders": 1, "quotes": 1})
    erase(admin, contact_id=contact["id"])
    assert admin.get(f"/v1/orders/{order['id']}").json()["contact_id"] == contact["id"]


def test_an_obstacle_that_comes_up_before_the_job_runs_stops_it(org, server, sql, monkeypatch):
    from tests.support.jobs import working

    contact = someone(org.admin)
    answer = org.admin.post("/v1/erasures", json={"contact_id": contact["id"]})
    twin = org.admin.post("/v1/erasures", json={"contact_id": contact["id"]})
    if twin.status_code == 202:  # a worker of another test was faster
        pytest.skip("the job was done already")
    problem(twin, 409)
    org.admin.make("legal_holds", contact_id=contact["id"], reason="Just in time")
    with working(server):
        job = wait(org.admin, answer.json(), seconds=30)
    (erasure,) = org.admin.all("/v1/erasures", object_id=contact["id"])
    if erasure["state"] == "blocked":
        assert job["problem"]["code"] == "erasure_blocked"
        assert erasure["obstacles"][0]["code"] == "legal_hold"
        assert org.admin.get(f"/v1/contacts/{contact['id']}").json() == contact


@pytest.mark.parametrize("who", ["manager", "rep", "reader", "outsider"])
def test_only_who_may_erase(org, who):
    contact = someone(org.rep)
    problem(getattr(org, who).post("/v1/erasures", json={"contact_id": contact["id"]}), 403)
    problem(getattr(org, who).post("/v1/erasures/preview", json={"contact_id": contact["id"]}), 403)


def test_bad_requests_are_refused(org, server):
    from tests.support.org import Org

    contact, other = someone(org.admin), someone(Org.create(server).admin)
    lead = org.admin.make("leads", last_name="Doe")
    ask = lambda **body: org.admin.post("/v1/erasures", json=body)  # noqa: E731 - said often
    problem(ask(), 422)
    problem(ask(contact_id=contact["id"], lead_id=lead["id"]), 422)
    problem(ask(contact_id=contact["id"], basis="whim"), 422)
    problem(ask(contact_id=contact["id"], reference="Jane Doe wants it"), 422)
    problem(ask(contact_id="x"), 422)
    for id_ in (other["id"], lead["id"], "019aa1d1-0000-7000-8000-0000000000ff"):
        found = problem(ask(contact_id=id_), 422)
        assert found["errors"][0]["code"] == "reference_not_found"
    assert org.admin.get(f"/v1/contacts/{contact['id']}").json() == contact


def test_the_function_that_erases_reaches_no_further_than_a_running_erasure(org, database, sql, erase):
    """Exact effect: no erasure, an ended one, another tenant's, or values of one's own are refused."""
    import asyncio

    import asyncpg

    contact = someone(org.admin)
    erasure = erase(org.admin, contact_id=contact["id"])["id"]
    call = "SELECT * FROM erase_recorded($1, $2, 'audit_entries', NULL, 10, $3::jsonb, 'x')"

    async def attack(tenant, id_, replaced):
        connection = await asyncpg.connect(database["app"])
        try:
            await connection.execute("SELECT set_config('crm.tenant', $1, false)", str(org.tenant_id))
            with pytest.raises(asyncpg.RaiseError):
                await connection.fetch(call, tenant, id_, replaced)
        finally:
            await connection.close()

    asyncio.run(attack(org.tenant_id, erasure, "{}"))
    sql("UPDATE erasures SET state = 'running' WHERE id = $1", erasure)
    asyncio.run(attack(org.tenant_id, erasure, json.dumps({"contact": {"last_name": "Forged"}})))
    asyncio.run(attack(contact["id"], erasure, "{}"))
    sql("UPDATE erasures SET state = 'done' WHERE id = $1", erasure)


KEPT = {
    "contact": {"language", "do_not_contact", "custom", "external_ids", "created_via"},
    "user": {"custom", "external_ids", "created_via"},
    "lead": {"status", "language", "currency", "custom", "external_ids", "created_via"},
}
"""What an erasure leaves on a person's record, as `docs/privacy.md` says; all else that is text or JSON goes."""


@pytest.mark.parametrize("resource", SUBJECTS.values(), ids=lambda item: item.singular)
def test_every_field_that_may_tell_of_a_person_is_declared(resource):
    import sqlalchemy as sa
    from sqlalchemy.dialects.postgresql import JSONB

    told = {
        name for name in resource.columns if isinstance(resource.table.c[name].type, (sa.Text, JSONB, sa.Date))
    } - KEPT[resource.singular]
    assert told == set(resource.personal)
    assert set(resource.search) <= set(resource.personal)
    assert "field" in FieldValue.__table__.c
    assert {item.plural for item in belonging(CATALOG)} >= {
        "account_contacts",
        "consents",
        "legal_holds",
        "sessions",
        "api_keys",
    }
    assert PHONE


def test_it_goes_on_where_it_was_interrupted(org, worker, traces, monkeypatch):
    """A failure in the middle loses nothing: what was found at the beginning is kept, sealed, until all is done."""
    monkeypatch.setattr(erasing, "MOST", 5)
    contact, real, calls = someone(org.admin), erasing._recorded, []

    async def fragile(ctx, id_, position):
        calls.append(position["place"])
        if len(calls) == 4:
            raise invalid("", "broken", "As by a fault.")
        return await real(ctx, id_, position)

    monkeypatch.setattr(erasing, "_recorded", fragile)
    job = org.admin.post("/v1/erasures", json={"contact_id": contact["id"]}).json()
    assert wait(org.admin, job)["state"] == "failed"
    assert traces(org), "something was to be left"
    assert org.admin.get(f"/v1/contacts/{contact['id']}").json()["last_name"] == "Erased"
    problem(org.admin.post("/v1/erasures", json={"contact_id": contact["id"]}), 409)
    assert org.admin.post(f"/v1/jobs/{job['id']}/retry").status_code == 200
    assert wait(org.admin, job, seconds=30)["state"] == "succeeded"
    assert calls == sorted(calls)
    assert traces(org) == []
    (erasure,) = org.admin.all("/v1/erasures", object_id=contact["id"])
    assert erasure["state"] == "done"


def test_of_many_requests_at_once_one_erasure_runs(org, server, traces):
    """No worker runs meanwhile, so the first is under way when the others come."""
    contact = org.admin.make("contacts", last_name="Crowd")
    with ThreadPoolExecutor(8) as pool:
        ask = lambda _: org.admin.post("/v1/erasures", json={"contact_id": contact["id"]}).status_code  # noqa: E731
        answers = list(pool.map(ask, range(8)))
    assert set(answers) <= {202, 409}
    assert answers.count(202) >= 1
    assert len(org.admin.all("/v1/erasures", object_id=contact["id"])) == answers.count(202)


def test_a_lead_that_became_a_contact_is_erased_with_it(org, erase, traces, sequence):
    lead = org.admin.make("leads", first_name=FIRST, last_name=LAST, company="Tea House", emails=[{"address": EMAIL}])
    for verb in ("work", "qualify", "convert"):
        assert org.admin.post(f"/v1/leads/{lead['id']}/{verb}").status_code == 200
    contact = org.admin.get(f"/v1/leads/{lead['id']}").json()["converted_contact_id"]
    cursor = org.admin.get("/v1/changes/cursor").json()["cursor"]
    erase(org.admin, lead_id=lead["id"])
    assert org.admin.get(f"/v1/contacts/{contact}").json()["last_name"] == "Erased"
    assert traces(org) == []
    sequence()
    events = org.admin.get("/v1/changes", params={"since": cursor, "limit": 200}).json()["data"]
    told = {event["type"]: event for event in events}
    assert {"lead.erased", "contact.erased", "lead.updated", "contact.updated"} <= told.keys()
    assert "last_name" in told["lead.updated"]["changed"]
    assert told["lead.updated"]["previous"]["last_name"] in (None, "Erased")


def test_what_is_erased_does_not_come_back_as_of_before_while_its_log_is_not(org, worker, monkeypatch):
    """The record is empty from the first step on; a sweep that has not come by, or was stopped, changes nothing."""
    contact = someone(org.admin)
    path, before = f"/v1/contacts/{contact['id']}", [datetime.now(UTC).isoformat()]
    assert org.admin.patch(path, json={"first_name": "Other", "last_name": "Name"}).status_code == 200
    before.append(datetime.now(UTC).isoformat())

    async def broken(ctx, id_, position):
        raise invalid("", "broken", "As by a fault.")

    with monkeypatch.context() as patched:
        patched.setattr(erasing, "_recorded", broken)
        job = org.admin.post("/v1/erasures", json={"contact_id": contact["id"]}).json()
        assert wait(org.admin, job)["state"] == "failed"
    assert org.admin.patch(path, json={"title": "Heir"}).status_code == 200
    for instant in before:
        query = {"as_of": instant}
        shown = org.admin.get(path, params=query).json()
        assert (shown["id"], shown["last_name"], shown["title"]) == (contact["id"], "Erased", None)
        listed = org.admin.get("/v1/contacts", params={**query, "id": contact["id"]})
        filtered = org.admin.get("/v1/contacts", params={**query, "last_name": LAST})
        grouped = {"group_by": ["last_name", "city"], "measures": [{"op": "count"}]}
        counted = org.admin.post("/v1/contacts/aggregate", params=query, json=grouped)
        assert filtered.json()["data"] == []
        for answer in (shown, listed.json(), counted.json()):
            assert not [needle for needle in NEEDLES if needle in str(answer).lower()], answer
    assert org.admin.post(f"/v1/jobs/{job['id']}/retry").status_code == 200
    assert wait(org.admin, job, seconds=30)["state"] == "succeeded"
