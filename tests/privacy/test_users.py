"""Erasure of a user: nothing tells of them any more, nobody is them again, and what they did stays done by somebody."""

import asyncio
import threading
import uuid
from functools import partial

import asyncpg
import pytest

from crm_api.domains.privacy import erase as erasing
from tests.approvals.test_approvals import submitted
from tests.privacy.conftest import EMAIL, FIRST, LAST, NEEDLES, someone
from tests.privacy.test_person_export import _held_up, ask, content
from tests.sign_in.browsing import PASSWORD, Browser, handle
from tests.sign_in.test_second_factor import code, secret_of
from tests.support.examples import attach
from tests.support.jobs import wait
from tests.support.oauth import App
from tests.support.org import REPRESENTATIVE, Org, Person
from tests.support.problems import problem
from tests.support.receiver import Receiver
from tests.support.webhooks import work

NAME = f"{FIRST} {LAST}"
AGENT = f"Browser of {LAST}"


def user(org: Org, role: str | None = REPRESENTATIVE, **values) -> Person:
    """Somebody who is nobody else, with a key."""
    whole = {"name": NAME, "email": EMAIL, "title": f"Dr {LAST}", "language": "es", **values}
    made = org.admin.make("users", **whole)
    if role is not None:
        org.admin.make("role_assignments", principal_id=made["id"], role_id=org.roles.get(role, role))
    key = org.admin.post(f"/v1/users/{made['id']}/issue_key", json={"name": f"{FIRST} at work"})
    assert key.status_code == 201, key.text
    return Person(org.server, made["id"], key.json()["key"])


def leave(org: Org, person: Person) -> None:
    assert org.admin.patch(f"/v1/users/{person.id}", json={"is_active": False}).status_code == 200


def codes(answer) -> set[tuple[str, str]]:
    """Why an erasure was refused: what and where."""
    return {(item["code"], item["resource"]) for item in problem(answer, 409, "erasure_blocked")["obstacles"]}


class Signed:
    """A user with a password, a second factor, a provider, an application and failures to sign in."""

    def __init__(self, org: Org, person: Person, sql) -> None:
        self.org, self.person = org, person
        link = org.admin.post(f"/v1/users/{person.id}/invite").json()["link"]
        self.link = "/reset" + link.partition("/reset")[2]
        self.browser = Browser(org.server)
        self.browser.headers["user-agent"] = AGENT
        assert self.browser.submit(self.browser.get(self.link), password=PASSWORD).status_code == 303
        assert self.enter(password="not it, sorry").status_code == 422
        assert self.enter().status_code == 303
        self.app = App.register(org, scopes=["accounts:read", "offline_access"])
        self.tokens = self.app.tokens(self.browser, scope="accounts:read offline_access")
        page = self.browser.get("/account/second-factor")
        assert self.browser.submit(page, code=code(secret_of(page), -1)).status_code == 200
        provider = org.admin.make(
            "identity_providers",
            name="Login",
            issuer="https://login.example.com",
            client_id="crm",
            email_domains=["example.com"],
        )
        sql(
            "INSERT INTO provider_links (tenant_id, provider_id, subject, principal_id, created_at) "
            "VALUES ($1, $2, $3, $4, now())",
            *(org.tenant_id, provider["id"], EMAIL, person.id),
        )
        self.invitation = (
            "/reset" + org.admin.post(f"/v1/users/{person.id}/invite").json()["link"].partition("/reset")[2]
        )

    def enter(self, password: str = PASSWORD):
        return self.browser.sign_in(handle(self.org), EMAIL, password)


