"""An external id is as good as an id, for every resource and operation; and one external id is one record."""

import itertools
from types import SimpleNamespace
from urllib.parse import quote

import orjson
import pytest

from crm_api.catalog import CATALOG
from crm_api.kernel.context import new_id
from crm_api.kernel.examples import references
from crm_api.kernel.external import inner_references
from crm_api.kernel.record import Record
from crm_api.kernel.router import operations
from crm_api.kernel.schema import REF_PATTERN
from tests.laws.test_permission import asked_with, example_body
from tests.laws.test_statements import plain
from tests.laws.test_verbs import move, path_to
from tests.laws.test_writes import change
from tests.support.asking import RESOURCES, code, each, fault, having
from tests.support.customs import named, value_of
from tests.support.examples import AT_LEAST, MADE, OTHERWISE, Examples
from tests.support.org import Org

_numbers = itertools.count(1)
SPELLINGS = ("4711", "N° 4711/ä b:c", "%2F%00", "..", "a" * 200, "日本/..//x?y#z", "x%2fy", "ext:erp:1", "'; --")


@pytest.fixture(scope="module", autouse=True)
def erp(lab):
    """The source of this module's external ids, with the same one in another tenant."""
    lab.examples.reference(CATALOG.resources["territories"], fresh=False)  # what bodies of verbs refer to
    lab.admin.make("sources", name="ERP", code="erp")
    other = Org.create(lab.server)
    other.admin.make("sources", name="ERP", code="erp")
    return SimpleNamespace(other=other, examples=Examples(other.admin))


def at(resource, external_id: str, verb: str = "") -> str:
    """The path of a record by its external id."""
    return f"/v1/{resource.plural}/ext:erp:{quote(external_id, safe='')}{verb}"


