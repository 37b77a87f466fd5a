"""A transaction over several shards: each part is whole, and a part that fails says so in its place."""

import threading

import pytest
import redis
from support.cluster import Cluster
from support.eventually import eventually
from support.raw import RawClient
from support.servers import RedisServer
from support.store import RedisStore, contents, keys_on
from support.transactions import CROSSSLOT, LOSSES, NULL, ask, assert_replicas_equal, clients, elements


@pytest.mark.parametrize("workers", [1, 3])
def test_the_whole_keyspace_over_shards(redis_server: RedisServer, workers: int) -> None:
    sets = [f"SET k{number} {number}" for number in range(30)]
    lines = [
        "MULTI",
        *sets,
        "DBSIZE",
        "KEYS k1?",
        "EXEC",
        "MULTI",
        "DBSIZE",
        "DEL k1 k2 k3",
        "DBSIZE",
        "EXEC",
    ]
    with Cluster("redis", shards=3, workers=workers) as cluster, clients(cluster, 1) as (client,):
        with RawClient(redis_server.port) as theirs:
            got, expected = ask(client, *lines), ask(theirs, *lines)
        assert sorted(b"".join(got).split(b"\r\n")) == sorted(b"".join(expected).split(b"\r\n"))
        assert elements(got[-1])[:2] == [b":30\r\n", b":3\r\n"]
        drawn = {elements(ask(client, "MULTI", "RANDOMKEY", "EXEC")[-1])[0] for _ in range(100)}
        assert len(drawn) > 10
        mixed = ["MULTI", "DBSIZE", "GET k5", "FLUSHALL", "INCR k5", "SPOP none", "DBSIZE", "EXEC", "DBSIZE"]
        reply = ask(client, *mixed)
        assert reply[-2] == b"*6\r\n:27\r\n$1\r\n5\r\n+OK\r\n:1\r\n$-1\r\n:1\r\n"
        assert reply[-1] == b":1\r\n"
        # The fewest replicas that the pool's `ack` makes sure of.
        assert ask(client, "MULTI", "WAIT 1 0", "EXEC")[-1] == b"*1\r\n:1\r\n"
        assert_replicas_equal(cluster)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_transaction_over_shards_as_frameworks_send_it(workers: int) -> None:
    with Cluster("redis", shards=3, workers=workers) as cluster:
        with redis.Redis(port=cluster.proxy.redis_port) as client:
            many = {f"django:{n}": f"value {n}" for n in range(40)}
            with client.pipeline(transaction=True) as pipeline:
                pipeline.mset(many)
                for key in many:
                    pipeline.expire(key, 300)
                assert pipeline.execute() == [True, *[True] * 40]
            with client.pipeline(transaction=True) as pipeline:
                pipeline.mget(*many)
                pipeline.exists(*many, "none")
                pipeline.delete("django:0", "django:1", "none")
                for key in many:
                    pipeline.ttl(key)
                values, exist, gone, *lives = pipeline.execute()
            assert values == [value.encode() for value in many.values()]
            assert (exist, gone) == (40, 2)
            assert lives[:2] == [-2, -2]
            assert all(295 < life <= 300 for life in lives[2:])
        assert_replicas_equal(cluster)


def test_a_pool_that_refuses_to_split() -> None:
    with Cluster("redis", shards=2, replicas=1, cross_shard="refuse") as cluster:
        ours, others = (
            keys[0].decode() for keys in keys_on(cluster.proxy, "p", 1, [r[0] for r in cluster.servers])
        )
        with clients(cluster, 1) as (client,):
            replies = ask(
                client, "MULTI", f"SET {ours} 5", f"SET {others} 5", "EXEC", f"MGET {ours}", f"MGET {others}"
            )
            assert replies[3:] == [CROSSSLOT, b"*1\r\n$1\r\n1\r\n", b"*1\r\n$1\r\n1\r\n"]
            replies = ask(client, "MULTI", f"SET {ours} 5", "PING", f"GET {ours}", "EXEC")
            assert replies[-1] == b"*3\r\n+OK\r\n+PONG\r\n$1\r\n5\r\n"


@pytest.mark.parametrize("workers", [1, 2])
def test_watched_keys_are_on_one_shard(workers: int) -> None:
    with Cluster("redis", shards=2, workers=workers) as cluster:
        first = [row[0] for row in cluster.servers]
        (a, b), (c, _) = ([key.decode() for key in keys] for keys in keys_on(cluster.proxy, "p", 2, first))
        with clients(cluster, 2) as (client, other):
            assert ask(client, f"WATCH {a}", f"WATCH {b}", f"WATCH {c}", f"WATCH {a} {c}") == [
                b"+OK\r\n",
                b"+OK\r\n",
                CROSSSLOT,
                CROSSSLOT,
            ]
            # The keys that were watched still are.
            ask(other, f"SET {b} 2")
            assert ask(client, "MULTI", f"SET {a} 3", "EXEC")[-1] == NULL[2]
            replies = ask(
                client, f"WATCH {a}", "MULTI", f"SET {a} 3", f"SET {c} 3", "EXEC", f"GET {a}", f"GET {c}"
            )
            assert replies[-3:] == [CROSSSLOT, b"$1\r\n1\r\n", b"$1\r\n1\r\n"]
            assert ask(client, "MULTI", f"SET {a} 3", f"SET {c} 3", "EXEC")[-1] == b"*2\r\n+OK\r\n+OK\r\n"
        assert_replicas_equal(cluster)