def test_a_user_is_found_in_no_row_of_any_table(org, server, erase, traces, sequence, monkeypatch, sql):
    """Everything that can have a trace has one; afterwards what they did is done by somebody without a name."""
    monkeypatch.setattr(erasing, "MOST", 7)
    admin = org.admin
    with Receiver() as receiver:
        robot = admin.make("service_accounts", name="Robot")
        admin.make("role_assignments", principal_id=robot["id"], role_id=org.roles["Administrator"])
        endpoint = {"url": receiver.url, "event_types": ["*"], "principal_id": robot["id"]}
        assert admin.post("/v1/webhook_endpoints", json=endpoint).status_code == 201
        admin.make("sources", code="hr", name="HR")
        person = user(org)
        signed = Signed(org, person, sql)
        assert admin.post(f"/v1/users/{person.id}/link", json={"source": "hr", "external_id": EMAIL}).status_code == 200
        change = {"operation": "update_user", "id": person.id, "body": {"title": f"Prof {LAST}"}}
        headers = {"Idempotency-Key": "one"}
        assert admin.post("/v1/batch", json={"operations": [change]}, headers=headers).status_code == 200
        attach(admin, "user", person.id, f"{LAST}.png", b"\x89PNG\r\n\x1a\n picture")
        hold = admin.make("legal_holds", principal_id=person.id, reason=f"{LAST} against us")
        account = person.make("accounts", name="Tea House")
        share = {"grantee_type": "user", "grantee_id": person.id, "level": "read", "cause": f"For {NAME}"}
        theirs = admin.make("accounts", name="Coffee House")
        assert admin.post(f"/v1/accounts/{theirs['id']}/share", json=share).status_code == 201
        tree = {"field": "name", "op": "eq", "value": NAME}
        wait(admin, admin.post("/v1/exports", json={"resource": "users", "filter": tree}).json())
        sequence()
        server.run(work(server))
        seen = [message for message in receiver.messages if LAST.lower() in str(message.body).lower()]
        assert seen
        answer = admin.post("/v1/accounts/transfer", json={"ids": [account["id"]], "owner_id": org.rep.id})
        assert wait(admin, answer.json())["state"] == "succeeded"
        sql("DELETE FROM sessions WHERE principal_id = $1 AND revoked_at IS NOT NULL", person.id)
        assert admin.delete(f"/v1/legal_holds/{hold['id']}").status_code == 204
        leave(org, person)
        sequence()
        before = {table for table, _ in traces(org)}
        assert before >= {
            *("principals", "audit_entries", "feed", "idempotency_replies", "external_ids", "files", "jobs"),
            *("sessions", "provider_links", "api_keys", "webhook_attempts", "shares", "legal_holds"),
        }, before
        kept = {entry["id"] for entry in admin.all("/v1/audit_log", actor_id=person.id)}
        receiver.messages.clear()
        erasure = erase(admin, principal_id=person.id, reference="HR-9")
        assert [text for _, text in traces(org)] == []
        sequence()
        server.run(work(server))
        assert traces(org) == []
        types = {message.event["type"] for message in receiver.messages}
        assert {"user.updated", "user.erased", "api_key.revoked", "second_factor.deleted", "session.updated"} <= types
        assert not any(needle in str(m.body).lower() for m in receiver.messages for needle in NEEDLES)
    for table in ("passwords", "password_links", "provider_links", "recovery_codes"):
        assert not sql(f"SELECT 1 FROM {table} WHERE tenant_id = $1", org.tenant_id), table  # noqa: S608 - our own names
    factors = sql("SELECT sealed_secret, deleted_at FROM second_factors WHERE tenant_id = $1", org.tenant_id)
    assert [(row["sealed_secret"], row["deleted_at"] is not None) for row in factors] == [(b"", True)]
    kinds = sql("SELECT kind FROM sign_in_attempts WHERE tenant_id = $1", org.tenant_id)
    assert [row["kind"] for row in kinds] == ["address"], "which counts all accounts of the organisation"
    failed = admin.all("/v1/audit_log", object_id=person.id, action="sign_in_failed")
    assert [entry["after"]["address"] for entry in failed] == [None]
    assert erasure["state"] == "done"
    assert (erasure["object_type"], erasure["created_by"]) == ("user", admin.id)
    assert set(erasure["kinds"]["users"]) == {"name", "email", "title", "language", "external_ids"}
    shown = admin.get(f"/v1/users/{person.id}").json()
    assert (shown["name"], shown["email"], shown["is_active"]) == ("Erased user", None, False)
    assert shown["erased_at"] is not None
    made = admin.get(f"/v1/accounts/{account['id']}").json()
    assert made["created_by"] == person.id
    assert kept <= {entry["id"] for entry in admin.all("/v1/audit_log", actor_id=person.id)}
    assert {"create", "sign_in", "invite", "erase"} <= {
        e["action"] for e in admin.all("/v1/audit_log", object_id=person.id)
    }
    assert signed.browser.get("/account").status_code == 303


