"""Relations between accounts: typed, dated, and seen by those who see both."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.org import Org
from tests.support.problems import problem


@pytest.fixture
def supplies(org):
    return org.admin.make("account_relation_types", code="supplier", label="supplies", inverse_label="buys from")["id"]


def related(person, one, two, type_id, **values):
    body = {"from_account_id": one["id"], "to_account_id": two["id"], "type_id": type_id, **values}
    return person.post("/v1/account_relations", json=body)


def test_a_relation_has_a_type_with_a_word_for_each_side(org, supplies):
    mill, bakery = (org.rep.make("accounts", name=name) for name in ("Mill", "Bakery"))
    made = related(org.rep, mill, bakery, supplies, valid_from="2026-01-01", valid_until="2026-12-31")
    assert made.status_code == 201, made.text
    (found,) = org.rep.all("/v1/account_relations", to_account_id=bakery["id"], expand="type,from_account")
    assert (found["type"]["label"], found["type"]["inverse_label"]) == ("supplies", "buys from")
    assert found["from_account"]["name"] == "Mill"
    ended = org.rep.patch(f"/v1/account_relations/{made.json()['id']}", json={"valid_until": "2026-06-30"})
    assert (ended.status_code, ended.json()["valid_until"]) == (200, "2026-06-30")


def test_it_is_seen_by_those_who_see_both_accounts(org, supplies):
    mine, theirs = org.rep.make("accounts", name="Mill"), org.outsider.make("accounts", name="Bakery")
    made = related(org.admin, mine, theirs, supplies).json()
    seen = {name: len(org.people[name].all("/v1/account_relations")) for name in ("admin", "reader", "rep", "outsider")}
    assert seen == {"admin": 1, "reader": 1, "rep": 0, "outsider": 0}
    problem(org.rep.get(f"/v1/account_relations/{made['id']}"), 404)
    problem(related(org.rep, mine, theirs, supplies, valid_from="2030-01-01"), 422)
    share = {"grantee_type": "user", "grantee_id": org.rep.id, "level": "read", "cause": "Joint visit"}
    assert org.admin.post(f"/v1/accounts/{theirs['id']}/share", json=share).status_code == 201
    assert org.rep.get(f"/v1/account_relations/{made['id']}").status_code == 200
    assert org.rep.patch(f"/v1/account_relations/{made['id']}", json={"valid_from": "2020-01-01"}).status_code == 200
    problem(org.outsider.get(f"/v1/account_relations/{made['id']}"), 404)


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        ((None, None), (None, None), 409),
        (("2026-01-01", "2026-06-30"), ("2026-06-30", None), 409),
        (("2026-01-01", "2026-06-30"), ("2026-07-01", None), 201),
        ((None, "2025-12-31"), ("2026-01-01", "2026-02-01"), 201),
        (("2026-01-01", None), (None, "2026-01-01"), 409),
    ],
)
def test_the_same_relation_is_not_there_twice_at_a_time(org, supplies, first, second, status):
    mill, bakery = (org.rep.make("accounts", name=name) for name in ("Mill", "Bakery"))
    periods = [dict(zip(("valid_from", "valid_until"), days, strict=True)) for days in (first, second)]
    assert related(org.rep, mill, bakery, supplies, **periods[0]).status_code == 201
    assert related(org.rep, mill, bakery, supplies, **periods[1]).status_code == status
    assert related(org.rep, bakery, mill, supplies, **periods[1]).status_code == 201  # the other way round


def test_of_many_at_once_one_is_made(org, supplies):
    mill, bakery = (org.rep.make("accounts", name=name) for name in ("Mill", "Bakery"))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: related(org.rep, mill, bakery, supplies).status_code, range(8)))
    assert sorted(answers) == [201, *[409] * 7]


def test_bad_relations_are_refused(org, server, supplies):
    mill, bakery = (org.rep.make("accounts", name=name) for name in ("Mill", "Bakery"))
    other = Org.create(server).admin.make("accounts", name="Elsewhere")
    problem(related(org.rep, mill, mill, supplies), 422)
    problem(related(org.rep, mill, other, supplies), 422)
    problem(related(org.rep, mill, bakery, mill["id"]), 422)
    problem(related(org.rep, mill, bakery, supplies, valid_from="2026-02-01", valid_until="2026-01-01"), 422)
    made = related(org.rep, mill, bakery, supplies, valid_from="2026-02-01").json()
    path = f"/v1/account_relations/{made['id']}"
    problem(org.rep.patch(path, json={"valid_until": "2026-01-01"}), 422)
    problem(org.rep.patch(path, json={"to_account_id": mill["id"]}), 422)
    body = {"code": "supplier", "label": "x", "inverse_label": "y"}
    problem(org.admin.post("/v1/account_relation_types", json=body), 409)
    problem(org.rep.post("/v1/account_relation_types", json={**body, "code": "friend"}), 403)


def test_a_deleted_relation_comes_back_unless_another_took_its_time(org, supplies):
    mill, bakery = (org.rep.make("accounts", name=name) for name in ("Mill", "Bakery"))
    first = related(org.rep, mill, bakery, supplies).json()
    assert org.rep.delete(f"/v1/account_relations/{first['id']}").status_code == 204
    second = related(org.rep, mill, bakery, supplies).json()
    problem(org.rep.post(f"/v1/account_relations/{first['id']}/restore"), 409)
    assert org.rep.delete(f"/v1/account_relations/{second['id']}").status_code == 204
    assert org.rep.post(f"/v1/account_relations/{first['id']}/restore").status_code == 200


def test_a_merge_takes_relations_along(org, supplies):
    mill, double, bakery = (org.rep.make("accounts", name=name) for name in ("Mill", "Mill Ltd", "Bakery"))
    made = related(org.rep, double, bakery, supplies).json()
    assert org.manager.post(f"/v1/accounts/{mill['id']}/merge", json={"other_id": double["id"]}).status_code == 200
    assert org.rep.get(f"/v1/account_relations/{made['id']}").json()["from_account_id"] == mill["id"]
    near = related(org.rep, mill, bakery, supplies, valid_from="2026-01-01")
    problem(near, 409)
    refused = org.manager.post(f"/v1/accounts/{mill['id']}/merge", json={"other_id": bakery["id"]})
    assert refused.status_code in (409, 422), refused.text  # it would be related to itself
    assert org.rep.get(f"/v1/accounts/{bakery['id']}").status_code == 200
