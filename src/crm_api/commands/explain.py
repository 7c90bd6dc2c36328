"""Shows what the kernel derives from a resource's declaration, down to the SQL of a sample caller."""

import difflib
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from crm_api.catalog import CATALOG
from crm_api.domains.identity.give_defaults import default_roles
from crm_api.kernel.collective import collective_operations
from crm_api.kernel.context import Kernel
from crm_api.kernel.database import Database
from crm_api.kernel.filter_values import OPERATORS
from crm_api.kernel.filters import Group, choices, flat_parameters
from crm_api.kernel.paging import Key
from crm_api.kernel.policy import Access, Policy
from crm_api.kernel.problems import ConfigurationError
from crm_api.kernel.query import Listing, compile_get, compile_list
from crm_api.kernel.resource import Resource
from crm_api.kernel.router import operations
from crm_api.kernel.sealing import Sealer
from crm_api.kernel.signing import Signer

_SOMEONE = UUID(int=1)


def describe(name: str, role: str) -> dict[str, Any]:
    """Everything about a resource as plain data."""
    resource = CATALOG.resources.get(name) or CATALOG.by_type.get(name)
    if resource is None:
        near = difflib.get_close_matches(name, CATALOG.resources, 3, 0.4) or list(CATALOG.resources)
        raise ConfigurationError(f"There is no resource {name!r}; perhaps {', '.join(near)}.")
    keys = Sealer(bytes(32)), Signer(bytes(32)), None
    kernel = Kernel(Database(""), CATALOG, Policy(CATALOG), None, b"", *keys)  # type: ignore[arg-type] # it only compiles
    access = _access(kernel, role)
    return {
        "resource": resource.plural,
        "object": resource.singular,
        "domain": resource.domain,
        "table": str(resource.table.name),
        "summary": (resource.model.__doc__ or "").strip(),
        "routes": [
            {"method": item.method, "path": item.path, "operation_id": item.operation_id, "permission": item.permission}
            for item in (*operations(resource), *collective_operations(CATALOG))
            if item.resource is resource
        ],
        "filters": _filters(resource),
        "sorts": {field: str(column.key) for field, column in resource.sortable.items()},
        "search": list(resource.search),
        "expansions": _expansions(resource),
        "permissions": [f"{resource.plural}:{action}" for action in resource.permitted_actions],
        "field_rules": {"hidden": sorted(resource.hideable), "read_only": sorted(resource.output.model_fields)},
        "rows": {
            "owner": resource.owner.key if resource.owner is not None else None,
            "shares": resource.owned,
            "default_access": resource.default_access or "private",
            "rules": [rule.name for rule in resource.rows],
            "fixed": dict(resource.fixed),
        },
        "lifecycle": _lifecycle(resource),
        "checks": [{"fields": sorted(check.fields), "function": check.run.__qualname__} for check in resource.checks],
        "events": list(resource.events),
        "sample": _sample(kernel, access, resource, role),
    }


def _access(kernel: Kernel, role: str) -> Access:
    """The rights of someone who holds one default role."""
    roles = default_roles(kernel.catalog)
    if role not in roles:
        raise ConfigurationError(f"There is no default role {role!r}; one of {', '.join(roles)}.")
    reach: dict[tuple[str, str], set[str]] = {}
    for grant in roles[role]:
        plural, _, action = grant["permission"].partition(":")
        for name, resource in CATALOG.resources.items():
            for each in resource.permitted_actions:
                if plural in ("*", name) and action in ("*", each):
                    reach.setdefault((name, each), set()).add(grant["reach"])
    for name, resource in CATALOG.resources.items():
        for action in {"read": ("read",), "write": ("read", "update")}.get(resource.default_access or "", ()):
            reach.setdefault((name, action), set())
    return Access(1, _SOMEONE, reach={key: frozenset(value) for key, value in reach.items()}, roles=(role,))


