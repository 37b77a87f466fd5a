"""Names of connections on a Redis server, and what its CLIENT LIST tells by them.

Called by `proxy.control.routing` and `proxy.tasks.controller` (giving names), `proxy.tasks.hold` (saying
that writes are held) and `proxy.tasks.following` (waiting until every proxy says so). Values only.

    shardproxy:<proxy>:<pool>/<shard>          a connection that carries requests of clients
    shardproxy:<proxy>:<pool>/<shard>#<epoch>  the connection for probes; the proxy holds writes to the
                                               shard under the view of that epoch (0: it does not)

A connection takes its name before it looks at the view's record. So whoever is not listed by name when
the list is made looks at the record later, and finds the one that stood there then or a newer one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

PREFIX = "shardproxy:"


@dataclass(frozen=True, slots=True)
class Owner:
    """One proxy's connections for one shard. ``proxy`` is an id that it draws when it starts."""

    proxy: str
    pool: str
    shard: str

    @property
    def traffic(self) -> str:
        """Name of the connections that carry requests."""
        return f"{PREFIX}{self.proxy}:{self.pool}/{self.shard}"

    def control(self, epoch: int = 0) -> str:
        """Name of the connection for probes while writes are held under the view of ``epoch``."""
        return f"{self.traffic}#{epoch}"


@dataclass(frozen=True, slots=True)
class Fence:
    """Who still has to hold its writes.

    Args:
        holding: ids of proxies that do.
        missing: ids of those that do not, or do not say so.
        wake: by proxy, connections whose end makes it look at the record at once.
        cut: all connections of theirs; without them they cannot write here.
    """

    holding: frozenset[str]
    missing: frozenset[str]
    wake: tuple[tuple[str, int], ...] = ()
    cut: tuple[int, ...] = ()


def fence(listing: bytes, pool: str, shard: str, epoch: int) -> Fence:
    """What CLIENT LIST says about a shard's writers under the view of ``epoch``."""
    traffic: dict[str, list[int]] = {}
    control: dict[str, list[int]] = {}
    holding: set[str] = set()
    for proxy, held, number in _named(listing, pool, shard):
        (traffic if held is None else control).setdefault(proxy, []).append(number)
        if held == str(epoch):
            holding.add(proxy)
    missing = frozenset((traffic.keys() | control.keys()) - holding)
    return Fence(
        frozenset(holding),
        missing,
        tuple((proxy, number) for proxy in sorted(missing) for number in control.get(proxy, ())),
        tuple(
            number
            for proxy in sorted(missing)
            for number in (*traffic.get(proxy, ()), *control.get(proxy, ()))
        ),
    )


def traffic_of(listing: bytes, pool: str, shard: str) -> tuple[int, ...]:
    """The connections in CLIENT LIST that carry requests for the shard, whichever proxy's."""
    return tuple(number for _, held, number in _named(listing, pool, shard) if held is None)


def _named(listing: bytes, pool: str, shard: str) -> Iterator[tuple[str, str | None, int]]:
    """Each connection for the shard: whose, what it says to hold (None: it carries requests), its id."""
    suffix = f":{pool}/{shard}"
    ours = PREFIX.encode()
    for line in listing.splitlines():
        if ours not in line:
            continue
        # Hundreds of proxies have thousands of connections, and writes are held meanwhile.
        name, number = (_field(line, field).decode("utf-8", "replace") for field in (b"name", b"id"))
        base, mark, held = name.partition("#")
        if base.startswith(PREFIX) and base.endswith(suffix) and number.isdigit():
            yield base[len(PREFIX) : -len(suffix)], held if mark else None, int(number)


def _field(line: bytes, name: bytes) -> bytes:
    """What stands behind ``name=`` in a line of CLIENT LIST; no value has a blank."""
    return (b" " + line).partition(b" " + name + b"=")[2].partition(b" ")[0]
