"""Subscriptions outlive leaders, and who cannot be served is told: a lost shard, a slow reader, a refusal."""

from pathlib import Path

import pytest
from support.eventually import eventually
from support.pipeline import bulk, resp
from support.pubsub import Sharded, Start, channels_of, listed, message, subscribe, subscribers
from support.raw import RawClient


def test_a_subscriber_that_does_not_read_is_cut_off_alone(start_redis: Start, start_proxy: Start) -> None:
    limits = {"request_bytes": "64KiB", "client_output_bytes": "512KiB"}
    sharded = Sharded(start_redis, start_proxy, shards=1, replicas=1, limits=limits)
    port = sharded.proxy.redis_port
    payload = b"x" * 16_000
    with (
        RawClient(port, receive_buffer=4096) as slow, RawClient(port) as good, RawClient(port) as publisher,
    ):  # fmt: skip
        subscribe(slow, "SUBSCRIBE", "c")
        subscribe(good, "SUBSCRIBE", "c")
        sent = 0
        while sharded.proxy.metric("shardproxy_subscribers_cut_off_total") == 0:
            for _ in range(50):
                assert publisher.ask(resp("PUBLISH", "c", payload)) == b":1\r\n"
                good.expect(message(b"c", payload))
            sent += 50
            assert sent < 5_000, "it was never cut off"
        assert slow.expect_closed().startswith(message(b"c", payload))
        assert publisher.ask(resp("PUBLISH", "c", "last")) == b":1\r\n"
        good.expect(message(b"c", b"last"))
        # Names of subscriptions are memory as well.
        answers = {publisher.ask(resp("PSUBSCRIBE", f"{number}" + "n" * 30_000))[:30] for number in range(40)}
        assert b"-ERR too many subscriptions of" in answers


def test_idle_subscribers_stay(start_redis: Start, start_proxy: Start) -> None:
    timeouts = {"request": "5s", "client_idle": "1s"}
    sharded = Sharded(start_redis, start_proxy, shards=1, replicas=1, timeouts=timeouts)
    port = sharded.proxy.redis_port
    with RawClient(port, timeout=20) as subscriber:
        subscribe(subscriber, "SUBSCRIBE", "c")
        with RawClient(port, timeout=20) as idle:
            assert idle.ask(b"PING\r\n") == b"+PONG\r\n"
            idle.expect_closed()
        with RawClient(port) as publisher:
            assert publisher.ask(resp("PUBLISH", "c", "m")) == b":1\r\n"
        subscriber.expect(message(b"c", b"m"))


def drain(client: RawClient, payload: bytes) -> bool:
    """Reads messages up to the one with that payload."""
    client.read_until(bulk(payload))
    return True


@pytest.mark.fault
def test_subscriptions_are_made_again_where_another_leads(start_redis: Start, start_proxy: Start) -> None:
    health = {"interval": "200ms", "timeout": "100ms"}
    sharded = Sharded(start_redis, start_proxy, workers=3, proxies=2, health=health)
    channel = sharded.channels()[0][0]
    here, there = (proxy.redis_port for proxy in sharded.proxies)
    old, new = sharded.shards[0]
    with RawClient(here, timeout=20) as by_name, RawClient(here, timeout=20) as by_pattern:
        subscribe(by_name, "SUBSCRIBE", channel)
        subscribe(by_pattern, "PSUBSCRIBE", "*")
        old.kill9()
        # Each of the two may be on a worker of its own, which follows by itself.
        with RawClient(there, timeout=20) as publisher, RawClient(new.port) as server:
            eventually(lambda: channel in listed(new), within=20)
            eventually(lambda: server.ask(b"PUBSUB NUMPAT\r\n") == b":1\r\n", within=20)
            eventually(lambda: publisher.ask(resp("PUBLISH", channel, "probe")).startswith(b":"), within=20)
            answer = publisher.ask(resp("PUBLISH", channel, "after"))
            assert answer[:1] == b":"
            assert answer != b":0\r\n"
        drain(by_name, b"after")
        drain(by_pattern, b"after")
        assert sharded.proxy.metric("shardproxy_subscriptions_interrupted_total") >= 1
        # It comes back and leads no longer, or again: either way they follow.
        old.start()
        sharded.proxy.wait_state("p", old.address, "in_sync", within=30)
        with RawClient(there, timeout=20) as publisher:

            def arrives() -> bool:
                publisher.ask(resp("PUBLISH", channel, "back"))
                by_name.socket.settimeout(0.5)
                return drain(by_name, b"back")

            eventually(arrives, within=20)


