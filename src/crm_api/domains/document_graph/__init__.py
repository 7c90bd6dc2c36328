"""The graph of sales documents: what led to one, and what came of it."""

from crm_api.domains.document_graph import routes
from crm_api.kernel.domain import Domain

DOMAIN = Domain("document_graph", routers=(routes.router,))
