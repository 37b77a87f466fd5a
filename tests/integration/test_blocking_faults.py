"""Clients that wait in a blocking command while backends, or they themselves, go away.

A wait goes on at the new leader, nobody is told of the loss, and what was pushed and acknowledged is given to
one client once. What was taken for a client that is gone by then is put back where it was.
"""

import random
import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from support.cluster import Cluster
from support.eventually import eventually
from support.pipeline import resp
from support.proxy_process import ProxyProcess, pool
from support.raw import RawClient
from support.relay import Relay
from support.servers import RedisServer
from support.store import QUICK

TAKEN = (
    ("BLPOP k 0", "RPUSH k a b c", "LRANGE k 0 -1"),
    ("BRPOP m k 0", "RPUSH k a b c", "LRANGE k 0 -1"),
    ("BLMPOP 0 1 k LEFT COUNT 2", "RPUSH k a b c", "LRANGE k 0 -1"),
    ("BLMPOP 0 1 k RIGHT COUNT 2", "RPUSH k a b c", "LRANGE k 0 -1"),
    ("BZPOPMIN k 0", "ZADD k 1.5 a inf b", "ZRANGE k 0 -1 WITHSCORES"),
    ("BZMPOP 0 1 k MAX COUNT 2", "ZADD k 1.5 a inf b 3 c", "ZRANGE k 0 -1 WITHSCORES"),
)
"""What waits, what it waits for, what shows that all is there as before."""


def test_what_was_taken_for_a_client_that_is_gone(
    resources: ExitStack, start_redis: Callable[..., RedisServer]
) -> None:
    server = start_redis()
    relay = resources.enter_context(Relay(server.port))
    proxy = resources.enter_context(ProxyProcess({"pools": {"p": pool("redis", [relay.address])}}))
    direct = resources.enter_context(RawClient(server.port, timeout=20))
    number = 0
    # Scores look different in RESP3.
    for protocol, cases in ((2, TAKEN), (3, TAKEN[-2:])):
        for line, push, show in cases:
            number += 1
            with RawClient(proxy.redis_port) as client:
                assert client.ask(resp("HELLO", protocol))[:1] in b"*%"
                client.send(line.encode() + b"\r\n")
                eventually(lambda: proxy.metric("shardproxy_clients_blocked") == 1)
                relay.delay(0.2)
                direct.ask(push.encode() + b"\r\n")
                whole = direct.ask(show.encode() + b"\r\n")
                eventually(lambda: direct.ask(show.encode() + b"\r\n") != whole, within=20)  # noqa: B023
            eventually(lambda: proxy.metric("shardproxy_clients_blocked") == 0)
            relay.pass_through()
            eventually(lambda: proxy.metric("shardproxy_blocked_put_back_total") == number)  # noqa: B023
            assert direct.ask(show.encode() + b"\r\n") == whole, line
            direct.ask(b"DEL k\r\n")
    assert proxy.metric("shardproxy_blocked_put_back_failed_total") == 0


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_the_leader_is_killed(rng: random.Random, workers: int) -> None:
    """Workers of a queue and readers of a stream go on with the new leader, twice."""
    with Cluster("redis", replicas=3, workers=workers) as cluster, ExitStack() as stack:
        port = cluster.proxy.redis_port
        acting = stack.enter_context(RawClient(port, timeout=20))
        reader, member = (stack.enter_context(RawClient(port, timeout=60)) for _ in range(2))
        acting.ask(b"XGROUP CREATE s g $ MKSTREAM\r\n")
        got: list[bytes] = []
        doubts: list[bytes] = []
        lock = threading.Lock()

        def consume(request: bytes) -> None:
            with RawClient(port, timeout=60) as client:
                while True:
                    reply = client.ask(request)
                    with lock:
                        if reply.startswith(b"-"):
                            doubts.append(reply)
                        else:
                            got.append(reply.split(b"\r\n")[-2])
                    if reply.endswith(b"end\r\n"):
                        return

        requests = [b"BLPOP q 0\r\n", b"BRPOP x q 0\r\n", b"BLPOP q 5\r\n"]
        threads = [threading.Thread(target=consume, args=(rng.choice(requests),)) for _ in range(12)]
        for thread in threads:
            thread.start()
        eventually(lambda: cluster.proxy.metric("shardproxy_clients_blocked") == 12)
        sent: set[bytes] = set()
        unclear: set[bytes] = set()

        def push(name: bytes) -> None:
            reply = acting.ask(b"LPUSH q %b\r\n" % name)
            (unclear if reply.startswith(b"-") else sent).add(name)

        for victim in (0, 1):
            reader.send(b"XREAD BLOCK 0 STREAMS s $\r\n")
            member.send(b"XREADGROUP GROUP g c BLOCK 0 STREAMS s >\r\n")
            eventually(lambda: cluster.proxy.metric("shardproxy_clients_blocked") == 14)
            for n in range(100):
                push(b"v%d:%d" % (victim, n))
            cluster.servers[0][victim].kill9()
            for n in range(100, 300):
                push(b"v%d:%d" % (victim, n))
            cluster.wait_state(victim, "down")
            eventually(lambda: acting.ask(b"XADD s * f v\r\n")[:1] == b"$")
            for client in (reader, member):
                assert b"$1\r\nf\r\n$1\r\nv\r\n" in client.read_reply()
        while any(thread.is_alive() for thread in threads):
            acting.ask(b"RPUSH q end\r\n" if rng.random() < 0.5 else b"LPUSH q end\r\n")
            threads[0].join(0.02)
            threads.append(threads.pop(0))
        left = acting.ask(b"LRANGE q 0 -1\r\n").split(b"\r\n")
        got += [word for word in left if word.startswith(b"v")]
        taken = [word for word in got if word.startswith(b"v")]
        assert len(taken) == len(set(taken)), "something was given twice"
        assert set(taken) <= sent | unclear
        # An attempt whose outcome nobody knows may have taken one.
        assert len(sent - set(taken)) <= len(doubts), (sent - set(taken), doubts)
        assert all(b"may have been applied" in doubt or b"CLUSTERDOWN" in doubt for doubt in doubts), doubts
        assert not cluster.differences()


