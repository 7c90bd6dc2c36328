"""Versions, retries, dry runs, the ledger, deletion: what is true of every write of every resource."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import httpx2

from crm_api.catalog import CATALOG
from crm_api.kernel.customs import CUSTOM
from crm_api.kernel.resource import ALL
from tests.support.asking import code, each, fault
from tests.support.customs import customs, named, setting, value_of
from tests.support.examples import claims

_numbers = itertools.count(1)


def key() -> dict[str, str]:
    return {"Idempotency-Key": f"law-{next(_numbers)}"}


def change(lab, resource, row) -> dict:
    """A patch that changes something, and each custom field."""
    bodies = [lab.examples.body(resource, n) for n in (4, 5)]
    own: dict = {}
    for name, value in (item for body in bodies for item in named(body).items() if item[0] in customs(resource)):
        if name not in named(own) and value != value_of(row, name):
            own = {CUSTOM: {**own.get(CUSTOM, {}), **setting(name, value)[CUSTOM]}}
    for name, value in (item for body in bodies for item in body.items()):
        plain = name not in resource.references and not isinstance(value, (list, dict))
        if plain and name in resource.update.model_fields and value != row[name]:
            return {name: value, **own}
    raise AssertionError(f"nothing to change in {resource.plural}")


@each("create", "get", "update")
def test_versions_travel_as_etags(lab, resource, unchanged):
    row = lab.examples.make(resource, 1)
    path = f"/v1/{resource.plural}/{row['id']}"
    for text in ('"1"', 'W/"1"', "*", '"7", "1"'):
        same = lab.admin.get(path, headers={"If-None-Match": text})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", '"1"')
    assert lab.admin.get(path, headers={"If-None-Match": '"2"'}).status_code == 200
    patch = change(lab, resource, row)
    first = lab.admin.patch(path, json=patch, headers={"If-Match": '"1"'})
    assert (first.status_code, first.headers["etag"]) == (200, '"2"'), first.text
    assert lab.admin.get(path, headers={"If-None-Match": '"1"'}).status_code == 200
    other = change(lab, resource, first.json() | dict.fromkeys(patch, ""))
    with unchanged(lab):
        for method, body in (("PATCH", other), ("DELETE", None)):
            if method == "DELETE" and "delete" not in resource.operations:
                continue
            stale = lab.admin.request(method, path, json=body, headers={"If-Match": '"1"'})
            assert code(stale) == (412, "version_mismatch")
            assert stale.json()["current_version"] == 2
            assert set(named(patch)) <= set(stale.json()["changed"])
            assert stale.headers["etag"] == '"2"'
        for odd in ("1", '"x"', '"1", "2"', ""):
            assert code(lab.admin.patch(path, json=other, headers={"If-Match": odd})) == (400, "invalid_header"), odd


@each("create", "update", where=lambda item: "get" in item.operations)
def test_of_two_writers_of_one_version_one_wins(lab, resource, ledger):
    row = lab.examples.make(resource, 1)
    path = f"/v1/{resource.plural}/{row['id']}"
    patch = change(lab, resource, row)
    with ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(lab.admin.patch, path, json=patch, headers={"If-Match": '"1"'}) for _ in range(4)]
    codes = sorted(item.result().status_code for item in sent)
    assert codes[0] == 200
    assert set(codes[1:]) <= {409, 412}
    assert lab.admin.get(path).json()["version"] == 2
    made = {"create", "update"}  # and what the making of an example brings besides
    assert [entry["action"] for entry in ledger(lab, row["id"])[0] if entry["action"] in made] == ["create", "update"]


def writes(lab, resource):
    """(name, method, path, body, first status) of each generic write, each on a row of its own."""
    if "create" in resource.operations:
        yield "create", "POST", f"/v1/{resource.plural}", lab.examples.body(resource, 1), 201
    if {"create", "update"} <= resource.operations:
        row = lab.examples.make(resource, 1)
        yield "update", "PATCH", f"/v1/{resource.plural}/{row['id']}", change(lab, resource, row), 200
    if {"create", "delete"} <= resource.operations:
        row = lab.examples.make(resource, 2)
        yield "delete", "DELETE", f"/v1/{resource.plural}/{row['id']}", None, 204
    if {"create", "delete", "restore"} <= resource.operations:
        row = lab.examples.make(resource, 2)
        assert lab.admin.delete(f"/v1/{resource.plural}/{row['id']}").status_code == 204
        yield "restore", "POST", f"/v1/{resource.plural}/{row['id']}/restore", None, 200


@each("create")
def test_a_retried_write_has_one_effect_and_the_same_answer(lab, resource, ledger, unchanged):
    for name, method, path, body, status in writes(lab, resource):
        headers = key()
        before = [len(part) for part in ledger(lab)]
        first = lab.admin.request(method, path, json=body, headers=headers)
        assert first.status_code == status, (name, first.text)
        assert "idempotency-replayed" not in first.headers
        after = [len(part) for part in ledger(lab)]
        assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1], name
        with unchanged(lab):
            for _ in range(2):
                again = lab.admin.request(method, path, json=body, headers=headers)
                assert again.status_code == first.status_code, name
                assert (again.json() if again.content else None) == (first.json() if first.content else None), name
                assert again.headers["idempotency-replayed"] == "true"
                assert again.headers.get("etag") == first.headers.get("etag"), name
                assert again.headers.get("location") == first.headers.get("location")
            if body is not None:
                other = lab.admin.request(
                    method, path, json={**body, "id": None} if name == "create" else {}, headers=headers
                )
                if name == "create":
                    assert code(other)[0] == 422
                else:
                    assert code(other) == (422, "idempotency_mismatch"), name
        assert code(lab.admin.request(method, path, json=body, headers={"Idempotency-Key": "ü".encode()})) == (
            400,
            "invalid_header",
        )


@each("create")
def test_concurrent_retries_have_one_effect(lab, resource, ledger):
    for name, method, path, body, status in writes(lab, resource):
        headers = key()
        before = len(ledger(lab)[0])
        with ThreadPoolExecutor(6) as pool:
            sent = [pool.submit(lab.admin.request, method, path, json=body, headers=headers) for _ in range(6)]
        answers = [item.result() for item in sent]
        assert {answer.status_code for answer in answers} <= {status, 409}, (name, [answer.text for answer in answers])
        assert all(
            code(answer)[1] in ("idempotency_in_flight", "locked") for answer in answers if answer.status_code == 409
        )
        assert (
            sum("idempotency-replayed" not in answer.headers for answer in answers if answer.status_code == status) == 1
        )
        assert len(ledger(lab)[0]) == before + 1, name


@each("create")
def test_a_dry_run_validates_everything_and_keeps_nothing(lab, resource, unchanged):
    for name, method, path, body, status in writes(lab, resource):
        headers = key()
        with unchanged(lab):
            for _ in range(2):
                answer = lab.admin.request(method, path, json=body, params={"dry_run": "true"}, headers=headers)
                assert answer.status_code == status, (name, answer.text)
                assert "idempotency-replayed" not in answer.headers
            assert lab.admin.request(method, path, json=body, params={"dry_run": "yes"}).status_code == 422


@each("create")
def test_a_minimal_answer_has_no_body(lab, resource):
    prefer = {"Prefer": "return=minimal"}
    answer = lab.admin.post(f"/v1/{resource.plural}", json=lab.examples.body(resource, 1), headers=prefer)
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (201, b"", '"1"')
    assert answer.headers["preference-applied"] == "return=minimal"
    path = answer.headers["location"]
    row = lab.admin.get(path).json()
    if resource.update:
        answer = lab.admin.patch(path, json=change(lab, resource, row), headers=prefer)
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (204, b"", '"2"')


@each("create", "get", "update")
def test_what_changes_nothing_is_not_recorded_and_the_audit_log_is_what_was(lab, resource, ledger, unchanged):
    row = lab.admin.make(resource.plural, **lab.examples.body(resource, 1))
    path, patch = f"/v1/{resource.plural}/{row['id']}", change(lab, resource, row)
    assert lab.admin.patch(path, json=patch).status_code == 200
    with unchanged(lab):
        for again in (patch, {}):
            same = lab.admin.patch(path, json=again)
            assert (same.status_code, same.json()["version"]) == (200, 2)
    listed = lab.admin.all("/v1/audit_log", object_id=row["id"])
    kept = [(entry["action"], entry["version"]) for entry in ledger(lab, row["id"])[0]]
    assert sorted((entry["action"], entry["version"]) for entry in listed) == kept == [("create", 1), ("update", 2)]


@each("create", "delete", "get")
def test_a_deleted_row_is_gone_everywhere(lab, resource, unchanged):
    row = lab.examples.make(resource, 1)
    path = f"/v1/{resource.plural}/{row['id']}"
    if "restore" in resource.operations:
        assert code(lab.admin.post(f"{path}/restore")) == (404, "not_found")
    assert lab.admin.delete(path).status_code == 204
    patch = change(lab, resource, row) if resource.update else {}
    with unchanged(lab):
        assert code(lab.admin.get(path)) == (404, "not_found")
        assert code(lab.admin.delete(path)) == (404, "not_found")
        if resource.update:
            assert code(lab.admin.patch(path, json=patch)) == (404, "not_found")
            assert code(lab.admin.patch(path, json={})) == (404, "not_found")
        edges = resource.lifecycle.offered if resource.lifecycle else ()
        for action in [edge.verb for edge in edges if edge.body is None] + [
            action.verb for action in resource.actions if action.body is None and action.method == "POST"
        ]:
            assert code(lab.admin.post(f"{path}/{action}")) == (404, "not_found"), action
        page = lab.admin.get(f"/v1/{resource.plural}", params={"id": row["id"], "count": "exact"}).json()
        assert (page["data"], page["count"]["value"]) == ([], 0)
        if "search" in resource.operations:
            tree = {"field": "id", "op": "eq", "value": row["id"]}
            assert lab.admin.post(f"/v1/{resource.plural}/search", json={"filter": tree}).json()["data"] == []
    if "restore" in resource.operations:
        back = lab.admin.post(f"{path}/restore").json()
        assert {**back, "version": 1, "updated_at": row["updated_at"]} == row
        assert back["version"] == 3
        assert lab.admin.get(path).json() == back
        assert code(lab.admin.post(f"{path}/restore")) == (404, "not_found")


@each("create", "delete", where=claims)
def test_a_deletion_frees_unique_values_and_a_taken_one_blocks_the_restore(lab, resource, unchanged):
    body = lab.examples.body(resource, 1)
    row = lab.admin.make(resource.plural, **body)
    path = f"/v1/{resource.plural}"
    with unchanged(lab):
        twin = lab.admin.post(path, json=body)
        assert code(twin) == (409, "duplicate"), twin.text
        assert {place.lstrip("/") for place, _ in fault(twin)} & set(resource.table.c.keys())
    assert lab.admin.delete(f"{path}/{row['id']}").status_code == 204
    other = lab.admin.make(resource.plural, **body)
    if "restore" in resource.operations:
        with unchanged(lab):
            assert code(lab.admin.post(f"{path}/{row['id']}/restore")) == (409, "duplicate")
        assert lab.admin.delete(f"{path}/{other['id']}").status_code == 204
        assert lab.admin.post(f"{path}/{row['id']}/restore").status_code == 200


@each("create", where=lambda item: item.require_match)
def test_resources_that_insist_on_a_precondition_say_so(lab, resource, unchanged):
    row = lab.examples.make(resource, 1)
    path = f"/v1/{resource.plural}/{row['id']}"
    with unchanged(lab):
        for method, body in (("PATCH", change(lab, resource, row)), ("DELETE", None)):
            answer = httpx2.Client.request(lab.admin, method, path, json=body)
            assert code(answer) == (428, "precondition_required")
    assert lab.admin.patch(path, json=change(lab, resource, row), headers={"If-Match": "*"}).status_code == 200


@each(where=lambda item: not item.operations >= ALL)
def test_an_operation_that_is_not_declared_is_no_route(lab, resource):
    row = lab.admin.get(f"/v1/{resource.plural}", params={"limit": 1}).json()["data"]
    id_ = row[0]["id"] if row else "01990000-0000-7000-8000-000000000000"
    calls = {
        "create": ("POST", f"/v1/{resource.plural}"),
        "update": ("PATCH", f"/v1/{resource.plural}/{id_}"),
        "delete": ("DELETE", f"/v1/{resource.plural}/{id_}"),
        "restore": ("POST", f"/v1/{resource.plural}/{id_}/restore"),
        "search": ("POST", f"/v1/{resource.plural}/search"),
        "aggregate": ("POST", f"/v1/{resource.plural}/aggregate"),
    }
    written = {
        (method, route.path)
        for domain in CATALOG.domains
        for router in domain.routers
        for route in router.routes
        for method in route.methods
    }
    for name, (method, path) in calls.items():
        if name not in resource.operations and (method, path) not in written:
            answer = lab.admin.request(method, path, json={})
            assert answer.status_code in (404, 405), name
            if answer.status_code == 405:
                assert method not in answer.headers["allow"]
