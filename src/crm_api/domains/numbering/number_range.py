"""Number ranges: how the numbers of a kind of document look, and whether they begin anew each year."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.kernel.context import Context
from crm_api.kernel.problems import invalid
from crm_api.kernel.record import Entity, sortable, unique
from crm_api.kernel.resource import Check, Resource
from crm_api.kernel.schema import Code, Id, Input, Output

Prefix = Annotated[
    str,
    Field(
        pattern=r"^([A-Za-z0-9 ./_-]|\{year\}|\{month\})*$",
        max_length=40,
        examples=["SO-{year}-"],
        description="What stands before the number; {year} and {month} are those of the document's date.",
    ),
]
Digits = Annotated[int, Field(ge=1, le=12, description="The least number of digits, filled up with zeros.")]


class NumberRange(Entity):
    """How the numbers of a kind of document look."""

    __tablename__ = "number_ranges"
    __table_args__ = (
        unique("uq_number_ranges_document", "document"),
        *sortable("number_ranges", "created_at"),
    )

    document: Mapped[str]
    prefix: Mapped[str]
    digits: Mapped[int]
    is_yearly: Mapped[bool] = mapped_column(server_default="false")


class NumberRangeCreate(Input):
    """How the numbers of a kind of document look."""

    id: Id | None = None
    document: Annotated[Code, Field(description="The kind of document, as its `object` says: `order`.")]
    prefix: Prefix
    digits: Digits = 6
    is_yearly: Annotated[bool, Field(description="Numbers begin at 1 in each year.")] = False


class NumberRangeView(Output):
    """How the numbers of a kind of document look."""

    object: Literal["number_range"]
    document: Code
    prefix: Prefix
    digits: Digits
    is_yearly: bool


async def _distinct(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """Numbers that begin anew must have the year in them, else they are given twice."""
    del ctx, resource
    row = {**(before or {}), **values}
    if row["is_yearly"] and "{year}" not in row["prefix"]:
        raise invalid("/prefix", "year_missing", "A prefix of numbers that begin anew each year contains {year}.")


NUMBER_RANGES = Resource(
    singular="number_range",
    plural="number_ranges",
    model=NumberRange,
    output=NumberRangeView,
    create=NumberRangeCreate,
    title="document",
    checks=(Check(frozenset({"prefix", "is_yearly"}), _distinct),),
    once=frozenset({"document"}),
    filters=(NumberRange.document, NumberRange.created_at),
    sorts=(NumberRange.document, NumberRange.created_at),
)
