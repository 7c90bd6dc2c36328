"""Secrets that a browser or a letter carries: they name tenant and row, so row security holds from the start."""

import base64
import binascii
import hmac
import secrets
from dataclasses import dataclass, field
from uuid import UUID

from crm_api.domains.identity.credentials import hashes

_LENGTH = 86
"""Characters of base64url without padding: 16 bytes of the tenant, 16 of the row, 32 of the secret."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A row of a tenant, and a secret of 256 bits that only its holder knows; the row keeps a keyed hash of it."""

    tenant_id: UUID
    id: UUID
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    @property
    def text(self) -> str:
        """As it is handed over, for cookies and addresses alike."""
        return base64.urlsafe_b64encode(self.tenant_id.bytes + self.id.bytes + self.secret).decode().rstrip("=")

    @property
    def hash(self) -> bytes:
        """What the row keeps."""
        return hashes(self.secret.hex())[0]

    def fits(self, kept: bytes) -> bool:
        """Whether a row keeps the hash of this secret, under any pepper of the server."""
        return any(hmac.compare_digest(bytes(kept), each) for each in hashes(self.secret.hex()))

    def token(self, purpose: str) -> str:
        """A second secret that follows from this one, and from which it cannot be told."""
        return hmac.new(self.secret, purpose.encode(), "sha256").hexdigest()


def read_ticket(text: str | None) -> Ticket | None:
    """The ticket of a text; None for anything that is none."""
    if text is None or len(text) != _LENGTH or not text.isascii():
        return None
    try:
        raw = base64.b64decode(text + "==", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    ticket = Ticket(UUID(bytes=raw[:16]), UUID(bytes=raw[16:32]), raw[32:])
    return ticket if ticket.text == text else None  # the last character has bits that mean nothing
