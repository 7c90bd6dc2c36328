"""The operator's view by SQL, as the laws have it."""

from tests.laws.conftest import sql

__all__ = ["sql"]
