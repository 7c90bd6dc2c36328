"""Percentages on the wire: decimal strings like money, of four decimals."""

from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from crm_api.kernel.schema import decimal_of, text_schema

PERCENT_PATTERN = r"^(100(\.0{1,4})?|[0-9]{1,2}(\.[0-9]{1,4})?)$"
ADJUSTMENT_PATTERN = r"^-?[0-9]{1,3}(\.[0-9]{1,4})?$"
_ADJUSTED = (
    "invalid_adjustment",
    'An adjustment is a decimal string such as "-12.5", -100 to below 1000 percent with at most 4 decimals.',
)


def _all_at_most(value: Decimal) -> Decimal:
    if value < -100:
        raise PydanticCustomError(*_ADJUSTED)
    return value


Percent = Annotated[
    Decimal,
    decimal_of(
        PERCENT_PATTERN,
        "invalid_percent",
        'A percentage is a decimal string such as "8.875", 0 to 100 with at most 4 decimals.',
    ),
    WithJsonSchema(text_schema(PERCENT_PATTERN, 1, 8, examples=["8.875"])),
]
"""A share of something, 0 to 100."""
Adjustment = Annotated[
    Decimal,
    decimal_of(ADJUSTMENT_PATTERN, *_ADJUSTED),
    AfterValidator(_all_at_most),
    WithJsonSchema(text_schema(ADJUSTMENT_PATTERN, 1, 9, examples=["-12.5"])),
]
"""What is added to a price, in percent of it; below zero it is taken off."""
