"""Everything a live server sends conforms to what the contract declares for that operation and status."""

import copy
import itertools
import json
import re
from functools import cache

import jsonschema
import pytest

from crm_api.catalog import CATALOG
from crm_api.kernel.examples import example, references
from crm_api.kernel.router import operations
from tests.support.contract import OPENAPI
from tests.support.examples import MADE, SETTINGS, Examples
from tests.support.wire import anonymous

pytestmark = pytest.mark.broad  # asked by `make contract`, too

DOCUMENT = json.loads(json.dumps(OPENAPI))
_numbers = itertools.count(1)
RESOURCES = list(CATALOG.resources.values())
CREATED = [resource for resource in RESOURCES if resource.create]
_TEMPLATES = {
    re.compile("^" + re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)) + "$"): item
    for path, item in sorted(DOCUMENT["paths"].items(), key=lambda entry: "{" in entry[0])
}


def _closed(document):
    """Replies may grow in later versions; this version sends nothing that it does not declare."""
    strict = copy.deepcopy(document["components"])
    for name, schema in strict["schemas"].items():
        if schema.get("type") == "object" and "properties" in schema and name != "Problem":
            schema.setdefault("additionalProperties", False)
    return strict


COMPONENTS = _closed(DOCUMENT)
_FORMATS = jsonschema.Draft202012Validator.FORMAT_CHECKER


@cache
def _validator(schema: str) -> jsonschema.Draft202012Validator:
    whole = {**json.loads(schema), "components": COMPONENTS}
    return jsonschema.Draft202012Validator(whole, format_checker=_FORMATS)


def _resolved(node):
    while "$ref" in node:
        target = DOCUMENT
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        node = target
    return node


HEADERS = (
    "etag", "location", "link", "idempotency-replayed", "ignored-fields", "preference-applied", "retry-after",
)  # fmt: skip


def conforms(answer):
    """Fails unless status, headers, media type and body are declared; gives the answer back."""
    path = answer.request.url.raw_path.decode().partition("?")[0]
    item = next(item for template, item in _TEMPLATES.items() if template.match(path))
    operation = item[answer.request.method.lower()]
    where = f"{answer.request.method} {path} -> {answer.status_code}: {answer.text[:500]}"
    assert str(answer.status_code) in operation["responses"], f"undeclared status: {where}"
    declared = _resolved(operation["responses"][str(answer.status_code)])
    for header in HEADERS:
        if header in answer.headers:
            assert header in {name.lower() for name in declared["headers"]}, f"undeclared header {header}: {where}"
    assert "x-request-id" in answer.headers
    if not answer.content:
        assert answer.status_code in (204, 304) or "preference-applied" in answer.headers, f"no body: {where}"
        return answer
    media = answer.headers["content-type"]
    assert media in declared.get("content", {}), f"undeclared media type {media}: {where}"
    errors = list(_validator(json.dumps(declared["content"][media]["schema"])).iter_errors(answer.json()))
    assert errors == [], f"{where}\n" + "\n".join(f"{error.json_path}: {error.message}" for error in errors[:5])
    return answer


def body_of(org, resource):
    """A create body with its references made first."""
    body = example(resource, next(_numbers))
    for column in references(resource):
        target = CATALOG.target(resource, column)
        if target.plural == "principals":
            body[column] = make(org, CATALOG.resources["users"])["id"]
        else:
            body[column] = make(org, target)["id"]
    if "currency" in resource.create.model_fields and "account_id" in body:
        body.setdefault("currency", "EUR")  # its account has none
    if resource.plural in ("consents", "legal_holds"):
        body["contact_id"] = make(org, CATALOG.resources["contacts"])["id"]
    if resource.plural == "forecast_quotas":
        body["period_start"] = "2026-01-01"
    if resource.plural == "product_components":
        body["product_id"] = make(org, CATALOG.resources["products"], kind="bundle")["id"]
    if resource.plural in SETTINGS:  # unique by resource: each example takes another one
        body["resource"] = list(CATALOG.resources)[next(_numbers) % len(CATALOG.resources)]
    if resource.plural == "duplicate_checks":
        body["on_create"] = "allow"  # examples are alike
    return body


def make(org, resource, **values):
    if resource.plural in MADE:
        return MADE[resource.plural](org.admin, 0)
    answer = conforms(org.admin.post(f"/v1/{resource.plural}", json={**body_of(org, resource), **values}))
    assert answer.status_code == 201, answer.text
    return answer.json()


