"""Approvals: which documents need somebody's consent, whose, and what became of it."""

from crm_api.domains.approvals.approval import APPROVALS
from crm_api.domains.approvals.rule import APPROVAL_RULES
from crm_api.domains.identity.default_roles import MANAGER, READER, REPRESENTATIVE
from crm_api.kernel.domain import Domain

_DECIDE = tuple((f"approvals:{action}", "own") for action in ("read", "approve", "reject", "delegate", "withdraw"))

DOMAIN = Domain(
    "approvals",
    resources=(APPROVAL_RULES, APPROVALS),
    roles={MANAGER: _DECIDE, REPRESENTATIVE: _DECIDE, READER: (("approvals:read", "own"),)},
)
