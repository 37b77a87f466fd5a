"""Promise P6: a write of unknown outcome is answered with an error that says so, and is never sent again;
a request that timed out leaves a tombstone, so that its late reply is nobody else's.
"""

import pytest
from support.cluster import Cluster
from support.eventually import eventually
from support.store import PROTOCOLS, MemcachedStore, RedisStore, Refused, Store, command, connect

pytestmark = [pytest.mark.fault, pytest.mark.parametrize("protocol", PROTOCOLS)]

MAY = b"may have been applied"
NOTHING = b"nothing was applied"
PATIENT_HEALTH = {"interval": "5s", "timeout": "5s"}


def add_one(client: Store) -> bytes:
    """The request that adds 1 to ``n``."""
    return b"INCR n\r\n" if isinstance(client, RedisStore) else b"incr n 1\r\n"


def test_a_write_whose_reply_is_lost(protocol: str) -> None:
    with Cluster(protocol, replicas=1, relays=True, health=PATIENT_HEALTH) as cluster:
        with cluster.connect() as client:
            client.set(b"n", b"1")
            cluster.relays[0][0].cut_replies(0, reset=True)
            client.raw.send(add_one(client))
            assert MAY in client.raw.read_line()
            cluster.relays[0][0].pass_through()
            # The server counted once, so it was sent once; and the client's connection lives.
            assert eventually(lambda: client.get(b"n")) == b"2"


def test_a_write_that_times_out(protocol: str) -> None:
    timeouts = {"request": "300ms"}
    with Cluster(protocol, replicas=1, relays=True, timeouts=timeouts, health=PATIENT_HEALTH) as cluster:
        with cluster.connect() as client, cluster.connect() as neighbour:
            client.set(b"n", b"1")
            neighbour.set(b"other", b"value")
            connects = cluster.proxy.metric("shardproxy_backend_connects_total")
            cluster.relays[0][0].delay(0.45)
            client.raw.send(add_one(client))
            answer = client.raw.read_line()
            assert MAY in answer
            assert b"timed out" in answer
            # The late reply, 2, belongs to nobody: the neighbours on that connection get their own.
            cluster.relays[0][0].delay(0)
            for _ in range(3):
                assert eventually(lambda: neighbour.get(b"other")) == b"value"
                assert client.get(b"n") == b"2"
            assert cluster.proxy.metric("shardproxy_backend_connects_total") == connects
            assert cluster.proxy.metric("shardproxy_backend_late_replies_total") >= 1


def test_a_late_reply_under_traffic_of_others(protocol: str) -> None:
    timeouts = {"request": "300ms"}
    with Cluster(protocol, replicas=1, relays=True, timeouts=timeouts, health=PATIENT_HEALTH) as cluster:
        clients = [cluster.connect() for _ in range(5)]
        for number, client in enumerate(clients):
            client.set(b"k%d" % number, b"v%d" % number)
        cluster.relays[0][0].black_hole()
        for number, client in enumerate(clients):
            client.raw.send(client.get_request(b"k%d" % number))
        for client in clients:
            with pytest.raises(Refused, match="timed out"):
                client.read_get()
        # Asked while five replies are still owed, in another order.
        for number, client in reversed(list(enumerate(clients))):
            client.raw.send(client.get_request(b"k%d" % number))
        cluster.relays[0][0].pass_through()
        for number, client in enumerate(clients):
            assert client.read_get() == b"v%d" % number
            client.raw.close()
        assert cluster.proxy.metric("shardproxy_backend_late_replies_total") == 5


def test_a_write_that_was_never_sent(protocol: str) -> None:
    with Cluster(protocol, replicas=1, health=PATIENT_HEALTH) as cluster, cluster.connect() as client:
        client.set(b"n", b"1")
        cluster.servers[0][0].kill9()
        # The first may find out that the connection is gone only by writing to it.
        client.raw.send(add_one(client))
        client.raw.read_line()
        client.raw.send(add_one(client))
        assert NOTHING in client.raw.read_line()
        cluster.servers[0][0].restart()


