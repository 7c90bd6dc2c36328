"""Owner, team and territory beside custom values: a walk leaves out what is closed to its caller, and nothing else."""

import itertools
from uuid import UUID

import pytest

from crm_api.kernel import collections
from tests.distribution.test_bulk import run
from tests.support.jobs import wait, working
from tests.support.org import Org
from tests.support.waiting import behind

VALUE = "INSERT INTO custom_values (tenant_id, object_id, field_id, number_value, owner_id) VALUES ($1, $2, $3, 1, $4)"
_scores = itertools.count()


@pytest.fixture(scope="module")
def org(server):
    org = Org.create(server)
    org.admin.make("custom_fields", resource="accounts", key="score", kind="number", label="Score")
    org.admin.make("custom_fields", resource="accounts", key="grade", kind="text", label="Grade")
    return org


@pytest.fixture(scope="module")
def team(org):
    return org.admin.make("teams", name="Team")["id"]


@pytest.fixture(scope="module")
def territory(org):
    return org.admin.make("territories", name="Territory", code="circle")["id"]


@pytest.fixture(scope="module")
def seller(org, team, territory):
    reaches = [("accounts:read", reach) for reach in ("own", "team", "territory")]
    seller = org.person("seller", org.role("seller", *reaches))
    org.admin.make("team_members", team_id=team, principal_id=seller.id)
    org.admin.make("territory_members", territory_id=territory, principal_id=seller.id)
    return seller


@pytest.fixture(autouse=True)
def walked(monkeypatch, seller):
    """However few records are open to somebody, their lists are walked."""
    monkeypatch.setattr(collections, "NARROW", 0)


@pytest.fixture
def record(org):
    """An account of somebody else, with values."""
    return org.admin.make("accounts", name="x", owner_id=org.rep.id, custom={"score": next(_scores), "grade": "g"})


def beside(sql, record):
    """Values whose owner, team or territory are not those of their record, and how many values there are."""
    rows = sql(
        "SELECT (v.owner_id, v.team_id, v.territory_id) IS DISTINCT FROM (a.owner_id, a.team_id, a.territory_id) "
        "FROM custom_values v JOIN accounts a ON a.id = v.object_id WHERE a.id = $1::text::uuid",
        record["id"],
    )
    return sum(row[0] for row in rows), len(rows)


def found(person, record, statements, *, all_open=False):
    """Whether a record is in the lists that walk the index: by a sort, by one value, from the greatest or the least."""
    seen = set()
    for query in ("sort=-custom.score", "sort=custom.score", "custom.grade=g", "custom.score_gte=0&sort=custom.score"):
        statements.clear()
        answer = person.get(f"/v1/accounts?{query}&limit=200")
        assert answer.status_code == 200, answer.text
        text, _ = statements[-1]  # rights may have been read before it
        assert (".owner_id IS NULL" in text) is not all_open, text
        seen.add(record["id"] in [row["id"] for row in answer.json()["data"]])
    assert len(seen) == 1, "all lists agree"
    return seen.pop()


def change(org, record, how, name, value):
    """Gives a record another owner, team or territory, in one of the ways that there are."""
    path = f"/v1/accounts/{record['id']}"
    if how == "verb":
        return org.admin.post(f"{path}/assign_territory", json={name: value})
    if how == "job":
        run(org.admin, "accounts/transfer", ids=[record["id"]], **{name: value})
        return org.admin.get(path)
    if how == "batch":
        item = {"op": "update", "id": record["id"], "body": {name: value}}
        return org.admin.post("/v1/accounts/batch", json={"items": [item]})
    custom = {"custom": {"score": next(_scores), "grade": "g"}} if how == "with values" else {}
    return org.admin.patch(path, json={name: value, **custom})


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *(("owner_id", how) for how in ("alone", "with values", "batch", "job")),
        ("team_id", "alone"),
        ("territory_id", "verb"),
    ],
)
def test_it_follows_the_record(org, seller, team, territory, record, sql, statements, name, how):
    mine = {"owner_id": seller.id, "team_id": team, "territory_id": territory}[name]
    assert not found(seller, record, statements)
    for value, is_found in ((mine, True), (org.rep.id if name == "owner_id" else None, False)):
        answer = change(org, record, how, name, value)
        assert answer.status_code == 200, answer.text
        assert beside(sql, record) == (0, 2)
        assert found(seller, record, statements) is is_found
        assert found(org.admin, record, statements, all_open=True)


def test_what_is_shared_is_found(org, seller, record, statements):
    path = f"/v1/accounts/{record['id']}"
    grantee = {"grantee_type": "user", "grantee_id": seller.id, "level": "read"}
    share = org.admin.post(f"{path}/share", json=grantee).json()
    assert found(seller, record, statements)
    assert org.admin.post(f"{path}/unshare", json={"share_id": share["id"]}).status_code == 200
    assert not found(seller, record, statements)
    org.admin.make("account_team_members", account_id=record["id"], principal_id=seller.id, role="owner")
    assert found(seller, record, statements)


def test_deleted_and_restored_records_are_as_before(org, seller, record, sql, statements):
    path = f"/v1/accounts/{record['id']}"
    change(org, record, "alone", "owner_id", seller.id)
    assert org.admin.delete(path).status_code == 204
    assert not found(seller, record, statements)
    assert org.admin.post(f"{path}/restore").status_code == 200
    assert beside(sql, record) == (0, 2)
    assert found(seller, record, statements)


def test_where_it_is_not_known_the_record_is_asked(org, seller, record, sql, statements):
    """As it is for values that a server of the version before has written."""
    change(org, record, "alone", "owner_id", seller.id)
    hidden = org.admin.make("accounts", name="y", owner_id=org.rep.id, custom={"score": next(_scores), "grade": "g"})
    for each in (record, hidden):
        sql("UPDATE custom_values SET owner_id = NULL WHERE object_id = $1::text::uuid", each["id"])
    assert found(seller, record, statements)
    assert not found(seller, hidden, statements)


def test_it_is_there_when_an_index_is_built(org, record, sql):
    field = org.admin.make(
        "custom_fields", resource="accounts", key="late", kind="number", label="Late", is_filterable=False
    )
    org.admin.patch(f"/v1/accounts/{record['id']}", json={"custom": {"late": 1}})
    assert beside(sql, record) == (0, 2)
    org.admin.patch(f"/v1/custom_fields/{field['id']}", json={"is_filterable": True})
    with working(org.server):
        for job in org.admin.all("/v1/jobs", kind="index_custom_field"):
            wait(org.admin, job, "succeeded")
    assert beside(sql, record) == (0, 3)


def test_values_that_are_written_before_the_owner_changes_have_the_new_one(org, seller, sql, database, statements):
    """Who waits for a record does not see the values that were written meanwhile; the trigger does."""
    record = org.admin.make("accounts", name="z", owner_id=org.rep.id, custom={"grade": "g"})
    (field,) = org.admin.all("/v1/custom_fields", resource="accounts", key="score")
    ids = (org.tenant_id, *map(UUID, (record["id"], field["id"], org.rep.id)))
    answer = behind(
        database["admin"],
        lambda: org.admin.patch(f"/v1/accounts/{record['id']}", json={"owner_id": seller.id}),
        ("UPDATE accounts SET custom = custom || '{\"score\": 1}' WHERE id = $1", ids[1]),
        (VALUE, *ids),
    )
    assert answer.status_code == 200, answer.text
    assert beside(sql, record) == (0, 2)
    assert found(seller, record, statements)
