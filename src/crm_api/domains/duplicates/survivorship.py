"""Which of two values survives a merge, field by field."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Literal

import orjson
import sqlalchemy as sa
from pydantic import Field, ValidationError
from sqlalchemy.dialects.postgresql import JSONB

from crm_api.kernel.context import Context
from crm_api.kernel.problems import Problem, from_validation, invalid
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Wire

Choice = Literal["survivor", "other", "both"]
FieldName = Annotated[str, Field(min_length=1, max_length=63)]
Choices = Annotated[dict[FieldName, Choice], Field(max_length=200, examples=[{}])]
_MOVING = frozenset({"owner_id", "team_id", "territory_id"})


class FieldTaken(Wire):
    """A field of the survivor that the merge changes, and whose value it gets."""

    field: FieldName
    taken: Literal["other", "both"]


def held(row: Any, resource: Resource, name: str) -> Any:
    """A value of a raw row, as a write takes it."""
    value = row[name]
    return orjson.loads(value) if value is not None and isinstance(resource.table.c[name].type, JSONB) else value


def plain(value: Any) -> Any:
    """The value as JSON has it, to be kept and compared."""
    return orjson.loads(orjson.dumps(value))


def revived(resource: Resource, name: str, value: Any) -> Any:
    """A kept value as a write takes it."""
    if isinstance(value, str):
        if isinstance(resource.table.c[name].type, sa.Date):
            return date.fromisoformat(value)
        if isinstance(resource.table.c[name].type, sa.DateTime):
            return datetime.fromisoformat(value)
    return value


def survivors(
    ctx: Context, resource: Resource, row: Any, other: Any, choices: Mapping[str, Choice]
) -> tuple[dict[str, Any], list[FieldTaken]]:
    """What the survivor gets: the other's value where it has none of its own, or what was chosen.

    Raises:
        Problem: 422 for a field that there is not or two values that cannot be united, 403 for one that is closed to
            the caller.
    """
    assert resource.update is not None  # noqa: S101 - what cannot be changed cannot be merged
    fields = resource.update.model_fields
    for name in choices:
        if name not in fields:
            raise invalid(f"/fields/{name}", "unknown_field", f"{resource.plural} have no field {name!r} to choose.")
    chosen = {name: choice for name, choice in choices.items() if choice != "survivor"}
    ctx.kernel.policy.writable(ctx.access, resource, chosen)
    if _MOVING & chosen.keys():
        ctx.require(resource, "transfer")
    values: dict[str, Any] = {}
    taken = []
    for name in fields:
        mine, theirs = held(row, resource, name), held(other, resource, name)
        choice = choices.get(name) or ("other" if _empty(mine) and not _empty(theirs) else "survivor")
        if choice == "survivor" or mine == theirs:
            continue
        values[name] = theirs if choice == "other" else _both(resource, name, mine, theirs)
        if name not in ctx.access.hides(resource.plural):
            taken.append(FieldTaken(field=name, taken=choice))
    mine, theirs = held(row, resource, "custom"), held(other, resource, "custom")
    if theirs.keys() - mine.keys():
        values["custom"] = {**theirs, **mine}
    return values, taken


def _empty(value: Any) -> bool:
    return value is None or value in ("", [], {})


def _both(resource: Resource, name: str, mine: Any, theirs: Any) -> list[Any]:
    if not isinstance(mine, list) or not isinstance(theirs, list):
        raise invalid(f"/fields/{name}", "not_a_list", "Only lists can be united.")
    united = [*mine, *(item for item in theirs if item not in mine)]
    try:
        assert resource.update is not None  # noqa: S101 - its fields are asked for
        resource.update.model_validate_json(orjson.dumps({name: united}))
    except ValidationError as error:
        found = from_validation(error)
        for fault in found.errors:
            fault.pointer = f"/fields/{name}"
        raise Problem(found.kind, found.detail, found.errors) from None
    return united
