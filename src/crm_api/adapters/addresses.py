"""Which addresses the server connects to when a customer has typed where: public ones, and what the operator opens."""

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# A cloud's own services answer here. A network of the operator's does not open them: only the address itself does.
METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # most clouds
        "169.254.170.2",  # AWS, tasks
        "169.254.170.23",  # AWS, pods
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",  # Google
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "168.63.129.16",  # Azure; a public address by its number
    )
)

_CLOSED_4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by carriers
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_OPEN_6 = ipaddress.IPv6Network("2000::/3")  # all that is assigned; the rest is closed
_CLOSED_6 = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
    )
)
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_6TO4 = ipaddress.IPv6Network("2002::/16")


def inner(address: Address) -> Address:
    """The IPv4 address that an IPv4-mapped, NAT64 or 6to4 address leads to; any other address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _MAPPED or address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _6TO4:
        return ipaddress.IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Whether an address is a host of the Internet. `ipaddress.is_global` is not asked: it knows less, and varies."""
    address = inner(address)
    if address in METADATA:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _CLOSED_4)
    return address in _OPEN_6 and not any(address in network for network in _CLOSED_6)


def parse_address(text: str) -> Address | None:
    """The address that a host is, in any spelling the resolver takes; None when it is a name.

    Raises:
        ValueError: it ends in a number as addresses do, and is none. No public name does.
    """
    if ":" in text:
        return ipaddress.IPv6Address(text)
    last = text.rstrip(".").rpartition(".")[2]
    if not last.isdigit() and not last.lower().startswith("0x"):
        return None
    try:  # 127.1, 0177.0.0.1, 0x7f000001 and 2130706433 are all loopback
        return ipaddress.IPv4Address(socket.inet_aton(text.removesuffix(".")))
    except OSError as error:
        raise ValueError("not an address") from error


@dataclass(frozen=True, slots=True)
class Allowed:
    """The rule of one installation: `networks` are open whatever they are, loopback only with `loopback`."""

    networks: tuple[Network, ...] = ()
    loopback: bool = False

    @classmethod
    def of(cls, networks: Iterable[str], *, loopback: bool = False) -> "Allowed":
        """From networks in CIDR notation.

        Raises:
            ValueError: one of them is none.
        """
        return cls(tuple(ipaddress.ip_network(text) for text in networks), loopback=loopback)

    def permits(self, address: Address) -> bool:
        """Whether a connection to the address may be opened."""
        if getattr(address, "scope_id", None):
            return False
        ends = {address, inner(address)}
        guarded = not METADATA.isdisjoint(ends)
        for network in self.networks:
            if any(end in network for end in ends) and (network.num_addresses == 1 or not guarded):
                return True
        return (self.loopback and inner(address).is_loopback) or is_public(address)