@pytest.mark.fault
def test_the_only_backend_restarts(start_redis: Callable[..., RedisServer], resources: ExitStack) -> None:
    """Who waits goes on waiting; a new request is told at once."""
    server = start_redis()
    config = pool("redis", [server.address], health={"interval": "250ms", "timeout": "250ms"})
    proxy = resources.enter_context(ProxyProcess({"pools": {"p": config}}))
    waiting = resources.enter_context(RawClient(proxy.redis_port, timeout=30))
    acting = resources.enter_context(RawClient(proxy.redis_port, timeout=20))
    waiting.send(b"BRPOP k 0\r\n")
    eventually(lambda: proxy.metric("shardproxy_clients_blocked") == 1)
    server.kill9()
    proxy.wait_state("p", server.address, "down")
    assert acting.ask(b"BRPOP k 0\r\n").startswith(b"-CLUSTERDOWN ")
    server.restart()
    proxy.wait_state("p", server.address, "in_sync")
    eventually(lambda: acting.ask(b"RPUSH k x\r\n")[:1] == b":")
    assert waiting.read_reply() == b"*2\r\n$1\r\nk\r\n$1\r\nx\r\n"


@pytest.mark.fault
def test_keys_that_go_to_another_shard(start_redis: Callable[..., RedisServer], resources: ExitStack) -> None:
    """``on_shard_loss: remap``: who waits for a lost shard's keys gets them from where they are now."""
    servers = [start_redis() for _ in range(2)]
    config = pool("redis", *([server.address] for server in servers), on_shard_loss="remap", **QUICK)
    proxy = resources.enter_context(ProxyProcess({"workers": 2, "pools": {"p": config}}))
    clients = [resources.enter_context(RawClient(proxy.redis_port, timeout=30)) for _ in range(20)]
    for number, client in enumerate(clients):
        client.send(resp("BRPOP", f"k{number}", 0))
    eventually(lambda: proxy.metric("shardproxy_clients_blocked") == len(clients))
    servers[1].kill9()
    eventually(lambda: proxy.metric("shardproxy_shard_remapped") == 1, within=30)
    acting = resources.enter_context(RawClient(servers[0].port, timeout=20))
    for number, client in enumerate(clients):
        acting.ask(resp("RPUSH", f"k{number}", "x"))
        client.expect(resp(f"k{number}", "x"))


@pytest.mark.fault
@pytest.mark.slow
def test_a_backend_is_brought_back() -> None:
    """A wait lasts while a replica is lost and filled again, and goes on there when the leader is lost."""
    with Cluster("redis", workers=2, resync={"auto": True}) as cluster, ExitStack() as stack:
        port = cluster.proxy.redis_port
        clients = [stack.enter_context(RawClient(port, timeout=60)) for _ in range(6)]
        for client in clients:
            client.send(b"BZPOPMIN z 0\r\n")
        eventually(lambda: cluster.proxy.metric("shardproxy_clients_blocked") == len(clients))
        acting = stack.enter_context(RawClient(port, timeout=20))
        for victim in (1, 0):
            cluster.servers[0][victim].kill9()
            cluster.wait_state(victim, "down")
            eventually(lambda: acting.ask(b"ZADD z 1 a\r\n") == b":1\r\n")
            cluster.servers[0][victim].restart()
            cluster.wait_state(victim, "in_sync", within=30)
            assert acting.ask(b"ZADD z 1 b 2 c\r\n") == b":2\r\n"
        for client in clients:
            assert client.read_reply().startswith(b"*3\r\n$1\r\nz\r\n")
        assert not cluster.differences()
