"""What a browser holds from one page to the next before it is signed in: sealed values, good for minutes."""

import base64
import binascii
import time
from typing import Any
from uuid import UUID

import orjson

from crm_api.kernel.context import Kernel
from crm_api.kernel.sealing import SealError


def seal(kernel: Kernel, tenant_id: UUID, purpose: str, seconds: int, **values: Any) -> str:
    """Values that only this server reads, for one purpose, until they end."""
    plain = orjson.dumps({**values, "until": time.time() + seconds})
    sealed = kernel.sealer.seal(tenant_id, f"step:{purpose}", plain)
    return base64.urlsafe_b64encode(tenant_id.bytes + sealed).decode().rstrip("=")


def unseal(kernel: Kernel, purpose: str, text: str | None) -> tuple[UUID, dict[str, Any]] | None:
    """The tenant and values of what `seal` made; None for what has ended, was altered or is for another purpose."""
    if not text or len(text) > 3_500 or not text.isascii():
        return None
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        tenant_id = UUID(bytes=raw[:16])
        values: dict[str, Any] = orjson.loads(kernel.sealer.unseal(tenant_id, f"step:{purpose}", raw[16:]))
    except (binascii.Error, ValueError, SealError):
        return None
    return (tenant_id, values) if values.pop("until") > time.time() else None
