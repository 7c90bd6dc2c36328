"""Amounts, quantities, days and addresses as a language writes them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.numbers import format_currency, format_decimal, format_percent, get_currency_precision

_SIGN = re.compile(r"[\s\u00a0\u202f\u200e\u200f]*¤[\s\u00a0\u202f\u200e\u200f]*")


def locale_of(language: str) -> Locale | None:
    """The rules of a language tag such as `es` or `es-MX`; None where nobody has written them down."""
    try:
        return Locale.parse(language, sep="-")
    except (UnknownLocaleError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class Formats:
    """What is written of a document in one language and currency."""

    locale: Locale
    currency: str

    def money(self, text: str) -> str:
        """An amount with the sign of its currency, of which no decimal is lost."""
        return self._amount(text, self.locale.currency_formats["standard"].pattern)

    def amount(self, text: str) -> str:
        """The same without the sign."""
        return self._amount(text, _SIGN.sub("", self.locale.currency_formats["standard"].pattern))

    def _amount(self, text: str, pattern: str) -> str:
        value = Decimal(text)
        exact = value == round(value, get_currency_precision(self.currency))
        return format_currency(
            value, self.currency, pattern, self.locale, currency_digits=exact, decimal_quantization=exact
        )

    def number(self, text: str) -> str:
        """A quantity, with the decimals that it has."""
        return format_decimal(Decimal(text), locale=self.locale, decimal_quantization=False)

    def percent(self, text: str) -> str:
        """So many of a hundred."""
        return format_percent(Decimal(text) / 100, locale=self.locale, decimal_quantization=False)

    def day(self, day: date | str) -> str:
        """A day of the calendar."""
        return format_date(date.fromisoformat(day) if isinstance(day, str) else day, "medium", self.locale)

    def address(self, address: Mapping[str, Any] | None) -> list[str]:
        """The lines of a postal address that are not empty."""
        known = address or {}
        city = " ".join(filter(None, (known.get("postal_code"), known.get("city"))))
        country = self.locale.territories.get(known.get("country") or "", known.get("country"))
        return [line for line in (known.get("line1"), known.get("line2"), city, known.get("region"), country) if line]
