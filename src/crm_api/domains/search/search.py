"""`/v1/search`: a text looked for in every resource that the caller may read, the best first."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from crm_api.domains.search import matches, ranking
from crm_api.domains.search.matches import Match
from crm_api.domains.search.words import Query as Words
from crm_api.kernel.context import Context
from crm_api.kernel.domain import Catalog
from crm_api.kernel.headers import query
from crm_api.kernel.problems import Problem, forbidden, invalid_parameter
from crm_api.kernel.projection import Json
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Id, fold
from crm_api.kernel.unit_of_work import open_context

router = APIRouter()
Way = Callable[[Context, Resource, Words], Awaitable[list[Match]]]
MOST = 50
AT_ONCE = 3
"""Statements of one request that run at the same time, each on a connection of its own."""


class SearchSegment(BaseModel):
    """A piece of a value; the pieces of a highlight, put together, are the value."""

    text: Annotated[str, Field(max_length=500)]
    match: bool


class SearchHighlight(BaseModel):
    """A value that matches, in pieces. It is data, not markup: escape it as you would the value itself."""

    field: Annotated[str, Field(max_length=63)]
    segments: Annotated[list[SearchSegment], Field(max_length=41)]


class SearchHit(BaseModel):
    """A record that was found. `record` has the fields that are searched in records of its type."""

    object: Annotated[str, Field(max_length=63, examples=["account"])]
    id: Id
    title: Annotated[str, Field(max_length=500, description="What people call the record.")]
    record: Annotated[dict[str, Any], Field(description="The record with some of its fields, as a search gives it.")]
    score: Annotated[float, Field(ge=0, le=1, description="How well it answers; comparable within one reply only.")]
    highlights: Annotated[list[SearchHighlight], Field(max_length=10)]


class SearchHitList(BaseModel):
    """What was found, the best first. `has_more`: there are further records; a more precise text brings them."""

    data: Annotated[list[SearchHit], Field(max_length=MOST)]
    has_more: bool


def searched(catalog: Catalog) -> dict[str, Resource]:
    """The resources that are searched, by the name of their records."""
    return {item.singular: item for item in catalog.resources.values() if item.search and "search" in item.operations}


async def _reader(request: Request) -> Context:
    query(request, {parameter.alias for parameter in request.scope["route"].dependant.query_params})
    return await open_context(request)


@router.get(
    "/v1/search",
    operation_id="search",
    summary="Search all records",
    response_model=SearchHitList,
    responses={403: {}, 422: {}},
)
async def search(
    ctx: Annotated[Context, Depends(_reader)],
    q: Annotated[str, Query(min_length=2, max_length=200, description="Words, in any order.")],
    types: Annotated[
        list[Annotated[str, Field(max_length=63)]] | None,
        Query(max_length=20, description="Only records of these types, such as `account`; else of every type."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MOST, description="At most so many records.")] = 20,
) -> Response:
    """Finds records that hold each word, whatever its case and accents; where none does, records with like words."""
    words = Words(fold(q))
    if len(words.folded) < 2:
        raise invalid_parameter("q", "too_short", "At least two letters or digits.")
    resources = _resources(ctx, types)
    found = await _each(ctx, resources, words)
    ranked = sorted(
        ((ranking.score(match, words), match) for match in found),
        key=lambda pair: (pair[0], pair[1].item["updated_at"], pair[1].item["id"]),
        reverse=True,
    )
    return Json(
        {
            "data": [_hit(match, score, words) for score, match in ranked[:limit]],
            "has_more": len(ranked) > limit,
        }
    )


def _resources(ctx: Context, types: list[str] | None) -> list[Resource]:
    """What is asked for and may be read; without types, what may be read, each table once.

    Raises:
        Problem: 422 for a type that is none, 403 for one that may not be read.
    """
    known = searched(ctx.kernel.catalog)
    if not types:
        return [item for item in known.values() if not item.fixed and _readable(ctx, item) is None]
    found = []
    for name in dict.fromkeys(types):
        resource = known.get(name)
        if resource is None:
            raise invalid_parameter("types", "unknown_type", f"A type is one of {', '.join(known)}.")
        if problem := _readable(ctx, resource):
            raise problem
        found.append(resource)
    return found


def _readable(ctx: Context, resource: Resource) -> Problem | None:
    """Why the caller may not search a resource, if so."""
    try:
        ctx.require(resource, "read")
    except Problem as problem:
        return problem
    if not matches.fields(ctx, resource):
        return forbidden(f"field {resource.plural}.{resource.search[0]}")
    return None


async def _each(ctx: Context, resources: Iterable[Resource], words: Words) -> list[Match]:
    """Matches of each resource, each record once; records that are alike only where none holds the words themselves."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(way: Way, resource: Resource) -> list[Match]:
        async with turns:
            return await way(ctx, resource, words)

    async def every(way: Way) -> list[Match]:
        answers = await asyncio.gather(*(one(way, resource) for resource in resources), return_exceptions=True)
        if failed := [answer for answer in answers if isinstance(answer, BaseException)]:
            raise failed[0]
        return [match for answer in answers if isinstance(answer, list) for match in answer]

    found = await every(matches.exact)
    if any(match.alike is None for match in found):
        found = [match for match in found if match.alike is None]
    elif words.longest:
        found += await every(matches.alike)
    return list({(match.resource.singular, match.item["id"]): match for match in reversed(found)}.values())


def _hit(match: Match, score: float, words: Words) -> dict[str, Any]:
    found: dict[str, Any] = {"object": match.resource.singular, "id": match.item["id"], "title": ranking.title(match)}
    return found | {"record": match.item, "score": score, "highlights": ranking.highlights(match, words)}
