"""Endpoints over many rows: list and search."""

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import unquote_plus

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from crm_api.kernel.context import Context, settled
from crm_api.kernel.customs_expand import Path, Step, step_names, steps
from crm_api.kernel.customs_filters import custom_parameters
from crm_api.kernel.customs_search import partly_hidden
from crm_api.kernel.database import Row, Statement
from crm_api.kernel.external import settle
from crm_api.kernel.filters import Filters, Group, Leaf, flat_parameters, from_parameters
from crm_api.kernel.headers import parse, query, read_body, single
from crm_api.kernel.history import further, parse_as_of, refuse_related
from crm_api.kernel.paging import decode, encode, parse_sort, sort_parameters
from crm_api.kernel.predicates import like
from crm_api.kernel.problems import QUERY_TOO_BROAD, Problem, forbidden, invalid, invalid_parameter, not_found
from crm_api.kernel.projection import Json, dumps
from crm_api.kernel.query import BROAD, COUNT_LIMITS, Listing, Plan, compile_breadth, compile_list
from crm_api.kernel.repository import get
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import UUID_PATTERN, Wire, external_key, fold
from crm_api.kernel.unit_of_work import permitted

Endpoint = Callable[[Request], Awaitable[Response]]
MAX_LIMIT = 200
ONE_REQUEST = 50
"""Records of a page, expanded ones too, that count as one request."""
NARROW = 5_000
MAX_PATHS = 5
MAX_TEXT = 200
LIST_PARAMETERS = ("limit", "cursor", "sort", "expand", "count", "q")
_UUID = re.compile(UUID_PATTERN)


class SearchRequest(Wire):
    """The full form of a query: a filter tree, text, sort, sparse fields, expansions."""

    filter: dict[str, Any] = {}
    q: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)] | None = None
    sort: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=3)] = []
    fields: Annotated[list[Annotated[str, Field(max_length=63)]], Field(max_length=100)] | None = None
    expand: Annotated[list[Annotated[str, Field(max_length=127)]], Field(max_length=MAX_PATHS)] = []
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = 50
    cursor: Annotated[str, Field(max_length=2000)] | None = None
    count: Literal["none", "estimate", "exact"] = "none"


def path_id(request: Request, resource: Resource) -> str:
    """The id or external id in the path; what is neither leads nowhere."""
    return record_id(request.path_params["id"], resource)


def record_id(text: str, resource: Resource) -> str:
    """The id or external id that a caller names a record by; what is neither leads nowhere."""
    if not _UUID.fullmatch(text) and external_key(text) is None:
        raise not_found(resource.singular)
    return text


def parse_expand(ctx: Context, resource: Resource, text: str | None) -> tuple[Path, ...]:
    """`owner,account.custom.partner` to checked paths, in a fixed order."""
    if not text:
        return ()
    paths = text.split(",")
    if len(paths) > MAX_PATHS:
        raise invalid_parameter("expand", "too_many", f"At most {MAX_PATHS} paths.")
    return tuple(sorted({_path(ctx, resource, path) for path in paths}))


def _path(ctx: Context, resource: Resource, text: str) -> Path:
    found: list[Step] = []
    asked = step_names(text)
    if len(asked) > 2:
        raise invalid_parameter("expand", "too_deep", "At most two levels.")
    for name in asked:
        known = steps(ctx.kernel.catalog, ctx.access, resource, first=len(asked) == 1)
        if name not in known:
            hidden = ctx.access.hides(resource.plural)
            shown = ", ".join(step.name for step in known.values() if step.field not in hidden)
            raise invalid_parameter("expand", "unknown_relation", f"{text!r} cannot be expanded; one of {shown}.")
        step = known[name]
        target = ctx.kernel.catalog.resources[step.target]
        holder = target if step.many else resource
        if step.field in ctx.access.hides(holder.plural):
            raise forbidden(f"field {holder.plural}.{step.field}")
        ctx.access.through(target)
        found.append(step)
        resource = target
    return tuple(found)


