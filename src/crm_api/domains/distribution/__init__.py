"""Who gets records, many at a time: share, unshare, transfer, distribute."""

from crm_api.domains.distribution.distribute import DISTRIBUTE
from crm_api.domains.distribution.share import SHARE, UNSHARE
from crm_api.domains.distribution.transfer import TRANSFER
from crm_api.kernel.collective import CollectiveDomain

_VERBS = (SHARE, UNSHARE, TRANSFER, DISTRIBUTE)
DOMAIN = CollectiveDomain("distribution", jobs=tuple(verb.job for verb in _VERBS), collective=_VERBS)
