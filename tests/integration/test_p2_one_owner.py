"""Promise P2: a key belongs to one shard, whatever happens to backends, and one request uses one table."""

import hashlib
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.eventually import eventually
from support.store import PROTOCOLS, MemcachedStore, RedisStore, Store, contents

pytestmark = pytest.mark.parametrize("protocol", PROTOCOLS)

KEYS = [hashlib.md5(b"%d" % number).hexdigest().encode() for number in range(300)]
"""Alike keys would not do: fnv1a puts those that differ in the last letters next to each other."""


def owners(cluster: Cluster, replica: int) -> dict[bytes, list[int]]:
    """By key, the shards whose replica at that position holds it."""
    found: dict[bytes, list[int]] = {}
    for shard, row in enumerate(cluster.servers):
        for key in contents(row[replica]):
            found.setdefault(key, []).append(shard)
    return found


def get_many(client: Store, keys: list[bytes]) -> list[bytes | None]:
    if isinstance(client, RedisStore):
        values: list[bytes | None] = client.ask("MGET", *keys)
        return values
    assert isinstance(client, MemcachedStore)
    client.raw.send(b"get " + b" ".join(keys) + b"\r\n")
    found = client.read_values()
    return [found[key][0] if key in found else None for key in keys]


@pytest.mark.parametrize("distribution", ["ketama", "modula", "jump", "slots", "rendezvous"])
def test_each_key_is_on_one_shard_and_route_names_it(protocol: str, distribution: str) -> None:
    with Cluster(protocol, shards=3, replicas=1, workers=2, distribution=distribution) as cluster:
        with cluster.connect() as client, cluster.connect() as other:
            for key in KEYS:
                client.set(key, key)
            assert get_many(other, KEYS) == KEYS
        placed = owners(cluster, 0)
        assert sorted(placed) == sorted(KEYS)
        assert all(len(shards) == 1 for shards in placed.values())
        assert {shard for shards in placed.values() for shard in shards} == {0, 1, 2}
        some = KEYS[:20]
        for key, shard in zip(some, route(cluster, some), strict=True):
            assert shard == f"s{placed[key][0] + 1}"


def route(cluster: Cluster, keys: list[bytes]) -> list[str]:
    """What ``shardproxy route`` says."""
    program = Path(sys.executable).with_name("shardproxy")
    arguments = ["route", "--config", str(cluster.proxy.config_path), "--pool", "p"]
    run = subprocess.run(
        [program, *arguments, *(key.decode() for key in keys)], capture_output=True, text=True, check=True
    )
    return re.findall(r"-> shard (\S+)", run.stdout)


@pytest.mark.fault
def test_failover_inside_a_shard_moves_no_key(protocol: str) -> None:
    with Cluster(protocol, shards=2, replicas=2) as cluster, cluster.connect() as client:
        for key in KEYS:
            client.set(key, b"1")
        before = owners(cluster, 1)
        cluster.servers[0][0].kill9()
        for key in KEYS:
            client.set(key, b"2")
        assert get_many(client, KEYS) == [b"2"] * len(KEYS)
        cluster.wait_state(0, "down")
        assert owners(cluster, 1) == before


@pytest.mark.fault
def test_requests_over_several_shards_stay_whole_while_tables_change(protocol: str) -> None:
    with Cluster(protocol, shards=2, replicas=2, workers=2) as cluster:
        with cluster.connect() as client:
            for key in KEYS:
                client.set(key, key)
        wrong: list[object] = []
        counts = [0, 0]
        done = threading.Event()

        def read(number: int) -> None:
            try:
                with cluster.connect() as reader:
                    while not done.is_set():
                        if (got := get_many(reader, KEYS)) != KEYS:
                            wrong.append(got)
                        counts[number] += 1
            except Exception as exception:
                wrong.append(exception)

        threads = [threading.Thread(target=read, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        try:
            for shard in (0, 1):
                cluster.servers[shard][shard].kill9()
                cluster.wait_state(shard, "down", shard=shard)
                cluster.servers[shard][shard].restart()
                cluster.wait_state(shard, "stale", shard=shard)
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert wrong == []
        assert min(counts) > 0


@pytest.mark.parametrize("loss", ["error", "remap"])
def test_a_prefix_has_its_shard(protocol: str, loss: str) -> None:
    routes = [{"prefix": "bull:", "shard": "s2"}, {"prefix": "bull:mail:", "shard": "s3"}]
    with (
        Cluster(protocol, shards=3, replicas=1, routes=routes, hash_tag="{}", on_shard_loss=loss) as cluster,
        cluster.connect() as client,
    ):
        expected = {b"bull:{x}%d": 1, b"bull:mail:%d": 2, b"{bull:}%d": None, b"other:%d": None}
        keys = [pattern % number for pattern in expected for number in range(30)]
        for key in keys:
            client.set(key, b"v")
        assert get_many(client, keys) == [b"v"] * len(keys)
        found = owners(cluster, 0)
        for pattern, shard in expected.items():
            on = {tuple(found[pattern % number]) for number in range(30)}
            assert on == {(shard,)} if shard is not None else all(len(each) == 1 for each in on)
        if protocol == "redis":
            assert isinstance(client, RedisStore)
            assert client.ask("SADD", "bull:a", 1) == 1
            assert client.ask("SUNIONSTORE", "bull:b", "bull:a", "bull:c") == 1
        if loss == "remap":
            cluster.servers[1][0].kill9()
            eventually(lambda: client.set(b"bull:1", b"again") is None, within=30, what="another has it")
            assert client.get(b"bull:1") == b"again"
            assert client.get(b"bull:mail:1") == b"v"
