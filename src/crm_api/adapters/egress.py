"""Sends requests to addresses that customers typed: to what was checked, without redirects or proxies, within bounds.

A name is resolved once for a connection, all its addresses must be allowed, and the connection goes to one of them:
what was checked is what is connected to. Certificate, SNI and Host are those of the name.
"""

import asyncio
import email.utils
import ipaddress
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from crm_api import settings as process
from crm_api.adapters.addresses import Address, Allowed
from crm_api.adapters.destination import Code, Destination, Policy, Refused, read_url
from crm_api.adapters.http_exchange import Exchange, ExchangeError
from crm_api.adapters.keep_alive import Waiting
from crm_api.adapters.resolver import Resolve, SystemResolver
from crm_api.kernel.problems import ConfigurationError
from crm_api.settings import Settings

CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 15.0
_ADDRESSES = 4

OURS = frozenset(
    (
        *("host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect"),
        *("keep-alive", "proxy-connection", "proxy-authorization", "accept-encoding"),
    )
)
"""Headers that belong to the connection; a request that names one is not sent."""
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")
_VALUE = re.compile(r"[\x20-\x7e\t]{0,8000}")


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: a few `headers` in lower case, at most 64 KB of `body`; `truncated` says that there was more."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool
    milliseconds: int

    @property
    def retry_after(self) -> int | None:
        """Seconds that the receiver asks to wait, 0 or more; None when it does not ask."""
        text = self.headers.get("retry-after", "").strip()
        if re.fullmatch(r"[0-9]{1,9}", text):
            return int(text)
        try:
            until = email.utils.parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        return max(0, int((until - datetime.now(UTC)).total_seconds()))


@dataclass(frozen=True, slots=True)
class Failure:
    """No reply: `code` for programs, `text` for people. Neither tells an address that was not asked for."""

    code: Code
    text: str
    milliseconds: int


def policy_of(settings: Settings) -> Policy:
    """What an installation connects to: in development loopback and http, too."""
    development = settings.environment == "development"
    return Policy(Allowed.of(settings.egress_allow, loopback=development), allow_http=development)


def check(url: str, policy: Policy | None = None) -> str | None:
    """Why nothing would ever be sent to an address; None when that is not known before its name is resolved.

    Args:
        url: as it was typed.
        policy: default: that of the process's settings.
    """
    try:
        read_url(url, policy or policy_of(process.load_settings()))
    except Refused as refused:
        return refused.text
    return None


