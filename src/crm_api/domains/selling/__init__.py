"""What all sales documents have: lines with prices and taxes, terms, totals."""

from crm_api.kernel.domain import Domain

DOMAIN = Domain("selling")
