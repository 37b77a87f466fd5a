"""A Redis backend that was lost comes back by itself, and nothing is lost when the other one goes then.

Real processes. Clients write and read all the time, through every proxy, and reads are spread over all
that is in sync, so a backend that is admitted without one write shows as a stale read.
"""

import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.eventually import PATIENCE, eventually
from support.proxy_process import ProxyProcess, pool
from support.raw import Closed
from support.refill import BACK_SECONDS, phases, traffic_through, wait_back
from support.servers import RedisServer
from support.store import QUICK, RedisStore, Refused, connect

from proxy.admin.client import ask_resync
from proxy.control.fence import Owner

pytestmark = pytest.mark.fault

A, B = 0, 1
PAUSE_SECONDS = 1.0
AUTO = {"auto": True}
"""Tests about other things have it off (`QUICK`)."""
LATE = ["--repl-diskless-sync-delay", "5"]
"""Of a leader that waits, as Redis does by default, before it sends a byte: time to break something."""


@pytest.mark.parametrize("proxies", [1, 2, 3])
def test_a_killed_backend_comes_back_and_can_take_over(proxies: int) -> None:
    with Cluster("redis", reads="spread", resync=AUTO) as cluster:
        all_of_them = [cluster.proxy, *(cluster.start_proxy() for _ in range(proxies - 1))]
        with traffic_through("redis", *all_of_them) as traffic:
            for victim in (A, B):
                cluster.servers[0][victim].kill9()
                traffic.flow()
                cluster.servers[0][victim].restart()
                wait_back(cluster, victim, *all_of_them)
                traffic.flow(1000)
            cluster.servers[0][A].kill9()
            traffic.flow(1000)
        runs = sum(each.metric("shardproxy_resync_runs_total", result="done") for each in all_of_them)
        assert runs == 2
        pause = sum(each.metric("shardproxy_resync_write_pause_seconds_total") for each in all_of_them) / runs
        print(
            f"{proxies} proxies: writes held for {pause * 1000:.0f} ms, "
            f"longest wait of all {traffic.longest_pause():.3f} s"
        )
        assert pause < PAUSE_SECONDS * PATIENCE


def test_all_types_are_equal_afterwards() -> None:
    with Cluster("redis", resync=AUTO) as cluster, cluster.connect() as client:
        assert isinstance(client, RedisStore)
        for number in range(50):
            client.ask("SET", f"s{number}", "v" * number)
            client.ask("RPUSH", f"l{number}", *range(number + 1))
            client.ask("HSET", f"h{number}", "f", number, "g", "x")
            client.ask("ZADD", f"z{number}", number, "m", 1.5, "n")
            client.ask("SADD", f"m{number}", *range(number + 1))
            client.ask("XADD", f"x{number}", "*", "f", number)
        client.ask("SET", "short", "v", "EX", "1000")
        cluster.servers[0][B].kill9()
        client.ask("DEL", "s1")
        cluster.servers[0][B].restart()
        wait_back(cluster, B, cluster.proxy)
        client.ask("SET", "after", "1")
        assert cluster.differences() == {}
        with connect("redis", cluster.servers[0][B].port) as direct:
            assert isinstance(direct, RedisStore)
            assert direct.get(b"after") == b"1"
            assert 900 < int(direct.ask("TTL", "short")) <= 1000
            assert direct.ask("ROLE")[0] == b"master"


def test_another_proxy_takes_over_when_the_one_at_work_dies() -> None:
    with Cluster("redis", reads="spread", resync=AUTO, arguments=LATE) as cluster:
        proxies = [cluster.proxy, cluster.start_proxy()]
        cluster.servers[0][A].kill9()
        for each in proxies:
            eventually(lambda each=each: each.backend_states("p")[cluster.address(A)] != "in_sync")
        cluster.servers[0][A].restart()
        worker = eventually(lambda: next(each for each in proxies if phases(each)), within=10)
        survivor = next(each for each in proxies if each is not worker)
        with traffic_through("redis", survivor) as traffic:
            worker.kill9()
            wait_back(cluster, A, survivor)
            traffic.flow(500)
        assert survivor.metric("shardproxy_resync_runs_total", result="done") == 1


