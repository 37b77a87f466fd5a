"""The routing table as a value: from what is known of the shards to what the engine is told.

Called by `proxy.tasks.controller` after each change; `proxy.dataplane` turns the result into the
engine's objects, field by field. Must not import the engine, and decides nothing about membership.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from proxy.control.absence import absence_key
from proxy.control.fence import Owner
from proxy.control.model import WRITE_LEASE_SECONDS, BackendState, PoolSpec, View
from proxy.control.remap import Remap, Standing, standing
from proxy.control.reserved import reserved_keys
from proxy.control.state import ShardState, readable
from proxy.control.view import view_key

UNRESOLVED = "0.0.0.0:0"
"""Stands for a name that has never resolved. Nobody is connected there, since it was never in sync."""


@dataclass(frozen=True, slots=True)
class BackendRouting:
    """Fields as `_engine.BackendTable`."""

    name: str
    address: str
    verify: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class ShardRouting:
    """Fields as `_engine.ShardTable`."""

    name: str
    weight: int
    backends: tuple[BackendRouting, ...]
    lead: int | None
    in_sync: tuple[int, ...]
    reads: tuple[int, ...]
    spread: bool
    epoch: int
    restore: bytes
    joining: tuple[int, ...] = ()
    lease: float = 0.0
    succession: int = 0
    succeeds: bool = False
    reserved: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolRouting:
    """Fields as `_engine.PoolTable`."""

    hash: str
    distribution: str
    hash_tag: str
    shards: tuple[ShardRouting, ...]
    absent: tuple[int, ...] = ()
    routes: tuple[tuple[bytes, int], ...] = ()
    leads: tuple[tuple[bytes, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Routing:
    """Fields as `_engine.RoutingTable`."""

    epoch: int
    pools: tuple[PoolRouting, ...]


def build(
    epoch: int,
    pools: Sequence[tuple[PoolSpec, Sequence[ShardState]]],
    resolved: Mapping[str, str],
    owner: str = "",
    remaps: Mapping[str, Remap] | None = None,
    now: float = 0.0,
) -> Routing:
    """The table of one version.

    Args:
        epoch: version of the table; rises with each publication, unrelated to views' epochs.
        resolved: numeric address of each configured one, where known.
        owner: this proxy's id, by which its connections are told from others' on the server.
        remaps: by pool, for those whose lost shards' keys go to others; ``now`` is the time for them.
    """
    tables = []
    for pool, shards in pools:
        rows = tuple(shard_routing(shard, resolved, owner) for shard in shards)
        how = (pool.hash, pool.distribution, pool.hash_tag)
        table = PoolRouting(*how, rows, routes=pool.routes, leads=pool.leads)
        remap = (remaps or {}).get(pool.name)
        tables.append(table if remap is None else _remapped(table, remap, shards, now))
    return Routing(epoch, tuple(tables))


def _remapped(table: PoolRouting, remap: Remap, shards: Sequence[ShardState], now: float) -> PoolRouting:
    """With nobody asked whose keys are elsewhere or on their way, and the pool's record put back too."""
    standings = [standing(remap, shard, now) for shard in shards]
    absent = tuple(at for at, each in enumerate(standings) if each is Standing.ABSENT)
    rows = [
        row if each is Standing.PRESENT else replace(row, lead=None, in_sync=(), reads=(), joining=())
        for row, each in zip(table.shards, standings, strict=True)
    ]
    if remap.data and remap.pool.protocol == "redis":
        gone = [table.shards[at].name for at in absent]
        rows = [replace(row, reserved=_reserved(remap.pool.name, row.name, gone)) for row in rows]
    if remap.data:
        rows = [replace(row, restore=_restore_too(remap, row.restore)) for row in rows]
    # If nobody is left there is nowhere to go.
    return replace(table, shards=tuple(rows), absent=absent if len(absent) < len(rows) else ())


def _restore_too(remap: Remap, restore: bytes) -> bytes:
    """Both records in one request, which has one answer. A Redis keeps what is `reserved` itself."""
    if remap.pool.protocol == "redis":
        return restore
    quiet = restore.replace(b"\r\n", b" noreply\r\n", 1)
    return quiet + restore_request(remap.pool.protocol, absence_key(remap.pool.name), remap.data)


