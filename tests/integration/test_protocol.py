"""Both protocols as a client sees them: every type of RESP3, changes in mid-connection, silence, logins.

Replies are compared byte for byte with those of a plain redis-server, over several shards and all that one
pipeline mixes. What requests mean is tested elsewhere.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.lying import LyingServer
from support.pipeline import resp
from support.proxy_process import ProxyProcess, pool
from support.raw import RawClient, answers
from support.servers import RedisServer

ECHO = (resp("ECHO", "the end of it"), b"$13\r\nthe end of it\r\n")
KEYS = [f"k{number}" for number in range(12)]
"""On all shards."""

RETURNED = (
    "return 7", "return 'text'", "return {1, 'two', {3}}", "return redis.status_reply('FINE')",
    "return redis.error_reply('MINE own')", "return nil", "return true", "return false", "return {}",
    "return {double=3.5}", "return {double=1e300}", "return {big_number='123456789012345678901234567890'}",
    "return {map={a=1}}", "return {set={a=true}}", "return {map={}}",
    "return {{map={a={1, {double=0.5}}}}, false}",
    "return {verbatim_string={format='txt', string='a text\\r\\n'}}",
)  # fmt: skip
"""What scripts return: all types that a server has, some inside others."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("redis", shards=3, replicas=2, workers=2) as made:
        yield made


@pytest.fixture(scope="module")
def plain() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def both(cluster: Cluster, plain: RedisServer, requests: list[bytes]) -> None:
    """Sends all of it at once to each; what is answered must be equal."""
    for request in requests:
        assert request.endswith(b"\r\n")
    data = b"".join(requests)
    ours, theirs = (without_ids(answers(port, data, ECHO)) for port in (cluster.proxy.redis_port, plain.port))
    assert ours == theirs


def without_ids(reply: bytes) -> bytes:
    """Without the numbers of connections."""
    return re.sub(rb"(?<=\$2\r\nid\r\n:)\d+", b"N", reply)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("inside", [2, 3])
def test_every_type_comes_as_the_server_sends_it(
    cluster: Cluster, plain: RedisServer, protocol: int, inside: int
) -> None:
    scripts = [f"redis.setresp({inside}); {text}" for text in RETURNED]
    requests = [resp("EVAL", text, 1, key) for text in scripts for key in KEYS[:3]]
    transaction = [resp("MULTI"), *(resp("EVAL", text, 1, KEYS[0]) for text in scripts), resp("EXEC")]
    both(cluster, plain, [resp("HELLO", protocol), *requests, *transaction])


def test_the_protocol_may_change_in_the_middle_of_a_pipeline(cluster: Cluster, plain: RedisServer) -> None:
    """Each reply is of the protocol that was spoken when it was asked for, wherever it comes from."""
    reads = [
        request
        for key in KEYS
        for request in (
            resp("HGETALL", f"h{key}"),
            resp("ZRANGE", f"z{key}", 0, -1, "WITHSCORES"),
            resp("ZSCORE", f"z{key}", "m"),
            resp("SMEMBERS", f"s{key}"),
            resp("GET", "none" + key),
            resp("LPOP", "none" + key, 2),
        )
    ]
    reads += [resp("MGET", *KEYS, "none"), resp("EXISTS", *KEYS), resp("CONFIG", "GET", "appendonly")]
    reads += [resp("BLPOP", "none", "0.001"), resp("XREAD", "STREAMS", "none", "0"), resp("NOSUCH", "x")]
    writes = [
        request
        for key in KEYS
        for request in (
            resp("HSET", f"h{key}", "f", key),
            resp("ZADD", f"z{key}", "1.5", "m"),
            resp("SADD", f"s{key}", key),
            resp("SET", key, key),
        )
    ]
    transaction = [resp("MULTI"), *reads[:5], resp("EXEC")]
    turns = [resp("HELLO", 3), resp("HELLO", 2), resp("HELLO", 3), resp("RESET"), resp("HELLO", 3)]
    requests = writes + reads
    for turn in turns:
        requests += [turn, *reads, *transaction]
    both(cluster, plain, requests)


