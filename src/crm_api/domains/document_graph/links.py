"""Which references lead from one sales document to the next."""

from collections.abc import Iterable
from dataclasses import dataclass

from crm_api.domains.leads.lead import LEADS
from crm_api.domains.opportunities.opportunity import OPPORTUNITIES
from crm_api.domains.opportunities.opportunity_line import OPPORTUNITY_LINES
from crm_api.domains.orders.order import ORDERS
from crm_api.domains.orders.order_line import ORDER_LINES
from crm_api.domains.quotes.quote import QUOTES
from crm_api.domains.quotes.quote_line import QUOTE_LINES
from crm_api.kernel.context import Context
from crm_api.kernel.resource import Resource

DOCUMENTS = (LEADS, OPPORTUNITIES, QUOTES, ORDERS)
LINES = {"opportunity": OPPORTUNITY_LINES, "quote": QUOTE_LINES, "order": ORDER_LINES}
"""The lines of each kind of document that has some."""


@dataclass(frozen=True)
class Link:
    """A reference between documents.

    Attributes:
        kind: how the later document came of the earlier one.
        holder: the resource that has the reference.
        column: the reference.
        target: what it points to.
        forward: whether the holder is the earlier one.
    """

    kind: str
    holder: Resource
    column: str
    target: Resource
    forward: bool = False


_ALL = (
    Link("converted", LEADS, "converted_opportunity_id", OPPORTUNITIES, forward=True),
    Link("quoted", QUOTES, "opportunity_id", OPPORTUNITIES),
    Link("revised", QUOTES, "previous_id", QUOTES),
    Link("converted", QUOTES, "order_id", ORDERS, forward=True),
    Link("ordered", ORDERS, "opportunity_id", OPPORTUNITIES),
)


def readable(ctx: Context, resources: Iterable[Resource]) -> tuple[Resource, ...]:
    """Those of which the caller may read some, by role and by the credential's scopes."""
    return tuple(
        item for item in resources if ctx.access.may(item.plural, "read") and item.plural not in ctx.access.closed
    )


def links(ctx: Context) -> tuple[Link, ...]:
    """Those that the caller may follow: both ends are open to them in principle, and the reference is not hidden."""
    open_ = readable(ctx, DOCUMENTS)
    return tuple(
        link
        for link in _ALL
        if link.holder in open_ and link.target in open_ and link.column not in ctx.access.hides(link.holder.plural)
    )
