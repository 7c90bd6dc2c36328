"""Which records rows are about or refer to: looked up for many rows at once, among those that the caller may see."""

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from crm_api.domains.exchange.importing import ColumnMapping, MatchRule
from crm_api.domains.exchange.mapping import Draft, Plan, Wanted, target_in
from crm_api.kernel.collections import run as page_of
from crm_api.kernel.context import Context
from crm_api.kernel.customs import CUSTOM, PREFIX, fields_of
from crm_api.kernel.duplicates_search import candidates
from crm_api.kernel.external import resolved
from crm_api.kernel.external_sources import known
from crm_api.kernel.filters import Filters, Group
from crm_api.kernel.paging import Key
from crm_api.kernel.problems import Problem, forbidden, invalid
from crm_api.kernel.projection import plain
from crm_api.kernel.query import Listing
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import UUID_PATTERN, external_key, fold

MOST = 500
"""Texts that are looked up at a time."""
_PAGES = 20
_FOUND_BY = ("text", "values")
"""Kinds of fields by which records are looked up."""
_ID = re.compile(UUID_PATTERN)
_SORT = (Key("id", descending=False),)


async def records(
    ctx: Context, resource: Resource, field: str, texts: Iterable[str], fields: tuple[str, ...] | None = None
) -> list[dict[str, Any]]:
    """Records whose field has one of these values, as they are sent; of very many, some."""
    wanted: list[Any] = sorted(set(texts))
    if not wanted:
        return []
    if field.startswith(PREFIX) and fields_of(ctx.access, resource)[field.removeprefix(PREFIX)].kind.name == "number":
        wanted = [int(text) for text in wanted]
    op = "any" if resource.filterable.get(field) == "values" else "in"
    filters = Filters(ctx.kernel.catalog, resource, ctx.access)
    tree = Group("and", (filters.tree({"field": field, "op": op, "value": wanted}),))
    listing = Listing(tree, filters.values, _SORT, 1_000, fields=fields and tuple(sorted(fields)))
    found: list[dict[str, Any]] = []
    following: str | None = None
    for _ in range(_PAGES):
        answer, following = await page_of(ctx, resource, listing, following)
        found += [plain(item) for item in answer["data"]]
        if following is None:
            break
    return found


async def ids_by(ctx: Context, resource: Resource, field: str, texts: Iterable[str]) -> dict[str, list[str]]:
    """Folded value of a field, or the value of a custom one as it is -> the ids of records that have it."""
    found: dict[str, list[str]] = {}
    custom = field.startswith(PREFIX)
    for item in await records(ctx, resource, field, texts, ("id", CUSTOM if custom else field)):
        for value in _values(resource, field, item):
            found.setdefault(str(value) if custom else fold(str(value)), []).append(item["id"])
    return found


def _values(resource: Resource, field: str, item: Mapping[str, Any]) -> Iterable[Any]:
    custom = field.startswith(PREFIX)
    value = item[CUSTOM].get(field.removeprefix(PREFIX)) if custom else item.get(field)
    if field in resource.values:
        return set(resource.values[field](value or []))
    return [] if value is None else [value]


async def _existing(ctx: Context, resource: Resource, ids: Iterable[str]) -> set[str]:
    wanted = {id_.lower() for id_ in ids}
    return {item["id"] for item in await records(ctx, resource, "id", wanted, ("id",))}