def existing(org, resource):
    """Some record, made first where that is possible."""
    if resource.create and resource.plural not in SETTINGS:
        return make(org, resource)
    found = org.admin.get(f"/v1/{resource.plural}").json()["data"]
    if not found and resource.plural.startswith("webhook_"):  # made by the worker
        Examples(org.admin).make(CATALOG.resources["webhook_endpoints"], 0)
        found = org.admin.get(f"/v1/{resource.plural}").json()["data"]
    if found:
        return found[0]
    return make(org, resource)


FULL = {
    "accounts": {
        "legal_name": "Sample AG", "website": "https://www.example.com/x", "employees": 7, "annual_revenue": "12.5",
        "currency": "EUR", "credit_limit": "100", "risk": "low", "tags": ["a"], "interests": ["b"],
        "addresses": [{"city": "Köln", "country": "DE", "valid_from": "2026-01-01"}],
        "emails": [{"address": "a@example.com"}], "phones": [{"number": "0221 4710", "country": "DE"}],
    },
    "contacts": {
        "first_name": "Ada", "language": "de", "birthday": "1990-02-28", "emails": [{"address": "a@example.com"}],
        "phones": [{"number": "+4930123456"}], "addresses": [{"line1": "x"}],
        "consents": [{"purpose": "news", "basis": "consent", "status": "granted", "at": "2026-01-01T00:00:00+01:00"}],
    },
    "products": {
        "cost": "0.5", "list_price": "12.5", "currency": "EUR", "weight": "0.25", "specification": "x", "tags": ["a"],
        "attributes": {"colour": "red"}, "barcode": "4006381333931",
    },
    "account_relations": {"valid_from": "2026-01-01", "valid_until": "2031-12-31"},
    "users": {"language": "de", "time_zone": "Europe/Berlin", "title": "Sales"},
    "roles": {
        "permissions": [{"permission": "accounts:read", "reach": "own"}],
        "field_rules": [{"resource": "accounts", "field": "risk", "rule": "read_only"}],
    },
}  # fmt: skip
ids = {"ids": lambda resource: resource.plural}


@pytest.mark.parametrize("resource", CREATED, **ids)
def test_writes(shared_org, resource):
    org, path = shared_org, f"/v1/{resource.plural}"
    kinds = {operation.kind for operation in operations(resource)}
    full = {**body_of(org, resource), **FULL.get(resource.plural, {})}
    conforms(org.admin.post(path, json=full, params={"dry_run": "true"}))
    answer = conforms(org.admin.post(path, json=full, headers={"Idempotency-Key": f"full-{resource.plural}"}))
    assert answer.status_code == 201, answer.text
    replay = conforms(org.admin.post(path, json=full, headers={"Idempotency-Key": f"full-{resource.plural}"}))
    assert replay.headers["idempotency-replayed"] == "true"
    assert replay.json() == answer.json()
    record = answer.json()
    one = f"{path}/{record['id']}"
    assert answer.headers["location"] == one
    conforms(org.admin.post(path, json=body_of(org, resource), headers={"Prefer": "return=minimal"}))
    assert conforms(org.admin.get(one)).json() == record
    assert conforms(org.admin.get(one, headers={"If-None-Match": answer.headers["etag"]})).status_code == 304
    if "update" in kinds:
        given = {**FULL.get(resource.plural, {})} or {
            key: value for key, value in full.items() if key in resource.update.model_fields
        }
        assert conforms(org.admin.patch(one, json=given)).status_code == 200
        assert conforms(org.admin.patch(one, json={})).status_code == 200
        assert conforms(org.admin.patch(one, json={}, headers={"Prefer": "return=minimal"})).status_code == 204
        assert conforms(org.admin.patch(one, json={}, headers={"If-Match": "x"})).status_code == 400
        assert conforms(org.admin.patch(one, json=given, headers={"If-Match": '"77"'})).status_code == 412
        cleared = {
            name: None
            for name in FULL.get(resource.plural, {})
            if name in resource.update.model_fields and resource.table.c[name].nullable
        }
        conforms(org.admin.patch(one, json=cleared))
    if "delete" in kinds:
        assert conforms(org.admin.delete(one, headers={"If-Match": '"77"'})).status_code == 412
        assert conforms(org.admin.delete(one)).status_code == 204
        assert conforms(org.admin.delete(one)).status_code == 404
    if "restore" in kinds:
        assert conforms(org.admin.post(f"{one}/restore")).status_code == 200
        assert conforms(org.admin.post(f"{one}/restore")).status_code == 404


