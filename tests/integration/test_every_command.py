"""Every command that is routed by its keys answers as one plain server does, whatever it is asked.

The shapes of the requests are the server's own (COMMAND DOCS), filled with words that fit and words that do
not. They go to the proxy and to one plain server, some at once. Replies must be equal, but for what depends
on the clock, on chance or on the order of a hash table (`LOOSE`); and afterwards the replicas of each shard
hold the same until the same millisecond, and what the plain server holds.

``SHARDPROXY_TEST_COMMANDS=200000`` asks for so many requests instead of a few thousand.
"""

import os
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.cluster import Cluster
from support.documented_commands import LIBRARY, SCRIPTS, Shapes, documents
from support.random_commands import UNORDERED, redis_commands
from support.servers import RedisServer, Server
from support.store import RESERVED, RedisStore, Refused, command, parse

from proxy import _engine

FEW = 12
"""Requests that Hypothesis chooses at once: beyond that it has more to shrink than it finds time for."""
COUNT = int(os.environ.get("SHARDPROXY_TEST_COMMANDS") or 1_500)
PATIENT = {
    "timeouts": {"connect": "2s", "request": "20s"},
    "health": {"interval": "2s", "timeout": "2s", "fall": 10},
}
UNBALANCED = b"-ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.\r\n"
CLOCK_MS = 20_000
"""What answers about times may differ by: both servers are asked, one after the other."""
LIFETIMES = ("EXPIRE", "PEXPIRE", "SETEX", "PSETEX", "RESTORE")
SHORT = 50_000
"""Seconds or milliseconds in which a key may expire while it is looked at."""
Reply = bytes
Same = Callable[[list[str], Any, Any], bool]


def same_kind(_: list[str], got: Any, expected: Any) -> bool:
    return type(got) is type(expected)


def same_count(_: list[str], got: Any, expected: Any) -> bool:
    """As many elements, of which chance chose."""
    if isinstance(got, list) and isinstance(expected, list):
        return len(got) == len(expected)
    return type(got) is type(expected)


def same_words(_: list[str], got: Any, expected: Any) -> bool:
    """The same in any order, if the walk ends with this page."""
    if isinstance(got, list) and isinstance(expected, list) and len(got) == 2 and isinstance(got[1], list):
        return got[0] != expected[0] or got[0] != b"0" or sorted(got[1]) == sorted(expected[1])
    return sorted_if_list(got) == sorted_if_list(expected)


def sorted_if_list(value: Any) -> Any:
    return sorted(value, key=str) if isinstance(value, list) else value


def near(_: list[str], got: Any, expected: Any) -> bool:
    """Numbers are times."""
    if isinstance(got, int) and isinstance(expected, int):
        return got == expected or (min(got, expected) >= 0 and abs(got - expected) <= CLOCK_MS)
    if isinstance(got, list) and isinstance(expected, list):
        return len(got) == len(expected) and all(near([], a, b) for a, b in zip(got, expected, strict=True))
    return bool(got == expected)


LOOSE: Mapping[str, Same] = {
    **dict.fromkeys(UNORDERED, same_words),
    **dict.fromkeys(("HSCAN", "SSCAN", "ZSCAN"), same_words),
    **dict.fromkeys(("TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"), near),
    **dict.fromkeys(("XPENDING", "XINFO|STREAM", "XINFO|CONSUMERS"), near),
    **dict.fromkeys(("SRANDMEMBER", "HRANDFIELD", "ZRANDMEMBER"), same_count),
    # What a server's allocator takes, and when a key was used. A payload holds the order of a hash table.
    **dict.fromkeys(("MEMORY|USAGE", "DUMP", "OBJECT|IDLETIME", "OBJECT|FREQ"), same_kind),
}
"""How replies are compared that need not be equal, unless one of them is an error."""


