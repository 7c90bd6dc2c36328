"""Verbs on many records: what they neither tell nor do."""

import uuid

import pytest

from crm_api.kernel.jobs import MOST_OF_ONE
from tests.support.jobs import wait, working
from tests.support.org import Org
from tests.support.problems import problem

VERBS = ("share", "unshare", "transfer", "distribute")


def bodies(org: Org) -> dict[str, dict]:
    user = org.manager.id
    return {
        "share": {"grantee_type": "user", "grantee_id": user},
        "unshare": {"cause": "any"},
        "transfer": {"owner_id": user, "children": "all"},
        "distribute": {"users": [user]},
    }


@pytest.fixture(scope="module")
def stranger(server) -> Org:
    return Org.create(server)


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_hidden_is_as_what_is_not_there(shared_org, stranger, verb):
    """A colleague's record, another tenant's, one of another kind, a deleted one, and none."""
    org = shared_org
    gone = org.rep.make("accounts", name="Gone")
    assert org.rep.delete(f"/v1/accounts/{gone['id']}").status_code == 204
    hidden = [
        org.outsider.make("accounts", name="Hidden"),
        stranger.admin.make("accounts", name="Theirs"),
        org.rep.make("contacts", last_name="Other kind"),
        gone,
        {"id": str(uuid.uuid4())},
    ]
    ids = [record["id"] for record in hidden]
    body = {**bodies(org)[verb], "ids": ids}
    preview = org.manager.post(f"/v1/accounts/{verb}", json=body, params={"dry_run": "true"}).json()
    told = [(item["id"], item["code"], item["permission"]) for item in preview["refused"]]
    assert told == [(id_, "not_found", None) for id_ in ids]
    assert (preview["done"], preview["children"]) == (0, 0)
    by_filter = {**bodies(org)[verb], "filter": {"field": "id", "op": "in", "value": ids}}
    preview = org.manager.post(f"/v1/accounts/{verb}", json=by_filter, params={"dry_run": "true"}).json()
    assert (preview["matched"]["value"], preview["examined"], preview["refused"]) == (0, 0, [])
    before = stranger.admin.get(f"/v1/accounts/{hidden[1]['id']}").json()
    with working(org.server):
        job = wait(org.manager, org.manager.post(f"/v1/accounts/{verb}", json=body).json())
    assert [item["code"] for item in job["result"]["refused"]] == ["not_found"] * len(ids)
    assert stranger.admin.get(f"/v1/accounts/{hidden[1]['id']}").json() == before


@pytest.mark.parametrize(
    ("verb", "field"),
    [("share", "grantee_id"), ("transfer", "owner_id"), ("distribute", "users"), ("distribute", "team_id")],
)
def test_nobody_of_another_tenant_gets_anything(shared_org, stranger, verb, field):
    account = shared_org.rep.make("accounts", name="Ours")
    faults = []
    for other in (stranger.admin.id, str(uuid.uuid4())):
        body = {**bodies(shared_org)[verb], "ids": [account["id"]], field: [other] if field == "users" else other}
        if field == "team_id":
            del body["users"]
        faults.append(problem(shared_org.manager.post(f"/v1/accounts/{verb}", json=body), 422)["errors"])
    assert faults[0] == faults[1]


def test_a_job_ends_with_the_key_that_started_it(org):
    account = org.rep.make("accounts", name="Ours")
    issued = org.admin.post(f"/v1/users/{org.manager.id}/issue_key", json={"name": "k"}).json()
    headers = {"Authorization": f"Bearer {issued['key']}"}
    jobs = [
        org.manager.post(f"/v1/accounts/{verb}", json={**body, "ids": [account["id"]]}, headers=headers).json()
        for verb, body in {**bodies(org), "transfer": {"owner_id": org.colleague.id}}.items()
    ]
    assert org.admin.post(f"/v1/api_keys/{issued['id']}/revoke").status_code == 200
    with working(org.server):
        for job in jobs:
            ended = wait(org.manager, job)
            assert (ended["state"], ended["problem"]["code"]) == ("failed", "unauthenticated")
    assert org.rep.get(f"/v1/accounts/{account['id']}").json() == account
    assert org.rep.get(f"/v1/accounts/{account['id']}/shares").json()["data"] == []


