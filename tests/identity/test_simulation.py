"""A simulated change says what the real one does: who gains and who loses which records, permissions and fields."""

import itertools
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.asking import code, fault
from tests.support.org import Org
from tests.support.problems import problem

_numbers = itertools.count(1)
COUNTED = ("accounts", "contacts", "leads", "users", "teams")
ACTIONS = ("read", "update")
TRIED = ("accounts", "users")
"""Of these each record is tried, whether it can be changed."""
COUNT = "SELECT count(*) FROM {} WHERE tenant_id = $1"
LIMIT = 10


def simulate(person, *operations: dict, **more: Any) -> dict[str, dict]:
    """Principal -> what becomes of them."""
    answer = person.post("/v1/access/simulate", json={"operations": list(operations), **more})
    assert answer.status_code == 200, answer.text
    return {item["principal_id"]: item for item in answer.json()["data"]}


def records(told: dict) -> dict[tuple[str, str], tuple[int, int]]:
    return {
        (item["resource"], item["action"]): (item["gained"]["value"], item["lost"]["value"]) for item in told["records"]
    }


def custom_field(org: Org) -> str:
    """The name of a new custom field of accounts."""
    field = org.admin.make("custom_fields", resource="accounts", key="grade", kind="text", label="Grade")
    return f"custom.{field['key']}"


def random_firm(server, draw: random.Random) -> Org:
    """People in a manager tree, with random roles, teams and territories, and what belongs to them."""
    org = Org.create(server)
    org.draw = draw
    org.ruled = ("annual_revenue", custom_field(org))
    reaches = ("own", "subordinates", "team", "territory", "all")
    org.drafts = []
    for n in range(4):
        permissions = [
            (f"{plural}:{action}", reach)
            for plural in COUNTED[:3]
            for action in ("read", "update", "delete")
            for reach in reaches
            if draw.random() < 0.2
        ]
        org.drafts.append(org.role(f"Role {n}", *permissions))
    org.teams = [org.admin.make("teams", name=f"Team {n}")["id"] for n in range(2)]
    org.places = []
    for n in range(4):
        parent = draw.choice([None, *org.places])
        org.places.append(org.admin.make("territories", code=f"p{n}", name=f"P {n}", parent_id=parent)["id"])
    names = []
    for n in range(4):
        org.person(f"p{n}", draw.choice(org.drafts), manager=draw.choice([None, *names]))
        names.append(f"p{n}")
    org.staff = [org.people[name] for name in names]
    for person in org.staff:
        if draw.random() < 0.5:
            org.admin.make("team_members", team_id=draw.choice(org.teams), principal_id=person.id)
        if draw.random() < 0.6:
            org.admin.make("territory_members", territory_id=draw.choice(org.places), principal_id=person.id)
    accounts: list[str | None] = [None]
    for n in range(6):
        owned = {"owner_id": draw.choice(org.staff).id, "team_id": draw.choice([None, *org.teams])}
        made = org.admin.make("accounts", name=f"A {n}", **owned)["id"]
        accounts.append(made)
        body = {"territory_id": draw.choice([None, *org.places])}
        assert org.admin.post(f"/v1/accounts/{made}/assign_territory", json=body).status_code == 200
        owned = {"owner_id": draw.choice(org.staff).id, "team_id": draw.choice([None, *org.teams])}
        org.admin.make("contacts", last_name=f"C {n}", account_id=draw.choice(accounts), **owned)
        org.admin.make("leads", company=f"L {n}", **owned)
    for id_ in draw.sample(accounts[1:], 3):
        place = ("territory", draw.choice(org.places))
        grantee = draw.choice([("user", draw.choice(org.staff).id), ("team", draw.choice(org.teams)), place])
        share = {"grantee_type": grantee[0], "grantee_id": grantee[1], "level": draw.choice(["read", "write"])}
        assert org.admin.post(f"/v1/accounts/{id_}/share", json=share).status_code == 201
    return org


