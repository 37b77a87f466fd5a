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


@pytest.mark.parametrize("protocol", SERVER_VERSIONS)
@pytest.mark.parametrize(
    "keys", ["replication: {ack: quorum}", "replication: {ack: primary}", "cross_shard: refuse"]
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
