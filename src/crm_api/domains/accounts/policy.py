"""Row rules of accounts: members of the account team."""

from typing import Any

import sqlalchemy as sa

from crm_api.domains.accounts.team_member import AccountTeamMember
from crm_api.kernel.database import TENANT
from crm_api.kernel.policy import LEVEL_OF, Scope
from crm_api.kernel.record import table_of
from crm_api.kernel.resource import RowRule


def _in_account_team(scope: Scope, table: Any, action: str) -> sa.ColumnElement[bool] | None:
    if action not in LEVEL_OF:
        return None
    members = table_of(AccountTeamMember).alias("account_team")
    rows = sa.select(members.c.account_id).where(
        members.c.tenant_id == TENANT, scope.own(members.c.principal_id), members.c.deleted_at.is_(None)
    )
    if action != "read":
        rows = rows.where(members.c.level == sa.literal("write", sa.Text()))
    return scope.among(table.c.id, rows)


IN_ACCOUNT_TEAM = RowRule("account_team", _in_account_team)
