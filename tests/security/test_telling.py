"""Nothing is told by the feed or by webhooks that a read would not show: cases A and C for what is pushed."""

import asyncio
import base64
import json
import re
import time
import uuid

import asyncpg
import pytest

from crm_api.domains.integrations import changes
from crm_api.kernel import feed
from tests.support.org import Org
from tests.support.problems import problem
from tests.support.receiver import Receiver
from tests.support.webhooks import work


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


def endpoint(person, receiver: Receiver, principal: str, **values) -> dict:
    return person.make("webhook_endpoints", url=receiver.url, principal_id=principal, **values)


def run(org: Org) -> None:
    org.server.run(work(org.server))


def scoped(org: Org, *scopes: str) -> dict[str, str]:
    made = org.admin.post(f"/v1/users/{org.admin.id}/issue_key", json={"name": "narrow", "scopes": list(scopes)})
    return {"Authorization": f"Bearer {made.json()['key']}"}


INTEGRATOR = (("webhook_endpoints:*", "all"), ("webhook_deliveries:read", "all"), ("webhook_attempts:read", "all"))


def test_a_key_makes_no_endpoint_that_is_sent_more_than_its_scopes_cover(org, receiver):
    narrow = scoped(org, "integrations:read", "integrations:write", "contacts:read")
    body = {"url": receiver.url, "principal_id": org.admin.id}
    for types in (["*"], ["account.*"], ["contact.*", "account.created"], ["user.created"]):
        problem(org.admin.post("/v1/webhook_endpoints", json={**body, "event_types": types}, headers=narrow), 403)
    made = org.admin.post("/v1/webhook_endpoints", json={**body, "event_types": ["contact.*"]}, headers=narrow)
    assert made.status_code == 201, made.text
    path = f"/v1/webhook_endpoints/{made.json()['id']}"
    problem(org.admin.patch(path, json={"event_types": ["account.*"]}, headers=narrow), 403)
    wide = endpoint(org.admin, receiver, org.admin.id, event_types=["account.*"])
    url = {"url": f"{receiver.url}/mine"}
    problem(org.admin.patch(f"/v1/webhook_endpoints/{wide['id']}", json=url, headers=narrow), 403)


def test_nobody_has_sent_to_them_what_only_a_colleague_owns(org, receiver):
    """The colleague's role is no more than one's own, but it reaches other rows."""
    role = org.role("Owner", ("accounts:read", "own"), ("users:read", "all"), *INTEGRATOR)
    clerk, other = org.person("clerk", role), org.person("other", role)
    org.admin.make("accounts", name="Of the other", owner_id=other.id)
    body = {"url": receiver.url, "principal_id": other.id, "event_types": ["account.*"]}
    problem(clerk.post("/v1/webhook_endpoints", json=body), 403)
    assert clerk.post("/v1/webhook_endpoints", json={**body, "principal_id": clerk.id}).status_code == 201
    made = endpoint(org.admin, receiver, other.id, event_types=["account.*"])
    path = f"/v1/webhook_endpoints/{made['id']}"
    problem(clerk.patch(path, json={"url": f"{receiver.url}/mine"}), 403)


def test_a_filter_is_no_oracle_on_records_that_its_author_may_not_see(org, receiver):
    role = org.role("Clerk", ("accounts:read", "own"), *INTEGRATOR)
    clerk = org.person("clerk", role)
    made = endpoint(org.admin, receiver, org.admin.id, event_types=["account.*"])
    tree = {"and": [{"field": "name", "op": "eq", "value": "Secret"}]}
    path = f"/v1/webhook_endpoints/{made['id']}"
    problem(clerk.patch(path, json={"filter": tree}), 403)
    problem(clerk.patch(path, json={"event_types": ["account.created"]}), 403)
    assert clerk.patch(path, json={"description": "Theirs"}).status_code == 200


@pytest.mark.parametrize("case", ["no right to accounts", "own accounts", "a hidden field", "narrow key"])
def test_attempts_show_no_body_to_who_may_not_see_all_of_it(org, receiver, case):
    made = endpoint(org.admin, receiver, org.admin.id, event_types=["account.*"])
    secret = org.admin.make("accounts", name="Very secret", credit_limit="777.00")
    run(org)
    rules = [{"resource": "accounts", "field": "credit_limit", "rule": "hidden"}]
    grants = {"own accounts": [("accounts:read", "own")], "a hidden field": [("accounts:read", "all")]}.get(case, [])
    rule = rules if case == "a hidden field" else None
    clerk, headers = org.admin, scoped(org, "integrations:read")
    if case != "narrow key":
        clerk, headers = org.person("clerk", org.role("Clerk", *grants, *INTEGRATOR, field_rules=rule)), {}
    answer = clerk.get("/v1/webhook_attempts", params={"endpoint_id": made["id"]}, headers=headers)
    (attempt,) = answer.json()["data"]
    assert (attempt["request"], attempt["reply"]) == (None, None)
    assert {"request", "reply"} <= set(attempt["redacted"])
    one = clerk.get(f"/v1/webhook_attempts/{attempt['id']}", headers=headers)
    assert "777.00" not in one.text + answer.text
    assert "Very secret" not in one.text + answer.text
    deliveries = clerk.get("/v1/webhook_deliveries", params={"endpoint_id": made["id"]}, headers=headers)
    if case != "a hidden field":
        assert secret["id"] not in deliveries.text + answer.text
    whole = org.admin.get(f"/v1/webhook_attempts/{attempt['id']}").json()
    assert json.loads(whole["request"])["data"]["credit_limit"] == "777.00"


