"""What a view shows under the rights of who looks at it: the search it stands for, and what of it does not hold."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import orjson

from crm_api.kernel.collections import SearchRequest, listing_of, parse_expand
from crm_api.kernel.context import Context
from crm_api.kernel.customs import CUSTOM, PREFIX, fields_of
from crm_api.kernel.filters import Group, Leaf, Node
from crm_api.kernel.paging import parse_sort
from crm_api.kernel.problems import Fault, Problem, forbidden, invalid
from crm_api.kernel.query import Listing
from crm_api.kernel.resource import Resource

Notice = dict[str, str]


def read(value: Any) -> Any:
    """A part of a view, which is text in a row and a value in a body."""
    return orjson.loads(value) if isinstance(value, str) else value


@dataclass(slots=True)
class Shown:
    """The search of a view, and notices of parts that do not hold for the caller or are of fields retired since."""

    target: Resource
    listing: Listing
    notices: list[Notice] = field(default_factory=list)


async def shown_by(ctx: Context, view: Mapping[str, Any], *, strict: bool = False, **page: Any) -> Shown:
    """What a view shows, checked under the caller's rights of now.

    Args:
        ctx: the request.
        view: a row, or a body with all its fields.
        strict: nothing is left out; what does not hold is refused, as a search would refuse it.
        page: `limit` and `count`, as of a search.

    Raises:
        Problem: 403 without the permission to read the records, and for a hidden field that is filtered by, searched
            in or, when `strict`, named at all, since whoever names it knows of it; 422 for what does not exist.
    """
    target = ctx.kernel.catalog.resources.get(view["resource"])
    if target is None or "search" not in target.operations:
        raise invalid("/resource", "unknown_resource", "There are no such records to look at.")
    ctx.require(target, "read")
    parts = _Parts(ctx, target, strict=strict)
    columns = list(dict.fromkeys(read(view["columns"])))
    for i, name in enumerate(columns if strict else ()):
        parts.column(name, f"/columns/{i}")
    columns = parts.kept("columns", columns, parts.column)
    asked: dict[str, Any] = {
        "q": view["q"],
        "sort": parts.kept("sort", read(view["sort"]), partial(parse_sort, target, ctx.access)),
        "expand": parts.kept("expand", read(view["expand"]), partial(parse_expand, ctx, target)),
        "fields": _fields(columns) if read(view["columns"]) else None,
        **page,
    }
    if (tree := read(view["filter"])) is not None:
        asked["filter"] = tree
    with _placed():
        listing = await listing_of(ctx, target, SearchRequest.model_construct(set(asked), **asked))
    parts.retired(listing.filter, columns, asked["sort"])
    return Shown(target, listing, parts.notices)


def _fields(columns: Sequence[str]) -> list[str]:
    """Columns as a search names them; a row without any has its id."""
    return list(dict.fromkeys(CUSTOM if name.startswith(PREFIX) else name for name in columns)) or ["id"]


@contextmanager
def _placed() -> Iterator[None]:
    """What is wrong with a part of a view is told with its place in the view, a hidden field too."""
    try:
        yield
    except Problem as problem:
        faults = [
            fault if fault.parameter is None else Fault(fault.code, fault.detail, pointer=f"/{fault.parameter}")
            for fault in problem.errors
        ]
        raise replace(problem, errors=faults) from None


@dataclass(slots=True)
class _Parts:
    """Reads the lists of a view name by name, and notes those that do not hold unless they are refused."""

    ctx: Context
    target: Resource
    strict: bool
    notices: list[Notice] = field(default_factory=list)

    def kept(self, part: str, names: Sequence[str], check: Callable[[str], Any]) -> list[str]:
        """The names that hold, in their order; all of them when the search is to refuse the others."""
        kept = []
        for name in names:
            try:
                if not self.strict:
                    check(name)
            except Problem as problem:
                self._note(part, name.removeprefix("-"), _code(problem), problem.detail)
            else:
                kept.append(name)
        return kept

    def column(self, name: str, pointer: str = "/columns") -> None:
        """Refuses a column that the target does not have, or that is hidden."""
        plural, custom = self.target.plural, name.startswith(PREFIX)
        known = fields_of(self.ctx.access, self.target) if custom else self.target.output.model_fields
        if name.removeprefix(PREFIX if custom else "") not in known:
            raise invalid(pointer, "unknown_field", f"{plural} have no field {name!r}.")
        if name in self.ctx.access.hides(plural):
            raise forbidden(f"field {plural}.{name}")

    def retired(self, tree: Node, columns: Sequence[str], sort: Sequence[str]) -> None:
        """Notes the custom fields that take no values any more; they are shown and filtered by as before."""
        named = [("filter", path, resource, name) for path, resource, name in self._leaves(tree, self.target, "")]
        named += [("sort", name, self.target, name) for name in (key.removeprefix("-") for key in sort)]
        named += [("columns", name, self.target, name) for name in columns]
        for part, path, resource, name in named:
            custom = fields_of(self.ctx.access, resource).get(name.removeprefix(PREFIX))
            if name.startswith(PREFIX) and custom is not None and custom.retired:
                self._note(part, path, "field_retired", "The field is retired: it takes no new values.")

    def _leaves(self, node: Node, resource: Resource, before: str) -> Iterator[tuple[str, Resource, str]]:
        """(path, resource, field) of each reference and comparison of a filter."""
        if isinstance(node, Group):
            for child in node.children:
                yield from self._leaves(child, resource, before)
            return
        catalog = self.ctx.kernel.catalog
        for hop in node.hops:
            yield f"{before}{hop}", resource, hop.field
            resource, before = catalog.resources[hop.target], f"{before}{hop}."
        if isinstance(node, Leaf):
            yield f"{before}{node.field}", resource, node.field
        else:
            children = catalog.resources[resource.many[node.relation].plural]
            yield from self._leaves(node.child, children, f"{before}{node.relation}.")

    def _note(self, part: str, name: str, code: str, detail: str) -> None:
        notice = {"part": part, "name": name, "code": code, "detail": detail}
        if notice not in self.notices:
            self.notices.append(notice)


def _code(problem: Problem) -> str:
    """What a client is told of a part that does not hold: `field_hidden`, or what the list calls it."""
    if str(problem.extra.get("permission", "")).startswith("field "):
        return "field_hidden"
    return problem.errors[0].code if problem.errors else problem.kind.code
