"""The graph of sales documents over HTTP: what it tells, to whom, and how much."""

import pytest

from crm_api.domains.document_graph import walking
from tests.support.org import Org
from tests.support.problems import problem

TEA = {"description": "Tea", "unit_price": "5.00", "quantity": "3"}
ALL = ("leads", "opportunities", "quotes", "orders")


@pytest.fixture(scope="module")
def org(server) -> Org:
    return Org.create(server)


@pytest.fixture(scope="module")
def account(org) -> dict:
    return org.rep.make("accounts", name="Kaufmann", currency="EUR")


def act(org, collection, id_, verb, **body) -> dict:
    answer = org.rep.post(f"/v1/{collection}/{id_}/{verb}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def chain(org) -> dict:
    """Ids of a lead, its opportunity, a quote in two revisions and the order, and one more quote and order of it."""
    lead = org.rep.make("leads", last_name="Zuse", company="Zuse KG")["id"]
    for verb in ("work", "qualify"):
        act(org, "leads", lead, verb)
    made = act(org, "leads", lead, "convert", opportunity={"name": "Z4", "currency": "EUR"})
    deal, account = made["converted_opportunity_id"], made["converted_account_id"]
    assert org.rep.patch(f"/v1/opportunities/{deal}", json={"lines": [TEA]}).status_code == 200
    first = org.rep.make("quotes", account_id=account, opportunity_id=deal)["id"]
    act(org, "quotes", first, "send")
    second = act(org, "quotes", first, "revise")["superseded_by_id"]
    line = org.rep.get(f"/v1/quotes/{second}").json()["lines"][0]["id"]
    body = {"lines": [{"id": line, **TEA, "quantity": "2"}]}
    assert org.rep.patch(f"/v1/quotes/{second}", json=body).status_code == 200
    for verb in ("send", "accept"):
        act(org, "quotes", second, verb)
    order = act(org, "quotes", second, "convert")["order_id"]
    direct = org.rep.make("orders", account_id=account, opportunity_id=deal, currency="EUR", lines=[])["id"]
    return {"lead": lead, "deal": deal, "first": first, "second": second, "order": order, "direct": direct}


def graph(person, collection, id_) -> dict:
    answer = person.get(f"/v1/{collection}/{id_}/graph")
    assert answer.status_code == 200, answer.text
    return answer.json()


def edges(found, names) -> set[tuple[str, str, str]]:
    by_id = {id_: name for name, id_ in names.items()}
    return {(by_id[edge["from_id"]], edge["kind"], by_id[edge["to_id"]]) for edge in found["edges"]}


EDGES = {
    ("lead", "converted", "deal"),
    ("deal", "quoted", "first"),
    ("deal", "quoted", "second"),
    ("first", "revised", "second"),
    ("second", "converted", "order"),
    ("deal", "ordered", "order"),
    ("deal", "ordered", "direct"),
}


@pytest.mark.parametrize(
    ("collection", "name"),
    [("leads", "lead"), ("opportunities", "deal"), ("quotes", "first"), ("quotes", "second"), ("orders", "order")],
)
def test_the_whole_chain_is_told_from_each_of_its_documents(org, chain, collection, name):
    found = graph(org.rep, collection, chain[name])
    assert found["nodes"][0]["id"] == chain[name]
    assert {node["id"] for node in found["nodes"]} == set(chain.values())
    assert len(found["nodes"]) == len(chain)
    assert edges(found, chain) == EDGES
    assert len(found["edges"]) == len(EDGES)
    assert found["is_complete"]
    by_id = {node["id"]: node for node in found["nodes"]}
    lead, deal, second, order = (by_id[chain[name]] for name in ("lead", "deal", "second", "order"))
    assert (lead["object"], lead["title"], lead["state"]) == ("lead", "Zuse KG", "converted")
    assert (deal["object"], deal["title"], deal["state"]) == ("opportunity", "Z4", "open")
    assert (second["title"][:2], second["revision"], second["state"]) == ("Q-", 2, "accepted")
    assert (order["object"], order["title"], order["revision"], order["state"]) == ("order", None, None, "draft")
    for node in found["nodes"]:
        plural = {"opportunity": "opportunities"}.get(node["object"], f"{node['object']}s")
        whole = org.rep.get(f"/v1/{plural}/{node['id']}").json()
        assert (node["version"], node["created_at"]) == (whole["version"], whole["created_at"])


def test_lines_are_told_beside_those_that_they_came_from(org, chain):
    found = graph(org.rep, "orders", chain["order"])["lines"]
    by_id = {id_: name for name, id_ in chain.items()}
    told = [(by_id[one["from_id"]], one["from_quantity"], by_id[one["to_id"]], one["to_quantity"]) for one in found]
    assert sorted(told) == [
        ("deal", "3", "first", "3"),
        ("first", "3", "second", "2"),
        ("second", "2", "order", "2"),
    ]
    (line,) = org.rep.get(f"/v1/orders/{chain['order']}").json()["lines"]
    (last,) = [one for one in found if one["to_id"] == chain["order"]]
    assert (last["to_line_id"], last["from_line_id"]) == (line["id"], line["origin_line_id"])
    assert last["description"] == "Tea"


def test_a_document_alone_is_its_own_graph(org, account):
    made = org.rep.make("orders", account_id=account["id"])
    found = graph(org.rep, "orders", made["id"])
    assert [node["id"] for node in found["nodes"]] == [made["id"]]
    assert (found["edges"], found["lines"], found["is_complete"]) == ([], [], True)


def test_what_is_not_open_is_not_told_nor_gone_through(org, chain):
    for collection, name in (("leads", "lead"), ("opportunities", "deal"), ("quotes", "first"), ("orders", "order")):
        assert problem(org.outsider.get(f"/v1/{collection}/{chain[name]}/graph"), 404)
    own = org.person("clerk", org.role("Clerk", ("quotes:read", "own"), ("orders:read", "own")))
    body = {"grantee_type": "user", "grantee_id": own.id, "level": "read"}
    for collection, name in (("quotes", "first"), ("quotes", "second"), ("orders", "order"), ("orders", "direct")):
        share = org.rep.post(f"/v1/{collection}/{chain[name]}/share", json=body)
        assert share.status_code in (200, 201), share.text
    assert problem(own.get(f"/v1/leads/{chain['lead']}/graph"), 403)
    found = graph(own, "quotes", chain["first"])
    assert {node["id"] for node in found["nodes"]} == {chain[name] for name in ("first", "second", "order")}
    assert edges(found, chain) == {("first", "revised", "second"), ("second", "converted", "order")}
    assert found["lines"] == []  # lines take a permission of their own


def test_a_hidden_reference_is_not_followed(org, chain):
    rules = [{"resource": "quotes", "field": name, "rule": "hidden"} for name in ("order_id", "number")]
    rules += [{"resource": "orders", "field": "opportunity_id", "rule": "hidden"}]
    rules += [{"resource": "leads", "field": "company", "rule": "hidden"}]
    blind = org.person("blind", org.role("Blind", *((f"{item}:read", "all") for item in ALL), field_rules=rules))
    found = graph(blind, "quotes", chain["first"])
    assert {node["id"] for node in found["nodes"]} == {chain[name] for name in ("lead", "deal", "first", "second")}
    titles = {node["id"]: node["title"] for node in found["nodes"]}
    assert (titles[chain["first"]], titles[chain["lead"]]) == (None, "Zuse")
    assert [node["id"] for node in graph(blind, "orders", chain["order"])["nodes"]] == [chain["order"]]


def test_a_key_sees_only_what_its_scopes_cover(org, chain):
    scopes = ["quotes:read", "orders:read"]
    key = org.rep.post(f"/v1/users/{org.rep.id}/issue_key", json={"name": "Narrow", "scopes": scopes}).json()["key"]
    narrow = type(org.rep)(org.server, org.rep.id, key)
    found = graph(narrow, "quotes", chain["second"])
    assert {node["id"] for node in found["nodes"]} == {chain[name] for name in ("first", "second", "order")}
    assert problem(narrow.get(f"/v1/opportunities/{chain['deal']}/graph"), 403)
    assert {node["id"] for node in graph(org.rep, "quotes", chain["second"])["nodes"]} == set(chain.values())


def test_what_was_deleted_is_not_told(org, account):
    deal = org.rep.make("opportunities", name="Gone", account_id=account["id"])["id"]
    kept, gone = (org.rep.make("quotes", account_id=account["id"], opportunity_id=deal)["id"] for _ in range(2))
    assert org.rep.delete(f"/v1/quotes/{gone}").status_code == 204
    assert {node["id"] for node in graph(org.rep, "quotes", kept)["nodes"]} == {deal, kept}


def test_it_is_bounded_and_says_so(org, account, monkeypatch):
    deal = org.rep.make("opportunities", name="Many", account_id=account["id"], currency="EUR", lines=[TEA] * 3)["id"]
    for _ in range(5):
        org.rep.make("quotes", account_id=account["id"], opportunity_id=deal)
    whole = graph(org.rep, "opportunities", deal)
    assert (len(whole["nodes"]), len(whole["lines"]), whole["is_complete"]) == (6, 15, True)
    org.server.kernel.statements.clear()
    for name, least in (("MOST_NODES", 4), ("MOST_LINES", 7)):
        monkeypatch.setattr(walking, name, least)
        monkeypatch.setattr(f"crm_api.domains.document_graph.routes.{name}", least)
    found = graph(org.rep, "opportunities", deal)
    org.server.kernel.statements.clear()
    assert (len(found["nodes"]), len(found["lines"]), found["is_complete"]) == (4, 7, False)
    assert found["nodes"][0]["id"] == deal


def test_it_takes_three_statements_however_long_the_chain(org, chain, statements):
    for collection, name in (("leads", "lead"), ("orders", "order")):
        graph(org.rep, collection, chain[name])
        statements.clear()
        graph(org.rep, collection, chain[name])
        assert len(statements) == 3, [sql for sql, _ in statements]


def test_parameters_are_refused(org, chain):
    assert problem(org.rep.get(f"/v1/leads/{chain['lead']}/graph", params={"depth": "2"}), 422)
    assert problem(org.rep.get("/v1/leads/nothing/graph"), 404)
