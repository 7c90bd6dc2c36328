"""The ordered list of domains: the one file that names them all. A domain imports only earlier ones."""

from crm_api.domains import accounts, contacts, exchange, files, identity, integrations, jobs
from crm_api.kernel.resource import Catalog

CATALOG = Catalog(
    [
        identity.DOMAIN,
        jobs.DOMAIN,
        accounts.DOMAIN,
        contacts.DOMAIN,
        files.DOMAIN,
        exchange.DOMAIN,
        integrations.DOMAIN,
    ]
)
