"""The contract is valid, committed as derived, complete, and in one style."""

import json
import re
from functools import cache
from pathlib import Path

import jsonschema
import orjson
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from crm_api.catalog import CATALOG
from crm_api.commands.openapi import drift
from crm_api.kernel.router import operations
from tests.support.contract import OPENAPI as DOCUMENT

COMMITTED = Path(__file__).parents[2] / "openapi" / "openapi.json"
OPERATIONS = [(path, method, item) for path, methods in DOCUMENT["paths"].items() for method, item in methods.items()]
WEBHOOKS = [(name, item["post"]) for name, item in DOCUMENT["webhooks"].items()]
NAMES = [f"{method.upper()} {path}" for path, method, _ in OPERATIONS]


def resolved(node):
    while "$ref" in node:
        target = DOCUMENT
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        node = target
    return node


def walk(node, pointer=""):
    """Every schema of the document with its place."""
    if isinstance(node, list):
        for i, item in enumerate(node):
            yield from walk(item, f"{pointer}/{i}")
    elif isinstance(node, dict):
        yield pointer, node
        for key, value in node.items():
            if key not in ("example", "examples", "default", "enum", "const"):
                yield from walk(value, f"{pointer}/{key}")


def schemas():
    """Everything in the document that is a schema: it has a type, a reference, or alternatives."""
    for pointer, node in walk(DOCUMENT):
        if pointer.endswith("/properties") or pointer.startswith("/components/securitySchemes"):
            continue
        if isinstance(node.get("type"), str | list) or "anyOf" in node or "oneOf" in node:
            yield pointer, node


def kinds(schema):
    kind = schema.get("type", [])
    return {kind} if isinstance(kind, str) else set(kind)


@pytest.mark.broad  # asked by `make contract`, too, and it takes ten seconds
def test_the_document_is_valid_openapi_3_1_1():
    assert DOCUMENT["openapi"] == "3.1.1"
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_the_committed_document_is_the_derived_one():
    assert drift(COMMITTED) == [], "run `crm-api openapi` and review the difference"


