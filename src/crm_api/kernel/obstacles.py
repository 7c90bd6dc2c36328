"""What stands in the way of a verb, told without trying it: the state, the permission, and what it would refuse."""

from collections.abc import Awaitable, Collection
from typing import Any

from crm_api.kernel import repository
from crm_api.kernel.context import Context
from crm_api.kernel.problems import Problem
from crm_api.kernel.resource import Resource
from crm_api.kernel.spec_models import MOST_BLOCKS

Blocks = list[dict[str, Any]]
_REFUSALS = frozenset({403, 404, 409, 422})


def by_state(state: str, sources: Collection[str]) -> Blocks:
    """Tells that a verb does not start from this state."""
    if state in sources:
        return []
    return [{"code": "state", "detail": f"The state is {state}; it must be one of {', '.join(sorted(sources))}."}]


async def by_permission(ctx: Context, resource: Resource, id_: str, verb: str) -> Blocks:
    """Tells that the caller may not do it at all, or not to this record; a scope of the credential counts as well."""
    try:
        ctx.require(resource, verb)
    except Problem as problem:
        return [{"code": "permission", "detail": problem.detail}]
    if await repository.find(ctx, resource, id_, action=verb) is not None:
        return []
    return [{"code": "permission", "detail": f"This needs the permission {resource.plural}:{verb}."}]


def told(problem: Problem) -> Blocks:
    """The causes of a refusal; raises what is a failure of the server instead."""
    if problem.kind.status not in _REFUSALS:
        raise problem
    faults: Blocks = [fault.wire() for fault in problem.errors[:MOST_BLOCKS]]
    return faults or [{"code": problem.kind.code, "detail": problem.detail}]


async def by_refusal(asked: Awaitable[object]) -> Blocks:
    """What an obstacle that is asked says, and nothing when it lets one pass."""
    try:
        await asked
    except Problem as problem:
        return told(problem)
    return []


async def transitions(ctx: Context, resource: Resource, id_: str, row: Any) -> list[dict[str, Any]]:
    """Each edge with whether it is open and the reasons that block it."""
    assert resource.lifecycle is not None  # noqa: S101 - the operation exists only with a lifecycle
    found = []
    state = row[resource.lifecycle.column]
    for edge in resource.lifecycle.offered:
        reasons = by_state(state, edge.sources) + await by_permission(ctx, resource, id_, edge.verb)
        if not reasons:  # who may not do it is not told what else it takes
            body = edge.body() if edge.body and edge.blocked else None
            for obstacle in edge.blocked:
                reasons += await by_refusal(obstacle(ctx, resource, row, body))
        found.append(
            {
                "action": edge.verb,
                "to": edge.target,
                "otherwise": list(edge.otherwise),
                "allowed": not reasons,
                "blocked_by": reasons[:MOST_BLOCKS],
            }
        )
    return found
