"""The envelope in which an event is told: the same in the feed, in streams and in webhooks."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from crm_api.kernel.schema import Id, Instant

EventType = Annotated[str, Field(max_length=100, examples=["account.updated"])]


class EventObject(BaseModel):
    """What an event is about; `version` is the one the event made, null for a marker of changed access."""

    type: Annotated[str, Field(max_length=63)]
    id: Id
    version: Annotated[int, Field(ge=1, le=9_007_199_254_740_991)] | None
    url: Annotated[str, Field(max_length=200)]
    merged_into: Annotated[
        Id | None, Field(description="With `deleted`: the record that took this one in, when it was merged.")
    ]


class EventActor(BaseModel):
    """Who did it; nulls where the reader may not know."""

    type: Literal["user", "service", "system"] | None
    id: Id | None


class EventCause(BaseModel):
    """A verb on many records that this change is part of, and its job."""

    kind: Annotated[str, Field(max_length=63, examples=["transfer"])]
    job_id: Id


class EventOrigin(BaseModel):
    """Where it came from: the credential, the request and its Idempotency-Key; the cause, if it was one of many."""

    client_id: Id | None
    request_id: Annotated[str, Field(max_length=64)] | None
    idempotency_key: Annotated[str, Field(max_length=255)] | None
    via: Annotated[str, Field(max_length=63)] | None
    cause: EventCause | None


class Event(BaseModel):
    """One change. `data` is the record as a GET sends it, `previous` the old values of the fields in `changed`."""

    id: Annotated[str, Field(max_length=60, description="Stable: the same in the feed, in streams and in webhooks.")]
    type: EventType
    timestamp: Instant
    api_version: Literal["v1"]
    tenant_id: Id
    object: EventObject
    changed: Annotated[list[Annotated[str, Field(max_length=63)]], Field(max_length=200)]
    previous: dict[str, Any]
    data: dict[str, Any] | None
    access: Annotated[
        Literal["gained", "lost", "changed"] | None, Field(description="Set on `access_changed`: what the reader sees.")
    ]
    actor: EventActor
    origin: EventOrigin
    transaction_id: Id
