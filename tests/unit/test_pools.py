"""From the configuration to what the control plane decides with."""

from __future__ import annotations

from support.control import make_config

from proxy.config import parse
from proxy.control.model import BackendSpec, HealthSpec, ShardSpec
from proxy.control.pools import pool_specs


def test_every_setting_arrives() -> None:
    config = make_config(
        "memcached",
        [["a:1", "b:2"], ["c:3"]],
        reads="spread",
        bootstrap="trust",
        hash_tag="{}",
        health={"interval": "2s", "timeout": "300ms", "fall": 4, "rise": 5},
        timeouts={"connect": "50ms"},
    )
    (pool,) = pool_specs(config)
    assert pool.shards == (
        ShardSpec("s0", (BackendSpec("a:1"), BackendSpec("b:2"))),
        ShardSpec("s1", (BackendSpec("c:3"),)),
    )
    assert pool.health == HealthSpec(2.0, 0.3, 4, 5)
    assert (pool.name, pool.protocol, pool.reads, pool.bootstrap) == ("p", "memcached", "spread", "trust")
    assert (pool.hash, pool.distribution, pool.hash_tag) == ("fnv1a_64", "ketama", "{}")
    assert (pool.connect_timeout, pool.login, pool.replication) == (0.05, None, "fanout")


def test_routes_name_shards_and_pools_by_their_positions() -> None:
    config = parse(
        """
        pools:
          first: {protocol: redis, listen: "h:1", shards: [{name: a, backends: ["h:2"]}]}
          second:
            protocol: redis
            listen: "h:3"
            shards: [{name: b, backends: ["h:4"]}, {name: c, backends: ["h:5"]}]
            routes: [{prefix: "x:", shard: c}, {prefix: "y:", pool: third}, {prefix: "z:", pool: first}]
          third: {protocol: redis, listen: "h:6", shards: [{name: d, backends: ["h:7"]}]}
        """,
        "f.yaml",
    ).config
    first, second, third = pool_specs(config)
    assert second.routes == ((b"x:", 1),)
    assert second.leads == ((b"y:", 2), (b"z:", 0))
    assert [pool.routes + pool.leads for pool in (first, third)] == [(), ()]


def test_a_shard_keeps_a_view_only_where_there_is_somebody_to_agree_with() -> None:
    (pool,) = pool_specs(make_config("redis", [["a:1", "b:2"], ["c:3"]]))
    assert [pool.keeps_view(shard) for shard in pool.shards] == [True, False]
    (alone,) = pool_specs(make_config("redis", [["a:1", "b:2"]], replication={"mode": "none"}))
    assert not alone.keeps_view(alone.shards[0])
