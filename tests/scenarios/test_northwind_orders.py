"""Northwind Traders' 830 orders with 2,155 lines, loaded over HTTP; every total is the one its files give."""

import csv
from collections import defaultdict
from decimal import ROUND_HALF_UP, Decimal

import pytest

from tests.scenarios.northwind import FOLDER
from tests.support.org import Org

pytestmark = [
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the Northwind files are not in {FOLDER}"),
    pytest.mark.broad,  # 830 orders are loaded
]
CENT = Decimal("0.01")
AT_ONCE = 100


def read(name: str) -> list[dict[str, str]]:
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def batch(person, collection: str, bodies: list[dict]) -> list[dict]:
    """Creates records, some at once; fails the test unless all are."""
    made = []
    for start in range(0, len(bodies), AT_ONCE):
        items = [{"op": "create", "body": body} for body in bodies[start : start + AT_ONCE]]
        answer = person.post(f"/v1/{collection}/batch", json={"items": items})
        assert answer.status_code == 200, answer.text
        made += [result["body"] for result in answer.json()["results"]]
    return made


@pytest.fixture(scope="module")
def lines() -> list[dict]:
    """The lines as the files have them, each with its net amount and its order's head."""
    heads = {row["orderID"]: row for row in read("orders")}
    found = []
    for row in read("order-details"):
        whole = (Decimal(row["unitPrice"]) * Decimal(row["quantity"])).quantize(CENT, ROUND_HALF_UP)
        off = (whole * Decimal(row["discount"])).quantize(CENT, ROUND_HALF_UP)
        found.append({**heads[row["orderID"]], **row, "net": whole - off})
    return found


@pytest.fixture(scope="module")
def admin(server, lines):
    admin = Org.create(server).admin
    unit = admin.make("units", code="pcs", name="Pieces", decimals=0)
    batch(
        admin,
        "products",
        [
            {
                "sku": row["productID"],
                "name": row["productName"],
                "kind": "goods",
                "unit_id": unit["id"],
                "list_price": row["unitPrice"],
                "currency": "USD",
            }
            for row in read("products")
        ],
    )
    products = {row["sku"]: row["id"] for row in admin.all("/v1/products", limit=200)}
    sellers = {
        row["employeeID"]: admin.make("users", name=row["lastName"], email=f"{row['firstName']}@northwind.example")[
            "id"
        ]
        for row in read("employees")
    }
    customers = batch(
        admin, "accounts", [{"name": row["companyName"], "source": row["customerID"]} for row in read("customers")]
    )
    accounts = {row["source"]: row["id"] for row in customers}
    by_order = defaultdict(list)
    for line in lines:
        by_order[line["orderID"]].append(line)
    batch(
        admin,
        "orders",
        [
            {
                "number": number,
                "account_id": accounts[some[0]["customerID"]],
                "owner_id": sellers[some[0]["employeeID"]],
                "ordered_on": some[0]["orderDate"][:10],
                "currency": "USD",
                "lines": [
                    {
                        "product_id": products[line["productID"]],
                        "quantity": line["quantity"],
                        "unit_price": line["unitPrice"],
                        "discount_percent": str(Decimal(line["discount"]) * 100),
                    }
                    for line in some
                ],
            }
            for number, some in by_order.items()
        ],
    )
    admin.names = {id_: code for known in (products, sellers, accounts) for code, id_ in known.items()}
    return admin


def summed(admin, collection: str, group: str, field: str, **rest) -> dict[str, Decimal]:
    body = {"group_by": [group], "measures": [{"op": "sum", "field": field}], **rest}
    answer = admin.post(f"/v1/{collection}/aggregate", json=body)
    assert answer.status_code == 200, answer.text
    groups = answer.json()["data"]
    return {
        admin.names.get(item["group"][group], item["group"][group]): Decimal(item["measures"][0]) for item in groups
    }


def expected(lines, key) -> dict[str, Decimal]:
    found = defaultdict(Decimal)
    for line in lines:
        found[key(line)] += line["net"]
    return dict(found)


def test_all_of_it_came(admin, lines):
    for collection, number in (("orders", 830), ("order_lines", 2155)):
        assert admin.get(f"/v1/{collection}", params={"count": "exact", "limit": 1}).json()["count"]["value"] == number
    assert len(lines) == 2155


def test_totals_are_those_of_the_files(admin, lines):
    assert summed(admin, "order_lines", "product_id", "net_amount") == expected(lines, lambda line: line["productID"])
    assert summed(admin, "orders", "account_id", "net_total") == expected(lines, lambda line: line["customerID"])
    assert summed(admin, "orders", "owner_id", "net_total") == expected(lines, lambda line: line["employeeID"])
    assert summed(admin, "orders", "currency", "net_total") == expected(lines, lambda _: "USD")


@pytest.mark.parametrize(
    ("year", "quarter"), [(1996, 3), (1996, 4), (1997, 1), (1997, 2), (1997, 3), (1997, 4), (1998, 1), (1998, 2)]
)
def test_quarters_are_those_of_the_files(admin, lines, year, quarter):
    first, last = (
        f"{year}-{quarter * 3 - 2:02d}-01",
        f"{year}-{quarter * 3:02d}-31".replace("-06-31", "-06-30").replace("-09-31", "-09-30"),
    )
    within = {
        "and": [
            {"field": "ordered_on", "op": "gte", "value": first},
            {"field": "ordered_on", "op": "lte", "value": last},
        ]
    }
    told = summed(admin, "orders", "owner_id", "net_total", filter=within)
    assert told == expected(
        [line for line in lines if first <= line["orderDate"][:10] <= last], lambda line: line["employeeID"]
    )


def test_an_order_is_the_sum_of_its_lines(admin, lines):
    by_number = expected(lines, lambda line: line["orderID"])
    for order in admin.all("/v1/orders", limit=200):
        assert Decimal(order["net_total"]) == by_number[order["number"]]
        assert sum(Decimal(line["net_amount"]) for line in order["lines"]) == by_number[order["number"]]
