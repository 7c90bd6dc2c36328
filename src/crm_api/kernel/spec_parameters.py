"""Parameters, headers and responses of the contract: the shared ones by name, the filters of a list by kind."""

from typing import Any

from crm_api.kernel.collections import MAX_LIMIT, MAX_PATHS, MAX_TEXT
from crm_api.kernel.domain import Catalog
from crm_api.kernel.edge import MAX_HEADER
from crm_api.kernel.filter_values import MAX_IN, OPERATORS
from crm_api.kernel.filters import choices, flat_parameters
from crm_api.kernel.paging import MAX_SORT_KEYS
from crm_api.kernel.problems import PROBLEM_JSON
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import EXTERNAL_PATTERN, LONGEST_REF, REF_PATTERN, UUID_PATTERN
from crm_api.kernel.spec_queries import paths, sort_key
from crm_api.kernel.spec_style import JsonSchema, array, ref

JSON = "application/json"
_ID = {"type": "string", "pattern": UUID_PATTERN, "minLength": 36, "maxLength": 36}
_REF = {"type": "string", "pattern": REF_PATTERN, "minLength": 7, "maxLength": LONGEST_REF}
_EXTERNAL = {"type": "string", "pattern": EXTERNAL_PATTERN, "minLength": 7, "maxLength": LONGEST_REF}
REFERENCE = _REF
KINDS: dict[str, JsonSchema] = {
    "id": _ID,
    "reference": _REF,
    "text": {"type": "string", "maxLength": 500},
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer"},
    "money": {"type": "string", "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,4})?$", "maxLength": 18},
    "ratio": {"type": "string", "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,6})?$", "maxLength": 20},
    "date": {"type": "string", "format": "date", "maxLength": 10},
    "instant": {"type": "string", "format": "date-time", "maxLength": 40},
    "values": {"type": "string", "maxLength": 500},
}
_MEANING = {
    "eq": "Equal; given several times, any of them.",
    "any": "Has any of these values.",
    "gt": "Greater than this.",
    "gte": "This or greater.",
    "lt": "Less than this.",
    "lte": "This or less.",
    "contains": "Contains this text.",
    "starts_with": "Starts with this text.",
    "is_null": "Whether it is empty.",
}


def _header(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string", **schema}}


def _query(name: str, description: str, schema: JsonSchema, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema, **more}


_MATCH = _header(
    "If-Match",
    "The ETag of the version you read; 412 when there is another by now.",
    pattern=r'^(\*|(W/)?"[0-9]{1,18}")$',
    maxLength=22,
)
PARAMETERS: dict[str, dict[str, Any]] = {
    "Id": {
        "name": "id",
        "in": "path",
        "required": True,
        "description": "The record's id, or an external id, `ext:{source}:{external_id}`, percent-encoded.",
        "schema": _REF,
    },
    "ExternalId": {
        "name": "id",
        "in": "path",
        "required": True,
        "description": "What a source calls the record, percent-encoded; at most 200 characters behind the source.",
        "schema": _EXTERNAL,
    },
    "Limit": _query("limit", "Rows of a page.", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 50}),
    "Cursor": _query(
        "cursor", "`next_cursor` of the page before.", {"type": "string", "minLength": 1, "maxLength": 2000}
    ),
    "Count": _query(
        "count",
        "Whether to count what matches; exact stops at 10,000, estimate at 1,000.",
        {"type": "string", "enum": ["none", "estimate", "exact"], "default": "none"},
    ),
    "Text": _query(
        "q",
        "Text to find, word by word, in any case and without accents; at least one word of three characters.",
        {"type": "string", "minLength": 3, "maxLength": MAX_TEXT},
    ),
    "DryRun": _query(
        "dry_run", "Checks everything and keeps nothing; no event is sent.", {"type": "boolean", "default": False}
    ),
    "AllowDuplicate": _query(
        "allow_duplicate",
        "Creates a record even if one that is there may mean the same.",
        {"type": "boolean", "default": False},
    ),
    "IfMatch": _MATCH,
    "IfMatchRequired": {**_MATCH, "required": True},
    "IfNoneMatch": _header("If-None-Match", "An ETag; 304 when the record still has it.", maxLength=MAX_HEADER),
    "IdempotencyKey": _header(
        "Idempotency-Key",
        "A key of your choice for this write: repeated with it, the write happens once and has one answer, also when "
        "it was refused for what is stored. Kept for 7 days.",
        pattern=r"^[\x21-\x7e]{1,255}$",
        minLength=1,
        maxLength=255,
    ),
    "Prefer": _header(
        "Prefer",
        "`return=minimal` leaves the body out of the reply (RFC 7240).",
        maxLength=MAX_HEADER,
    ),
}
HEADERS: dict[str, dict[str, Any]] = {
    name: {"description": description, "schema": {"type": "string", "maxLength": most}}
    for name, description, most in (
        ("X-Request-ID", "Finds the request in the server's log; yours, when you sent one of 8 to 64 characters.", 64),
        ("ETag", "The version of the record, for If-Match and If-None-Match.", 24),
        ("Location", "Path of the new record.", 200),
        ("Link", 'The next page, with rel="next"; absent on the last.', 9000),
        (
            "Ignored-Fields",
            "Fields left out, since another system owns them: `name;source=erp, ...`.",
            8192,
        ),
        ("Idempotency-Replayed", "`true` when this is the stored reply of the first request with the key.", 4),
        ("Preference-Applied", "`return=minimal` when it was honoured.", 40),
        ("Retry-After", "Seconds to wait.", 10),
        ("RateLimit", "What is left of each policy now; on what was asked with a credential.", 300),
        ("RateLimit-Policy", "The policies of the caller; on what was asked with a credential.", 300),
        ("WWW-Authenticate", "How to authenticate; of a 403, the scope that a token lacks.", 100),
    )
}
_EVERY = ("X-Request-ID", "RateLimit", "RateLimit-Policy")
PROBLEMS: dict[int, tuple[str, str, tuple[str, ...]]] = {
    308: ("Merged", "The record was merged into another: `merged_into`.", ("Location",)),
    400: ("BadRequest", "The body is not JSON, or a cursor or header is impossible or too long.", ()),
    401: ("Unauthenticated", "The credential is missing, wrong, expired or revoked.", ("WWW-Authenticate",)),
    403: ("Forbidden", "The caller lacks a permission, which `permission` names.", ("WWW-Authenticate",)),
    404: ("NotFound", "There is no such record, or none the caller may see.", ()),
    409: (
        "Conflict",
        "The request contradicts the present state; `code` says how.",
        ("Retry-After", "Idempotency-Replayed"),
    ),
    410: ("Gone", "It is not kept any more; `bootstrap` says where to begin again.", ()),
    412: ("PreconditionFailed", "The record was changed since it was read.", ("ETag",)),
    413: ("PayloadTooLarge", "The body is larger than allowed.", ()),
    414: ("UriTooLong", "Path and query are longer than allowed.", ()),
    415: ("UnsupportedMediaType", "The body is not JSON by its content type.", ()),
    422: ("Unprocessable", "A parameter or field is wrong; `errors` says which and why.", ("Idempotency-Replayed",)),
    428: ("PreconditionRequired", "This write needs If-Match.", ()),
    429: ("TooManyRequests", "The caller asks too often; `violated_policies` names by which limit.", ("Retry-After",)),
    500: ("ServerError", "The server failed; report the request id.", ()),
    503: ("Unavailable", "The server cannot answer now.", ("Retry-After",)),
}
RESPONSES: dict[str, dict[str, Any]] = {
    name: {
        "description": description,
        "headers": {header: {"$ref": f"#/components/headers/{header}"} for header in (*_EVERY, *headers)},
        "content": {PROBLEM_JSON: {"schema": ref("Problem")}},
    }
    for name, description, headers in PROBLEMS.values()
}


