"""Parts of the contract of hand-written operations, as OpenAPI writes them."""

from typing import Any

from crm_api.kernel.spec_style import parameter

BYTES: dict[str, Any] = {
    "content": {"*/*": {"schema": {"type": "string", "format": "binary", "maxLength": 1_000_000_000}}},
}
"""A reply of bytes."""
SENT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The bytes.", **BYTES},
    206: {"description": "The bytes of the range.", **BYTES},
    304: {"description": "The caller has them."},
    403: {},
    404: {},
    422: {},
}
"""The replies of a download."""


def asked(path: dict[str, Any], longest: int) -> dict[str, Any]:
    """The parameters of a download: its path, a token of at most so many characters, a range."""
    token = parameter("token", "From a link; stands for the credential.", maxLength=longest)
    range_ = parameter("Range", "One range of bytes (RFC 9110).", place="header", maxLength=100)
    return {"parameters": [path, token, range_]}
