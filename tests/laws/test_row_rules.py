"""Who sees which rows: the same on every way in, and as the oracle says."""

import itertools
import time
from datetime import UTC, datetime, timedelta

import pytest

from crm_api.catalog import CATALOG
from crm_api.kernel.filter_values import MAX_IN
from crm_api.kernel.query import COUNT_LIMITS
from crm_api.kernel.schema import fold
from tests.support.asking import BEHIND, RESOURCES, code, each
from tests.support.examples import MADE, Examples
from tests.support.oracle import Oracle
from tests.support.org import Org

_numbers = itertools.count(1)
REACHES = ("own", "subordinates", "team", "territory", "all")


@pytest.fixture(scope="module")
def firm(server) -> Org:
    """A tenant whose rows belong to different people and teams; no organisation-wide default opens anything."""
    org = Org.create(server)
    org.examples = Examples(org.admin)
    org.teams = [org.admin.make("teams", name=f"Team {n}")["id"] for n in range(2)]
    for person, team in (("rep", 0), ("manager", 1), ("outsider", 1)):
        org.admin.make("team_members", team_id=org.teams[team], principal_id=org.people[person].id)
    above = org.admin.make("territories", code="above", name="Above")["id"]
    below = org.admin.make("territories", code="below", name="Below", parent_id=above)["id"]
    for person, place in (("manager", above), ("rep", below)):
        org.admin.make("territory_members", territory_id=place, principal_id=org.people[person].id)
    far = org.admin.make("territories", code="far", name="Far")["id"]
    org.farther = org.admin.make("territories", code="farther", name="Farther", parent_id=far)["id"]
    org.admin.make("territory_members", territory_id=far, principal_id=org.people["outsider"].id)
    org.territories = [below, None, org.admin.make("territories", code="beside", name="Beside")["id"], above]
    for resource in RESOURCES:
        if resource.default_access is not None:
            org.admin.make("access_defaults", resource=resource.plural, level="private")
    owners = [org.people[name].id for name in ("rep", "manager", "colleague", "outsider", "rep")]
    for name in ("rep", "manager", "colleague", "outsider", "admin"):
        for plural in MADE:
            Examples(org.people[name]).make(CATALOG.resources[plural])
    for resource in RESOURCES:
        if "create" not in resource.operations or resource.plural == "access_defaults":
            continue
        for n, owner in enumerate(owners):
            given = {"owner_id": owner, "team_id": [*org.teams, None][n % 3]} if resource.owned else {}
            for rule in resource.rows:  # each parent once, so that children differ in theirs
                for column in resource.references:
                    target = CATALOG.target(resource, column)
                    if target and rule.column == column and rule.name == f"through:{target.plural}":
                        found = enumerate(org.admin.all(f"/v1/{target.plural}", sort="id"))
                        rows = list({row.get("owner_id", i): row for i, row in found}.values())[:5]
                        given[column] = rows[n % len(rows)]["id"]
            made = org.examples.make(resource, n, bare=True, fresh=True, given=given)
            if resource.owned:
                path = f"/v1/{resource.plural}/{made['id']}/assign_territory"
                answer = org.admin.post(path, json={"territory_id": org.territories[n % 4]})
                assert answer.status_code == 200, answer.text
    return org


@pytest.fixture
def oracle(firm, sql):
    """The oracle over the rows there are when it is called."""
    return lambda: read_oracle(firm, sql)


class Rows(dict):
    """The rows of each resource of a tenant, deleted ones too: read when they are first asked for."""

    def __init__(self, org, sql) -> None:
        super().__init__()
        self.org, self.sql = org, sql

    def __missing__(self, plural: str) -> list[dict]:
        resource = CATALOG.resources[plural]
        fixed = "".join(f" AND {name} = '{value}'" for name, value in resource.fixed.items())
        found = self.sql(f"SELECT * FROM {resource.table.name} WHERE tenant_id = $1{fixed}", self.org.tenant_id)  # noqa: S608 - our own names
        self[plural] = [{"deleted_at": None, **dict(row)} for row in found]
        return self[plural]


