"""The price API: which price is found, why, and what cannot be priced."""

import itertools
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm_api.kernel.context import new_id
from tests.support.org import REPRESENTATIVE, Org

_numbers = itertools.count(1)
DAY = "2026-06-15"


class Shop:
    """A tenant with units, products and price books in it."""

    def __init__(self, org: Org) -> None:
        self.org, self.admin, self.rep = org, org.admin, org.rep
        self.piece = self.make("units", code="pc", name="Piece")
        self.box = self.make("units", code="box", name="Box")
        self.metre = self.make("units", code="m", name="Metre", decimals=2)
        self.profile = self.make("tax_profiles", name="Domestic", code="domestic", is_default=True)
        for country, percent in ((None, "10"), ("DE", "19"), ("FR", "20")):
            self.rate(self.profile, country=country, percent=percent)

    def make(self, collection, **values):
        return self.admin.make(collection, **values)

    def rate(self, profile, **values):
        return self.make(
            "tax_rates", **{"tax_profile_id": profile["id"], "name": "VAT", "valid_from": "2020-01-01", **values}
        )

    def product(self, **values):
        number = next(_numbers)
        given_values = {"sku": f"P{number}", "name": f"Product {number}", "unit_id": self.piece["id"], **values}
        if "list_price" in given_values or "cost" in given_values:
            given_values.setdefault("currency", "EUR")
        return self.make("products", **given_values)

    def book(self, **values):
        number = next(_numbers)
        return self.make("price_books", **{"name": f"Book {number}", "code": f"b{number}", "currency": "EUR", **values})

    def entry(self, book, **values):
        return self.make("price_entries", price_book_id=book["id"], **values)

    def ask(self, *lines, person=None, **values):
        body = {"currency": "EUR", "day": DAY, **values, "lines": list(lines)}
        body = {name: value for name, value in body.items() if value is not None}
        return (person or self.rep).post("/v1/prices/quote", json=body)

    def quote(self, *lines, **values):
        answer = self.ask(*lines, **values)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def one(self, product, quantity="1", line=(), **values):
        return self.quote({"product_id": product["id"], "quantity": quantity, **dict(line)}, **values)["lines"][0]


@pytest.fixture(scope="module")
def shop(server):
    return Shop(Org.create(server))


def kinds(line):
    return [step["kind"] for step in line["explanation"]]


def refused(answer, pointer, code, status=422):
    assert answer.status_code == status, answer.text
    assert [(item["pointer"], item["code"]) for item in answer.json()["errors"]] == [(pointer, code)]


def test_a_list_price_is_taxed_where_it_is_sold(shop):
    product = shop.product(list_price="9.99", cost="4.00")
    quote = shop.quote({"product_id": product["id"], "quantity": "3", "discount_percent": "10"}, country="DE")
    (line,) = quote["lines"]
    assert (line["list_price"], line["unit_price"], line["unit_price_gross"]) == ("9.99", "9.99", "11.8881")
    assert (line["discount"], line["net"], line["tax"], line["gross"]) == ("3.00", "26.97", "5.12", "32.09")
    assert line["taxes"] == [{"name": "VAT", "percent": "19", "is_compound": False, "net": "26.97", "amount": "5.12"}]
    assert (line["cost"], line["margin"], line["redacted"]) == ("12.00", "14.97", [])
    assert quote["totals"] == {name: line[name] for name in ("net", "tax", "gross", "taxes")}
    assert (quote["prices"], quote["rounding"], quote["tax_profile_id"]) == ("net", "line", shop.profile["id"])
    assert (line["price_book_id"], kinds(line)) == (None, ["list_price"])
    assert shop.one(product)["taxes"][0]["percent"] == "10"


