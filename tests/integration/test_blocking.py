"""Blocking commands answer as one server does, wherever what they wait for comes from.

The proxy never blocks a backend: it tries, waits until the leader says that a key has changed, and tries
again. So what is tested is that nothing differs for a client, that no change goes unnoticed, that nothing is
taken twice or lost, and that who waits longest is served first.
"""

import random
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest
from support.cluster import Cluster
from support.eventually import eventually
from support.pipeline import bulk, resp
from support.proxy_process import ProxyProcess, pool
from support.raw import Closed, RawClient
from support.relay import Relay
from support.servers import RedisServer
from support.store import keys_on
from support.wording import as_redis_7

LONG = {"timeouts": {"request": "20s"}}

CASES: Sequence[tuple[str, str, str]] = (
    # What waits, what it waits for, what shows the outcome.
    ("BLPOP {t}l 0", "RPUSH {t}l a b c", "LRANGE {t}l 0 -1"),
    ("BRPOP {t}m {t}l {t}n 0", "RPUSH {t}l a b c", "LRANGE {t}l 0 -1"),
    ("BRPOP queue queue\x06\x163 queue\x06\x166 0", "LPUSH queue\x06\x166 job", "LRANGE queue\x06\x166 0 -1"),
    ("BLPOP a b c d e f 0", "RPUSH e 1 2", "LRANGE e 0 -1"),
    ("BLMOVE {t}l {t}d LEFT RIGHT 0", "RPUSH {t}l a b c", "LRANGE {t}d 0 -1"),
    ("BLMOVE {t}l {t}l LEFT RIGHT 0", "RPUSH {t}l a b c", "LRANGE {t}l 0 -1"),
    ("BRPOPLPUSH {t}l {t}d 0", "RPUSH {t}l a b c", "LRANGE {t}d 0 -1"),
    ("BLMPOP 0 2 {t}m {t}l RIGHT COUNT 2", "RPUSH {t}l a b c", "LRANGE {t}l 0 -1"),
    ("BLMPOP 0 3 a b c LEFT", "RPUSH c x", "EXISTS c"),
    ("BZPOPMIN {t}z 0", "ZADD {t}z 1.5 a 3 b inf c", "ZRANGE {t}z 0 -1 WITHSCORES"),
    ("BZPOPMAX {t}y {t}z 0", "ZADD {t}z 1.5 a 3 b inf c", "ZRANGE {t}z 0 -1 WITHSCORES"),
    ("BZPOPMAX y z 0", "ZADD z 1.5 a", "EXISTS z"),
    ("BZMPOP 0 2 {t}y {t}z MIN COUNT 2", "ZADD {t}z 1.5 a 3 b inf c", "ZRANGE {t}z 0 -1"),
    ("XREAD COUNT 1 BLOCK 0 STREAMS {t}s {t}r 0 5-0", "XADD {t}s 1-1 f v", "XLEN {t}s"),
    ("XREAD BLOCK 0 STREAMS s r 0 0", "XADD r 1-1 f v", "XLEN r"),
    ("XREADGROUP GROUP g c BLOCK 0 COUNT 1 STREAMS {t}s >", "XADD {t}s 1-1 f v", "XPENDING {t}s g"),
    # Made by other commands than those that push.
    ("BLPOP {t}l 0", "EVAL return(redis.call('rpush',KEYS[1],'x','y')) 1 {t}l", "LRANGE {t}l 0 -1"),
    ("BLPOP {t}l 0", "RENAME {t}full {t}l", "LRANGE {t}l 0 -1"),
    ("BLPOP {t}l 0", "COPY {t}full {t}l", "LRANGE {t}l 0 -1"),
    ("BLPOP {t}l 0", "SORT {t}full ALPHA STORE {t}l", "LRANGE {t}l 0 -1"),
    ("BLPOP {t}l 0", "LMOVE {t}full {t}l LEFT LEFT", "LRANGE {t}full 0 -1"),
    ("BZPOPMIN {t}z 0", "ZUNIONSTORE {t}z 1 {t}scores", "ZRANGE {t}z 0 -1"),
)  # fmt: skip
TIMED = """
BLPOP k 0.02 | BRPOP k l m 0.02 | BLMOVE {t}a {t}b LEFT LEFT 0.02 | BRPOPLPUSH {t}a {t}b 0.02
BZPOPMIN z 0.02 | BLMPOP 0.02 1 k LEFT | BZMPOP 0.02 2 y z MAX | XREAD BLOCK 20 STREAMS s $
XREAD BLOCK 20 STREAMS s q 0 0 | XREADGROUP GROUP g c BLOCK 20 STREAMS {t}s >
"""
WRONG = """
BLPOP | BLPOP k | BLPOP k x | BLPOP k -1 | BRPOP k inf | BLPOP k nan | BLPOP k 1e400 | BLPOP text 0
BRPOP k text 0 | BZPOPMIN text 0 | BLMOVE {t}a {t}b X LEFT x | BLMOVE {t}a {t}b LEFT LEFT x
BLMOVE {t}text {t}b LEFT LEFT 0 | BRPOPLPUSH a a x | BLMPOP x 0 k LEFT | BLMPOP 0 x k LEFT
BLMPOP 0 2 k LEFT | BLMPOP x 1 k MIN | BLMPOP 0 1 k LEFT COUNT 0 | BLMPOP 0 1 k LEFT COUNT
BZMPOP x 1 k MIN | BZMPOP 0 0 k MIN | XREAD BLOCK x STREAMS s 0 | XREAD BLOCK -1 STREAMS s 0
XREAD BLOCK 1.5 STREAMS s 0 | XREAD COUNT x BLOCK x STREAMS s 0 | XREAD BLOCK 0 STREAMS
XREAD BLOCK 0 STREAMS a b 0 | XREAD BLOCK 0 | XREAD GROUP g c BLOCK 0 STREAMS s 0
XREAD BLOCK 0 STREAMS text 0 | XREAD BLOCK 0 STREAMS text $ | XREAD BLOCK 0 STREAMS s x
XREADGROUP BLOCK 0 COUNT 1 STREAMS s 0 | XREADGROUP GROUP nosuch c BLOCK 0 STREAMS s >
XREADGROUP GROUP g c BLOCK 0 STREAMS {t}s $ | XREAD FOO BLOCK 0 STREAMS s 0
XREAD COUNT BLOCK 0 STREAMS s 0 | CLIENT UNBLOCK 999999 | CLIENT UNBLOCK x
"""
PREPARED = """
SET text x | SET {t}text x | RPUSH {t}full c a b | ZADD {t}scores 1 a 2 b
XGROUP CREATE {t}s g $ MKSTREAM
"""


