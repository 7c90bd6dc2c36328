"""Finds records that may mean the same as another: candidates in one statement, compared by what the caller sees."""

from collections.abc import Mapping
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import array as pg_array

from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import TENANT
from crm_api.kernel.duplicates import Rule
from crm_api.kernel.predicates import like
from crm_api.kernel.projection import Projection, plain
from crm_api.kernel.query import Plan, framed
from crm_api.kernel.record import FieldValue, among, table_of
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import LAST, fold

MOST = 20
"""Candidates that are told."""
EACH = 500
"""Rows that one rule looks at."""
ALIKE, COMPARED = 0.6, 2_000
"""How like a text rows are that are found by likeness, as `pg_trgm` has it; so many of them are put in order."""
FLOOR = 0.55
"""How similar two texts must be to count."""
_SHORTEST = 3
_VALUES = table_of(FieldValue)
_TEXTS = ARRAY(sa.Text())


def similarity(one: str, other: str) -> float:
    """0 to 1: the share of three-letter pieces that two texts have in common, as pg_trgm counts them."""
    if one == other:
        return 1.0
    mine, theirs = trigrams(one), trigrams(other)
    together = len(mine | theirs)
    return len(mine & theirs) / together if together else 0.0


def trigrams(text: str) -> set[str]:
    """The three-letter pieces of each word, as pg_trgm counts them."""
    padded = (f"  {word} " for word in text.split())
    return {word[i : i + 3] for word in padded for i in range(len(word) - 2)}