def random_change(org: Org) -> list[dict]:
    """Operations of a batch that change who may do what."""
    draw, admin = org.draw, org.admin
    person = draw.choice(org.staff)
    grants = [
        {"permission": f"{plural}:{action}", "reach": draw.choice(["own", "subordinates", "team", "territory", "all"])}
        for plural in ("accounts", "contacts", "leads")
        for action in ("read", "update")
        if draw.random() < 0.6
    ]
    rules = [
        {"resource": "accounts", "field": name, "rule": draw.choice(["hidden", "read_only"])} for name in org.ruled
    ]
    links = {
        plural: admin.all(f"/v1/{plural}", principal_id=person.id)
        for plural in ("role_assignments", "team_members", "territory_members")
    }
    number = next(_numbers)
    return draw.choice(
        [
            [
                {
                    "operation": "update_role",
                    "id": draw.choice(org.drafts),
                    "body": {"permissions": grants, "field_rules": [rule for rule in rules if draw.random() < 0.5]},
                }
            ],
            [
                {
                    "ref": "new",
                    "operation": "create_role",
                    "body": {"name": f"New {number}", "permissions": grants, "field_rules": rules[-1:]},
                },
                {
                    "operation": "create_role_assignment",
                    "body": {"role_id": {"$ref": "new.id"}, "principal_id": person.id},
                },
            ],
            [{"operation": "delete_role", "id": draw.choice(org.drafts)}],
            [{"operation": "update_user", "id": person.id, "body": {"manager_id": admin.id}}],
            [{"operation": "update_user", "id": org.staff[-1].id, "body": {"manager_id": org.staff[0].id}}],
            [{"operation": "update_user", "id": person.id, "body": {"is_active": False}}],
            [
                {
                    "operation": "create_access_default",
                    "body": {"resource": draw.choice(COUNTED), "level": draw.choice(["private", "read", "write"])},
                }
            ],
            [{"operation": f"delete_{plural[:-1]}", "id": row["id"]} for plural, rows in links.items() for row in rows],
            [
                {"operation": "update_territory", "id": place, "body": {"parent_id": None}}
                for place in draw.sample(org.places, 2)
            ],
            [
                {
                    "operation": "update_territory",
                    "id": org.places[0],
                    "body": {"parent_id": org.admin.make("territories", code=f"top{number}", name="Top")["id"]},
                }
            ],
            [
                {
                    "operation": "create_territory_member",
                    "body": {"territory_id": place, "principal_id": org.reader.id},
                }
                for place in org.places[:2]
            ],
            [{"operation": "delete_team", "id": draw.choice(org.teams)}],
        ]
    )


def found(org: Org) -> dict[str, dict[tuple[str, str], set[str]]]:
    """Principal -> what they find: ids of what they read, and of what they may update, by trying."""
    seen = {}
    for person in (*org.staff, org.reader, org.manager):
        mine: dict[tuple[str, str], set[str]] = {}
        for plural in COUNTED:
            answer = person.get(f"/v1/{plural}", params={"limit": 200})
            ids = {row["id"] for row in answer.json()["data"]} if answer.status_code == 200 else set()
            mine[plural, "read"] = ids
            body = {"title" if plural == "users" else "description": f"Changed {next(_numbers)}"}
            mine[plural, "update"] = {
                id_
                for id_ in sorted(ids)
                if plural in TRIED
                and person.patch(f"/v1/{plural}/{id_}", params={"dry_run": "true"}, json=body).status_code == 200
            }
        seen[person.id] = mine
    return seen


@pytest.mark.broad  # it takes ten seconds
@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_the_real_change_does_what_the_simulation_said(server, seed):
    org = random_firm(server, random.Random(seed))  # noqa: S311 - spreads cases, not a secret
    for _ in range(2):
        change = random_change(org)
        if not change:
            continue
        then = found(org)
        told = simulate(org.admin, *change, resources=list(COUNTED), actions=list(ACTIONS), samples=LIMIT)
        applied = org.admin.post("/v1/batch", json={"operations": change})
        assert applied.status_code == 200, applied.text
        now = found(org)
        for person in (*org.staff, org.reader, org.manager):
            said = {
                (item["resource"], item["action"]): item for item in told.get(person.id, {"records": []})["records"]
            }
            for place in itertools.product(COUNTED, ACTIONS):
                if place[1] == "update" and place[0] not in TRIED:
                    continue
                old, new = then[person.id][place], now[person.id][place]
                gained = new - old
                lost = {id_ for id_ in old - new if not _gone(org, place[0], id_)}
                item = said.get(place, {"gained": {"value": 0, "samples": []}, "lost": {"value": 0, "samples": []}})
                assert (item["gained"]["value"], item["lost"]["value"]) == (len(gained), len(lost)), (
                    place,
                    change,
                    item,
                    gained,
                    lost,
                )
                for name, ids in (("gained", gained), ("lost", lost)):
                    shown = {sample["id"] for sample in item[name]["samples"]}
                    assert shown <= ids
                    assert len(shown) == min(len(ids), LIMIT)


