"""Example bodies, derived from the wire schemas: what the contract shows and what the laws send."""

import copy
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import nullable

SAMPLE_ID = "019aa1c2-7d3e-7c41-b1f2-3f6d1b0a9e55"
_REF = "#/$defs/"
_FIRST = date(2026, 1, 30)
_FORMATS = {"email": "sample{}@example.com", "date-time": "2026-01-31T12:00:00Z"}
_PATTERNS = {
    "^[A-Z]{2}$": "DE",
    "^[A-Z]{3}$": "EUR",
    "^[a-z]{2,3}(-[A-Z]{2})?$": "en",
    r"^https?://[^\s<>\x22]+$": "https://www.example.com",
    "^[a-z][a-z0-9_]{0,62}$": "sample_{}",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """Marks an optional field that a body does not do without, since it needs one of several."""


def _shown(model: type[BaseModel]) -> list[str]:
    return [name for name, info in model.model_fields.items() if any(isinstance(one, Shown) for one in info.metadata)]


def example(resource: Resource, number: int = 1) -> dict[str, Any]:
    """The smallest valid create body, without the references it needs (see `references`).

    Args:
        resource: what is created; it has a create schema.
        number: bodies of different numbers collide on no unique key.
    """
    if resource.create is None:
        raise ValueError(f"{resource.plural} are not created by a body")
    body = sample(resource.create, number)
    return {name: value for name, value in body.items() if name not in references(resource)}


def record(resource: Resource, number: int = 1) -> dict[str, Any]:
    """A record as a GET sends it, of which no more is known than a create body must say."""
    fields = resource.output.model_fields
    given = sample(resource.create, number) if resource.create else {}
    whole = sample(resource.output, number)
    blank = {
        name: None if nullable(fields[name].annotation) else value is not True and value
        for name, value in whole.items()
    }
    return blank | {name: value for name, value in given.items() if name in fields}


def references(resource: Resource) -> tuple[str, ...]:
    """The fields that a create body needs and that take another record's id."""
    fields = resource.create.model_fields if resource.create else {}
    shown = _shown(resource.create) if resource.create else ()
    return tuple(
        name for name in resource.references if name in fields and (fields[name].is_required() or name in shown)
    )


def sample(model: type[BaseModel], number: int = 1) -> dict[str, Any]:
    """The smallest body that a schema takes, with a made-up id in each reference."""
    definitions = _definitions(model)
    made = _value("", {"$ref": f"{_REF}{model.__name__}"}, definitions, number)
    assert isinstance(made, dict)  # noqa: S101 - a model is an object
    properties = definitions[model.__name__]["properties"]
    for name in _shown(model):
        options = properties[name]["anyOf"]
        made[name] = _value(name, options[0], definitions, number)
    return made


@cache
def _definitions(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schemas of a wire schema and of its parts, by name; to be read only."""
    _, schema = models_json_schema([(model, "validation")])
    found: dict[str, Any] = schema["$defs"]
    return found


def _value(name: str, schema: dict[str, Any], definitions: dict[str, Any], number: int) -> Any:
    if "$ref" in schema or "anyOf" in schema:
        inner = schema["anyOf"][0] if "anyOf" in schema else definitions[schema["$ref"].removeprefix(_REF)]
        return _value(name, inner, definitions, number)
    given = [schema[key] for key in ("const", "default") if key in schema]
    given += [options[0] for key in ("examples", "enum") if (options := schema.get(key))]
    if given:
        return copy.deepcopy(given[0])
    kind = schema.get("type")
    if kind == "object":
        inner = schema.get("properties", {})
        return {key: _value(key, inner[key], definitions, number) for key in schema.get("required", ())}
    if kind == "array":
        return [_value(name, schema["items"], definitions, number) for _ in range(schema.get("minItems", 0))]
    if kind == "string":
        return text(name, schema, number)
    return kind == "boolean" or schema.get("minimum", 1)


def text(name: str, schema: dict[str, Any], number: int = 1) -> str:
    """A text that a string schema takes, after the name of its field."""
    if schema.get("format") == "date":
        return str(_FIRST + timedelta(days=number))
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]].format(number)
    if "pattern" in schema:
        if schema["pattern"] not in _PATTERNS:
            raise ValueError(f"{name} has a pattern and needs an example in its schema")
        return _PATTERNS[schema["pattern"]].format(number)
    return f"Sample {name.replace('_', ' ')} {number}"[: schema.get("maxLength")]
