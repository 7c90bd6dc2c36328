"""Webhooks over HTTP, with a real receiver: what is sent, signed how, and what becomes of it."""

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx2
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook

from crm_api.domains.integrations.outcome import BREAKS_AT, resume_failed
from tests.support.jobs import wait, working
from tests.support.org import Org
from tests.support.problems import problem
from tests.support.receiver import Receiver
from tests.support.webhooks import send_for, work


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


def endpoint(org: Org, receiver: Receiver, principal: str | None = None, **values) -> dict:
    principal = principal or org.admin.id
    return org.admin.make("webhook_endpoints", url=receiver.url, principal_id=principal, **values)


def run(org: Org) -> None:
    org.server.run(work(org.server))


def hurry(org: Org, database, change: str = "") -> None:
    """Makes what waits for another try due now."""

    async def set_() -> None:
        connection = await asyncpg.connect(database["admin"])
        due = "UPDATE webhook_deliveries SET due_at = now() WHERE tenant_id = $1 AND state = 'pending'"
        await connection.execute(due, org.tenant_id)
        if change:
            await connection.execute(f"UPDATE webhook_states SET {change} WHERE tenant_id = $1", org.tenant_id)  # noqa: S608 - our own text
        await connection.close()

    asyncio.run(set_())


def deliveries(org: Org, made: dict, **params) -> list[dict]:
    return org.admin.all("/v1/webhook_deliveries", endpoint_id=made["id"], **params)


def test_an_event_is_sent_as_the_feed_tells_it(org, receiver):
    made = endpoint(org, receiver, event_types=["account.*"])
    cursor = org.admin.get("/v1/changes/cursor").json()["cursor"]
    account = org.rep.make("accounts", name="Acme", credit_limit="5.00")
    org.rep.make("contacts", last_name="Not asked for")
    run(org)
    (event,) = receiver.events
    assert event["data"] == org.admin.get(f"/v1/accounts/{account['id']}").json()
    told = org.admin.get("/v1/changes", params={"since": cursor, "types": "account.*"}).json()["data"]
    assert told == [event]
    (delivery,) = deliveries(org, made)
    assert (delivery["state"], delivery["attempts"], delivery["event_type"]) == ("delivered", 1, "account.created")
    (attempt,) = org.admin.all("/v1/webhook_attempts", delivery_id=delivery["id"])
    assert (attempt["status"], attempt["error"], attempt["reply"]) == (200, None, "ok")
    assert json.loads(attempt["request"]) == event
    run(org)
    assert len(receiver.messages) == 1


def test_signatures_are_those_of_the_standard(org, receiver):
    """By the standard's own library, with the secret before and the one after a rotation."""
    made = endpoint(org, receiver)
    path = f"/v1/webhook_endpoints/{made['id']}/secret/rotate"
    first = org.admin.post(path).json()["secret"]
    second = org.admin.post(path, json={"grace_hours": 1}).json()
    assert second["earlier_until"] is not None
    org.admin.make("accounts", name="Acme")
    run(org)
    message = receiver.messages[-1]
    assert message.headers["webhook-id"] == message.event["id"]
    for secret in (first, second["secret"]):
        assert Webhook(secret).verify(message.body, message.headers) == message.event
    third = org.admin.post(path, json={"grace_hours": 0}).json()["secret"]
    org.admin.make("accounts", name="Other")
    run(org)
    message = receiver.messages[-1]
    assert Webhook(third).verify(message.body, message.headers)
    for secret in (first, second["secret"]):
        with pytest.raises(Exception, match="signature"):
            Webhook(secret).verify(message.body, message.headers)
    shown = org.admin.get(f"/v1/webhook_endpoints/{made['id']}").text + json.dumps(org.admin.all("/v1/audit_log"))
    for secret in (first, second["secret"], third):
        assert secret not in shown


def test_an_endpoint_is_sent_what_its_principal_may_see(org, receiver):
    rules = [{"resource": "accounts", "field": "credit_limit", "rule": "hidden"}]
    robot = org.person("robot", org.role("Robot", ("accounts:read", "own"), field_rules=rules))
    made = endpoint(org, receiver, robot.id, event_types=["account.created", "account.updated"])
    seen = org.admin.make("accounts", name="Seen", owner_id=robot.id, credit_limit="7.00")
    org.admin.make("accounts", name="Hidden")
    run(org)
    (event,) = receiver.events
    assert event["object"]["id"] == seen["id"]
    assert event["data"]["credit_limit"] is None
    assert "7.00" not in receiver.messages[0].body.decode()
    states = [delivery["state"] for delivery in deliveries(org, made)]
    assert sorted(states) == ["delivered", "suppressed"]
    org.admin.patch(f"/v1/accounts/{seen['id']}", json={"tier": "A"})
    org.admin.patch(f"/v1/accounts/{seen['id']}", json={"owner_id": org.rep.id})
    run(org)
    assert len(receiver.messages) == 1, "rights are those at the time of sending"


