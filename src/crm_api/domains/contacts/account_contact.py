"""Links between contacts and further accounts: role, dates, whether active."""

from collections.abc import Mapping
from datetime import date
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.kernel.context import Context
from crm_api.kernel.policy import through
from crm_api.kernel.problems import invalid
from crm_api.kernel.record import Entity, reference, sortable, unique
from crm_api.kernel.repository import may_open
from crm_api.kernel.resource import Check, Resource
from crm_api.kernel.schema import Id, Input, Name, Output, Ref


class AccountContact(Entity):
    """A contact's part in an account beside the primary one."""

    __tablename__ = "account_contacts"
    __table_args__ = (
        reference("account_id", "accounts"),
        reference("contact_id", "contacts"),
        unique("uq_account_contacts_contact_id", "contact_id", "account_id"),
        *sortable("account_contacts", "account_id", "created_at"),
    )

    account_id: Mapped[UUID]
    contact_id: Mapped[UUID]
    role: Mapped[str | None]
    is_active: Mapped[bool] = mapped_column(server_default="true")
    starts_on: Mapped[date | None] = mapped_column(sa.Date)
    ends_on: Mapped[date | None] = mapped_column(sa.Date)


class AccountContactCreate(Input):
    """Links a contact to a further account."""

    id: Id | None = None
    account_id: Ref
    contact_id: Ref
    role: Name | None = None
    is_active: bool = True
    starts_on: date | None = None
    ends_on: date | None = None


class AccountContactView(Output):
    """A contact's part in an account beside the primary one."""

    object: Literal["account_contact"]
    account_id: Id
    contact_id: Id
    role: Name | None
    is_active: bool
    starts_on: date | None
    ends_on: date | None


async def _own_contact(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """A link opens the contact to others, so it takes reach over the contact or the right to share it, and no share."""
    del resource, before
    contacts = ctx.kernel.catalog.resources["contacts"]
    if (contact := values.get("contact_id")) is not None and not await may_open(ctx, contacts, contact):
        raise invalid("/contact_id", "reference_not_found", "There is no such contact, or you may not change it.")


ACCOUNT_CONTACTS = Resource(
    singular="account_contact",
    plural="account_contacts",
    model=AccountContact,
    output=AccountContactView,
    title="role",
    create=AccountContactCreate,
    rows=(through("account_id", "accounts"),),
    checks=(Check(frozenset({"contact_id"}), _own_contact),),
    sorts=(AccountContact.created_at,),
    personal=dict.fromkeys(("role", "starts_on", "ends_on")),
    filters=(AccountContact.account_id, AccountContact.contact_id, AccountContact.is_active, AccountContact.role),
)
