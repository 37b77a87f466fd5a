"""Bad input gets the error the real server gives, or one of our own, and hurts nobody else.

What a real server says is asked of a real server, not written down. After each case the same proxy still
serves a client that did nothing wrong, and it is the same process. Of Memcached's clients see
`test_bad_input_memcached.py`.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import pytest
from support.cluster import Cluster
from support.eventually import eventually
from support.lying import LyingServer
from support.pipeline import resp
from support.proxy_process import ProxyProcess, pool
from support.raw import CLOSED, Closed, RawClient, answers
from support.servers import RedisServer

LIMIT_BYTES = 1 << 20
LIMITS = {"request_bytes": LIMIT_BYTES, "client_output_bytes": 8 << 20}
ECHO = (resp("ECHO", "the end"), b"$7\r\nthe end\r\n")


@pytest.fixture(scope="module")
def redis_cluster() -> Iterator[Cluster]:
    with Cluster("redis", shards=2, workers=2, limits=LIMITS) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def plain_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
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


COUNTED: Mapping[str, tuple[str, ...]] = {
    "EVAL s": ("k",), "EVALSHA s": ("k",), "EVAL_RO s": ("k",), "EVALSHA_RO s": ("k",), "FCALL s": ("k",),
    "FCALL_RO s": ("k",), "LMPOP": ("k", "LEFT"), "ZMPOP": ("k", "MIN"), "BLMPOP 0.001": ("k", "LEFT"),
    "BZMPOP 0.001": ("k", "MIN"), "SINTERCARD": ("k",), "ZINTERCARD": ("k",), "ZUNION": ("k",),
    "ZDIFF": ("k",), "ZINTER": ("k",), "ZUNIONSTORE d": ("k",), "ZINTERSTORE d": ("k",),
    "ZDIFFSTORE d": ("k",),
}  # fmt: skip
"""Requests that say how many keys they name: what stands before the number, and behind it."""

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
    "nothing asked": b"*0\r\n*-1\r\n*-5\r\n\r\n\r\n",
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
    "a count of keys beyond everything": resp("EVAL", "s", "99999999") + resp("EVAL", "s", "99999999", "k"),
    "counts of keys that are none": b"".join(
        resp(*words.split(), count, *rest)
        for words, rest in COUNTED.items()
        for count in ("0", "-1", "x", "99999999", "9223372036854775807", "99999999999999999999")
    ),
    "a transaction's end without its beginning": resp("EXEC") + resp("DISCARD") + resp("UNWATCH"),
    "a transaction in a transaction": resp("MULTI") + resp("MULTI") + resp("WATCH", "k") + resp("DISCARD"),
    "mistakes in a transaction": resp("MULTI") + resp("GET") + resp("EVAL", "s", "99999999") + resp("EXEC"),
    "a subscriber who asks for other things": resp("SUBSCRIBE", "a")
    + resp("GET", "k")
    + resp("MULTI")
    + resp("PING")
    + resp("PING", "a", "b")
    + resp("NOSUCH")
    + resp("GET")
    + resp("SUBSCRIBE")
    + resp("UNSUBSCRIBE"),
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


def test_wrong_counts_of_keys_behind_writes_of_any_worker(plain_redis: RedisServer) -> None:
    """What the server refuses is answered, and stops nobody, also where another worker has the shard."""
    writes = [resp("SET", f"w{number}", number) for number in range(12)]
    unknown = "f" * 40
    with Cluster("redis", shards=2, replicas=2, workers=2) as cluster, ExitStack() as stack:
        port = cluster.proxy.redis_port
        everybody = [stack.enter_context(RawClient(port)) for _ in range(4)]
        plain = stack.enter_context(RawClient(plain_redis.port))
        for count in ("-1", "x", "99"):
            for words in (("EVALSHA", unknown, count, "k"), ("FCALL", "nosuch", count, "k")):
                for client in (*everybody, plain):
                    client.send(b"".join(writes) + resp(*words) + resp("PING"))
                expected = [plain.read_reply() for _ in (*writes, words, "PING")]
                for client in everybody:
                    assert [client.read_reply() for _ in expected] == expected, words
        # Nor does a write that never ended keep those of other connections out.
        everybody[0].ask(resp("HELLO", 3))
        for write in writes:
            assert everybody[0].ask(write) == b"+OK\r\n"
        assert everybody[0].ask(resp("FLUSHALL")) == b"+OK\r\n"


ODD_LENGTHS = ("01", "00", "+1", "-0", "-01", "-", "--1", "", " 1", "1 ", "0x1", "1\n", "0" * 20 + "1")


def in_two(port: int, data: bytes, cut: int, end: tuple[bytes, bytes], before: tuple[bytes, bytes]) -> bytes:
    """`answers` to what comes in two reads: a part behind a request whose answer is awaited, and the rest."""
    with RawClient(port) as client:
        client.send(before[0] + data[:cut])
        client.expect(before[1])
        try:
            client.send(data[cut:] + end[0])
            return client.read_until(end[1])
        except (Closed, BrokenPipeError, ConnectionResetError):
            return client.expect_closed() + CLOSED


@pytest.mark.parametrize("length", ODD_LENGTHS)
def test_a_length_has_one_form(length: str, healthy_redis: Cluster, plain_redis: RedisServer) -> None:
    """As for a server, or two programs in a row would see different requests in the same bytes."""
    port = healthy_redis.proxy.redis_port
    for head, rest in (("*", "$4\r\nPING\r\n"), ("*2\r\n$4\r\nECHO\r\n$", "x\r\n")):
        data = f"{head}{length}\r\n{rest}".encode()
        expected = answers(plain_redis.port, data, ECHO)
        assert expected.startswith(b"-ERR Protocol error: invalid ")
        assert expected.endswith(CLOSED)
        assert answers(port, data, ECHO) == expected
        for cut in range(len(head), len(head) + len(length) + 2):
            assert in_two(port, data, cut, ECHO, before=ECHO) == expected, cut


@pytest.mark.parametrize("length", ["0", "-1", "-9", "-10", "-2147483648"])
def test_a_count_of_nothing_is_passed_over(
    length: str, healthy_redis: Cluster, plain_redis: RedisServer
) -> None:
    data = f"*{length}\r\n".encode()
    for port in (plain_redis.port, healthy_redis.proxy.redis_port):
        for cut in range(1, len(data)):
            assert in_two(port, data, cut, ECHO, before=ECHO) == ECHO[1]


AUTH = resp("AUTH", "secret")
LAST = (AUTH + ECHO[0], ECHO[1])
"""Answered alike whether one has logged in or not."""
UNKNOWN = (resp("GET", "k"), b"-NOAUTH Authentication required.\r\n")

GUESTS = {
    "ten words": resp("NOSUCH", *range(9)),
    "eleven words": resp("NOSUCH", *range(10)),
    "a count of eleven": b"*11\r\n",
    "the largest count": b"*2147483647\r\n",
    "a count beyond": b"*2147483648\r\n",
    "eleven with a zero": b"*011\r\n",
    "the longest word": resp("AUTH", "x" * 16_384),
    "ten of the longest": resp(*["x" * 16_384] * 10),
    "a length beyond": b"*2\r\n$4\r\nAUTH\r\n$16385\r\n",
    "the longest length": b"*1\r\n$536870912\r\n",
    "a length beyond all": b"*1\r\n$536870913\r\n",
    "a negative length": b"*1\r\n$-1\r\n",
    "behind a wrong password": resp("AUTH", "wrong") + b"*11\r\n",
    "behind a wrong HELLO": resp("HELLO", 3, "AUTH", "default", "wrong") + b"*1\r\n$16385\r\n",
    "behind a request": UNKNOWN[0] + b"*11\r\n",
    "logged out": AUTH + resp("SET", "k", "v") + resp("RESET") + b"*11\r\n",
    "many words in a line": b"PING" + b" x" * 20 + b"\r\n",
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, RedisServer]]:
    """A cluster that wants a login, and a server that wants the same."""
    path = tmp_path_factory.mktemp("guests") / "password"
    path.write_text("secret")
    auth = {"users": [{"name": "default", "password_file": str(path)}]}
    with RedisServer("--requirepass", "secret") as server:
        with Cluster("redis", shards=2, replicas=1, workers=2, auth=auth) as cluster:
            yield cluster, server


@pytest.mark.parametrize("name", GUESTS)
def test_who_has_not_logged_in_sends_little(name: str, guarded: tuple[Cluster, RedisServer]) -> None:
    """What a server refuses before a login is refused as it does, so that nobody unknown has us keep much."""
    cluster, server = guarded
    port, data = cluster.proxy.redis_port, GUESTS[name]
    expected = answers(server.port, data, LAST)
    assert answers(port, data, LAST) == expected
    for cut in {1, 2, len(data) // 2, len(data) - 2, len(data) - 1, len(data)}:
        assert in_two(port, data, cut, LAST, before=UNKNOWN) == expected, cut


@pytest.mark.parametrize("login", [AUTH, UNKNOWN[0] + AUTH, resp("HELLO", 3, "AUTH", "default", "secret")])
def test_who_has_logged_in_sends_much(login: bytes, guarded: tuple[Cluster, RedisServer]) -> None:
    """Also at once, behind the login in the same read, and wherever the reads end."""
    value = b"x" * 20_000
    pairs = [f"{letter}{number}" for number in range(20) for letter in "kv"]
    data = login + resp("MSET", *pairs) + resp("SET", "k", value) + resp("GET", "k")
    wanted = b"+OK\r\n+OK\r\n$20000\r\n" + value + b"\r\n+OK\r\n" + ECHO[1]
    for port in (guarded[1].port, guarded[0].proxy.redis_port):
        assert answers(port, data, LAST).endswith(wanted)
        for cut in (1, len(login) - 1, len(login), len(login) + 2, len(login) + 9, len(data) - 9_000):
            assert in_two(port, data, cut, LAST, before=UNKNOWN).endswith(wanted), cut


@pytest.mark.parametrize("verb", [b"POST / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\n"])
def test_browsers_cannot_smuggle_redis_commands(verb: bytes, healthy_redis: Cluster) -> None:
    got = answers(healthy_redis.proxy.redis_port, verb + b"Host: x\r\n\r\nSET smuggled 1\r\n", ECHO)
    assert got.endswith(CLOSED)
    with RawClient(healthy_redis.proxy.redis_port) as client:
        assert client.ask(resp("EXISTS", "smuggled")) == b":0\r\n"


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


def test_reserved_keys_cannot_be_named(healthy_redis: Cluster) -> None:
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


def test_random_bytes(healthy_redis: Cluster, rng: random.Random) -> None:
    for _ in range(100):
        with RawClient(healthy_redis.proxy.redis_port) as client:
            client.send(rng.randbytes(rng.randrange(1, 5000)))
            client.reset()


LIES = {
    "no reply at all": b"hello, I am a web server\r\n\r\n",
    "a length that is none": b"$abc\r\n",
    "a huge length": b"$999999999999999\r\n",
    "an array of everything": b"*999999999999999\r\n" * 30,
    "zeros": b"\x00" * 50,
    # For no reply to one request, but replies to the next, see `test_out_of_step.py`.
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
