"""Laws of custom fields, asked of every kind: what holds of a declared field holds of them."""

import pytest

from tests.customs.kinds import BY_KIND, EXAMPLES
from tests.support.org import Org

KINDS = [pytest.param(example, id=example.kind) for example in EXAMPLES]
FILTERED = [pytest.param(example, id=example.kind) for example in EXAMPLES if example.kind != "long_text"]
SORTED = [
    pytest.param(example, id=example.kind)
    for example in EXAMPLES
    if example.kind not in ("long_text", "multi_choice", "reference")
]


@pytest.fixture(scope="module")
def org(server):
    return Org.create(server)


@pytest.fixture(scope="module")
def targets(org):
    """Accounts to refer to, in the order of their ids."""
    return [org.admin.make("accounts", name=f"Target {i}")["id"] for i in range(3)]


@pytest.fixture(scope="module")
def fields(org, targets):
    """One field of each kind on contacts, and a record for each value of it and one without."""
    found = {}
    for example in EXAMPLES:
        key = f"my_{example.kind}"
        org.admin.make(
            "custom_fields", resource="contacts", key=key, kind=example.kind, label=key, **example.definition
        )
        values = example.values or tuple(targets)
        rows = [org.admin.make("contacts", last_name=key, custom={key: value})["id"] for value in values]
        found[example.kind] = (key, values, rows, org.admin.make("contacts", last_name=key)["id"])
    return found


def search(person, node, **more):
    answer = person.post("/v1/contacts/search", json={"filter": node, "limit": 200, **more})
    assert answer.status_code == 200, answer.text
    return [row["id"] for row in answer.json()["data"]]


def mine(key, node):
    return {"and": [{"field": "last_name", "value": key}, node]}


@pytest.mark.parametrize("example", KINDS)
def test_values_are_taken_and_sent_back_in_one_form(org, fields, targets, example):
    key, values, rows, empty = fields[example.kind]
    for id_, value in zip(rows, values, strict=True):
        assert org.admin.get(f"/v1/contacts/{id_}").json()["custom"] == {key: value}
    assert org.admin.get(f"/v1/contacts/{empty}").json()["custom"] == {}
    for other in example.given or ((targets[0].upper(),) if example.kind == "reference" else ()):
        made = org.admin.make("contacts", last_name="x", custom={key: other})
        assert made["custom"] == {key: values[0]}
        assert org.admin.delete(f"/v1/contacts/{made['id']}").status_code == 204


@pytest.mark.parametrize("example", KINDS)
def test_a_patch_merges_and_null_clears(org, fields, example):
    key, values, *_ = fields[example.kind]
    made = org.admin.make("contacts", last_name="x", custom={key: values[0], "my_number": 7})
    url = f"/v1/contacts/{made['id']}"
    if key != "my_number":
        changed = org.admin.patch(url, json={"custom": {key: values[-1]}}).json()
        assert changed["custom"] == {key: values[-1], "my_number": 7}
        same = org.admin.patch(url, json={"custom": {key: values[-1]}}).json()
        assert same["version"] == changed["version"]
        assert org.admin.patch(url, json={"custom": {}}).json()["version"] == changed["version"]
    cleared = org.admin.patch(url, json={"custom": {key: None}}).json()
    assert key not in cleared["custom"]
    assert org.admin.delete(url).status_code == 204


@pytest.mark.parametrize("example", KINDS)
def test_what_the_kind_does_not_take_is_refused_at_its_place(org, fields, example):
    key = fields[example.kind][0]
    for bad in example.bad:
        answer = org.admin.post("/v1/contacts", json={"last_name": "x", "custom": {key: bad}})
        assert answer.status_code == 422, (bad, answer.text)
        assert answer.json()["errors"][0]["pointer"].startswith(f"/custom/{key}"), bad


def comparisons(example, values):
    """(operator, value, which of the records with a value pass; None is the one without)."""
    last = len(values) - 1
    every = set(range(len(values)))
    if example.kind == "multi_choice":
        yield "any", ["bronze"], {0, 1}
        yield "all", ["bronze", "gold"], {1}
        return
    yield "eq", values[0], {0}
    yield "ne", values[0], every - {0} | {None}
    yield "is_null", True, {None}
    yield "is_null", False, every
    if example.kind == "boolean":
        return
    yield "in", [values[0], values[last]], {0, last}
    yield "nin", [values[0], values[last]], every - {0, last} | {None}
    if example.kind == "reference":
        return
    yield "gt", values[0], every - {0}
    yield "gte", values[last], {last}
    yield "lt", values[last], every - {last}
    yield "lte", values[0], {0}
    if example.kind in ("text", "url", "email", "phone"):
        yield "contains", values[0].upper(), {0}
        yield "starts_with", values[0], {0}


