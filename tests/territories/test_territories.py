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
    assert set(found) <= {200, 409, 503}, "503: it waited too long for its turn"
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


def moved(told: dict) -> list[tuple]:
    return sorted(
        (str(item["from_territory_id"]), str(item["to_territory_id"]), item["number"], sorted(item["samples"]))
        for item in told["moves"]
    )


def test_rules_decide_when_a_record_is_made_and_when_what_they_read_changes(world):
    germany, europe = world.places["germany"], world.places["europe"]
    all_else = rule(world.admin, world.places["world"], priority=90)
    rule(world.admin, europe, priority=50, countries=["DE", "FR"])
    bavaria = rule(
        world.admin,
        germany,
        priority=20,
        countries=["DE"],
        postal_codes=[{"first": "80", "last": "87"}, {"first": "9"}],
    )
    banks = rule(world.admin, europe, priority=10, industries=["Bänke"], employees_min=100, employees_max=500)
    rich = rule(world.admin, germany, priority=5, revenue_min="1000000", currency="EUR")
    cases = [
        ({}, all_else["id"]),
        (address("DE", "10115"), None),
        (address("DE", "8 0331"), bavaria["id"]),
        (address("DE", "91-054"), bavaria["id"]),
        (address("DE", "88000"), None),
        (address("FR", "80000"), None),
        ({**address("DE", "80331"), "industry": "BANKE", "employees": 100}, banks["id"]),
        ({"industry": "banke", "employees": 501}, all_else["id"]),
        ({"annual_revenue": "1000000.00", "currency": "EUR"}, rich["id"]),
        ({"annual_revenue": "999999.99", "currency": "EUR"}, all_else["id"]),
        ({"annual_revenue": "1000000.00", "currency": "USD"}, all_else["id"]),
    ]
    for values, expected in cases:
        made = account(world.rep, **values)
        if expected is not None:
            assert made["territory_rule_id"] == expected, values
        else:
            assert made["territory_id"] == europe, values
        path = f"/v1/accounts/{made['id']}"
        told = world.admin.get(f"{path}/explain_territory").json()
        assert (told["territory_id"], told["decided_by"]) == (made["territory_id"], "rule")
        assert [item["wins"] for item in told["rules"]] == [False] * (len(told["rules"]) - 1) + [True]
        assert told["rules"][-1]["rule_id"] == told["rule_id"] == made["territory_rule_id"]
        assert all(item["unmet"] for item in told["rules"][:-1])
        if values:  # the same by a change
            other = account(world.rep)
            assert (
                world.rep.patch(f"/v1/accounts/{other['id']}", json=values).json()["territory_id"]
                == made["territory_id"]
            )
    before = made["version"]
    assert world.rep.patch(path, json={"tier": "A"}).json()["version"] == before + 1
    feed = Follower(world.server, world.admin)
    world.rep.patch(path, json=address("FR"))
    (event,) = feed.read(types=["account.updated"])
    assert event["data"]["territory_id"] == europe
    assert event["previous"]["territory_id"] == world.places["world"]
    lead = world.rep.make("leads", company="Lead", country="FR")
    assert lead["territory_id"] == europe
    assert lead["id"] in seen(world.europe, "leads")


def test_what_was_decided_by_hand_stays_until_the_rules_may_decide_again(world):
    rule(world.admin, world.places["germany"], countries=["DE"])
    made = account(world.rep)
    assert made["territory_id"] is None
    path = f"/v1/accounts/{made['id']}"
    world.admin.post(f"{path}/assign_territory", json={"territory_id": world.places["world"]})
    changed = world.rep.patch(path, json=address("DE")).json()
    assert (changed["territory_id"], changed["territory_pinned"]) == (world.places["world"], True)
    assert world.admin.get(f"{path}/explain_territory").json()["decided_by"] == "hand"
    told = world.admin.post(f"{path}/assign_territory", json={"by": "rules"}).json()
    assert (told["territory_id"], told["territory_pinned"]) == (world.places["germany"], False)
    assert world.rep.patch(path, json=address("FR")).json()["territory_id"] is None, "nothing fits"
    both = {"by": "rules", "territory_id": world.places["world"]}
    problem(world.admin.post(f"{path}/assign_territory", json=both), 422)
    assert code(world.rep.post(f"{path}/assign_territory", json={"by": "rules"})) == (403, "forbidden")
    idle = territory(world.admin, is_active=False)
    rule(world.admin, idle, priority=0)
    problem(world.admin.post(f"{path}/assign_territory", json={"territory_id": idle}), 422)
    assert account(world.rep, **address("DE"))["territory_id"] == world.places["germany"], "an idle one takes nothing"
    contact = world.rep.make("contacts", last_name="Alone")
    body = {"territory_id": world.places["germany"]}
    assert world.admin.post(f"/v1/contacts/{contact['id']}/assign_territory", json=body).json()["territory_id"]