def _limit(text: str | None) -> int:
    given = "50" if text is None else text
    if not re.fullmatch(r"[0-9]{1,9}", given) or not 1 <= int(given) <= MAX_LIMIT:
        raise invalid_parameter("limit", "out_of_range", f"1 to {MAX_LIMIT}.")
    return int(given)


def needles(ctx: Context, resource: Resource, text: str) -> list[str]:
    """The patterns of a text query, the most selective first."""
    if not resource.search:
        raise invalid_parameter("q", "not_searchable", f"{resource.plural} have no searched text.")
    if set(resource.search) <= ctx.access.hides(resource.plural):
        raise forbidden(f"field {resource.plural}.{resource.search[0]}")
    if len(text) > MAX_TEXT:
        raise invalid_parameter("q", "too_long", f"At most {MAX_TEXT} characters.")
    words = sorted(set(fold(text).split()), key=len, reverse=True)[:8]
    if not words or len(words[0]) < 3:
        raise invalid_parameter("q", "too_short", "At least one word of three characters.")
    return [like(word) for word in words]


def list_endpoint(resource: Resource, column: str = "") -> Endpoint:
    """`GET /v1/{collection}`; with a `column`, of the rows whose reference it is to the record in the path."""
    allowed = frozenset([*flat_parameters(resource), *LIST_PARAMETERS, *further(resource)])
    allowed -= {column, f"{column}_is_null"}

    async def endpoint(request: Request) -> Response:
        ctx = await permitted(request, resource, "read")
        pairs = query(request, allowed | custom_parameters(ctx.access, resource).keys())
        if column:
            pairs = {**pairs, column: [await _above(request, ctx, resource, column)]}
        limit = _limit(single(pairs, "limit"))
        cursor, sort, expand, text = (single(pairs, name) for name in ("cursor", "sort", "expand", "q"))
        count = "none" if (wanted := single(pairs, "count")) is None else wanted
        if count != "none" and count not in COUNT_LIMITS:
            raise invalid_parameter("count", "invalid_value", "none, estimate or exact.")
        as_of = parse_as_of(ctx, single(pairs, "as_of"))
        filters = Filters(ctx.kernel.catalog, resource, ctx.access, indexed=as_of is None)
        tree = from_parameters(filters, pairs)
        await settle(ctx, filters)
        listing = Listing(
            tree,
            filters.values,
            parse_sort(resource, ctx.access, sort),
            limit,
            expand=parse_expand(ctx, resource, expand),
            count=count,
        )
        if text is not None:
            listing.needles = needles(ctx, resource, text)
        body, next_cursor = await run(ctx, resource, listing, cursor, as_of, sent=True)
        headers = {}
        if next_cursor:
            headers["Link"] = f'<{_following(request, next_cursor)}>; rel="next"'
        return Json(body, 200, headers)

    return endpoint


async def _above(request: Request, ctx: Context, resource: Resource, column: str) -> str:
    """The id of the record in the path, which the caller must see."""
    parent = ctx.kernel.catalog.by_table[resource.references[column]]
    ctx.require(parent, "read")
    return str((await get(ctx, parent, path_id(request, parent)))["id"])


def _following(request: Request, cursor: str) -> str:
    given = request.scope["query_string"].decode().replace(">", "%3E").split("&")
    kept = [part for part in given if part and unquote_plus(part.partition("=")[0]) != "cursor"]
    return f"{request.scope['path']}?{'&'.join([*kept, f'cursor={cursor}'])}"


async def tree_of(
    ctx: Context, resource: Resource, node: dict[str, Any] | None, as_of: datetime | None = None
) -> tuple[Group, dict[str, Any]]:
    """A filter as it is sent, checked under the rights of now: the tree and the values of its parameters."""
    filters = Filters(ctx.kernel.catalog, resource, ctx.access, indexed=as_of is None)
    tree = Group("and") if node is None else filters.tree(node)
    await settle(ctx, filters)
    return tree if isinstance(tree, Group) else Group("and", (tree,)), filters.values