class Pair:
    """A proxy and a plain server that are asked the same."""

    def __init__(self, resources: ExitStack, shards: int, rng: random.Random) -> None:
        options = {"hash_tag": "{}", "workers": 2, "arguments": ("--enable-debug-command", "yes"), **PATIENT}
        self.cluster = resources.enter_context(Cluster("redis", shards=shards, replicas=2, **options))
        self.plain = resources.enter_context(RedisServer("--enable-debug-command", "yes"))
        # Whoever comes first is on the worker that orders the first shard's writes, and the next one is not.
        resources.enter_context(self.cluster.connect()).get(b"none")
        ours = self.cluster.connect()
        assert isinstance(ours, RedisStore)
        self.ours = resources.enter_context(ours)
        self.theirs, self.aside = (resources.enter_context(RedisStore(self.plain.port)) for _ in range(2))
        docs = documents(self.theirs.ask("COMMAND", "DOCS"))
        for each in (self.ours, self.theirs):
            each.ask("FUNCTION", "LOAD", LIBRARY)
        texts = [text for text in SCRIPTS if "not Lua" not in text]
        digests = [self.theirs.ask("SCRIPT", "LOAD", text).decode() for text in texts]
        for text in texts:
            self.ours.ask("SCRIPT", "LOAD", text)
        self.docs, self.digests = docs, [*digests, "f" * 40, "x"]
        self.shapes = Shapes(rng, docs, self.digests)
        rows = [row for row in _engine.command_table() if row.handling in ("forward", "split", "block")]
        self.names = [row.name for row in rows if row.name in docs]
        table = {row.name for row in _engine.command_table()}
        # What a newer server has beyond the table is learned; so far as it has keys.
        self.names += [name for name in docs if name.isupper() and name not in table and has_keys(docs[name])]
        self.differing: list[str] = []

    def begin(self, rng: random.Random) -> None:
        """Anew: nothing is stored, and ``rng`` decides what is asked."""
        for each in (self.ours, self.theirs):
            each.ask("FLUSHALL")
        self.shapes = Shapes(rng, self.docs, self.digests)
        self.differing.clear()

    def compare(self, requests: Iterable[list[str]]) -> None:
        """Asks both, at once each. What chance decides is done to the plain server as it was to the proxy."""
        asked = [words for words in requests if not (is_unclear(words) or waits(words))]
        self.ours.raw.send(b"".join(command(*words) for words in asked))
        given = []
        for words in asked:
            got = self.ours.raw.read_reply()
            if got.startswith(b"-CROSSSLOT"):
                keys = self.aside.ask("COMMAND", "GETKEYS", *words)
                assert len({key.partition(b":")[0] for key in keys}) > 1, f"{words}: the keys are {keys!r}"
            else:
                given.append((words, got, followed(words, got)))
        self.theirs.raw.send(b"".join(command(*(follow or words)) for words, _, follow in given))
        for words, got, follow in given:
            expected = self.theirs.raw.read_reply()
            if follow is None and not is_same(words, got, expected):
                self.differing.append(f"{words}\n  got      {got!r}\n  expected {expected!r}")

    def check_stored(self) -> None:
        """Compares what each server holds."""
        states = self.cluster.proxy.backend_states("p")
        assert set(states.values()) == {"in_sync"}, "a healthy replica was given up"
        wanted = everything(self.plain)
        for row in self.cluster.servers:
            leading, following = (everything(server) for server in row)
            assert differences(leading, following) == {}, "the replicas of a shard differ"
            for key, (digest, expires) in leading.items():
                known = wanted.pop(key, None)
                assert known is not None, f"{key!r} is not on the plain server"
                assert known[0] == digest, f"{key!r} is not what the plain server holds"
                assert near([], known[1], expires), (
                    f"{key!r} expires at another time: {expires}, not {known[1]}"
                )
        assert not wanted, "keys are missing behind the proxy"


def has_keys(arguments: Sequence[Mapping[str, Any]]) -> bool:
    return any(each["type"] == "key" or has_keys(each["arguments"]) for each in arguments)


