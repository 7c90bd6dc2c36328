"""Verbs in bulk over HTTP: what each does, to which records, for whom, and what it tells."""

import itertools
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integrations.conftest import Follower
from tests.support.asking import code, fault
from tests.support.jobs import wait, working
from tests.support.problems import problem

_numbers = itertools.count(1)
READ = {"grantee_type": "user", "level": "read"}


def accounts(person, number: int, **values) -> list[str]:
    return [person.make("accounts", name=f"A {next(_numbers)}", **values)["id"] for _ in range(number)]


def start(person, path: str, **body) -> dict:
    answer = person.post(f"/v1/{path}", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    return answer.json()


def run(person, path: str, **body) -> dict:
    """The result of a job that went well."""
    with working(person.server):
        job = wait(person, start(person, path, **body))
    assert job["state"] == "succeeded", job
    return job["result"]


def preview(person, path: str, **body) -> dict:
    answer = person.post(f"/v1/{path}?dry_run=true", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def owners(person, ids: list[str], collection: str = "accounts") -> list[str]:
    return [person.get(f"/v1/{collection}/{id_}").json()["owner_id"] for id_ in ids]


def skipped(told: dict) -> dict[str, int]:
    return {item["code"]: item["number"] for item in told["skipped"]}


def test_a_transfer_gives_rows_and_their_children_another_owner(org):
    mine = accounts(org.rep, 3, industry="Mining")
    other = accounts(org.rep, 1)
    contacts = [org.rep.make("contacts", last_name="C", account_id=id_)["id"] for id_ in (*mine, *other)]
    theirs = org.colleague.make("contacts", last_name="Not the same owner's")["id"]
    assert org.manager.patch(f"/v1/contacts/{theirs}", json={"account_id": mine[0]}).status_code == 200
    body = {"filter": {"field": "industry", "value": "Mining"}, "owner_id": org.colleague.id, "children": "open"}
    told = preview(org.manager, "accounts/transfer", **body)
    assert (told["matched"], told["examined"]) == ({"value": 3, "relation": "eq"}, 3)
    assert (told["done"], told["children"]) == (3, 3)
    assert told["users"] == [{"user_id": org.colleague.id, "number": 3, "load": None}]
    assert owners(org.admin, mine) == [org.rep.id] * 3, "a preview keeps nothing"
    assert org.manager.all("/v1/jobs") == []
    result = run(org.manager, "accounts/transfer", **body)
    assert (result["done"], result["children"], result["skipped"], result["refused"]) == (3, 3, [], [])
    assert owners(org.admin, mine) == [org.colleague.id] * 3
    assert owners(org.admin, [*contacts, theirs], "contacts") == [*[org.colleague.id] * 3, org.rep.id, org.colleague.id]
    assert owners(org.admin, other) == [org.rep.id]
    entries = org.admin.all("/v1/audit_log", object_id=mine[0])
    assert [(entry["action"], entry["version"], entry["actor_id"]) for entry in entries][:1] == [
        ("transfer", 2, org.manager.id)
    ]
    assert entries[0]["before"] == {"owner_id": org.rep.id}
    assert entries[0]["after"]["owner_id"] == org.colleague.id
    assert entries[0]["after"]["cause"]["kind"] == "transfer"


def test_a_list_of_ids_says_what_became_of_each(org):
    known = accounts(org.rep, 2)
    hidden, absent = accounts(org.outsider, 1)[0], str(uuid4())
    shown = accounts(org.outsider, 1)[0]
    body = {"grantee_type": "user", "grantee_id": org.manager.id, "level": "write"}
    assert org.outsider.post(f"/v1/accounts/{shown}/share", json=body).status_code == 201
    ids = [known[1], hidden, absent, shown, known[0], known[1].upper()]
    told = preview(org.manager, "accounts/transfer", ids=ids, owner_id=org.colleague.id)
    result = run(org.manager, "accounts/transfer", ids=ids, owner_id=org.colleague.id)
    assert {name: told[name] for name in result} == result, "the preview says what the job does"
    assert result["done"] == 2
    assert skipped(result) == {"not_found": 2, "forbidden": 1, "named_twice": 1}
    assert sorted((item["id"], item["code"], item["permission"]) for item in result["refused"]) == sorted(
        [
            (hidden, "not_found", None),
            (absent, "not_found", None),
            (shown, "forbidden", "accounts:transfer"),
        ]
    )
    assert owners(org.admin, [hidden, shown]) == [org.outsider.id] * 2
    again = run(org.manager, "accounts/transfer", ids=known, owner_id=org.colleague.id)
    assert (again["done"], skipped(again)) == (0, {"unchanged": 2})
    assert {org.admin.get(f"/v1/accounts/{id_}").json()["version"] for id_ in known} == {2}


def test_shares_in_bulk_open_rows_and_end_again(org):
    mine = accounts(org.rep, 3)
    manual = {"grantee_type": "user", "grantee_id": org.outsider.id, "cause": "by hand"}
    assert org.rep.post(f"/v1/accounts/{mine[0]}/share", json=manual).status_code == 201
    feed = Follower(org.server, org.admin)
    body = {**READ, "grantee_id": org.reader.id, "cause": "fair"}
    result = run(org.rep, "accounts/share", ids=mine, **body)
    assert (result["done"], result["skipped"]) == (3, [])
    (share,) = [
        item
        for item in org.rep.get(f"/v1/accounts/{mine[0]}/shares").json()["data"]
        if item["grantee_id"] == org.reader.id
    ]
    assert (share["cause"], share["level"], share["granted_by"]) == ("fair", "read", org.rep.id)
    told = feed.read(types=["account.shared"])
    assert sorted(event["object"]["id"] for event in told) == sorted(mine)
    assert {(event["origin"]["cause"]["kind"], event["origin"]["via"]) for event in told} == {("share", "job")}
    assert all(event["data"]["owner_id"] == org.rep.id for event in told)
    assert preview(org.rep, "accounts/share", ids=mine, **body)["skipped"] == [{"code": "unchanged", "number": 3}]
    again = run(org.rep, "accounts/share", ids=mine, **body)
    assert (again["done"], skipped(again)) == (0, {"unchanged": 3})
    unnamed = run(org.rep, "accounts/share", ids=mine[:1], **{**body, "cause": None})
    assert unnamed["done"] == 1, "another cause replaces the share"
    assert preview(org.rep, "accounts/unshare", ids=mine, cause="fair")["done"] == 2
    result = run(org.rep, "accounts/unshare", ids=mine, cause="fair")
    assert (result["done"], skipped(result)) == (2, {"unchanged": 1})
    entry = org.admin.all("/v1/audit_log", object_id=mine[1])[0]
    assert (entry["action"], entry["before"]["share"]["cause"]) == ("unshare", "fair")
    result = run(org.rep, "accounts/unshare", ids=mine, grantee_type="user", grantee_id=org.reader.id)
    assert result["done"] == 1
    left = [share["cause"] for id_ in mine for share in org.rep.get(f"/v1/accounts/{id_}/shares").json()["data"]]
    assert left == ["by hand"]


def test_nobody_opens_or_closes_in_bulk_what_is_not_theirs(org):
    theirs = accounts(org.outsider, 1)[0]
    for level in ("read", "write"):
        body = {"grantee_type": "user", "grantee_id": org.rep.id, "level": level, "cause": "theirs"}
        assert org.outsider.post(f"/v1/accounts/{theirs}/share", json=body).status_code == 201
    for path, body in (
        ("share", {**READ, "grantee_id": org.rep.id}),
        ("unshare", {"cause": "theirs"}),
    ):
        for chosen in ({"ids": [theirs]}, {"filter": {"field": "id", "value": theirs}}):
            result = run(org.rep, f"accounts/{path}", **chosen, **body)
            assert (result["done"], skipped(result)) == (0, {"forbidden": 1})
            assert result["refused"][0]["permission"] == "accounts:share"
    assert len(org.outsider.get(f"/v1/accounts/{theirs}/shares").json()["data"]) == 1
    role = org.role("Shower", *((f"accounts:{action}", "own") for action in ("create", "read", "share")))
    shower = org.person("shower", role)
    mine = accounts(shower, 1)
    body = {"grantee_type": "user", "grantee_id": org.rep.id, "level": "write"}
    assert (
        problem(shower.post("/v1/accounts/share", json={"ids": mine, **body}), 403)["permission"] == "accounts:update"
    )
    problem(org.rep.post("/v1/accounts/transfer", json={"ids": mine, "owner_id": org.rep.id}), 403)
    problem(org.rep.post("/v1/accounts/distribute", json={"ids": mine, "users": [org.rep.id]}), 403)


def test_a_filter_tells_nothing_of_a_hidden_field_and_a_scope_holds(org):
    rules = [{"resource": "accounts", "field": "credit_limit", "rule": "hidden"}]
    clerk = org.person("clerk", org.role("Clerk", ("accounts:*", "all"), field_rules=rules))
    body = {"filter": {"field": "credit_limit", "op": "gt", "value": "1"}, "owner_id": clerk.id}
    for flag in ("", "?dry_run=true"):
        found = problem(clerk.post(f"/v1/accounts/transfer{flag}", json=body), 403)
        assert found["permission"] == "field accounts.credit_limit"
    key = {"name": "narrow", "scopes": ["accounts:read"]}
    made = org.admin.post(f"/v1/users/{org.admin.id}/issue_key", json=key).json()["key"]
    ids = accounts(org.admin, 1)
    for path, more in (("transfer", {"owner_id": org.rep.id}), ("share", {**READ, "grantee_id": org.rep.id})):
        answer = org.admin.post(
            f"/v1/accounts/{path}", json={"ids": ids, **more}, headers={"Authorization": f"Bearer {made}"}
        )
        assert problem(answer, 403)["permission"] == "scope accounts:write"
    blind = org.person("blind", org.role("Blind", ("accounts:transfer", "all"), ("accounts:update", "all")))
    problem(blind.post("/v1/accounts/transfer", json={"ids": ids, "owner_id": blind.id}), 403)
    children = {"ids": ids, "owner_id": org.rep.id, "children": "all"}
    no_contacts = org.person("no_contacts", org.role("No contacts", ("accounts:*", "all")))
    assert problem(no_contacts.post("/v1/accounts/transfer", json=children), 403)["permission"] == "contacts:read"


@pytest.mark.parametrize(
    ("path", "body", "pointer", "why"),
    [
        ("transfer", {"owner_id": "rep"}, "", "selection"),
        ("transfer", {"ids": ["x"], "filter": {}, "owner_id": "rep"}, "/ids/0", "invalid_reference"),
        ("transfer", {"ids": [], "owner_id": "rep"}, "/ids", "too_short"),
        ("transfer", {"filter": {}, "owner_id": "rep"}, "/filter", "invalid_filter"),
        ("transfer", {"filter": {"field": "nope", "value": 1}, "owner_id": "rep"}, "/filter", "unknown_field"),
        ("transfer", {"ids": ["any"], "owner_id": "any"}, "/owner_id", "reference_not_found"),
        ("transfer", {"ids": ["any"], "owner_id": "gone"}, "/owner_id", "inactive"),
        ("distribute", {"ids": ["any"]}, "", "among"),
        ("distribute", {"ids": ["any"], "users": ["rep", "gone"]}, "/users/1", "inactive"),
        ("distribute", {"ids": ["any"], "team_id": "any"}, "/team_id", "reference_not_found"),
        ("unshare", {"ids": ["any"]}, "", "which"),
        ("unshare", {"ids": ["any"], "grantee_type": "user"}, "", "grantee"),
        ("share", {"ids": ["any"], "grantee_type": "team", "grantee_id": "rep"}, "/grantee_id", "reference_not_found"),
        (
            "share",
            {"ids": ["any"], **READ, "grantee_id": "rep", "expires_at": "2020-01-01T00:00:00Z"},
            "/expires_at",
            "in_the_past",
        ),
    ],
)
def test_what_is_wrong_is_refused_before_a_job_begins(shared_org, path, body, pointer, why):
    org = shared_org
    if "gone" not in org.people:
        org.person("gone", "Reader")
        assert org.admin.patch(f"/v1/users/{org.gone.id}", json={"is_active": False}).status_code == 200
    names = {"rep": org.rep.id, "gone": org.gone.id, "any": str(uuid4())}

    def filled(value):
        return [filled(item) for item in value] if isinstance(value, list) else names.get(value, value)

    sent = {name: value if isinstance(value, dict) else filled(value) for name, value in body.items()}
    for flag in ("", "?dry_run=true"):
        assert (pointer, why) in fault(org.admin.post(f"/v1/accounts/{path}{flag}", json=sent))


def test_an_idempotency_key_starts_one_job(org):
    body = {"ids": accounts(org.rep, 1), "owner_id": org.colleague.id}
    answers = [
        org.manager.post("/v1/accounts/transfer", json=body, headers={"Idempotency-Key": "once"}) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert answers[1].headers["idempotency-replayed"] == "true"
    other = {**body, "owner_id": org.rep.id}
    answer = org.manager.post("/v1/accounts/transfer", json=other, headers={"Idempotency-Key": "once"})
    assert code(answer) == (422, "idempotency_mismatch")


def test_a_team_is_dealt_to_in_turn(org):
    team = org.admin.make("teams", name=f"Team {next(_numbers)}")["id"]
    for person in (org.rep, org.colleague, org.outsider):
        org.admin.make("team_members", team_id=team, principal_id=person.id)
    assert org.admin.patch(f"/v1/users/{org.outsider.id}", json={"is_active": False}).status_code == 200
    ids = accounts(org.admin, 5)
    result = run(org.admin, "accounts/distribute", ids=ids, team_id=team)
    users = sorted([org.rep.id, org.colleague.id])
    assert owners(org.admin, ids) == [users[i % 2] for i in range(5)]
    assert {item["user_id"]: item["number"] for item in result["users"]} == {users[0]: 3, users[1]: 2}


COUNTS = st.lists(st.integers(0, 4), min_size=2, max_size=3)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(loads=COUNTS, new=st.integers(0, 9), taken=st.integers(0, 3), by=st.sampled_from(["load", "round_robin"]))
def test_loads_differ_as_they_should(shared_org, loads, new, taken, by):
    """Every row has one owner, one of the users; nobody who was given one has more than another and one."""
    org, industry = shared_org, f"I {next(_numbers)}"
    people = [org.rep, org.colleague, org.manager][: len(loads)]
    users = [person.id for person in people]
    for row in org.admin.all("/v1/accounts", limit=200):
        org.admin.delete(f"/v1/accounts/{row['id']}")
    kept = [id_ for person, number in zip(people, loads, strict=True) for id_ in accounts(person, number)]
    dealt = accounts(org.admin, new, industry=industry) + accounts(org.rep, taken, industry=industry)
    body = {"filter": {"field": "industry", "value": industry}, "users": users, "by": by}
    told = preview(org.admin, "accounts/distribute", **body)
    result = run(org.admin, "accounts/distribute", **body)
    assert {name: told[name] for name in result} == result
    found = {row["id"]: row["owner_id"] for row in org.admin.all("/v1/accounts", limit=200)}
    assert found.keys() == {*kept, *dealt}
    given_ = [found[id_] for id_ in dealt]
    assert set(given_) <= set(users)
    assert sum(item["number"] for item in result["users"]) == len(dealt)
    for user in users:
        if by == "round_robin":
            assert len(dealt) // len(users) <= given_.count(user) <= -(-len(dealt) // len(users))
        elif user in given_:
            whole = [*found.values()]
            assert all(whole.count(user) <= whole.count(other) + 1 for other in users)
    versions = [org.admin.get(f"/v1/accounts/{id_}").json()["version"] for id_ in dealt]
    assert max(versions, default=1) <= 2, "each is changed once"


def test_external_ids_name_rows_and_a_source_keeps_its_owners(org):
    org.admin.make("sources", code="erp", name="ERP")
    body = {"name": "Linked", "owner_id": org.rep.id}
    linked = org.admin.put("/v1/accounts/ext:erp:1", json=body).json()["id"]
    free = accounts(org.rep, 1)[0]
    ids = ["ext:erp:1", "ext:erp:none", linked, free]
    told = preview(org.manager, "accounts/transfer", ids=ids, owner_id=org.colleague.id)
    assert (told["done"], skipped(told)) == (2, {"named_twice": 1, "not_found": 1})
    refused = {"object": "account", "id": "ext:erp:none", "code": "not_found", "permission": None, "detail": None}
    assert told["refused"] == [refused]
    source = org.admin.get("/v1/sources").json()["data"][0]["id"]
    owned = {"owned_fields": [{"resource": "accounts", "field": "owner_id"}]}
    answer = org.admin.patch(f"/v1/sources/{source}", json=owned)
    assert answer.status_code == 200, answer.text
    result = run(org.manager, "accounts/distribute", ids=ids, users=[org.colleague.id])
    assert (result["done"], skipped(result)) == (1, {"field_owned": 1, "named_twice": 1, "not_found": 1})
    assert owners(org.admin, [linked, free]) == [org.rep.id, org.colleague.id]
