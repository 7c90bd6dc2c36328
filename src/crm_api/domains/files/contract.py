"""Parts of the contract of hand-written operations, as OpenAPI writes them."""

from typing import Any

REF = "#/components/schemas/"


def parameter(name: str, description: str, *, required: bool = False, place: str = "query", **schema: Any) -> Any:
    """A parameter that is text."""
    given = {"type": "string", "minLength": 1, **schema}
    return {"name": name, "in": place, "required": required, "description": description, "schema": given}


BYTES: dict[str, Any] = {
    "content": {"*/*": {"schema": {"type": "string", "format": "binary", "maxLength": 1_000_000_000}}},
}
"""A reply of bytes."""
