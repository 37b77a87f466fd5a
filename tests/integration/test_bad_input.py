"""Bad input gets the error the real server gives, or one of our own, and hurts nobody else.

What a real server says is asked of a real server, not written down. After each case the same proxy still
serves a client that did nothing wrong, and it is the same process.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from support.cluster import Cluster
from support.eventually import eventually
from support.lying import LyingServer
from support.pipeline import resp
from support.proxy_process import ProxyProcess, pool
from support.raw import Closed, RawClient
from support.servers import MemcachedServer, RedisServer

LIMIT_BYTES = 1 << 20
LIMITS = {"request_bytes": LIMIT_BYTES, "client_output_bytes": 8 << 20}
CLOSED = b"<closed>"
ECHO = (resp("ECHO", "the end"), b"$7\r\nthe end\r\n")
VERSION = (b"version\r\n", b"VERSION 1.6.18\r\n")


@pytest.fixture(scope="module")
def redis_cluster() -> Iterator[Cluster]:
    with Cluster("redis", shards=2, workers=2, limits=LIMITS) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def memcached_cluster() -> Iterator[Cluster]:
    with Cluster("memcached", shards=2, workers=2, limits=LIMITS) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def plain_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def plain_memcached() -> Iterator[MemcachedServer]:
    with MemcachedServer() as server:
        yield server


@pytest.fixture
def healthy_redis(redis_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, with a client beside the bad one that is served as before, and a process that lives on."""
    process = redis_cluster.proxy.pid
    with RawClient(redis_cluster.proxy.redis_port) as other:
        assert other.ask(resp("SET", "other", "1")) == b"+OK\r\n"
        yield redis_cluster
        assert other.ask(resp("GET", "other")) == b"$1\r\n1\r\n"
    assert redis_cluster.proxy.pid == process
    assert redis_cluster.proxy.is_running()
    assert set(redis_cluster.proxy.backend_states("p").values()) == {"in_sync"}


@pytest.fixture
def healthy_memcached(memcached_cluster: Cluster) -> Iterator[Cluster]:
    with RawClient(memcached_cluster.proxy.memcached_port) as other:
        other.send(b"set other 0 0 1\r\n1\r\n")
        other.expect(b"STORED\r\n")
        yield memcached_cluster
        other.send(b"get other\r\n")
        other.expect(b"VALUE other 0 1\r\n1\r\nEND\r\n")
    assert memcached_cluster.proxy.is_running()
    assert set(memcached_cluster.proxy.backend_states("p").values()) == {"in_sync"}


def answers(port: int, data: bytes, end: tuple[bytes, bytes]) -> bytes:
    """All that is answered to ``data``, up to the answer to ``end`` or to the end of the connection."""
    with RawClient(port) as client:
        try:
            client.send(data + end[0])
            return client.read_until(end[1])
        except (Closed, BrokenPipeError, ConnectionResetError):
            return client.expect_closed() + CLOSED


