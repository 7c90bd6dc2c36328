"""Currency rates and taxes over HTTP: who may write them, and what is refused."""

from datetime import date
from fractions import Fraction

import pytest

from crm_api.domains.pricing.currency_rate import rate_on
from crm_api.domains.pricing.tax import Rate
from crm_api.domains.pricing.taxes import charged, rates_of
from crm_api.kernel.problems import Problem
from tests.support.org import Org

SPRING, SUMMER = date(2026, 3, 1), date(2026, 7, 1)


@pytest.fixture(scope="module")
def shop(server):
    return Org.create(server)


@pytest.fixture(scope="module")
def profile(shop):
    return shop.admin.make("tax_profiles", name="Domestic", code="domestic", is_default=True)


def rate(shop, base, quote, value, day):
    body = {"base_currency": base, "quote_currency": quote, "rate": value, "valid_from": day}
    return shop.admin.post("/v1/currency_rates", json=body)


def refused(answer, status, pointer, code):
    assert answer.status_code == status, answer.text
    assert (answer.json()["errors"][0]["pointer"], answer.json()["errors"][0]["code"]) == (pointer, code)


def test_only_the_administrator_writes_what_everyone_reads(shop, profile):
    for person in (shop.rep, shop.manager, shop.reader):
        assert person.get(f"/v1/tax_profiles/{profile['id']}").json() == profile
        assert person.post("/v1/tax_profiles", json={"name": "Mine", "code": "mine"}).status_code == 403
        assert person.patch(f"/v1/tax_profiles/{profile['id']}", json={"exempt": True}).status_code == 403


def test_a_conversion_takes_the_latest_rate_before_it_and_turns_the_opposite_over(shop):
    for value, day in (("1.10", "2026-01-01"), ("1.25", "2026-06-01"), ("2", "2026-12-01")):
        assert rate(shop, "EUR", "USD", value, day).status_code == 201
    assert rate(shop, "GBP", "EUR", "1.25", "2026-01-01").status_code == 201

    def on(base, quote, day):
        return shop.server.run(rate_on(shop.context(), base, quote, day, "/currency"))

    assert on("EUR", "USD", SPRING) == Fraction("1.10")
    assert on("EUR", "USD", SUMMER) == Fraction("1.25")
    assert on("USD", "EUR", SUMMER) == Fraction(4, 5)
    assert on("EUR", "GBP", SPRING) == Fraction(4, 5)
    assert on("EUR", "EUR", SPRING) == 1
    for base, quote, day in (("EUR", "USD", date(2025, 12, 31)), ("USD", "GBP", SUMMER)):
        with pytest.raises(Problem) as none:
            on(base, quote, day)
        assert none.value.errors[0].code == "no_currency_rate"
    refused(rate(shop, "EUR", "USD", "3", "2026-06-01"), 409, "/base_currency", "duplicate")


@pytest.mark.parametrize(
    ("values", "pointer", "code"),
    [
        ({"rate": "0"}, "/rate", "not_positive"),
        ({"rate": "-1"}, "/rate", "invalid_quantity"),
        ({"rate": 1.5}, "/rate", "invalid_quantity"),
        ({"quote_currency": "CHF"}, "/quote_currency", "same_currency"),
        ({"quote_currency": "ABC"}, "/quote_currency", "invalid_currency"),
        ({"valid_from": "2026-02-30"}, "/valid_from", "date_parsing"),
    ],
)
def test_what_is_no_rate_is_refused(shop, values, pointer, code):
    body = {"base_currency": "CHF", "quote_currency": "SEK", "rate": "11", "valid_from": "2026-01-01", **values}
    refused(shop.admin.post("/v1/currency_rates", json=body), 422, pointer, code)


def test_there_is_one_default_profile(shop, profile):
    refused(
        shop.admin.post("/v1/tax_profiles", json={"name": "Other", "code": "other", "is_default": True}),
        *(409, "/is_default", "duplicate"),
    )
    other = shop.admin.make("tax_profiles", name="Export, exempt", code="export", exempt=True)
    refused(
        shop.admin.patch(f"/v1/tax_profiles/{other['id']}", json={"is_default": True}), 409, "/is_default", "duplicate"
    )
    assert shop.admin.patch(f"/v1/tax_profiles/{profile['id']}", json={"is_default": True}).status_code == 200
    assert shop.admin.delete(f"/v1/tax_profiles/{profile['id']}").status_code == 204
    assert shop.admin.patch(f"/v1/tax_profiles/{other['id']}", json={"is_default": True}).status_code == 200
    refused(shop.admin.post(f"/v1/tax_profiles/{profile['id']}/restore"), 409, "/is_default", "duplicate")
    assert shop.admin.patch(f"/v1/tax_profiles/{other['id']}", json={"is_default": False}).status_code == 200
    assert shop.admin.post(f"/v1/tax_profiles/{profile['id']}/restore").status_code == 200


