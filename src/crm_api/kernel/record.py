"""The base of every table: the tenant in front, version, times, and the kernel's own few tables."""

from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

MONEY_SCALE = 10_000
RATIO_SCALE = 1_000_000


class _Scaled(sa.types.TypeDecorator[Decimal]):
    """A decimal kept as a scaled bigint: leakproof comparisons under row security, and no NaN."""

    impl = sa.BigInteger
    cache_ok = True
    scale: ClassVar[int]

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Decimal to scaled integer; an integer is taken as already scaled."""
        return value if value is None or isinstance(value, int) else int(value * self.scale)


class MoneyAmount(_Scaled):
    """An amount in ten-thousandths of its currency's unit."""

    scale = MONEY_SCALE
    cache_ok = True


class Ratio(_Scaled):
    """A quantity, rate or share in millionths."""

    scale = RATIO_SCALE
    cache_ok = True


_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_1_name)s",
    "pk": "pk_%(table_name)s",
}
_TYPES: dict[Any, Any] = {
    datetime: sa.DateTime(timezone=True),
    UUID: sa.Uuid(),
    str: sa.Text(),
    int: sa.BigInteger(),
    dict[str, Any]: JSONB(),
    list[Any]: JSONB(),
}


class Record(DeclarativeBase):
    """A row of one tenant."""

    metadata = sa.MetaData(naming_convention=_NAMES)
    type_annotation_map: ClassVar[dict[Any, Any]] = _TYPES

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True, sort_order=-10)


class Reference(DeclarativeBase):
    """A row of the installation, of no tenant: few and small. The server's role has no rights on such a table."""

    metadata = sa.MetaData(naming_convention=_NAMES)
    type_annotation_map: ClassVar[dict[Any, Any]] = _TYPES


class Entity(Record):
    """A row that the API shows: what DOMAIN calls "every record"."""

    __abstract__ = True

    id: Mapped[UUID] = mapped_column(primary_key=True, sort_order=-9)
    version: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[datetime]
    created_by: Mapped[UUID | None]
    created_via: Mapped[str] = mapped_column(server_default="api")
    updated_at: Mapped[datetime]
    updated_by: Mapped[UUID | None]
    deleted_at: Mapped[datetime | None]
    custom: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    external_ids: Mapped[dict[str, Any]] = mapped_column(server_default="{}")


class Owned:
    """Adds who a row belongs to. Row policies read these three columns and no others."""

    owner_id: Mapped[UUID | None]
    team_id: Mapped[UUID | None]
    territory_id: Mapped[UUID | None]


def ownership(table: str) -> tuple[Any, ...]:
    """Foreign keys and indexes of an `Owned` table; newest-first lists of an owner are served in order."""
    return (
        reference("owner_id", "principals"),
        reference("team_id", "teams"),
        reference("territory_id", "territories"),
        sa.Index(f"ix_{table}_owner_id", "tenant_id", "owner_id", "created_at", "id"),
        *(sparse(table, name) for name in ("team_id", "territory_id")),
    )


def reference(column: str, table: str) -> sa.ForeignKeyConstraint:
    """A foreign key within the tenant; the only kind there is."""
    return sa.ForeignKeyConstraint(["tenant_id", column], [f"{table}.tenant_id", f"{table}.id"])


def one_of(column: str, values: tuple[str, ...]) -> sa.CheckConstraint:
    """Closed vocabulary of a text column."""
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=column)


def sortable(table: str, *columns: str) -> tuple[sa.Index, ...]:
    """The index (tenant_id, column, id) that each sortable or high-use column needs."""
    return tuple(sa.Index(f"ix_{table}_{column}", "tenant_id", column, "id") for column in columns)


def unique(name: str, *columns: str) -> sa.Index:
    """At most one live row of a tenant has these values."""
    alive = sa.column("deleted_at").is_(None)
    return sa.Index(name, "tenant_id", *columns, unique=True, postgresql_where=alive)


def unique_while(name: str, *columns: str, **held: str) -> sa.Index:
    """The same among the rows that hold these values: `unique_while("uq", "object_id", status="pending")`."""
    alive = [sa.column("deleted_at").is_(None)]
    same = [sa.column(column) == sa.literal_column(f"'{value}'") for column, value in held.items()]
    return sa.Index(name, "tenant_id", *columns, unique=True, postgresql_where=sa.and_(*alive, *same))


def sparse(table: str, column: str) -> sa.Index:
    """The same for what many rows leave empty and nobody sorts by: such rows cost it nothing."""
    kept = sa.column(column).is_not(None)
    return sa.Index(f"ix_{table}_{column}", "tenant_id", column, "id", postgresql_where=kept)


def among(column: Any, values: Any) -> sa.ColumnElement[bool]:
    """Whether the column's value is one of an array's."""
    return sa.cast(column == sa.any_(values), sa.Boolean)


