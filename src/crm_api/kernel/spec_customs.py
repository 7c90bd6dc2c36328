"""The contract with a tenant's custom fields in it: a copy of the document whose changed parts alone are new."""

from collections.abc import Iterable, Mapping
from typing import Any

from crm_api.kernel.customs import CUSTOM, LONGEST_INDEXED, Custom
from crm_api.kernel.customs_filters import custom_flat
from crm_api.kernel.domain import Catalog
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import UUID_PATTERN
from crm_api.kernel.spec_parameters import KINDS, REFERENCE, query_parameter
from crm_api.kernel.spec_style import JsonSchema, array, name_of, ref

_TAG: JsonSchema = {"type": "string", "minLength": 1, "maxLength": 60}
_SCHEMAS: Mapping[str, JsonSchema] = {
    "text": {"type": "string", "minLength": 1, "maxLength": 500},
    "long_text": {"type": "string", "minLength": 1, "maxLength": 10_000},
    "number": {"type": "integer", "format": "int64", "minimum": -(10**15), "maximum": 10**15},
    "decimal": KINDS["ratio"],
    "money": {"type": "string", "pattern": r"^-?[0-9]{1,14}(\.[0-9]{1,4})?$", "maxLength": 20},
    "date": KINDS["date"],
    "instant": KINDS["instant"],
    "boolean": {"type": "boolean"},
    "url": {"type": "string", "format": "uri", "minLength": 8, "maxLength": LONGEST_INDEXED},
    "email": {"type": "string", "format": "email", "minLength": 3, "maxLength": 254},
    "phone": {"type": "string", "minLength": 5, "maxLength": 30},
}


def value_schema(custom: Custom, *, sent: bool) -> JsonSchema:
    """What a field takes, or with `sent` what is sent of it: words that were retired, too, and ids alone."""
    kind = custom.kind.name
    if kind == "reference":
        own = {"type": "string", "pattern": UUID_PATTERN, "minLength": 36, "maxLength": 36}
        return {**(own if sent else REFERENCE), "x-reference": custom.target}
    if kind in ("choice", "multi_choice"):
        words = custom.known if sent else custom.choices
        one: JsonSchema = _TAG if custom.known is None or not words else {"type": "string", "enum": sorted(words or ())}
        return one if kind == "choice" else array(one, 50)
    return dict(_SCHEMAS[kind])


def _object(customs: Iterable[Custom], told: Mapping[str, JsonSchema], *, sent: bool, new: bool = False) -> JsonSchema:
    properties: dict[str, JsonSchema] = {}
    for custom in customs:
        if custom.retired and not sent:
            continue
        schema = {**value_schema(custom, sent=sent), **told.get(custom.id, {})}
        if not sent and not custom.required:
            schema = {"anyOf": [schema, {"type": "null"}], **told.get(custom.id, {})}
        properties[custom.key] = schema
    found: JsonSchema = {"type": "object", "properties": properties}
    if not sent:
        found["additionalProperties"] = False
    required = [item.key for item in customs if item.required and item.default is None and not item.retired]
    return {**found, "required": required} if new and required else found


def tailored(
    catalog: Catalog,
    document: Mapping[str, Any],
    customs: Mapping[str, Mapping[str, Custom]],
    told: Mapping[str, JsonSchema],
) -> dict[str, Any]:
    """The document with custom fields in bodies, records and list parameters.

    Args:
        catalog: of the product.
        document: the contract of every tenant; it is not changed.
        customs: the fields to show, by resource and key.
        told: by id of a field, what people call it: `title`, `description`, `x-labels`.
    """
    schemas, paths = dict(document["components"]["schemas"]), dict(document["paths"])
    for resource in catalog.resources.values():
        if further := _further(catalog, customs, resource):
            _in_expand(schemas, paths, resource, further)
        if named := _named(catalog, customs, resource):
            _in_queries(schemas, resource, named)
    for plural, fields in customs.items():
        resource = catalog.resources[plural]
        _in_schemas(catalog, schemas, resource, tuple(fields.values()), told)
        parameters = [
            query_parameter(f"{name}", op, kind, _filtered(fields[field.removeprefix("custom.")], op, kind))
            for name, (field, op, kind) in custom_flat(fields).items()
        ]
        for path in _lists(resource, paths):
            get = paths[path]["get"]
            paths[path] = {**paths[path], "get": {**get, "parameters": [*get["parameters"], *parameters]}}
    components = {**document["components"], "schemas": schemas}
    return {**document, "paths": paths, "components": components}


def _references(customs: Mapping[str, Mapping[str, Custom]], resource: Resource) -> dict[str, str]:
    """Custom references of a resource, with the resource that each leads to."""
    return {item.name: item.target for item in customs.get(resource.plural, {}).values() if item.target is not None}


def _further(catalog: Catalog, customs: Mapping[str, Mapping[str, Custom]], resource: Resource) -> list[str]:
    """What `expand` takes beside declared paths: those with a custom reference in them."""
    own = _references(customs, resource)
    found = list(own)
    for name, target in own.items():
        there = catalog.resources[target]
        found += [f"{name}.{step}" for step in (*catalog.to_one(there), *_references(customs, there))]
    for name, (_, there) in catalog.to_one(resource).items():
        found += [f"{name}.{step}" for step in _references(customs, there)]
    return sorted(found)


