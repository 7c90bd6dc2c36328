"""Price entries: what a book says of a product, or of all products of a category and the ones below it."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.pricing.validity import VALIDITY, ends_later
from crm_api.domains.products.percent import Adjustment
from crm_api.kernel.context import Context
from crm_api.kernel.examples import Shown
from crm_api.kernel.policy import through
from crm_api.kernel.problems import invalid
from crm_api.kernel.record import Entity, MoneyAmount, Ratio, reference, sortable, sparse
from crm_api.kernel.repository import check_references
from crm_api.kernel.resource import Check, Resource
from crm_api.kernel.schema import Id, Input, Money, Output, Quantity, Ref

_PRODUCT = "The product; either this or a category."
_CATEGORY = "All products in the category and the ones below it, unless the book has an entry nearer to the product."
_MINIMUM = Annotated[Quantity, Field(description="It holds from this quantity on, in the product's base unit.")]
_PRICE = Annotated[Money | None, Field(description="Of one base unit; either this or a percentage.")]
_ADJUSTMENT = Annotated[
    Adjustment | None, Field(description="What is added to the list price, in percent; below zero it is taken off.")
]
_STEP = Annotated[Money | None, Field(description="The price is rounded to a multiple of this, half away from zero.")]
_UNTIL = Annotated[date | None, Field(description="The last day that it holds.")]


class PriceEntry(Entity):
    """A price, or a rule that gives one."""

    __tablename__ = "price_entries"
    __table_args__ = (
        reference("price_book_id", "price_books"),
        reference("product_id", "products"),
        reference("category_id", "product_categories"),
        sa.CheckConstraint("num_nonnulls(product_id, category_id) = 1", name="subject"),
        sa.CheckConstraint("num_nonnulls(price, adjustment_percent) = 1", name="rule"),
        sa.CheckConstraint("price >= 0", name="price"),
        sa.CheckConstraint("adjustment_percent >= -100000000", name="adjustment_percent"),
        sa.CheckConstraint("rounding_step > 0", name="rounding_step"),
        ends_later(),
        sa.Index("ix_price_entries_product", "tenant_id", "price_book_id", "product_id", "minimum_quantity"),
        sa.Index("ix_price_entries_category", "tenant_id", "price_book_id", "category_id", "minimum_quantity"),
        *sortable("price_entries", "created_at"),
        sparse("price_entries", "product_id"),
        sparse("price_entries", "category_id"),
    )

    price_book_id: Mapped[UUID]
    product_id: Mapped[UUID | None]
    category_id: Mapped[UUID | None]
    minimum_quantity: Mapped[Decimal] = mapped_column(Ratio)
    price: Mapped[Decimal | None] = mapped_column(MoneyAmount)
    adjustment_percent: Mapped[Decimal | None] = mapped_column(Ratio)
    rounding_step: Mapped[Decimal | None] = mapped_column(MoneyAmount)
    valid_from: Mapped[date | None] = mapped_column(sa.Date)
    valid_until: Mapped[date | None] = mapped_column(sa.Date)


class PriceEntryCreate(Input):
    """A price, or a rule that gives one: for one product or one category."""

    id: Id | None = None
    price_book_id: Ref
    product_id: Annotated[Ref | None, Field(description=_PRODUCT), Shown()] = None
    category_id: Annotated[Ref | None, Field(description=_CATEGORY)] = None
    minimum_quantity: _MINIMUM = Decimal(0)
    price: Annotated[_PRICE, Shown()] = None
    adjustment_percent: _ADJUSTMENT = None
    rounding_step: _STEP = None
    valid_from: date | None = None
    valid_until: _UNTIL = None


class PriceEntryView(Output):
    """A price, or a rule that gives one: for one product or one category."""

    object: Literal["price_entry"]
    price_book_id: Id
    product_id: Annotated[Id | None, Field(description=_PRODUCT)]
    category_id: Annotated[Id | None, Field(description=_CATEGORY)]
    minimum_quantity: _MINIMUM
    price: _PRICE
    adjustment_percent: _ADJUSTMENT
    rounding_step: _STEP
    valid_from: date | None
    valid_until: _UNTIL


SUBJECTS = ("product_id", "category_id")
RULES = ("price", "adjustment_percent")


async def _one_of_each(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """422 unless it is for one thing and says one thing, neither below zero."""
    await check_references(ctx, resource, {name: values.get(name) for name in SUBJECTS})
    row = {**(before or {}), **values}
    for pair, detail in (
        (SUBJECTS, "An entry is for one product or one category."),
        (RULES, "Give a price or a rule."),
    ):
        given = [name for name in pair if row[name] is not None]
        if len(given) != 1:
            place = next((name for name in pair if values.get(name) is not None), pair[0])
            raise invalid(f"/{place}", "exactly_one", detail)
    if values.get("price") is not None and values["price"] < 0:
        raise invalid("/price", "negative", "A price is not below zero.")
    if values.get("rounding_step") is not None and values["rounding_step"] <= 0:
        raise invalid("/rounding_step", "not_positive", "This is greater than zero.")


PRICE_ENTRIES = Resource(
    singular="price_entry",
    plural="price_entries",
    model=PriceEntry,
    output=PriceEntryView,
    create=PriceEntryCreate,
    title="id",
    rows=(through("price_book_id", "price_books"),),
    filters=(
        PriceEntry.price_book_id,
        PriceEntry.product_id,
        PriceEntry.category_id,
        PriceEntry.minimum_quantity,
        PriceEntry.price,
        PriceEntry.valid_from,
        PriceEntry.valid_until,
    ),
    sorts=(PriceEntry.created_at,),
    checks=(
        VALIDITY,
        Check(
            frozenset({*SUBJECTS, *RULES, "rounding_step", "price_book_id"}),
            _one_of_each,
            cleared=frozenset({*SUBJECTS, *RULES}),
        ),
    ),
    within={"price_book_id": "entries"},
)
