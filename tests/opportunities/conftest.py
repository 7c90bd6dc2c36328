"""What the tests of opportunities take from elsewhere."""

from tests.laws.conftest import statements

__all__ = ["statements"]
