"""WATCH keeps its promise over connections that are used again, and through the loss of a backend."""

import threading
from collections.abc import Callable

import pytest
from support.cluster import Cluster
from support.eventually import eventually
from support.raw import Closed, RawClient
from support.store import RedisStore, command, contents, keys_on
from support.transactions import LAYOUTS, LOSSES, NULL, ask, assert_replicas_equal, clients, connections, send


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("layout", LAYOUTS[:2] + LAYOUTS[3:], ids=str)
def test_watch_sees_what_others_do(layout: tuple[int, int, int], protocol: int) -> None:
    shards, replicas, workers = layout
    changes = ["SET w 1", "DEL w", "EVAL return(redis.call('SET',KEYS[1],'x')) 1 w", "RENAME {w}2 w"]
    changes += ["MULTI | SET w 1 | EXEC", "WATCH w | MULTI | SET w 1 | EXEC", "EXPIRE w 100"]
    with Cluster("redis", shards=shards, replicas=replicas, workers=workers, hash_tag="{}") as cluster:
        with clients(cluster, 4) as (client, *others):
            client.ask(command("HELLO", protocol))
            for change in changes:
                for other in others:
                    change = change.replace(" w", " {w}")
                    lines = change.split(" | ")
                    ask(client, "SET {w} 0", "SET {w}2 0", "SET {w}3 0")
                    assert ask(client, "WATCH {w} {w}3", "GET {w}") == [b"+OK\r\n", b"$1\r\n0\r\n"]
                    ask(other, *lines)
                    assert ask(client, "MULTI", "SET {w} mine", "EXEC")[-1] == NULL[protocol], change
                    assert ask(client, "WATCH {w}2", "MULTI", "SET {w} mine", "GET {w}", "EXEC")[-1] == (
                        b"*2\r\n+OK\r\n$4\r\nmine\r\n"
                    )
                    assert ask(other, "GET {w}") == [b"$4\r\nmine\r\n"]
        assert_replicas_equal(cluster)


def test_what_is_read_while_keys_are_watched_is_what_the_leader_has() -> None:
    """A write that a replica still lacks is not written over by who has read there and seen no conflict."""
    options = {"timeouts": {"request": "20s"}, "health": {"interval": "20s", "timeout": "10s"}}
    with Cluster("redis", shards=2, workers=2, reads="spread", **options) as cluster:
        first = [row[0] for row in cluster.servers]
        for shard, (key, *_) in enumerate(keys_on(cluster.proxy, "p", 1, first)):
            name = key.decode()
            leader, follower = cluster.servers[shard]
            with clients(cluster, 5) as (writer, *readers), RedisStore(follower.port) as direct:
                writer.ask(command("HELLO", 3))
                direct.ask("CLIENT", "PAUSE", 20_000, "WRITE")
                send(writer, f"SET {name} 2")
                with RedisStore(leader.port) as there:
                    eventually(lambda: there.ask("GET", key) == b"2")  # noqa: B023
                for reader in readers:
                    for read in (f"GET {name}", f"MGET {name} other", f"MGET {name} a b c d e f g"):
                        replies = ask(reader, f"WATCH {name}", read, "UNWATCH")
                        assert b"$1\r\n2\r\n" in replies[1]
                direct.ask("CLIENT", "UNPAUSE")
                assert writer.read_reply() == b"+OK\r\n"


def count_up(connect: Callable[[], RawClient], key: str, times: int) -> tuple[int, int]:
    """Adds one so many times by reading and writing; how often that was acknowledged and in doubt."""
    done = doubtful = 0
    client = connect()
    while done + doubtful < times:
        try:
            replies = ask(client, f"WATCH {key}", f"GET {key}")
            if replies[1][:1] != b"$" or replies[0] != b"+OK\r\n":
                client.ask(command("UNWATCH"))
                continue
            value = int(replies[1].split(b"\r\n")[1]) if replies[1] != b"$-1\r\n" else 0
            reply = ask(client, "MULTI", f"SET {key} {value + 1}", "EXEC")[-1]
        except (Closed, TimeoutError, ConnectionError):
            client.close()
            client = connect()
            doubtful += 1
            continue
        if reply.startswith(b"*1"):
            done += 1
        elif reply not in NULL.values() and b"applied" in reply and b"nothing" not in reply:
            doubtful += 1
    client.close()
    return done, doubtful


