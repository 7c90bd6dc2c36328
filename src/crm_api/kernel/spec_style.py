"""The style of the contract's schemas: names, nullability, lengths."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from crm_api.kernel.resource import Resource

REF = "#/components/schemas/"
JsonSchema = dict[str, Any]
_LENGTHS = {"date": 10, "date-time": 40}
_VALUES = ("example", "examples", "default", "enum", "const")
_INT32, _INT64 = 2**31 - 1, 2**63 - 1
_SPLIT = {"-Input": "Input", "-Output": ""}


def ref(name: str) -> JsonSchema:
    """A reference to a component schema."""
    return {"$ref": REF + name}


def parameter(name: str, description: str, *, required: bool = False, place: str = "query", **schema: Any) -> Any:
    """A parameter that is text, of a hand-written operation."""
    given = {"type": "string", "minLength": 1, **schema}
    return {"name": name, "in": place, "required": required, "description": description, "schema": given}


def name_of(model: type[BaseModel]) -> str:
    """How the contract calls a schema: `AccountView` is sent as `Account`."""
    return _public(model.__name__)


def _public(name: str) -> str:
    for suffix, replacement in _SPLIT.items():
        if name.endswith(suffix):
            return name.removesuffix(suffix).removesuffix("View") + replacement
    return name.removesuffix("View")


class _Generator(GenerateJsonSchema):
    """Whatever is sent is sent whole: in a reply, a field with a default is required too."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        return self.mode == "serialization" or super().field_is_required(field, total)


def components(models: Iterable[tuple[type[BaseModel], Any]]) -> dict[str, JsonSchema]:
    """The schemas of models and of their parts, under their public names and in the contract's style."""
    _, document = models_json_schema(
        list(dict.fromkeys(models)), ref_template=REF + "{model}", schema_generator=_Generator
    )
    return {_public(name): normal(schema) for name, schema in document["$defs"].items()}


def normal(schema: Any) -> Any:
    """A schema in the contract's style: no titles, `type: [X, "null"]`, no default null, dates with a length."""
    if not isinstance(schema, dict):
        return schema
    found: JsonSchema = {}
    for key, value in schema.items():
        if key == "title" or (key == "default" and value is None):
            continue
        if key in ("properties", "$defs"):
            found[key] = {name: normal(part) for name, part in value.items()}
        elif key in ("anyOf", "allOf", "oneOf"):
            found[key] = [normal(part) for part in value]
        elif key == "$ref":
            found[key] = REF + _public(str(value).removeprefix(REF))
        elif key in ("items", "additionalProperties"):
            found[key] = normal(value)
        else:
            found[key] = value
    if found.get("format") in _LENGTHS:
        found.setdefault("maxLength", _LENGTHS[found["format"]])
    return _typed_null(found)


def _typed_null(schema: JsonSchema) -> JsonSchema:
    options = schema.get("anyOf", ())
    scalars = all(set(option) <= {"type", "maxLength"} and isinstance(option.get("type"), str) for option in options)
    rest = [option for option in options if option != {"type": "null"}]
    if options and scalars:
        merged = {key: value for option in options for key, value in option.items()}
        return {**without(schema, "anyOf"), **merged, "type": list(dict.fromkeys(o["type"] for o in options))}
    if len(rest) == len(options) or len(rest) != 1 or "type" not in rest[0]:
        return schema
    (only,) = rest
    merged = {**without(schema, "anyOf"), **only, "type": [only["type"], "null"]}
    if "enum" in only:
        merged["enum"] = [*only["enum"], None]
    if "const" in only:
        merged["enum"] = [merged.pop("const"), None]
    return merged


def sized(node: Any) -> Any:
    """A part of the document in which each integer is bounded, by integers, and says how many bits hold it."""
    if isinstance(node, list):
        return [sized(part) for part in node]
    if not isinstance(node, dict):
        return node
    found = {key: part if key in _VALUES else sized(part) for key, part in node.items()}
    kind = node.get("type")
    if kind == "integer" or (isinstance(kind, list) and "integer" in kind):
        bounds = int(node.get("minimum", -_INT64)), int(node.get("maximum", _INT64))
        narrow = max(map(abs, bounds)) <= _INT32
        found |= {"minimum": bounds[0], "maximum": bounds[1], "format": "int32" if narrow else "int64"}
    return found


def without(schema: Mapping[str, Any], *names: str) -> JsonSchema:
    """A copy without these keys."""
    return {key: value for key, value in schema.items() if key not in names}


def array(items: JsonSchema, most: int, **more: Any) -> JsonSchema:
    """An array schema."""
    return {"type": "array", "items": items, "maxItems": most, **more}


def noun(resource: Resource) -> str:
    """What people call one of them."""
    return resource.singular.replace("_", " ")


def nouns(resource: Resource) -> str:
    """What people call several of them."""
    return resource.plural.replace("_", " ")


def a(word: str) -> str:
    """The word with its article."""
    return f"{'an' if word[0] in 'aeio' else 'a'} {word}"
