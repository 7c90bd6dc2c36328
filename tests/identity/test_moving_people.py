"""Nobody widens a sight, his own or another's, by moving people: who moves them holds what that opens."""

import pytest

from crm_api.catalog import CATALOG
from crm_api.domains.identity.default_roles import MANAGER

PEOPLE = [("users:*", "all"), ("service_accounts:*", "all")]
TREE = [("accounts:*", "subordinates"), ("account_team_members:*", "subordinates")]
MORE = [
    (permission, reach)
    for domain in CATALOG.domains
    for permission, reach in domain.roles.get(MANAGER, ())
    if reach == "subordinates" and (permission, reach) not in TREE
]
"""What else a sales manager has of his tree, so that it is passed on when people are put below one."""


def refused(answer, permission):
    assert answer.status_code == 403, answer.text
    assert answer.json()["permission"].startswith(permission), answer.text


@pytest.fixture
def account(org):
    return org.outsider.make("accounts", name="Theirs")


@pytest.fixture
def chief(org):
    """Sees what his tree has, with no more than that, and may change and move its people; `manager` is below him."""
    chief = org.person("chief", org.role("Chief", ("users:*", "subordinates"), *TREE, *MORE))
    assert org.admin.patch(f"/v1/users/{org.manager.id}", json={"manager_id": chief.id}).status_code == 200
    return chief


@pytest.mark.parametrize("rights", [PEOPLE, [*PEOPLE, *TREE, *MORE]], ids=["clerk", "manager"])
def test_nobody_puts_others_below_himself_to_see_their_rows(org, account, rights):
    taker = org.person("taker", org.role("Taker", *rights, ("accounts:read", "subordinates")))
    under = org.person("under", "Reader", manager="taker")
    for boss in (taker, under):
        refused(taker.patch(f"/v1/users/{org.outsider.id}", json={"manager_id": boss.id}), "accounts:")
    refused(taker.patch(f"/v1/users/{org.other_manager.id}", json={"manager_id": taker.id}), "accounts:")
    assert taker.get(f"/v1/accounts/{account['id']}").status_code == 404
    assert org.admin.get(f"/v1/users/{org.outsider.id}").json()["manager_id"] == org.other_manager.id


def test_nor_below_somebody_else(org):
    clerk = org.person("clerk", org.role("Clerk", *PEOPLE))
    refused(clerk.patch(f"/v1/users/{org.rep.id}", json={"manager_id": org.other_manager.id}), "account")
    refused(clerk.patch(f"/v1/users/{org.reader.id}", json={"manager_id": org.rep.id, "title": "x"}), "account")
    assert org.admin.get(f"/v1/users/{org.reader.id}").json()["version"] == 1
    new = {"name": "New", "email": "new@example.com"}
    refused(clerk.post("/v1/users", json={**new, "manager_id": org.rep.id}), "account")
    refused(clerk.post("/v1/service_accounts", json={"name": "Sync", "manager_id": org.manager.id}), "account")
    assert clerk.make("users", **new, manager_id=org.reader.id)["manager_id"] == org.reader.id
    same = {"manager_id": org.manager.id, "title": "Senior"}
    assert clerk.patch(f"/v1/users/{org.rep.id}", json=same).json()["title"] == "Senior", "nothing moves"
    assert clerk.patch(f"/v1/users/{org.rep.id}", json={"manager_id": None}).status_code == 200, "nobody sees more"


def test_a_missing_permission_is_named(org):
    boss = org.person("boss", org.role("Boss", *PEOPLE, *TREE, *((permission, "all") for permission, _ in MORE)))
    refused(boss.patch(f"/v1/users/{org.rep.id}", json={"manager_id": org.other_manager.id}), "accounts:read")
    wider = [{"permission": "accounts:read", "reach": "all"}, {"permission": "account_team_members:*", "reach": "all"}]
    (held,) = org.admin.all("/v1/role_assignments", principal_id=boss.id)
    role = org.admin.get(f"/v1/roles/{held['role_id']}").json()
    org.admin.patch(f"/v1/roles/{role['id']}", json={"permissions": role["permissions"] + wider})
    refused(boss.patch(f"/v1/users/{org.rep.id}", json={"manager_id": org.other_manager.id}), "accounts:create")
    wider.append({"permission": "accounts:*", "reach": "all"})
    org.admin.patch(f"/v1/roles/{role['id']}", json={"permissions": role["permissions"] + wider})
    moved = boss.patch(f"/v1/users/{org.rep.id}", json={"manager_id": org.other_manager.id})
    assert moved.json()["manager_id"] == org.other_manager.id


