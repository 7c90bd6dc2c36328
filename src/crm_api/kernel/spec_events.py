"""Events in the contract: for each type a schema of the envelope around its record, and an example."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from crm_api.kernel.domain import Catalog
from crm_api.kernel.examples import SAMPLE_ID, record, sample
from crm_api.kernel.feed import RIGHTS, TEST, event_types
from crm_api.kernel.feed_envelope import Event
from crm_api.kernel.resource import Resource
from crm_api.kernel.spec_style import JsonSchema, components, name_of, noun, ref

_AT = "2026-01-31T12:00:00Z"
_MARK = "access_changed"


@dataclass(frozen=True)
class EventKind:
    """All types of events about one kind of object; `resource` is None where no record comes with them."""

    object: str
    types: tuple[str, ...]
    resource: Resource | None
    schema: str
    tag: str

    @cached_property
    def noun(self) -> str:
        """What people call the object."""
        return noun(self.resource) if self.resource else self.object.replace("_", " ")


def kinds(catalog: Catalog, schemas: Mapping[str, JsonSchema]) -> list[EventKind]:
    """Every type there is, by object; `schemas` are those of the records."""
    by_object: dict[str, list[str]] = {}
    for type_ in (*event_types(catalog), TEST):
        by_object.setdefault(type_.partition(".")[0], []).append(type_)
    found = []
    for object_, types in by_object.items():
        resource = catalog.by_type.get(object_)
        tag = resource.domain if resource else catalog.domains[-1].name
        name = name_of(resource.output) if resource else "".join(map(str.title, types[0].split(".")))
        assert resource is None or name in schemas  # noqa: S101 - each record has one
        found.append(EventKind(object_, tuple(sorted(types)), resource, f"{name}Event", tag))
    return found


def envelopes(found: list[EventKind]) -> dict[str, JsonSchema]:
    """The schemas of all envelopes, and of their parts."""
    parts = components([(Event, "serialization")])
    for schema in parts.values():
        schema.pop("additionalProperties", None)
    whole = parts["Event"]
    return parts | {kind.schema: _envelope(kind, whole) for kind in found}


def _envelope(kind: EventKind, whole: JsonSchema) -> JsonSchema:
    data: JsonSchema = {"type": "null"}
    described = f"One event about the {kind.noun}; no record comes with it."
    if kind.resource:
        data = {
            "description": "The record as a GET sends it; null in thin payloads and in markers of changed access.",
            "anyOf": [ref(name_of(kind.resource.output)), {"type": "null"}],
        }
        described = f"One event about the {kind.noun} in `data`."
    narrow = {"type": {"type": "string", "enum": list(kind.types)}, "data": data}
    return {**whole, "description": described, "properties": {**whole["properties"], **narrow}}


def examples(found: list[EventKind]) -> dict[str, dict[str, Any]]:
    """An example of each type: the whole record where it is made or changed, else as in a thin payload."""
    return {type_: _example(kind, type_) for kind in found for type_ in kind.types}


def _example(kind: EventKind, type_: str) -> dict[str, Any]:
    past, resource = type_.partition(".")[2], kind.resource
    marker = type_ == RIGHTS or past == _MARK
    object_ = {"type": kind.object, "id": SAMPLE_ID, "version": 1, "url": "/v1/me", "merged_into": None}
    changed: dict[str, Any] = {}
    data = None
    if resource:
        object_["url"] = f"/v1/{resource.plural}/{SAMPLE_ID}"
        data = record(resource) if past in ("created", "updated") else None
    if type_ == TEST:
        object_ |= {"type": "webhook_endpoint", "url": f"/v1/webhook_endpoints/{SAMPLE_ID}"}
    if marker:
        object_["version"] = None
    if data is not None and resource and past == "updated":
        object_["version"] = data["version"] = 2
        changed = _changed(resource)
    who = {"type": "user", "id": SAMPLE_ID}
    origin = {"client_id": SAMPLE_ID, "request_id": SAMPLE_ID, "idempotency_key": None, "via": "api", "cause": None}
    known = not marker and type_ != TEST
    access = ("changed" if type_ == RIGHTS else "gained") if marker else None
    return {
        "id": f"evt_{SAMPLE_ID}{f'_{access}' if access else ''}",
        "type": type_,
        "timestamp": _AT,
        "api_version": "v1",
        "tenant_id": SAMPLE_ID,
        "object": object_,
        "changed": sorted(changed),
        "previous": changed,
        "data": data,
        "access": access,
        "actor": who if known else dict.fromkeys(who),
        "origin": origin if known else dict.fromkeys(origin),
        "transaction_id": SAMPLE_ID,
    }


def _changed(resource: Resource) -> dict[str, Any]:
    """A field that an update may change, with the value that it had before."""
    if resource.create is None or resource.update is None:
        return {}
    before = sample(resource.create, 2)
    return dict([item for item in before.items() if item[0] in resource.update.model_fields][:1])
