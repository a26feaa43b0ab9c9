"""Which addresses of the network are public."""

import ipaddress

UNICAST = ipaddress.IPv6Network("2000::/3")
"""What is given out of IPv6 (IANA); the rest is local, reserved, or another spelling of an IPv4 address."""
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(address: str) -> bool:
    """Whether an address (also one with a zone, `fe80::1%eth0`) is one of the public internet.

    Raises `ValueError` where it is no address.
    """
    ip = _inner(ipaddress.ip_address(address.partition("%")[0]))
    return ip.is_global and not ip.is_multicast and (ip.version == 4 or ip in UNICAST)


def _inner(ip: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, where it does."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        return ip.ipv4_mapped or ip.sixtofour or ip
    return ip
