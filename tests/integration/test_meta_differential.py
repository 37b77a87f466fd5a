"""Meta commands through the proxy are answered as one plain memcached answers them, byte for byte.

Random streams go to a proxy and to one server of the leaders' version; afterwards every replica holds what
that one holds, stale and won marks included. What is compared as equal although it is not:

- CAS tokens (`c`, `cas=`), which each server counts for itself;
- seconds (`t` but for -1, `l`, `exp=`, `la=`), which may tick between the two;
- the padding of a number that was made shorter, which depends on who else holds the item.

What is meant to differ is not in the streams, and stands in MEMCACHED.md.
"""

import base64
import random
import re
from contextlib import ExitStack

import pytest
from support.eventually import eventually
from support.meta_requests import ALL_KEYS, Ask, meta_requests
from support.packets import NOBODYS_TOKEN
from support.proxy_process import ProxyProcess, pool
from support.raw import RawClient
from support.servers import NEWER_MEMCACHED, MemcachedServer, newer_memcached

TOKEN = re.compile(rb"(?<= )c[1-9]\d*|(?<=cas=)\d+")
SECONDS = re.compile(rb"(?<= )t\d+|(?<= )l\d+|(?<= exp=)-?\d\d+|(?<= la=)\d+")
HEAD = re.compile(rb"^(?:VA|HD|EN|NF|NS|EX|ME) ?.*\r$", re.MULTILINE)
PADDED = re.compile(rb"^VA \d+( ?.*)\r\n(\d+) *\r$", re.MULTILINE)
TOPOLOGIES = {"1x1": (1, 1), "1x2": (1, 2), "3x2": (3, 2)}
REQUESTS = 2_500


def plainly(answers: bytes) -> bytes:
    """Without what may differ."""
    answers = HEAD.sub(lambda line: SECONDS.sub(b"?", TOKEN.sub(b"cas", line[0])), answers)
    return PADDED.sub(lambda found: b"VA %d%b\r\n%b\r" % (len(found[2]), found[1], found[2]), answers)


class Side:
    """One of the two that are compared, and the tokens it gave out."""

    def __init__(self, client: RawClient) -> None:
        self.client = client
        self.tokens: dict[bytes, list[bytes]] = {key: [b"%d" % NOBODYS_TOKEN] for key in ALL_KEYS}
        self.count = 0

    def ask(self, batch: list[Ask]) -> bytes:
        """All that is answered to them, behind what is asked about tokens."""
        learned = b"".join(self.learn(ask.key) for ask in batch if ask.key is not None)
        self.client.send(b"".join(self.line(ask) for ask in batch))
        return learned + self.answers()

    def answers(self) -> bytes:
        self.count += 1
        end = b"EN Oend%d\r\n" % self.count
        self.client.send(b"mg nothing-here Oend%d\r\n" % self.count)
        return self.client.read_until(end)[: -len(end)]

    def learn(self, key: bytes) -> bytes:
        self.client.send(b"mg %b b c u\r\n" % base64.b64encode(key))
        answer = self.answers()
        if found := re.search(rb" c(\d+)", answer):
            self.tokens[key].append(found[1])
        return answer

    def line(self, ask: Ask) -> bytes:
        if ask.key is None:
            return ask.before + b"\r\n"
        known = self.tokens[ask.key]
        token = known[-2] if ask.old and len(known) > 2 else known[-1]
        return ask.before + token + ask.after + b"\r\n"


NEWER = newer_memcached()
ONLY_WITH_IT = pytest.mark.skipif(
    NEWER is None, reason=f"{NEWER_MEMCACHED} names no memcached newer than the installed one"
)
PROGRAMS = [
    *[pytest.param(None, None, each, id=f"installed-{each}") for each in TOPOLOGIES],
    *[pytest.param(NEWER, NEWER, each, id=f"newer-{each}", marks=ONLY_WITH_IT) for each in TOPOLOGIES],
    pytest.param(NEWER, None, "1x2", id="newer-leads", marks=ONLY_WITH_IT),
    pytest.param(None, NEWER, "1x2", id="installed-leads", marks=ONLY_WITH_IT),
]


@pytest.mark.slow
@pytest.mark.parametrize(("lead", "other", "topology"), PROGRAMS)
def test_meta_requests(
    resources: ExitStack, rng: random.Random, lead: str | None, other: str | None, topology: str
) -> None:
    def start(program: str | None) -> MemcachedServer:
        return resources.enter_context(MemcachedServer(program=program))

    count, replicas = TOPOLOGIES[topology]
    shards = [[start(other if at else lead) for at in range(replicas)] for _ in range(count)]
    config = pool("memcached", *[[server.address for server in shard] for shard in shards])
    config["timeouts"] = {"request": "20s"}
    proxy = resources.enter_context(ProxyProcess({"workers": 2, "pools": {"p": config}}))
    plain = start(lead)
    ours, theirs = (
        Side(resources.enter_context(RawClient(port, timeout=20)))
        for port in (proxy.memcached_port, plain.port)
    )
    stream = meta_requests(rng, REQUESTS, newer=lead is not None)
    at = 0
    while at < len(stream):
        batch = stream[at : at + rng.choice([1, 1, 2, 6])]
        expected = plainly(theirs.ask(batch))
        got = plainly(ours.ask(batch))
        assert got == expected, different(got, expected, [ours.line(ask) for ask in batch])
        at += len(batch)
    assert set(proxy.backend_states("p").values()) == {"in_sync"}, "a healthy replica was given up"
    # Of what was marked as stale right behind being won, others know only when it is won again.
    assert plainly(theirs.ask(EACH_KEY)) == plainly(ours.ask(EACH_KEY))
    eventually(lambda: assert_replicas_agree(shards, plain), within=5, what="replicas are equal")


EACH_KEY = [Ask(b"mg %b b v f" % base64.b64encode(key)) for key in ALL_KEYS]


def different(got: bytes, expected: bytes, batch: list[bytes]) -> str:
    """Where they begin to differ, and all that was asked."""
    at = next((i for i, (a, b) in enumerate(zip(got, expected, strict=False)) if a != b), len(expected))
    around = slice(max(0, at - 100), at + 40)
    return f"{got[around]!r}\n{expected[around]!r}\n" + "\n".join(repr(line)[:200] for line in batch)


def assert_replicas_agree(shards: list[list[MemcachedServer]], plain: MemcachedServer) -> bool:
    wanted = held(plain)
    assert sum(answer != b"EN\r\n" for answer in wanted.values()) > 8, "hardly anything is held"
    found = {server.port: held(server) for shard in shards for server in shard}
    for key, answer in wanted.items():
        holders = [shard for shard in shards if found[shard[0].port][key] != b"EN\r\n"]
        assert len(holders) == (answer != b"EN\r\n"), f"{key!r} is on {len(holders)} shards"
        for shard in shards:
            copies = [found[server.port][key] for server in shard]
            assert all(copy == copies[0] for copy in copies), f"{key!r} on the replicas of a shard: {copies}"
            assert copies[0] in (answer, b"EN\r\n"), f"{key!r}"
    return True


def held(server: MemcachedServer) -> dict[bytes, bytes]:
    """What ``mg`` shows of each key, with its marks."""
    with RawClient(server.port) as client:
        side = Side(client)
        shown = {}
        for key in ALL_KEYS:
            client.send(b"mg %b b f t v u\r\n" % base64.b64encode(key))
            shown[key] = plainly(side.answers())
        return shown
