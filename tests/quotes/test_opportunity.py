"""The opportunity of a quote or an order is one of its account."""

import pytest

from tests.support.problems import problem

TEA = {"description": "Tea", "unit_price": "5.00"}


@pytest.fixture(scope="module")
def org(shared_org):
    return shared_org


@pytest.fixture(scope="module")
def own(shared_org) -> dict:
    return shared_org.rep.make("accounts", name="Own", currency="EUR")


@pytest.fixture(scope="module")
def foreign(shared_org) -> dict:
    return shared_org.rep.make("accounts", name="Foreign", currency="EUR")


def deal(org, account, **values) -> str:
    return org.rep.make("opportunities", name="Fleet", account_id=account["id"], **values)["id"]


def refused(answer, pointer, code="other_account") -> None:
    assert [(one["code"], one["pointer"]) for one in problem(answer, 422)["errors"]] == [(code, pointer)]


@pytest.mark.parametrize("collection", ["quotes", "orders"])
def test_an_opportunity_of_another_account_is_refused(org, own, foreign, collection):
    mine, theirs = deal(org, own), deal(org, foreign, currency="EUR", lines=[TEA])
    body = {"account_id": own["id"], "currency": "EUR"}
    for lines in ({"lines": [TEA]}, {}):  # without lines, those of the opportunity would be taken
        answer = org.rep.post(f"/v1/{collection}", json={**body, **lines, "opportunity_id": theirs})
        refused(answer, "/opportunity_id")
    made = org.rep.make(collection, **body, lines=[TEA], opportunity_id=mine)
    path = f"/v1/{collection}/{made['id']}"
    refused(org.rep.patch(path, json={"opportunity_id": theirs}), "/opportunity_id")
    refused(org.rep.patch(path, json={"account_id": foreign["id"]}), "/account_id")
    assert org.rep.get(path).json() == made
    moved = org.rep.patch(path, json={"account_id": foreign["id"], "opportunity_id": theirs.upper()})
    assert (moved.status_code, moved.json()["opportunity_id"]) == (200, theirs)
    assert org.rep.patch(path, json={"opportunity_id": None, "account_id": own["id"].upper()}).status_code == 200


@pytest.mark.parametrize("collection", ["quotes", "orders"])
def test_a_hidden_opportunity_is_as_good_as_none(org, own, collection):
    hidden = org.admin.make("opportunities", name="H", account_id=org.admin.make("accounts", name="H")["id"])["id"]
    body = {"account_id": own["id"], "currency": "EUR", "lines": [TEA]}
    for id_ in (hidden, "019aa1d0-0000-7000-8000-00000000ffff"):
        refused(
            org.rep.post(f"/v1/{collection}", json={**body, "opportunity_id": id_}),
            "/opportunity_id",
            "reference_not_found",
        )


def test_an_opportunity_stays_with_the_account_of_its_documents(org, own, foreign):
    sold = deal(org, own)
    made = org.rep.make("quotes", account_id=own["id"], currency="EUR", lines=[TEA], opportunity_id=sold)
    path = f"/v1/opportunities/{sold}"
    refused(org.rep.patch(path, json={"account_id": foreign["id"]}), "/account_id")
    assert org.rep.patch(path, json={"account_id": own["id"].upper()}).status_code == 200
    assert org.rep.patch(f"/v1/quotes/{made['id']}", json={"opportunity_id": None}).status_code == 200
    assert org.rep.patch(path, json={"account_id": foreign["id"]}).status_code == 200


def test_what_is_made_of_an_older_mismatch_goes_on_without_the_opportunity(org, own, foreign, sql):
    theirs = deal(org, foreign)
    made = org.rep.make("quotes", account_id=own["id"], currency="EUR", lines=[TEA])
    sql("UPDATE quotes SET opportunity_id = $1 WHERE id = $2", theirs, made["id"])
    copy = org.rep.post(f"/v1/quotes/{made['id']}/copy")
    assert (copy.status_code, copy.json()["opportunity_id"]) == (201, None)
