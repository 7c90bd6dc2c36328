"""How people look at records: saved views, and the tags that are in use."""

from crm_api.domains.identity.default_roles import MANAGER, READER, REPRESENTATIVE
from crm_api.domains.views import show, tags
from crm_api.domains.views.saved_view import SAVED_VIEWS
from crm_api.kernel.domain import Domain

_OWN = tuple((f"saved_views:{action}", "own") for action in ("read", "create", "update", "delete"))
DOMAIN = Domain(
    "views",
    resources=(SAVED_VIEWS,),
    routers=(show.router, tags.router),
    roles={MANAGER: (*_OWN, ("saved_views:publish", "own")), REPRESENTATIVE: _OWN, READER: _OWN[:1]},
)