def count_together(
    cluster: Cluster, keys: list[str], times: int, during: Callable[[], None]
) -> tuple[int, int]:
    """One thread per key, as `count_up`."""
    results: list[tuple[int, int]] = []
    connect = lambda: RawClient(cluster.proxy.redis_port, timeout=20)  # noqa: E731
    threads = [
        threading.Thread(target=lambda key=key: results.append(count_up(connect, key, times)))  # type: ignore[misc]
        for key in keys
    ]
    for thread in threads:
        thread.start()
    during()
    for thread in threads:
        thread.join()
    assert len(results) == len(keys), "a thread has failed"
    return sum(done for done, _ in results), sum(doubtful for _, doubtful in results)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_counter_of_many_clients_loses_nothing(layout: tuple[int, int, int]) -> None:
    shards, replicas, workers = layout
    with Cluster(
        "redis", shards=shards, replicas=replicas, workers=workers, timeouts={"request": "20s"}
    ) as cluster:
        before = [connections(server) for row in cluster.servers for server in row]
        done, doubtful = count_together(cluster, ["counter"] * 8, 20, lambda: None)
        assert (done, doubtful) == (160, 0)
        with clients(cluster, 1) as (client,):
            assert ask(client, "GET counter") == [b"$3\r\n160\r\n"]
        assert_replicas_equal(cluster)
        after = [connections(server) for row in cluster.servers for server in row]
        assert cluster.proxy.metric("shardproxy_watch_connections_taken_total", pool="p") >= 160
        # No connection per transaction: one per client at most, the lanes', and some of the health checks.
        assert sum(after) - sum(before) < 100
        eventually(lambda: cluster.proxy.metric("shardproxy_watch_connections", pool="p") == 0)


@pytest.mark.parametrize("workers", [1, 2])
def test_connections_that_watched_are_used_again(workers: int) -> None:
    slow = {"interval": "60s", "timeout": "10s"}
    with Cluster("redis", workers=workers, health=slow) as cluster, clients(cluster, 2) as every:
        for client in every:
            ask(client, "SET k 0", "WATCH k", "UNWATCH")
        before = connections(cluster.servers[0][0])
        for number in range(150):
            client = every[number % 2]
            end = ["MULTI | SET k 1 | EXEC", "UNWATCH", "MULTI | DISCARD", "MULTI | NOSUCH | EXEC"][
                number % 4
            ]
            assert ask(client, "WATCH k", "GET k", *end.split(" | "))[0] == b"+OK\r\n"
        # The one that asks makes one; where a client's UNWATCH has no answer yet, another may be made.
        assert connections(cluster.servers[0][0]) - before <= 3


@pytest.mark.parametrize("layout", LAYOUTS[:2], ids=str)
def test_clients_that_leave_in_the_middle(layout: tuple[int, int, int]) -> None:
    _, replicas, workers = layout
    middles = ["WATCH k", "MULTI | SET k 9", "WATCH k | MULTI | SET k 9", "WATCH k | WATCH k2 | GET k"]
    with Cluster("redis", replicas=replicas, workers=workers) as cluster, clients(cluster, 1) as (client,):
        ask(client, "SET k 0")
        for number in range(60):
            with clients(cluster, 1) as (leaver,):
                lines = middles[number % 4].split(" | ")
                if number % 3:
                    assert ask(leaver, *lines)[0] == b"+OK\r\n"
                else:
                    send(leaver, *lines)
                if number % 2:
                    leaver.reset()
        eventually(lambda: cluster.proxy.metric("shardproxy_watch_connections", pool="p") == 0)
        assert ask(client, "GET k") == [b"$1\r\n0\r\n"]
        # What they watched on the connections they had is not watched by those who have them now.
        ask(client, "WATCH other", "SET k 1")
        assert ask(client, "MULTI", "GET k", "EXEC")[-1] == b"*1\r\n$1\r\n1\r\n"
        assert_replicas_equal(cluster)


def test_more_clients_watch_than_there_are_connections() -> None:
    """They wait in order; who has watched for long loses to those that wait, and tries again."""
    with Cluster("redis", replicas=2, workers=1) as cluster, clients(cluster, 150) as every:
        for number, client in enumerate(every):
            send(client, f"WATCH k{number}")
        for client in every:
            assert client.read_reply() == b"+OK\r\n"
        assert cluster.proxy.metric("shardproxy_watch_connections", pool="p") == 128
        replies = []
        for number, client in enumerate(every):
            replies.append(ask(client, "MULTI", f"SET k{number} 1", "EXEC")[-1])
        assert replies.count(NULL[2]) == 150 - 128
        assert replies.count(b"*1\r\n+OK\r\n") == 128
        with RedisStore(cluster.servers[0][0].port) as store:
            own = list(store.ask("CLIENT", "LIST").splitlines())
        assert len(own) < 150
        assert_replicas_equal(cluster)