def read_oracle(org, sql) -> Oracle:
    rows = Rows(org, sql)
    people = rows["principals"]
    managers = {str(row["id"]): row["manager_id"] and str(row["manager_id"]) for row in people}
    teams: dict[str, set[str]] = {}
    for row in rows["team_members"]:
        if row["deleted_at"] is None:
            teams.setdefault(str(row["principal_id"]), set()).add(str(row["team_id"]))
    shares = [
        (str(row["object_id"]), str(row["grantee_id"]), row["level"])
        for row in sql("SELECT * FROM shares WHERE tenant_id = $1", org.tenant_id)
        if row["expires_at"] is None or row["expires_at"] > datetime.now(UTC)
    ]
    defaults = {row["resource"]: row["level"] for row in rows["access_defaults"] if row["deleted_at"] is None}
    work: dict[str, set[str]] = {}
    for row in rows["territory_members"]:
        if row["deleted_at"] is None:
            work.setdefault(str(row["principal_id"]), set()).add(str(row["territory_id"]))
    parents = {str(row["id"]): row["parent_id"] and str(row["parent_id"]) for row in rows["territories"]}
    return Oracle(rows, managers, teams, shares, defaults, work, parents)


def assume(org, person: str, grants: dict[str, str]):
    """Takes a person's roles away and gives them these permissions."""
    who = org.people[person]
    for row in org.admin.all("/v1/role_assignments", principal_id=who.id):
        assert org.admin.delete(f"/v1/role_assignments/{row['id']}").status_code == 204
    role = org.admin.make(
        "roles",
        name=f"Role {next(_numbers)}",
        permissions=[{"permission": name, "reach": reach} for name, reach in grants.items()],
    )
    org.admin.make("role_assignments", principal_id=who.id, role_id=role["id"])
    return who


def check_everywhere(person, oracle: Oracle, resource, grants, *, ids=None) -> set[str]:
    """Asks every way in, and compares each with the oracle; gives what is visible."""
    expected = oracle.visible(person.id, grants, resource)
    every = [str(row["id"]) for row in oracle.rows[resource.plural]]
    path = f"/v1/{resource.plural}"
    if "list" in resource.operations:
        assert {row["id"] for row in person.all(path, limit=200)} == expected, "list"
        page = person.get(path, params={"limit": 200, "count": "exact"}).json()
        assert page["count"] == {"value": len(expected), "relation": "eq"}, "count"
        assert person.get(path, params={"limit": 1, "count": "estimate"}).json()["count"]["value"] == min(
            len(expected), COUNT_LIMITS["estimate"]
        )
        picked = person.get(path, params={"id": every[:100], "limit": 200}).json()["data"]
        assert {row["id"] for row in picked} == expected & set(every[:100]), "filter"
    for id_ in every[:40]:
        answer = person.get(f"{path}/{id_}")
        assert answer.status_code == (200 if id_ in expected else 404), ("get", id_)
    if "search" in resource.operations:
        asked, named = every[:MAX_IN], expected & set(every[:MAX_IN])
        tree = {"or": [{"field": "id", "op": "in", "value": asked}, {"field": "id", "op": "eq", "value": asked[0]}]}
        found = person.post(f"{path}/search", json={"filter": tree, "limit": 200, "count": "exact"}).json()
        assert {row["id"] for row in found["data"]} <= named, "search"
        assert len(found["data"]) == min(len(named), 200)
        assert found["count"]["value"] == len(named)
        if resource.search:
            check_text(person, oracle, resource, expected)
    if "aggregate" in resource.operations:
        found = person.post(f"{path}/aggregate", json={"measures": [{"op": "count"}]}).json()
        assert found["data"] == [{"group": {}, "measures": [len(expected)]}], "aggregate"
    return expected


def check_text(person, oracle, resource, expected) -> None:
    words = {
        row["id"]: set((row["search_text"] or "").replace("\x1f", " ").split()) for row in oracle.rows[resource.plural]
    }
    for word in sorted({word for found in words.values() for word in found if len(word) >= 3})[:6]:
        hits = {str(row["id"]) for row in oracle.rows[resource.plural] if fold(word) in row["search_text"]}
        for answer in (
            person.get(f"/v1/{resource.plural}", params={"q": word, "limit": 200}),
            person.post(f"/v1/{resource.plural}/search", json={"q": word, "limit": 200}),
        ):
            assert {row["id"] for row in answer.json()["data"]} == hits & expected, ("q", word)


@pytest.mark.parametrize(
    ("resource", "reach"),
    [
        pytest.param(item, reach, id=f"{item.plural}-{reach}")
        for item in RESOURCES
        for reach in REACHES
        if item.owned or reach in ("own", "all") or (item.owner is not None and reach == "subordinates")
    ],
)
def test_reach_opens_the_same_rows_on_every_way_in(firm, oracle, resource, reach):
    grants = {f"{resource.plural}:read": reach}
    person = assume(firm, "manager", grants)
    visible = check_everywhere(person, known := oracle(), resource, grants)
    if reach == "all":
        assert visible
    elif resource.owned:
        assert 0 < len(visible) < len(known.rows[resource.plural])