def compare(rule: Rule, record: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    """0 to the rule's score."""
    if rule.found_by is not None and str(record.get(rule.found_by)).lower() != str(other.get(rule.found_by)):
        return 0
    mine, theirs = set(rule.keys(record)), set(rule.keys(other))
    if mine & theirs:
        return rule.score
    if not rule.fuzzy:
        return 0
    best = max((similarity(one, two) for one in mine for two in theirs), default=0.0)
    return round(rule.score * best) if best >= FLOOR else 0


def scored(resource: Resource, record: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[int, list[str]]:
    """(0 to 100, the rules that matched): several together count more than the strongest, and never all."""
    assert resource.duplicates is not None  # noqa: S101 - the caller found rules in it
    left, names = 1.0, []
    for rule in resource.duplicates.rules:
        if (points := compare(rule, record, other)) > 0:
            left *= 1 - points / 100
            names.append(rule.name)
    return round(100 * (1 - left)), names


async def candidates(
    ctx: Context, resource: Resource, record: Mapping[str, Any], *, most: int = MOST, floor: int = 1
) -> list[dict[str, Any]]:
    """Records that may mean the same as `record`, best first: `score`, `rules` and the `record` as it is sent.

    Only such as the caller may see, by fields that are not hidden from them: what finds candidates may look at all,
    but what counts is compared with the records as the caller sees them.

    Args:
        ctx: the request.
        resource: declares the rules.
        record: as it is sent, or a draft of one; never found itself.
        most: how many at most.
        floor: the least score.
    """
    assert resource.duplicates is not None  # noqa: S101 - the caller found rules in it
    hidden = ctx.access.hides(resource.plural)
    seen = {name: None if name in hidden else value for name, value in _decoded(record).items()}
    found = {
        rule.name: sorted(_wanted(resource, rule, seen))[: 1 if rule.by == "text" else 50]
        for rule in resource.duplicates.rules
    }
    asked = tuple(rule for rule in resource.duplicates.rules if found[rule.name] and rule.field not in hidden)
    if not asked:
        return []
    shape = ("candidates", resource.plural, tuple(rule.name for rule in asked))
    values = {f"d_{rule.name}": found[rule.name] for rule in asked}
    plan, rows = await settled(ctx, shape, lambda: _compile(ctx, resource, asked), values)
    own = str(record.get("id"))
    told: list[dict[str, Any]] = []
    for row in rows:
        if row["id"] is None or row["id"] == own:
            continue
        item = plan.item(row)
        score, names = scored(resource, seen, _decoded(item))
        if score >= floor:
            told.append({"object": "duplicate", "score": score, "rules": names, "record": item})
    return sorted(told, key=lambda item: (-item["score"], item["record"]["id"]))[:most]


def _decoded(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as plain values: parts that the database gave as JSON are read."""
    return {name: plain(value) if isinstance(value, orjson.Fragment) else value for name, value in record.items()}


def _wanted(resource: Resource, rule: Rule, record: Mapping[str, Any]) -> set[str]:
    """What candidates of a rule are looked up by."""
    if rule.by == "values":
        return {fold(value) for value in resource.values[rule.field](record.get(rule.field) or [])}
    if rule.by == "column":
        value = record.get(rule.column)
        return {str(value)} if value and any(rule.keys(record)) else set()
    keys = {key for key in rule.keys(record) if len(key) >= _SHORTEST}
    return {like(key) for key in keys} if rule.by == "text" else keys


def _compile(ctx: Context, resource: Resource, rules: tuple[Rule, ...]) -> Plan:
    table, projection = resource.table, Projection(resource, ctx.access)
    gate = ctx.kernel.policy.gate(ctx.access, resource, "read", table)
    near: sa.ColumnElement[Any] = sa.cast(sa.func.array(_ids(resource, rules[0])), ARRAY(sa.Uuid()))
    for rule in rules[1:]:
        near = near.op("||", return_type=ARRAY(sa.Uuid()))(
            sa.cast(sa.func.array(_ids(resource, rule)), ARRAY(sa.Uuid()))
        )
    page = (
        sa.select(*projection.select(table))
        .where(*gate, among(table.c.id, near))
        .limit(sa.literal_column(str(EACH * len(rules))))
        .lateral("page")
    )
    return Plan(framed(page, [page.c[name] for name in projection.columns]), projection, 1, 0, [])


def _ids(resource: Resource, rule: Rule) -> Any:
    """A subquery of ids, not yet under the gate."""
    table = resource.table
    most: sa.ColumnElement[int] = sa.literal_column(str(EACH))
    wanted = sa.bindparam(f"d_{rule.name}", type_=_TEXTS)
    if rule.by == "values":
        where = [
            _VALUES.c.tenant_id == TENANT,
            _VALUES.c.field == sa.literal(f"{resource.plural}.{rule.field}", sa.Text()),
        ]
        rows = sa.select(_VALUES.c.object_id).where(*where, among(_VALUES.c.value, wanted))
    elif rule.by == "column":
        alias = table.alias(f"near_{rule.name}")
        column = alias.c[rule.column]
        of_type = sa.cast(wanted, ARRAY(column.type))
        where = [alias.c.tenant_id == TENANT, alias.c.deleted_at.is_(None)]
        rows = sa.select(alias.c.id).where(*where, among(column, of_type))
    elif rule.by == "text":
        found = getattr(sa.func, f"search_{table.name}")(TENANT, wanted, most)
        return sa.select(found).scalar_subquery()
    else:
        return _like(resource, rule, wanted).scalar_subquery()
    return rows.limit(most).scalar_subquery()


def _like(resource: Resource, rule: Rule, wanted: Any) -> sa.CompoundSelect[Any]:
    """Rows that begin like one of the texts, and those most like it."""
    words = sa.func.unnest(wanted).table_valued(sa.column("word", sa.Text()), name="words").render_derived()
    near = resource.table.alias(f"near_{rule.name}")
    key = near.c[resource.keys[rule.field].key]
    last = words.c.word.op("||", return_type=sa.Text())(sa.literal(LAST, sa.Text()))
    rows = sa.select(near.c.id).where(near.c.tenant_id == TENANT, near.c.deleted_at.is_(None))
    begins = rows.where(key >= words.c.word, key < last).limit(sa.literal_column(str(EACH // 2))).lateral("begins")
    bounds: list[Any] = [sa.literal_column(str(number)) for number in (ALIKE, COMPARED, EACH)]
    asked = (TENANT, pg_array([words.c.word]), sa.null(), *bounds)
    alike = getattr(sa.func, f"resemble_{resource.table.name}")(*asked)
    alike = alike.table_valued(sa.column("id", sa.Uuid()), sa.column("hits", sa.BigInteger()), name="alike")
    first = sa.select(begins.c.id).select_from(sa.join(words, begins, sa.true()))
    return sa.union_all(first, sa.select(alike.c.id).select_from(sa.join(words, alike, sa.true())))
