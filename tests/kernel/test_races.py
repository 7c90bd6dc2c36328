"""What others do between two looks of one request."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from crm_api.domains.accounts.account import ACCOUNTS
from crm_api.kernel import repository
from crm_api.kernel.context import Context, Principal
from crm_api.kernel.problems import Problem


class Between:
    """The database, with something that happens before some of the reads, counted from 1."""

    def __init__(self, database: Any, happens: dict[int, Any]) -> None:
        self.database, self.happens, self.reads = database, happens, 0

    async def read(self, *given: Any) -> Any:
        self.reads += 1
        if self.reads in self.happens:
            await self.happens[self.reads]()
        return await self.database.read(*given)


@pytest.mark.parametrize("times", [1, 2])
def test_a_record_that_is_deleted_and_restored_between_two_looks_is_not_forbidden(org, times):
    kernel = org.server.kernel
    made = org.rep.make("accounts", name="Blinking")

    async def delete() -> None:
        await repository.delete(org.context(), ACCOUNTS, made["id"])

    async def restore() -> None:
        await repository.restore(org.context(), ACCOUNTS, made["id"])

    async def look(person: str, happens: dict[int, Any]) -> str:
        principal = Principal(org.tenant_id, UUID(getattr(org, person).id), "user")
        access = await kernel.authenticator.access(principal)
        ctx = Context(replace(kernel, database=Between(kernel.database, happens)), principal, access, "test")
        try:
            await repository._permit(ctx, ACCOUNTS, made["id"], "update")
        except Problem as problem:
            return problem.kind.code
        return "permitted"

    blinks = {2 * n + step: (delete, restore)[step - 1] for n in range(times) for step in (1, 2)}
    assert org.server.run(look("rep", blinks)) == "permitted"
    assert org.server.run(look("rep", {1: delete})) == "not_found"
    org.server.run(restore())
    shared = {"grantee_type": "user", "grantee_id": org.outsider.id}
    assert org.admin.post(f"/v1/accounts/{made['id']}/share", json=shared).status_code == 201
    assert org.server.run(look("outsider", {})) == "forbidden"
