"""Sales documents, approvals and prints: what goes around an approval, tells what is hidden, or hangs."""

import itertools
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime

import pytest
from asyncpg import LockNotAvailableError

from crm_api.domains.approvals.remind import remind
from crm_api.domains.quotes.expire import expire_outdated
from tests.orders.test_orders import product
from tests.support.org import ADMINISTRATOR, REPRESENTATIVE, Org
from tests.support.problems import problem

_numbers = itertools.count(1)
UUIDS = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MANAGED = {"kind": "manager"}
TEXT = {"description": "Tea", "unit_price": "100.00", "quantity": "10"}


@pytest.fixture(scope="module")
def org(shared_org):
    return shared_org


@pytest.fixture
def account(org) -> dict:
    return org.rep.make("accounts", name=f"Kaufmann {next(_numbers)}", currency="EUR")


@pytest.fixture(scope="module")
def lamp(shared_org) -> dict:
    return product(shared_org, sku="LAMP-S", name="Lamp", list_price="100.00", cost="60.00", currency="EUR")


def rule(org, account, object_type="order", steps=(MANAGED,), **values) -> dict:
    body = {"name": "Rule", "object_type": object_type, "account_id": account["id"], "steps": list(steps), **values}
    return org.admin.make("approval_rules", **body)


def order(person, account, *lines, **values) -> dict:
    return person.make("orders", **{"account_id": account["id"], "currency": "EUR", "lines": list(lines), **values})