def parameter(name: str) -> dict[str, str]:
    """A reference to a shared parameter."""
    return {"$ref": f"#/components/parameters/{name}"}


def problems(*statuses: int) -> dict[str, dict[str, str]]:
    """References to the problem responses of these statuses."""
    return {str(status): {"$ref": f"#/components/responses/{PROBLEMS[status][0]}"} for status in sorted(statuses)}


def headers(*names: str) -> dict[str, dict[str, str]]:
    """References to response headers; some are on every response."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*_EVERY, *names)}


def reply(description: str, schema: str | None, *names: str) -> dict[str, Any]:
    """A successful response."""
    found: dict[str, Any] = {"description": description, "headers": headers(*names)}
    return {**found, "content": {JSON: {"schema": ref(schema)}}} if schema else found


def expand_parameter(catalog: Catalog, resource: Resource) -> list[dict[str, Any]]:
    """`expand`, where there is anything to expand."""
    known = paths(catalog, resource)
    schema = array({"type": "string", "enum": known}, MAX_PATHS)
    return (
        [_query("expand", "Related records to bring along; repeated, too.", schema, style="form", explode=False)]
        if known
        else []
    )


def as_of_parameter(resource: Resource) -> list[dict[str, Any]]:
    """`as_of`, where records can be read as they were."""
    schema = {"type": "string", "format": "date-time", "maxLength": 40}
    told = "As it was at this instant, which has passed; without what is related: no `expand`, no `q`, no `ETag`."
    return [_query("as_of", told, schema)] if resource.history else []


def list_parameters(catalog: Catalog, resource: Resource, column: str = "") -> list[dict[str, Any]]:
    """Everything that a list takes; a `column` that the path gives is no filter then."""
    sort = array(sort_key(resource), MAX_SORT_KEYS)
    return [
        parameter("Limit"),
        parameter("Cursor"),
        _query(
            "sort",
            "Newest first, unless told; `-` is descending; empty last; repeated, too.",
            sort,
            style="form",
            explode=False,
        ),
        *expand_parameter(catalog, resource),
        *as_of_parameter(resource),
        parameter("Count"),
        *([parameter("Text")] if resource.search else []),
        *(_filter(catalog, resource, name) for name, of in flat_parameters(resource).items() if of[0] != column),
    ]


def _filter(catalog: Catalog, resource: Resource, name: str) -> dict[str, Any]:
    field, op, kind = flat_parameters(resource)[name]
    any_ = field == (resource.any_reference or ("", ""))[1]
    refers = kind == "id" and (any_ or catalog.meant(resource, field) is not None)
    schema = dict(KINDS["boolean" if op == "is_null" else "reference" if refers else kind])
    if field in choices(resource) and op == "eq":
        schema = {"type": "string", "enum": sorted(choices(resource)[field])}
    hint = " An external id takes exactly one `object_type` beside it." if any_ and op == "eq" else ""
    return query_parameter(name, op, kind, schema, hint)


def query_parameter(name: str, op: str, kind: str, schema: JsonSchema, hint: str = "") -> dict[str, Any]:
    """The parameter of a list that compares a field of a kind by an operator with values of a schema."""
    if op == "any" or (op == "eq" and "in" in OPERATORS[kind]):
        several = array(schema, MAX_IN, minItems=1)
        return _query(name, _MEANING[op] + hint, several, style="form", explode=True)
    return _query(name, "Equal." if op == "eq" else _MEANING[op] + hint, schema)
