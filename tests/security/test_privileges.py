"""Attempts to get more than was given. Each must be refused and leave the records as they were."""

import uuid

import pytest

from tests.support.org import REPRESENTATIVE, Org
from tests.support.problems import problem


def share(person, path: str, grantee: str, level: str) -> dict:
    answer = person.post(f"{path}/share", json={"grantee_type": "user", "grantee_id": grantee, "level": level})
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.fixture
def record(org) -> dict:
    """An account of `outsider`, in the other branch."""
    return org.outsider.make("accounts", name="Treasure", legal_name="Treasure Ltd")


def path_of(record: dict) -> str:
    return f"/v1/accounts/{record['id']}"


def attempts(org: Org, person, record: dict) -> None:
    """Everything that changes a record or its circle; none may work."""
    path = path_of(record)
    before = org.admin.get(path).json()
    shares = org.admin.get(f"{path}/shares").json()
    for method, suffix, body in (
        ("PATCH", "", {"name": "Mine"}),
        ("PATCH", "", {"owner_id": person.id}),
        ("PATCH", "", {"owner_id": None}),
        ("PATCH", "", {"team_id": None, "name": "Mine"}),
        ("DELETE", "", None),
        ("POST", "/restore", None),
        ("POST", "/activate", None),
        ("POST", "/block", {"reason": "x"}),
        ("POST", "/share", {"grantee_type": "user", "grantee_id": person.id, "level": "write"}),
        ("POST", "/share", {"grantee_type": "user", "grantee_id": org.colleague.id}),
        *(("POST", "/unshare", {"share_id": item["id"]}) for item in shares["data"]),
        ("GET", "/shares", None),
    ):
        problem(person.request(method, path + suffix, json=body), 403, 404)
    team = {"account_id": record["id"], "principal_id": person.id, "level": "write"}
    problem(person.post("/v1/account_team_members", json=team), 403, 422)
    assert org.admin.get(path).json() == before
    assert org.admin.get(f"{path}/shares").json() == shares
    assert org.admin.all("/v1/account_team_members", account_id=record["id"]) == []


def test_what_one_cannot_see_one_cannot_touch(org, record):
    for person in (org.rep, org.manager, org.colleague):
        problem(person.get(path_of(record)), 404)
        attempts(org, person, record)


def test_reading_is_not_writing(org, record):
    share(org.other_manager, path_of(record), org.manager.id, "read")
    share(org.other_manager, path_of(record), org.rep.id, "read")
    for person in (org.manager, org.rep, org.reader):
        assert person.get(path_of(record)).status_code == 200
        attempts(org, person, record)


def test_a_write_share_is_not_ownership(org, record):
    path = path_of(record)
    contact = org.outsider.make("contacts", last_name="Jewel", account_id=record["id"])
    share(org.other_manager, path, org.manager.id, "write")
    assert org.manager.patch(path, json={"legal_name": "Changed"}).status_code == 200
    for method, suffix, body in (
        ("DELETE", "", None),
        ("PATCH", "", {"owner_id": org.manager.id}),
        ("POST", "/share", {"grantee_type": "user", "grantee_id": org.rep.id}),
        ("POST", "/activate", None),
        ("GET", "/shares", None),
    ):
        problem(org.manager.request(method, path + suffix, json=body), 403)
    for principal in (org.manager.id, org.rep.id):
        team = {"account_id": record["id"], "principal_id": principal, "level": "write"}
        problem(org.manager.post("/v1/account_team_members", json=team), 403)
    one = f"/v1/contacts/{contact['id']}"
    assert org.manager.patch(one, json={"title": "CEO"}).status_code == 200
    problem(org.manager.delete(one), 403)
    problem(org.manager.patch(one, json={"owner_id": org.manager.id}), 403)
    grantee = {"grantee_type": "user", "grantee_id": org.rep.id}
    problem(org.manager.post(f"{one}/share", json=grantee), 403)
    problem(org.rep.get(path), 404)
    problem(org.rep.get(one), 404)


def test_a_lapsed_or_closed_share_ends_with_the_next_request(org, record):
    path = path_of(record)
    given = share(org.other_manager, path, org.rep.id, "write")
    assert org.rep.patch(path, json={"legal_name": "Changed"}).status_code == 200
    assert org.other_manager.post(f"{path}/unshare", json={"share_id": given["id"]}).status_code == 200
    problem(org.rep.get(path), 404)
    problem(org.rep.patch(path, json={"legal_name": "Again"}), 404)


