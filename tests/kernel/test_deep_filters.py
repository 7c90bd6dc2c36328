"""Filters over two references and over children, groups over one: all under the policies of what they go through."""

import pytest

from tests.support.org import Org


@pytest.fixture(scope="module")
def org(server):
    return Org.create(server)


@pytest.fixture(scope="module")
def tree(org):
    """Holding > branch > shop, each with a contact; the branch has two, and the rep sees the branch's side alone."""
    holding = org.admin.make("accounts", name="Holding", industry="mining")["id"]
    branch = org.rep.make("accounts", name="Branch", industry="retail")["id"]
    assert org.admin.patch(f"/v1/accounts/{branch}", json={"parent_id": holding}).status_code == 200
    shop = org.rep.make("accounts", name="Shop", parent_id=branch, industry="retail")["id"]
    found = {"holding": holding, "branch": branch, "shop": shop}
    for name, id_ in list(found.items()):
        person = org.admin if name == "holding" else org.rep
        found[f"{name}_contact"] = person.make("contacts", last_name=name, account_id=id_)["id"]
    found["second"] = org.rep.make("contacts", last_name="second", title="Dr", account_id=branch)["id"]
    return found


def search(person, collection, node, status=200):
    answer = person.post(f"/v1/{collection}/search", json={"filter": node})
    assert answer.status_code == status, answer.text
    return {row["id"] for row in answer.json()["data"]} if status == 200 else answer.json()["errors"][0]["code"]


def test_two_references_deep(org, tree):
    node = {"field": "account.parent.industry", "value": "mining"}
    assert search(org.admin, "contacts", node) == {tree["branch_contact"], tree["second"]}
    assert search(org.rep, "contacts", node) == set(), "the holding is hidden from the rep"
    node = {"field": "account.parent.name", "value": "Branch"}
    assert search(org.rep, "contacts", node) == {tree["shop_contact"]}
    node = {"field": "account.parent.parent.industry", "value": "mining"}
    assert search(org.admin, "contacts", node, 422) == "too_deep"


def test_children_any_all_none(org, tree):
    ours = {"field": "id", "op": "in", "value": [tree["holding"], tree["branch"], tree["shop"]]}

    def asked(person, op, child):
        return search(person, "accounts", {"and": [ours, {"field": "contacts", "op": op, "value": child}]})

    doctor = {"field": "title", "value": "Dr"}
    assert asked(org.admin, "any", doctor) == {tree["branch"]}
    assert asked(org.admin, "none", doctor) == {tree["holding"], tree["shop"]}
    assert asked(org.admin, "all", {"field": "title", "op": "is_null", "value": True}) == {
        tree["holding"],
        tree["shop"],
    }
    mining = {"field": "contacts", "op": "any", "value": {"field": "last_name", "value": "holding"}}
    assert search(org.admin, "accounts", {"and": [ours, mining]}) == {tree["holding"]}
    below = {"field": "children", "op": "any", "value": {"field": "contacts", "op": "any", "value": doctor}}
    assert search(org.admin, "accounts", {"and": [ours, below]}) == {tree["holding"]}
    hop = {"field": "parent.contacts", "op": "any", "value": doctor}
    assert search(org.rep, "accounts", {"and": [ours, hop]}) == {tree["shop"]}
    both = {"or": [{"field": "children", "op": "any", "value": doctor_of("Shop")}, {"field": "name", "value": "Shop"}]}
    assert search(org.admin, "accounts", {"and": [ours, both]}) == {tree["branch"], tree["shop"]}


def doctor_of(name):
    return {"field": "name", "value": name}


def test_hidden_children_and_fields_tell_nothing(org, tree):
    rules = [{"resource": "contacts", "field": "title", "rule": "hidden"}]
    role = org.role("no titles", ("accounts:read", "all"), ("contacts:read", "all"), field_rules=rules)
    blind = org.person("blind", role)
    node = {"field": "contacts", "op": "any", "value": {"field": "title", "value": "Dr"}}
    answer = blind.post("/v1/accounts/search", json={"filter": node})
    assert answer.status_code == 403
    alone = org.person("alone", org.role("no contacts", ("accounts:read", "all")))
    node = {"field": "contacts", "op": "any", "value": {"field": "last_name", "value": "holding"}}
    assert search(alone, "accounts", node) == set()
    node = {"field": "contacts", "op": "none", "value": {"field": "last_name", "value": "holding"}}
    assert tree["holding"] in search(alone, "accounts", node), "what is hidden is as if it were not there"


def test_what_is_not_a_filter(org):
    doctor = {"field": "title", "value": "Dr"}
    assert search(org.admin, "accounts", {"field": "nothing", "op": "any", "value": doctor}, 422) == "unknown_field"
    assert search(org.admin, "contacts", {"field": "contacts", "op": "any", "value": doctor}, 422) == "unknown_field"
    assert search(org.admin, "accounts", {"field": "contacts", "op": "eq", "value": doctor}, 422) == "unknown_field"
    assert search(org.admin, "accounts", {"field": "contacts", "op": "any", "value": {}}, 422) == "invalid_filter"
    node = doctor
    for _ in range(5):
        node = {"field": "children", "op": "any", "value": node}
    assert search(org.admin, "accounts", node, 422) == "too_deep"
    wide = {"or": [{"field": "children", "op": "any", "value": {"field": "name", "value": "x"}} for _ in range(11)]}
    assert search(org.admin, "accounts", wide, 422) == "too_complex"


def groups(person, collection, path, **more):
    body = {"group_by": [path], "measures": [{"op": "count"}], **more}
    answer = person.post(f"/v1/{collection}/aggregate", json=body)
    assert answer.status_code == 200, answer.text
    return {row["group"][path]: row["measures"][0] for row in answer.json()["data"]}


def test_groups_over_one_reference(org, tree):
    ours = {"field": "id", "op": "in", "value": [tree[f"{name}_contact"] for name in ("holding", "branch", "shop")]}
    assert groups(org.admin, "contacts", "account.industry", filter=ours) == {"mining": 1, "retail": 2}
    seen = org.person("contacts_only", org.role("contacts", ("contacts:read", "all"), ("accounts:read", "own")))
    assert groups(seen, "contacts", "account.industry", filter=ours) == {None: 3}, "hidden accounts are of no group"
    body = {"group_by": ["account.parent.industry"], "measures": [{"op": "count"}]}
    assert org.admin.post("/v1/contacts/aggregate", json=body).status_code == 422
    body = {"group_by": [], "measures": [{"op": "max", "field": "account.employees"}]}
    assert org.admin.post("/v1/contacts/aggregate", json=body).status_code == 200


def test_custom_fields_at_the_end_of_a_path(org, tree):
    org.admin.make("custom_fields", resource="accounts", key="grade", kind="number", label="Grade")
    org.admin.patch(f"/v1/accounts/{tree['holding']}", json={"custom": {"grade": 5}})
    org.admin.patch(f"/v1/accounts/{tree['branch']}", json={"custom": {"grade": 3}})
    node = {"field": "account.parent.custom.grade", "op": "gte", "value": 4}
    assert search(org.admin, "contacts", node) == {tree["branch_contact"], tree["second"]}
    node = {"field": "children", "op": "any", "value": {"field": "custom.grade", "value": 3}}
    assert search(org.admin, "accounts", node) == {tree["holding"]}
    found = groups(org.admin, "contacts", "account.custom.grade", filter={"field": "last_name", "value": "second"})
    assert found == {3: 1}
