"""An ERP mirrors accounts, contacts and orders in both directions, through outages and the loss of its state."""

import time
import uuid
from datetime import UTC, datetime

import httpx2
import pytest
from examples.erp_receiver.app import MOST_BYTES
from examples.erp_receiver.mirror import Mirror
from examples.erp_receiver.signature import verified

from crm_api.domains.integrations.signing import new_secret, sign
from crm_api.kernel import feed
from tests.support.erp import Erp, until, worker
from tests.support.org import Org
from tests.support.problems import problem

pytestmark = pytest.mark.broad  # its server takes ten seconds


@pytest.fixture
def crm(org: Org):
    """The tenant, with a worker."""
    with worker(org.server):
        yield org


@pytest.fixture
def hire(crm: Org, tmp_path):
    """`hire(principal)` starts a receiver that sees what the principal sees."""
    running: list[Erp] = []

    def start(principal, **endpoint) -> Erp:
        folder = tmp_path / str(len(running))
        folder.mkdir()
        running.append(Erp(crm, principal, folder, **endpoint))
        running[-1].start()
        return running[-1]

    yield start
    for erp in running:
        erp.stop()


@pytest.fixture
def robot(crm: Org):
    """A principal that reads and changes everything in both collections."""
    names = ("accounts", "contacts", "account_contacts", "orders")
    return crm.person("robot", crm.role("ERP", *((f"{name}:*", "all") for name in names)))


def busy(org: Org, number: int = 5) -> None:
    """Creates, updates, deletions, restorations, transfers and verbs."""
    accounts = [org.rep.make("accounts", name=f"Account {i}", credit_limit=f"{i}.50") for i in range(number)]
    contacts = [org.rep.make("contacts", last_name=f"Contact {i}", account_id=accounts[0]["id"]) for i in range(number)]
    first, second, third = (f"/v1/accounts/{account['id']}" for account in accounts[:3])
    for i in range(4):
        assert org.rep.patch(first, json={"tier": str(i)}).is_success
    assert org.rep.post(f"{first}/activate").is_success
    assert org.rep.delete(second).is_success
    assert org.admin.post(f"{second}/restore").is_success
    assert org.rep.delete(third).is_success
    assert org.admin.patch(first, json={"owner_id": org.outsider.id}).is_success
    person = f"/v1/contacts/{contacts[0]['id']}"
    assert org.admin.patch(person, json={"account_id": accounts[3]["id"], "emails": []}).is_success
    assert org.admin.delete(f"/v1/contacts/{contacts[1]['id']}").is_success
    assert org.admin.delete(f"/v1/contacts/{contacts[2]['id']}").is_success
    assert org.admin.post(f"/v1/contacts/{contacts[2]['id']}/restore").is_success
    org.rep.make("account_contacts", account_id=accounts[4]["id"], contact_id=contacts[3]["id"])
    line = {"description": "Tea", "unit_price": "5.00"}
    orders = [org.rep.make("orders", account_id=accounts[4]["id"], currency="EUR", lines=[line]) for _ in range(3)]
    assert org.rep.post(f"/v1/orders/{orders[0]['id']}/confirm").is_success
    assert org.rep.patch(f"/v1/orders/{orders[1]['id']}", json={"lines": [line, line]}).is_success
    assert org.rep.delete(f"/v1/orders/{orders[2]['id']}").is_success


def test_the_mirror_is_what_the_api_shows(crm, hire, robot):
    busy(crm)
    erp = hire(robot)
    assert erp.differences() == [], "it begins with the lists"
    busy(crm)
    erp.equal()
    assert len(erp.shown()["accounts"]) == 8
    until(lambda: {item["state"] for item in erp.deliveries()} == {"delivered"})