@pytest.mark.parametrize("resource", [item for item in CREATED if item.plural not in SETTINGS], **ids)
def test_batches(shared_org, resource):
    org, path = shared_org, f"/v1/{resource.plural}/batch"
    create = {"op": "create", "body": body_of(org, resource)}
    kept = {"Idempotency-Key": f"batch-{resource.plural}"}
    done = conforms(org.admin.post(path, json={"items": [create]}, headers=kept))
    assert done.status_code == 200, done.text
    assert conforms(org.admin.post(path, json={"items": [create]}, headers=kept)).headers["idempotency-replayed"]
    for mode, status in (("atomic", 422), ("partial", 207)):
        bad = {"op": "create", "body": {"no_such_field": 1}}
        frame = {"mode": mode, "items": [{"op": "create", "body": body_of(org, resource)}, bad]}
        assert conforms(org.admin.post(path, json=frame)).status_code == status
    short = conforms(
        org.admin.post(path, json={"items": [{**create, "body": body_of(org, resource)}]}, headers=MINIMAL)
    )
    items = []
    for kind in ("update", "delete"):
        if kind in {operation.kind for operation in operations(resource)}:
            body = {"body": {}} if kind == "update" else {}
            items.append({"op": kind, "id": short.json()["results"][0]["id"], "if_match": 1, **body})
    assert not items or conforms(org.admin.post(path, json={"items": items})).status_code == 200
    if items:
        assert conforms(org.admin.post(path, json={"items": items})).status_code in (404, 412, 200)
    conforms(org.reader.post(path, json={"items": [create]}))
    conforms(org.admin.post(path, json={"items": []}))


MINIMAL = {"Prefer": "return=minimal"}


def test_a_batch_of_anything(org):
    share = {"grantee_type": "user", "grantee_id": org.outsider.id}
    operations_ = [
        {"ref": "acc", "operation": "create_account", "body": {"name": "Batch"}},
        {"operation": "update_account", "id": {"$ref": "acc.id"}, "body": {"tier": "A"}},
        {"operation": "activate_account", "id": {"$ref": "acc.id"}, "if_match": 2},
        {"operation": "share_account", "id": {"$ref": "acc.id"}, "body": share},
        {"operation": "issue_key_user", "id": org.outsider.id, "body": {"name": "second"}},
        {"operation": "create_contact", "body": {"last_name": "Batch", "account_id": {"$ref": "acc.id"}}},
        {"operation": "delete_account", "id": {"$ref": "acc.id"}},
        {"operation": "restore_account", "id": {"$ref": "acc.id"}},
    ]
    frame = {"operations": operations_}
    assert conforms(org.admin.post("/v1/batch", json=frame, params={"dry_run": "true"})).status_code == 200
    first = conforms(org.admin.post("/v1/batch", json=frame, headers={"Idempotency-Key": "any"}))
    assert [item["status"] for item in first.json()["results"]] == [201, 200, 200, 201, 201, 201, 204, 200]
    assert conforms(org.admin.post("/v1/batch", json=frame, headers={"Idempotency-Key": "any"})).status_code == 200
    assert conforms(org.admin.post("/v1/batch", json=frame, headers=MINIMAL)).status_code == 409
    assert conforms(org.admin.post("/v1/batch", json={**frame, "mode": "partial"})).status_code == 207
    for wrong in ({}, {"operations": [{"operation": "x"}]}, {"operations": [operations_[1]]}):
        assert conforms(org.admin.post("/v1/batch", json=wrong)).status_code == 422