async def refer(ctx: Context, plan: Plan, drafts: Sequence[Draft], pending: Mapping[str, Container[str]]) -> None:
    """Puts ids in place of what names other records; what names none, or several, is a fault of the row.

    Args:
        ctx: the step.
        plan: of the import.
        drafts: at most `MOST` rows.
        pending: by field, the keys of records that rows of the same file will create: those are left in `wanted`.
    """
    groups: dict[tuple[str, str | None, str | None], list[tuple[Draft, Wanted]]] = {}
    for draft in drafts:
        for wanted in draft.wanted:
            groups.setdefault((wanted.field, wanted.entry.target, wanted.entry.source), []).append((draft, wanted))
    for (field, target_field, source), asked in groups.items():
        target = plan.target(ctx.kernel.catalog, field)
        assert target is not None  # noqa: S101 - settings are checked
        if target is not plan.resource:
            ctx.access.through(target)
        if source is not None:
            found = await _external(ctx, target, source, {wanted.text for _, wanted in asked})
        else:
            found = await ids_by(ctx, target, target_field or "id", {wanted.text for _, wanted in asked})
        for draft, wanted in asked:
            _settle(draft, wanted, found.get(wanted.key, []), target, later=wanted.key in pending.get(field, ()))
    await _lead(ctx, plan, drafts)


def _settle(draft: Draft, wanted: Wanted, ids: list[str], target: Resource, *, later: bool) -> None:
    unique = sorted(set(ids))
    if not unique and later:
        return
    draft.wanted = [other for other in draft.wanted if other is not wanted]
    if len(unique) == 1:
        draft.put(wanted.path, unique[0])
    elif unique:
        draft.fault(wanted.column, "ambiguous_reference", f"Several {target.plural} are named so.", wanted.pointer)
    else:
        draft.fault(wanted.column, "reference_not_found", f"There is no such {target.singular}.", wanted.pointer)


async def _external(ctx: Context, target: Resource, source: str, texts: Iterable[str]) -> dict[str, list[str]]:
    named = {text: f"ext:{source}:{text}" for text in texts}
    ids = await resolved(ctx, target, [*named.values()])
    there = await _existing(ctx, target, ids.values())
    return {text: [ids[name]] for text, name in named.items() if ids[name] in there}


async def _lead(ctx: Context, plan: Plan, drafts: Sequence[Draft]) -> None:
    """References by id: whether they lead to a record; in place of external ids come ids."""
    customs = [custom.name for custom in plan.customs.values() if custom.target is not None]
    for field in (*plan.resource.references, *customs):
        target, path = plan.target(ctx.kernel.catalog, field), tuple(field.split("."))
        given = [(draft, value) for draft in drafts if isinstance(value := draft.value(field), str)]
        if target is None or not given:
            continue
        if target is not plan.resource:
            ctx.access.through(target)
        external = {text for _, text in given if external_key(text) is not None}
        ids = await resolved(ctx, target, external) if external else {}
        asked = {ids.get(text, text).lower() for _, text in given if text in ids or _is_id(text)}
        there = await _existing(ctx, target, asked)
        for draft, text in given:
            id_ = ids.get(text, text).lower()
            if id_ in there:
                draft.put(path, id_)
            elif text in ids or _is_id(text):
                detail, pointer = f"There is no such {target.singular}.", "/" + "/".join(path)
                draft.fault(plan.column(pointer), "reference_not_found", detail, pointer)


def _is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


async def match(ctx: Context, plan: Plan, rules: Sequence[MatchRule], drafts: Sequence[Draft]) -> dict[int, str]:
    """Row -> the record that it is about; a row that finds several has a fault then."""
    found: dict[int, str] = {}
    for rule in rules:
        open_ = [draft for draft in drafts if draft.row not in found and not draft.faults]
        keys = {draft.row: _keys(plan.resource, rule, draft) for draft in open_}
        texts = {text for some in keys.values() for text in some}
        ids: Mapping[str, list[str]] = {}
        if rule.by == "similarity":
            ids = {f"{draft.row}": await _similar(ctx, plan.resource, rule, draft) for draft in open_}
            keys = {draft.row: [f"{draft.row}"] for draft in open_}
        elif texts:
            if rule.by == "external_id":
                ids = await _external(ctx, plan.resource, rule.source or "", texts)
            else:
                ids = await ids_by(ctx, plan.resource, rule.field or "id", texts)
        for draft in open_:
            hits = sorted({id_ for text in keys[draft.row] for id_ in ids.get(_folded(rule, text), [])})
            if len(hits) == 1:
                found[draft.row] = hits[0]
            elif hits:
                draft.fault(_column(plan, rule), "ambiguous_match", f"The row finds {len(hits)} records.")
    return found


