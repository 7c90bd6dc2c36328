"""How the price of a line came about: kept with the line as it was, and told to who may know prices."""

import pytest

from tests.pricing.test_quote import Shop
from tests.support.problems import problem

DAY = "2026-06-15"


@pytest.fixture(scope="module")
def shop(shared_org):
    shop = Shop(shared_org)
    shop.lamp = shop.product(
        list_price="50.00", cost="20.00", conversions=[{"unit_id": shop.box["id"], "factor": "10"}]
    )
    shop.book = shop.book()
    shop.entered = shop.entry(shop.book, product_id=shop.lamp["id"], adjustment_percent="-10")
    shop.dealer = shop.rep.make("accounts", name="Dealer", currency="EUR", price_book_id=shop.book["id"])
    return shop


def make(shop, collection, *lines, **values) -> dict:
    day = {"orders": "ordered_on", "quotes": "quoted_on"}[collection]
    return shop.rep.make(collection, **{"account_id": shop.dealer["id"], day: DAY, "lines": list(lines), **values})


def told(person, line, collection="order_lines") -> dict:
    answer = person.get(f"/v1/{collection}/{line['id']}/explanation")
    assert answer.status_code == 200, answer.text
    return answer.json()


def act(shop, made, verb, collection="orders", **body) -> dict:
    answer = shop.rep.post(f"/v1/{collection}/{made['id']}/{verb}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("collection", ["orders", "quotes"])
def test_it_says_what_the_price_api_says(shop, collection):
    lamp = {"product_id": shop.lamp["id"], "unit_id": shop.box["id"]}
    made = make(shop, collection, lamp, {**lamp, "unit_price": "444"}, {"description": "Tea", "unit_price": "5"})
    quoted = shop.quote(lamp | {"quantity": "1"}, account_id=shop.dealer["id"], day=DAY, currency=None)["lines"][0]
    lines = f"{collection[:-1]}_lines"
    found, given, tea = (told(shop.rep, line, lines) for line in made["lines"])
    assert [step["kind"] for step in found["steps"]] == ["list_price", "entry_adjustment", "unit"]
    assert found["steps"] == quoted["explanation"]
    assert (found["price_source"], found["price_entry_id"]) == ("book", shop.entered["id"])
    assert (found["found_price"], found["unit_price"]) == ("450.00", "450.00")
    assert [step["kind"] for step in given["steps"]] == ["list_price", "entry_adjustment", "unit", "override"]
    assert (given["found_price"], given["unit_price"], given["steps"][-1]["price"]) == ("450.00", "444.00", "444.00")
    assert [step["kind"] for step in tea["steps"]] == ["override"]
    assert (tea["found_price"], tea["last_sale"], tea["document_id"]) == (None, None, made["id"])


def test_it_stays_as_it_was(shop):
    lamp = shop.product(list_price="50.00")
    made = make(shop, "orders", {"product_id": lamp["id"], "quantity": "2"})
    (line,) = made["lines"]
    before = told(shop.rep, line)
    assert shop.admin.patch(f"/v1/products/{lamp['id']}", json={"list_price": "70"}).status_code == 200
    act(shop, made, "confirm")
    act(shop, made, "amend", lines=[{"id": line["id"], "product_id": lamp["id"], "quantity": "3"}])
    assert told(shop.rep, line)["steps"] == before["steps"]
    act(shop, made, "progress", lines=[{"id": line["id"], "shipped_quantity": "1"}])
    assert told(shop.rep, line)["steps"] == before["steps"]
    assert before["steps"] == [
        {"kind": "list_price", "price": "50.00", "price_book_id": None, "price_entry_id": None, "percent": None}
    ]


def test_the_last_price_is_that_before(shop):
    lamp = shop.product(list_price="50.00")
    account = shop.rep.make("accounts", name="Again", currency="EUR")
    first, second, later = (
        make(shop, "orders", {"product_id": lamp["id"], "unit_price": price}, account_id=account["id"], ordered_on=day)
        for price, day in (("41", "2026-06-01"), ("42", "2026-06-10"), ("43", "2026-06-20"))
    )
    for one in (first, second, later):
        act(shop, one, "confirm")
    assert told(shop.rep, first["lines"][0])["last_sale"] is None
    sold = told(shop.rep, second["lines"][0])["last_sale"]
    assert (sold["order_id"], sold["unit_price"]) == (first["id"], "41.00")


def test_an_accepted_price_leads_to_the_line_of_the_quote(shop):
    quote = make(shop, "quotes", {"product_id": shop.lamp["id"]})
    for verb in ("send", "accept"):
        act(shop, quote, verb, "quotes")
    converted = act(shop, quote, "convert", "quotes")
    order = shop.rep.get(f"/v1/orders/{converted['order_id']}").json()
    found = told(shop.rep, order["lines"][0])
    assert (found["origin_line_id"], found["steps"][-1]["kind"]) == (quote["lines"][0]["id"], "override")


def test_who_may_not_know_prices_is_told_none(shop):
    made = make(shop, "orders", {"product_id": shop.lamp["id"]})
    path = f"/v1/order_lines/{made['lines'][0]['id']}/explanation"
    names = ("products", "price_books", "price_entries", "tax_profiles", "tax_rates", "orders", "order_lines")
    rights = [(f"{name}:read", "all") for name in names]
    hidden = [{"resource": "products", "field": "list_price", "rule": "hidden"}]

    def person(name, *more, rules=()):
        role = shop.org.role(name, *rights, *more, field_rules=list(rules))
        return shop.org.person(name, role)

    blind = person("blind")
    assert problem(blind.get(path), 403)["permission"] == "price_books:quote"
    assert blind.get(f"/v1/orders/{made['id']}").status_code == 200
    quoting = ("price_books:quote", "all")
    assert person("knowing", quoting).get(path).status_code == 200
    listless = person("listless", quoting, rules=hidden)
    assert problem(listless.get(path), 403)["permission"] == "field products.list_price"
    assert problem(shop.org.outsider.get(path), 404)
    assert problem(shop.rep.get("/v1/order_lines/none/explanation"), 404)


def test_it_is_in_no_list_event_or_row(shop):
    made = make(shop, "orders", {"product_id": shop.lamp["id"]})
    line = made["lines"][0]
    row = shop.rep.get(f"/v1/order_lines/{line['id']}").json()
    assert not {"explanation", "found_price", "cost"} & (row.keys() | line.keys())
