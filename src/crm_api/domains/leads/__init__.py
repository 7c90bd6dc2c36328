"""Leads: who may become a customer, before there is an account."""

from crm_api.domains.identity.default_roles import REPRESENTATIVE, sales_roles
from crm_api.domains.leads.lead import LEADS
from crm_api.kernel.domain import Domain

_SALES = sales_roles("leads")
_MOVES = tuple((f"leads:{verb}", "own") for verb in ("work", "qualify", "disqualify", "recycle", "convert"))

DOMAIN = Domain("leads", resources=(LEADS,), roles={**_SALES, REPRESENTATIVE: (*_SALES[REPRESENTATIVE], *_MOVES)})
