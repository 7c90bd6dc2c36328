"""`GET /v1/{collection}/{id}/graph` of leads, opportunities, quotes and orders."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from crm_api.domains.document_graph.links import DOCUMENTS, links
from crm_api.domains.document_graph.walking import MOST_LINES, MOST_NODES, around, origins
from crm_api.kernel.collections import path_id
from crm_api.kernel.headers import query
from crm_api.kernel.projection import Json
from crm_api.kernel.repository import get
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Id, Instant, Line, Quantity, Wire, ratio_text
from crm_api.kernel.spec_style import parameter
from crm_api.kernel.unit_of_work import permitted


class DocumentNode(Wire):
    """A document of the chain."""

    object: Literal["lead", "opportunity", "quote", "order"]
    id: Id
    title: Annotated[Line | None, Field(description="Company or last name, name, or number; null if it has none.")]
    revision: Annotated[Annotated[int, Field(ge=1, le=10_000)] | None, Field(description="Of a quote.")]
    state: Annotated[str, Field(max_length=63)]
    created_at: Instant
    version: Annotated[int, Field(ge=1, le=9_007_199_254_740_991)]


class DocumentEdge(Wire):
    """That a document came of another."""

    from_id: Annotated[Id, Field(description="The earlier document.")]
    to_id: Annotated[Id, Field(description="The later one.")]
    kind: Annotated[
        Literal["converted", "quoted", "revised", "ordered"],
        Field(description="Of a lead or quote, what it was converted to; of an opportunity, its quotes and orders."),
    ]


class LineOrigin(Wire):
    """A line, and the line of an earlier document that it came from."""

    from_id: Annotated[Id, Field(description="The earlier document.")]
    from_line_id: Id
    from_quantity: Quantity
    to_id: Annotated[Id, Field(description="The later document.")]
    to_line_id: Id
    to_quantity: Quantity
    description: Annotated[Line, Field(description="Of the later line.")]


class DocumentGraph(Wire):
    """The documents around one, as far as the caller sees them, nearest first."""

    object: Literal["document_graph"]
    nodes: Annotated[list[DocumentNode], Field(max_length=MOST_NODES)]
    edges: Annotated[list[DocumentEdge], Field(max_length=MOST_NODES * 4)]
    lines: Annotated[list[LineOrigin], Field(max_length=MOST_LINES)]
    is_complete: Annotated[bool, Field(description="False when there are more documents or lines than are told.")]


router = APIRouter()


def _add(resource: Resource) -> None:
    noun = resource.singular
    article = "an" if noun[0] in "aeiou" else "a"

    async def endpoint(request: Request) -> Response:
        ctx = await permitted(request, resource, "read")
        query(request, ())
        start = await get(ctx, resource, path_id(request, resource))
        found = await around(ctx, resource, start["id"])
        nodes = found[:MOST_NODES]
        pairs = await origins(ctx, nodes)
        body = {
            "object": "document_graph",
            "nodes": [{name: row[name] for name in DocumentNode.model_fields} for row in nodes],
            "edges": _edges(links(ctx), nodes),
            "lines": [_origin(row) for row in pairs[:MOST_LINES]],
            "is_complete": len(found) <= MOST_NODES and len(pairs) <= MOST_LINES,
        }
        return Json(body)

    endpoint.__doc__ = (
        f"From the lead to the orders: what the {noun} came of and what came of it, through documents that the caller "
        f"sees. Needs the permission `{resource.plural}:read`."
    )
    router.add_api_route(
        f"/v1/{resource.plural}/{{id}}/graph",
        endpoint,
        methods=["GET"],
        name=f"get_{noun}_graph",
        operation_id=f"get_{noun}_graph",
        summary=f"The documents around {article} {noun}",
        response_model=DocumentGraph,
        responses={403: {}, 404: {}, 422: {}},
        openapi_extra={"parameters": [parameter("id", "The record.", required=True, place="path", maxLength=300)]},
    )


def _edges(ways: Any, nodes: list[Any]) -> list[dict[str, Any]]:
    there = {row["id"] for row in nodes}
    found = []
    for row in nodes:
        for way in ways:
            other = row[way.kind]
            if way.holder.singular == row["object"] and other in there:
                ends = (row["id"], other) if way.forward else (other, row["id"])
                found.append({"from_id": ends[0], "to_id": ends[1], "kind": way.kind})
    return found


def _origin(row: Any) -> dict[str, Any]:
    quantities = {name: ratio_text(row[name]) for name in ("from_quantity", "to_quantity")}
    return {name: row[name] for name in LineOrigin.model_fields} | quantities


for _resource in DOCUMENTS:
    _add(_resource)
