"""What a resource declares about records that may mean the same thing as another. Typed data; nothing runs here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Duplicates:
    """How records of a resource are compared and merged.

    Attributes:
        greater: columns of children (links, team members) that both records have, of which the greater value is kept
            in a merge, with the values in their order.
    """

    greater: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