class Egress:
    """The client of one process, made and used on one event loop. Close it with `aclose`."""

    def __init__(self, policy: Policy, *, ca: str | None = None, resolve: Resolve | None = None) -> None:
        self.policy = policy
        self._system = SystemResolver() if resolve is None else None
        self._resolve: Resolve = resolve or self._system  # type: ignore[assignment] # one of them is set
        self._tls = ssl.create_default_context()
        self._tls.set_alpn_protocols(["http/1.1"])
        if ca is not None:
            self._tls.load_verify_locations(cafile=ca)
        self.waiting = Waiting()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The client of an installation.

        Raises:
            ConfigurationError: CRM_EGRESS_CA is no file with certificates.
        """
        try:
            return cls(policy_of(settings), ca=str(settings.egress_ca) if settings.egress_ca else None)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigurationError(f"CRM_EGRESS_CA is no readable file with certificates: {error}") from None

    async def aclose(self) -> None:
        """Closes the connections that wait for another request."""
        self.waiting.close()
        if self._system is not None:
            self._system.close()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply | Failure:
        """Sends a POST; see `send`."""
        return await self.send("POST", url, headers, body)

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Reply | Failure:
        """Sends a request, and reads its reply within 15 s. It never raises for what the other side does.

        A connection that was kept may be closed by the receiver at the moment it is used again; the request is then
        sent once more, so a receiver may rarely see it twice.

        Args:
            method: upper-case; a method whose reply has a body.
            url: as it was typed; checked here, again.
            headers: printable ASCII, none of `OURS`. Content-Type is JSON unless given.
            body: sent as it is.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()

        def failure(code: Code, text: str) -> Failure:
            return Failure(code, text, int((loop.time() - begun) * 1000))

        try:
            to = read_url(url, self.policy)
            data = _request(method, to, headers, body)
            async with asyncio.timeout(TOTAL_SECONDS):
                return await self._exchange(to, data, begun)
        except Refused as refused:
            return failure(refused.code, refused.text)
        except ExchangeError as error:
            return failure("headers_too_large" if error.large else "protocol", str(error))
        except TimeoutError:
            return failure("timeout", f"There was no whole reply within {TOTAL_SECONDS:g} seconds.")

    async def _exchange(self, to: Destination, data: bytes, begun: float) -> Reply:
        if (kept := self.waiting.take(to.origin)) is not None:
            try:
                return await self._ask(kept, to, data, begun)
            except ExchangeError as error:
                if not error.unread:
                    raise  # otherwise it was closed while it waited
        return await self._ask(await self._connect(to), to, data, begun)

    async def _ask(self, exchange: Exchange, to: Destination, data: bytes, begun: float) -> Reply:
        try:
            raw = await exchange.request(data)
        except BaseException:
            exchange.abort()
            raise
        self.waiting.give(to.origin, exchange)
        milliseconds = int((asyncio.get_running_loop().time() - begun) * 1000)
        return Reply(raw.status, raw.headers, raw.body, raw.truncated, milliseconds)

    async def _connect(self, to: Destination) -> Exchange:
        phase: Code = "dns"
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                addresses = [to.address] if to.address is not None else await self._resolved(to.host)
                phase = "connect"
                connection = await _open(addresses, to.port)
                phase = "tls"
                return await self._wrap(connection, to)
        except TimeoutError:
            what = {"dns": "The name was not resolved", "tls": "TLS was not agreed on"}
            text = what.get(phase, "There was no connection")
            raise Refused("dns" if phase == "dns" else "timeout", f"{text} within 5 seconds.") from None
        except ssl.SSLCertVerificationError as error:
            raise Refused("tls", f"The certificate is not trusted: {error.verify_message}.") from None
        except OSError as error:  # ssl.SSLError and socket.gaierror are OSErrors
            texts = {
                "dns": "The name does not resolve.",
                "connect": "The connection was refused."
                if isinstance(error, ConnectionRefusedError)
                else "The connection failed.",
                "tls": "TLS failed.",
            }
            raise Refused(phase, texts[phase]) from None

    async def _resolved(self, host: str) -> list[Address]:
        addresses = await self._resolve(host)
        if not addresses:
            raise OSError("no address")
        if not all(self.policy.allowed.permits(address) for address in addresses):
            raise Refused("refused_address", "The name leads to an address that is not a public one.")
        return addresses[:_ADDRESSES]

    async def _wrap(self, connection: socket.socket, to: Destination) -> Exchange:
        loop = asyncio.get_running_loop()
        try:
            if to.tls:
                _, exchange = await loop.create_connection(
                    lambda: Exchange(loop),
                    sock=connection,
                    ssl=self._tls,
                    server_hostname=to.host,
                    ssl_handshake_timeout=CONNECT_SECONDS,
                    ssl_shutdown_timeout=1,
                )
            else:
                _, exchange = await loop.create_connection(lambda: Exchange(loop), sock=connection)
        except BaseException:
            connection.close()
            raise
        return exchange


async def _open(addresses: list[Address], port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    failed: OSError | None = None
    end = loop.time() + CONNECT_SECONDS
    for i, address in enumerate(addresses):
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            share = (end - loop.time()) / (len(addresses) - i)  # the last one has all that is left
            async with asyncio.timeout(share if i < len(addresses) - 1 else None):
                await loop.sock_connect(connection, (str(address), port))
            if ipaddress.ip_address(connection.getpeername()[0]) != address:
                raise OSError("another address answers")
        except OSError as error:  # TimeoutError is one
            connection.close()
            failed = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    assert failed is not None  # noqa: S101 - there is an address
    raise failed


def _request(method: str, to: Destination, headers: Mapping[str, str], body: bytes) -> bytes:
    """The bytes of a request.

    Raises:
        Refused: a header that may not be sent.
    """
    lines = [f"{method} ".encode() + to.target + b" HTTP/1.1\r\nHost: " + to.authority]
    named = set()
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value) or name.lower() in OURS:
            raise Refused("invalid_header", "A header may not be sent.")
        named.add(name.lower())
        lines.append(f"{name}: {value}".encode())
    if "content-type" not in named and body:
        lines.append(b"Content-Type: application/json")
    if "user-agent" not in named:
        lines.append(b"User-Agent: crm-api")
    lines.append(b"Accept-Encoding: identity\r\nContent-Length: %d\r\n\r\n" % len(body))
    return b"\r\n".join(lines) + body