def shard_routing(shard: ShardState, resolved: Mapping[str, str], owner: str = "") -> ShardRouting:
    """One shard's part: writes to all in sync and those that are fed, reads to those in sync that can
    serve, in order."""
    positions = {member.address: position for position, member in enumerate(shard.members)}
    protocol = shard.pool.protocol
    record = shard.record if shard.keeps_view else b""
    key = view_key(shard.pool.name, shard.spec.name)
    name = Owner(owner, shard.pool.name, shard.spec.name).traffic if owner else ""
    fed = shard.fed if shard.lead is not None else ()
    return ShardRouting(
        name=shard.spec.name,
        weight=shard.spec.weight,
        backends=tuple(
            BackendRouting(
                member.address,
                resolved.get(member.address) or _literal(member.address),
                verify_pairs(protocol, key, shard.view, record, member.address, name)
                if member.state is BackendState.IN_SYNC or member.address in fed
                else (),
            )
            for member in shard.members
        ),
        lead=positions[shard.lead] if shard.lead is not None else None,
        in_sync=tuple(positions[address] for address in shard.in_sync),
        reads=tuple(positions[address] for address in read_order(shard)),
        spread=shard.pool.reads == "spread",
        epoch=shard.epoch,
        restore=restore_request(protocol, key, record) if record else b"",
        joining=tuple(positions[address] for address in fed if address in positions),
        lease=WRITE_LEASE_SECONDS if record else 0.0,
        succession=shard.succession,
        succeeds=shard.succeeds,
        reserved=_reserved(shard.pool.name, shard.spec.name) if protocol == "redis" and record else (),
    )


def _reserved(pool: str, shard: str, blind_to: Sequence[str] | None = None) -> tuple[bytes, ...]:
    return tuple(key.encode() for key in reserved_keys(pool, shard, blind_to))


def _literal(address: str) -> str:
    """A backend that was never resolved may still be numeric; the engine must be given one that parses."""
    host = address.rpartition(":")[0]
    is_numeric = address.startswith(("unix:", "[")) or host.replace(".", "").isdigit()
    return address if is_numeric else UNRESOLVED


def read_order(shard: ShardState) -> tuple[str, ...]:
    """The lead first, then succession; with ``nearest`` those of our own zone before all others."""
    order = readable(shard)
    if shard.pool.reads != "nearest" or not shard.pool.zone:
        return order
    zones = {each.address: each.zone for each in shard.spec.backends}
    return tuple(sorted(order, key=lambda address: zones[address] != shard.pool.zone))


def verify_pairs(
    protocol: str, key: str, view: View | None, record: bytes, address: str, name: str = ""
) -> tuple[tuple[bytes, bytes], ...]:
    """What a new connection must show before it carries a request.

    The record proves that the data was not lost since the view was made, the process id that a
    restart with a saved record in it is not taken for the process that was in sync. A server that
    hides its id is verified by the record alone. Without a view there is nothing to prove.

    On Redis it takes a name first, so that `proxy.control.fence` can tell whose it is; a server that
    does not allow that is served all the same.
    """
    if view is None or not record:
        return ()
    run = view.run_of(address)
    if protocol == "redis":
        pairs = [(resp_request("CLIENT", "SETNAME", name), b"")] if name else []
        pairs.append((resp_request("GET", key), b"$%d\r\n%s\r\n" % (len(record), record)))
        if run:
            pairs.append((resp_request("INFO", "server"), b"run_id:" + run.encode()))
        return tuple(pairs)
    pairs = [(f"get {key}\r\n".encode(), b"VALUE %s 0 %d\r\n%s\r\n" % (key.encode(), len(record), record))]
    if run:
        pairs.append((b"stats\r\n", b"STAT pid " + run.partition("@")[0].encode() + b"\r\n"))
    return tuple(pairs)


def restore_request(protocol: str, key: str, record: bytes) -> bytes:
    """Puts the record back behind a flush; the engine sends it on every in-sync backend."""
    if protocol == "redis":
        return resp_request("SET", key, record)
    return b"set %s 0 0 %d\r\n%s\r\n" % (key.encode(), len(record), record)


def select_request(database: int) -> bytes:
    """Has a Redis connection use another database."""
    return resp_request("SELECT", str(database))


def resp_request(*words: str | bytes) -> bytes:
    """A Redis request as an array of bulk strings."""
    parts = [word if isinstance(word, bytes) else word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(each), each) for each in parts)