class Pair:
    """A proxy over two shards of two replicas and a plain server, each with two clients."""

    def __init__(self, resources: ExitStack, workers: int) -> None:
        self.shards = [[resources.enter_context(RedisServer()) for _ in range(2)] for _ in range(2)]
        addresses = [[server.address for server in shard] for shard in self.shards]
        config = pool("redis", *addresses, hash_tag="{}", **LONG)
        self.proxy = resources.enter_context(ProxyProcess({"workers": workers, "pools": {"p": config}}))
        self.plain = resources.enter_context(RedisServer())
        ports = (self.proxy.redis_port, self.plain.port)
        self.waiting = [resources.enter_context(RawClient(port, timeout=20)) for port in ports]
        self.acting = [resources.enter_context(RawClient(port, timeout=20)) for port in ports]
        self.direct = [resources.enter_context(RawClient(s.port)) for shard in self.shards for s in shard]

    def both(self, clients: Sequence[RawClient], line: str) -> bytes:
        """Asks both, whose answers must be equal."""
        for client in clients:
            client.send(request(line))
        return self.read(clients, line)

    def read(self, clients: Sequence[RawClient], line: str) -> bytes:
        got, expected = (client.read_reply() for client in clients)
        assert got == as_redis_7(expected), line
        return got

    def begin(self, line: str) -> None:
        """Has the waiting clients ask, and returns once both block."""
        for client in self.waiting:
            client.send(request(line))
        for client in self.acting:
            eventually(lambda c=client: blocked(c) == 1, what=line)  # type: ignore[misc]

    def reset(self) -> None:
        """Empties all, and makes the keys that cases rely on."""
        names = {word for case in CASES for line in case for word in line.split()}
        names |= {word for line in lines(TIMED + PREPARED) for word in line.split()}
        self.both(self.acting, " ".join(["DEL", *sorted(names)]))
        for line in lines(PREPARED):
            self.both(self.acting, line)

    def check_replicas(self) -> None:
        assert set(self.proxy.backend_states("p").values()) == {"in_sync"}
        for shard in (self.direct[:2], self.direct[2:]):
            equal_replicas(shard)