def test_a_membership_cannot_be_moved_to_a_foreign_account(org, record):
    share(org.other_manager, path_of(record), org.rep.id, "read")
    own = org.rep.make("accounts", name="Own")
    member = org.rep.make("account_team_members", account_id=own["id"], principal_id=org.rep.id, level="write")
    answer = org.rep.patch(f"/v1/account_team_members/{member['id']}", json={"account_id": record["id"]})
    problem(answer, 403)
    attempts(org, org.rep, record)
    assert org.rep.get(f"/v1/account_team_members/{member['id']}").json() == member
    second = org.rep.make("accounts", name="Own too")
    moved = org.rep.patch(f"/v1/account_team_members/{member['id']}", json={"account_id": second["id"]})
    assert (moved.status_code, moved.json()["account_id"]) == (200, second["id"])


def test_a_readable_contact_linked_to_ones_own_account_stays_readable(org):
    contact = org.outsider.make("contacts", last_name="Wanted")
    answer = org.other_manager.post(
        f"/v1/contacts/{contact['id']}/share", json={"grantee_type": "user", "grantee_id": org.rep.id}
    )
    assert answer.status_code == 201
    own = org.rep.make("accounts", name="Own")
    link = {"account_id": own["id"], "contact_id": contact["id"]}
    problem(org.rep.post("/v1/account_contacts", json=link), 422)
    mine = org.rep.make("contacts", last_name="Mine")
    linked = org.rep.make("account_contacts", account_id=own["id"], contact_id=mine["id"])
    answer = org.rep.patch(f"/v1/account_contacts/{linked['id']}", json={"contact_id": contact["id"]})
    problem(answer, 422)
    problem(org.rep.patch(f"/v1/contacts/{contact['id']}", json={"account_id": own["id"]}), 403)
    problem(org.rep.patch(f"/v1/contacts/{contact['id']}", json={"title": "x"}), 403)
    problem(org.rep.delete(f"/v1/contacts/{contact['id']}"), 403)
    problem(org.manager.get(f"/v1/contacts/{contact['id']}"), 404)
    assert org.admin.get(f"/v1/contacts/{contact['id']}").json() == contact


def test_a_link_cannot_be_moved_to_a_foreign_account(org, record):
    share(org.other_manager, path_of(record), org.rep.id, "read")
    own, mine = org.rep.make("accounts", name="Own"), org.rep.make("contacts", last_name="Mine")
    link = org.rep.make("account_contacts", account_id=own["id"], contact_id=mine["id"])
    answer = org.rep.patch(f"/v1/account_contacts/{link['id']}", json={"account_id": record["id"]})
    problem(answer, 403)
    problem(org.outsider.get(f"/v1/contacts/{mine['id']}"), 404)


def test_an_id_chosen_to_be_another_records_opens_nothing(org):
    """Ids are the client's to choose, so two types of record may have the same one."""
    contact = org.outsider.make("contacts", last_name="Victim")
    given = org.other_manager.post(
        f"/v1/contacts/{contact['id']}/share",
        json={"grantee_type": "user", "grantee_id": org.manager.id, "level": "read"},
    ).json()
    twin = org.manager.make("accounts", id=contact["id"], name="Twin")
    path = path_of(twin)
    assert org.manager.get(f"{path}/shares").json() == {"data": []}
    problem(org.manager.post(f"{path}/unshare", json={"share_id": given["id"]}), 404)
    raised = {"grantee_type": "user", "grantee_id": org.manager.id, "level": "write"}
    problem(org.manager.post(f"{path}/share", json=raised), 409)
    problem(org.manager.patch(f"/v1/contacts/{contact['id']}", json={"title": "Mine"}), 403)
    assert org.other_manager.get(f"/v1/contacts/{contact['id']}/shares").json()["data"] == [given]
    assert org.admin.get(f"/v1/contacts/{contact['id']}").json() == contact
    org.manager.patch(path, json={"tier": "A"})
    stale = org.manager.patch(f"/v1/accounts/{twin['id']}", json={"tier": "B"}, headers={"If-Match": '"9"'})
    problem(stale, 412)


