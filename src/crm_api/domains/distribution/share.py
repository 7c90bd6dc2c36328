"""Verbs in bulk: open records to a user, a team or a territory, and end shares."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from crm_api.domains.distribution.selection import Selection
from crm_api.domains.distribution.walk import Bulk, State, Task
from crm_api.kernel.collective_rows import named
from crm_api.kernel.collective_writes import share_all, shared, unshare_all
from crm_api.kernel.context import Context
from crm_api.kernel.external import is_external
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Instant, Line, Ref
from crm_api.kernel.sharing import GRANTEES, GranteeType, grantee_of


class BulkShare(Selection):
    """To whom, and how; a share that the grantee has already is replaced."""

    grantee_type: GranteeType
    grantee_id: Ref
    level: Literal["read", "write"] = "read"
    expires_at: Instant | None = None
    cause: Annotated[Line | None, Field(description="Without it, `job` and the id of the job.")] = None


class BulkUnshare(Selection):
    """Which shares: those of a grantee, those with a cause, or those with both."""

    grantee_type: GranteeType | None = None
    grantee_id: Ref | None = None
    cause: Line | None = None

    @model_validator(mode="after")
    def _which(self) -> "BulkUnshare":
        if (self.grantee_type is None) != (self.grantee_id is None):
            raise PydanticCustomError("grantee", "grantee_type and grantee_id go together.")
        if self.grantee_id is None and self.cause is None:
            raise PydanticCustomError("which", "Give a grantee, a cause, or both.")
        return self


def _actions(body: BulkShare) -> tuple[str, ...]:
    return ("share", "update") if body.level == "write" else ("share",)


async def _grantee(ctx: Context, resource: Resource, body: BulkShare, state: State | None) -> State:
    """The grantee must be there for each step, and the end in the future."""
    del resource, state
    return {"grantee_id": await grantee_of(ctx, body.grantee_type, body.grantee_id, body.expires_at)}


async def _share(ctx: Context, task: Task[BulkShare]) -> None:
    body, ids = task.body, [row.id for row in task.rows]
    share = {
        "grantee_type": body.grantee_type,
        "grantee_id": task.state["grantee_id"],
        "level": body.level,
        "expires_at": body.expires_at,
        "cause": body.cause or ("job" if task.cause is None else f"job {task.cause['job_id']}"),
    }
    if task.cause is None:
        changed = len(ids) - len(await shared(ctx, task.resource, ids, share))
    else:
        changed = len(await share_all(ctx, task.resource, ids, share, task.cause))
    task.tally.done += changed
    task.tally.skip("unchanged", len(ids) - changed)


async def _known(ctx: Context, resource: Resource, body: BulkUnshare, state: State | None) -> State:
    """Whoever the shares are for need not be there any more."""
    del resource, state
    if body.grantee_id is None or body.grantee_type is None:
        return {}
    target = ctx.kernel.catalog.by_table[GRANTEES[body.grantee_type]]
    if is_external(body.grantee_id):
        ctx.access.through(target)
    (found,) = await named(ctx, target, [body.grantee_id])
    return {"grantee_id": found}


async def _unshare(ctx: Context, task: Task[BulkUnshare]) -> None:
    body, ids = task.body, [row.id for row in task.rows]
    wanted: dict[str, Any] = {} if body.cause is None else {"cause": body.cause}
    if body.grantee_id is not None:
        wanted |= {"grantee_type": body.grantee_type, "grantee_id": task.state["grantee_id"]}
    if task.cause is None:
        ended = await shared(ctx, task.resource, ids, wanted)
    else:
        ended = await unshare_all(ctx, task.resource, ids, wanted, task.cause)
    task.tally.done += sum(ended.values())
    task.tally.skip("unchanged", len(ids) - len(ended))


def _owned(resource: Resource) -> bool:
    return resource.owned


_SHARE = Bulk("share", BulkShare, _actions, _grantee, _share)
_UNSHARE = Bulk("unshare", BulkUnshare, lambda _: ("share",), _known, _unshare)
SHARE = _SHARE.verb("share", "Open many {many} to a user, a team or a territory", _owned)
UNSHARE = _UNSHARE.verb("share", "End shares of many {many}", _owned)
