"""A change of rights holds on the very next request, for open cursors too."""

import itertools

import pytest

from tests.laws.test_row_rules import assume
from tests.support.asking import code
from tests.support.examples import Examples
from tests.support.org import Org, Person

_numbers = itertools.count(1)


@pytest.fixture
def firm(server) -> Org:
    org = Org.create(server)
    org.examples = Examples(org.admin)
    org.team = org.admin.make("teams", name="Team")["id"]
    for _ in range(3):
        org.rep.make("accounts", name="of rep", team_id=None)
        org.admin.make("accounts", name="of team", owner_id=org.outsider.id, team_id=org.team)
    return org


def seen(person) -> int:
    """How many accounts a person sees, asked in every way; the ways must agree."""
    listed = person.get("/v1/accounts", params={"limit": 200, "count": "exact"})
    found = person.post("/v1/accounts/search", json={"q": ["rep", "team"][0], "limit": 200})
    figure = person.post("/v1/accounts/aggregate", json={"measures": [{"op": "count"}]})
    if listed.status_code != 200:
        assert {listed.status_code, found.status_code, figure.status_code} == {listed.status_code}
        return -listed.status_code
    n = len(listed.json()["data"])
    assert listed.json()["count"]["value"] == n
    assert figure.json()["data"][0]["measures"] == [n]
    return n


def cursor_of(person) -> str:
    return person.get("/v1/accounts", params={"limit": 1}).json()["next_cursor"]


def follow(person, cursor) -> tuple[int, int]:
    page = person.get("/v1/accounts", params={"limit": 1, "cursor": cursor})
    return page.status_code, len(page.json().get("data", []))


def test_a_revoked_role(firm):
    assert seen(firm.reader) == 6
    cursor = cursor_of(firm.reader)
    (held,) = firm.admin.all("/v1/role_assignments", principal_id=firm.reader.id)
    assert firm.admin.delete(f"/v1/role_assignments/{held['id']}").status_code == 204
    assert follow(firm.reader, cursor) == (403, 0)
    assert seen(firm.reader) == -403
    firm.admin.make("role_assignments", principal_id=firm.reader.id, role_id=held["role_id"])
    assert seen(firm.reader) == 6


def test_a_narrowed_and_widened_role(firm):
    role = firm.admin.all("/v1/roles", name="Reader")[0]
    path = f"/v1/roles/{role['id']}"
    cursor = cursor_of(firm.reader)
    own = [{"permission": "accounts:read", "reach": "own"}]
    assert firm.admin.patch(path, json={"permissions": own}).status_code == 200
    assert follow(firm.reader, cursor) == (200, 0)
    assert seen(firm.reader) == 0
    assert firm.admin.patch(path, json={"permissions": role["permissions"]}).status_code == 200
    assert seen(firm.reader) == 6
    assert firm.admin.delete(path).status_code == 204
    assert seen(firm.reader) == -403
    assert firm.admin.post(f"{path}/restore").status_code == 200
    assert seen(firm.reader) == 6


def test_a_moved_report(firm):
    assert (seen(firm.manager), seen(firm.other_manager)) == (3, 3)
    cursor = cursor_of(firm.manager)
    assert firm.admin.patch(f"/v1/users/{firm.rep.id}", json={"manager_id": firm.other_manager.id}).status_code == 200
    assert follow(firm.manager, cursor) == (200, 0)
    assert (seen(firm.manager), seen(firm.other_manager)) == (0, 6)
    assert firm.admin.patch(f"/v1/users/{firm.rep.id}", json={"manager_id": None}).status_code == 200
    assert (seen(firm.manager), seen(firm.other_manager)) == (0, 3)


def test_a_team_joined_left_and_deleted(firm):
    person = assume(firm, "colleague", {"accounts:read": "team"})
    assert seen(person) == 0
    member = firm.admin.make("team_members", team_id=firm.team, principal_id=person.id)
    assert seen(person) == 3
    cursor = cursor_of(person)
    assert firm.admin.delete(f"/v1/team_members/{member['id']}").status_code == 204
    assert follow(person, cursor) == (200, 0)
    assert seen(person) == 0
    firm.admin.make("team_members", team_id=firm.team, principal_id=person.id)
    assert seen(person) == 3
    assert firm.admin.delete(f"/v1/teams/{firm.team}").status_code in (204, 409)
    if firm.admin.get(f"/v1/teams/{firm.team}").status_code == 404:
        assert seen(person) == 0