def act(person, plural, item, verb, status=200, **body) -> dict:
    answer = person.post(f"/v1/{plural}/{item['id']}/{verb}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def approval_of(org, made) -> dict:
    (found,) = org.admin.all("/v1/approvals", object_id=made["id"], status="pending")
    return found


def scoped(org, person, *scopes: str) -> dict[str, str]:
    """The header of a further key of somebody."""
    made = org.admin.post(f"/v1/users/{person.id}/issue_key", json={"name": "narrow", "scopes": list(scopes)})
    assert made.status_code == 201, made.text
    return {"Authorization": f"Bearer {made.json()['key']}"}


@pytest.mark.parametrize("blindness", ["field", "permission"])
@pytest.mark.parametrize("condition", [{"discount_over": "50"}, {"margin_under": "10"}])
def test_who_is_told_no_prices_gives_none_away_without_approval(org, lamp, blindness, condition):
    """A discount is measured by the price of the books, and a margin by the cost, whoever may see them."""
    rules = [{"resource": "products", "field": "list_price", "rule": "hidden"}]
    rules += [{"resource": "products", "field": "cost", "rule": "hidden"}]
    grants = [(f"{name}:*", "own") for name in ("accounts", "orders", "order_lines")]
    if blindness == "field":
        grants += [("price_entries:read", "all"), ("tax_rates:read", "all")]
    else:
        rules = []
    role = org.role(f"Blind {next(_numbers)}", *grants, ("products:read", "all"), field_rules=rules)
    blind = org.person(f"blind{next(_numbers)}", role)
    account = blind.make("accounts", name="Friend")
    rule(org, account, steps=[{"kind": "principal", "principal_id": org.manager.id}], **condition)
    problem(blind.post("/v1/orders", json={"account_id": account["id"], "lines": [{"product_id": lamp["id"]}]}), 422)
    line = {"product_id": lamp["id"], "unit_price": "1.00"}
    made = order(blind, account, line)
    assert "100.00" not in str(made)
    assert act(blind, "orders", made, "confirm")["state"] == "pending_approval"
    full = order(blind, account, {**line, "unit_price": "100.00"})
    assert act(blind, "orders", full, "confirm")["state"] == "confirmed"


def test_a_credit_is_a_discount(org, account, lamp):
    rule(org, account, discount_over="50")
    line, credit = {"product_id": lamp["id"]}, {"description": "Voucher", "unit_price": "-50.00"}
    made = order(org.rep, account, line, credit)
    assert act(org.rep, "orders", made, "confirm")["state"] == "confirmed"
    made = order(org.rep, account, line, {**credit, "unit_price": "-50.01"})
    assert act(org.rep, "orders", made, "confirm")["state"] == "pending_approval"
    huge = order(org.rep, account, {**TEXT, "unit_price": "0.01", "quantity": "1"}, {**credit, "unit_price": "-999999"})
    assert act(org.rep, "orders", huge, "confirm")["state"] == "pending_approval"


def test_a_credit_does_not_hide_the_margin(org, account, lamp):
    rule(org, account, margin_under="30")
    line, credit = {"product_id": lamp["id"]}, {"description": "Voucher", "unit_price": "-20.00"}
    assert act(org.rep, "orders", order(org.rep, account, line), "confirm")["state"] == "confirmed"
    for more in (credit, {"description": "Nothing", "unit_price": "0"}):
        made = order(org.rep, account, {**line, "unit_price": "80.00"}, more)
        assert act(org.rep, "orders", made, "confirm")["state"] == "pending_approval"


def test_what_has_no_cost_does_not_hide_a_loss(org, account, lamp):
    """A line whose cost nobody knows, and giving all away, leave the margin of the rest as it is."""
    rule(org, account, margin_under="10")
    cheap = {"product_id": lamp["id"], "unit_price": "50.00"}
    for lines in (
        [cheap, {"description": "Handling", "unit_price": "0.01"}],
        [{"product_id": lamp["id"], "discount_percent": "100"}],
        [{"description": "Voucher", "unit_price": "-10.00"}],
    ):
        made = order(org.rep, account, *lines)
        assert act(org.rep, "orders", made, "confirm")["state"] == "pending_approval", lines
    for lines in (
        [TEXT],
        [TEXT, {"description": "Voucher", "unit_price": "-1.00"}],
        [{"product_id": lamp["id"]}, TEXT],
    ):
        made = order(org.rep, account, *lines)
        assert act(org.rep, "orders", made, "confirm")["state"] == "confirmed", lines


def test_credits_alone_are_a_discount(org, account):
    rule(org, account, discount_over="99")
    made = order(org.rep, account, {"description": "Voucher", "unit_price": "-10.00"})
    assert act(org.rep, "orders", made, "confirm")["state"] == "pending_approval"


def test_credits_open_no_room_below_a_credit_limit(org):
    account = org.rep.make("accounts", name="Limited", currency="EUR", credit_limit="100.00")
    credit = order(org.rep, account, {"description": "Voucher", "unit_price": "-1000.00"})
    assert act(org.rep, "orders", credit, "confirm")["state"] == "confirmed"
    made = order(org.rep, account, {"description": "Much", "unit_price": "100.01"})
    assert act(org.rep, "orders", made, "confirm", 409)["errors"][0]["code"] == "credit_exceeded"


def test_an_amendment_asks_of_what_is_agreed_by_the_prices_of_then(org, account, lamp):
    """The list price that went up makes no discount of it; to take less than a price was for does."""
    rule(org, account, discount_over="10")
    book = org.admin.make("price_books", name="Breaks", code=f"breaks{next(_numbers)}", currency="EUR")
    made = org.admin.make("products", **{name: lamp[name] for name in ("unit_id", "kind", "currency", "list_price")},
                          sku=f"A{next(_numbers)}", name="Agreed")  # fmt: skip
    for quantity, price in (("1", "100.00"), ("10", "50.00")):
        org.admin.make(
            "price_entries", price_book_id=book["id"], product_id=made["id"], minimum_quantity=quantity, price=price
        )
    line = {"product_id": made["id"], "quantity": "10"}
    sold = order(org.rep, account, line, price_book_id=book["id"])
    assert act(org.rep, "orders", sold, "confirm")["state"] == "confirmed"
    for entry in org.admin.all("/v1/price_entries", price_book_id=book["id"]):
        double = {"50.00": "100.00", "100.00": "200.00"}[entry["price"]]
        assert org.admin.patch(f"/v1/price_entries/{entry['id']}", json={"price": double}).status_code == 200
    more = act(org.rep, "orders", sold, "amend", lines=[{**line, "quantity": "11"}])
    assert more["lines"][0]["unit_price"] == "50.00"
    less = act(org.rep, "orders", sold, "amend", 409, lines=[{**line, "quantity": "1"}])
    assert less["errors"][0]["code"] == "approval_required"


def test_an_amendment_does_not_bring_to_light_a_loss_that_nobody_approved(org, account, lamp):
    rule(org, account, amount_over="500.00", currency="EUR")
    rule(org, account, margin_under="10")
    cheap = {"product_id": lamp["id"], "unit_price": "100.00", "quantity": "10"}
    made = order(org.rep, account, cheap, {"description": "Advice", "unit_price": "100.00"})
    assert act(org.rep, "orders", made, "confirm")["state"] == "pending_approval"
    asked = approval_of(org, made)
    assert {reason["code"] for reason in asked["reasons"]} == {"amount", "account"}
    act(org.manager, "approvals", asked, "approve")
    refused = act(org.rep, "orders", made, "amend", 409, lines=[{**cheap, "quantity": "9", "unit_price": "50.00"}])
    assert refused["errors"][0]["code"] == "approval_required"


def test_a_role_that_was_deleted_neither_exempts_nor_decides(org, account):
    exempt = org.role(f"Exempt {next(_numbers)}", ("approvals:read", "own"))
    asked = org.role(f"Asked {next(_numbers)}", ("approvals:read", "own"))
    seller = org.person(f"seller{next(_numbers)}", REPRESENTATIVE, manager="manager")
    for role, person in ((exempt, seller), (asked, org.outsider), (asked, org.other_manager)):
        org.admin.make("role_assignments", role_id=role, principal_id=person.id)
    own = seller.make("accounts", name="Governed")
    rule(org, own, exempt_role_ids=[exempt], steps=[{"kind": "role", "role_id": asked}])
    assert act(seller, "orders", order(seller, own, TEXT), "confirm")["state"] == "confirmed"
    assert org.admin.delete(f"/v1/roles/{exempt}").status_code == 204
    made = order(seller, own, TEXT)
    assert act(seller, "orders", made, "confirm")["state"] == "pending_approval"
    found = approval_of(org, made)
    assert found["approver_role_id"] == asked
    assert org.outsider.get(f"/v1/approvals/{found['id']}").status_code == 200
    assert org.admin.delete(f"/v1/roles/{asked}").status_code == 204
    problem(org.outsider.get(f"/v1/approvals/{found['id']}"), 404)
    problem(org.outsider.post(f"/v1/approvals/{found['id']}/approve"), 404)
    again = order(seller, own, TEXT)
    act(seller, "orders", again, "confirm")
    assert approval_of(org, again)["approver_id"] == org.manager.id


def test_one_delegates_to_whom_one_sees(org, account):
    rule(org, account)
    made = order(org.rep, account, TEXT)
    act(org.rep, "orders", made, "confirm")
    found = approval_of(org, made)
    private = org.admin.make("access_defaults", resource="principals", level="private")
    try:
        for id_ in (org.outsider.id, "019aa1d9-0000-7000-8000-00000000dead"):
            refused = act(org.manager, "approvals", found, "delegate", 422, principal_id=id_)
            assert refused["errors"][0]["code"] == "reference_not_found"
    finally:
        assert org.admin.delete(f"/v1/access_defaults/{private['id']}").status_code == 204
    act(org.manager, "approvals", found, "delegate", principal_id=org.outsider.id)


def test_a_key_is_told_no_price_or_cost_beyond_its_scopes(org, lamp):
    body = {"currency": "EUR", "lines": [{"product_id": lamp["id"], "quantity": "1"}]}
    admins = [org.person(f"admin{next(_numbers)}", ADMINISTRATOR) for _ in range(2)]
    narrow = scoped(org, admins[0], "pricing:read", "pricing:write")
    refused = problem(org.admin.post("/v1/prices/quote", json=body, headers=narrow), 403)
    assert refused["permission"] == "scope products:read"
    wide = scoped(org, admins[1], "pricing:read", "pricing:write", "products:read")
    answer = org.admin.post("/v1/prices/quote", json=body, headers=wide)
    assert answer.json()["lines"][0]["cost"] == "60.00"


def test_a_key_is_told_no_margin_and_no_external_id_beyond_its_scopes(org, account, lamp):
    act(org.rep, "orders", order(org.rep, account, {"product_id": lamp["id"]}), "confirm")
    span = {"from": "2020-01-01", "until": "2100-01-01", "account_id": account["id"]}
    narrow = scoped(org, org.person(f"admin{next(_numbers)}", ADMINISTRATOR), "orders:read")
    (line,) = org.admin.get("/v1/sales", params=span, headers=narrow).json()["data"]
    assert (line["net"], line["margin"]) == ("100.00", None)
    (line,) = org.admin.get("/v1/sales", params=span).json()["data"]
    assert line["margin"] == "40.00"
    named = {**span, "account_id": "ext:erp:1"}
    assert problem(org.admin.get("/v1/sales", params=named, headers=narrow), 403)["permission"] == "scope accounts:read"


def test_a_key_that_may_not_confirm_is_not_told_of_the_credit(org, account):
    assert org.admin.patch(f"/v1/accounts/{account['id']}", json={"credit_limit": "5.00"}).status_code == 200
    made = order(org.rep, account, TEXT)
    path = f"/v1/orders/{made['id']}/transitions"

    def confirming(**options):
        (found,) = (edge for edge in org.rep.get(path, **options).json()["data"] if edge["action"] == "confirm")
        assert found["allowed"] is False
        return [reason["code"] for reason in found["blocked_by"]]

    assert confirming() == ["credit_exceeded"]
    assert confirming(headers=scoped(org, org.rep, "orders:read")) == ["permission"]


def test_a_hidden_price_book_does_not_go_along_with_a_conversion(org, account, lamp):
    book = org.admin.make("price_books", code=f"b{next(_numbers)}", name="Secret", currency="EUR")
    org.admin.make("price_entries", price_book_id=book["id"], product_id=lamp["id"], price="90.00")
    rules = [{"resource": "quotes", "field": "price_book_id", "rule": "hidden"}]
    grants = [(f"{name}:*", "all") for name in ("quotes", "quote_lines", "orders", "order_lines")]
    role = org.role(f"No books {next(_numbers)}", *grants, ("accounts:read", "all"), field_rules=rules)
    person = org.person(f"no_books{next(_numbers)}", role)
    body = {"account_id": account["id"], "price_book_id": book["id"], "lines": [{"product_id": lamp["id"]}]}
    made = org.rep.make("quotes", **body)
    for verb in ("send", "accept"):
        act(org.rep, "quotes", made, verb)
    converted = org.admin.get(f"/v1/orders/{act(person, 'quotes', made, 'convert')['order_id']}").json()
    assert converted["price_book_id"] != book["id"]
    assert converted["net_total"] == "90.00"


@pytest.mark.broad  # it takes eight seconds
def test_templates_that_take_long_keep_nobody_else_waiting(org, server):
    """A template is tried while a transaction waits; there are no more of these than a process can spare."""
    slow = "#for a in range(10000) { for b in range(10000) { for c in range(10000) { } } }"
    others = [type(org).create(server) for _ in range(2)]

    def tried(n):
        body = {"name": "Slow", "object_type": "order", "language": "en", "source": f"{slow}\n// {n}"}
        return (org, *others)[n % 3].admin.post("/v1/document_templates", json=body).status_code

    with ThreadPoolExecutor(16) as pool:
        waiting = [pool.submit(tried, n) for n in range(15)]
        time.sleep(0.5)
        assert org.outsider.get("/v1/me").status_code == 200
        status = [one.result() for one in waiting]
    assert status.count(503) >= 13
    assert set(status) <= {422, 503}


def test_what_stands_in_the_way_is_told_while_somebody_holds_the_account(org, account, sql):
    """Who asks takes no lock, and waits for none."""
    made = order(org.rep, account, TEXT)
    sql("BEGIN")
    try:
        sql("SELECT FROM accounts WHERE id = $1 FOR UPDATE", account["id"])
        answer = org.rep.get(f"/v1/orders/{made['id']}/transitions")
        assert answer.status_code == 200, answer.text
    finally:
        sql("ROLLBACK")


@pytest.mark.parametrize("verb", ["cancel", "reopen"])
def test_approving_against_taking_back_ends_in_one_or_the_other(org, account, verb):
    """They lock approval and order the other way round."""
    rule(org, account)
    for _ in range(6):
        made = order(org.rep, account, TEXT)
        act(org.rep, "orders", made, "confirm")
        found = approval_of(org, made)
        asked = [
            (org.manager, f"/v1/approvals/{found['id']}/approve"),
            (org.rep, f"/v1/orders/{made['id']}/{verb}"),
        ] * 2
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda one: one[0].post(one[1]), asked))
        codes = [(answer.status_code, answer.json().get("code")) for answer in answers]
        assert {status for status, _ in codes} <= {200, 409}, codes
        assert 200 in {status for status, _ in codes}, codes
        status = org.admin.get(f"/v1/approvals/{found['id']}").json()["status"]
        state = org.admin.get(f"/v1/orders/{made['id']}").json()["state"]
        assert (status, state) in {
            ("approved", "confirmed"),
            ("approved", "cancelled"),
            ("withdrawn", "cancelled"),
            ("withdrawn", "draft"),
        }


