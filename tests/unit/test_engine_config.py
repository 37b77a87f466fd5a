"""What the schema allows and what the built engine takes are the same."""

import socket

import pytest

from proxy import _engine
from proxy.config import DISTRIBUTIONS, HASHES, Config, PoolConfig, parse
from proxy.config.checks import EQUAL_WEIGHTS, OWN_HASH
from proxy.engine_config import SERVER_VERSIONS, engine_config
from proxy.placement import Placement

# A pool of three shards; %s is for further keys.
POOL = """
pools:
  p:
    protocol: %s
    listen: 127.0.0.1:0
    %s
    shards:
      - {name: s1, backends: ["127.0.0.1:7001", "127.0.0.1:7002"]}
      - {name: s2, backends: ["127.0.0.1:7003"]}
      - {name: s3, backends: ["unix:/m.sock"]}
"""


def config(keys: str = "reads: primary", protocol: str = "redis") -> Config:
    return parse(POOL % (protocol, keys), "f.yaml").config


def only_pool(keys: str) -> PoolConfig:
    return config(keys).pools["p"]


def test_hashes_and_distributions_are_the_engines() -> None:
    assert list(HASHES) == _engine.HASHES
    assert list(DISTRIBUTIONS) == _engine.DISTRIBUTIONS


@pytest.mark.parametrize("hash", HASHES)
def test_every_hash_places_keys(hash: str) -> None:
    placement = Placement(only_pool(f"hash: {hash}"))
    placed = placement.place(b"apple")
    assert placed.hash == _engine.hash_key(hash, b"apple")
    assert placed.hashed == b"apple"


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_every_distribution_gives_every_shard_a_share(distribution: str) -> None:
    pool = only_pool(f"hash: md5\n    distribution: {distribution}")
    shares = Placement(pool).shares(3000)
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 0.1


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_engine_refuses_weights_exactly_where_the_schema_does(distribution: str) -> None:
    pool = only_pool(f"distribution: {distribution}")
    heavier = pool.shards[0].model_copy(update={"weight": 2})
    weighted = pool.model_copy(update={"shards": (heavier, *pool.shards[1:])})
    if distribution in EQUAL_WEIGHTS:
        with pytest.raises(ValueError, match="weight"):
            Placement(weighted)
    else:
        Placement(weighted)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_hash_has_no_effect_exactly_where_the_warning_says_so(distribution: str) -> None:
    def places(hash: str) -> list[str]:
        placement = Placement(only_pool(f"hash: {hash}\n    distribution: {distribution}"))
        return [placement.place(b"k%d" % n).shard.name for n in range(200)]

    if distribution == "random":
        assert distribution in OWN_HASH
    else:
        assert (places("md5") == places("jenkins")) is (distribution in OWN_HASH)


def test_the_engine_refuses_the_hash_tag_that_the_schema_refuses() -> None:
    pool = only_pool("distribution: slots").model_copy(update={"hash_tag": "[]"})
    with pytest.raises(ValueError, match="hash tag"):
        Placement(pool)


# Two pools: the first leads some keys to the second, which places them in its own way.
LEADING = """
pools:
  p:
    protocol: redis
    listen: 127.0.0.1:0
    routes:
      - {prefix: "tmp:", pool: scratch}
      - {prefix: "tmp:job:", shard: s2}
      - {prefix: "tmp:job:x", pool: scratch}
    shards:
      - {name: s1, backends: ["127.0.0.1:7001"]}
      - {name: s2, backends: ["127.0.0.1:7003"]}
  scratch:
    protocol: redis
    listen: 127.0.0.1:0
    hash: md5
    hash_tag: "[]"
    distribution: modula
    on_shard_loss: remap
    routes: [{prefix: "tmp:pin:", shard: t2}, {prefix: "p:", pool: p}]
    shards:
      - {name: t1, backends: ["127.0.0.1:7101"]}
      - {name: t2, backends: ["127.0.0.1:7102"]}
      - {name: t3, backends: ["127.0.0.1:7103"]}
"""