def _folded(rule: MatchRule, text: str) -> str:
    exact = rule.by in ("external_id", "similarity") or (rule.field or "").startswith(PREFIX)
    return text if exact else fold(text)


def _column(plan: Plan, rule: MatchRule) -> str | None:
    field = (rule.field or "id").replace(".", "/")
    return plan.column(f"/external_ids/{rule.source}" if rule.by == "external_id" else f"/{field}")


def _keys(resource: Resource, rule: MatchRule, draft: Draft) -> list[str]:
    """By what a row is looked up under a rule."""
    if rule.by == "external_id":
        text = draft.external.get(rule.source or "")
        return [text] if text else []
    if rule.by == "similarity":
        return []
    field = rule.field or "id"
    value = draft.value(field)
    if value is None or (field == "id" and not (isinstance(value, str) and _is_id(value))):
        return []
    return [str(item) for item in (resource.values[field](value) if field in resource.values else [value])]


async def _similar(ctx: Context, resource: Resource, rule: MatchRule, draft: Draft) -> list[str]:
    record = {**dict.fromkeys(resource.output.model_fields), **draft.values}
    told = await candidates(ctx, resource, record, most=2, floor=rule.score or 1)
    best = [item for item in told if item["score"] == told[0]["score"]]
    return [item["record"]["id"] for item in best]


def unknown_source(pointer: str, code: str | None) -> Problem:
    """422 for a source that does not exist."""
    return invalid(pointer, "unknown_source", f"There is no source {code!r}.")


async def check_references(ctx: Context, resource: Resource, entries: Sequence[ColumnMapping]) -> None:
    """Refuses references that are named by what records of their kind are not found by.

    Raises:
        Problem: 422 at the mapping.
    """
    customs = fields_of(ctx.access, resource)
    for i, entry in enumerate(entries):
        target = target_in(ctx.kernel.catalog, resource, customs, entry.field) if entry.by == "field" else None
        if target is not None and target.filterable.get(entry.target or "") not in _FOUND_BY:
            raise invalid(
                f"/mapping/{i}/target", "invalid_value", f"{target.plural} are not found by {entry.target!r}."
            )
        if entry.by == "external_id":
            await known(ctx, entry.source or "", unknown_source(f"/mapping/{i}/source", entry.source))


async def check_match(ctx: Context, resource: Resource, rules: Sequence[MatchRule]) -> None:
    """Refuses rules that do not fit the resource.

    Raises:
        Problem: 422 at the rule.
    """
    for i, rule in enumerate(rules):
        wrong = None
        if rule.by == "field" and (rule.field or "").startswith(PREFIX):
            custom = fields_of(ctx.access, resource).get((rule.field or "").removeprefix(PREFIX))
            if custom is None or not (custom.unique and custom.filterable):
                wrong = f"{rule.field!r} is no unique and filterable custom field of {resource.plural}."
            elif custom.name in ctx.access.hides(resource.plural):
                raise forbidden(f"field {resource.plural}.{custom.name}")
        elif rule.by == "field" and resource.filterable.get(rule.field or "") not in (*_FOUND_BY, "id"):
            wrong = f"{resource.plural} are not found by {rule.field!r}."
        if rule.by == "similarity" and (resource.duplicates is None or not resource.duplicates.rules):
            wrong = f"{resource.plural} are not compared."
        if rule.by == "external_id":
            await known(ctx, rule.source or "", unknown_source(f"/match_on/{i}/source", rule.source))
        if wrong is not None:
            raise invalid(f"/match_on/{i}", "invalid_value", wrong)