def test_the_target_dies_half_way() -> None:
    with (
        Cluster("redis", reads="spread", resync=AUTO, arguments=LATE) as cluster,
        traffic_through("redis", cluster.proxy) as traffic,
    ):
        cluster.servers[0][A].kill9()
        cluster.servers[0][A].restart()
        eventually(lambda: phases(cluster.proxy), within=10)
        cluster.servers[0][A].kill9()
        traffic.flow()
        cluster.servers[0][A].restart()
        wait_back(cluster, A, cluster.proxy)
        traffic.flow(500)


def test_the_leader_dies_half_way_and_the_target_keeps_what_it_had() -> None:
    with Cluster("redis", resync=AUTO, arguments=LATE) as cluster, cluster.connect() as client:
        client.set(b"k", b"1")
        # It missed a write, and is alive: what it holds is old, but all there would be if the leader died.
        cluster.servers[0][B].stop()
        client.set(b"k", b"2")
        cluster.servers[0][B].cont()
        eventually(lambda: phases(cluster.proxy), within=10)
        cluster.servers[0][A].kill9()
        cluster.wait_state(A, "down", "stale")
        eventually(lambda: not phases(cluster.proxy), within=10)
        with connect("redis", cluster.servers[0][B].port) as direct:
            assert isinstance(direct, RedisStore)
            eventually(lambda: direct.ask("ROLE")[0] == b"master", within=10)
            assert direct.get(b"k") in (b"1", b"2")
        assert cluster.proxy.backend_states("p")[cluster.address(B)] != "in_sync"


def test_a_backend_that_holds_another_shards_record_is_left_alone() -> None:
    with Cluster("redis", resync={"auto": False}) as cluster, cluster.connect() as client:
        proxy = cluster.proxy
        client.set(b"k", b"1")
        cluster.servers[0][B].kill9()
        client.set(b"k", b"2")
        cluster.servers[0][B].restart()
        cluster.wait_state(B, "stale")
        with connect("redis", cluster.servers[0][B].port) as direct:
            assert isinstance(direct, RedisStore)
            direct.ask("SET", "__shardproxy:view:other/s1", "{}")
            direct.ask("SET", "theirs", "precious")
            assert ask_resync(f"127.0.0.1:{proxy.ports['admin']}", "p", "s1", None) is None
            eventually(
                lambda: proxy.metric("shardproxy_resync_runs_total", result="foreign_record") > 0, within=15
            )
            assert direct.get(b"theirs") == b"precious"
        assert proxy.backend_states("p")[cluster.address(B)] == "stale"


def test_a_leader_with_thousands_of_connections() -> None:
    """Whose list is longer than any other reply; here of a few, with long names."""
    with Cluster("redis", resync=AUTO) as cluster, cluster.connect() as client, ExitStack() as stack:
        client.set(b"k", b"1")
        for _ in range(12):
            direct = stack.enter_context(connect("redis", cluster.servers[0][A].port))
            assert isinstance(direct, RedisStore)
            direct.ask("CLIENT", "SETNAME", "x" * 100_000)
        cluster.servers[0][B].kill9()
        client.set(b"k", b"2")
        cluster.servers[0][B].restart()
        cluster.wait_state(B, "in_sync", within=BACK_SECONDS)