def _filters(resource: Resource) -> list[dict[str, Any]]:
    vocabulary = choices(resource)
    flat: dict[str, list[str]] = {}
    for parameter, (field, _, _) in flat_parameters(resource).items():
        flat.setdefault(field, []).append(parameter)
    return [
        {
            "field": field,
            "kind": kind,
            "operators": list(OPERATORS[kind]),
            "parameters": flat[field],
            "values": sorted(vocabulary.get(field, ())),
        }
        for field, kind in resource.filterable.items()
    ]


def _expansions(resource: Resource) -> list[dict[str, Any]]:
    one = [
        {"name": name, "to": target.plural, "by": column, "many": False}
        for name, (column, target) in CATALOG.to_one(resource).items()
    ]
    many = [{"name": name, "to": item.plural, "by": item.column, "many": True} for name, item in resource.many.items()]
    return one + many


def _lifecycle(resource: Resource) -> dict[str, Any] | None:
    graph = resource.lifecycle
    if graph is None:
        return None
    edges = [
        {
            "verb": edge.verb,
            "from": sorted(edge.sources),
            "to": edge.target,
            "event": f"{resource.singular}.{edge.event}",
            "internal": edge.internal,
            "otherwise": {state: f"{resource.singular}.{event}" for state, event in edge.otherwise.items()},
        }
        for edge in graph.edges
    ]
    return {"column": graph.column, "initial": graph.initial, "states": list(graph.states), "edges": edges}


def _sample(kernel: Kernel, access: Access, resource: Resource, role: str) -> dict[str, Any]:
    """The statements behind GET of one and of a list, as a holder of the role."""
    if not access.may(resource.plural, "read"):
        return {"role": role, "policies": [], "get": None, "list": None}
    rules = kernel.policy.rules(access, resource, "read", resource.table)
    listing = Listing(Group("and"), {}, (Key("id", descending=False),))
    return {
        "role": role,
        "policies": [name for name, _ in rules],
        "get": compile_get(kernel, access, resource, ()).statement.sql,
        "list": compile_list(kernel, access, resource, listing).statement.sql,
    }


def show(found: dict[str, Any]) -> None:
    """The same for people."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(f"[bold]{found['resource']}[/] ({found['object']}, table {found['table']}, domain {found['domain']})")
    console.print(found["summary"])
    _grid(console, "Routes", found["routes"], ("method", "path", "operation_id", "permission"))
    _grid(console, "Filters", found["filters"], ("field", "kind", "operators", "values"))
    _list(console, "Sorts", found["sorts"])
    _list(console, "Found by q", found["search"])
    _grid(console, "Expansions", found["expansions"], ("name", "to", "by", "many"))
    _list(console, "Permissions", found["permissions"])
    _list(console, "A role may hide", found["field_rules"]["hidden"])
    rows = found["rows"]
    shares = ", shares" if rows["shares"] else ""
    console.print(f"\n[bold]Rows[/] owner {rows['owner']}, default {rows['default_access']}{shares}", end="")
    console.print(
        "".join(f", {rule}" for rule in rows["rules"]), "".join(f", {k} = {v}" for k, v in rows["fixed"].items())
    )
    if found["lifecycle"]:
        graph = found["lifecycle"]
        _grid(
            console,
            f"Lifecycle of {graph['column']}, from {graph['initial']}",
            graph["edges"],
            ("verb", "from", "to", "event"),
        )
    _grid(console, "Checks", found["checks"], ("fields", "function"))
    _list(console, "Events", found["events"])
    sample = found["sample"]
    _list(console, f"As {sample['role']}, rows are open by", sample["policies"] or ["nothing: no permission to read"])
    for name in ("get", "list"):
        if sample[name]:
            console.print(f"\n[bold]SQL of {name}[/]")
            console.print(Syntax(sample[name], "postgresql", word_wrap=True, background_color="default"))


def _grid(console: Console, title: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="dim", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column not in ("operators", "values", "from"))
    for row in rows:
        table.add_row(
            *(", ".join(cell) if isinstance(cell, list) else str(cell) for cell in (row[name] for name in columns))
        )
    console.print()
    console.print(table)


def _list(console: Console, title: str, items: Any) -> None:
    if items:
        console.print(f"\n[bold]{title}[/] {', '.join(items)}")
