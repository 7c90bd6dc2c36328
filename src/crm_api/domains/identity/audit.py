"""The audit log as a resource: read-only, for those whose roles reach all of it."""

from typing import Annotated, Any, Literal

import orjson
from pydantic import Field

from crm_api.kernel.customs import CUSTOM, PREFIX
from crm_api.kernel.policy import Access
from crm_api.kernel.record import AuditEntry
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Id, Instant, Wire


class AuditEntryView(Wire):
    """One change: who, when, what, by which request."""

    id: Id
    object: Literal["audit_entry"]
    at: Instant
    actor_id: Id | None
    credential_id: Id | None
    request_id: Annotated[str, Field(max_length=64)]
    object_type: Annotated[str, Field(max_length=63)]
    object_id: Id
    version: Annotated[int, Field(ge=0, le=9_007_199_254_740_991)]
    action: Annotated[str, Field(max_length=63)]
    before: Annotated[dict[str, Any], Field(description="Old values of what changed; amounts in ten-thousandths.")]
    after: Annotated[dict[str, Any], Field(description="New values of what changed; amounts in ten-thousandths.")]
    redacted: Annotated[
        list[Annotated[str, Field(max_length=63)]],
        Field(
            max_length=200,
            description="What you may not see: null here, or absent from `before` and `after`, changed or not.",
        ),
    ]


def _mask(access: Access, item: dict[str, Any]) -> None:
    """Takes out the fields that the reader may not see on the changed record, and names them all, changed or not."""
    if hidden := access.hidden_types.get(item["object_type"]):
        for side in ("before", "after"):
            told = {name: value for name, value in orjson.loads(item[side]).items() if name not in hidden}
            if isinstance(custom := told.get(CUSTOM), dict):
                told[CUSTOM] = {key: value for key, value in custom.items() if PREFIX + key not in hidden}
            item[side] = orjson.dumps(told)
        item["redacted"] = sorted(hidden.union(item.get("redacted", ())))


AUDIT_LOG = Resource(
    singular="audit_entry",
    plural="audit_log",
    model=AuditEntry,
    output=AuditEntryView,
    title="action",
    filters=(
        AuditEntry.object_type,
        AuditEntry.object_id,
        AuditEntry.actor_id,
        AuditEntry.action,
        AuditEntry.at,
        AuditEntry.request_id,
    ),
    sorts=(),
    operations=frozenset({"get", "list"}),
    mask=_mask,
)