def test_a_conditional_write_lost_with_its_leader(protocol: str) -> None:
    # Only the leader was sent it. The view without that leader is recorded first, so what it did does not
    # count any more, and the write is made on who is left: once, as far as anybody can read.
    with Cluster(protocol, relays=True) as cluster, cluster.connect() as client:
        client.set(b"other", b"1")
        cluster.relays[0][0].cut_replies(0, reset=True)
        if isinstance(client, RedisStore):
            client.raw.send(b"EVAL \"return redis.call('INCR', KEYS[1])\" 1 n\r\n")
        else:
            client.raw.send(b"add n 0 0 1\r\n1\r\n")
        assert client.raw.read_line() == (b":1\r\n" if protocol == "redis" else b"STORED\r\n")
        assert cluster.members() == [1]
        cluster.relays[0][0].pass_through()
        cluster.wait_state(0, "stale")
        assert client.get(b"n") == b"1"
        for server in cluster.servers[0]:  # it did carry it out
            with connect(protocol, server.port) as direct:
                assert direct.get(b"n") == b"1"


def test_requests_behind_such_a_write_stay_behind_it(protocol: str) -> None:
    with Cluster(protocol, relays=True) as cluster, cluster.connect() as client:
        client.set(b"n", b"1")
        cluster.relays[0][0].cut_replies(0, reset=True)
        if isinstance(client, RedisStore):
            script = b"return redis.call('SET', KEYS[1], 2)"
            client.raw.send(command("EVAL", script, 1, "n") + b"GET n\r\nSET n 3\r\nGET n\r\n")
            answers = [client.raw.read_reply() for _ in range(4)]
            assert answers == [b"+OK\r\n", b"$1\r\n2\r\n", b"+OK\r\n", b"$1\r\n3\r\n"]
        else:
            client.raw.send(b"replace n 0 0 1\r\n2\r\nget n\r\nset n 0 0 1\r\n3\r\nget n\r\n")
            assert client.raw.read_line() == b"STORED\r\n"
            assert client.read_get() == b"2"
            assert client.raw.read_line() == b"STORED\r\n"
            assert client.read_get() == b"3"


def test_a_conditional_write_whose_leader_stays(protocol: str) -> None:
    # The last one in sync is the truth whatever it did, and whether it did it nobody can say.
    with Cluster(protocol, relays=True) as cluster, cluster.connect() as client:
        cluster.servers[0][1].kill9()
        client.set(b"other", b"1")
        cluster.wait_state(1, "down")
        cluster.relays[0][0].cut_replies(0, reset=True)
        client.raw.send(b"INCRBYFLOAT n 1\r\n" if protocol == "redis" else b"add n 0 0 1\r\n1\r\n")
        assert MAY in client.raw.read_line()


def test_a_conditional_write_that_was_never_sent(protocol: str) -> None:
    # The leader is gone and the next connection refused, before anybody has recorded a view without it.
    with Cluster(protocol, health=PATIENT_HEALTH) as cluster, cluster.connect() as client:
        client.set(b"other", b"1")
        cluster.servers[0][0].kill9()
        assert client.get(b"other") == b"1"  # so the loss of the connection was noticed
        client.raw.send(b"INCRBYFLOAT n 1\r\n" if protocol == "redis" else b"add n 0 0 1\r\n1\r\n")
        line = client.raw.read_line()
        assert MAY not in line
        if NOTHING in line:
            assert client.get(b"n") is None


def test_a_plain_write_survives_its_leader(protocol: str) -> None:
    # The follower has it, so the outcome is known as soon as the view without the leader is recorded.
    with Cluster(protocol, relays=True) as cluster, cluster.connect() as client:
        client.set(b"n", b"1")
        cluster.relays[0][0].cut_replies(0, reset=True)
        client.raw.send(add_one(client))
        assert b"2" in client.raw.read_line()
        assert client.get(b"n") == b"2"
        with connect(protocol, cluster.servers[0][1].port) as survivor:
            assert survivor.get(b"n") == b"2"


def test_a_split_write_of_which_a_part_fails(protocol: str) -> None:
    with Cluster(protocol, shards=2, replicas=1, relays=True, distribution="jump") as cluster:
        with cluster.connect() as client:
            keys = [b"k%d" % number for number in range(40)]
            for key in keys:
                client.set(key, b"old")
            cluster.relays[1][0].cut_replies(0, reset=True)
            if isinstance(client, RedisStore):
                with pytest.raises(Refused, match="outcome unknown"):
                    client.ask("MSET", *(word for key in keys for word in (key, b"new")))
                with pytest.raises(Refused):
                    client.ask("MGET", *keys)
                assert client.ask("PING") == b"PONG"
            else:
                assert isinstance(client, MemcachedStore)
                # Keys of a part that failed are missing; no error line stands among the values.
                client.raw.send(b"get " + b" ".join(keys) + b"\r\n")
                found = client.read_values()
                assert 0 < len(found) < len(keys)
                assert {values[0] for values in found.values()} == {b"old"}


