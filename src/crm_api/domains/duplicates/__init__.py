"""Records that mean the same: how they are found, and how two become one."""

from crm_api.kernel.resource import Domain

DOMAIN = Domain("duplicates")