def test_who_sets_an_endpoint_holds_what_it_sends(org, receiver):
    role = org.role("Clerk", ("webhook_endpoints:*", "all"), ("users:read", "all"))
    clerk = org.person("clerk", role)
    body = {"url": receiver.url, "principal_id": org.rep.id}
    problem(clerk.post("/v1/webhook_endpoints", json=body), 403)
    made = endpoint(org, receiver, org.rep.id)
    problem(clerk.patch(f"/v1/webhook_endpoints/{made['id']}", json={"url": "https://example.com/mine"}), 403)


@pytest.mark.parametrize("payload", ["full", "thin"])
def test_a_thin_payload_has_no_data(org, receiver, payload):
    endpoint(org, receiver, payload=payload)
    org.admin.make("accounts", name="Acme")
    run(org)
    assert (receiver.events[-1]["data"] is None) == (payload == "thin")


def test_own_changes_are_left_out_where_asked(org, receiver):
    robot = org.person("robot", "Administrator")
    endpoint(org, receiver, robot.id, exclude_own=True, event_types=["account.created"])
    robot.make("accounts", name="Mine")
    org.admin.make("accounts", name="Theirs")
    run(org)
    assert [event["data"]["name"] for event in receiver.events] == ["Theirs"]


def test_a_filter_chooses_records(org, receiver):
    tree = {"and": [{"field": "tier", "op": "eq", "value": "A"}]}
    made = endpoint(org, receiver, event_types=["account.*"], filter=tree)
    org.admin.make("accounts", name="Large", tier="A")
    org.admin.make("accounts", name="Small", tier="C")
    run(org)
    assert [event["data"]["name"] for event in receiver.events] == ["Large"]
    assert sorted(delivery["state"] for delivery in deliveries(org, made)) == ["delivered", "suppressed"]


@pytest.mark.parametrize("field", ["tier", "name"])
def test_the_change_by_which_a_record_leaves_the_filter_is_told(org, receiver, field):
    """And none after it: who mirrors what the filter takes learns what to forget."""
    tree = {"field": field, "op": "contains" if field == "name" else "eq", "value": "A"}
    endpoint(org, receiver, event_types=["account.*"], filter=tree)
    account = org.admin.make("accounts", name="Ärzte", tier="A")
    run(org)
    for values in ({field: "C"}, {"industry": "Food"}, {field: "B"}, {field: "A"}):
        org.admin.patch(f"/v1/accounts/{account['id']}", json=values)
        run(org)
    told = [(event["object"]["version"], event["data"][field]) for event in receiver.events]
    assert told == [(1, account[field]), (2, "C"), (5, "A")]
    assert receiver.events[1]["previous"] == {field: account[field]}


@pytest.mark.parametrize("hidden", [False, True])
def test_leaving_the_filter_tells_nothing_of_fields_that_are_hidden_by_then(org, receiver, hidden):
    rules = [{"resource": "accounts", "field": "tier", "rule": "hidden"}] if hidden else []
    role = org.role("Robot", ("accounts:read", "all"))
    robot = org.person("robot", role)
    endpoint(org, receiver, robot.id, event_types=["account.*"], filter={"field": "tier", "op": "eq", "value": "A"})
    account = org.admin.make("accounts", name="Acme", tier="A")
    run(org)
    org.admin.patch(f"/v1/roles/{role}", json={"field_rules": rules})
    org.admin.patch(f"/v1/accounts/{account['id']}", json={"tier": "C"})
    run(org)
    assert receiver.types == ["account.created", *([] if hidden else ["account.updated"])]


