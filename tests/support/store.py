"""One key-value client for both protocols, so that a promise is written down once and tested twice.

Called by integration tests and by `support.traffic`. Knows just enough of each protocol to set, get,
and read all that a server holds; whatever a test says about one protocol alone it sends as bytes.
"""

import base64
import itertools
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote_to_bytes

from support.proxy_process import ProxyProcess
from support.raw import RawClient
from support.servers import MemcachedServer, RedisServer, Server

PROTOCOLS = ("redis", "memcached")
SERVERS: Mapping[str, type[Server]] = {"redis": RedisServer, "memcached": MemcachedServer}
RESERVED = b"__shardproxy:"
"""Keys of the proxy's own."""

QUICK: Mapping[str, Any] = {
    "health": {"interval": "250ms", "timeout": "250ms", "fall": 3, "rise": 2},
    "timeouts": {"connect": "200ms", "request": "400ms"},
    "resync": {"auto": False},
}
"""Options of a pool that notices what happens sooner than the defaults, for tests that break things.
What they broke stays so: a backend that is healed meanwhile is tested in test_resync.py."""


class Refused(Exception):
    """The answer was an error; its text is the message."""


def command(*words: bytes | str | int) -> bytes:
    """A Redis request of these words."""
    encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    bulks = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)
    return b"*%d\r\n%b" % (len(encoded), bulks)


