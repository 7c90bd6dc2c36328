"""Which rule wins for a record, and why the others do not. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.dialects import postgresql

from crm_api.kernel.record import MoneyAmount
from crm_api.kernel.schema import fold

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
FACTS = ("country", "postal_code", "industry", "employees", "annual_revenue", "currency")
"""Columns that rules read, where a table has them."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as it is asked; amounts in ten-thousandths, ranges of upper-case prefixes."""

    id: str
    name: str
    territory_id: str
    priority: int
    countries: frozenset[str]
    postal_codes: tuple[tuple[str, str], ...]
    industries: frozenset[str]
    employees: tuple[int | None, int | None]
    revenue: tuple[int | None, int | None]
    currency: str | None

    def unmet(self, facts: Mapping[str, Any]) -> Iterator[str]:
        """The conditions that a record does not meet; what is not known meets none."""
        if self.countries and facts.get("country") not in self.countries:
            yield "countries"
        if self.postal_codes and not self._posted(facts.get("postal_code")):
            yield "postal_codes"
        if self.industries and fold(facts.get("industry") or "") not in self.industries:
            yield "industries"
        if not _between(facts.get("employees"), self.employees):
            yield "employees"
        if self.currency is not None and not (
            facts.get("currency") == self.currency and _between(facts.get("annual_revenue"), self.revenue)
        ):
            yield "revenue"

    def _posted(self, code: str | None) -> bool:
        known = "".join(mark for mark in (code or "").upper() if mark.isalnum())
        ranges = ((first, known[: len(first)], last) for first, last in self.postal_codes)
        return any(len(begin) == len(first) and first <= begin <= last for first, begin, last in ranges)


def scaled(value: Any) -> int | None:
    """An amount, sent or stored, in ten-thousandths."""
    return MoneyAmount().process_bind_param(value, _DIALECT)


def _between(value: int | None, bounds: tuple[int | None, int | None]) -> bool:
    low, high = bounds
    if low is None and high is None:
        return True
    return value is not None and (low is None or value >= low) and (high is None or value <= high)


@dataclass(frozen=True)
class Rulebook:
    """The rules of a tenant in the order in which they are asked."""

    rules: Sequence[Rule] = ()

    def winner(self, facts: Mapping[str, Any]) -> Rule | None:
        """The first rule that fits."""
        return next((rule for rule in self.rules if next(rule.unmet(facts), None) is None), None)
