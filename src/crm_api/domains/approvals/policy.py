"""Row rules of approvals: who asked, who holds the role that is asked, and who had a say before."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from crm_api.domains.approvals.people import exists_role
from crm_api.domains.identity.role import RoleAssignment
from crm_api.kernel.database import TENANT
from crm_api.kernel.policy import SELF, Scope
from crm_api.kernel.record import among, table_of
from crm_api.kernel.resource import RowRule


def _requested(scope: Scope, table: Any, action: str) -> sa.ColumnElement[bool] | None:
    return scope.own(table.c.requested_by_id) if action in ("read", "withdraw") else None


def _of_role(scope: Scope, table: Any, action: str) -> sa.ColumnElement[bool] | None:
    if action == "withdraw":
        return None
    holds = table_of(RoleAssignment).alias("roles_held")
    mine = sa.select(holds.c.role_id).where(
        holds.c.tenant_id == TENANT,
        holds.c.deleted_at.is_(None),
        scope.own(holds.c.principal_id),
        exists_role(holds),
    )
    return among(table.c.approver_role_id, sa.func.array(mine.scalar_subquery()))


def _decided(scope: Scope, table: Any, action: str) -> sa.ColumnElement[bool] | None:
    del scope
    if action != "read":
        return None
    by_me = sa.func.jsonb_build_array(
        sa.func.jsonb_build_object(sa.literal_column("'principal_id'"), sa.cast(SELF, sa.Text()))
    )
    return sa.type_coerce(table.c.decisions, JSONB()).contains(sa.type_coerce(by_me, JSONB()))


REQUESTED = RowRule("requested", _requested)
OF_ROLE = RowRule("approver_role", _of_role)
DECIDED = RowRule("decided", _decided)
