"""What one path denies, no second path gives."""

import pytest

from tests.support.org import Org
from tests.support.problems import problem


def share(person, path: str, grantee: str, level: str) -> None:
    body = {"grantee_type": "user", "grantee_id": grantee, "level": level}
    assert person.post(f"{path}/share", json=body).status_code == 201


@pytest.fixture
def treasure(org) -> dict:
    """An account of `outsider`, in the other branch."""
    return org.outsider.make("accounts", name="Treasure", credit_limit="5000.00")


def test_a_write_does_not_show_what_one_may_not_read(org, treasure):
    writer = org.person(
        "writer", org.role("Writer", ("accounts:*", "own"), *((f"accounts:{verb}", "all") for verb in WRITES))
    )
    path = f"/v1/accounts/{treasure['id']}"
    problem(writer.get(path), 404)
    before = org.admin.get(path).json()
    for method, suffix, body in (
        ("PATCH", "", {"tier": "A"}),
        ("PATCH", "", {"parent_id": None, "tier": "B"}),
        ("PATCH", "", {"owner_id": writer.id}),
        ("POST", "/activate", None),
        ("POST", "/block", {"reason": "x"}),
        ("POST", "/share", {"grantee_type": "user", "grantee_id": writer.id}),
        ("GET", "/shares", None),
        ("DELETE", "", None),
    ):
        problem(writer.request(method, path + suffix, json=body), 404)
        stale = writer.request(method, path + suffix, json=body, headers={"If-Match": '"9"'})
        problem(stale, 404)
    assert org.admin.get(path).json() == before
    assert org.outsider.delete(path).status_code == 204
    problem(writer.post(f"{path}/restore"), 404)


WRITES = ("update", "delete", "transfer", "share", "activate", "block")


def test_a_share_gives_no_more_than_its_giver_may_do(org):
    role = org.role("Shower", ("accounts:create", "own"), ("accounts:read", "own"), ("accounts:share", "own"))
    shower = org.person("shower", role)
    path = f"/v1/accounts/{shower.make('accounts', name='Mine')['id']}"
    body = {"grantee_type": "user", "grantee_id": org.rep.id, "level": "write"}
    found = problem(shower.post(f"{path}/share", json=body), 403)
    assert found["permission"] == "accounts:update"
    assert shower.post(f"{path}/share", json={**body, "level": "read"}).status_code == 201
    problem(org.rep.patch(path, json={"tier": "A"}), 403)


@pytest.mark.parametrize("way", ["link", "moved link", "account_id"])
def test_a_write_share_of_a_contact_does_not_become_ownership(org, way):
    contact = org.outsider.make("contacts", last_name="Wanted")
    path = f"/v1/contacts/{contact['id']}"
    share(org.outsider, path, org.rep.id, "write")
    own = org.rep.make("accounts", name="Own")
    if way == "link":
        link = {"account_id": own["id"], "contact_id": contact["id"]}
        answer = org.rep.post("/v1/account_contacts", json=link)
    elif way == "moved link":
        mine = org.rep.make("contacts", last_name="Mine")
        link = org.rep.make("account_contacts", account_id=own["id"], contact_id=mine["id"])
        answer = org.rep.patch(f"/v1/account_contacts/{link['id']}", json={"contact_id": contact["id"]})
    else:
        answer = org.rep.patch(path, json={"account_id": own["id"]})
    problem(answer, 403, 422)
    problem(org.manager.get(path), 404)
    problem(org.rep.delete(path), 403)
    assert org.rep.patch(path, json={"title": "CEO"}).status_code == 200


@pytest.mark.parametrize(
    ("parent", "child", "column"), [("contacts", "contacts", "account_id"), ("children", "accounts", "parent_id")]
)
def test_children_do_not_tell_a_hidden_parent(org, parent, child, column):
    rules = [{"resource": child, "field": column, "rule": "hidden"}]
    role = org.role("Blind", ("accounts:*", "all"), ("contacts:*", "all"), field_rules=rules)
    blind = org.person("blind", role)
    account = org.admin.make("accounts", name="Parent")
    found = problem(blind.get(f"/v1/accounts/{account['id']}", params={"expand": parent}), 403)
    assert found["permission"] == f"field {child}.{column}"
    problem(blind.get("/v1/accounts", params={"expand": parent}), 403)


