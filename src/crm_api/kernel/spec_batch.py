"""The contract of batches: typed items for one collection, operations by name for any."""

from typing import Any

from crm_api.kernel.batch_references import NAME_PATTERN, REFERENCE_PATTERN, SIGN
from crm_api.kernel.batch_requests import MAX_ID, MAX_ITEMS, MAX_OPERATIONS, MAX_VERSION, batched
from crm_api.kernel.domain import Catalog
from crm_api.kernel.examples import SAMPLE_ID, sample
from crm_api.kernel.headers import ANY
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import EXTERNAL_PATTERN, LONGEST_REF, UUID_PATTERN
from crm_api.kernel.spec_parameters import JSON, parameter, problems, reply
from crm_api.kernel.spec_security import needs
from crm_api.kernel.spec_style import JsonSchema, a, array, name_of, noun, nouns, ref
from crm_api.kernel.writes import Write, writes_by_name

_UUID = {"type": "string", "pattern": UUID_PATTERN, "minLength": 36, "maxLength": 36}
_ID = {"type": "string", "minLength": 1, "maxLength": MAX_ID}
_EXTERNAL = {"type": "string", "pattern": EXTERNAL_PATTERN, "minLength": 7, "maxLength": LONGEST_REF}
_VERSION = {"type": "integer", "minimum": 1, "maximum": MAX_VERSION}
_EXPECTED: list[JsonSchema] = [_VERSION, {"type": "string", "const": ANY}]
_MODE = {
    "type": "string",
    "enum": ["atomic", "partial"],
    "default": "atomic",
    "description": "`atomic`: all or nothing, in one transaction. `partial`: each by itself; 207 when one is refused.",
}
_STATUS = {"type": "integer", "minimum": 200, "maximum": 599, "description": "The status that it would have had alone."}


def _object(description: str, properties: dict[str, JsonSchema], *required: str) -> JsonSchema:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _reply(description: str, properties: dict[str, JsonSchema], *required: str) -> JsonSchema:
    """Replies may gain members."""
    return {"type": "object", "description": description, "properties": properties, "required": list(required)}


def _item(write: Write) -> JsonSchema:
    properties: dict[str, JsonSchema] = {"op": {"type": "string", "const": write.kind}}
    required = ["op"]
    if not write.creates:
        properties["id"] = _EXTERNAL if write.kind == "upsert" else _ID
        properties["if_match"] = {
            "description": "The version you read; 412 when there is another by now. `*` expects any.",
            "anyOf": _EXPECTED,
        }
        required += ["id", "if_match"] if write.strict else ["id"]
    if write.model is not None:
        properties["body"] = ref(name_of(write.model))
        required.append("body")
    return _object(f"{write.kind.capitalize()} {a(noun(write.resource))}.", properties, *required)


def collection_batch(resource: Resource) -> dict[str, JsonSchema]:
    """The schemas of `POST /v1/{collection}/batch`; none where there is nothing to batch."""
    known, name = batched(resource), name_of(resource.output)
    if not known:
        return {}
    found = {f"{name}Batch{kind.capitalize()}": _item(write) for kind, write in known.items()}
    found[f"{name}BatchItem"] = {
        "description": "One write; `op` says which.",
        "oneOf": [ref(item) for item in found],
        "discriminator": {
            "propertyName": "op",
            "mapping": {kind: ref(f"{name}Batch{kind.capitalize()}")["$ref"] for kind in known},
        },
    }
    items = array(ref(f"{name}BatchItem"), MAX_ITEMS, minItems=1)
    found[f"{name}Batch"] = _object(f"Writes of {nouns(resource)}.", {"mode": _MODE, "items": items}, "items")
    found |= _results(f"{name}Batch", "items", ref(name), MAX_ITEMS)
    return found


def _results(prefix: str, what: str, body: JsonSchema, most: int, **more: JsonSchema) -> dict[str, JsonSchema]:
    result = {
        **more,
        "status": _STATUS,
        "id": {**_UUID, "description": "The record that was written."},
        "version": {**_VERSION, "description": "Its version, when the answer to the write alone is the record."},
        "ignored": {
            "type": "object",
            "description": "Fields that were left out, each with the source that owns it.",
            "additionalProperties": {"type": "string", "maxLength": 63},
        },
        "body": {"description": "What the write alone would have answered, when it has a body.", **body},
        "problem": {"description": "Why it was refused.", **ref("Problem")},
    }
    results = {
        "transaction_id": {**_UUID, "description": "That of all events, when the batch is atomic and no dry run."},
        "results": array(ref(f"{prefix}Result"), most, minItems=1),
    }
    return {
        f"{prefix}Result": _reply("What became of one: a `problem`, or the status and body.", result, "status"),
        f"{prefix}Results": _reply(f"What became of the {what}, in their order.", results, "results"),
    }


