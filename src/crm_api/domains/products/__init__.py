"""Products: what is sold, in which units and categories, and what a bundle consists of."""

from crm_api.domains.identity.default_roles import MANAGER, READER, REPRESENTATIVE
from crm_api.domains.products.begin import SEED
from crm_api.domains.products.product import PRODUCTS
from crm_api.domains.products.product_category import PRODUCT_CATEGORIES
from crm_api.domains.products.product_component import PRODUCT_COMPONENTS
from crm_api.domains.products.unit import UNITS
from crm_api.kernel.domain import Domain

_RESOURCES = (UNITS, PRODUCT_CATEGORIES, PRODUCTS, PRODUCT_COMPONENTS)
_READ = tuple((f"{resource.plural}:read", "all") for resource in _RESOURCES)

DOMAIN = Domain(
    "products",
    resources=_RESOURCES,
    roles={
        MANAGER: tuple((f"{resource.plural}:*", "all") for resource in _RESOURCES),
        REPRESENTATIVE: _READ,
        READER: _READ,
    },
    seeds=(SEED,),
)