@pytest.mark.parametrize("resource", RESOURCES, **ids)
def test_reads(shared_org, resource):
    org, path = shared_org, f"/v1/{resource.plural}"
    for _ in range(2):
        record = existing(org, resource)
    relations = [*CATALOG.to_one(resource), *resource.many]
    for expand in [[name] for name in relations] or [[]]:
        params = {"expand": ",".join(expand)} if expand else {}
        conforms(org.admin.get(f"{path}/{record['id']}", params=params))
        conforms(org.admin.get(path, params={**params, "limit": 100}))
        # those who see little get the stand-ins
        conforms(org.outsider.get(path, params=params))
    for count in ("none", "estimate", "exact"):
        found = conforms(org.admin.get(path, params={"count": count, "limit": 1}))
        assert found.status_code == 200
        assert ("count" in found.json()) == (count != "none")
    for name in [key for key in resource.sortable for key in (key, f"-{key}")]:
        page = conforms(org.admin.get(path, params={"sort": name, "limit": 1})).json()
        if page["next_cursor"]:
            assert conforms(org.admin.get(path, params={"sort": name, "limit": 1, "cursor": page["next_cursor"]}))
    if "search" in resource.operations:
        for body in ({}, {"count": "exact", "limit": 1}, {"expand": relations[:5]}, {"fields": ["redacted"]}):
            assert conforms(org.admin.post(f"{path}/search", json=body)).status_code == 200
        for name in resource.output.model_fields:
            assert conforms(org.admin.post(f"{path}/search", json={"fields": [name]})).status_code == 200
        for name in CATALOG.to_one(resource):
            sparse = conforms(org.admin.post(f"{path}/search", json={"fields": ["version"], "expand": [name]}))
            assert sparse.status_code == 200, sparse.text


@pytest.mark.parametrize("resource", [r for r in RESOURCES if "aggregate" in r.operations], **ids)
def test_aggregates(shared_org, resource):
    org, path = shared_org, f"/v1/{resource.plural}/aggregate"
    if resource.create:
        make(org, resource, **FULL.get(resource.plural, {}))
    for name, kind in resource.filterable.items():
        if kind == "values":
            continue
        answer = conforms(org.admin.post(path, json={"group_by": [name], "measures": [{"op": "count"}]}))
        assert answer.status_code == 200, answer.text
        if kind == "money":
            groups = [row["group"][name] for row in answer.json()["data"]]
            assert all(value is None or isinstance(value, str) for value in groups), "amounts are decimal strings"
        ops = {"money": 4, "integer": 4, "ratio": 4, "date": 2, "instant": 2}.get(kind, 0)
        for op in ("min", "max", "sum", "avg")[:ops]:
            answer = conforms(org.admin.post(path, json={"measures": [{"op": op, "field": name}]}))
            assert answer.status_code == 200, answer.text
            assert len(answer.json()["data"]) == 1


@pytest.mark.parametrize("resource", RESOURCES, **ids)
def test_problems(shared_org, server, resource):
    org, path, nobody = shared_org, f"/v1/{resource.plural}", anonymous(server.base_url)
    record = existing(org, resource)
    absent = "019aa1c2-7d3e-7c41-b1f2-3f6d1b0a9e55"
    for operation in operations(resource):
        url = operation.path.replace("{id}", record["id"])
        method = operation.method
        assert conforms(nobody.request(method, url)).status_code == 401
        refused = conforms(org.admin.request(method, url, params={"no_such_parameter": "1"}))
        assert refused.status_code == 422, refused.text
        if "{id}" in operation.path and operation.kind not in ("create", "update", "upsert"):
            gone = operation.path.replace("{id}", absent)
            taken = _taken(operation)
            body = {"json": _sample(taken)} if taken else {}
            assert conforms(org.admin.request(method, gone, **body)).status_code == 404
            assert conforms(org.admin.request(method, operation.path.replace("{id}", "x"), **body)).status_code == 404
        url = url.replace(record["id"], "ext:erp:1") if operation.kind == "upsert" else url
        if operation.kind in ("create", "update", "upsert", "search", "aggregate"):
            json_ = {"content-type": "application/json"}
            assert conforms(org.admin.request(method, url, content=b"{", headers=json_)).status_code == 400
            twice = b'{"a": 1, "a": 2}'
            assert conforms(org.admin.request(method, url, content=twice, headers=json_)).status_code == 400
            assert conforms(org.admin.request(method, url, content=b"<a/>")).status_code == 415
            assert conforms(org.admin.request(method, url, json={"no_such_field": 1})).status_code == 422
            assert (
                conforms(org.admin.request(method, url, content=b'"' + b"x" * 2**21 + b'"', headers=json_)).status_code
                == 413
            )
        if operation.kind in ("create", "update", "upsert", "delete", "restore", "edge", "action") and method != "GET":
            wrong = {"Idempotency-Key": "with space"}
            assert conforms(org.admin.request(method, url, headers=wrong, json=_body(operation))).status_code in (
                400,
                422,
            )
            if operation.kind != "action":
                assert conforms(org.reader.request(method, url, json=_body(operation))).status_code in (403, 404)
    assert conforms(org.admin.get(path, params={"cursor": "AAAA"})).status_code == 400
    assert conforms(org.admin.get(path, params={"limit": "0"})).status_code == 422
    assert conforms(org.admin.get(path, params={"filter": "x" * 9000})).status_code == 414


