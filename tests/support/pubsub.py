"""What tests of publish/subscribe have in common: a pool of shards, and who is subscribed where."""

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from support.pipeline import bulk, resp
from support.proxy_process import ProxyProcess, pool
from support.raw import RawClient
from support.servers import RedisServer

FENCE = b"fence\r\n"
"""What the answer to ``PING fence`` ends with, subscribed or not."""
Start = Callable[..., Any]


class Sharded:
    """A pool of redis-servers behind one proxy or several."""

    def __init__(
        self,
        start_redis: Start,
        start_proxy: Start,
        *,
        shards: int = 3,
        replicas: int = 2,
        workers: int = 1,
        proxies: int = 1,
        arguments: Iterable[str] = (),
        **options: Any,
    ) -> None:
        self.shards: list[list[RedisServer]] = [
            [start_redis(*arguments) for _ in range(replicas)] for _ in range(shards)
        ]
        addresses = [[server.address for server in shard] for shard in self.shards]
        options = {"hash_tag": "{}", "timeouts": {"request": "5s"}, **options}
        self.proxies: list[ProxyProcess] = [
            start_proxy({"workers": workers, "pools": {"p": pool("redis", *addresses, **options)}})
            for _ in range(proxies)
        ]
        self.proxy = self.proxies[0]

    def channels(self, count: int = 1) -> list[list[bytes]]:
        """Names of channels by the shard they are on, ``count`` of each, found by subscribing to them."""
        found: list[list[bytes]] = [[] for _ in self.shards]
        with RawClient(self.proxy.redis_port) as client:
            for number in range(100 * count):
                name = b"ch" + hashlib.md5(b"%d" % number).hexdigest().encode()  # short names cluster
                client.ask(resp("SUBSCRIBE", name))
                for shard, server in enumerate(self.shards):
                    if len(found[shard]) < count and bulk(name) in listed(server[0]):
                        found[shard].append(name)
                if all(len(names) == count for names in found):
                    return found
        raise AssertionError(f"the ring has no channel on some shard: {found}")


def listed(server: RedisServer) -> bytes:
    """The channels that a server has subscribers of, as it lists them."""
    with RawClient(server.port) as client:
        return client.ask(b"PUBSUB CHANNELS\r\n")


def channels_of(shard: list[RedisServer], password: str = "pw") -> bytes:
    """The same of a shard's leader that asks for a password."""
    with RawClient(shard[0].port) as client:
        client.ask(resp("AUTH", password))
        return client.ask(b"PUBSUB CHANNELS\r\n")


def subscribers(server: RedisServer) -> int:
    """Connections to a server that are subscribed to something."""
    with RawClient(server.port) as client:
        return client.ask(b"CLIENT LIST TYPE pubsub\r\n").count(b"flags=P")


def message(channel: bytes, payload: bytes, *, resp3: bool = False, word: bytes = b"message") -> bytes:
    """A message as a subscriber gets it."""
    return b"%b3\r\n" % (b">" if resp3 else b"*") + bulk(word) + bulk(channel) + bulk(payload)


def subscribe(client: RawClient, *words: str | bytes) -> None:
    """Subscribes, and reads a confirmation for each name."""
    client.send(resp(*words))
    for name in words[1:]:
        reply = client.read_reply()
        assert bulk(name if isinstance(name, bytes) else name.encode()) in reply, reply
