"""Asks a law of every resource whose declaration has what the law speaks about."""

from collections.abc import Callable
from typing import Any

import pytest

from crm_api.catalog import CATALOG
from crm_api.kernel.resource import Resource

RESOURCES = tuple(CATALOG.resources.values())
BEHIND = frozenset({"last_used_at"})  # written behind the requests: no change, and two readings may differ in it


def having(*operations: str, where: Callable[[Resource], Any] = lambda _: True) -> list[Resource]:
    return [item for item in RESOURCES if set(operations) <= item.operations and where(item)]


def each(*operations: str, where: Callable[[Resource], Any] = lambda _: True):
    """Parametrizes `resource` over the resources that have all these operations."""
    found = having(*operations, where=where)
    return pytest.mark.parametrize("resource", found, ids=[item.plural for item in found])


def code(answer: Any) -> tuple[int, str]:
    """(status, problem code) of an answer."""
    return answer.status_code, answer.json().get("code", "") if answer.content else ""


def fault(answer: Any) -> list[tuple[str, str]]:
    """(place, code) of each fault of a problem."""
    return [
        (item.get("pointer") or item.get("parameter") or item.get("header", ""), item["code"])
        for item in answer.json()["errors"]
    ]