def test_silence_is_over_all_shards(cluster: Cluster, plain: RedisServer) -> None:
    """CLIENT REPLY: what is not answered is done all the same, also what is split or waits."""
    sets = [resp("SET", f"q{key}", key) for key in KEYS]
    quiet = [
        *sets,
        resp("MSET", *(word for key in KEYS for word in (f"m{key}", key))),
        resp("DEL", *KEYS[:4]),
        resp("LPUSH", f"q{KEYS[0]}", "x"),
        resp("NOSUCH"),
        resp("GET"),
        resp("BLPOP", "none", "0.001"),
        resp("DBSIZE"),
    ]
    shown = [resp("MGET", *(f"q{key}" for key in KEYS)), resp("MGET", *(f"m{key}" for key in KEYS))]
    skipped = [request for each in quiet for request in (resp("CLIENT", "REPLY", "SKIP"), each, resp("PING"))]
    both(cluster, plain, [resp("CLIENT", "REPLY", "OFF"), *quiet, resp("CLIENT", "REPLY", "ON"), *shown])
    both(cluster, plain, [*skipped, *shown, resp("FLUSHALL")])


LOGINS = (
    "GET k", "PING", "MULTI", "SUBSCRIBE a", "NOSUCH", "HELLO 3", "HELLO 3 AUTH default bad SETNAME n",
    "CLIENT GETNAME", "HELLO 3 AUTH default secret SETNAME n", "GET k", "CLIENT GETNAME", "ACL WHOAMI",
    "RESET", "GET k", "AUTH secret", "SET k v", "MULTI", "AUTH bob pw", "GET k", "EXEC", "ACL WHOAMI",
    "AUTH bob bad", "AUTH nobody pw", "ACL WHOAMI", "HELLO 2 AUTH bob pw", "ACL WHOAMI", "GET k",
    "MGET k l m", "DEL k",
)  # fmt: skip


def test_logins(tmp_path: Path, start_redis: Callable[..., RedisServer]) -> None:
    for name, password in (("default", "secret"), ("bob", "pw")):
        (tmp_path / name).write_text(password)
    users = [{"name": name, "password_file": str(tmp_path / name)} for name in ("default", "bob")]
    bob = ("--user", "bob", "on", ">pw", "~*", "&*", "+@all")
    server = start_redis("--requirepass", "secret", *bob)
    with Cluster("redis", shards=2, workers=2, auth={"users": users}) as cluster:
        for requests in ([resp(*line.split()) for line in LOGINS], [resp("AUTH", "secret"), resp("PING")]):
            both(cluster, server, [*requests, resp("AUTH", "secret")])


ATTRIBUTE = b"|1\r\n+key-popularity\r\n%1\r\n$1\r\na\r\n,0.1923\r\n"


@pytest.mark.parametrize(
    "reply",
    [
        ATTRIBUTE + b"*2\r\n:1\r\n:2\r\n",
        b"*2\r\n" + ATTRIBUTE + b":1\r\n" + ATTRIBUTE + b"_\r\n",
        b"!3\r\nE x\r\n",
    ],
    ids=["of a reply", "inside a reply", "a long error"],
)
def test_what_servers_of_today_seldom_send_is_passed_on(
    start_redis: Callable[..., RedisServer], reply: bytes
) -> None:
    """Attributes belong to the value behind them; a push between replies is no reply."""
    pushed = b">2\r\n+something\r\n+new\r\n"
    with LyingServer(start_redis().port, b"special", pushed + reply) as server:
        with ProxyProcess({"pools": {"p": pool("redis", [server.address])}}) as proxy:
            with RawClient(proxy.redis_port) as client:
                client.ask(resp("HELLO", 3))
                client.ask(resp("SET", "a", "1"))
                client.send(resp("GET", "special"))
                client.expect(reply)
                assert client.ask(resp("GET", "a")) == b"$1\r\n1\r\n"