class Store:
    """A connection to a server or a proxy. Use `connect`, which chooses the subclass."""

    def __init__(self, port: int, timeout: float = 10.0) -> None:
        self.raw = RawClient(port, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.raw.close()

    @staticmethod
    def set_request(key: bytes, value: bytes) -> bytes:
        """The bytes of a set."""
        raise NotImplementedError

    @staticmethod
    def get_request(key: bytes) -> bytes:
        """The bytes of a get."""
        raise NotImplementedError

    def read_set(self) -> None:
        """Reads the answer to a set. Raises `Refused`."""
        raise NotImplementedError

    def read_get(self) -> bytes | None:
        """Reads the answer to a get: the value or None. Raises `Refused`."""
        raise NotImplementedError

    def contents(self) -> dict[bytes, Any]:
        """All the server holds but the proxy's own records, as values that compare.

        Only for servers: the proxy does not answer what it asks.
        """
        raise NotImplementedError

    def set(self, key: bytes, value: bytes) -> None:
        """Raises `Refused`."""
        self.raw.send(self.set_request(key, value))
        self.read_set()

    def get(self, key: bytes) -> bytes | None:
        """Raises `Refused`."""
        self.raw.send(self.get_request(key))
        return self.read_get()


class RedisStore(Store):
    """A Redis connection, RESP2 unless `hello3` was called."""

    @staticmethod
    def set_request(key: bytes, value: bytes) -> bytes:
        return command("SET", key, value)

    @staticmethod
    def get_request(key: bytes) -> bytes:
        return command("GET", key)

    def read_set(self) -> None:
        if (reply := self.raw.read_reply()) != b"+OK\r\n":
            raise Refused(reply)

    def read_get(self) -> bytes | None:
        reply: bytes | None = parse(self.raw.read_reply())
        return reply

    def ask(self, *words: bytes | str | int) -> Any:
        """The parsed reply to a command. Raises `Refused`."""
        return parse(self.raw.ask(command(*words)))

    def hello3(self) -> Self:
        """Speaks RESP3 from here on."""
        assert self.raw.ask(command("HELLO", 3)).startswith(b"%")
        return self

    def contents(self) -> dict[bytes, Any]:
        return {mark + key: self.content(key) for mark in self.databases() for key in self.shown_keys()}

    def databases(self) -> Iterator[bytes]:
        """Selects each database that holds something; yields what is written before the names of its keys."""
        keyspace = self.ask("INFO", "keyspace").splitlines()
        for number in sorted(line[2:].split(b":")[0] for line in keyspace if line.startswith(b"db")):
            self.ask("SELECT", number)
            yield b"" if number == b"0" else b"database %b: " % number
        self.ask("SELECT", 0)

    def shown_keys(self) -> list[bytes]:
        """The keys of the selected database, the proxy's own records left out."""
        return [key for key in self.ask("KEYS", "*") if not key.startswith(RESERVED)]

    def content(self, key: bytes) -> Any:
        """Type and value of a key of the selected database, as they compare."""
        kind = self.ask("TYPE", key)
        value = self.ask(*(word if word != b"KEY" else key for word in _READ_WHOLE[kind]))
        if kind in (b"set", b"hash"):  # no order, so any order is equal
            pairs = list(zip(value[::2], value[1::2], strict=True)) if kind == b"hash" else value
            value = sorted(pairs)
        return kind, value


class MemcachedStore(Store):
    """A Memcached connection, classic text."""

    @staticmethod
    def set_request(key: bytes, value: bytes) -> bytes:
        return b"set %b 0 0 %d\r\n%b\r\n" % (key, len(value), value)

    @staticmethod
    def get_request(key: bytes) -> bytes:
        return b"get %b\r\n" % key

    def read_set(self) -> None:
        if (reply := self.raw.read_line()) != b"STORED\r\n":
            raise Refused(reply)

    def read_get(self) -> bytes | None:
        found = self.read_values()
        return next(iter(found.values()))[0] if found else None

    def read_values(self) -> dict[bytes, tuple[bytes, ...]]:
        """The answer to get or gets: by key the value, the flags and, if asked for, the CAS token."""
        found = {}
        while (line := self.raw.read_line()) != b"END\r\n":
            if not line.startswith(b"VALUE "):
                raise Refused(line)
            _, key, flags, length, *cas = line.split()
            found[key] = (self.raw.read_exactly(int(length) + 2)[:-2], flags, *cas)
        return found

    def ask(self, request: bytes) -> bytes:
        """The one line that answers this line (without its end)."""
        self.raw.send(request + b"\r\n")
        return self.raw.read_line()[:-2]

    def contents(self) -> dict[bytes, Any]:
        self.raw.send(b"lru_crawler metadump hash\r\n")
        found: dict[bytes, Any] = {}
        # Its lines end with LF alone, the last one with CRLF; newer servers say OK first.
        lines = self.raw.read_until(b"END\r\n").splitlines()
        for line in (each for each in lines if each.startswith(b"key=")):
            fields = dict(field.partition(b"=")[::2] for field in line.split())
            found[unquote_to_bytes(fields[b"key"])] = fields[b"exp"] != b"-1"
        for key, expires in list(found.items()):
            value = None if key.startswith(RESERVED) else self._item(key)
            if value is None:
                del found[key]
            else:
                found[key] = (*value, expires)
        return found

    def _item(self, key: bytes) -> tuple[bytes, bytes] | None:
        """Value and flags, of keys that text cannot name as well."""
        self.raw.send(b"mg %b v f b\r\n" % base64.b64encode(key))
        status, *words = self.raw.read_line().split()
        if status == b"EN":
            return None
        assert status == b"VA", status
        length, flags, *_ = words
        return self.raw.read_exactly(int(length) + 2)[:-2], flags[1:]


_READ_WHOLE: Mapping[bytes, tuple[bytes, ...]] = {
    b"string": (b"GET", b"KEY"),
    b"list": (b"LRANGE", b"KEY", b"0", b"-1"),
    b"set": (b"SMEMBERS", b"KEY"),
    b"hash": (b"HGETALL", b"KEY"),
    b"zset": (b"ZRANGE", b"KEY", b"0", b"-1", b"WITHSCORES"),
    b"stream": (b"XRANGE", b"KEY", b"-", b"+"),
}

STORES: Mapping[str, type[Store]] = {"redis": RedisStore, "memcached": MemcachedStore}


def connect(protocol: str, port: int) -> Store:
    """A connection in this protocol."""
    return STORES[protocol](port)


def connect_pool(proxy: ProxyProcess, name: str) -> Store:
    """A connection to a pool of the proxy."""
    assert not isinstance(proxy.config, str)
    return connect(proxy.config["pools"][name]["protocol"], proxy.ports[name])


def contents(server: Server) -> dict[bytes, Any]:
    """All that the server holds, the proxy's own records left out; see `Store.contents`."""
    protocol = next(name for name, kind in SERVERS.items() if isinstance(server, kind))
    with connect(protocol, server.port) as store:
        return store.contents()


def parse(reply: bytes) -> Any:
    """A RESP2 or RESP3 reply as Python values; arrays, sets and maps (flat) are lists.

    Raises:
        Refused: it is an error, or holds one.
    """
    value, end = _parse(reply, 0)
    assert end == len(reply), reply
    return value


def _parse(reply: bytes, at: int) -> tuple[Any, int]:
    line_end = reply.index(b"\r\n", at)
    kind, rest, end = reply[at : at + 1], reply[at + 1 : line_end], line_end + 2
    if kind == b"-":
        raise Refused(reply[at:line_end])
    if kind in b"+,(":
        return rest, end
    if kind in b":":
        return int(rest), end
    if kind == b"_" or rest == b"-1":
        return None, end
    if kind == b"#":
        return rest == b"t", end
    if kind in b"$=":
        return reply[end : end + int(rest)], end + int(rest) + 2
    values = []
    for _ in range(int(rest) * (2 if kind == b"%" else 1)):
        value, end = _parse(reply, end)
        values.append(value)
    return values, end


def keys_on(proxy: ProxyProcess, name: str, count: int, servers: Iterable[Server]) -> list[list[bytes]]:
    """``count`` keys of each shard of a pool, found by writing: ``servers`` has one of each shard."""
    found: list[list[bytes]] = [[] for _ in servers]
    protocol = proxy.config["pools"][name]["protocol"]  # type: ignore[index]
    with connect_pool(proxy, name) as client:
        directs = [connect(protocol, server.port) for server in servers]
        for number in itertools.count():
            key = b"find:%d" % number
            client.set(key, b"1")
            for keys, direct in zip(found, directs, strict=True):
                if len(keys) < count and direct.get(key) is not None:
                    keys.append(key)
            if all(len(keys) == count for keys in found):
                break
        for direct in directs:
            direct.raw.close()
    return found
