"""The proxy, with two shards of two replicas and two workers, answers as one plain server does.

Random streams of commands go to both; replies must be equal byte for byte, and afterwards every key must
hold the same value on every replica of its shard as on the plain server. The few differences that are
meant are listed where they are allowed: CROSSSLOT, answers in no order (`UNORDERED`), CAS tokens.
"""

import random
import re
from collections.abc import Callable, Iterable
from contextlib import ExitStack

import pytest
from support.packets import NOBODYS_TOKEN
from support.pipeline import resp
from support.proxy_process import ProxyProcess, pool
from support.random_commands import (
    TOKEN,
    UNORDERED,
    memcached_requests,
    odd_redis_commands,
    redis_commands,
)
from support.raw import RawClient
from support.servers import NEWER_MEMCACHED, MemcachedServer, RedisServer, newer_memcached

from proxy import _engine

DIGESTS = ("--enable-debug-command", "yes")
"""Lets the test ask a server for a digest of a value; the commands compared never use it."""

BATCH = 64

NOT_COMPARED = frozenset((
    # Chance inside the server.
    "SPOP", "SRANDMEMBER", "HRANDFIELD", "ZRANDMEMBER",
    # The clock, relative times, or what depends on when a key was used.
    "TTL", "PTTL", "EXPIRE", "PEXPIRE", "SETEX", "PSETEX", "GETEX", "OBJECT|IDLETIME", "OBJECT|FREQ",
    "XPENDING", "XINFO|CONSUMERS", "XINFO|STREAM",
    # The allocator, and the order of a hash table.
    "MEMORY|USAGE", "DUMP", "HSCAN", "SSCAN", "ZSCAN", "SORT", "SORT_RO",
    # It stores what it counted, on the replica that was read only.
    "PFCOUNT",
    # Scripts are tested on their own.
    "EVAL", "EVAL_RO", "EVALSHA", "EVALSHA_RO", "FCALL", "FCALL_RO",
))  # fmt: skip
"""Commands not called with random words, by what their answers depend on."""


UNBALANCED = b"-ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.\r\n"


class RedisPair:
    """A proxy and a plain server that are asked the same."""

    def __init__(self, resources: ExitStack) -> None:
        self.shards = [[resources.enter_context(RedisServer(*DIGESTS)) for _ in range(2)] for _ in range(2)]
        addresses = [[server.address for server in shard] for shard in self.shards]
        config = pool("redis", *addresses, hash_tag="{}", timeouts={"request": "20s"})
        self.proxy = resources.enter_context(ProxyProcess({"workers": 2, "pools": {"p": config}}))
        self.plain = resources.enter_context(RedisServer(*DIGESTS))
        self.ours = resources.enter_context(RawClient(self.proxy.redis_port, timeout=20))
        self.theirs = resources.enter_context(RawClient(self.plain.port, timeout=20))
        self.compared = 0
        self.crossed = 0

    def hello(self, protocol: int) -> None:
        for client in (self.ours, self.theirs):
            assert client.ask(resp("HELLO", protocol))[:1] in b"*%"

    def compare(self, words: list[str]) -> None:
        """Asks the proxy first: what it refuses as CROSSSLOT must not reach the plain server."""
        got = self.ours.ask(resp(*words))
        if got.startswith(b"-CROSSSLOT"):
            self.crossed += 1
            keys = elements(self.theirs.ask(resp("COMMAND", "GETKEYS", *words)))
            assert len({tag_of(key) for key in keys}) > 1, f"{words}: CROSSSLOT, but the keys are {keys!r}"
            return
        self.check(words, got, self.theirs.ask(resp(*words)))

    def compare_many(self, batch: list[list[str]]) -> None:
        """The same, sent at once: the replies of different shards come back in the order of the requests."""
        data = b"".join(resp(*words) for words in batch)
        self.ours.send(data)
        self.theirs.send(data)
        for words in batch:
            self.check(words, self.ours.read_reply(), self.theirs.read_reply())

    def check(self, words: list[str], got: bytes, expected: bytes) -> None:
        self.compared += 1
        if got != expected and words[0] in UNORDERED and got[:1] in b"*~%":
            pairs = 2 if words[0] == "HGETALL" else 1
            assert got.partition(b"\r\n")[0] == expected.partition(b"\r\n")[0], words
            assert sorted(elements(got, pairs)) == sorted(elements(expected, pairs)), words
        elif got == UNBALANCED and expected[:1] == b"-":
            # Of two mistakes in one XREAD the server names the first it comes to, the proxy the one for
            # which it does not know a shard to ask.
            assert words[0] in ("XREAD", "XREADGROUP"), words
        else:
            assert got == expected, f"after {self.compared} equal replies: {words}"

    def check_stored(self) -> int:
        """Compares every value on every replica with the plain server's; returns how many keys there are."""
        assert set(self.proxy.backend_states("p").values()) == {"in_sync"}, "a healthy replica was given up"
        wanted = digests(self.plain)
        for shard in self.shards:
            leading, following = (digests(server) for server in shard)
            assert leading == following, "the replicas of a shard differ"
            assert leading, "a shard holds nothing"
            for key, digest in leading.items():
                assert wanted.pop(key) == digest, f"{key!r} is not what the plain server holds"
        assert not wanted, "keys are missing behind the proxy"
        return sum(len(digests(shard[0])) for shard in self.shards)