def lines(text: str) -> list[str]:
    """The requests of a list above."""
    return [request for line in text.splitlines() if line for request in line.split(" | ")]


def request(line: str) -> bytes:
    return resp(*line.split(" "))


def blocked(client: RawClient) -> int:
    """How many clients block, by INFO."""
    info = client.ask(b"INFO clients\r\n").partition(b"blocked_clients:")[2]
    return int(info.partition(b"\r\n")[0])


def equal_replicas(clients: Sequence[RawClient]) -> None:
    """Compares all keys but the proxy's own, by DUMP."""

    def contents(client: RawClient) -> dict[bytes, bytes]:
        listed = client.ask(b"KEYS *\r\n").split(b"\r\n")[2::2]
        keys = sorted(key for key in listed if key and not key.startswith(b"__shardproxy:"))
        return {key: client.ask(resp("DUMP", key)) for key in keys}

    first, *others = (contents(client) for client in clients)
    for other in others:
        assert other == first, "the replicas of a shard differ"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_answers_of_one_server(resources: ExitStack, workers: int) -> None:
    pair = Pair(resources, workers)
    for protocol in (2, 3):
        for clients in (pair.waiting, pair.acting):
            for client in clients:
                assert client.ask(resp("HELLO", protocol))[:1] in b"*%"
        for line, push, show in CASES:
            for is_there in (True, False):
                pair.reset()
                if is_there:
                    pair.both(pair.acting, push)
                    pair.both(pair.waiting, line)
                else:
                    pair.begin(line)
                    pair.both(pair.acting, push)
                    pair.read(pair.waiting, line)
                pair.both(pair.acting, show)
        pair.reset()
        for line in lines(TIMED + WRONG):
            pair.both(pair.waiting, line)
        deleted_streams(pair)
        wrong_types(pair)
        behind_others(pair)
        in_a_database(pair)
    pair.check_replicas()


def deleted_streams(pair: Pair) -> None:
    """A consumer whose stream or group goes is told."""
    for gone in ("DEL {t}s", "SET {t}s x", "XGROUP DESTROY {t}s g"):
        pair.reset()
        pair.begin("XREADGROUP GROUP g c BLOCK 0 STREAMS {t}s >")
        pair.both(pair.acting, gone)
        got, expected = (client.read_reply() for client in pair.waiting)
        # Since 7.2 servers say what they would if it were asked for now.
        is_newer = b" no longer exists" in got and expected.startswith((b"-NOGROUP", b"-WRONGTYPE"))
        assert got == expected or is_newer, gone
        assert got[:1] == b"-"
    # What was there before is not waited for.
    pair.reset()
    pair.both(pair.acting, "XADD s 1-1 f old")
    pair.begin("XREAD BLOCK 0 STREAMS s r $ $")
    pair.both(pair.acting, "XADD s 1-2 f new")
    reply = pair.read(pair.waiting, "XREAD $")
    assert b"new" in reply
    assert b"old" not in reply


