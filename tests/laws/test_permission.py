"""Who is let in at all: credential, permission, scope, tenant. Refused means not done."""

import itertools

import pytest

from crm_api.catalog import CATALOG
from crm_api.kernel.context import new_id
from crm_api.kernel.router import operations
from tests.support.asking import code, each, having
from tests.support.examples import Examples, sample, schema_of
from tests.support.org import Org, Person
from tests.support.wire import anonymous

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def stranger(server) -> Org:
    """Another tenant with one row of every resource."""
    org = Org.create(server)
    org.examples = Examples(org.admin)
    org.rows = {}
    for resource in CATALOG.resources.values():
        if "create" in resource.operations:
            org.examples.make(resource, 0)
        org.rows[resource.plural] = _some(org, resource)
    return org


def _some(org, resource):
    """Some row's id."""
    if resource.plural in ("webhook_deliveries", "webhook_attempts"):  # made by the worker, for endpoints
        org.examples.make(CATALOG.resources["webhook_endpoints"], 0)
    found = org.admin.get(f"/v1/{resource.plural}").json()["data"]
    return (found[0] if found else org.examples.make(resource, 0))["id"]


def _calls(lab, resource, id_=None):
    """(operation, path, body) of every operation, with bodies that would be taken."""
    return list(_each_call(lab, resource, id_))


def _each_call(lab, resource, id_):
    known = id_ or str(new_id())
    for operation in operations(resource):
        body = None
        if operation.kind in ("create", "upsert"):
            body = lab.examples.body(resource, 0)
        elif operation.kind == "aggregate":
            body = {"measures": [{"op": "count"}]}
        elif operation.kind == "update":
            body = {}
            fields = resource.update.model_fields if resource.update else {}
            whole = lab.examples.body(resource, 0)
            if fields:
                name = next((name for name in fields if name in whole), None)
                body = {name: whole[name]} if name else {}
        elif operation.kind == "action" and operation.action.body:
            body = example_body(lab, operation.action.body)
        elif operation.kind == "edge":
            body = asked_with(lab, resource.lifecycle.edge(operation.path.rpartition("/")[2])) or {}
        elif operation.method != "GET":
            body = {}
        yield operation, operation.path.replace("{id}", known), body


def example_body(lab, model):
    whole = schema_of(model)
    found = {}
    for name in whole.get("required", ()):
        found[name] = sample(whole["properties"][name], whole.get("$defs", {}), name, 0)
        if name == "territory_id":
            found[name] = lab.examples.reference(CATALOG.resources["territories"], fresh=False)
        elif name.endswith("_id"):
            found[name] = str(lab.reader.id) if name in ("grantee_id", "principal_id") else str(new_id())
    return found


def asked_with(lab, edge) -> dict | None:
    """What a move of a graph is asked with."""
    return None if edge.body is None else example_body(lab, edge.body)


def _send(person, operation, path, body):
    return person.request(operation.method, path, json=body)


@each()
def test_no_or_wrong_credential_is_401_everywhere(lab, server, resource, unchanged):
    good = lab.admin.key
    wrong = [
        None,
        "",
        "Bearer",
        "Bearer nonsense",
        f"Basic {good}",
        f"Bearer {good[:-1]}{'x' if good[-1] != 'x' else 'y'}",
        f"Bearer {good} x",
    ]
    wrong += [f"Bearer {good[:60]}{'a' if good[60] != 'a' else 'b'}{good[61:]}", "Bearer " + "é" * 10]
    calls = _calls(lab, resource)
    with unchanged(lab), anonymous(server.base_url) as nobody:
        for operation, path, body in calls:
            for header in wrong if operation.kind in ("list", "create") else wrong[:3]:
                headers = {} if header is None else {"authorization": header.encode()}
                answer = nobody.request(operation.method, path, json=body, headers=headers)
                assert code(answer) == (401, "unauthenticated"), (operation.operation_id, header)
                assert answer.headers["www-authenticate"].startswith("Bearer")


@each()
def test_each_operation_needs_its_own_permission(lab, resource, unchanged):
    """403 with every permission but the one needed, and the problem names it."""
    private = any(item.default_access for item in (resource,))
    row = _some(lab, resource)
    needed = {operation.permission for operation in operations(resource) if operation.kind != "batch"}
    for permission in sorted(needed):
        if private and permission == f"{resource.plural}:read":
            continue  # everyone may read these unless the organisation says otherwise
        others = [(name, "all") for name in CATALOG.permissions if name != permission]
        person = lab.person(f"p{next(_numbers)}", lab.role(f"all but {permission} {next(_numbers)}", *others))
        calls = _calls(lab, resource, row)
        with unchanged(lab):
            for operation, path, body in calls:
                if operation.permission == permission and operation.kind != "upsert":  # takes one of two permissions
                    answer = _send(person, operation, path, body)
                    assert code(answer) == (403, "forbidden"), (operation.operation_id, answer.text)
                    assert answer.json()["permission"] == permission


