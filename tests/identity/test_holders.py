"""Who may do something with a record: the answer is what each of them finds when they try."""

import itertools

import pytest

from tests.support.asking import code
from tests.support.problems import problem

_numbers = itertools.count(1)


def holders(person, object_type: str, id_: str, **params) -> dict[str, list[dict]]:
    """Principal -> grants, over all pages."""
    found, cursor = {}, None
    while True:
        sent = {"object_type": object_type, "object_id": id_, **params, **({"cursor": cursor} if cursor else {})}
        answer = person.get("/v1/access/who", params=sent)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found |= {item["principal_id"]: item["grants"] for item in page["data"]}
        cursor = page["next_cursor"]
        assert page["has_more"] == (cursor is not None)
        if not cursor:
            return found


@pytest.fixture
def shared(org):
    """An account that people see for different reasons, and a contact of it."""
    team = org.admin.make("teams", name="Sellers")["id"]
    place = org.admin.make("territories", code="north", name="North")["id"]
    below = org.admin.make("territories", code="deep_north", name="Deep north", parent_id=place)["id"]
    grants = ("accounts:read", "team"), ("accounts:update", "team"), ("contacts:read", "own")
    org.person("mate", org.role("Mate", *grants))
    org.person("ranger", org.role("Ranger", ("accounts:read", "territory"), ("contacts:read", "own")))
    org.person("blind", org.role("Blind", ("accounts:update", "all"), ("accounts:read", "own")))
    org.admin.make("team_members", team_id=team, principal_id=org.mate.id)
    org.admin.make("territory_members", territory_id=place, principal_id=org.ranger.id)
    org.account = org.rep.make("accounts", name="Known", team_id=team)
    path = f"/v1/accounts/{org.account['id']}"
    assert org.admin.post(f"{path}/assign_territory", json={"territory_id": below}).status_code == 200
    body = {"grantee_type": "user", "grantee_id": org.outsider.id, "level": "write", "cause": "fair"}
    assert org.admin.post(f"{path}/share", json=body).status_code == 201
    org.admin.make("account_team_members", account_id=org.account["id"], principal_id=org.colleague.id, level="read")
    org.contact = org.rep.make("contacts", last_name="Zuse", account_id=org.account["id"])
    org.team, org.place, org.below = team, place, below
    return org


def rules(found: dict[str, list[dict]], person) -> set[str]:
    return {grant["rule"] for grant in found[person.id]}


def test_it_names_each_grant_with_its_cause(shared):
    found = holders(shared.admin, "account", shared.account["id"])
    assert rules(found, shared.rep) == {"reach:own"}
    assert rules(found, shared.manager) == {"reach:subordinates"}
    assert rules(found, shared.reader) == {"reach:all"}
    assert rules(found, shared.colleague) == {"account_team"}
    (team,) = found[shared.mate.id]
    assert (team["rule"], team["via"]) == ("reach:team", {"object": "team", "id": shared.team})
    assert [role["name"] for role in team["roles"]] == ["Mate"]
    (land,) = found[shared.ranger.id]
    assert (land["rule"], land["via"]) == ("reach:territory", {"object": "territory", "id": shared.below})
    (share,) = found[shared.outsider.id]
    assert [(each["level"], each["cause"], each["granted_by"]) for each in share["shares"]] == [
        ("write", "fair", shared.admin.id)
    ]
    assert shared.blind.id not in found
    assert shared.blind.id not in holders(shared.admin, "account", shared.account["id"], action="update")
    through = holders(shared.admin, "contact", shared.contact["id"])[shared.ranger.id]
    account = {"object": "account", "id": shared.account["id"]}
    assert {(grant["rule"], str(grant["via"])) for grant in through} >= {("through:accounts", str(account))}


def test_it_agrees_with_what_everybody_finds(shared):
    """For every principal, and for reading and acting; in pages of any size."""
    for type_, plural, record in (("account", "accounts", shared.account), ("contact", "contacts", shared.contact)):
        path = f"/v1/{plural}/{record['id']}"
        reading = holders(shared.admin, type_, record["id"], limit=3)
        assert reading.keys() == holders(shared.admin, type_, record["id"]).keys()
        ways = {
            "update": lambda person, to: person.patch(to, params={"dry_run": "true"}, json={"description": "x"}),
            "delete": lambda person, to: person.delete(to, params={"dry_run": "true"}),
            "share": lambda person, to: person.get(f"{to}/shares"),
        }
        acting = {action: holders(shared.admin, type_, record["id"], action=action) for action in ways}
        for person in shared.people.values():
            assert (person.get(path).status_code == 200) == (person.id in reading), (type_, person.id)
            for action, way in ways.items():
                answer = way(person, path)
                assert answer.status_code in (200, 204, 403, 404)
                assert answer.is_success == (person.id in acting[action]), (type_, action, person.id, answer.text)


def test_it_is_told_to_those_who_may_know(shared):
    asked = {"object_type": "account", "object_id": shared.account["id"]}
    assert code(shared.rep.get("/v1/access/who", params=asked)) == (403, "forbidden")
    keeper = shared.person("keeper", shared.role("Keeper", ("roles:read", "all"), ("accounts:read", "own")))
    assert code(keeper.get("/v1/access/who", params=asked)) == (404, "not_found")
    for wrong in ({"object_type": "nothing"}, {"action": "fly"}, {"action": "create"}, {"limit": 0}, {"limit": 201}):
        problem(shared.admin.get("/v1/access/who", params={**asked, **wrong}), 422)
    page = shared.admin.get("/v1/access/who", params={**asked, "limit": 2}).json()
    other = {**asked, "action": "update", "cursor": page["next_cursor"]}
    assert code(shared.admin.get("/v1/access/who", params=other)) == (400, "invalid_cursor")
    (row,) = shared.admin.all("/v1/role_assignments", principal_id=shared.reader.id)
    assert shared.admin.delete(f"/v1/role_assignments/{row['id']}").status_code == 204
    assert shared.reader.id not in holders(shared.admin, "account", shared.account["id"]), "at once"