BAD_REDIS = {
    "count is no number": b"*abc\r\n",
    "count is empty": b"*\r\n",
    "count too large": b"*99999999999\r\n",
    "count of 20 digits": b"*99999999999999999999\r\n",
    "no bulk": b"*2\r\n$3\r\nGET\r\n:1\r\n",
    "bulk of negative length": b"*2\r\n$3\r\nGET\r\n$-1\r\n",
    "bulk length is no number": b"*2\r\n$3\r\nGET\r\n$x\r\n",
    "bulk length is empty": b"*2\r\n$3\r\nGET\r\n$\r\n",
    "bulk too large": b"*2\r\n$3\r\nGET\r\n$99999999999\r\n",
    "nothing asked": b"*0\r\n*-1\r\n\r\n\r\n",
    "open quote": b'GET "abc\r\n',
    "text behind a quote": b'GET "abc"d\r\n',
    "inline too long": b"GET " + b"k" * 200_000,
    "a line end for a dollar": b"*1\r\n\r\n",
    "unknown command": resp("NOSUCH", "a", "b"),
    "unknown, long arguments": resp("NOSUCH", "x" * 300, "y" * 300),
    "unknown, odd bytes": resp(b"NO\r\nSUCH", b"a\r\n+OK\r\nb", b"\x00\xff"),
    "long unknown name": resp("N" * 500),
    "unknown subcommand": resp("OBJECT", "NOSUCH", "k"),
    "no arguments": resp("GET"),
    "too many arguments": resp("GET", "a", "b"),
    "odd MSET": resp("MSET", "a", "1", "b", "2", "c"),
    "odd MSET, inline": b"MSET a 1 b 2 c\r\n",
    "empty name": resp("", "a"),
    "empty key": resp("SET", "", "v") + resp("GET", "") + resp("DEL", ""),
    "binary key": resp("SET", b"\x00\r\n\xff", "v") + resp("DEL", b"\x00\r\n\xff"),
    "number out of range": resp("SET", "bad:n", "9223372036854775807") + resp("INCR", "bad:n"),
    "not a number": resp("LRANGE", "k", "a", "b"),
    "numkeys beyond the arguments": resp("ZUNION", "9", "a"),
    "SELECT beyond": resp("SELECT", "99"),
    "SELECT of a word": resp("SELECT", "x"),
    "HELLO of a word": resp("HELLO", "x"),
    "HELLO 4": resp("HELLO", "4"),
    "AUTH without a password set": resp("AUTH", "x"),
    "garbage": bytes(range(33, 256)) * 3 + b"\r\n",
}


@pytest.mark.parametrize("name", BAD_REDIS)
def test_redis_errors_are_the_servers(name: str, healthy_redis: Cluster, plain_redis: RedisServer) -> None:
    expected = answers(plain_redis.port, BAD_REDIS[name], ECHO)
    assert answers(healthy_redis.proxy.redis_port, BAD_REDIS[name], ECHO) == expected


@pytest.mark.parametrize("verb", [b"POST / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\n"])
def test_browsers_cannot_smuggle_redis_commands(verb: bytes, healthy_redis: Cluster) -> None:
    got = answers(healthy_redis.proxy.redis_port, verb + b"Host: x\r\n\r\nSET smuggled 1\r\n", ECHO)
    assert got.endswith(CLOSED)
    with RawClient(healthy_redis.proxy.redis_port) as client:
        assert client.ask(resp("EXISTS", "smuggled")) == b":0\r\n"


