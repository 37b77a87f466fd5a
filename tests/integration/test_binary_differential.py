"""The binary protocol through the proxy is answered as one plain memcached answers it, byte for byte.

Random streams go to a proxy and to one server; afterwards every replica holds what that server holds. What is
compared as equal although it is not:

- CAS tokens, but for there being one, which each server counts for itself;
- the version, which of the proxy is always the same;
- the padding of a number that was made shorter, which depends on who else holds the item.

What is meant to differ is not in the streams, and stands in MEMCACHED.md.
"""

import base64
import random
import re
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from support import packets
from support.packets import ALL_KEYS, NUMBER_KEYS, Ask, Reply, packet, random_asks, read_until_noop
from support.proxy_process import ProxyProcess, pool
from support.raw import RawClient
from support.servers import NEWER_MEMCACHED, MemcachedServer, newer_memcached

TOPOLOGIES = {"1x1": (1, 1), "1x2": (1, 2), "3x2": (3, 2)}
REQUESTS = 8_000


class Side:
    """One of the two that are compared, and the tokens it gave out."""

    def __init__(self, client: RawClient) -> None:
        self.client = client
        self.tokens: dict[bytes, list[int]] = {key: [packets.NOBODYS_TOKEN] for key in ALL_KEYS}
        self.count = 0

    def ask(self, batch: list[Ask]) -> list[Reply]:
        """All that is answered to them, behind what is asked about tokens."""
        learned = [self.learn(ask.key) for ask in batch if ask.compares]
        answers = self.exchange(b"".join(self.packet(ask) for ask in batch))
        return [plainly(reply) for reply in [*learned, *answers]]

    def exchange(self, data: bytes) -> list[Reply]:
        self.count += 1
        opaque = self.count.to_bytes(4, "big")
        self.client.send(data + packet(packets.NOOP, opaque=opaque))
        return read_until_noop(self.client, opaque)

    def learn(self, key: bytes) -> Reply:
        (reply,) = self.exchange(packet(packets.GET, key))
        if reply.cas:
            self.tokens[key].append(reply.cas)
        return reply

    def packet(self, ask: Ask) -> bytes:
        known = self.tokens.get(ask.key, [0])
        token = known[-2] if ask.old and len(known) > 2 else known[-1]
        cas = token if ask.compares else 0
        return packet(ask.opcode, ask.key, ask.value, extras=ask.extras, cas=cas, opaque=ask.opaque)


def plainly(reply: Reply) -> Reply:
    """Without what may differ. Values of numbers are the only ones that begin with a digit."""
    if reply.opcode == packets.VERSION:
        return reply._replace(value=b"version")
    value = reply.value.rstrip(b" ") if reply.value[:1].isdigit() and len(reply.value) != 8 else reply.value
    return reply._replace(cas=int(reply.cas != 0), value=value)


NEWER = newer_memcached()
ONLY_WITH_IT = pytest.mark.skipif(
    NEWER is None, reason=f"{NEWER_MEMCACHED} names no memcached newer than the installed one"
)
CASES = [
    *[pytest.param(None, each, id=each) for each in TOPOLOGIES],
    *[pytest.param(NEWER, each, id=f"newer-{each}", marks=ONLY_WITH_IT) for each in TOPOLOGIES],
]


@pytest.mark.slow
@pytest.mark.parametrize(("program", "topology"), CASES)
def test_binary_requests(
    resources: ExitStack, rng: random.Random, program: str | None, topology: str
) -> None:
    def start() -> MemcachedServer:
        return resources.enter_context(MemcachedServer(program=program))

    count, replicas = TOPOLOGIES[topology]
    shards = [[start() for _ in range(replicas)] for _ in range(count)]
    config = pool("memcached", *[[server.address for server in shard] for shard in shards])
    config["timeouts"] = {"request": "20s"}
    proxy = resources.enter_context(ProxyProcess({"workers": 2, "pools": {"p": config}}))
    plain = start()
    ours, theirs = (
        Side(resources.enter_context(RawClient(port, timeout=20)))
        for port in (proxy.memcached_port, plain.port)
    )
    early = REQUESTS * 3 // 4  # no flush behind it, so that there is something to compare at the end
    asks = enumerate(random_asks(rng, REQUESTS))
    stream = [ask for n, ask in asks if n < early or ask.opcode not in (packets.FLUSH, packets.FLUSHQ)]
    # Whatever chance has left, most keys hold something at the end.
    stream += [Ask(packets.ADD, key, b"10", packets.item_extras(0, 0)) for key in ALL_KEYS]
    at, answered = 0, 0
    while at < len(stream):
        batch = stream[at : at + rng.choice([1, 1, 2, 40])]
        expected, got = theirs.ask(batch), ours.ask(batch)
        assert got == expected, batch
        at += len(batch)
        answered += len(got)
    assert answered > REQUESTS / 2
    assert set(proxy.backend_states("p").values()) == {"in_sync"}, "a healthy replica was given up"
    assert_replicas_agree(shards, plain)


