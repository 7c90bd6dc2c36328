"""Reads an address that a customer typed, before anything is resolved: https, a host, a port that serves HTTP."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlsplit

import idna

from crm_api.adapters.addresses import Address, Allowed, parse_address

MAX_URL = 2048
NOT_FOR_HTTP = frozenset(
    {
        *(1433, 1521, 1719, 1720, 1723, 2049, 2375, 2379, 2380, 3306, 3389, 3659, 4045, 4190, 4369, 5060, 5061, 5432),
        *(5672, 5900, 6000, 6379, 6443, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 9042, 9092, 9200, 9300),
        *(10080, 10250, 11211, 27017, 50000),
    }
)
"""Ports from 1024 on that are refused: databases, queues, administration, and what browsers refuse, too."""

Code = Literal[
    "invalid_url",
    "invalid_header",
    "refused_address",
    "refused_port",
    "dns",
    "connect",
    "tls",
    "timeout",
    "protocol",
    "headers_too_large",
]

_SPACE = re.compile(r"[\x00-\x20\x7f-\xa0\\]")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_TARGET_SAFE = "/?:@!$&'()*+,;=-._~%[]"


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """Why nothing is sent: `code` for programs, `text` for people, without what a name resolves to."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code: Code = code
        self.text = text


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be connected to. `allow_http` is for development: it permits http, and port 80."""

    allowed: Allowed
    allow_http: bool = False


@dataclass(frozen=True, slots=True)
class Destination:
    """A checked address: `host` is lower-case ASCII as SNI has it, `address` is set when it is no name."""

    tls: bool
    host: str
    port: int
    target: bytes
    authority: bytes
    address: Address | None

    @property
    def origin(self) -> tuple[bool, str, int]:
        """What requests of one connection share."""
        return self.tls, self.host, self.port


def read_url(url: str, policy: Policy) -> Destination:
    """The parts of an address.

    Raises:
        Refused: it is malformed, or can be refused without resolving its name.
    """
    if len(url) > MAX_URL:
        raise Refused("invalid_url", f"The address has more than {MAX_URL} characters.")
    if _SPACE.search(url):
        raise Refused("invalid_url", "The address contains a space, a backslash or a control character.")
    try:
        parts = urlsplit(url)
        port, name = parts.port, parts.hostname or ""
    except ValueError:
        raise Refused("invalid_url", "The address is not a URL.") from None
    if parts.scheme not in (("https", "http") if policy.allow_http else ("https",)):
        raise Refused("invalid_url", "The address must begin with https://.")
    if "@" in parts.netloc:
        raise Refused("invalid_url", "The address may not contain a user name or password.")
    if "#" in url:
        raise Refused("invalid_url", "The address may not contain a fragment.")
    host, address = _read_host(name)
    tls = parts.scheme == "https"
    port = (443 if tls else 80) if port is None else port
    if not (port == 443 or (port == 80 and policy.allow_http) or (port >= 1024 and port not in NOT_FOR_HTTP)):
        raise Refused("refused_port", f"Port {port} is not one we connect to.")
    if address is not None and not policy.allowed.permits(address):
        raise Refused("refused_address", "The address is not a public one.")
    if (host == "localhost" or host.endswith(".localhost")) and not policy.allowed.loopback:
        raise Refused("refused_address", "The address is not a public one.")
    shown = f"[{host}]" if ":" in host else host
    authority = shown if port == (443 if tls else 80) else f"{shown}:{port}"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    encoded = quote(target, safe=_TARGET_SAFE).encode()
    return Destination(tls, host, port, encoded, authority.encode(), address)


def _read_host(name: str) -> tuple[str, Address | None]:
    malformed = Refused("invalid_url", "The host of the address is malformed.")
    if not name or len(name) > 253 or "%" in name:  # no encoded letters, no zones
        raise malformed
    try:
        if ":" not in name and not name.isascii():
            name = idna.encode(name, uts46=True, std3_rules=True).decode()
        address = parse_address(name)
    except (ValueError, UnicodeError):  # idna's errors are UnicodeErrors
        raise malformed from None
    if address is not None:
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return str(address), address
    name = name.lower().removesuffix(".")
    if not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise malformed
    return name, None
