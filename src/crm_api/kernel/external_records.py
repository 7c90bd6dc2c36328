"""The tables of external ids and of the sources that give them."""

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.kernel.record import Entity, Record, one_of, reference, sortable, sparse, unique


class ExternalId(Record):
    """What a source calls a record: the same as in the record's own `external_ids`, where it can be found.

    `object_type` is the first resource of the record's table, so that a reference to the table finds it. With its
    record, it is deleted and restored; only those of live records are taken.
    """

    __tablename__ = "external_ids"
    __table_args__ = (
        unique("uq_external_ids_external_id", "source", "object_type", "external_id"),
        sa.Index(
            "ix_external_ids_deleted",
            *("tenant_id", "source", "object_type", "external_id"),
            postgresql_where=sa.column("deleted_at").is_not(None),
        ),
    )

    object_type: Mapped[str] = mapped_column(primary_key=True)
    object_id: Mapped[UUID] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    external_id: Mapped[str]
    deleted_at: Mapped[datetime | None]


class Source(Entity):
    """Another system that has ids of its own for our records, and may own some of their fields."""

    __tablename__ = "sources"
    __table_args__ = (
        one_of("on_conflict", ("refuse", "ignore")),
        reference("service_account_id", "principals"),
        unique("uq_sources_code", "code"),
        *sortable("sources", "name_key", "created_at"),
        sparse("sources", "service_account_id"),
    )

    code: Mapped[str]
    name: Mapped[str]
    name_key: Mapped[str]
    service_account_id: Mapped[UUID | None]
    owned_fields: Mapped[list[Any]]
    on_conflict: Mapped[str]
