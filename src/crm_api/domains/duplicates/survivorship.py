"""Which of two values survives a merge, field by field."""

from collections.abc import Collection, Mapping
from datetime import date, datetime
from typing import Annotated, Any, Literal

import orjson
import sqlalchemy as sa
from pydantic import Field, ValidationError
from sqlalchemy.dialects.postgresql import JSONB

from crm_api.kernel.context import Context
from crm_api.kernel.customs import CUSTOM, fields_of, kept_of, touched
from crm_api.kernel.problems import FIELD_READ_ONLY, Fault, Problem, forbidden, from_validation, invalid
from crm_api.kernel.repository import find
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Wire

Choice = Literal["survivor", "other", "both"]
FieldName = Annotated[str, Field(min_length=1, max_length=70)]
Choices = Annotated[dict[FieldName, Choice], Field(max_length=200, examples=[{}])]
MOVING = frozenset({"owner_id", "team_id", "territory_id"})


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

    A field that is hidden from the caller is filled without a word: to refuse it would tell that there is a value.

    Raises:
        Problem: 422 for a field that there is not or two values that cannot be united, 403 for one that is closed to
            the caller and chosen, or that would be filled though the caller may only read it.
    """
    assert resource.update is not None  # noqa: S101 - what cannot be changed cannot be merged
    fields = [name for name in resource.update.model_fields if name != CUSTOM]
    customs = {custom.name for custom in fields_of(ctx.access, resource).values()}
    for name in choices:
        if name not in fields and name not in customs:
            raise invalid(f"/fields/{name}", "unknown_field", f"{resource.plural} have no field {name!r} to choose.")
    chosen = {name: choice for name, choice in choices.items() if choice != "survivor"}
    ctx.kernel.policy.writable(ctx.access, resource, chosen)
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
    if CUSTOM in resource.table.c:
        custom = _customs(ctx, resource, (row, other), choices, taken)
        values |= {CUSTOM: custom} if custom else {}
    only_read(ctx, resource, values, "/fields/")
    return values, taken


def _customs(
    ctx: Context,
    resource: Resource,
    pair: tuple[Any, Any],
    choices: Mapping[str, Choice],
    taken: list[FieldTaken],
) -> dict[str, Any]:
    """The custom fields that the survivor gets, by key; what is retired by now is only taken when it is chosen.

    A reference of the other record to itself is none.
    """
    found: dict[str, Any] = {}
    values = [held(one, resource, CUSTOM) for one in pair]
    for key, field in fields_of(ctx.access, resource).items():
        mine, theirs = (value.get(key) for value in values)
        theirs = None if field.target is not None and theirs == pair[1]["id"] else theirs
        fits = mine is None and kept_of(field, theirs) is not None
        choice = choices.get(field.name) or ("other" if fits else "survivor")
        if choice == "survivor" or mine == theirs:
            continue
        if choice == "both" and not (isinstance(mine, list) and isinstance(theirs, list)):
            raise invalid(f"/fields/{field.name}", "not_a_list", "Only lists can be united.")
        found[key] = theirs if choice == "other" else list(dict.fromkeys([*(mine or ()), *(theirs or ())]))
        if field.name not in ctx.access.hides(resource.plural):
            taken.append(FieldTaken(field=field.name, taken=choice))
    return found


def only_read(ctx: Context, resource: Resource, values: Mapping[str, Any], place: str) -> None:
    """403 for fields that the caller sees and may not change; what is hidden is not spoken of."""
    closed = ctx.access.read_only.get(resource.plural, frozenset()) - ctx.access.hides(resource.plural)
    if refused := sorted(closed.intersection(touched(values))):
        detail = "You may not change this field."
        faults = [Fault("field_read_only", detail, pointer=f"{place}{name}") for name in refused]
        raise Problem(FIELD_READ_ONLY, "You may not change some of these fields; see which would change.", faults)


async def unmoved(ctx: Context, resource: Resource, id_: str, values: dict[str, Any], chosen: Collection[str]) -> None:
    """Leaves the survivor with its owner and team, unless the caller may give it to another.

    Raises:
        Problem: 403 when another owner or team was chosen.
    """
    moving = MOVING.intersection(values)
    if moving and await find(ctx, resource, id_, action="transfer") is None:
        if moving.intersection(chosen):
            raise forbidden(f"{resource.plural}:transfer")
        for name in moving:
            del values[name]


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