def test_rules_are_asked_again_for_all_after_a_preview(world):
    germany, europe = world.places["germany"], world.places["europe"]
    first = [account(world.rep, **address("DE"))["id"] for _ in range(3)]
    french = account(world.rep, **address("FR"))["id"]
    pinned = account(world.rep, **address("DE"))["id"]
    world.admin.post(f"/v1/accounts/{pinned}/assign_territory", json={"territory_id": None})
    rule(world.admin, germany, countries=["DE"])
    rule(world.admin, europe, countries=["FR"])
    every = {"filter": {"field": "id", "op": "is_null", "value": False}}
    told = preview(world.admin, "accounts/reassign", **every)
    assert (told["examined"], told["done"], skipped(told)) == (5, 4, {"pinned": 1})
    assert moved(told) == [("None", europe, 1, [french]), ("None", germany, 3, sorted(first))]
    assert seen(world.world) == set(), "a preview keeps nothing"
    result = run(world.admin, "accounts/reassign", **every)
    assert {name: told[name] for name in result} == result
    assert seen(world.world) == {*first, french}
    assert seen(world.germany) == set(first)
    (entry, *_) = world.admin.all("/v1/audit_log", object_id=french)
    assert (entry["action"], entry["before"]["territory_id"], entry["after"]["territory_id"]) == (
        "reassign",
        None,
        europe,
    )
    again = run(world.admin, "accounts/reassign", **every)
    assert (again["done"], skipped(again), again["moves"]) == (0, {"pinned": 1, "unchanged": 4}, [])
    assert code(world.rep.post("/v1/accounts/reassign", json=every)) == (403, "forbidden")


def test_rules_that_nothing_fits_are_refused(world):
    place = world.places["world"]
    wrong = [
        {"employees_min": 10, "employees_max": 9},
        {"revenue_min": "10.00", "revenue_max": "9.99", "currency": "EUR"},
        {"revenue_min": "10.00"},
        {"currency": "EUR"},
        {"postal_codes": [{"first": "80"}]},
        {"countries": ["DE"], "postal_codes": [{"first": "80", "last": "79"}]},
        {"countries": ["DE"], "postal_codes": [{"first": "80", "last": "801"}]},
        {"countries": ["XX"]},
        {"priority": -1},
        {"territory_id": "01a219b1-dcfe-71d8-8e64-d59ad7100000"},
    ]
    for values in wrong:
        body = {"territory_id": place, "name": "Wrong", "priority": 1, **values}
        assert problem(world.admin.post("/v1/territory_rules", json=body), 422)["errors"], values
    made = rule(world.admin, place, employees_min=10, countries=["DE"], postal_codes=[{"first": "8"}])
    path = f"/v1/territory_rules/{made['id']}"
    problem(world.admin.patch(path, json={"employees_max": 9}), 422)
    problem(world.admin.patch(path, json={"countries": []}), 422)
    assert world.admin.patch(path, json={"employees_min": None, "employees_max": 9}).status_code == 200


def test_nobody_opens_by_a_territory_what_he_may_not_see(world):
    """Joining, moving and rules bring records within reach; who does it holds what they open."""
    rights = [("territories:*", "all"), ("territory_members:*", "all"), ("territory_rules:*", "all")]
    keeper = world.person("keeper", world.role("Keeper", *rights))
    germany, europe = world.places["germany"], world.places["europe"]
    other = territory(world.admin)
    before = len(world.admin.all("/v1/territory_members"))
    answer = keeper.post("/v1/territory_members", json={"territory_id": germany, "principal_id": world.world.id})
    assert code(answer) == (403, "forbidden")
    assert code(keeper.patch(f"/v1/territories/{other}", json={"parent_id": europe})) == (403, "forbidden")
    answer = keeper.post("/v1/territory_rules", json={"territory_id": germany, "name": "All", "priority": 1})
    assert code(answer) == (403, "forbidden")
    assert len(world.admin.all("/v1/territory_members")) == before
    assert keeper.post("/v1/territories", json={"code": "mine", "name": "Mine", "parent_id": europe}).status_code == 201
    reading = world.role("Reading", ("accounts:read", "all"), ("leads:read", "all"), ("contacts:read", "all"))
    world.admin.make("role_assignments", role_id=reading, principal_id=keeper.id)
    assert keeper.patch(f"/v1/territories/{other}", json={"parent_id": europe}).status_code == 200
    rule(keeper, germany)
    keeper.make("territory_members", territory_id=germany, principal_id=world.world.id)


def test_rules_of_a_batch_that_is_undone_are_not_remembered(world):
    """The next change of rights gets the access version that the batch had, on the same process."""
    body = {"territory_id": world.places["germany"], "name": "Undone", "priority": 1}
    made = {"operation": "create_account", "body": {"name": "Drafted"}}
    batch = {"operations": [{"operation": "create_territory_rule", "body": body}, made]}
    told = world.admin.post("/v1/batch", params={"dry_run": "true"}, json=batch).json()
    assert told["results"][1]["body"]["territory_id"] == world.places["germany"]
    europe = rule(world.admin, world.places["europe"])
    assert account(world.rep)["territory_rule_id"] == europe["id"]
