"""Custom fields: what a tenant adds to accounts, contacts, orders and the rest."""

from crm_api.domains.customs import meta
from crm_api.domains.customs.build_index import INDEX_CUSTOM_FIELD
from crm_api.domains.customs.custom_field import CUSTOM_FIELDS
from crm_api.kernel.domain import Domain

DOMAIN = Domain("customs", resources=(CUSTOM_FIELDS,), routers=(meta.router,), jobs=(INDEX_CUSTOM_FIELD,))
