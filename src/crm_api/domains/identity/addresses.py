"""Who is behind an address, for counting what comes from it."""

import ipaddress


def crowd(address: str) -> str:
    """What attempts from an address count for: itself, of IPv6 the network of 64 bits that one customer has whole.

    An IPv4 address in IPv6 clothes (RFC 4291, 2.5.5.2) is the IPv4 address.
    """
    if ":" not in address:
        return address
    try:
        found = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
