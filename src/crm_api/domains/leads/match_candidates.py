"""Verb that only tells: accounts and contacts that may mean the same as what a lead would become."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from crm_api.domains.accounts.account import ACCOUNTS
from crm_api.domains.contacts.contact import CONTACTS
from crm_api.domains.leads.drafts import account_of, contact_of, seen_of
from crm_api.kernel.context import Context
from crm_api.kernel.duplicates_requests import Duplicate
from crm_api.kernel.duplicates_search import MOST, candidates
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.row import derived
from crm_api.kernel.schema import Wire

_Candidates = Annotated[list[Duplicate], Field(max_length=MOST, description="The most likely first.")]


class MatchCandidates(Wire):
    """What a lead may be already, of what the caller may see."""

    object: Literal["match_candidates"]
    accounts: _Candidates
    contacts: _Candidates


async def match_candidates(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Compares by the rules for duplicates; a name finds contacts of the likeliest account only."""
    del body
    lead = seen_of(ctx, resource, row)
    company = account_of(lead)
    accounts = [] if company is None else await _alike(ctx, ACCOUNTS, {**company, "emails": lead["emails"]})
    person = contact_of(lead)
    if person is not None and accounts:
        person["account_id"] = accounts[0]["record"]["id"]
    contacts = [] if person is None else await _alike(ctx, CONTACTS, person)
    return {"object": "match_candidates", "accounts": accounts, "contacts": contacts}


async def _alike(ctx: Context, resource: Resource, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    if resource.plural in ctx.access.closed or not ctx.access.may(resource.plural, "read"):
        return []
    return await candidates(ctx, resource, derived(resource, given))


MATCH_CANDIDATES = Action(
    "match_candidates",
    "Find accounts and contacts that the lead may be",
    match_candidates,
    reply=MatchCandidates,
    method="GET",
    level="read",
)
