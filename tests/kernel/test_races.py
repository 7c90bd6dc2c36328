"""What others do between two looks of one request."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from crm_api.domains.accounts.account import ACCOUNTS
from crm_api.kernel import repository
from crm_api.kernel.context import Context, Principal
from crm_api.kernel.problems import Problem
from tests.support.waiting import behind


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


VALUE = (
    "INSERT INTO custom_values (tenant_id, object_id, field_id, text_value, unique_key) VALUES ($1, $2, $3, 'u', 'u')"
)
TAG = "INSERT INTO field_values (tenant_id, field, value, object_id) VALUES ($1, 'accounts.tags', 'a', $2)"
WRITE = 'UPDATE accounts SET tags = \'["a"]\', custom = \'{"code": "u"}\', version = version + 1 WHERE id = $1'


@pytest.mark.parametrize("how", ["tags", "cleared", "deleted"])
def test_nothing_is_left_in_an_index_of_what_others_added_while_a_write_waited(org, sql, database, how):
    field = org.admin.make("custom_fields", resource="accounts", key="code", kind="text", label="Code", is_unique=True)
    id_ = UUID(org.admin.make("accounts", name="Watched")["id"])
    path, written = f"/v1/accounts/{id_}", [(WRITE, id_), (TAG, org.tenant_id, id_)]
    written.append((VALUE, org.tenant_id, id_, UUID(field["id"])))
    body = {"tags": {"tags": ["b"]}, "cleared": {"name": "Other", "custom": {"code": None}}}.get(how)
    answer = behind(
        database["admin"], lambda: org.admin.patch(path, json=body) if body else org.admin.delete(path), *written
    )
    assert answer.status_code == (200 if body else 204), answer.text
    if how == "tags":
        assert [row[0] for row in sql("SELECT value FROM field_values WHERE object_id = $1", id_)] == ["b"]
        return
    assert not sql("SELECT FROM custom_values WHERE object_id = $1 AND unique_key IS NOT NULL", id_)
    org.admin.make("accounts", name="Next", custom={"code": "u"})  # the value is free