def test_a_book_goes_before_its_parent_the_default_and_the_list_price(shop):
    products = [shop.product(list_price="100") for _ in range(4)]
    own, parent, default, none = (product["id"] for product in products)
    last = shop.book(currency="CHF", is_default=True)
    base = shop.book(currency="CHF")
    book = shop.book(currency="CHF", parent_id=base["id"], adjustment_percent="-10")
    for where in (book, base, last):
        shop.entry(where, product_id=own, price={book["id"]: "50", base["id"]: "60", last["id"]: "70"}[where["id"]])
    for where in (base, last):
        shop.entry(where, product_id=parent, price="60" if where is base else "70")
    shop.entry(last, product_id=default, price="70")
    shop.make("currency_rates", base_currency="EUR", quote_currency="CHF", rate="0.95", valid_from="2026-01-01")
    lines = [{"product_id": id_, "quantity": "1"} for id_ in (own, parent, default, none)]
    found = shop.quote(*lines, price_book_id=book["id"], currency=None)
    assert found["currency"] == "CHF"
    assert [line["unit_price"] for line in found["lines"]] == ["50.00", "54.00", "63.00", "85.50"]
    assert [line["price_book_id"] for line in found["lines"]] == [book["id"], base["id"], last["id"], None]
    assert [line["list_price"] for line in found["lines"]] == ["95.00"] * 4
    assert kinds(found["lines"][1]) == ["entry_price", "book_adjustment"]
    assert kinds(found["lines"][3]) == ["list_price", "book_adjustment", "currency"]
    without = shop.quote(*lines, currency="CHF")
    assert without["price_book_id"] == last["id"]
    assert [line["unit_price"] for line in without["lines"]] == ["70.00", "70.00", "70.00", "95.00"]


def test_the_product_goes_before_the_nearest_category_then_the_greatest_minimum_then_the_latest(shop):
    top = shop.make("product_categories", name="Top")
    middle = shop.make("product_categories", name="Middle", parent_id=top["id"])
    leaf = shop.make("product_categories", name="Leaf", parent_id=middle["id"])
    named, common = (shop.product(list_price="200", category_id=leaf["id"]) for _ in range(2))
    book = shop.book()
    shop.entry(book, category_id=top["id"], price="1")
    shop.entry(book, category_id=middle["id"], adjustment_percent="-25", rounding_step="40")
    shop.entry(book, product_id=named["id"], price="90")
    shop.entry(book, product_id=named["id"], price="80", minimum_quantity="10")
    shop.entry(book, product_id=named["id"], price="79", minimum_quantity="10", valid_from="2026-01-01")
    shop.entry(book, product_id=named["id"], price="1", minimum_quantity="10", valid_from="2026-07-01")
    shop.entry(book, product_id=named["id"], price="2", minimum_quantity="10", valid_until="2025-12-31")
    asked = [(named, "9"), (named, "10"), (named, "11"), (common, "1")]
    lines = [{"product_id": product["id"], "quantity": quantity} for product, quantity in asked]
    found = shop.quote(*lines, price_book_id=book["id"])["lines"]
    assert [line["unit_price"] for line in found] == ["90.00", "79.00", "79.00", "160.00"]
    assert kinds(found[3]) == ["list_price", "entry_adjustment", "rounding_step"]
    assert found[3]["explanation"][1]["percent"] == "-25"


def test_gross_prices_are_kept_to_the_cent_and_turned_into_net_ones(shop):
    product = shop.product(list_price="100")
    book = shop.book(prices_include_tax=True)
    shop.entry(book, product_id=product["id"], price="119.99")
    gross = shop.one(product, "3", price_book_id=book["id"], country="DE")
    assert (gross["gross"], gross["unit_price_net"], gross["list_price"]) == ("359.97", "100.8319", "119.00")
    assert (gross["net"], gross["tax"]) == ("302.50", "57.47")
    net = shop.one(product, "3", price_book_id=book["id"], country="DE", prices="net")
    assert (net["unit_price"], net["net"], kinds(net)) == ("100.8319", "302.50", ["entry_price", "tax"])
    exempt = shop.make("tax_profiles", name="Export", code="export", exempt=True)
    free = shop.one(product, price_book_id=book["id"], tax_profile_id=exempt["id"])
    assert (free["net"], free["tax"], free["taxes"]) == ("119.99", "0.00", [])


def test_a_price_is_of_the_unit_that_is_asked_for(shop):
    conversions = [{"unit_id": shop.box["id"], "factor": "12"}]
    product = shop.product(list_price="2.50", cost="1", conversions=conversions)
    book = shop.book()
    shop.entry(book, product_id=product["id"], price="2", minimum_quantity="12")
    line = shop.one(product, "2", {"unit_id": shop.box["id"]}, price_book_id=book["id"])
    assert (line["unit_price"], line["list_price"], line["net"], line["cost"]) == ("24.00", "30.00", "48.00", "24.00")
    assert kinds(line) == ["entry_price", "unit"]
    refused(
        shop.ask({"product_id": product["id"], "quantity": "1", "unit_id": shop.metre["id"]}),
        "/lines/0/unit_id",
        "reference_not_found",
    )


