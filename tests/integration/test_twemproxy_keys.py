"""A cache filled through twemproxy is found through this proxy, key for key, and the other way round.

The promise of design.md §4 to people who move: same servers, same configuration, no cold cache. Both
programs run in front of the same real servers; every key is asked for.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from pymemcache.client.hash import HashClient
from pymemcache.client.rendezvous import RendezvousHash
from support.eventually import eventually
from support.pipeline import bulk, exchange, resp
from support.proxy_process import ProxyProcess
from support.raw import RawClient
from support.servers import MemcachedServer, Nutcracker, RedisServer, Server

KEYS = 100_000
SERVERS = 25
"""25 equal servers are where twemproxy's float32 arithmetic gives fewer points than libmemcached's."""


@dataclass(frozen=True)
class Case:
    """A pool as both programs are told of it. An empty name: the label comes from the address."""

    name: str
    hash: str
    distribution: str
    servers: int
    weights: tuple[int, ...] = ()
    names: str = "server{}"
    hash_tag: str = ""
    protocol: str = "redis"
    keys: str = "key:{}"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    def weight(self, position: int) -> int:
        return self.weights[position] if self.weights else 1

    def label(self, position: int) -> str:
        return self.names.format(position)

    def nutcracker(self, servers: list[Server]) -> Nutcracker:
        lines = [
            f"{server.address}:{self.weight(i)} {self.label(i)}".rstrip() for i, server in enumerate(servers)
        ]
        options: dict[str, str | int | bool] = {
            "hash": self.hash,
            "distribution": self.distribution,
            # The tests' machines are slow and shared; an ejected server would move keys.
            "timeout": 20_000,
            "auto_eject_hosts": False,
        }
        if self.hash_tag:
            options["hash_tag"] = self.hash_tag
        return Nutcracker(lines, self.protocol, options)

    def proxy(self, servers: list[Server]) -> ProxyProcess:
        shards: list[dict[str, Any]] = []
        for i, server in enumerate(servers):
            shard: dict[str, Any] = {"weight": self.weight(i), "backends": [{"address": server.address}]}
            if self.label(i):
                shard["name"] = self.label(i)
            shards.append(shard)
        pool = {
            "protocol": self.protocol,
            "hash": self.hash,
            "distribution": self.distribution,
            "hash_tag": self.hash_tag,
            "shards": shards,
            "timeouts": {"request": "20s"},
        }
        return ProxyProcess({"pools": {"p": pool}})


CASES = [
    Case("ketama fnv1a_64", "fnv1a_64", "ketama", 8),
    Case("ketama md5", "md5", "ketama", 8, keys="user:{}:profile"),
    Case("modula crc32a", "crc32a", "modula", 7),
    Case("weights", "fnv1a_64", "ketama", 6, weights=(1, 2, 3, 10, 7, 1)),
    Case("modula weights", "md5", "modula", 4, weights=(3, 1, 2, 5)),
    Case("names", "fnv1a_64", "ketama", 5, names="cache-{}.prod.example.org", keys="session-{}-ä"),
    Case("no names", "fnv1a_64", "ketama", 6, names=""),
    Case("25 servers", "fnv1a_64", "ketama", SERVERS),
    Case("hash tag", "fnv1a_64", "ketama", 8, hash_tag="{}", keys="{{user{}}}:cart"),
    Case("hash tag of one character", "murmur", "ketama", 5, hash_tag="$$", keys="cart:$u{}$:items"),
]


@pytest.fixture(scope="module")
def redis_servers() -> Iterator[list[RedisServer]]:
    """Started once: a start for each of the cases would take longer than all that is tested."""
    with ExitStack() as stack:
        yield [stack.enter_context(RedisServer()) for _ in range(SERVERS)]


def key_names(case: Case, rng: random.Random) -> list[bytes]:
    """Distinct keys in no order; with a hash tag some have none, an empty one or half of one."""
    names = [case.keys.format(number) for number in range(KEYS)]
    if case.hash_tag:
        first, last = case.hash_tag
        odd = ["plain:{n}", "{f}{l}empty:{n}", "{f}half:{n}", "late{l}:{n}", "{f}a{l}{f}b{l}:{n}"]
        for number in range(0, KEYS, 10):
            names[number] = odd[number // 10 % len(odd)].format(n=number, f=first, l=last)
    rng.shuffle(names)
    return [name.encode() for name in names]


def redis_pairs(keys: list[bytes], prefix: bytes, *, write: bool) -> Iterator[tuple[bytes, bytes]]:
    for key in keys:
        value = prefix + key
        yield (resp(b"SET", key, value), b"+OK\r\n") if write else (resp(b"GET", key), bulk(value))


def memcached_pairs(keys: list[bytes], prefix: bytes, *, write: bool) -> Iterator[tuple[bytes, bytes]]:
    for key in keys:
        value = prefix + key
        block = b"%d\r\n%b\r\n" % (len(value), value)
        if write:
            yield b"set %b 0 0 %b" % (key, block), b"STORED\r\n"
        else:
            yield b"get %b\r\n" % key, b"VALUE %b 0 %bEND\r\n" % (key, block)


def stored_keys(server: RedisServer) -> int:
    """Keys on a server but for the proxy's own records."""
    with RawClient(server.port) as client:
        total = int(client.ask(b"DBSIZE\r\n")[1:])
        listed = client.ask(b"KEYS __shardproxy:*\r\n")
        return total - int(listed.partition(b"\r\n")[0][1:])


