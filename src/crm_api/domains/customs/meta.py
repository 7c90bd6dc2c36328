"""`/v1/meta`: the contract with the tenant's own fields in it, and objects described for who builds forms and lists."""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, get_args

import orjson
import sqlalchemy as sa
from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from crm_api.domains.customs.custom_field import Choice
from crm_api.kernel.context import Context
from crm_api.kernel.customs import CUSTOM, Custom, Customs, customizable
from crm_api.kernel.customs_expand import steps
from crm_api.kernel.customs_records import CustomField
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.domain import Catalog
from crm_api.kernel.filter_values import OPERATORS
from crm_api.kernel.filters import choices
from crm_api.kernel.headers import header, query
from crm_api.kernel.policy import Access
from crm_api.kernel.problems import not_found
from crm_api.kernel.record import table_of
from crm_api.kernel.resource import Resource, kind
from crm_api.kernel.schema import nullable
from crm_api.kernel.sight import settle
from crm_api.kernel.spec import shared_document
from crm_api.kernel.spec_customs import tailored
from crm_api.kernel.unit_of_work import open_context

router = APIRouter()
_FIELDS = table_of(CustomField)
_TOLD = Statement(
    sa.select(
        sa.cast(_FIELDS.c.id, sa.Text()).label("id"),
        *(_FIELDS.c[name] for name in ("label", "labels", "help", "choices")),
    ).where(_FIELDS.c.tenant_id == TENANT, _FIELDS.c.deleted_at.is_(None))
)
Word = Annotated[str, Field(max_length=200)]
Words = Annotated[list[Word], Field(max_length=500)]


class FieldDescription(BaseModel):
    """One field of an object, as the caller may use it."""

    name: Annotated[Word, Field(description="In bodies and filters; that of a custom field begins with `custom.`.")]
    kind: Annotated[
        Word, Field(description="Of its values: `text`, `money`, `date`, `list`, ... or a kind of custom field.")
    ]
    label: Annotated[Word | None, Field(description="What people call it; custom fields have one.")]
    labels: Annotated[dict[str, Word], Field(description="The label in other languages.")]
    help: Annotated[str | None, Field(max_length=10_000)]
    is_custom: bool
    is_required: Annotated[bool, Field(description="A create body must bring it.")]
    is_nullable: bool
    is_read_only: Annotated[bool, Field(description="No body of the caller may set it.")]
    is_hidden: Annotated[bool, Field(description="From the caller; hidden custom fields are left out.")]
    is_sortable: bool
    is_searched: Annotated[bool, Field(description="Whether `q` looks into it.")]
    operators: Annotated[Words, Field(description="Of filters by it; none when nobody filters by it.")]
    choices: Annotated[
        list[Choice], Field(max_length=500, description="Words of a vocabulary; empty when it has none.")
    ]
    reference: Annotated[Word | None, Field(description="The type of the object that it leads to.")]


class RelationDescription(BaseModel):
    """Other objects that `expand` brings along.

    In filters they are a step of a path, custom ones if their field is filterable, or a list with `any`, `all`, `none`.
    """

    name: Word
    type: Annotated[Word, Field(description="Of the other objects.")]
    is_list: bool


class VerbDescription(BaseModel):
    """A verb of the state graph."""

    verb: Word
    sources: Words
    targets: Words


class ObjectDescription(BaseModel):
    """An object as the caller may use it."""

    object: Literal["object_description"]
    type: Word
    collection: Annotated[Word, Field(description="The last step of its path under /v1.")]
    title_field: Annotated[Word, Field(description="By which people know a record.")]
    state_field: Word | None
    transitions: Annotated[list[VerbDescription], Field(max_length=100)]
    takes_custom_fields: bool
    is_searched: Annotated[bool, Field(description="Whether lists take `q`.")]
    permissions: Annotated[Words, Field(description="Actions that the caller may take on some records.")]
    relations: Annotated[list[RelationDescription], Field(max_length=200)]
    fields: Annotated[list[FieldDescription], Field(max_length=500)]