def wrong_types(pair: Pair) -> None:
    """A key that becomes something else is not waited for; a destination of a wrong type is an error."""
    pair.reset()
    pair.begin("BLPOP {t}k {t}l 0")
    for line in ("SET {t}k x", "DEL {t}k", "ZADD {t}k 1 a", "RPUSH {t}l found"):
        pair.both(pair.acting, line)
    got, expected = (client.read_reply() for client in pair.waiting)
    assert b"found" in got
    if got != expected:
        # Since 7.2 a server tries all keys when one has changed, and finds fault with the first.
        assert expected.startswith(b"-WRONGTYPE")
        assert b"found" in pair.waiting[1].ask(request("LPOP {t}l"))
    pair.begin("BLMOVE {t}l {t}text LEFT LEFT 0")
    pair.both(pair.acting, "RPUSH {t}l a")
    assert pair.read(pair.waiting, "BLMOVE").startswith(b"-WRONGTYPE")
    assert pair.both(pair.acting, "DEL {t}k {t}l") == b":2\r\n"


def behind_others(pair: Pair) -> None:
    """What a client asks behind a blocking command is answered behind it, and sees what it did."""
    pair.reset()
    lines = [
        "RPUSH {t}l 1 2",
        "BLPOP {t}l 0",
        "LLEN {t}l",
        "BLPOP {t}l 0",
        "BLPOP {t}l 0.01",
        "PING",
        "BRPOP {t}m 0",
        "ECHO x",
    ]
    for client in pair.waiting:
        client.send(b"".join(map(request, lines)))
    for line in lines[:-2]:
        pair.read(pair.waiting, line)
    pair.both(pair.acting, "LPUSH {t}m end")
    assert b"end" in pair.read(pair.waiting, lines[-2])
    pair.read(pair.waiting, lines[-1])


def in_a_database(pair: Pair) -> None:
    """The same key of another database is not what is waited for."""
    pair.reset()
    pair.both(pair.waiting, "SELECT 3")
    pair.begin("BLPOP {t}l 0")
    pair.both(pair.acting, "RPUSH {t}l other")
    pair.both(pair.acting, "SELECT 3")
    pair.both(pair.acting, "RPUSH {t}l this")
    assert b"this" in pair.read(pair.waiting, "BLPOP")
    for clients in (pair.waiting, pair.acting):
        pair.both(clients, "SELECT 0")
    assert b"other" in pair.both(pair.acting, "LPOP {t}l")


def test_every_key_is_tried_before_time_counts() -> None:
    """A shard that is slow to answer does not hide what there is on another."""
    patient = {**LONG, "health": {"interval": "10s", "timeout": "5s", "fall": 10}}
    with Cluster("redis", shards=2, replicas=1, **patient) as cluster, ExitStack() as stack:
        slow, quick = (row[0] for row in cluster.servers)
        (first,), (second, missing) = (
            keys[:count]
            for keys, count in zip(keys_on(cluster.proxy, "p", 2, (slow, quick)), (1, 2), strict=True)
        )
        one, two = (stack.enter_context(RawClient(cluster.proxy.redis_port, timeout=20)) for _ in range(2))
        for request in (resp("DEL", first), resp("DEL", second), resp("DEL", missing)):
            assert one.ask(request) == b":1\r\n"
        assert one.ask(resp("RPUSH", second, "x")) == b":1\r\n"
        slow.stop()
        one.send(resp("BLPOP", first, second, "0.01"))
        assert two.ask(resp("BLPOP", missing, "0.05")) == b"*-1\r\n"  # so that the time of the other is over
        slow.cont()
        assert one.read_reply() == b"*2\r\n" + bulk(second) + bulk(b"x")


