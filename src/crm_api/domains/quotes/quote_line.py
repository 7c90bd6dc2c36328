"""Quote lines: what is offered, at which price; written with their quote, listed and summed up by themselves."""

from typing import Literal
from uuid import UUID

from sqlalchemy.orm import Mapped

from crm_api.domains.selling.line import DocumentLine, LineView, line_constraints, line_resource
from crm_api.kernel.record import Entity
from crm_api.kernel.schema import Id


class QuoteLine(DocumentLine, Entity):
    """One thing that is offered."""

    __tablename__ = "quote_lines"
    __table_args__ = line_constraints("quote_lines", "quote_id", "quotes")

    quote_id: Mapped[UUID]


class QuoteLineView(LineView):
    """One line of a quote, by itself."""

    object: Literal["quote_line"]
    quote_id: Id


QUOTE_LINES = line_resource("quote", "quotes", QuoteLine, QuoteLineView)
