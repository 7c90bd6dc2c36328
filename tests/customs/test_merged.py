"""Custom references follow what they lead to when it is merged, and go back when the merge is taken back."""

import pytest

from tests.support.org import Org


@pytest.fixture(scope="module")
def org(server):
    org = Org.create(server)
    for resource, key in (("contacts", "partner"), ("accounts", "broker"), ("accounts", "gone")):
        declare(org, resource, key)
    declare(org, "contacts", "loose", is_filterable=False)
    return org


def declare(org, resource, key, **values):
    body = {"resource": resource, "key": key, "kind": "reference", "label": key, "target": "accounts", **values}
    return org.admin.make("custom_fields", **body)


@pytest.fixture
def pair(org):
    return [org.admin.make("accounts", name=name)["id"] for name in ("Survivor", "Other")]


def custom(org, path):
    return org.admin.get(f"/v1/{path}").json()["custom"]


def merge(org, survivor, other, person=None):
    answer = (person or org.admin).post(f"/v1/accounts/{survivor}/merge", json={"other_id": other})
    assert answer.status_code == 200, answer.text
    return answer.json()


def unmerge(org, survivor, other):
    answer = org.admin.post(f"/v1/accounts/{survivor}/unmerge", json={"other_id": other})
    assert answer.status_code == 200, answer.text
    return answer.json()


def moved(result):
    return {(item["resource"], item["field"]): item["count"] for item in result["moved"]}


@pytest.mark.parametrize("built", [True, False], ids=["indexed", "building"])
def test_references_follow_and_go_back(org, pair, sql, built):
    survivor, other = pair
    contacts = [org.admin.make("contacts", last_name="X", custom={"partner": other})["id"] for _ in range(2)]
    account = org.admin.make("accounts", name="Y", custom={"broker": other})["id"]
    apart = org.admin.make("contacts", last_name="Z", custom={"partner": account})["id"]
    if not built:
        state(org, sql, "building")
    try:
        result = merge(org, survivor, other)
    finally:
        state(org, sql, "ready")
    assert moved(result) == {("contacts", "custom.partner"): 2, ("accounts", "custom.broker"): 1}
    for contact in contacts:
        assert custom(org, f"contacts/{contact}") == {"partner": survivor}
    assert custom(org, f"accounts/{account}") == {"broker": survivor}
    assert custom(org, f"contacts/{apart}") == {"partner": account}
    found = org.admin.all("/v1/contacts", **{"custom.partner": survivor})
    assert {row["id"] for row in found} == set(contacts)
    (entry,) = [item for item in org.admin.all("/v1/audit_log", object_id=contacts[0]) if item["action"] == "merge"]
    assert (entry["before"]["custom"], entry["after"]["custom"]) == ({"partner": other}, {"partner": survivor})
    org.admin.patch(f"/v1/contacts/{contacts[1]}", json={"custom": {"partner": account}})
    kept = unmerge(org, survivor, other)["kept"]
    assert kept == [{"resource": "contacts", "id": contacts[1], "field": "custom.partner", "reason": "changed"}]
    assert custom(org, f"contacts/{contacts[0]}") == {"partner": other}
    assert custom(org, f"contacts/{contacts[1]}") == {"partner": account}
    assert custom(org, f"accounts/{account}") == {"broker": other}


def state(org, sql, index_state):
    sql("UPDATE custom_fields SET index_state = $1 WHERE tenant_id = $2 AND is_filterable", index_state, org.tenant_id)
    sql("UPDATE tenants SET access_version = access_version + 1 WHERE tenant_id = $1", org.tenant_id)


def test_what_is_not_followed_stays(org, pair):
    survivor, other = pair
    field = org.admin.all("/v1/custom_fields", key="gone")[0]
    loose = org.admin.make("contacts", last_name="X", custom={"loose": other})["id"]
    retired = org.admin.make("accounts", name="Y", custom={"gone": other})["id"]
    org.admin.patch(f"/v1/accounts/{other}", json={"custom": {"broker": other}})
    assert org.admin.post(f"/v1/custom_fields/{field['id']}/retire").status_code == 200
    try:
        assert moved(merge(org, survivor, other)) == {}
        assert custom(org, f"contacts/{loose}") == {"loose": other}
        assert custom(org, f"accounts/{retired}") == {"gone": other}
        unmerge(org, survivor, other)
        assert custom(org, f"accounts/{other}") == {"broker": other}
        assert custom(org, f"accounts/{survivor}") == {}
    finally:
        org.admin.post(f"/v1/custom_fields/{field['id']}/reinstate")


def test_the_way_back_passes_a_field_that_was_retired_since(org, pair):
    survivor, other = pair
    field = org.admin.all("/v1/custom_fields", key="gone")[0]
    account = org.admin.make("accounts", name="Y", custom={"gone": other})["id"]
    assert moved(merge(org, survivor, other)) == {("accounts", "custom.gone"): 1}
    org.admin.post(f"/v1/custom_fields/{field['id']}/retire")
    kept = unmerge(org, survivor, other)["kept"]
    assert kept == [{"resource": "accounts", "id": account, "field": "custom.gone", "reason": "changed"}]
    assert custom(org, f"accounts/{account}") == {"gone": survivor}
    org.admin.post(f"/v1/custom_fields/{field['id']}/reinstate")


def test_who_does_not_see_the_field_moves_it_without_a_word(org, pair):
    survivor, other = pair
    contact = org.admin.make("contacts", last_name="X", custom={"partner": other})["id"]
    rules = [{"resource": "contacts", "field": "custom.partner", "rule": "hidden"}]
    blind = org.person("blind", org.role("blind", ("*:*", "all"), field_rules=rules))
    assert moved(merge(org, survivor, other, blind)) == {}
    assert custom(org, f"contacts/{contact}") == {"partner": survivor}


def test_more_than_a_merge_moves_is_refused(org, pair, monkeypatch):
    from crm_api.domains.duplicates import children

    survivor, other = pair
    for _ in range(3):
        org.admin.make("contacts", last_name="X", custom={"partner": other})
    monkeypatch.setattr(children, "MOST", 2)
    answer = org.admin.post(f"/v1/accounts/{survivor}/merge", json={"other_id": other})
    assert (answer.status_code, answer.json()["code"]) == (409, "limit_reached")
    assert org.admin.get(f"/v1/accounts/{other}").status_code == 200
