"""A cost that a role hides is told on no way."""

import pytest

from tests.support.org import REPRESENTATIVE, Org
from tests.support.problems import problem


@pytest.fixture(scope="module")
def shop(server) -> Org:
    """Representatives see no cost; one buyer may change products without seeing it."""
    org = Org.create(server)
    hidden = [{"resource": "products", "field": "cost", "rule": "hidden"}]
    role = org.roles[REPRESENTATIVE]
    assert org.admin.patch(f"/v1/roles/{role}", json={"field_rules": hidden}).status_code == 200
    org.person("clerk", org.role("Clerk", ("products:*", "all"), ("units:read", "all"), field_rules=hidden))
    org.unit = org.manager.make("units", code="pcs", name="Piece")["id"]
    return org


def test_a_hidden_cost_is_null_and_cannot_be_asked_by(shop):
    made = shop.manager.make(
        "products", sku="1", name="Gem", unit_id=shop.unit, cost="7", currency="EUR", list_price="9"
    )
    seen = shop.rep.get(f"/v1/products/{made['id']}").json()
    assert (seen["cost"], seen["list_price"], seen["redacted"]) == (None, "9.00", ["cost"])
    problem(shop.rep.get("/v1/products", params={"cost_gt": "1"}), 403)
    problem(shop.rep.post("/v1/products/aggregate", json={"measures": [{"op": "sum", "field": "cost"}]}), 403)


def test_the_currency_does_not_tell_whether_there_is_a_cost(shop):
    """It may be cleared only where there is no price, so who does not see the cost may not clear it at all."""
    answers = []
    for number, cost in enumerate(("5", None), 2):
        given = {"sku": str(number), "name": "Gem", "unit_id": shop.unit, "currency": "EUR"}
        path = f"/v1/products/{shop.manager.make('products', **given, cost=cost)['id']}"
        answers.append(shop.clerk.patch(path, json={"currency": None}))
        assert shop.clerk.patch(path, json={"currency": "USD"}).status_code == 200
        assert shop.clerk.patch(path, json={"list_price": "8"}).status_code == 200
    told = [{**problem(answer, 422), "instance": "", "request_id": ""} for answer in answers]
    assert told[0] == told[1]
    problem(shop.clerk.patch(path, json={"cost": "1"}), 403)


def test_a_hidden_currency_is_not_told_by_a_price(shop):
    hidden = [{"resource": "products", "field": "currency", "rule": "hidden"}]
    blind = shop.person("blind", shop.role("Blind", ("products:*", "all"), ("units:read", "all"), field_rules=hidden))
    answers = []
    for number, currency in enumerate(("EUR", None), 4):
        given = {"sku": str(number), "name": "Gem", "unit_id": shop.unit, "currency": currency}
        path = f"/v1/products/{shop.manager.make('products', **given)['id']}"
        answers.append(blind.patch(path, json={"list_price": "8"}))
    told = [{**problem(answer, 422), "instance": "", "request_id": ""} for answer in answers]
    assert told[0] == told[1]
    body = {"other_id": path.rpartition("/")[2]}
    first = shop.manager.make("products", sku="first", name="Gem", unit_id=shop.unit)
    problem(blind.post(f"/v1/products/{first['id']}/merge", json=body), 403)
