"""Records that may mean the same: of a draft, of a record, when one is created, and of all."""

import pytest

from crm_api.domains.duplicates.names import bare_name
from tests.support.jobs import wait, working
from tests.support.org import Org
from tests.support.problems import problem


def duplicates(person, plural: str = "accounts", **draft) -> list[tuple[str, int, list[str]]]:
    answer = person.post(f"/v1/{plural}/duplicates", json=draft)
    assert answer.status_code == 200, answer.text
    return [(item["record"]["id"], item["score"], item["rules"]) for item in answer.json()["data"]]


@pytest.fixture
def company(org) -> dict:
    return org.rep.make(
        "accounts",
        name="Kaufmann & Söhne GmbH & Co. KG",
        website="https://www.kaufmann.example.com/shop",
        tax_id="DE123",
        emails=[{"address": "info@kaufmann.example.com"}],
        phones=[{"number": "+4930123456"}],
    )


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("Kaufmann & Söhne GmbH & Co. KG", "kaufmann sohne"),
        ("KAUFMANN SOHNE", "kaufmann sohne"),
        ("Comercial Ñandú, S.A. de C.V.", "comercial nandu"),
        ("A.G.", "ag"),
        ("", ""),
    ],
)
def test_a_name_is_compared_without_its_form(text, bare):
    assert bare_name(text) == bare


@pytest.mark.parametrize(
    ("draft", "score", "rules"),
    [
        ({"name": "Kaufmann Sohne AG"}, 80, ["name"]),
        ({"name": "Kaufman Söhne"}, 65, ["name"]),
        ({"legal_name": "Kaufmann Söhne"}, 80, ["name"]),
        ({"website": "http://kaufmann.example.com"}, 70, ["domain"]),
        ({"tax_id": "DE123"}, 95, ["tax_id"]),
        ({"emails": [{"address": "INFO@kaufmann.example.com"}]}, 75, ["email"]),
        ({"phones": [{"number": "030 123456", "country": "DE"}]}, 60, ["phone"]),
        ({"name": "Kaufmann & Söhne", "phones": [{"number": "+4930123456"}]}, 92, ["name", "phone"]),
    ],
)
def test_each_rule_finds_and_is_named(org, company, draft, score, rules):
    org.rep.make("accounts", name="Anders")
    assert duplicates(org.rep, **draft) == [(company["id"], score, rules)]


def test_what_does_not_match_is_not_found(org, company):
    for draft in (
        {},
        {"name": "Kanzlei Sommer"},
        {"website": "https://mann.example.com"},
        {"name": "XY"},
        {"tax_id": None},
    ):
        assert duplicates(org.rep, **draft) == []
    assert org.rep.get(f"/v1/accounts/{company['id']}/duplicates").json() == {"data": []}
    twin = org.rep.make("accounts", name="Kaufmann Soehne & Söhne", phones=[{"number": "+4930123456"}])
    for one, other in ((company, twin), (twin, company)):
        found = org.rep.get(f"/v1/accounts/{one['id']}/duplicates").json()["data"]
        assert [item["record"]["id"] for item in found] == [other["id"]]
    problem(org.rep.post("/v1/accounts/duplicates", json={"nonsense": 1}), 422)
    problem(org.rep.post("/v1/accounts/duplicates", json={"status": "active"}), 422)


def test_a_contact_is_known_by_name_in_its_account_only(org):
    one, two = (org.rep.make("accounts", name=name) for name in ("One", "Two"))
    contact = org.rep.make("contacts", first_name="Ada", last_name="Lovelace", account_id=one["id"])
    draft = {"first_name": "Ada", "last_name": "Lovelace"}
    assert duplicates(org.rep, "contacts", **draft, account_id=one["id"]) == [(contact["id"], 80, ["name"])]
    assert duplicates(org.rep, "contacts", **draft, account_id=two["id"]) == []
    assert duplicates(org.rep, "contacts", **draft) == []


def test_neither_hidden_records_nor_hidden_fields_are_found(org, company):
    whole = {"name": company["name"], "tax_id": "DE123", "emails": [{"address": "info@kaufmann.example.com"}]}
    assert duplicates(org.outsider, **whole) == []
    assert duplicates(org.outsider, **whole, phones=[{"number": "+4930123456"}]) == []
    rules = [
        {"resource": "accounts", "field": name, "rule": "hidden"} for name in ("emails", "tax_id", "domain", "phones")
    ]
    blind = org.person("blind", org.role("Blind", ("accounts:*", "all"), field_rules=rules))
    assert duplicates(blind, **whole) == [(company["id"], 80, ["name"])]
    for draft in (
        {"emails": [{"address": "info@kaufmann.example.com"}]},
        {"tax_id": "DE123"},
        {"website": "https://kaufmann.example.com"},
        {"phones": [{"number": "+4930123456"}]},
        {"name": "info kaufmann example com"},
    ):
        assert duplicates(blind, **draft) == []