BAD_MEMCACHED = {
    "unknown verb": b"bogus a b\r\n",
    "empty line": b"\r\n",
    "blanks": b"   \r\n",
    "upper case": b"GET a\r\n",
    "get of nothing": b"get\r\n",
    "key of 251 bytes": b"get " + b"k" * 251 + b"\r\n",
    "key of 3000 bytes": b"get " + b"k" * 3000 + b"\r\n",
    "set without length": b"set a 0 0\r\n",
    "length is no number": b"set a 0 0 x\r\nvalue\r\n",
    "length is negative": b"set a 0 0 -1\r\n",
    "flags are no number": b"set a x 0 1\r\nv\r\n",
    "block too short": b"set a 0 0 5\r\nabc\r\n\r\n",
    "block too long": b"set a 0 0 1\r\nabc\r\n",
    "block without its end": b"set a 0 0 3\r\nabcd\r\n",
    "too many words": b"set a 0 0 1 noreply more\r\nv\r\n",
    "incr by a word": b"incr a x\r\n",
    "incr by nothing": b"incr a\r\n",
    "incr by a negative number": b"incr a -1\r\n",
    "touch until a word": b"touch a x\r\n",
    "delete with a time": b"delete a 5\r\n",
    "delete of nothing": b"delete\r\n",
    "cas without token": b"cas a 0 0 1\r\nv\r\n",
    "line feeds only": b"set a 0 0 1\nv\r\nget a\ndelete a\n",
    "garbage": b"\x00\x01\xff\xfe garbage\r\n",
    "control characters": b"get a\x00b\r\nget \x01\x02\r\nget a\tb\r\nget a\rb\r\ndelete \x7f\x1b\r\n",
    "key of 251 bytes in a get of many": b"get a " + b"k" * 251 + b" b\r\nget b\r\n",
    "key of 251 bytes, with a value": b"set " + b"k" * 251 + b" 0 0 1\r\nv\r\n",
    "key of 251 bytes, silently": b"set " + b"k" * 251 + b" 0 0 1 noreply\r\nv\r\n",
    # One each: such a get takes the answers before it back.
    "incr and touch of keys of 251 bytes": b"incr %b 1\r\ntouch %b 1\r\n".replace(b"%b", b"k" * 251),
    "gat of a key of 251 bytes": b"gat 0 a " + b"k" * 251 + b"\r\n",
    "delete of a key of 251 bytes": b"delete " + b"k" * 251 + b"\r\n",
    "keys of 250 bytes": b"get %b\r\nincr %b 1\r\ngat 0 %b a\r\n".replace(b"%b", b"k" * 250),
    "length far too large": b"set a 0 0 99999999999999999999\r\n",
    "length beyond 31 bits": b"set a 0 0 2147483646\r\n",
    "length is empty": b"set a 0 0 \r\n",
    "flags far too large": b"set a 99999999999999999999 0 1\r\nv\r\n",
    "expiry far too large": b"set a 0 99999999999999999999 1\r\nv\r\n",
    "token far too large": b"cas a 0 0 1 18446744073709551616\r\nv\r\n",
    "token is negative": b"cas a 0 0 1 -1\r\nv\r\n",
    "incr by too much": b"set a 0 0 1\r\n5\r\nincr a 18446744073709551616\r\nincr a 18446744073709551615\r\n",
    "incr of no number": b"set a 0 0 1\r\nx\r\nincr a 1\r\ndecr a 1\r\n",
    "incr past the end": b"set a 0 0 20\r\n18446744073709551615\r\nincr a 2\r\n",
    "block without its end, silently": b"set a 0 0 2 noreply\r\nabcd\r\n",
    "length is no number, silently": b"set a 0 0 x noreply\r\nv\r\n",
    "noreply for a length": b"set a 0 0 noreply\r\n",
    "noreply for a token": b"cas a 0 0 1 noreply\r\nv\r\n",
    "noreply for a delta": b"incr a noreply\r\n",
    "noreply for a key": b"delete noreply\r\nget noreply\r\n",
    "noreply for a time": b"touch a noreply\r\n",
    "noreply in the middle": b"delete a noreply 0\r\nset a 0 0 1 noreply 2\r\nv\r\n",
    "wrong and silent": b"delete a b noreply\r\ntouch a x noreply\r\nincr a x noreply\r\n"
    b"flush_all x noreply\r\n",
    "gat of nothing": b"gat\r\ngat 0\r\ngats\r\ngats 0\r\ngat x\r\n",
    "gat until a word": b"gat x a b\r\ngats 99999999999999999999 a\r\n",
    "touch with more": b"touch a\r\ntouch a 1 2\r\ntouch a 1 2 3\r\n",
    "delete with more": b"delete a 0\r\ndelete a 0 0\r\ndelete a 0 0 0\r\n",
    "flush_all until a word": b"flush_all x\r\nflush_all 0 0 0\r\n",
    "verbosity": b"verbosity\r\nverbosity x\r\nverbosity 1 2\r\nverbosity 1 2 3\r\n"
    b"verbosity noreply\r\nverbosity -1\r\n",
    "what is the operator's": b"shutdown\r\nshutdown x\r\ncache_memlimit\r\n"
    b"cache_memlimit x\r\nlru\r\nlru x\r\n"
    b"lru x noreply\r\nslabs\r\nslabs x\r\nslabs x noreply\r\nextstore x y\r\n",
    "lru_crawler": b"lru_crawler\r\nlru_crawler x\r\nlru_crawler metadump\r\nlru_crawler metadump all x\r\n",
    "stats": b"stats bogus\r\nstats noreply\r\nstats cachedump\r\nstats cachedump 1\r\n"
    b"stats cachedump 1 x\r\n"
    b"stats cachedump 99 1\r\nstats detail\r\nstats detail x\r\nstats proxy\r\n",
    "watch": b"watch bogus\r\n",
    "words behind": b"version x\r\nversion noreply\r\n",
    "blanks in front": b"  get a\r\n",
    "no blanks": b"get\ta\r\n",
    "nonsense of meta commands": b"mx\r\nm\r\n",
    "quit and more": b"quit x\r\nget a\r\n",
    "a line without an end": b"x" * 70_000,
    "like the binary protocol": b"\x81\x00\x00\x00\r\n\x00\x80\r\n",
    "value beyond the limit, silently": b"set big 0 0 1100000 noreply\r\n" + b"x" * 1_100_000 + b"\r\n",
    "add beyond the limit": b"add big 0 0 1100000\r\n" + b"x" * 1_100_000 + b"\r\nget big\r\n",
    "browser": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "post": b"POST /x HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD_MEMCACHED)
def test_memcached_errors_are_the_servers(
    name: str, healthy_memcached: Cluster, plain_memcached: MemcachedServer
) -> None:
    expected = answers(plain_memcached.port, BAD_MEMCACHED[name], VERSION)
    assert answers(healthy_memcached.proxy.memcached_port, BAD_MEMCACHED[name], VERSION) == expected


def test_memcached_value_beyond_the_servers_limit(
    healthy_memcached: Cluster, plain_memcached: MemcachedServer
) -> None:
    """memcached refuses more than 1 MiB and forgets the old value; the block is not taken for commands."""
    block = b"get other\r\n" * 110_000
    data = b"set big 0 0 3\r\nold\r\nset big 0 0 %d\r\n%b\r\nget big\r\n" % (len(block), block)
    expected = answers(plain_memcached.port, data, VERSION)
    assert b"SERVER_ERROR object too large for cache" in expected
    assert answers(healthy_memcached.proxy.memcached_port, data, VERSION) == expected


def test_redis_value_beyond_our_limit(healthy_redis: Cluster) -> None:
    """Refused when its length is read, before any of it is kept; no memory grows."""
    before = healthy_redis.proxy.resident_bytes()
    for _ in range(20):
        with RawClient(healthy_redis.proxy.redis_port) as client:
            client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % (LIMIT_BYTES + 1))
            assert client.expect_closed() == b"-ERR Protocol error: invalid bulk length\r\n"
    assert healthy_redis.proxy.resident_bytes() < before + (16 << 20)


