"""A Redis backend that may not copy by REPLICAOF comes back all the same, key by key while writes go on.

Real processes, as in ``test_resync.py``, whose servers do not know the command. What is copied is compared by
value and by the moment at which it expires.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.copying import AUTO, MANAGED, SLOW, A, B, assert_equal, expiries, fill, managed
from support.eventually import eventually
from support.proxy_process import ProxyProcess, pool
from support.refill import BACK_SECONDS, random_writes, traffic_through, wait_back, wait_phase
from support.servers import RedisServer
from support.store import QUICK, RedisStore, Refused, command, connect

from proxy.admin.client import ask_resync

pytestmark = pytest.mark.fault


@pytest.mark.parametrize(("proxies", "workers"), [(1, 1), (2, 2), (3, 1)])
def test_a_killed_backend_comes_back_and_can_take_over(
    proxies: int, workers: int, rng: random.Random
) -> None:
    with managed(reads="spread", resync=AUTO, workers=workers) as cluster:
        all_of_them = [cluster.proxy, *(cluster.start_proxy() for _ in range(proxies - 1))]
        port = cluster.proxy.ports["p"]
        with traffic_through("redis", *all_of_them) as traffic:
            with (
                random_writes("redis", port, rng.randrange(1 << 30)),
                random_writes("redis", port, rng.randrange(1 << 30), resp3=True),
            ):
                for victim in (A, B):
                    cluster.servers[0][victim].kill9()
                    traffic.flow()
                    cluster.servers[0][victim].restart()
                    wait_back(cluster, victim, *all_of_them)
                    traffic.flow(1000)
            assert {key: found for key, found in cluster.differences().items() if b"traffic" not in key} == {}
            cluster.servers[0][A].kill9()
            traffic.flow(1000)
        runs = sum(each.metric("shardproxy_resync_runs_total", result="done") for each in all_of_them)
        assert runs == 2
        refusals = sum(
            each.metric("shardproxy_resync_runs_total", result="not_allowed") for each in all_of_them
        )
        assert 1 <= refusals <= 2 * proxies, "what was refused once is remembered"
        print(f"{proxies} proxies: longest wait of all {traffic.longest_pause():.3f} s")


def test_everything_about_a_key_is_copied() -> None:
    with managed(resync=AUTO) as cluster, cluster.connect() as client:
        assert isinstance(client, RedisStore)
        fill(client, 3000)
        for number in range(30):
            client.ask("RPUSH", f"l{number}", *range(20 * number + 1))
            client.ask("HSET", f"h{number}", "f", number, "g", "x")
            client.ask("ZADD", f"z{number}", number, "m", 1.5, "n")
            client.ask("SADD", f"m{number}", *(f"member{each}" for each in range(20 * number + 1)))
            client.ask("XADD", f"x{number}", "*", "f", number)
        client.ask("XGROUP", "CREATE", "x1", "group", "0")
        client.ask("XREADGROUP", "GROUP", "group", "me", "STREAMS", "x1", ">")
        client.ask("HSET", "large hash", *(word for each in range(3000) for word in (f"f{each}", each)))
        client.ask("SET", "large", b"x" * 5_000_000)
        client.ask("SET", "short", "v", "EX", "1000")
        client.ask("SET", b"\x00binary \r\n\xff", "v")
        client.ask("SET", "", "the empty key")
        cluster.servers[0][B].kill9()
        cluster.servers[0][B].restart()
        wait_back(cluster, B)
        assert_equal(cluster)
        with connect("redis", cluster.servers[0][B].port) as direct:
            assert isinstance(direct, RedisStore)
            assert 900 < int(direct.ask("TTL", "short")) <= 1000
            assert direct.ask("XPENDING", "x1", "group")[0] == 1
            assert not [key for key in direct.ask("KEYS", "__shardproxy:*") if b":view:" not in key]
        cluster.servers[0][A].kill9()
        assert client.get(b"large") == b"x" * 5_000_000


def test_functions_are_copied_too() -> None:
    library = (
        "#!lua name=%s\nredis.register_function('%s', function(keys) return redis.call('INCR', keys[1]) end)"
    )
    with managed(resync=SLOW) as cluster, cluster.connect() as client:
        assert isinstance(client, RedisStore)
        fill(client, 2500)
        assert client.ask("FUNCTION", "LOAD", library % ("one", "one")) == b"one"
        cluster.servers[0][B].kill9()
        cluster.servers[0][B].restart()
        with connect("redis", cluster.servers[0][B].port) as direct:
            assert isinstance(direct, RedisStore)
            direct.ask("FUNCTION", "LOAD", library % ("stale", "stale"))
        wait_phase(cluster, "copying")
        assert client.ask("FUNCTION", "LOAD", library % ("two", "two")) == b"two"
        assert client.ask("FCALL", "one", 1, "count") == 1
        wait_back(cluster, B)
        assert_equal(cluster)
        cluster.servers[0][A].kill9()
        assert client.ask("FCALL", "one", 1, "count") == 2
        assert client.ask("FCALL", "two", 1, "count") == 3
        assert len(client.ask("FUNCTION", "LIST")) == 2


def test_what_concerns_all_keys_while_it_is_copied() -> None:
    with managed(shards=2, resync=SLOW, workers=2) as cluster, cluster.connect() as client:
        assert isinstance(client, RedisStore)
        fill(client, 2500)
        cluster.servers[0][B].kill9()
        cluster.servers[0][B].restart()
        wait_phase(cluster, "copying")
        # Nobody but the leader can carry it out, so the copy begins anew.
        assert client.ask("EVAL", "return redis.call('INCR', 'undeclared')", 0) == 1
        assert client.ask("EVAL", "return redis.call('TIME')", 0)
        assert client.ask("DBSIZE") == 2501
        wait_back(cluster, B)
        assert_equal(cluster)
        cluster.servers[0][B].kill9()
        cluster.servers[0][B].restart()
        wait_phase(cluster, "copying")
        assert client.ask("FLUSHALL") == b"OK"
        client.set(b"later", b"v")
        assert client.ask("KEYS", "*") == [b"later"]
        wait_back(cluster, B)
        assert_equal(cluster)


def test_what_was_deleted_meanwhile_stays_deleted() -> None:
    with managed(resync=AUTO) as cluster, cluster.connect() as client:
        assert isinstance(client, RedisStore)
        fill(client, 100)
        cluster.servers[0][B].stop()
        assert client.ask("DEL", "fill7") == 1
        client.set(b"fill8", b"new")
        cluster.servers[0][B].cont()
        wait_back(cluster, B)
        assert_equal(cluster)
        cluster.servers[0][A].kill9()
        assert client.get(b"fill7") is None
        assert client.get(b"fill8") == b"new"


@pytest.mark.parametrize("resp3", [False, True])
def test_writes_of_all_kinds_while_it_is_copied(rng: random.Random, resp3: bool) -> None:
    with managed(shards=2, hash_tag="{}", resync=SLOW, workers=2) as cluster, cluster.connect() as client:
        assert isinstance(client, RedisStore)
        if resp3:
            client.hello3()
        fill(client, 15_000)
        cluster.servers[0][B].kill9()
        cluster.servers[0][B].restart()
        wait_phase(cluster, "copying")
        # Some keys are copied by now and some are not.
        for number in rng.sample(range(15_000), 600):
            key, other = f"fill{number}", f"fill{rng.randrange(15_000)}"
            words = rng.choice(
                [
                    ("APPEND", key, "+"),
                    ("SETRANGE", key, 2, "-"),
                    ("DEL", key),
                    ("DEL", key, other),
                    ("UNLINK", key, other),
                    ("MSET", key, "m", other, "n"),
                    ("INCR", key),
                    ("PEXPIRE", key, 5_000_000),
                    ("SET", key, "1", "EX", 5000),
                    ("SET", key, "1", "KEEPTTL"),
                    ("SETEX", key, 4000, "1"),
                    ("SET", key, "r", "XX", "GET"),
                    ("SETNX", key, "a"),
                    ("GETDEL", key),
                    ("GETEX", key, "PX", 6_000_000),
                    ("COPY", key, key, "REPLACE"),
                    ("SETBIT", key, 7, 1),
                    ("EVAL", "return redis.call('APPEND', KEYS[1], math.random())", 1, key),
                ]
            )
            client.raw.ask(command(*words))
        for number in range(20):
            client.ask("SADD", "set", *range(number * 40, number * 40 + 40))
            client.ask("SPOP", "set", 3)
            client.ask("HSET", "hash", f"f{number}", "v" * number)
            client.ask("XADD", "stream", "MAXLEN", "~", 10, "*", "f", number)
            client.ask("ZADD", "z{t}", number, f"m{number}")
            client.ask("ZUNIONSTORE", "zz{t}", 2, "z{t}", "zz{t}")
        with pytest.raises(Refused, match="TRYAGAIN"):
            client.ask("SWAPDB", 0, 1)
        assert cluster.proxy.backend_states("p")[cluster.address(B)] == "joining"
        wait_back(cluster, B)
        assert_equal(cluster)


def test_a_refused_write_while_it_is_copied_gets_the_servers_own_error() -> None:
    with managed(resync=SLOW) as cluster, cluster.connect() as client:
        assert isinstance(client, RedisStore)
        fill(client, 2500)
        client.ask("RPUSH", "list", "1")
        requests = [
            command("INCR", "list"),
            command("LPUSH", "fill1"),
            command("SET", "k", "v", "NX", "XX"),
            command("EXPIRE", "k", "x"),
            command("EVAL", "return redis.call('INCR', KEYS[1])", 1, "list"),
            command("GETSET", "absent", "1"),
            command("LPOP", "absent"),
            command("SPOP", "absent", 3),
            command("RENAME", "absent", "absent"),
        ]
        before = [client.raw.ask(each) for each in requests]
        client.ask("DEL", "absent")
        cluster.servers[0][B].kill9()
        cluster.servers[0][B].restart()
        wait_phase(cluster, "copying")
        assert [client.raw.ask(each) for each in requests] == before
        wait_back(cluster, B)
        assert_equal(cluster)


def test_a_key_that_is_written_all_the_time() -> None:
    # Its DUMP is never twice the same, nor that of the copy.
    with managed(resync=SLOW) as cluster, cluster.connect() as client:
        assert isinstance(client, RedisStore)
        fill(client, 1500)
        client.ask("HSET", "hot", *(word for each in range(1000) for word in (f"f{each}", each)))
        cluster.servers[0][B].kill9()
        cluster.servers[0][B].restart()
        with connect("redis", cluster.proxy.ports["p"]) as busy:
            assert isinstance(busy, RedisStore)
            count = 0
            while cluster.proxy.backend_states("p")[cluster.address(B)] != "in_sync":
                busy.raw.send(command("HINCRBY", "hot", f"f{count % 1000}", 1) * 100)
                for _ in range(100):
                    assert busy.raw.read_reply().startswith(b":")
                count += 100
        assert count > 1000
        assert_equal(cluster)


def test_keys_that_expire_meanwhile() -> None:
    with managed(resync=SLOW) as cluster, cluster.connect() as client:
        assert isinstance(client, RedisStore)
        fill(client, 2000)
        for number in range(500):
            client.ask("PEXPIRE", f"fill{number}", 500 + 15 * number)
        cluster.servers[0][B].kill9()
        cluster.servers[0][B].restart()
        wait_back(cluster, B)
        latest = time.time() + 8.0
        eventually(
            lambda: all(at < 0 or at > 1000 * latest for at in expiries(cluster.servers[0][B]).values()),
            within=12,
        )
        assert_equal(cluster)


def test_keys_that_are_deleted_while_they_are_copied(rng: random.Random) -> None:
    # Each once: what a copy brings back that comes too late stays.
    with managed(resync=SLOW) as cluster, cluster.connect() as client:
        assert isinstance(client, RedisStore)
        fill(client, 15_000)
        names = [f"fill{number}" for number in rng.sample(range(15_000), 14_000)]
        cluster.servers[0][B].kill9()
        cluster.servers[0][B].restart()
        wait_phase(cluster, "copying")
        deleted = 0
        while cluster.proxy.backend_states("p")[cluster.address(B)] == "joining":
            for name in names[deleted : deleted + 10]:
                client.raw.send(command("DEL", name))
            for _ in names[deleted : deleted + 10]:
                assert client.raw.read_reply() == b":1\r\n"
            deleted += 10
        assert deleted > 1000
        wait_back(cluster, B)
        assert_equal(cluster)


def test_what_came_before_the_copy_began_is_compared() -> None:
    # As a proxy leaves it that died, or that others did not know of yet: on the target alone.
    with managed(resync=AUTO) as cluster, cluster.connect() as client:
        assert isinstance(client, RedisStore)
        fill(client, 1000)
        client.ask("SADD", "set", *range(1000))
        cluster.servers[0][B].kill9()
        cluster.servers[0][B].restart()
        wait_phase(cluster, "settling")
        with connect("redis", cluster.servers[0][B].port) as direct:
            assert isinstance(direct, RedisStore)
            direct.ask("SET", "ghost", "1")
            direct.ask("SET", "fill7", "wrong")
            direct.ask("SET", "fill8", "8" * 5, "EX", 1000)
            direct.ask("SADD", "set", *reversed(range(1001)))
        wait_back(cluster, B)
        assert_equal(cluster)


def test_what_the_leader_loses_while_its_names_are_gone_through_goes_on_the_target_too() -> None:
    # Found by `tests/model`: it was compared only if the leader lacked it when the target's names were read.
    with managed(resync=SLOW) as cluster, cluster.connect() as client:
        assert isinstance(client, RedisStore)
        fill(client, 4000)
        brief = [f"brief{number}" for number in range(100)]
        cluster.servers[0][B].kill9()
        cluster.servers[0][B].restart()
        wait_phase(cluster, "settling")
        leader, target = cluster.servers[0]
        with connect("redis", leader.port) as ours, connect("redis", target.port) as theirs:
            assert isinstance(ours, RedisStore)
            assert isinstance(theirs, RedisStore)
            for key in brief:
                ours.ask("SET", key, "new", "EX", 1000)
                theirs.ask("SET", key, "old")
            wait_phase(cluster, "copying")
            for key in brief:
                ours.ask("PEXPIRE", key, 1)
        wait_back(cluster, B)
        assert_equal(cluster)


def test_a_backend_that_holds_another_shards_record_is_left_alone() -> None:
    with managed(resync=AUTO) as cluster, cluster.connect() as client:
        client.set(b"k", b"1")
        cluster.servers[0][B].kill9()
        client.set(b"k", b"2")
        cluster.servers[0][B].restart()
        with connect("redis", cluster.servers[0][B].port) as direct:
            assert isinstance(direct, RedisStore)
            direct.ask("SET", "__shardproxy:view:other/s1", "{}")
            direct.ask("SET", "theirs", "precious")
            metric = "shardproxy_resync_runs_total"
            eventually(lambda: cluster.proxy.metric(metric, result="foreign_record") > 0, within=15)
            assert direct.get(b"theirs") == b"precious"
        assert cluster.proxy.backend_states("p")[cluster.address(B)] == "stale"


@pytest.mark.parametrize("name", ["RESTORE", "FLUSHALL", "WATCH"])
def test_a_server_that_does_not_let_us_stays_as_it_is(name: str) -> None:
    with RedisServer(*MANAGED) as a, RedisServer(*MANAGED, "--rename-command", name, "") as b:
        resync = {"auto": True, "method": "copy"}
        pools = {"p": pool("redis", [a.address, b.address], **{**QUICK, "resync": resync})}
        with ProxyProcess({"pools": pools}) as proxy, connect("redis", proxy.ports["p"]) as client:
            client.set(b"k", b"1")
            b.stop()
            client.set(b"k", b"2")
            b.cont()
            metric = "shardproxy_resync_runs_total"
            eventually(lambda: proxy.metric(metric, result="refused") > 0, within=20)
            assert name in proxy.log_text()
            assert proxy.backend_states("p")[b.address] == "stale"
            client.set(b"k", b"3")
            with connect("redis", b.port) as direct:
                assert direct.get(b"k") in (b"1", b"2"), "what it had is there still"


@pytest.mark.parametrize(
    ("method", "arguments", "result", "is_back"),
    [
        ("copy", (), "done", True),  # servers that would allow REPLICAOF
        ("replicaof", MANAGED, "not_allowed", False),
        ("auto", ("--rename-command", "CLIENT", ""), "not_allowed", True),  # found out behind REPLICAOF
    ],
)
def test_the_method(method: str, arguments: tuple[str, ...], result: str, is_back: bool) -> None:
    resync = {"auto": True, "method": method}
    with Cluster("redis", arguments=arguments, resync=resync) as cluster, cluster.connect() as client:
        client.set(b"k", b"1")
        cluster.servers[0][B].kill9()
        client.set(b"k", b"2")
        cluster.servers[0][B].restart()
        metric = "shardproxy_resync_runs_total"
        eventually(lambda: cluster.proxy.metric(metric, result=result) > 0, within=BACK_SECONDS)
        if is_back:
            wait_back(cluster, B)
            assert cluster.proxy.metric("shardproxy_resync_write_pause_seconds_total") == 0
            assert_equal(cluster)
            with connect("redis", cluster.servers[0][B].port) as direct:
                assert isinstance(direct, RedisStore)
                assert direct.ask("ROLE")[0] == b"master"
        else:
            assert cluster.proxy.backend_states("p")[cluster.address(B)] == "stale"
            client.set(b"k", b"3")


def test_servers_with_a_password_that_do_not_allow_config(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret")
    arguments = ("--requirepass", "s3cret", "--rename-command", "CONFIG", "")
    with RedisServer(*arguments) as a, RedisServer(*arguments) as b:
        options = {**QUICK, "resync": AUTO, "backend_auth": {"password_file": str(secret)}}
        pools = {"p": pool("redis", [a.address, b.address], **options)}
        with ProxyProcess({"pools": pools}) as proxy, traffic_through("redis", proxy) as traffic:
            a.kill9()
            traffic.flow()
            a.restart()
            proxy.wait_state("p", a.address, "in_sync", within=BACK_SECONDS)
            assert proxy.metric("shardproxy_resync_runs_total", result="not_allowed") == 1
            assert "s3cret" not in proxy.log_text()


def test_servers_on_unix_sockets(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    with (
        RedisServer("--unixsocket", str(paths[A])) as a,
        RedisServer("--unixsocket", str(paths[B])) as b,
    ):
        addresses = [f"unix:{path}" for path in paths]
        pools = {"p": pool("redis", addresses, **{**QUICK, "resync": AUTO})}
        with ProxyProcess({"pools": pools}) as proxy, traffic_through("redis", proxy) as traffic:
            a.kill9()
            traffic.flow()
            a.restart()
            proxy.wait_state("p", addresses[A], "in_sync", within=BACK_SECONDS)
            traffic.flow()
            assert proxy.metric("shardproxy_resync_runs_total", result="not_allowed") == 0
            b.kill9()
            traffic.flow()


def test_the_rate_is_kept_and_progress_is_shown() -> None:
    with managed(resync=SLOW) as cluster, cluster.connect() as client:
        assert isinstance(client, RedisStore)
        fill(client, 350, size=2000)  # longer than between two lines of the log
        cluster.servers[0][B].kill9()
        cluster.servers[0][B].restart()
        wait_phase(cluster, "copying")
        assert cluster.shard_status()["backends"][B]["state"] == "joining"
        eventually(
            lambda: cluster.shard_status()["backends"][B]["resync"]["seconds_left"] is not None, within=5
        )
        for name in ("shardproxy_resync_copied_bytes", "shardproxy_resync_expected_bytes"):
            assert cluster.proxy.metric(name, backend=cluster.address(B)) > 0, name
        wait_back(cluster, B)
        lines = cluster.proxy.log_text().splitlines()
        assert any(" resynchronising " in line and "seconds_left=" in line for line in lines)
        done = next(line for line in lines if " resynchronised " in line)
        fields = dict(word.split("=", 1) for word in done.split() if "=" in word)
        assert int(fields["bytes"]) > 400_000
        assert float(fields["seconds"]) > int(fields["bytes"]) / 102_400 - 1, "not faster than allowed"


def test_with_auto_false_it_is_done_when_asked() -> None:
    with managed(resync={"auto": False}) as cluster, traffic_through("redis", cluster.proxy) as traffic:
        admin = f"127.0.0.1:{cluster.proxy.ports['admin']}"
        cluster.servers[0][A].kill9()
        cluster.servers[0][A].restart()
        cluster.wait_state(A, "stale")
        traffic.flow(2000)
        assert cluster.proxy.backend_states("p")[cluster.address(A)] == "stale"
        assert ask_resync(admin, "p", "s1", cluster.address(A)) is None
        wait_back(cluster, A)
