"""Example replies of the contract: a record as the laws make it, everything else from its schema."""

from collections.abc import Mapping
from typing import Any

from crm_api.kernel.domain import Catalog
from crm_api.kernel.examples import SAMPLE_ID, record, text
from crm_api.kernel.problems import CATALOGUE, PROBLEM_JSON, Problem
from crm_api.kernel.spec_parameters import JSON, PROBLEMS
from crm_api.kernel.spec_style import REF, JsonSchema, name_of

_REQUEST = "01a219131d1e7492a01a61d9a74697d8"


class Replies:
    """Examples of named schemas, by name."""

    def __init__(self, catalog: Catalog, schemas: Mapping[str, JsonSchema]) -> None:
        self._schemas = schemas
        self._known: dict[str, Any] = {
            name_of(resource.output): record(resource) for resource in reversed(catalog.resources.values())
        }

    def of(self, name: str) -> Any:
        """An example of the schema with this name."""
        if name not in self._known:
            self._known[name] = {}  # where a schema contains itself
            self._known[name] = self._value(name, self._schemas[name])
        return self._known[name]

    def _value(self, name: str, schema: JsonSchema) -> Any:
        if "$ref" in schema:
            return self.of(schema["$ref"].removeprefix(REF))
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self._value(name, schema[key][0])
        for key in ("examples", "enum"):
            if schema.get(key):
                return schema[key][0]
        if "const" in schema:
            return schema["const"]
        kind = schema.get("type")
        if isinstance(kind, list):
            return None if "null" in kind else self._value(name, {**schema, "type": kind[0]})
        if kind == "object":
            required = schema.get("required", ())
            return {
                key: self._value(key, part) for key, part in schema.get("properties", {}).items() if key in required
            }
        if kind == "array":
            return [self._value(name, schema["items"])]
        if kind == "string":
            return SAMPLE_ID if schema.get("format") == "uuid" else text(name, schema)
        return kind != "boolean" and schema.get("minimum", 1)


def show(catalog: Catalog, document: dict[str, Any]) -> None:
    """Gives every reply in JSON an example, each of which stands once in the components."""
    components = document["components"]
    replies = Replies(catalog, components["schemas"])
    for methods in document["paths"].values():
        for operation in methods.values():
            for response in operation["responses"].values():
                for media in response.get("content", {}).keys() & {JSON}:
                    content = response["content"][media]
                    if "$ref" not in content["schema"]:
                        continue  # a route that says nothing of its reply
                    name = content["schema"]["$ref"].removeprefix(REF)
                    components["examples"].setdefault(name, {"value": replies.of(name)})
                    content["examples"] = {"reply": {"$ref": f"#/components/examples/{name}"}}
    for status, (name, *_) in PROBLEMS.items():
        response = components["responses"][name]
        response["content"][PROBLEM_JSON]["examples"] = {"problem": {"value": _problem(status)}}


def _problem(status: int) -> dict[str, Any]:
    kind = next(kind for kind in CATALOGUE.values() if kind.status == status)
    return Problem(kind, f"{kind.title}.").document(f"/v1/accounts/{SAMPLE_ID}", _REQUEST)
