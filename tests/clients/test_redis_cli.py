"""redis-cli, redis-benchmark and, where installed, memtier_benchmark against the proxy."""

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

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


MEMTIER = ("memtier_benchmark", "--hide-histogram", "-c", "5", "-t", "2", "--pipeline", "8")
NEEDS_MEMTIER = pytest.mark.skipif(
    not has_program("memtier_benchmark"), reason="memtier_benchmark is not on the path"
)


def assert_it_went_well(text: str) -> None:
    """What memtier_benchmark says in the end is of requests that were answered, without a word of errors."""
    assert "Totals" in text
    for word in ("error", "dropped", "failed"):
        assert word not in text.lower(), text


@pytest.mark.slow
@NEEDS_MEMTIER
@pytest.mark.parametrize("protocol", ["redis", "resp2", "resp3"])
def test_memtier(protocol: str, cluster: Cluster) -> None:
    assert_it_went_well(run(*MEMTIER, "-p", str(cluster.proxy.redis_port), "-P", protocol, "-n", "1000"))


@pytest.mark.slow
@NEEDS_MEMTIER
def test_memtier_in_both_protocols_of_memcached() -> None:
    """At the same time, on the same keys."""
    protocols = ("memcache_text", "memcache_binary")
    with Cluster("memcached", shards=2, workers=2) as cluster, ThreadPoolExecutor() as threads:
        words = [*MEMTIER, "-p", str(cluster.proxy.memcached_port), "-n", "5000", "--key-maximum", "200"]
        texts = list(threads.map(lambda name: run(*words, "--ratio", "1:1", "-P", name), protocols))
        for text in texts:
            assert_it_went_well(text)
            (gets,) = [line.split() for line in text.splitlines() if line.startswith("Gets ")]
            hits, misses = float(gets[2]), float(gets[3])
            assert hits > 10 * misses, "what one has set is found"
        assert cluster.differences() == {}
        assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}


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