def test_a_team_with_a_persons_id_does_not_inherit_their_shares(org, record):
    share(org.other_manager, path_of(record), org.colleague.id, "write")
    assert org.colleague.get(path_of(record)).status_code == 200
    staff = org.role("Staff", ("teams:*", "all"), ("team_members:*", "all"), ("accounts:*", "own"))
    clerk = org.person("clerk", staff)
    clerk.make("teams", id=org.colleague.id, name="Twins")
    clerk.make("team_members", team_id=org.colleague.id, principal_id=clerk.id)
    problem(clerk.get(path_of(record)), 404)
    assert clerk.get("/v1/accounts").json()["data"] == []
    assert org.colleague.patch(path_of(record), json={"tier": "A"}).status_code == 200


def test_a_share_with_a_team_reaches_its_members_only(org, record):
    team = org.admin.make("teams", name="Hunters")
    org.admin.make("team_members", team_id=team["id"], principal_id=org.rep.id)
    body = {"grantee_type": "team", "grantee_id": team["id"], "level": "write"}
    assert org.other_manager.post(f"{path_of(record)}/share", json=body).status_code == 201
    assert org.rep.patch(path_of(record), json={"tier": "A"}).status_code == 200
    problem(org.colleague.get(path_of(record)), 404)
    problem(org.rep.post("/v1/team_members", json={"team_id": team["id"], "principal_id": org.colleague.id}), 403)


def test_administration_is_for_administrators(org):
    roles = org.roles
    for person in (org.rep, org.manager, org.reader):
        for method, path, body in (
            ("POST", "/v1/roles", {"name": "Mine", "permissions": [{"permission": "*:*", "reach": "all"}]}),
            ("GET", "/v1/roles", None),
            ("PATCH", f"/v1/roles/{roles[REPRESENTATIVE]}", {"permissions": [{"permission": "*:*", "reach": "all"}]}),
            ("DELETE", f"/v1/roles/{roles[REPRESENTATIVE]}", None),
            ("POST", "/v1/role_assignments", {"role_id": roles["Administrator"], "principal_id": person.id}),
            ("POST", "/v1/access_defaults", {"resource": "accounts", "level": "write"}),
            ("POST", "/v1/users", {"name": "x", "email": "x@example.com"}),
            ("POST", "/v1/service_accounts", {"name": "x"}),
            ("POST", "/v1/teams", {"name": "x"}),
            ("POST", "/v1/team_members", {"team_id": str(uuid.uuid4()), "principal_id": person.id}),
            ("PATCH", f"/v1/users/{person.id}", {"manager_id": None}),
            ("PATCH", f"/v1/users/{org.outsider.id}", {"manager_id": person.id}),
            ("PATCH", f"/v1/users/{person.id}", {"is_active": False}),
            ("DELETE", f"/v1/users/{org.colleague.id}", None),
            ("GET", "/v1/audit_log", None),
            ("GET", f"/v1/audit_log?object_id={person.id}", None),
            ("POST", f"/v1/users/{org.admin.id}/issue_key", {"name": "x"}),
            ("POST", f"/v1/users/{org.colleague.id}/issue_key", {"name": "x"}),
        ):
            answer = person.request(method, path, json=body)
            found = problem(answer, 403)
            assert found["permission"], path
    assert org.admin.all("/v1/access_defaults") == []
    names = {role["name"] for role in org.admin.all("/v1/roles")}
    assert names == {"Administrator", "Sales manager", "Sales representative", "Reader"}


def test_others_keys_are_neither_seen_nor_ended(org):
    theirs = org.admin.all("/v1/api_keys", principal_id=org.outsider.id)[0]
    for person in (org.rep, org.manager):
        assert {key["principal_id"] for key in person.all("/v1/api_keys")} == {person.id}
        problem(person.get(f"/v1/api_keys/{theirs['id']}"), 404)
        problem(person.post(f"/v1/api_keys/{theirs['id']}/revoke"), 404)
    problem(org.reader.get("/v1/api_keys"), 403)
    assert org.outsider.get("/v1/me").status_code == 200


def test_changing_oneself_widens_nothing(org, record):
    """Even those who may edit their own user record do not get to see more by it."""
    role = org.role("Self service", ("users:update", "own"), ("accounts:*", "subordinates"), ("accounts:*", "team"))
    editor = org.person("editor", role)
    team = org.admin.make("teams", name="Vault")
    vaulted = org.admin.make("accounts", name="Vaulted", team_id=team["id"])
    assert editor.patch(f"/v1/users/{editor.id}", json={"team_id": team["id"]}).status_code == 200
    problem(editor.patch(f"/v1/users/{editor.id}", json={"manager_id": org.other_manager.id}), 403)  # who sees contacts
    assert editor.patch(f"/v1/users/{editor.id}", json={"manager_id": org.outsider.id}).status_code == 403
    problem(editor.get(path_of(vaulted)), 404)
    problem(editor.get(path_of(record)), 404)
    problem(editor.patch(f"/v1/users/{org.outsider.id}", json={"manager_id": editor.id}), 403)
    assert editor.get("/v1/accounts").json()["data"] == []


