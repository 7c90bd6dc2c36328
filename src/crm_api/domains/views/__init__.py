"""How people look at records: saved views, with which they begin, and the tags that are in use."""

from crm_api.domains.identity.default_roles import MANAGER, READER, REPRESENTATIVE
from crm_api.domains.views import my_defaults, show, tags
from crm_api.domains.views.policy import MAKE_DEFAULT
from crm_api.domains.views.saved_view import SAVED_VIEWS
from crm_api.kernel.domain import Domain

_READ = tuple((f"saved_views:{action}", "own") for action in ("read", MAKE_DEFAULT))
_OWN = (*_READ, *((f"saved_views:{action}", "own") for action in ("create", "update", "delete")))
DOMAIN = Domain(
    "views",
    resources=(SAVED_VIEWS,),
    routers=(show.router, my_defaults.router, tags.router),
    roles={MANAGER: (*_OWN, ("saved_views:publish", "own")), REPRESENTATIVE: _OWN, READER: _READ},
)
