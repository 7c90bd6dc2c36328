"""A source owns custom fields as it owns declared ones: on records that are linked to it, only it writes them."""

import pytest

from tests.integrations.test_sources import PATH, robot, source
from tests.support.asking import code, fault
from tests.support.org import Org
from tests.support.problems import problem


@pytest.fixture
def org(server):
    org = Org.create(server)
    for key in ("grade", "note"):
        org.admin.make("custom_fields", resource="accounts", key=key, kind="text", label=key)
    return org


@pytest.fixture(params=["refuse", "ignore"])
def erp(org, request):
    person = robot(org)
    source(org, account=person, fields=("custom.grade",), on_conflict=request.param)
    person.put(PATH, json={"name": "Kaufmann", "custom": {"grade": "A", "note": "x"}})
    person.mode = request.param
    return person


def test_others_writes_are_refused_or_left_out(org, erp):
    made = org.admin.get(PATH).json()
    done = org.admin.patch(PATH, json={"custom": {"grade": "B", "note": "y"}, "tier": "B"})
    if erp.mode == "refuse":
        assert problem(done, 409, code="field_owned")["source"] == "erp"
        assert fault(done) == [("/custom/grade", "field_owned")]
        assert org.admin.get(PATH).json() == made, "refused means not done"
    else:
        assert (done.status_code, done.headers["ignored-fields"]) == (200, "custom.grade;source=erp")
        assert (done.json()["custom"], done.json()["tier"]) == ({"grade": "A", "note": "y"}, "B")
        alone = org.admin.patch(PATH, json={"custom": {"grade": None}})
        assert (alone.status_code, alone.headers["ignored-fields"]) == (200, "custom.grade;source=erp")
        assert alone.json() == done.json()
        body = {"items": [{"op": "update", "id": "ext:erp:4711", "body": {"custom": {"grade": "C"}}}], "mode": "atomic"}
        told = org.admin.post("/v1/accounts/batch", json=body).json()
        assert told["results"][0]["ignored"] == {"custom.grade": "erp"}
    for taken in ({"note": "z"}, {"grade": "A", "note": "zz"}):
        free = org.admin.patch(PATH, json={"custom": taken})
        assert (free.status_code, free.headers.get("ignored-fields")) == (200, None), free.text
        assert free.json()["custom"] == {"grade": "A", **taken}
    assert erp.patch(PATH, json={"custom": {"grade": "C"}}).json()["custom"]["grade"] == "C"
    cleared = erp.patch(PATH, json={"custom": {"grade": None}})
    assert "grade" not in cleared.json()["custom"]
    filled = org.admin.patch(PATH, json={"custom": {"grade": "D"}})
    assert filled.status_code == (409 if erp.mode == "refuse" else 200)
    assert "grade" not in org.admin.get(PATH).json()["custom"]


def test_records_that_are_not_linked_are_free_and_new_ones_are_the_sources(org, erp):
    free = org.admin.make("accounts", name="Free", custom={"grade": "A"})
    done = org.admin.patch(f"/v1/accounts/{free['id']}", json={"custom": {"grade": "B"}})
    assert done.json()["custom"] == {"grade": "B"}
    other = org.admin.put("/v1/accounts/ext:erp:4712", json={"name": "New", "custom": {"grade": "A"}})
    assert (code(other), fault(other)) == ((409, "field_owned"), [("/custom/grade", "field_owned")])
    made = org.admin.put("/v1/accounts/ext:erp:4712", json={"name": "New", "custom": {"note": "x"}})
    assert made.status_code == 201, made.text


def test_a_merge_does_not_set_what_a_source_owns(org, erp):
    account = org.admin.get(PATH).json()
    other = org.admin.make("accounts", name="Other", custom={"grade": "Z"})
    url, body = f"/v1/accounts/{account['id']}/merge", {"other_id": other["id"], "fields": {"custom.grade": "other"}}
    refused = org.admin.post(url, json=body)
    assert (code(refused), fault(refused)) == ((409, "field_owned"), [("/custom/grade", "field_owned")])
    rules = [{"resource": "accounts", "field": "custom.grade", "rule": "hidden"}]
    blind = org.person("blind", org.role("blind", ("*:*", "all"), field_rules=rules))
    erp.patch(PATH, json={"custom": {"grade": None}})
    merged = blind.post(url, json={"other_id": other["id"]})
    assert merged.status_code == 200, "to refuse it would tell that there is a value"
    assert org.admin.get(PATH).json()["custom"] == {"note": "x"}


def test_an_unknown_custom_field_is_no_rule(org, erp):
    made = org.admin.all("/v1/sources")[0]
    for wrong in ("custom.nothing", "custom.", "grade"):
        fields = [{"resource": "accounts", "field": wrong}]
        refused = org.admin.patch(f"/v1/sources/{made['id']}", json={"owned_fields": fields})
        assert [place for place, _ in fault(refused)] == ["/owned_fields/0/field"], refused.text
