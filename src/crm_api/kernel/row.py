"""From the values a client sends to a whole row: what is derived, stamped, indexed and bound."""

from collections.abc import Mapping
from typing import Any

from crm_api.kernel import customs_index, customs_search
from crm_api.kernel.context import Context, new_id
from crm_api.kernel.customs import CUSTOM, Custom
from crm_api.kernel.parts import split
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import fold


def derived(resource: Resource, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values with the columns that follow from them."""
    found = dict(values)
    for name, function in resource.derive.items():
        if name in values:
            found.update(function(values[name]))
    for name, key in resource.keys.items():
        if name in values:
            found[str(key.key)] = None if values[name] is None else fold(values[name])
    return found


def new_row(ctx: Context, resource: Resource, values: Mapping[str, Any]) -> dict[str, Any]:
    """Every column of a new row."""
    row = derived(resource, values)
    row.update(resource.fixed)
    row["id"] = values.get("id") or new_id()
    row |= {
        "version": 1,
        "created_at": ctx.now,
        "updated_at": ctx.now,
        "created_by": ctx.principal.id,
        "updated_by": ctx.principal.id,
        "created_via": ctx.via,
    }
    if resource.lifecycle:
        row.setdefault(resource.lifecycle.column, resource.lifecycle.initial)
    if resource.owned:
        if row.get("owner_id") is None and ctx.principal.kind == "user":
            row["owner_id"] = ctx.principal.id
        if row.get("team_id") is None and row.get("owner_id") == ctx.principal.id:
            row["team_id"] = ctx.access.primary_team
    return row


def piece(value: Any) -> str:
    """The folded text of one searched field."""
    if isinstance(value, list):
        return " ".join(piece(item) for item in value)
    if isinstance(value, dict):
        return " ".join(piece(item) for item in value.values() if isinstance(item, str))
    return "" if value is None else fold(str(value))


def row_parameters(
    resource: Resource, row: Mapping[str, Any], fields: Mapping[str, Custom] | None = None
) -> dict[str, Any]:
    """Bind values of `source`, of the search text and of the indexes of values; `fields` are the custom ones."""
    found = {f"v_{name}": value for name, value in row.items()}
    for name, part in resource.parts.items():
        if name in row:
            found[f"v_{name}"], found[f"l_{name}"] = split(part, row[name])
    for i, name in enumerate(resource.search):
        if name in row:
            found[f"s_{i}"] = piece(row[name])
    pairs = sorted(
        {
            (f"{resource.plural}.{name}", fold(value))
            for name, function in resource.values.items()
            if name in row
            for value in function(row[name] or [])
        }
    )
    lists = [f"{resource.plural}.{name}" for name in resource.values if name in row]
    if fields and (custom := row.get(CUSTOM)):
        found |= customs_index.parameters(fields, custom) | customs_search.parameters(fields, custom)
        further, chosen = customs_index.options_of(fields, custom)
        lists, pairs = [*lists, *further], [*pairs, *chosen]
    found["x_lists"] = lists
    found["x_fields"], found["x_values"] = [field for field, _ in pairs], [value for _, value in pairs]
    return found
