"""What the feed and the audit log tell of custom fields, and to whom."""

import pytest

from tests.integrations.conftest import Follower
from tests.support.org import Org


@pytest.fixture(scope="module")
def org(server):
    org = Org.create(server)
    for key in ("open", "secret"):
        org.admin.make("custom_fields", resource="contacts", key=key, kind="text", label=key)
    return org


@pytest.fixture(scope="module")
def blind(org):
    rules = [{"resource": "contacts", "field": "custom.secret", "rule": "hidden"}]
    role = org.role("blind", ("contacts:*", "all"), ("audit_log:read", "all"), field_rules=rules)
    return org.person("blind", role)


@pytest.fixture
def follow(server):
    return lambda person: Follower(server, person)


def test_an_event_tells_the_keys_that_changed_and_no_hidden_ones(org, blind, follow):
    everything, some = follow(org.admin), follow(blind)
    made = org.admin.make("contacts", last_name="x", custom={"open": "a", "secret": "hush"})
    url = f"/v1/contacts/{made['id']}"
    org.admin.patch(url, json={"custom": {"open": "b"}})
    org.admin.patch(url, json={"custom": {"secret": "psst"}})
    full = [item for item in everything.read() if item["type"] == "contact.updated"]
    assert [item["previous"] for item in full] == [{"custom": {"open": "a"}}, {"custom": {"secret": "hush"}}]
    assert full[-1]["data"]["custom"] == {"open": "b", "secret": "psst"}
    told = [item for item in some.read() if item["type"].startswith("contact.")]
    assert "hush" not in str(told)
    assert "psst" not in str(told)
    assert {"custom": {"open": "a"}} in [item["previous"] for item in told]
    assert all(item["changed"] in ([], ["custom"]) for item in told)
    assert told[-1]["data"]["redacted"] == ["custom.secret"]


def test_the_audit_log_leaves_out_hidden_keys(org, blind):
    made = org.admin.make("contacts", last_name="x", custom={"open": "a", "secret": "hush"})
    url = f"/v1/contacts/{made['id']}"
    org.admin.patch(url, json={"custom": {"open": "b", "secret": "psst"}})
    whole = org.admin.all("/v1/audit_log", object_id=made["id"])
    assert any(entry["after"].get("custom") == {"open": "b", "secret": "psst"} for entry in whole)
    told = blind.all("/v1/audit_log", object_id=made["id"])
    assert len(told) == len(whole)
    assert "hush" not in str(told)
    assert "psst" not in str(told)
    assert any(entry["after"].get("custom") == {"open": "b"} for entry in told)
    assert all("custom.secret" in entry["redacted"] for entry in told)


def test_a_replay_under_an_idempotency_key_leaves_out_what_is_hidden_by_now(org):
    role = org.role("some", ("contacts:*", "all"))
    person = org.person("some", role)
    headers = {"Idempotency-Key": "one"}
    body = {"last_name": "x", "custom": {"secret": "hush"}}
    assert person.post("/v1/contacts", json=body, headers=headers).json()["custom"] == {"secret": "hush"}
    rules = [{"resource": "contacts", "field": "custom.secret", "rule": "hidden"}]
    assert org.admin.patch(f"/v1/roles/{role}", json={"field_rules": rules}).status_code == 200
    again = person.post("/v1/contacts", json=body, headers=headers)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["custom"] == {}
