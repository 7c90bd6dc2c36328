"""What an ERP tells of shipments and invoices, by line, and what follows for the order."""

import pytest

from tests.orders.test_orders import act, order, product
from tests.support.problems import problem


@pytest.fixture(scope="module")
def org(shared_org):
    return shared_org


@pytest.fixture
def account(org) -> dict:
    return org.rep.make("accounts", name="Kaufmann")


@pytest.fixture(scope="module")
def lamp(shared_org) -> dict:
    return product(shared_org, sku="LAMP-P", name="Lamp", list_price="50.00", cost="20.00", currency="EUR")


def confirmed(org, account, *quantities):
    lines = [{"description": f"Item {n}", "unit_price": "5.00", "quantity": q} for n, q in enumerate(quantities)]
    return act(org.rep, order(org, account, *lines), "confirm")


def tell(org, made, *counts, status=200):
    """(shipped, invoiced) of each line, None for what is not told."""
    names = ("shipped_quantity", "invoiced_quantity")
    lines = [
        {"id": line["id"], **{name: value for name, value in zip(names, pair, strict=True) if value is not None}}
        for line, pair in zip(made["lines"], counts, strict=False)
    ]
    return act(org.rep, made, "progress", status, lines=lines)


@pytest.mark.parametrize(
    ("counts", "fulfilment", "billing"),
    [
        ([("0", "0"), ("0", "0")], "none", "none"),
        ([("1", None)], "partial", "none"),
        ([("2", "2"), ("3", None)], "complete", "partial"),
        ([("2.5", "2"), ("3", "3")], "over", "complete"),
        ([("3", "3")], "partial", "partial"),
        ([("2", "9"), ("3", "3")], "complete", "complete"),
    ],
)
def test_the_axes_follow_from_the_lines(org, account, counts, fulfilment, billing):
    made = confirmed(org, account, "2", "3")
    told = tell(org, made, *counts)
    assert (told["fulfilment"], told["billing"], told["state"]) == (fulfilment, billing, "confirmed")
    for name in ("gross_total", "number", "net_total"):
        assert told[name] == made[name]


def test_quantities_are_sums_and_what_is_left_out_stays(org, account):
    made = confirmed(org, account, "2", "3")
    first = tell(org, made, ("1", "1"))
    assert tell(org, made, ("1", "1")) == first, "told again, nothing changes"
    second = tell(org, made, (None, "2"), ("3", None))
    quantities = [(line["shipped_quantity"], line["invoiced_quantity"]) for line in second["lines"]]
    assert quantities == [("1", "2"), ("3", "0")]
    rows = {row["id"]: row for row in org.rep.all("/v1/order_lines", order_id=made["id"])}
    for line in second["lines"]:
        assert rows[line["id"]]["shipped_quantity"] == line["shipped_quantity"]
    back = tell(org, made, ("0", "0"), ("0", None))
    assert (back["fulfilment"], back["billing"]) == ("none", "none")


def test_what_is_under_way_is_neither_cancelled_nor_amended(org, account):
    made = confirmed(org, account, "2")
    tell(org, made, ("1", None))
    for verb in ("cancel", "amend"):
        refused = problem(org.rep.post(f"/v1/orders/{made['id']}/{verb}", json={"reason": "No."}), 409)
        assert refused["errors"][0]["code"] == "under_way"
    tell(org, made, ("0", None))
    changed = act(org.rep, made, "amend", lines=[{"description": "Item 0", "unit_price": "4.00"}])
    assert changed["lines"][0]["shipped_quantity"] == "0"


def test_costs_are_kept(org, account, lamp):
    """What the list does not tell of its lines is still there afterwards."""
    made = act(
        org.rep, order(org, account, {"product_id": lamp["id"], "quantity": "2"}, ordered_on="2019-03-01"), "confirm"
    )
    tell(org, made, ("2", "2"))
    span = {"from": "2019-03-01", "until": "2019-03-01", "by": "product"}
    (sold,) = org.admin.get("/v1/sales", params=span).json()["data"]
    assert (sold["net"], sold["margin"]) == ("100.00", "60.00")


def test_bad_progress_is_refused(org, account):
    draft = order(org, account, {"description": "Tea", "unit_price": "5.00"})
    refused = tell(org, draft, ("1", None), status=409)
    assert (refused["state"], refused["allowed_from"]) == ("draft", ["closed", "confirmed", "on_hold"])
    made, other = confirmed(org, account, "2"), confirmed(org, account, "2")
    mine, theirs = made["lines"][0]["id"], other["lines"][0]["id"]
    for lines, pointer in (
        ([], "/lines"),
        ([{"id": theirs, "shipped_quantity": "1"}], "/lines/0/id"),
        ([{"id": mine}, {"id": mine}], "/lines/1/id"),
        ([{"id": mine, "shipped_quantity": "-1"}], "/lines/0/shipped_quantity"),
        ([{"id": mine, "quantity": "5"}], "/lines/0/quantity"),
    ):
        answer = org.rep.post(f"/v1/orders/{made['id']}/progress", json={"lines": lines})
        assert problem(answer, 422)["errors"][0]["pointer"] == pointer
    assert org.rep.get(f"/v1/orders/{made['id']}").json() == made


def test_pieces_are_not_shipped_in_parts(org, account, lamp):
    made = act(org.rep, order(org, account, {"product_id": lamp["id"], "quantity": "3"}), "confirm")
    found = tell(org, made, ("1.5", "1"), status=422)["errors"]
    assert [(one["pointer"], one["code"]) for one in found] == [("/lines/0/shipped_quantity", "too_many_decimals")]
    assert org.rep.get(f"/v1/orders/{made['id']}").json()["version"] == made["version"]
    assert tell(org, made, ("1", "1"))["fulfilment"] == "partial"