def test_a_price_may_be_given_and_what_was_found_is_told(shop):
    product = shop.product(list_price="10")
    line = shop.one(product, "2", {"unit_price": "8.125", "discount_amount": "1.25"})
    assert (line["unit_price"], line["found_price"], line["net"], line["discount"]) == (
        "8.125",
        "10.00",
        "15.00",
        "1.25",
    )
    assert kinds(line) == ["list_price", "override"]
    bare = shop.product()
    assert shop.one(bare, line={"unit_price": "5"})["net"] == "5.00"
    refused(shop.ask({"product_id": bare["id"], "quantity": "1"}), "/lines/0/product_id", "no_price")


def test_a_yen_has_no_decimals(shop):
    product = shop.product(list_price="99.5", currency="JPY")
    line = shop.one(product, "3", currency="JPY")
    assert (line["net"], line["tax"], line["gross"]) == ("299.00", "30.00", "329.00")


def test_an_account_gives_currency_and_country(shop):
    address = {"kind": "billing", "is_primary": True, "country": "FR", "city": "Lyon"}
    account = shop.rep.make("accounts", name="Lyon SA", currency="EUR", addresses=[address])
    product = shop.product(list_price="10")
    quote = shop.quote({"product_id": product["id"], "quantity": "1"}, account_id=account["id"], currency=None)
    assert (quote["currency"], quote["country"], quote["totals"]["gross"]) == ("EUR", "FR", "12.00")
    theirs = {"product_id": product["id"], "quantity": "1"}
    answer = shop.ask(theirs, account_id=account["id"], person=shop.org.outsider)
    refused(answer, "/account_id", "reference_not_found")
    assert (
        shop.ask(theirs, account_id=str(new_id()), person=shop.org.outsider).json()["errors"] == answer.json()["errors"]
    )
    assert shop.admin.post(f"/v1/accounts/{account['id']}/block", json={"reason": "unpaid"}).status_code == 200
    refused(shop.ask(theirs, account_id=account["id"]), "/account_id", "account_blocked")
    refused(shop.ask(theirs, currency=None), "/currency", "required")


@pytest.mark.parametrize(
    ("values", "pointer", "code"),
    [
        ({"quantity": "0"}, "/lines/0/quantity", "not_positive"),
        ({"quantity": "-1"}, "/lines/0/quantity", "invalid_quantity"),
        ({"quantity": "1.5"}, "/lines/0/quantity", "too_many_decimals"),
        ({"quantity": "999999999999"}, "/lines/0/quantity", "too_large"),
        ({"discount_percent": "100.01"}, "/lines/0/discount_percent", "invalid_percent"),
        ({"discount_amount": "10.01"}, "/lines/0/discount_amount", "invalid_discount"),
        ({"discount_amount": "-1"}, "/lines/0/discount_amount", "invalid_discount"),
        ({"discount_amount": "1", "discount_percent": "1"}, "/lines/0/discount_amount", "exactly_one"),
        ({"unit_price": "-1"}, "/lines/0/unit_price", "negative"),
        ({"unit_id": str(new_id())}, "/lines/0/unit_id", "reference_not_found"),
        ({"product_id": str(new_id())}, "/lines/0/product_id", "reference_not_found"),
        ({"product_id": "ext:erp:unknown"}, "/lines/0/product_id", "reference_not_found"),
        ({"rebate": "1"}, "/lines/0/rebate", "unknown_field"),
    ],
)
def test_what_cannot_be_priced_is_refused_where_it_stands(shop, values, pointer, code):
    product = shop.product(list_price="10")
    if values.get("quantity") == "999999999999":
        values = {**values, "unit_price": "1000"}
    refused(shop.ask({"product_id": product["id"], "quantity": "1", **values}), pointer, code)


def test_a_document_that_cannot_be_priced_is_refused(shop):
    product = shop.product(list_price="10", tax_class="standard")
    line = {"product_id": product["id"], "quantity": "1"}
    refused(shop.ask(line, currency="AUD"), "/lines/0/product_id", "no_currency_rate")
    book = shop.book(currency="NZD", valid_until="2026-06-14")
    refused(shop.ask(line, price_book_id=book["id"]), "/price_book_id", "not_valid")
    assert shop.one(product, price_book_id=book["id"], day="2026-06-01")["unit_price"] == "10.00"
    shop.entry(book, product_id=product["id"], price="7")
    refused(shop.ask(line, price_book_id=book["id"], day="2026-06-01"), "/currency", "no_currency_rate")
    refused(shop.ask(line, price_book_id=str(new_id())), "/price_book_id", "reference_not_found")
    refused(shop.ask(line, tax_profile_id=str(new_id())), "/tax_profile_id", "reference_not_found")
    refused(shop.ask(line, region="NY"), "/country", "required")
    refused(shop.ask(line, day="2019-12-31"), "/lines/0/product_id", "no_tax_rate")
    assert shop.ask(currency="EUR").status_code == 422
    assert shop.ask(*[line] * 201).status_code == 422
    odd = shop.product(list_price="10", tax_class="odd")
    refused(shop.ask({**line, "product_id": odd["id"]}), "/lines/0/product_id", "no_tax_rate")
    assert shop.admin.post(f"/v1/products/{product['id']}/retire").status_code == 200
    refused(shop.ask(line), "/lines/0/product_id", "product_retired")


