"""Feed and webhooks tell by the rights of now: what was granted or taken a moment ago holds, whatever is remembered."""

import pytest

from tests.integrations.test_webhooks import deliveries, endpoint, run
from tests.support.org import Org, Person
from tests.support.receiver import Receiver


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def clerk(org: Org) -> Person:
    return org.person("clerk", org.role("Contacts", ("contacts:read", "all")))


def grant(org: Org, clerk: Person) -> str:
    """Lets the clerk read accounts; gives the path of the assignment."""
    role = org.role("Accounts", ("accounts:read", "all"))
    return f"/v1/role_assignments/{org.admin.make('role_assignments', principal_id=clerk.id, role_id=role)['id']}"


def test_the_feed_tells_what_was_opened_a_moment_ago(org, clerk, follow):
    mine = follow(clerk)
    org.rep.make("accounts", name="Before")
    assert mine.types() == []
    held = grant(org, clerk)
    org.rep.make("accounts", name="After")
    assert mine.types() == ["access.changed", "account.created"]
    org.admin.delete(held)
    org.rep.make("accounts", name="Not any more")
    assert mine.types() == ["access.changed"]


def test_webhooks_bring_what_was_opened_a_moment_ago(org, clerk, receiver):
    made = endpoint(org, receiver, clerk.id, event_types=["account.*"])
    org.rep.make("accounts", name="Before")
    run(org)
    assert receiver.types == []
    held = grant(org, clerk)
    org.rep.make("accounts", name="After")
    run(org)
    assert receiver.types == ["account.created"]
    org.admin.delete(held)
    org.rep.make("accounts", name="Not any more")
    run(org)
    assert receiver.types == ["account.created"]
    assert sorted(item["state"] for item in deliveries(org, made)) == ["delivered", "suppressed", "suppressed"]


@pytest.mark.parametrize("how", ["deleted", "inactive"])
def test_nothing_waits_for_a_principal_who_is_gone(org, clerk, receiver, how):
    grant(org, clerk)
    made = endpoint(org, receiver, clerk.id, event_types=["account.*"])
    org.rep.make("accounts", name="Before")
    run(org)
    path = f"/v1/users/{clerk.id}"
    answer = org.admin.delete(path) if how == "deleted" else org.admin.patch(path, json={"is_active": False})
    assert answer.is_success
    org.rep.make("accounts", name="After")
    assert org.admin.post(f"/v1/webhook_endpoints/{made['id']}/test").status_code == 201
    run(org)
    found = {item["event_type"]: item["state"] for item in deliveries(org, made, state="suppressed")}
    assert found == {"account.created": "suppressed", "webhook.test": "suppressed"}
    assert receiver.types == ["account.created"]
    assert deliveries(org, made, state="pending") == []


def test_a_place_in_the_team_of_an_account_is_told_to_who_gets_and_loses_it(org, follow):
    """Who is out of the team sees neither the account nor the place, so no event of a record could tell it."""
    outsider, colleague = follow(org.outsider), follow(org.colleague)
    account = org.rep.make("accounts", name="Shared work")
    place = org.admin.make("account_team_members", account_id=account["id"], principal_id=org.outsider.id)
    path = f"/v1/account_team_members/{place['id']}"
    assert "access.changed" in outsider.types()
    assert org.admin.delete(path).is_success
    assert outsider.types() == ["access.changed"]
    assert org.admin.post(f"{path}/restore").is_success
    assert "access.changed" in outsider.types()
    assert "access.changed" not in colleague.types()
    assert org.admin.patch(path, json={"principal_id": org.colleague.id}).is_success
    assert outsider.types() == ["access.changed"]
    assert "access.changed" in colleague.types()
