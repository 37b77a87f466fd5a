"""A Memcached backend that was lost comes back by itself, and nothing is lost when the other one goes then.

Real processes, as in ``test_resync.py``. What is copied is compared by value, flags and time to live.
"""

from __future__ import annotations

import random

import pytest
from support.cluster import Cluster
from support.copying import AUTO, MEMCACHED, SLOW, A, B, fill, outlived
from support.eventually import eventually
from support.proxy_process import ProxyProcess, pool
from support.refill import random_writes, traffic_through, wait_back, wait_phase
from support.servers import MemcachedServer
from support.store import QUICK, MemcachedStore, connect, contents

from proxy.admin.client import ask_resync

pytestmark = pytest.mark.fault


@pytest.mark.parametrize(("proxies", "workers"), [(1, 1), (2, 2), (3, 1)])
def test_a_killed_backend_comes_back_and_can_take_over(
    proxies: int, workers: int, rng: random.Random
) -> None:
    with Cluster("memcached", reads="spread", resync=AUTO, workers=workers) as cluster:
        all_of_them = [cluster.proxy, *(cluster.start_proxy() for _ in range(proxies - 1))]
        with traffic_through("memcached", *all_of_them) as traffic:
            with random_writes("memcached", cluster.proxy.ports["p"], rng.randrange(1 << 30)):
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
        print(f"{proxies} proxies: longest wait of all {traffic.longest_pause():.3f} s")


def test_everything_about_an_item_is_copied() -> None:
    large = b"x" * 900_000
    with Cluster("memcached", resync=AUTO) as cluster, cluster.connect() as client:
        assert isinstance(client, MemcachedStore)
        fill(client, 3000)
        assert client.ask(b"set large 7 0 900000\r\n" + large) == b"STORED"
        assert client.ask(b"set short 4294967295 1000 1\r\ns") == b"STORED"
        assert client.ask(b"set long 0 2591999 1\r\nl") == b"STORED"
        assert client.ask(b"touch long 2592000") == b"TOUCHED"
        assert client.ask(b"set empty 1 0 0\r\n") == b"STORED"
        with MemcachedStore(cluster.servers[0][A].port) as direct:  # a key that text cannot name
            assert direct.ask(b"ms AAEgCv8= 3 b T0 F5\r\nbin") == b"HD"
        cluster.servers[0][B].kill9()
        cluster.servers[0][B].restart()
        wait_back(cluster, B)
        assert cluster.differences() == {}
        with MemcachedStore(cluster.servers[0][B].port) as direct:
            assert 900 < int(direct.ask(b"mg short t").split(b"t")[1]) <= 1000
            assert 2_590_000 < int(direct.ask(b"mg long t").split(b"t")[1]) <= 2_592_000
            assert direct.ask(b"mg AAEgCv8= b f s") == b"HD f5 s3"
        cluster.servers[0][A].kill9()
        assert client.get(b"large") == large


def test_stale_and_won_items_are_copied_as_they_are() -> None:
    """And copying them takes nothing away: the first client that asks for a stale one still wins it."""
    with Cluster("memcached", resync=AUTO) as cluster, cluster.connect() as client:
        assert isinstance(client, MemcachedStore)
        fill(client, 100)
        for name in (b"stale", b"stalewon", b"AAEgCv8= b"):
            word, _, mark = name.partition(b" ")
            assert client.ask(b"ms %b 3 T1000 F5 %b\r\nold" % (word, mark)) == b"HD"
            assert client.ask(b"md %b I %b" % (word, mark)) == b"HD"
        assert client.ask(b"mg stalewon s") == b"HD s3 X W"
        assert client.ask(b"mg vivified s N900") == b"HD s0 W"
        assert client.ask(b"ms early 1 T1000\r\ne") == b"HD"
        assert client.ask(b"mg early R2000") == b"HD W"
        cluster.servers[0][B].kill9()
        cluster.servers[0][B].restart()
        wait_back(cluster, B)
        expected = {
            b"stalewon s f": b"HD s3 f5 Z X",
            b"vivified s": b"HD s0 Z",
            b"early s": b"HD s1 Z",
            b"stale s f": b"HD s3 f5 X W",
            b"AAEgCv8= b s f": b"HD s3 f5 X W",
        }
        for request, answer in expected.items():
            for backend in (A, B):
                with MemcachedStore(cluster.servers[0][backend].port) as direct:
                    assert direct.ask(b"mg " + request) == answer, f"{request!r} on {backend}"
        assert cluster.differences() == {}