def linked(person, resource, row, external_id: str) -> dict:
    body = {"source": "erp", "external_id": external_id}
    answer = person.post(f"/v1/{resource.plural}/{row['id']}/link", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["external_ids"] == {"erp": external_id}
    return answer.json()


def fresh() -> str:
    return f"No. {next(_numbers)}/é"


def told(answer) -> tuple:
    """What a refusal says, without what is its own."""
    body = answer.json()
    return answer.status_code, {name: body[name] for name in body if name not in ("instance", "request_id")}


@each("create", "update", where=lambda item: "get" in item.operations)
def test_a_record_is_read_by_its_external_id_however_it_is_spelt(lab, resource):
    row = lab.examples.make(resource, 1)
    path = f"/v1/{resource.plural}/{row['id']}"
    for spelling in SPELLINGS:
        row = linked(lab.admin, resource, row, spelling)
        relations = ",".join([*CATALOG.to_one(resource), *resource.many][:5])
        for params in ({}, {"expand": relations} if relations else {}):
            by_id, by_external = (lab.admin.get(p, params=params) for p in (path, at(resource, spelling)))
            assert (by_external.status_code, by_external.json()) == (200, by_id.json()), spelling
            assert by_external.headers["etag"] == by_id.headers["etag"]
        assert lab.admin.head(at(resource, spelling)).status_code == 200
        same = lab.admin.get(at(resource, spelling), headers={"If-None-Match": by_id.headers["etag"]})
        assert same.status_code == 304
        found = lab.admin.get(f"/v1/{resource.plural}", params={"id": f"ext:erp:{spelling}", "count": "exact"}).json()
        assert ([item["id"] for item in found["data"]], found["count"]["value"]) == ([row["id"]], 1)
        done = lab.admin.post(at(resource, spelling, "/unlink"), json={"source": "erp"})
        assert (done.status_code, done.json()["external_ids"]) == (200, {}), done.text
        assert code(lab.admin.get(at(resource, spelling))) == (404, "not_found")


@each(where=lambda item: any("{id}" in operation.path for operation in operations(item)))
def test_what_is_no_external_id_of_a_record_answers_like_a_random_id(lab, resource, erp, unchanged):
    odd = ["nobody", "a" * 201, "", " ", "a ", "%00", "\n", "\ufffd"]
    with unchanged(lab), unchanged(erp.other):
        for operation in operations(resource):
            if "{id}" not in operation.path or operation.kind == "upsert":
                continue
            verb = operation.path.partition("{id}")[2]
            body = None if operation.method == "GET" else {}
            if operation.kind == "action" and operation.action.body:
                body = example_body(lab, operation.action.body)
            elif operation.kind == "edge":
                body = asked_with(lab, resource.lifecycle.edge(verb.removeprefix("/"))) or {}
            random = told(lab.admin.request(operation.method, f"/v1/{resource.plural}/{new_id()}{verb}", json=body))
            assert random[0] == 404
            for text in odd:
                answer = lab.admin.request(operation.method, at(resource, text, verb), json=body)
                assert told(answer) == random, (operation.operation_id, text)
            for text in ("ext:", "ext:erp", "ext::1", "ext:ERP:1", "ext:nosource:1", "ext:1erp:1"):
                answer = lab.admin.request(operation.method, f"/v1/{resource.plural}/{text}{verb}", json=body)
                assert told(answer) == random, (operation.operation_id, text)


def _pairs():
    for resource in having("create", "update"):
        for operation in operations(resource):
            if "{id}" in operation.path and operation.kind not in ("get", "upsert", "within"):
                yield pytest.param(resource, operation, id=operation.operation_id)


@pytest.mark.parametrize(("resource", "operation"), list(_pairs()))
def test_every_operation_does_by_external_id_what_it_does_by_id(lab, resource, operation, ledger):
    """On twins, one addressed in either way."""
    rows = [lab.examples.make(resource, 1) for _ in range(2)]
    name = fresh()
    linked(lab.admin, resource, rows[1], name)
    paths = [f"/v1/{resource.plural}/{rows[0]['id']}", at(resource, name)]
    verb = operation.path.partition("{id}")[2]
    if operation.kind == "restore":
        assert [lab.admin.delete(path).status_code for path in paths] == [204, 204]
    elif operation.kind == "edge":
        edge = resource.lifecycle.edge(verb.removeprefix("/"))
        for row, (step, state) in itertools.product(rows, path_to(resource.lifecycle, min(edge.sources))):
            if state != resource.lifecycle.edge(step).target:
                OTHERWISE[resource.plural, step, state](lab.admin, row)
            assert move(lab, resource, row["id"], step).status_code == 200
    bodies = [None, None] if operation.kind != "edge" else [asked_with(lab, edge)] * 2
    if operation.action and operation.action.body:
        bodies = [example_body(lab, operation.action.body) for _ in paths]
        if operation.action.verb == "link":
            another = lab.examples.make(CATALOG.resources["sources"])["code"]
            bodies = [{"source": another, "external_id": fresh()} for _ in paths]
        elif operation.action.verb == "unlink":
            linked(lab.admin, resource, rows[0], fresh())
            bodies = [{"source": "erp"}] * 2
        elif operation.action.verb == "unshare":
            shares = [lab.admin.post(f"{path}/share", json=_share(lab)).json() for path in paths]
            bodies = [{"share_id": share["id"]} for share in shares]
    elif operation.action and operation.action.verb.startswith("un"):
        for path in paths:
            done = lab.admin.post(f"{path}/{operation.action.verb.removeprefix('un')}", json={"reason": "x"})
            assert done.status_code == 200, done.text
    before = [len(ledger(lab, row["id"])[1]) for row in rows]
    answers, events = [], []
    for row, path, body, skip in zip(rows, paths, bodies, before, strict=True):
        sent = change(lab, resource, row) if operation.kind == "update" else body
        answers.append(lab.admin.request(operation.method, path + verb, json=sent))
        events.append(ledger(lab, row["id"])[1][skip:])
    assert answers[1].status_code == answers[0].status_code, answers[1].text
    if answers[0].status_code >= 300:  # only a verb knows what else it takes
        assert operation.kind == "action", answers[0].text
        assert code(answers[1]) == code(answers[0])
    assert [event["type"] for event in events[0]] == [event["type"] for event in events[1]]
    if operation.kind in ("update", "edge", "restore"):
        assert answers[1].json()["id"] == rows[1]["id"]
    if operation.kind == "restore":
        assert answers[1].json()["external_ids"] == {"erp": name}
        assert lab.admin.get(paths[1]).json() == answers[1].json()
    if operation.kind == "delete":
        assert [lab.admin.get(path).status_code for path in paths] == [404, 404]


def _share(lab) -> dict:
    return {"grantee_type": "user", "grantee_id": lab.reader.id}


def _referring():
    """Each reference that a create sets, but to files, which no other system names."""
    for resource in having("create"):
        for column in sorted(resource.references):
            target = CATALOG.target(resource, column)
            if target is not None and target.plural != "files" and column in resource.create.model_fields:
                yield pytest.param(resource, column, target, id=f"{resource.plural}.{column}")


@pytest.mark.parametrize(("resource", "column", "target"), list(_referring()))
def test_a_reference_takes_an_external_id(lab, resource, column, target, unchanged):
    maker = lab.examples.creatable(target)
    if column == "service_account_id":
        maker = CATALOG.resources["service_accounts"]
    name, unknown = fresh(), f"ext:erp:{fresh()}"
    referred = linked(lab.admin, maker, lab.examples.make(maker, 3), name)
    made = lab.examples.make(resource, 1, given={column: f"ext:erp:{name}"})
    assert made[column] == referred["id"]
    body = lab.examples.body(resource, 2)
    with unchanged(lab):
        refusals = [
            lab.admin.post(f"/v1/{resource.plural}", json={**body, column: value}) for value in (unknown, str(new_id()))
        ]
        assert told(refusals[0]) == told(refusals[1])
        assert (f"/{column}", "reference_not_found") in fault(refusals[0])
        for odd in ("ext:erp:", "ext:ERP:1", "x", "ext:erp:a\x00"):
            assert lab.admin.post(f"/v1/{resource.plural}", json={**body, column: odd}).status_code == 422, odd
    path = f"/v1/{resource.plural}/{made['id']}"
    if resource.update and column in resource.update.model_fields:
        with unchanged(lab):
            assert fault(lab.admin.patch(path, json={column: unknown})) == [(f"/{column}", "reference_not_found")]
        other = linked(lab.admin, maker, lab.examples.make(maker, 4), "other " + name)
        done = lab.admin.patch(path, json={column: f"ext:erp:other {name}"})
        assert (done.status_code, done.json()[column]) == (200, other["id"]), done.text
        referred, name = other, "other " + name
    if column in resource.filterable:
        _filtered(lab, resource, column, referred["id"], f"ext:erp:{name}", unknown)


def _filtered(lab, resource, column: str, id_: str, external: str, unknown: str) -> None:
    path = f"/v1/{resource.plural}"
    by_id = [row["id"] for row in lab.admin.all(path, **{column: id_})]
    assert by_id
    assert [row["id"] for row in lab.admin.all(path, **{column: external, "limit": 1})] == by_id
    assert lab.admin.all(path, **{column: unknown}) == []
    several = [("limit", "1"), (column, external), (column, unknown)]
    first = lab.admin.get(path, params=several)
    assert first.json()["data"][0]["id"] == by_id[0]
    if (cursor := first.json()["next_cursor"]) is not None:
        assert lab.admin.get(path, params=[*several, ("cursor", cursor)]).status_code == 200
    if "search" in resource.operations:
        hop = f"{column.removesuffix('_id')}.id"
        for tree in (
            {"field": column, "value": external},
            {"field": column, "op": "in", "value": [unknown, external]},
            {"and": [{"field": column, "op": "nin", "value": [unknown]}, {"field": hop, "value": external}]},
        ):
            body = {"filter": tree, "limit": 200}
            found = lab.admin.post(f"{path}/search", json=body)
            assert [row["id"] for row in found.json()["data"]] == by_id, found.text
    if "aggregate" in resource.operations:
        body = {"measures": [{"op": "count"}], "filter": {"field": column, "value": external}}
        assert lab.admin.post(f"{path}/aggregate", json=body).json()["data"][0]["measures"] == [len(by_id)]


def _of_any_kind(resource) -> bool:
    return {"object_type", "object_id"} <= set(resource.table.c.keys())


def test_each_resource_whose_rows_name_records_of_any_kind_says_so():
    for resource in RESOURCES:
        assert (resource.any_reference is not None) == _of_any_kind(resource), resource.plural


def _of_any(lab, resource) -> tuple[dict, str, list[str]]:
    """A row that names a record, the record's external id, and the ids of all rows that name it."""
    if "create" in resource.operations or resource.plural in MADE:
        lab.examples.make(resource)
    else:
        for plural in ("webhook_endpoints", "accounts"):
            lab.examples.make(CATALOG.resources[plural], bare=True)
    page = lab.admin.get(f"/v1/{resource.plural}", params={"limit": 200}).json()["data"]
    row = next(item for item in page if CATALOG.by_type[item["object_type"]].update)
    target, name = CATALOG.by_type[row["object_type"]], fresh()
    linked(lab.admin, target, {"id": row["object_id"]}, name)
    ids = [item["id"] for item in lab.admin.all(f"/v1/{resource.plural}", object_id=row["object_id"])]
    return row, f"ext:erp:{name}", ids


@each("list", where=_of_any_kind)
def test_a_record_of_any_kind_is_found_by_an_external_id_with_its_type(lab, resource):
    row, external, ids = _of_any(lab, resource)
    path, type_, unknown = f"/v1/{resource.plural}", row["object_type"], f"ext:erp:{fresh()}"
    assert row["id"] in ids

    def found(*pairs) -> list[str]:
        answer = lab.admin.get(path, params=[("limit", "200"), *pairs])
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json()["data"]]

    typed = ("object_type", type_)
    assert found(("object_id", external), typed) == ids
    assert found(typed, ("object_id", unknown), ("object_id", external), ("object_id", str(new_id()))) == ids
    assert found(typed, ("object_id", unknown)) == []
    other = next(item.singular for item in RESOURCES if item.update and item.singular != type_)
    assert found(("object_type", other), ("object_id", external)) == []
    several = [typed, ("object_type", other)]
    for beside in ([], several, [("object_type_contains", type_)], [("object_type", "nothing")]):
        answer = lab.admin.get(path, params=[*beside, ("object_id", external)])
        assert (answer.status_code, fault(answer)) == (422, [("object_id", "ambiguous_reference")]), beside
    if "search" in resource.operations:
        _searched(lab, resource, type_, external, ids)