@pytest.mark.fault
@pytest.mark.parametrize(("workers", "victim"), LOSSES)
def test_a_backend_is_lost_between_watch_and_exec(workers: int, victim: int) -> None:
    with Cluster("redis", workers=workers) as cluster, clients(cluster, 3) as every:
        for number, client in enumerate(every):
            assert ask(client, f"SET k{number} 1", f"WATCH k{number}", f"GET k{number}")[1] == b"+OK\r\n"
        cluster.servers[0][victim].kill9()
        cluster.wait_state(victim, "down", "stale")
        for number, client in enumerate(every):
            assert ask(client, "MULTI", f"SET k{number} 2", "EXEC", f"GET k{number}")[2:] == [
                NULL[2],
                b"$1\r\n1\r\n",
            ]
            replies = ask(client, f"WATCH k{number}", f"GET k{number}", "MULTI", f"SET k{number} 2", "EXEC")
            assert replies[-1] == b"*1\r\n+OK\r\n"
            assert ask(client, f"GET k{number}") == [b"$1\r\n2\r\n"]


@pytest.mark.fault
@pytest.mark.parametrize(("workers", "victim"), LOSSES)
def test_watching_more_does_not_hide_that_a_backend_was_lost(workers: int, victim: int) -> None:
    """What was watched before is watched no more, so what has become of it is not known."""
    with Cluster("redis", workers=workers) as cluster, clients(cluster, 3) as every:
        other, *watching = every
        for number, client in enumerate(watching):
            assert ask(client, f"SET k{number} 1", f"WATCH k{number}")[1] == b"+OK\r\n"
        cluster.servers[0][victim].kill9()
        cluster.wait_state(victim, "down", "stale")
        for number, client in enumerate(watching):
            assert ask(other, f"SET k{number} theirs") == [b"+OK\r\n"]
            replies = ask(
                client, f"WATCH more{number}", f"GET more{number}", "MULTI", f"SET k{number} mine", "EXEC"
            )
            assert (replies[0], replies[-1]) == (b"+OK\r\n", NULL[2])
            assert ask(other, f"GET k{number}") == [b"$6\r\ntheirs\r\n"]


@pytest.mark.fault
@pytest.mark.parametrize("workers", [1, 2])
def test_watched_keys_that_go_to_another_shard(workers: int) -> None:
    """``on_shard_loss: remap``: as if they had changed, which clients know, and the next time all is well."""
    with (
        Cluster("redis", shards=2, replicas=1, workers=workers, on_shard_loss="remap") as cluster,
        clients(cluster, 2) as (client, other),
    ):
        servers = [row[0] for row in cluster.servers]
        _, (key, more) = ([key.decode() for key in keys] for keys in keys_on(cluster.proxy, "p", 2, servers))
        for each in (client, other):
            assert ask(each, f"WATCH {key}") == [b"+OK\r\n"]
        servers[1].kill9()
        eventually(lambda: cluster.proxy.metric("shardproxy_shard_remapped") == 1, within=20)
        assert ask(client, "MULTI", f"SET {key} 1", "EXEC")[-1] == NULL[2]
        assert ask(other, f"WATCH {more} {key}", "MULTI", f"SET {key} 1", "EXEC")[::3] == [
            b"+OK\r\n",
            NULL[2],
        ]
        for each in (client, other):
            assert ask(each, f"WATCH {key}", "MULTI", f"SET {key} 2", "EXEC")[-1] == b"*1\r\n+OK\r\n"


@pytest.mark.fault
@pytest.mark.parametrize("workers", [1, 2])
def test_an_exec_that_a_lost_leader_has_not_answered_is_in_doubt(workers: int) -> None:
    # Null would say that nothing was done, but others may have read it.
    with (
        Cluster("redis", workers=workers, relays=True, timeouts={"request": "300ms"}) as cluster,
        clients(cluster, 1) as (client,),
    ):
        ask(client, "SET k 1", "WATCH k", "MULTI", "SET k 2")
        cluster.relays[0][0].delay(2)
        (reply,) = ask(client, "EXEC")
        assert b"may have been applied" in reply
        assert contents(cluster.servers[0][0])[b"k"][1] == b"2"
        assert ask(client, "GET k") == [b"$1\r\n1\r\n"]
        assert cluster.members() == [1]


@pytest.mark.fault
@pytest.mark.parametrize(("workers", "victim"), LOSSES)
def test_a_backend_is_lost_while_clients_count(workers: int, victim: int) -> None:
    """Nothing acknowledged is lost, and nothing counted twice: doubtful ones apart, the sum is exact."""
    with Cluster("redis", replicas=3, workers=workers) as cluster:
        keys = [f"c{n}" for n in range(3)] * 2

        def lose() -> None:
            eventually(
                lambda: cluster.proxy.metric("shardproxy_watch_connections_taken_total", pool="p") > 50
            )
            cluster.servers[0][victim].kill9()

        done, doubtful = count_together(cluster, keys, 60, lose)
        assert done + doubtful == 60 * len(keys)
        cluster.wait_state(victim, "down", "stale")
        for number in set(range(3)) - {victim}:
            found = contents(cluster.servers[0][number])
            total = sum(int(found[key][1]) for key in (b"c0", b"c1", b"c2"))
            assert done <= total <= done + doubtful
        assert cluster.differences() == {}
