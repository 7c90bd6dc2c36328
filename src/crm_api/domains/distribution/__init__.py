"""Who gets records, many at a time: share, unshare, transfer, distribute."""

from crm_api.domains.distribution.distribute import DISTRIBUTE, DISTRIBUTE_RECORDS
from crm_api.domains.distribution.share import SHARE, SHARE_RECORDS, UNSHARE, UNSHARE_RECORDS
from crm_api.domains.distribution.transfer import TRANSFER, TRANSFER_RECORDS
from crm_api.kernel.collective import CollectiveDomain

DOMAIN = CollectiveDomain(
    "distribution",
    jobs=(SHARE_RECORDS, UNSHARE_RECORDS, TRANSFER_RECORDS, DISTRIBUTE_RECORDS),
    collective=(SHARE, UNSHARE, TRANSFER, DISTRIBUTE),
)
