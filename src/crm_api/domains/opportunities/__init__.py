"""Opportunities: pipelines and their stages, what accounts may buy, and how it got where it is."""

from crm_api.domains.identity.default_roles import MANAGER, READER, REPRESENTATIVE, sales_roles
from crm_api.domains.opportunities import forecast, forecast_accuracy, take_snapshots
from crm_api.domains.opportunities.begin import SEED
from crm_api.domains.opportunities.forecast_quota import FORECAST_QUOTAS
from crm_api.domains.opportunities.forecast_snapshot import FORECAST_SNAPSHOTS
from crm_api.domains.opportunities.opportunity import OPPORTUNITIES
from crm_api.domains.opportunities.opportunity_contact import OPPORTUNITY_CONTACTS
from crm_api.domains.opportunities.opportunity_line import OPPORTUNITY_LINES
from crm_api.domains.opportunities.pipeline import PIPELINES
from crm_api.domains.opportunities.stage import STAGES
from crm_api.domains.opportunities.stage_change import STAGE_CHANGES
from crm_api.kernel.domain import Domain

_SALES = sales_roles("opportunities", "opportunity_contacts", "opportunity_lines")
_EVERYBODY = (("pipelines:read", "all"), ("stages:read", "all"))

DOMAIN = Domain(
    "opportunities",
    resources=(
        PIPELINES,
        STAGES,
        OPPORTUNITIES,
        OPPORTUNITY_CONTACTS,
        OPPORTUNITY_LINES,
        STAGE_CHANGES,
        FORECAST_QUOTAS,
        FORECAST_SNAPSHOTS,
    ),
    routers=(forecast.router, forecast_accuracy.router, take_snapshots.router),
    seeds=(SEED,),
    roles={
        MANAGER: (
            *_SALES[MANAGER],
            *_EVERYBODY,
            ("stage_changes:read", "subordinates"),
            ("forecast_quotas:*", "subordinates"),
            ("forecast_snapshots:read", "subordinates"),
        ),
        REPRESENTATIVE: (
            *_SALES[REPRESENTATIVE],
            *((f"opportunities:{verb}", "own") for verb in ("move", "win", "lose", "reopen")),
            *_EVERYBODY,
            ("stage_changes:read", "own"),
            ("forecast_quotas:read", "own"),
            ("forecast_snapshots:read", "own"),
        ),
        READER: (
            *_SALES[READER],
            *_EVERYBODY,
            ("stage_changes:read", "all"),
            ("forecast_quotas:read", "all"),
            ("forecast_snapshots:read", "all"),
        ),
    },
)
