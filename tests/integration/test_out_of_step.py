"""A server leaves out a reply, or half of one: all that follow belong to somebody else, and nothing on the
wire says so. It shows by a request that is not answered in time, or by a question between those of clients
that never cease to ask, and then the connection ends."""

import select
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.eventually import eventually
from support.lying import LyingServer
from support.proxy_process import ProxyProcess, pool
from support.raw import RawClient
from support.store import PROTOCOLS, SERVERS, connect

pytestmark = [pytest.mark.fault, pytest.mark.parametrize("protocol", PROTOCOLS)]

CLIENTS = 6
HALVES = {"redis": b"*2\r\n$1\r\na\r\n", "memcached": b"VALUE lie 0 1\r\na\r\n"}


def ask(client: RawClient, protocol: str, key: bytes) -> None:
    client.send(b"GET %b\r\n" % key if protocol == "redis" else b"get %b\r\n" % key)


def read(client: RawClient, protocol: str) -> bytes:
    if protocol == "redis":
        return client.read_reply()
    lines = [client.read_line()]
    while lines[-1] != b"END\r\n" and not lines[-1].startswith(b"SERVER_ERROR"):
        lines.append(client.read_line())
    return b"".join(lines)


def value(protocol: str, number: int) -> bytes:
    if protocol == "redis":
        return b"$2\r\nv%d\r\n" % number
    return b"VALUE k%d 0 2\r\nv%d\r\nEND\r\n" % (number, number)


@contextmanager
def stage(
    protocol: str, count: int, *, is_half: bool, timeout: str
) -> Iterator[tuple[LyingServer, ProxyProcess, list[RawClient]]]:
    """A server that once leaves a reply out, or half of it, and so many clients with a key each."""
    lie = HALVES[protocol] if is_half else b""
    with SERVERS[protocol]() as server, LyingServer(server.port, b"lie", lie) as liar:
        config = pool(protocol, [liar.address], timeouts={"request": timeout})
        with ProxyProcess({"pools": {"p": config}}) as proxy:
            with connect(protocol, proxy.ports["p"]) as writer:
                for number in range(count):
                    writer.set(b"k%d" % number, b"v%d" % number)
            clients = [RawClient(proxy.ports["p"]) for _ in range(count)]
            yield liar, proxy, clients
            assert liar.lies == 1
            assert proxy.metric("shardproxy_backend_connection_failures_total") >= 1
            for client in clients:
                client.close()


@pytest.mark.parametrize("is_half", [False, True], ids=["none", "half"])
@pytest.mark.parametrize("count", [1, CLIENTS])
def test_it_ends_with_a_request_that_is_not_answered_in_time(
    protocol: str, count: int, is_half: bool
) -> None:
    with stage(protocol, count, is_half=is_half, timeout="300ms") as (liar, _, clients):

        def round_is_right() -> bool:
            for number, client in enumerate(clients):
                ask(client, protocol, b"k%d" % number)
            found = [read(client, protocol) for client in clients]
            return found == [value(protocol, number) for number in range(count)]

        assert round_is_right()
        ask(clients[0], protocol, b"lie")
        read(clients[0], protocol)
        assert liar.lies == 1
        eventually(round_is_right, what="everybody is answered his own again")
        for _ in range(50):
            assert round_is_right()


@pytest.mark.parametrize("is_half", [False, True], ids=["none", "half"])
def test_it_ends_while_so_much_is_asked_that_nothing_is_late(protocol: str, is_half: bool) -> None:
    """Each client asks again once it is answered, so whoever waits is soon given a reply: another one's."""
    with stage(protocol, CLIENTS, is_half=is_half, timeout="20s") as (_, proxy, clients):
        for number, client in enumerate(clients):
            ask(client, protocol, b"k%d" % number)
        answers: dict[int, bytes] = {}

        def all_are_right() -> bool:
            """After one more answer to whoever has any."""
            ready = select.select([client.socket for client in clients], [], [], 10)[0]
            for number, client in enumerate(clients):
                if client.socket in ready:
                    answers[number] = read(client, protocol)
                    ask(client, protocol, b"k%d" % number)
            return answers == {number: value(protocol, number) for number in range(CLIENTS)}

        eventually(all_are_right, what="everybody is answered")
        ask(clients[0], protocol, b"lie")
        eventually(lambda: not all_are_right(), what="somebody is given the answer of another")
        eventually(all_are_right, within=10, what="everybody is answered his own again")
        for _ in range(200):
            assert all_are_right()
        assert proxy.metric("shardproxy_backend_timeouts_total") == 0