def test_a_share_given_and_ended(firm):
    rows = firm.admin.all("/v1/accounts", owner_id=firm.rep.id)
    shares = []
    for n, row in enumerate(rows[:2]):
        shared = firm.admin.post(
            f"/v1/accounts/{row['id']}/share", json={"grantee_type": "user", "grantee_id": firm.outsider.id}
        )
        shares.append((row["id"], shared.json()["id"]))
        assert seen(firm.outsider) == 3 + n + 1
    cursor = firm.outsider.get("/v1/accounts", params={"limit": 1, "sort": "name"}).json()["next_cursor"]
    for id_, share in shares:
        assert firm.admin.post(f"/v1/accounts/{id_}/unshare", json={"share_id": share}).status_code == 200
    assert seen(firm.outsider) == 3
    rest = firm.outsider.get("/v1/accounts", params={"limit": 1, "sort": "name", "cursor": cursor}).json()["data"]
    assert {row["owner_id"] for row in rest} <= {firm.outsider.id}


def test_a_changed_default(firm):
    assert seen(firm.rep) == 3
    made = firm.admin.make("access_defaults", resource="accounts", level="read")
    assert seen(firm.rep) == 6
    cursor = cursor_of(firm.outsider)
    assert firm.admin.patch(f"/v1/access_defaults/{made['id']}", json={"level": "private"}).status_code == 200
    assert seen(firm.rep) == 3
    assert follow(firm.outsider, cursor)[0] == 200
    assert firm.admin.patch(f"/v1/access_defaults/{made['id']}", json={"level": "write"}).status_code == 200
    assert seen(firm.rep) == 6
    assert firm.admin.delete(f"/v1/access_defaults/{made['id']}").status_code == 204
    assert seen(firm.rep) == 3


def test_a_changed_owner(firm):
    row = firm.admin.all("/v1/accounts", owner_id=firm.rep.id)[0]
    assert firm.admin.patch(f"/v1/accounts/{row['id']}", json={"owner_id": firm.outsider.id}).status_code == 200
    assert (seen(firm.rep), seen(firm.outsider), seen(firm.manager)) == (2, 4, 2)


def test_a_field_rule_given_and_taken(firm):
    role = firm.admin.all("/v1/roles", name="Reader")[0]
    sorted_ = {"sort": "annual_revenue", "limit": 1}
    cursor = firm.reader.get("/v1/accounts", params=sorted_).json()["next_cursor"]
    rules = [{"resource": "accounts", "field": "annual_revenue", "rule": "hidden"}]
    assert firm.admin.patch(f"/v1/roles/{role['id']}", json={"field_rules": rules}).status_code == 200
    assert code(firm.reader.get("/v1/accounts", params={**sorted_, "cursor": cursor})) == (403, "forbidden")
    assert firm.reader.get("/v1/accounts").json()["data"][0]["redacted"] == ["annual_revenue"]
    assert firm.admin.patch(f"/v1/roles/{role['id']}", json={"field_rules": []}).status_code == 200
    assert firm.reader.get("/v1/accounts", params={**sorted_, "cursor": cursor}).status_code == 200


def test_a_revoked_key_and_a_deactivated_or_deleted_user(firm):
    cursor = cursor_of(firm.reader)
    (held,) = firm.admin.all("/v1/api_keys", principal_id=firm.reader.id)
    assert firm.admin.post(f"/v1/api_keys/{held['id']}/revoke").status_code == 200
    assert follow(firm.reader, cursor)[0] == 401
    assert firm.reader.get("/v1/me").status_code == 401
    assert firm.reader.post("/v1/accounts", json={"name": "x"}).status_code == 401
    assert seen(firm.rep) == 3
    assert firm.admin.patch(f"/v1/users/{firm.rep.id}", json={"is_active": False}).status_code == 200
    assert firm.rep.get("/v1/accounts").status_code == 401
    assert firm.rep.post("/v1/accounts", json={"name": "x"}).status_code == 401
    assert firm.admin.patch(f"/v1/users/{firm.rep.id}", json={"is_active": True}).status_code == 200
    assert seen(firm.rep) == 3
    assert firm.admin.delete(f"/v1/users/{firm.colleague.id}").status_code == 204
    assert firm.colleague.get("/v1/accounts").status_code == 401


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_a_write_under_rights_that_are_gone_does_nothing(firm, method, unchanged):
    row = firm.rep.get("/v1/accounts").json()["data"][0]
    path = f"/v1/accounts/{row['id']}"
    (held,) = firm.admin.all("/v1/role_assignments", principal_id=firm.rep.id)
    firm.admin.delete(f"/v1/role_assignments/{held['id']}")
    with unchanged(firm):
        target = path if method != "POST" else "/v1/accounts"
        assert firm.rep.request(method, target, json=None if method == "GET" else {"name": "x"}).status_code == 403


def test_two_keys_of_one_user_are_revoked_apart(firm):
    made = firm.admin.post(f"/v1/users/{firm.rep.id}/issue_key", json={"name": "second"}).json()
    second = Person(firm.server, firm.rep.id, made["key"])
    assert (seen(firm.rep), seen(second)) == (3, 3)
    assert firm.admin.post(f"/v1/api_keys/{made['id']}/revoke").status_code == 200
    assert second.get("/v1/accounts").status_code == 401
    assert seen(firm.rep) == 3
