"""Nobody passes on more than he has, by whatever route."""

from unittest.mock import ANY

import pytest

from tests.support.imports import done
from tests.support.jobs import working
from tests.support.org import Person


@pytest.fixture
def clerk(org):
    """Hands out roles, sees accounts without their credit limit, and is no administrator."""
    role = org.role(
        "Clerk",
        ("roles:*", "all"),
        ("role_assignments:*", "all"),
        ("access_defaults:*", "all"),
        ("users:read", "all"),
        ("users:issue_key", "all"),
        ("service_accounts:*", "all"),
        ("accounts:read", "subordinates"),
        field_rules=[{"resource": "accounts", "field": "credit_limit", "rule": "hidden"}],
    )
    return org.person("clerk", role)


def granting(permission, reach, *hidden):
    rules = [{"resource": "accounts", "field": name, "rule": "hidden"} for name in hidden]
    return {"permissions": [{"permission": permission, "reach": reach}], "field_rules": rules}


def refused(answer, permission):
    assert answer.status_code == 403, answer.text
    assert permission in answer.json()["permission"]


def assigned(org, person):
    return {item["role_id"] for item in org.admin.all("/v1/role_assignments", principal_id=person.id)}


@pytest.mark.parametrize("who", ["clerk", "colleague"])
def test_a_role_beyond_ones_own_is_not_assigned(org, clerk, who):
    before = assigned(org, org.people[who])
    body = {"role_id": org.roles["Administrator"], "principal_id": org.people[who].id}
    refused(clerk.post("/v1/role_assignments", json=body), ":")
    assert assigned(org, org.people[who]) == before
    assert org.admin.post("/v1/role_assignments", json=body).status_code == 201


def test_a_role_within_ones_own_is(org, clerk):
    body = {"name": "Looker", **granting("accounts:read", "own", "credit_limit")}
    role = clerk.post("/v1/roles", json=body)
    assert role.status_code == 201, role.text
    body = {"role_id": role.json()["id"], "principal_id": org.colleague.id}
    assert clerk.post("/v1/role_assignments", json=body).status_code == 201


@pytest.mark.parametrize(
    ("wider", "named"),
    [
        (granting("accounts:read", "all", "credit_limit"), "accounts:read"),
        (granting("accounts:read", "team", "credit_limit"), "accounts:read"),
        (granting("accounts:update", "own", "credit_limit"), "accounts:update"),
        (granting("accounts:*", "own", "credit_limit"), "accounts:"),
        (granting("*:read", "own", "credit_limit"), ":read"),
        (granting("accounts:read", "own"), "accounts.credit_limit"),
    ],
)
def test_a_role_is_not_made_wider_than_ones_own(org, clerk, wider, named):
    refused(clerk.post("/v1/roles", json={"name": "Wider", **wider}), named)
    made = clerk.make("roles", name="Narrow", **granting("accounts:read", "own", "credit_limit"))
    refused(clerk.patch(f"/v1/roles/{made['id']}", json=wider), named)
    assert org.admin.get(f"/v1/roles/{made['id']}").json() == made


def test_a_field_rule_alone_is_not_lifted(clerk):
    made = clerk.make("roles", name="Narrow", **granting("accounts:read", "own", "credit_limit"))
    refused(clerk.patch(f"/v1/roles/{made['id']}", json={"field_rules": []}), "accounts.credit_limit")


def test_ones_own_role_is_not_widened(org, clerk):
    (role,) = assigned(org, clerk)
    refused(clerk.patch(f"/v1/roles/{role}", json=granting("accounts:delete", "own")), "accounts:delete")
    assert clerk.patch(f"/v1/roles/{role}", json={"description": "Hands out roles"}).status_code == 200


def test_a_role_wider_than_ones_own_is_not_restored(org, clerk):
    wide = org.admin.make("roles", name="Wide", **granting("accounts:read", "all", "credit_limit"))
    narrow = clerk.make("roles", name="Narrow", **granting("accounts:read", "own", "credit_limit"))
    org.admin.make("role_assignments", role_id=wide["id"], principal_id=org.reader.id)
    for role in (wide, narrow):
        assert clerk.delete(f"/v1/roles/{role['id']}").status_code == 204
    refused(clerk.post(f"/v1/roles/{wide['id']}/restore"), "accounts:read")
    refused(clerk.post(f"/v1/roles/{wide['id']}/restore", headers={"Idempotency-Key": "restore-it"}), "accounts:read")
    assert org.admin.get(f"/v1/roles/{wide['id']}").status_code == 404
    assert clerk.post(f"/v1/roles/{narrow['id']}/restore").json() == {
        **narrow,
        "version": 3,
        "updated_at": ANY,
        "updated_by": clerk.id,
    }
    assert org.admin.post(f"/v1/roles/{wide['id']}/restore").status_code == 200


