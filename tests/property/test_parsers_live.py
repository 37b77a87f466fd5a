"""A running proxy gives the same replies however the network cuts the requests into segments."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cluster import Cluster
from support.pipeline import resp
from support.random_commands import memcached_requests, redis_commands
from support.raw import RawClient

ECHO = (resp("ECHO", "the end of it"), b"$13\r\nthe end of it\r\n")
MARK = (b"get mark\r\n", b"VALUE mark 0 5\r\nmark!\r\nEND\r\n")
COMMANDS = 40

SETTINGS = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**32 - 1)
cuts = st.lists(st.integers(0, 10_000), max_size=60)
"""Where the stream is cut, modulo its length; hypothesis shrinks a failure to the cut that matters."""


@pytest.fixture(scope="module")
def redis_cluster() -> Iterator[Cluster]:
    with Cluster("redis", shards=2, workers=2, hash_tag="{}") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def memcached_cluster() -> Iterator[Cluster]:
    with Cluster("memcached", shards=2, workers=2) as cluster:
        with RawClient(cluster.proxy.memcached_port) as client:
            client.send(b"set mark 0 0 5\r\nmark!\r\n")
            client.expect(b"STORED\r\n")
        yield cluster


def segments(data: bytes, places: list[int]) -> Iterator[bytes]:
    """The data cut at these places."""
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    at = 0
    for end in ends:
        yield data[at:end]
        at = end


def exchange(port: int, parts: Iterator[bytes], end: tuple[bytes, bytes]) -> bytes:
    """The replies to what is sent part by part, up to the reply to ``end``."""
    with RawClient(port) as client:
        client.socket.setsockopt(6, 1, 1)  # TCP_NODELAY: each part is a segment of its own
        for part in parts:
            client.send(part)
        client.send(end[0])
        return client.read_until(end[1])


@SETTINGS
@given(seed=seeds, places=cuts)
def test_redis_requests_in_any_segments(redis_cluster: Cluster, seed: int, places: list[int]) -> None:
    """Only reads are repeated: what is in the servers is written first, by the same stream."""
    rng = random.Random(seed)
    words = list(redis_commands(rng, COMMANDS, spread=0.2))
    port = redis_cluster.proxy.redis_port
    exchange(port, iter([b"".join(resp(*row) for row in words)]), ECHO)
    reads = [row for row in words if row[0] in READS.split()]
    inline = [b" ".join(word.encode() for word in row) + b"\r\n" for row in reads[::3] if is_plain(row)]
    data = b"".join([*(resp(*row) for row in reads), *inline, b"*0\r\n\r\n"])
    whole = exchange(port, iter([data]), ECHO)
    assert exchange(port, segments(data, places), ECHO) == whole


READS = (
    "GET GETRANGE STRLEN MGET EXISTS TYPE LLEN LRANGE LINDEX LPOS HGET HMGET HLEN HEXISTS SISMEMBER SCARD"
    " ZSCORE ZRANGE ZCOUNT ZRANK ZCARD XLEN XRANGE GETBIT BITCOUNT GEOPOS GEODIST PING ECHO NOSUCH SUBSTR"
)


def is_plain(words: list[str]) -> bool:
    """Whether the words can be written inline as they are."""
    return all(word and word.isascii() and not set(word) & set(" \r\n\"'") for word in words)


@SETTINGS
@given(seed=seeds, places=cuts)
def test_memcached_requests_in_any_segments(memcached_cluster: Cluster, seed: int, places: list[int]) -> None:
    requests = list(memcached_requests(random.Random(seed), COMMANDS))
    port = memcached_cluster.proxy.memcached_port
    exchange(port, iter([b"".join(requests)]), MARK)
    # Storing what is there already, and reading: the second time is as the first.
    kept = [request for request in requests if request.split()[0] in (b"get", b"set", b"bogus", b"verbosity")]
    kept = [request for request in kept if b" -1 " not in request]
    data = b"".join(kept)
    exchange(port, iter([data]), MARK)
    whole = exchange(port, iter([data]), MARK)
    assert exchange(port, segments(data, places), MARK) == whole


@pytest.mark.slow
def test_byte_by_byte(redis_cluster: Cluster, memcached_cluster: Cluster, rng: random.Random) -> None:
    value = rng.randbytes(300)
    data = resp("SET", "slow", value) + resp("GET", "slow") + b"GET slow\r\n" + resp("DEL", "slow", "none")
    reply = b"$300\r\n" + value + b"\r\n"
    with RawClient(redis_cluster.proxy.redis_port) as client:
        client.send_bytewise(data)
        client.expect(b"+OK\r\n" + reply + reply + b":1\r\n")
    with RawClient(memcached_cluster.proxy.memcached_port) as client:
        client.send_bytewise(b"set slow 7 0 300\r\n" + value + b"\r\nget slow none\r\ndelete slow\r\n")
        client.expect(b"STORED\r\nVALUE slow 7 300\r\n" + value + b"\r\nEND\r\nDELETED\r\n")
