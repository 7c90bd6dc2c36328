"""What tests of security take from elsewhere."""

from tests.laws.conftest import sql, unchanged

__all__ = ["sql", "unchanged"]