def test_who_waits_longest_is_first(resources: ExitStack, start_redis: Callable[..., RedisServer]) -> None:
    shards = [[start_redis().address] for _ in range(2)]
    proxy = resources.enter_context(ProxyProcess({"pools": {"p": pool("redis", *shards, **LONG)}}))
    acting = resources.enter_context(RawClient(proxy.redis_port))
    kinds = ("BLPOP l 0", "BRPOP l 0", "BLPOP m l n 0", "BLMPOP 0 2 o l LEFT")
    clients = []
    for number in range(24):
        clients.append(resources.enter_context(RawClient(proxy.redis_port)))
        clients[-1].send(request(kinds[number % 4]))
        eventually(lambda wanted=number + 1: blocked(acting) == wanted)  # type: ignore[misc]
    # One by one, then all the rest at once; from the left and from the right it is the same one then.
    for number, client in enumerate(clients[:8]):
        acting.ask(resp("RPUSH", "l", number))
        assert bulk(b"%d" % number) in client.read_reply()
    assert blocked(acting) == 16
    acting.ask(resp("RPUSH", "l", *(["x"] * 15)))
    for client in clients[8:23]:
        assert bulk(b"x") in client.read_reply()
    assert blocked(acting) == 1
    assert clients[23].unread == b""
    # Its first key is served before the others that have something at the same moment.
    assert acting.ask(b"RPUSH o last\r\n") == b":1\r\n"
    assert bulk(b"last") in clients[23].read_reply()


@pytest.mark.slow
def test_many_wait_on_one_connection(resources: ExitStack, start_redis: Callable[..., RedisServer]) -> None:
    """Two thousand clients, three workers, two replicas: each gets one; the servers see few connections."""
    servers = [start_redis(), start_redis()]
    config = {"workers": 3, "pools": {"p": pool("redis", [s.address for s in servers], **LONG)}}
    proxy = resources.enter_context(ProxyProcess(config))
    direct = [resources.enter_context(RawClient(server.port, timeout=30)) for server in servers]
    acting = resources.enter_context(RawClient(proxy.redis_port, timeout=60))
    clients = [resources.enter_context(RawClient(proxy.redis_port, timeout=60)) for _ in range(2_000)]
    for number, client in enumerate(clients):
        client.send(resp("BLPOP", "all", f"k{number % 50}", 0))
    eventually(lambda: blocked(acting) == 2_000, within=30)
    # A lane of requests and one that listens for each worker, and the control plane's.
    assert direct[0].ask(b"CLIENT LIST\r\n").count(b"id=") < 20
    for number in range(50):
        acting.ask(resp("RPUSH", f"k{number}", *(f"{number}:{n}" for n in range(20))))
    acting.ask(resp("RPUSH", "all", *range(1_000)))
    values = [client.read_reply().split(b"\r\n")[4] for client in clients]
    wanted = {b"%d:%d" % (number, n) for number in range(50) for n in range(20)} | {
        b"%d" % n for n in range(1_000)
    }
    assert set(values) == wanted
    assert len(values) == len(wanted)
    assert acting.ask(b"EXISTS all k0 k49\r\n") == b":0\r\n"
    equal_replicas(direct)


def test_who_waits_and_what_comes_meet_at_once(
    resources: ExitStack, start_redis: Callable[..., RedisServer]
) -> None:
    """As many elements as clients that want one, sent at the same time: each gets one, however they cross."""
    queues, each = 16, 3
    servers = [start_redis(), start_redis()]
    config = {"workers": 3, "pools": {"p": pool("redis", [s.address for s in servers], **LONG)}}
    proxy = resources.enter_context(ProxyProcess(config))
    waiting = [resources.enter_context(RawClient(proxy.redis_port, timeout=20)) for _ in range(queues * each)]
    acting = [resources.enter_context(RawClient(proxy.redis_port, timeout=20)) for _ in range(queues)]
    for _ in range(60):
        for number, client in enumerate(waiting):
            client.send(b"BLPOP q%d 0\r\n" % (number % queues))
        for _ in range(each):
            for number, client in enumerate(acting):
                client.send(b"RPUSH q%d x\r\n" % number)
        for client in waiting:
            assert bulk(b"x") in client.read_reply()
        for client in acting:
            for _ in range(each):
                client.read_reply()


