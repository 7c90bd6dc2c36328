"""Percentages on the wire: decimal strings like money, of four decimals."""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

PERCENT_PATTERN = r"^(100(\.0{1,4})?|[0-9]{1,2}(\.[0-9]{1,4})?)$"
_PERCENT = re.compile(PERCENT_PATTERN)
ADJUSTMENT_PATTERN = r"^-?[0-9]{1,3}(\.[0-9]{1,4})?$"
_ADJUSTMENT = re.compile(ADJUSTMENT_PATTERN)


def _percent(value: Any) -> Decimal:
    if isinstance(value, Decimal):
        return value
    if not isinstance(value, str) or not _PERCENT.fullmatch(value):
        raise PydanticCustomError(
            "invalid_percent", 'A percentage is a decimal string such as "8.875", 0 to 100 with at most 4 decimals.'
        )
    return Decimal(value)


def _adjustment(value: Any) -> Decimal:
    if isinstance(value, Decimal):
        return value
    if not isinstance(value, str) or not _ADJUSTMENT.fullmatch(value) or Decimal(value) < -100:
        raise PydanticCustomError(
            "invalid_adjustment",
            'An adjustment is a decimal string such as "-12.5", -100 to below 1000 percent with at most 4 decimals.',
        )
    return Decimal(value)


Percent = Annotated[
    Decimal,
    BeforeValidator(_percent),
    WithJsonSchema(
        {"type": "string", "pattern": PERCENT_PATTERN, "minLength": 1, "maxLength": 8, "examples": ["8.875"]}
    ),
]
"""A share of something, 0 to 100."""
Adjustment = Annotated[
    Decimal,
    BeforeValidator(_adjustment),
    WithJsonSchema(
        {"type": "string", "pattern": ADJUSTMENT_PATTERN, "minLength": 1, "maxLength": 9, "examples": ["-12.5"]}
    ),
]
"""What is added to a price, in percent of it; below zero it is taken off."""