def test_redis_arguments_beyond_our_limit(healthy_redis: Cluster) -> None:
    with RawClient(healthy_redis.proxy.redis_port) as client:
        client.send(b"*%d\r\n" % LIMIT_BYTES)  # each takes at least six bytes
        assert client.expect_closed() == b"-ERR Protocol error: invalid multibulk length\r\n"


def test_half_a_request_and_silence(healthy_redis: Cluster) -> None:
    """Those who wait cost nobody time, and what they sent is not lost when the rest comes."""
    halves = [b"*2\r\n$3\r\nGET\r\n$5\r\nhal", b"*", b"*2\r\n$", b"GET ha"]
    halves.append(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$9\r\n")
    with ExitStack() as stack:
        waiting = [stack.enter_context(RawClient(healthy_redis.proxy.redis_port)) for _ in halves * 20]
        for client, half in zip(waiting, halves * 20, strict=True):
            client.send(half)
        with RawClient(healthy_redis.proxy.redis_port) as other:
            for n in range(200):
                assert other.ask(resp("SET", "half", n)) == b"+OK\r\n"
        waiting[0].send(b"f!\r\n")
        waiting[0].expect(b"$-1\r\n")


def test_client_that_never_reads() -> None:
    """Its replies are kept up to a bound, then it is closed; memory stays bounded and others are served."""
    limits = {"request_bytes": "1MiB", "client_output_bytes": "8MiB", "client_inflight": 64}
    with Cluster("redis", shards=2, workers=2, limits=limits) as cluster:
        port = cluster.proxy.redis_port
        with RawClient(port) as other:
            assert other.ask(resp("SET", "big", "x" * 500_000)) == b"+OK\r\n"
            before = cluster.proxy.resident_bytes()
            with RawClient(port, timeout=1.0, receive_buffer=4096) as silent:
                with pytest.raises((TimeoutError, ConnectionError)):
                    send_for_ever(silent, resp("GET", "big") * 100)
                for n in range(100):
                    assert other.ask(resp("SET", f"k{n}", n)) == b"+OK\r\n"
                assert cluster.proxy.resident_bytes() < before + (64 << 20)
        assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}