def suspecting(org: Org, **values) -> dict:
    return org.admin.make("duplicate_checks", **{"resource": "accounts", "on_create": "refuse", **values})


def test_a_suspected_duplicate_is_refused_when_the_tenant_wants_it_so(org, company):
    org.rep.make("accounts", name="Kaufmann Söhne")  # nobody is asked unless it is set
    setting = suspecting(org)
    body = {"name": "Kaufmann Soehne", "emails": [{"address": "info@kaufmann.example.com"}]}
    refused = problem(org.rep.post("/v1/accounts", json=body), 409)
    assert refused["code"] == "duplicate_suspected"
    assert refused["candidates"][0] == {"id": company["id"], "score": 90, "rules": ["name", "email"]}
    assert org.outsider.post("/v1/accounts", json=body).status_code == 201  # hidden records refuse nothing
    assert org.rep.post("/v1/accounts", json=body, params={"allow_duplicate": "true"}).status_code == 201
    assert org.rep.post("/v1/accounts", json={"name": "Anders"}).status_code == 201
    assert org.rep.post("/v1/contacts", json={"last_name": "Kaufmann"}).status_code == 201
    problem(org.rep.patch(f"/v1/accounts/{company['id']}", json={}, params={"allow_duplicate": "true"}), 422)
    path = f"/v1/duplicate_checks/{setting['id']}"
    assert org.admin.patch(path, json={"score": 99}).status_code == 200
    assert org.rep.post("/v1/accounts", json=body).status_code == 201
    assert org.admin.patch(path, json={"score": 80, "on_create": "allow"}).status_code == 200
    assert org.rep.post("/v1/accounts", json=body).status_code == 201
    problem(org.admin.post("/v1/duplicate_checks", json={"resource": "nonsense"}), 422)
    problem(org.rep.get("/v1/duplicate_checks"), 403)


def test_batches_upserts_and_retries_respect_it(org, company):
    suspecting(org)
    org.admin.make("sources", name="ERP", code="erp")
    twin = {"name": "Kaufmann Söhne"}
    items = {"mode": "partial", "items": [{"op": "create", "body": {"name": "Neu"}}, {"op": "create", "body": twin}]}
    results = org.rep.post("/v1/accounts/batch", json=items).json()["results"]
    assert [item["status"] for item in results] == [201, 409]
    both = {"items": [{"op": "create", "body": {"name": "Doppelt"}}] * 2}
    assert problem(org.rep.post("/v1/accounts/batch", json=both), 409)["index"] == 1
    assert org.rep.post("/v1/accounts/batch", json=both, params={"allow_duplicate": "true"}).status_code == 200
    assert problem(org.rep.put("/v1/accounts/ext:erp:1", json=twin), 409)["code"] == "duplicate_suspected"
    allowed = {"allow_duplicate": "true"}
    assert org.rep.put("/v1/accounts/ext:erp:1", json=twin, params=allowed).status_code == 201
    assert org.rep.put("/v1/accounts/ext:erp:1", json=twin).status_code == 200
    keyed = {"json": {"name": "Einmalig"}, "headers": {"Idempotency-Key": "once"}}
    first, again = (org.rep.post("/v1/accounts", **keyed) for _ in range(2))
    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    keyed = {"json": twin, "headers": {"Idempotency-Key": "twin"}}
    problem(org.rep.post("/v1/accounts", **keyed), 409)
    assert org.rep.post("/v1/accounts", **keyed, params=allowed).status_code == 201


def test_a_scan_tells_the_pairs_that_its_originator_sees(org, company):
    twin = org.rep.make("accounts", name="Kaufmann Söhne", phones=[{"number": "+4930123456"}])
    org.rep.make("accounts", name="Anders")
    for name in ("Kaufmann Sohne", "Kaufmann & Söhne"):
        org.outsider.make("accounts", name=name)
    answer = org.rep.post("/v1/accounts/duplicates/scan", json={"score": 80})
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/jobs/{answer.json()['id']}")
    with working(org.server):
        job = wait(org.rep, answer.json())
    assert (job["state"], job["done"]) == ("succeeded", 3), job
    ids = sorted([company["id"], twin["id"]])
    assert job["result"] == {"pairs": [{"ids": ids, "score": 92, "rules": ["name", "phone"]}], "has_more": False}
    problem(org.rep.post("/v1/accounts/duplicates/scan", json={"score": 0}), 422)