class ObjectName(BaseModel):
    """An object that the caller may read."""

    type: Word
    collection: Word


class ObjectList(BaseModel):
    """The objects that the caller may read."""

    object: Literal["object_list"]
    data: Annotated[list[ObjectName], Field(max_length=500)]


class OwnContract(BaseModel):
    """An OpenAPI document (OpenAPI 3.1.1); it has more members than these."""

    openapi: Annotated[str, Field(max_length=20, examples=["3.1.1"])]
    info: Annotated[dict[str, Any], Field(examples=[{"title": "CRM API", "version": "1.0.0"}])]
    paths: Annotated[dict[str, dict[str, Any]], Field(description="Operations by path and method.", examples=[{}])]
    components: Annotated[dict[str, dict[str, Any]], Field(description="Schemas and other parts.", examples=[{}])]


async def _caller(request: Request) -> Context:
    query(request, ())
    ctx = await open_context(request)
    await settle(ctx)
    return ctx


Caller = Annotated[Context, Depends(_caller)]


def shown(access: Access) -> Customs:
    """The custom fields that a caller may see, by resource and key."""
    found = {}
    for plural, fields in access.customs.items():
        hidden = access.hides(plural)
        if own := {key: custom for key, custom in fields.items() if custom.name not in hidden}:
            found[plural] = own
    return found


async def _told(ctx: Context) -> dict[str, dict[str, Any]]:
    """What people call each field, by its id."""
    return {
        row["id"]: {
            "label": row["label"],
            "labels": orjson.loads(row["labels"]),
            "help": row["help"],
            "choices": orjson.loads(row["choices"]),
        }
        for row in await ctx.read(_TOLD, {})
    }


@router.get(
    "/v1/meta/openapi.json",
    operation_id="get_own_contract",
    summary="The contract with the tenant's custom fields",
    response_class=Response,
    responses={200: {"model": OwnContract}, 422: {}},
)
async def contract(ctx: Caller, request: Request) -> Response:
    """The OpenAPI document of this server with the custom fields that the caller sees: for generated clients."""
    customs, told = shown(ctx.access), await _told(ctx)
    body = _rendered(ctx.kernel.catalog, _Key(customs, told))
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if etag in (header(request, b"if-none-match") or ""):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


class _Key:
    """Custom fields as something that is remembered by what they are."""

    def __init__(self, customs: Customs, told: Mapping[str, Mapping[str, Any]]) -> None:
        self.customs, self.told = customs, told
        parts = [(plural, key, str(custom)) for plural, fields in customs.items() for key, custom in fields.items()]
        self._form = hashlib.sha256(repr((sorted(parts), sorted(told.items()))).encode()).digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._form == other._form

    def __hash__(self) -> int:
        return hash(self._form)


@lru_cache(maxsize=8)
def _rendered(catalog: Catalog, key: _Key) -> bytes:
    notes = {
        id_: {
            "title": told["label"],
            **({"description": told["help"]} if told["help"] else {}),
            **({"x-labels": told["labels"]} if told["labels"] else {}),
        }
        for id_, told in key.told.items()
    }
    return orjson.dumps(tailored(catalog, shared_document(catalog), key.customs, notes))


def _readable(ctx: Context) -> list[Resource]:
    may, closed = ctx.access.may, ctx.access.closed
    every = ctx.kernel.catalog.resources.values()
    return [item for item in every if may(item.plural, "read") and item.plural not in closed]


@router.get(
    "/v1/meta/objects", operation_id="list_objects", summary="The objects that the caller may read", responses={422: {}}
)
async def objects(ctx: Caller) -> ObjectList:
    """Their types and collections; each is described under its type."""
    found = [ObjectName(type=item.singular, collection=item.plural) for item in _readable(ctx)]
    return ObjectList(object="object_list", data=found)


