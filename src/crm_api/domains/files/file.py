"""Files: what is attached to a record. The bytes are in the store, under a key that nobody is told."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped

from crm_api.domains.files.policy import OF_RECORD
from crm_api.kernel.context import Context
from crm_api.kernel.joints import ERASED
from crm_api.kernel.problems import CATALOGUE, Kind, Problem
from crm_api.kernel.record import Entity, sortable
from crm_api.kernel.resource import READS, Check, Resource
from crm_api.kernel.schema import Code, Id, Name, Output

PURGED = CATALOGUE["content_purged"] = Kind("content_purged", 409, "The bytes of the file are gone")


class File(Entity):
    """A file on the record that `object_type` and `object_id` name. `purged_at`: a deleted one has no bytes since."""

    __tablename__ = "files"
    __table_args__ = (
        sa.Index("ix_files_object_id", "tenant_id", "object_type", "object_id", "id"),
        sa.Index(
            "ix_files_deleted_at",
            "deleted_at",
            postgresql_where=sa.and_(sa.column("deleted_at").is_not(None), sa.column("purged_at").is_(None)),
        ),
        *sortable("files", "created_at"),
    )

    object_type: Mapped[str]
    object_id: Mapped[UUID]
    name: Mapped[str]
    content_type: Mapped[str]
    size: Mapped[int]
    sha256: Mapped[str]
    storage_key: Mapped[str]
    purged_at: Mapped[datetime | None]


class FileView(Output):
    """A file that is attached to a record."""

    object: Literal["file"]
    object_type: Annotated[Code, Field(description="What the record is, e.g. `account`.")]
    object_id: Id
    name: Annotated[Name, Field(description="As the client called it.")]
    content_type: Annotated[str, Field(max_length=100, description="By the content, whatever was sent with it.")]
    size: Annotated[int, Field(ge=0, le=9_007_199_254_740_991, description="Bytes.")]
    sha256: Annotated[
        str,
        Field(
            pattern="^[0-9a-f]{64}$",
            min_length=64,
            max_length=64,
            examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
        ),
    ]


async def _whole(ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """409 when a deleted file is to come back after its bytes have gone."""
    del ctx, resource, before
    if values.get("purged_at") is not None:
        raise Problem(PURGED, "It was deleted so long ago that its bytes are deleted, too; upload it again.")


FILES = Resource(
    singular="file",
    plural="files",
    model=File,
    output=FileView,
    rows=(OF_RECORD,),
    filters=(File.object_type, File.object_id, File.name, File.content_type, File.created_by, File.created_at),
    sorts=(File.created_at,),
    checks=(Check(frozenset({"deleted_at"}), _whole),),
    operations=READS | {"delete", "restore"},
    further=("create",),
    notices=("created", "updated"),
    personal={"name": ERASED, "sha256": "0" * 64},
)