def _taken(operation):
    """The schema of what a verb takes, if anything."""
    if operation.kind == "edge":
        return operation.resource.lifecycle.edge(operation.path.rpartition("/")[2]).body
    return operation.action.body if operation.action else None


def _sample(model):
    from crm_api.kernel.examples import sample

    return sample(model)


def _body(operation):
    if taken := _taken(operation):
        return _sample(taken)
    return {} if operation.kind in ("update", "upsert", "action", "edge") else None


def test_verbs(org):
    one = f"/v1/accounts/{make(org, CATALOG.resources['accounts'])['id']}"
    assert conforms(org.admin.get(f"{one}/transitions")).status_code == 200
    for verb, status in (("activate", 200), ("activate", 409), ("mark_at_risk", 200), ("deactivate", 200)):
        assert conforms(org.admin.post(f"{one}/{verb}")).status_code == status
    assert conforms(org.admin.post(f"{one}/block", json={"reason": "late"})).json()["is_blocked"] is True
    assert conforms(org.admin.post(f"{one}/block", json={"reason": "late"})).status_code == 409
    assert conforms(org.admin.post(f"{one}/block", json={})).status_code == 422
    assert conforms(org.admin.post(f"{one}/unblock", headers={"If-Match": '"1"'})).status_code == 412
    assert conforms(org.admin.post(f"{one}/unblock", params={"dry_run": "true"})).status_code == 200
    assert conforms(org.admin.post(f"{one}/unblock")).json()["is_blocked"] is False
    share = {"grantee_type": "user", "grantee_id": org.outsider.id, "level": "read"}
    given = conforms(org.admin.post(f"{one}/share", json=share))
    assert given.status_code == 201
    assert conforms(org.outsider.get(one)).status_code == 200
    assert conforms(org.outsider.patch(one, json={"name": "Mine"})).status_code == 403
    assert len(conforms(org.admin.get(f"{one}/shares")).json()["data"]) == 1
    assert conforms(org.admin.post(f"{one}/unshare", json={"share_id": given.json()["id"]})).status_code == 200
    assert conforms(org.outsider.get(one)).status_code == 404


def test_external_ids(org):
    owned = [{"resource": "accounts", "field": "name"}]
    source = conforms(org.admin.post("/v1/sources", json={"name": "ERP", "code": "erp"})).json()
    one, name = "/v1/accounts/ext:erp:4711%2Fa", {"name": "Kaufmann"}
    key = {"Idempotency-Key": "upsert"}
    assert conforms(org.admin.put(one, json=name, params={"dry_run": "true"})).status_code == 201
    assert conforms(org.admin.put(one, json=name, headers=key)).status_code == 201
    assert conforms(org.admin.put(one, json=name, headers=key)).headers["idempotency-replayed"] == "true"
    assert conforms(org.admin.put(one, json=name)).json()["external_ids"] == {"erp": "4711/a"}
    assert conforms(org.admin.put(one, json=name, headers={"Prefer": "return=minimal"})).status_code == 204
    assert conforms(org.admin.put(one, json=name, headers={"If-Match": '"7"'})).status_code == 412
    assert conforms(org.admin.put("/v1/accounts/ext:shop:1", json=name)).status_code == 422
    assert conforms(org.admin.get(one)).status_code == 200
    assert conforms(org.outsider.put(one, json=name)).status_code == 404
    assert conforms(org.reader.put(one, json=name)).status_code == 403
    patch = {"owned_fields": owned, "on_conflict": "refuse"}
    assert conforms(org.admin.patch(f"/v1/sources/{source['id']}", json=patch)).status_code == 200
    refused = conforms(org.admin.patch(one, json={"name": "Mine"}))
    assert (refused.status_code, refused.json()["source"]) == (409, "erp")
    assert conforms(org.admin.patch(f"/v1/sources/{source['id']}", json={"on_conflict": "ignore"})).status_code == 200
    for method in ("PATCH", "PUT"):
        for headers in ({}, {"Prefer": "return=minimal"}):
            ignored = conforms(org.admin.request(method, one, json={"name": "Mine"}, headers=headers))
            assert ignored.headers["ignored-fields"] == "name;source=erp"
    link = {"source": "erp", "external_id": "4712"}
    assert conforms(org.admin.post(f"{one}/link", json=link)).status_code == 409
    assert conforms(org.admin.post(f"{one}/unlink", json={"source": "erp"})).status_code == 200
    assert conforms(org.admin.put(one, json={"tier": "A"})).status_code == 422


