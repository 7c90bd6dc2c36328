"""What the tests of prices take from elsewhere."""

from tests.laws.conftest import statements

__all__ = ["statements"]