def test_who_may_not_see_the_cost_sees_no_margin(shop):
    product = shop.product(list_price="10", cost="4")
    rights = [
        (f"{name}:read", "all") for name in ("products", "price_books", "price_entries", "tax_profiles", "tax_rates")
    ]
    rules = {
        name: [{"resource": resource, "field": field, "rule": "hidden"}]
        for name, resource, field in (("cost", "products", "cost"), ("price", "price_entries", "price"))
    }
    blind = {
        name: shop.org.person(name, shop.org.role(name, *rights, ("price_books:quote", "all"), field_rules=rules[name]))
        for name in rules
    }
    line = shop.one(product, person=blind["cost"])
    assert (line["cost"], line["margin"], line["redacted"]) == (None, None, ["cost", "margin"])
    answer = shop.ask({"product_id": product["id"], "quantity": "1"}, person=blind["price"])
    assert (answer.status_code, answer.json()["permission"]) == (403, "field price_entries.price")
    assert shop.ask({"product_id": product["id"], "quantity": "1"}, person=shop.org.reader).status_code == 403
    assert REPRESENTATIVE in shop.org.roles


def test_a_book_that_is_private_gives_no_prices(shop):
    product = shop.product(list_price="10")
    book = shop.book(currency="SEK", is_default=True)
    shop.entry(book, product_id=product["id"], price="1")
    shop.make("currency_rates", base_currency="EUR", quote_currency="SEK", rate="11", valid_from="2026-01-01")
    assert shop.one(product, currency="SEK")["unit_price"] == "1.00"
    private = shop.make("access_defaults", resource="price_books", level="private")
    role = shop.org.role(
        "books of one's own",
        *((f"{name}:read", "all") for name in ("products", "tax_profiles", "tax_rates", "currency_rates")),
        *((name, "own") for name in ("price_books:read", "price_entries:read", "price_books:quote")),
    )
    other = shop.org.person("bookless", role)
    assert shop.one(product, currency="SEK", person=other)["unit_price"] == "110.00"
    answer = shop.ask({"product_id": product["id"], "quantity": "1"}, price_book_id=book["id"], person=other)
    refused(answer, "/price_book_id", "reference_not_found")
    assert shop.admin.delete(f"/v1/access_defaults/{private['id']}").status_code == 204


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(1, 10**6), st.decimals("0", "99999.9999", places=4), st.decimals(0, 100, places=2)),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["net", "gross"]),
    st.sampled_from(["EUR", "JPY", "KWD", "CLF"]),
)
def test_sums_are_exact_over_http(shop, lines, mode, currency):
    if not hasattr(shop, "bare"):
        shop.bare = shop.product()
    asked = [
        {"product_id": shop.bare["id"], "quantity": str(count), "unit_price": str(cost), "discount_percent": str(off)}
        for count, cost, off in lines
    ]
    quote = shop.quote(*asked, prices=mode, currency=currency, country="DE")
    totals = quote["totals"]
    for part in (totals, *quote["lines"]):
        assert Decimal(part["net"]) + Decimal(part["tax"]) == Decimal(part["gross"])
    for name in ("net", "tax", "gross"):
        assert sum(Decimal(line[name]) for line in quote["lines"]) == Decimal(totals[name])


def test_a_basket_is_priced_by_the_same_few_statements_whatever_its_length(shop, statements):
    products = [shop.product(list_price="10") for _ in range(5)]
    lengths = []
    for count in (1, 5, 5):
        statements.clear()
        shop.quote(*({"product_id": product["id"], "quantity": "1"} for product in products[:count]))
        lengths.append(len(statements))
    assert lengths[1] == lengths[2] <= lengths[0]
    assert lengths[2] <= 4
