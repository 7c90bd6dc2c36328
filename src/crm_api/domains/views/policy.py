"""Row rule of saved views: a view that is for a team, or for everyone, is open to them to read and to begin with."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.kernel.policy import Scope
from crm_api.kernel.record import among
from crm_api.kernel.resource import RowRule

PUBLISH = "publish"
"""What it takes to have a view that others see."""
PRESCRIBE = "prescribe"
"""What it takes to say which view others begin with."""
MAKE_DEFAULT = "make_default"
_TEAMS = sa.bindparam("p_teams", type_=ARRAY(sa.Uuid()))


def _shown(scope: Scope, table: Any, action: str) -> sa.ColumnElement[bool] | None:
    del scope
    if action not in ("read", MAKE_DEFAULT):
        return None
    of_team = sa.and_(_is(table, "team"), among(table.c.team_id, _TEAMS))
    return sa.or_(_is(table, "everyone"), of_team)


def _is(table: Any, visibility: str) -> sa.ColumnElement[bool]:
    return sa.cast(table.c.visibility == sa.literal(visibility, sa.Text()), sa.Boolean)


SHOWN = RowRule("visibility", _shown)
