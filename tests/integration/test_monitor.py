"""What servers say of their own accord: keyspace notifications, and MONITOR where it is allowed."""

import re

from support.eventually import eventually
from support.pipeline import bulk, resp
from support.pubsub import Sharded, Start, message, subscribe
from support.raw import RawClient
from support.servers import RedisServer

NOTIFY = ("--notify-keyspace-events", "KEA")


def test_keyspace_notifications(start_redis: Start, start_proxy: Start) -> None:
    sharded = Sharded(start_redis, start_proxy, workers=2, arguments=NOTIFY)
    port = sharded.proxy.redis_port
    keys = [b"key%d" % number for number in range(30)]
    with (
        RawClient(port) as expired,
        RawClient(port) as one,
        RawClient(port) as every,
        RawClient(port) as client,
    ):
        subscribe(expired, "SUBSCRIBE", "__keyevent@0__:expired")
        subscribe(one, "SUBSCRIBE", *(b"__keyspace@0__:" + key for key in keys))
        subscribe(every, "PSUBSCRIBE", "__key*__:*")
        client.send(b"".join(resp("SET", key, "v", "PX", 200) for key in keys))
        for _ in keys:
            assert client.read_reply() == b"+OK\r\n"
        got = sorted(expired.read_reply() for _ in keys)
        assert got == sorted(message(b"__keyevent@0__:expired", key) for key in keys)
        events = [one.read_reply() for _ in range(3 * len(keys))]
        for key in keys:
            for event in (b"set", b"expire", b"expired"):
                assert message(b"__keyspace@0__:" + key, event) in events
        # The proxy's records change at these servers meanwhile; nobody is shown that.
        client.ask(resp("PUBLISH", "__keyevent@0__:end", "end"))
        seen = every.read_until(bulk(b"__keyevent@0__:end") + bulk(b"end"))
        assert b"__shardproxy" not in seen
        assert seen.count(bulk(b"expired")) == len(keys), "each of them once"


def test_monitor_shows_what_clients_do(
    start_redis: Start, start_proxy: Start, redis_server: RedisServer
) -> None:
    sharded = Sharded(start_redis, start_proxy, workers=2, admin_commands=["monitor"])
    port = sharded.proxy.redis_port
    with RawClient(port) as watcher, RawClient(port) as client, RawClient(redis_server.port) as plain:
        for each in (watcher, plain):
            assert each.ask(b"MONITOR\r\n") == b"+OK\r\n"
            for line in ("GET a", "SET a b", "PUBLISH a b", "EVAL x 1 k"):
                assert (
                    each.ask(line.encode() + b"\r\n") == b"-ERR Replica can't interact with the keyspace\r\n"
                )
            each.send(b"MONITOR\r\nPING fence\r\n")
            each.expect(b"$5\r\nfence\r\n")
        names = [b"key%d" % number for number in range(30)]
        for name in names:
            client.ask(resp("SET", name, "v"))
        lines = [watcher.read_line() for _ in names]
        for name, line in zip(names, lines, strict=True):
            assert re.fullmatch(rb'\+\d+\.\d+ \[0 \S+\] "SET" "%b" "v"\r\n' % name, line), line
        # Probes and records go on all the time; what comes next is still a client's.
        eventually(lambda: sharded.proxy.metric("shardproxy_backend_probes_total") > 30)
        client.ask(resp("SET", "last", "v"))
        assert b'"SET" "last" "v"' in watcher.read_line()
        assert watcher.ask(b"RESET\r\n") == b"+RESET\r\n"
        assert watcher.ask(b"GET last\r\n") == b"$1\r\nv\r\n"


def test_monitor_does_not_exist_unless_it_is_allowed(start_redis: Start, start_proxy: Start) -> None:
    sharded = Sharded(start_redis, start_proxy, shards=1, replicas=1)
    with RawClient(sharded.proxy.redis_port) as client:
        expected = b"-ERR unknown command 'monitor', with args beginning with: \r\n"
        assert client.ask(b"monitor\r\n") == expected
        assert client.ask(b"COMMAND INFO MONITOR\r\n") == b"*1\r\n$-1\r\n"
