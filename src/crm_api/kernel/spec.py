"""The OpenAPI document, derived from the declarations and the hand-written routers."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from crm_api import __version__
from crm_api.kernel import spec_collective, spec_webhooks
from crm_api.kernel.collective import CollectiveOperation, collective_operations
from crm_api.kernel.domain import Catalog
from crm_api.kernel.duplicates_requests import DuplicateList
from crm_api.kernel.duplicates_scan import ScanRequest
from crm_api.kernel.examples import SAMPLE_ID, sample
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.router import Operation, operations
from crm_api.kernel.spec_batch import batch_example, batch_replies, run_batch
from crm_api.kernel.spec_deprecation import mark
from crm_api.kernel.spec_events import envelopes, examples, kinds
from crm_api.kernel.spec_examples import show
from crm_api.kernel.spec_parameters import (
    HEADERS,
    JSON,
    PARAMETERS,
    RESPONSES,
    as_of_parameter,
    expand_parameter,
    list_parameters,
    parameter,
    problems,
    reply,
)
from crm_api.kernel.spec_routes import merge, probes
from crm_api.kernel.spec_schemas import collect
from crm_api.kernel.spec_security import merge_pages, needs, schemes
from crm_api.kernel.spec_style import a, name_of, noun, nouns, ref, sized
from crm_api.kernel.spec_webhooks import webhooks

_ALWAYS = (400, 401, 403, 414, 422, 429, 500, 503)
_WRITE = ("DryRun", "IdempotencyKey")
_DESCRIPTION = """\
Records are read and written under `/v1/{collection}`; verbs move them. Every GET answers HEAD too. Errors are RFC 9457
problems. Ids are UUIDv7 and may be chosen by the client; `ext:{source}:{external_id}`, the id of another system, stands
for one anywhere. Amounts are decimal strings. Lists page by cursor. An unknown parameter or field is refused with 422.
Readers must accept members and enumeration values they do not know."""
_SUMMARY = {
    "list": "List {many}",
    "within": "List {many} of {parent}",
    "create": "Create {one}",
    "search": "Search {many} with a filter tree",
    "aggregate": "Count and sum {many} by groups",
    "batch": "Write many {many} at once",
    "get": "Get {one}",
    "update": "Change {one}",
    "delete": "Delete {one}",
    "upsert": "Create or change {one} by its external id",
    "restore": "Restore a deleted {bare}",
    "duplicates": "Find {many} that may mean the same",
    "scan": "Find all {many} that may mean the same",
    "transitions": "List what can be done with {one} now",
}
_DETAIL = {
    "list": "Pages through the rows the caller may see.",
    "within": "Pages through the rows of one record, which the caller must see; like the whole list otherwise.",
    "create": "The reply is the whole record. An id may be given; otherwise the server makes one.",
    "search": "Like the list, with the full filter language and only the fields asked for.",
    "aggregate": "Measures over the rows the caller may see, in groups of equal values.",
    "batch": "Creates, changes and deletes: all of them, or with `mode` partial each by itself. Each item needs the "
    "permission that it would need alone.",
    "get": "The whole record; fields hidden from the caller are null and named in `redacted`.",
    "update": "A JSON merge patch (RFC 7396): absent keeps, null clears.",
    "delete": "The record is gone from every read and its unique values are free; it can be restored.",
    "upsert": "Creates the record with this external id, or changes it as a merge patch would: absent keeps, null "
    "clears. Of several requests at once one creates. 404 when it exists but is hidden from the caller.",
    "duplicates": "By names, addresses and numbers; the most likely first. Only records and fields that the caller may "
    "see count.",
    "scan": "Starts a job that compares the records the caller sees with each other; its result holds `pairs`.",
    "restore": "409 when a live record has taken a unique value meanwhile.",
    "transitions": "Each action of the state graph, whether it is open to the caller, and if not, why.",
}


@cache
def shared_document(catalog: Catalog) -> Mapping[str, Any]:
    """The contract, made once for a process; to be read only."""
    return document(catalog)


def document(catalog: Catalog) -> dict[str, Any]:
    """The contract as OpenAPI 3.1.1."""
    found = [operation for resource in catalog.resources.values() for operation in operations(resource)]
    found += collective_operations(catalog)
    schemas = collect(catalog, {id(item.action): item.action for item in found if item.action}.values())
    schemas |= spec_collective.schemas(catalog)
    routes: dict[str, dict[str, Any]] = {}
    for operation in found:
        routes.setdefault(operation.path, {})[operation.method.lower()] = _operation(catalog, operation)
    for domain in catalog.domains:
        for router in domain.routers:
            merge(routes, schemas, router, domain.name)
        for router in domain.pages:
            merge_pages(routes, schemas, router, domain.name)
    told = kinds(catalog, schemas)
    schemas |= envelopes(told)
    whole: dict[str, Any] = {
        "openapi": "3.1.1",
        "info": {"title": "CRM API", "version": __version__, "description": _DESCRIPTION},
        "servers": [{"url": "/", "description": "This server."}],
        "tags": [
            *(
                {"name": item.name, "description": _tag(item.resources)}
                for item in catalog.domains
                if item.resources or item.routers
            ),
            {"name": "batch", "description": "Several writes in one request."},
            {"name": "operations", "description": "For those who run the server."},
        ],
        "paths": dict(sorted({**routes, "/v1/batch": run_batch(catalog), **probes()}.items())),
        "webhooks": dict(sorted(webhooks(told).items())),
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "parameters": PARAMETERS | spec_webhooks.PARAMETERS,
            "headers": HEADERS,
            "responses": RESPONSES | spec_webhooks.RESPONSES,
            "examples": {name: {"value": value} for name, value in examples(told).items()},
            "securitySchemes": schemes(catalog),
        },
    }
    whole = sized(whole)
    show(catalog, whole)
    mark(catalog, whole)
    return whole


def _tag(resources: tuple[Resource, ...]) -> str:
    return f"{', '.join(nouns(resource) for resource in resources) or 'over all records'}.".capitalize()


def _operation(catalog: Catalog, operation: Operation) -> dict[str, Any]:
    resource, kind = operation.resource, operation.kind
    above = ""
    words = {"one": a(noun(resource)), "many": nouns(resource), "bare": noun(resource)}
    verb = operation.path.rsplit("/", 1)[-1]
    if (parent := catalog.target(resource, _column(operation))) is not None:
        words["parent"], above = a(noun(parent)), f"`{parent.plural}:read` and "
    summary = _SUMMARY.get(kind, "{verb} {one}").format(**words, verb=verb.replace("_", " ").capitalize())
    detail = _DETAIL.get(kind, "")
    if kind == "edge" and resource.lifecycle and (edge := resource.lifecycle.edge(verb)):
        detail = f"Moves the {resource.lifecycle.column} from {_either(edge.sources)} to {' or '.join(edge.targets)}."
    if operation.action:
        summary, detail = operation.action.summary.format(**words), _first_line(operation.action)
    if isinstance(operation, CollectiveOperation):
        summary, detail = operation.verb.summary.format(**words), spec_collective.DETAIL
    asked, scopes = "", []
    if operation.permission:
        permission = f"permission {above}`{operation.permission}`"
        if kind == "upsert":
            permission += f" to create, `{resource.plural}:update` to change,"
        scope = {"read": "read", "delete": "delete"}.get(operation.permission.split(":")[1], "write")
        scopes = [f"{resource.domain}:{scope}"]
        asked = f"Needs the {permission} and, where the credential is bounded, the scope `{scopes[0]}`."
    found: dict[str, Any] = {
        "operationId": operation.operation_id,
        "summary": summary,
        "description": f"{detail} {asked}".strip(),
        "tags": [resource.domain],
        "security": needs(*scopes),
        "parameters": _parameters(catalog, operation),
        "responses": _responses(operation),
    }
    if (body := _body(operation)) is not None:
        found["requestBody"] = body
    return {key: value for key, value in found.items() if value != []}


def _column(operation: Operation) -> str:
    """The reference to the record in the path of a list below it; of other operations none."""
    ends = {f"/{{id}}/{step}": column for column, step in operation.resource.within.items()}
    return next((column for end, column in ends.items() if operation.path.endswith(end)), "")


def _either(names: frozenset[str]) -> str:
    *rest, last = sorted(names)
    return f"{', '.join(rest)} or {last}" if rest else last


def _first_line(action: Action) -> str:
    return (action.run.__doc__ or f"{action.summary}.").strip().splitlines()[0]


def _writes(operation: Operation) -> bool:
    return operation.method != "GET" and operation.kind not in ("search", "aggregate", "duplicates", "scan")


def _matches(operation: Operation) -> bool:
    return operation.kind in ("update", "upsert", "delete", "edge", "batch") or (
        operation.kind == "action" and _writes(operation)
    )


def _parameters(catalog: Catalog, operation: Operation) -> list[dict[str, Any]]:
    resource, kind = operation.resource, operation.kind
    found: list[dict[str, Any]] = []
    if "{id}" in operation.path:
        found.append(parameter("ExternalId" if kind == "upsert" else "Id"))
    if kind in ("list", "within"):
        return [*found, *list_parameters(catalog, resource, _column(operation))]
    if kind == "get":
        return [*found, *expand_parameter(catalog, resource), *as_of_parameter(resource), parameter("IfNoneMatch")]
    if kind in ("search", "aggregate"):
        return as_of_parameter(resource)
    if _writes(operation):
        found += [parameter(name) for name in _WRITE]
        if resource.duplicates and kind in ("create", "upsert", "batch"):
            found.append(parameter("AllowDuplicate"))
    if _matches(operation) and kind != "batch":
        strict = resource.require_match and kind in ("update", "delete")  # an upsert may create
        found.append(parameter("IfMatchRequired" if strict else "IfMatch"))
    if kind in ("create", "update", "upsert", "restore", "edge", "batch") or (
        operation.action and operation.action.reply is None
    ):
        found.append(parameter("Prefer"))
    return found


def _body(operation: Operation) -> dict[str, Any] | None:
    resource, kind = operation.resource, operation.kind
    name = name_of(resource.output)
    if isinstance(operation, CollectiveOperation):
        example = sample(operation.verb.body) | {"ids": [SAMPLE_ID]}
        return _content(spec_collective.body_name(operation.verb, resource), example, required=True)
    if kind == "search":
        return _content(f"{name}Search", {"limit": 20, "count": "none"}, required=True)
    if kind == "aggregate":
        return _content(f"{name}Aggregate", {"measures": [{"op": "count"}]}, required=True)
    if kind == "duplicates" and operation.method == "POST":
        assert resource.update is not None  # noqa: S101 - what has rules can be changed
        return _content(name_of(resource.update), {}, required=True)
    if kind == "scan":
        return _content(name_of(ScanRequest), {"score": 70}, required=False)
    if kind == "batch":
        return _content(f"{name}Batch", {"items": [batch_example(resource)]}, required=True)
    if kind in ("create", "upsert") and resource.create:
        return _content(name_of(resource.create), sample(resource.create), required=True)
    if kind == "update" and resource.update and resource.create:
        values = sample(resource.create)
        changed = {key: value for key, value in list(values.items())[:1] if key in resource.update.model_fields}
        body = _content(name_of(resource.update), changed, required=True)
        body["content"]["application/merge-patch+json"] = body["content"][JSON]
        return body
    if operation.action and operation.action.body:
        values = sample(operation.action.body)
        return _content(name_of(operation.action.body), values, required=bool(values))
    return None


def _content(schema: str, example: dict[str, Any], *, required: bool) -> dict[str, Any]:
    media = {"schema": ref(schema), "examples": {"minimal": {"value": example}}}
    return {"required": required, "content": {JSON: media}}


def _responses(operation: Operation) -> dict[str, Any]:
    resource, kind = operation.resource, operation.kind
    statuses = set(_ALWAYS) | ({409} if kind == "scan" else set())
    if "{id}" in operation.path or _writes(operation):
        statuses.add(404)
    if _writes(operation):
        statuses.add(409)
    if operation.method in ("POST", "PATCH", "PUT") and kind != "restore":
        statuses |= {413, 415}
    if _matches(operation):
        statuses.add(412)
    if resource.require_match and kind in ("update", "upsert", "delete", "batch"):
        statuses.add(428)
    return {**dict(sorted(_success(operation).items())), **problems(*statuses)}


def _success(operation: Operation) -> dict[str, Any]:
    resource, kind, action = operation.resource, operation.kind, operation.action
    name = name_of(resource.output)
    replayed = ("Idempotency-Replayed",) if _writes(operation) else ()
    if isinstance(operation, CollectiveOperation):
        return spec_collective.replies(operation.verb, *replayed)
    record = reply("The record.", name, "ETag", *replayed)
    merged = reply("The record.", name, "ETag", "Ignored-Fields", *replayed)
    nothing = reply("Done; no body was wanted.", None, "ETag", "Ignored-Fields", "Preference-Applied", *replayed)
    no_body = reply("Done; no body was wanted.", None, "ETag", "Preference-Applied", *replayed)
    unchanged = reply("The version named by If-None-Match is the present one.", None, "ETag")
    created = reply(
        "Created. The body is absent with `Prefer: return=minimal`.",
        name,
        "ETag",
        "Location",
        "Preference-Applied",
        *replayed,
    )
    page = reply("A page.", f"{name}List", "Link")
    derived: dict[str, dict[str, Any]] = {
        "list": {"200": page},
        "within": {"200": page},
        "search": {"200": reply("A page.", f"Sparse{name}List")},
        "aggregate": {"200": reply("The groups.", "AggregateResult")},
        "get": {"200": record, "304": unchanged},
        "duplicates": {"200": reply("What was found.", name_of(DuplicateList))},
        "scan": {"202": reply("Accepted: a job does it.", "Job", "Location", "Retry-After")},
        "create": {"201": {**created, "links": _links(resource)}},
        "update": {"200": merged, "204": nothing},
        "upsert": {"200": merged, "201": created, "204": nothing},
        "restore": {"200": record, "204": no_body},
        "delete": {"204": reply("Deleted.", None, *replayed)},
        "edge": {"200": record, "204": no_body},
        "batch": batch_replies(f"{name}BatchResults"),
        "transitions": {"200": reply("The actions.", "TransitionList")},
    }
    if kind == "get" and "merge" in resource.verbs:
        derived["get"]["308"] = {"$ref": "#/components/responses/Merged"}
    if action is None:
        return derived[kind]
    if action.reply is None:
        return {str(action.status): record, "204": no_body}
    if action.status == 202:
        started = reply("Accepted: a job does it.", name_of(action.reply), "Location", "Retry-After", *replayed)
        return {"202": started}
    return {str(action.status): reply("Done.", name_of(action.reply), *replayed)}


def _links(resource: Resource) -> dict[str, Any]:
    return {
        item.operation_id: {"operationId": item.operation_id, "parameters": {"id": "$response.body#/id"}}
        for item in operations(resource)
        if item.path.startswith(f"/v1/{resource.plural}/{{id}}") and item.kind not in ("restore", "upsert")
    }
