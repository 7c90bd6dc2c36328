"""Orders by price book and tax profile: where a price comes from, when it changes, and what is refused."""

import pytest

from tests.orders.test_orders import amounts, totals
from tests.pricing.test_quote import Shop
from tests.support.problems import problem


@pytest.fixture(scope="module")
def shop(shared_org):
    shop = Shop(shared_org)
    shop.lamp = shop.product(
        list_price="50.00", cost="20.00", conversions=[{"unit_id": shop.box["id"], "factor": "10"}]
    )
    shop.wholesale = shop.book()
    shop.entry(shop.wholesale, product_id=shop.lamp["id"], price="40")
    shop.entry(shop.wholesale, product_id=shop.lamp["id"], price="30", minimum_quantity="10")
    shop.abroad = shop.make("tax_profiles", name="Abroad", code="abroad", exempt=True)
    shop.dealer = shop.rep.make(
        "accounts",
        name="Dealer",
        currency="EUR",
        price_book_id=shop.wholesale["id"],
        payment_terms="30 days",
        addresses=[{"country": "DE", "line1": "Wall 1"}],
    )
    shop.other = shop.rep.make("accounts", name="Other", currency="EUR", tax_profile_id=shop.abroad["id"])
    return shop


def test_an_order_has_the_prices_and_taxes_of_its_account(shop):
    body = {"account_id": shop.dealer["id"], "ordered_on": "2026-06-15"}
    made = shop.rep.make(
        "orders",
        **body,
        lines=[
            {"product_id": shop.lamp["id"], "quantity": "2"},
            {"product_id": shop.lamp["id"], "unit_id": shop.box["id"], "discount_amount": "30"},
            {"description": "Delivery", "unit_price": "10", "tax_percent": "7"},
            {"description": "Voucher", "unit_price": "-5"},
        ],
    )
    two, box, delivery, voucher = made["lines"]
    assert (two["unit_price"], two["price_source"], two["price_book_id"]) == ("40.00", "book", shop.wholesale["id"])
    assert (two["unit_id"], box["unit_id"]) == (shop.piece["id"], shop.box["id"])
    assert amounts(two) == ("80.00", "15.20", "95.20")
    assert (box["unit_price"], box["discount"]) == ("300.00", "30.00")
    assert amounts(box) == ("270.00", "51.30", "321.30")
    assert amounts(delivery) == ("10.00", "0.70", "10.70")
    assert (voucher["price_source"], *amounts(voucher)) == ("given", "-5.00", "-0.95", "-5.95")
    assert (made["currency"], made["prices"], made["payment_terms"]) == ("EUR", "net", "30 days")
    assert (made["price_book_id"], made["tax_profile_id"]) == (shop.wholesale["id"], shop.profile["id"])
    assert [(tax["name"], tax["percent"], tax["amount"]) for tax in made["taxes"]] == [
        ("VAT", "19", "65.55"),
        ("tax", "7", "0.70"),
    ]
    assert (*totals(made), made["discount_total"]) == ("355.00", "66.25", "421.25", "30.00")
    told = shop.quote({"product_id": shop.lamp["id"], "quantity": "2"}, account_id=shop.dealer["id"], currency=None)
    assert told["totals"]["gross"] == "95.20"
    path = f"/v1/orders/{made['id']}"
    assert shop.rep.get(path).json() == made
    again = shop.rep.patch(path, json={"lines": [{"product_id": shop.lamp["id"], "quantity": "10"}]}).json()
    assert (again["lines"][0]["id"], again["net_total"]) == (two["id"], "300.00")


def test_prices_follow_the_terms_of_a_draft_but_not_those_that_were_given(shop):
    lines = [{"product_id": shop.lamp["id"]}, {"product_id": shop.lamp["id"], "unit_price": "33"}]
    made = shop.rep.make("orders", account_id=shop.dealer["id"], ordered_on="2026-06-15", lines=lines)
    path = f"/v1/orders/{made['id']}"
    assert (made["net_total"], made["tax_total"]) == ("73.00", "13.87")
    abroad = shop.rep.patch(path, json={"shipping_address": {"country": "FR", "kind": "shipping"}}).json()
    assert (abroad["net_total"], abroad["tax_total"]) == ("73.00", "14.60")
    moved = shop.rep.patch(path, json={"account_id": shop.other["id"]}).json()
    assert [line["unit_price"] for line in moved["lines"]] == ["50.00", "33.00"]
    assert (moved["tax_profile_id"], moved["tax_total"], moved["price_book_id"]) == (shop.abroad["id"], "0.00", None)
    assert [line["id"] for line in moved["lines"]] == [line["id"] for line in made["lines"]]
    named = shop.rep.patch(path, json={"price_book_id": shop.wholesale["id"]}).json()
    assert [line["unit_price"] for line in named["lines"]] == ["40.00", "33.00"]
    assert shop.rep.patch(path, json={"client_reference": "PO 1"}).json()["net_total"] == "73.00"
    early = shop.rep.patch(path, json={"ordered_on": "2019-01-01", "tax_profile_id": shop.profile["id"]})
    assert problem(early, 422)["errors"][0]["code"] == "no_tax_rate"
    assert shop.rep.get(path).json()["tax_total"] == "0.00"


def test_what_cannot_be_sold_is_refused_with_its_place(shop):
    body = {"account_id": shop.dealer["id"], "ordered_on": "2026-06-15"}

    def refused(line, place, code, **values):
        answer = shop.rep.post("/v1/orders", json={**body, **values, "lines": [line]})
        (error,) = problem(answer, 422)["errors"]
        assert (error["pointer"], error["code"]) == (place, code)

    lamp = {"product_id": shop.lamp["id"]}
    refused({**lamp, "unit_id": shop.metre["id"]}, "/lines/0/unit_id", "reference_not_found")
    refused({**lamp, "unit_price": "-1"}, "/lines/0/unit_price", "negative")
    refused({**lamp, "discount_amount": "41"}, "/lines/0/discount_amount", "invalid_discount")
    refused({**lamp, "discount_amount": "1", "discount_percent": "1"}, "/lines/0/discount_amount", "exactly_one")
    refused(
        lamp, "/lines/0/product_id", "no_currency_rate", currency="SEK", price_book_id=None, account_id=shop.other["id"]
    )
    refused({"description": "x", "unit_price": "1", "tax_class": "books"}, "/lines/0/tax_class", "no_tax_rate")
    blocked = shop.rep.make("accounts", name="Owes", currency="EUR")
    assert shop.admin.post(f"/v1/accounts/{blocked['id']}/block", json={"reason": "Owes."}).status_code == 200
    refused(lamp, "/account_id", "account_blocked", account_id=blocked["id"])