def test_records_for_other_owners(org):
    for owner in (org.outsider.id, org.colleague.id, org.admin.id):
        problem(org.rep.post("/v1/accounts", json={"name": "Gift", "owner_id": owner}), 403)
        problem(org.rep.post("/v1/contacts", json={"last_name": "Gift", "owner_id": owner}), 403)
    own = org.rep.make("accounts", name="Own")
    planted = {"last_name": "Planted", "account_id": own["id"], "owner_id": org.outsider.id}
    problem(org.rep.post("/v1/contacts", json=planted), 403)
    assert org.outsider.get("/v1/contacts").json()["data"] == []
    assert org.rep.make("contacts", last_name="Own", account_id=own["id"], owner_id=org.rep.id.upper())
    problem(org.manager.post("/v1/accounts", json={"name": "Gift", "owner_id": org.outsider.id}), 403)
    problem(org.reader.post("/v1/accounts", json={"name": "Gift"}), 403)
    assert org.manager.make("accounts", name="Gift", owner_id=org.rep.id)["owner_id"] == org.rep.id


def test_transfer_is_a_permission_of_its_own(org):
    account = org.rep.make("accounts", name="Own")
    team = org.admin.make("teams", name="Elsewhere")
    for change in ({"owner_id": org.outsider.id}, {"owner_id": None}, {"team_id": team["id"]}):
        problem(org.rep.patch(path_of(account), json={**change, "tier": "B"}), 403)
    assert org.rep.get(path_of(account)).json() == account
    problem(org.outsider.patch(path_of(account), json={"owner_id": org.outsider.id}), 403)
    problem(org.other_manager.patch(path_of(account), json={"owner_id": org.outsider.id}), 404)
    moved = org.manager.patch(path_of(account), json={"owner_id": org.colleague.id})
    assert moved.json()["owner_id"] == org.colleague.id
    problem(org.rep.get(path_of(account)), 404)


def test_the_territory_cannot_be_set(org):
    answer = org.admin.post("/v1/accounts", json={"name": "x", "territory_id": str(uuid.uuid4())})
    problem(answer, 422)


def test_restoring_what_others_deleted(org):
    account = org.outsider.make("accounts", name="Deleted")
    assert org.outsider.delete(path_of(account)).status_code == 204
    for person in (org.rep, org.manager, org.reader):
        problem(person.post(f"{path_of(account)}/restore"), 403, 404)
    problem(org.outsider.get(path_of(account)), 404)
    assert org.outsider.post(f"{path_of(account)}/restore").status_code == 200


def test_explanations_are_given_for_oneself_and_what_one_sees(org, record):
    ask = {"resource": "accounts", "id": record["id"]}
    problem(org.rep.get("/v1/access/explain", params=ask), 404)
    problem(org.rep.get("/v1/access/explain", params={**ask, "principal": org.outsider.id}), 403)
    problem(org.rep.get("/v1/access/explain", params={**ask, "principal": org.outsider.id.upper()}), 403)
    problem(org.manager.get("/v1/access/explain", params={**ask, "principal": org.rep.id}), 403)
    problem(org.admin.get("/v1/access/explain", params={**ask, "principal": str(uuid.uuid4())}), 404)
    told = org.admin.get("/v1/access/explain", params={**ask, "principal": org.rep.id}).json()
    assert told["allowed"] is False
    told = org.admin.get("/v1/access/explain", params={**ask, "principal": org.outsider.id}).json()
    assert told["allowed"] is True


def test_an_id_of_another_tenant_makes_a_record_of_ones_own(org, server):
    other = Org.create(server)
    theirs = other.rep.make("accounts", name="Theirs", tags=["x"])
    mine = org.rep.make("accounts", name="Mine", id=theirs["id"])
    assert org.rep.patch(path_of(mine), json={"name": "Changed", "tags": []}).status_code == 200
    assert org.rep.delete(path_of(mine)).status_code == 204
    assert other.rep.get(path_of(theirs)).json() == theirs
    assert [row["id"] for row in other.rep.all("/v1/accounts", tags="x")] == [theirs["id"]]
    entries = other.admin.all("/v1/audit_log", object_id=theirs["id"])
    assert [entry["action"] for entry in entries] == ["create"]


