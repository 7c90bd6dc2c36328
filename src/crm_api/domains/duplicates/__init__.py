"""Records that mean the same: how they are found, and how two become one."""

from crm_api.domains.duplicates.duplicate_check import DUPLICATE_CHECKS
from crm_api.kernel.domain import Domain
from crm_api.kernel.duplicates_scan import SCAN

DOMAIN = Domain("duplicates", resources=(DUPLICATE_CHECKS,), jobs=(SCAN,))
