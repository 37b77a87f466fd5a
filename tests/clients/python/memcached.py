"""Memcached libraries of Python. The option is the library.

``pymemcache``, ``python_memcached`` and ``pylibmc`` speak the text protocol; ``bmemcached`` the binary
one, as ``pylibmc`` does with a second option ``binary``.
"""

import threading
import time
from typing import Any

from story import ROUND, Story, eventually, run


def connect(story: Story) -> Any:
    """A client of the library that the option names; set, get and the like are called alike."""
    library, place = story.options[0], f"127.0.0.1:{story.port}"
    if library == "pymemcache":
        from pymemcache import Client
        from pymemcache.serde import pickle_serde

        return Client(place, default_noreply=False, serde=pickle_serde)
    if library == "python_memcached":
        from memcache import Client

        return Client([place], cache_cas=True)
    if library == "bmemcached":
        from bmemcached import Client

        return Client([place], socket_timeout=30)
    import pylibmc

    return pylibmc.Client([place], binary="binary" in story.options, behaviors={"cas": True})


def data(story: Story) -> None:
    client, key = connect(story), story.key
    assert client.set(key("a"), {"nested": [1]}, 1000)
    assert client.get(key("a")) == {"nested": [1]}
    assert not client.add(key("a"), 1)
    assert client.add(key("b"), "x")
    assert client.replace(key("b"), "v")
    if story.options[0] == "bmemcached":  # it has no append, prepend and touch
        assert client.incr(key("n"), 5, default=10) == 10
    else:
        assert client.append(key("b"), "c")
        assert client.prepend(key("b"), "a")
        assert client.get(key("b")) == "avc"
        assert client.touch(key("b"), 1000)
        assert client.set(key("n"), 10)
    assert client.incr(key("n"), 5) == 15
    assert client.decr(key("n"), 20) == 0
    assert client.delete(key("b"))
    assert client.get(key("b")) is None
    assert client.set(key("large"), "x" * 900_000)
    assert len(client.get(key("large"))) == 900_000


def many(story: Story) -> None:
    client = connect(story)
    multi = story.options[0] != "pymemcache"
    put, take, drop = (
        ("set_multi", "get_multi", "delete_multi") if multi else ("set_many", "get_many", "delete_many")
    )
    values = {story.key(n): n for n in range(200)}
    assert getattr(client, put)(values) == []
    assert getattr(client, take)([*values, story.key("none")]) == values
    getattr(client, drop)(list(values)[:100])
    assert getattr(client, take)(list(values)) == dict(list(values.items())[100:])


def cas(story: Story) -> None:
    first, second = connect(story), connect(story)
    for n in range(20):
        key = story.key(n)
        assert first.set(key, 1)
        if story.options[0] == "bmemcached":  # the other way round
            (value, one), (_, two) = first.gets(key), second.gets(key)
            assert value == 1
            assert first.cas(key, 2, one)
            assert not second.cas(key, 3, two)
        elif story.options[0] == "python_memcached":  # it keeps the tokens itself
            assert (first.gets(key), second.gets(key)) == (1, 1)
            assert first.cas(key, 2)
            assert not second.cas(key, 3)
        else:
            (value, one), (_, two) = first.gets(key), second.gets(key)
            assert value == 1
            assert first.cas(key, 2, one)
            assert not second.cas(key, 3, two)
        assert first.get(key) == 2


def write(client: Any, key: str, value: object) -> None:
    if not client.set(key, value):  # python-memcached's way to say that it failed
        raise ConnectionError(f"set of {key} was not acknowledged")


def failover(story: Story) -> None:
    client = connect(story)
    story.go_on(lambda key, value: write(client, key, value), client.get)


def swaps(story: Story) -> None:
    """Clients count the same numbers up by ``gets`` and ``cas`` while a leader is lost.

    No request fails, and in the end each swap that was acknowledged is in a number once.
    """
    names = [story.key(n) for n in range(4)]
    counts, failures, stopping = [0] * 3, [], threading.Event()
    client = connect(story)
    for name in names:
        write(client, name, 0)

    def count(number: int) -> None:
        try:
            client = connect(story)
            while not stopping.is_set():
                counts[number] += swap(client, story.options[0], names[counts[number] % len(names)])
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=count, args=(number,), daemon=True) for number in range(len(counts))]
    for thread in threads:
        thread.start()
    story.begin()
    while (line := story.heard()) != "end":
        if line:
            goals = [count + ROUND for count in counts]
            eventually(lambda goals=goals: failures or all(map(int.__ge__, counts, goals)))
            if failures:
                raise failures[0]
            story.after(line)
        time.sleep(0.01)
    stopping.set()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert sum(client.get(name) for name in names) == sum(counts)


def swap(client: Any, library: str, key: str) -> bool:
    """Counts a number up by what it is read with; False if somebody else was first."""
    if library == "python_memcached":  # it keeps the token itself
        return bool(client.cas(key, client.gets(key) + 1))
    # pylibmc frees what it makes of a text before it has sent it, which other threads then overwrite.
    name = key.encode() if library == "pylibmc" else key
    value, token = client.gets(name)
    done = client.cas(name, value + 1, token)
    assert done is not None, "the key is gone"
    return bool(done)


def restart(story: Story) -> None:
    # Applications have one that does not take the server for dead for half a minute.
    client = connect(story)
    if story.options[0] == "python_memcached":
        client.dead_retry = 0
        for server in client.servers:
            server.dead_retry = 0
    story.come_back(lambda key, value: write(client, key, value), client.get)


if __name__ == "__main__":
    run(
        {
            "data": data,
            "many": many,
            "cas": cas,
            "swaps": swaps,
            "failover": failover,
            "restart": restart,
        }
    )