@pytest.mark.parametrize(
    ("first", "second"), [("convert", "convert"), ("accept", "decline"), ("accept", "cancel"), ("revise", "accept")]
)
def test_of_two_verbs_on_a_quote_one_holds(org, account, first, second):
    made = org.rep.make("quotes", account_id=account["id"], currency="EUR", lines=[TEXT])
    act(org.rep, "quotes", made, "send")
    if first == "convert":
        act(org.rep, "quotes", made, "accept")
    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(lambda verb: org.rep.post(f"/v1/quotes/{made['id']}/{verb}").status_code, [first, second] * 2)
        )
    assert sorted(answers) == [200, 409, 409, 409]


def test_amending_against_holding_loses_nothing(org, account):
    made = order(org.rep, account, TEXT)
    act(org.rep, "orders", made, "confirm")
    path = f"/v1/orders/{made['id']}"

    def ask(n):
        if n % 2:
            return org.rep.post(f"{path}/{('hold', 'release')[n // 2 % 2]}").status_code
        return org.rep.post(f"{path}/amend", json={"lines": [TEXT, {**TEXT, "description": f"{n}"}]}).status_code

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(12)))
    assert set(answers) <= {200, 409}
    assert org.rep.get(path).json()["amendment"] == sum(code == 200 for code in answers[::2]) == 6