def test_it_catches_up_after_an_outage(crm, hire, robot, monkeypatch, sql):
    """What was sent meanwhile comes again much later; the feed has it at once."""
    monkeypatch.setattr("crm_api.domains.integrations.outcome.SCHEDULE", (600,))
    erp = hire(robot)
    busy(crm)
    erp.equal()
    erp.stop()
    busy(crm)
    crm.admin.patch(f"/v1/accounts/{next(iter(erp.shown()['accounts']))}", json={"name": "Changed meanwhile"})
    until(lambda: any(item["attempts"] for item in erp.deliveries(state="pending")))
    until(lambda: not sql("SELECT 1 FROM outbox WHERE tenant_id = $1", crm.tenant_id))  # the feed has all of it
    erp.start()
    assert erp.differences() == []
    assert erp.deliveries(state="pending"), "not by webhooks"


def test_webhooks_alone_bring_what_an_outage_held_back(crm, hire, robot, monkeypatch):
    monkeypatch.setattr("crm_api.domains.integrations.outcome.SCHEDULE", (0.3,) * 9)
    erp = hire(robot)
    erp.stop()
    account = crm.rep.make("accounts", name="Acme")
    until(lambda: any(item["attempts"] for item in erp.deliveries(state="pending")))
    erp.start()
    erp.equal()
    until(lambda: not erp.deliveries(state="pending"))
    assert account["id"] in erp.mirrored()["accounts"]


def test_it_begins_again_when_it_has_lost_its_state(crm, hire, robot):
    erp = hire(robot)
    busy(crm)
    erp.equal()
    erp.stop()
    erp.lose_state()
    busy(crm)
    erp.start(follow_seconds=0.5)  # so many failures close the endpoint for half a minute
    assert erp.differences() == []
    busy(crm)
    erp.equal()


def test_it_begins_again_when_the_feed_does(crm, hire, robot):
    """409: a cursor ahead of the feed, as after a restoration. Records may have gone, and versions may be lower."""
    erp = hire(robot)
    busy(crm)
    erp.equal()
    erp.stop()
    ctx = crm.context()
    place = crm.server.run(feed.head(ctx))
    ahead = feed.cursor(ctx, place.epoch, place.seq + 1000)
    problem(robot.get("/v1/changes", params={"since": ahead}), 409, code="feed_restarted")
    row = next(iter(erp.shown()["accounts"].values()))
    mirror = Mirror(str(erp.file))
    mirror.begin_at(ahead)
    mirror.read("account", [{"id": str(uuid.uuid4()), "version": 1, "name": "Of before the restoration"}])
    mirror.read("account", [{**row, "version": row["version"] + 100, "name": "Of before the restoration"}])
    mirror.close()
    busy(crm)
    erp.start()
    assert erp.differences() == []


def test_records_come_and_go_with_the_rights_of_the_receiver(crm, hire):
    erp = hire(crm.outsider)
    account = crm.rep.make("accounts", name="Moving")
    contacts = [crm.rep.make("contacts", last_name=f"Person {i}", account_id=account["id"]) for i in range(3)]
    linked = crm.rep.make("contacts", last_name="Linked")
    link = crm.rep.make("account_contacts", account_id=account["id"], contact_id=linked["id"])
    own = crm.admin.make("contacts", last_name="Own", owner_id=crm.outsider.id)
    path = f"/v1/accounts/{account['id']}"
    erp.equal()
    assert account["id"] not in erp.shown()["accounts"]

    crm.admin.patch(path, json={"owner_id": crm.outsider.id})
    until(lambda: account["id"] in erp.mirrored()["accounts"])
    erp.equal()
    assert {*(item["id"] for item in contacts), linked["id"]} <= erp.mirrored()["contacts"].keys(), "gained with it"

    crm.admin.delete(f"/v1/account_contacts/{link['id']}")
    until(lambda: linked["id"] not in erp.mirrored()["contacts"])
    crm.admin.post(f"/v1/account_contacts/{link['id']}/restore")
    until(lambda: linked["id"] in erp.mirrored()["contacts"])
    crm.admin.patch(f"/v1/contacts/{contacts[1]['id']}", json={"owner_id": crm.outsider.id})

    crm.admin.patch(path, json={"owner_id": crm.rep.id})
    until(lambda: account["id"] not in erp.mirrored()["accounts"])
    erp.equal()
    assert erp.mirrored()["contacts"].keys() == {contacts[1]["id"], own["id"]}, "forgotten, but for what is its own"

    grantee = {"grantee_type": "user", "grantee_id": crm.outsider.id}
    share = crm.rep.post(f"{path}/share", json=grantee).json()
    until(lambda: account["id"] in erp.mirrored()["accounts"])
    erp.equal()
    crm.rep.post(f"{path}/unshare", json={"share_id": share["id"]})
    until(lambda: account["id"] not in erp.mirrored()["accounts"])
    erp.equal()


