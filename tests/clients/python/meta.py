"""meta-memcache, which speaks the meta commands and nothing else, with what only they can do: leases, items
marked as stale, early renewal, keys of any bytes."""

import threading
import time
from typing import Any

from meta_memcache import (
    CacheClient,
    Key,
    LeasePolicy,
    RecachePolicy,
    ServerAddress,
    SetMode,
    StalePolicy,
    connection_pool_factory_builder,
)
from story import Story, eventually, run


def connect(story: Story) -> Any:
    # By itself it takes a server for dead for some seconds.
    pool = connection_pool_factory_builder(mark_down_period_s=0.02, recv_timeout=5)
    return CacheClient.cache_client_from_servers([ServerAddress("127.0.0.1", story.port)], pool)


def data(story: Story) -> None:
    client, key = connect(story), story.key
    assert client.set(key("a"), {"nested": [1]}, 1000)
    assert client.get(key("a")) == {"nested": [1]}
    assert client.get(key("a"), touch_ttl=1000) == {"nested": [1]}
    assert client.get(key("none")) is None
    assert not client.set(key("a"), 1, 1000, set_mode=SetMode.ADD)
    assert not client.set(key("none"), 1, 1000, set_mode=SetMode.REPLACE)
    assert client.set(key("b"), "v", 1000)
    assert client.set(key("b"), "c", 1000, set_mode=SetMode.APPEND)
    assert client.set(key("b"), "a", 1000, set_mode=SetMode.PREPEND)
    assert client.get(key("b")) == "avc"
    assert client.delta_initialize_and_get(key("n"), 5, 10, 1000) == 10
    assert client.delta_and_get(key("n"), 5) == 15
    assert client.delta_and_get(key("n"), -20) == 0
    assert client.delta(key("n"), 1)
    assert not client.delta(key("none"), 1)
    assert client.touch(key("b"), 1000)
    assert not client.touch(key("none"), 1000)
    assert client.delete(key("b"))
    assert not client.delete(key("b"))
    assert client.invalidate(key("b"))
    assert client.set(key("large"), "x" * 900_000, 1000)
    assert client.get(key("large")) == "x" * 900_000
    assert client.set(key("quiet"), 1, 1000, no_reply=True)
    eventually(lambda: client.get(key("quiet")) == 1)
    for strange in ("grüße und küsse", "x" * 400):  # sent in base64, the long one as a hash
        assert client.set(Key(key(strange)), strange, 1000)
        assert client.get(Key(key(strange))) == strange


def many(story: Story) -> None:
    client = connect(story)
    values = {Key(story.key(n)): n for n in range(200)}
    for key, value in values.items():
        assert client.set(key, value, 1000)
    none = Key(story.key("none"))
    assert client.multi_get([*values, none]) == {**values, none: None}
    assert {key: value for key, (value, _) in client.multi_get_cas(values).items()} == values


def cas(story: Story) -> None:
    client = connect(story)
    for n in range(20):
        key = story.key(n)
        assert client.set(key, 1, 1000)
        value, token = client.get_cas(key)
        assert value == 1
        assert client.set(key, 2, 1000, cas_token=token)
        assert not client.set(key, 3, 1000, cas_token=token)
        assert client.get(key) == 2
        assert not client.delete(key, cas_token=token)


def leases(story: Story) -> None:
    """One of many that miss the same value makes it, the others wait for it."""
    policy = LeasePolicy(miss_retries=50, miss_retry_wait=0.05, wait_backoff_factor=1.0)
    for n in range(10):
        key, made, found = story.key(n), [], []

        def work(key: str = key, made: list[int] = made, found: list[int] = found) -> None:
            client = connect(story)
            value, token = client.get_or_lease_cas(key, policy)
            if value is None:
                made.append(1)
                time.sleep(0.05)
                value = 7
                assert client.set(key, value, 1000, cas_token=token)
            found.append(value)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(made), found) == (1, [7, 7, 7, 7])


def stale(story: Story) -> None:
    """What is deleted may still be served as stale while one makes it anew."""
    client, policy = connect(story), StalePolicy(mark_stale_on_deletion_ttl=30)
    early = RecachePolicy(ttl=30)
    for n in range(20):
        key = story.key(n)
        assert client.set(key, "old", 1000)
        assert client.delete(key, stale_policy=policy)
        assert client.get(key) is None, "the first is asked to make it"
        assert client.get(key) == "old", "others get what there was"
        assert client.set(key, "new", 20)
        assert client.get(key) == "new"
        assert client.get(key, recache_policy=early) is None, "soon over: the first makes it early"
        assert client.get(key, recache_policy=early) == "new"


def write(client: Any, key: str, value: str) -> None:
    if not client.set(key, value, 1000):
        raise ConnectionError(f"set of {key} was not acknowledged")


def failover(story: Story) -> None:
    client = connect(story)
    story.go_on(lambda key, value: write(client, key, value), client.get)


def restart(story: Story) -> None:
    client = connect(story)
    story.come_back(lambda key, value: write(client, key, value), client.get)


if __name__ == "__main__":
    run(
        {
            "data": data,
            "many": many,
            "cas": cas,
            "leases": leases,
            "stale": stale,
            "failover": failover,
            "restart": restart,
        }
    )
