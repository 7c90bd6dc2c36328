"""Sends letters by SMTP; without a server for it, development says that nothing was sent."""

from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Self
from urllib.parse import unquote, urlsplit

import aiosmtplib
import structlog

from crm_api.settings import Settings

log = structlog.get_logger("crm_api.mail")
SECONDS = 20.0
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Letter:
    """Plain text to one person."""

    to: str
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class Mail:
    """The way letters go. `url` is `smtp://user:password@host:587`, or `smtps://` for TLS from the start."""

    url: str | None
    sender: str

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The way of an installation."""
        url = settings.smtp_url
        return cls(None if url is None else url.get_secret_value(), settings.mail_from)

    async def send(self, letter: Letter) -> None:
        """Hands a letter to the server, over TLS unless that is on this machine.

        Raises:
            aiosmtplib.SMTPException: it was not taken.
            OSError: the server is not reached.
            ValueError: a line break in a header.
        """
        if self.url is None:
            log.warning("mail_not_sent", reason="CRM_SMTP_URL is not set")
            return
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self.sender, letter.to, letter.subject
        message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain=self.sender.rpartition("@")[2])
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(letter.text)
        parts = urlsplit(self.url)
        await aiosmtplib.send(
            message,
            hostname=parts.hostname,
            port=parts.port,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            use_tls=parts.scheme == "smtps",
            start_tls=None if parts.scheme == "smtps" or parts.hostname in _LOOPBACK else True,
            timeout=SECONDS,
        )
