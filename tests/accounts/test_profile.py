"""The customer profile: level, risk, interests, habits, and how they came to be."""

from tests.support.org import Org
from tests.support.problems import problem


def history(person, account) -> list[tuple]:
    answer = person.get(f"/v1/accounts/{account['id']}/profile_history")
    assert answer.status_code == 200, answer.text
    return [(item["field"], item["old"], item["new"], item["by"]) for item in answer.json()["data"]]


def test_it_tells_each_change_and_nothing_else(org):
    account = org.rep.make("accounts", name="Tea House", tier="B", habits=["orders in spring"])
    path = f"/v1/accounts/{account['id']}"
    assert org.rep.patch(path, json={"tier": "A", "industry": "Trade"}).status_code == 200
    assert org.rep.patch(path, json={"name": "Tea House Ltd"}).status_code == 200
    assert org.manager.patch(path, json={"risk": "high", "habits": []}).status_code == 200
    assert org.rep.patch(path, json={"tier": None, "interests": ["tea"]}).status_code == 200
    rep, manager = org.rep.id, org.manager.id
    found = history(org.rep, account)
    assert sorted(found[:2]) == [("interests", [], ["tea"], rep), ("tier", ["A"], [], rep)]
    assert sorted(found[2:4]) == [("habits", ["orders in spring"], [], manager), ("risk", [], ["high"], manager)]
    assert found[4] == ("tier", ["B"], ["A"], rep)
    assert sorted(found[5:]) == [("habits", [], ["orders in spring"], rep), ("tier", [], ["B"], rep)]
    versions = [item["version"] for item in org.rep.get(f"{path}/profile_history").json()["data"]]
    assert versions == [5, 5, 4, 4, 2, 1, 1]
    assert [row["id"] for row in org.rep.all("/v1/accounts", interests="tea")] == [account["id"]]


def test_a_hidden_field_is_hidden_in_it_and_a_hidden_account_has_none(org, server):
    account = org.rep.make("accounts", name="Tea House", tier="B", risk="low")
    rules = [{"resource": "accounts", "field": "risk", "rule": "hidden"}]
    blind = org.person("blind", org.role("Blind", ("accounts:read", "all"), field_rules=rules))
    assert [item[0] for item in history(blind, account)] == ["tier"]
    problem(org.outsider.get(f"/v1/accounts/{account['id']}/profile_history"), 404)
    problem(Org.create(server).admin.get(f"/v1/accounts/{account['id']}/profile_history"), 404)
    problem(org.rep.get(f"/v1/accounts/{account['id']}/profile_history", params={"limit": 1}), 422)