def test_only_roles_are_restored_of_what_passes_on_rights(clerk):
    """Assignments and defaults are made anew, which is checked."""
    for plural, body in (
        ("role_assignments", None),
        ("access_defaults", {"resource": "accounts", "level": "private"}),
    ):
        made = clerk.make(plural, **body) if body else clerk.all(f"/v1/{plural}")[0]
        assert clerk.post(f"/v1/{plural}/{made['id']}/restore").status_code == 404


@pytest.mark.parametrize("gone", ["deleted", "inactive"])
def test_nobody_brings_back_who_may_do_more(org, gone):
    clerk = org.person("clerk", org.role("Clerk", ("users:*", "all")))
    second = org.person("second", "Administrator")
    path = f"/v1/users/{second.id}"
    if gone == "deleted":
        assert clerk.delete(path).status_code == 204
        back = ("POST", f"{path}/restore", None)
    else:
        assert clerk.patch(path, json={"is_active": False}).status_code == 200
        back = ("PATCH", path, {"is_active": True})
    refused(clerk.request(back[0], back[1], json=back[2]), ":")
    assert second.get("/v1/me").status_code == 401
    assert org.admin.request(back[0], back[1], json=back[2]).status_code == 200
    assert second.get("/v1/me").status_code == 200
    assert clerk.patch(path, json={"is_active": True, "title": "Deputy"}).status_code == 200, "nothing comes back"


def test_a_team_is_not_restored_to_show_its_rows(org):
    seer = org.person("seer", org.role("Seer", ("accounts:read", "team"), ("teams:*", "all")))
    team, empty = (org.admin.make("teams", name=name) for name in ("Vault", "Empty"))
    account = org.admin.make("accounts", name="Vaulted", team_id=team["id"])
    org.admin.make("team_members", team_id=team["id"], principal_id=seer.id)
    for one in (team, empty):
        assert seer.delete(f"/v1/teams/{one['id']}").status_code == 204
    refused(seer.post(f"/v1/teams/{team['id']}/restore"), "accounts:read")
    assert seer.get(f"/v1/accounts/{account['id']}").status_code == 404
    assert seer.post(f"/v1/teams/{empty['id']}/restore").status_code == 200
    assert org.admin.post(f"/v1/teams/{team['id']}/restore").status_code == 200
    assert seer.get(f"/v1/accounts/{account['id']}").status_code == 200


def test_a_link_that_opens_a_contact_is_not_restored_by_who_may_not_change_it(org):
    """A deleted link to an account of one's own would open somebody else's contact again."""
    contact = org.outsider.make("contacts", last_name="Theirs")
    mine = org.rep.make("accounts", name="Mine")
    link = org.admin.make("account_contacts", account_id=mine["id"], contact_id=contact["id"])
    path = f"/v1/account_contacts/{link['id']}"
    assert org.rep.get(f"/v1/contacts/{contact['id']}").status_code == 200
    assert org.admin.delete(path).status_code == 204
    assert org.rep.get(f"/v1/contacts/{contact['id']}").status_code == 404
    assert org.rep.post(f"{path}/restore").status_code == 422
    assert org.rep.get(f"/v1/contacts/{contact['id']}").status_code == 404
    assert org.admin.post(f"{path}/restore").status_code == 200


def test_a_default_opens_no_more_than_ones_own(org, clerk):
    refused(clerk.post("/v1/access_defaults", json={"resource": "accounts", "level": "read"}), "accounts:read")
    made = clerk.post("/v1/access_defaults", json={"resource": "accounts", "level": "private"})
    assert made.status_code == 201
    refused(clerk.patch(f"/v1/access_defaults/{made.json()['id']}", json={"level": "write"}), "accounts:read")
    assert org.admin.patch(f"/v1/access_defaults/{made.json()['id']}", json={"level": "read"}).status_code == 200


def test_no_key_of_somebody_who_may_do_more(org, clerk):
    keys = len(org.admin.all("/v1/api_keys", principal_id=org.admin.id))
    refused(clerk.post(f"/v1/users/{org.admin.id}/issue_key", json={"name": "borrowed"}), ":")
    assert len(org.admin.all("/v1/api_keys", principal_id=org.admin.id)) == keys
    service = clerk.make("service_accounts", name="Sync")
    assert clerk.post(f"/v1/service_accounts/{service['id']}/issue_key", json={"name": "mine"}).status_code == 201