def readable(column: Any) -> Any:
    """A column as it is read: an id as text."""
    return sa.cast(column, sa.Text()) if isinstance(column.type, sa.Uuid) else column


def table_of(model: type[Record]) -> sa.Table:
    """The SQLAlchemy table of a model."""
    return cast("sa.Table", model.__table__)


class Tenant(Record):
    """A customer of the operator. `access_version` rises in each transaction that changes who may see what.

    The rates are requests each second, where the operator set other limits than those of the settings.
    """

    __tablename__ = "tenants"

    name: Mapped[str]
    created_at: Mapped[datetime]
    access_version: Mapped[int] = mapped_column(server_default="1")
    is_active: Mapped[bool] = mapped_column(server_default="true")
    credential_rate: Mapped[int | None]
    tenant_rate: Mapped[int | None]


class FieldValue(Record):
    """One value of a multi-valued field (e-mails, phones, tags): what makes them findable by index."""

    __tablename__ = "field_values"
    __table_args__ = (sa.Index("ix_field_values_object", "tenant_id", "object_id"),)

    field: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str] = mapped_column(primary_key=True)
    object_id: Mapped[UUID] = mapped_column(primary_key=True)


class Share(Record):
    """One row opened to one user, team or territory, until it expires."""

    __tablename__ = "shares"
    __table_args__ = (
        one_of("grantee_type", ("user", "team", "territory")),
        one_of("level", ("read", "write")),
        sa.UniqueConstraint("tenant_id", "object_id", "grantee_id"),
        sa.Index("ix_shares_expires_at", "expires_at", postgresql_where=sa.column("expires_at").is_not(None)),
        sa.Index("ix_shares_grantee_id", "tenant_id", "grantee_id", "object_type", "object_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    object_type: Mapped[str]
    object_id: Mapped[UUID]
    grantee_type: Mapped[str]
    grantee_id: Mapped[UUID]
    level: Mapped[str]
    cause: Mapped[str]
    granted_by: Mapped[UUID]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]


class AuditEntry(Record):
    """Who changed what, when and how; append-only for the server's role."""

    __tablename__ = "audit_entries"
    __table_args__ = (sa.Index("ix_audit_entries_object_id", "tenant_id", "object_id", "version"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    actor_id: Mapped[UUID | None]
    credential_id: Mapped[UUID | None]
    request_id: Mapped[str]
    object_type: Mapped[str]
    object_id: Mapped[UUID]
    version: Mapped[int]
    action: Mapped[str]
    before: Mapped[dict[str, Any]]
    after: Mapped[dict[str, Any]]


class _Event(Record):
    """What is kept of one event, on its way and in its place."""

    __abstract__ = True

    event_id: Mapped[UUID]
    at: Mapped[datetime]
    transaction_id: Mapped[UUID]
    type: Mapped[str]
    object_type: Mapped[str]
    object_id: Mapped[UUID]
    version: Mapped[int]
    previous: Mapped[dict[str, Any]]
    data: Mapped[dict[str, Any]]
    actor_id: Mapped[UUID | None]
    origin: Mapped[dict[str, Any]]


class OutboxEvent(_Event):
    """One event of a committed change, waiting for the sequencer. `id` is drawn after the row is locked."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(always=True), primary_key=True)


class FeedEvent(_Event):
    """One event in its place: the rows of `outbox` that were committed, in one order for each tenant without gaps."""

    __tablename__ = "feed"
    __table_args__ = ({"postgresql_partition_by": "RANGE (moved_at)"},)

    seq: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    moved_at: Mapped[datetime] = mapped_column(primary_key=True)


class FeedHead(Record):
    """Where a tenant's feed ends (`seq`) and begins (after `floor`). A restored database gets a new `epoch`."""

    __tablename__ = "feed_heads"

    epoch: Mapped[UUID]
    seq: Mapped[int]
    floor: Mapped[int] = mapped_column(server_default="0")


class IdempotencyKey(Record):
    """A key that a client chose for one write; its reply is kept beside it."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (sa.Index("ix_idempotency_keys_created_at", "created_at"),)

    scope: Mapped[bytes] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    created_at: Mapped[datetime]


class IdempotencyReply(Record):
    """The reply under a key; a table of its own because one statement writes both."""

    __tablename__ = "idempotency_replies"

    scope: Mapped[bytes] = mapped_column(primary_key=True)
    status: Mapped[int]
    object_type: Mapped[str]
    object_id: Mapped[UUID]
    raw: Mapped[bool]
    image: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class Turn(Reference):
    """When a task of the schedule was run last by any process, and when it is due again."""

    __tablename__ = "schedule"

    name: Mapped[str] = mapped_column(primary_key=True)
    ran_at: Mapped[datetime]
    next_at: Mapped[datetime]