def test_a_manager_moves_people_within_his_tree(org, chief, account):
    mine = org.rep.make("accounts", name="Mine")
    deputy = org.person("deputy", "Sales manager", manager="chief")
    assert deputy.get(f"/v1/accounts/{mine['id']}").status_code == 404
    assert chief.patch(f"/v1/users/{org.rep.id}", json={"manager_id": deputy.id}).status_code == 200
    assert deputy.get(f"/v1/accounts/{mine['id']}").status_code == 200
    assert org.manager.get(f"/v1/accounts/{mine['id']}").status_code == 404
    assert chief.patch(f"/v1/users/{org.rep.id}", json={"manager_id": chief.id}).status_code == 200
    assert chief.patch(f"/v1/users/{org.outsider.id}", json={"manager_id": chief.id}).status_code == 403
    assert chief.get(f"/v1/accounts/{account['id']}").status_code == 404


def test_what_he_does_not_see_he_does_not_show(org, chief):
    rules = [{"resource": "accounts", "field": "credit_limit", "rule": "hidden"}]
    (held,) = org.admin.all("/v1/role_assignments", principal_id=chief.id)
    assert org.admin.patch(f"/v1/roles/{held['role_id']}", json={"field_rules": rules}).status_code == 200
    org.person("deputy", "Sales manager", manager="chief")
    move = {"manager_id": org.deputy.id}
    refused(chief.patch(f"/v1/users/{org.rep.id}", json=move), "field accounts.credit_limit")


def test_what_everyone_sees_is_nobodys_to_open(org):
    looker = org.person("looker", org.role("Looker", ("accounts:read", "subordinates"), ("users:read", "subordinates")))
    clerk = org.person("clerk", org.role("Clerk", *PEOPLE))
    move = {"manager_id": looker.id}
    refused(clerk.patch(f"/v1/users/{org.rep.id}", json=move), "accounts:read")
    org.admin.make("access_defaults", resource="accounts", level="read")
    assert clerk.patch(f"/v1/users/{org.rep.id}", json=move).status_code == 200


@pytest.fixture
def team(org):
    """A team with one account, and one person who sees what the teams he is in have."""
    team = org.admin.make("teams", name="Vault")
    team["account"] = org.admin.make("accounts", name="Vaulted", team_id=team["id"])["id"]
    org.person("seer", org.role("Seer", ("accounts:read", "team"), ("team_members:*", "all"), ("users:update", "all")))
    return team


def test_nobody_joins_a_team_to_see_its_rows(org, team):
    clerk = org.person("clerk", org.role("Clerk", ("team_members:*", "all")))
    join = {"team_id": team["id"], "principal_id": org.seer.id}
    for person in (org.seer, clerk):
        refused(person.post("/v1/team_members", json=join), "accounts:read")
    assert org.seer.get(f"/v1/accounts/{team['account']}").status_code == 404
    assert clerk.post("/v1/team_members", json={**join, "principal_id": org.rep.id}).status_code == 201, "by no reach"
    assert org.rep.get(f"/v1/accounts/{team['account']}").status_code == 404
    org.admin.make("team_members", **join)
    assert org.seer.get(f"/v1/accounts/{team['account']}").status_code == 200
    other = org.person("other", org.role("Other", ("accounts:read", "team")))
    org.seer.make("team_members", team_id=team["id"], principal_id=other.id)  # a member shows what he sees himself
    wider = org.person("wider", org.role("Wider", ("accounts:*", "team")))
    refused(org.seer.post("/v1/team_members", json={**join, "principal_id": wider.id}), "accounts:")


def test_nor_to_see_what_is_shared_with_it(org, team, account):
    clerk = org.person("clerk", org.role("Clerk", ("team_members:*", "all"), ("accounts:read", "own")))
    share = {"grantee_type": "team", "grantee_id": team["id"], "level": "read"}
    join = {"team_id": team["id"], "principal_id": clerk.id}
    assert org.admin.post(f"/v1/accounts/{account['id']}/share", json=share).status_code == 201
    refused(clerk.post("/v1/team_members", json=join), "accounts:read")
    assert clerk.get(f"/v1/accounts/{account['id']}").status_code == 404
    org.admin.make("team_members", **join)
    assert clerk.post("/v1/team_members", json={**join, "principal_id": org.rep.id}).status_code == 201
    assert org.rep.get(f"/v1/accounts/{account['id']}").status_code == 200


def test_nor_sends_others_new_records_to_his_team(org, team):
    org.admin.make("team_members", team_id=team["id"], principal_id=org.seer.id)
    refused(org.seer.patch(f"/v1/users/{org.rep.id}", json={"team_id": team["id"]}), "accounts:read")
    assert org.admin.patch(f"/v1/users/{org.rep.id}", json={"team_id": team["id"]}).status_code == 200
    assert org.seer.patch(f"/v1/users/{org.rep.id}", json={"team_id": team["id"], "title": "x"}).status_code == 200
    made = org.rep.make("accounts", name="Of the team now")
    assert org.seer.get(f"/v1/accounts/{made['id']}").status_code == 200