def _searched(lab, resource, type_: str, external: str, ids: list[str]) -> None:
    path = f"/v1/{resource.plural}/search"
    one, kind = ({"field": "object_id", "value": external}, {"field": "object_type", "value": type_})
    nobody, nin = str(new_id()), {"field": "object_id", "op": "nin", "value": [external]}
    inside = {"and": [{"field": "object_id", "op": "in", "value": [nobody, external]}, kind]}
    for tree in ({"and": [one, kind]}, inside, {"or": [inside, {"field": "id", "value": nobody}]}):
        found = lab.admin.post(path, json={"filter": tree, "limit": 200})
        assert [row["id"] for row in found.json()["data"]] == ids, found.text
    found = lab.admin.post(path, json={"filter": {"and": [kind, nin]}, "limit": 200}).json()["data"]
    assert not {row["id"] for row in found} & set(ids)
    among = {"field": "object_type", "op": "in", "value": [type_]}
    for tree, at_ in (
        (one, ""),
        ({"or": [one, kind]}, "/or/0"),
        ({"and": [{"or": [one, kind]}, kind]}, "/and/0/or/0"),
        ({"and": [kind, {"and": [one]}]}, "/and/1/and/0"),
        ({"and": [kind, kind, one]}, "/and/2"),
        ({"and": [among, one]}, "/and/1"),
        ({"and": [{**kind, "op": "ne"}, one]}, "/and/1"),
    ):
        answer = lab.admin.post(path, json={"filter": tree})
        assert (answer.status_code, fault(answer)) == (422, [(f"/filter{at_}", "ambiguous_reference")]), tree