def _gone(org: Org, plural: str, id_: str) -> bool:
    """Whether the change itself deleted it."""
    return org.admin.get(f"/v1/{plural}/{id_}").status_code == 404


@pytest.fixture
def firm(org):
    """An account of the rep's, and a role that nobody holds yet."""
    org.account = org.rep.make("accounts", name="Known", annual_revenue="10.00")
    org.draft = org.role("Draft", ("accounts:read", "all"))
    return org


def moved(person: str, manager: str | None) -> dict:
    return {"operation": "update_user", "id": person, "body": {"manager_id": manager}}


def test_it_shows_records_permissions_and_fields(firm):
    told = simulate(firm.admin, moved(firm.rep.id, firm.other_manager.id), resources=["accounts", "contacts"])
    assert told.keys() == {firm.manager.id, firm.other_manager.id}
    gains, loses = told[firm.other_manager.id], told[firm.manager.id]
    sample = [{"object": "account", "id": firm.account["id"], "name": "Known"}]
    (one,) = gains["records"]
    assert one == {
        "resource": "accounts",
        "action": "read",
        "gained": {"value": 1, "relation": "eq", "samples": sample},
        "lost": {"value": 0, "relation": "eq", "samples": []},
    }
    assert records(loses) == {("accounts", "read"): (0, 1)}
    assert loses["permissions_lost"] == gains["permissions_gained"] == []
    given = {"operation": "create_role_assignment", "body": {"role_id": firm.draft, "principal_id": firm.outsider.id}}
    hidden = {"resource": "accounts", "field": "annual_revenue", "rule": "hidden"}
    told = simulate(firm.admin, given, resources=["accounts"])[firm.outsider.id]
    assert told["permissions_gained"] == [{"permission": "accounts:read", "reach": ["all"]}]
    assert records(told) == {("accounts", "read"): (1, 0)}
    representative = firm.roles["Sales representative"]
    told = simulate(
        firm.admin, {"operation": "update_role", "id": representative, "body": {"field_rules": [hidden]}}, samples=0
    )
    assert told.keys() == {firm.rep.id, firm.colleague.id, firm.outsider.id}
    change = {"resource": "accounts", "field": "annual_revenue", "before": "open", "after": "hidden"}
    assert told[firm.rep.id]["fields"] == [change]
    assert told[firm.rep.id]["records"] == []
    taken = {"operation": "update_user", "id": firm.rep.id, "body": {"is_active": False}}
    told = simulate(firm.admin, taken, resources=["accounts"])[firm.rep.id]
    assert records(told) == {("accounts", "read"): (0, 1)}
    assert told["permissions_lost"]


@pytest.mark.parametrize("rule", ["hidden", "read_only"])
def test_it_shows_that_a_custom_field_closes(firm, rule):
    rules = [{"resource": "accounts", "field": custom_field(firm), "rule": rule}]
    change = {"operation": "update_role", "id": firm.roles["Sales representative"], "body": {"field_rules": rules}}
    told = simulate(firm.admin, change, resources=["accounts"])
    expected = [{"resource": "accounts", "field": "custom.grade", "before": "open", "after": rule}]
    assert {id_: item["fields"] for id_, item in told.items()} == {
        person.id: expected for person in (firm.rep, firm.colleague, firm.outsider)
    }


def test_nothing_is_left_of_it(firm, sql):
    def state() -> list[Any]:
        counted = ("audit_entries", "outbox", "feed", "roles", "role_assignments", "principals", "idempotency_keys")
        one = [sql(COUNT.format(name), firm.tenant_id) for name in counted]
        return [*one, sql("SELECT access_version FROM tenants WHERE tenant_id = $1", firm.tenant_id)]

    everyone = firm.admin.all("/v1/users")
    before = state()
    person = {"name": "New", "email": "new@example.com", "manager_id": firm.manager.id}
    told = simulate(
        firm.admin,
        {"ref": "new", "operation": "create_user", "body": person},
        {
            "operation": "create_role_assignment",
            "body": {"role_id": firm.draft, "principal_id": {"$ref": "new.id"}},
        },
        moved(firm.rep.id, None),
        resources=["accounts"],
    )
    (new,) = (item for item in told.values() if item["name"] == "New")
    assert records(new) == {("accounts", "read"): (1, 0)}
    assert state() == before
    assert firm.admin.all("/v1/users") == everyone
    assert firm.manager.get(f"/v1/accounts/{firm.account['id']}").status_code == 200


