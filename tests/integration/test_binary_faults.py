"""A backend is killed, comes back empty and takes over, while clients speak memcached's binary protocol.

The promises are those of the text protocol, so no request may fail here. Each client has keys of its own, so
that every single answer is known beforehand, quiet requests that must not be answered included; in the end
every copy holds what the clients' books say: values, flags, lifetimes.
"""

import base64
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from support import packets
from support.cluster import Cluster
from support.eventually import eventually
from support.packets import (
    ABSENT,
    EXISTS,
    NOT_STORED,
    OK,
    BinaryStore,
    Reply,
    ask,
    count_extras,
    item_extras,
    packet,
    read_until_noop,
)
from support.raw import RawClient
from support.refill import wait_back
from support.servers import NEWER_MEMCACHED, MemcachedServer, newer_memcached
from support.store import MemcachedStore
from support.traffic import Traffic

pytestmark = pytest.mark.fault

A, B = 0, 1
LIFETIMES = (0, 1000, 100_000)
"""In seconds, far from each other; 0 is for ever."""


class NewerMemcachedServer(MemcachedServer):
    """One of the version that the environment names."""

    def __init__(self, *arguments: str, port: int | None = None) -> None:
        super().__init__(*arguments, port=port, program=newer_memcached())


@pytest.fixture(
    params=[
        pytest.param(MemcachedServer, id="installed"),
        pytest.param(
            NewerMemcachedServer,
            id="newer",
            marks=pytest.mark.skipif(
                newer_memcached() is None, reason=f"{NEWER_MEMCACHED} names no memcached newer than that"
            ),
        ),
    ]
)
def kind(request: pytest.FixtureRequest) -> type[MemcachedServer]:
    """The version of the backends."""
    found: type[MemcachedServer] = request.param
    return found


def cluster_of(kind: type[MemcachedServer], *, shards: int = 1, workers: int = 1) -> Cluster:
    servers = {"memcached": kind}
    return Cluster(
        "memcached", servers=servers, shards=shards, workers=workers, reads="spread", resync={"auto": True}
    )


@contextmanager
def running(*clients: Callable[[threading.Event], None]) -> Iterator[list[BaseException]]:
    """All of these at the same time, in threads, each until the event that it is given. Raises in the end
    what one of them has raised, which is in the list as soon as it has."""
    stopping, raised = threading.Event(), list[BaseException]()

    def guard(run: Callable[[threading.Event], None]) -> None:
        try:
            run(stopping)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=guard, args=(each,)) for each in clients]
    for thread in threads:
        thread.start()
    try:
        yield raised
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
        if raised:
            raise raised[0]


def kill_each_in_turn(cluster: Cluster, flow: Callable[[], None]) -> None:
    """Kills the leader, has it come back empty, and kills the other one; in the end all are in sync."""
    flow()
    for victim in (A, B):
        for row in cluster.servers:
            row[victim].kill9()
        flow()
        for row in cluster.servers:
            row[victim].restart()
        for shard in range(len(cluster.servers)):
            cluster.wait_state(victim, "in_sync", shard=shard, within=30)
        flow()


Step = tuple[bytes, tuple[int, int, bytes] | None]
"""A request, and opcode, status and value of its answer if it must be answered."""


@dataclass
class Item:
    value: bytes
    flags: int = 0
    lifetime: int = 0