def search_endpoint(resource: Resource) -> Endpoint:
    """`POST /v1/{collection}/search`."""

    async def endpoint(request: Request) -> Response:
        ctx = await permitted(request, resource, "read")
        as_of = parse_as_of(ctx, single(query(request, further(resource)), "as_of"))
        body = parse(await read_body(request), SearchRequest)
        listing = await listing_of(ctx, resource, body, as_of)
        answer, _ = await run(ctx, resource, listing, body.cursor, as_of, sent=True)
        return Json(answer)

    return endpoint


async def listing_of(ctx: Context, resource: Resource, body: SearchRequest, as_of: datetime | None = None) -> Listing:
    """What a search asks for, checked under the rights of now."""
    tree, values = await tree_of(ctx, resource, body.filter if "filter" in body.model_fields_set else None, as_of)
    expand = parse_expand(ctx, resource, ",".join(body.expand))
    sort = parse_sort(resource, ctx.access, ",".join(body.sort))
    listing = Listing(tree, values, sort, body.limit, expand=expand, count=body.count)
    listing.fields = _fields(resource, body.fields, expand)
    if body.q is not None:
        listing.needles = needles(ctx, resource, body.q)
    return listing


def _fields(resource: Resource, names: list[str] | None, expand: tuple[Path, ...]) -> tuple[str, ...] | None:
    """What a sparse row holds: the fields asked for, and the references that are expanded."""
    if names is None:
        return None
    for i, name in enumerate(names):
        if name not in resource.output.model_fields:
            raise invalid(f"/fields/{i}", "unknown_field", f"{resource.plural} have no field {name!r}.")
    return tuple(sorted({*names, *(path[0].column for path in expand if not path[0].many)}))


async def run(
    ctx: Context,
    resource: Resource,
    listing: Listing,
    cursor: str | None,
    as_of: datetime | None = None,
    *,
    sent: bool = False,
) -> tuple[dict[str, Any], str | None]:
    """Runs a listing; gives the reply and the next cursor. The data of one that is `sent` may be JSON already.

    Raises:
        Problem: 400 for a foreign cursor, 422 for a text query that matches too much of what its caller may all see,
            and for what `as_of` cannot be read with.
    """
    if as_of is not None:
        refuse_related(listing.filter, {"expand": listing.expand, "q": listing.needles})
        listing.as_of, listing.values["as_of"] = True, as_of
    binding = _binding(ctx, resource, listing)
    if cursor is not None:
        listing.cursor = decode(ctx.kernel.cursor_keys, binding, cursor, resource, listing.sort)
        listing.values |= {f"c{i}": value for i, value in enumerate(listing.cursor)}
    listing.values["limit"] = listing.limit + 1
    if listing.needles:
        listing.values["needles"] = listing.needles
    asked = (listing.limit * (1 + len(listing.expand)) - 1) // ONE_REQUEST
    ctx.kernel.limiter.charge(ctx.principal, asked)  # at first, lest many come at once before the first is charged
    plan, rows = await page_rows(ctx, resource, listing)
    if listing.needles and listing.indexed and rows[0]["hits"] > BROAD:
        if _sees_all_text(ctx, resource):
            raise Problem(QUERY_TOO_BROAD, f"The text matches more than {BROAD} records; add a word.")
        listing.indexed = False
        plan, rows = await page_rows(ctx, resource, listing)
    return await _page(ctx, listing, plan, rows, binding, asked, sent=sent)


