"""Lines of opportunities over HTTP: the amount follows from them, and documents take them over."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.orders.test_orders import amounts
from tests.pricing.test_quote import Shop, refused
from tests.support.org import Org
from tests.support.problems import problem

SILENT = ("lines", "lines_total", "lines_currency")
TODAY = datetime.now(UTC).date().isoformat()


@pytest.fixture(scope="module")
def shop(server):
    shop = Shop(Org.create(server))
    shop.lamp = shop.product(list_price="50.00", cost="20.00")
    shop.wholesale = shop.book(prices_include_tax=True)
    shop.entry(shop.wholesale, product_id=shop.lamp["id"], price="47.60")
    shop.account = shop.rep.make("accounts", name="Kaufmann", currency="EUR", addresses=[{"country": "DE"}])
    shop.dealer = shop.rep.make(
        "accounts", name="Dealer", price_book_id=shop.wholesale["id"], addresses=[{"country": "DE"}]
    )
    return shop


def deal(shop, *lines, **values) -> dict:
    body = {"name": "Fleet", "account_id": shop.account["id"], "currency": "EUR", "lines": list(lines), **values}
    return shop.rep.make("opportunities", **body)


def change(shop, made, status=200, **values):
    answer = shop.rep.patch(f"/v1/opportunities/{made['id']}", json=values)
    assert answer.status_code == status, answer.text
    return answer.json() if status == 200 else answer


def lines(shop) -> list[dict]:
    return [
        {"product_id": shop.lamp["id"], "quantity": "3", "discount_percent": "10"},
        {"description": "Setup", "unit_price": "20", "tax_percent": "0"},
    ]


def test_the_amount_is_what_the_lines_come_to_without_tax(shop):
    made = deal(shop, *lines(shop))
    lamp, setup = made["lines"]
    assert (lamp["sku"], lamp["unit_price"], lamp["price_source"], setup["price_source"]) == (
        *(shop.lamp["sku"], "50.00", "list", "given"),
    )
    assert (amounts(lamp), amounts(setup)) == (("135.00", "25.65", "160.65"), ("20.00", "0.00", "20.00"))
    assert (made["amount"], made["currency"], made["priced_on"]) == ("155.00", "EUR", TODAY)
    path = f"/v1/opportunities/{made['id']}"
    assert shop.rep.get(path).json() == made
    (began,) = shop.rep.get(f"{path}/stage_changes").json()["data"]
    assert (began["amount"], began["currency"]) == ("155.00", "EUR")
    listed = shop.rep.get(f"{path}/lines").json()["data"]
    assert [line["id"] for line in listed] == [setup["id"], lamp["id"]]  # newest first
    assert {line["opportunity_id"] for line in listed} == {made["id"]}
    told = shop.rep.post(
        "/v1/opportunity_lines/aggregate",
        json={
            "group_by": ["product_id"],
            "measures": [{"op": "sum", "field": "net_amount"}],
            "filter": {"field": "opportunity_id", "value": made["id"]},
        },
    ).json()["data"]
    assert {row["group"]["product_id"]: row["measures"] for row in told} == {
        shop.lamp["id"]: ["135.00"],
        None: ["20.00"],
    }


def test_lines_change_with_their_opportunity(shop):
    made = deal(shop, *lines(shop))
    kept, _ = made["lines"]
    again = change(shop, made, lines=[{"id": kept["id"], "product_id": shop.lamp["id"], "quantity": "2"}])
    assert [(line["id"], line["quantity"]) for line in again["lines"]] == [(kept["id"], "2")]
    assert again["amount"] == "100.00"
    assert len(shop.rep.get(f"/v1/opportunities/{made['id']}/lines").json()["data"]) == 1
    dealt = change(shop, made, account_id=shop.dealer["id"])
    assert (dealt["lines"][0]["unit_price"], dealt["lines"][0]["price_source"]) == ("40.00", "book")
    assert dealt["amount"] == "80.00"
    shop.make("currency_rates", base_currency="EUR", quote_currency="USD", rate="2", valid_from="2020-01-01")
    abroad = change(shop, made, currency="USD", lines=[{"product_id": shop.lamp["id"]}])
    assert (abroad["lines"][0]["id"], abroad["amount"], abroad["currency"]) == (kept["id"], "80.00", "USD")


def test_an_amount_that_the_lines_do_not_come_to_is_refused(shop):
    body = {"name": "Fleet", "account_id": shop.account["id"], "currency": "EUR", "lines": lines(shop)}
    refused(shop.rep.post("/v1/opportunities", json={**body, "amount": "155.01"}), "/amount", "amount_follows_lines")
    made = shop.rep.make("opportunities", **body, amount="155")
    for values, code in (
        ({"amount": "200"}, "amount_follows_lines"),
        ({"amount": None}, "amount_follows_lines"),
        ({"currency": "USD"}, "currency_follows_lines"),
        ({"currency": None}, "currency_follows_lines"),
    ):
        answer = change(shop, made, 422, **values)
        (fault,) = problem(answer, 422, code="invalid")["errors"]
        assert (fault["code"], fault["pointer"]) == (code, f"/{next(iter(values))}")
    refused(change(shop, made, 422, amount="1", lines=lines(shop)), "/amount", "amount_follows_lines")
    assert change(shop, made, amount="155.00", next_step="Call")["next_step"] == "Call"
    assert shop.rep.get(f"/v1/opportunities/{made['id']}").json()["amount"] == "155.00"


def test_without_lines_the_amount_is_settable_again(shop):
    made = deal(shop, *lines(shop))
    bare = change(shop, made, lines=[])
    assert (bare["lines"], bare["amount"], bare["priced_on"]) == ([], "155.00", None)
    assert shop.rep.get(f"/v1/opportunities/{made['id']}/lines").json()["data"] == []
    assert change(shop, made, amount="7", currency="USD")["amount"] == "7.00"
    refused(change(shop, made, 422, currency=None, lines=lines(shop)), "/currency", "required")
    assert change(shop, made, lines=[], amount="8")["amount"] == "8.00"
    refused(
        shop.rep.post("/v1/opportunities", json={"name": "N", "account_id": shop.account["id"], "lines": lines(shop)}),
        "/currency",
        "required",
    )


def test_what_cannot_be_priced_is_refused_where_it_stands(shop):
    body = {"name": "Fleet", "account_id": shop.account["id"], "currency": "EUR"}
    for line, pointer, code in (
        ({"quantity": "1"}, "/lines/0/description", "required"),
        ({"description": "Tea"}, "/lines/0/unit_price", "required"),
        ({"product_id": shop.account["id"]}, "/lines/0/product_id", "reference_not_found"),
    ):
        refused(shop.rep.post("/v1/opportunities", json={**body, "lines": [line]}), pointer, code)
    assert problem(shop.rep.post("/v1/opportunities", json={**body, "lines": None}), 422)
    blocked = shop.admin.make("accounts", name="Blocked", owner_id=shop.rep.id)
    assert shop.admin.post(f"/v1/accounts/{blocked['id']}/block", json={"reason": "No"}).status_code == 200
    answer = shop.rep.post("/v1/opportunities", json={**body, "account_id": blocked["id"], "lines": lines(shop)})
    refused(answer, "/account_id", "account_blocked", 409)


def test_stages_and_forecasts_use_the_amount(shop):
    made = deal(shop, *lines(shop), close_date="2031-02-01")
    moves = shop.rep.get(f"/v1/opportunities/{made['id']}/moves").json()["data"]
    change(shop, made, lines=[{"product_id": shop.lamp["id"]}])
    moved = shop.rep.post(f"/v1/opportunities/{made['id']}/move", json={"stage_id": moves[0]["stage_id"]})
    assert (moved.status_code, moved.json()["amount"], len(moved.json()["lines"])) == (200, "50.00", 1)
    history = shop.rep.get(f"/v1/opportunities/{made['id']}/stage_changes").json()["data"]
    assert sorted(entry["amount"] for entry in history) == ["155.00", "50.00"]
    forecast = shop.rep.get("/v1/forecasts", params={"period": "month", "from": "2031-02-01"}).json()["data"]
    (own,) = (row["own"] for row in forecast if row["principal_id"] == shop.rep.id)
    assert (own["count"], own["pipeline"]) == (1, "50.00")


def test_without_lines_nothing_costs_a_further_statement(shop, statements):
    body = {"name": "Fleet", "account_id": shop.account["id"], "amount": "5", "currency": "EUR"}
    deal(shop, **body)  # what is remembered is there
    made = shop.rep.make("opportunities", **body)
    statements.clear()
    made = shop.rep.make("opportunities", **body)
    assert len(statements) == 2, [sql for sql, _ in statements]  # where it begins, and the row
    statements.clear()
    change(shop, made, amount="7", currency="USD")
    assert len(statements) == 1, [sql for sql, _ in statements]
    stages = shop.rep.get(f"/v1/opportunities/{made['id']}/moves").json()["data"]
    statements.clear()
    answer = shop.rep.post(f"/v1/opportunities/{made['id']}/move", json={"stage_id": stages[0]["stage_id"]})
    assert answer.status_code == 200
    assert len([sql for sql, _ in statements if " " in sql.strip()]) == 3, [sql for sql, _ in statements]


def ruled(shop, name, field, rule):
    names = ("opportunities", "opportunity_lines", "quotes", "quote_lines", "accounts", "audit_log")
    rules = [{"resource": "opportunities", "field": field, "rule": rule}]
    role = shop.org.role(name, *((f"{item}:*", "all") for item in names), field_rules=rules)
    return shop.org.person(name, role)


@pytest.mark.parametrize("field", ["amount", "currency", "lines"])
def test_lines_are_hidden_with_what_they_tell(shop, field):
    made = deal(shop, *lines(shop))
    person = ruled(shop, f"blind_{field}", field, "hidden")
    seen = person.get(f"/v1/opportunities/{made['id']}").json()
    assert (seen["lines"], seen["redacted"]) == (None, sorted({field, "lines"}))
    for path in ("/v1/opportunity_lines", f"/v1/opportunities/{made['id']}/lines"):
        assert problem(person.get(path), 403)["permission"] == "opportunity_lines:read"
    answer = person.post("/v1/opportunity_lines/aggregate", json={"measures": [{"op": "count"}]})
    assert problem(answer, 403)
    assert person.get(f"/v1/opportunity_lines/{made['lines'][0]['id']}").status_code == 403
    (entry,) = person.all("/v1/audit_log", object_id=made["id"])
    assert not {field, *SILENT} & {*entry["before"], *entry["after"]}
    (entry,) = shop.admin.all("/v1/audit_log", object_id=made["id"])
    assert {field, "lines"} <= entry["after"].keys()
    answer = person.patch(f"/v1/opportunities/{made['id']}", json={"lines": []})
    assert problem(answer, 403)["code"] == "field_read_only"
    quote = person.make("quotes", account_id=shop.account["id"], currency="EUR", opportunity_id=made["id"])
    assert quote["lines"] == []
    graph = person.get(f"/v1/quotes/{quote['id']}/graph").json()
    assert graph["lines"] == []


def test_who_may_not_change_the_amount_may_not_change_the_lines(shop):
    made = deal(shop, *lines(shop))
    person = ruled(shop, "reads_amounts", "amount", "read_only")
    assert person.get(f"/v1/opportunities/{made['id']}").json()["lines"] == made["lines"]
    answer = person.patch(f"/v1/opportunities/{made['id']}", json={"lines": []})
    assert problem(answer, 403)["code"] == "field_read_only"


@pytest.mark.parametrize("collection", ["quotes", "orders"])
def test_a_document_takes_the_lines_of_its_opportunity(shop, collection):
    made = deal(shop, *lines(shop))
    body = {"account_id": shop.account["id"], "opportunity_id": made["id"]}
    taken = shop.rep.make(collection, **body)
    assert [line["origin_line_id"] for line in taken["lines"]] == [line["id"] for line in made["lines"]]
    assert (taken["net_total"], taken["currency"], taken["prices"]) == ("155.00", "EUR", "net")
    assert [line["price_source"] for line in taken["lines"]] == ["list", "given"]
    assert shop.rep.make(collection, **body, lines=None)["net_total"] == "155.00"
    assert shop.rep.make(collection, **body, lines=[])["lines"] == []
    own = shop.rep.make(collection, **body, lines=[{"description": "Tea", "unit_price": "1"}])
    assert [line["origin_line_id"] for line in own["lines"]] == [None]
    assert shop.rep.make(collection, account_id=shop.account["id"])["lines"] == []
    path = f"/v1/{collection}/{own['id']}"
    again = shop.rep.patch(path, json={"lines": None}).json()
    assert [line["origin_line_id"] for line in again["lines"]] == [line["id"] for line in made["lines"]]
    change(shop, made, lines=[])
    assert shop.rep.get(path).json() == again


@pytest.mark.parametrize("terms", [{"currency": "USD"}, {"prices": "gross"}])
def test_given_prices_are_not_taken_to_other_terms(shop, terms):
    made = deal(shop, *lines(shop))
    body = {"account_id": shop.account["id"], "opportunity_id": made["id"], **terms}
    refused(shop.rep.post("/v1/quotes", json=body), "/lines", "other_terms")
    found = change(shop, made, lines=[{"product_id": shop.lamp["id"], "discount_percent": "5"}])
    if "prices" in terms:
        taken = shop.rep.make("quotes", **body)
        assert (taken["lines"][0]["unit_price"], taken["net_total"]) == ("59.50", found["amount"])


def test_an_opportunity_that_is_not_seen_gives_no_lines(shop):
    made = deal(shop, *lines(shop))
    other = shop.org.outsider.make("accounts", name="Other", currency="EUR")
    body = {"account_id": other["id"], "opportunity_id": made["id"]}
    refused(shop.org.outsider.post("/v1/quotes", json=body), "/opportunity_id", "reference_not_found")


amount = st.decimals("0.01", "99999", places=2)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(1, 999), amount, st.integers(0, 100), st.sampled_from(["0", "7", "19", "8.875"])),
        min_size=1,
        max_size=6,
    )
)
def test_the_amount_is_the_sum_of_its_lines(shop, drawn):
    body = [
        {
            "description": f"Item {i}",
            "quantity": str(quantity),
            "unit_price": str(price),
            "discount_percent": str(discount),
            "tax_percent": tax,
        }
        for i, (quantity, price, discount, tax) in enumerate(drawn)
    ]
    made = deal(shop, *body)
    assert Decimal(made["amount"]) == sum(Decimal(line["net_amount"]) for line in made["lines"])
    rows = {row["id"]: row for row in shop.rep.get(f"/v1/opportunities/{made['id']}/lines").json()["data"]}
    assert [rows[line["id"]]["net_amount"] for line in made["lines"]] == [line["net_amount"] for line in made["lines"]]
    for (quantity, price, discount, _), line in zip(drawn, made["lines"], strict=True):
        exact = quantity * price * (100 - discount) / 100
        assert abs(Decimal(line["net_amount"]) - exact) <= Decimal("0.005")
    quote = shop.rep.make("quotes", account_id=shop.account["id"], opportunity_id=made["id"])
    assert quote["net_total"] == made["amount"]


@pytest.mark.parametrize("field", ["amount", "lines"])
@pytest.mark.parametrize("on_conflict", ["refuse", "ignore"])
def test_lines_whose_source_owns_them_or_the_amount_are_not_changed_by_others(shop, field, on_conflict):
    code = f"erp_{field}_{on_conflict}"
    owned = [{"resource": "opportunities", "field": field}]
    shop.make("sources", name=code, code=code, owned_fields=owned, on_conflict=on_conflict)
    made = deal(shop, *lines(shop))
    path = f"/v1/opportunities/{made['id']}"
    assert shop.rep.post(f"{path}/link", json={"source": code, "external_id": "1"}).status_code == 200
    for body in ({"lines": []}, {"lines": lines(shop)[:1]}, {"account_id": shop.dealer["id"]}):
        answer = shop.rep.patch(path, json=body)
        assert problem(answer, 409, code="field_owned")["source"] == code
    kept = change(shop, made, lines=lines(shop), next_step="Call")
    assert (kept["lines"], kept["amount"], kept["next_step"]) == (made["lines"], "155.00", "Call")


@pytest.mark.parametrize("on_conflict", ["refuse", "ignore"])
def test_owned_lines_of_an_order_keep_the_totals_that_they_have(shop, on_conflict):
    code = f"shop_{on_conflict}"
    owned = [{"resource": "orders", "field": "lines"}]
    shop.make("sources", name=code, code=code, owned_fields=owned, on_conflict=on_conflict)
    made = shop.rep.make("orders", account_id=shop.account["id"], lines=lines(shop))
    path = f"/v1/orders/{made['id']}"
    assert shop.rep.post(f"{path}/link", json={"source": code, "external_id": "1"}).status_code == 200
    for body in ({"lines": [], "note": "Hi"}, {"account_id": shop.dealer["id"]}):
        assert problem(shop.rep.patch(path, json=body), 409, code="field_owned")
    now = shop.rep.get(path).json()
    assert (now["lines"], now["net_total"], now["note"]) == (made["lines"], made["net_total"], None)
    assert shop.rep.patch(path, json={"note": "Hi"}).json()["note"] == "Hi"
    same = {"shipping_address": {"kind": "shipping", "city": "Bonn"}}
    kept = shop.rep.patch(path, json=same)
    assert (kept.status_code, kept.json()["lines"]) == (200, made["lines"]), "priced anew to what they are"


def test_an_item_of_a_batch_says_where_the_amount_is_wrong(shop):
    made = deal(shop, *lines(shop))
    items = [{"op": "update", "id": made["id"], "body": {"amount": "1"}}]
    answer = shop.rep.post("/v1/opportunities/batch", json={"items": items})
    (fault,) = problem(answer, 422)["errors"]
    assert (fault["code"], fault["pointer"].startswith("/items/0")) == ("amount_follows_lines", True)
