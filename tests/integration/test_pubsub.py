"""Publish/subscribe over shards is that of one plain server: forms, order, and once.

Sessions are compared byte for byte with a redis-server. What is meant to differ: the number that PUBLISH
answers (connections of proxies, not clients), and the order in which UNSUBSCRIBE without names goes.
"""

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
import redis.asyncio
from support.cluster import Cluster
from support.eventually import eventually
from support.pipeline import bulk, resp
from support.proxy_process import ProxyProcess
from support.pubsub import FENCE, Sharded, Start, listed, message, subscribe, subscribers
from support.raw import RawClient
from support.servers import RedisServer
from support.store import RedisStore, command, parse

# Sessions -----------------------------------------------------------------------------------------

SESSIONS = (
    ("SUBSCRIBE a b", "PING", "PING x", "PING x y", "GET a", "CLIENT ID", "HELLO 3", "FOO bar", "GET",
     "SUBSCRIBE", "UNSUBSCRIBE zz", "PSUBSCRIBE p*", "SUBSCRIBE a", "UNSUBSCRIBE a a", "UNSUBSCRIBE",
     "UNSUBSCRIBE", "PUNSUBSCRIBE q* p*", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "GET a"),
    ("UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "UNSUBSCRIBE x y", "PING"),
    ("SSUBSCRIBE x y x", "SUBSCRIBE q", "SUNSUBSCRIBE x", "SUNSUBSCRIBE", "SUNSUBSCRIBE",
     "UNSUBSCRIBE q", "ECHO e"),
    ("SET k v", "SUBSCRIBE a", "UNSUBSCRIBE", "GET k", "SUBSCRIBE b", "RESET", "GET k", "UNSUBSCRIBE"),
    ("CLIENT REPLY OFF", "SUBSCRIBE a", "PING", "SUBSCRIBE", "UNSUBSCRIBE", "CLIENT REPLY ON"),
    ("CLIENT REPLY SKIP", "SUBSCRIBE a", "PING", "UNSUBSCRIBE", "CLIENT REPLY SKIP", "SUBSCRIBE", "PING"),
    ("PUBSUB", "PUBSUB CHANNELS a b", "PUBSUB NUMSUB", "PUBSUB NUMSUB a b", "PUBSUB NUMPAT x",
     "PUBSUB NUMPAT", "PUBSUB SHARDCHANNELS", "PUBSUB SHARDCHANNELS a b", "PUBSUB SHARDNUMSUB a",
     "PUBSUB FOO", "PUBLISH a", "PUBLISH a b", "SPUBLISH a b", "SPUBLISH a", "PUBSUB CHANNELS", "SSUBSCRIBE"),
    ("PSUBSCRIBE * n?ws [ab]*", "PUNSUBSCRIBE n?ws", "PING", "SELECT 0", "QUIT"),
    ("SUBSCRIBE __keyevent@0__:set __keyspace@0__:k __keyspace@0_:k", "PSUBSCRIBE __key*",
     "UNSUBSCRIBE __keyspace@0__:k"),
)  # fmt: skip
ALONE = (("CLIENT TRACKING ON", b"-ERR unknown subcommand 'TRACKING'. Try CLIENT HELP.\r\n"),)


@pytest.fixture(scope="module", params=[1, 3])
def sharded(request: pytest.FixtureRequest) -> Iterator[Sharded]:
    with ExitStack() as stack:
        yield Sharded(
            lambda *arguments: stack.enter_context(RedisServer(*arguments)),
            lambda config: stack.enter_context(ProxyProcess(config)),
            workers=request.param,
        )


@pytest.fixture(scope="module")
def plain_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.mark.parametrize("resp3", [False, True])
def test_sessions_are_those_of_a_plain_server(
    sharded: Sharded, plain_server: RedisServer, resp3: bool
) -> None:
    for pipelined in (False, True):
        for session in SESSIONS:
            if resp3 and any(line.startswith("HELLO") for line in session):
                session = tuple(line for line in session if not line.startswith(("HELLO", "CLIENT ID")))
            ours, theirs = (
                play(port, session, resp3=resp3, pipelined=pipelined)
                for port in (sharded.proxy.redis_port, plain_server.port)
            )
            for line, got, expected in zip(session, ours, theirs, strict=True):
                assert got == expected, (line, session)
    for line, expected in ALONE:
        with RawClient(sharded.proxy.redis_port) as client:
            assert client.ask(line.encode() + b"\r\n") == expected


def play(port: int, session: tuple[str, ...], *, resp3: bool, pipelined: bool) -> list[bytes]:
    """What each line is answered; in one piece if the whole is sent at once."""
    fence = b"PING fence\r\n"
    with RawClient(port) as client:
        if resp3:
            client.ask(b"HELLO 3\r\n")
        if pipelined or any(line.startswith("CLIENT REPLY") for line in session):
            lines = b"".join(line.encode() + b"\r\n" for line in session)
            client.send(lines + fence)
            whole = client.expect_closed() if session[-1] == "QUIT" else client.read_until(FENCE)
            return [b"", *[b""] * (len(session) - 2), whole]
        answers = []
        for line in session:
            if line == "QUIT":
                client.send(b"QUIT\r\n")
                answers.append(client.expect_closed())
            else:
                client.send(line.encode() + b"\r\n" + fence)
                answers.append(client.read_until(FENCE))
        return answers


def test_unsubscribing_without_names_leaves_everything(sharded: Sharded, plain_server: RedisServer) -> None:
    """Servers go by a hash table, so the order is not compared."""

    def left(port: int) -> tuple[set[bytes], bytes, bytes]:
        with RawClient(port) as client:
            subscribe(client, "SUBSCRIBE", "a", "b", "c")
            subscribe(client, "PSUBSCRIBE", "p")
            client.send(b"UNSUBSCRIBE\r\n")
            replies = [client.read_reply() for _ in range(3)]
            counts = b"".join(re.sub(rb"\$1\r\n.", b"", reply) for reply in replies)
            return {reply[-8:-5] for reply in replies}, counts, client.ask(b"PING\r\n")

    ours, theirs = left(sharded.proxy.redis_port), left(plain_server.port)
    assert ours[1:] == theirs[1:]
    assert len(ours[0]) == 3


def test_a_resp3_client_may_do_anything_while_subscribed(sharded: Sharded) -> None:
    with RawClient(sharded.proxy.redis_port) as client, RawClient(sharded.proxy.redis_port) as other:
        client.ask(b"HELLO 3\r\n")
        subscribe(client, "SUBSCRIBE", "news")
        subscribe(client, "PSUBSCRIBE", "p")
        assert client.ask(b"SET k v\r\n") == b"+OK\r\n"
        info = client.ask(b"CLIENT INFO\r\n")
        assert b" flags=P " in info
        assert b" sub=1 psub=1 ssub=0 " in info
        assert b"sub=1" in client.ask(b"CLIENT LIST TYPE pubsub\r\n")
        # Messages stand between whole replies; its own PUBLISH reaches it too.
        for number in range(50):
            client.send(resp("PUBLISH", "news", number) + resp("GET", "k"))
            got = sorted(client.read_reply() for _ in range(3))
            expected = sorted((message(b"news", b"%d" % number, resp3=True), b":1\r\n", b"$1\r\nv\r\n"))
            assert got == expected
        # Back in RESP2 it is a subscriber like any other.
        client.ask(b"HELLO 2\r\n")
        assert client.ask(b"GET k\r\n").startswith(b"-ERR Can't execute 'get': only (P|S)SUBSCRIBE")
        other.ask(resp("PUBLISH", "news", "x"))
        client.expect(message(b"news", b"x"))
        client.ask(b"RESET\r\n")
        other.ask(resp("PUBLISH", "news", "x"))
        assert client.ask(b"PING\r\n") == b"+PONG\r\n"


# Messages -----------------------------------------------------------------------------------------


def test_messages_cross_proxies_and_shards_once(start_redis: Start, start_proxy: Start) -> None:
    sharded = Sharded(start_redis, start_proxy, workers=3, proxies=2)
    names = [name for shard in sharded.channels(2) for name in shard]
    here, there = (proxy.redis_port for proxy in sharded.proxies)
    with (
        RawClient(here) as by_name, RawClient(there) as by_pattern, RawClient(there) as by_shard,
        RawClient(here) as three, RawClient(there) as publisher,
    ):  # fmt: skip
        three.ask(b"HELLO 3\r\n")
        subscribe(by_name, "SUBSCRIBE", *names)
        subscribe(by_pattern, "PSUBSCRIBE", "ch*")
        subscribe(by_shard, "SSUBSCRIBE", *names)
        subscribe(three, "PSUBSCRIBE", "ch*")
        subscribe(three, "SUBSCRIBE", *names)
        for name in names:
            # One for each worker with a subscriber: by name two of `here`, or one if they share it.
            assert int(publisher.ask(resp("PUBLISH", name, "m"))[1:-2]) >= 3, name
            assert publisher.ask(resp("SPUBLISH", name, "s")) == b":1\r\n"
            by_name.expect(message(name, b"m"))
            by_shard.expect(message(name, b"s", word=b"smessage"))
            matched = bulk(b"pmessage") + bulk(b"ch*") + bulk(name) + bulk(b"m")
            by_pattern.expect(b"*4\r\n" + matched)
            got = [three.read_reply(), three.read_reply()]
            assert sorted(got) == [message(name, b"m", resp3=True), b">4\r\n" + matched]
        for client in (by_name, by_pattern, by_shard, three):
            client.send(b"PING fence\r\n")
            answer = b"$5\r\nfence\r\n" if client is three else b"*2\r\n$4\r\npong\r\n$5\r\nfence\r\n"
            client.expect(answer)  # nothing came twice
        # What a message tells of is there already, on whichever shard.
        by_name.send(resp("UNSUBSCRIBE"))
        for _ in names:
            by_name.read_reply()
        subscribe(by_name, "SUBSCRIBE", "written")
        with RawClient(here) as reader:
            for number in range(200):
                publisher.send(resp("SET", f"key{number}", number) + resp("PUBLISH", "written", number))
                assert publisher.read_reply() + publisher.read_reply()[:1] == b"+OK\r\n:"
                by_name.expect(message(b"written", b"%d" % number))
                assert reader.ask(resp("GET", f"key{number}")) == bulk(b"%d" % number)
        # Queries: what is subscribed on every shard is not counted once for each.
        numpat = int(publisher.ask(b"PUBSUB NUMPAT\r\n")[1:-2])
        assert numpat == 1
        count = publisher.ask(resp("PUBSUB", "NUMSUB", names[0], "nobody"))
        assert re.fullmatch(
            rb"\*4\r\n%b:[12]\r\n%b:0\r\n" % (re.escape(bulk(names[0])), re.escape(bulk(b"nobody"))), count
        )
        listing = resp("PUBSUB", "CHANNELS", "ch*")
        eventually(lambda: publisher.ask(listing).startswith(b"*%d\r\n" % len(names)))
        assert publisher.ask(b"PUBSUB SHARDCHANNELS\r\n").startswith(b"*%d\r\n" % len(names))
        assert (
            publisher.ask(resp("PUBSUB", "SHARDNUMSUB", names[0])) == b"*2\r\n" + bulk(names[0]) + b":1\r\n"
        )
        # The proxy's own names are nobody's.
        for request in (
            "SUBSCRIBE __shardproxy:x",
            "PUBLISH __shardproxy:x m",
            "SSUBSCRIBE a __shardproxy:x",
        ):
            assert publisher.ask(request.encode() + b"\r\n").startswith(
                b"-ERR keys beginning with '__shardproxy:'"
            )
    # Nothing is left behind at the servers, and no connection that nobody uses.
    for shard in sharded.shards:
        eventually(lambda server=shard[0]: listed(server) == b"*0\r\n" and subscribers(server) == 0)
    assert [proxy.metric("shardproxy_subscriptions") for proxy in sharded.proxies] == [0, 0]


def test_messages_of_a_channel_come_in_one_order(start_redis: Start, start_proxy: Start) -> None:
    sharded = Sharded(start_redis, start_proxy, workers=3, proxies=2)
    channels = [names[0] for names in sharded.channels()]
    each, publishers = 300, 4
    ports = [proxy.redis_port for proxy in sharded.proxies]
    clients = [RawClient(ports[number % 2], timeout=20) for number in range(4)]
    seen: list[list[tuple[bytes, bytes]]] = [[] for _ in clients]

    def listen(number: int) -> None:
        for _ in range(each * publishers * len(channels)):
            words = clients[number].read_reply().split(b"\r\n")
            seen[number].append((words[4], words[6]))

    def publish(number: int) -> None:
        with RawClient(ports[number % 2], timeout=20) as client:
            for count in range(each):
                client.send(b"".join(resp("PUBLISH", name, f"{number}:{count}") for name in channels))
            for _ in range(each * len(channels)):
                assert client.read_reply().startswith(b":")

    for client in clients:
        subscribe(client, "SUBSCRIBE", *channels)
    threads = [threading.Thread(target=listen, args=[number]) for number in range(len(clients))]
    threads += [threading.Thread(target=publish, args=[number]) for number in range(publishers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for channel in channels:
        orders = [[payload for name, payload in got if name == channel] for got in seen]
        assert all(order == orders[0] for order in orders), "subscribers saw different orders"
        for number in range(publishers):
            own = [payload for payload in orders[0] if payload.startswith(b"%d:" % number)]
            assert own == [b"%d:%d" % (number, count) for count in range(each)]
    for client in clients:
        client.close()


def test_many_subscribers_share_one_connection(start_redis: Start, start_proxy: Start) -> None:
    sharded = Sharded(start_redis, start_proxy, shards=1, replicas=1)
    clients = [RawClient(sharded.proxy.redis_port, timeout=20) for _ in range(2000)]
    try:
        for number, client in enumerate(clients):
            client.send((b"HELLO 3\r\n" if number % 2 else b"") + resp("SUBSCRIBE", "all", f"own{number}"))
        for number, client in enumerate(clients):
            for _ in range(2 + number % 2):
                client.read_reply()
        assert subscribers(sharded.shards[0][0]) == 1
        assert sharded.proxy.metric("shardproxy_subscriptions") == 4000
        with RawClient(sharded.proxy.redis_port) as publisher:
            assert publisher.ask(resp("PUBLISH", "all", "m")) == b":1\r\n"
            for number, client in enumerate(clients):
                client.expect(message(b"all", b"m", resp3=bool(number % 2)))
            publisher.ask(resp("PUBLISH", "own1999", "m"))
            clients[1999].expect(message(b"own1999", b"m", resp3=True))
            # Much at once, in large pieces and in many: 40 MB each.
            for count, size in ((1, 20_000), (40, 500)):
                publisher.send(count * resp("PUBLISH", "all", "x" * size))
                for number, client in enumerate(clients):
                    client.expect(count * message(b"all", b"x" * size, resp3=bool(number % 2)))
                for _ in range(count):
                    assert publisher.read_reply() == b":1\r\n"
            # The connection is lost while its server is well: all is asked for again at once.
            with RawClient(sharded.shards[0][0].port) as server:
                assert server.ask(b"CLIENT KILL TYPE pubsub\r\n") == b":1\r\n"
            eventually(lambda: publisher.ask(resp("PUBLISH", "own1998", "m")) == b":1\r\n")
            clients[1998].expect(message(b"own1998", b"m"))
            assert listed(sharded.shards[0][0]).startswith(b"*2001\r\n")
            assert sharded.proxy.metric("shardproxy_subscriptions_interrupted_total") == 1
    finally:
        for client in clients:
            client.reset()
    eventually(lambda: listed(sharded.shards[0][0]) == b"*0\r\n", within=20)


# Real clients -------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py(start_redis: Start, start_proxy: Start, protocol: int) -> None:
    sharded = Sharded(start_redis, start_proxy, workers=3, replicas=1)
    port = sharded.proxy.redis_port
    with redis.Redis(port=port, protocol=protocol) as client, client.pubsub() as listener:
        listener.subscribe("a", "b", "c")
        listener.psubscribe("p*")
        listener.ssubscribe("s")

        def next_message(kind: str) -> dict[str, Any]:
            while (found := listener.get_message(timeout=5)) is None or found["type"] != kind:
                assert found is not None, f"no {kind}"
            return found

        for kind in ["subscribe"] * 3 + ["psubscribe", "ssubscribe"]:
            next_message(kind)
        for name in ("a", "b", "c"):
            client.publish(name, "m")
            assert next_message("message")["channel"] == name.encode()
        client.publish("px", "m")
        assert next_message("pmessage")["pattern"] == b"p*"
        client.spublish("s", "m")
        assert next_message("smessage")["data"] == b"m"
        assert dict(client.pubsub_numsub("a")) == {b"a": 1}
        assert client.pubsub_numpat() == 1
        listener.unsubscribe()
        for _ in range(3):
            next_message("unsubscribe")

    async def converse() -> None:
        client = redis.asyncio.Redis(port=port, protocol=protocol)
        async with client.pubsub() as listener:
            await listener.subscribe("x")
            assert (await listener.get_message(timeout=5))["type"] == "subscribe"
            await client.publish("x", "m")
            assert (await listener.get_message(timeout=5))["data"] == b"m"
        await client.aclose()

    asyncio.run(converse())


@pytest.mark.parametrize("workers", [1, 3])
def test_messages_in_transactions_come_once_and_in_order(workers: int) -> None:
    with Cluster("redis", shards=3, replicas=2, workers=workers, reads="spread") as cluster:
        with RedisStore(cluster.proxy.ports["p"]) as listener, RedisStore(cluster.proxy.ports["p"]) as client:
            channels = [f"result-channel-{number}" for number in range(20)]
            listener.raw.send(command("SUBSCRIBE", *channels))
            for _ in channels:
                listener.raw.read_reply()
            for number, channel in enumerate(channels):
                requests = [("MULTI",), ("SETEX", f"key:{number}", 100, number), ("PUBLISH", channel, number)]
                requests += [("GET", f"key:{number}"), ("EXEC",)]
                client.raw.send(b"".join(command(*words) for words in requests))
                assert [client.raw.read_reply() for _ in range(4)][1:] == [b"+QUEUED\r\n"] * 3
                assert client.raw.read_reply() == b"*3\r\n+OK\r\n:1\r\n$%d\r\n%d\r\n" % (
                    len(str(number)),
                    number,
                )
                # Nothing but a message changes nothing, and goes to the leader alone all the same.
                client.raw.send(command("MULTI") + command("PUBLISH", channel, "alone") + command("EXEC"))
                assert [client.raw.read_reply() for _ in range(3)][2] == b"*1\r\n:1\r\n"
            for number, channel in enumerate(channels):
                for message in (b"%d" % number, b"alone"):
                    assert parse(listener.raw.read_reply()) == [b"message", channel.encode(), message]
        assert cluster.differences() == {}
        assert cluster.proxy.metric("shardproxy_write_repairs_total") == 0
