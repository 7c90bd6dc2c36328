"""What a document takes off or adds as a whole: its discount, shipping, and the rounding of what is to be paid."""

import pytest

from tests.pricing.test_quote import Shop
from tests.support.problems import problem


@pytest.fixture(scope="module")
def shop(shared_org):
    shop = Shop(shared_org)
    shop.lamp = shop.product(list_price="50.00", cost="20.00")
    shop.dealer = shop.rep.make(
        "accounts", name="Dealer", currency="EUR", addresses=[{"country": "DE", "line1": "Wall 1"}]
    )
    shop.lines = [
        {"product_id": shop.lamp["id"], "quantity": "2"},
        {"description": "Assembly", "unit_price": "33.33"},
        {"description": "Parcel", "kind": "shipping", "unit_price": "10"},
    ]
    return shop


def draft(shop, plural="orders", **body) -> dict:
    day = {"orders": "ordered_on", "quotes": "quoted_on"}[plural]
    terms = {"account_id": shop.dealer["id"], "prices": "net", "lines": shop.lines, day: "2026-06-15"}
    return shop.rep.make(plural, **{**terms, **body})


def sums(document) -> tuple[str, ...]:
    names = ("discount_total", "shipping_total", "net_total", "tax_total", "gross_total", "rounding", "payable_total")
    return tuple(document[name] for name in names)


def borne(document) -> list[str]:
    return [line["document_discount"] for line in document["lines"]]


def test_a_discount_on_the_whole_is_borne_by_all_lines_but_shipping(shop):
    plain = draft(shop)
    assert sums(plain) == ("0.00", "10.00", "143.33", "27.23", "170.56", "0.00", "170.56")
    made = draft(shop, discount_percent="10", round_to="0.05")
    assert borne(made) == ["10.00", "3.33", "0.00"]
    assert sums(made) == ("13.33", "10.00", "130.00", "24.70", "154.70", "0.00", "154.70")
    path = f"/v1/orders/{made['id']}"
    fixed = shop.rep.patch(path, json={"discount_percent": None, "discount_amount": "20"}).json()
    assert borne(fixed) == ["15.00", "5.00", "0.00"]
    assert sums(fixed) == ("20.00", "10.00", "123.33", "23.43", "146.76", "-0.01", "146.75")
    assert shop.rep.get(path).json() == fixed
    rows = shop.rep.get(f"{path}/lines").json()["data"]
    assert sorted((row["kind"], row["document_discount"]) for row in rows) == [
        ("item", "15.00"),
        ("item", "5.00"),
        ("shipping", "0.00"),
    ]
    assert shop.rep.get("/v1/order_lines", params={"order_id": made["id"], "kind": "shipping"}).json()["data"][0][
        "net_amount"
    ] == "10.00"  # fmt: skip


def test_it_goes_along_from_quote_to_order(shop):
    quote = draft(shop, "quotes", discount_amount="13.33", round_to="0.10")
    path = f"/v1/quotes/{quote['id']}"
    for verb in ("submit", "send", "accept"):
        assert shop.rep.post(f"{path}/{verb}").status_code == 200
    converted = shop.rep.post(f"{path}/convert", json={})
    assert converted.status_code == 200, converted.text
    order = shop.rep.get(f"/v1/orders/{converted.json()['order_id']}").json()
    assert sums(order) == sums(quote)
    assert (borne(order), order["round_to"]) == (borne(quote), "0.10")


def test_margin_counts_the_discount_and_leaves_shipping_out(shop, sql):
    lamp, _, parcel = shop.lines
    made = draft(shop, lines=[lamp, parcel], discount_percent="10")
    assert sql("SELECT margin FROM orders WHERE id = $1", made["id"])[0]["margin"] == 50_0000
    assert sql("SELECT deepest_discount FROM orders WHERE id = $1", made["id"])[0]["deepest_discount"] == 10_000000


def test_the_price_api_says_the_same(shop):
    told = shop.quote(
        {"product_id": shop.lamp["id"], "quantity": "2"},
        {"product_id": shop.lamp["id"], "quantity": "1"},
        account_id=shop.dealer["id"],
        discount_amount="10",
    )
    assert [line["document_discount"] for line in told["lines"]] == ["6.67", "3.33"]
    assert told["totals"]["net"] == "140.00"


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"discount_percent": "10", "discount_amount": "1"}, "/discount_amount", "exactly_one"),
        ({"discount_amount": "133.34"}, "/discount_amount", "invalid_discount"),
        ({"discount_amount": "-1"}, "/discount_amount", "invalid_discount"),
        ({"discount_percent": "100.1"}, "/discount_percent", "invalid_percent"),
        ({"round_to": "0"}, "/round_to", "not_positive"),
    ],
)
def test_what_cannot_be_is_refused_at_its_place(shop, body, pointer, code):
    answer = shop.rep.post(
        "/v1/orders", json={"account_id": shop.dealer["id"], "prices": "net", "lines": shop.lines, **body}
    )
    fault = problem(answer, 422)["errors"][0]
    assert (fault["pointer"], fault["code"]) == (pointer, code)


def test_shipping_is_not_waited_for_when_goods_are_shipped(shop):
    made = draft(shop)
    path = f"/v1/orders/{made['id']}"
    assert shop.rep.post(f"{path}/confirm").status_code == 200
    goods, _ = made["lines"][:2], made["lines"][2]
    shipped = [{"id": line["id"], "shipped_quantity": line["quantity"]} for line in goods]
    assert shop.rep.post(f"{path}/progress", json={"lines": shipped}).json()["fulfilment"] == "complete"
    billed = [{"id": line["id"], "invoiced_quantity": line["quantity"]} for line in goods]
    assert shop.rep.post(f"{path}/progress", json={"lines": billed}).json()["billing"] == "partial"