def assert_replicas_agree(shards: list[list[MemcachedServer]], plain: MemcachedServer) -> None:
    wanted = held(plain)
    assert sum(found is not None for found in wanted.values()) > 6, "hardly anything is held"
    copies = [[held(server) for server in shard] for shard in shards]
    for key, expected in wanted.items():
        found = [[copy[key] for copy in shard] for shard in copies]
        holding = [shard for shard in found if shard[0] is not None]
        assert all(copy == shard[0] for shard in found for copy in shard), f"{key!r}: the replicas differ"
        assert [shard[0] for shard in holding] == ([] if expected is None else [expected]), f"{key!r}"


def held(server: MemcachedServer) -> dict[bytes, tuple[bytes, bytes, str] | None]:
    """Value, flags and lifetime of each key."""
    with RawClient(server.port) as client:
        shown = {}
        for key in ALL_KEYS:
            word = b"%b b" % base64.b64encode(key) if set(key) & set(b" \r\n\0") else key
            client.send(b"mg %b f t v u\r\n" % word)
            line = client.read_line()
            found = re.fullmatch(rb"VA (\d+).* f(\d+) t(-?\d+).*\r\n", line)
            assert found or line == b"EN\r\n", line
            if found is None:
                shown[key] = None
                continue
            value = client.read_exactly(int(found[1]) + 2)[:-2]
            value = value.rstrip(b" ") if key in NUMBER_KEYS else value
            shown[key] = (value, found[2], lifetime(int(found[3])))
        return shown


def lifetime(seconds: int) -> str:
    """In words that a second more or less does not change."""
    if seconds < 0:
        return "for ever"
    return "years" if seconds > 10_000_000 else f"about {round(seconds / 500) * 500} s"


ENDS = {
    "key longer than its body": packet(packets.GET, b"key")[:11] + b"\x02" + packet(packets.GET, b"key")[12:],
    "body of two gigabytes": packet(packets.SET, b"k", extras=bytes(8))[:8] + b"\x7f" + packet(
        packets.SET, b"k", extras=bytes(8)
    )[9:],
    "no key": packet(packets.GET),
    "key of 251 bytes": packet(packets.GET, b"k" * 251),
    "set of 251 bytes' key": packet(packets.SETQ, b"k" * 251, b"v", extras=bytes(8)),
    "get with extras": packet(packets.GETQ, b"k", extras=bytes(4)),
    "set without extras": packet(packets.SET, b"k", b"v"),
    "append with extras": packet(packets.APPEND, b"k", b"v", extras=bytes(8)),
    "increment without extras": packet(packets.INCREMENT, b"k"),
    "touch without extras": packet(packets.TOUCH, b"k"),
    "delete with a value": packet(packets.DELETE, b"k", b"v"),
    "noop with a value": packet(packets.NOOP, value=b"v"),
    "version with a key": packet(packets.VERSION, b"k"),
    "flush with much": packet(packets.FLUSH, extras=bytes(8)),
    "statistics with extras": packet(packets.STAT, b"items", extras=bytes(4)),
    "quit": packet(packets.QUIT),
    "quiet quit": packet(packets.QUITQ),
    "quit with a key": packet(packets.QUIT, b"k"),
    "another magic": b"get k\r\n" + bytes(40),
}  # fmt: skip
"""What the connection ends with, and what the server says before."""


def test_what_ends_the_connection(
    resources: ExitStack, start_memcached: Callable[[], MemcachedServer]
) -> None:
    plain = start_memcached()
    config = pool("memcached", [start_memcached().address])
    proxy = resources.enter_context(ProxyProcess({"workers": 1, "pools": {"p": config}}))
    newer = {"body of two gigabytes"}  # 1.6.18 reads on; later ones close, and so does the proxy
    for what, data in ENDS.items():
        answers = []
        for port in (proxy.memcached_port, plain.port):
            if what in newer and port == plain.port:
                continue
            with RawClient(port) as client:
                client.send(packet(packets.SET, b"k", b"v", extras=bytes(8)))
                assert packets.read_packet(client).status == 0
                assert packets.ask(client, packet(packets.GET, b"k")).value == b"v"
                # Before it closes because of another magic, a server forgets what it has not sent yet.
                client.send(data + packet(packets.NOOP))
                answers.append(
                    re.sub(rb"(?<=opaq).{8}", b"--------", client.expect_closed(), flags=re.DOTALL)
                )
        assert len(set(answers)) == 1, (what, answers)
