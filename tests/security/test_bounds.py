"""Limits of a credential and of a role that must not be shed by a detour."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.org import Person


def bounds() -> tuple[dict[str, Any], ...]:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    return {"expires_at": soon}, {"allowed_networks": ["127.0.0.0/8"]}


def test_a_bounded_key_issues_no_further_key(org):
    for bound in bounds():
        user = org.admin.make("users", name="Bound", email=f"bound{len(bound)}{next(iter(bound))}@example.com")
        org.admin.make("role_assignments", principal_id=user["id"], role_id=org.roles["Administrator"])
        issued = org.admin.post(f"/v1/users/{user['id']}/issue_key", json={"name": "first", **bound})
        assert issued.status_code == 201, issued.text
        bounded = Person(org.server, user["id"], issued.json()["key"])
        answer = bounded.post(f"/v1/users/{user['id']}/issue_key", json={"name": "second"})
        assert answer.status_code == 403, answer.text
        assert len(org.admin.all("/v1/api_keys", principal_id=user["id"])) == 1


def test_a_bounded_key_sets_nothing_that_is_sent_elsewhere_after_its_end(org):
    """An endpoint goes on sending, to wherever it is. What sends nothing new, such a key may do."""
    body = {"url": "https://example.com/x", "principal_id": org.admin.id, "event_types": ["account.*"]}
    made = org.admin.make("webhook_endpoints", **body)
    gone = org.admin.make("webhook_endpoints", **body)
    path = f"/v1/webhook_endpoints/{made['id']}"
    org.admin.delete(f"/v1/webhook_endpoints/{gone['id']}")
    org.admin.make("sources", name="ERP", code="erp")
    tree = {"field": "tier", "op": "eq", "value": "A"}
    for bound in bounds():
        issued = org.admin.post(f"/v1/users/{org.admin.id}/issue_key", json={"name": "bound", **bound}).json()
        bounded = Person(org.server, org.admin.id, issued["key"])
        refused = [
            bounded.post("/v1/webhook_endpoints", json=body),
            bounded.post("/v1/webhook_endpoints", json=body, params={"dry_run": "true"}),
            bounded.put("/v1/webhook_endpoints/ext:erp:1", json=body),
            bounded.post(f"/v1/webhook_endpoints/{gone['id']}/restore"),
            bounded.post("/v1/batch", json={"operations": [{"operation": "create_webhook_endpoint", "body": body}]}),
        ]
        changes = {"url": "https://example.com/y", "event_types": ["*"], "filter": tree, "principal_id": org.rep.id}
        refused += [bounded.patch(path, json={name: value}) for name, value in changes.items()]
        for answer in refused:
            assert answer.status_code == 403, answer.text
            assert answer.json()["permission"] == "credential without end and networks"
        assert bounded.patch(path, json={"description": "A note"}).status_code == 200
        assert bounded.post(f"{path}/pause").status_code == 200
        assert bounded.post(f"{path}/resume").status_code == 200
        assert org.admin.post(f"/v1/api_keys/{issued['id']}/revoke").status_code == 200
    assert org.admin.get(path).json()["url"] == body["url"]
    assert len(org.admin.all("/v1/webhook_endpoints")) == 1


def test_a_read_only_field_with_a_default_does_not_stop_creation(org):
    rule = {"resource": "contacts", "field": "do_not_contact", "rule": "read_only"}
    role = org.role("Careful", ("contacts:*", "own"), field_rules=[rule])
    person = org.person("careful", role)
    assert person.make("contacts", last_name="Default")["do_not_contact"] is False
    refused = person.post("/v1/contacts", json={"last_name": "Set", "do_not_contact": True})
    assert (refused.status_code, refused.json()["code"]) == (403, "field_read_only")


def test_what_is_derived_from_a_hidden_field_is_hidden_with_it(org):
    address = {"city": "Würzburg", "country": "DE", "region": "Bayern", "postal_code": "97070"}
    made = org.admin.make("accounts", name="Derived", website="https://derived.example", addresses=[address])
    rules = [{"resource": "accounts", "field": name, "rule": "hidden"} for name in ("website", "addresses")]
    person = org.person("blinkered", org.role("Blinkered", ("accounts:read", "all"), field_rules=rules))
    seen = person.get(f"/v1/accounts/{made['id']}").json()
    hidden = {"addresses", "city", "country", "domain", "postal_code", "region", "website"}
    assert set(seen["redacted"]) == hidden
    assert all(seen[name] is None for name in hidden)
    for params in ({"city": "Würzburg"}, {"domain": "derived.example"}):
        assert person.get("/v1/accounts", params=params).status_code == 403
    assert person.get("/v1/accounts", params={"q": "derived.example"}).json()["data"] == []