def test_a_document_does_not_take_the_approval_of_another_kind(org, account):
    """Clients choose ids, so a quote may have that of an order."""
    for kind in ("order", "quote"):
        rule(org, account, kind)
    made = order(org.rep, account, TEXT)
    twin = org.rep.make("quotes", id=made["id"], account_id=account["id"], currency="EUR", lines=[TEXT])
    assert act(org.rep, "quotes", twin, "submit")["state"] == "pending_approval"
    assert act(org.rep, "orders", made, "confirm")["state"] == "pending_approval"
    found = org.admin.all("/v1/approvals", object_id=made["id"], status="pending")
    assert sorted(item["object_type"] for item in found) == ["order", "quote"]
    act(org.rep, "quotes", twin, "cancel")
    assert [item["object_type"] for item in org.admin.all("/v1/approvals", object_id=made["id"], status="pending")] == [
        "order"
    ]


@pytest.mark.parametrize("work", ["remind", "expire"])
def test_one_record_that_is_held_does_not_keep_those_of_other_tenants(org, server, sql, work):
    other = Org.create(server)
    task, table = {"remind": (remind, "approvals"), "expire": (expire_outdated, "quotes")}[work]
    ids = [_due(each, work) for each in (org, other)]
    for at, id_ in enumerate(ids):
        if work == "expire":
            sql("UPDATE quotes SET quoted_on = $2, valid_until = $2 WHERE id = $1", id_, date(2020, 1, 1 + at))
        else:
            sql("UPDATE approvals SET remind_at = $2 WHERE id = $1", id_, datetime(2020, 1, 1 + at, tzinfo=UTC))
    sql("BEGIN")
    try:
        sql(f"SELECT FROM {table} WHERE id = $1 FOR UPDATE", ids[0])
        with pytest.raises(LockNotAvailableError):
            server.run(task(server.kernel))
    finally:
        sql("ROLLBACK")
    done = {"remind": "reminders = 1", "expire": "state = 'expired'"}[work]
    found = sql(f"SELECT id FROM {table} WHERE id = ANY($1) AND {done}", ids)  # noqa: S608 - our own names
    assert [str(row["id"]) for row in found] == ids[1:]
    server.run(task(server.kernel))


