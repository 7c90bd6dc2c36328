"""The query parameters that filter by custom fields."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from crm_api.kernel.customs import Custom, fields_of
from crm_api.kernel.filter_values import parameters_of

if TYPE_CHECKING:
    from crm_api.kernel.policy import Access
    from crm_api.kernel.resource import Resource


def custom_parameters(access: "Access", resource: "Resource") -> dict[str, tuple[str, str, str]]:
    """Query parameter -> (field, operator, kind) of the tenant's custom fields of a resource."""
    return custom_flat(fields_of(access, resource))


def custom_flat(fields: Mapping[str, Custom]) -> dict[str, tuple[str, str, str]]:
    """The same of some custom fields; one whose key ends like an operator comes before that operator."""
    found: dict[str, tuple[str, str, str]] = {}
    whole: dict[str, tuple[str, str, str]] = {}
    for custom in fields.values():
        if custom.filterable and custom.kind.filter is not None:
            own = parameters_of(custom.name, custom.kind.filter, chosen=custom.known is not None, nullable=True)
            found |= own
            whole[custom.name] = own[custom.name]
    return found | whole
