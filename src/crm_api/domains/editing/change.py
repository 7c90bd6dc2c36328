"""What an edit asks of a record: fields to set, values to add to lists and to take out of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from crm_api.kernel.collections import run as page_of
from crm_api.kernel.collective_rows import FIRST, judged
from crm_api.kernel.context import Context
from crm_api.kernel.customs import CUSTOM, PREFIX, fields_of, touched
from crm_api.kernel.customs_body import customized
from crm_api.kernel.external import referred
from crm_api.kernel.filters import Filters, Group
from crm_api.kernel.headers import parse
from crm_api.kernel.paging import Key
from crm_api.kernel.problems import INVALID, Fault, Problem
from crm_api.kernel.projection import plain
from crm_api.kernel.query import Listing
from crm_api.kernel.repository import check_references
from crm_api.kernel.resource import Resource

OWNERSHIP = frozenset({"owner_id", "team_id", "territory_id"})
_AT_ONCE = 200
Lists = Mapping[str, Sequence[str]]


@contextmanager
def below(pointer: str) -> Iterator[None]:
    """Problems of a part of the body are told as of the whole."""
    try:
        yield
    except Problem as problem:
        faults = [
            replace(fault, pointer=f"{pointer}{fault.pointer}") if fault.pointer is not None else fault
            for fault in problem.errors
        ]
        raise Problem(problem.kind, problem.detail, faults, extra=problem.extra) from None


@dataclass(frozen=True, slots=True)
class Change:
    """An edit that was read.

    Attributes:
        values: what to set, typed; custom fields under `custom`.
        sent: the same as JSON, as records are sent.
        add: list -> values that it is to have; a custom one by `custom.` and its key.
        remove: list -> values that it is not to have.
    """

    values: Mapping[str, Any]
    sent: Mapping[str, Any]
    add: Lists
    remove: Lists

    @classmethod
    def of(cls, resource: Resource, changes: Mapping[str, Any], add: Lists, remove: Lists) -> "Change":
        """Reads an edit.

        Raises:
            Problem: 422 for what a body of an update does not take, and for a field that cannot be edited so.
        """
        assert resource.update is not None  # noqa: S101 - the verb applies to no other
        with below("/changes"):
            body = parse(orjson.dumps(changes), resource.update, resource.read_only | resource.once)
        whole, sent = body.model_dump(), body.model_dump(mode="json")
        values = {name: whole[name] for name in whole if name in body.model_fields_set}
        _refuse(resource, values, add, remove)
        return cls(values, {name: sent[name] for name in values}, add, remove)

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that it touches, as field rules call them."""
        plain = {name: value for name, value in self.sent.items() if name != CUSTOM}
        customs = [PREFIX + key for key in self.sent.get(CUSTOM) or ()]
        return tuple(sorted({*plain, *customs, *self.add, *self.remove}))

    def values_for(self, present: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """(what to write into a record, the same as JSON) of the record as it is sent."""
        lists = {name: self._list(name, field_of(present, name) or []) for name in {*self.add, *self.remove}}
        found, told = dict(self.values), dict(self.sent)
        for name, value in lists.items():
            for side in (found, told):
                if name.startswith(PREFIX):
                    side[CUSTOM] = {**(side.get(CUSTOM) or {}), name.removeprefix(PREFIX): value}
                else:
                    side[name] = value
        return found, told

    def _list(self, name: str, present: Sequence[str]) -> list[str]:
        gone = set(self.remove.get(name, ()))
        return list(dict.fromkeys([*(value for value in present if value not in gone), *self.add.get(name, ())]))


def _refuse(resource: Resource, values: Mapping[str, Any], add: Lists, remove: Lists) -> None:
    """422 for parts of a record, for lists that are none of words, and for what is said twice."""
    faults = [
        Fault("not_editable", "What is a record of its own is not edited so.", pointer=f"/changes/{name}")
        for name in values
        if name in resource.parts or name not in resource.output.model_fields
    ]
    if CUSTOM in values and not isinstance(values[CUSTOM], dict):
        faults.append(Fault("invalid_value", "Custom fields by their keys.", pointer="/changes/custom"))
    named = {*values, *(PREFIX + key for key in values.get(CUSTOM) or ())}
    for side, lists in (("add", add), ("remove", remove)):
        for name, words in lists.items():
            place = f"/{side}/{name}"
            if resource.values.get(name) is not list and not name.startswith(PREFIX):
                faults.append(Fault("unknown_field", f"{name!r} is no list of words.", pointer=place))
            elif name in named:
                faults.append(Fault("repeated", "This field is set already.", pointer=place))
            elif side == "remove" and set(words).intersection(add.get(name, ())):
                faults.append(Fault("repeated", "A value is added or removed.", pointer=place))
    if faults:
        raise Problem(INVALID, "The edit cannot be done so.", faults)


async def check(ctx: Context, resource: Resource, change: Change, *, first: bool) -> None:
    """Refuses what the caller may not change at all.

    Args:
        ctx: the request or job.
        resource: of the records.
        change: what was asked for.
        first: values are looked at, too; later, each record says what it does not take.

    Raises:
        Problem: 403 for a hidden or read-only field, and without the permission to give records to others; 422 for
            values that no record takes.
    """
    listed = {name: name for name in {*change.add, *change.remove}}
    ctx.kernel.policy.writable(ctx.access, resource, {**dict.fromkeys(touched(change.values)), **listed})
    if resource.owned and OWNERSHIP.intersection(change.values):
        ctx.require(resource, "transfer")
    fields = fields_of(ctx.access, resource)
    for side, lists in (("add", change.add), ("remove", change.remove)):
        for name in lists:
            field = fields.get(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None
            if name.startswith(PREFIX) and (field is None or field.kind.name != "multi_choice"):
                detail = f"{name!r} is no list of words."
                raise Problem(INVALID, detail, [Fault("unknown_field", detail, pointer=f"/{side}/{name}")])
    if not first:
        return
    await judged(ctx, resource, [], ("update",), None, lock=False)  # notices rights that have changed meanwhile
    with below("/changes"):
        values = await referred(ctx, resource, change.values)
        await check_references(ctx, resource, values)
        await customized(ctx, resource, values, FIRST)
    added = {name.removeprefix(PREFIX): list(words) for name, words in change.add.items() if name.startswith(PREFIX)}
    if added:
        with below("/add"):
            await customized(ctx, resource, {CUSTOM: added}, FIRST)


async def present(
    ctx: Context, resource: Resource, ids: Sequence[str], names: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """Some fields of records that the caller may read, as they are sent; by id."""
    fields = {CUSTOM if name.startswith(PREFIX) else name for name in names}
    found: dict[str, dict[str, Any]] = {}
    for begin in range(0, len(ids), _AT_ONCE):
        some = list(ids[begin : begin + _AT_ONCE])
        filters = Filters(ctx.kernel.catalog, resource, ctx.access)
        tree = Group("and", (filters.tree({"field": "id", "op": "in", "value": some}),))
        keys = (Key("id", descending=False),)
        listing = Listing(tree, filters.values, keys, _AT_ONCE, fields=tuple(sorted(fields)))
        answer, _ = await page_of(ctx, resource, listing, None)
        found |= {item["id"]: plain(item) for item in answer["data"]}
    return found


def field_of(item: Mapping[str, Any], name: str) -> Any:
    """The value of a field of a record as it is sent; of a custom one by `custom.` and its key."""
    if name.startswith(PREFIX):
        return (item.get(CUSTOM) or {}).get(name.removeprefix(PREFIX))
    return item.get(name)


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by the names of fields, as a body says them."""
    found = {name: value for name, value in values.items() if not name.startswith(PREFIX)}
    customs = {name.removeprefix(PREFIX): value for name, value in values.items() if name.startswith(PREFIX)}
    return {**found, CUSTOM: customs} if customs else found


def differing(one: Mapping[str, Any], other: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Of some fields, those in which two records differ; decimals are the same whatever their zeros."""
    return [name for name in names if not _same(field_of(one, name), field_of(other, name))]


def _same(one: Any, other: Any) -> bool:
    if one == other:
        return True
    if not isinstance(one, str) or not isinstance(other, str):
        return False
    try:
        return Decimal(one) == Decimal(other)
    except InvalidOperation:
        return False