@each()
def test_a_scope_bounds_what_the_roles_allow(lab, resource, unchanged):
    row = _some(lab, resource)
    other = next(domain.name for domain in CATALOG.domains if domain.resources and domain.name != resource.domain)
    for kind, kinds in (("read", ("read",)), ("write", ("write",)), ("delete", ("delete",)), ("", ())):
        name = f"narrow{next(_numbers)}"
        user = lab.person(name, "Administrator")
        scopes = [f"{resource.domain}:{kind}"] if kind else [f"{other}:admin"]
        made = user.post(f"/v1/users/{user.id}/issue_key", json={"name": "narrow", "scopes": scopes})
        assert made.status_code == 201, made.text
        person = Person(lab.server, user.id, made.json()["key"])
        calls = _calls(lab, resource, row)
        with unchanged(lab):
            for operation, path, body in calls:
                if operation.kind == "batch":  # in tests/laws/test_batches.py
                    continue
                action = operation.permission.split(":")[1]
                wanted = action if action in ("read", "delete") else "write"
                if wanted in kinds:
                    if operation.kind in ("list", "get", "search", "aggregate"):
                        assert _send(person, operation, path, body).status_code == 200
                    continue
                answer = _send(person, operation, path, body)
                assert code(answer) == (403, "forbidden"), (operation.operation_id, answer.text)
                assert answer.json()["permission"] == f"scope {resource.domain}:{wanted}"


@each()
def test_another_tenants_row_is_as_absent_as_a_random_id(lab, stranger, resource, unchanged):
    """Same status, code and text on every operation with an id in its path."""
    theirs, nobody = stranger.rows[resource.plural], str(new_id())
    calls = _calls(lab, resource, theirs)
    with unchanged(stranger), unchanged(lab):
        for operation, path, body in calls:
            if "{id}" not in operation.path or operation.kind == "upsert":  # PUT takes external ids only
                continue
            there = _send(lab.admin, operation, path, body)
            absent = _send(lab.admin, operation, path.replace(theirs, nobody), body)
            assert code(there) == (404, "not_found"), (operation.operation_id, there.text)
            same = {name: value for name, value in there.json().items() if name not in ("instance", "request_id")}
            also = {name: value for name, value in absent.json().items() if name not in ("instance", "request_id")}
            assert same == also


@each("list", where=lambda item: item.within)
def test_a_list_below_a_record_is_the_whole_list_of_it_and_as_absent_as_it(lab, stranger, resource):
    for column, step in resource.within.items():
        home = CATALOG.target(resource, column).plural
        row = stranger.admin.get(f"/v1/{resource.plural}/{stranger.rows[resource.plural]}").json()
        whole = stranger.admin.all(f"/v1/{resource.plural}", **{column: row[column]})
        assert row in whole
        assert stranger.admin.all(f"/v1/{home}/{row[column]}/{step}") == whole
        for absent in (row[column], new_id()):
            assert code(lab.admin.get(f"/v1/{home}/{absent}/{step}")) == (404, "not_found")


@each("list")
def test_another_tenants_rows_are_in_no_list_count_or_figure(lab, stranger, resource):
    mine = {row["id"] for row in lab.admin.all(f"/v1/{resource.plural}", limit=200)}
    assert stranger.rows[resource.plural] not in mine
    page = lab.admin.get(f"/v1/{resource.plural}", params={"id": stranger.rows[resource.plural], "count": "exact"})
    assert (page.json()["data"], page.json()["count"]["value"]) == ([], 0)
    total = lab.admin.get(f"/v1/{resource.plural}", params={"count": "exact", "limit": 1}).json()["count"]["value"]
    assert total == len({row["id"] for row in lab.admin.all(f"/v1/{resource.plural}", limit=200)})


@each("create")
def test_another_tenants_row_as_a_reference_is_as_absent_as_a_random_id(lab, stranger, resource, unchanged):
    made = lab.examples.make(resource, 0)
    for column in resource.references:
        target = CATALOG.target(resource, column)
        if target is None or column not in resource.create.model_fields:
            continue
        body = lab.examples.body(resource, 0)
        answers = []
        with unchanged(lab), unchanged(stranger):
            for value in (stranger.rows[target.plural], str(new_id())):
                answer = lab.admin.post(f"/v1/{resource.plural}", json={**body, column: value})
                assert answer.status_code == 422, (column, answer.text)
                answers.append(answer.json()["errors"])
                if resource.update and column in resource.update.model_fields:
                    changed = lab.admin.patch(f"/v1/{resource.plural}/{made['id']}", json={column: value})
                    assert changed.status_code == 422, (column, changed.text)
                    answers.append(changed.json()["errors"])
        assert all(answer == answers[0] for answer in answers), column
        assert [item["pointer"] for item in answers[0]] == [f"/{column}"]


@each("list", where=CATALOG.to_one)
def test_a_filter_or_path_through_a_reference_does_not_reach_another_tenant(lab, stranger, resource):
    for name, (column, target) in CATALOG.to_one(resource).items():
        theirs = stranger.rows[target.plural]
        if column in resource.filterable:
            for value in (theirs, str(new_id())):
                page = lab.admin.get(f"/v1/{resource.plural}", params={column: value, "count": "exact"}).json()
                assert (page["data"], page["count"]["value"]) == ([], 0)
        if "search" in resource.operations:
            body = {"filter": {"field": f"{name}.id", "op": "in", "value": [theirs]}, "count": "exact"}
            found = lab.admin.post(f"/v1/{resource.plural}/search", json=body)
            assert (found.json()["data"], found.json()["count"]["value"]) == ([], 0)


def test_every_resource_is_asked():
    assert {item.plural for item in having()} == set(CATALOG.resources)