@each("list", where=lambda item: _of_any_kind(item) and not item.parents)
def test_a_hidden_record_of_any_kind_is_not_found_by_its_external_id(branches, resource):
    """By who sees each row but not the record: an external id would say that there is one."""
    lab = branches
    row, external, ids = _of_any(lab, resource)
    blind = lab.person(f"blind{next(_numbers)}", lab.role(fresh(), (f"{resource.plural}:read", "all")))
    path, params = f"/v1/{resource.plural}", {"object_type": row["object_type"]}
    by_id = [item["id"] for item in blind.all(path, **params, object_id=row["object_id"])]
    assert [item["id"] for item in lab.admin.all(path, **params, object_id=external)] == by_id == ids
    assert blind.all(path, **params, object_id=external) == []


@each("list", where=lambda item: {"created_by", "actor_id"} & set(item.filterable))
def test_who_did_it_may_be_an_external_id(lab, resource):
    column = ({"created_by", "actor_id"} & set(resource.filterable)).pop()
    name = fresh()
    linked(lab.admin, CATALOG.resources["users"], {"id": lab.admin.id}, name)
    path = f"/v1/{resource.plural}"
    by_id = lab.admin.get(path, params={column: lab.admin.id}).json()["data"]
    assert lab.admin.get(path, params={column: f"ext:erp:{name}"}).json()["data"] == by_id
    assert lab.admin.all(path, **{column: f"ext:erp:{fresh()}"}) == []
    assert lab.admin.post(f"/v1/users/{lab.admin.id}/unlink", json={"source": "erp"}).status_code == 200


