"""Cross-checks: what the schema cannot see because it takes two parts of the file to be wrong.

Pure functions over a valid `Config`; `errors_in` and `warnings_in` yield findings with the place
they belong to. Called by ``load``; ``check`` prints the warnings.
"""

import difflib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from proxy.config.address import could_be_same, parse_address
from proxy.config.schema import Config, PoolConfig, RouteConfig
from proxy.config.units import format_duration

# What each distribution cannot honour; the engine would refuse it too, but without a line number.
EQUAL_WEIGHTS = frozenset({"libmemcached_ketama", "rendezvous", "jump"})
OWN_HASH = frozenset({"random", "libmemcached_ketama_weighted", "rendezvous", "slots", "jump"})

Place = tuple[str | int, ...]


class Finding(NamedTuple):
    """``place`` as keys and list positions in the file, ``text`` for the operator."""

    place: Place
    text: str


def errors_in(config: Config) -> Iterator[Finding]:
    """Everything that must not start."""
    yield from _listeners(config)
    yield from _emptied_for_others(config)
    for name, pool in config.pools.items():
        for finding in itertools.chain(
            _duplicates(pool), _placement(pool), _routes(name, config), _contradictions(pool)
        ):
            yield Finding(("pools", name, *finding.place), finding.text)


def warnings_in(config: Config) -> Iterator[Finding]:
    """What will run but is probably not meant."""
    yield from _shared_backends(config)
    for name, pool in config.pools.items():
        for finding in _doubts(pool, config.zone):
            yield Finding(("pools", name, *finding.place), finding.text)


def _listeners(config: Config) -> Iterator[Finding]:
    places: list[tuple[Place, str, str]] = [(("admin", "listen"), config.admin.listen, "admin")]
    for name, pool in config.pools.items():
        places += [
            (("pools", name, "listen", position), listen, f"pool {name}")
            for position, listen in enumerate(pool.listen)
        ]
    for position, (place, text, owner) in enumerate(places):
        address = parse_address(text, port_zero=True)
        if not address.is_unix and address.port == 0:
            continue  # any free port: nothing can clash
        for _, other, other_owner in places[:position]:
            if could_be_same(address, parse_address(other, port_zero=True)):
                yield Finding(place, f"{text} is listened on twice, by {other_owner} and {owner}")
                break
        for name, pool in config.pools.items():
            for shard in pool.shards:
                for backend in shard.backends:
                    if could_be_same(address, parse_address(backend.address)):
                        yield Finding(
                            place,
                            f"{text} is also a backend of pool {name}, shard {shard.name}: "
                            "the proxy would talk to itself",
                        )


def _emptied_for_others(config: Config) -> Iterator[Finding]:
    owners: dict[str, list[str]] = {}
    for name, pool in config.pools.items():
        for shard in pool.shards:
            for backend in shard.backends:
                owners.setdefault(str(parse_address(backend.address)), []).append(name)
    for name, pool in config.pools.items():
        if pool.on_shard_loss != "remap":
            continue
        for position, shard in enumerate(pool.shards):
            for number, backend in enumerate(shard.backends):
                others = {each for each in owners[str(parse_address(backend.address))] if each != name}
                if others:
                    yield Finding(
                        ("pools", name, "shards", position, "backends", number),
                        f"with on_shard_loss remap {backend.address} is emptied when it comes back, "
                        f"and it also belongs to pool {', '.join(sorted(others))}",
                    )


def _duplicates(pool: PoolConfig) -> Iterator[Finding]:
    names: dict[str, int] = {}
    addresses: dict[str, str] = {}
    for position, shard in enumerate(pool.shards):
        place: Place = ("shards", position)
        if shard.name in names:
            at = (*place, "name") if shard.is_named else place
            yield Finding(at, f"shard {shard.name} exists already: shards[{names[shard.name]}]")
        names.setdefault(shard.name, position)
        for number, backend in enumerate(shard.backends):
            address = str(parse_address(backend.address))
            if address in addresses:
                yield Finding(
                    (*place, "backends", number),
                    f"backend {backend.address} is listed already, in shard {addresses[address]}",
                )
            addresses.setdefault(address, shard.name)


def _routes(name: str, config: Config) -> Iterator[Finding]:
    pool = config.pools[name]
    shards = [shard.name for shard in pool.shards]
    seen: dict[str, int] = {}
    for position, route in enumerate(pool.routes):
        if route.shard and route.shard not in shards:
            text = f"there is no shard {route.shard}{_hint(route.shard, shards)}"
            yield Finding(("routes", position, "shard"), text)
        if route.pool:
            for text in _lead(name, route, config.pools):
                yield Finding(("routes", position, "pool"), text)
        if route.prefix in seen:
            yield Finding(
                ("routes", position, "prefix"), f"prefix exists already: routes[{seen[route.prefix]}]"
            )
        seen.setdefault(route.prefix, position)


