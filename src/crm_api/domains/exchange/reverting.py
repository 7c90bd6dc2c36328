"""Job: undoes what an import did to records that nobody changed since; the rest is kept, and said why."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import sqlalchemy as sa

from crm_api.domains.exchange import rows as kept
from crm_api.domains.exchange.importing import ImportJob
from crm_api.domains.exchange.matching import records
from crm_api.domains.exchange.subject import Subject, note
from crm_api.domains.exchange.walking import Settled, Walk, imports_of, same, told
from crm_api.kernel.context import Context
from crm_api.kernel.customs import CUSTOM, PREFIX, changed_keys, hidden_keys
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.domain import JobKind
from crm_api.kernel.external_links import UnlinkRequest, link_actions
from crm_api.kernel.external_sources import EXTERNAL_IDS
from crm_api.kernel.problems import Fault
from crm_api.kernel.record import AuditEntry, table_of
from crm_api.kernel.repository import delete, load, update
from crm_api.kernel.resource import Resource
from crm_api.kernel.running import Run, Step

_AUDIT = table_of(AuditEntry)
_STAMPS = ("version", "updated_at", "updated_by")
_CREATED = Statement(
    sa.select(_AUDIT.c.after)
    .where(
        _AUDIT.c.tenant_id == TENANT,
        _AUDIT.c.object_id == sa.bindparam("object_id", type_=sa.Uuid()),
        _AUDIT.c.version <= sa.bindparam("version", type_=sa.BigInteger()),
    )
    .order_by(_AUDIT.c.version)
)
"""How the row made it: what ties it to another system may have come after it, each tie a version."""


async def revert(run: Run, body: ImportJob) -> dict[str, Any]:
    """Goes back through the rows, the last first, so that what was changed twice comes back to the beginning."""
    if "counts" not in run.position:
        counts = await kept.counted(await run.context(), body.import_id)

        async def begin(ctx: Context, position: Mapping[str, Any]) -> Step:
            del ctx
            return Step({**position, "counts": counts}, done=0, expected=counts["rows"])

        await run.step(begin)
    await Walk("revert_import", ("created", "updated"), _act, "kept", backwards=True).go(run, body)
    ctx = await run.context()
    counts = await kept.counted(ctx, body.import_id)
    await note(ctx, imports_of(ctx), body.import_id, {"state": "reverted", "counts": counts}, "reverted")
    return counts


async def _act(ctx: Context, found: Subject, rows: Sequence[Any], prepared: Any) -> list[Settled]:
    del prepared
    resource = found.resource
    for action in {"created": "delete", "updated": "update"}.items():
        if any(row["state"] == action[0] for row in rows):
            ctx.kernel.policy.require(ctx.access, ctx.principal.scopes, resource, action[1])
    settled = []
    for row in rows:
        present = next(iter(await records(ctx, resource, "id", [row["object_id"]])), None)
        if present is None:
            settled.append(_kept(row, "gone", "The record is not there any more."))
        elif row["state"] == "created":
            settled.append(await _remove(ctx, resource, row, present))
        else:
            settled.append(await _restore(ctx, resource, row, present))
    return settled


async def _remove(ctx: Context, resource: Resource, row: Any, present: Mapping[str, Any]) -> Settled:
    if present["version"] != row["version"] and (changed := await _changed(ctx, row, present)):
        return _kept(row, "changed_since", f"Others have changed {', '.join(changed)} since.")
    await delete(ctx, resource, row["object_id"], if_match=present["version"])
    return {**same(row), "state": "reverted"}


async def _changed(ctx: Context, row: Any, present: Mapping[str, Any]) -> list[str]:
    """The fields in which a record differs from what it was when the row had made it."""
    entries = await ctx.read(_CREATED, {"object_id": present["id"], "version": row["version"]})
    if not entries:
        return ["what is not known any more"]
    first: dict[str, Any] = {}
    for entry in entries:
        first |= orjson.loads(entry["after"])
    hidden = {"redacted", "object", CUSTOM, *_STAMPS, *present["redacted"]}
    changed = [name for name, value in present.items() if name not in hidden and not _equal(value, first.get(name))]
    if CUSTOM in present and CUSTOM not in present["redacted"]:
        closed = hidden_keys(frozenset(present["redacted"]))
        seen = {key: value for key, value in (first.get(CUSTOM) or {}).items() if key not in closed}
        changed += [PREFIX + key for key in changed_keys(seen, present[CUSTOM])]
    return sorted(changed)


def _equal(one: Any, stored: Any) -> bool:
    """Whether a value as it is sent and one as it is stored are the same: amounts are stored in ten-thousandths."""
    if isinstance(one, str) and isinstance(stored, int):
        return round(float(one) * 10_000) == stored or round(float(one) * 1_000_000) == stored
    if isinstance(one, str) and isinstance(stored, str) and one.endswith("Z"):
        return one[:19] == stored[:19]
    return bool(one == stored)


async def _restore(ctx: Context, resource: Resource, row: Any, present: Mapping[str, Any]) -> Settled:
    said = orjson.loads(row["before"])
    after = {name: value for name, value in said["after"].items() if name != CUSTOM}
    changed = sorted(name for name, value in after.items() if present.get(name) != value)
    custom = said["after"].get(CUSTOM) or {}
    changed += [PREFIX + key for key, value in sorted(custom.items()) if present[CUSTOM].get(key) != value]
    if changed:
        return _kept(row, "changed_since", f"Others have changed {', '.join(changed)} since.")
    before = dict(said["before"])
    names = before.pop(EXTERNAL_IDS, None)
    if before:
        assert resource.update is not None  # noqa: S101 - it was updated
        body = resource.update.model_validate_json(orjson.dumps(before)).model_dump()
        await update(ctx, resource, row["object_id"], {name: body[name] for name in before})
    if names is not None:
        unlink = link_actions()[1]
        for source in sorted(set(said["after"][EXTERNAL_IDS]) - set(names)):
            stored = await load(ctx, resource, row["object_id"], "update")
            less = await unlink.run(ctx, resource, stored, UnlinkRequest(source=source))
            await update(ctx, resource, row["object_id"], less, by_verb=True, recorded="unlink")
    return {**same(row), "state": "reverted"}


def _kept(row: Any, code: str, detail: str) -> Settled:
    return {**same(row), "state": "kept", "problems": told(row["row"], [(None, Fault(code, detail, pointer=""))])}


REVERT_ROWS = JobKind("revert_import", ImportJob, revert, permission="imports:revert")
