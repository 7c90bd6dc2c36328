"""Prices, taxes and currencies."""

from crm_api.domains.identity.default_roles import MANAGER, READER, REPRESENTATIVE
from crm_api.domains.pricing.base_currency import BASE_CURRENCIES
from crm_api.domains.pricing.currency_rate import CURRENCY_RATES
from crm_api.domains.pricing.price_book import PRICE_BOOKS
from crm_api.domains.pricing.price_entry import PRICE_ENTRIES
from crm_api.domains.pricing.quote_routes import router
from crm_api.domains.pricing.tax_profile import TAX_PROFILES
from crm_api.domains.pricing.tax_rate import TAX_RATES
from crm_api.kernel.domain import Domain

_RESOURCES = (CURRENCY_RATES, BASE_CURRENCIES, TAX_PROFILES, TAX_RATES, PRICE_BOOKS, PRICE_ENTRIES)
_READ = tuple((f"{resource.plural}:read", "all") for resource in _RESOURCES)
_SELL = (*_READ, ("price_books:quote", "all"))

DOMAIN = Domain(
    "pricing", resources=_RESOURCES, routers=(router,), roles={MANAGER: _SELL, REPRESENTATIVE: _SELL, READER: _READ}
)