def differences(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> dict[Any, Any]:
    return {key: (one.get(key), other.get(key)) for key in {*one, *other} if one.get(key) != other.get(key)}


def is_unclear(words: Sequence[str]) -> bool:
    """True for what leaves behind, or answers, what no two servers do."""
    name, options = words[0].upper(), [word.upper() for word in words[1:]]
    if name in ("SORT", "SORT_RO"):
        # A set has no order unless it is sorted, and a part of it is any part. Patterns that may stand for
        # keys of other shards are refused.
        return "BY" in options or any("*" in word for word in words)
    if name in LIFETIMES:
        return any(map(is_short, words[2:3]))
    if name == "XADD" and {"IDMP", "IDMPAUTO"} & {*options}:
        return True  # only beside an id that the server makes
    if name == "SET" and "GET" in options and {"IFDEQ", "IFDNE"} & {*options}:
        return True  # Redis 8.6 answers twice if it is no digest
    if name in ("SET", "GETEX"):
        return any(is_short(word) for option, word in pairwise(options) if option in ("EX", "PX"))
    if name == "DBSIZE":
        # A key made with a time that is over (SET k v PXAT 1) counts until the server comes by.
        return len(words) == 1
    # Where a walk goes on depends on the hash table.
    return name in ("HSCAN", "SSCAN", "ZSCAN") and words[2:3] != ["0"]


def is_short(word: str) -> bool:
    """True for a time that may pass before the end of the test."""
    return word.strip().isdigit() and 0 < int(word) < SHORT


def waits(words: Sequence[str]) -> bool:
    """True for a request that may wait for long, or for ever."""
    name = words[0].upper()
    if name in ("XREAD", "XREADGROUP"):
        times = [after for word, after in pairwise(words) if word.upper() == "BLOCK"]
    else:
        times = words[1:] if (name.startswith("B") and "POP" in name) or name == "BLMOVE" else []
        times = times[:1] if name.endswith("MPOP") else times[-1:]
    for word in times:
        try:
            time = float.fromhex(word) if "0x" in word.lower() else float(word)
        except ValueError:
            continue
        if time == 0 or time > (5 if name.startswith("X") else 0.01):
            return True
    return False


def followed(words: Sequence[str], reply: Reply) -> list[str] | None:
    """What the plain server is asked instead, where chance or the clock has decided."""
    name = words[0].upper()
    try:
        value = parse(reply)
    except Refused:
        return None
    if name == "SPOP":
        members = value if isinstance(value, list) else [value] if value is not None else []
        return ["SREM", words[1], *(member.decode() for member in members)] if members else None
    if name == "XADD" and value is not None and "*" in words:
        # The first one stands for the id, in whatever way the rest is right.
        made = list(words)
        made[made.index("*")] = value.decode()
        return made
    return None


def is_same(words: list[str], got: Reply, expected: Reply) -> bool:
    if got == expected:
        return True
    if b"-" == got[:1] == expected[:1] and got.lower() == expected.lower():
        return True  # commands of modules have capitals, and say so
    if got == UNBALANCED and expected[:1] == b"-":
        # Of two mistakes in one XREAD the server names the first it comes to, the proxy the one for which it
        # does not know a shard to ask.
        return words[0].upper() in ("XREAD", "XREADGROUP")
    name = words[0].upper()
    loose = LOOSE.get(name) or LOOSE.get(f"{name}|{words[1].upper()}" if len(words) > 1 else name)
    if loose is None or b"-" in (got[:1], expected[:1]):
        return False
    return loose(words, parse(got), parse(expected))


def everything(server: Server) -> dict[tuple[int, bytes], tuple[bytes, int]]:
    """A digest of each value, by database and key, and when it expires; the proxy's own records left out."""
    found = {}
    with RedisStore(server.port) as direct:
        for line in direct.ask("INFO", "keyspace").splitlines():
            if not (match := re.match(rb"db(\d+):", line)):
                continue
            direct.ask("SELECT", match[1])
            for key in direct.ask("KEYS", "*"):
                if key.startswith(RESERVED):
                    continue
                if b":hll:" in key:
                    # Reading its count stores it in the value, on the replica that was read.
                    direct.raw.ask(command("PFCOUNT", key))
                expires = direct.ask("PEXPIRETIME", key)
                if digest := direct.ask("DEBUG", "DIGEST-VALUE", key):
                    found[int(match[1]), key] = digest[0], expires
    return found


def mixed(pair: Pair, rng: random.Random, count: int) -> Iterator[list[str]]:
    """Shapes of all kinds, and commands that fill the keys again."""
    filling = redis_commands(rng, count, spread=0.0)
    for words in pair.shapes.requests(pair.names, count):
        yield words
        if rng.random() < 0.4:
            yield next(filling)


@pytest.mark.slow
@pytest.mark.parametrize(("shards", "protocol"), [(1, 2), (3, 3)], ids=["1 shard, RESP2", "3 shards, RESP3"])
def test_every_command_is_as_on_one_server(
    resources: ExitStack, rng: random.Random, shards: int, protocol: int
) -> None:
    pair = Pair(resources, shards, rng)
    assert len(pair.names) > 180
    if protocol == 3:
        pair.ours.hello3()
        pair.theirs.hello3()
    requests = mixed(pair, rng, COUNT)
    while batch := list(islice(requests, rng.randrange(1, 40))):
        pair.compare(batch)
    found = "\n".join(pair.differing[:20])
    assert not pair.differing, f"{len(pair.differing)} replies differ:\n{found}"
    pair.check_stored()


@pytest.fixture(scope="module")
def pair_of_three() -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(stack, 3, random.Random(0))


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.data_too_large])
@given(rng=st.randoms(use_true_random=False))
def test_a_few_of_any_commands_are_as_on_one_server(pair_of_three: Pair, rng: random.Random) -> None:
    """Hypothesis chooses them, and shrinks what differs to the fewest and plainest that do."""
    pair_of_three.begin(rng)
    pair_of_three.compare(islice(mixed(pair_of_three, rng, FEW), FEW))
    assert not pair_of_three.differing, "\n".join(pair_of_three.differing)
