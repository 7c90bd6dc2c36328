"""Component schemas of the contract: the hand-written wire schemas, and what follows from a declaration."""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from crm_api.kernel.domain import Catalog
from crm_api.kernel.duplicates_requests import DuplicateList
from crm_api.kernel.duplicates_scan import ScanRequest
from crm_api.kernel.query import MANY
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.spec_batch import any_batch, collection_batch
from crm_api.kernel.spec_models import REPLIES
from crm_api.kernel.spec_queries import aggregate, filters, page, search
from crm_api.kernel.spec_style import REF, JsonSchema, a, array, components, name_of, noun, nouns, ref, without

if TYPE_CHECKING:
    from pydantic import BaseModel


def collect(catalog: Catalog, actions: Iterable[Action]) -> dict[str, JsonSchema]:
    """All component schemas of the derived operations."""
    resources, verbs = list(catalog.resources.values()), list(actions)
    bodies: list[type[BaseModel]] = [
        model for resource in resources for model in (resource.create, resource.update) if model
    ]
    bodies += [ScanRequest, *(action.body for action in verbs if action.body)]
    replies: list[type[BaseModel]] = [DuplicateList, *(resource.output for resource in resources)]
    replies += [action.reply for action in verbs if action.reply]
    found = components([*((model, "validation") for model in bodies), *((model, "serialization") for model in replies)])
    for name, schema in components([(model, "validation") for model in REPLIES]).items():
        found[name] = _without_defaults(schema)
    for action in verbs:
        if action.reply and action.private:  # a replayed reply leaves them out
            reply = found[name_of(action.reply)]
            reply["required"] = [name for name in reply["required"] if name not in action.private]
    _open_outputs(found, {name_of(model) for model in bodies})
    for resource in resources:
        found |= _derived(catalog, resource, found)
        found |= collection_batch(resource)
    found |= any_batch(catalog)
    return dict(sorted(found.items()))


def _without_defaults(schema: JsonSchema) -> JsonSchema:
    properties = schema.get("properties", {})
    return {**schema, "properties": {name: without(part, "default") for name, part in properties.items()}}


def _derived(catalog: Catalog, resource: Resource, known: Mapping[str, JsonSchema]) -> dict[str, JsonSchema]:
    name = name_of(resource.output)
    record = known[name]
    record["properties"] |= _expansions(catalog, resource)
    found: dict[str, JsonSchema] = {}
    if "list" in resource.operations:
        found[f"{name}List"] = page(name, f"A page of {nouns(resource)}.")
    if resource.operations & {"search", "aggregate"}:
        found |= filters(catalog, resource, name)
    if "search" in resource.operations:
        found[f"Sparse{name}"] = {
            **record,
            "description": f"{a(noun(resource)).capitalize()} with the fields asked for; id, object, version always.",
            "required": ["id", "object", "version"],
        }
        found[f"Sparse{name}List"] = page(f"Sparse{name}", f"A page of {nouns(resource)}, with the fields asked for.")
        found[f"{name}Search"] = search(catalog, resource, name)
    if "aggregate" in resource.operations:
        found |= aggregate(catalog, resource, name)
    for other in catalog.resources.values():
        if resource.plural in {many.plural for many in other.many.values()}:
            found[f"Expanded{name}List"] = {
                "type": "object",
                "description": f"The first {nouns(resource)} of a record, in the order of their ids.",
                "properties": {"data": array(ref(name), MANY), "has_more": {"type": "boolean"}},
                "required": ["data", "has_more"],
            }
    return found


def _expansions(catalog: Catalog, resource: Resource) -> dict[str, JsonSchema]:
    found: dict[str, JsonSchema] = {}
    for name, (column, target) in catalog.to_one(resource).items():
        options = [ref(name_of(target.output)), ref("Redacted")]
        if resource.table.c[column].nullable:
            options.append({"type": "null"})
        found[name] = {"description": f"With `expand={name}`: what `{column}` refers to.", "anyOf": options}
    for name, many in resource.many.items():
        target = catalog.resources[many.plural]
        found[name] = {
            "description": f"With `expand={name}`: at most {MANY} of them.",
            "$ref": f"{REF}Expanded{name_of(target.output)}List",
        }
    return found


def _open_outputs(found: dict[str, JsonSchema], bodies: set[str]) -> None:
    """Replies may gain members, so only what a request is made of is closed."""
    inputs, pending = set(bodies), list(bodies)
    while pending:
        for name in re.findall(f"{REF}([A-Za-z0-9]+)", str(found[pending.pop()])):
            if name not in inputs:
                inputs.add(name)
                pending.append(name)
    for name in found.keys() - inputs:
        found[name].pop("additionalProperties", None)
