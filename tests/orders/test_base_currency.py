"""What documents come to in the base currency of the tenant: by which rate, until when, and summed up."""

from decimal import Decimal

import pytest

from tests.support.org import Org

TEA = {"description": "Tea", "unit_price": "100.00"}
DAY = "2026-03-01"


@pytest.fixture(scope="module")
def org(server) -> Org:
    org = Org.create(server)
    org.admin.make("base_currencies", currency="DEM", valid_from="2000-01-01")
    org.admin.make("base_currencies", currency="EUR", valid_from="2002-01-01")
    org.admin.make("currency_rates", base_currency="USD", quote_currency="EUR", rate="0.5", valid_from="2026-01-01")
    org.admin.make("currency_rates", base_currency="USD", quote_currency="EUR", rate="0.9", valid_from="2026-02-01")
    org.admin.make("currency_rates", base_currency="USD", quote_currency="EUR", rate="7", valid_from="2026-03-02")
    org.admin.make("currency_rates", base_currency="EUR", quote_currency="USD", rate="3", valid_from="2026-02-15")
    org.admin.make("currency_rates", base_currency="EUR", quote_currency="VND", rate="30000", valid_from="2026-01-01")
    return org


@pytest.fixture(scope="module")
def account(org) -> dict:
    return org.rep.make("accounts", name="Kaufmann")


def order(org, account, currency, day=DAY, **values) -> dict:
    lines = [{**TEA, "tax_percent": "20"}]
    return org.rep.make(
        "orders", **{"account_id": account["id"], "currency": currency, "ordered_on": day, "lines": lines, **values}
    )


def based(item) -> tuple[str | None, ...]:
    return tuple(item[name] for name in ("base_currency", "exchange_rate", "base_net_total", "base_gross_total"))


def act(org, made, verb, collection="orders", **body) -> dict:
    answer = org.rep.post(f"/v1/{collection}/{made['id']}/{verb}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_document_has_the_rate_of_its_day(org, account):
    assert based(order(org, account, "EUR")) == ("EUR", "1", "100.00", "120.00")
    assert based(order(org, account, "USD")) == ("EUR", "0.9", "90.00", "108.00")
    assert based(order(org, account, "USD", "2026-01-31")) == ("EUR", "0.5", "50.00", "60.00")
    assert based(order(org, account, "DEM", "2001-12-31")) == ("DEM", "1", "100.00", "120.00")
    quote = org.rep.make("quotes", account_id=account["id"], currency="USD", quoted_on=DAY, lines=[TEA])
    assert based(quote) == ("EUR", "0.9", "90.00", "90.00")
    moved = org.rep.patch(f"/v1/quotes/{quote['id']}", json={"quoted_on": "2026-01-31"}).json()
    assert based(moved) == ("EUR", "0.5", "50.00", "50.00")


def test_an_opposite_rate_is_turned_over_exactly(org, account):
    made = order(org, account, "VND", lines=[{"description": "Rice", "unit_price": "100000000"}])
    assert based(made) == ("EUR", "0.000033", "3333.33", "3333.33")
    grown = act(org, act(org, made, "confirm"), "amend", lines=[{"description": "Rice", "unit_price": "200000000"}])
    assert based(grown) == ("EUR", "0.000033", "6666.67", "6666.67")


def test_without_a_rate_or_a_base_currency_nothing_is_refused(org, account):
    made = order(org, account, "CHF")
    assert based(made) == ("EUR", None, None, None)
    assert based(order(org, account, "EUR", "1999-12-31")) == (None, None, None, None)
    listed = org.rep.all("/v1/orders", base_gross_total_is_null="true", currency="CHF")
    assert [one["id"] for one in listed] == [made["id"]]
    rate = org.admin.make(
        "currency_rates", base_currency="CHF", quote_currency="EUR", rate="1.1", valid_from="2026-01-01"
    )
    assert based(act(org, made, "confirm")) == ("EUR", "1.1", "110.00", "132.00")
    assert org.admin.delete(f"/v1/currency_rates/{rate['id']}").status_code == 204


def test_a_sum_that_is_too_large_is_null(org, account):
    org.admin.make("currency_rates", base_currency="KWD", quote_currency="EUR", rate="1000000", valid_from="2026-01-01")
    made = order(org, account, "KWD", lines=[{"description": "All", "unit_price": "9999999999"}])
    assert based(made) == ("EUR", "1000000", None, None)


@pytest.mark.parametrize(("collection", "verb"), [("orders", "confirm"), ("quotes", "send")])
def test_what_is_issued_keeps_its_rate(org, account, collection, verb):
    day = {"orders": "ordered_on", "quotes": "quoted_on"}[collection]
    rate = org.admin.make(
        "currency_rates", base_currency="GBP", quote_currency="EUR", rate="1.2", valid_from="2026-01-01"
    )
    path = f"/v1/currency_rates/{rate['id']}"
    made = org.rep.make(collection, **{"account_id": account["id"], "currency": "GBP", day: DAY, "lines": [TEA]})
    assert org.admin.patch(path, json={"rate": "1.3"}).status_code == 200
    issued = act(org, made, verb, collection)
    assert based(issued) == ("EUR", "1.3", "130.00", "130.00")
    assert org.admin.patch(path, json={"rate": "9"}).status_code == 200
    if collection == "orders":
        amended = act(org, issued, "amend", lines=[{**TEA, "quantity": "2"}])
        assert based(amended) == ("EUR", "1.3", "260.00", "260.00")
    assert org.admin.delete(path).status_code == 204


def test_sums_over_currencies(org):
    account = org.rep.make("accounts", name="Summed")
    made = [order(org, account, currency) for currency in ("EUR", "USD", "EUR")]
    body = {
        "group_by": ["base_currency"],
        "measures": [{"op": "sum", "field": "base_gross_total"}, {"op": "count"}],
        "filter": {"field": "account_id", "value": account["id"]},
    }
    (group,) = org.rep.post("/v1/orders/aggregate", json=body).json()["data"]
    assert group["group"] == {"base_currency": "EUR"}
    assert [str(one) for one in group["measures"]] == [
        str(sum(Decimal(one["base_gross_total"]) for one in made)),
        "3",
    ]
    ranked = org.rep.all("/v1/orders", account_id=account["id"], sort="base_gross_total", limit=1)
    assert [one["base_gross_total"] for one in ranked] == ["108.00", "120.00", "120.00"]
    above = org.rep.all("/v1/orders", account_id=account["id"], base_gross_total_gte="120")
    assert {one["id"] for one in above} == {made[0]["id"], made[2]["id"]}


def test_no_body_sets_them(org, account):
    for name in ("base_currency", "exchange_rate", "base_net_total", "base_gross_total"):
        answer = org.rep.post("/v1/orders", json={"account_id": account["id"], "currency": "EUR", name: "1"})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == f"/{name}"