def test_what_was_deleted_meanwhile_stays_deleted() -> None:
    with Cluster("memcached", resync=AUTO) as cluster, cluster.connect() as client:
        assert isinstance(client, MemcachedStore)
        fill(client, 100)
        cluster.servers[0][B].stop()
        assert client.ask(b"delete fill7") == b"DELETED"
        assert client.ask(b"set fill8 0 0 3\r\nnew") == b"STORED"
        cluster.servers[0][B].cont()
        wait_back(cluster, B)
        assert cluster.differences() == {}
        cluster.servers[0][A].kill9()
        assert client.get(b"fill7") is None
        assert client.get(b"fill8") == b"new"


def test_writes_of_all_kinds_while_it_is_copied(rng: random.Random) -> None:
    with Cluster("memcached", resync=SLOW, workers=2) as cluster, cluster.connect() as client:
        assert isinstance(client, MemcachedStore)
        fill(client, 2500)
        cluster.servers[0][B].kill9()
        cluster.servers[0][B].restart()
        wait_phase(cluster, "copying")
        # Some keys are copied by now and some are not.
        for number in rng.sample(range(2500), 600):
            key, verb = b"fill%d" % number, rng.randrange(7)
            request = [
                b"append %b 0 0 1\r\n+" % key,
                b"prepend %b 0 0 1\r\n-" % key,
                b"delete %b" % key,
                b"incr %b 5" % key,
                b"touch %b 5000" % key,
                b"replace %b 3 0 1\r\nr" % key,
                b"add %b 3 0 1\r\na" % key,
            ][verb]
            assert b"ERROR" not in client.ask(request)
        client.raw.send(b"gat 4000 fill1 fill2 fill3\r\n")
        client.read_values()
        assert cluster.proxy.backend_states("p")[cluster.address(B)] == "joining"
        wait_back(cluster, B)
        assert cluster.differences() == {}


def test_a_flush_while_it_is_copied() -> None:
    with Cluster("memcached", resync=SLOW) as cluster, cluster.connect() as client:
        assert isinstance(client, MemcachedStore)
        fill(client, 2500)
        cluster.servers[0][B].kill9()
        cluster.servers[0][B].restart()
        wait_phase(cluster, "copying")
        assert client.ask(b"flush_all") == b"OK"
        client.set(b"after", b"1")
        wait_back(cluster, B)
        assert cluster.differences() == {}
        cluster.servers[0][A].kill9()
        assert client.get(b"fill1") is None
        assert client.get(b"after") == b"1"


def test_what_came_before_the_copy_began_is_compared() -> None:
    # As a proxy leaves it that died, or that others did not know of yet: on the target alone.
    with Cluster("memcached", resync=AUTO) as cluster, cluster.connect() as client:
        assert isinstance(client, MemcachedStore)
        fill(client, 100)
        assert client.ask(b"set brief 0 1000 1\r\n7") == b"STORED"
        cluster.servers[0][B].kill9()
        cluster.servers[0][B].restart()
        wait_phase(cluster, "settling")
        with MemcachedStore(cluster.servers[0][B].port) as direct:
            for request in (b"ghost 0 0 1\r\n1", b"fill7 7 0 5\r\nwrong", b"brief 0 0 1\r\n7"):
                assert direct.ask(b"set " + request) == b"STORED"
        wait_back(cluster, B)
        assert cluster.differences() == {}
        with MemcachedStore(cluster.servers[0][B].port) as direct:
            assert 900 < int(direct.ask(b"mg brief t").split(b"t")[1]) <= 1000


def test_another_proxy_goes_on_when_the_one_at_work_dies() -> None:
    with Cluster("memcached", reads="spread", resync=SLOW) as cluster, cluster.connect() as client:
        assert isinstance(client, MemcachedStore)
        fill(client, 4000)
        proxies = [cluster.proxy, cluster.start_proxy()]
        cluster.servers[0][A].kill9()
        cluster.servers[0][A].restart()
        worker = wait_phase(cluster, "copying", *proxies)
        survivor = next(each for each in proxies if each is not worker)
        with traffic_through("memcached", survivor) as traffic:
            worker.kill9()
            traffic.flow(500)
            wait_back(cluster, A, survivor)
            assert cluster.servers[0][A].is_running()
            traffic.flow(500)
        assert survivor.metric("shardproxy_resync_runs_total", result="done") == 1
        with MemcachedStore(cluster.servers[0][A].port) as direct:
            direct.raw.send(b"stats\r\n")
            statistics = direct.raw.read_until(b"END\r\n")
        assert b"STAT cmd_flush 0\r\n" in statistics, "it was not emptied again"