async def _page(
    ctx: Context, listing: Listing, plan: Plan, rows: list[Row], binding: bytes, asked: int, *, sent: bool
) -> tuple[dict[str, Any], str | None]:
    records = 0

    def render(row: Row) -> dict[str, Any]:
        nonlocal records
        records += plan.records(item := plan.item(row))
        return item

    floor, shown = ctx.kernel.database.floor, filter(plan.present, rows[: listing.limit])
    data = await floor.words(ctx.principal.tenant_id, shown, render, dumps if sent else None)
    ctx.kernel.limiter.charge(ctx.principal, max(records - 1, 0) // ONE_REQUEST - asked)
    more = len(rows) > listing.limit
    following = encode(ctx.kernel.cursor_keys, binding, plan.key_values(rows[listing.limit - 1])) if more else None
    body: dict[str, Any] = {"data": data, "has_more": more, "next_cursor": following}
    if listing.count != "none":
        total, most = rows[0]["total"], COUNT_LIMITS[listing.count]
        body["count"] = {"value": min(total, most), "relation": "gte" if total > most else "eq"}
    return body, following


async def page_rows(ctx: Context, resource: Resource, listing: Listing) -> tuple[Plan, list[Row]]:
    """The plan of a listing and what it found; the first column of each row is the access version."""
    by_text = bool(listing.needles) and listing.indexed  # the hits are few: no need to find all open rows first
    listing.narrow = not by_text and await _few(ctx, resource, listing)
    listing.values |= sort_parameters(listing.sort, narrow=listing.narrow or listing.as_of)
    shape = ("list", resource.plural, listing.shape)
    return await settled(ctx, shape, lambda: compile_list(ctx.kernel, ctx.access, resource, listing), listing.values)


def _selective(resource: Resource, node: Group) -> bool:
    return (
        any(
            isinstance(leaf, Leaf)
            and not leaf.hops
            and leaf.op in ("eq", "in", "any")
            and (leaf.field in resource.references or leaf.field == "id" or leaf.field in resource.values)
            for leaf in node.children
        )
        and node.op == "and"
    )


def _sees_all_text(ctx: Context, resource: Resource) -> bool:
    """Whether each row and text that the search function counted is open to the caller.

    Only then may the count refuse the query: to anybody else the refusal would tell of what is hidden from them, so
    their query looks at the text of the rows that are open to them, in the order of the sort, and ends with the page.
    """
    rows = ctx.kernel.policy.rows(ctx.access, resource, "read", resource.table)
    return rows is None and not resource.fixed and not partly_hidden(resource, ctx.access)


async def _few(ctx: Context, resource: Resource, listing: Listing) -> bool:
    return not _selective(resource, listing.filter) and await narrow(ctx, resource)


async def narrow(ctx: Context, resource: Resource) -> bool:
    """Whether few rows are open to the caller, so that finding those first beats walking a sort index."""
    breadth = ctx.access.breadth
    if resource.plural not in breadth:
        if ctx.kernel.policy.rows(ctx.access, resource, "read", resource.table) is None:
            breadth[resource.plural] = NARROW
        else:
            found = await _breadth(ctx, resource, reached=True)
            if found < NARROW:  # who reaches many must not gather all parents just to learn so
                found = await _breadth(ctx, resource, reached=False)
            breadth[resource.plural] = found
    return breadth[resource.plural] < NARROW


async def _breadth(ctx: Context, resource: Resource, *, reached: bool) -> int:
    def build() -> Statement:
        return compile_breadth(ctx.kernel, ctx.access, resource, NARROW, reached=reached)

    statement = ctx.kernel.statement(("breadth", resource.plural, ctx.access.shape, reached), build)
    return int((await ctx.read(statement, dict(ctx.access.values)))[0][0])


def _binding(ctx: Context, resource: Resource, listing: Listing) -> bytes:
    parts = (
        resource.plural,
        str(ctx.principal.id),
        str(ctx.principal.tenant_id),
        listing.filter.shape,
        sorted(listing.values.items()),
        [(key.name, key.descending) for key in listing.sort],
        listing.needles,
    )
    return hashlib.sha256(base64.b64encode(repr(parts).encode())).digest()