ODD_ROLES = {
    "nothing at all": [],
    "only creating": [("accounts:create", "own")],
    "updating without reading": [("accounts:update", "all")],
    "reach that never applies": [("accounts:read", "territory"), ("roles:read", "own")],
    "team of none": [("accounts:*", "team")],
}


@pytest.mark.parametrize("grants", ODD_ROLES.values(), ids=ODD_ROLES.keys())
def test_odd_roles_deny(org, record, grants):
    odd = org.person("odd", org.role("Odd", *grants))
    for answer in (odd.get("/v1/accounts"), odd.get("/v1/accounts?count=exact&expand=owner"), odd.get("/v1/contacts")):
        if answer.status_code == 200:
            assert answer.json()["data"] == []
        else:
            problem(answer, 403)
    for body in ({"filter": {"or": [{"field": "name", "value": "Treasure"}, {"field": "id", "value": record["id"]}]}},):
        answer = odd.post("/v1/accounts/search", json=body)
        assert answer.status_code == 403 or answer.json()["data"] == []
    counted = odd.post("/v1/accounts/aggregate", json={"measures": [{"op": "count"}]})
    assert counted.status_code == 403 or counted.json()["data"] == [{"group": {}, "measures": [0]}]
    problem(odd.get(path_of(record)), 403, 404)
    problem(odd.delete(path_of(record)), 403, 404)
    assert org.admin.get(path_of(record)).json() == record


def test_an_or_of_the_caller_never_reaches_the_mandatory_conditions(org, server, record):
    other = Org.create(server)
    foreign = other.admin.make("accounts", name="Treasure")
    mine = org.rep.make("accounts", name="Mine")
    gone = org.rep.make("accounts", name="Treasure gone")
    org.rep.delete(path_of(gone))
    every = [
        {"field": "id", "op": "is_null", "value": False},
        {"field": "name", "op": "contains", "value": ""},
        {"field": "owner_id", "op": "ne", "value": org.rep.id},
        {"field": "owner.name", "op": "ne", "value": "nobody"},
        {"field": "id", "op": "in", "value": [record["id"], foreign["id"], gone["id"]]},
    ]
    for tree in ({"or": every}, {"or": [{"and": every}, {"or": every}]}):
        rows = org.rep.post("/v1/accounts/search", json={"filter": tree, "count": "exact"}).json()
        assert [row["id"] for row in rows["data"]] == [mine["id"]]
        assert rows["count"]["value"] == 1
        measures = {"measures": [{"op": "count"}], "filter": tree, "group_by": ["owner_id"]}
        groups = org.rep.post("/v1/accounts/aggregate", json=measures).json()["data"]
        assert [(group["group"]["owner_id"], group["measures"]) for group in groups] == [(org.rep.id, [1])]
    ids = "&".join(f"id={row['id']}" for row in (record, foreign, gone, mine))
    assert [row["id"] for row in org.rep.get(f"/v1/accounts?{ids}").json()["data"]] == [mine["id"]]


def test_rights_that_change_hold_for_an_open_cursor(org):
    for number in range(6):
        org.rep.make("accounts", name=f"A{number}")
    page = org.manager.get("/v1/accounts", params={"limit": 2}).json()
    assert org.admin.patch(f"/v1/users/{org.rep.id}", json={"manager_id": None}).status_code == 200
    following = org.manager.get("/v1/accounts", params={"limit": 2, "cursor": page["next_cursor"]})
    assert (following.status_code, following.json()["data"]) == (200, [])


def test_a_hidden_field_is_hidden_wherever_the_record_shows(org):
    """Users and principals are one record under two names."""
    rules = [{"resource": "users", "field": "email", "rule": "hidden"}]
    role = org.role(
        "No addresses", ("users:read", "all"), ("principals:read", "all"), ("accounts:*", "own"), field_rules=rules
    )
    person = org.person("person", role)
    assert person.get(f"/v1/users/{org.rep.id}").json()["email"] is None
    assert person.get(f"/v1/principals/{org.rep.id}").json()["email"] is None
    own = person.make("accounts", name="Own")
    assert person.get(path_of(own), params={"expand": "owner"}).json()["owner"]["email"] is None
    assert person.get("/v1/principals", params={"q": "rep@example.com"}).json()["data"] == []