def test_a_key_led_to_another_pool_is_where_that_pools_own_clients_find_it() -> None:
    pools = parse(LEADING, "f.yaml").config.pools
    placement, other = Placement(pools["p"], pools), Placement(pools["scratch"], pools)
    keys = [b"tmp:%d" % number for number in range(60)] + [b"tmp:[%d]y" % number for number in range(20)]
    keys += [b"tmp:pin:1", b"tmp:job:x1"]
    for key in keys:
        placed, there = placement.place(key), other.place(key)
        assert (placed.pool, there.pool, there.led_by) == ("scratch", "", b"")
        assert placed.led_by == (b"tmp:job:x" if key == b"tmp:job:x1" else b"tmp:")
        assert placed[:4] == there[:4]
        assert placement.heir(key) is not None
        assert placement.heir(key) == other.heir(key)
    shards = {placement.place(key).shard.name for key in keys}
    assert shards == {"t1", "t2", "t3"}
    assert placement.place(b"tmp:pin:1")[0].name == "t2"
    assert placement.place(b"tmp:[7]y").hashed == b"7"


def test_the_longest_prefix_decides_whether_it_leads_to_a_shard_or_to_a_pool() -> None:
    pools = parse(LEADING, "f.yaml").config.pools
    placement = Placement(pools["p"], pools)
    pinned = placement.place(b"tmp:job:1")
    assert (pinned.shard.name, pinned.pool, pinned.prefix) == ("s2", "", b"tmp:job:")
    plain = placement.place(b"plain")
    assert (plain.pool, plain.led_by, plain.prefix, plain.hashed) == ("", b"", b"", b"plain")
    back = Placement(pools["scratch"], pools).place(b"p:1")
    assert (back.pool, back.led_by, back[:4]) == ("p", b"p:", placement.place(b"p:1")[:4])


def test_the_engine_refuses_routes_that_lead_nowhere() -> None:
    def table(**routes: list[tuple[bytes, int]]) -> _engine.PoolTable:
        backend = _engine.BackendTable(name="b", address="127.0.0.1:1", verify=())
        shard = _engine.ShardTable(
            name="s",
            weight=1,
            backends=[backend],
            lead=0,
            in_sync=[0],
            reads=[0],
            spread=False,
            epoch=0,
            restore=b"",
        )
        return _engine.PoolTable(hash="md5", distribution="ketama", hash_tag="", shards=[shard], **routes)

    with pytest.raises(ValueError, match="two routes have the prefix"):
        table(leads=[(b"a", 1)], routes=[(b"a", 0)])
    with pytest.raises(ValueError, match="pool 0 leads to pool 1, which there is not"):
        _engine.RoutingTable(epoch=1, pools=[table(leads=[(b"a", 1)])])
    with pytest.raises(ValueError, match="pool 1 leads to itself"):
        _engine.RoutingTable(epoch=1, pools=[table(), table(leads=[(b"a", 1)])])
    _engine.RoutingTable(epoch=1, pools=[table(leads=[(b"a", 1)]), table(leads=[(b"b", 0)])])


@pytest.mark.parametrize("protocol", SERVER_VERSIONS)
@pytest.mark.parametrize(
    "keys",
    [
        "replication: {ack: quorum}",
        "replication: {ack: primary}",
        "cross_shard: refuse",
        "keyless_scripts: all",
    ],
)
def test_the_engine_takes_what_the_schema_takes(protocol: str, keys: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        engine_config(config(keys, protocol), {"p": [listener.fileno()]})


LIMITS = (
    "limits: {clients: %s, request_bytes: %s, client_inflight: %s, client_output_bytes: %s, "
    "backend_inflight: %s}"
)
SMALLEST = LIMITS % (1, "1KiB", 1, "4KiB", 1)
LARGEST = LIMITS % (1_000_000, "512MiB", 1_000_000, "4GiB", 10_000_000)


@pytest.mark.parametrize(
    "keys",
    [LARGEST, SMALLEST, "timeouts: {connect: 1ms, request: 1ms, client_idle: 1ms}",
     "timeouts: {connect: 1m, request: 1h, client_idle: 720h}"],
)  # fmt: skip
def test_the_engine_takes_the_bounds_of_the_schema(keys: str) -> None:
    engine_config(config(keys), {"p": []})
    for workers in (1, 255):
        engine_config(config().model_copy(update={"workers": workers}), {"p": []})
