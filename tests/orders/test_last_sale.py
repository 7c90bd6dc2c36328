"""What an account paid the last time, in the price API."""

import pytest

from tests.orders.test_orders import act, product


@pytest.fixture(scope="module")
def org(shared_org):
    return shared_org


@pytest.fixture(scope="module")
def lamp(shared_org) -> dict:
    return product(shared_org, sku="LAMP-L", name="Lamp", list_price="50.00", currency="EUR")


def sale(org, account, lamp, price, day, verb="confirm", person=None):
    person = person or org.rep
    line = {"product_id": lamp["id"], "quantity": "2", "unit_price": price, "discount_percent": "10"}
    made = person.make("orders", account_id=account["id"], currency="EUR", prices="net", ordered_on=day, lines=[line])
    return made if verb is None else act(person, made, verb)


def last(person, account, *products):
    body = {
        "account_id": account["id"],
        "currency": "EUR",
        "lines": [{"product_id": item["id"], "quantity": "1"} for item in products],
    }
    answer = person.post("/v1/prices/quote", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["lines"]


def test_the_last_price_of_a_product_for_the_account_is_told(org, lamp):
    account, other = (org.rep.make("accounts", name=name) for name in ("Kaufmann", "Other"))
    chair = product(org, sku="CHAIR-L", name="Chair", list_price="20.00", currency="EUR")
    sale(org, account, lamp, "41.00", "2026-03-01")
    latest = sale(org, account, lamp, "43.00", "2026-05-01")
    sale(org, account, lamp, "42.00", "2026-04-01")
    sale(org, account, lamp, "1.00", "2026-06-01", verb="cancel")
    sale(org, account, lamp, "2.00", "2026-06-01", verb=None)
    sale(org, other, lamp, "3.00", "2026-06-01")
    told, none = last(org.rep, account, lamp, chair)
    assert told["last_sale"] == {
        "order_id": latest["id"],
        "order_line_id": latest["lines"][0]["id"],
        "ordered_on": "2026-05-01",
        "quantity": "2",
        "unit_id": latest["lines"][0]["unit_id"],
        "currency": "EUR",
        "prices": "net",
        "unit_price": "43.00",
        "discount": "8.60",
        "net": "77.40",
    }
    assert (none["last_sale"], none["redacted"]) == (None, [])


def test_who_sees_no_orders_is_told_none(org, lamp):
    account = org.rep.make("accounts", name="Kaufmann")
    sale(org, account, lamp, "40.00", "2026-03-01")
    names = ("accounts", "products", "price_books", "price_entries", "tax_profiles", "tax_rates", "currency_rates")
    grants = [("price_books:quote", "all"), *((f"{name}:read", "all") for name in names)]
    blind = org.person("no_orders", org.role("Prices, no orders", *grants))
    (line,) = last(blind, account, lamp)
    assert (line["last_sale"], line["redacted"]) == (None, ["last_sale"])
    (line,) = last(org.manager, account, lamp)
    assert line["last_sale"]["unit_price"] == "40.00"