def test_a_leader_that_is_full() -> None:
    with Cluster("redis", resync=AUTO) as cluster, cluster.connect() as client:
        client.set(b"k", b"1")
        cluster.servers[0][B].kill9()
        client.set(b"k", b"2")
        with connect("redis", cluster.servers[0][A].port) as direct:
            assert isinstance(direct, RedisStore)
            direct.ask("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(Refused, match="OOM"):
            client.set(b"k", b"3")
        cluster.servers[0][B].restart()
        cluster.wait_state(B, "in_sync", within=BACK_SECONDS)
        with connect("redis", cluster.servers[0][B].port) as direct:
            assert direct.get(b"k") == b"2"


def test_with_auto_false_it_is_done_when_asked() -> None:
    with (
        Cluster("redis", resync={"auto": False}) as cluster,
        traffic_through("redis", cluster.proxy) as traffic,
    ):
        admin = f"127.0.0.1:{cluster.proxy.ports['admin']}"
        assert "no backend is stale" in (ask_resync(admin, "p", "s1", None) or "")
        assert "no shard" in (ask_resync(admin, "p", "nowhere", None) or "")
        cluster.servers[0][A].kill9()
        cluster.servers[0][A].restart()
        cluster.wait_state(A, "stale")
        traffic.flow(2000)
        time.sleep(2.0)
        assert cluster.proxy.backend_states("p")[cluster.address(A)] == "stale"
        assert not phases(cluster.proxy)
        assert "is not stale" in (ask_resync(admin, "p", "s1", cluster.address(B)) or "")
        assert ask_resync(admin, "p", "s1", cluster.address(A)) is None
        wait_back(cluster, A, cluster.proxy)


def test_what_was_sent_to_the_target_before_it_was_given_up_comes_too_late() -> None:
    """As from a network that held it back until the target was in sync again (chaos seed 1300088)."""
    with Cluster("redis", resync=AUTO) as cluster, RedisStore(cluster.servers[0][A].port) as operator:
        cluster.servers[0][B].kill9()
        cluster.servers[0][B].restart()
        wait_back(cluster, B, cluster.proxy)
        # A proxy's connection that stays open while the server does not answer, and is there when it does.
        with RedisStore(cluster.servers[0][A].port) as given_up:
            given_up.ask("CLIENT", "SETNAME", Owner("f" * 16, "p", "s1").traffic)
            cluster.servers[0][A].stop()
            cluster.wait_state(A, "down")
            cluster.servers[0][A].cont()
            wait_back(cluster, A, cluster.proxy)
            with pytest.raises((Closed, OSError)):
                given_up.ask("SET", "k", "late")
        assert operator.ask("PING") == b"PONG", "who is no proxy is left alone"
        assert cluster.differences() == {}


def test_servers_with_a_password(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret")
    with RedisServer("--requirepass", "s3cret") as a, RedisServer("--requirepass", "s3cret") as b:
        options = {**QUICK, "resync": AUTO, "backend_auth": {"password_file": str(secret)}}
        pools = {"p": pool("redis", [a.address, b.address], **options)}
        with ProxyProcess({"pools": pools}) as proxy, traffic_through("redis", proxy) as traffic:
            a.kill9()
            traffic.flow()
            a.restart()
            proxy.wait_state("p", a.address, "in_sync", within=BACK_SECONDS)
            assert "s3cret" not in proxy.log_text()


def test_a_proxy_that_hangs_is_cut_off() -> None:
    # Its connections stay open, and nobody can tell what it will do when it goes on.
    with Cluster("redis", reads="spread", resync=AUTO) as cluster:
        hanging = cluster.start_proxy()
        with connect("redis", hanging.ports["p"]) as client:
            client.set(b"k", b"1")
            cluster.servers[0][A].kill9()
            hanging.wait_state("p", cluster.address(A), "down")
            client.set(b"k", b"2")
            hanging.stop()
            with traffic_through("redis", cluster.proxy) as traffic:
                cluster.servers[0][A].restart()
                wait_back(cluster, A, cluster.proxy)
                traffic.flow(500)
            assert "connections of other proxies cut" in cluster.proxy.log_text()
            hanging.cont()
            with suppress(Refused):
                client.set(b"k", b"3")  # whatever it is told, both have the write or neither
            values = set()
            for server in cluster.servers[0]:
                with connect("redis", server.port) as direct:
                    values.add(direct.get(b"k"))
            assert len(values) == 1