def test_it_goes_through_all_principals_in_turn_or_those_who_are_named(firm):
    change = {"operation": "create_access_default", "body": {"resource": "leads", "level": "read"}}
    body = {"operations": [change], "resources": ["leads"]}
    whole = firm.admin.post("/v1/access/simulate", json=body).json()
    assert (whole["considered"], whole["has_more"], whole["next_after"]) == (len(firm.people), False, None)
    ids = sorted(person.id for person in firm.people.values())
    rest = firm.admin.post("/v1/access/simulate", json={**body, "after": ids[2]}).json()
    assert rest["considered"] == len(ids) - 3
    some = firm.admin.post("/v1/access/simulate", json={**body, "principals": [ids[0].upper(), ids[1]]}).json()
    assert some["considered"] == 2
    assert {item["principal_id"] for item in some["data"]} <= set(ids[:2])
    assert code(firm.admin.post("/v1/access/simulate", json={**body, "principals": ids[:1], "after": ids[0]}))[0] == 422


WRONG = {
    "no such role": ([{"operation": "update_role", "id": "01a219b1-dcfe-71d8-8e64-d59ad7100000", "body": {}}], 404),
    "no such write": ([{"operation": "fly"}], 422),
    "a write that decides nothing": ([{"operation": "create_account", "body": {"name": "x"}}], 422),
    "a verb with an effect": ([{"operation": "issue_key_user", "id": "01a219b1-dcfe-71d8-8e64-d59ad7100000"}], 422),
    "too many": ([{"operation": "create_team", "body": {"name": f"T {n}"}} for n in range(26)], 422),
    "none": ([], 422),
    "a typing error": (
        [
            {
                "operation": "create_role",
                "body": {"name": "R", "permissions": [{"permission": "acounts:read", "reach": "own"}]},
            }
        ],
        422,
    ),
    "a reference to nothing": ([{"operation": "create_role_assignment", "body": {"role_id": {"$ref": "x.id"}}}], 422),
}


@pytest.mark.parametrize(("operations", "status"), WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_done_cannot_be_simulated(firm, operations, status):
    problem(firm.admin.post("/v1/access/simulate", json={"operations": operations}), status)


def test_a_cycle_is_refused_as_it_would_be(firm):
    answer = firm.admin.post("/v1/access/simulate", json={"operations": [moved(firm.manager.id, firm.rep.id)]})
    assert code(answer) == (409, "cycle")
    assert fault(answer) == [("/operations/0/body/manager_id", "cycle")]


def test_other_wrong_questions_are_refused(firm):
    body = {"operations": [moved(firm.rep.id, None)]}
    for wrong in (
        {"resources": ["nothing"]},
        {"actions": ["fly"]},
        {"actions": []},
        {"samples": 11},
        {"principals": ["x"]},
        {"principals": [firm.rep.id] * 201},
        {"nonsense": 1},
    ):
        problem(firm.admin.post("/v1/access/simulate", json={**body, **wrong}), 422)


def test_it_is_for_those_who_may_make_the_change_and_know_of_all_roles(firm):
    body = {"operations": [moved(firm.rep.id, None)], "resources": ["accounts"]}
    assert code(firm.manager.post("/v1/access/simulate", json=body)) == (403, "forbidden")
    knowing = firm.person("knowing", firm.role("Knowing", ("roles:read", "all"), ("users:read", "all")))
    assert code(knowing.post("/v1/access/simulate", json=body)) == (403, "forbidden")
    keeper = firm.person(
        "keeper", firm.role("Keeper", ("roles:read", "all"), ("users:*", "all"), ("accounts:read", "own"))
    )
    (one,) = keeper.post("/v1/access/simulate", json=body).json()["data"]
    assert one["principal_id"] == firm.manager.id
    assert one["records"] == [], "records that the caller may not read are not told of"
