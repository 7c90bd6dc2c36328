"""What other systems need to work with this one: who they are, and which fields are theirs."""

from crm_api.domains.integrations.source import SOURCES
from crm_api.kernel.resource import Domain

DOMAIN = Domain("integrations", resources=(SOURCES,))