def test_a_split_write_of_which_a_part_has_no_shard(protocol: str) -> None:
    # The error of the lost shard says that nothing was applied, which is not true of the whole.
    with Cluster(protocol, shards=2, replicas=1, distribution="jump") as cluster, cluster.connect() as client:
        keys = [b"k%d" % number for number in range(40)]
        for key in keys:
            client.set(key, b"old")
        cluster.servers[1][0].kill9()
        eventually(lambda: cluster.members(1) == [], what="it is given up")
        if isinstance(client, RedisStore):
            pairs = [word for key in keys for word in (key, b"new")]
            for words in (("MSET", *pairs), ("UNLINK", *keys), ("DEL", *keys), ("FLUSHALL",)):
                with pytest.raises(Refused, match="outcome unknown"):
                    client.ask(*words)
            batch = [command("MULTI"), command("DEL", *keys), command("GET", keys[0]), command("EXEC")]
            client.raw.send(b"".join(batch))
            assert b"*2\r\n-ERR outcome unknown" in [client.raw.read_reply() for _ in batch][-1]
            # What only reads has applied nothing, and what goes to the lost shard alone neither.
            waits = cluster.proxy.metric("shardproxy_request_waits_total")
            lost = [key for key in keys if NOTHING in client.raw.ask(command("GET", key))]
            for words in (("MGET", *keys), ("EXISTS", *keys), ("DEL", *lost), ("MSET", lost[0], b"new")):
                with pytest.raises(Refused, match="nothing was applied"):
                    client.ask(*words)
            # It is told at once, between the answers of the other shard, which do not wait for it.
            client.raw.send(b"".join(command("INCRBY", key + b"n", 1) + command("GET", key) for key in keys))
            replies = [client.raw.read_reply() for _ in range(2 * len(keys))]
            assert sum(reply.startswith(b"-CLUSTERDOWN ") for reply in replies[1::2]) == len(lost)
            assert cluster.proxy.metric("shardproxy_request_waits_total") == waits
        else:
            client.raw.send(b"flush_all\r\n")
            assert b"outcome unknown" in client.raw.read_line()


def test_a_lost_shard_says_that_nothing_was_applied(protocol: str) -> None:
    with Cluster(protocol) as cluster, cluster.connect() as client:
        client.set(b"n", b"1")
        for server in cluster.servers[0]:
            server.kill9()
        eventually(lambda: cluster.proxy.backend_states("p").values() and not _in_sync(cluster))
        with pytest.raises(Refused, match="nothing was applied"):
            client.set(b"n", b"2")
        with pytest.raises(Refused, match="no backend"):
            client.get(b"n")


def test_a_lost_shard_holds_up_nobody(protocol: str) -> None:
    """Replies of the other shard stand behind errors that come at once, long before any time is over."""
    slow = {"timeouts": {"connect": "60s", "request": "60s"}}
    keys = [b"k%d" % number for number in range(100)]
    with Cluster(protocol, shards=2, replicas=1, **slow) as cluster, cluster.connect() as client:
        for key in keys:
            client.set(key, b"v")
        cluster.servers[1][0].kill9()
        eventually(lambda: sorted(cluster.proxy.backend_states("p").values()) == ["down", "in_sync"])
        client.raw.send(b"".join(client.get_request(key) for key in keys))
        # Each within the client's own patience, of a few seconds.
        found = [_value_or_error(client) for _ in keys]
        lost = [each for each in found if b"no backend" in each]
        assert 0 < len(lost) < len(keys)
        assert set(found) == {b"v", *lost}


def _value_or_error(client: Store) -> bytes:
    line = client.raw.read_line()
    if line.startswith((b"-", b"SERVER_ERROR")):
        return line
    value = client.raw.read_line().removesuffix(b"\r\n")
    if isinstance(client, MemcachedStore):
        assert client.raw.read_line() == b"END\r\n"
    return value


def _in_sync(cluster: Cluster) -> bool:
    return "in_sync" in cluster.proxy.backend_states("p").values()
