"""Row rules of contacts: whoever may see an account that is actively linked to a contact may see the contact."""

from typing import Any

import sqlalchemy as sa

from crm_api.domains.contacts.account_contact import AccountContact
from crm_api.kernel.database import TENANT
from crm_api.kernel.policy import Scope, needs_reach
from crm_api.kernel.record import among, table_of
from crm_api.kernel.resource import RowRule


def _through_links(scope: Scope, table: Any, action: str) -> sa.ColumnElement[bool] | None:
    level = "read" if action == "read" else "update"
    if action == "create" or not scope.may("accounts", level):
        return None
    links = table_of(AccountContact).alias("links")
    active = [
        links.c.tenant_id == TENANT,
        links.c.deleted_at.is_(None),
        links.c.is_active,
        sa.or_(links.c.ends_on.is_(None), links.c.ends_on >= sa.func.current_date()),
    ]
    reached = needs_reach(action)
    if not scope.all_visible("accounts", level, reached=reached):
        accounts = scope.policy.catalog.resources["accounts"].table.alias("linked_accounts")
        gate = scope.visible("accounts", level, accounts, reached=reached)
        active.append(
            scope.exists(
                sa.select(sa.literal(1))
                .select_from(accounts)
                .where(accounts.c.id == links.c.account_id, *gate)
                .correlate(links)
            )
        )
    if scope.narrow:
        return among(table.c.id, sa.func.array(sa.select(links.c.contact_id).where(*active).scalar_subquery()))
    return scope.exists(
        sa.select(sa.literal(1)).select_from(links).where(links.c.contact_id == table.c.id, *active).correlate(table)
    )


THROUGH_LINKS = RowRule("through:account_contacts", _through_links)
