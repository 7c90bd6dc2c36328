"""The contract and the descriptions of objects with the tenant's own fields in them."""

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from tests.customs.kinds import EXAMPLES
from tests.support.org import Org


@pytest.fixture(scope="module")
def org(server):
    org = Org.create(server)
    for example in EXAMPLES:
        org.admin.make(
            "custom_fields",
            resource="contacts",
            key=f"my_{example.kind}",
            kind=example.kind,
            label=example.kind.title(),
            labels={"es": "Campo"},
            is_required=example.kind == "text",
            **example.definition,
        )
    return org


@pytest.fixture(scope="module")
def contract(org):
    answer = org.admin.get("/v1/meta/openapi.json")
    assert answer.status_code == 200, answer.text
    return answer.json()


def checker(contract, schema):
    whole = {"$ref": f"#/components/schemas/{schema}", "components": contract["components"]}
    return Draft202012Validator(whole)


def told(schema):
    """A schema without what its `expand`, filters and groups take, into which the fields and their references come."""
    listing = ("expand", "field", "group_by")
    properties = {name: part for name, part in schema.get("properties", {}).items() if name not in listing}
    return {**schema, "properties": properties}


@pytest.mark.broad  # it takes ten seconds, most of them to check the document
def test_the_contract_is_valid_and_differs_only_by_the_fields(contract, org, server):
    validate(contract)
    plain = org.admin.get("/openapi.json").json()
    other = Org.create(server).admin.get("/v1/meta/openapi.json").json()
    assert other == plain
    changed = {
        name
        for name, schema in contract["components"]["schemas"].items()
        if told(schema) != told(plain["components"]["schemas"][name])
    }
    assert changed == {"Contact", "SparseContact", "ContactCreate", "ContactUpdate"}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda item: item.kind)
def test_the_contract_takes_what_the_server_takes(contract, org, example):
    create, record = checker(contract, "ContactCreate"), checker(contract, "Contact")
    values = example.values or (org.admin.make("accounts", name="Target")["id"],)
    for value in values:
        custom = {"my_text": "x", f"my_{example.kind}": value}
        body = {"last_name": "x", "custom": custom}
        assert create.is_valid(body), [error.message for error in create.iter_errors(body)]
        made = org.admin.make("contacts", **body)
        assert record.is_valid(made), [error.message for error in record.iter_errors(made)]
    wrong_type = {"last_name": "x", "custom": {"my_text": "x", f"my_{example.kind}": {"a": 1}}}
    assert not create.is_valid(wrong_type)
    assert not create.is_valid({"last_name": "x", "custom": {"my_text": "x", "unknown": 1}})
    assert not create.is_valid({"last_name": "x", "custom": {}})


def test_lists_tell_the_parameters(contract, org):
    names = {item.get("name") for item in contract["paths"]["/v1/contacts"]["get"]["parameters"]}
    assert {"custom.my_number", "custom.my_number_gte", "custom.my_text_contains", "custom.my_date_is_null"} <= names
    assert "custom.my_long_text" not in names
    for name in sorted(name for name in names if name and name.startswith("custom.")):
        assert org.admin.get("/v1/contacts", params={name: "x"}).status_code in (200, 422)
        assert "unknown_parameter" not in org.admin.get("/v1/contacts", params={name: "x"}).text


def test_a_contract_that_is_known_is_not_sent_again(org):
    answer = org.admin.get("/v1/meta/openapi.json")
    again = org.admin.get("/v1/meta/openapi.json", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    assert answer.headers["cache-control"].startswith("private")


def test_what_is_hidden_is_not_in_the_contract_nor_in_the_description(org):
    rules = [
        {"resource": "contacts", "field": "custom.my_money", "rule": "hidden"},
        {"resource": "contacts", "field": "custom.my_number", "rule": "read_only"},
        {"resource": "contacts", "field": "title", "rule": "hidden"},
    ]
    blind = org.person("blind", org.role("blind", ("contacts:*", "all"), field_rules=rules))
    assert "my_money" not in blind.get("/v1/meta/openapi.json").text
    described = blind.get("/v1/meta/objects/contact").json()
    fields = {field["name"]: field for field in described["fields"]}
    assert "custom.my_money" not in fields
    assert fields["custom.my_number"]["is_read_only"]
    assert fields["title"]["is_hidden"]
    assert fields["title"]["operators"] == []


def test_an_object_is_described(org):
    described = org.admin.get("/v1/meta/objects/contact").json()
    assert (described["type"], described["collection"], described["takes_custom_fields"]) == (
        "contact",
        "contacts",
        True,
    )
    fields = {field["name"]: field for field in described["fields"]}
    choice = fields["custom.my_choice"]
    assert choice["label"] == "Choice"
    assert choice["labels"] == {"es": "Campo"}
    assert [item["value"] for item in choice["choices"]] == ["bronze", "gold", "silver"]
    assert fields["custom.my_reference"]["reference"] == "account"
    assert fields["custom.my_text"]["is_required"]
    assert fields["account_id"]["reference"] == "account"
    assert fields["last_name"]["is_required"]
    assert fields["created_at"]["is_read_only"]
    account = org.admin.get("/v1/meta/objects/account").json()
    assert account["state_field"] == "status"
    assert {"name": "contacts", "type": "contact", "is_list": True} in account["relations"]
    verbs = {item["verb"]: item for item in account["transitions"]}
    assert verbs["activate"]["targets"] == ["active"]


@pytest.mark.parametrize("type_", ["contact", "account"])
def test_parts_of_words_are_told_where_a_filter_takes_them(org, type_):
    described = org.admin.get(f"/v1/meta/objects/{type_}").json()
    for field in described["fields"]:
        tree = {"field": field["name"], "op": "contains", "value": "gol"}
        answer = org.admin.post(f"/v1/{described['collection']}/search", json={"filter": tree})
        taken = answer.status_code == 200
        assert ("contains" in field["operators"], "starts_with" in field["operators"]) == (taken, taken), field


def test_only_objects_that_the_caller_reads_are_told(org):
    narrow = org.person("narrow", org.role("narrow", ("contacts:read", "own")))
    types = {item["type"] for item in narrow.get("/v1/meta/objects").json()["data"]}
    assert "contact" in types
    assert "account" not in types
    assert narrow.get("/v1/meta/objects/account").status_code == 404
    assert org.admin.get("/v1/meta/objects/nothing").status_code == 404


def test_every_object_can_be_described(org):
    for item in org.admin.get("/v1/meta/objects").json()["data"]:
        answer = org.admin.get(f"/v1/meta/objects/{item['type']}")
        assert answer.status_code == 200, (item, answer.text)
        assert answer.json()["fields"]
