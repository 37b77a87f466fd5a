"""The support code against real servers: what tests rely on without seeing it."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable

import pytest
from support.eventually import eventually
from support.ports import free_port, listens
from support.process import StartFailed
from support.proxy_process import ProxyProcess, pool
from support.raw import Closed, RawClient
from support.relay import Relay
from support.servers import MemcachedServer, Nutcracker, RedisServer, Server, cpu_seconds

PING = b"PING\r\n"
PONG = b"+PONG\r\n"


def test_eventually_returns_the_value_that_ended_the_wait() -> None:
    values = iter([0, None, 7])
    assert eventually(lambda: next(values)) == 7


def test_eventually_shows_the_elapsed_time_and_the_last_value() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.0\d s: tea; last value \[\]"):
        eventually(list, within=0.02, what="tea")


def test_eventually_shows_the_last_exception() -> None:
    with pytest.raises(AssertionError, match=r"ZeroDivisionError"):
        eventually(lambda: 1 / 0, within=0.02)


def test_listens_is_about_the_process_itself() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert listens(os.getpid(), port)
        assert not listens(os.getppid(), port)
    assert not listens(os.getpid(), port)


def test_redis_lives_and_dies(redis_server: RedisServer) -> None:
    with RawClient(redis_server.port) as client:
        assert client.ask(b"SET k v\r\n") == b"+OK\r\n"
        first = redis_server.pid
        redis_server.kill9()
        assert client.expect_closed() == b""
    assert not redis_server.is_running()
    with pytest.raises(ConnectionRefusedError):
        RawClient(redis_server.port)
    port = redis_server.port
    redis_server.restart()
    assert redis_server.port == port
    assert redis_server.pid != first
    with RawClient(port) as client:
        assert client.ask(b"GET k\r\n") == b"$-1\r\n"  # restarted empty


def test_memcached_lives_and_dies(memcached_server: MemcachedServer) -> None:
    with RawClient(memcached_server.port) as client:
        client.send(b"set k 5 0 1\r\nv\r\nget k\r\n")
        client.expect(b"STORED\r\nVALUE k 5 1\r\nv\r\nEND\r\n")
    assert memcached_server.restart().is_running()
    with RawClient(memcached_server.port) as client:
        client.send(b"get k\r\n")
        client.expect(b"END\r\n")


def test_a_stopped_server_answers_once_it_goes_on(redis_server: RedisServer) -> None:
    with RawClient(redis_server.port, timeout=0.05) as client:
        redis_server.stop()
        client.send(PING)
        with pytest.raises(TimeoutError, match="got only b''"):
            client.read_line()
        redis_server.cont()
        client.socket.settimeout(5)
        client.expect(PONG)


def test_close_ends_a_stopped_server_and_removes_its_directory() -> None:
    server = RedisServer().start()
    server.stop()
    server.close()
    server.close()
    assert not server.is_running()
    assert not server.directory.exists()
    assert "Ready to accept connections" in server.log_text()


def test_terminate_returns_the_exit_status(redis_server: RedisServer) -> None:
    assert redis_server.terminate() == 0


def test_a_failing_start_shows_the_log() -> None:
    with pytest.raises(StartFailed, match="databases"):
        RedisServer("--databases", "0").start()


@pytest.mark.parametrize(
    "make",
    [
        RedisServer,
        MemcachedServer,
        pytest.param(lambda: Nutcracker(["127.0.0.1:1:1"], "redis"), marks=pytest.mark.nutcracker),
    ],
)
def test_a_taken_port_is_replaced(monkeypatch: pytest.MonkeyPatch, make: Callable[[], Server]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]
        ports = iter([taken])
        monkeypatch.setattr("support.servers.free_port", lambda: next(ports, None) or free_port())
        with make() as server:
            assert server.port != taken
            assert "in use" in server.log_text()


def test_a_taken_port_that_was_asked_for_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = MemcachedServer(port=listener.getsockname()[1])
        with pytest.raises(StartFailed, match="in use"):
            server.start()


@pytest.mark.nutcracker
@pytest.mark.parametrize("hash_tag", ["", "{}"])
def test_nutcracker_relays(redis_server: RedisServer, hash_tag: str) -> None:
    options = {"hash_tag": hash_tag} if hash_tag else {}
    with (
        Nutcracker([f"{redis_server.address}:1 alpha"], "redis", options) as nutcracker,
        RawClient(nutcracker.port) as client,
    ):
        assert client.ask(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n") == b"+OK\r\n"
        with RawClient(redis_server.port) as direct:
            assert direct.ask(b"GET k\r\n") == b"$1\r\nv\r\n"


def test_cpu_seconds_rises_with_work(redis_server: RedisServer) -> None:
    before = cpu_seconds(redis_server.pid)
    with RawClient(redis_server.port) as client:

        def work() -> bool:
            client.send(PING * 2000)
            client.expect(PONG * 2000)
            return cpu_seconds(redis_server.pid) > before

        eventually(work)


REPLIES = [
    b"+OK\r\n",
    b"-ERR no\r\n",
    b":1\r\n",
    b"$-1\r\n",
    b"$0\r\n\r\n",
    b"$4\r\n\r\n\r\n\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*2\r\n$1\r\na\r\n*1\r\n:3\r\n",
    b"%1\r\n+k\r\n~2\r\n#t\r\n_\r\n",
    b"|1\r\n+ttl\r\n:3\r\n$1\r\nv\r\n",
    b"=7\r\ntxt:abc\r\n",
    b">2\r\n+message\r\n,1.5\r\n",
]


@pytest.mark.parametrize("reply", REPLIES)
def test_raw_reads_one_whole_reply(reply: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, RawClient(listener.getsockname()[1]) as client:
        server, _ = listener.accept()
        with server:
            server.sendall(reply + b"+next\r\n")
            assert client.read_reply() == reply
            client.expect(b"+next\r\n")


def test_raw_says_what_it_got_before_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, RawClient(listener.getsockname()[1]) as client:
        server, _ = listener.accept()
        server.sendall(b"$10\r\nhalf")
        server.close()
        with pytest.raises(Closed, match="half"):
            client.read_reply()


def test_relay_passes(redis_server: RedisServer, start_relay: Callable[[int], Relay]) -> None:
    relay = start_relay(redis_server.port)
    value = b"x" * 3_000_000  # more than all buffers on the way hold
    with RawClient(relay.port) as client:
        assert client.ask(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3000000\r\n" + value + b"\r\n") == b"+OK\r\n"
        assert client.ask(b"GET k\r\n") == b"$3000000\r\n" + value + b"\r\n"
        client.socket.shutdown(socket.SHUT_WR)
        assert client.expect_closed() == b""
    assert relay.accepted == 1


def test_relay_holds_back_and_lets_go(redis_server: RedisServer, start_relay: Callable[[int], Relay]) -> None:
    relay = start_relay(redis_server.port)
    with RawClient(relay.port) as client:
        assert client.ask(PING) == PONG
        relay.black_hole()
        client.send(PING)
        client.socket.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.read_line()
        with RawClient(relay.port) as late:  # still accepted
            late.send(PING)
            relay.pass_through()
            late.expect(PONG)
        client.socket.settimeout(5)
        client.expect(PONG)


@pytest.mark.parametrize("reset", [False, True])
def test_relay_cuts_a_reply(
    redis_server: RedisServer, start_relay: Callable[[int], Relay], reset: bool
) -> None:
    relay = start_relay(redis_server.port)
    with RawClient(relay.port) as client:
        assert client.ask(b"SET k 0123456789\r\n") == b"+OK\r\n"
        relay.cut_replies(7, reset=reset)
        client.send(b"GET k\r\n")
        client.expect(b"$10\r\n01")
        if reset:
            with pytest.raises(ConnectionResetError):
                client.socket.recv(1)
        else:
            assert client.socket.recv(1) == b""
    relay.pass_through()
    with RawClient(relay.port) as client:
        assert client.ask(b"GET k\r\n") == b"$10\r\n0123456789\r\n"


def test_relay_resets(redis_server: RedisServer, start_relay: Callable[[int], Relay]) -> None:
    relay = start_relay(redis_server.port)
    with RawClient(relay.port) as client:
        assert client.ask(PING) == PONG
        relay.reset()
        with pytest.raises(ConnectionResetError):
            client.socket.recv(1)
    with RawClient(relay.port) as client:
        assert client.ask(PING) == PONG


def test_relay_refuses_and_returns(redis_server: RedisServer, start_relay: Callable[[int], Relay]) -> None:
    relay = start_relay(redis_server.port)
    with RawClient(relay.port) as client:
        assert client.ask(PING) == PONG
        relay.refuse()
        with pytest.raises(ConnectionResetError):
            client.socket.recv(1)
    with pytest.raises(ConnectionRefusedError):
        RawClient(relay.port)
    relay.pass_through()
    with RawClient(relay.port) as client:
        assert client.ask(PING) == PONG


def test_relay_delays(redis_server: RedisServer, start_relay: Callable[[int], Relay]) -> None:
    relay = start_relay(redis_server.port)
    with RawClient(relay.port) as client:
        relay.delay(0.05)
        start = time.monotonic()
        assert client.ask(PING) == PONG
        assert time.monotonic() - start >= 0.05


def test_relay_ends_with_its_target(redis_server: RedisServer, start_relay: Callable[[int], Relay]) -> None:
    relay = start_relay(redis_server.port)
    with RawClient(relay.port) as client:
        assert client.ask(PING) == PONG
        redis_server.kill9()
        assert client.expect_closed() == b""
    # Accepted and reset: the client notices while connecting, sending or reading.
    with pytest.raises(ConnectionError), RawClient(relay.port) as client:
        client.ask(PING)


def test_no_thread_stays(redis_server: RedisServer) -> None:
    before = threading.active_count()
    with Relay(redis_server.port) as relay, RawClient(relay.port) as client:
        assert client.ask(PING) == PONG
    assert threading.active_count() == before


def test_a_proxy_gets_a_valid_configuration_with_ports_of_its_own() -> None:
    from proxy.config import parse

    given = {
        "pools": {
            "r": pool("redis", ["127.0.0.1:7001", "127.0.0.1:7002"], ["127.0.0.1:7003"], reads="spread"),
            "m": pool("memcached", ["127.0.0.1:7004"], listen=["127.0.0.1:1"]),
        }
    }
    proxy = ProxyProcess(given)
    try:
        proxy.choose_ports()
        config = parse(proxy.config_text(), "text").config
    finally:
        proxy.close()
    assert config.workers == 1
    assert config.admin.listen == f"127.0.0.1:{proxy.ports['admin']}"
    assert config.pools["r"].listen == (f"127.0.0.1:{proxy.redis_port}",)
    assert config.pools["m"].listen == ("127.0.0.1:1",)
    shards = config.pools["r"].shards
    assert [shard.name for shard in shards] == ["s1", "s2"]
    assert [backend.address for backend in shards[0].backends] == ["127.0.0.1:7001", "127.0.0.1:7002"]
    assert "listen" not in given["pools"]["r"], "what the caller gave stays as it was"
    assert not proxy.directory.exists()


def test_signals_to_a_dead_process_are_refused(redis_server: RedisServer) -> None:
    redis_server.kill9()
    with pytest.raises(RuntimeError, match=signal.SIGKILL.name):
        redis_server.kill9()
