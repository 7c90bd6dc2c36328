"""Roles that a new tenant starts with. Domains add their resources to them."""

from collections.abc import Mapping

ADMINISTRATOR = "Administrator"
MANAGER = "Sales manager"
REPRESENTATIVE = "Sales representative"
READER = "Reader"

IDENTITY_ROLES: Mapping[str, tuple[tuple[str, str], ...]] = {
    ADMINISTRATOR: (("*:*", "all"),),
    MANAGER: (("users:read", "all"), ("users:issue_key", "own"), ("api_keys:*", "own")),
    REPRESENTATIVE: (("users:read", "all"), ("users:issue_key", "own"), ("api_keys:*", "own")),
    READER: (("users:read", "all"),),
}

_REPRESENTATIVE = (
    *("read", "create", "update", "delete", "share", "unshare"),
    *("activate", "mark_at_risk", "deactivate"),
)


def sales_roles(*resources: str) -> dict[str, tuple[tuple[str, str], ...]]:
    """What sales people may do: managers in their tree, representatives with their own, which they may share."""
    return {
        MANAGER: tuple((f"{name}:*", "subordinates") for name in resources),
        REPRESENTATIVE: tuple((f"{name}:{action}", "own") for name in resources for action in _REPRESENTATIVE),
        READER: tuple((f"{name}:read", "all") for name in resources),
    }