def send_for_ever(client: RawClient, data: bytes) -> None:
    for _ in range(40_000):
        client.send(data)
    raise AssertionError("all of it was taken")


def test_reserved_keys_cannot_be_named(healthy_redis: Cluster, healthy_memcached: Cluster) -> None:
    reserved = "__shardproxy:view:p:s1"
    error = b"-ERR keys beginning with '__shardproxy:' are reserved\r\n"
    requests = [
        ("GET", reserved), ("DEL", "a", reserved), ("SET", reserved, "x"), ("MSET", "a", "1", reserved, "2"),
        ("MGET", reserved), ("RENAME", "a", reserved), ("SUNIONSTORE", reserved, "a"),
        ("COPY", reserved, "a"), ("EXISTS", reserved), ("SORT", "a", "STORE", reserved),
    ]  # fmt: skip
    with RawClient(healthy_redis.proxy.redis_port) as client:
        for words in requests:
            assert client.ask(resp(*words)) == error, words
    name = reserved.encode()
    for request in (b"get %b", b"get a %b", b"delete %b", b"incr %b 1", b"touch %b 0", b"gat 0 %b"):
        with RawClient(healthy_memcached.proxy.memcached_port) as client:
            client.send(request % name + b"\r\nversion\r\n")
            assert client.read_line().startswith(b"CLIENT_ERROR keys beginning with '__shardproxy:'"), request
            client.expect(VERSION[1])
    with RawClient(healthy_memcached.proxy.memcached_port) as client:
        client.send(b"set %b 0 0 3\r\nbad\r\nversion\r\n" % name)
        assert client.read_line().startswith(b"CLIENT_ERROR keys beginning with '__shardproxy:'")
        client.expect(VERSION[1])


def test_random_bytes(healthy_redis: Cluster, healthy_memcached: Cluster, rng: random.Random) -> None:
    for _ in range(100):
        for port in (healthy_redis.proxy.redis_port, healthy_memcached.proxy.memcached_port):
            with RawClient(port) as client:
                client.send(rng.randbytes(rng.randrange(1, 5000)))
                client.reset()


LIES = {
    "no reply at all": b"hello, I am a web server\r\n\r\n",
    "a length that is none": b"$abc\r\n",
    "a huge length": b"$999999999999999\r\n",
    "an array of everything": b"*999999999999999\r\n" * 30,
    "zeros": b"\x00" * 50,
    # Not among them: no reply to one request, but replies to the next. Nothing on the wire shows it.
    "two replies to one request": b"$1\r\na\r\n$1\r\nb\r\n",
    "a line without an end": b"+" + b"x" * 100_000,
}


@pytest.mark.fault
@pytest.mark.parametrize("name", LIES)
def test_backend_that_lies(name: str, resources: ExitStack, start_redis: Callable[[], RedisServer]) -> None:
    """One honest error or answer for the request, and right answers for everybody afterwards."""
    server = start_redis()
    liar = resources.enter_context(LyingServer(server.port, b"lie", LIES[name]))
    config = pool("redis", [liar.address], timeouts={"request": "300ms"})
    config["health"] = {"interval": "200ms", "timeout": "200ms", "rise": 1}
    proxy = resources.enter_context(ProxyProcess({"pools": {"p": config}}))
    with RawClient(proxy.redis_port) as client, RawClient(proxy.redis_port) as other:
        assert other.ask(resp("SET", "k", "true")) == b"+OK\r\n"
        got = client.ask(resp("GET", "lie"))
        assert got[:1] == b"-" or got == b"$1\r\na\r\n", got
        assert liar.lies >= 1
        eventually(lambda: client.ask(resp("GET", "k")) == b"$4\r\ntrue\r\n", what="the truth again")
        for n in range(50):
            assert other.ask(resp("SET", f"k{n}", n)) == b"+OK\r\n"
            assert client.ask(resp("GET", f"k{n}")) == b"$%d\r\n%d\r\n" % (len(str(n)), n)
    assert proxy.is_running()