@dataclass
class Books:
    """One client, and what its keys must hold.

    Args:
        port: of the proxy.
        number: the client's, with which its keys begin.
        rng: what it asks.
    """

    port: int
    number: int
    rng: random.Random
    items: dict[bytes, Item] = field(default_factory=dict)
    rounds: int = 0

    def run(self, stopping: threading.Event) -> None:
        with RawClient(self.port, timeout=10) as client:
            while not stopping.is_set():
                steps = [self._write() for _ in range(self.rng.choice((1, 3, 30)))]
                # Behind them: a read that is lost with its backend is asked of another one, which may have
                # got by then what was written behind it.
                steps += [self._get(self._key()) for _ in range(self.rng.choice((0, 2, 10)))]
                opaque = self.rounds.to_bytes(4, "big")
                client.send(b"".join(request for request, _ in steps) + packet(packets.NOOP, opaque=opaque))
                replies = iter(read_until_noop(client, opaque))
                for request, expected in steps:
                    if expected is not None:
                        reply = next(replies, None)
                        found = reply and (reply.opcode, reply.status, reply.value)
                        assert found == expected, f"{request!r}: {reply}, not {expected}"
                assert next(replies, None) is None, steps
                self.rounds += 1

    def _key(self) -> bytes:
        """Any but those of numbers. Some of them no line can carry as they are."""
        return b"%d:%b%d" % (self.number, self.rng.choice((b"k", b"\r\n ")), self.rng.randrange(8))

    def _write(self) -> Step:
        if self.rng.random() < 0.3:
            return self._count(b"%d:n%d" % (self.number, self.rng.randrange(3)))
        write = self.rng.choice((self._store, self._store, self._extend, self._delete, self._touch))
        return write(self._key())

    def _store(self, key: bytes) -> Step:
        opcode = self.rng.choice((packets.SETQ, packets.SETQ, packets.ADDQ, packets.REPLACEQ))
        item = Item(
            b"v" + self.rng.randbytes(self.rng.choice((0, 10, 3000))),
            self.rng.choice((0, 7, 0xFFFFFFFF)),
            self.rng.choice(LIFETIMES),
        )
        request = packet(opcode, key, item.value, extras=item_extras(item.flags, item.lifetime))
        if opcode == packets.ADDQ and key in self.items:
            return request, (opcode, EXISTS, b"Data exists for key.")
        if opcode == packets.REPLACEQ and key not in self.items:
            return request, (opcode, ABSENT, b"Not found")
        self.items[key] = item
        return request, None

    def _extend(self, key: bytes) -> Step:
        opcode = self.rng.choice((packets.APPENDQ, packets.PREPENDQ))
        part, item = b"p%d" % self.rng.randrange(100), self.items.get(key)
        request = packet(opcode, key, part)
        if item is None:
            return request, (opcode, NOT_STORED, b"Not stored.")
        item.value = item.value + part if opcode == packets.APPENDQ else part + item.value
        return request, None

    def _delete(self, key: bytes) -> Step:
        request = packet(packets.DELETEQ, key)
        if self.items.pop(key, None) is None:
            return request, (packets.DELETEQ, ABSENT, b"Not found")
        return request, None

    def _get(self, key: bytes) -> Step:
        item = self.items.get(key)
        answer = None if item is None else (packets.GETQ, OK, item.value)
        return packet(packets.GETQ, key), answer

    def _touch(self, key: bytes) -> Step:
        lifetime, item = self.rng.choice(LIFETIMES), self.items.get(key)
        request = packet(packets.GATQ, key, extras=lifetime.to_bytes(4, "big"))
        if item is None:
            return request, None
        item.lifetime = lifetime
        return request, (packets.GATQ, OK, item.value)

    def _count(self, key: bytes) -> Step:
        opcode = self.rng.choice((packets.INCREMENT, packets.INCREMENTQ))
        lifetime = self.rng.choice(LIFETIMES)
        request = packet(opcode, key, extras=count_extras(3, 100, lifetime))
        if key in self.items:
            self.items[key].value = b"%d" % (int(self.items[key].value) + 3)
        else:
            self.items[key] = Item(b"100", 0, lifetime)
        value = int(self.items[key].value).to_bytes(8, "big")
        return request, (opcode, OK, value) if opcode == packets.INCREMENT else None


def held(server: MemcachedServer, key: bytes) -> Item | None:
    """What a server has under a key; the lifetime is the nearest of those that are given."""
    with MemcachedStore(server.port) as direct:
        direct.raw.send(b"mg %b b f t v u\r\n" % base64.b64encode(key))
        status, *words = direct.raw.read_line().split()
        if status == b"EN":
            return None
        length, flags, lifetime, *_ = words
        seconds = int(lifetime[1:])
        nearest = min(LIFETIMES[1:], key=lambda each: abs(each - seconds)) if seconds >= 0 else 0
        return Item(direct.raw.read_exactly(int(length) + 2)[:-2], int(flags[1:]), nearest)


def test_streams_of_quiet_requests(kind: type[MemcachedServer], rng: random.Random) -> None:
    with cluster_of(kind, shards=2, workers=2) as cluster:
        port = cluster.proxy.memcached_port
        clients = [Books(port, number, random.Random(rng.random())) for number in range(3)]

        def flow() -> None:
            before = [each.rounds for each in clients]
            eventually(
                lambda: (
                    raised or all(each.rounds > then + 20 for each, then in zip(clients, before, strict=True))
                ),
                within=20,
                what="every client goes on",
            )

        traffic = Traffic(lambda: BinaryStore(port), writers=1, readers=2)
        with running(*(each.run for each in clients)) as raised, traffic:
            kill_each_in_turn(cluster, flow)
        assert traffic.violations == []
        assert traffic.failed_writes == []
        found = 0
        for client in clients:
            for key, item in client.items.items():
                copies = [[held(server, key) for server in row] for row in cluster.servers]
                (shard,) = ([row for row in copies if row != [None, None]]) or ([],)
                assert shard == [item, item], f"{key!r}: {copies}, in the books {item}"
                found += 1
        assert found > 20
        assert cluster.differences() == {}, "and nothing else is held"


