"""References among custom fields are expanded like declared ones: under the rules of what they lead to."""

import pytest
from jsonschema import Draft202012Validator

from tests.support.asking import code
from tests.support.org import Org, Person

REDACTED = "redacted"


@pytest.fixture(scope="module")
def org(server):
    org = Org.create(server)
    for resource, key, target in (
        ("contacts", "partner", "accounts"),
        ("accounts", "broker", "contacts"),
        ("accounts", "agent", "principals"),
    ):
        org.admin.make("custom_fields", resource=resource, key=key, kind="reference", label=key, target=target)
    return org


@pytest.fixture(scope="module")
def known(org):
    """A contact of an account of its own that has a broker, with a partner that belongs to `rep`."""
    broker = org.admin.make("contacts", last_name="Broker", owner_id=org.rep.id)["id"]
    account = org.admin.make("accounts", name="Own", custom={"broker": broker}, owner_id=org.rep.id)["id"]
    partner = org.admin.make("accounts", name="Partner", custom={"agent": org.rep.id}, owner_id=org.rep.id)["id"]
    contact = org.admin.make("contacts", last_name="X", account_id=account, custom={"partner": partner})["id"]
    empty = org.admin.make("contacts", last_name="Empty")["id"]
    return {"broker": broker, "account": account, "partner": partner, "contact": contact, "empty": empty}


def read(person, id_, *paths):
    """The record in each way to read it with expansions, which all give the same."""
    expand = ",".join(paths)
    one = person.get(f"/v1/contacts/{id_}", params={"expand": expand})
    assert one.status_code == 200, one.text
    listed = person.get("/v1/contacts", params={"expand": expand, "id": id_}).json()["data"]
    body = {"filter": {"field": "id", "value": id_}, "expand": list(paths)}
    searched = person.post("/v1/contacts/search", json=body).json()["data"]
    assert listed == searched == [one.json()]
    sparse = person.post("/v1/contacts/search", json={**body, "fields": ["last_name"]}).json()["data"][0]
    first = {path if path.startswith("custom.") else path.split(".")[0] for path in paths}
    for name in {".".join(name.split(".")[:2]) for name in first}:
        assert sparse[name] == one.json()[name]
    return one.json()


def test_the_record_stands_beside_under_the_name_of_the_path(org, known):
    row = read(org.admin, known["contact"], "custom.partner")
    assert row["custom"] == {"partner": known["partner"]}
    assert row["custom.partner"] == org.admin.get(f"/v1/accounts/{known['partner']}").json()
    assert read(org.admin, known["empty"], "custom.partner")["custom.partner"] is None
    assert "custom.partner" not in org.admin.get(f"/v1/contacts/{known['contact']}").json()


def test_two_levels_in_every_order(org, known):
    row = read(
        org.admin, known["contact"], "custom.partner.custom.agent", "custom.partner.owner", "account.custom.broker"
    )
    assert row["custom.partner"]["custom.agent"]["id"] == org.rep.id
    assert row["custom.partner"]["owner"]["id"] == org.rep.id
    assert row["account"]["custom.broker"]["last_name"] == "Broker"
    many = org.admin.get("/v1/contacts", params={"expand": "custom.partner,account", "sort": "last_name"}).json()
    by_id = {row["id"]: row for row in many["data"]}
    assert by_id[known["contact"]]["custom.partner"]["name"] == "Partner"
    assert by_id[known["empty"]]["custom.partner"] is None
    assert [row["last_name"] for row in many["data"]] == sorted(row["last_name"] for row in many["data"])


def test_what_the_caller_may_not_see_is_redacted(org, known):
    rule = [{"resource": "accounts", "field": "industry", "rule": "hidden"}]
    own = org.person("own", org.role("own", ("contacts:read", "all"), ("accounts:read", "own")))
    narrow = org.person(
        "narrow", org.role("narrow", ("contacts:read", "all"), ("accounts:read", "all"), field_rules=rule)
    )
    row = read(own, known["contact"], "custom.partner", "custom.partner.owner")
    assert row["custom.partner"] == {"id": known["partner"], "object": "account", REDACTED: True}
    shown = read(narrow, known["contact"], "custom.partner")["custom.partner"]
    assert (shown["id"], shown["name"], shown[REDACTED]) == (known["partner"], "Partner", ["industry"])