def any_batch(catalog: Catalog) -> dict[str, JsonSchema]:
    """The schemas of `POST /v1/batch`."""
    known = writes_by_name(catalog)
    bodies = {
        name_of(write.action.reply if write.action and write.action.reply else write.resource.output)
        for write in known.values()
        if write.kind != "delete"
    }
    operation: dict[str, JsonSchema] = {
        "ref": {
            "type": "string",
            "pattern": NAME_PATTERN,
            "maxLength": 40,
            "description": "A name by which later operations refer to this one.",
        },
        "operation": {"type": "string", "enum": sorted(known), "description": "The operation id of the write."},
        "id": {
            "description": "The record, unless it is created; its id or a reference.",
            "anyOf": [_ID, ref("BatchReference")],
        },
        "if_match": {
            "description": "The version you read, or a reference; 412 when there is another by now. `*` expects any.",
            "anyOf": [*_EXPECTED, ref("BatchReference")],
        },
        "body": {
            "type": "object",
            "description": "What the operation takes alone. Any value in it may be a `BatchReference`.",
        },
    }
    name = {"type": "string", "maxLength": 40, "description": "The name that the operation has."}
    return {
        "BatchReference": {
            "type": "object",
            "description": f'`{{"{SIGN}": "acc.id"}}` stands for the field `id` of what the operation with the `ref` '
            "`acc` answers, which stands further up.",
            "propertyNames": {"const": SIGN},
            "additionalProperties": {"type": "string", "pattern": REFERENCE_PATTERN, "maxLength": 104},
            "minProperties": 1,
            "maxProperties": 1,
        },
        "BatchOperation": _object("One write, by its operation id.", operation, "operation"),
        "Batch": _object(
            "Writes of any records, in this order.",
            {"mode": _MODE, "operations": array(ref("BatchOperation"), MAX_OPERATIONS, minItems=1)},
            "operations",
        ),
        "BatchBody": {
            "description": "What a write answers; `object` says which.",
            "anyOf": [ref(body) for body in sorted(bodies)],
        },
        **_results("Batch", "operations", ref("BatchBody"), MAX_OPERATIONS, ref=name),
    }


def batch_example(resource: Resource) -> dict[str, Any]:
    """An item that the schema takes."""
    write = next(iter(batched(resource).values()))
    found: dict[str, Any] = {"op": write.kind}
    if not write.creates:
        found |= {"id": SAMPLE_ID, "if_match": 1}
    if write.model is not None:
        found["body"] = sample(write.model)
    return found


def batch_replies(schema: str) -> dict[str, dict[str, Any]]:
    """What a batch answers when it was run."""
    headers = ("Idempotency-Replayed", "Preference-Applied")
    return {
        "200": reply("All were done.", schema, *headers),
        "207": reply("Some were refused; with `mode` partial only.", schema, *headers),
    }


def run_batch(catalog: Catalog) -> dict[str, Any]:
    """The path item of `/v1/batch`."""
    creates = [write for write in writes_by_name(catalog).values() if write.creates and write.model is not None]
    write = next((write for write in creates if write.resource.owned), creates[0])
    assert write.model is not None  # noqa: S101 - narrows the type
    example = {"ref": "first", "operation": write.operation_id, "body": sample(write.model)}
    media = {"schema": ref("Batch"), "examples": {"minimal": {"value": {"operations": [example]}}}}
    operation = {
        "operationId": "run_batch",
        "summary": "Run several writes, of any records",
        "description": "Writes and verbs, in the order given: all of them in one transaction, or with `mode` partial "
        "each by itself. An operation may refer to what an earlier one answers, as `BatchReference` says. Each needs "
        "the permission that it would need alone.",
        "tags": ["batch"],
        "security": needs(),
        "parameters": [parameter(name) for name in ("DryRun", "AllowDuplicate", "IdempotencyKey", "Prefer")],
        "requestBody": {"required": True, "content": {JSON: media}},
        "responses": {
            **batch_replies("BatchResults"),
            **problems(400, 401, 403, 404, 409, 412, 413, 414, 415, 422, 428, 429, 500, 503),
        },
    }
    return {"post": operation}
