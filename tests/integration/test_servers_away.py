"""Servers that answer nobody for a while: busy with a script, or loading. Another one in sync is asked for a
read; who asks for a write is told what the server says (promise P6)."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import pytest
from support.cluster import Cluster
from support.eventually import eventually
from support.proxy_process import ProxyProcess, pool
from support.servers import RedisServer, Server
from support.store import RedisStore, command

pytestmark = pytest.mark.fault

PATIENT = {
    "timeouts": {"connect": "2s", "request": "10s"},
    "health": {"interval": "20s", "timeout": "5s", "fall": 10},
}
ARGUMENTS = ("--busy-reply-threshold", "20", "--enable-debug-command", "yes", "--rdbcompression", "no")
BUSY = b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n"
LOADING = b"-LOADING Redis is loading the dataset in memory\r\n"
KEYS = [b"k%d" % number for number in range(20)]
"""On all shards."""
REQUESTS = (("SET", "n", 2), ("INCRBYFLOAT", "n", 1), ("GET", "n"), ("MGET", "n", "m"), ("DBSIZE",))


@contextmanager
def busy(server: Server) -> Iterator[None]:
    """The server runs a script meanwhile, in which it answers nothing but BUSY."""
    with RedisStore(server.port) as runner, RedisStore(server.port) as other:
        runner.raw.send(command("EVAL", "while true do end", 0))
        eventually(lambda: other.raw.ask(command("PING")) == BUSY, what="it is busy")
        yield
        assert other.ask("SCRIPT", "KILL") == b"OK"
        assert b"killed by user" in runner.raw.read_reply()


@contextmanager
def loading(server: Server) -> Iterator[None]:
    """The server reads its dump file meanwhile, slowly."""
    with RedisStore(server.port) as runner, RedisStore(server.port) as other:
        # In microseconds; after each kibibyte of it the server looks at its connections.
        other.ask("CONFIG", "SET", "key-load-delay", "1500", "loading-process-events-interval-bytes", "1024")
        runner.raw.send(command("DEBUG", "RELOAD"))
        eventually(lambda: other.raw.ask(command("PING")) == LOADING, what="it loads")
        yield
        assert other.raw.ask(command("PING")) == LOADING, "it was ready too early"
        assert runner.raw.read_reply() == b"+OK\r\n"


def store(cluster: Cluster) -> RedisStore:
    connected = cluster.connect()
    assert isinstance(connected, RedisStore)
    return connected


def read_all(client: RedisStore) -> None:
    """Reads of each way they are sent."""
    for key in KEYS:
        assert client.get(key) == b"v" + key
    assert client.ask("MGET", *KEYS) == [b"v" + key for key in KEYS]
    assert client.ask("EXISTS", *KEYS) == len(KEYS)
    assert client.ask("EVAL_RO", "return redis.call('GET', KEYS[1])", 1, KEYS[0]) == b"v" + KEYS[0]
    batch = [command("MULTI"), *(command("GET", key) for key in KEYS), command("EXEC")]
    client.raw.send(b"".join(batch))
    replies = [client.raw.read_reply() for _ in batch]
    assert replies[-1].count(b"\r\nvk") == len(KEYS)
    client.raw.send(b"".join(command("GET", key) for key in KEYS))
    assert [client.read_get() for _ in KEYS] == [b"v" + key for key in KEYS]
    assert client.ask("DBSIZE") == len(KEYS)
    assert client.ask("RANDOMKEY") in KEYS
    cursor, found = b"0", set()
    while not found or cursor != b"0":
        cursor, page = client.ask("SCAN", cursor)
        found.update(page)
    assert found == set(KEYS)


def fill(cluster: Cluster) -> None:
    """What takes each server two seconds to load, in a database of its own."""
    with store(cluster) as client:
        client.ask("SELECT", 1)
        client.raw.send(b"".join(command("SET", number, b"x" * 1100) for number in range(3000)))
        assert all(client.raw.read_reply() == b"+OK\r\n" for _ in range(3000))


@pytest.mark.parametrize(
    ("away", "reads", "workers"),
    [(busy, "primary", 2), (busy, "spread", 1), (loading, "primary", 1), (loading, "spread", 2)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_reads_are_asked_of_another(
    away: Callable[[Server], AbstractContextManager[None]], reads: str, workers: int
) -> None:
    shape: dict[str, Any] = {"shards": 2, "replicas": 2, "workers": workers, "arguments": ARGUMENTS}
    with Cluster("redis", reads=reads, **shape, **PATIENT) as cluster, store(cluster) as client:
        for key in KEYS:
            client.set(key, b"v" + key)
        if away is loading:
            fill(cluster)
        read_all(client)
        for replica in (0, 1):
            with away(cluster.servers[0][replica]):
                read_all(client)
        assert cluster.proxy.metric("shardproxy_backend_reads_retried_total") > 0
        assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}


def test_writes_are_told_what_the_server_says() -> None:
    with Cluster("redis", arguments=ARGUMENTS, **PATIENT) as cluster, store(cluster) as client:
        client.set(b"n", b"1")
        leader, follower = cluster.servers[0]
        with busy(leader):
            # Only the leader knows what comes of it, so nobody has applied it.
            increment = ("EVAL", "return redis.call('INCR', KEYS[1])", 1, "n")
            assert client.raw.ask(command(*increment)) == BUSY
            assert client.get(b"n") == b"1"
            with busy(follower):
                for words in (*REQUESTS, increment):
                    assert client.raw.ask(command(*words)) == BUSY, words
                # An error of a server ends neither the connection nor what is behind it.
                client.raw.send(command("GET", "n") + command("PING"))
                assert client.raw.read_reply() == BUSY
                assert client.raw.read_reply() == b"+PONG\r\n"
        assert client.get(b"n") == b"1"
        assert cluster.members() == [0, 1]
        with busy(leader):
            # The follower has applied it: the leader leaves the view, and the write is acknowledged.
            client.set(b"n", b"3")
            assert client.get(b"n") == b"3"
            assert cluster.members() == [1]


def test_a_server_alone_passes_its_errors_on() -> None:
    with Cluster("redis", replicas=1, arguments=ARGUMENTS, **PATIENT) as cluster, store(cluster) as client:
        client.set(b"n", b"1")
        with busy(cluster.servers[0][0]):
            for words in (*REQUESTS, ("EVAL", "return 1", 0)):
                assert client.raw.ask(command(*words)) == BUSY, words
        assert client.get(b"n") == b"1"


def full(server: Server) -> None:
    """It is out of memory."""
    with RedisStore(server.port) as direct:
        direct.ask("CONFIG", "SET", "maxmemory", "1")


def unsaved(server: Server) -> None:
    """A snapshot cannot be put in its place, as on a full disk."""
    (server.directory / "obstacle.rdb").mkdir()
    (server.directory / "obstacle.rdb" / "x").touch()
    with RedisStore(server.port) as direct:
        direct.ask("CONFIG", "SET", "dbfilename", "obstacle.rdb", "save", "3600 1000000")
        direct.ask("BGSAVE")
        eventually(lambda: b"rdb_last_bgsave_status:err" in direct.ask("INFO", "persistence"))


def following(server: Server) -> None:
    """Somebody else has made it a replica; whom it follows cannot be reached."""
    with RedisStore(server.port) as direct:
        direct.ask("REPLICAOF", "127.0.0.1", "1")


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize(
    ("refuse", "code"), [(full, b"-OOM "), (unsaved, b"-MISCONF "), (following, b"-READONLY ")]
)
def test_what_all_servers_refuse_is_told_in_their_words(
    refuse: Callable[[Server], None], code: bytes, replicas: int
) -> None:
    arguments = ("--enable-protected-configs", "yes")
    with (
        Cluster("redis", replicas=replicas, arguments=arguments, **PATIENT) as cluster,
        store(cluster) as client,
    ):
        client.set(b"n", b"1")
        for server in cluster.servers[0]:
            refuse(server)
        for words in (
            ("SET", "n", 2),
            ("MSET", "n", 2, "m", 2),
            ("INCRBYFLOAT", "n", 1),
            ("SETRANGE", "n", 5, "x"),
            ("EVAL", "return redis.call('INCRBY', KEYS[1], 5)", 1, "n"),
        ):
            assert client.raw.ask(command(*words)).startswith(code), words
        # The other server refuses the state of a script's keys, and has it already. A leader without memory
        # takes no transaction, which is what brings their state.
        if refuse is not full or replicas == 1:
            read = "return {redis.call('GET', KEYS[1]), KEYS[2]}"
            assert client.ask("EVAL", read, 2, "n", "m") == [b"1", b"m"]
        assert client.ask("MGET", "n", "m") == [b"1", None]
        assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}


def test_who_alone_refuses_what_a_script_has_done_leaves() -> None:
    with Cluster("redis", **PATIENT) as cluster, store(cluster) as client:
        client.set(b"n", b"1")
        full(cluster.servers[0][1])
        read = ("EVAL", "return redis.call('GET', KEYS[1])", 1, "n")
        assert client.ask(*read) == b"1"
        assert cluster.members() == [0, 1], "nothing was done that it lacks"
        assert client.ask("EVAL", "return redis.call('INCR', KEYS[1])", 1, "n") == 2
        assert cluster.members() == [0]


@pytest.mark.parametrize("replicas", [1, 2])
def test_servers_that_want_a_login_the_proxy_does_not_have(replicas: int) -> None:
    """What the one server says is passed on. Of several none shows that it is in sync."""
    with ExitStack() as stack:
        servers = [stack.enter_context(RedisServer("--requirepass", "secret")) for _ in range(replicas)]
        config = pool("redis", [server.address for server in servers])
        proxy = stack.enter_context(ProxyProcess({"pools": {"p": config}}))
        client = stack.enter_context(RedisStore(proxy.ports["p"]))
        expected = b"-NOAUTH Authentication required.\r\n" if replicas == 1 else b"-CLUSTERDOWN "
        for words in (("GET", "k"), ("SET", "k", "v"), ("MGET", "k", "l")):
            assert client.raw.ask(command(*words)).startswith(expected), words
        assert client.ask("PING") == b"PONG"
