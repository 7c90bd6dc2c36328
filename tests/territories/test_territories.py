"""Territories over HTTP: the tree, who works where, the rules, and what reach over them opens."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.distribution.test_bulk import preview, run, skipped
from tests.integrations.conftest import Follower
from tests.support.asking import code
from tests.support.problems import problem

_numbers = itertools.count(1)


def territory(person, parent: str | None = None, **values) -> str:
    number = next(_numbers)
    return person.make("territories", code=f"t{number}", name=f"Place {number}", parent_id=parent, **values)["id"]


def rule(person, place: str, priority: int = 10, **values) -> dict:
    return person.make(
        "territory_rules", territory_id=place, name=f"Rule {next(_numbers)}", priority=priority, **values
    )


def address(country: str, postal_code: str | None = None) -> dict:
    return {"addresses": [{"country": country, "postal_code": postal_code}]}


def account(person, **values) -> dict:
    return person.make("accounts", name=f"Account {next(_numbers)}", **values)


@pytest.fixture
def world(org):
    """World over Europe over Germany, each with a person who may read by reach `territory` and nothing else."""
    role = org.role("Explorer", ("accounts:read", "territory"), ("contacts:read", "own"), ("leads:read", "territory"))
    org.places, above = {}, None
    for name in ("world", "europe", "germany"):
        org.places[name] = above = territory(org.admin, above)
        person = org.person(name, role)
        org.admin.make("territory_members", territory_id=above, principal_id=person.id)
    return org


def seen(person, collection: str = "accounts") -> set[str]:
    return {row["id"] for row in person.all(f"/v1/{collection}")}


def test_reach_is_over_a_territory_and_all_below_it(world):
    germany = rule(world.admin, world.places["germany"], countries=["DE"])
    made = account(world.rep, **address("DE"))
    assert (made["territory_id"], made["territory_rule_id"]) == (world.places["germany"], germany["id"])
    contact = world.rep.make("contacts", last_name="Zuse", account_id=made["id"])
    for name in ("world", "europe", "germany"):
        assert seen(world.people[name]) == {made["id"]}
        assert seen(world.people[name], "contacts") == {contact["id"]}, "through the account"
    europe = account(world.rep)
    assigned = world.admin.post(
        f"/v1/accounts/{europe['id']}/assign_territory", json={"territory_id": world.places["europe"]}
    )
    assert assigned.json()["territory_pinned"] is True
    assert europe["id"] in seen(world.world)
    assert europe["id"] in seen(world.europe)
    assert seen(world.germany) == {made["id"]}
    told = world.admin.get(f"/v1/accounts/{made['id']}", params={"expand": "territory"}).json()["territory"]
    assert (told["object"], told["id"]) == ("territory", world.places["germany"])
    moved = world.admin.patch(f"/v1/territories/{world.places['germany']}", json={"parent_id": None})
    assert moved.status_code == 200
    assert seen(world.world) == seen(world.europe) == {europe["id"]}, "holds with the next request"
    (link,) = world.admin.all("/v1/territory_members", principal_id=world.germany.id)
    assert world.admin.delete(f"/v1/territory_members/{link['id']}").status_code == 204
    assert seen(world.germany) == set()


def test_no_territory_lies_below_itself(world):
    places = world.places
    for above, below in (("world", "germany"), ("europe", "europe"), ("world", "europe")):
        answer = world.admin.patch(f"/v1/territories/{places[above]}", json={"parent_id": places[below]})
        assert code(answer) == (409, "cycle"), (above, below)
    roots = [territory(world.admin) for _ in range(4)]

    def move(i: int) -> int:
        body = {"parent_id": roots[(i + 1) % len(roots)]}
        return world.admin.patch(f"/v1/territories/{roots[i]}", json=body).status_code

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(move, range(4)))
    assert set(found) <= {200, 409}
    parents = {row["id"]: row["parent_id"] for row in world.admin.all("/v1/territories")}
    for root in roots:
        way, here = [], root
        while here is not None:
            assert here not in way
            way.append(here)
            here = parents[here]


def test_a_territory_that_is_used_is_not_deleted(world):
    place = territory(world.admin)
    below = territory(world.admin, place)
    path = f"/v1/territories/{place}"
    assert code(world.admin.delete(path)) == (409, "in_use")
    assert world.admin.delete(f"/v1/territories/{below}").status_code == 204
    one = rule(world.admin, place, countries=["MT"])
    assert code(world.admin.delete(path)) == (409, "in_use")
    made = account(world.rep, **address("MT"))
    assert world.admin.delete(f"/v1/territory_rules/{one['id']}").status_code == 204
    answer = world.admin.delete(path)
    assert code(answer) == (409, "in_use")
    assert "accounts" in answer.json()["detail"]
    link = world.admin.make("territory_members", territory_id=place, principal_id=world.germany.id)
    assert seen(world.germany) == {made["id"]}
    taken = world.admin.post(f"/v1/accounts/{made['id']}/assign_territory", json={"territory_id": None})
    assert taken.json()["territory_id"] is None
    assert world.admin.delete(path).status_code == 204, "who works there does not keep it"
    assert world.admin.get(f"/v1/territory_members/{link['id']}").status_code == 200
    problem(world.admin.post("/v1/territory_members", json={"territory_id": place, "principal_id": world.rep.id}), 422)
    answer = world.admin.post(f"/v1/accounts/{made['id']}/assign_territory", json={"territory_id": place})
    assert code(answer)[0] == 422
    assert world.admin.post(f"{path}/restore").status_code == 200
    assert world.admin.post(f"/v1/territories/{below}/restore").status_code == 200