def test_a_key_hears_of_no_share_outside_its_scopes(org, follow_all):
    account = org.outsider.make("accounts", name="Shared")
    grantee = {"grantee_type": "user", "grantee_id": org.admin.id}
    share = org.outsider.post(f"/v1/accounts/{account['id']}/share", json=grantee).json()
    org.outsider.post(f"/v1/accounts/{account['id']}/unshare", json={"share_id": share["id"]})
    headers = scoped(org, "contacts:read")
    assert account["id"] not in json.dumps(follow_all(org.admin, headers))


@pytest.fixture
def follow_all(server):
    def read(person, headers=None) -> list[dict]:
        while any(server.run(feed.sequence(server.kernel))):
            pass
        return person.get("/v1/changes", params={"limit": 200}, headers=headers or {}).json()["data"]

    return read


def test_a_moved_endpoint_takes_no_headers_along(org, receiver):
    """Their values are never shown: who may change the address must not have them sent to himself."""
    made = endpoint(org.admin, receiver, org.admin.id)
    path = f"/v1/webhook_endpoints/{made['id']}"
    assert org.admin.post(f"{path}/set_headers", json={"headers": {"X-Token": "very secret"}}).status_code == 200
    found = problem(org.admin.patch(path, json={"url": "https://elsewhere.example.com/events"}), 422)
    assert found["errors"][0]["pointer"] == "/url"
    assert org.admin.patch(path, json={"url": f"{receiver.url}/other"}).status_code == 200
    assert org.admin.post(f"{path}/set_headers", json={"headers": {}}).status_code == 200
    assert org.admin.patch(path, json={"url": "https://elsewhere.example.com/events"}).status_code == 200


def test_a_principal_of_another_tenant_is_one_that_is_not_there(org, receiver):
    other = Org.create(org.server)
    hermit = org.person("hermit", org.role("Hermit", *INTEGRATOR))
    body = {"url": receiver.url, "event_types": ["contact.*"]}
    problem(hermit.post("/v1/webhook_endpoints", json={**body, "principal_id": org.admin.id}), 403)
    seen = [()]
    for id_ in (other.admin.id, str(uuid.uuid4())):
        answer = hermit.post("/v1/webhook_endpoints", json={**body, "principal_id": id_})
        seen.append((answer.status_code, [(e["pointer"], e["code"]) for e in answer.json().get("errors", [])]))
    assert seen[1] == seen[2] == (422, [("/principal_id", "reference_not_found")])


def test_secrets_are_in_no_ledger_not_even_sealed(org, receiver, database):
    made = endpoint(org.admin, receiver, org.admin.id)
    path = f"/v1/webhook_endpoints/{made['id']}"
    org.admin.post(f"{path}/secret/rotate")
    org.admin.post(f"{path}/secret/rotate")
    org.admin.post(f"{path}/set_headers", json={"headers": {"X-Token": "very secret"}})
    org.admin.make("accounts", name="Acme")
    run(org)

    async def look() -> str:
        connection = await asyncpg.connect(database["admin"])
        tables = ("audit_entries", "feed", "outbox", "idempotency_keys", "webhook_attempts", "webhook_deliveries")
        rows = [
            await connection.fetch(f"SELECT t::text FROM {table} t WHERE tenant_id = $1", org.tenant_id)  # noqa: S608 - our own names
            for table in tables
        ]
        sealed = await connection.fetchrow(
            "SELECT sealed_secrets, sealed_headers FROM webhook_endpoints WHERE id = $1", made["id"]
        )
        await connection.close()
        text = "\n".join(row[0] for part in rows for row in part)
        assert all(bytes(value).hex() not in text for value in sealed)
        return text

    text = asyncio.run(look())
    assert "whsec_" not in text
    assert "very secret" not in text
    assert "sealed_" not in text