@pytest.fixture(scope="module")
def branches(server) -> Org:
    """A tenant without defaults that would open what is hidden."""
    org = Org.create(server)
    org.examples = Examples(org.admin)
    org.examples.reference(CATALOG.resources["territories"], fresh=False)  # what bodies of verbs refer to
    org.admin.make("sources", name="ERP", code="erp")
    return org


@each("create", "update", where=lambda item: item.owned)
def test_a_hidden_record_answers_by_its_external_id_like_one_that_is_not_there(branches, resource, unchanged):
    lab, name = branches, fresh()
    row = lab.examples.make(resource, 1, bare=True, given={"owner_id": lab.outsider.id})
    linked(lab.admin, resource, row, name)
    assert lab.outsider.get(at(resource, name)).json()["id"] == row["id"]
    with unchanged(lab):
        for operation in operations(resource):
            if "{id}" not in operation.path or operation.kind == "upsert":
                continue
            verb = operation.path.partition("{id}")[2]
            body = None if operation.method == "GET" else {}
            if operation.action and operation.action.body:
                body = example_body(lab, operation.action.body)
            elif operation.kind == "edge":
                body = asked_with(lab, resource.lifecycle.edge(verb.removeprefix("/"))) or {}
            answers = [
                told(lab.rep.request(operation.method, path, json=body))
                for path in (at(resource, name, verb), f"/v1/{resource.plural}/{new_id()}{verb}")
            ]
            assert answers[0] == answers[1], operation.operation_id
        assert lab.rep.all(f"/v1/{resource.plural}", id=f"ext:erp:{name}") == []
        for other in having("list"):
            for column in other.references:
                if column in other.filterable and CATALOG.target(other, column) is resource:
                    found = lab.rep.get(f"/v1/{other.plural}", params={column: f"ext:erp:{name}"})
                    assert found.status_code == 403 or found.json()["data"] == []
        body = {**lab.examples.body(resource, 1, bare=True)}
        refused = lab.rep.put(at(resource, name), json=body)
        assert code(refused) == (404, "not_found")
        assert row["id"] not in refused.text


@each("create", "update")
def test_another_tenants_external_ids_are_its_own(lab, resource, erp, unchanged):
    name = fresh()
    theirs = linked(erp.other.admin, resource, erp.examples.make(resource, 1), name)
    with unchanged(erp.other):
        assert code(lab.admin.get(at(resource, name))) == (404, "not_found")
        assert lab.admin.all(f"/v1/{resource.plural}", id=f"ext:erp:{name}") == []
        made = lab.admin.put(at(resource, name), json=lab.examples.body(resource, 2))
        assert made.status_code == 201, made.text
        assert made.json()["id"] != theirs["id"]
        assert lab.admin.get(at(resource, name)).json() == made.json()


