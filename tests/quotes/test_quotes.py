"""Quotes over HTTP: offers, revisions, copies, and the order that comes of one."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from crm_api.domains.quotes.expire import expire_outdated
from tests.orders.test_orders import product
from tests.support.problems import problem

TODAY = datetime.now(UTC).date()


@pytest.fixture(scope="module")
def org(shared_org):
    return shared_org


@pytest.fixture
def account(org) -> dict:
    return org.rep.make("accounts", name="Kaufmann", payment_terms="30 days")


@pytest.fixture(scope="module")
def chai(shared_org) -> dict:
    return product(shared_org, sku="CHAI-Q", name="Chai", list_price="18.00", currency="EUR")


TEA = {"description": "Tea", "unit_price": "5.00", "tax_percent": "19"}


def quote(org, account, *lines, **values) -> dict:
    return org.rep.make("quotes", account_id=account["id"], currency="EUR", lines=list(lines or (TEA,)), **values)


def act(person, made, verb, status=200, **body):
    answer = person.post(f"/v1/quotes/{made['id']}/{verb}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def accepted(org, account, *lines, **values) -> dict:
    made = quote(org, account, *lines, **values)
    act(org.rep, made, "send")
    return act(org.rep, made, "accept")


def read(org, collection, id_) -> dict:
    answer = org.rep.get(f"/v1/{collection}/{id_}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_quote_is_priced_and_gets_its_number_when_it_is_sent(org, account, chai):
    made = quote(org, account, {"product_id": chai["id"], "quantity": "3"}, TEA)
    assert (made["state"], made["number"], made["revision"]) == ("draft", None, 1)
    assert (made["net_total"], made["tax_total"], made["gross_total"]) == ("59.00", "0.95", "59.95")
    assert (made["payment_terms"], made["quoted_on"]) == ("30 days", str(TODAY))
    sent = act(org.rep, made, "send")
    assert sent["number"].startswith("Q-")
    assert sent["sent_at"]
    other = act(org.rep, quote(org, account), "send")
    assert int(other["number"][2:]) == int(sent["number"][2:]) + 1


def test_a_quote_without_lines_is_not_offered(org, account):
    made = org.rep.make("quotes", account_id=account["id"], currency="EUR")
    for verb in ("submit", "send"):
        refused = org.rep.post(f"/v1/quotes/{made['id']}/{verb}")
        assert problem(refused, 422)["errors"][0]["pointer"] == "/lines"
    assert read(org, "quotes", made["id"])["number"] is None


def test_a_draft_can_be_approved_and_taken_back(org, account):
    made = quote(org, account)
    approved = act(org.rep, made, "submit")
    assert approved["state"] == "approved"
    path, match = f"/v1/quotes/{made['id']}", {"If-Match": '"2"'}
    assert problem(org.rep.patch(path, json={"lines": []}, headers=match), 409)["code"] == "transition_refused"
    reopened = act(org.rep, made, "reopen")
    assert (reopened["state"], reopened["number"]) == ("draft", approved["number"])
    assert org.rep.patch(path, json={"lines": []}, headers={"If-Match": '"3"'}).status_code == 200


def test_what_is_out_of_date_is_neither_sent_nor_accepted(org, account, sql):
    late = {"quoted_on": str(TODAY - timedelta(days=9)), "valid_until": str(TODAY - timedelta(days=1))}
    made = quote(org, account, **late)
    refused = problem(org.rep.post(f"/v1/quotes/{made['id']}/send"), 409)
    assert refused["errors"][0]["code"] == "quote_expired"
    last = quote(org, account, valid_until=str(TODAY))
    act(org.rep, last, "send")
    sql("UPDATE quotes SET quoted_on = valid_until - 2, valid_until = valid_until - 1 WHERE id = $1", last["id"])
    assert problem(org.rep.post(f"/v1/quotes/{last['id']}/accept"), 409)["errors"][0]["code"] == "quote_expired"


def test_it_does_not_end_before_it_begins(org, account):
    body = {"account_id": account["id"], "currency": "EUR", "quoted_on": "2026-02-01", "valid_until": "2026-01-31"}
    assert problem(org.rep.post("/v1/quotes", json=body), 422)["errors"][0]["code"] == "not_in_order"


def test_the_answer_of_the_account_is_kept(org, account):
    made = quote(org, account)
    act(org.rep, made, "send")
    declined = act(org.rep, made, "decline", reason="Too dear")
    assert (declined["state"], declined["reason"]) == ("rejected", "Too dear")
    assert declined["decided_at"]
    assert problem(org.rep.post(f"/v1/quotes/{made['id']}/accept"), 409)["code"] == "transition_refused"


def test_a_revision_starts_as_the_quote_was(org, account, chai):
    made = quote(org, account, {"product_id": chai["id"], "discount_percent": "10"}, TEA, quoted_on="2026-01-05")
    sent = act(org.rep, made, "send")
    old = act(org.rep, made, "revise")
    new = read(org, "quotes", old["superseded_by_id"])
    assert (old["state"], new["state"]) == ("superseded", "draft")
    assert (new["number"], new["revision"], new["previous_id"]) == (sent["number"], 2, made["id"])
    for name in ("quoted_on", "gross_total", "payment_terms", "currency", "account_id", "owner_id"):
        assert new[name] == sent[name], name
    assert [line["origin_line_id"] for line in new["lines"]] == [line["id"] for line in sent["lines"]]
    assert [line["unit_price"] for line in new["lines"]] == [line["unit_price"] for line in sent["lines"]]
    third = act(org.rep, act(org.rep, new, "send"), "revise")
    assert read(org, "quotes", third["superseded_by_id"])["revision"] == 3


def test_a_revision_keeps_what_is_no_longer_sold(org, account):
    item = product(org, sku="OLD-Q", name="Old", list_price="7.00", currency="EUR")
    made = quote(org, account, {"product_id": item["id"]})
    act(org.rep, made, "send")
    assert org.admin.post(f"/v1/products/{item['id']}/retire").status_code == 200
    old = act(org.rep, made, "revise")
    assert read(org, "quotes", old["superseded_by_id"])["net_total"] == "7.00"


def test_of_two_who_revise_at_once_one_does(org, account):
    made = quote(org, account)
    sent = act(org.rep, made, "send")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: org.rep.post(f"/v1/quotes/{made['id']}/revise"), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    rows = org.rep.all("/v1/quotes", number=sent["number"])
    assert sorted(row["revision"] for row in rows) == [1, 2]


def test_a_copy_is_a_quote_of_its_own_at_the_prices_of_today(org, account, chai):
    made = quote(org, account, {"product_id": chai["id"]}, TEA, quoted_on="2026-01-05", tags=["fair"])
    act(org.rep, made, "send")
    copied = act(org.rep, made, "copy", 201)
    assert (copied["state"], copied["number"], copied["revision"]) == ("draft", None, 1)
    assert (copied["quoted_on"], copied["tags"]) == (str(TODAY), ["fair"])
    assert (copied["previous_id"], copied["gross_total"]) == (None, made["gross_total"])
    assert {line["origin_line_id"] for line in copied["lines"]} == {None}
    assert not {line["id"] for line in copied["lines"]} & {line["id"] for line in made["lines"]}
    assert read(org, "quotes", made["id"])["state"] == "sent"


def test_an_accepted_quote_becomes_an_order_at_its_prices(org, account, chai):
    line = {"product_id": chai["id"], "quantity": "2", "discount_percent": "5", "tax_percent": "19"}
    made = accepted(org, account, line, TEA, client_reference="Ours")
    price = {"list_price": "99.00"}
    assert org.admin.patch(f"/v1/products/{chai['id']}", json=price).status_code == 200
    try:
        converted = act(org.rep, made, "convert", requested_on="2027-01-01")
    finally:
        assert org.admin.patch(f"/v1/products/{chai['id']}", json={"list_price": "18.00"}).status_code == 200
    found = read(org, "orders", converted["order_id"])
    assert (found["state"], found["requested_on"], found["client_reference"]) == ("draft", "2027-01-01", "Ours")
    for name in ("net_total", "tax_total", "gross_total", "discount_total", "currency", "payment_terms"):
        assert found[name] == made[name], name
    assert [item["origin_line_id"] for item in found["lines"]] == [item["id"] for item in made["lines"]]
    lines = org.rep.all("/v1/order_lines", order_id=found["id"])
    assert {item["origin_line_id"] for item in lines} == {item["id"] for item in made["lines"]}
    expanded = org.rep.get(f"/v1/orders/{found['id']}", params={"expand": "quotes"}).json()
    assert [item["id"] for item in expanded["quotes"]["data"]] == [made["id"]]


def test_a_quote_is_converted_once(org, account):
    made = accepted(org, account)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: org.rep.post(f"/v1/quotes/{made['id']}/convert"), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    (done,) = (answer.json() for answer in answers if answer.status_code == 200)
    refused = problem(org.rep.post(f"/v1/quotes/{made['id']}/convert"), 409)
    assert (refused["errors"][0]["code"], refused["order_id"]) == ("already_converted", done["order_id"])
    assert len(org.rep.all("/v1/orders", account_id=account["id"])) == 1


def test_only_what_was_accepted_is_converted(org, account):
    made = quote(org, account)
    refused = problem(org.rep.post(f"/v1/quotes/{made['id']}/convert"), 409)
    assert (refused["state"], refused["allowed_from"]) == ("draft", ["accepted"])


def test_conversion_takes_the_right_to_create_orders(org, account):
    role = org.role("Quotes only", ("quotes:*", "all"), ("quote_lines:read", "all"), ("accounts:read", "all"))
    person = org.person("quoter", role)
    made = accepted(org, account)
    assert problem(person.post(f"/v1/quotes/{made['id']}/convert"), 403)["permission"] == "orders:create"
    assert read(org, "quotes", made["id"])["order_id"] is None


def test_a_book_that_has_ended_does_not_stop_a_conversion(org, account, chai):
    book = org.admin.make("price_books", name="Spring", code="spring_q", currency="EUR", valid_until=str(TODAY))
    made = accepted(org, account, {"product_id": chai["id"]}, price_book_id=book["id"])
    ended = {"valid_until": str(TODAY - timedelta(days=1))}
    assert org.admin.patch(f"/v1/price_books/{book['id']}", json=ended).status_code == 200
    found = read(org, "orders", act(org.rep, made, "convert")["order_id"])
    assert (found["net_total"], found["price_book_id"]) == ("18.00", None)


def test_a_refused_conversion_leaves_the_quote_and_says_why(org, account):
    made = accepted(org, account)
    assert org.admin.post(f"/v1/accounts/{account['id']}/block", json={"reason": "Fraud"}).status_code == 200
    refused = problem(org.rep.post(f"/v1/quotes/{made['id']}/convert"), 422)
    assert refused["errors"][0]["code"] == "account_blocked"
    assert read(org, "quotes", made["id"])["order_id"] is None
    assert org.rep.all("/v1/orders", account_id=account["id"]) == []


def test_what_is_hidden_of_a_quote_does_not_go_along(org, account):
    role = org.role(
        "Without notes",
        *((f"{name}:*", "all") for name in ("quotes", "quote_lines", "orders")),
        *((f"{name}:read", "all") for name in ("accounts", "products")),
        field_rules=[{"resource": "quotes", "field": "note", "rule": "hidden"}],
    )
    person = org.person("half_blind", role)
    made = accepted(org, account, note="They pay late")
    converted = act(person, made, "convert")
    assert read(org, "orders", converted["order_id"])["note"] is None
    assert read(org, "quotes", act(person, made, "copy", 201)["id"])["note"] is None


@pytest.mark.parametrize(
    ("line", "pointer"),
    [
        ({**TEA, "quantity": "0"}, "/lines/0/quantity"),
        ({**TEA, "quantity": "-1"}, "/lines/0/quantity"),
        ({**TEA, "discount_percent": "100.01"}, "/lines/0/discount_percent"),
        ({"unit_price": "1.00"}, "/lines/0/description"),
    ],
)
def test_bad_lines_are_refused(org, account, line, pointer):
    body = {"account_id": account["id"], "currency": "EUR", "lines": [line]}
    assert problem(org.rep.post("/v1/quotes", json=body), 422)["errors"][0]["pointer"] == pointer


def test_what_is_not_answered_in_time_expires_by_itself(org, account, sql):
    late, last, free = (quote(org, account, valid_until=day) for day in (str(TODAY), str(TODAY), None))
    for made in (late, last, free):
        act(org.rep, made, "send")
    sql("UPDATE quotes SET quoted_on = valid_until - 2, valid_until = valid_until - 1 WHERE id = $1", late["id"])
    assert org.server.run(expire_outdated(org.server.kernel)) >= 1
    states = [read(org, "quotes", made["id"])["state"] for made in (late, last, free)]
    assert states == ["expired", "sent", "sent"]
    entries = org.admin.all("/v1/audit_log", object_type="quote", object_id=late["id"], action="expire")
    assert [entry["actor_id"] for entry in entries] == [None]
    assert org.server.run(expire_outdated(org.server.kernel)) == 0
