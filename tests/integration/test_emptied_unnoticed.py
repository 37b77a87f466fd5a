"""Promise P4 where a backend in sync loses its data and nothing says so: no new process, no flush counted.

Such a backend has lost its record too, and must not be given it again as if that had been evicted.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.eventually import eventually
from support.proxy_process import ProxyProcess, pool
from support.servers import RedisServer
from support.store import QUICK, MemcachedStore, RedisStore, Refused, connect, contents

pytestmark = pytest.mark.fault

A, B = 0, 1
NO_INFO = "user u on >pw ~* &* +@all -info\n"


@pytest.mark.parametrize("is_over", [True, False])
def test_the_data_of_another_server_in_its_place(is_over: bool) -> None:
    """As by a hand that typed REPLICAOF at the wrong server."""
    with (
        Cluster("redis", reads="spread") as cluster,
        cluster.connect() as client,
        RedisServer() as other,
        connect("redis", cluster.servers[0][B].port) as direct,
    ):
        assert isinstance(direct, RedisStore)
        client.set(b"k", b"v")
        direct.ask("REPLICAOF", "127.0.0.1", other.port)
        eventually(lambda: direct.get(b"k") is None)
        if is_over:
            direct.ask("REPLICAOF", "NO", "ONE")
        cluster.wait_state(B, "stale")
        assert [client.get(b"k") for _ in range(6)] == [b"v"] * 6
        client.set(b"k", b"w")


def test_a_flush_that_was_asked_for_earlier() -> None:
    with (
        Cluster("memcached", reads="spread") as cluster,
        cluster.connect() as client,
        connect("memcached", cluster.servers[0][B].port) as direct,
    ):
        assert isinstance(direct, MemcachedStore)
        client.set(b"k", b"v")
        assert direct.ask(b"flush_all 2") == b"OK"
        probes = cluster.proxy.metric("shardproxy_backend_probes_total", backend=cluster.address(B))
        assert cluster.proxy.backend_states("p")[cluster.address(B)] == "in_sync", "it is not due yet"
        cluster.wait_state(B, "stale")
        assert (
            cluster.proxy.metric("shardproxy_backend_probes_total", backend=cluster.address(B)) > probes + 1
        )
        assert [client.get(b"k") for _ in range(6)] == [b"v"] * 6


def test_what_one_still_loads_is_not_given_up_for_one_that_came_back_empty() -> None:
    """Both in sync are restarted; one has saved its data, and takes longer than others are waited for."""
    slow = ("--key-load-delay", "30000", "--loading-process-events-interval-bytes", "1024")
    with Cluster("redis", arguments=slow, resync={"auto": True}) as cluster:
        with cluster.connect() as client:
            for number in range(150):
                client.set(b"key:%d" % number, os.urandom(4000))  # so that it answers behind each key
        saved, empty = cluster.servers[0]
        with connect("redis", saved.port) as direct:
            assert isinstance(direct, RedisStore)
            direct.ask("SAVE")
        cluster.proxy.stop()  # or it goes on with the second one before that is killed as well
        for server in (saved, empty):
            server.kill9()
        cluster.proxy.cont()
        empty.start()
        saved.start()
        cluster.wait_state(A, "in_sync", within=20)
        cluster.wait_state(B, "in_sync", within=20)
        for server in (saved, empty):
            assert len(contents(server)) == 150


def test_a_server_that_does_not_say_what_it_holds_is_not_taken_to_be_empty(tmp_path: Path) -> None:
    """Without INFO two that differ look equal, and one that came back empty looks as before."""
    (tmp_path / "acl").write_text("user default on nopass ~* &* +@all\n" + NO_INFO)
    (tmp_path / "pw").write_text("pw")
    login = {"user": "u", "password_file": str(tmp_path / "pw")}
    arguments = ("--aclfile", str(tmp_path / "acl"))
    with RedisServer(*arguments) as first, RedisServer(*arguments) as second:
        for server, value in ((first, b"first"), (second, b"second")):
            with connect("redis", server.port) as direct:
                direct.set(b"k", value)
        options = {**QUICK, "reads": "spread", "backend_auth": login}
        pools = {"p": pool("redis", [first.address, second.address], **options)}
        with ProxyProcess({"pools": pools}, wait_ready=False) as proxy:
            eventually(lambda: set(proxy.backend_states("p").values()) == {"stale"})
            backends = proxy.status()["pools"]["p"]["shards"]["s1"]["backends"]
            assert {each["reason"] for each in backends} == {"noauth"}
            with connect("redis", proxy.ports["p"]) as client, pytest.raises(Refused, match="CLUSTERDOWN"):
                client.get(b"k")
            for server in (first, second):
                with connect("redis", server.port) as direct:
                    assert isinstance(direct, RedisStore)
                    direct.ask("ACL", "SETUSER", "u", "+info")
            eventually(lambda: proxy.backend_states("p")[first.address] == "in_sync")
            assert proxy.backend_states("p")[second.address] == "stale", "it differs"
            with connect("redis", proxy.ports["p"]) as client:
                assert [client.get(b"k") for _ in range(4)] == [b"first"] * 4
