"""redis-py and valkey-py, which are one by its origin: the same calls, each from its own package.

Options: the package, then ``resp2`` or ``resp3``, then ``python`` for the parser that is not hiredis'.
"""

import importlib
import threading
import time
from typing import Any

from story import Story, eventually, raises, run

MANY = 500


def package(story: Story) -> Any:
    return importlib.import_module((story.options or ["redis"])[0])


def settings(story: Story) -> dict[str, Any]:
    """What the options ask for; without any, all is left to the package."""
    chosen: dict[str, Any] = {}
    for option in story.options[1:]:
        if option in ("resp2", "resp3"):
            chosen["protocol"] = int(option[-1])
    return chosen


def connect(story: Story, **more: Any) -> Any:
    module = package(story)
    options = {**settings(story), **more}
    if "python" not in story.options:
        return module.Redis(port=story.port, **options)
    parsers = importlib.import_module(f"{module.__name__}._parsers")
    parser = parsers._RESP3Parser if options.get("protocol") == 3 else parsers._RESP2Parser
    pool = module.ConnectionPool(port=story.port, parser_class=parser, **options)
    return module.Redis(connection_pool=pool)


def text(value: Any) -> Any:
    """Bytes as text, inside lists and dicts too."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {text(key): text(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return type(value)(text(item) for item in value)
    return value


def connects(story: Story) -> None:
    client = connect(story, client_name="story")
    assert client.ping() is True
    assert text(client.client_getname()) == "story"
    assert text(client.echo("hello")) == "hello"
    assert client.info()["redis_version"]
    assert client.info()["redis_mode"] == "standalone"
    assert client.select(0)
    assert text(client.config_get("save")) is not None
    assert text(client.role())[0] == "master"


def data(story: Story) -> None:
    client, key = connect(story), story.key
    assert client.set(key("a"), b"\x00\r\n\xff", ex=1000)
    assert client.get(key("a")) == b"\x00\r\n\xff"
    assert client.hset(key("h"), mapping={"f": 1, "g": "two"}) == 2
    assert client.hgetall(key("h")) == {b"f": b"1", b"g": b"two"}
    assert client.rpush(key("l"), 1, 2, 3) == 3
    assert client.lrange(key("l"), 0, -1) == [b"1", b"2", b"3"]
    assert client.sadd(key("s"), "x", "y") == 2
    assert set(client.smembers(key("s"))) == {b"x", b"y"}
    assert client.zadd(key("z"), {"one": 1, "two": 2.5}) == 2
    assert [tuple(pair) for pair in client.zrange(key("z"), 0, -1, withscores=True)] == [
        (b"one", 1),
        (b"two", 2.5),
    ]
    names = [key(n) for n in range(100)]
    assert client.mset({name: name for name in names})
    assert text(client.mget(*names, key("none"))) == [*names, None]
    raises(package(story).ResponseError, "WRONGTYPE", lambda: client.incr(key("h")))
    assert client.delete(*names) == 100


def pipeline(story: Story) -> None:
    client = connect(story)
    with client.pipeline(transaction=False) as pipe:
        for n in range(100):
            pipe.set(story.key(n), n).incr(story.key(n)).get(story.key(n))
        pipe.lpush(story.key(1), "x")
        pipe.mget(story.key(1), story.key(2))
        answers = pipe.execute(raise_on_error=False)
    assert answers[:300] == [part for n in range(100) for part in (True, n + 1, b"%d" % (n + 1))]
    assert isinstance(answers[300], package(story).ResponseError)
    assert answers[301] == [b"2", b"3"]


def transaction(story: Story) -> None:
    client, key = connect(story), story.tagged
    with client.pipeline() as pipe:  # MULTI and EXEC, unless told otherwise
        pipe.set(key("a"), 1).incr(key("a")).hset(key("h"), "f", "v").hgetall(key("h")).get(key("none"))
        assert pipe.execute() == [True, 2, 1, {b"f": b"v"}, None]
        pipe.set(key("a"), "x").incr(key("a")).get(key("a"))
        answers = pipe.execute(raise_on_error=False)
    assert isinstance(answers[1], package(story).ResponseError)
    assert answers[::2] == [True, b"x"]
    with client.pipeline() as pipe:
        pipe.set(key("a"), "y")
        pipe.execute_command("GET")
        raises(package(story).ResponseError, "wrong number of arguments", pipe.execute)
    assert client.get(key("a")) == b"x", "nothing of it was done"


def watch(story: Story) -> None:
    client, other, key = connect(story), connect(story), story.tagged("n")
    with client.pipeline() as pipe:
        pipe.watch(key)
        assert pipe.get(key) is None
        other.set(key, 5)
        pipe.multi()
        pipe.set(key, 1)
        raises(package(story).WatchError, "", pipe.execute)
        assert other.get(key) == b"5"
        pipe.watch(key)
        pipe.multi()
        pipe.incr(key)
        assert pipe.execute() == [6]
        pipe.watch(key)
        pipe.unwatch()
        other.incr(key)
        pipe.incr(key)
        assert pipe.execute() == [8]

    def add(pipe: Any) -> None:
        value = int(pipe.get(key))
        pipe.multi()
        pipe.set(key, value + 1)

    def work() -> None:
        mine = connect(story)
        for _ in range(20):
            mine.transaction(add, key)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.get(key) == b"88", "no increment was lost to another"


def transaction_over_shards(story: Story) -> None:
    """What the pool's ``cross_shard: split`` allows, as redis-py's pipelines send it by default."""
    client = connect(story)
    with client.pipeline() as pipe:
        for n in range(100):
            pipe.set(story.key(n), n).incr(story.key(n))
        assert pipe.execute() == [part for n in range(100) for part in (True, n + 1)]


def pubsub(story: Story) -> None:
    client = connect(story)
    channels = [story.key(f"channel{n}") for n in range(10)]
    with client.pubsub() as listener:
        listener.subscribe(*channels)
        listener.psubscribe(story.key("chan*"))
        for n in range(11):
            kind = take(listener)
            assert (kind["type"], kind["data"]) == ("subscribe" if n < 10 else "psubscribe", n + 1)
        for channel in channels:
            for n in range(3):
                assert client.publish(channel, f"{channel} {n}") == 2
        seen: dict[str, list[tuple[str, str]]] = {}
        for _ in range(60):
            message = text(take(listener))
            seen.setdefault(message["channel"], []).append((message["type"], message["data"]))
        for channel in channels:
            for kind in ("message", "pmessage"):
                values = [data for one, data in seen[channel] if one == kind]
                assert values == [f"{channel} {n}" for n in range(3)], "each in the order it was sent"
        assert dict(text(client.pubsub_numsub(channels[0]))) == {channels[0]: 1}
        assert channels[0] in text(client.pubsub_channels(story.key("*")))
        listener.unsubscribe(channels[0])
        assert take(listener)["type"] == "unsubscribe"
        assert client.publish(channels[0], "pattern only") == 1
        assert take(listener)["type"] == "pmessage"
        listener.ping()
        assert take(listener)["type"] == "pong"
    eventually(lambda: client.publish(channels[1], "x") == 0)


def take(listener: Any) -> Any:
    message = listener.get_message(timeout=10)
    assert message is not None, "no message in 10 s"
    return message


def blocking(story: Story) -> None:
    client, other, key = connect(story), connect(story), story.tagged
    assert client.blpop([key("q")], timeout=0.1) is None
    client.rpush(key("q"), "at once")
    assert text(client.blpop([key("none"), key("q")], timeout=5)) in (
        (key("q"), "at once"),
        [key("q"), "at once"],
    )

    def later(do: Any) -> None:
        threading.Timer(0.2, do).start()

    later(lambda: other.rpush(key("q"), "later"))
    assert text(client.brpop(key("q"), timeout=10))[1] == "later"
    later(lambda: other.rpush(key("q"), "moved"))
    assert text(client.blmove(key("q"), key("r"), 10)) == "moved"
    assert text(client.lrange(key("r"), 0, -1)) == ["moved"]
    later(lambda: other.zadd(key("z"), {"m": 1.5}))
    name, member, score = text(client.bzpopmin(key("z"), timeout=10))
    assert (name, member, float(score)) == (key("z"), "m", 1.5)
    read = []
    waiting = threading.Thread(target=lambda: read.append(client.xread({key("x"): "$"}, block=20_000)))
    waiting.start()
    while waiting.is_alive():  # what is added before it waits is none of its business
        other.xadd(key("x"), {"f": "v"})
        waiting.join(0.05)
    assert "v" in str(read)
    later(lambda: other.rpush(key("q"), "for ever"))
    assert text(client.brpop(key("q"), timeout=0))[1] == "for ever"
    # Who leaves takes nothing along.
    leaver = connect(story, retry=never_again(story))
    gone = threading.Thread(target=lambda: swallow(lambda: leaver.blpop(key("q"), timeout=30)))
    gone.start()
    eventually(lambda: any("b" in line["flags"] for line in client.client_list()))
    leaver.connection_pool.disconnect()
    gone.join()
    eventually(lambda: not any("b" in line["flags"] for line in client.client_list()))
    client.rpush(key("q"), "kept")
    assert client.lpop(key("q")) == b"kept"


def never_again(story: Story) -> Any:
    """No further try by the client itself, which would come back and wait again."""
    name = package(story).__name__
    none = importlib.import_module(f"{name}.backoff").NoBackoff()
    return importlib.import_module(f"{name}.retry").Retry(none, 0)


def swallow(do: Any) -> None:
    try:
        do()
    except Exception:
        return


def blocking_over_shards(story: Story) -> None:
    """A worker that listens to many queues, as Celery's and Sidekiq's do."""
    client, other = connect(story), connect(story)
    queues = [story.key(f"q{n}") for n in range(8)]
    for n in range(8):
        threading.Timer(0.1, lambda n=n: other.rpush(queues[n], n)).start()
        assert text(tuple(client.blpop(queues, timeout=10))) == (queues[n], str(n))


def scan(story: Story) -> None:
    client = connect(story)
    names = {story.key(n) for n in range(MANY)}
    client.mset(dict.fromkeys(names, "v"))
    assert {text(name) for name in client.scan_iter(story.key("*"))} == names
    assert {text(name) for name in client.scan_iter(story.key("*"), count=7, _type="string")} == names
    client.hset(story.key("h"), mapping={f"f{n}": n for n in range(MANY)})
    assert len(dict(client.hscan_iter(story.key("h")))) == MANY
    client.zadd(story.key("z"), {f"m{n}": n for n in range(MANY)})
    assert len(list(client.zscan_iter(story.key("z")))) == MANY
    client.sadd(story.key("s"), *range(MANY))
    assert len(set(client.sscan_iter(story.key("s")))) == MANY


def keyspace(story: Story) -> None:
    client = connect(story)
    client.mset({story.key(n): n for n in range(50)})
    assert len(client.keys(story.key("*"))) == 50
    assert client.dbsize() >= 50
    assert client.randomkey() is not None
    assert client.flushdb()
    assert client.dbsize() == 0
    assert client.get(story.key(1)) is None
    assert client.set(story.key(1), 1)
    assert client.flushall()
    assert client.keys("*") == []


def scripts(story: Story) -> None:
    client, key = connect(story), story.tagged
    assert client.eval("return redis.call('INCRBY', KEYS[1], ARGV[1])", 1, key("n"), 5) == 5
    body = "redis.call('SET', KEYS[1], ARGV[1]); return {redis.call('GET', KEYS[1]), KEYS[2], 7}"
    assert client.eval(body, 2, key("a"), key("b"), "v") == [b"v", key("b").encode(), 7]
    raises(
        package(story).ResponseError,
        "WRONGTYPE",
        lambda: client.eval(
            "redis.call('SET', KEYS[1], 'x'); return redis.call('LPUSH', KEYS[1], 1)", 1, key("w")
        ),
    )
    assert client.get(key("w")) == b"x"


def script_cache(story: Story) -> None:
    """SCRIPT LOAD once, EVALSHA with keys of any shard, and what the client does about NOSCRIPT."""
    client = connect(story)
    add = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    for n in range(40):
        assert add(keys=[story.key(n)], args=[n]) == n
    digest = client.script_load("return {KEYS[1], ARGV[1]}")
    assert client.script_exists(digest) == [True]
    for n in range(40):
        assert client.evalsha(digest, 1, story.key(n), n) == [story.key(n).encode(), str(n).encode()]
    with client.pipeline() as pipe:
        add(keys=[story.tagged("p")], args=[1], client=pipe)
        add(keys=[story.tagged("p")], args=[1], client=pipe)
        assert pipe.execute() == [1, 2]
    assert client.script_flush()
    assert client.script_exists(digest) == [False]
    assert add(keys=[story.key(1)], args=[1]) == 2, "the client loads it again"
    raises(package(story).ResponseError, "No matching script", lambda: client.evalsha(digest, 1, "k", 1))


def script_without_keys(story: Story) -> None:
    client = connect(story)
    assert client.eval("return 7", 0) == 7
    assert client.eval("return {ARGV[1], ARGV[2]}", 0, "a", "b") == [b"a", b"b"]


def streams(story: Story) -> None:
    client, key = connect(story), story.key("x")
    first = client.xadd(key, {"f": "v"})
    second = client.xadd(key, {"f": "w"}, maxlen=100)
    assert client.xlen(key) == 2
    assert client.xrange(key)[0] == (first, {b"f": b"v"})
    assert "w" in str(client.xread({key: first}))
    assert client.xgroup_create(key, "g", id="0")
    raises(package(story).ResponseError, "BUSYGROUP", lambda: client.xgroup_create(key, "g", id="0"))
    assert str(second) not in str(client.xreadgroup("g", "one", {key: ">"}, count=1))
    assert "w" in str(client.xreadgroup("g", "two", {key: ">"}))
    assert client.xpending(key, "g")["pending"] == 2
    assert client.xack(key, "g", first, second) == 2
    assert client.xinfo_groups(key)[0]["pending"] == 0
    assert client.xautoclaim(key, "g", "one", 0)[1] == []


def databases(story: Story) -> None:
    client, other = connect(story), connect(story, db=3)
    client.set(story.key("a"), "in 0")
    assert other.get(story.key("a")) is None
    other.set(story.key("a"), "in 3")
    assert client.get(story.key("a")) == b"in 0"
    assert other.get(story.key("a")) == b"in 3"
    raises(package(story).ResponseError, "DB index is out of range", lambda: connect(story, db=99).ping())


def lock(story: Story) -> None:
    """The package's Lock: SET NX PX, and scripts for release, extension and taking over."""
    client, name = connect(story), story.key("lock")
    first, second = client.lock(name, timeout=30), client.lock(name, timeout=30)
    assert first.acquire(blocking=False)
    assert not second.acquire(blocking=False)
    assert first.extend(10)
    assert first.reacquire()
    assert first.owned()
    first.release()
    assert not first.locked()
    assert second.acquire(blocking_timeout=5)
    client.delete(name)
    raises(importlib.import_module(f"{package(story).__name__}.exceptions").LockError, "", second.release)
    held = []

    def work() -> None:
        mine = connect(story)
        for _ in range(5):
            with mine.lock(name, timeout=30, sleep=0.005):
                held.append(1)
                assert len(held) == 1
                time.sleep(0.002)
                held.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not held


def failover(story: Story) -> None:
    client = connect(story)
    story.go_on(client.set, lambda key: text(client.get(key)))


def restart(story: Story) -> None:
    client = connect(story)
    story.come_back(client.set, lambda key: text(client.get(key)))


if __name__ == "__main__":
    run(
        {
            "connect": connects,
            "data": data,
            "pipeline": pipeline,
            "transaction": transaction,
            "watch": watch,
            "transaction_over_shards": transaction_over_shards,
            "pubsub": pubsub,
            "blocking": blocking,
            "blocking_over_shards": blocking_over_shards,
            "scan": scan,
            "keyspace": keyspace,
            "scripts": scripts,
            "script_cache": script_cache,
            "script_without_keys": script_without_keys,
            "streams": streams,
            "databases": databases,
            "lock": lock,
            "failover": failover,
            "restart": restart,
        }
    )