def _due(org, work) -> str:
    account = org.rep.make("accounts", name=f"Slow {next(_numbers)}")
    if work == "expire":
        made = org.rep.make("quotes", account_id=account["id"], currency="EUR", lines=[TEXT])
        act(org.rep, "quotes", made, "send")
        return made["id"]
    rule(org, account, steps=[{**MANAGED, "remind_after_hours": 1}])
    made = order(org.rep, account, TEXT)
    act(org.rep, "orders", made, "confirm")
    return approval_of(org, made)["id"]


@pytest.mark.parametrize("blindness", ["field", "permission"])
def test_the_bounds_of_a_rule_are_not_told_to_who_may_not_see_it(org, lamp, blindness):
    rules = [
        {"resource": "approval_rules", "field": name, "rule": "hidden"}
        for name in ("amount_over", "discount_over", "account_id")
    ]
    grants = [(f"{name}:*", "own") for name in ("accounts", "orders", "quotes", "approvals")]
    grants += [("price_books:quote", "all"), ("price_entries:read", "all"), ("tax_rates:read", "all")]
    role = org.role(f"Bound {next(_numbers)}", *grants, field_rules=rules if blindness == "field" else None)
    seller = org.person(f"bound{next(_numbers)}", role)
    basket = {"currency": "EUR", "lines": [{"product_id": lamp["id"], "quantity": "1"}]}
    account = seller.make("accounts", name="Governed")
    for kind in ("order", "quote"):
        bounds = {"amount_over": "777.00", "currency": "EUR", "discount_over": "7.7"}
        made = rule(org, account, kind, **bounds)
    private = blindness == "permission" and org.admin.make(
        "access_defaults", resource="approval_rules", level="private"
    )
    try:
        line = {**TEXT, "discount_percent": "10"}
        sold = order(seller, account, line)
        assert act(seller, "orders", sold, "confirm")["state"] == "pending_approval"
        (found,) = seller.all("/v1/approvals", object_id=sold["id"])
        offer = seller.make("quotes", account_id=account["id"], currency="EUR", lines=[line])
        refused = act(seller, "quotes", offer, "send", 409)
        answer = seller.post("/v1/prices/quote", json={**basket, "account_id": account["id"]})
        assert answer.status_code == 200, answer.text
        assert answer.json()["allowed_discount"] is None
    finally:
        if private:
            assert org.admin.delete(f"/v1/access_defaults/{private['id']}").status_code == 204
    assert [reason["code"] for reason in found["reasons"]] == ["amount", "discount", "account"]
    assert len(refused["errors"]) == 3
    for told in (found["reasons"], refused["errors"]):
        words = UUIDS.sub("", str(told))
        assert not any(secret in words for secret in ("777", "7.7", made["name"])), told