@each("create", "update")
def test_an_upsert_creates_once_and_then_changes(lab, resource, ledger, unchanged):
    name, body = fresh(), lab.examples.body(resource, 1)
    path = at(resource, name)
    with unchanged(lab):
        dry = lab.admin.put(path, json=body, params={"dry_run": "true"})
        assert (dry.status_code, dry.json()["external_ids"]) == (201, {"erp": name}), dry.text
        assert code(lab.admin.put(path, json=body, headers={"If-Match": '"1"'})) == (412, "version_mismatch")
        assert code(lab.admin.put(path, json=body, headers={"If-Match": "*"})) == (412, "version_mismatch")
        assert code(lab.admin.put(path, json={**body, "nonsense": 1})) == (422, "invalid")
        assert code(lab.admin.put(f"/v1/{resource.plural}/ext:nobody:1", json=body)) == (422, "invalid")
        refused = lab.admin.put(f"/v1/{resource.plural}/{new_id()}", json=body)
        assert fault(refused) == [("id", "not_an_external_id")]
    first = lab.admin.put(path, json=body)
    assert (first.status_code, first.headers["etag"]) == (201, '"1"'), first.text
    row = first.json()
    assert first.headers["location"] == f"/v1/{resource.plural}/{row['id']}"
    assert lab.admin.get(path).json() == row
    assert [event["type"] for event in ledger(lab, row["id"])[1]] == [f"{resource.singular}.created"]
    with unchanged(lab):
        again = lab.admin.put(path, json=body)
        assert (again.status_code, again.json()) == (200, row), again.text
        assert lab.admin.put(path, json=body, headers={"Prefer": "return=minimal"}).status_code == 204
        assert code(lab.admin.put(path, json={**body, "id": str(new_id())})) == (409, "conflict")
    patch = change(lab, resource, row)
    whole = {**body, **patch}
    with unchanged(lab):
        assert code(lab.admin.put(path, json=whole, headers={"If-Match": '"9"'})) == (412, "version_mismatch")
    other = lab.admin.put(path, json={**whole, "id": row["id"]}, headers={"If-Match": '"1"'})
    assert (other.status_code, other.json()["version"]) == (200, 2), other.text
    assert {name: value_of(other.json(), name) for name in named(patch)} == named(patch)
    assert other.json()["external_ids"] == {"erp": name}
    bare = {key: whole[key] for key in whole if resource.create.model_fields[key].is_required()}
    kept = lab.admin.put(path, json=bare)
    assert (kept.status_code, kept.json()) == (200, other.json()), "absent keeps"
    audits, events = ledger(lab, row["id"])
    assert [entry["action"] for entry in audits] == ["create", "update"]
    assert [event["type"] for event in events] == [f"{resource.singular}.created", f"{resource.singular}.updated"]
    assert [event["data"]["external_ids"] for event in events] == [{"erp": name}] * 2
    assert len(lab.admin.all(f"/v1/{resource.plural}", id=f"ext:erp:{name}")) == 1


@each("create", "update")
def test_a_retried_upsert_has_one_effect_and_the_same_answer(lab, resource, unchanged):
    name, body = fresh(), lab.examples.body(resource, 1)
    headers = {"Idempotency-Key": f"upsert-{next(_numbers)}"}
    first = lab.admin.put(at(resource, name), json=body, headers=headers)
    assert first.status_code == 201, first.text
    with unchanged(lab):
        again = lab.admin.put(at(resource, name), json=body, headers=headers)
        assert (again.status_code, again.json()) == (201, first.json())
        assert again.headers["idempotency-replayed"] == "true"
        other = lab.admin.put(at(resource, name), json={**body, "id": None}, headers=headers)
        assert code(other) == (422, "idempotency_mismatch")
    if "delete" in resource.operations:
        gone = {"Idempotency-Key": f"upsert-{next(_numbers)}"}
        assert lab.admin.delete(at(resource, name), headers=gone).status_code == 204
        with unchanged(lab):
            again = lab.admin.delete(at(resource, name), headers=gone)
            assert (again.status_code, again.headers["idempotency-replayed"]) == (204, "true")


def _free(resource) -> bool:
    """Whether a bare body refers to nothing that its writer has to see."""
    either = set(AT_LEAST.get(resource.plural, ())) & resource.references.keys()
    return not resource.access_fields and not references(resource) and not either


@each("create", "update", where=_free)
def test_an_upsert_takes_the_permission_for_what_it_does(branches, resource, unchanged):
    lab, name, number = branches, fresh(), next(_numbers)
    reads = (f"{resource.plural}:read", "all")
    maker, changer = (
        lab.person(f"{action}{number}", lab.role(f"{action} {number}", reads, (f"{resource.plural}:{action}", "all")))
        for action in ("create", "update")
    )
    body = lab.examples.body(resource, 1, bare=True)
    with unchanged(lab):
        refused = changer.put(at(resource, name), json=body)
        assert (code(refused), refused.json()["permission"]) == ((403, "forbidden"), f"{resource.plural}:create")
        refused = lab.reader.put(at(resource, name), json=body)
        assert code(refused) == (403, "forbidden")
    made = maker.put(at(resource, name), json=body)
    assert made.status_code == 201, made.text
    whole = {**body, **change(lab, resource, made.json())}
    with unchanged(lab):
        refused = maker.put(at(resource, name), json=whole)
        assert (code(refused), refused.json()["permission"]) == ((403, "forbidden"), f"{resource.plural}:update")
    done = changer.put(at(resource, name), json=whole)
    assert (done.status_code, done.json()["version"]) == (200, 2), done.text