def test_what_it_still_holds_is_compared_and_not_flushed() -> None:
    # With -F a server refuses to be flushed. A flush cannot be taken back, nor be kept from coming late.
    with (
        Cluster("memcached", resync=AUTO, arguments=["-F"]) as cluster,
        cluster.connect() as client,
        cluster.connect() as reader,
    ):
        assert isinstance(client, MemcachedStore)
        assert isinstance(reader, MemcachedStore)
        fill(client, 3000)
        cluster.servers[0][B].stop()
        for number in range(0, 3000, 3):
            key = b"fill%d" % number
            request = [
                b"delete %b" % key,
                b"set %b 4 0 1\r\nx" % key,
                b"touch %b 5000" % key,
                b"ms new%d 1\r\nn" % number,
                b"md %b I T1000" % key,
            ][number % 5]
            assert b"ERROR" not in client.ask(request)
        cluster.servers[0][B].cont()
        wait_back(cluster, B)
        assert cluster.differences() == {}
        cluster.servers[0][A].kill9()
        assert reader.get(b"fill0") is None, "it was deleted while the other was away"
        assert reader.get(b"fill1") == b"1" * 5


def test_who_was_stopped_while_it_copied_writes_nothing_when_another_is_done() -> None:
    with outlived(MEMCACHED, B, 4000) as (cluster, worker, survivor):
        metric = "shardproxy_resync_runs_total"
        eventually(lambda: worker.metric(metric, result="lease_lost") == 1, within=10)
        wait_back(cluster, B, worker, survivor)
        assert contents(cluster.servers[0][B]) == contents(cluster.servers[0][A]) == {}


def test_a_backend_that_holds_another_shards_record_is_left_alone() -> None:
    with Cluster("memcached", resync=AUTO) as cluster, cluster.connect() as client:
        client.set(b"k", b"1")
        cluster.servers[0][B].kill9()
        client.set(b"k", b"2")
        cluster.servers[0][B].restart()
        with MemcachedStore(cluster.servers[0][B].port) as direct:
            direct.set(b"__shardproxy:view:other/s1", b"{}")
            direct.set(b"theirs", b"precious")
            metric = "shardproxy_resync_runs_total"
            eventually(lambda: cluster.proxy.metric(metric, result="foreign_record") > 0, within=15)
            assert direct.get(b"theirs") == b"precious"
        assert cluster.proxy.backend_states("p")[cluster.address(B)] == "stale"


@pytest.mark.parametrize(
    ("option", "result"),
    [("-C", "unsupported"), ("-X", "refused"), ("-I 512k", "refused")],
)
def test_a_server_that_cannot_be_made_equal_stays_out(option: str, result: str) -> None:
    with MemcachedServer() as a, MemcachedServer(*option.split()) as b:
        pools = {"p": pool("memcached", [a.address, b.address], **{**QUICK, "resync": AUTO})}
        with ProxyProcess({"pools": pools}) as proxy, connect("memcached", proxy.ports["p"]) as client:
            client.set(b"k", b"1")
            b.stop()
            client.set(b"k", b"2")
            # Now that it is out, what only the other takes is taken.
            client.set(b"k", b"x" * 600_000)
            b.cont()
            metric = "shardproxy_resync_runs_total"
            eventually(lambda: proxy.metric(metric, result=result) > 0, within=20)
            assert proxy.backend_states("p")[b.address] != "in_sync"
            client.set(b"k", b"3")
            assert "resynchronisation given up" in proxy.log_text()


def test_the_rate_is_kept_and_progress_is_shown() -> None:
    with Cluster("memcached", resync=SLOW) as cluster, cluster.connect() as client:
        assert isinstance(client, MemcachedStore)
        fill(client, 350, size=2000)  # longer than between two lines of the log
        cluster.servers[0][B].kill9()
        cluster.servers[0][B].restart()
        wait_phase(cluster, "copying")
        backend = cluster.shard_status()["backends"][B]
        assert backend["state"] == "joining"
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
    with (
        Cluster("memcached", resync={"auto": False}) as cluster,
        traffic_through("memcached", cluster.proxy) as traffic,
    ):
        admin = f"127.0.0.1:{cluster.proxy.ports['admin']}"
        cluster.servers[0][A].kill9()
        cluster.servers[0][A].restart()
        cluster.wait_state(A, "stale")
        traffic.flow(2000)
        assert cluster.proxy.backend_states("p")[cluster.address(A)] == "stale"
        assert ask_resync(admin, "p", "s1", cluster.address(A)) is None
        wait_back(cluster, A)