@pytest.mark.fault
def test_a_part_that_cannot_be_done_says_so_in_its_place() -> None:
    with Cluster("redis", shards=2, replicas=1) as cluster:
        lost, well = (
            [k.decode() for k in keys]
            for keys in keys_on(cluster.proxy, "p", 1, [r[0] for r in cluster.servers])
        )
        cluster.servers[0][0].kill9()
        cluster.wait_state(0, "down")
        with clients(cluster, 1) as (client,):
            replies = ask(client, "MULTI", f"INCR {lost[0]}", f"INCR {well[0]}", "EXEC", f"GET {well[0]}")
            failed, done = elements(replies[3])
            assert failed.startswith(b"-CLUSTERDOWN")
            assert b"nothing was applied" in failed
            assert (done, replies[4]) == (b":2\r\n", b"$1\r\n2\r\n")
            replies = ask(client, "MULTI", f"INCR {lost[0]}", "EXEC", "PING")
            assert replies[2] == failed
            assert replies[3] == b"+PONG\r\n"


def test_a_server_that_refuses_a_command_is_named_as_the_reason() -> None:
    with (
        Cluster("redis", replicas=2, arguments=("--maxmemory", "1")) as cluster,
        clients(cluster, 1) as (client,),
    ):
        *_, reply = ask(client, "MULTI", "GET a", "SET a 1", "EXEC")
        assert reply.startswith(b"-EXECABORT Transaction discarded because of: OOM command not allowed")
        assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}


def test_what_a_slow_leader_refuses_is_answered_by_who_did_it() -> None:
    """Seed 140009: the error came last, and was shown over the answer."""
    health = {"interval": "60s", "timeout": "1s"}
    with Cluster("redis", relays=True, health=health) as cluster, clients(cluster, 1) as (client,):
        assert ask(client, "EXISTS k") == [b":0\r\n"]
        with RedisStore(cluster.servers[0][0].port) as leader:
            leader.ask("CONFIG", "SET", "maxmemory", "1")
        cluster.relays[0][0].delay(0.1)
        *_, reply = ask(client, "MULTI", "INCR k", "EXEC")
        assert reply == b"*1\r\n:1\r\n"
        assert cluster.shard_status()["lead"] == cluster.address(1)


@pytest.mark.fault
@pytest.mark.parametrize(("workers", "victim"), LOSSES)
def test_a_backend_is_lost_while_transactions_run(workers: int, victim: int) -> None:
    """Both keys of a transaction, or neither; with effects of all kinds, at once and behind the leader."""
    kinds = [
        "INCR {k}a | INCR {k}b",
        "INCR {k}a | SADD s x | SPOP s | INCR {k}b",
        "INCR {k}a | INCR {k}b | PING",
    ]
    told: list[tuple[int, int]] = []

    def run(port: int, number: int) -> None:
        done = doubtful = 0
        with RawClient(port, timeout=20) as client:
            for turn in range(150):
                kind = (
                    kinds[(number + turn) % 3]
                    .replace("{k}", f"{{{number}}}")
                    .replace(" s", f" {{{number}}}s")
                )
                *_, reply = ask(client, "MULTI", *kind.split(" | "), "EXEC")
                if reply.startswith(b"*"):
                    done += 1
                elif b"may have been applied" in reply or b"may not survive" in reply:
                    doubtful += 1
        told.append((done, doubtful))

    with Cluster("redis", workers=workers, hash_tag="{}") as cluster:
        threads = [threading.Thread(target=run, args=(cluster.proxy.redis_port, n)) for n in range(4)]
        for thread in threads:
            thread.start()
        with clients(cluster, 1) as (client,):
            eventually(lambda: int(ask(client, "GET {0}a")[0].split(b"\r\n")[1]) > 20, within=20)
        cluster.servers[0][victim].kill9()
        for thread in threads:
            thread.join()
        assert len(told) == 4
        cluster.wait_state(victim, "down", "stale")
        found = contents(cluster.servers[0][1 - victim])
        for number in range(4):
            one, other = (int(found[b"{%d}%b" % (number, name)][1]) for name in (b"a", b"b"))
            assert one == other
        total = sum(int(found[b"{%d}a" % number][1]) for number in range(4))
        done, doubtful = (sum(each) for each in zip(*told, strict=True))
        assert done <= total <= done + doubtful
        assert doubtful <= 4
