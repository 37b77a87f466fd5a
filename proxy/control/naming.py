"""The label that a shard has on the ring when the configuration gives it no name.

Whoever moves here from another program keeps the cache only if each shard is hashed under the
label that program made from the server's address, and the programs differ. Called where the
configuration becomes routing tables; knows the names of distributions but not how they place keys.
The rules are proven by the golden vectors in ``tests/vectors/``, which name addresses and labels.

======================  ==================  ===================  ========================
address                 twemproxy           libmemcached         pymemcache, and our own
======================  ==================  ===================  ========================
``cache:11211``         ``cache``           ``cache``            ``cache:11211``
``cache:7001``          ``cache:7001``      ``cache:7001``       ``cache:7001``
``[::1]:7001``          ``::1:7001``        ``::1:7001``         ``::1:7001``
``unix:/run/a.sock``    ``/run/a.sock:``    ``/run/a.sock:0``    ``/run/a.sock``
======================  ==================  ===================  ========================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

MEMCACHED_PORT: Final = 11211
"""The port that twemproxy and libmemcached leave out of labels, also for Redis servers."""


def _twemproxy(host: str, port: int | None) -> str:
    # A unix socket has no port, but the colon before it is counted into the name all the same.
    if port is None:
        return f"{host}:"
    return host if port == MEMCACHED_PORT else f"{host}:{port}"


def _libmemcached(host: str, port: int | None) -> str:
    return host if port == MEMCACHED_PORT else f"{host}:{port or 0}"


def _plain(host: str, port: int | None) -> str:
    return host if port is None else f"{host}:{port}"


LABEL_RULES: Final[dict[str, Callable[[str, int | None], str]]] = {
    "ketama": _twemproxy,
    "modula": _twemproxy,
    "random": _twemproxy,
    "libmemcached_ketama": _libmemcached,
    "libmemcached_ketama_weighted": _libmemcached,
    "rendezvous": _plain,
    "slots": _plain,
    "jump": _plain,
}
"""For each distribution: the label of a host and port, or of a path and None."""


def default_label(distribution: str, address: str) -> str:
    """The ring label of a shard without a name, from the address of its first backend.

    Args:
        distribution: a name of `LABEL_RULES`.
        address: ``"host:port"``, ``"[ip6]:port"`` or ``"unix:/path"``, as configured: the text is
            hashed, so ``localhost`` and ``127.0.0.1`` are different shards.

    Raises:
        ValueError: an unknown distribution, or an address of another form.
    """
    rule = LABEL_RULES.get(distribution)
    if rule is None:
        raise ValueError(f"unknown distribution {distribution!r}, expected one of {', '.join(LABEL_RULES)}")
    return rule(*_split_address(address))


def _split_address(address: str) -> tuple[str, int | None]:
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        if not path.startswith("/"):
            raise ValueError(f"{address!r}: the path of a unix socket must begin with '/'")
        return path, None
    host, _, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        # The programs' own configurations write the bare address, and that is what they hash.
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{address!r}: an IPv6 address must stand in brackets")
    # isdecimal alone would let other scripts' digits through. A leading zero is refused because
    # programs differ in whether it gets into the label.
    if not (host and port.isascii() and port.isdecimal() and port[0] != "0" and int(port) <= 65535):
        raise ValueError(f"{address!r}: expected host:port, [ip6]:port or unix:/path")
    return host, int(port)
