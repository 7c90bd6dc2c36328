"""Opportunity lines: what an account may buy, at which price; written with their opportunity, listed by themselves."""

from typing import Literal
from uuid import UUID

from sqlalchemy.orm import Mapped

from crm_api.domains.selling.line import DocumentLine, LineView, line_constraints, line_resource
from crm_api.kernel.record import Entity
from crm_api.kernel.schema import Id


class OpportunityLine(DocumentLine, Entity):
    """One thing that an account may buy."""

    __tablename__ = "opportunity_lines"
    __table_args__ = line_constraints("opportunity_lines", "opportunity_id", "opportunities")

    opportunity_id: Mapped[UUID]


class OpportunityLineView(LineView):
    """One line of an opportunity, by itself; its price is net."""

    object: Literal["opportunity_line"]
    opportunity_id: Id


OPPORTUNITY_LINES = line_resource("opportunity", "opportunities", OpportunityLine, OpportunityLineView)