@pytest.mark.parametrize("reach", ["own", "subordinates", "team", "all"])
@each("get", where=lambda item: any(rule.name.startswith("through:") for rule in item.rows))
def test_what_the_parent_gives(firm, oracle, resource, reach):
    parents = [rule.name.removeprefix("through:") for rule in resource.rows if rule.name.startswith("through:")]
    grants = {f"{resource.plural}:read": "territory"} | {f"{plural}:read": reach for plural in parents}
    person = assume(firm, "manager", grants)
    visible = check_everywhere(person, oracle(), resource, grants)
    direct = [plural for plural in parents if plural in {Oracle.target(resource, name) for name in resource.references}]
    owned = any(CATALOG.resources[plural].owner is not None for plural in direct)
    if direct and reach != "team" and (owned or reach == "all"):
        assert visible


@pytest.mark.parametrize("reach", ["own", "all"])
@each("list", where=CATALOG.to_one)
def test_an_expanded_or_filtered_reference_is_under_its_own_rules(firm, oracle, resource, reach):
    for name, (column, target) in CATALOG.to_one(resource).items():
        grants = {f"{resource.plural}:read": "all", f"{target.plural}:read": reach}
        if target is resource:
            grants = {f"{resource.plural}:read": reach}
        person, known = assume(firm, "rep", grants), oracle()
        visible = known.visible(person.id, grants, target)
        listed = person.get(f"/v1/{resource.plural}", params={"expand": name, "limit": 200}).json()["data"]
        assert {row["id"] for row in listed} == known.visible(person.id, grants, resource)
        for row in listed:
            check_related(row[name], row[column], target, visible)
            one = person.get(f"/v1/{resource.plural}/{row['id']}", params={"expand": name}).json()
            assert {**one, **dict.fromkeys(BEHIND)} == {**row, **dict.fromkeys(BEHIND)}
        if "search" in resource.operations:
            every = [str(row["id"]) for row in known.rows[target.plural]]
            tree = {"field": f"{name}.id", "op": "in", "value": every}
            found = person.post(f"/v1/{resource.plural}/search", json={"filter": tree, "limit": 200}).json()["data"]
            assert {row["id"] for row in found} == {row["id"] for row in listed if row[column] in visible}


def check_related(value, id_, target, visible) -> None:
    if id_ is None:
        assert value is None
    elif id_ in visible:
        assert (value["id"], value["object"], value["redacted"]) == (id_, target.singular, [])
    else:
        assert value == {"id": id_, "object": target.singular, "redacted": True}


@each("list", where=lambda item: item.many)
def test_expanded_children_are_under_their_own_rules(firm, oracle, resource):
    for name, many in resource.many.items():
        child = CATALOG.resources[many.plural]
        grants = {f"{resource.plural}:read": "all", f"{child.plural}:read": "own"}
        person = assume(firm, "rep", grants)
        if child is resource:
            grants = {f"{resource.plural}:read": "own"}
            person = assume(firm, "rep", grants)
        known = oracle()
        visible = known.visible(person.id, grants, child)
        for row in person.get(f"/v1/{resource.plural}", params={"expand": name, "limit": 200}).json()["data"]:
            mine = {str(item["id"]) for item in known.rows[child.plural] if str(item[many.column]) == row["id"]}
            assert {item["id"] for item in row[name]["data"]} == mine & visible


