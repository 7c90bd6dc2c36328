"""The ordered list of domains: the one file that names them all. A domain imports only earlier ones."""

from crm_api.domains import (
    accounts,
    approvals,
    contacts,
    distribution,
    document_graph,
    duplicates,
    exchange,
    files,
    identity,
    integrations,
    jobs,
    leads,
    numbering,
    opportunities,
    orders,
    pricing,
    printing,
    products,
    quotes,
    search,
    selling,
    sign_in,
)
from crm_api.kernel.domain import Catalog

CATALOG = Catalog(
    [
        identity.DOMAIN,
        sign_in.DOMAIN,
        jobs.DOMAIN,
        distribution.DOMAIN,
        duplicates.DOMAIN,
        accounts.DOMAIN,
        contacts.DOMAIN,
        numbering.DOMAIN,
        products.DOMAIN,
        approvals.DOMAIN,
        pricing.DOMAIN,
        selling.DOMAIN,
        opportunities.DOMAIN,
        leads.DOMAIN,
        orders.DOMAIN,
        quotes.DOMAIN,
        files.DOMAIN,
        document_graph.DOMAIN,
        printing.DOMAIN,
        exchange.DOMAIN,
        integrations.DOMAIN,
        search.DOMAIN,
    ]
)
