"""Row rules of contacts: whoever may see an account that is actively linked to a contact may see the contact."""

from typing import Any

import sqlalchemy as sa

from crm_api.domains.contacts.account_contact import AccountContact
from crm_api.kernel.database import TENANT
from crm_api.kernel.policy import Scope, through
from crm_api.kernel.record import table_of
from crm_api.kernel.resource import RowRule

_OF_ACCOUNT = through("account_id", "accounts")


def _through_links(scope: Scope, table: Any, action: str) -> sa.ColumnElement[bool] | None:
    links = table_of(AccountContact).alias("links")
    open_ = None if action == "create" else _OF_ACCOUNT.condition(scope, links, action)
    if open_ is None:
        return None
    active = [
        links.c.tenant_id == TENANT,
        links.c.deleted_at.is_(None),
        links.c.is_active,
        sa.or_(links.c.ends_on.is_(None), links.c.ends_on >= sa.func.current_date()),
        open_,
    ]
    return scope.linked(table.c.id, sa.select(links.c.contact_id).where(*active))


THROUGH_LINKS = RowRule("through:account_contacts", _through_links)
