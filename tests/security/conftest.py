"""What tests of security take from elsewhere."""

from tests.laws.conftest import sql

__all__ = ["sql"]