@router.get(
    "/v1/meta/objects/{type}",
    operation_id="get_object",
    summary="An object with its fields, as the caller may use it",
    responses={404: {}, 422: {}},
)
async def describe(
    ctx: Caller,
    name: Annotated[
        str, Path(alias="type", max_length=63, description="Type of the object, as in events.", examples=["account"])
    ],
) -> ObjectDescription:
    """Fields with kinds, choices and operators, relations, verbs: what a form or a list is built from."""
    resource = next((item for item in _readable(ctx) if item.singular == name), None)
    if resource is None:
        raise not_found("object")
    access, catalog = ctx.access, ctx.kernel.catalog
    fields = [_declared(catalog, access, resource, each) for each in resource.output.model_fields if each not in _APART]
    if customs := shown(access).get(resource.plural):
        told = await _told(ctx)
        fields += [_custom(ctx, resource, custom, told[custom.id]) for custom in customs.values()]
    graph = resource.lifecycle
    hidden = access.hides(resource.plural)
    known = steps(catalog, access, resource, first=True).values()
    relations = [
        RelationDescription(name=step.name, type=catalog.resources[step.target].singular, is_list=step.many)
        for step in known
        if not step.key or step.name not in hidden
    ]
    return ObjectDescription(
        object="object_description",
        type=resource.singular,
        collection=resource.plural,
        title_field=resource.title,
        state_field=graph.column if graph else None,
        transitions=[
            VerbDescription(verb=edge.verb, sources=sorted(edge.sources), targets=list(edge.targets))
            for edge in (graph.offered if graph else ())
        ],
        takes_custom_fields=customizable(resource),
        is_searched=bool(resource.search),
        permissions=[action for action in resource.permitted_actions if access.may(resource.plural, action)],
        relations=relations,
        fields=fields,
    )


_APART = frozenset({"object", "redacted", CUSTOM})


def _declared(catalog: Catalog, access: Access, resource: Resource, name: str) -> FieldDescription:
    info = resource.output.model_fields[name]
    given = resource.create.model_fields.get(name) if resource.create else None
    filtered = resource.filterable.get(name)
    hidden = name in access.hides(resource.plural)
    target = catalog.target(resource, name)
    return FieldDescription(
        name=name,
        kind=_kind(resource, name),
        label=None,
        labels={},
        help=info.description,
        is_custom=False,
        is_required=given is not None and given.is_required(),
        is_nullable=nullable(info.annotation),
        is_read_only=given is None or hidden or name in access.read_only.get(resource.plural, ()),
        is_hidden=hidden,
        is_sortable=name in resource.sortable,
        is_searched=name in resource.search and not hidden,
        operators=_operators(filtered, closed=name in choices(resource)) if filtered and not hidden else [],
        choices=[Choice(value=str(word)) for word in sorted(choices(resource).get(name, ()))],
        reference=target.singular if target else None,
    )


def _operators(kind: str, *, closed: bool) -> list[str]:
    """What a filter takes of a kind of value; a closed vocabulary has no parts of words."""
    return [op for op in OPERATORS[kind] if not closed or op not in ("contains", "starts_with")]


def _kind(resource: Resource, name: str) -> str:
    if name not in resource.table.c:
        return "json"
    found = kind(resource.table.c[name])
    if found == "json":
        annotation = resource.output.model_fields[name].annotation
        return "list" if "list" in str(get_args(annotation) or annotation) else "object"
    return found


def _custom(ctx: Context, resource: Resource, custom: Custom, told: Mapping[str, Any]) -> FieldDescription:
    filtered = custom.kind.filter if custom.filterable else None
    target = ctx.kernel.catalog.resources[custom.target].singular if custom.target else None
    return FieldDescription(
        name=custom.name,
        kind=custom.kind.name,
        label=told["label"],
        labels=told["labels"],
        help=told["help"],
        is_custom=True,
        is_required=custom.required,
        is_nullable=not custom.required,
        is_read_only=custom.retired or custom.name in ctx.access.read_only.get(resource.plural, ()),
        is_hidden=False,
        is_sortable=custom.sortable and custom.indexed,
        is_searched=custom.searchable,
        operators=_operators(filtered, closed=custom.known is not None) if filtered else [],
        choices=[Choice(**choice) for choice in told["choices"]],
        reference=target,
    )