def is_known(pair: RedisPair, name: str) -> bool:
    """Whether the installed server has the command: the proxy also knows those of newer ones."""
    return len(pair.theirs.ask(resp("COMMAND", "INFO", name))) > len(b"*1\r\n*-1\r\n")


def tag_of(key: bytes) -> bytes:
    """What of a key decides its shard."""
    found = re.search(rb"\{[^}]+\}", key)
    return found[0] if found else key


def elements(reply: bytes, group: int = 1) -> list[bytes]:
    """The bulk strings in a flat array, set or map, so many joined to one."""
    found = []
    at = reply.index(b"\r\n") + 2
    while at < len(reply):
        assert reply[at : at + 1] == b"$", reply
        start = reply.index(b"\r\n", at) + 2
        end = start + int(reply[at + 1 : start - 2])
        found.append(reply[start:end])
        at = end + 2
    return [b"=".join(found[i : i + group]) for i in range(0, len(found), group)]


def digests(server: RedisServer) -> dict[bytes, bytes]:
    """A digest of each value on a server, the proxy's own records left out."""
    with RawClient(server.port, timeout=20) as client:
        listed = client.ask(resp("KEYS", "*")).split(b"\r\n")[2::2]
        keys = [key for key in listed if key and not key.startswith(b"__shardproxy:")]
        for key in keys:
            # Reading a HyperLogLog's count stores it in the value, on the replica that was read only.
            client.ask(resp("PFCOUNT", key))
        return {key: client.ask(resp("DEBUG", "DIGEST-VALUE", key)) for key in keys}


@pytest.fixture
def redis_pair(resources: ExitStack) -> RedisPair:
    return RedisPair(resources)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_commands_one_by_one(redis_pair: RedisPair, rng: random.Random, protocol: int) -> None:
    redis_pair.hello(protocol)
    for words in redis_commands(rng, 12_000, spread=0.05):
        redis_pair.compare(words)
    assert redis_pair.crossed > 10
    assert redis_pair.check_stored() > 50


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_commands_pipelined(redis_pair: RedisPair, rng: random.Random, protocol: int) -> None:
    redis_pair.hello(protocol)
    stream = list(redis_commands(rng, 20_000, spread=0.0))
    for start in range(0, len(stream), BATCH):
        redis_pair.compare_many(stream[start : start + BATCH])
    assert redis_pair.check_stored() > 50


@pytest.mark.slow
def test_redis_commands_with_odd_words(redis_pair: RedisPair, rng: random.Random) -> None:
    arity = {
        row.name: row.arity
        for row in _engine.command_table()
        if row.handling in ("forward", "split")
        and row.name not in NOT_COMPARED
        and is_known(redis_pair, row.name)
    }
    assert len(arity) > 140
    for words in odd_redis_commands(rng, 15_000, arity, spread=0.1):
        redis_pair.compare(words)
    assert redis_pair.check_stored() > 20


PADDED = re.compile(rb"^VALUE (n\d) 0 \d+( CAS)?\r?\n(\d+) *\r$", re.MULTILINE)
"""A number that `decr` made shorter: padded with blanks unless an answer still holds the old item."""
CAS_TOKEN = re.compile(rb"^(VALUE \S+ \d+ \d+) \d+\r$", re.MULTILINE)
MARK = b"mark!\r\n"
KEY_LIMIT = 250


class MemcachedSide:
    """One of the two that are compared, and the CAS tokens it gave out."""

    def __init__(self, client: RawClient) -> None:
        self.client = client
        self._tokens: dict[bytes, list[bytes]] = {}
        """Of each key the last two."""

    def ask(self, batch: Iterable[bytes]) -> bytes:
        """All that is answered to the batch, behind what is asked about tokens."""
        requests = list(batch)
        named = {found[1] for request in requests if (found := TOKEN.match(request))}
        learned = b"".join(self._learn(key) for key in sorted(named))
        return learned + self.exchange([self._fill_in(request) for request in requests])

    def exchange(self, batch: Iterable[bytes]) -> bytes:
        """All that is answered to the batch; its end is told by the value of a key of its own."""
        return plainly(self._exchange(batch))

    def _exchange(self, batch: Iterable[bytes]) -> bytes:
        self.client.send(b"".join(batch) + b"get mark\r\n")
        return self.client.read_until(b"VALUE mark 0 5\r\n" + MARK + b"END\r\n")

    def _learn(self, key: bytes) -> bytes:
        if len(key) > KEY_LIMIT:
            return b""
        answer = self._exchange([b"gets %b\r\n" % key])
        if answer.startswith(b"VALUE %b " % key):
            token = answer.partition(b"\r\n")[0].split()[4]
            self._tokens[key] = [*self._tokens.get(key, [])[-1:], token]
        return plainly(answer)

    def _fill_in(self, request: bytes) -> bytes:
        found = TOKEN.match(request)
        if found is None:
            return request
        known = self._tokens.get(found[1], [b"%d" % NOBODYS_TOKEN])
        token = known[0] if found[2] == b"{old}" else known[-1]
        return request.replace(found[2], token, 1)


