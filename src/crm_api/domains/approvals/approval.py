"""Approvals: the consent that a document waits for, step by step."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.approvals.deciding import (
    ApproveRequest,
    DelegateRequest,
    RejectRequest,
    approve,
    delegate,
    lapse,
    reject,
    withdraw,
)
from crm_api.domains.approvals.policy import DECIDED, OF_ROLE, REQUESTED
from crm_api.domains.approvals.rule import MOST_STEPS, ApprovalStep
from crm_api.kernel.lifecycle import Lifecycle, edge
from crm_api.kernel.record import Entity, one_of, reference, sortable, sparse, unique_while
from crm_api.kernel.resource import READS, Action, Resource
from crm_api.kernel.schema import Code, Id, Instant, Line, Output, Wire

LIFECYCLE = Lifecycle(
    "status",
    "pending",
    (
        edge(
            "approve",
            ("pending",),
            "approved",
            event="approved",
            run=approve,
            body=ApproveRequest,
            otherwise={"pending": "advanced"},
        ),
        edge("reject", ("pending",), "rejected", event="rejected", run=reject, body=RejectRequest),
        edge("withdraw", ("pending",), "withdrawn", event="withdrawn", run=withdraw),
        edge("lapse", ("pending",), "withdrawn", event="withdrawn", run=lapse, internal=True),
    ),
)


class Approval(Entity):
    """The consent that a document waits for, or what became of it."""

    __tablename__ = "approvals"
    __table_args__ = (
        one_of("status", LIFECYCLE.states),
        reference("requested_by_id", "principals"),
        reference("approver_id", "principals"),
        reference("approver_role_id", "roles"),
        *sortable("approvals", "object_id", "created_at"),
        *(
            sparse("approvals", column)
            for column in ("requested_by_id", "approver_id", "approver_role_id", "remind_at")
        ),
        unique_while("uq_approvals_object_id", "object_type", "object_id", status="pending"),
    )

    object_type: Mapped[str]
    object_id: Mapped[UUID]
    status: Mapped[str]
    requested_by_id: Mapped[UUID | None]
    reasons: Mapped[list[Any]]
    steps: Mapped[list[Any]]
    step: Mapped[int]
    approver_id: Mapped[UUID | None]
    approver_role_id: Mapped[UUID | None]
    decisions: Mapped[list[Any]]
    decided_at: Mapped[datetime | None]
    remind_at: Mapped[datetime | None]
    reminders: Mapped[int] = mapped_column(server_default="0")


class ApprovalReason(Wire):
    """Why approval is needed."""

    code: Literal["amount", "discount", "margin", "account", "always"]
    detail: Line
    rule_id: Id


class ApprovalDecision(Wire):
    """What somebody said at a step."""

    step: Annotated[int, Field(ge=0, le=MOST_STEPS)]
    decision: Literal["approved", "rejected", "delegated"]
    principal_id: Id
    to_id: Annotated[Id | None, Field(description="To whom it was delegated.")]
    comment: Line | None
    decided_at: Instant


class ApprovalView(Output):
    """The consent that a document waits for, or what became of it."""

    object: Literal["approval"]
    object_type: Code
    object_id: Id
    status: Literal["pending", "approved", "rejected", "withdrawn"]
    requested_by_id: Id | None
    reasons: Annotated[list[ApprovalReason], Field(max_length=200)]
    steps: Annotated[list[ApprovalStep], Field(max_length=100)]
    step: Annotated[int, Field(ge=0, le=100, description="Which one it waits at, or ended at; 0 is the first.")]
    approver_id: Annotated[Id | None, Field(description="Who is asked at this step.")]
    approver_role_id: Annotated[Id | None, Field(description="Or whoever holds this role.")]
    decisions: Annotated[list[ApprovalDecision], Field(max_length=1000)]
    decided_at: Instant | None


APPROVALS = Resource(
    singular="approval",
    plural="approvals",
    model=Approval,
    output=ApprovalView,
    title="object_type",
    owner=Approval.approver_id,
    rows=(REQUESTED, OF_ROLE, DECIDED),
    operations=READS,
    vouched=frozenset({"requested_by_id", "approver_id", "approver_role_id"}),
    lifecycle=LIFECYCLE,
    actions=(Action("delegate", "Pass {one} on to somebody else", delegate, event="delegated", body=DelegateRequest),),
    notices=("created", "reminded"),
    filters=(
        Approval.object_type,
        Approval.object_id,
        Approval.status,
        Approval.requested_by_id,
        Approval.approver_id,
        Approval.approver_role_id,
        Approval.created_at,
        Approval.decided_at,
    ),
    sorts=(Approval.created_at,),
)