def test_whatever_changes_a_key(resources: ExitStack, start_redis: Callable[..., RedisServer]) -> None:
    """Through another proxy, at the backend itself, after the listening connection was cut or went silent."""
    server = start_redis()
    relay = resources.enter_context(Relay(server.port))
    config = pool("redis", [relay.address], timeouts={"request": "300ms", "client_idle": "1s"})
    proxy = resources.enter_context(ProxyProcess({"workers": 2, "pools": {"p": config}}))
    other = resources.enter_context(ProxyProcess({"pools": {"p": pool("redis", [server.address])}}))
    direct = resources.enter_context(RawClient(server.port, timeout=20))
    through = resources.enter_context(RawClient(other.redis_port, timeout=20))
    client = resources.enter_context(RawClient(proxy.redis_port, timeout=20))

    def wait() -> None:
        client.send(b"BLPOP k 0\r\n")
        eventually(lambda: proxy.metric("shardproxy_clients_blocked") == 1)

    def listening() -> bytes:
        """The id of the connection that tracks keys."""
        lines = direct.ask(b"CLIENT LIST\r\n").splitlines()
        return next(line for line in lines if b" flags=t " in line).split(b" ")[0].removeprefix(b"id=")

    for push in (through, direct):
        wait()
        push.ask(b"RPUSH k x\r\n")
        client.expect(b"*2\r\n$1\r\nk\r\n$1\r\nx\r\n")
    wait()
    assert direct.ask(b"FLUSHALL\r\n") == b"+OK\r\n"
    direct.ask(b"RPUSH k x\r\n")
    client.expect(b"*2\r\n$1\r\nk\r\n$1\r\nx\r\n")
    for _ in range(3):
        wait()
        # Cut, and changed before it can be there again.
        direct.send(b"CLIENT KILL ID %b\r\nRPUSH k x\r\n" % eventually(listening))
        direct.expect(b":1\r\n:1\r\n")
        client.expect(b"*2\r\n$1\r\nk\r\n$1\r\nx\r\n")
    wait()
    eventually(listening)
    relay.black_hole()
    direct.ask(b"RPUSH k x\r\n")
    eventually(lambda: proxy.metric("shardproxy_backend_timeouts_total") > 0, within=20)
    relay.pass_through()
    client.expect(b"*2\r\n$1\r\nk\r\n$1\r\nx\r\n")
    # Nobody waits: nothing listens.
    eventually(lambda: b" flags=t " not in direct.ask(b"CLIENT LIST\r\n"), within=20)


def test_without_tracking(resources: ExitStack, start_redis: Callable[..., RedisServer]) -> None:
    """Where a backend refuses CLIENT TRACKING, keys are tried once a second. Who waits is not idle."""
    server = start_redis("--user", "default", "on", "nopass", "~*", "&*", "+@all", "-client|tracking")
    config = pool("redis", [server.address], timeouts={"client_idle": "1s"})
    proxy = resources.enter_context(ProxyProcess({"pools": {"p": config}}))
    acting = resources.enter_context(RawClient(server.port))
    with RawClient(proxy.redis_port, timeout=20) as client:
        assert client.ask(b"BLPOP k 2.5\r\n") == b"*-1\r\n"
        client.send(b"BLPOP k 0\r\n")
        eventually(lambda: proxy.metric("shardproxy_clients_blocked") == 1)
        acting.ask(b"RPUSH k x\r\n")
        client.expect(b"*2\r\n$1\r\nk\r\n$1\r\nx\r\n")


def test_what_another_consumer_keeps_is_claimed_in_time(
    resources: ExitStack, start_redis: Callable[..., RedisServer]
) -> None:
    """An entry that becomes old enough for CLAIM is no change of the key, and is given all the same."""
    servers = [start_redis() for _ in range(2)]
    proxy = resources.enter_context(
        ProxyProcess({"pools": {"p": pool("redis", [server.address for server in servers], **LONG)}})
    )
    direct = [resources.enter_context(RawClient(server.port)) for server in servers]
    if b"\r\ndelex\r\n" not in direct[0].ask(b"COMMAND LIST\r\n"):
        pytest.skip("no XREADGROUP with CLAIM")
    with (
        RawClient(proxy.redis_port, timeout=20) as keeping,
        RawClient(proxy.redis_port, timeout=20) as client,
    ):
        keeping.ask(request("XGROUP CREATE s g $ MKSTREAM"))
        keeping.ask(request("XADD s 1-1 f v"))
        assert b"1-1" in keeping.ask(request("XREADGROUP GROUP g a STREAMS s >"))
        # Who does not claim waits on.
        keeping.send(request("XREADGROUP GROUP g a BLOCK 4000 STREAMS s >"))
        client.send(request("XREADGROUP GROUP g b BLOCK 20000 CLAIM 500 STREAMS s >"))
        assert b"1-1" in client.read_reply()
        assert keeping.read_reply() == b"*-1\r\n"
    eventually(lambda: b"$1\r\nb\r\n" in direct[1].ask(request("XPENDING s g")))
    equal_replicas(direct)