def test_a_filter_names_records_by_external_ids(org, receiver):
    org.admin.make("sources", name="ERP", code="erp")
    tree = {"and": [{"field": "account_id", "op": "in", "value": ["ext:erp:4711", "ext:erp:nobody"]}]}
    robot = org.person("robot", org.role("Robot", ("accounts:read", "own"), ("contacts:read", "all")))
    mine = endpoint(org, receiver, event_types=["contact.created"], filter=tree)
    blind = endpoint(org, receiver, robot.id, event_types=["contact.created"], filter=tree)
    account = org.admin.put("/v1/accounts/ext:erp:4711", json={"name": "Acme"}).json()
    org.admin.make("contacts", last_name="Theirs", account_id=account["id"])
    org.admin.make("contacts", last_name="Nobody's")
    run(org)
    assert [event["data"]["last_name"] for event in receiver.events] == ["Theirs"]
    assert sorted(row["state"] for row in deliveries(org, mine)) == ["delivered", "suppressed"]
    assert {row["state"] for row in deliveries(org, blind)} == {"suppressed"}, "it may not see the account"


def test_static_headers_are_sent_and_never_shown(org, receiver):
    made = endpoint(org, receiver)
    path = f"/v1/webhook_endpoints/{made['id']}"
    answer = org.admin.post(f"{path}/set_headers", json={"headers": {"X-Token": "very secret"}})
    assert answer.json()["header_names"] == ["X-Token"]
    org.admin.make("accounts", name="Acme")
    run(org)
    assert receiver.messages[-1].headers["x-token"] == "very secret"
    assert "very secret" not in org.admin.get(path).text + json.dumps(org.admin.all("/v1/audit_log"))
    for name, value in (("Host", "x"), ("webhook-id", "x"), ("a b", "x"), ("A", "x\ny"), ("A", ""), ("A", "ä")):
        problem(org.admin.post(f"{path}/set_headers", json={"headers": {name: value}}), 422)


def test_a_failure_is_tried_again_until_it_is_taken(org, receiver, database):
    receiver.answers.extend([500, 429])
    receiver.headers["Retry-After"] = "1200"
    made = endpoint(org, receiver, event_types=["account.*"])
    org.admin.make("accounts", name="Acme")
    run(org)
    (delivery,) = deliveries(org, made)
    assert (delivery["state"], delivery["attempts"], delivery["reason"]) == ("pending", 1, "HTTP 500")
    for expected in ("pending", "delivered"):
        hurry(org, database)
        run(org)
        (delivery,) = deliveries(org, made)
        assert delivery["state"] == expected
    attempts = org.admin.all("/v1/webhook_attempts", delivery_id=delivery["id"])
    assert sorted(str(attempt["status"]) for attempt in attempts) == ["200", "429", "500"]
    assert len({message.headers["webhook-id"] for message in receiver.messages}) == 1
    bodies = {message.body for message in receiver.messages}
    assert len(bodies) == 1


def test_ten_attempts_and_no_more(org, receiver, database):
    receiver.status = 503
    made = endpoint(org, receiver, event_types=["account.*"])
    org.admin.make("accounts", name="Acme")
    for _ in range(12):
        run(org)
        hurry(org, database, "closed_until = NULL")
    (delivery,) = deliveries(org, made)
    assert (delivery["state"], delivery["attempts"]) == ("failed", 10)
    assert len(receiver.messages) == 10
    receiver.status = 200
    again = org.admin.post(f"/v1/webhook_endpoints/{made['id']}/resend", json={"delivery_id": delivery["id"]})
    assert again.status_code == 201
    run(org)
    found = org.admin.get(f"/v1/webhook_deliveries/{again.json()['id']}").json()
    assert (found["state"], found["kind"]) == ("delivered", "resend")


def test_a_broken_receiver_is_left_alone_and_probed(org, receiver, database, follow):
    watcher = follow(org.admin)
    receiver.status = 500
    made = endpoint(org, receiver, event_types=["account.*"])
    for n in range(BREAKS_AT + 5):
        org.admin.make("accounts", name=f"Acme {n}")
    run(org)
    tried = len(receiver.messages)
    assert tried == BREAKS_AT + 5
    assert "webhook_endpoint.broken" in watcher.types()
    stats = org.admin.get(f"/v1/webhook_endpoints/{made['id']}/stats").json()
    assert (stats["pending"], stats["failures_in_a_row"]) == (tried, BREAKS_AT)
    left = datetime.fromisoformat(stats["closed_until"]) - datetime.now(UTC)
    assert timedelta(seconds=20) < left <= timedelta(seconds=30), "however many were on their way"
    hurry(org, database)
    run(org)
    assert len(receiver.messages) == tried, "nothing is sent while it is closed"
    hurry(org, database, "closed_until = now()")
    run(org)
    assert len(receiver.messages) == tried + 1, "one probe"
    stats = org.admin.get(f"/v1/webhook_endpoints/{made['id']}/stats").json()
    left = datetime.fromisoformat(stats["closed_until"]) - datetime.now(UTC)
    assert timedelta(seconds=40) < left <= timedelta(seconds=60)
    assert org.admin.post(f"/v1/webhook_endpoints/{made['id']}/test").status_code == 201
    run(org)
    assert len(receiver.messages) == tried + 2, "somebody asks, and it is probed at once"
    receiver.status = 200
    hurry(org, database, "closed_until = now()")
    run(org)
    assert {delivery["state"] for delivery in deliveries(org, made)} == {"delivered"}
    assert "webhook_endpoint.recovered" in watcher.types()
    assert org.admin.get(f"/v1/webhook_endpoints/{made['id']}/stats").json()["failures_in_a_row"] == 0


