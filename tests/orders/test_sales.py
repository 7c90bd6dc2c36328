"""What was sold, by seller, account, product and period; the figures are added up again from the orders."""

from collections import defaultdict
from decimal import Decimal

import pytest

from tests.support.org import Org
from tests.support.problems import problem

SPAN = {"from": "2026-01-01", "until": "2026-12-31"}


@pytest.fixture(scope="module")
def org(server) -> Org:
    """Orders of two sellers, three months and two products; one is cancelled, one still a draft."""
    org = Org.create(server)
    unit = org.admin.make("units", code="pcs", name="Pieces", decimals=0)["id"]
    org.products = [
        org.admin.make("products", sku=sku, name=sku, kind="goods", unit_id=unit, currency="EUR", **prices)["id"]
        for sku, prices in (("A", {"list_price": "10.00", "cost": "4.00"}), ("B", {"list_price": "3.00"}))
    ]
    org.accounts = {name: org.people[name].make("accounts", name=name)["id"] for name in ("rep", "outsider")}
    org.orders = []
    for seller, day, products, fate in (
        ("rep", "2026-01-31", (0, 0), "confirm"),
        ("rep", "2026-02-01", (0, 1), "confirm"),
        ("rep", "2026-02-28", (1,), "confirm"),
        ("outsider", "2026-04-01", (0,), "confirm"),
        ("outsider", "2026-04-02", (0,), "cancel"),
        ("outsider", "2026-04-03", (0,), None),
        ("outsider", "2025-12-31", (0,), "confirm"),
    ):
        lines = [{"product_id": org.products[i], "quantity": "2", "tax_percent": "19"} for i in products]
        person = org.people[seller]
        made = person.make(
            "orders", account_id=org.accounts[seller], currency="EUR", prices="net", ordered_on=day, lines=lines
        )
        if fate:
            made = person.post(f"/v1/orders/{made['id']}/{fate}").json()
        if fate == "confirm":
            org.orders.append(made)
    return org


def sold(person, *by, **params):
    answer = person.get("/v1/sales", params={**SPAN, "by": list(by), **params})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def added(org, key):
    """(orders, net, tax, gross) by what `key` makes of an order and a line, for those of 2026."""
    sums = defaultdict(lambda: [set(), Decimal(0), Decimal(0), Decimal(0)])
    for order in org.orders:
        for line in order["lines"] if order["ordered_on"] >= "2026" else ():
            entry = sums[key(order, line)]
            entry[0].add(order["id"])
            for i, name in enumerate(("net_amount", "tax_amount", "gross_amount"), 1):
                entry[i] += Decimal(line[name])
    return {name: (len(ids), *amounts) for name, (ids, *amounts) in sums.items()}


def told(rows, *names):
    return {
        tuple(row[name] for name in names): (row["orders"], *(Decimal(row[name]) for name in ("net", "tax", "gross")))
        for row in rows
    }


def month(order) -> str:
    return f"{order['ordered_on'][:7]}-01"


@pytest.mark.parametrize(
    ("by", "params", "names", "key"),
    [
        ((), {}, (), lambda *_: ()),
        (("seller",), {}, ("seller_id",), lambda order, _: (order["owner_id"],)),
        (("product",), {}, ("product_id",), lambda _, line: (line["product_id"],)),
        ((), {"period": "month"}, ("period_start",), lambda order, _: (month(order),)),
        (
            ("account", "product"),
            {"period": "month"},
            ("account_id", "product_id", "period_start"),
            lambda order, line: (order["account_id"], line["product_id"], month(order)),
        ),
    ],
)
def test_figures_are_those_of_the_orders(org, by, params, names, key):
    rows = sold(org.admin, *by, **params)
    assert told(rows, *names) == added(org, key)
    unset = {"seller_id", "account_id", "product_id", "period_start"} - set(names)
    assert all(row[name] is None for row in rows for name in unset)


def test_quarters_and_years_begin_on_their_first_day(org):
    assert [row["period_start"] for row in sold(org.admin, period="quarter")] == ["2026-01-01", "2026-04-01"]
    assert [row["period_start"] for row in sold(org.admin, period="year")] == ["2026-01-01"]


def test_margin_is_told_where_all_costs_are_known(org):
    rows = {row["product_id"]: row["margin"] for row in sold(org.admin, "product")}
    assert rows == {org.products[0]: "48.00", org.products[1]: None}
    assert sold(org.admin, product_id=org.products[0], seller_id=org.outsider.id)[0]["margin"] == "12.00"


def test_who_may_not_know_costs_is_told_no_margin(org):
    role = org.role(
        "No costs",
        *((f"{name}:read", "all") for name in ("orders", "order_lines", "accounts", "products")),
        field_rules=[{"resource": "products", "field": "cost", "rule": "hidden"}],
    )
    rows = sold(org.person("costless", role), "product")
    assert len(rows) == 2
    assert {row["margin"] for row in rows} == {None}


def test_only_what_the_caller_sees_is_added_up(org):
    assert {row["seller_id"] for row in sold(org.rep, "seller")} == {org.rep.id}
    assert {row["seller_id"] for row in sold(org.manager, "seller")} == {org.rep.id}
    assert {row["seller_id"] for row in sold(org.admin, "seller")} == {org.rep.id, org.outsider.id}
    assert sold(org.colleague, "seller") == []


def test_it_can_be_narrowed(org):
    assert {row["account_id"] for row in sold(org.admin, "account", account_id=org.accounts["rep"])} == {
        org.accounts["rep"]
    }
    assert sold(org.admin, currency="USD") == []
    assert [row["orders"] for row in sold(org.admin, **{"from": "2026-02-28", "until": "2026-02-28"})] == [1]


def test_bad_questions_are_refused(org):
    for params, name in (
        ({"from": "2026-02-01", "until": "2026-01-01"}, "until"),
        ({**SPAN, "by": "colour"}, "by"),
        ({**SPAN, "period": "week"}, "period"),
        ({**SPAN, "currency": "XXQ"}, "currency"),
        ({"until": "2026-01-01"}, "from"),
    ):
        error = problem(org.admin.get("/v1/sales", params=params), 422)["errors"][0]
        assert error.get("parameter", "").startswith(name), error
    role = org.role("Orders without lines", ("orders:read", "all"), ("accounts:read", "all"))
    person = org.person("lineless", role)
    assert person.get("/v1/sales", params=SPAN).status_code == 200
    assert problem(person.get("/v1/sales", params={**SPAN, "by": "product"}), 403)["permission"] == "order_lines:read"
    assert person.get("/v1/sales", params={**SPAN, "product_id": org.products[0]}).status_code == 403
