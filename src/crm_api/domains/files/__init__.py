"""Files on records: their bytes are in a store, who may see them follows from the record."""

from crm_api.domains.files import download, upload
from crm_api.domains.files.file import FILES
from crm_api.domains.identity.default_roles import MANAGER, READER, REPRESENTATIVE
from crm_api.kernel.domain import Domain

DOMAIN = Domain(
    "files",
    resources=(FILES,),
    routers=(upload.router, download.router),
    roles={
        MANAGER: (("files:*", "own"),),
        REPRESENTATIVE: (("files:*", "own"),),
        READER: (("files:read", "own"),),
    },
)
"""Reach adds nothing but `all`, which opens every file: a file has no owner, it is open as its record is."""
