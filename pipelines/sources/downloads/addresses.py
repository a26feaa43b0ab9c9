"""Check whether network addresses are public."""

import ipaddress

UNICAST = ipaddress.IPv6Network("2000::/3")
"""The allocated IPv6 unicast range (IANA); the rest is local, reserved, or an embedded IPv4 address."""
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
RESERVED = tuple(map(ipaddress.ip_network, ("168.63.129.16/32", "192.88.99.0/24", "3fff::/20")))
"""Not public although Python says so: Azure's platform address, former 6to4 relays, documentation (RFC 9637)."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(address: str) -> bool:
    """Return whether an address (also with a zone, `fe80::1%eth0`) is on the public internet.

    Raises `ValueError` if it is not an address.
    """
    ip = _inner(ipaddress.ip_address(address.partition("%")[0]))
    reserved = any(ip in network for network in RESERVED)
    return ip.is_global and not ip.is_multicast and not reserved and (ip.version == 4 or ip in UNICAST)


def _inner(ip: Address) -> Address:
    """Return the IPv4 address embedded in an IPv6 address, or else the address itself."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        return ip.ipv4_mapped or ip.sixtofour or ip
    return ip
