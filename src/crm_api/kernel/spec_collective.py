"""The contract of verbs on many records: bodies with the filters of their resource, and what a dry run answers."""

from typing import Any

from crm_api.kernel.collective import Collective, collective_operations, collective_verbs
from crm_api.kernel.domain import Catalog
from crm_api.kernel.resource import Resource
from crm_api.kernel.spec_parameters import reply
from crm_api.kernel.spec_queries import body_of
from crm_api.kernel.spec_style import JsonSchema, components, name_of, ref, without

DETAIL = (
    "For those that a filter finds, or up to 1000 ids. A job does it, with the rights that the caller has at each "
    "step. With `dry_run` the answer is 200 with what the job would do."
)


def schemas(catalog: Catalog) -> dict[str, JsonSchema]:
    """The body of each verb for each resource, and what a dry run answers."""
    verbs = {item.verb: item for item in collective_verbs(catalog)}
    found: dict[str, JsonSchema] = {}
    for operation in collective_operations(catalog):
        verb, name = verbs[operation.verb.verb], name_of(operation.resource.output)
        typed: dict[str, JsonSchema] = {"filter": {"anyOf": [ref(f"{name}Filter"), {"type": "null"}]}}
        if "changes" in verb.body.model_fields and operation.resource.update is not None:
            typed["changes"] = ref(name_of(operation.resource.update))
        found[body_name(verb, operation.resource)] = body_of(verb.body, **typed)
    told = components([(item.previewed, "serialization") for item in verbs.values()])
    return found | {name: without(schema, "additionalProperties") for name, schema in told.items()}


def body_name(verb: Collective, resource: Resource) -> str:
    """How the contract calls a body: `AccountBulkShare`."""
    return f"{name_of(resource.output)}{verb.body.__name__}"


def replies(verb: Collective, *headers: str) -> dict[str, Any]:
    """The answers of a verb when all is well."""
    return {
        "200": reply("With `dry_run`: what the job would do.", name_of(verb.previewed)),
        "202": reply("Accepted: a job does it.", name_of(verb.reply), "Location", "Retry-After", *headers),
    }
