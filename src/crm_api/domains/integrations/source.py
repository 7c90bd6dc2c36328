"""Sources: systems whose ids our records are known by, and the fields that each of them owns."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from crm_api.domains.identity.delegation import parsed
from crm_api.kernel.context import Context
from crm_api.kernel.customs import FieldName
from crm_api.kernel.external_records import Source
from crm_api.kernel.external_sources import EXTERNAL_IDS, ownable
from crm_api.kernel.problems import invalid
from crm_api.kernel.repository import find
from crm_api.kernel.resource import Check, Resource
from crm_api.kernel.schema import Code, Id, Input, Name, Output, Ref, Wire

MOST_OWNED = 500
OnConflict = Annotated[
    Literal["refuse", "ignore"],
    Field(description="What becomes of others' writes to owned fields: 409, or left out and named in Ignored-Fields."),
]


class OwnedField(Wire):
    """A field that only the source writes, on records that are linked to it."""

    resource: Annotated[Code, Field(examples=["accounts"])]
    field: Annotated[FieldName, Field(examples=["name"])]


OwnedFields = Annotated[list[OwnedField], Field(max_length=MOST_OWNED)]


class SourceCreate(Input):
    """Another system that has ids of its own for our records."""

    id: Id | None = None
    name: Name
    code: Annotated[Code, Field(description="Its name in external ids: `ext:{code}:{external_id}`. Never changes.")]
    service_account_id: Annotated[
        Ref | None, Field(description="Writes as the source; without one, nobody writes the fields it owns.")
    ] = None
    owned_fields: OwnedFields = []
    on_conflict: OnConflict = "refuse"


class SourceView(Output):
    """Another system that has ids of its own for our records."""

    object: Literal["source"]
    name: Name
    code: Code
    service_account_id: Id | None
    owned_fields: OwnedFields
    on_conflict: OnConflict


async def _account(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """422 unless the principal is a service account that the caller may see."""
    del resource, before
    accounts = ctx.kernel.catalog.resources["service_accounts"]
    if await find(ctx, accounts, values["service_account_id"]) is None:
        raise invalid("/service_account_id", "reference_not_found", "There is no such service account.")


async def _owned(ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """422 for a field that does not exist or cannot be changed: a typing error must not pass as a rule."""
    del resource, before
    for i, owned in enumerate(parsed(values["owned_fields"])):
        target = ctx.kernel.catalog.resources.get(owned["resource"])
        if target is None:
            raise invalid(f"/owned_fields/{i}/resource", "unknown_resource", "There is no such resource.")
        if owned["field"] not in ownable(ctx.access, target):
            detail = f"There is no such field, or nobody changes it; or {EXTERNAL_IDS}, for who may link and unlink."
            raise invalid(f"/owned_fields/{i}/field", "unknown_field", detail)


SOURCES = Resource(
    singular="source",
    plural="sources",
    model=Source,
    output=SourceView,
    create=SourceCreate,
    keys={"name": Source.name_key},
    filters=(Source.name, Source.code, Source.service_account_id),
    sorts=(Source.name, Source.created_at),
    checks=(Check(frozenset({"service_account_id"}), _account), Check(frozenset({"owned_fields"}), _owned)),
    access_fields=frozenset({"code", "service_account_id", "owned_fields", "on_conflict"}),
    once=frozenset({"code"}),
)
