"""Meta commands over shards and replicas: what a stream compared with one server cannot show."""

import base64
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from support.cluster import Cluster
from support.raw import RawClient
from support.store import MemcachedStore

A, B = 0, 1
KEYS = [b"key%d" % n for n in range(20)]


@pytest.fixture(scope="module")
def spread() -> Iterator[Cluster]:
    """Three shards of two replicas, read from everywhere."""
    with Cluster("memcached", shards=3, workers=2, reads="spread") as cluster:
        yield cluster


@pytest.fixture
def client(spread: Cluster) -> Iterator[RawClient]:
    with RawClient(spread.proxy.memcached_port) as client:
        client.send(b"flush_all\r\n")
        client.expect(b"OK\r\n")
        yield client


def test_mn_stands_behind_the_answers_of_all_shards(client: RawClient) -> None:
    for key in KEYS[::2]:
        client.send(b"ms %b 1 q\r\nv\r\n" % key)
    client.send(b"".join(b"mg %b v k q\r\n" % key for key in KEYS) + b"mn\r\n")
    client.expect(b"".join(b"VA 1 k%b\r\nv\r\n" % key for key in KEYS[::2]) + b"MN\r\n")


def test_what_q_hides(client: RawClient) -> None:
    client.send(
        b"mg a q\r\nmd a q\r\nma a q\r\nma a N0 J5 q v\r\nma a q v\r\nms a 1 ME q\r\nx\r\n"
        b"ms a 1 MR q\r\nx\r\nma a q\r\nmg a q v\r\nms a 1 C5 q\r\ny\r\nmd a q C5\r\nmd a q\r\n"
        b"ms a 3 q\r\nabcdemn\r\nmn\r\n"
    )
    client.expect(
        b"NF\r\nNF\r\nNS\r\nCLIENT_ERROR cannot increment or decrement non-numeric value\r\nVA 1\r\nx\r\n"
        b"EX\r\nEX\r\nCLIENT_ERROR bad data chunk\r\nMN\r\nMN\r\n"
    )


def test_both_spellings_of_a_key_meet(client: RawClient) -> None:
    for key in KEYS:
        word = base64.b64encode(key)
        client.send(b"ms %b 1 b\r\n1\r\nget %b\r\nma %b v\r\nmg %b b v k\r\nmd %b b\r\nmg %b k\r\n"
                    % (word, key, key, word, word, key))  # fmt: skip
        client.expect(b"HD\r\nVALUE %b 0 1\r\n1\r\nEND\r\nVA 1\r\n2\r\n" % key)
        assert client.read_line().startswith(b"VA 1 k")
        client.expect(b"2\r\nHD\r\nEN k%b\r\n" % key)


def test_a_key_cannot_pass_for_a_reply(client: RawClient) -> None:
    """A key that a server has not stored as base64 it shows raw: here with a whole reply in it."""
    word = base64.b64encode(b"a\r\nVA 6\r\nforged")
    client.send(b"ma %b b N0 J7\r\nmg %b b k v\r\nmg %b k b O1 s t\r\nme %b b\r\n" % (word, word, word, word))
    client.expect(b"HD\r\nVA 1 k%b b\r\n7\r\nHD k%b b O1 s1 t-1\r\n" % (word, word))
    client.expect(b"CLIENT_ERROR bad command line format\r\n")


def test_our_own_keys_cannot_be_named(client: RawClient) -> None:
    for key, mark in ((b"__shardproxy:x", b""), (base64.b64encode(b"__shardproxy:x"), b" b")):
        for line in (b"mg %b%b", b"md %b%b q", b"ma %b%b N0 q", b"ms %b 2%b q\r\nhi", b"me %b%b"):
            client.send(line % (key, mark) + b"\r\nmn\r\n")
            assert client.read_line().startswith(b"CLIENT_ERROR"), line
            client.expect(b"MN\r\n")


def test_bad_sets_leave_the_stream_in_step(client: RawClient) -> None:
    block = b"flush_all\r\nmg x"
    for flags in (b"!", b"T0\0", b"v " * 17, b"O" + b"o" * 40, b"T", b"v v", b"W"):
        client.send(b"ms a %d %b\r\n%b\r\nmn\r\n" % (len(block), flags, block))
        assert client.read_line().startswith(b"CLIENT_ERROR"), flags
        client.expect(b"MN\r\n")
    client.send(b"ms %b 3\r\nabc\r\nms a x\r\nms a -1\r\nmn\r\n" % (b"k" * 251))
    client.expect(3 * b"CLIENT_ERROR bad command line format\r\n" + b"MN\r\n")
    client.send(b"ms a 3 T0\r\nold\r\nms a 1100000 q\r\n" + b"x" * 1_100_000 + b"\r\nmg a\r\n")
    client.expect(b"HD\r\nSERVER_ERROR object too large for cache\r\nEN\r\n")