def test_keys(org):
    one = f"/v1/users/{org.rep.id}"
    first = {"name": "second key", "scopes": ["accounts:read"], "allowed_networks": ["192.0.2.0/24"]}
    key = {"Idempotency-Key": "a-key"}
    issued = conforms(org.admin.post(f"{one}/issue_key", json=first, headers=key))
    assert issued.status_code == 201
    assert issued.json()["key"].startswith("crm_")
    replay = conforms(org.admin.post(f"{one}/issue_key", json=first, headers=key))
    assert (replay.status_code, "key" in replay.json()) == (201, False)
    assert conforms(org.admin.post(f"{one}/issue_key", json={"name": "third"})).status_code == 409
    keys = f"/v1/api_keys/{issued.json()['id']}"
    assert conforms(org.admin.get(keys)).status_code == 200
    assert conforms(org.admin.post(f"{keys}/revoke")).status_code == 200
    assert conforms(org.admin.post(f"{keys}/revoke")).status_code == 409


def test_what_is_hidden_is_declared_nullable(org):
    """A role that hides all it may hide: whatever is sent then still conforms."""
    for plural in ("accounts", "contacts"):
        resource = CATALOG.resources[plural]
        rules = [{"resource": plural, "field": name, "rule": "hidden"} for name in sorted(resource.hideable)]
        role = org.role(f"blind {plural}", (f"{plural}:read", "all"), field_rules=rules)
        blind = org.person(f"blind_{plural}", role)
        record = make(org, resource, **FULL[plural])
        seen = conforms(blind.get(f"/v1/{plural}/{record['id']}")).json()
        assert set(seen["redacted"]) == resource.hideable & set(resource.columns)
        assert all(seen[name] is None for name in seen["redacted"])
        conforms(blind.get(f"/v1/{plural}"))
        conforms(blind.post(f"/v1/{plural}/search", json={"fields": ["country", "version"]}))


def test_expansion_of_what_cannot_be_seen(org):
    account = make(org, CATALOG.resources["accounts"])
    contact = org.rep.make("contacts", last_name="Own")
    assert conforms(org.admin.patch(f"/v1/contacts/{contact['id']}", json={"account_id": account["id"]}))
    stand_in = conforms(org.rep.get(f"/v1/contacts/{contact['id']}", params={"expand": "account,account.owner"})).json()
    assert stand_in["account"] == {"id": account["id"], "object": "account", "redacted": True}
    whole = conforms(org.admin.get(f"/v1/contacts/{contact['id']}", params={"expand": "account.parent,owner"})).json()
    assert whole["account"]["parent"] is None
    assert whole["owner"]["object"] == "principal"


def test_hand_written_routes(org, server):
    import httpx2

    assert conforms(org.rep.get("/v1/me")).json()["object"] == "me"
    params = {"resource": "accounts", "id": make(org, CATALOG.resources["accounts"])["id"]}
    assert conforms(org.admin.get("/v1/access/explain", params=params)).json()["allowed"] is True
    for_rep = {**params, "principal": org.rep.id}
    assert conforms(org.admin.get("/v1/access/explain", params=for_rep)).json()["allowed"] is False
    assert conforms(org.rep.get("/v1/access/explain", params={**params, "principal": org.admin.id})).status_code == 403
    assert conforms(org.rep.get("/v1/access/explain", params=params)).status_code == 404
    assert conforms(org.rep.get("/v1/access/explain")).status_code == 422
    for path in ("/healthz", "/readyz"):
        assert conforms(httpx2.get(server.base_url + path)).json() == {"status": "ok"}