def test_a_verb_changes_no_field_that_is_closed(org, account):
    rules = [
        {"resource": "orders", "field": "client_reference", "rule": "hidden"},
        {"resource": "orders", "field": "promised_on", "rule": "read_only"},
        {"resource": "orders", "field": "lines", "rule": "read_only"},
    ]
    grants = [(f"{name}:*", "all") for name in ("orders", "quotes")]
    role = org.role(f"Closed {next(_numbers)}", *grants, ("accounts:read", "all"), field_rules=rules)
    clerk = org.person(f"clerk{next(_numbers)}", role)
    made = order(org.rep, account, TEXT)
    act(org.rep, "orders", made, "confirm")
    quote = org.rep.make("quotes", account_id=account["id"], currency="EUR", lines=[TEXT])
    for verb in ("send", "accept"):
        act(org.rep, "quotes", quote, verb)
    before = org.admin.get(f"/v1/orders/{made['id']}").json()
    for body in ({"client_reference": "x"}, {"promised_on": "2030-01-01"}, {"lines": [TEXT, TEXT]}):
        refused = act(clerk, "orders", made, "amend", 403, **body)
        assert refused["code"] == "field_read_only"
        if "lines" not in body:
            assert act(clerk, "quotes", quote, "convert", 403, **body)["code"] == "field_read_only"
    assert org.admin.get(f"/v1/orders/{made['id']}").json() == before
    assert act(clerk, "orders", made, "amend", requested_on="2030-01-01")["amendment"] == 1
    assert act(clerk, "quotes", quote, "convert", requested_on="2030-01-01")["order_id"]


