"""The asyncio flavours of redis-py and valkey-py. Options as in redis_like.py."""

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from typing import Any

from redis_like import MANY, package, settings, text
from story import Story, run


def connect(story: Story, **more: Any) -> Any:
    module = importlib.import_module(f"{package(story).__name__}.asyncio")
    return module.Redis(port=story.port, **{**settings(story), **more})


async def connects(story: Story) -> None:
    client = connect(story, client_name="story")
    assert await client.ping() is True
    assert text(await client.client_getname()) == "story"
    assert (await client.info())["redis_version"]


async def data(story: Story) -> None:
    client, key = connect(story), story.key
    assert await client.set(key("a"), b"\x00\r\n\xff", px=100_000)
    assert await client.get(key("a")) == b"\x00\r\n\xff"
    assert await client.hset(key("h"), mapping={"f": "v"}) == 1
    assert await client.hgetall(key("h")) == {b"f": b"v"}
    names = [key(n) for n in range(100)]
    assert await client.mset({name: name for name in names})
    assert text(await client.mget(names)) == names
    assert sorted(await asyncio.gather(*[client.incr(key("n")) for _ in range(100)])) == list(range(1, 101))
    error = (await asyncio.gather(client.incr(key("h")), return_exceptions=True))[0]
    assert isinstance(error, package(story).ResponseError)
    assert "WRONGTYPE" in str(error)


async def pipeline(story: Story) -> None:
    pipe = connect(story).pipeline(transaction=False)
    for n in range(100):
        pipe.set(story.key(n), n).incr(story.key(n))
    assert await pipe.execute() == [part for n in range(100) for part in (True, n + 1)]


async def transaction(story: Story) -> None:
    client, key = connect(story), story.tagged
    async with client.pipeline() as pipe:
        pipe.set(key("a"), 1).incr(key("a")).get(key("none"))
        assert await pipe.execute() == [True, 2, None]


async def watch(story: Story) -> None:
    client, key = connect(story), story.tagged("n")
    await client.set(key, 0)

    async def add(pipe: Any) -> None:
        value = int(await pipe.get(key))
        pipe.multi()
        pipe.set(key, value + 1)

    await asyncio.gather(*[client.transaction(add, key) for _ in range(20)])
    assert await client.get(key) == b"20"


async def transaction_over_shards(story: Story) -> None:
    async with connect(story).pipeline() as pipe:
        for n in range(100):
            pipe.incr(story.key(n))
        assert await pipe.execute() == [1] * 100


async def pubsub(story: Story) -> None:
    client = connect(story)
    names = [story.key(f"channel{n}") for n in range(10)]
    async with client.pubsub() as listener:
        await listener.subscribe(*names)
        for _ in names:
            assert (await take(listener))["type"] == "subscribe"
        for name in names:
            assert await client.publish(name, name) == 1
        assert {text((await take(listener))["data"]) for _ in names} == set(names)


async def take(listener: Any) -> Any:
    message = await listener.get_message(timeout=10)
    assert message is not None, "no message in 10 s"
    return message


async def blocking(story: Story) -> None:
    client, key = connect(story), story.tagged
    waits = [asyncio.create_task(client.blpop(key("q"), timeout=20)) for _ in range(5)]
    for n in range(5):
        await client.rpush(key("q"), n)
    found = await asyncio.gather(*waits)
    assert sorted(value for _, value in found) == [b"%d" % n for n in range(5)]
    assert await client.blpop(key("q"), timeout=0.1) is None
    # A task that is cancelled takes nothing along.
    wait = asyncio.create_task(client.blpop(key("q"), timeout=20))
    await until_waiting(client, True)
    wait.cancel()
    await asyncio.gather(wait, return_exceptions=True)
    await until_waiting(client, False)
    await client.rpush(key("q"), "kept")
    assert await client.lpop(key("q")) == b"kept"


async def until_waiting(client: Any, wanted: bool) -> None:
    """Waits until some client is blocked, or none, by the flag that CLIENT LIST shows."""
    for _ in range(2_000):
        if wanted == any("b" in line["flags"] for line in await client.client_list()):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(await client.client_list())


async def scan(story: Story) -> None:
    client = connect(story)
    names = {story.key(n) for n in range(MANY)}
    await client.mset(dict.fromkeys(names, "v"))
    assert {text(name) async for name in client.scan_iter(story.key("*"))} == names


async def script_cache(story: Story) -> None:
    client = connect(story)
    add = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert await asyncio.gather(*[add(keys=[story.key(n)], args=[n]) for n in range(40)]) == list(range(40))


async def scripts(story: Story) -> None:
    client, key = connect(story), story.tagged
    assert await client.eval("return redis.call('INCRBY', KEYS[1], ARGV[1])", 1, key("n"), 5) == 5
    body = "redis.call('SET', KEYS[1], ARGV[1]); return {redis.call('GET', KEYS[1]), KEYS[2], 7}"
    assert await client.eval(body, 2, key("a"), key("b"), "v") == [b"v", key("b").encode(), 7]


async def streams(story: Story) -> None:
    client, key = connect(story), story.key("x")
    wait = asyncio.create_task(client.xread({key: "0"}, block=20_000))
    await until_waiting(client, True)
    first = await client.xadd(key, {"f": "v"})
    assert text(first) in str(text(await wait))
    second = await client.xadd(key, {"f": "w"}, maxlen=100)
    assert await client.xrange(key) == [(first, {b"f": b"v"}), (second, {b"f": b"w"})]
    assert await client.xgroup_create(key, "g", id="0")
    read = await asyncio.gather(
        *[client.xreadgroup("g", name, {key: ">"}, count=1) for name in ("one", "two")]
    )
    assert all(text(each) in str(text(read)) for each in (first, second)), "each to one of the two"
    assert (await client.xpending(key, "g"))["pending"] == 2
    assert await client.xack(key, "g", first, second) == 2


async def lock(story: Story) -> None:
    client, held = connect(story), []

    async def work() -> None:
        for _ in range(5):
            async with client.lock(story.key("lock"), timeout=30, sleep=0.005):
                held.append(1)
                assert len(held) == 1
                await asyncio.sleep(0.002)
                held.pop()

    await asyncio.gather(*[work() for _ in range(4)])


def blocked(way: str) -> Callable[[Story], None]:
    """A part of `Story` that calls plainly, on one loop and one client."""

    def part(story: Story) -> None:
        client = connect(story)
        with asyncio.Runner() as runner:
            getattr(story, way)(
                lambda key, value: runner.run(client.set(key, value)),
                lambda key: text(runner.run(client.get(key))),
            )

    return part


def whole(part: Callable[[Story], Awaitable[None]]) -> Callable[[Story], None]:
    return lambda story: asyncio.run(asyncio.wait_for(part(story), 50))


if __name__ == "__main__":
    run(
        {
            "connect": whole(connects),
            "data": whole(data),
            "pipeline": whole(pipeline),
            "transaction": whole(transaction),
            "watch": whole(watch),
            "transaction_over_shards": whole(transaction_over_shards),
            "pubsub": whole(pubsub),
            "blocking": whole(blocking),
            "scan": whole(scan),
            "scripts": whole(scripts),
            "script_cache": whole(script_cache),
            "streams": whole(streams),
            "lock": whole(lock),
            "failover": blocked("go_on"),
            "restart": blocked("come_back"),
        }
    )