# --- CAS ----------------------------------------------------------------------------------------

Swap = Callable[[RawClient, bytes], bool]


def swap_binary(client: RawClient, key: bytes) -> bool:
    """Counts a key up by one, by what it is read with; False if somebody else was first."""
    found = ask(client, packet(packets.GET, key))
    assert found.status == OK, found
    value = b"%d" % (int(found.value) + 1)
    reply: Reply = ask(client, packet(packets.SET, key, value, extras=item_extras(5), cas=found.cas))
    assert reply.status in (OK, EXISTS), reply
    return reply.status == OK


def swap_text(client: RawClient, key: bytes) -> bool:
    client.send(b"gets %b\r\n" % key)
    name, _, flags, length, token = client.read_line().split()
    assert name == b"VALUE"
    value = b"%d" % (int(client.read_exactly(int(length) + 2)) + 1)
    client.expect(b"END\r\n")
    client.send(b"cas %b %b 0 %d %b\r\n%b\r\n" % (key, flags, len(value), token, value))
    line = client.read_line()
    assert line in (b"STORED\r\n", b"EXISTS\r\n"), line
    return line == b"STORED\r\n"


def swap_meta(client: RawClient, key: bytes) -> bool:
    client.send(b"mg %b v c f\r\n" % key)
    name, length, token, flags = client.read_line().split()
    assert name == b"VA"
    value = b"%d" % (int(client.read_exactly(int(length) + 2)) + 1)
    client.send(b"ms %b %d C%b F%b\r\n%b\r\n" % (key, len(value), token[1:], flags[1:], value))
    line = client.read_line()
    assert line in (b"HD\r\n", b"EX\r\n"), line
    return line == b"HD\r\n"


def test_counting_by_tokens_in_all_dialects(kind: type[MemcachedServer]) -> None:
    """Of one number that many clients count, each swap that was acknowledged is in it once, and no other."""
    with cluster_of(kind, workers=2) as cluster:
        port = cluster.proxy.memcached_port
        with RawClient(port) as client:
            assert ask(client, packet(packets.SET, b"n", b"0", extras=item_extras(5))).status == OK
        counts = [0] * 6
        swaps: list[Swap] = [swap_binary, swap_text, swap_meta]

        def counting(number: int) -> Callable[[threading.Event], None]:
            def run(stopping: threading.Event) -> None:
                with RawClient(port, timeout=10) as client:
                    while not stopping.is_set():
                        counts[number] += swaps[number % 3](client, b"n")

            return run

        def flow() -> None:
            before = list(counts)
            eventually(
                lambda: raised or all(now > then + 20 for now, then in zip(counts, before, strict=True)),
                within=20,
                what="every client goes on",
            )

        with running(*(counting(number) for number in range(len(counts)))) as raised:
            kill_each_in_turn(cluster, flow)
        expected = Item(b"%d" % sum(counts), 5, 0)
        assert [held(server, b"n") for server in cluster.servers[0]] == [expected, expected]


def test_tokens_of_before_match_nothing_afterwards(kind: type[MemcachedServer]) -> None:
    """Also where the next leader has counted to the very same number for another item, or the same one."""
    with cluster_of(kind) as cluster, RawClient(cluster.proxy.memcached_port, timeout=10) as client:
        tokens: dict[bytes, list[int]] = {}

        def learn() -> None:
            for n in range(40):
                key = b"k%d" % n
                stored = ask(client, packet(packets.SET, key, b"v", extras=item_extras()))
                found = ask(client, packet(packets.GET, key))
                assert stored.cas == found.cas != 0
                tokens.setdefault(key, []).append(found.cas)

        learn()
        for victim in (A, B):
            cluster.servers[0][victim].kill9()
            cluster.wait_state(victim, "down", "stale")
            for key, old in tokens.items():
                for token in old:
                    for opcode in (packets.SET, packets.REPLACE):
                        request = packet(opcode, key, b"lost", extras=item_extras(), cas=token)
                        assert ask(client, request).status == EXISTS
                    assert ask(client, packet(packets.DELETE, key, cas=token)).status == EXISTS
                found = ask(client, packet(packets.GET, key))
                assert found.value == b"v"
                again = packet(packets.SET, key, b"v", extras=item_extras(), cas=found.cas)
                assert [ask(client, again).status for _ in range(2)] == [OK, EXISTS]
            cluster.servers[0][victim].restart()
            wait_back(cluster, victim)
            learn()
