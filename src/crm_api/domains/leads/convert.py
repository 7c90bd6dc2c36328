"""Verb: a qualified lead becomes account, contact and, when asked for, opportunity; all of it or nothing."""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any

from pydantic import Field

from crm_api.domains.accounts.account import ACCOUNTS
from crm_api.domains.contacts.contact import CONTACTS
from crm_api.domains.leads.drafts import account_of, contact_of, opportunity_of, seen_of
from crm_api.domains.opportunities.opportunity import OPPORTUNITIES
from crm_api.kernel.context import Context
from crm_api.kernel.customs import CUSTOM
from crm_api.kernel.customs_body import carried
from crm_api.kernel.problems import CONFLICT, Fault, Problem, invalid
from crm_api.kernel.repository import create, find, load
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Currency, Money, Name, Ref, Wire, with_defaults

_CARRIED = "carried"
"""In a lead that is converted: by resource, the custom fields that new records take over."""


class Existing(Wire):
    """A record that is there already."""

    id: Ref


class NewOpportunity(Wire):
    """What the lead may buy; what is left out is taken from the lead, the pipeline is the default one."""

    name: Annotated[Name | None, Field(description="The company or person, unless told.")] = None
    amount: Annotated[Money | None, Field(description="The lead's estimate, unless told.")] = None
    currency: Currency | None = None
    close_date: date | None = None
    pipeline_id: Ref | None = None


class ConvertRequest(Wire):
    """What the lead becomes: records that are there, or new ones from what it says."""

    account: Annotated[
        Existing | None,
        Field(description="Null makes one, named by the company or else by the person; a blocked one is refused."),
    ] = None
    contact: Annotated[
        Existing | None,
        Field(description="It stays as it is. Null makes one in the account, when the lead names a person."),
    ] = None
    opportunity: Annotated[NewOpportunity | None, Field(description="Null makes none.")] = None
    owner_id: Annotated[Ref | None, Field(description="Of the new records; the lead's owner, unless told.")] = None
    allow_duplicate: Annotated[
        bool, Field(description="Makes new records even if some that are there may mean the same.")
    ] = False


async def convert(ctx: Context, resource: Resource, row: Any, body: ConvertRequest) -> dict[str, Any]:
    """Makes what is missing with the caller's own rights; what they may not see of the lead does not go along."""
    lead = _seen_lead(ctx, resource, row, body)
    ways = (ACCOUNTS, CONTACTS, OPPORTUNITIES)
    lead[_CARRIED] = {target.plural: await carried(ctx, resource, row, target) for target in ways}
    allowed, ctx.allow_duplicate = ctx.allow_duplicate, body.allow_duplicate
    try:
        account = await _account(ctx, lead, body.account)
        contact = await _contact(ctx, lead, body.contact, account)
        opportunity = await _opportunity(ctx, lead, body.opportunity, account, contact)
    finally:
        ctx.allow_duplicate = allowed
    made = {"account": account, "contact": contact, "opportunity": opportunity}
    return {"converted_at": ctx.now, **{f"converted_{name}_id": id_ for name, id_ in made.items()}}


async def convertible(ctx: Context, resource: Resource, row: Any, body: ConvertRequest) -> None:
    """Refuses what the lead cannot give, and records that the caller may not make.

    Raises:
        Problem: 422 without a name for the account or the opportunity; 403 without the permission to create one.
    """
    lead = _seen_lead(ctx, resource, row, body)
    if body.account is None:
        if account_of(lead) is None:
            raise invalid("/account", "required", "The lead names no company or person for an account; give one.")
        ctx.require(ACCOUNTS, "create")
    if body.contact is None and contact_of(lead) is not None:
        ctx.require(CONTACTS, "create")
    if body.opportunity is not None:
        if "name" not in opportunity_of(lead, body.opportunity.model_dump(exclude_none=True)):
            raise invalid("/opportunity/name", "required", "The lead names no company or person; give a name.")
        ctx.require(OPPORTUNITIES, "create")


def _seen_lead(ctx: Context, resource: Resource, row: Any, body: ConvertRequest) -> dict[str, Any]:
    return {**seen_of(ctx, resource, row), "owner_id": body.owner_id or row["owner_id"]}


async def _account(ctx: Context, lead: Mapping[str, Any], existing: Existing | None) -> str:
    if existing is None:
        return await _made(ctx, ACCOUNTS, lead, account_of(lead) or {})
    id_ = await _seen(ctx, ACCOUNTS, existing.id, "/account/id")
    if (await load(ctx, ACCOUNTS, id_, "read"))["is_blocked"]:  # locked, so that nobody blocks it meanwhile
        fault = Fault("account_blocked", "The account is blocked.", pointer="/account/id")
        raise Problem(CONFLICT, fault.detail, [fault])
    return id_


async def _contact(ctx: Context, lead: Mapping[str, Any], existing: Existing | None, account: str) -> str | None:
    if existing is not None:
        return await _seen(ctx, CONTACTS, existing.id, "/contact/id")
    given = contact_of(lead)
    return None if given is None else await _made(ctx, CONTACTS, lead, {**given, "account_id": account})


async def _opportunity(
    ctx: Context, lead: Mapping[str, Any], asked: NewOpportunity | None, account: str, contact: str | None
) -> str | None:
    if asked is None:
        return None
    given = opportunity_of(lead, asked.model_dump(exclude_none=True))
    try:
        return await _made(ctx, OPPORTUNITIES, lead, {**given, "account_id": account, "contact_id": contact})
    except Problem as problem:
        for fault in problem.errors:  # they are of the part of the body
            if fault.pointer and fault.pointer[1:] in NewOpportunity.model_fields:
                fault.pointer = f"/opportunity{fault.pointer}"
        raise


async def _made(ctx: Context, resource: Resource, lead: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    if custom := lead[_CARRIED][resource.plural]:
        given = {**given, CUSTOM: custom}
    assert resource.create is not None  # noqa: S101 - of accounts and contacts
    whole = with_defaults(resource.create, given)
    made = await create(ctx, resource, whole, given=given.keys(), complete=False)
    assert made is not None  # noqa: S101 - no key is taken by it
    return str(made["id"])


async def _seen(ctx: Context, resource: Resource, id_: str, pointer: str) -> str:
    ctx.access.through(resource)
    found = await find(ctx, resource, id_)
    if found is None:
        raise invalid(pointer, "reference_not_found", f"There is no such {resource.singular}.")
    return str(found["id"])
