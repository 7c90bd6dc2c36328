"""Editing of many records at once, and taking an edit back."""

from crm_api.domains.editing import undo
from crm_api.domains.editing.edit import EDIT
from crm_api.domains.editing.undo import UNDO_EDIT
from crm_api.kernel.collective import CollectiveDomain

DOMAIN = CollectiveDomain("editing", routers=(undo.router,), jobs=(EDIT.job, UNDO_EDIT), collective=(EDIT,))
