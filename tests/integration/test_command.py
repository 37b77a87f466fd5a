"""The installed command as operators use it: exit codes, starting, draining, status, real admin pages."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from support.eventually import eventually
from support.ports import free_port
from support.proxy_process import ProxyProcess, pool
from support.raw import RawClient
from support.servers import MemcachedServer, RedisServer

COMMAND = Path(sys.executable).with_name("shardproxy")

StartRedis = Callable[..., RedisServer]
StartMemcached = Callable[..., MemcachedServer]
StartProxy = Callable[..., ProxyProcess]

CONFIG = """\
admin: {listen: "127.0.0.1:%d"}
workers: 1
shutdown_grace: 2s
pools:
  p:
    protocol: redis
    listen: "127.0.0.1:%d"
    shards: [{name: s1, backends: ["127.0.0.1:%d"]}]
"""


def shardproxy(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=20)


def test_nothing_starts_on_a_taken_address(tmp_path: Path, redis_server: RedisServer) -> None:
    path = tmp_path / "f.yaml"
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        path.write_text(CONFIG % (free_port(), taken, redis_server.port))
        done = shardproxy("run", "--config", str(path))
    assert done.returncode == 3
    assert done.stderr == (
        f"shardproxy: pool p cannot listen on 127.0.0.1:{taken}: the address is in use: "
        "another process listens there\n"
    )


def test_nothing_starts_on_a_bad_configuration(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text((CONFIG % (1, 2, 3)).replace("protocol: redis", "protocol: reddis"))
    done = shardproxy("run", "--config", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        f"{path}:6: pools.p.protocol: expected one of redis, memcached; got 'reddis'; did you mean 'redis'?\n"
    )


def test_a_drain_lets_requests_in_flight_finish(start_redis: StartRedis, start_proxy: StartProxy) -> None:
    server = start_redis()
    proxy = start_proxy({"shutdown_grace": "5s", "pools": {"p": pool("redis", [server.address])}})
    with RawClient(proxy.redis_port) as busy, RawClient(server.port) as direct:
        assert busy.ask(b"SET k v\r\n") == b"+OK\r\n"
        # The server holds its answer back for a while; the drain begins in between.
        assert direct.ask(b"CLIENT PAUSE 700 ALL\r\n") == b"+OK\r\n"
        busy.send(b"GET k\r\n")
        sent = len(b"SET k v\r\nGET k\r\n")
        eventually(
            lambda: proxy.metric("shardproxy_client_received_bytes_total", pool="p") == sent,
            what="the proxy has the request",
        )
        proxy._signal(signal.SIGTERM)
        eventually(lambda: proxy.get("/readyz")[0] == 503, what="/readyz says that it drains")
        assert busy.read_exactly(len(b"$1\r\nv\r\n")) == b"$1\r\nv\r\n"
    eventually(lambda: not proxy.is_running(), within=6, what="the proxy ends by itself")


def test_a_hangup_does_not_end_it(start_redis: StartRedis, start_proxy: StartProxy) -> None:
    proxy = start_proxy({"pools": {"p": pool("redis", [start_redis().address])}})
    proxy.reload()
    eventually(lambda: "reload is not available" in proxy.log_text(), what="it says so")
    with RawClient(proxy.redis_port) as client:
        assert client.ask(b"PING\r\n") == b"+PONG\r\n"


def test_status_and_metrics_of_a_real_proxy(
    start_redis: StartRedis, start_memcached: StartMemcached, start_proxy: StartProxy
) -> None:
    one, two, cache = start_redis(), start_redis(), start_memcached()
    proxy = start_proxy(
        {"pools": {"r": pool("redis", [one.address, two.address]), "m": pool("memcached", [cache.address])}}
    )
    with RawClient(proxy.redis_port) as client:
        assert client.ask(b"SET secret-key secret-value\r\n") == b"+OK\r\n"
    shown = shardproxy("status", "--admin", f"127.0.0.1:{proxy.ports['admin']}")
    assert shown.returncode == 0
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert rows[1][:5] == ["r", "s1", "1", "*", one.address]
    assert rows[2][0] == two.address
    # A shard of one backend has nobody to agree with and keeps no view.
    assert rows[3][:5] == ["m", "s1", "0", "*", cache.address]
    assert shown.stdout.splitlines()[4] == "2 shards, 2 with a lead; 3 backends: 3 in_sync"

    code, page = proxy.get("/metrics")
    assert code == 200
    families = list(text_string_to_metric_families(page))
    series = [(s.name, tuple(sorted(s.labels.items()))) for family in families for s in family.samples]
    assert len(series) == len(set(series))
    assert all(family.name.startswith(("shardproxy_", "process_")) for family in families)
    assert all(family.documentation for family in families)
    assert proxy.metric("shardproxy_backend_state", backend=one.address, state="in_sync") == 1
    assert proxy.metric("shardproxy_ready") == 1
    assert proxy.metric("shardproxy_client_connections_total", pool="r") >= 1
    # Keys and addresses of clients are nobody's business here.
    assert "secret" not in page
    assert {name for _, labels in series for name, _ in labels}.isdisjoint({"key", "client", "address"})