async def _long_ago(database, made):
    connection = await asyncpg.connect(database["admin"])
    try:
        await connection.execute(
            "UPDATE webhook_endpoints SET updated_at = now() - interval '25 hours' WHERE id = $1", made["id"]
        )
    finally:
        await connection.close()


def test_gone_disables_and_five_days_of_failure_pause(org, receiver, database):
    receiver.status = 410
    made = endpoint(org, receiver, event_types=["account.*"])
    path = f"/v1/webhook_endpoints/{made['id']}"
    org.admin.make("accounts", name="Acme")
    run(org)
    assert org.admin.get(path).json()["status"] == "disabled"
    receiver.status = 500
    assert org.admin.post(f"{path}/resume").json()["status"] == "active"
    hurry(org, database, "failing_since = now() - interval '121 hours'")
    run(org)
    assert org.admin.get(path).json()["status"] == "paused"
    assert org.server.run(resume_failed(org.server.kernel)) == 0
    hurry(org, database, "failing_since = now() - interval '121 hours'")
    org.server.run(_long_ago(database, made))
    assert org.server.run(resume_failed(org.server.kernel)) >= 1
    assert org.admin.get(path).json()["status"] == "active"
    run(org)
    assert org.admin.get(path).json()["status"] == "paused", "it fails still"
    receiver.status = 200
    org.admin.make("accounts", name="Meanwhile")
    run(org)
    assert len(receiver.messages) == 3, "it is paused"
    org.admin.post(f"{path}/resume")
    hurry(org, database)
    run(org)
    assert {delivery["state"] for delivery in deliveries(org, made)} == {"delivered"}


def test_a_dead_receiver_delays_nobody(org, receiver, database):
    with Receiver(seconds=5) as slow:
        endpoint(org, slow, event_types=["account.*"])
        endpoint(org, receiver, event_types=["account.*"])
        for n in range(40):
            org.admin.make("accounts", name=f"Acme {n}")
        org.server.run(send_for(org.server, 4))
        assert len(receiver.messages) == 40
        assert max(message.at for message in receiver.messages) < min(message.at for message in slow.messages)


def test_the_events_of_a_record_come_in_order_where_asked(org, receiver, database):
    made = endpoint(org, receiver, event_types=["account.*"], ordering="per_object")
    accounts = [org.admin.make("accounts", name=f"Acme {n}") for n in range(3)]
    for n in range(6):
        for account in accounts:
            assert org.admin.patch(f"/v1/accounts/{account['id']}", json={"description": f"{n}"}).status_code == 200
    receiver.answers.extend([500, 200, 500])
    for _ in range(5):
        run(org)
        hurry(org, database, "closed_until = NULL")
    assert {delivery["state"] for delivery in deliveries(org, made)} == {"delivered"}
    for account in accounts:
        versions = [e["object"]["version"] for e in receiver.events if e["object"]["id"] == account["id"]]
        assert list(dict.fromkeys(versions)) == sorted(set(versions)) == list(range(1, 8))


@pytest.mark.broad  # it takes three seconds
def test_no_second_has_more_than_the_throttle(org, receiver):
    """Wherever it begins: one event that comes by itself leaves no room for a burst after it."""
    endpoint(org, receiver, event_types=["account.created"], throttle=5)
    org.admin.make("accounts", name="First")
    run(org)
    for n in range(11):
        org.admin.make("accounts", name=f"Acme {n}")
    org.server.run(send_for(org.server, 3))
    times = [message.at for message in receiver.messages]
    assert len(times) == 12
    for first, sixth in zip(times, times[5:], strict=False):
        assert sixth - first > 0.9