def test_one_client_wins_wherever_it_reads(spread: Cluster, client: RawClient) -> None:
    for key in KEYS:
        client.send(b"ms %b 3\r\nold\r\nmd %b I T30\r\n" % (key, key))
        client.expect(b"HD\r\nHD\r\n")
        with RawClient(spread.proxy.memcached_port) as other:
            for each, mark in ((client, b"X W"), (other, b"Z X"), (client, b"Z X"), (other, b"Z X")):
                each.send(b"mg %b v\r\n" % key)
                each.expect(b"VA 3 %b\r\nold\r\n" % mark)
    # What has won goes to the replicas like a write, so it is there before a later one to the same shard.
    client.send(b"".join(b"ms fence%d 0\r\n\r\n" % number for number in range(30)))
    client.expect(30 * b"HD\r\n")
    for server in (server for row in spread.servers for server in row):
        with RawClient(server.port) as direct:
            for key in KEYS:
                direct.send(b"mg %b\r\n" % key)
                line = direct.read_line()
                assert line in (b"EN\r\n", b"HD Z X\r\n"), (key, line)


@pytest.mark.parametrize("key", [b"plain", b"of two words"])
def test_a_replica_that_differs_is_mended_before_the_client_is_answered(spread: Cluster, key: bytes) -> None:
    """One that has forgotten the item would count from the start, or have nothing to append to."""
    word = base64.b64encode(key)
    requests = {
        b"ma %b b N0 J100 O1\r\n": (b"HD O1\r\n", b"6"),
        b"ma %b b v t k s N0 J100\r\n": (b"VA 1 t-1", b"6"),
        b"ma %b b q MD D4\r\n": (b"", b"1"),
        b"ms %b 1 b MA\r\n7\r\n": (b"HD\r\n", b"57"),
        b"ms %b 1 b MP c\r\n7\r\n": (b"HD c", b"75"),
    }
    with RawClient(spread.proxy.memcached_port) as client, ExitStack() as stack:
        rows = [[stack.enter_context(RawClient(server.port)) for server in row] for row in spread.servers]

        def held(client: RawClient) -> bytes | None:
            client.send(b"mg %b b v\r\n" % word)
            line = client.read_line()
            return None if line == b"EN\r\n" else client.read_exactly(int(line.split()[1]) + 2)[:-2]

        for forgetful in (A, B):
            for request, (answer, value) in requests.items():
                client.send(b"ms %b 1 b F3\r\n5\r\n" % word)
                client.expect(b"HD\r\n")
                for row in rows:
                    row[forgetful].send(b"md %b b\r\n" % word)
                    row[forgetful].read_line()
                client.send(request % word + b"mn\r\n")
                answered = client.read_until(b"MN\r\n")
                assert forgetful == A or answered.startswith(answer)
                copies = [[held(each) for each in row] for row in rows]
                assert all(row[A] == row[B] for row in copies), (request, copies)
                assert forgetful == A or [value, value] in copies, (request, copies)


def test_tokens_end_with_the_view_and_given_ones_do_not() -> None:
    with Cluster("memcached", replicas=3) as cluster, cluster.connect() as client:
        assert isinstance(client, MemcachedStore)
        assert client.ask(b"ms a 1\r\n1") == b"HD"
        token = client.ask(b"mg a c").removeprefix(b"HD c")
        assert int(token) < 1 << 63
        client.raw.send(b"gets a\r\n")
        assert client.read_values()[b"a"][2] == token
        cluster.servers[0][A].kill9()
        cluster.wait_state(A, "down", "stale")
        assert client.ask(b"ms a 1 C%b\r\n2" % token) == b"EX"
        token = client.ask(b"mg a c").removeprefix(b"HD c")
        assert client.ask(b"ms a 1 C%b c\r\n2" % token).startswith(b"HD c")
        assert client.ask(b"md a C%b" % token) == b"EX"


def test_what_is_lost_with_the_leader_is_answered_in_its_own_form() -> None:
    """By a replica in the leader's place, or by the next leader; never by what replicas were told instead."""
    requests = {
        b"ma n v k O1": b"VA 1 kn O1\r\n6\r\n",
        b"ms s 1 k\r\nx": b"HD ks\r\n",
        b"md d k": b"HD kd\r\n",
        b"mg t v k T1000": b"VA 1 kt\r\nt\r\n",
        b"gat 1000 t": b"VALUE t 0 1\r\nt\r\nEND\r\n",
        b"mg w N1000 k": b"HD kw W\r\n",
    }
    with Cluster("memcached") as cluster, RawClient(cluster.proxy.memcached_port, timeout=20) as client:
        for key, value in ((b"n", b"5"), (b"s", b"s"), (b"d", b"d"), (b"t", b"t")):
            client.send(b"ms %b 1\r\n%b\r\n" % (key, value))
            client.expect(b"HD\r\n")
        cluster.servers[0][A].stop()
        client.send(b"".join(request + b"\r\n" for request in requests))
        for request, expected in requests.items():
            got = client.read_exactly(len(expected))
            assert got == expected, request