def test_what_is_served_is_the_document(server):
    import httpx2

    answer = httpx2.get(f"{server.base_url}/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == json.loads(orjson.dumps(DOCUMENT))


def test_every_operation_of_every_resource_is_described():
    routed = {(o.path, o.method.lower(), o.operation_id) for r in CATALOG.resources.values() for o in operations(r)}
    described = {(path, method, item["operationId"]) for path, method, item in OPERATIONS}
    assert routed <= described
    by_hand = {("/v1/me", "get", "get_me"), ("/v1/access/explain", "get", "explain_access")}
    assert by_hand <= described
    beside = ("/v1/", "/oauth/", "/.well-known/")
    assert all(path.startswith(beside) or path in ("/healthz", "/readyz") for path, _, _ in described)


def test_operation_ids_are_unique_and_snake_case():
    ids = [item["operationId"] for *_, item in (*OPERATIONS, *WEBHOOKS)]
    assert len(ids) == len(set(ids))
    assert [id_ for id_ in ids if not re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", id_)] == []


@pytest.mark.parametrize(("path", "method", "item"), OPERATIONS, ids=NAMES)
def test_an_operation_is_complete(path, method, item):
    assert item["summary"]
    assert len(item["description"]) > 20
    assert set(item["tags"]) <= {tag["name"] for tag in DOCUMENT["tags"]}
    assert item["tags"]
    if path.startswith("/v1/") or path == "/oauth/userinfo":
        key, token, found = item["security"]
        assert (key, list(token), list(found)) == ({"bearer": []}, ["oauth2"], ["openIdConnect"])
        known = DOCUMENT["components"]["securitySchemes"]["oauth2"]["flows"]["authorizationCode"]["scopes"]
        assert token["oauth2"] == found["openIdConnect"]
        assert set(token["oauth2"]) <= set(known)
    else:
        assert item["security"] == []
    names = [(resolved(p)["in"], resolved(p)["name"]) for p in item.get("parameters", ())]
    assert len(names) == len(set(names))
    assert {name for place, name in names if place == "path"} == set(re.findall(r"\{(\w+)\}", path))
    assert all(resolved(p)["description"] for p in item.get("parameters", ())), names
    for status, shared in item["responses"].items():
        response = resolved(shared)
        assert response["description"]
        assert "X-Request-ID" in response["headers"]
        for media, content in response.get("content", {}).items():
            if media in ("text/event-stream", "*/*"):
                assert path.endswith(("/stream", "/content", "/result"))
                continue
            if media == "application/pdf":
                assert path.endswith(("/pdf", "/preview"))
                continue
            assert set(content["schema"]) == {"$ref"}, "a reply has a named schema"
            problem = "$ref" in shared and path not in ("/healthz", "/readyz")
            assert problem or not path.startswith("/v1/") or int(status) < 308
            assert (media, content["schema"]["$ref"].endswith("/Problem")) == (
                ("application/problem+json", True) if problem else ("application/json", False)
            )


@pytest.mark.parametrize(
    ("path", "method", "item"),
    [entry for entry in OPERATIONS if "requestBody" in entry[2]],
    ids=[name for name, entry in zip(NAMES, OPERATIONS, strict=True) if "requestBody" in entry[2]],
)
def test_a_body_is_named_and_its_examples_are_valid(path, method, item):
    if set(item["requestBody"]["content"]) == {"application/octet-stream"}:
        return  # the bytes of a file
    media = "application/x-www-form-urlencoded" if path.startswith("/oauth/") else "application/json"
    assert media in item["requestBody"]["content"]
    for content in item["requestBody"]["content"].values():
        assert set(content["schema"]) == {"$ref"}
        assert resolved(content["schema"])["additionalProperties"] is False
        validator = jsonschema.Draft202012Validator({**content["schema"], "components": DOCUMENT["components"]})
        assert content["examples"]
        for example in content["examples"].values():
            validator.validate(example["value"])


@cache
def validator_of(name):
    """What checks a value by a named schema."""
    whole = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return jsonschema.Draft202012Validator(whole, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


def test_a_reply_has_an_example_that_is_valid():
    told, checked = [], set()
    for path, method, item in OPERATIONS:
        for status, shared in item["responses"].items():
            for media, content in resolved(shared).get("content", {}).items():
                if media in ("*/*", "application/pdf"):
                    continue  # bytes
                assert content["examples"], f"{method} {path} {status}"
                if media == "text/event-stream":
                    continue
                name = content["schema"]["$ref"].rsplit("/", 1)[1]
                for example in map(resolved, content["examples"].values()):
                    if (name, str(example)) not in checked:
                        checked.add((name, str(example)))
                        value = json.loads(orjson.dumps(example["value"]))
                        told += [
                            f"{method} {path} {status} {e.json_path} {e.message}"
                            for e in validator_of(name).iter_errors(value)
                        ]
                assert content["examples"], f"{method} {path} {status}"
    assert told == []
    assert len(checked) > 100


def test_null_is_a_type_and_not_an_alternative():
    """`X or null` is written as a type; only references, which have none, may have null as a further branch."""
    for pointer, schema in schemas():
        options = schema.get("anyOf", []) + schema.get("oneOf", [])
        if {"type": "null"} in options:
            rest = [option for option in options if option != {"type": "null"}]
            assert rest, pointer
            assert all(set(option) == {"$ref"} for option in rest), pointer


def test_parameters_are_absent_rather_than_null():
    for path, method, item in OPERATIONS:
        for parameter in map(resolved, item.get("parameters", ())):
            assert "null" not in kinds(parameter["schema"]), (method, path, parameter["name"])
            assert "anyOf" not in parameter["schema"], (method, path, parameter["name"])


def test_strings_arrays_and_numbers_are_bounded():
    for pointer, schema in schemas():
        if "string" in kinds(schema):
            assert "maxLength" in schema or schema.keys() & {"enum", "const"}, pointer
        if "array" in kinds(schema):
            assert "maxItems" in schema, pointer
            assert "items" in schema, pointer
        if "integer" in kinds(schema) and "string" not in kinds(schema):
            assert {"minimum", "maximum"} <= schema.keys(), pointer


def test_no_schema_has_a_title_or_a_default_of_null():
    for pointer, schema in schemas():
        assert "title" not in schema, pointer
        assert schema.get("default", 0) is not None, pointer


def test_objects_are_named_or_maps():
    for pointer, schema in schemas():
        if "object" in kinds(schema) and not re.fullmatch("/components/schemas/[A-Za-z]+", pointer):
            assert "properties" not in schema, pointer


def test_records_are_whole_and_open_and_their_type_is_constant():
    for resource in CATALOG.resources.values():
        name = resource.output.__name__.removesuffix("View")
        schema = DOCUMENT["components"]["schemas"][name]
        assert set(schema["required"]) == set(resource.output.model_fields), name
        assert schema["properties"]["object"]["const"] == resource.singular
        assert "additionalProperties" not in schema, f"{name} must be able to grow"
        if "search" in resource.operations:
            assert DOCUMENT["components"]["schemas"][f"Sparse{name}"]["required"] == ["id", "object", "version"]


def test_every_component_is_used():
    text = COMMITTED.read_text()
    used = set(re.findall(r'"#/components/(\w+/[\w.-]+)"', text))
    kept = {
        f"{kind}/{name}"
        for kind in ("schemas", "parameters", "headers", "responses", "examples")
        for name in DOCUMENT["components"][kind]
    }
    assert kept - used <= {"parameters/IfMatchRequired", "responses/PreconditionRequired"}, "used by resources to come"
    assert used <= kept
