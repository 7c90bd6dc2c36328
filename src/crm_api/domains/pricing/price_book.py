"""Price books: what things cost for whom, in one currency; a book may stand on another one."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.pricing.default_one import only_default
from crm_api.domains.pricing.validity import VALIDITY, ends_later
from crm_api.domains.products.percent import Adjustment
from crm_api.kernel.context import Context
from crm_api.kernel.problems import invalid
from crm_api.kernel.record import Entity, Ratio, reference, sortable, sparse, unique
from crm_api.kernel.repository import find
from crm_api.kernel.resource import Check, Resource, ToMany
from crm_api.kernel.schema import Code, Currency, Id, Input, Name, Output, Ref
from crm_api.kernel.tree import acyclic

_INCLUDED = Annotated[bool, Field(description="Its prices are gross.")]
_PARENT = "The book, of the same currency, that prices come from which this one does not have."
_ADJUSTMENT = Annotated[
    Adjustment | None,
    Field(description="What is added, in percent, to prices that this book does not have itself."),
]
_DEFAULT = Annotated[
    bool, Field(description="It gives the prices that no other book of its currency has; at most one does.")
]
_UNTIL = Annotated[date | None, Field(description="The last day that it holds.")]


class PriceBook(Entity):
    """Prices in one currency."""

    __tablename__ = "price_books"
    __table_args__ = (
        reference("parent_id", "price_books"),
        sa.CheckConstraint("adjustment_percent >= -100000000", name="adjustment_percent"),
        ends_later(),
        unique("uq_price_books_code", "code"),
        sa.Index(
            "ix_price_books_default",
            *("tenant_id", "currency"),
            postgresql_where=sa.and_(sa.column("is_default"), sa.column("deleted_at").is_(None)),
        ),
        *sortable("price_books", "name_key", "created_at"),
        sparse("price_books", "parent_id"),
    )

    name: Mapped[str]
    name_key: Mapped[str]
    code: Mapped[str]
    currency: Mapped[str]
    prices_include_tax: Mapped[bool]
    parent_id: Mapped[UUID | None]
    adjustment_percent: Mapped[Decimal | None] = mapped_column(Ratio)
    is_default: Mapped[bool]
    valid_from: Mapped[date | None] = mapped_column(sa.Date)
    valid_until: Mapped[date | None] = mapped_column(sa.Date)


class PriceBookCreate(Input):
    """Prices in one currency."""

    id: Id | None = None
    name: Name
    code: Code
    currency: Annotated[Currency, Field(description="Set once.")]
    prices_include_tax: _INCLUDED = False
    parent_id: Annotated[Ref | None, Field(description=_PARENT)] = None
    adjustment_percent: _ADJUSTMENT = None
    is_default: _DEFAULT = False
    valid_from: date | None = None
    valid_until: _UNTIL = None


class PriceBookView(Output):
    """Prices in one currency."""

    object: Literal["price_book"]
    name: Name
    code: Code
    currency: Currency
    prices_include_tax: _INCLUDED
    parent_id: Annotated[Id | None, Field(description=_PARENT)]
    adjustment_percent: _ADJUSTMENT
    is_default: _DEFAULT
    valid_from: date | None
    valid_until: _UNTIL


async def _same_currency(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """422 for a parent of another currency."""
    row = {**(before or {}), **values}
    parent = await find(ctx, resource, row["parent_id"])
    if parent is not None and parent["currency"] != row["currency"]:
        raise invalid("/parent_id", "other_currency", "The parent has prices in another currency.")


PRICE_BOOKS = Resource(
    singular="price_book",
    plural="price_books",
    model=PriceBook,
    output=PriceBookView,
    create=PriceBookCreate,
    keys={"name": PriceBook.name_key},
    filters=(
        PriceBook.name,
        PriceBook.code,
        PriceBook.currency,
        PriceBook.parent_id,
        PriceBook.is_default,
        PriceBook.valid_from,
        PriceBook.valid_until,
    ),
    sorts=(PriceBook.name, PriceBook.created_at),
    default_access="read",
    checks=(
        VALIDITY,
        Check(frozenset({"parent_id"}), acyclic("parent_id")),
        Check(frozenset({"parent_id"}), _same_currency),
        only_default("currency"),
    ),
    once=frozenset({"currency"}),
    many={"children": ToMany("price_books", "parent_id")},
    further=("quote",),
)