def test_a_deleted_account_takes_what_was_seen_through_it(crm, hire):
    erp = hire(crm.outsider)
    account = crm.admin.make("accounts", name="Deleted", owner_id=crm.outsider.id)
    contact = crm.rep.make("contacts", last_name="Seen through it")
    crm.admin.patch(f"/v1/contacts/{contact['id']}", json={"account_id": account["id"]})
    until(lambda: contact["id"] in erp.mirrored()["contacts"])
    erp.equal()
    crm.admin.delete(f"/v1/accounts/{account['id']}")
    until(lambda: account["id"] not in erp.mirrored()["accounts"])
    erp.equal()
    crm.admin.post(f"/v1/accounts/{account['id']}/restore")
    until(lambda: account["id"] in erp.mirrored()["accounts"])
    erp.equal()


def test_other_rights_make_it_compare_everything(crm, hire):
    clerk = crm.person("clerk", crm.role("Own", ("accounts:read", "own"), ("contacts:read", "own")))
    erp = hire(clerk)
    busy(crm)
    erp.equal()
    assert not erp.mirrored()["accounts"]
    all_ = crm.role("All", ("accounts:read", "all"), ("contacts:read", "all"), ("account_contacts:read", "all"))
    held = crm.admin.make("role_assignments", principal_id=clerk.id, role_id=all_)
    until(lambda: len(erp.mirrored()["accounts"]) == 4)
    erp.equal()
    crm.admin.delete(f"/v1/role_assignments/{held['id']}")
    until(lambda: not any(erp.mirrored().values()))


def test_a_place_in_an_accounts_team_opens_and_closes_it(crm, hire):
    erp = hire(crm.outsider)
    account = crm.rep.make("accounts", name="Shared work")
    crm.rep.make("contacts", last_name="Person", account_id=account["id"])
    place = crm.admin.make("account_team_members", account_id=account["id"], principal_id=crm.outsider.id)
    until(lambda: account["id"] in erp.mirrored()["accounts"])
    erp.equal()
    crm.admin.delete(f"/v1/account_team_members/{place['id']}")
    until(lambda: account["id"] not in erp.mirrored()["accounts"])
    erp.equal()
    assert not erp.mirrored()["contacts"]


def test_it_writes_back_and_does_not_hear_itself(crm, hire, robot):
    erp = hire(robot)
    account = crm.rep.make("accounts", name="Acme")
    erp.equal()
    path = f"{erp.base_url}/accounts/{account['id']}"
    assert httpx2.put(f"{path}/terms", json={"payment_terms": "30 days"}).status_code == 202
    until(lambda: httpx2.get(path).json()["payment_terms"] == "30 days")
    erp.equal()
    assert crm.rep.get(f"/v1/accounts/{account['id']}").json()["payment_terms"] == "30 days"
    crm.rep.patch(f"/v1/accounts/{account['id']}", json={"tier": "A"})
    erp.equal()
    until(lambda: not erp.deliveries(state="pending"))
    delivered = sorted(item["event_type"] for item in erp.deliveries(object_id=account["id"]))
    assert delivered == ["account.created", "account.updated"]
    assert httpx2.put(f"{path}x/terms", json={"payment_terms": "30 days"}).status_code == 404


