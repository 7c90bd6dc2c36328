"""What an opportunity is worth by its lines."""

from collections.abc import Mapping
from typing import Any

from crm_api.domains.selling.document import today
from crm_api.domains.selling.pricing import price_document, refuse_owned
from crm_api.kernel.context import Context
from crm_api.kernel.parts import items_of
from crm_api.kernel.problems import invalid
from crm_api.kernel.record import MONEY_SCALE
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import money_text

FOLLOWS = "amount_follows_lines"
"""The code of an amount that the lines do not come to, and the end of the name of the constraint that says so, too."""
_OF_ACCOUNT = dict.fromkeys(("price_book_id", "tax_profile_id", "shipping_address", "payment_terms"))
_NONE = {"priced_on": None, "lines_total": None, "lines_currency": None}


async def worth(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The lines at net prices of today, and the amount that they come to; without lines the amount is as it was sent.

    All lines are priced anew when some are sent or the account changes; those whose price was given keep it.

    Raises:
        Problem: 422 without a currency, for an amount that they do not come to, and for what cannot be priced; 403 for
            lines of whoever may not change the amount; 409 for those of a source that owns lines or amount.
    """
    sent = "lines" in values and (before is not None or bool(values["lines"]))
    if sent:
        ctx.kernel.policy.writable(ctx.access, resource, {"amount": None})
    if not (values["lines"] if "lines" in values else items_of(before, "lines")):
        await refuse_owned(ctx, resource, [], before, "amount")
        return _NONE if sent else {}
    currency = {**(before or {}), **values}["currency"]
    if currency is None:
        raise invalid("/currency", "required", "Lines need a currency.")
    terms = {**_OF_ACCOUNT, "currency": currency, "prices": "net", "priced_on": today()}
    found = await price_document(ctx, {**values, **terms}, before, "priced_on")
    await refuse_owned(ctx, resource, found["lines"], before, "amount")
    total = found["net_total"]
    if values.get("amount") not in (None, total):
        raise invalid("/amount", FOLLOWS, f"The lines come to {money_text(int(total * MONEY_SCALE))}.")
    history = {}
    if before is None:
        (begins,) = values["latest_change"]
        history = {"latest_change": [{**begins, "amount": total}]}
    kept = {"priced_on": terms["priced_on"], "lines_total": total, "lines_currency": currency}
    return {"lines": found["lines"], "amount": total, **kept, **history}
