"""What a resource declares about records that may mean the same as another. Typed data; nothing runs here."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

By = Literal["values", "column", "text", "similar"]


@dataclass(frozen=True)
class Rule:
    """A way in which two records may say that they mean the same.

    Attributes:
        name: what a candidate is told to have matched by.
        field: the field of the API that it goes by; who may not see it is not matched by it.
        score: 1 to 100, when the keys are equal; one that is fuzzy gives less for less similar ones.
        by: how candidates are found: by values of a multi-valued field, by the value of a column, by the text in the
            searched text, or by text that is similar to the field's.
        keys: of a record as it is sent, the texts that are compared: two records match when one is common to both.
        fuzzy: keys need not be equal, but similar.
        found_by: the column that candidates share when it is not `field`, as contacts of one account do.
        more: further fields that `keys` reads.
    """

    name: str
    field: str
    score: int
    by: By
    keys: Callable[[Mapping[str, Any]], Iterable[str]]
    fuzzy: bool = False
    found_by: str | None = None
    more: tuple[str, ...] = ()

    @property
    def column(self) -> str:
        """What candidates are looked up by."""
        return self.found_by or self.field


@dataclass(frozen=True)
class Duplicates:
    """How records of a resource are compared and merged.

    Attributes:
        rules: in which ways two records may mean the same.
        greater: columns of children (links, team members) that both records have, of which the greater value is kept
            in a merge, with the values in their order.
        barring: flags that a merge must not lose: a record with one goes into no record without.
        alike: fields that give others their meaning, such as a unit: records that differ in one are not merged.
    """

    rules: tuple[Rule, ...] = ()
    greater: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    barring: tuple[str, ...] = ()
    alike: tuple[str, ...] = ()

    @cached_property
    def fields(self) -> frozenset[str]:
        """Every field that a rule reads."""
        return frozenset(name for rule in self.rules for name in (rule.field, rule.column, *rule.more))
