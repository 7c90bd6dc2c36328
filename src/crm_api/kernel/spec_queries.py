"""What a list, search or aggregate of a resource takes, as schemas."""

from functools import cache

from pydantic import BaseModel

from crm_api.kernel.aggregate import AggregateRequest
from crm_api.kernel.collections import MAX_LIMIT, MAX_PATHS, SearchRequest
from crm_api.kernel.customs import customizable
from crm_api.kernel.domain import Catalog
from crm_api.kernel.filter_values import MAX_IN, OPERATORS
from crm_api.kernel.filters import LONGEST_PATH, MAX_HOPS, MAX_LEAVES, QUANTIFIERS
from crm_api.kernel.paging import MAX_SORT_KEYS
from crm_api.kernel.resource import Resource
from crm_api.kernel.spec_style import JsonSchema, array, components, name_of, ref

_STEP = "[a-z][a-z0-9_]*"
_KEY = rf"custom\.{_STEP}"
_SORT = f"^-?{_KEY}$"
_PATH = rf"^({_STEP}\.){{1,{MAX_HOPS}}}({_STEP}|{_KEY})$|^{_KEY}$"
"""Fields at the end of references, and custom fields."""
_THROUGH = rf"^((custom\.)?{_STEP}\.){{1,{MAX_HOPS}}}(custom\.)?{_STEP}$"
"""Fields at the end of references each of which may be a custom one."""
_ANY = rf"^{_STEP}(\.{_STEP}){{0,{MAX_HOPS + 1}}}$"
_MEASURED = ("money", "ratio", "integer", "date", "instant")


def paths(catalog: Catalog, resource: Resource) -> list[str]:
    """Everything that `expand` takes."""
    one = catalog.to_one(resource)
    nested = [f"{name}.{inner}" for name, (_, target) in one.items() for inner in catalog.to_one(target)]
    return sorted([*one, *resource.many, *nested])


def sort_key(resource: Resource) -> JsonSchema:
    """What one key of a `sort` may be."""
    names = [name for key in resource.sortable for name in (key, f"-{key}")]
    return one_of(names, *((_SORT,) if customizable(resource) else ()))


def one_of(names: list[str], *patterns: str) -> JsonSchema:
    """One of some names, or what looks like another path that they are only examples of."""
    listed: JsonSchema = {"type": "string", "enum": names}
    return {"anyOf": [listed, *map(_free, patterns)]} if patterns else listed


def _patterns(catalog: Catalog, resource: Resource) -> tuple[str, ...]:
    """What fields look like that are not listed, if there are any."""
    return (_PATH, _THROUGH) if catalog.to_one(resource) or customizable(resource) else ()


def _free(pattern: str) -> JsonSchema:
    return {"type": "string", "pattern": pattern, "maxLength": LONGEST_PATH}


def filter_names(catalog: Catalog, resource: Resource) -> list[str]:
    """Every field that a filter tree may name, by itself or through one reference."""
    hops = [f"{hop}.{name}" for hop, (_, target) in catalog.to_one(resource).items() for name in target.filterable]
    return sorted([*resource.filterable, *hops])


def page(item: str, description: str) -> JsonSchema:
    """The reply of a list or search."""
    return {
        "type": "object",
        "description": description,
        "properties": {
            "data": array(ref(item), MAX_LIMIT),
            "has_more": {"type": "boolean"},
            "next_cursor": {
                "type": ["string", "null"],
                "maxLength": 2000,
                "description": "Send it as `cursor`, with the same filter and sort, for the next page.",
            },
            "count": {"description": "Present when `count` was asked for.", **ref("RowCount")},
        },
        "required": ["data", "has_more", "next_cursor"],
    }


