"""Editing of many records at once, and taking back what was done to many."""

from crm_api.domains.distribution import undo
from crm_api.domains.editing.edit import EDIT
from crm_api.domains.editing.restore import UNDO
from crm_api.kernel.collective import CollectiveDomain

DOMAIN = CollectiveDomain("editing", routers=(undo.router,), jobs=(EDIT.job, UNDO.job), collective=(EDIT,))
