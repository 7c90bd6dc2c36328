"""The OpenAPI document, derived from the declarations."""

from typing import Any


def document(catalog: Any) -> dict[str, Any]:
    """To be written."""
    return {"openapi": "3.1.1", "info": {"title": "CRM API", "version": "1"}, "paths": {}}
