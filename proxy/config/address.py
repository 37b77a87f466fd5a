"""Where something listens or is reached: ``host:port``, ``[v6]:port`` or ``unix:/path``.

Pure text; nothing is resolved here. Used by the schema, ``app`` (to bind) and the cross-checks.
"""

import ipaddress
import re
from dataclasses import dataclass

# sun_path is 108 bytes with its final zero (unix(7)); longer paths fail at bind with a poorer message.
UNIX_PATH_BYTES_MAX = 107
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_WANTED = "expected host:port, [ipv6]:port or unix:/path"
_ANY = {"0.0.0.0", "::"}
_LOOPBACK_NAMES = {"localhost", "ip6-localhost"}


@dataclass(frozen=True, slots=True)
class Address:
    """One address. ``path`` is empty for TCP; ``host`` is empty and ``port`` 0 for a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def is_unix(self) -> bool:
        return self.path != ""

    def __str__(self) -> str:
        if self.is_unix:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, *, port_zero: bool = False) -> Address:
    """Reads an address.

    Args:
        text: as configured.
        port_zero: whether port 0 ("any free port") is meaningful here.

    Raises:
        ValueError: what was expected, in words.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path:
            raise ValueError("expected unix: followed by an absolute path")
        if len(path.encode()) > UNIX_PATH_BYTES_MAX:
            raise ValueError(f"expected a socket path of at most {UNIX_PATH_BYTES_MAX} bytes")
        return Address(path=path)
    host, colon, port_text = text.rpartition(":")
    if not colon or not host:
        raise ValueError(_WANTED)
    # A leading zero is refused: the text may become a ring label, and programs differ in keeping it.
    if re.fullmatch(r"0|[1-9][0-9]{0,4}", port_text) is None:
        raise ValueError(_WANTED)
    lowest = 0 if port_zero else 1
    port = int(port_text)
    if not lowest <= port <= 65535:
        raise ValueError(f"expected a port between {lowest} and 65535")
    if host.startswith("[") and host.endswith("]"):
        try:
            return Address(str(ipaddress.IPv6Address(host[1:-1])), port)
        except ValueError:
            raise ValueError(f"{_WANTED}; {host} is no IPv6 address") from None
    if ":" in host:
        raise ValueError(f"{_WANTED} (IPv6 goes in brackets)")
    if _HOST_NAME.fullmatch(host) is None:
        raise ValueError(_WANTED)
    # A name of digits and dots only is a mistyped IPv4 address, never a host name.
    if host.replace(".", "").isdigit():
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise ValueError(f"{_WANTED}; {host} is no IPv4 address") from None
    return Address(host, port)


def could_be_same(listen: Address, other: Address) -> bool:
    """Whether connecting to ``other`` could reach a socket bound to ``listen``.

    Names are not resolved; only what the text shows counts: equal addresses, a wildcard against a
    loopback address, and the names of loopback.
    """
    if listen.is_unix or other.is_unix:
        return listen.is_unix and listen.path == other.path
    if listen.port != other.port or listen.port == 0:
        return False
    if listen.host == other.host:
        return True
    if listen.host in _ANY or other.host in _ANY:
        return _is_loopback(other.host) or _is_loopback(listen.host) or {listen.host, other.host} <= _ANY
    return _is_loopback(listen.host) and _is_loopback(other.host) and _named(listen, other)


def _named(one: Address, other: Address) -> bool:
    # 127.0.0.1 and 127.0.0.2 are different places; localhost is either of the usual two.
    usual = {"127.0.0.1", "::1"} | _LOOPBACK_NAMES
    return {one.host, other.host} <= usual and bool({one.host, other.host} & _LOOPBACK_NAMES)


def _is_loopback(host: str) -> bool:
    if host in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