@pytest.mark.parametrize("built", [True, False], ids=["indexed", "building"])
@pytest.mark.parametrize("example", FILTERED)
def test_every_operator(org, fields, example, built, sql):
    key, values, rows, empty = fields[example.kind]
    ids = dict(enumerate(rows)) | {None: empty}
    if not built:
        state(org, sql, key, "building")
    try:
        for op, value, passing in comparisons(example, values):
            found = search(org.admin, mine(key, {"field": f"custom.{key}", "op": op, "value": value}))
            assert set(found) == {ids[i] for i in passing}, (op, value)
    finally:
        if not built:
            state(org, sql, key, "ready")


def state(org, sql, key, index_state):
    """Makes a field one whose index is not, or is, built."""
    sql("UPDATE custom_fields SET index_state = $1 WHERE tenant_id = $2 AND key = $3", index_state, org.tenant_id, key)
    sql("UPDATE tenants SET access_version = access_version + 1 WHERE tenant_id = $1", org.tenant_id)


@pytest.mark.parametrize("example", FILTERED)
def test_flat_parameters(org, fields, example):
    key, values, rows, empty = fields[example.kind]
    first = (
        values[0][0]
        if isinstance(values[0], list)
        else str(values[0]).lower()
        if isinstance(values[0], bool)
        else values[0]
    )
    found = org.admin.all("/v1/contacts", **{"last_name": key, f"custom.{key}": first})
    assert {row["id"] for row in found} == ({rows[0], rows[1]} if example.kind == "multi_choice" else {rows[0]})
    if example.kind in ("number", "decimal", "money", "date", "instant"):
        found = org.admin.all("/v1/contacts", **{"last_name": key, f"custom.{key}_gt": values[0]})
        assert {row["id"] for row in found} == set(rows[1:])
    if example.kind != "multi_choice":
        found = org.admin.all("/v1/contacts", **{"last_name": key, f"custom.{key}_is_null": "true"})
        assert [row["id"] for row in found] == [empty]


@pytest.mark.parametrize("example", SORTED)
def test_sorts_are_complete_with_nulls_last(org, fields, example):
    key, values, *_ = fields[example.kind]
    more = [org.admin.make("contacts", last_name=f"sort {key}", custom={key: value})["id"] for value in values * 2]
    more += [org.admin.make("contacts", last_name=f"sort {key}")["id"] for _ in range(2)]
    for sort in (f"custom.{key}", f"-custom.{key}", f"last_name,custom.{key}", f"last_name,-custom.{key}"):
        found = org.admin.all("/v1/contacts", last_name=f"sort {key}", sort=sort, limit=1)
        assert len(found) == len(more), sort
        assert {row["id"] for row in found} == set(more)
        ordered = [row["custom"].get(key) for row in found]
        expected = [value for value in values for _ in range(2)]
        assert ordered == (expected[::-1] if "-" in sort else expected) + [None, None], sort


@pytest.mark.parametrize("example", FILTERED)
def test_groups_and_measures(org, fields, example):
    key, values, *_ = fields[example.kind]
    body = {
        "filter": {"field": "last_name", "value": key},
        "group_by": [f"custom.{key}"],
        "measures": [{"op": "count"}],
    }
    answer = org.admin.post("/v1/contacts/aggregate", json=body)
    if example.kind == "multi_choice":
        assert answer.status_code == 422
        return
    assert answer.status_code == 200, answer.text
    groups = {row["group"][f"custom.{key}"]: row["measures"][0] for row in answer.json()["data"]}
    assert groups == dict.fromkeys(values, 1) | {None: 1}
    if example.kind in ("number", "decimal", "money", "date", "instant"):
        measures = [{"op": "min", "field": f"custom.{key}"}, {"op": "max", "field": f"custom.{key}"}]
        answer = org.admin.post("/v1/contacts/aggregate", json={**body, "group_by": [], "measures": measures})
        assert answer.json()["data"][0]["measures"] == [values[0], values[-1]], answer.text


@pytest.mark.parametrize("example", KINDS)
def test_a_write_of_who_does_not_see_a_field_keeps_its_value(org, fields, example):
    key, values, rows, _ = fields[example.kind]
    rules = [{"resource": "contacts", "field": f"custom.{key}", "rule": "hidden"}]
    role = org.role(f"without {key}", ("contacts:*", "all"), ("accounts:read", "all"), field_rules=rules)
    blind = org.person(f"blind_{example.kind}", role)
    for body in ({"title": f"new {key}"}, {"custom": {"my_number" if key != "my_number" else "my_text": None}}):
        merged = blind.patch(f"/v1/contacts/{rows[0]}", json=body)
        assert (merged.status_code, merged.json()["custom"]) == (200, {}), merged.text
        assert org.admin.get(f"/v1/contacts/{rows[0]}").json()["custom"] == {key: values[0]}


def test_kinds_are_those_of_the_product():
    assert len(BY_KIND) == 14