def reads(client: RawClient) -> Iterator[bytes]:
    """Replies until the other side closes."""
    try:
        while True:
            yield client.read_reply()
    except Closed:
        return


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_nothing_is_lost_with_a_client(
    resources: ExitStack, start_redis: Callable[..., RedisServer], rng: random.Random, workers: int
) -> None:
    """Consumers that leave at any moment: each element is with one of them, or still there."""
    servers = [start_redis(), start_redis()]
    config = pool("redis", [server.address for server in servers], **LONG)
    proxy = resources.enter_context(ProxyProcess({"workers": workers, "pools": {"p": config}}))
    direct = [resources.enter_context(RawClient(server.port, timeout=20)) for server in servers]
    acting = resources.enter_context(RawClient(proxy.redis_port, timeout=20))
    total, got, lock = 1_500, [], threading.Lock()
    produced = threading.Event()

    def consume(seed: int) -> None:
        own = random.Random(seed)
        while not produced.is_set():
            with RawClient(proxy.redis_port, timeout=20) as client:
                line = own.choice([b"BLPOP q 0\r\n", b"BRPOP none q 0\r\n", b"BLMPOP 0 1 q LEFT COUNT 3\r\n"])
                taken = [client.ask(line) for _ in range(own.randrange(3))] if own.random() < 0.5 else []
                client.send(line)
                client.socket.shutdown(
                    socket.SHUT_WR
                )  # it leaves, and reads what was sent before that was seen
                taken += reads(client)
            with lock:
                got.extend(word for reply in taken for word in reply.split(b"\r\n") if word.startswith(b"e:"))

    threads = [threading.Thread(target=consume, args=(rng.random(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    sent = 0
    while sent < total:
        count = min(rng.randrange(1, 6), total - sent)
        acting.ask(resp("RPUSH", "q", *(f"e:{sent + n}" for n in range(count))))
        sent += count
    produced.set()
    while any(thread.is_alive() for thread in threads):
        acting.ask(b"RPUSH q end end end\r\n")  # for those that still ask for one
        threads[0].join(0.05)
        threads.append(threads.pop(0))
    eventually(lambda: proxy.metric("shardproxy_clients_blocked") == 0)
    left = acting.ask(b"LRANGE q 0 -1\r\n").split(b"\r\n")
    got += [word for word in left if word.startswith(b"e:")]
    assert sorted(got) == sorted(b"e:%d" % n for n in range(total))
    assert proxy.metric("shardproxy_blocked_put_back_failed_total") == 0
    equal_replicas(direct)


def test_a_stop_lets_all_go(resources: ExitStack, start_redis: Callable[..., RedisServer]) -> None:
    proxy = resources.enter_context(
        ProxyProcess({"workers": 2, "pools": {"p": pool("redis", [start_redis().address])}})
    )
    clients = [resources.enter_context(RawClient(proxy.redis_port, timeout=20)) for _ in range(5)]
    for client in clients:
        client.send(b"PING\r\nBLPOP k 0\r\nPING\r\n")
        client.expect(b"+PONG\r\n")
    eventually(lambda: proxy.metric("shardproxy_clients_blocked") == 5)
    proxy.terminate()
    for client in clients:
        assert client.expect_closed() == b""
