"""Amendments: what may become different of an order that is binding, and at which prices."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from crm_api.kernel import feed
from tests.orders.test_orders import act, order, product
from tests.support.problems import problem


@pytest.fixture(scope="module")
def org(shared_org):
    return shared_org


@pytest.fixture
def account(org) -> dict:
    return org.rep.make("accounts", name="Kaufmann", currency="EUR")


@pytest.fixture
def chai(org) -> dict:
    chai_code = f"CHAI-{len(org.admin.all('/v1/products'))}"
    return product(org, sku=chai_code, name="Chai", list_price="18.00", currency="EUR")


TEA = {"description": "Tea", "unit_price": "5.00"}


def confirmed(org, account, *lines):
    return act(org.rep, order(org, account, *lines), "confirm")


def refused(org, made, status, **body):
    before = org.rep.get(f"/v1/orders/{made['id']}").json()
    answer = org.rep.post(f"/v1/orders/{made['id']}/amend", json=body)
    found = problem(answer, status)
    assert org.rep.get(f"/v1/orders/{made['id']}").json() == before
    return found


def test_what_is_agreed_keeps_its_price(org, account, chai):
    made = confirmed(org, account, {"product_id": chai["id"], "quantity": "2"}, TEA)
    assert org.admin.patch(f"/v1/products/{chai['id']}", json={"list_price": "30.00"}).status_code == 200
    first, second = made["lines"]
    lines = [
        {"id": first["id"], "product_id": chai["id"], "quantity": "3"},
        {"product_id": chai["id"], "quantity": "1"},
        {"id": second["id"], "description": "Tea", "unit_price": "4.00"},
    ]
    changed = act(org.rep, made, "amend", lines=lines, reason="One more")
    assert [line["unit_price"] for line in changed["lines"]] == ["18.00", "30.00", "4.00"]
    assert [line["price_source"] for line in changed["lines"]] == ["list", "list", "given"]
    assert (changed["net_total"], changed["state"], changed["number"]) == ("88.00", "confirmed", made["number"])
    assert (changed["amendment"], changed["amendment_reason"]) == (1, "One more")
    again = act(org.rep, made, "amend", requested_on="2027-01-01")
    assert (again["amendment"], again["amendment_reason"], again["net_total"]) == (2, None, "88.00")


def test_it_is_told_to_whoever_listens(org, account):
    made = confirmed(org, account, TEA)
    since = org.admin.get("/v1/changes/cursor").json()["cursor"]
    act(org.rep, made, "amend", client_reference="PO 9", reason="They said so")
    while org.server.run(feed.sequence(org.server.kernel))[1]:
        pass
    page = org.admin.get("/v1/changes", params={"since": since, "types": "order.*"}).json()["data"]
    mine = [event for event in page if event["object"]["id"] == made["id"]]
    told = [event for event in mine if event["object"]["version"] > made["version"]]
    assert [event["type"] for event in told] == ["order.updated", "order.changed"]
    assert told[0]["data"]["client_reference"] == "PO 9"
    assert told[0]["previous"]["client_reference"] is None


def test_only_what_is_binding_is_amended(org, account):
    draft = order(org, account, TEA)
    assert refused(org, draft, 409, reason="x")["allowed_from"] == ["confirmed", "on_hold"]
    held = act(org.rep, confirmed(org, account, TEA), "hold", reason="Wait")
    assert act(org.rep, held, "amend", lines=[TEA, TEA])["state"] == "on_hold"
    closed = act(org.rep, confirmed(org, account, TEA), "close")
    assert refused(org, closed, 409, reason="x")["state"] == "closed"


def test_bad_amendments_are_refused(org, account, chai):
    made = confirmed(org, account, TEA)
    assert refused(org, made, 422, lines=[])["errors"][0]["pointer"] == "/lines"
    assert refused(org, made, 422, lines=[{**TEA, "quantity": "0"}])["errors"][0]["pointer"] == "/lines/0/quantity"
    assert refused(org, made, 422, account_id=account["id"])["errors"][0]["code"] == "unknown_field"
    assert org.admin.post(f"/v1/products/{chai['id']}/retire").status_code == 200
    gone = refused(org, made, 422, lines=[TEA, {"product_id": chai["id"]}])["errors"][0]
    assert (gone["pointer"], gone["code"]) == ("/lines/1/product_id", "product_retired")


def test_what_is_there_may_stay_though_it_is_no_longer_sold(org, account, chai):
    made = confirmed(org, account, {"product_id": chai["id"]})
    assert org.admin.post(f"/v1/products/{chai['id']}/retire").status_code == 200
    changed = act(org.rep, made, "amend", lines=[{"product_id": chai["id"], "quantity": "2"}])
    assert changed["net_total"] == "36.00"


def test_the_credit_limit_holds_for_the_whole(org, account):
    path = f"/v1/accounts/{account['id']}"
    assert org.admin.patch(path, json={"credit_limit": "12.00"}).status_code == 200
    made = confirmed(org, account, TEA)
    assert act(org.rep, made, "amend", lines=[TEA, TEA])["gross_total"] == "10.00"
    over = refused(org, made, 409, lines=[TEA, TEA, TEA])
    assert over["errors"][0]["code"] == "credit_exceeded"
    assert org.admin.post(f"{path}/block", json={"reason": "Fraud"}).status_code == 200
    assert refused(org, made, 422, lines=[TEA])["errors"][0]["code"] == "account_blocked"


def test_an_amendment_does_not_go_around_approval(org, account, chai):
    rule = {"object_type": "order", "account_id": account["id"], "discount_over": "10", "steps": [{"kind": "manager"}]}
    org.admin.make("approval_rules", name="Discounts", **rule)
    line = {"product_id": chai["id"], "quantity": "2", "discount_percent": "20"}
    made = act(org.rep, order(org, account, line), "confirm")
    assert made["state"] == "pending_approval"
    (asked,) = org.manager.all("/v1/approvals", object_id=made["id"], status="pending")
    assert org.manager.post(f"/v1/approvals/{asked['id']}/approve").status_code == 200
    fewer = act(org.rep, made, "amend", lines=[{**line, "quantity": "1"}])
    assert (fewer["is_approved"], fewer["amendment"]) == (True, 1)
    deeper = refused(org, made, 409, lines=[{**line, "quantity": "1", "discount_percent": "21"}])
    assert deeper["errors"][0]["code"] == "approval_required"
    less = act(org.rep, made, "amend", lines=[{**line, "quantity": "3", "discount_percent": "9"}])
    assert less["is_approved"] is False


def test_of_two_amendments_of_one_version_one_is_made(org, account):
    made = confirmed(org, account, TEA)

    def ask(n):
        body = {"lines": [{**TEA, "quantity": str(n + 2)}]}
        match = {"If-Match": f'"{made["version"]}"'}
        return org.rep.post(f"/v1/orders/{made['id']}/amend", json=body, headers=match).status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(ask, range(4))) == [200, 412, 412, 412]