@each("create", "update")
def test_link_and_unlink_are_changes_like_any(lab, resource, ledger, unchanged):
    row, other = (lab.examples.make(resource, n) for n in (1, 2))
    name, path = fresh(), f"/v1/{resource.plural}/{row['id']}"
    body = {"source": "erp", "external_id": name}
    with unchanged(lab):
        assert lab.admin.post(f"{path}/link", json=body, params={"dry_run": "true"}).status_code == 200
        assert code(lab.admin.post(f"{path}/link", json=body, headers={"If-Match": '"9"'}))[0] == 412
        assert fault(lab.admin.post(f"{path}/link", json={**body, "source": "nosource"})) == [
            ("/source", "unknown_source")
        ]
        assert fault(lab.admin.post(f"{path}/unlink", json={"source": "erp"})) == [("/source", "not_linked")]
        assert lab.admin.patch(path, json={"external_ids": {"erp": "1"}}).status_code == 422
        for odd in ("", " ", "a" * 201, "a\x00", "a\nb", None, 7):
            assert lab.admin.post(f"{path}/link", json={**body, "external_id": odd}).status_code == 422, odd
    linked(lab.admin, resource, row, name)
    with unchanged(lab):
        assert linked(lab.admin, resource, row, name)["version"] == row["version"] + 1
        taken = lab.admin.post(f"/v1/{resource.plural}/{other['id']}/link", json=body)
        assert (code(taken), fault(taken)) == (
            (409, "external_id_taken"),
            [("/external_id", "external_id_taken")],
        )
        second = lab.admin.post(f"{path}/link", json={**body, "external_id": f"{name} 2"})
        assert fault(second) == [("/source", "linked_already")]
    unlinked = lab.admin.post(f"{path}/unlink", json={"source": "erp"})
    assert (unlinked.status_code, unlinked.json()["external_ids"]) == (200, {})
    audits, events = ledger(lab, row["id"])
    assert [entry["action"] for entry in audits[-2:]] == ["link", "unlink"]
    assert [event["type"] for event in events[-2:]] == [f"{resource.singular}.updated"] * 2
    assert [event["previous"] for event in events[-2:]] == [{"external_ids": {}}, {"external_ids": {"erp": name}}]
    assert [event["data"]["external_ids"] for event in events[-2:]] == [{"erp": name}, {}]
    assert linked(lab.admin, resource, other, name)["id"] == other["id"]


@each("create", "update", "delete", "restore")
def test_a_deleted_record_holds_no_external_id(lab, resource, unchanged):
    name, body = fresh(), lab.examples.body(resource, 1)
    first = lab.admin.put(at(resource, name), json=body).json()
    assert lab.admin.delete(at(resource, name)).status_code == 204
    second = lab.admin.put(at(resource, name), json=lab.examples.body(resource, 2))
    assert second.status_code == 201, second.text
    with unchanged(lab):
        refused = lab.admin.post(f"/v1/{resource.plural}/{first['id']}/restore")
        assert code(refused) == (409, "external_id_taken"), refused.text
    assert lab.admin.post(at(resource, name, "/unlink"), json={"source": "erp"}).status_code == 200
    restored = lab.admin.post(at(resource, name, "/restore"))
    assert (restored.status_code, restored.json()["id"]) == (200, first["id"]), restored.text
    assert lab.admin.get(at(resource, name)).json()["id"] == first["id"]