@pytest.mark.parametrize("scope", ["accounts:read", "accounts:write", "contacts:write"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_key_needs_both_scopes(shared_org, verb, scope):
    issued = shared_org.admin.post(
        f"/v1/users/{shared_org.manager.id}/issue_key", json={"name": "k", "scopes": [scope]}
    ).json()
    body = {**bodies(shared_org)[verb], "ids": [str(uuid.uuid4())]}
    headers = {"Authorization": f"Bearer {issued['key']}"}
    for params in ({}, {"dry_run": "true"}):
        problem(shared_org.manager.post(f"/v1/accounts/{verb}", json=body, headers=headers, params=params), 403)
    assert shared_org.admin.post(f"/v1/api_keys/{issued['id']}/revoke").status_code == 200


def test_nobody_fills_the_queue_for_the_others(org, sql):
    issue = {"ids": [str(uuid.uuid4())], "cause": "any"}
    job = org.rep.post("/v1/accounts/unshare", json=issue).json()
    columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'jobs'"
    names = [row["column_name"] for row in sql(columns)]
    values = ", ".join("gen_random_uuid()" if name == "id" else f"j.{name}" for name in names)
    copy = f"INSERT INTO jobs ({', '.join(names)}) SELECT {values} FROM jobs j, generate_series(2, {MOST_OF_ONE}) "  # noqa: S608
    sql(copy + "WHERE j.id = $1", job["id"])
    assert problem(org.rep.post("/v1/accounts/unshare", json=issue), 409)["code"] == "limit_reached"
    assert problem(org.rep.post("/v1/exports", json={"resource": "accounts"}), 409)["code"] == "limit_reached"
    assert org.manager.post("/v1/accounts/unshare", json=issue).status_code == 202
    sql("DELETE FROM jobs WHERE tenant_id = $1", org.tenant_id)  # not for the workers of other tests


@pytest.mark.parametrize(("resource", "children"), [("accounts", "none"), ("contacts", "all")])
def test_an_owner_that_is_read_only_is_not_changed_in_bulk(shared_org, resource, children):
    """Neither of the records themselves, nor of what goes along with them."""
    org = shared_org
    rules = [{"resource": resource, "field": "owner_id", "rule": "read_only"}]
    role = org.role(f"Clerk of {resource}", ("accounts:*", "all"), ("contacts:*", "all"), field_rules=rules)
    clerk = org.person(f"clerk_of_{resource}", role)
    account = org.rep.make("accounts", name="Ours")
    org.rep.make("contacts", last_name="Along", account_id=account["id"])
    body = {"ids": [account["id"]], "owner_id": clerk.id, "children": children}
    for params in ({}, {"dry_run": "true"}):
        found = problem(clerk.post("/v1/accounts/transfer", json=body, params=params), 403)
        assert found["code"] == "field_read_only"
    assert clerk.post("/v1/accounts/transfer", json={**body, "children": "none"}).status_code == (
        403 if resource == "accounts" else 202
    )


def test_a_guess_of_a_hidden_account_is_confirmed_by_no_duplicate(shared_org):
    org = shared_org
    account = org.rep.make("accounts", name="Hidden of the contact")
    org.rep.make("contacts", last_name="Guessed", account_id=account["id"])
    rules = [{"resource": "contacts", "field": "account_id", "rule": "hidden"}]
    blind = org.person("blind", org.role("Blind", ("contacts:*", "all"), ("accounts:read", "all"), field_rules=rules))
    drafts = [{"last_name": "Guessed", "account_id": id_} for id_ in (account["id"], str(uuid.uuid4()))]
    right, wrong = (blind.post("/v1/contacts/duplicates", json=draft) for draft in drafts)
    assert (right.status_code, wrong.status_code) == (200, 200)
    assert right.json() == wrong.json() == {"data": []}
    assert org.rep.post("/v1/contacts/duplicates", json=drafts[0]).json()["data"][0]["rules"] == ["name"]