def test_rates_of_one_name_do_not_overlap(shop, profile):
    values = {"tax_profile_id": profile["id"], "country": "FR", "name": "TVA", "percent": "20"}
    first = shop.admin.make("tax_rates", **values, valid_from="2026-01-01", valid_until="2026-06-30")
    path = "/v1/tax_rates"
    for day in ("2025-12-01", "2026-06-30"):
        refused(shop.admin.post(path, json={**values, "valid_from": day}), 409, "/valid_from", "overlaps")
    refused(
        shop.admin.post(path, json={**values, "name": "tva", "valid_from": "2026-03-01"}),
        409,
        "/valid_from",
        "overlaps",
    )
    second = shop.admin.make("tax_rates", **values, valid_from="2026-07-01")
    refused(shop.admin.patch(f"{path}/{first['id']}", json={"valid_until": None}), 409, "/valid_from", "overlaps")
    refused(
        shop.admin.patch(f"{path}/{first['id']}", json={"valid_until": "2026-07-01"}), 409, "/valid_from", "overlaps"
    )
    refused(
        shop.admin.patch(f"{path}/{second['id']}", json={"valid_until": "2026-06-01"}),
        422,
        "/valid_until",
        "not_in_order",
    )
    assert shop.admin.post(path, json={**values, "country": "MC", "valid_from": "2026-03-01"}).status_code == 201
    assert shop.admin.delete(f"{path}/{first['id']}").status_code == 204
    assert shop.admin.patch(f"{path}/{second['id']}", json={"valid_from": "2026-06-01"}).status_code == 200
    refused(shop.admin.post(f"{path}/{first['id']}/restore"), 409, "/valid_from", "overlaps")
    listed = shop.reader.get(f"/v1/tax_profiles/{profile['id']}/rates", params={"country": "FR"}).json()["data"]
    assert [row["id"] for row in listed] == [second["id"]]


@pytest.mark.parametrize(
    ("values", "status", "pointer", "code"),
    [
        ({"percent": "100.0001"}, 422, "/percent", "invalid_percent"),
        ({"percent": "1.00001"}, 422, "/percent", "invalid_percent"),
        ({"percent": "-1"}, 422, "/percent", "invalid_percent"),
        ({"region": "NY"}, 409, "/country", "country_missing"),
        ({"tax_profile_id": "019aa1c2-7d3e-7c41-b1f2-3f6d1b0a9e55"}, 422, "/tax_profile_id", "reference_not_found"),
    ],
)
def test_what_is_no_tax_rate_is_refused(shop, profile, values, status, pointer, code):
    body = {"tax_profile_id": profile["id"], "name": "Odd", "percent": "1", "valid_from": "2026-01-01", **values}
    refused(shop.admin.post("/v1/tax_rates", json=body), status, pointer, code)


def test_the_taxes_of_a_place_are_its_own_and_those_of_its_region(shop, profile):
    make = {"tax_profile_id": profile["id"], "tax_class": "books", "valid_from": "2026-01-01"}
    shop.admin.make("tax_rates", **make, name="VAT", percent="7")
    shop.admin.make("tax_rates", **make, name="QST", percent="9.975", country="CA", region="QC", position=2)
    shop.admin.make("tax_rates", **make, name="GST", percent="5", country="CA", position=1)
    shop.admin.make("tax_rates", **make, name="PST", percent="7", country="CA", region="BC", position=2)

    def names(country, region, day):
        found = shop.server.run(rates_of(shop.context(), profile["id"], ["books"], country, day))
        return [rate.name for rate in charged(found, "books", country, region, day)]

    assert names("CA", "QC", SPRING) == ["GST", "QST"]
    assert names("CA", None, SPRING) == ["GST"]
    assert names("DE", None, SPRING) == names(None, None, SPRING) == ["VAT"]
    assert names("CA", "QC", date(2025, 12, 31)) == []
    found = shop.server.run(rates_of(shop.context(), profile["id"], ["books"], "DE", SPRING))
    assert charged(found, "books", "DE", None, SPRING) == (Rate("VAT", found[0].rate.percent),)
    assert charged(found, "standard", "DE", None, SPRING) == ()