@pytest.mark.fault
def test_a_lost_shard_is_told_of_and_the_others_serve(start_redis: Start, start_proxy: Start) -> None:
    health = {"interval": "200ms", "timeout": "100ms"}
    timeouts = {"request": "500ms"}
    sharded = Sharded(start_redis, start_proxy, replicas=1, health=health, timeouts=timeouts)
    lost, good = (names[0] for names in sharded.channels()[:2])
    server = sharded.shards[0][0]
    port = sharded.proxy.redis_port
    with (
        RawClient(port, timeout=20) as before,
        RawClient(port, timeout=20) as after,
        RawClient(port) as publisher,
    ):
        subscribe(before, "SUBSCRIBE", lost, good)
        server.kill9()
        sharded.proxy.wait_state("p", server.address, "down")
        for request in (resp("SUBSCRIBE", good, lost), resp("SSUBSCRIBE", lost), resp("PUBLISH", lost, "m")):
            assert after.ask(request).startswith(b"-CLUSTERDOWN"), request
        # Nothing of the one that failed is left.
        assert (
            after.ask(resp("UNSUBSCRIBE", good)) == b"*3\r\n" + bulk(b"unsubscribe") + bulk(good) + b":0\r\n"
        )
        subscribe(after, "PSUBSCRIBE", "ch*")
        publisher.ask(resp("PUBLISH", good, "m"))
        before.expect(message(good, b"m"))
        after.expect(b"*4\r\n" + bulk(b"pmessage") + bulk(b"ch*") + bulk(good) + bulk(b"m"))
        server.start()
        eventually(lambda: lost in listed(server), within=20)
        eventually(lambda: publisher.ask(resp("PUBLISH", lost, "again")).startswith(b":"), within=20)
        drain(before, b"again")
        drain(after, b"again")


@pytest.mark.fault
def test_channels_of_a_lost_shard_of_a_cache_go_elsewhere(start_redis: Start, start_proxy: Start) -> None:
    health = {"interval": "200ms", "timeout": "100ms"}
    sharded = Sharded(start_redis, start_proxy, replicas=1, health=health, on_shard_loss="remap")
    names = [name for shard in sharded.channels(3) for name in shard]
    lost = sharded.shards[0][0]
    with RawClient(sharded.proxy.redis_port, timeout=20) as subscriber:
        subscribe(subscriber, "SUBSCRIBE", *names)
        lost.kill9()

        def all_arrive(payload: bytes) -> bool:
            with RawClient(sharded.proxy.redis_port, timeout=20) as publisher:
                for name in names:
                    assert publisher.ask(resp("PUBLISH", name, payload)).startswith(b":1"), name
            return True

        eventually(lambda: all_arrive(b"elsewhere"), within=20)
        for name in names:
            subscriber.read_until(message(name, b"elsewhere"))
        assert subscribers(sharded.shards[1][0]) == subscribers(sharded.shards[2][0]) == 1
        lost.start()
        eventually(lambda: all(name in listed(lost) for name in names[:3]), within=30)
        eventually(lambda: all_arrive(b"back"), within=20)
        for name in names:
            subscriber.read_until(message(name, b"back"))
        # Where they were in between, nobody listens for them any more.
        eventually(
            lambda: all(name not in listed(server) for name in names[:3] for (server,) in sharded.shards[1:])
        )


def test_what_a_server_refuses_is_told(start_redis: Start, start_proxy: Start, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("pw")
    user = ("--user", "default", "on", ">pw", "~*", "+@all", "resetchannels", "&ok*")
    options = {"backend_auth": {"password_file": str(secret)}, "timeouts": {"request": "300ms"}}
    sharded = Sharded(start_redis, start_proxy, shards=2, replicas=1, arguments=user, **options)
    port = sharded.proxy.redis_port
    with RawClient(port) as subscriber, RawClient(port) as client:
        subscribe(subscriber, "SUBSCRIBE", "ok1", "ok2")
        for line in ("SUBSCRIBE no ok1", "PSUBSCRIBE *", "SSUBSCRIBE no", "PUBLISH no m"):
            assert client.ask(line.encode() + b"\r\n").startswith(b"-NOPERM"), line
        assert client.ask(b"PUBLISH ok1 m\r\n") == b":1\r\n"
        subscriber.expect(message(b"ok1", b"m"))
        subscribe(client, "SUBSCRIBE", "ok1")
        assert client.ask(b"UNSUBSCRIBE ok1\r\n").endswith(b":0\r\n")
        # Servers that do not answer: an end to the wait, and what they confirm too late is nobody's.
        for (server,) in sharded.shards:
            server.stop()
        assert client.ask(b"SUBSCRIBE ok3 ok4 ok5 ok6\r\n").startswith(b"-CLUSTERDOWN")
        for (server,) in sharded.shards:
            server.cont()
        eventually(lambda: client.ask(b"SUBSCRIBE ok3\r\n").endswith(b":1\r\n"), within=20)
        with RawClient(port) as publisher:
            eventually(lambda: publisher.ask(b"PUBLISH ok3 m\r\n") == b":1\r\n")
        client.expect(message(b"ok3", b"m"))
        eventually(lambda: not any(b"ok4" in names for names in map(channels_of, sharded.shards)))