def _in_expand(schemas: dict[str, Any], paths: dict[str, Any], resource: Resource, further: list[str]) -> None:
    body = f"{name_of(resource.output)}Search"
    if body in schemas:
        properties = schemas[body]["properties"]
        longer = _longer(properties["expand"], further)
        schemas[body] = {**schemas[body], "properties": {**properties, "expand": longer}}
    for path in (*_lists(resource, paths), f"/v1/{resource.plural}/{{id}}"):
        if get := paths.get(path, {}).get("get"):
            parameters = [
                {**item, "schema": _longer(item["schema"], further)} if item.get("name") == "expand" else item
                for item in get["parameters"]
            ]
            paths[path] = {**paths[path], "get": {**get, "parameters": parameters}}


def _longer(schema: JsonSchema, further: list[str]) -> JsonSchema:
    return {**schema, "items": _wider(schema["items"], further)}


def _wider(schema: JsonSchema, further: Iterable[str]) -> JsonSchema:
    return {**schema, "enum": sorted([*schema["enum"], *further])}


def _filterable(customs: Mapping[str, Mapping[str, Custom]], plural: str) -> dict[str, Custom]:
    return {item.name: item for item in customs.get(plural, {}).values() if item.filterable}


def _named(catalog: Catalog, customs: Mapping[str, Mapping[str, Custom]], resource: Resource) -> dict[str, str | None]:
    """The kinds of what filters name beside declared fields: by itself, or through one reference."""
    own = _filterable(customs, resource.plural)
    found = {name: item.kind.filter for name, item in own.items()}
    hops = {name: target.plural for name, (_, target) in catalog.to_one(resource).items()}
    hops |= {name: item.target for name, item in own.items() if item.target is not None}
    for hop, plural in hops.items():
        declared = catalog.resources[plural].filterable if hop in own else {}
        there = {name: item.kind.filter for name, item in _filterable(customs, plural).items()}
        found |= {f"{hop}.{name}": kind for name, kind in {**declared, **there}.items()}
    return found


def _in_queries(schemas: dict[str, Any], resource: Resource, named: Mapping[str, str | None]) -> None:
    """Names among those that filter trees and groups take."""
    name = name_of(resource.output)
    comparison, body = f"{name}Comparison", f"{name}Aggregate"
    if comparison in schemas:
        properties = schemas[comparison]["properties"]
        listed, *rest = properties["field"]["anyOf"]
        longer = {"anyOf": [_wider(listed, named), *rest]}
        schemas[comparison] = {**schemas[comparison], "properties": {**properties, "field": longer}}
    if body in schemas:
        properties = schemas[body]["properties"]
        listed, *rest = properties["group_by"]["items"]["anyOf"]
        grouped = {"anyOf": [_wider(listed, (path for path, kind in named.items() if kind != "values")), *rest]}
        groups = {**properties["group_by"], "items": grouped}
        schemas[body] = {**schemas[body], "properties": {**properties, "group_by": groups}}


def _in_schemas(
    catalog: Catalog,
    schemas: dict[str, Any],
    resource: Resource,
    customs: tuple[Custom, ...],
    told: Mapping[str, JsonSchema],
) -> None:
    name = name_of(resource.output)
    forms = {name: {"sent": True}, f"Sparse{name}": {"sent": True}}
    if resource.create is not None:
        forms[name_of(resource.create)] = {"sent": False, "new": True}
    if resource.update is not None:
        forms[name_of(resource.update)] = {"sent": False}
    for schema, form in forms.items():
        if schema in schemas and CUSTOM in schemas[schema].get("properties", {}):
            whole = schemas[schema]
            own = {**_object(customs, told, **form), "description": whole["properties"][CUSTOM]["description"]}
            schemas[schema] = {**whole, "properties": {**whole["properties"], CUSTOM: own}}
            if "required" in own:
                schemas[schema]["required"] = [*whole.get("required", ()), CUSTOM]
            if form["sent"]:
                led = {item.name: _led(item, catalog.resources[item.target]) for item in customs if item.target}
                schemas[schema]["properties"] |= led


def _led(custom: Custom, target: Resource) -> JsonSchema:
    """What `expand` brings along."""
    options = [ref(name_of(target.output)), ref("Redacted"), {"type": "null"}]
    return {"description": f"With `expand={custom.name}`: what it refers to.", "anyOf": options}


def _filtered(custom: Custom, op: str, kind: str) -> JsonSchema:
    if op == "is_null":
        return KINDS["boolean"]
    if kind == "id":
        return REFERENCE
    if custom.known is not None and op in ("eq", "any"):
        return {"type": "string", "enum": sorted(custom.known)}
    return KINDS[kind]


def _lists(resource: Resource, paths: Mapping[str, Any]) -> list[str]:
    own = f"/v1/{resource.plural}"
    within = [f"/v1/{resource.references[column]}/{{id}}/{step}" for column, step in resource.within.items()]
    return [path for path in (own, *within) if "get" in paths.get(path, {})]
