"""Organisations by the handle that people type when they sign in, before a tenant is known."""

import re
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.kernel.context import Kernel
from crm_api.kernel.database import Statement
from crm_api.kernel.record import Reference
from crm_api.kernel.schema import fold

LONGEST = 60


class Organisation(Reference):
    """A tenant's handle. Handles are unique over the installation, so the server may look one up but not list them."""

    __tablename__ = "organisations"

    handle: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(unique=True)


_FIND = Statement(
    sa.select(sa.cast(sa.func.organisation_tenant(sa.bindparam("handle", type_=sa.Text())), sa.Text()).label("id"))
)


def handle_of(name: str) -> str:
    """The handle that a name suggests: `Café Müller & Co.` is `cafe-muller-co`."""
    return re.sub("[^a-z0-9]+", "-", fold(name)).strip("-")[:LONGEST].strip("-") or "organisation"


async def find_organisation(kernel: Kernel, text: str) -> UUID | None:
    """The tenant of a handle, or of its id as it is."""
    try:
        return UUID(text.strip())
    except ValueError:
        pass
    rows = await kernel.database.read(None, _FIND, {"handle": handle_of(text)})  # type: ignore[arg-type]
    return UUID(rows[0]["id"]) if rows[0]["id"] else None
