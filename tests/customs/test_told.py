"""Where fields are named, custom ones are named as `custom.` and their key."""

import pytest

from tests.support.asking import code
from tests.support.org import Org
from tests.support.receiver import Receiver
from tests.support.webhooks import work


@pytest.fixture(scope="module")
def org(server):
    org = Org.create(server)
    for key in ("grade", "secret"):
        org.admin.make("custom_fields", resource="accounts", key=key, kind="text", label=key)
    org.admin.make("custom_fields", resource="accounts", key="k" * 63, kind="text", label="long")
    return org


@pytest.fixture(scope="module")
def blind(org):
    rules = [
        {"resource": "accounts", "field": name, "rule": rule}
        for name, rule in (("custom.secret", "hidden"), (f"custom.{'k' * 63}", "hidden"), ("custom.grade", "read_only"))
    ]
    return org.person("blind", org.role("blind", ("accounts:*", "all"), field_rules=rules))


def test_a_stale_write_learns_which_custom_fields_changed(org, blind):
    made = org.admin.make("accounts", name="A", custom={"grade": "1", "secret": "1"})
    url = f"/v1/accounts/{made['id']}"
    for body in (
        {"custom": {"grade": "2"}},
        {"custom": {"grade": None, "secret": "2"}, "tier": "B"},
        {"custom": {"grade": "3"}},
    ):
        assert org.admin.patch(url, json=body).status_code == 200

    def changed(person, version):
        answer = person.patch(url, json={"name": "x"}, headers={"If-Match": f'"{version}"'})
        assert code(answer) == (412, "version_mismatch")
        return answer.json()["changed"]

    assert changed(org.admin, 1) == ["custom.grade", "custom.secret", "tier"]
    assert changed(blind, 1) == ["custom.grade", "tier"]
    assert changed(org.admin, 3) == ["custom.grade"]


def test_the_caller_learns_of_rules_about_custom_fields(blind):
    me = blind.get("/v1/me").json()
    assert me["hidden_fields"]["accounts"] == [f"custom.{'k' * 63}", "custom.secret"]
    assert set(me["read_only_fields"]["accounts"]) == {"custom.grade", "custom.secret", f"custom.{'k' * 63}"}


def test_a_webhook_is_filtered_by_a_custom_field(org, blind):
    with Receiver() as receiver:

        def endpoint(person, key):
            tree = {"field": f"custom.{key}", "value": "A"}
            values = {"principal_id": person.id, "event_types": ["account.*"], "filter": tree}
            return org.admin.post("/v1/webhook_endpoints", json={"url": receiver.url, **values})

        assert endpoint(org.admin, "grade").status_code == 201
        assert code(endpoint(org.admin, "nothing"))[0] == 422
        gold = org.admin.make("accounts", name="Gold", custom={"grade": "A", "secret": "hush"})
        org.admin.make("accounts", name="Lead", custom={"grade": "B"})
        org.admin.make("accounts", name="None")
        org.server.run(work(org.server))
        assert [event["data"]["name"] for event in receiver.events] == ["Gold"]
        url = f"/v1/accounts/{gold['id']}"
        for grade in ("B", "C", "A"):
            org.admin.patch(url, json={"custom": {"grade": grade}})
            org.server.run(work(org.server))
        told = [(event["object"]["version"], event["data"]["custom"]["grade"]) for event in receiver.events]
        assert told == [(1, "A"), (2, "B"), (4, "A")], "the change by which it leaves the filter is told"
        assert receiver.events[1]["previous"] == {"custom": {"grade": "A"}}


def test_a_webhook_is_not_filtered_by_what_its_principal_does_not_see(org, blind):
    with Receiver() as receiver:
        tree = {"field": "custom.secret", "value": "A"}
        values = {"principal_id": blind.id, "event_types": ["account.*"], "filter": tree}
        org.admin.post("/v1/webhook_endpoints", json={"url": receiver.url, **values})
        open_ = {"principal_id": blind.id, "event_types": ["account.created"]}
        org.admin.make("webhook_endpoints", url=receiver.url, **open_)
        org.admin.make("accounts", name="Hush", custom={"secret": "A"})
        org.server.run(work(org.server))
        assert [event["data"]["name"] for event in receiver.events] == ["Hush"], "by the open one alone"
        assert receiver.events[0]["data"]["custom"] == {}
