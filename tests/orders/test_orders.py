"""Orders over HTTP: prices and totals, states, credit, numbers, and what an issued order no longer takes."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.problems import problem


@pytest.fixture(scope="module")
def org(shared_org):
    return shared_org


@pytest.fixture
def account(org) -> dict:
    return org.rep.make("accounts", name="Kaufmann")


@pytest.fixture(scope="module")
def chai(shared_org) -> dict:
    return product(shared_org, sku="CHAI", name="Chai", list_price="18.00", currency="EUR")


def product(org, **values) -> dict:
    unit = org.admin.get("/v1/units", params={"code": "pcs"}).json()["data"]
    unit_id = (unit[0] if unit else org.admin.make("units", code="pcs", name="Pieces", decimals=0))["id"]
    return org.admin.make("products", kind="goods", unit_id=unit_id, **values)


def order(org, account, *lines, **values) -> dict:
    return org.rep.make("orders", account_id=account["id"], currency="EUR", lines=list(lines), **values)


def act(person, made, verb, status=200, **body):
    answer = person.post(f"/v1/orders/{made['id']}/{verb}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def amounts(item) -> tuple[str, str, str]:
    return item["net_amount"], item["tax_amount"], item["gross_amount"]


def totals(item) -> tuple[str, str, str]:
    return item["net_total"], item["tax_total"], item["gross_total"]


def test_lines_are_priced_and_summed(org, account, chai):
    made = order(
        org,
        account,
        {"product_id": chai["id"], "quantity": "3", "discount_percent": "10", "tax_percent": "19"},
        {"description": "Delivery", "unit_price": "4.99"},
    )
    first, second = made["lines"]
    assert (first["sku"], first["description"]) == ("CHAI", "Chai")
    assert (first["unit_price"], first["quantity"], first["position"]) == ("18.00", "3", 1)
    assert amounts(first) == ("48.60", "9.23", "57.83")
    assert amounts(second) == ("4.99", "0.00", "4.99")
    assert totals(made) == ("53.59", "9.23", "62.82")
    assert (made["state"], made["number"], made["fulfilment"], made["billing"]) == ("draft", None, "none", "none")
    assert org.rep.get(f"/v1/orders/{made['id']}").json() == made


def test_a_price_with_tax_is_kept_to_the_cent(org, account):
    made = order(
        org, account, {"description": "Box", "quantity": "3", "unit_price": "9.99", "tax_percent": "19"}, prices="gross"
    )
    assert totals(made) == ("25.18", "4.79", "29.97")


def test_yen_have_no_cents(org, account):
    made = org.rep.make(
        "orders",
        account_id=account["id"],
        currency="JPY",
        lines=[{"description": "Tea", "quantity": "3", "unit_price": "33.5", "tax_percent": "8"}],
    )
    assert totals(made) == ("101.00", "8.00", "109.00")


def test_lines_are_rows_of_their_own(org, account, chai):
    made = order(
        org, account, {"product_id": chai["id"], "quantity": "2"}, {"description": "Delivery", "unit_price": "5"}
    )
    rows = org.rep.all(f"/v1/orders/{made['id']}/lines")
    assert {row["id"] for row in rows} == {line["id"] for line in made["lines"]}
    for line in made["lines"]:
        row = next(row for row in rows if row["id"] == line["id"])
        assert {name: row[name] for name in line} == line
        assert (row["order_id"], row["currency"], row["version"]) == (made["id"], "EUR", 1)
    wanted = {"group_by": ["product_id"], "measures": [{"field": "net_amount", "op": "sum"}]}
    told = org.rep.post(
        "/v1/order_lines/aggregate", json={**wanted, "filter": {"field": "order_id", "op": "eq", "value": made["id"]}}
    )
    sums = {item["group"]["product_id"]: item["measures"] for item in told.json()["data"]}
    assert sums == {chai["id"]: ["36.00"], None: ["5.00"]}


def test_a_patch_keeps_the_lines_it_names_and_deletes_the_others(org, account, chai):
    made = order(org, account, {"product_id": chai["id"]}, {"description": "Delivery", "unit_price": "5"})
    first, second = made["lines"]
    path = f"/v1/orders/{made['id']}"
    changed = org.rep.patch(
        path,
        json={
            "lines": [
                {"id": second["id"], "description": "Express", "unit_price": "9"},
                {"description": "Gift", "unit_price": "1"},
            ]
        },
    )
    assert changed.status_code == 200, changed.text
    lines = changed.json()["lines"]
    assert lines[0]["id"] == second["id"]
    assert [line["position"] for line in lines] == [1, 2]
    assert changed.json()["net_total"] == "10.00"
    rows = {row["id"]: row for row in org.rep.all(f"{path}/lines")}
    assert set(rows) == {line["id"] for line in lines}
    assert rows[second["id"]]["description"] == "Express"
    assert org.rep.get(f"/v1/order_lines/{first['id']}").status_code == 404
    refused = org.rep.patch(path, json={"lines": [{"id": first["id"], "description": "x", "unit_price": "1"}]})
    assert problem(refused, 422)["errors"][0]["pointer"] == "/lines/0/id"
    assert problem(org.rep.patch(path, json={"currency": "USD"}), 422)["errors"][0]["code"] == "read_only_field"
    assert org.rep.patch(path, json={"ordered_on": "2026-01-02"}).json()["net_total"] == "10.00"


def test_a_document_sent_again_stays_as_it_is(org, account, chai):
    lines = [{"product_id": chai["id"]}, {"description": "Tea", "unit_price": "1"}, {"product_id": chai["id"]}]
    made = order(org, account, *lines)
    path = f"/v1/orders/{made['id']}"
    assert org.rep.patch(path, json={"lines": lines}).json() == made
    less = org.rep.patch(path, json={"lines": lines[1:]}).json()
    kept = {line["id"]: line["description"] for line in made["lines"]}
    assert [kept[line["id"]] for line in less["lines"]] == ["Tea", "Chai"]


def test_a_number_that_was_given_is_kept_and_not_drawn(org, account):
    tea = {"description": "Tea", "unit_price": "5"}
    drawn = act(org.rep, order(org, account, tea), "confirm")["number"]
    following = [f"SO-{int(drawn.removeprefix('SO-')) + i:06d}" for i in (1, 2)]
    given = order(org, account, tea, number=following[0])
    assert act(org.rep, order(org, account, tea), "confirm")["number"] == following[1]
    assert act(org.rep, given, "confirm")["number"] == following[0]
    answer = org.rep.post("/v1/orders", json={"account_id": account["id"], "currency": "EUR", "number": drawn})
    assert problem(answer, 409)["code"] == "duplicate"


def test_a_deleted_order_takes_its_lines_along(org, account):
    made = order(org, account, {"description": "Tea", "unit_price": "5"})
    line = f"/v1/order_lines/{made['lines'][0]['id']}"
    assert org.admin.delete(f"/v1/orders/{made['id']}").status_code == 204
    assert org.admin.get(line).status_code == 404
    assert org.admin.post(f"/v1/orders/{made['id']}/restore").status_code == 200
    assert org.admin.get(line).status_code == 200


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ({"description": "x", "unit_price": "1", "quantity": "0"}, "/lines/0/quantity"),
        ({"description": "x", "unit_price": "1", "quantity": "-1"}, "/lines/0/quantity"),
        ({"description": "x", "unit_price": "1", "discount_percent": "100.5"}, "/lines/0/discount_percent"),
        ({"description": "x"}, "/lines/0/unit_price"),
        ({"description": "x", "unit_price": "-1", "discount_percent": "5"}, "/lines/0/discount_percent"),
        ({"unit_price": "1"}, "/lines/0/description"),
        ({"product_id": "019aa1c2-7d3e-7c41-b1f2-3f6d1b0a9e55"}, "/lines/0/product_id"),
        ({"description": "x", "unit_price": "99999999999999", "quantity": "999999999999"}, "/lines/0/quantity"),
    ],
)
def test_bad_lines_are_refused_with_their_place(org, account, line, place):
    answer = org.rep.post("/v1/orders", json={"account_id": account["id"], "currency": "EUR", "lines": [line]})
    assert problem(answer, 422)["errors"][0]["pointer"] == place


def test_pieces_are_not_ordered_in_parts(org, account, chai):
    line = {"product_id": chai["id"], "quantity": "2.5"}
    answer = org.rep.post("/v1/orders", json={"account_id": account["id"], "currency": "EUR", "lines": [line]})
    assert problem(answer, 422)["errors"][0]["code"] == "too_many_decimals"
    assert order(org, account, {**line, "quantity": "2.000"})["lines"][0]["quantity"] == "2"


def test_a_hidden_list_price_is_neither_taken_nor_told(org, account, chai):
    rules = [{"resource": "products", "field": "list_price", "rule": "hidden"}]
    grants = [(f"{name}:read", "all") for name in ("products", "accounts", "orders", "order_lines")]
    role = org.role("Blind", *grants, ("orders:create", "own"), field_rules=rules)
    blind = org.people.get("blind") or org.person("blind", role)
    line = {"product_id": chai["id"]}
    answer = blind.post("/v1/orders", json={"account_id": account["id"], "currency": "EUR", "lines": [line]})
    assert problem(answer, 422)["errors"][0]["code"] == "no_price"
    theirs = blind.make("orders", account_id=account["id"], currency="EUR", lines=[{**line, "unit_price": "1"}])
    assert "list_price" not in theirs["lines"][0]
    row = blind.get(f"/v1/order_lines/{theirs['lines'][0]['id']}").json()
    assert "list_price" not in row
    hidden = {
        "name": "R",
        "permissions": [],
        "field_rules": [{"resource": "order_lines", "field": "sku", "rule": "hidden"}],
    }
    assert problem(org.admin.post("/v1/roles", json=hidden), 422)


def test_an_order_has_at_most_a_thousand_lines(org, account):
    body = {"account_id": account["id"], "currency": "EUR"}
    line = {"description": "x", "unit_price": "1"}
    answer = org.rep.post("/v1/orders", json={**body, "lines": [line] * 10_000})
    assert problem(answer, 422)["errors"][0]["pointer"] == "/lines"
    assert org.rep.post("/v1/orders", json={**body, "lines": [line] * 1000}).json()["net_total"] == "1000.00"


def test_a_retired_product_is_not_ordered(org, account):
    old = product(org, sku="OLD", name="Old", list_price="1", currency="EUR")
    draft = order(org, account, {"product_id": old["id"]})
    assert org.admin.post(f"/v1/products/{old['id']}/retire").status_code == 200
    answer = org.rep.post(
        "/v1/orders", json={"account_id": account["id"], "currency": "EUR", "lines": [{"product_id": old["id"]}]}
    )
    assert problem(answer, 422)["errors"][0]["code"] == "product_retired"
    assert act(org.rep, draft, "confirm", 422)["errors"][0]["code"] == "product_retired"


def test_confirmed_orders_have_numbers_in_a_row_and_are_locked(org, account):
    made = [order(org, account, {"description": "Tea", "unit_price": "5"}) for _ in range(3)]
    numbers = [act(org.rep, item, "confirm")["number"] for item in made]
    first = int(numbers[0].removeprefix("SO-"))
    assert numbers == [f"SO-{first + i:06d}" for i in range(3)]
    path = f"/v1/orders/{made[0]['id']}"
    for body in ({"lines": []}, {"client_reference": None}, {"number": "1"}):
        assert problem(org.rep.patch(path, json=body), 409)["code"] == "transition_refused"
    assert org.rep.patch(path, json={"note": "Ring twice."}).json()["note"] == "Ring twice."
    assert problem(org.admin.delete(path), 409)["code"] == "transition_refused"
    assert act(org.rep, made[0], "confirm", 409)["code"] == "transition_refused"
    assert act(org.rep, made[0], "hold", reason="Unpaid.")["reason"] == "Unpaid."
    assert act(org.rep, made[0], "release")["reason"] is None
    assert act(org.rep, made[0], "cancel", reason="Changed their mind.")["state"] == "cancelled"
    assert act(org.rep, made[1], "close")["state"] == "closed"


def test_an_order_is_confirmed_once(org, account):
    made = order(org, account, {"description": "Tea", "unit_price": "5"})
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: org.rep.post(f"/v1/orders/{made['id']}/confirm").status_code, range(8)))
    assert sorted(answers) == [200, *[409] * 7]
    told = org.admin.get("/v1/audit_log", params={"object_id": made["id"], "action": "confirm"}).json()["data"]
    assert len(told) == 1


def test_an_empty_order_is_not_confirmed(org, account):
    assert act(org.rep, order(org, account), "confirm", 422)["errors"][0]["pointer"] == "/lines"


def test_a_blocked_account_gets_no_order_confirmed(org, account):
    made = order(org, account, {"description": "Tea", "unit_price": "5"})
    assert org.admin.post(f"/v1/accounts/{account['id']}/block", json={"reason": "Owes."}).status_code == 200
    assert act(org.rep, made, "confirm", 409)["errors"][0]["code"] == "account_blocked"


def test_two_orders_do_not_pass_the_credit_limit_together(org):
    account = org.rep.make("accounts", name="Careful", credit_limit="100", currency="EUR")
    made = [order(org, account, {"description": "Tea", "unit_price": "60"}) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda item: org.rep.post(f"/v1/orders/{item['id']}/confirm"), made))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert problem(refused, 409)["errors"][0]["code"] == "credit_exceeded"


def test_orders_in_another_currency_count_against_the_credit_limit_at_the_rate_of_their_day(org):
    account = org.rep.make("accounts", name="Abroad", credit_limit="100", currency="EUR")
    tea = {"description": "Tea", "unit_price": "60"}
    first, second = (
        org.rep.make("orders", account_id=account["id"], currency=name, lines=[tea], ordered_on="2026-03-01")
        for name in ("EUR", "USD")
    )
    act(org.rep, first, "confirm")
    assert act(org.rep, second, "confirm", 409)["errors"][0]["code"] == "no_currency_rate"
    rate = {"base_currency": "USD", "quote_currency": "EUR", "valid_from": "2026-01-01"}
    made = org.admin.make("currency_rates", **rate, rate="0.7")
    assert act(org.rep, second, "confirm", 409)["errors"][0]["code"] == "credit_exceeded"
    assert org.admin.patch(f"/v1/currency_rates/{made['id']}", json={"rate": "0.6"}).status_code == 200
    assert act(org.rep, second, "confirm")["state"] == "confirmed"


def test_numbers_look_as_the_range_says(org, account):
    made = org.admin.make("number_ranges", document="order", prefix="A{year}/", digits=4, is_yearly=True)
    done = act(
        org.rep, order(org, account, {"description": "Tea", "unit_price": "5"}, ordered_on="2031-05-06"), "confirm"
    )
    assert done["number"] == "A2031/0001"
    refused = org.admin.patch(f"/v1/number_ranges/{made['id']}", json={"prefix": "A"})
    assert problem(refused, 422)["errors"][0]["code"] == "year_missing"
    assert org.admin.delete(f"/v1/number_ranges/{made['id']}").status_code == 204


def test_no_number_is_given_twice(org, account):
    """Neither one that was given by hand, nor that of a draft that was deleted."""
    tea = {"description": "Tea", "unit_price": "5"}
    known = act(org.rep, order(org, account, tea), "confirm")["number"]
    head, digits = known[:-6], int(known[-6:])
    order(org, account, tea, number=f"{head}{digits + 1:06d}")
    gone = order(org, account, tea, number=f"{head}{digits + 2:06d}")
    deleted = org.rep.delete(f"/v1/orders/{gone['id']}", headers={"If-Match": f'"{gone["version"]}"'})
    assert deleted.status_code == 204, deleted.text
    assert act(org.rep, order(org, account, tea), "confirm")["number"] == f"{head}{digits + 3:06d}"


def test_an_erp_orders_with_its_own_ids(org):
    org.admin.make("sources", code="erp", name="ERP")
    body = {
        "account_id": org.admin.make("accounts", name="From the ERP")["id"],
        "currency": "EUR",
        "lines": [{"description": "Tea", "unit_price": "5"}],
    }
    first = org.admin.put("/v1/orders/ext:erp:4711", json=body)
    assert first.status_code == 201, first.text
    again = org.admin.put(
        "/v1/orders/ext:erp:4711", json={**body, "lines": [{"description": "Tea", "unit_price": "6"}]}
    )
    assert (again.status_code, again.json()["net_total"]) == (200, "6.00")


def test_an_order_follows_its_account(org, account):
    made = order(org, account, {"description": "Tea", "unit_price": "5"})
    line = f"/v1/order_lines/{made['lines'][0]['id']}"
    assert org.manager.get(line).status_code == 200
    assert org.outsider.get(line).status_code == 404
    assert org.outsider.get(f"/v1/orders/{made['id']}").status_code == 404
