"""Memcached commands that concern the proxy itself or every shard: stats, lists of keys, flush_all, config.

What a server says is asked of a server with the same items where it can be the same.
"""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from support import packets
from support.cluster import Cluster
from support.eventually import eventually
from support.proxy_process import ProxyProcess, pool
from support.raw import Closed, RawClient
from support.servers import MemcachedServer

KEYS = [b"key:%d" % number for number in range(60)]
BINARY = b"\x01 \r\nEND\r\n"
"""A key that only base64 names, and that would end a list of keys too early."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("memcached", shards=2, workers=2, limits={"request_bytes": "1MiB"}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def server() -> Iterator[MemcachedServer]:
    with MemcachedServer() as server:
        yield server


@pytest.fixture
def filled(cluster: Cluster, server: MemcachedServer) -> Cluster:
    """Both hold the same items, and no others."""
    for port in (cluster.proxy.memcached_port, server.port):
        with RawClient(port) as client:
            client.send(b"flush_all\r\n")
            client.expect(b"OK\r\n")
            for key in KEYS:
                client.send(b"set %b 7 0 5\r\nvalue\r\n" % key)
                client.expect(b"STORED\r\n")
    return cluster


def ask(port: int, request: bytes, end: bytes = b"END\r\n") -> bytes:
    with RawClient(port, timeout=20) as client:
        client.send(request + b"\r\n")
        return client.read_until(end)


def statistics(port: int, name: bytes = b"") -> dict[bytes, bytes]:
    lines = ask(port, (b"stats " + name).strip()).split(b"\r\n")
    return dict(line.split(b" ", 2)[1:3] for line in lines if line.startswith(b"STAT "))


def leaders(cluster: Cluster) -> list[int]:
    return [row[0].port for row in cluster.servers]


# --- stats -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"", b"settings", b"items", b"slabs", b"sizes"])
def test_stats_have_the_servers_names(name: bytes, filled: Cluster, server: MemcachedServer) -> None:
    found, expected = statistics(filled.proxy.memcached_port, name), statistics(server.port, name)
    further = {b"proxy_shards", b"proxy_shards_counted"} if not name else set()
    if name in (b"items", b"slabs"):
        # The records are items as well, perhaps of a class of their own.
        assert found.keys() >= {key for key in expected if key.partition(b":")[0] != b"1"}
    else:
        assert found.keys() - further == expected.keys()


def test_stats_are_the_proxys_and_sums_of_the_shards(filled: Cluster) -> None:
    found = statistics(filled.proxy.memcached_port)
    assert found[b"pid"] == b"%d" % filled.proxy.pid
    assert found[b"version"] == b"1.6.18"
    assert found[b"curr_items"] == b"%d" % len(KEYS)
    assert found[b"proxy_shards"] == found[b"proxy_shards_counted"] == b"2"
    assert found[b"limit_maxbytes"] == b"%d" % (2 * 64 << 20)
    assert found[b"threads"] == b"2"
    before = int(found[b"cmd_touch"])
    ask(filled.proxy.memcached_port, b"touch key:1 0\r\ntouch key:2 0", b"TOUCHED\r\nTOUCHED\r\n")
    assert int(statistics(filled.proxy.memcached_port)[b"cmd_touch"]) == before + 2


def test_stats_settings_are_those_clients_read(cluster: Cluster, server: MemcachedServer) -> None:
    found, expected = (
        statistics(cluster.proxy.memcached_port, b"settings"),
        statistics(server.port, b"settings"),
    )
    assert found[b"tcpport"] == b"%d" % cluster.proxy.memcached_port
    assert found[b"maxbytes"] == b"%d" % (2 * 64 << 20)
    for name in (b"item_size_max", b"cas_enabled", b"growth_factor", b"flush_enabled", b"binding_protocol"):
        assert found[name] == expected[name]
    assert found[b"auth_enabled_ascii"] == found[b"auth_enabled_sasl"] == b"no"


def test_stats_reset_reaches_every_server(filled: Cluster) -> None:
    with RawClient(filled.proxy.memcached_port) as client:
        client.send(b"incr nothing 1\r\nstats reset\r\n")
        client.expect(b"NOT_FOUND\r\nRESET\r\n")
    for row in filled.servers:
        for each in row:
            assert statistics(each.port)[b"incr_misses"] == b"0"
    assert set(filled.proxy.backend_states("p").values()) == {"in_sync"}


def test_stats_conns_are_the_clients_of_all_workers(cluster: Cluster) -> None:
    port = cluster.proxy.memcached_port
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(port)) for _ in range(6)]
        for client in clients:
            client.send(b"get a\r\n")
            client.expect(b"END\r\n")
        found = ask(port, b"stats conns")
        connected = {b"127.0.0.1:%d" % client.socket.getsockname()[1] for client in clients}
    peers = re.findall(rb"STAT \d+:addr tcp:(\S+)\r\n", found)
    assert connected < set(peers)
    assert found.count(b":listen_addr tcp:127.0.0.1:%d\r\n" % port) == len(peers)
    assert len(re.findall(rb"STAT \d+:secs_since_last_cmd \d+\r\n", found)) == len(peers)


def test_stats_conns_over_a_unix_socket(server: MemcachedServer, tmp_path: Path) -> None:
    """As 1.6.18 with `-s` says it: it knows no address of who connects."""
    path = str(tmp_path / "proxied")
    config = pool("memcached", [server.address], listen=f"unix:{path}")
    with ProxyProcess({"pools": {"p": config}}), RawClient(path) as client:
        client.send(b"stats conns\r\n")
        names = [line.partition(b":")[2] for line in client.read_until(b"END\r\n").splitlines()]
    assert names[:2] == [b"addr ?:<AF 0>", b"listen_addr unix:" + path.encode()]


def test_stats_behind_a_write_end_where_they_end(filled: Cluster) -> None:
    """A client's requests go to the worker that orders a shard's writes once it mixes reads and writes."""
    with RawClient(filled.proxy.memcached_port) as client:
        batch = b"".join(b"set %b 0 0 1\r\n1\r\nget %b\r\n" % (key, key) for key in KEYS[:30])
        client.send(batch + b"stats\r\nstats items\r\nget key:1\r\n")
        for key in KEYS[:30]:
            client.expect(b"STORED\r\nVALUE %b 0 1\r\n1\r\nEND\r\n" % key)
        assert b"STAT curr_items " in client.read_until(b"END\r\n")
        client.read_until(b"END\r\n")
        client.expect(b"VALUE key:1 0 1\r\n1\r\nEND\r\n")


def test_a_lost_shard_is_left_out_of_sums_and_answers() -> None:
    """Statistics end where they end, who asked for many keys gets those that are left, and who asked for
    silence gets it."""
    with (
        Cluster("memcached", shards=2, replicas=1) as cluster,
        RawClient(cluster.proxy.memcached_port) as client,
    ):
        for key in KEYS:
            client.send(b"set %b 0 0 1\r\n1\r\n" % key)
            client.expect(b"STORED\r\n")
        cluster.servers[1][0].kill9()
        eventually(lambda: cluster.members(1) == [], what="it is given up")
        found = statistics(cluster.proxy.memcached_port)
        assert (found[b"proxy_shards"], found[b"proxy_shards_counted"]) == (b"2", b"1")
        assert 0 < int(found[b"curr_items"]) < len(KEYS)
        for name in (b"items", b"slabs", b"sizes", b"settings", b"conns", b"extstore"):
            client.send(b"stats %b\r\n" % name)
            assert b"ERROR" not in client.read_until(b"END\r\n"), name
        for verb in (b"get", b"gets"):
            client.send(b"%b %b\r\n" % (verb, b" ".join(KEYS)))
            values = client.read_until(b"END\r\n")
            assert values.count(b"VALUE ") == int(found[b"curr_items"]), verb
            assert b"ERROR" not in values, "an error among values puts clients out of step"
        quiet = b"".join(
            b"set %(k)b 0 0 1 noreply\r\n1\r\nincr %(k)b 1 noreply\r\ntouch %(k)b 0 noreply\r\n"
            b"append %(k)b 0 0 1 noreply\r\n1\r\ndelete %(k)b noreply\r\n" % {b"k": key}
            for key in KEYS
        )
        client.send(quiet + b"flush_all noreply\r\nversion\r\n")
        client.expect(b"VERSION 1.6.18\r\n")


def test_without_any_shard_the_proxy_tells_of_itself() -> None:
    with Cluster("memcached", shards=2, replicas=1) as cluster:
        port = cluster.proxy.memcached_port
        before = statistics(port)
        for row in cluster.servers:
            row[0].kill9()
        eventually(lambda: cluster.members(0) == cluster.members(1) == [], what="they are given up")
        found = statistics(port)
        own = {b"pid", b"uptime", b"time", b"version", b"pointer_size", b"max_connections"}
        own |= {b"curr_connections", b"threads", b"proxy_shards", b"proxy_shards_counted"}
        assert found.keys() == own <= before.keys()
        changing = {b"uptime", b"time", b"curr_connections", b"proxy_shards_counted"}
        assert {name: found[name] for name in own - changing} == {
            name: before[name] for name in own - changing
        }
        assert (found[b"proxy_shards"], found[b"proxy_shards_counted"]) == (b"2", b"0")
        assert abs(int(found[b"time"]) - time.time()) < 60
        assert statistics(port, b"settings")[b"tcpport"] == b"%d" % port
        for name in (b"items", b"slabs", b"sizes"):
            assert ask(port, b"stats " + name) == b"END\r\n"
        with RawClient(port) as client:
            client.send(packets.packet(packets.STAT))
            rows = {}
            while (reply := packets.read_packet(client)).key:
                rows[reply.key] = reply.value
            assert (reply.status, reply.value) == (0, b"")
            assert rows.keys() == own
            assert packets.ask(client, packets.packet(packets.STAT, b"items")).key == b""


# --- what is the operator's --------------------------------------------------------------------------

OPERATORS = b"""
cache_memlimit 64|slabs reassign 1 2|slabs automove 1|lru mode flat|lru tune 10 10 0.1 0.2|lru temp_ttl 1
lru_crawler enable|lru_crawler disable|lru_crawler sleep 1|lru_crawler tocrawl 1|lru_crawler crawl 1
watch|watch fetchers mutations|extstore free_memchunks 1 1|refresh_certs
stats sizes_enable|stats sizes_disable
"""


def test_what_concerns_servers_is_refused_and_reaches_none(filled: Cluster) -> None:
    """Though a server would take it, as it stands here."""
    port = filled.proxy.memcached_port
    before = [statistics(server.port, b"settings") for row in filled.servers for server in row]
    with RawClient(port) as client:
        for line in OPERATORS.replace(b"\n", b"|").strip(b"|").split(b"|"):
            client.send(line + b"\r\nversion\r\n")
            assert client.read_until(b"VERSION 1.6.18\r\n") == b"ERROR\r\nVERSION 1.6.18\r\n", line
        client.send(b"cache_memlimit 64 noreply\r\nlru mode flat noreply\r\nversion\r\n")
        client.expect(b"VERSION 1.6.18\r\n")
        for line in (b"stats detail on", b"stats detail off", b"stats detail dump"):
            client.send(line + b"\r\n")
            client.expect(b"CLIENT_ERROR stats detail not allowed\r\n")
    after = [statistics(server.port, b"settings") for row in filled.servers for server in row]
    assert after == before


# --- lists of keys -----------------------------------------------------------------------------------


def set_binary(cluster: Cluster) -> None:
    """Under a key that no text command names, on both replicas of the first shard."""
    for each in cluster.servers[0]:
        with RawClient(each.port) as client:
            client.send(b"ms ASANCkVORA0K 1 b\r\n1\r\n")
            client.expect(b"HD\r\n")


@pytest.mark.parametrize("which", [b"all", b"hash", b"1,2,3"])
def test_metadump_lists_the_keys_of_all_shards(which: bytes, filled: Cluster) -> None:
    found = ask(filled.proxy.memcached_port, b"lru_crawler metadump " + which, b"\nEND\r\n")
    lines = found.removesuffix(b"END\r\n").splitlines()
    assert all(
        re.fullmatch(rb"key=\S+ exp=-1 la=\d+ cas=\d+ fetch=\w+ cls=\d+ size=\d+", line) for line in lines
    )
    assert sorted(unquote_to_bytes(line[4:].split()[0]) for line in lines) == sorted(KEYS)


def test_mgdump_names_keys_as_they_are_asked_for(filled: Cluster) -> None:
    set_binary(filled)
    found = ask(filled.proxy.memcached_port, b"lru_crawler mgdump hash", b"\r\nEN\r\n")
    lines = found.removesuffix(b"EN\r\n").splitlines()
    assert sorted(lines) == sorted([*(b"mg " + key for key in KEYS), b"mg ASANCkVORA0K b"])


def test_cachedump_lists_a_class_of_all_shards() -> None:
    """Of what is not used any more, which is everything where items are kept in one list (`no_modern`)."""
    with Cluster("memcached", shards=2, arguments=["-o", "no_modern"]) as cluster:
        port = cluster.proxy.memcached_port
        with RawClient(port) as client:
            for key in KEYS:
                client.send(b"set %b 0 0 5\r\nvalue\r\n" % key)
                client.expect(b"STORED\r\n")
        names = re.findall(rb"ITEM (\S+) \[5 b; 0 s\]\r\n", ask(port, b"stats cachedump 1 0"))
        assert sorted(names) == sorted(KEYS)
        assert ask(port, b"stats cachedump 1 1").count(b"ITEM") <= 2
        assert b"ITEM" not in ask(port, b"stats cachedump 63 0")


def test_requests_around_a_list_are_answered_in_order(filled: Cluster) -> None:
    with RawClient(filled.proxy.memcached_port) as client:
        client.send(
            b"get key:1\r\nlru_crawler metadump all\r\nget key:2\r\nlru_crawler mgdump x\r\nversion\r\n"
        )
        client.expect(b"VALUE key:1 7 5\r\nvalue\r\nEND\r\n")
        assert client.read_until(b"END\r\n").count(b"key=") == len(KEYS)
        client.expect(b"VALUE key:2 7 5\r\nvalue\r\nEND\r\nBADCLASS invalid class id\r\nVERSION 1.6.18\r\n")


def test_lists_at_the_same_time_wait_for_each_other(filled: Cluster) -> None:
    """A server lists its keys for one client at a time."""
    clients = [RawClient(filled.proxy.memcached_port, timeout=20) for _ in range(6)]
    for client in clients:
        client.send(b"lru_crawler metadump hash\r\n")
    for client in clients:
        assert client.read_until(b"END\r\n").count(b"key=") == len(KEYS)
        client.close()


def test_a_reader_that_stops_is_cut_off_and_costs_nobody_time() -> None:
    limits = {"request_bytes": "1MiB", "client_output_bytes": "1MiB"}
    with Cluster("memcached", replicas=1, limits=limits) as cluster:
        port, count = cluster.proxy.memcached_port, 60_000
        with RawClient(port, timeout=30) as client:
            sets = b"".join(b"set %0200d 0 0 1 noreply\r\n1\r\n" % number for number in range(count))
            client.send(sets + b"get a\r\n")
            client.expect(b"END\r\n")
            before = cluster.proxy.resident_bytes()
            with RawClient(port, timeout=30, receive_buffer=4096) as silent:
                silent.send(b"lru_crawler metadump hash\r\n")
                started = time.monotonic()
                for number in range(200):
                    client.send(b"get %0200d\r\n" % number)
                    client.read_until(b"END\r\n")
                assert time.monotonic() - started < 4, "others waited for it"
                assert cluster.proxy.resident_bytes() < before + (32 << 20)
                cut = "shardproxy_client_output_limit_closed_total"
                eventually(lambda: cluster.proxy.metric(cut, pool="p") == 1, within=20, what="it is cut off")
                with pytest.raises((Closed, ConnectionError)):
                    silent.read_exactly(1 << 30)
            # Whoever reads slowly has all of it.
            client.send(b"lru_crawler metadump hash\r\n")
            assert client.read_until(b"END\r\n").count(b"key=") == count


def test_a_list_of_a_lost_shard_is_no_whole_one() -> None:
    with Cluster("memcached", shards=2, replicas=1) as cluster:
        with RawClient(cluster.proxy.memcached_port) as client:
            for key in KEYS:
                client.send(b"set %b 0 0 1\r\n1\r\n" % key)
                client.expect(b"STORED\r\n")
        cluster.servers[1][0].kill9()
        with RawClient(cluster.proxy.memcached_port, timeout=20) as client:
            client.send(b"lru_crawler metadump all\r\n")
            found = client.expect_closed()
        assert found.count(b"key=") > 5
        assert found.splitlines()[-1].startswith(b"SERVER_ERROR ")
        cluster.servers[0][0].kill9()
        with RawClient(cluster.proxy.memcached_port, timeout=20) as client:
            client.send(b"lru_crawler metadump all\r\nversion\r\n")
            assert client.read_line().startswith(b"SERVER_ERROR ")
            client.expect(b"VERSION 1.6.18\r\n")


# --- flush_all ---------------------------------------------------------------------------------------


def test_a_delayed_flush_takes_everything_but_the_records(filled: Cluster) -> None:
    port = filled.proxy.memcached_port
    with RawClient(port) as client:
        client.send(b"flush_all 1\r\nget key:1\r\nset late 0 0 1\r\n1\r\n")
        client.expect(b"OK\r\nVALUE key:1 7 5\r\nvalue\r\nEND\r\nSTORED\r\n")

        def is_empty() -> bool:
            client.send(b"get late %b\r\n" % b" ".join(KEYS))
            return client.read_until(b"END\r\n") == b"END\r\n"

        eventually(is_empty, within=10, what="all is gone")
        client.send(b"set a 0 0 1\r\n1\r\nget a\r\n")
        client.expect(b"STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n")
    for shard, row in enumerate(filled.servers, start=1):
        for each in row:
            assert b"VALUE" in ask(each.port, b"get __shardproxy:view:p/s%d" % shard)
            assert b"key:" not in ask(each.port, b"lru_crawler metadump all")
    assert set(filled.proxy.backend_states("p").values()) == {"in_sync"}


def test_the_last_flush_counts(filled: Cluster) -> None:
    with RawClient(filled.proxy.memcached_port) as client:
        client.send(
            b"flush_all 1\r\nflush_all 100 noreply\r\nflush_all 1 noreply\r\nflush_all 0\r\n"
            b"set a 0 0 1\r\n1\r\nset clock 0 4 1\r\n1\r\n"
        )
        client.expect(b"OK\r\nOK\r\nSTORED\r\nSTORED\r\n")

        def is_later() -> bool:
            client.send(b"get clock\r\n")
            return client.read_until(b"END\r\n") == b"END\r\n"

        eventually(is_later, within=10, what="longer has passed than a delay of a second can take")
        client.send(b"get a key:1\r\n")
        client.expect(b"VALUE a 0 1\r\n1\r\nEND\r\n")


def test_a_delayed_flush_reaches_who_joins_meanwhile() -> None:
    with Cluster("memcached", resync={"auto": True}) as cluster:
        with RawClient(cluster.proxy.memcached_port) as client:
            client.send(b"set a 0 0 1\r\n1\r\nflush_all 3\r\n")
            client.expect(b"STORED\r\nOK\r\n")
            cluster.servers[0][1].restart()

            def is_flushed() -> bool:
                client.send(b"get a\r\n")
                return client.read_until(b"END\r\n") == b"END\r\n"

            eventually(is_flushed, within=15, what="it is flushed")
        cluster.wait_state(1, "in_sync", within=20)
        assert cluster.differences() == {}


def test_a_proxy_that_ends_does_not_forget_a_flush(filled: Cluster) -> None:
    """It comes before its time, as nobody else would do it: what a cache forgets early does no harm."""
    proxy = filled.start_proxy()
    with RawClient(proxy.memcached_port) as client:
        client.send(b"flush_all 1000\r\nget key:1\r\n")
        client.expect(b"OK\r\nVALUE key:1 7 5\r\nvalue\r\nEND\r\n")
        assert proxy.terminate() == 0
    for shard, row in enumerate(filled.servers, start=1):
        for each in row:
            assert b"VALUE" in ask(each.port, b"get __shardproxy:view:p/s%d" % shard)
            assert ask(each.port, b"get " + b" ".join(KEYS)) == b"END\r\n"
    assert set(filled.proxy.backend_states("p").values()) == {"in_sync"}


# --- config get cluster ------------------------------------------------------------------------------


def test_the_proxy_is_the_cluster(cluster: Cluster) -> None:
    port = cluster.proxy.memcached_port
    nodes = b"1\n127.0.0.1|127.0.0.1|%d\n" % port
    with RawClient(port) as client:
        client.send(
            b"config get cluster\r\nget AmazonElastiCache:cluster\r\nconfig set cluster\r\nconfig\r\n"
        )
        client.expect(b"CONFIG cluster 0 %d\r\n%b\r\nEND\r\n" % (len(nodes), nodes))
        client.expect(b"VALUE AmazonElastiCache:cluster 0 %d\r\n%b\r\nEND\r\n" % (len(nodes), nodes))
        client.expect(b"ERROR\r\nERROR\r\n")


# --- writes that have to come out alike ----------------------------------------------------------------


@pytest.mark.parametrize("spoil", [b"delete n\r\n", b"set n 0 0 1\r\n3\r\n", b"set n 9 0 4\r\n8   \r\n"])
@pytest.mark.parametrize(
    "write", [b"incr n 1", b"decr n 3", b"touch n 0", b"append n 0 0 1\r\n0", b"prepend n 0 0 1\r\n1"]
)
def test_a_replica_that_differs_gets_what_the_leader_has(
    write: bytes, spoil: bytes, cluster: Cluster
) -> None:
    row = next(row for row in cluster.servers if holder(cluster, row))
    with RawClient(cluster.proxy.memcached_port) as client, RawClient(row[1].port) as replica:
        client.send(b"set n 5 0 2\r\n10\r\n")
        client.expect(b"STORED\r\n")
        replica.send(spoil)
        replica.read_line()
        client.send(write + b"\r\n")
        client.read_line()
    copies = [ask(each.port, b"get n") for each in row]
    if b"delete" in spoil or write.startswith((b"incr", b"decr")):
        assert copies[0] == copies[1]
        assert b"VALUE n 5 " in copies[0]
    assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}


def holder(cluster: Cluster, row: list[MemcachedServer]) -> bool:
    with RawClient(cluster.proxy.memcached_port) as client:
        client.send(b"set n 5 0 2\r\n10\r\n")
        client.expect(b"STORED\r\n")
    return b"VALUE" in ask(row[0].port, b"get n")


def test_numbers_that_get_shorter_are_padded_alike(cluster: Cluster) -> None:
    """A server pads in place, but not while an answer still holds the item."""
    with RawClient(cluster.proxy.memcached_port) as client:
        for round_ in range(200):
            batch = (
                b"set p 1 0 3\r\n100\r\n"
                + b"get p\r\n" * (round_ % 3)
                + b"decr p 1\r\n"
                + b"get p\r\nincr p 1\r\n"
            )
            client.send(batch * 3 + b"version\r\n")
            client.read_until(b"VERSION 1.6.18\r\n")
            copies = [ask(each.port, b"get p") for row in cluster.servers for each in row]
            found = sorted(copy for copy in copies if b"VALUE" in copy)
            assert len(found) == 2, found
            assert found[0] == found[1], round_
    assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}


# --- values that not every backend takes ---------------------------------------------------------------


class MixedServer(MemcachedServer):
    """Every other one takes items of 2 MiB."""

    started = 0

    def __init__(self, *arguments: str, port: int | None = None) -> None:
        MixedServer.started += 1
        larger = ("-I", "2m") if MixedServer.started % 2 else ()
        super().__init__(*arguments, *larger, port=port)


def test_a_value_too_large_for_one_replica_is_stored_on_none() -> None:
    too_large = b"SERVER_ERROR object too large for cache\r\n"
    with (
        Cluster("memcached", servers={"memcached": MixedServer}) as cluster,
        RawClient(cluster.proxy.memcached_port, timeout=20) as client,
    ):
        limits = [statistics(each.port, b"settings")[b"item_size_max"] for each in cluster.servers[0]]
        assert limits == [b"2097152", b"1048576"]
        assert statistics(cluster.proxy.memcached_port, b"settings")[b"item_size_max"] in limits
        client.send(b"set a 0 0 3\r\nold\r\n")
        client.expect(b"STORED\r\n")
        # The largest item of one MiB, and one byte more.
        for length, answer in ((1048576 - 59 - 1, b"STORED\r\n"), (1048576 - 59, too_large)):
            client.send(b"set a 0 0 %d\r\n%b\r\n" % (length, b"x" * length))
            client.expect(answer)
        client.send(b"get a\r\n")
        client.expect(b"END\r\n")
        block = b"get b\r\n" * 250_000
        for request in (b"set b 7 0 %d noreply\r\n", b"add b 7 0 %d\r\n"):
            client.send(request % len(block) + block + b"\r\n")
        client.expect(too_large)
        client.send(b"get a b\r\nset b 0 0 1\r\n1\r\n")
        client.expect(b"END\r\nSTORED\r\n")
        assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}


def test_values_as_large_as_the_servers_take_them() -> None:
    """Of servers that take more than a MiB (`-I`), in all three dialects; and what is beyond."""
    value, beyond = b"x" * 7_000_000, b"y" * 9_000_000
    with (
        Cluster("memcached", arguments=["-I", "8m", "-m", "256"]) as cluster,
        RawClient(cluster.proxy.memcached_port, timeout=20) as client,
        RawClient(cluster.proxy.memcached_port, timeout=20) as binary,
    ):
        client.send(b"set a 1 0 %d\r\n%b\r\nget a\r\n" % (len(value), value))
        client.expect(b"STORED\r\nVALUE a 1 %d\r\n%b\r\nEND\r\n" % (len(value), value))
        client.send(b"ms a %d F2\r\n%b\r\nmg a f v\r\n" % (len(value), value))
        client.expect(b"HD\r\nVA %d f2\r\n%b\r\n" % (len(value), value))
        stored = packets.packet(packets.SET, b"a", value, extras=packets.item_extras(3))
        assert packets.ask(binary, stored).status == packets.OK
        assert packets.ask(binary, packets.packet(packets.GET, b"a")).value == value
        client.send(b"set a 1 0 %d\r\n%b\r\nget a\r\n" % (len(beyond), beyond))
        client.expect(b"SERVER_ERROR object too large for cache\r\nEND\r\n")
        assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}


def test_a_thousand_keys_at_once(cluster: Cluster) -> None:
    with RawClient(cluster.proxy.memcached_port, timeout=20) as client:
        keys = [b"many:%d:" % number + b"k" * 200 for number in range(1000)]
        client.send(b"".join(b"set %b 1 0 1 noreply\r\n1\r\n" % key for key in keys[::2]))
        client.send(b"get " + b" ".join(keys) + b"\r\n")
        for key in keys[::2]:
            client.expect(b"VALUE %b 1 1\r\n1\r\n" % key)
        client.expect(b"END\r\n")
