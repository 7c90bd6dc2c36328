"""Where a binding order takes what it needs: once, in the same transaction, or not at all."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from crm_api.domains.orders.reserving import RESERVING
from crm_api.kernel.problems import CONFLICT, Fault, Problem
from crm_api.kernel.repository import record
from tests.orders.test_orders import act, order
from tests.support.problems import problem

TEA = {"description": "Tea", "unit_price": "5.00"}


@pytest.fixture
def org(shared_org):
    return shared_org


@pytest.fixture
def account(org) -> dict:
    return org.rep.make("accounts", name="Kaufmann")


@pytest.fixture
def reserved():
    """What was reserved, each time with an entry in the audit log of the order; `None` among lines is out of stock."""
    asked = []

    async def take(ctx, resource, row):
        asked.append(row["id"])
        await record(ctx, resource, row["id"], "reserve", "reserved")
        if row["client_reference"] == "Too much":
            raise Problem(CONFLICT, "There is not so much.", [Fault("out_of_stock", "There is not so much.")])

    RESERVING.append(take)
    yield asked
    RESERVING.remove(take)


def entries(org, made) -> list[str]:
    return [item["action"] for item in org.admin.all("/v1/audit_log", object_type="order", object_id=made["id"])]


def test_a_binding_order_reserves_once_however_often_it_is_asked(org, account, reserved):
    made = order(org, account, TEA)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: org.rep.post(f"/v1/orders/{made['id']}/confirm"), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert entries(org, made).count("reserve") == 1
    assert reserved == [made["id"]]


def test_what_cannot_be_reserved_is_not_confirmed(org, account, reserved):
    made = order(org, account, TEA, client_reference="Too much")
    refused = problem(org.rep.post(f"/v1/orders/{made['id']}/confirm"), 409)
    assert refused["errors"][0]["code"] == "out_of_stock"
    assert org.rep.get(f"/v1/orders/{made['id']}").json() == made
    assert "reserve" not in entries(org, made)
    assert act(org.rep, order(org, account, TEA), "confirm")["state"] == "confirmed"


def test_what_waits_for_approval_reserves_when_it_is_approved(org, account, reserved):
    rule = {"object_type": "order", "account_id": account["id"], "steps": [{"kind": "manager"}]}
    org.admin.make("approval_rules", name="All", **rule)
    made = order(org, account, TEA)
    assert act(org.rep, made, "confirm")["state"] == "pending_approval"
    assert reserved == []
    (asked,) = org.manager.all("/v1/approvals", object_id=made["id"], status="pending")
    assert org.manager.post(f"/v1/approvals/{asked['id']}/approve").status_code == 200
    assert reserved == [made["id"]]
