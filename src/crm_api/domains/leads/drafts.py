"""What a lead says of the records that may become of it, as far as the caller sees it."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from crm_api.domains.accounts.contact_points import Address
from crm_api.kernel.context import Context
from crm_api.kernel.parts import items_of
from crm_api.kernel.record import MONEY_SCALE
from crm_api.kernel.resource import Resource

_LONGEST_NAME = 200
_LISTS = ("emails", "phones", "tags")
_COMMON = ("owner_id", "source", "tags")


def seen_of(ctx: Context, resource: Resource, row: Mapping[str, Any]) -> dict[str, Any]:
    """A loaded lead without what is hidden from the caller: on an account or contact they would see it."""
    seen = {name: None if name in ctx.access.hides(resource.plural) else value for name, value in row.items()}
    return seen | {name: items_of(seen, name) for name in _LISTS}


def account_of(lead: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fields of an account that the lead gives; one without a company is a person that one does business with."""
    if (name := _name(lead)) is None:
        return None
    found = {"name": name, "website": lead["website"], **_common(lead)}
    if lead["country"]:
        address = Address(kind="other", country=lead["country"], is_primary=True)
        found["addresses"] = [address.model_dump()]
    if not lead["last_name"]:  # else they are the person's
        found |= {"emails": lead["emails"], "phones": lead["phones"]}
    return _given(found)


def contact_of(lead: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fields of a contact that the lead gives; None when it names nobody."""
    if not lead["last_name"]:
        return None
    names = ("first_name", "last_name", "title", "language", "emails", "phones")
    return _given({**{name: lead[name] for name in names}, **_common(lead)})


def opportunity_of(lead: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an opportunity: those asked for, the others as the lead gives them."""
    estimate = None if lead["estimate"] is None else Decimal(lead["estimate"]) / MONEY_SCALE
    found = {"name": _name(lead), "amount": estimate, "currency": lead["currency"], **_common(lead)}
    return _given(found) | dict(asked)


def _name(lead: Mapping[str, Any]) -> str | None:
    name: str = lead["company"] or " ".join(filter(None, (lead["first_name"], lead["last_name"])))
    return name[:_LONGEST_NAME].strip() or None


def _common(lead: Mapping[str, Any]) -> dict[str, Any]:
    return {name: lead[name] for name in _COMMON}


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, [])}