def test_a_write_is_kept_until_it_is_answered_and_made_once(crm, hire, robot):
    erp = hire(robot)
    account = crm.rep.make("accounts", name="Acme")
    gone = crm.rep.make("accounts", name="Gone")
    erp.equal()
    erp.stop()
    key = str(uuid.uuid4())
    headers = {"Idempotency-Key": key}
    body = {"payment_terms": "60 days"}
    done = robot.patch(f"/v1/accounts/{account['id']}", json=body, headers=headers)
    assert done.status_code == 200, "made, but the ERP died before it read the answer"
    crm.rep.delete(f"/v1/accounts/{gone['id']}")
    mirror = Mirror(str(erp.file))
    mirror.intend(key, "account", account["id"], body)
    mirror.intend("late", "account", gone["id"], body)
    mirror.intend("never", "account", account["id"], {"nonsense": 1})
    mirror.intend("verb", "account", account["id"], {}, "activate")
    mirror.close()
    erp.start()
    until(lambda: erp.state()["writes"] == 0)
    erp.equal()
    found = robot.get(f"/v1/accounts/{account['id']}").json()
    assert (found["version"], found["status"]) == (3, "active")
    assert list(erp.state()["refused"]) == ["late", "never"]


def test_without_an_order_and_twice_it_comes_to_the_same(crm, hire, robot, monkeypatch):
    """Events that arrive in any order and again: the version decides."""
    erp = hire(robot, ordering="none", exclude_own=False)
    account = crm.rep.make("accounts", name="Acme")
    for i in range(20):
        crm.rep.patch(f"/v1/accounts/{account['id']}", json={"tier": str(i)})
    crm.rep.delete(f"/v1/accounts/{account['id']}")
    until(lambda: not erp.deliveries(state="pending"))
    erp.equal()
    assert len(erp.deliveries(object_id=account["id"])) == 22
    for item in erp.deliveries(object_id=account["id"]):
        path = f"/v1/webhook_endpoints/{erp.endpoint['id']}/resend"
        assert crm.admin.post(path, json={"delivery_id": item["id"]}).status_code == 201
    until(lambda: len(erp.deliveries(object_id=account["id"], state="delivered")) == 44)
    assert erp.differences() == []
    assert not erp.mirrored()["accounts"]


def test_a_thin_endpoint_serves_it_too(crm, hire, robot):
    erp = hire(robot, payload="thin")
    busy(crm)
    erp.equal()


def test_what_is_not_signed_now_by_the_crm_is_refused(crm, hire, robot):
    erp = hire(robot)
    url = f"{erp.base_url}/crm-events"
    assert httpx2.post(url, content=b"{}").status_code == 401
    headers = {"webhook-id": "evt_1", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1,AAAA"}
    assert httpx2.post(url, content=b"{}", headers=headers).status_code == 401
    assert httpx2.post(url, content=b"x" * (MOST_BYTES + 1), headers=headers).status_code == 413
    assert erp.differences() == []


def test_signatures_are_verified_as_the_page_says():
    secrets, body, now = [new_secret(), new_secret()], b'{"id":"evt_1"}', datetime.now(UTC)
    headers = sign(None, secrets[:1], "evt_1", now, body)
    at = now.timestamp()
    assert verified(secrets, headers, body, at)
    assert verified(reversed(secrets), headers, body, at + 299)
    assert not verified(secrets[1:], headers, body, at)
    assert not verified(secrets, headers, body + b" ", at)
    assert not verified(secrets, headers, body, at + 302)
    assert not verified(secrets, headers, body, at - 302)
    assert not verified(secrets, headers | {"webhook-id": "evt_2"}, body, at)
    for name in headers:
        assert not verified(secrets, {key: value for key, value in headers.items() if key != name}, body, at)
    for wrong in ("", "v1", "v1,", "v1,\xff", "v2,abc"):
        assert not verified(secrets, headers | {"webhook-signature": wrong}, body, at)
    for wrong in ("", "soon", "\u0663", "9" * 400, "-1", "1e9"):
        assert not verified(secrets, headers | {"webhook-timestamp": wrong}, body, at)