def plainly(answers: bytes) -> bytes:
    """Without what may differ."""
    return PADDED.sub(rb"VALUE \1 \3", CAS_TOKEN.sub(rb"\1 CAS\r", answers))


NEWER = newer_memcached()
ONLY_WITH_IT = pytest.mark.skipif(
    NEWER is None, reason=f"{NEWER_MEMCACHED} names no memcached newer than the installed one"
)
PROGRAMS = [
    pytest.param(None, None, id="installed"),
    pytest.param(NEWER, NEWER, id="newer", marks=ONLY_WITH_IT),
    pytest.param(NEWER, None, id="newer leads", marks=ONLY_WITH_IT),
    pytest.param(None, NEWER, id="installed leads", marks=ONLY_WITH_IT),
]


@pytest.mark.slow
@pytest.mark.parametrize(("lead", "other"), PROGRAMS)
def test_memcached_requests(
    resources: ExitStack, rng: random.Random, lead: str | None, other: str | None
) -> None:
    def start(program: str | None) -> MemcachedServer:
        return resources.enter_context(MemcachedServer(program=program))

    shards = [[start(lead), start(other)] for _ in range(2)]
    config = pool("memcached", *[[server.address for server in shard] for shard in shards])
    config["timeouts"] = {"request": "20s"}
    proxy = resources.enter_context(ProxyProcess({"workers": 2, "pools": {"p": config}}))
    plain = start(None)  # what is wrong with a request is told in its words, whatever is behind the proxy
    ours, theirs = (
        MemcachedSide(resources.enter_context(RawClient(port, timeout=20)))
        for port in (proxy.memcached_port, plain.port)
    )
    for side in (ours, theirs):
        side.client.send(b"set mark 0 0 5\r\n" + MARK)
        side.client.expect(b"STORED\r\n")
    stream = list(memcached_requests(rng, 20_000))
    at, compared = 0, 0
    while at < len(stream):
        size = rng.choice([1, 1, 2, BATCH])
        batch = stream[at : at + size]
        got = ours.ask(batch)
        assert got == theirs.ask(batch), batch
        compared += got.count(b"EXISTS\r\n")
        at += size
    assert compared > 50, "hardly a token was compared"
    assert set(proxy.backend_states("p").values()) == {"in_sync"}, "a healthy replica was given up"
    assert_replicas_agree(shards, plain)


def assert_replicas_agree(shards: list[list[MemcachedServer]], plain: MemcachedServer) -> None:
    names = [f"k{n}" for n in range(40)] + [f"n{n}" for n in range(5)]
    found = 0
    with RawClient(plain.port) as expected:
        for name in names:
            wanted = MemcachedSide(expected).exchange([f"get {name}\r\n".encode()])
            holders = [shard for shard in shards if holds(shard[0], name) or holds(shard[1], name)]
            assert len(holders) == (b"VALUE " + name.encode() in wanted), f"{name} on {len(holders)} shards"
            for shard in holders:
                copies = [stored(server, name) for server in shard]
                # Also where they are padded.
                assert copies[0] == copies[1], name
                assert PADDED.sub(rb"VALUE \1 \3", copies[0]) == wanted[: wanted.index(b"VALUE mark")], name
                found += len(copies)
    assert found > 20


def stored(server: MemcachedServer, name: str) -> bytes:
    with RawClient(server.port) as client:
        client.send(f"get {name}\r\n".encode())
        return client.read_until(b"END\r\n")


def holds(server: MemcachedServer, name: str) -> bool:
    return stored(server, name).startswith(b"VALUE")


def test_cas_through_the_proxy(resources: ExitStack, start_memcached: Callable[[], MemcachedServer]) -> None:
    """A token of `gets` is good for one `cas`, and for none after another write; as on one server."""
    shards = [[start_memcached(), start_memcached()] for _ in range(2)]
    config = pool("memcached", *[[server.address for server in shard] for shard in shards])
    proxy = resources.enter_context(ProxyProcess({"workers": 2, "pools": {"p": config}}))
    for port in (start_memcached().port, proxy.memcached_port):
        with RawClient(port) as client:
            for n in range(30):
                client.send(f"set k{n} 0 0 1\r\n0\r\ngets k{n}\r\n".encode())
                client.expect(b"STORED\r\n")
                token = client.read_line().split()[-1].decode()
                client.expect(b"0\r\nEND\r\n")
                swap = f"cas k{n} 3 0 2 {token}\r\n1{n % 10}\r\n".encode()
                client.send(swap + swap + f"cas none{n} 0 0 1 {token}\r\nx\r\nget k{n}\r\n".encode())
                client.expect(b"STORED\r\nEXISTS\r\nNOT_FOUND\r\n")
                client.expect(f"VALUE k{n} 3 2\r\n1{n % 10}\r\nEND\r\n".encode())
