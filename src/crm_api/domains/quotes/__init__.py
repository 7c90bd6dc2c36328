"""Quotes: what an account is offered, in revisions, until it is accepted and becomes an order."""

from crm_api.domains.identity.default_roles import REPRESENTATIVE, sales_roles
from crm_api.domains.quotes.quote import QUOTES
from crm_api.domains.quotes.quote_line import QUOTE_LINES
from crm_api.domains.quotes.states import LIFECYCLE
from crm_api.domains.selling.explanation import explanations
from crm_api.kernel.domain import Domain

_SALES = sales_roles("quotes", "quote_lines")
_VERBS = tuple((f"quotes:{verb}", "own") for verb in (*(edge.verb for edge in LIFECYCLE.offered), "convert"))

DOMAIN = Domain(
    "quotes",
    resources=(QUOTES, QUOTE_LINES),
    routers=(explanations(QUOTES, QUOTE_LINES, "quoted_on"),),
    roles={**_SALES, REPRESENTATIVE: (*_SALES[REPRESENTATIVE], *_VERBS)},
)
