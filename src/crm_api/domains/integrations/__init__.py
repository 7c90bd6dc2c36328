"""Integrations: other systems and whose fields are theirs, the change feed, webhooks."""

from crm_api.domains.integrations import changes
from crm_api.domains.integrations.replay import REPLAY_EVENTS
from crm_api.domains.integrations.source import SOURCES
from crm_api.domains.integrations.webhook_delivery import WEBHOOK_ATTEMPTS, WEBHOOK_DELIVERIES
from crm_api.domains.integrations.webhook_endpoint import WEBHOOK_ENDPOINTS
from crm_api.kernel.domain import Domain

DOMAIN = Domain(
    "integrations",
    resources=(SOURCES, WEBHOOK_ENDPOINTS, WEBHOOK_DELIVERIES, WEBHOOK_ATTEMPTS),
    routers=(changes.router,),
    jobs=(REPLAY_EVENTS,),
)