def _lead(name: str, route: RouteConfig, pools: Mapping[str, PoolConfig]) -> Iterator[str]:
    """What is wrong with a route of the pool ``name`` to another one."""
    if route.pool == name:
        yield "expected another pool: keys of this one need no route to it"
        return
    if route.pool not in pools:
        others = [other for other in pools if other != name and pools[other].protocol == pools[name].protocol]
        yield f"there is no pool {route.pool}{_hint(route.pool, others)}"
        return
    pool, target = pools[name], pools[route.pool]
    if target.protocol != pool.protocol:
        yield f"pool {route.pool} speaks {target.protocol}; expected a pool that speaks {pool.protocol}"
    elif pool.protocol == "redis" and target.databases < pool.databases:
        yield (
            f"pool {route.pool} has {target.databases} databases; expected at least "
            f"{pool.databases}, as clients of this one may select so many"
        )
    for number, onward in enumerate(target.routes):
        both = (onward.prefix, route.prefix)
        if onward.pool and (both[0].startswith(both[1]) or both[1].startswith(both[0])):
            yield (
                f"pools.{route.pool}.routes[{number}] leads such keys on to pool {onward.pool}; "
                "expected the pool that has them"
            )


def _hint(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    expected = f"; expected one of {', '.join(known[:8])}" if known else ""
    return f"; did you mean {near[0]}?" if near else expected


def _placement(pool: PoolConfig) -> Iterator[Finding]:
    weights = {shard.weight for shard in pool.shards}
    if pool.distribution in EQUAL_WEIGHTS and (
        len(weights) > 1 or (pool.distribution == "libmemcached_ketama" and weights != {1})
    ):
        position = next(i for i, s in enumerate(pool.shards) if s.weight != 1)
        yield Finding(
            ("shards", position, "weight"),
            f"expected no weights: distribution {pool.distribution} knows none",
        )
    if pool.distribution == "slots" and pool.hash_tag not in ("", "{}"):
        yield Finding(("hash_tag",), 'expected "{}": distribution slots has the hash tag of Redis Cluster')


def _contradictions(pool: PoolConfig) -> Iterator[Finding]:
    if pool.health.timeout_seconds > pool.health.interval_seconds:
        yield Finding(
            ("health", "timeout"),
            f"expected at most the interval, {format_duration(pool.health.interval_seconds)}; "
            f"got {format_duration(pool.health.timeout_seconds)}",
        )
    if pool.limits.client_output_bytes < pool.limits.request_bytes:
        yield Finding(
            ("limits", "client_output_bytes"),
            "expected at least request_bytes: a value that may be written must also fit into a reply",
        )
    if pool.replication.mode == "none":
        for position, shard in enumerate(pool.shards):
            if len(shard.backends) > 1:
                yield Finding(
                    ("shards", position, "backends"),
                    "expected one backend with replication mode none: nobody would fill the others",
                )
    if pool.protocol == "memcached":
        if pool.resync.method == "replicaof":
            yield Finding(("resync", "method"), "is for redis pools; Memcached backends are always copied")
        if pool.admin_commands:
            yield Finding(("admin_commands",), "is for redis pools; Memcached has no such command")
        login = pool.backend_auth
        if login is not None and (not login.user or " " in login.user):
            yield Finding(
                ("backend_auth", "user"),
                "expected a name without blanks: memcached logs nobody in without one",
            )
    names = [user.name for user in pool.auth.users]
    for position, name in enumerate(names):
        if name in names[:position]:
            yield Finding(("auth", "users", position), f"user {name} exists already")


def _doubts(pool: PoolConfig, zone: str) -> Iterator[Finding]:
    if pool.hash == "crc32" and pool.distribution == "ketama":
        # As twemproxy computes it, crc32 has 15 bits, and the points of a ring are spread over 32.
        yield Finding(
            ("hash",), "crc32 gives 15 bits, so ketama puts nearly all keys on one shard; meant crc32a?"
        )
    if pool.distribution in OWN_HASH and "hash" in pool.model_fields_set:
        yield Finding(("hash",), f"has no effect: distribution {pool.distribution} brings its own hash")
    if pool.distribution == "random" and len(pool.shards) > 1:
        yield Finding(("distribution",), "random finds no key again unless every shard holds all of them")
    if pool.on_shard_loss == "remap":
        if len(pool.shards) == 1:
            yield Finding(("on_shard_loss",), "remap has no effect: there is no other shard to go to")
        if any(len(shard.backends) > 1 for shard in pool.shards):
            yield Finding(
                ("on_shard_loss",),
                "with remap a shard that lost all its backends is emptied when it comes back: what it held "
                "is gone, acknowledged writes too",
            )
    if pool.reads == "nearest":
        if not zone:
            yield Finding(("reads",), "nearest needs the proxy's own zone: set zone or SHARDPROXY_ZONE")
        elif all(backend.zone != zone for shard in pool.shards for backend in shard.backends):
            yield Finding(("reads",), f"nearest: no backend is in the proxy's zone {zone}")
    if pool.reads != "primary" and pool.replication.ack != "all":
        yield Finding(
            ("replication",), f"with ack {pool.replication.ack} a client may not read its own last write"
        )
    for position, shard in enumerate(pool.shards):
        if not shard.is_named and len(shard.backends) > 1:
            yield Finding(
                ("shards", position),
                f"without a name the shard is called {shard.name} after its first backend; "
                "another order of the backends would move its keys",
            )


def _shared_backends(config: Config) -> Iterator[Finding]:
    owners: dict[str, str] = {}
    for name, pool in config.pools.items():
        for position, shard in enumerate(pool.shards):
            for number, backend in enumerate(shard.backends):
                owner = owners.setdefault(str(parse_address(backend.address)), name)
                if owner != name:
                    yield Finding(
                        ("pools", name, "shards", position, "backends", number),
                        f"backend {backend.address} also belongs to pool {owner}; their keys share it",
                    )