@each("create", "update")
def test_an_external_id_costs_one_statement(lab, resource, statements):
    """More than an id; and an upsert of plain fields is two, whether it creates or changes."""
    names = [fresh() for _ in range(3)]
    rows = [linked(lab.admin, resource, lab.examples.make(resource, 1), name) for name in names]
    path = f"/v1/{resource.plural}"

    def count(method: str, target: str, **options) -> int:
        lab.admin.get("/v1/me")  # rights that examples have moved are read again
        statements.clear()
        answer = lab.admin.request(method, target, **options)
        assert answer.status_code < 300, answer.text
        return len(statements)

    several = [("id", f"ext:erp:{name}") for name in names]
    assert count("GET", at(resource, names[0])) == count("GET", f"{path}/{rows[0]['id']}") + 1
    assert count("GET", path, params=several) == count("GET", path, params=[("id", row["id"]) for row in rows]) + 1
    patch = change(lab, resource, rows[1])
    by_external = count("PATCH", at(resource, names[1]), json=patch)
    patch = change(lab, resource, rows[2])
    assert by_external == count("PATCH", f"{path}/{rows[2]['id']}", json=patch) + 1
    body = lab.examples.body(resource, 1, bare=True, fresh=True)
    again, name = {**body, **change(lab, resource, {**rows[0], **body})}, fresh()
    for sent in (body, again):
        if plain(resource, resource.create.model_validate_json(orjson.dumps(sent)).model_dump()):
            looked = sent is again and not resource.once.isdisjoint(sent)  # at what can be set once
            assert count("PUT", at(resource, name), json=sent) == 2 + looked


def test_each_input_that_refers_to_a_record_takes_an_external_id():
    for resource in RESOURCES:
        fields = resource.create.model_json_schema()["properties"] if resource.create else {}
        for column in set(resource.references) & set(fields):
            if CATALOG.target(resource, column).plural == "files":  # which no other system names
                continue
            options = [fields[column], *fields[column].get("anyOf", ())]
            assert any("ext:" in option.get("pattern", "") for option in options), f"{resource.plural}.{column}"


def test_every_resource_that_can_be_created_and_changed_is_linked_and_upserted():
    for resource in RESOURCES:
        verbs = {operation.operation_id.partition("_")[0] for operation in operations(resource)}
        assert ({"link", "unlink"} <= verbs) == (resource.update is not None)
        assert ("upsert" in verbs) == ({"create", "update"} <= resource.operations)


def test_the_two_places_of_an_external_id_agree(lab, sql):
    """The last of this module: after what this worker did of it, in every tenant of its database."""
    for resource in having("create", "update", "delete"):
        gone = linked(lab.admin, resource, lab.examples.make(resource, 1), fresh())
        assert lab.admin.delete(f"/v1/{resource.plural}/{gone['id']}").status_code == 204
        linked(lab.admin, resource, lab.examples.make(resource, 2), fresh())
    kinds = {resource.table.name: CATALOG.by_table[resource.table.name].singular for resource in RESOURCES}
    tables = [name for name, table in Record.metadata.tables.items() if "external_ids" in table.c]
    columns = " UNION ALL ".join(
        f"SELECT tenant_id, '{kinds[name]}', id, e.key, e.value, "  # noqa: S608 - our own names
        f"deleted_at IS NULL FROM {name}, jsonb_each_text(external_ids) e"
        for name in tables
    )
    kept = "SELECT tenant_id, object_type, object_id, source, external_id, deleted_at IS NULL FROM external_ids"
    assert sql(f"({columns}) EXCEPT ({kept})") == []
    assert sql(f"({kept}) EXCEPT ({columns})") == []
    assert sql("SELECT count(*) AS n FROM external_ids")[0]["n"] > 20


@each("create")
def test_each_reference_in_a_body_says_what_it_points_to(resource):
    """A column by its foreign key, one inside a list or object by `To`: otherwise an external id would not be found."""
    known = {(name,) for name in resource.references} | {way for way, _ in inner_references(resource.create)}
    assert set(_references(resource.create)) <= known
    assert {plural for _, plural in inner_references(resource.create)} <= set(CATALOG.resources)


def _references(model, above=()):
    """The ways to what a schema takes external ids for."""
    schema = model.model_json_schema(mode="validation")

    def walk(part, way):
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rpartition("/")[2]]
        if part.get("pattern") == REF_PATTERN:
            yield way
        for option in part.get("anyOf", ()):
            yield from walk(option, way)
        if "items" in part:
            yield from walk(part["items"], way)
        for name, inner in part.get("properties", {}).items():
            yield from walk(inner, (*way, name))

    return walk(schema, above)
