"""Which lines of a document are meant by lines that are sent again without their ids, as an ERP sends them."""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

Name = tuple[str | None, str | None]
"""Product and description."""


def named_again(sent: Sequence[Mapping[str, Any]], stored: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The lines with ids: one without takes that of the next line of the same product, or that is so described.

    Args:
        sent: as they were sent; `id` may be absent or None, and stays so for a new line.
        stored: the lines that there are, by id, in order.
    """
    taken = {str(UUID(item["id"])) for item in sent if item.get("id") is not None}
    free: dict[Name, deque[str]] = defaultdict(deque)
    for id_, old in stored.items():
        for name in _names(old) if id_ not in taken else ():
            free[name].append(id_)
    found = []
    for item in sent:
        known = item.get("id")
        if known is None:
            same = free[_meant(item)]
            while same and same[0] in taken:
                same.popleft()
            known = same.popleft() if same else None
            taken.add(known or "")
        found.append({**item, "id": known})
    return found


def _meant(item: Mapping[str, Any]) -> Name:
    product = item["product_id"]
    return None if product is None else str(product).lower(), item["description"]


def _names(old: Mapping[str, Any]) -> tuple[Name, ...]:
    """What a line that is there is meant by: a product may go without its description."""
    whole = old["product_id"], old["description"]
    return (whole,) if whole[0] is None else (whole, (whole[0], None))
