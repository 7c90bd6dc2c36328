"""The tables of custom fields: what a tenant declared, and the values that are found by index."""

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.kernel.record import Entity, Record, one_of, reference, sortable, unique

KIND_NAMES = (
    *("text", "long_text", "number", "decimal", "money", "date", "instant", "boolean"),
    *("choice", "multi_choice", "reference", "url", "email", "phone"),
)
CIRCLE = ("owner_id", "team_id", "territory_id")
"""Columns of a record that decide who sees it, and stand beside each of its values."""


class CustomField(Entity):
    """A field that a tenant added to a resource. `key` is its name in `custom`, and never changes."""

    __tablename__ = "custom_fields"
    __table_args__ = (
        one_of("kind", KIND_NAMES),
        one_of("state", ("active", "retired")),
        one_of("index_state", ("none", "building", "ready")),
        unique("uq_custom_fields_key", "resource", "key"),
        *sortable("custom_fields", "position", "created_at"),
    )

    resource: Mapped[str]
    key: Mapped[str]
    kind: Mapped[str]
    label: Mapped[str]
    labels: Mapped[dict[str, Any]]
    help: Mapped[str | None]
    position: Mapped[int]
    is_required: Mapped[bool]
    is_unique: Mapped[bool]
    is_filterable: Mapped[bool]
    is_searchable: Mapped[bool]
    default_value: Mapped[Any] = mapped_column(JSONB(none_as_null=True), nullable=True)
    choices: Mapped[list[Any]]
    is_open: Mapped[bool]
    target: Mapped[str | None]
    currency: Mapped[str | None]
    state: Mapped[str]
    index_state: Mapped[str]
    index_build: Mapped[int]


class CustomValue(Record):
    """One value of one field that is marked filterable or unique, in the column of its kind. No row: no value.

    `unique_key` is the value again, where no other live record may have it. Owner, team and territory are those of the
    record, by which a walk leaves out what is closed to its caller before it looks records up; a trigger on the
    record's table keeps them. Without an owner the record itself is asked.
    """

    __tablename__ = "custom_values"
    __table_args__ = (
        reference("field_id", "custom_fields"),
        sa.Index(
            "uq_custom_values_unique_key",
            "tenant_id",
            "field_id",
            "unique_key",
            unique=True,
            postgresql_where=sa.column("unique_key").is_not(None),
            info={"fields": ["custom"]},
        ),
        sa.Index("ix_custom_values_object_id", "tenant_id", "object_id"),
        *(
            sa.Index(
                f"ix_custom_values_{name}",
                "tenant_id",
                "field_id",
                name,
                "object_id",
                postgresql_include=CIRCLE,
                postgresql_where=sa.column(name).is_not(None),
            )
            for name in ("text_value", "number_value", "instant_value")
        ),
    )

    field_id: Mapped[UUID] = mapped_column(primary_key=True)
    object_id: Mapped[UUID] = mapped_column(primary_key=True)
    text_value: Mapped[str | None]
    number_value: Mapped[int | None]
    instant_value: Mapped[datetime | None]
    unique_key: Mapped[str | None]
    owner_id: Mapped[UUID | None]
    team_id: Mapped[UUID | None]
    territory_id: Mapped[UUID | None]
