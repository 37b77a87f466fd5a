"""redis-cli, redis-benchmark and, where installed, memtier_benchmark against the proxy."""

import subprocess
from collections.abc import Iterator

import pytest
from support.cluster import Cluster
from support.eventually import PATIENCE
from support.pipeline import resp
from support.raw import RawClient
from support.servers import find_program, has_program


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("redis", shards=2, workers=2) as cluster:
        yield cluster


def run(*command: str, stdin: bytes = b"", within: float = 60) -> str:
    """What a program wrote, both streams; it must have ended well."""
    words = [find_program(command[0]), *command[1:]]
    done = subprocess.run(words, input=stdin, capture_output=True, timeout=within * PATIENCE, check=False)
    text = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, text
    return text


@pytest.mark.slow
def test_redis_benchmark(cluster: Cluster) -> None:
    tests = "set,get,incr,lpush,sadd,hset,mset"
    options = ["-n", "20000", "-c", "20", "-P", "16", "-r", "1000", "-t", tests, "-q"]
    text = run("redis-benchmark", "-p", str(cluster.proxy.redis_port), *options)
    results = [line for line in text.replace("\r", "\n").split("\n") if "requests per second, p50" in line]
    assert len(results) == len(tests.split(",")), text
    assert "error" not in text.lower(), text
    assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}


@pytest.mark.slow
@pytest.mark.skipif(not has_program("memtier_benchmark"), reason="memtier_benchmark is not installed")
@pytest.mark.parametrize("protocol", ["redis", "resp2", "resp3", "memcache_text"])
def test_memtier(protocol: str, cluster: Cluster) -> None:
    options = ["--hide-histogram", "-n", "1000", "-c", "5", "-t", "2", "--pipeline", "8"]
    if protocol != "memcache_text":
        text = run("memtier_benchmark", "-p", str(cluster.proxy.redis_port), "-P", protocol, *options)
    else:
        with Cluster("memcached", shards=2) as other:
            text = run("memtier_benchmark", "-p", str(other.proxy.memcached_port), "-P", protocol, *options)
    assert "Totals" in text
    assert "connection error" not in text
    assert "handle error response" not in text


def test_mass_insert(cluster: Cluster) -> None:
    """`redis-cli --pipe` ends its stream with an ECHO and waits for that answer."""
    count = 20_000
    data = b"".join(resp("SET", f"pipe:{n}", n) for n in range(count))
    text = run("redis-cli", "-p", str(cluster.proxy.redis_port), "--pipe", stdin=data)
    assert f"errors: 0, replies: {count}" in text
    with RawClient(cluster.proxy.redis_port) as client:
        keys = [f"pipe:{n}" for n in range(count)]
        assert client.ask(resp("EXISTS", *keys)) == b":%d\r\n" % count
        assert client.ask(resp("DEL", *keys)) == b":%d\r\n" % count


def test_interactive(cluster: Cluster) -> None:
    """Without a terminal redis-cli reads lines; it asks for COMMAND DOCS to complete them."""
    lines = b"set cli:1 'two words'\nget cli:1\nhset cli:2 a 1\nhgetall cli:2\n"
    lines += b"incr cli:1\nnosuch\ndel cli:1 cli:2\n"
    text = run("redis-cli", "-p", str(cluster.proxy.redis_port), stdin=lines)
    expected = [
        "OK",
        "two words",
        "1",
        "a",
        "1",
        "ERR value is not an integer or out of range",
        "",
        "ERR unknown",
    ]
    at = 0
    for line in expected:
        at = text.index(line, at) + len(line)
    assert text.rstrip().endswith("2")


@pytest.mark.parametrize("protocol", ["-2", "-3"])
def test_command_docs(cluster: Cluster, protocol: str) -> None:
    text = run("redis-cli", protocol, "-p", str(cluster.proxy.redis_port), "command", "docs")
    assert "summary" in text
    assert "GEOSEARCH".lower() in text.lower()
    one = run("redis-cli", protocol, "-p", str(cluster.proxy.redis_port), "command", "docs", "get")
    assert one.startswith("get")
    assert "string" in one


def test_resp3(cluster: Cluster) -> None:
    port = str(cluster.proxy.redis_port)
    assert run("redis-cli", "-3", "-p", port, "hset", "cli:3", "f", "v").strip() == "1"
    assert run("redis-cli", "-3", "-p", port, "hgetall", "cli:3").split() in (["f", "v"], ["1#", "f", "v"])
    assert run("redis-cli", "-3", "-p", port, "del", "cli:3").strip() == "1"