@each("get", "update", where=lambda item: item.owned)
def test_a_share_opens_one_row_at_its_level_until_it_ends(firm, sql, resource):
    grants = {
        f"{resource.plural}:{action}": "territory" for action in ("read", "update", "delete", "share", "transfer")
    }
    person = assume(firm, "outsider", grants)
    row = next(row for row in firm.admin.all(f"/v1/{resource.plural}", limit=200) if row["owner_id"] == firm.rep.id)
    path = f"/v1/{resource.plural}/{row['id']}"
    for grantee in (
        {"grantee_type": "user", "grantee_id": person.id},
        {"grantee_type": "team", "grantee_id": firm.teams[1]},
        {"grantee_type": "territory", "grantee_id": firm.farther},
    ):
        assert check_everywhere(person, read_oracle(firm, sql), resource, grants) == set()
        read = firm.admin.post(f"{path}/share", json={**grantee, "level": "read"})
        assert read.status_code == 201, read.text
        assert check_everywhere(person, read_oracle(firm, sql), resource, grants) == {row["id"]}
        name = resource.title
        for method, to, body in (
            ("PATCH", path, {name: "changed"}),
            ("DELETE", path, None),
            ("POST", f"{path}/share", {"grantee_type": "user", "grantee_id": firm.colleague.id}),
            ("GET", f"{path}/shares", None),
            ("PATCH", path, {"owner_id": person.id}),
        ):
            assert code(person.request(method, to, json=body)) == (403, "forbidden"), (method, to)
        write = firm.admin.post(f"{path}/share", json={**grantee, "level": "write"})
        assert write.status_code == 201
        assert person.patch(path, json={name: f"by share {next(_numbers)}"}).status_code == 200
        for method, to, body in (
            ("DELETE", path, None),
            ("POST", f"{path}/share", {"grantee_type": "user", "grantee_id": firm.colleague.id}),
            ("PATCH", path, {"owner_id": person.id}),
            ("PATCH", path, {"team_id": firm.teams[1]}),
        ):
            assert code(person.request(method, to, json=body)) == (403, "forbidden"), (method, to)
        assert firm.admin.post(f"{path}/unshare", json={"share_id": write.json()["id"]}).status_code == 200
        assert person.get(path).status_code == 404
        soon = (datetime.now(UTC) + timedelta(seconds=0.4)).isoformat()
        assert (
            firm.admin.post(f"{path}/share", json={**grantee, "level": "write", "expires_at": soon}).status_code == 201
        )
        assert person.get(path).status_code == 200
        time.sleep(0.45)
        assert person.get(path).status_code == 404
        assert code(person.patch(path, json={name: "late"})) == (404, "not_found")


@each("get", where=lambda item: item.plural != "access_defaults")
def test_the_organisation_wide_default_opens_reading_or_writing_to_all(firm, sql, resource):
    person = assume(firm, "reader", {})
    for row in firm.admin.all("/v1/access_defaults", resource=resource.plural):
        firm.admin.delete(f"/v1/access_defaults/{row['id']}")
    try:
        if resource.default_access is None:
            assert code(person.get(f"/v1/{resource.plural}")) == (403, "forbidden")
        for level in ("read", "write"):
            made = firm.admin.make("access_defaults", resource=resource.plural, level=level)
            visible = check_everywhere(person, read_oracle(firm, sql), resource, {})
            assert visible
            if resource.update and "update" in resource.operations:
                row = firm.admin.get(f"/v1/{resource.plural}").json()["data"][0]
                answer = person.patch(f"/v1/{resource.plural}/{row['id']}", json={})
                expected = {"read": 403, "write": 200}[level]
                assert answer.status_code == expected, answer.text
            if "delete" in resource.operations:
                assert person.delete(f"/v1/{resource.plural}/{row_id(firm, resource)}").status_code == 403
            firm.admin.delete(f"/v1/access_defaults/{made['id']}")
    finally:
        firm.admin.make("access_defaults", resource=resource.plural, level="private")


def row_id(org, resource) -> str:
    return org.admin.get(f"/v1/{resource.plural}").json()["data"][0]["id"]


@each("get", "create", "update", "delete", where=lambda item: item.owned)
def test_reach_of_one_action_is_not_the_reach_of_another(firm, oracle, resource):
    """Sees all, changes those of the tree, deletes own: visible but forbidden is 403, and nothing is done."""
    grants = {
        f"{resource.plural}:{name}": reach
        for name, reach in (("read", "all"), ("update", "subordinates"), ("delete", "own"))
    }
    person, known = assume(firm, "manager", grants), oracle()
    for row in person.all(f"/v1/{resource.plural}", limit=200):
        path = f"/v1/{resource.plural}/{row['id']}"
        may = row["id"] in known.visible(person.id, grants, resource, "update")
        answer = person.patch(path, json={resource.title: f"changed {next(_numbers)}"})
        issued = resource.lock is not None and row[resource.lifecycle.column] not in resource.lock.states
        assert answer.status_code == ((409 if issued else 200) if may else 403), row["owner_id"]
        if not may:
            assert answer.json()["permission"] == f"{resource.plural}:update"
            assert firm.admin.get(path).json() == row
        if row["owner_id"] != person.id:
            assert code(person.delete(path)) == (403, "forbidden")
            assert firm.admin.get(path).status_code == 200
    answer = person.post(f"/v1/{resource.plural}", json=firm.examples.body(resource, 0))
    assert code(answer) == (403, "forbidden")
    targets = {CATALOG.target(resource, column) for column in resource.references} - {None, resource}
    person = assume(
        firm,
        "manager",
        {f"{resource.plural}:create": "own", f"{resource.plural}:read": "own", "principals:read": "all"}
        | {f"{target.plural}:read": "all" for target in targets},
    )
    body = firm.examples.body(resource, 0, bare=True)
    assert person.post(f"/v1/{resource.plural}", json=body).status_code == 201
