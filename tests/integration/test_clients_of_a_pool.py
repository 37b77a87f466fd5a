"""CLIENT LIST, KILL and UNBLOCK concern all clients of a pool, whoever serves them, and no others."""

from collections.abc import Callable
from contextlib import ExitStack

import pytest
from support.eventually import eventually
from support.pipeline import resp
from support.proxy_process import ProxyProcess, pool
from support.raw import RawClient
from support.servers import RedisServer

ABOUT_ALL = """
LIST | LIST TYPE normal | LIST TYPE pubsub | LIST ID ID0 ID2 999 | LIST ID | LIST ID x | LIST FOO
KILL ID ID1 | LIST | KILL ADDR ADDR2 | KILL ID ID0 SKIPME yes | LIST | KILL LADDR 1.2.3.4:5
KILL TYPE replica | KILL USER nobody | KILL ID 0 | KILL FOO 1 | KILL 1.2.3.4:5 | KILL ADDR3 | LIST
KILL USER default TYPE normal SKIPME yes | LIST | UNBLOCK ID0 | UNBLOCK 999 | UNBLOCK x | UNBLOCK 1 MAYBE
GETREDIR | KILL ID ID0 SKIPME no
"""
"""Said by the first of six clients; ``ID1`` stands for the id of the second, ``ADDR1`` for its address."""
SHOWN = ("name", "flags", "db", "sub", "psub", "multi", "cmd", "user", "resp")


class Crowd:
    """Six clients of a server or a proxy, and how they are called there."""

    def __init__(self, resources: ExitStack, port: int) -> None:
        self.clients = [resources.enter_context(RawClient(port, timeout=20)) for _ in range(6)]
        self.names: dict[str, str] = {}
        for number, client in enumerate(self.clients):
            client.ask(resp("CLIENT", "SETNAME", f"c{number}"))
            self.names[f"ID{number}"] = client.ask(b"CLIENT ID\r\n")[1:-2].decode()
            host, at = client.socket.getsockname()
            self.names[f"ADDR{number}"] = f"{host}:{at}"

    def ask(self, line: str) -> bytes:
        words = [self.names.get(word, word) for word in line.split()]
        return self.clients[0].ask(resp("CLIENT", *words))

    def shown(self, reply: bytes) -> object:
        """A list of clients without what differs from server to server; any other reply as it is."""
        if b"addr=" not in reply:
            return reply
        lines = reply.decode().splitlines()[1:]
        rows = [dict(field.split("=", 1) for field in line.split()) for line in lines if line]
        called = {value: name for name, value in self.names.items()}
        # The proxy's workers number clients as they come to them.
        return sorted(
            [called[row["id"]], called[row["addr"]], *(row[name] for name in SHOWN)] for row in rows
        )


@pytest.mark.parametrize("workers", [1, 3])
def test_all_clients_are_asked(
    resources: ExitStack, start_redis: Callable[..., RedisServer], workers: int
) -> None:
    backend, plain = start_redis(), start_redis()
    pools = {"p": pool("redis", [backend.address]), "other": pool("redis", [backend.address])}
    proxy = resources.enter_context(ProxyProcess({"workers": workers, "pools": pools}))
    stranger = resources.enter_context(RawClient(proxy.ports["other"]))
    stranger.ask(b"CLIENT SETNAME stranger\r\n")
    ours, theirs = Crowd(resources, proxy.ports["p"]), Crowd(resources, plain.port)
    for crowd in (ours, theirs):
        crowd.clients[4].ask(b"HELLO 3\r\n")
        crowd.clients[5].send(b"BLPOP k 0\r\n")
        eventually(lambda c=crowd: b"flags=b " in c.ask("LIST"))  # type: ignore[misc]
    for line in ABOUT_ALL.replace("\n", " | ").strip(" |").split(" | "):
        assert ours.shown(ours.ask(line)) == theirs.shown(theirs.ask(line)), line
    for crowd in (ours, theirs):
        for client in crowd.clients:
            assert client.expect_closed() == b""
    assert b"name=stranger " in stranger.ask(b"CLIENT LIST\r\n")
    assert proxy.metric("shardproxy_clients_blocked") == 0


def test_unblocking(resources: ExitStack, start_redis: Callable[..., RedisServer]) -> None:
    """From whichever worker; more than once has no further effect; nothing that waits is lost with it."""
    config = {"workers": 3, "pools": {"p": pool("redis", [start_redis().address])}}
    proxy = resources.enter_context(ProxyProcess(config))
    waiting = [resources.enter_context(RawClient(proxy.redis_port, timeout=20)) for _ in range(6)]
    acting = [resources.enter_context(RawClient(proxy.redis_port, timeout=20)) for _ in range(3)]
    ids = [int(client.ask(b"CLIENT ID\r\n")[1:]) for client in waiting]
    for client in waiting:
        client.send(b"BLPOP k l 0\r\nPING\r\n")
    eventually(lambda: proxy.metric("shardproxy_clients_blocked") == len(waiting))
    for number, (client, identity) in enumerate(zip(waiting[:5], ids, strict=False)):
        reason, told = (
            ((), b"*-1\r\n"),
            (("TIMEOUT",), b"*-1\r\n"),
            (("ERROR",), b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"),
        )[number % 3]
        asker = acting[number % 3]
        asker.send(
            resp("CLIENT", "UNBLOCK", identity, *reason) + resp("CLIENT", "UNBLOCK", identity) + resp("PING")
        )
        asker.expect(b":1\r\n:0\r\n+PONG\r\n")
        client.expect(told + b"+PONG\r\n")
    acting[0].ask(b"RPUSH l x\r\n")
    waiting[5].expect(b"*2\r\n$1\r\nl\r\n$1\r\nx\r\n+PONG\r\n")
    # Who is killed while it waits takes nothing with it.
    waiting[0].send(b"BLPOP k 0\r\n")
    eventually(lambda: b" flags=b " in acting[1].ask(b"CLIENT LIST\r\n"))
    assert acting[1].ask(resp("CLIENT", "KILL", "ID", ids[0])) == b":1\r\n"
    assert waiting[0].expect_closed() == b""
    acting[0].ask(b"RPUSH k x\r\n")
    assert acting[2].ask(b"LPOP k\r\n") == b"$1\r\nx\r\n"
