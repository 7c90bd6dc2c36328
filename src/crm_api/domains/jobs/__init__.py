"""Jobs: long work that was started by a request, and how it goes. Each domain declares the kinds of its own."""

from crm_api.domains.identity.default_roles import MANAGER, READER, REPRESENTATIVE
from crm_api.domains.jobs.job import JOBS
from crm_api.kernel.domain import Domain

DOMAIN = Domain("jobs", resources=(JOBS,), roles=dict.fromkeys((MANAGER, REPRESENTATIVE, READER), (("jobs:*", "own"),)))
