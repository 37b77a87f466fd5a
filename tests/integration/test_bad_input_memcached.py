"""Bad input of memcached clients in all three dialects: the answers of a plain server, and nobody is hurt.

As `test_bad_input.py`. Where the proxy differs on purpose stands in MEMCACHED.md.
"""

import random
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from support import packets
from support.cluster import Cluster
from support.eventually import eventually
from support.lying import LyingServer
from support.packets import count_extras, item_extras, packet
from support.proxy_process import ProxyProcess, pool
from support.raw import CLOSED, Closed, RawClient, answers
from support.servers import MemcachedServer

VERSION = (b"version\r\n", b"VERSION 1.6.18\r\n")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    limits = {"request_bytes": 1 << 20, "client_output_bytes": 8 << 20}
    with Cluster("memcached", shards=2, workers=2, limits=limits) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def plain() -> Iterator[MemcachedServer]:
    with MemcachedServer() as server:
        yield server


@pytest.fixture
def healthy(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, with a client beside the bad one that is served as before, and a process that lives on."""
    process = cluster.proxy.pid
    with RawClient(cluster.proxy.memcached_port) as other:
        other.send(b"set other 0 0 1\r\n1\r\n")
        other.expect(b"STORED\r\n")
        yield cluster
        other.send(b"get other\r\n")
        other.expect(b"VALUE other 0 1\r\n1\r\nEND\r\n")
    assert cluster.proxy.pid == process
    assert cluster.proxy.is_running()
    assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}


BAD_TEXT = {
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
    "nothing but a browser's last word": b"HTTP/1.1\r\n",
    "a browser's words behind a letter": b"x HTTP/1.1\r\nmq HTTP/1.1\r\nPOST /x\r\n",
    "a browser's words behind the first letter of a command": b"trace HTTP/1.1\r\nconnect a HTTP/1.1\r\n",
    "a browser's words in a long line": b"xx " * 23 + b"HTTP/1.1\r\n",
    "a browser's words in a line nearly as long": b"xx " * 22 + b"HTTP/1.1 x\r\n",
}


@pytest.mark.parametrize("name", BAD_TEXT)
def test_memcached_errors_are_the_servers(name: str, healthy: Cluster, plain: MemcachedServer) -> None:
    expected = answers(plain.port, BAD_TEXT[name], VERSION)
    assert answers(healthy.proxy.memcached_port, BAD_TEXT[name], VERSION) == expected


def test_memcached_value_beyond_the_servers_limit(healthy: Cluster, plain: MemcachedServer) -> None:
    """memcached refuses more than 1 MiB and forgets the old value; the block is not taken for commands."""
    block = b"get other\r\n" * 110_000
    data = b"set big 0 0 3\r\nold\r\nset big 0 0 %d\r\n%b\r\nget big\r\n" % (len(block), block)
    expected = answers(plain.port, data, VERSION)
    assert b"SERVER_ERROR object too large for cache" in expected
    assert answers(healthy.proxy.memcached_port, data, VERSION) == expected


LONG = b"k" * 251
BAD_META = {
    "control characters": b"mg \x01\x02 v\r\nmd \x7f\x1b\r\nma a\tb\r\nmg a\rb k\r\n"
    b"ms \x01 1\r\nv\r\nmg \x01 v k\r\n",
    "key of 251 bytes": b"mg %b v\r\nmd %b\r\nma %b\r\nme %b\r\nmg %b v q\r\nmn\r\n".replace(b"%b", LONG),
    "key of 251 bytes among others": b"mg a v k q\r\nmg %b v k q\r\nmg b v k q\r\nmn\r\n" % LONG,
    "key of 3000 bytes": b"mg " + b"k" * 3000 + b"\r\n",
    "key too long in base64": b"mg " + b"QUJD" * 84 + b" b\r\n",
    "key is no base64": b"mg QUJ b\r\nmg !!!! b\r\nmd = b\r\nma A=== b\r\nms QUJ 1 b\r\nv\r\n",
    "no key": b"mg\r\nms\r\nmd\r\nma\r\nme\r\nmg \r\n",
    "no length": b"ms a\r\n",
    "length is no number": b"ms a x\r\nms a 1x\r\n",
    "length is negative": b"ms a -1\r\n",
    "length far too large": b"ms a 99999999999999999999\r\nms a 2147483647\r\n",
    "value beyond the limit": b"ms a 1100000\r\n" + b"x" * 1_100_000 + b"\r\nmg a v\r\n",
    "block without its end": b"ms a 3\r\nabcd\r\n",
    "block without its end, silently": b"ms a 2 q\r\nabcd\r\nmn\r\n",
    "block too short": b"ms a 5\r\nabc\r\n\r\n",
    "block too long": b"ms a 1\r\nabc\r\n",
    "line feeds only": b"ms a 1\nv\r\nmg a v\nmd a\n",
    "flags are no number": b"ms a 1 Fx\r\nv\r\nms a 1 F-1\r\nv\r\nms a 1 F\r\nv\r\n",
    "flags far too large": b"ms a 1 F4294967296\r\nv\r\nms a 1 F99999999999999999999\r\nv\r\n",
    "expiry far too large": b"ms a 1 T99999999999999999999\r\nv\r\nmg a T99999999999\r\nmg a Tx\r\n",
    "token far too large": b"ms a 1 C18446744073709551616\r\nv\r\nmd a C99999999999999999999\r\nmd a Cx\r\n",
    "delta far too large": b"ma n N0 J5\r\nma n D18446744073709551616\r\nma n D-1\r\nma n Dx\r\n"
    b"ma n v D18446744073709551615\r\n",
    "start far too large": b"ma z N0 J18446744073709551616\r\nma z N0 Jx\r\n",
    "ma of no number": b"ms a 1\r\nx\r\nma a\r\nma a MD v q\r\n",
    "ma past the end": b"ms a 20\r\n18446744073709551615\r\nma a v D2\r\n",
    "modes": b"ms a 1 MX\r\nv\r\nma a MX\r\nma a M\r\nms a 1 M\r\nv\r\n",
    "a flag twice": b"mg a v v\r\nmd a q q\r\nma a v v\r\nms a 1 F1 F2\r\nv\r\n",
    "a flag that is no letter": b"mg a 1\r\nmg a !\r\nmd a \x80\r\nma a =\r\n",
    "unknown flags": b"mg a y\r\nmd a Y\r\nma a z\r\n",
    "too many flags": b"mg a " + b" ".join(b"%c" % flag for flag in b"bcfhkOqstvNRTEabcdefg") + b"\r\n",
    "opaque too long": b"mg a O%b\r\nmd a O%b\r\n".replace(b"%b", b"o" * 40),
    "unknown commands": b"mx a\r\nm a\r\nmgg a\r\nMG a\r\n",
    "words behind": b"mn a b\r\nme a b c\r\n",
    "blanks": b"  mg a v\r\nmg   a   v\r\n",
    "a line without an end": b"mg " + b"x" * 70_000,
}


@pytest.mark.parametrize("name", BAD_META)
def test_meta_errors_are_the_servers(name: str, healthy: Cluster, plain: MemcachedServer) -> None:
    expected = answers(plain.port, BAD_META[name], VERSION)
    assert answers(healthy.proxy.memcached_port, BAD_META[name], VERSION) == expected


def stored(value: bytes, key: bytes = b"a", cas: int = 0) -> bytes:
    return packet(packets.SET, key, value, extras=item_extras(), cas=cas)


ODD = b"a\x01 \x7f\x1b\r\nget b\r\n\0"
LARGEST = (1 << 64) - 1
GONE = packet(packets.DELETEQ, b"z")
BAD_BINARY = {
    "control characters": stored(b"v", ODD) + packet(packets.GETK, ODD) + packet(packets.DELETE, ODD),
    "unknown opcodes": packet(0x70) + packet(0xFF, value=b"x" * 100) + packet(0x1B, value=b"xyz"),
    "increment of no number": stored(b"x")
    + packet(packets.INCREMENT, b"a", extras=count_extras(1))
    + packet(packets.DECREMENTQ, b"a", extras=count_extras(1)),
    "increment past the end": stored(b"%d" % LARGEST)
    + packet(packets.INCREMENT, b"a", extras=count_extras(2))
    + packet(packets.INCREMENT, b"a", extras=count_extras(LARGEST))
    + packet(packets.DECREMENT, b"a", extras=count_extras(LARGEST)),
    "a start far too large": GONE + packet(packets.INCREMENT, b"z", extras=count_extras(1, LARGEST, 0)),
    "token far too large": stored(b"v")
    + stored(b"w", cas=LARGEST)
    + packet(packets.DELETE, b"a", cas=LARGEST),
    "token of what is not there": GONE
    + stored(b"v", b"z", cas=77)
    + packet(packets.ADD, b"z", b"v", extras=item_extras(), cas=5),
    "expiry far too large": stored(b"v")
    + packet(packets.TOUCH, b"a", extras=b"\xff" * 4)
    + packet(packets.GET, b"a"),
    "append to what is not there": GONE
    + packet(packets.APPEND, b"z", b"v")
    + packet(packets.PREPENDQ, b"z", b"v"),
    "value beyond the limit": stored(b"v") + stored(b"x" * 1_100_000) + packet(packets.GET, b"a"),
    "value beyond the limit, silently": packet(packets.SETQ, b"a", b"x" * 1_100_000, extras=item_extras())
    + packet(packets.GETQ, b"a"),
    "unknown statistics": packet(packets.STAT, b"bogus") + packet(packets.STAT, b"detail"),
    "statistics of the text protocol": packet(packets.STAT, b"cachedump 1 0")
    + packet(packets.STAT, b"conns")
    + packet(packets.STAT, b"extstore")
    + packet(packets.STAT, b"items x"),
    "statistics by the beginning of their name": packet(packets.STAT, b"resetx"),
    "logins that are not wanted": packet(packets.SASL_AUTH, b"NONE", b"x")
    + packet(packets.SASL_STEP, b"PLAIN", b"x"),
    "fields that mean nothing": packet(packets.NOOP)[:5] + b"\1\x12\x34" + packet(packets.NOOP)[8:],
    "opaque of any bytes": packet(packets.GET, b"none", opaque=b"\r\n\0\xff"),
    "magic of a reply": b"\x81" + packet(packets.NOOP)[1:],
    "text": b"get a\r\n" + bytes(30),
    "zeros": b"\x80" + bytes(23),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_BINARY)
def test_binary_errors_are_the_servers(name: str, healthy: Cluster, plain: MemcachedServer) -> None:
    """But for CAS tokens. What a connection does not survive is in `test_binary_differential.py`, too."""
    expected = packets_until_noop(plain.port, BAD_BINARY[name])
    assert packets_until_noop(healthy.proxy.memcached_port, BAD_BINARY[name]) == expected


def packets_until_noop(port: int, data: bytes) -> list[packets.Reply] | bytes:
    """What is answered to ``data``, which has to be framed right; or that the connection ended."""
    with RawClient(port) as client:
        # It has begun well, or what begins otherwise is taken for text.
        packets.ask(client, packet(packets.NOOP))
        try:
            client.send(data + packet(packets.NOOP, opaque=b"done"))
            replies = packets.read_until_noop(client, b"done")
        except (Closed, BrokenPipeError, ConnectionResetError):
            return client.expect_closed() + CLOSED
    return [reply._replace(cas=int(reply.cas != 0)) for reply in replies]


def test_reserved_keys_cannot_be_named(healthy: Cluster) -> None:
    name = b"__shardproxy:view:p:s1"
    for request in (b"get %b", b"get a %b", b"delete %b", b"incr %b 1", b"touch %b 0", b"gat 0 %b"):
        with RawClient(healthy.proxy.memcached_port) as client:
            client.send(request % name + b"\r\nversion\r\n")
            assert client.read_line().startswith(b"CLIENT_ERROR keys beginning with '__shardproxy:'"), request
            client.expect(VERSION[1])
    with RawClient(healthy.proxy.memcached_port) as client:
        client.send(b"set %b 0 0 3\r\nbad\r\nversion\r\n" % name)
        assert client.read_line().startswith(b"CLIENT_ERROR keys beginning with '__shardproxy:'")
        client.expect(VERSION[1])


def test_random_bytes(healthy: Cluster, rng: random.Random) -> None:
    for first in (b"", b"\x80", b"mg ", b"ms a 10 ") * 40:
        with RawClient(healthy.proxy.memcached_port) as client:
            client.send(first + rng.randbytes(rng.randrange(1, 5000)))
            client.reset()


LIES = {
    "a length that is none": b"VALUE lie 0 abc\r\n",
    "a huge length": b"VALUE lie 0 99999999999\r\n",
    "two gigabytes that do not come": b"VALUE lie 0 2147483600\r\nx",
    "half a value": b"VALUE lie 0 5\r\nab",
    # Not among them, as in `test_bad_input.py`: what the next reply completes (a value without its END).
    "the answer to a set": b"STORED\r\n",
    "the answer to an incr": b"5\r\n",
    "the answer to an mg": b"VA 1\r\na\r\n",
    "statistics": b"STAT lie 1\r\nEND\r\n",
    "a web server": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a greeting": b"hello, I am a web server\r\n",
    "a line feed alone": b"END\n",
    "a value much longer than was said": b"VALUE lie 0 3\r\nabcdef\r\n",
    "a value longer than was said": b"VALUE lie 0 1\r\nab\r\nEND\r\n",
    "zeros": bytes(50),
    "a line without an end": b"VALUE " + b"x" * 100_000,
    "an error of Redis": b"-ERR unknown command 'get'\r\n",
    "a miss of Redis": b"$-1\r\n",
    "an array of Redis": b"*1\r\n$1\r\na\r\n",
}
HONEST = re.compile(rb"SERVER_ERROR (the connection to the backend was lost|read timed out)[^\r\n]*\r\n")


UNKNOWN = re.compile(rb"SERVER_ERROR outcome unknown: the connection to the backend was lost[^\r\n]*\r\n")


@pytest.mark.fault
@pytest.mark.parametrize("name", LIES)
def test_backend_that_lies(
    name: str, resources: ExitStack, start_memcached: Callable[[], MemcachedServer]
) -> None:
    """An honest error for the request, and right answers for everybody afterwards."""
    assert HONEST.fullmatch(told(resources, start_memcached(), LIES[name], b"get lie\r\n"))


ANSWERS_TO_OTHERS = [
    b"VALUE lie 0 1\r\na\r\nEND\r\n",
    b"VA 1\r\na\r\n",
    b"STAT lie 1\r\nEND\r\n",
    b"END\r\n",
    b"hello, I am a web server\r\n",
]


@pytest.mark.fault
@pytest.mark.parametrize(
    "request_", [b"set lie 0 0 1\r\na\r\n", b"delete lie\r\n", b"touch lie 0\r\n", b"incr lie 1\r\n"]
)
def test_a_change_that_is_answered_as_something_else(
    request_: bytes, resources: ExitStack, start_memcached: Callable[[], MemcachedServer]
) -> None:
    server = start_memcached()
    for lie in ANSWERS_TO_OTHERS:
        assert UNKNOWN.fullmatch(told(resources, server, lie, request_)), lie


@pytest.mark.fault
@pytest.mark.parametrize(
    "lie", [b"STORED\r\n", b"END\r\n", b"VA 3\r\nabcdef\r\n", b"VALUE lie 0 1\r\na\r\nEND\r\n"]
)
def test_a_meta_command_that_is_answered_as_something_else(
    lie: bytes, resources: ExitStack, start_memcached: Callable[[], MemcachedServer]
) -> None:
    assert HONEST.fullmatch(told(resources, start_memcached(), lie, b"mg lie v\r\n"))


@pytest.mark.fault
@pytest.mark.parametrize("reply", [b"VALUE lie 0 1\r\na\r\nEND\r\n", b"END\r\n"])
def test_replies_that_nobody_asked_for(
    reply: bytes, resources: ExitStack, start_memcached: Callable[[], MemcachedServer]
) -> None:
    """The first is taken for the answer; what follows must not become the answer to somebody else."""
    assert told(resources, start_memcached(), reply * 3, b"get lie\r\n", reply) == reply


def told(
    resources: ExitStack, server: MemcachedServer, lie: bytes, request: bytes, end: bytes = b"\r\n"
) -> bytes:
    """What a client is answered to a request that its backend answers with a lie."""
    liar = resources.enter_context(LyingServer(server.port, b"lie", lie))
    config = pool("memcached", [liar.address], timeouts={"request": "300ms"})
    config["health"] = {"interval": "200ms", "timeout": "200ms", "rise": 1}
    proxy = resources.enter_context(ProxyProcess({"pools": {"p": config}}))
    truth = b"VALUE k 0 4\r\ntrue\r\nEND\r\n"
    with RawClient(proxy.memcached_port) as client, RawClient(proxy.memcached_port) as other:
        other.send(b"set k 0 0 4\r\ntrue\r\n")
        other.expect(b"STORED\r\n")
        client.send(request)
        got = client.read_until(end)
        assert liar.lies >= 1

        def is_true_again() -> bool:
            with RawClient(proxy.memcached_port) as third:
                third.send(b"get k\r\nversion\r\n")
                return third.read_until(VERSION[1]) == truth + VERSION[1]

        eventually(is_true_again, what="the truth again")
        for each in (client, other):
            for number in range(50):
                each.send(b"set k%d 0 0 2\r\n%02d\r\nget k%d\r\n" % (number, number, number))
                each.expect(b"STORED\r\nVALUE k%d 0 2\r\n%02d\r\nEND\r\n" % (number, number))
    assert proxy.is_running()
    return got