def test_a_name_in_a_header_stays_a_name(org, account):
    for number in ("A\r\nSet-Cookie: a=b", 'a"; filename="b.exe', "../../x", "Ünïcode 文"):
        made = order(org.rep, account, TEXT, number=number)
        answer = org.rep.head(f"/v1/orders/{made['id']}/pdf")
        assert (answer.status_code, answer.headers["x-content-type-options"]) == (200, "nosniff")
        assert "set-cookie" not in answer.headers
        assert answer.headers["content-disposition"].startswith("inline; filename=")
        assert 'filename="b.exe' not in answer.headers["content-disposition"]
        assert "/" not in answer.headers["content-disposition"]


def test_who_decides_need_not_see_who_comes_next(org, account):
    steps = [MANAGED, {"kind": "role", "role_id": org.roles[REPRESENTATIVE]}, {"kind": "principal"}]
    steps[2]["principal_id"] = org.outsider.id
    rule(org, account, steps=steps)
    made = order(org.rep, account, TEXT)
    act(org.rep, "orders", made, "confirm")
    found = approval_of(org, made)
    problem(org.manager.get("/v1/roles"), 403)
    assert act(org.manager, "approvals", found, "approve")["approver_role_id"] == org.roles[REPRESENTATIVE]
    private = org.admin.make("access_defaults", resource="principals", level="private")
    try:
        assert act(org.colleague, "approvals", found, "approve")["approver_id"] == org.outsider.id
    finally:
        assert org.admin.delete(f"/v1/access_defaults/{private['id']}").status_code == 204
    assert act(org.outsider, "approvals", found, "approve")["status"] == "approved"
