"""Printing: PDFs of sales documents, whichever there are, by templates of the tenant's own or the shipped ones."""

from crm_api.domains.identity.default_roles import MANAGER, READER, REPRESENTATIVE
from crm_api.domains.printing import pdf_routes
from crm_api.domains.printing.document_template import DOCUMENT_TEMPLATES
from crm_api.kernel.domain import Domain

_READ = (("document_templates:read", "all"),)

DOMAIN = Domain(
    "printing",
    resources=(DOCUMENT_TEMPLATES,),
    routers=(pdf_routes.router,),
    over=pdf_routes.routes,
    roles={MANAGER: _READ, REPRESENTATIVE: _READ, READER: _READ},
)