def test_one_creates_for_oneself_where_principals_are_private(org):
    assert org.admin.post("/v1/access_defaults", json={"resource": "principals", "level": "private"}).status_code == 201
    made = org.rep.post("/v1/accounts", json={"name": "Mine"})
    assert made.status_code == 201, made.text
    assert made.json()["owner_id"] == org.rep.id


def test_a_representative_shares_what_is_his_and_his_manager_gives_it_away(org):
    mine = org.rep.make("accounts", name="Mine")["id"]
    theirs = org.outsider.make("accounts", name="Theirs")["id"]
    body = {"grantee_type": "user", "grantee_id": org.colleague.id, "level": "read"}
    assert org.colleague.get(f"/v1/accounts/{mine}").status_code == 404
    assert org.rep.post(f"/v1/accounts/{mine}/share", json=body).status_code in (200, 201)
    assert org.colleague.get(f"/v1/accounts/{mine}").status_code == 200
    assert org.colleague.post(f"/v1/accounts/{mine}/share", json=body).status_code == 403
    assert org.rep.post(f"/v1/accounts/{theirs}/share", json=body).status_code == 404
    assert org.rep.patch(f"/v1/accounts/{mine}", json={"owner_id": org.colleague.id}).status_code == 403
    assert org.manager.patch(f"/v1/accounts/{mine}", json={"owner_id": org.colleague.id}).status_code == 200


@pytest.fixture
def secretary(org):
    """Keeps users in order, and holds nothing else but what lets them do so by every route."""
    org.admin.make("sources", code="hr", name="HR")
    permissions = ("users:*", "sources:*", "imports:*", "jobs:read")
    return org.person("secretary", org.role("Secretary", *((permission, "all") for permission in permissions)))


def addressed(person, route, id_, email):
    """The answer to a change of a user's address by a route."""
    if route == "patch":
        answer = person.patch(f"/v1/users/{id_}", json={"email": email})
    elif route == "upsert":
        answer = person.put("/v1/users/ext:hr:7", json={"name": "Second", "email": email})
    elif route == "batch":
        operation = {"operation": "update_user", "id": id_, "body": {"email": email}}
        answer = person.post("/v1/batch", json={"operations": [operation]})
    else:
        answer = person.post("/v1/users/batch", json={"items": [{"op": "update", "id": id_, "body": {"email": email}}]})
    return answer


@pytest.mark.parametrize("route", ["patch", "upsert", "batch", "users/batch"])
def test_nobody_changes_the_address_of_who_may_do_more(org, secretary, route):
    """A reset link would go to the new address, and whoever has that becomes the person."""
    second = org.person("second", "Administrator")
    assert org.admin.post(f"/v1/users/{second.id}/link", json={"source": "hr", "external_id": "7"}).status_code == 200
    refused(addressed(secretary, route, second.id, "mine@example.com"), ":read")
    assert org.admin.get(f"/v1/users/{second.id}").json()["email"] == "second@example.com"
    assert addressed(secretary, route, second.id, "second@example.com").status_code == 200, "the same address"
    assert addressed(org.admin, route, second.id, "new@example.com").status_code == 200
    assert org.admin.get(f"/v1/users/{second.id}").json()["email"] == "new@example.com"


def test_nor_does_an_import(org, secretary):
    second = org.person("second", "Administrator")
    text = f"Id,Name,Email\n{second.id},Second,mine@example.com\n{org.outsider.id},Outsider,outsider@example.com\n"
    mapping = [{"column": name.title(), "field": name} for name in ("id", "name", "email")]
    settings = {"resource": "users", "mode": "upsert", "mapping": mapping, "match_on": [{"by": "id"}]}
    with working(org.server):
        for person, email in ((secretary, "second@example.com"), (org.admin, "mine@example.com")):
            assert done(person, text, **settings)["state"] == "applied"
            assert org.admin.get(f"/v1/users/{second.id}").json()["email"] == email


def test_a_credential_with_scopes_changes_no_address(org):
    """It would become more than its scopes: the person, who has no scopes."""
    scopes = ["identity:read", "identity:write"]
    key = org.admin.post(f"/v1/users/{org.admin.id}/issue_key", json={"name": "sync", "scopes": scopes}).json()["key"]
    scoped = Person(org.server, org.admin.id, key)
    for one in (org.admin, org.reader):
        refused(scoped.patch(f"/v1/users/{one.id}", json={"email": "mine@example.com"}), "scopes")
        assert scoped.patch(f"/v1/users/{one.id}", json={"title": "Chief"}).status_code == 200