@pytest.mark.slow
@pytest.mark.nutcracker
@pytest.mark.parametrize("case", CASES, ids=str)
def test_keys_of_twemproxy_are_found_and_the_reverse(
    case: Case, redis_servers: list[RedisServer], rng: random.Random
) -> None:
    servers = redis_servers[: case.servers]
    for server in servers:
        with RawClient(server.port) as client:
            assert client.ask(b"FLUSHALL\r\n") == b"+OK\r\n"
    keys = key_names(case, rng)
    with case.nutcracker(list(servers)) as theirs, case.proxy(list(servers)) as ours:
        with RawClient(theirs.port, timeout=30) as old, RawClient(ours.redis_port, timeout=30) as new:
            assert exchange(old, redis_pairs(keys, b"old:", write=True)) == KEYS
            assert exchange(new, redis_pairs(keys, b"old:", write=False)) == KEYS
            assert exchange(new, redis_pairs(keys, b"new:", write=True)) == KEYS
            assert exchange(old, redis_pairs(keys, b"new:", write=False)) == KEYS
        # Had one key been written to two servers, its values would have agreed above by luck.
        counts = [stored_keys(server) for server in servers]
    assert sum(counts) == KEYS
    assert min(counts) > 0


@pytest.mark.slow
@pytest.mark.nutcracker
def test_memcached_keys_of_twemproxy(resources: ExitStack, rng: random.Random) -> None:
    case = Case("memcached", "fnv1a_64", "ketama", 5, protocol="memcached")
    servers = [resources.enter_context(MemcachedServer()) for _ in range(case.servers)]
    keys = key_names(case, rng)
    theirs = resources.enter_context(case.nutcracker(list(servers)))
    ours = resources.enter_context(case.proxy(list(servers)))
    with RawClient(theirs.port, timeout=30) as old, RawClient(ours.memcached_port, timeout=30) as new:
        assert exchange(old, memcached_pairs(keys, b"old:", write=True)) == KEYS
        assert exchange(new, memcached_pairs(keys, b"old:", write=False)) == KEYS
        assert exchange(new, memcached_pairs(keys, b"new:", write=True)) == KEYS
        assert exchange(old, memcached_pairs(keys, b"new:", write=False)) == KEYS


def test_slots_are_those_of_redis_cluster(resources: ExitStack, rng: random.Random) -> None:
    """Keys are where `CLUSTER KEYSLOT` and the ranges of `redis-cli --cluster create` say."""
    cluster = resources.enter_context(RedisServer("--cluster-enabled", "yes"))
    shards = [resources.enter_context(RedisServer()) for _ in range(3)]
    rows = [{"name": f"s{i}", "backends": [{"address": s.address}]} for i, s in enumerate(shards)]
    pool = {"protocol": "redis", "distribution": "slots", "shards": rows}
    proxy = resources.enter_context(ProxyProcess({"pools": {"p": pool}}))
    keys = [f"key:{n}" for n in range(2000)] + [f"{{tag{n}}}:{n % 7}" for n in range(2000)]
    keys += [f"a{{}}{n}" for n in range(200)] + [f"{{half{n}" for n in range(200)]
    rng.shuffle(keys)
    with RawClient(cluster.port) as client:
        slots = [int(client.ask(resp("CLUSTER", "KEYSLOT", key))[1:]) for key in keys]
    with RawClient(proxy.redis_port) as client:
        assert exchange(client, ((resp("SET", key, key), b"+OK\r\n") for key in keys)) == len(keys)
    ranges = [range(5461), range(5461, 10923), range(10923, 16384)]
    for server, owned in zip(shards, ranges, strict=True):
        expected = {key for key, slot in zip(keys, slots, strict=True) if slot in owned}
        with RawClient(server.port) as client:
            found = exchange(client, ((resp("GET", key), bulk(key.encode())) for key in expected))
        assert found == len(expected) == stored_keys(server)


def test_keys_of_pymemcache_rendezvous_are_found(resources: ExitStack) -> None:
    """Written by pymemcache's `HashClient` straight to the servers, read through the proxy."""
    servers = [resources.enter_context(MemcachedServer()) for _ in range(7)]
    client = HashClient([("127.0.0.1", s.port) for s in servers], hasher=RendezvousHash, timeout=10)
    keys = [f"user:{n}:{'x' * (n % 40)}" for n in range(3000)]
    for key in keys:
        assert client.set(key, f"value of {key}", noreply=True)
    # The last write of each connection is done once the next request on it is answered.
    eventually(lambda: all(client.get(key) is not None for key in keys[-200:]), what="writes are done")
    client.close()
    pool = {
        "protocol": "memcached",
        "distribution": "rendezvous",
        "shards": [{"backends": [{"address": s.address}]} for s in servers],
    }
    proxy = resources.enter_context(ProxyProcess({"pools": {"p": pool}}))
    plain = [key.encode() for key in keys]
    with RawClient(proxy.memcached_port) as raw:
        assert exchange(raw, memcached_pairs(plain, b"value of ", write=False)) == len(keys)
