"""Row rules of approvals: who asked, who holds the role that is asked, and who had a say before."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from crm_api.kernel.policy import SELF, Scope
from crm_api.kernel.record import among
from crm_api.kernel.resource import RowRule

_ROLES = sa.bindparam("p_roles", type_=ARRAY(sa.Uuid()))


def _requested(scope: Scope, table: Any, action: str) -> sa.ColumnElement[bool] | None:
    return scope.own(table.c.requested_by_id) if action in ("read", "withdraw") else None


def _of_role(scope: Scope, table: Any, action: str) -> sa.ColumnElement[bool] | None:
    del scope
    if action == "withdraw":
        return None
    return among(table.c.approver_role_id, _ROLES)


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