def test_an_endpoint_of_somebody_who_is_not_active_is_sent_nothing(org, receiver):
    robot = org.person("robot", "Administrator")
    made = endpoint(org.admin, receiver, robot.id, event_types=["account.*"])
    org.admin.make("accounts", name="Before")
    run(org)
    assert receiver.types == ["account.created"]
    assert org.admin.patch(f"/v1/users/{robot.id}", json={"is_active": False}).status_code == 200
    org.admin.make("accounts", name="After")
    run(org)
    assert receiver.types == ["account.created"]
    states = {delivery["state"] for delivery in org.admin.all("/v1/webhook_deliveries", endpoint_id=made["id"])}
    assert states == {"delivered", "suppressed"}


def test_a_cursor_tells_no_numbers(org, follow_all):
    """How many events there are, hidden ones too, is nobody's to know."""
    for _ in range(3):
        org.admin.make("accounts", name="Hidden")
    follow_all(org.admin)
    cursor = org.outsider.get("/v1/changes/cursor").json()["cursor"]
    assert cursor != org.outsider.get("/v1/changes/cursor").json()["cursor"]
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    assert not re.search(rb'"[0-9a-f-]{36}", ?[0-9]+', raw), "neither epoch nor number can be read"


def test_a_suspended_tenant_is_sent_nothing(org, receiver, database):
    endpoint(org.admin, receiver, org.admin.id, event_types=["account.*"])
    org.admin.make("accounts", name="Before")
    run(org)
    org.admin.make("accounts", name="After")

    async def suspend() -> None:
        connection = await asyncpg.connect(database["admin"])
        await connection.execute(
            "UPDATE tenants SET is_active = false, access_version = access_version + 1 WHERE tenant_id = $1",
            org.tenant_id,
        )
        await connection.close()

    asyncio.run(suspend())
    run(org)
    assert [event["data"]["name"] for event in receiver.events] == ["Before"]


def test_a_reply_that_echoes_headers_shows_none_of_their_values(org):
    with Receiver() as receiver:
        receiver.echo = True
        made = endpoint(org.admin, receiver, org.admin.id, event_types=["account.*"])
        headers = {"Authorization": "Bearer token-of-the-receiver", "X-Other": "another-secret"}
        assert org.admin.post(f"/v1/webhook_endpoints/{made['id']}/set_headers", json={"headers": headers}).is_success
        org.admin.make("accounts", name="Acme")
        run(org)
    (attempt,) = org.admin.all("/v1/webhook_attempts", endpoint_id=made["id"])
    assert "webhook-id" in attempt["reply"]
    assert "token-of-the-receiver" not in attempt["reply"]
    assert "another-secret" not in attempt["reply"]


def test_expansions_show_no_endpoint_to_who_may_not_see_it(org, receiver):
    made = endpoint(org.admin, receiver, org.admin.id, event_types=["account.*"], description="Nobody knows")
    org.admin.make("accounts", name="Acme")
    run(org)
    grants = (("webhook_deliveries:read", "all"), ("webhook_attempts:read", "all"))
    clerk = org.person("clerk", org.role("Clerk", *grants))
    for plural in ("webhook_deliveries", "webhook_attempts"):
        answer = clerk.get(f"/v1/{plural}", params={"expand": "endpoint", "endpoint_id": made["id"]})
        assert answer.status_code in (200, 403)
        assert "Nobody knows" not in answer.text
        assert receiver.url not in answer.text


def test_a_right_that_was_gained_holds_for_the_next_event(org, receiver):
    """Rights are remembered; who may read nothing of a type is asked anew all the same, else events would be lost."""
    robot = org.person("robot", org.role("Contacts", ("contacts:read", "all")))
    endpoint(org.admin, receiver, robot.id, event_types=["account.*"])
    org.admin.make("accounts", name="Before")
    run(org)
    assert receiver.types == []
    org.admin.make("role_assignments", role_id=org.role("Accounts", ("accounts:read", "all")), principal_id=robot.id)
    org.admin.make("accounts", name="After")
    run(org)
    assert [event["data"]["name"] for event in receiver.events] == ["After"]


def test_the_streams_of_one_tenant_leave_room_for_others(org, monkeypatch):
    monkeypatch.setattr(changes, "MOST_OF_TENANT", 1)
    other = Org.create(org.server)
    with org.rep.stream("GET", "/v1/changes/stream") as first:
        assert first.status_code == 200
        for _ in range(100):
            if getattr(org.server.kernel.pulses.get(org.tenant_id), "waiting", 0):
                break
            time.sleep(0.02)
        refused = problem(org.colleague.get("/v1/changes/stream"), 503)
        assert refused["retryable"]
        began = time.monotonic()
        assert org.colleague.get("/v1/changes", params={"wait": 20}).status_code == 200
        assert time.monotonic() - began < 5, "answered at once"
        with other.admin.stream("GET", "/v1/changes/stream") as theirs:
            assert theirs.status_code == 200
