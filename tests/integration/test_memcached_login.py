"""Logging in, as memcached has it with `-Y`: clients to the proxy, and the proxy to its backends.

What a server says is asked of a server with the same users, not written down.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.eventually import eventually
from support.proxy_process import ProxyProcess, pool
from support.raw import RawClient
from support.servers import MemcachedServer

USERS = {"app": "secret", "report": "pass-word", "default": "x"}


def login(user: str, password: str, key: str = "x") -> bytes:
    token = f"{user} {password}"
    return f"set {key} 0 0 {len(token)}\r\n{token}\r\n".encode()


@pytest.fixture(scope="module")
def authfile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("login") / "users"
    path.write_text("".join(f"{user}:{password}\n" for user, password in USERS.items()))
    return path


@pytest.fixture(scope="module")
def server(authfile: Path) -> Iterator[MemcachedServer]:
    with MemcachedServer("-Y", str(authfile)) as server:
        yield server


@pytest.fixture(scope="module")
def cluster(authfile: Path) -> Iterator[Cluster]:
    """Logins on both sides: the proxy's clients as any user, the proxy itself as `report`."""
    folder = authfile.parent
    for user, password in USERS.items():
        (folder / f"{user}.password").write_text(password + "\n")
    users = [{"name": user, "password_file": str(folder / f"{user}.password")} for user in USERS]
    backend_auth = {"user": "report", "password_file": str(folder / "report.password")}
    with Cluster(
        "memcached",
        shards=2,
        workers=2,
        arguments=["-Y", str(authfile)],
        auth={"users": users},
        resync={"auto": True},
        backend_auth=backend_auth,
    ) as cluster:
        yield cluster


CASES = {
    "right": [login("app", "secret"), b"touch a 0\r\n"],
    "another user": [login("report", "pass-word", "k" * 250), b"set b 0 0 1\r\nv\r\n", b"delete b\r\n"],
    "flags and expiry say nothing": [b"set x y z 10\r\napp secret\r\n"],
    "noreply is answered": [b"set x 0 0 10 noreply\r\napp secret\r\n"],
    "wrong password": [login("app", "secre"), login("app", "secrets"), login("app", "SECRET")],
    "wrong user": [login("nobody", "secret"), login("APP", "secret")],
    "password of another": [login("app", "pass-word")],
    "wrong, then right": [login("app", "no"), b"get a\r\n", login("app", "secret"), b"touch a 0\r\n"],
    "nothing before": [b"get aaaa\r\n", b"version\r\n", b"stats\r\n", b"flush_all\r\n", b"mn nothing\r\n"],
    "no set": [b"add x 0 0 10\r\n", b"bogus\r\n"],
    "set without length": [b"set x 0 0\r\n"],
    "length is no number": [b"set x 0 0 ten\r\n"],
    "length is negative": [b"set x 0 0 -1\r\n"],
    "no password": [b"set x 0 0 3\r\napp\r\n"],
    "twice": [login("app", "secret"), login("app", "secret")],
}
"""One request at a time: a server that is sent several before the login answers only the last."""


def answers(port: int, requests: list[bytes]) -> list[bytes]:
    with RawClient(port) as client:
        found = []
        for request in [*requests, login("app", "secret"), b"version\r\n"]:
            client.send(request)
            found.append(client.read_line())
        return found


@pytest.mark.parametrize("name", CASES)
def test_logging_in_is_answered_as_by_the_server(
    name: str, cluster: Cluster, server: MemcachedServer
) -> None:
    assert answers(cluster.proxy.memcached_port, CASES[name]) == answers(server.port, CASES[name])


@pytest.mark.parametrize("garbage", [b"x" * 4000, b"set x 0 0 " + b"9" * 4000])
def test_garbage_without_a_line_end_ends_the_connection(
    garbage: bytes, cluster: Cluster, server: MemcachedServer
) -> None:
    for port in (server.port, cluster.proxy.memcached_port):
        with RawClient(port) as client:
            client.send(garbage)
            client.expect_closed()


def test_a_login_may_come_bytewise(cluster: Cluster) -> None:
    with RawClient(cluster.proxy.memcached_port) as client:
        client.send_bytewise(b"get abc\r\n" + login("app", "secret") + b"get abc\r\n")
        client.expect(b"CLIENT_ERROR unauthenticated\r\nSTORED\r\nEND\r\n")


def test_an_endless_login_is_not_kept(cluster: Cluster) -> None:
    """As servers from 1.6.42 on; the one of Debian 12 waits for all of it."""
    with RawClient(cluster.proxy.memcached_port) as client:
        client.send(b"set x 0 0 16385\r\n")
        client.expect(b"CLIENT_ERROR auth token too long\r\n")


def test_nothing_is_stored_by_a_login(cluster: Cluster) -> None:
    with RawClient(cluster.proxy.memcached_port) as client:
        client.send(login("app", "secret", "stored"))
        client.expect(b"STORED\r\n")
        client.send(b"get stored\r\n")
        client.expect(b"END\r\n")


def test_backends_that_want_a_login_are_brought_back(cluster: Cluster) -> None:
    """Probes, records, copying and requests all log in."""
    with logged_in(cluster.proxy.memcached_port) as client:
        for number in range(50):
            client.send(b"set k%d 0 0 1\r\n1\r\n" % number)
            client.expect(b"STORED\r\n")
        cluster.servers[0][1].restart()
        cluster.wait_state(1, "stale", "joining", "in_sync")
        cluster.wait_state(1, "in_sync", within=20)
        client.send(b"set k1 0 0 1\r\n2\r\nget k1\r\n")
        client.expect(b"STORED\r\nVALUE k1 0 1\r\n2\r\nEND\r\n")
    held = 0
    for row in cluster.servers:
        copies = [items(server) for server in row]
        assert copies[0] == copies[1]
        held += copies[0].count(b"VALUE")
    assert held == 50


def logged_in(port: int) -> RawClient:
    client = RawClient(port)
    client.send(login("app", "secret"))
    client.expect(b"STORED\r\n")
    return client


def items(server: MemcachedServer) -> bytes:
    with logged_in(server.port) as client:
        client.send(b"get " + b" ".join(b"k%d" % number for number in range(50)) + b"\r\n")
        return client.read_until(b"END\r\n")


def test_a_backend_without_logins_keeps_nothing_of_ours(tmp_path: Path) -> None:
    """Whoever offers a login to a server that wants none leaves no item behind, least of all the password."""
    (tmp_path / "pw").write_text("secret")
    auth = {"user": "app", "password_file": str(tmp_path / "pw")}
    with Cluster("memcached", replicas=1, backend_auth=auth) as cluster:
        with RawClient(cluster.proxy.memcached_port) as client:
            client.send(b"set a 0 0 1\r\n1\r\nget a\r\n")
            client.expect(b"STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n")
        with RawClient(cluster.servers[0][0].port) as client:
            client.send(b"get auth __shardproxy:login\r\n")
            client.expect(b"END\r\n")


def test_a_wrong_backend_login_is_named(
    start_proxy: Callable[..., ProxyProcess], server: MemcachedServer, tmp_path: Path
) -> None:
    (tmp_path / "pw").write_text("wrong")
    auth = {"user": "app", "password_file": str(tmp_path / "pw")}
    config = {"pools": {"p": pool("memcached", [server.address], backend_auth=auth)}}
    proxy = start_proxy(config, wait_ready=False)
    eventually(lambda: "noauth" in proxy.log_text(), what="the log says why")
