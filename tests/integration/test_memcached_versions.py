"""Backends of different memcached versions in one shard: the server of the distribution and a newer one.

The newer one is the program that SHARDPROXY_TEST_NEW_MEMCACHED names (tests/README.md says how to make it).
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.raw import RawClient
from support.servers import MemcachedServer

PROGRAM = os.environ.get("SHARDPROXY_TEST_NEW_MEMCACHED", "")

pytestmark = pytest.mark.skipif(not PROGRAM, reason="SHARDPROXY_TEST_NEW_MEMCACHED names no newer memcached")


class MixedServer(MemcachedServer):
    """The first of two is the newer one, or the second."""

    started = 0

    def __init__(self, *arguments: str, port: int | None = None) -> None:
        super().__init__(*arguments, port=port)
        self.is_new = MixedServer.started % 2 == 0
        MixedServer.started += 1

    def command(self) -> list[str]:
        program, *arguments = super().command()
        return [PROGRAM if self.is_new else program, *arguments]


@pytest.fixture(params=["new leads", "old leads"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    MixedServer.started = 0 if request.param == "new leads" else 1
    with Cluster("memcached", servers={"memcached": MixedServer}, resync={"auto": True}) as cluster:
        versions = set()
        for server in cluster.servers[0]:
            with RawClient(server.port) as client:
                client.send(b"version\r\n")
                versions.add(client.read_line())
        assert len(versions) == 2, "both programs are the same"
        yield cluster


def test_writes_come_out_alike(cluster: Cluster) -> None:
    with RawClient(cluster.proxy.memcached_port) as client:
        client.send(
            b"set a 1 0 1\r\n1\r\nadd b 2 100 2\r\n10\r\nincr a 9\r\ndecr b 1\r\n"
            b"append a 0 0 1\r\nx\r\ntouch b 200\r\ngat 300 a\r\ngets b\r\n"
        )
        client.expect(b"STORED\r\nSTORED\r\n10\r\n9\r\nSTORED\r\nTOUCHED\r\nVALUE a 1 3\r\n10x\r\nEND\r\n")
        token = client.read_line().split()[-1]
        client.read_until(b"END\r\n")
        client.send(b"cas b 3 0 1 %b\r\n5\r\ncas b 3 0 1 %b\r\n6\r\nget a b\r\n" % (token, token))
        client.expect(b"STORED\r\nEXISTS\r\nVALUE a 1 3\r\n10x\r\nVALUE b 3 1\r\n5\r\nEND\r\n")
        client.send(b"set a x 0 1\r\nget %b\r\ndelete a noreply\r\nget a\r\n" % (b"k" * 251))
        client.expect(b"CLIENT_ERROR bad command line format\r\n" * 2 + b"END\r\n")
        # A newer server takes such a key at the end of the line for what it spells.
        client.send(b"set noreply 0 0 1\r\n1\r\ndelete noreply\r\nget noreply\r\nset noreply 0 0 1\r\n2\r\n")
        client.send(b"delete noreply noreply\r\ndelete noreply\r\n")
        client.expect(b"STORED\r\nDELETED\r\nEND\r\nSTORED\r\nNOT_FOUND\r\n")
    assert cluster.differences() == {}
    assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}


def test_lists_and_statistics_are_those_of_one_server(cluster: Cluster) -> None:
    with RawClient(cluster.proxy.memcached_port, timeout=20) as client:
        client.send(b"set a 0 0 1\r\n1\r\nlru_crawler metadump hash\r\nlru_crawler mgdump hash\r\nstats\r\n")
        client.expect(b"STORED\r\n")
        assert client.read_until(b"END\r\n").startswith(b"key=a exp=-1 ")
        client.expect(b"mg a\r\nEN\r\n")
        assert b"STAT version 1.6.18\r\n" in client.read_until(b"END\r\n")
        client.send(b"stats settings\r\nstats items\r\nstats slabs\r\nstats reset\r\n")
        for _ in range(3):
            assert client.read_until(b"END\r\n").startswith(b"STAT ")
        client.expect(b"RESET\r\n")


@pytest.mark.parametrize("lost", [0, 1])
def test_each_is_filled_from_the_other(cluster: Cluster, lost: int) -> None:
    with RawClient(cluster.proxy.memcached_port, timeout=20) as client:
        client.send(b"".join(b"set k%d 5 0 3\r\nabc\r\n" % number for number in range(300)))
        client.expect(b"STORED\r\n" * 300)
        cluster.servers[0][lost].restart()
        cluster.wait_state(lost, "stale", "joining", "down", "in_sync")
        cluster.wait_state(lost, "in_sync", within=20)
        client.send(b"set k1 5 0 3\r\nnew\r\nget k1 k2\r\n")
        client.expect(b"STORED\r\nVALUE k1 5 3\r\nnew\r\nVALUE k2 5 3\r\nabc\r\nEND\r\n")
    assert cluster.differences() == {}


def test_both_take_a_login(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("app:pass\n")
    (tmp_path / "password").write_text("pass\n")
    login = {"user": "app", "password_file": str(tmp_path / "password")}
    MixedServer.started = 0
    with (
        Cluster(
            "memcached",
            servers={"memcached": MixedServer},
            arguments=["-Y", str(tmp_path / "users")],
            backend_auth=login,
        ) as cluster,
        RawClient(cluster.proxy.memcached_port) as client,
    ):
        client.send(b"set a 0 0 1\r\n1\r\nget a\r\n")
        client.expect(b"STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n")
        assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}