def filters(catalog: Catalog, resource: Resource, name: str) -> dict[str, JsonSchema]:
    """The filter tree of a resource."""
    kinds = {
        kind
        for item in [resource, *(t for _, t in catalog.to_one(resource).values())]
        for kind in item.filterable.values()
    }
    operators = list(dict.fromkeys(op for kind, ops in OPERATORS.items() if kind in kinds for op in ops))
    patterns = _patterns(catalog, resource)
    scalar = {"type": ["string", "integer", "boolean"], "maxLength": 500}
    description = (
        "One comparison of a field. Not every operator applies to every field; `is_null` takes a boolean, in, nin, any "
        "and all take a list, amounts are decimal strings."
    )
    if patterns:
        description += f" A path follows at most {MAX_HOPS} references; custom fields are `custom.` and their key."
    if resource.any_reference:
        description += " `object_id` takes external ids when one `object_type` by eq is in the same `and`."
    comparison = {
        "type": "object",
        "description": description,
        "properties": {
            "field": one_of(filter_names(catalog, resource), *patterns),
            "op": {"type": "string", "enum": operators, "default": "eq"},
            "value": {
                "type": ["string", "integer", "boolean", "array"],
                "maxLength": 500,
                "items": scalar,
                "minItems": 1,
                "maxItems": MAX_IN,
            },
        },
        "required": ["field", "value"],
        "additionalProperties": False,
    }
    found: dict[str, JsonSchema] = {f"{name}Comparison": comparison}
    for word, meaning in (("and", "All"), ("or", "Any")):
        found[f"{name}Filter{meaning}"] = {
            "type": "object",
            "description": f"{meaning} of the filters must hold.",
            "properties": {word: array(ref(f"{name}Filter"), MAX_LEAVES, minItems=1)},
            "required": [word],
            "additionalProperties": False,
        }
    found[f"{name}Filter"] = {
        "description": f"A filter tree, at most 5 levels deep with at most {MAX_LEAVES} comparisons.",
        "anyOf": [ref(f"{name}Comparison"), ref(f"{name}FilterAll"), ref(f"{name}FilterAny")],
    }
    for relation, many in resource.many.items():
        child = catalog.resources[many.plural]
        if "search" in child.operations:
            title = f"{name}FilterBy{''.join(map(str.capitalize, relation.split('_')))}"
            found[f"{name}Filter"]["anyOf"].append(ref(title))
            found[title] = _children(relation, name_of(child.output))
    return found


def _children(relation: str, child: str) -> JsonSchema:
    return {
        "type": "object",
        "description": f"Any, all or none of the {relation} that you may see pass a filter of their own.",
        "properties": {
            "field": {"type": "string", "const": relation},
            "op": {"type": "string", "enum": list(QUANTIFIERS)},
            "value": ref(f"{child}Filter"),
        },
        "required": ["field", "op", "value"],
        "additionalProperties": False,
    }


@cache
def _parts(model: type[BaseModel]) -> dict[str, JsonSchema]:
    """The schemas of a body and of its parts; to be read only."""
    return components([(model, "validation")])


def body_of(model: type[BaseModel], **replaced: JsonSchema) -> JsonSchema:
    """The schema of a body, with some of its properties as they are for one resource."""
    schema = _parts(model)[name_of(model)]
    return {**schema, "properties": {**schema["properties"], **replaced}}


def search(catalog: Catalog, resource: Resource, name: str) -> JsonSchema:
    """The body of a search."""
    outputs = list(resource.output.model_fields)
    schema = body_of(
        SearchRequest,
        filter=ref(f"{name}Filter"),
        sort=array(sort_key(resource), MAX_SORT_KEYS, uniqueItems=True, default=[]),
        fields={**array({"type": "string", "enum": outputs}, 100), "type": ["array", "null"]},
        expand=array({"type": "string", "enum": paths(catalog, resource)}, MAX_PATHS, default=[]),
    )
    if not resource.search:
        del schema["properties"]["q"]
    if not paths(catalog, resource):
        del schema["properties"]["expand"]
    return schema


def aggregate(catalog: Catalog, resource: Resource, name: str) -> dict[str, JsonSchema]:
    """The body of an aggregate."""
    patterns = _patterns(catalog, resource)
    groups = [field for field, kind in resource.filterable.items() if kind != "values"]
    measured = [field for field, kind in resource.filterable.items() if kind in _MEASURED]
    measure = _parts(AggregateRequest)["Measure"]
    if measured or patterns:
        field: JsonSchema = {"type": ["string", "null"], "enum": [*measured, None]}
        if patterns:
            field = {"type": ["string", "null"], "pattern": _ANY, "maxLength": LONGEST_PATH, "examples": measured}
        measure = {**measure, "properties": {**measure["properties"], "field": field}}
    else:
        measure = {**measure, "properties": {"op": {"type": "string", "const": "count"}}}
    body = body_of(
        AggregateRequest,
        filter=ref(f"{name}Filter"),
        group_by=array(one_of(groups, *patterns), 3, default=[]),
        measures=array(ref(f"{name}Measure"), 10, minItems=1),
    )
    return {f"{name}Measure": measure, f"{name}Aggregate": body}
