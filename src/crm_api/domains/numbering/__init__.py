"""Numbers of documents."""

from crm_api.domains.identity.default_roles import MANAGER, READER, REPRESENTATIVE
from crm_api.domains.numbering.number_range import NUMBER_RANGES
from crm_api.kernel.domain import Domain

_READ = (("number_ranges:read", "all"),)
DOMAIN = Domain("numbering", resources=(NUMBER_RANGES,), roles={MANAGER: _READ, REPRESENTATIVE: _READ, READER: _READ})