def test_a_deleted_record_is_redacted(org):
    gone = org.admin.make("accounts", name="Gone")["id"]
    contact = org.admin.make("contacts", last_name="Left", custom={"partner": gone})["id"]
    assert org.admin.delete(f"/v1/accounts/{gone}").status_code == 204
    row = read(org.admin, contact, "custom.partner")
    assert row["custom.partner"] == {"id": gone, "object": "account", REDACTED: True}


def test_a_hidden_field_is_not_followed(org, known):
    rule = [{"resource": "contacts", "field": "custom.partner", "rule": "hidden"}]
    blind = org.person("blind", org.role("blind", ("contacts:*", "all"), ("accounts:*", "all"), field_rules=rule))
    body = {"expand": ["custom.partner"]}
    for answer in (
        blind.get(f"/v1/contacts/{known['contact']}", params={"expand": "custom.partner"}),
        blind.get("/v1/contacts", params={"expand": "custom.partner.owner"}),
        blind.post("/v1/contacts/search", json=body),
        blind.get("/v1/accounts", params={"expand": "custom.broker.custom.partner"}),
    ):
        assert code(answer) == (403, "forbidden"), answer.text
    unknown = blind.get("/v1/contacts", params={"expand": "custom.nothing"})
    assert code(unknown) == (422, "invalid")
    assert "custom.partner" not in unknown.text
    related = {item["name"] for item in blind.get("/v1/meta/objects/contact").json()["relations"]}
    assert "custom.partner" not in related
    assert "custom.partner" not in str(blind.get("/v1/meta/openapi.json").json()["components"]["schemas"]["Contact"])


def test_a_key_without_the_scope_follows_nothing(org, known, server):
    issued = org.admin.make(f"users/{org.admin.id}/issue_key", name="narrow", scopes=["contacts:read"])
    key = Person(server, org.admin.id, issued["key"])
    answer = key.get(f"/v1/contacts/{known['contact']}", params={"expand": "custom.partner"})
    assert code(answer) == (403, "forbidden")
    assert key.get(f"/v1/contacts/{known['contact']}").status_code == 200


@pytest.mark.parametrize("path", ["custom", "custom.", "custom.partner.", "custom.partner.owner.manager", ".custom"])
def test_a_path_that_leads_nowhere_is_refused(org, path):
    answer = org.admin.get("/v1/contacts", params={"expand": path})
    assert code(answer) == (422, "invalid"), answer.text
    assert answer.json()["errors"][0]["parameter"] == "expand"


def test_tenants_with_the_same_key_follow_their_own(org, known, server):
    other = Org.create(server)
    other.admin.make(
        "custom_fields", resource="contacts", key="partner", kind="reference", label="p", target="contacts"
    )
    friend = other.admin.make("contacts", last_name="Friend")["id"]
    contact = other.admin.make("contacts", last_name="X", custom={"partner": friend})["id"]
    assert read(other.admin, contact, "custom.partner")["custom.partner"]["object"] == "contact"
    assert read(org.admin, known["contact"], "custom.partner")["custom.partner"]["object"] == "account"


def test_the_contract_and_the_description_tell_it(org, known):
    contract = org.admin.get("/v1/meta/openapi.json").json()
    taken = ["custom.partner", "custom.partner.custom.agent", "custom.partner.owner", "account.custom.broker"]
    for path in ("/v1/contacts", "/v1/contacts/{id}"):
        (expand,) = [item for item in contract["paths"][path]["get"]["parameters"] if item.get("name") == "expand"]
        assert set(taken) <= set(expand["schema"]["items"]["enum"])
        for name in [item for item in expand["schema"]["items"]["enum"] if "custom." in item]:
            where = path.replace("{id}", known["contact"])
            assert org.admin.get(where, params={"expand": name}).status_code == 200, name
    assert set(taken) <= set(
        contract["components"]["schemas"]["ContactSearch"]["properties"]["expand"]["items"]["enum"]
    )
    checker = Draft202012Validator({"$ref": "#/components/schemas/Contact", "components": contract["components"]})
    row = read(org.admin, known["contact"], *taken)
    assert checker.is_valid(row), [error.message for error in checker.iter_errors(row)]
    assert not checker.is_valid({**row, "custom.partner": 1})
    relations = org.admin.get("/v1/meta/objects/contact").json()["relations"]
    assert {"name": "custom.partner", "type": "account", "is_list": False} in relations