def test_nobody_is_an_erased_user_again(org, erase, sql):
    person = user(org)
    signed = Signed(org, person, sql)
    assert person.get("/v1/me").status_code == 200
    assert signed.app.call(signed.tokens["access_token"]).status_code == 200
    leave(org, person)
    erase(org.admin, principal_id=person.id)
    assert person.get("/v1/me").status_code == 401
    assert signed.app.call(signed.tokens["access_token"]).status_code == 401
    assert signed.app.refresh(signed.tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert signed.enter().status_code == 422
    assert not signed.browser.signed_in
    assert Browser(org.server).get(signed.invitation).status_code == 422
    path = f"/v1/users/{person.id}"
    for change in ({"is_active": True}, {"name": "Somebody else", "email": "else@example.com"}, {"title": None}):
        problem(org.admin.patch(path, json=change), 409)
    problem(org.admin.post(f"{path}/invite"), 409)
    assert org.admin.delete(path).status_code == 204
    assert org.admin.post(f"{path}/restore").status_code == 200
    assert org.admin.get(path).json()["name"] == "Erased user"
    with pytest.raises(asyncpg.CheckViolationError):
        sql("UPDATE principals SET is_active = true WHERE id = $1", uuid.UUID(person.id))
    again = user(org)
    assert again.id != person.id, "the address is free for another"


def test_what_keeps_a_user(org, erase):
    admin, person = org.admin, user(org)
    account = person.make("accounts", name="Tea House")
    gone = person.make("leads", last_name="Doe")
    assert admin.delete(f"/v1/leads/{gone['id']}").status_code == 204
    hold = admin.make("legal_holds", principal_id=person.id, reason="Lawsuit 12/26")
    ask = partial(admin.post, "/v1/erasures", json={"principal_id": person.id})
    assert codes(ask()) == {("still_active", "users"), ("owned_records", "accounts"), ("legal_hold", "legal_holds")}
    leave(org, person)
    found = problem(ask(), 409, "erasure_blocked")["obstacles"]
    assert "still_active" not in {item["code"] for item in found}
    (owned,) = [item for item in found if item["resource"] == "accounts"]
    assert (owned["count"], owned["ids"]) == (1, [account["id"]])
    assert "POST /v1/accounts/transfer" in owned["detail"]
    seen = admin.post("/v1/erasures/preview", json={"principal_id": person.id}).json()
    assert seen["obstacles"] == found
    assert seen["records"] == {"users": 1, "api_keys": 1, "legal_holds": 1}
    assert admin.delete(f"/v1/legal_holds/{hold['id']}").status_code == 204
    body = {"filter": {"field": "owner_id", "op": "eq", "value": person.id}, "owner_id": org.rep.id}
    assert wait(admin, admin.post("/v1/accounts/transfer", json=body).json())["state"] == "succeeded"
    assert erase(admin, principal_id=person.id)["state"] == "done"


def test_an_approval_that_waits_for_the_user_is_passed_on_first(org, erase):
    person = user(org)
    _, approval = submitted(org, org.rep, {"kind": "principal", "principal_id": person.id})
    assert approval["approver_id"] == person.id
    leave(org, person)
    body = {"principal_id": person.id}
    assert codes(org.admin.post("/v1/erasures", json=body)) == {("owned_records", "approvals")}
    passed = org.admin.post(f"/v1/approvals/{approval['id']}/delegate", json={"principal_id": org.manager.id})
    assert passed.status_code == 200, passed.text
    assert erase(org.admin, **body)["state"] == "done"


def test_the_last_administrator_stays(org, erase):
    clerk = org.role("Clerk", ("erasures:*", "all"), ("users:*", "all"), ("jobs:*", "all"))
    helper = org.person("helper", clerk)
    assert org.helper.patch(f"/v1/users/{org.admin.id}", json={"is_active": False}).status_code == 200
    assert codes(helper.post("/v1/erasures", json={"principal_id": org.admin.id})) == {("last_administrator", "users")}
    org.person("second", "Administrator")
    assert erase(helper, principal_id=org.admin.id)["state"] == "done"


@pytest.mark.parametrize(
    ("grants", "status"),
    [
        ((("erasures:create", "all"), ("users:read", "all")), 403),
        ((("users:*", "all"),), 403),
        ((("erasures:create", "all"), ("users:*", "own")), 403),
        ((("erasures:*", "all"), ("users:delete", "all"), ("jobs:read", "all")), 202),
    ],
)
def test_it_takes_what_erasing_people_and_deleting_users_take(org, grants, status):
    person = user(org)
    leave(org, person)
    clerk = org.person("clerk", org.role("Clerk", *grants))
    assert clerk.post("/v1/erasures", json={"principal_id": person.id}).status_code == status
    assert clerk.post("/v1/erasures/preview", json={"principal_id": person.id}).status_code == (
        403 if status == 403 else 200
    )


def test_only_a_user_of_ones_own_tenant_is_erased(org, server):
    robot = org.admin.make("service_accounts", name="Robot", is_active=False)
    stranger = Org.create(server).rep
    for id_ in (robot["id"], stranger.id, "019aa1d1-0000-7000-8000-0000000000ff"):
        found = problem(org.admin.post("/v1/erasures", json={"principal_id": id_}), 422)
        assert found["errors"][0]["code"] == "reference_not_found"
    contact = someone(org.admin)
    body = {"principal_id": org.rep.id, "contact_id": contact["id"]}
    problem(org.admin.post("/v1/erasures", json=body), 422)


def test_a_deleted_user_is_erased_and_again_nothing_more(org, erase, traces):
    person = user(org)
    assert org.admin.delete(f"/v1/users/{person.id}").status_code == 204
    erase(org.admin, principal_id=person.id)
    assert traces(org) == []
    assert erase(org.admin, principal_id=person.id)["kinds"]["users"] == []


def test_what_belongs_to_others_stays_theirs(org, erase):
    """A colleague of the same name, a contact with the same address and name."""
    person = user(org)
    twin = org.admin.make("users", name=NAME, email="twin@example.com")
    contact = someone(org.admin)
    note = org.admin.make("accounts", name="Tea House", description=f"Ask {NAME} or {EMAIL}.")
    leave(org, person)
    erase(org.admin, principal_id=person.id)
    assert org.admin.get(f"/v1/users/{twin['id']}").json() == twin
    (made,) = org.admin.all("/v1/audit_log", object_id=twin["id"])
    assert made["after"]["name"] == NAME
    (made,) = org.admin.all("/v1/audit_log", object_id=contact["id"])
    assert made["after"]["emails"] == contact["emails"]
    (made,) = org.admin.all("/v1/audit_log", object_id=note["id"])
    assert made["after"]["description"] == note["description"]


def test_a_contact_who_is_a_colleague_leaves_the_user_alone(org, erase):
    person, contact = user(org), someone(org.admin)
    erase(org.admin, contact_id=contact["id"])
    (made, *_) = [e for e in org.admin.all("/v1/audit_log", object_id=person.id) if e["action"] == "create"]
    assert (made["after"]["name"], made["after"]["email"]) == (NAME, EMAIL)


def test_an_erasure_stops_exports_of_the_user_and_no_others(org, erase, worker, monkeypatch, traces):
    admin, person = org.admin, user(org)
    contact = admin.make("contacts", last_name="Stranger")
    done = ask(admin, principal_id=person.id)
    assert LAST in str(content(admin, done))
    users = wait(admin, admin.post("/v1/exports", json={"resource": "users", "format": "ndjson"}).json())
    kept = [
        wait(admin, admin.post("/v1/exports", json={"resource": "contacts"}).json()),
        ask(admin, contact_id=contact["id"]),
    ]
    slow = _held_up(monkeypatch)
    running = admin.post("/v1/person_exports", json={"principal_id": person.id}).json()
    slow["entered"].wait(10)
    leave(org, person)
    erase(admin, principal_id=person.id)
    slow["go"].set()
    assert wait(admin, running)["state"] == "cancelled"
    problem(admin.get(f"/v1/person_exports/{done['id']}/content"), 404)
    problem(admin.get(f"/v1/exports/{users['id']}/content"), 404)
    assert admin.get(f"/v1/exports/{kept[0]['id']}/content").status_code == 200
    assert admin.get(f"/v1/person_exports/{kept[1]['id']}/content").status_code == 200
    late = content(admin, ask(admin, principal_id=person.id))
    assert [row["name"] for row in late["records"]["principals"]] == ["Erased user"]
    assert LAST not in str(late)
    assert traces(org) == []


def test_who_comes_back_before_the_job_runs_is_not_erased(org, worker, monkeypatch):
    """The job waits until the user is active again."""
    person, go, real = user(org), threading.Event(), erasing._records

    async def later(ctx, id_):
        await asyncio.to_thread(go.wait, 30)
        return await real(ctx, id_)

    monkeypatch.setattr(erasing, "_records", later)
    leave(org, person)
    job = org.admin.post("/v1/erasures", json={"principal_id": person.id}).json()
    assert org.admin.patch(f"/v1/users/{person.id}", json={"is_active": True}).status_code == 200
    go.set()
    assert wait(org.admin, job, seconds=30)["problem"]["code"] == "erasure_blocked"
    (erasure,) = org.admin.all("/v1/erasures", object_id=person.id)
    assert erasure["state"] == "blocked"
    assert [item["code"] for item in erasure["obstacles"]] == ["still_active"]
    assert person.get("/v1/me").status_code == 200
    assert org.admin.get(f"/v1/users/{person.id}").json()["name"] == NAME


def test_the_function_that_forgets_reaches_one_user_of_a_running_erasure(org, database, sql, erase):
    contact, person = someone(org.admin), user(org)
    leave(org, person)
    ended = erase(org.admin, principal_id=person.id)["id"]
    other = erase(org.admin, contact_id=contact["id"])["id"]

    async def attack(tenant, id_):
        connection = await asyncpg.connect(database["app"])
        try:
            await connection.execute("SELECT set_config('crm.tenant', $1, false)", str(org.tenant_id))
            with pytest.raises(asyncpg.RaiseError):
                await connection.fetch("SELECT forget_credentials($1, $2, '{}')", tenant, id_)
        finally:
            await connection.close()

    asyncio.run(attack(org.tenant_id, ended))
    for id_ in (other, ended):
        sql("UPDATE erasures SET state = 'running' WHERE id = $1", id_)
    asyncio.run(attack(org.tenant_id, other))
    asyncio.run(attack(uuid.uuid4(), ended))
    for id_ in (other, ended):
        sql("UPDATE erasures SET state = 'done' WHERE id = $1", id_)
