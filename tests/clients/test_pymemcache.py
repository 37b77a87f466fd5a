"""pymemcache as applications use it, with its defaults: writes go out with ``noreply``."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from pymemcache import Client, PooledClient
from pymemcache.client.base import Client as BaseClient
from pymemcache.client.hash import HashClient
from pymemcache.client.retrying import RetryingClient
from pymemcache.exceptions import MemcacheClientError, MemcacheUnknownCommandError
from support.cluster import Cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("memcached", shards=2, workers=2) as cluster:
        yield cluster


def plain(address: tuple[str, int]) -> Client:
    return Client(address, timeout=10)


def pooled(address: tuple[str, int]) -> PooledClient:
    return PooledClient(address, timeout=10, max_pool_size=4)


def retrying(address: tuple[str, int]) -> RetryingClient:
    return RetryingClient(BaseClient(address, timeout=10), attempts=2)


def hashing(address: tuple[str, int]) -> HashClient:
    return HashClient([address], timeout=10)


def hashing_pooled(address: tuple[str, int]) -> HashClient:
    return HashClient([address], timeout=10, use_pooling=True, max_pool_size=4)


@pytest.fixture(params=[plain, pooled, retrying, hashing, hashing_pooled])
def client(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Client]:
    client = request.param(("127.0.0.1", cluster.proxy.memcached_port))
    yield client
    client.flush_all(noreply=False)
    client.close()


def test_what_was_set_without_reply_is_read_at_once(client: Client) -> None:
    for n in range(20):  # 40 ms each: with its defaults, the kernel holds the get back until the set is seen
        assert client.set(f"k{n}", f"v{n}")
        assert client.get(f"k{n}") == f"v{n}".encode()
    assert client.get("none") is None
    assert client.get("none", "other") == "other"


def test_storage_commands(client: Client) -> None:
    assert client.add("a", b"1", noreply=False) is True
    assert client.add("a", b"2", noreply=False) is False
    assert client.replace("a", b"3", noreply=False) is True
    assert client.replace("none", b"3", noreply=False) is False
    assert client.append("a", b"4", noreply=False)
    assert client.prepend("a", b"2", noreply=False)
    assert client.get("a") == b"234"
    assert client.set("a", b"\r\nEND\r\n\x00", expire=1000, flags=17, noreply=False)
    assert client.get("a") == b"\r\nEND\r\n\x00"
    assert client.delete("a", noreply=False) is True
    assert client.delete("a", noreply=False) is False


def test_many(client: Client) -> None:
    values = {f"m{n}": b"v" * n for n in range(100)}
    assert client.set_many(values) == []
    assert client.get_many([*values, "none"]) == values
    assert client.gets_many(list(values)[:10]).keys() == set(list(values)[:10])
    assert client.delete_many(list(values)[:50])
    assert client.get_many(values) == dict(list(values.items())[50:])
    assert client.set_many(values, noreply=False) == []
    assert client.delete_many(values, noreply=False)
    assert client.get_many(values) == {}


def test_check_and_set(client: Client) -> None:
    client.set("c", b"1")
    value, token = client.gets("c")
    assert value == b"1"
    assert client.cas("c", b"2", token) is True
    assert client.cas("c", b"3", token) is False
    assert client.cas("none", b"3", token) is None
    assert client.get("c") == b"2"


def test_numbers(client: Client) -> None:
    client.set("n", b"10")
    assert client.incr("n", 5) == 15
    assert client.decr("n", 20) == 0
    assert client.incr("none", 1) is None
    assert client.incr("n", 2, noreply=True) is None
    assert client.get("n").rstrip() == b"2", "memcached pads a number that got shorter with blanks"
    client.set("t", b"text")
    with pytest.raises(MemcacheClientError, match="non-numeric"):
        client.incr("t", 1)


def test_expiry(client: Client) -> None:
    client.set("e", b"1")
    assert client.touch("e", 100, noreply=False) is True
    assert client.touch("none", 100, noreply=False) is False
    assert client.touch("e", -1, noreply=False) is True
    assert client.get("e") is None


def test_server_commands(client: Client) -> None:
    if not isinstance(client, HashClient):  # which has neither
        assert client.version()[:1].isdigit()
        statistics = client.stats()
        assert statistics[b"version"] == client.version()
        assert int(statistics[b"cmd_set"]) >= 0
    client.set("f", b"1")
    assert client.flush_all(noreply=False) in (True, None)  # as HashClient says it
    assert client.get("f") is None
    client.set("f", b"2")
    assert client.get("f") == b"2", "the backends still take keys after a flush"
    client.quit()
    assert client.get("f") == b"2", "connects again after quit"


def test_errors_leave_the_connection(cluster: Cluster) -> None:
    with closing(Client(("127.0.0.1", cluster.proxy.memcached_port), timeout=10)) as client:
        with pytest.raises(MemcacheUnknownCommandError):
            client.raw_command("nosuch")
        client.set("x", b"1")
        assert client.get("x") == b"1"
        client.delete("x", noreply=False)


def test_large_values(client: Client) -> None:
    value = bytes(range(256)) * 3_900  # just below memcached's 1 MB
    assert client.set("large", value, noreply=False)
    assert client.get("large") == value
    assert client.get_many(["large", "none"]) == {"large": value}
