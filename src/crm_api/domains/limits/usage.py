"""What busy callers used, of all processes together; only the owner's functions touch it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from crm_api.kernel.record import Record


class LimitUsage(Record):
    """The meter of one credential, or of the tenant under its own id: how it stood when a process told of it last.

    `due` is when the whole quota is there again. `due` less `since` is what was told in the latest statement.
    """

    __tablename__ = "limit_usage"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    since: Mapped[datetime]
    due: Mapped[datetime]