@pytest.mark.parametrize("name", ["accounts", "contacts"])
def test_a_cycle_is_not_told_of_a_hidden_record(org, name):
    title, column = {"accounts": ("name", "parent_id"), "contacts": ("last_name", "reports_to_id")}[name]
    mine = org.rep.make(name, **{title: "Mine"})
    share(org.rep, f"/v1/{name}/{mine['id']}", org.outsider.id, "read")
    theirs = org.outsider.make(name, **{title: "Theirs", column: mine["id"]})
    stranger = org.outsider.make(name, **{title: "Stranger"})
    answers = [
        problem(org.rep.patch(f"/v1/{name}/{mine['id']}", json={column: other["id"]}), 422)
        for other in (theirs, stranger)
    ]
    assert [answer["errors"] for answer in answers] == [answers[0]["errors"]] * 2
    assert org.rep.get(f"/v1/{name}/{mine['id']}").json() == mine


def test_a_failed_precondition_names_fields_only(org, treasure):
    path = f"/v1/accounts/{treasure['id']}"
    assert org.outsider.patch(path, json={"tier": "A"}).status_code == 200
    share(org.outsider, path, org.rep.id, "write")
    found = problem(org.rep.patch(path, json={"tier": "B"}, headers={"If-Match": '"1"'}), 412)
    assert found["changed"] == ["tier"]


def key(org: Org, person, *scopes: str):
    made = org.admin.post(f"/v1/users/{person.id}/issue_key", json={"name": "narrow", "scopes": list(scopes)})
    assert made.status_code == 201, made.text
    return {"Authorization": f"Bearer {made.json()['key']}"}


def test_an_explanation_about_others_takes_the_scope_of_roles(org, treasure):
    narrow = key(org, org.admin, "accounts:read")
    ask = {"resource": "accounts", "id": treasure["id"], "principal": org.rep.id}
    problem(org.admin.get("/v1/access/explain", params=ask, headers=narrow), 403)


def test_a_key_passes_on_no_more_than_its_scopes(org):
    narrow = key(org, org.admin, "identity:read", "identity:write")
    body = {"role_id": org.roles["Administrator"], "principal_id": org.rep.id}
    problem(org.admin.post("/v1/role_assignments", json=body, headers=narrow), 403)
    role = {"name": "x", "permissions": [{"permission": "accounts:read", "reach": "own"}]}
    problem(org.admin.post("/v1/roles", json=role, headers=narrow), 403)
    body = {"resource": "accounts", "level": "read"}
    problem(org.admin.post("/v1/access_defaults", json=body, headers=narrow), 403)


def test_a_key_that_may_only_write_shows_nothing(org, treasure):
    narrow = key(org, org.admin, "accounts:write")
    path = f"/v1/accounts/{treasure['id']}"
    for body in ({}, {"tier": "A"}):
        answer = org.admin.patch(path, json=body, headers=narrow)
        assert "Treasure" not in answer.text


@pytest.fixture
def clerk(org):
    """Sees all accounts without their credit limit, and administers what is not about them."""
    rules = [{"resource": "accounts", "field": "credit_limit", "rule": "hidden"}]
    role = org.role(
        "Clerk",
        ("access_defaults:*", "all"),
        ("service_accounts:*", "all"),
        ("accounts:read", "all"),
        field_rules=rules,
    )
    return org.person("clerk", role)


def test_a_default_shows_nothing_that_is_hidden_from_its_giver(org, clerk):
    found = problem(clerk.post("/v1/access_defaults", json={"resource": "accounts", "level": "read"}), 403)
    assert found["permission"] == "field accounts.credit_limit"


def test_a_principal_without_roles_sees_no_more_than_who_speaks_for_it(org, clerk, treasure):
    """Where the default opens a resource to all, only roles hide its fields."""
    org.admin.make("access_defaults", resource="accounts", level="read")
    assert clerk.get(f"/v1/accounts/{treasure['id']}").json()["credit_limit"] is None
    puppet = clerk.make("service_accounts", name="Puppet")
    answer = clerk.post(f"/v1/service_accounts/{puppet['id']}/issue_key", json={"name": "x"})
    found = problem(answer, 403)
    assert found["permission"] == "field accounts.credit_limit"


def test_taking_a_default_away_opens_no_more_than_its_taker_may_see(org):
    """Without a default of the tenant, everyone may read users; `private` keeps that from who deletes it."""
    private = org.admin.make("access_defaults", resource="users", level="private")
    clerk = org.person("clerk", org.role("Clerk", ("access_defaults:*", "all"), ("users:read", "own")))
    found = problem(clerk.delete(f"/v1/access_defaults/{private['id']}"), 403)
    assert found["permission"] == "users:read"
    problem(clerk.get(f"/v1/users/{org.outsider.id}"), 404)
    assert org.admin.delete(f"/v1/access_defaults/{private['id']}").status_code == 204
    assert clerk.get(f"/v1/users/{org.outsider.id}").status_code == 200