def test_a_test_event_reaches_the_receiver(org, receiver):
    made = endpoint(org, receiver, event_types=["contact.deleted"])
    queued = org.admin.post(f"/v1/webhook_endpoints/{made['id']}/test")
    assert queued.status_code == 201
    run(org)
    (event,) = receiver.events
    assert (event["type"], event["object"]["id"]) == ("webhook.test", made["id"])
    assert org.admin.get(f"/v1/webhook_deliveries/{queued.json()['id']}").json()["state"] == "delivered"


def test_two_workers_send_each_event_once(org, receiver):
    endpoint(org, receiver, event_types=["account.*"])
    for n in range(60):
        org.admin.make("accounts", name=f"Acme {n}")

    async def both() -> None:
        await asyncio.gather(*(work(org.server) for _ in range(4)))

    org.server.run(both(), 60)
    ids = [message.headers["webhook-id"] for message in receiver.messages]
    assert len(ids) == len(set(ids)) == 60


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest",
        "https://[64:ff9b::a00:1]/x",
        "https://10.0.0.1/x",
        "ftp://example.com",
        "https://user:secret@example.com/",
        "https://0xa.1/",
        "nonsense",
        "https://example.com:22/",
    ],
)
def test_addresses_that_nothing_is_sent_to_are_refused(org, url):
    body = {"url": url, "principal_id": org.admin.id}
    found = problem(org.admin.post("/v1/webhook_endpoints", json=body), 422)
    assert found["errors"][0]["pointer"] == "/url"


@pytest.mark.parametrize(
    ("values", "pointer"),
    [
        ({"event_types": ["account.exploded"]}, "/event_types/0"),
        ({"event_types": []}, "/event_types"),
        ({"event_types": ["*"], "filter": {"and": []}}, "/filter"),
        ({"event_types": ["account.*"], "filter": {"field": "nonsense", "op": "eq", "value": "1"}}, "/filter"),
        ({"throttle": 0}, "/throttle"),
        ({"payload": "huge"}, "/payload"),
        ({"status": "paused"}, "/status"),
        ({"principal_id": "00000000-0000-7000-8000-000000000000"}, "/principal_id"),
    ],
)
def test_wrong_endpoints_are_refused(org, receiver, values, pointer):
    body = {"url": receiver.url, "principal_id": org.admin.id, **values}
    found = problem(org.admin.post("/v1/webhook_endpoints", json=body), 422)
    assert found["errors"][0]["pointer"].startswith(pointer)


def test_other_tenants_endpoints_are_not_there(org, receiver):
    other = Org.create(org.server)
    made = endpoint(other, receiver)
    path = f"/v1/webhook_endpoints/{made['id']}"
    for method, suffix in (("GET", ""), ("POST", "/test"), ("POST", "/secret/rotate"), ("GET", "/stats")):
        problem(org.admin.request(method, path + suffix), 404)
    org.admin.make("accounts", name="Ours")
    run(org)
    assert {event["tenant_id"] for event in receiver.events} == {str(other.tenant_id)}


def test_the_public_key_verifies_what_was_sent(org, receiver):
    endpoint(org, receiver)
    org.admin.make("accounts", name="Acme")
    run(org)
    message = receiver.messages[-1]
    (key,) = httpx2.get(f"{org.server.base_url}/.well-known/webhooks-jwks.json").json()["keys"]
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))
    signed = f"{message.headers['webhook-id']}.{message.headers['webhook-timestamp']}.".encode() + message.body
    version, _, signature = message.headers["webhook-signature"].partition(",")
    assert version == "v1a", "an endpoint without a secret of its own"
    public.verify(base64.b64decode(signature), signed)
    with pytest.raises(InvalidSignature):
        public.verify(base64.b64decode(signature), signed + b" ")


