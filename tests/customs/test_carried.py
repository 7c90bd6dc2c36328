"""Custom fields of every kind through merges, conversions and copies."""

import pytest

from tests.customs.kinds import EXAMPLES
from tests.support.org import Org

KINDS = [pytest.param(example, id=example.kind) for example in EXAMPLES]
UNIQUE = ("text", "number", "decimal", "url", "email", "phone")
TEA = {"description": "Tea", "unit_price": "5.00", "tax_percent": "19"}


@pytest.fixture(scope="module")
def org(server):
    org = Org.create(server)
    for resource in ("accounts", "leads", "contacts", "quotes", "orders"):
        for example in EXAMPLES:
            definition = {"kind": example.kind, "label": example.kind, **example.definition}
            own = {"is_unique": resource == "accounts" and example.kind in UNIQUE}
            org.admin.make("custom_fields", resource=resource, key=f"my_{example.kind}", **definition, **own)
    return org


@pytest.fixture(scope="module")
def target(org):
    return org.admin.make("accounts", name="The target")["id"]


def value_of(example, target):
    return example.values[0] if example.values else target


def act(person, url, status=200, **body):
    answer = person.post(url, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.mark.parametrize("example", KINDS)
def test_a_merge_fills_what_is_empty_and_is_taken_back(org, target, example):
    key, value = f"my_{example.kind}", value_of(example, target)
    mine = org.admin.make("accounts", name=f"One {key}", custom={"my_choice": "gold"} if key != "my_choice" else {})
    other = org.admin.make("accounts", name=f"Two {key}", custom={key: value, "my_multi_choice": ["gold"]})
    url = f"/v1/accounts/{mine['id']}"
    told = act(org.admin, f"{url}/merge", other_id=other["id"])
    assert {"field": f"custom.{key}", "taken": "other"} in told["fields"]
    assert told["survivor"]["custom"] == {**other["custom"], **mine["custom"]}
    changed = {"my_boolean": True} if key != "my_boolean" else {"my_money": "1.00"}
    org.admin.patch(url, json={"custom": changed})
    back = act(org.admin, f"{url}/unmerge", other_id=other["id"])
    assert back["kept"] == []
    assert org.admin.get(url).json()["custom"] == {**mine["custom"], **changed}
    assert org.admin.get(f"/v1/accounts/{other['id']}").json()["custom"] == other["custom"]
    for made in (mine, other):
        assert org.admin.delete(f"/v1/accounts/{made['id']}").status_code == 204


def test_a_merge_takes_what_is_chosen(org):
    mine = org.admin.make("accounts", name="One", custom={"my_choice": "gold", "my_multi_choice": ["gold"]})
    other = org.admin.make("accounts", name="Two", custom={"my_choice": "silver", "my_multi_choice": ["silver"]})
    choices = {"custom.my_choice": "other", "custom.my_multi_choice": "both"}
    url = f"/v1/accounts/{mine['id']}"
    for wrong in ({"custom.nothing": "other"}, {"custom": "other"}, {"custom.my_choice": "both"}):
        act(org.admin, f"{url}/merge", 422, other_id=other["id"], fields=wrong)
    told = act(org.admin, f"{url}/merge", other_id=other["id"], fields=choices)
    assert told["survivor"]["custom"] == {"my_choice": "silver", "my_multi_choice": ["gold", "silver"]}
    org.admin.patch(url, json={"custom": {"my_choice": "bronze"}})
    back = act(org.admin, f"{url}/unmerge", other_id=other["id"])
    assert [item["field"] for item in back["kept"]] == ["custom.my_choice"]
    assert org.admin.get(url).json()["custom"] == {"my_choice": "bronze", "my_multi_choice": ["gold"]}


def test_a_merge_speaks_of_no_hidden_field_and_fills_none_that_is_only_read(org):
    rights = [("accounts:*", "all")]
    pair = [org.admin.make("accounts", name=f"Pair {n}", custom={"my_choice": "gold"} if n else {}) for n in (0, 1)]
    url = f"/v1/accounts/{pair[0]['id']}/merge"
    for rule in ("read_only", "hidden"):
        rules = [{"resource": "accounts", "field": "custom.my_choice", "rule": rule}]
        person = org.person(f"merging_{rule}", org.role(f"merging {rule}", *rights, field_rules=rules))
        act(person, url, 403, other_id=pair[1]["id"], fields={"custom.my_choice": "other"})
        if rule == "read_only":
            act(person, url, 403, other_id=pair[1]["id"])
        else:
            told = act(person, url, other_id=pair[1]["id"])
            assert told["fields"] == []
            assert told["survivor"]["custom"] == {}
    assert org.admin.get(f"/v1/accounts/{pair[0]['id']}").json()["custom"] == {"my_choice": "gold"}


@pytest.mark.parametrize("example", KINDS)
def test_a_conversion_carries_fields_of_the_same_key_and_kind(org, target, example):
    key, value = f"my_{example.kind}", value_of(example, target)
    lead = org.admin.make("leads", last_name=f"Zuse {key}", company=f"Zuse {key} KG", custom={key: value})
    for verb in ("work", "qualify", "convert"):
        done = act(
            org.admin, f"/v1/leads/{lead['id']}/{verb}", **({"allow_duplicate": True} if verb == "convert" else {})
        )
    contact = org.admin.get(f"/v1/contacts/{done['converted_contact_id']}").json()
    account = org.admin.get(f"/v1/accounts/{done['converted_account_id']}").json()
    assert contact["custom"] == {key: value}
    assert account["custom"] == ({} if example.kind in UNIQUE else {key: value})


@pytest.mark.parametrize("example", KINDS)
def test_copies_and_orders_of_a_quote_carry_them_and_nothing_hidden(org, target, example):
    key, value = f"my_{example.kind}", value_of(example, target)
    quote = org.admin.make("quotes", account_id=target, currency="EUR", lines=[TEA], custom={key: value})
    url = f"/v1/quotes/{quote['id']}"
    assert act(org.admin, f"{url}/copy", 201)["custom"] == {key: value}
    rules = [{"resource": "quotes", "field": f"custom.{key}", "rule": "hidden"}]
    role = org.role(f"blind {key}", ("quotes:*", "all"), ("accounts:read", "all"), field_rules=rules)
    copy = act(org.person(f"blind_{key}", role), f"{url}/copy", 201)
    assert org.admin.get(f"/v1/quotes/{copy['id']}").json()["custom"] == {}
    act(org.admin, f"{url}/send")
    revised = act(org.admin, f"{url}/revise")
    assert org.admin.get(f"/v1/quotes/{revised['superseded_by_id']}").json()["custom"] == {key: value}
    newest = f"/v1/quotes/{revised['superseded_by_id']}"
    act(org.admin, f"{newest}/send")
    act(org.admin, f"{newest}/accept")
    order = act(org.admin, f"{newest}/convert")["order_id"]
    assert org.admin.get(f"/v1/orders/{order}").json()["custom"] == {key: value}


def test_what_is_required_does_not_stop_a_conversion_or_a_copy(server):
    org = Org.create(server)
    account = org.admin.make("accounts", name="Kaufmann")
    quote = org.admin.make("quotes", account_id=account["id"], currency="EUR", lines=[TEA])
    lead = org.admin.make("leads", last_name="Zuse", company="Zuse KG")
    for resource in ("accounts", "contacts", "quotes"):
        org.admin.make("custom_fields", resource=resource, key="must", kind="text", label="Must", is_required=True)
    assert act(org.admin, f"/v1/quotes/{quote['id']}/copy", 201)["custom"] == {}
    for verb in ("work", "qualify", "convert"):
        act(org.admin, f"/v1/leads/{lead['id']}/{verb}")
