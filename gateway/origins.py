"""Which web pages may use the server, decided from the Origin and Host headers alone. Pure."""

import ipaddress
from collections.abc import Collection

PRIVATE_SUFFIXES = (".localhost", ".local", ".lan", ".home", ".internal", ".home.arpa")
"""Names that public DNS does not serve, so no stranger can point one at this machine."""


def is_origin_allowed(origin: str, host: str, *, allowed: Collection[str], has_keys: bool) -> bool:
    """Whether a browser's request from a page of `origin` to `host` is served.

    Pages of the server's own address are, and listed ones. On a server without keys "own address"
    must also be one that no public DNS entry can be made to name (DNS rebinding: the page and the
    address it calls would both carry the attacker's name).
    """
    origin = origin.lower()
    if "*" in allowed or origin in allowed:
        return True
    _, _, page_host = origin.partition("://")
    if not page_host or _without_default_port(page_host) != _without_default_port(host.lower()):
        return False
    return has_keys or is_private_name(_name(page_host))


def is_private_name(name: str) -> bool:
    """Whether a host name is an address, has one label, or ends as private networks' names do."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return "." not in name or name.endswith(PRIVATE_SUFFIXES)
    return True


def _without_default_port(host: str) -> str:
    return host.removesuffix(":80").removesuffix(":443")


def _name(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0]
    return host.partition(":")[0]