def test_a_replay_sends_a_time_again(org, receiver):
    made = endpoint(org, receiver, event_types=["account.*"])
    path = f"/v1/webhook_endpoints/{made['id']}/replay"
    accounts = [org.admin.make("accounts", name=f"Acme {n}") for n in range(5)]
    org.admin.make("contacts", last_name="Not asked for by types")
    run(org)
    time_ = {"since": accounts[0]["created_at"], "until": "2090-01-01T00:00:00Z"}
    job = org.admin.post(path, json={**time_, "event_types": ["account.created"]})
    assert job.status_code == 202
    assert job.headers["location"] == f"/v1/jobs/{job.json()['id']}"
    with working(org.server):
        assert wait(org.admin, job.json(), "succeeded")["result"] == {"queued": 5}
    run(org)
    ids = [message.headers["webhook-id"] for message in receiver.messages]
    assert len(ids) == 10
    assert sorted(ids[:5]) == sorted(ids[5:])
    org.admin.make("sources", name="ERP", code="erp")
    link = {"source": "erp", "external_id": "4711"}
    assert org.admin.post(f"/v1/accounts/{accounts[2]['id']}/link", json=link).status_code == 200
    for object_id in (accounts[2]["id"], "ext:erp:4711"):
        one = org.admin.post(path, json={**time_, "object_id": object_id, "event_types": ["*.created"]})
        with working(org.server):
            assert wait(org.admin, one.json(), "succeeded")["result"] == {"queued": 1}
    for given, number in (({}, 5), ({"object_id": "ext:erp:nobody"}, 0)):  # nothing of types it does not ask for
        job = org.admin.post(path, json={**time_, **given})
        with working(org.server):
            assert wait(org.admin, job.json(), "succeeded")["result"] == {"queued": number}
    failed = org.admin.post(path, json={**time_, "only_failed": True})
    with working(org.server):
        assert wait(org.admin, failed.json(), "succeeded")["result"] == {"queued": 0}
    problem(org.admin.post(path, json={"since": time_["until"], "until": time_["since"]}), 422)
    problem(org.admin.post(path, json={**time_, "event_types": ["nothing.*"]}), 422)


def test_a_replay_by_an_external_id_is_of_one_object(org, receiver):
    made = endpoint(org, receiver, event_types=["account.*", "contact.*"])
    body = {"since": made["created_at"], "until": "2090-01-01T00:00:00Z", "object_id": "ext:erp:1"}
    found = problem(org.admin.post(f"/v1/webhook_endpoints/{made['id']}/replay", json=body), 422)
    assert (found["errors"][0]["pointer"], found["errors"][0]["code"]) == ("/object_id", "ambiguous_reference")
    body["event_types"] = ["contact.created"]
    assert org.admin.post(f"/v1/webhook_endpoints/{made['id']}/replay", json=body).status_code == 202


def test_a_replay_leaves_own_changes_out_as_well(org, receiver):
    robot = org.person("robot", "Administrator")
    made = endpoint(org, receiver, robot.id, exclude_own=True, event_types=["account.created"])
    mine = robot.make("accounts", name="Mine")
    org.admin.make("accounts", name="Theirs")
    body = {"since": mine["created_at"], "until": "2090-01-01T00:00:00Z"}
    run(org)
    job = org.admin.post(f"/v1/webhook_endpoints/{made['id']}/replay", json=body).json()
    with working(org.server):
        wait(org.admin, job, "succeeded")
    run(org)
    assert [event["data"]["name"] for event in receiver.events] == ["Theirs", "Theirs"]


def test_a_new_endpoint_hears_nothing_of_before(org, receiver):
    with Receiver() as earlier:
        endpoint(org, earlier, event_types=["account.created"])
        org.admin.make("accounts", name="Before")
        endpoint(org, receiver, event_types=["account.created"])
        org.admin.make("accounts", name="After")
        run(org)
        assert [event["data"]["name"] for event in receiver.events] == ["After"]
        assert sorted(event["data"]["name"] for event in earlier.events) == ["After", "Before"]


def test_an_event_that_cannot_be_told_holds_up_no_other(org, receiver, database):
    """Should the feed ever hold one: it is found among the others, and waits no more."""
    made = endpoint(org, receiver, event_types=["account.created"])
    accounts = [org.admin.make("accounts", name=f"Acme {n}") for n in range(4)]

    async def spoil() -> None:
        connection = await asyncpg.connect(database["admin"])
        await connection.execute(
            "UPDATE outbox SET data = '[]' WHERE tenant_id = $1 AND object_id = $2", org.tenant_id, accounts[1]["id"]
        )
        await connection.close()

    asyncio.run(spoil())
    run(org)
    assert sorted(event["data"]["name"] for event in receiver.events) == ["Acme 0", "Acme 2", "Acme 3"]
    assert sorted(item["state"] for item in deliveries(org, made)) == ["delivered"] * 3 + ["suppressed"]
