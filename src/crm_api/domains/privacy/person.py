"""Who a record is about: a contact or a lead, with every record that is the same person; and users of the tenant."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped

from crm_api.domains.contacts.contact import CONTACTS
from crm_api.domains.identity.principal import USERS
from crm_api.domains.leads.lead import LEADS
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement, bound
from crm_api.kernel.joints import Build
from crm_api.kernel.merged import Merge
from crm_api.kernel.problems import invalid
from crm_api.kernel.record import among, reference, sparse, table_of
from crm_api.kernel.repository import find
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Id, Input, Output, Ref

PEOPLE: Mapping[str, Resource] = {"contact_id": CONTACTS, "lead_id": LEADS}
"""The references by which a row says who it is about."""
SUBJECTS: Mapping[str, Resource] = {**PEOPLE, "principal_id": USERS}
"""Whose data may be erased, by the reference that names them."""
_ABOUT = "Who it is about: a contact, a lead, or both where they are the same person."
_MERGES, _CONTACTS, _LEADS = table_of(Merge), CONTACTS.table, LEADS.table
_IDS = sa.bindparam("ids", type_=ARRAY(sa.Uuid()))


class AboutPerson:
    """Columns of a row about a contact, a lead, or a lead with the contact that it became."""

    contact_id: Mapped[UUID | None]
    lead_id: Mapped[UUID | None]


class PersonInput(Input):
    """Who it is about; one of the two, at least."""

    contact_id: Annotated[Ref | None, Field(description=_ABOUT)] = None
    lead_id: Annotated[Ref | None, Field(description=_ABOUT)] = None


class PersonOutput(Output):
    """Who it is about."""

    contact_id: Id | None
    lead_id: Id | None


def about_person(table: str, subjects: Mapping[str, Resource] = PEOPLE) -> tuple[Any, ...]:
    """Keys and indexes of a table of `AboutPerson`, whose rows are about one of these."""
    return (
        *(reference(column, resource.table.name) for column, resource in subjects.items()),
        sa.CheckConstraint(f"num_nonnulls({', '.join(subjects)}) > 0", name="person"),
        *(sparse(table, column) for column in subjects),
    )


def column_of(values: Mapping[str, Any]) -> str:
    """Which reference says who it is about; 422 unless it is one."""
    given = [name for name in SUBJECTS if values.get(name) is not None]
    if len(given) != 1:
        raise invalid("/contact_id", "one_of", f"Give {', '.join(PEOPLE)} or principal_id, and one of them.")
    return given[0]


async def _somebody(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """Refuses what is about nobody; nothing follows from who it is."""
    del ctx
    columns = SUBJECTS.keys() & resource.references.keys()
    if before is None and all(values.get(name) is None for name in columns):
        raise invalid("/contact_id", "required", f"Give one of {', '.join(sorted(columns))}.")
    return {}


SOMEBODY = Build(frozenset(SUBJECTS), _somebody)
"""For each resource of `AboutPerson`."""


async def visible(ctx: Context, column: str, id_: str, action: str = "read") -> bool:
    """Whether the caller sees the record (or may act on it), or did before it was deleted."""
    if await find(ctx, SUBJECTS[column], id_, action=action) is not None:
        return True
    table = SUBJECTS[column].table
    gate = ctx.kernel.policy.gate(ctx.access, SUBJECTS[column], action, table, deleted=True)
    found = sa.select(table.c.id).where(table.c.id == sa.bindparam("id", type_=sa.Uuid()), *gate)
    return bool(await ctx.read(Statement(found), {**ctx.access.values, "id": id_}))


_SAME = {
    "merged": Statement(
        sa.select(sa.cast(_MERGES.c.merged_id, sa.Text()).label("id"), _MERGES.c.object_type.label("kind")).where(
            _MERGES.c.tenant_id == TENANT, among(_MERGES.c.survivor_id, _IDS), _MERGES.c.undone_at.is_(None)
        )
    ),
    "survivor": Statement(
        sa.select(sa.cast(_MERGES.c.survivor_id, sa.Text()).label("id"), _MERGES.c.object_type.label("kind")).where(
            _MERGES.c.tenant_id == TENANT, among(_MERGES.c.merged_id, _IDS), _MERGES.c.undone_at.is_(None)
        )
    ),
    "lead": Statement(
        sa.select(sa.cast(_LEADS.c.id, sa.Text()).label("id"), sa.literal("lead", sa.Text()).label("kind")).where(
            _LEADS.c.tenant_id == TENANT, among(_LEADS.c.converted_contact_id, _IDS)
        )
    ),
    "contact": Statement(
        sa.select(
            sa.cast(_LEADS.c.converted_contact_id, sa.Text()).label("id"),
            sa.literal("contact", sa.Text()).label("kind"),
        ).where(_LEADS.c.tenant_id == TENANT, among(_LEADS.c.id, _IDS), _LEADS.c.converted_contact_id.is_not(None))
    ),
}
"""Records that are the person of these: merged with one of them, or the lead that became the contact."""


async def same_person(ctx: Context, column: str, id_: str) -> dict[str, list[str]]:
    """Every record of the person by its reference, deleted ones too: the whole chain of merges, and leads converted.

    A user is one record, and no contact or lead, whatever they have in common.
    """
    if column not in PEOPLE:
        return {name: [id_.lower()] if name == column else [] for name in SUBJECTS}
    kinds = {resource.singular: name for name, resource in PEOPLE.items()}
    known = {id_.lower(): column}
    fresh = list(known)
    while fresh:
        ids, fresh = bound([UUID(one) for one in fresh]), []
        for statement in _SAME.values():
            for row in await ctx.fetch(statement, {"ids": ids}):
                if row["id"] not in known and row["kind"] in kinds:
                    known[row["id"]] = kinds[row["kind"]]
                    fresh.append(row["id"])
    return {name: sorted(one for one, of in known.items() if of == name) for name in SUBJECTS}
