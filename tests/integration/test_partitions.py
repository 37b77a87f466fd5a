"""Two proxies on two sides of a partition: what each may do, and what is left when the sides meet again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from threading import Event
from typing import Any

import pytest
from chaos.gates import Gate
from support.beside import beside
from support.eventually import eventually
from support.proxy_process import ProxyProcess, pool
from support.servers import Server
from support.store import (
    PROTOCOLS,
    QUICK,
    SERVERS,
    MemcachedStore,
    RedisStore,
    Refused,
    connect,
    contents,
)

from proxy.control.view import view_key

pytestmark = pytest.mark.fault

BACK_SECONDS = 30.0
"""Some of it are pauses between attempts; most is for a loaded machine."""
HEALTH = {"interval": "500ms", "timeout": "500ms", "fall": 3, "rise": 2}
"""A gate looks up whose connection it has, which takes its time on a loaded machine."""
NOBODY = "no backend of this shard is in sync, nothing was applied"


class Halves:
    """Backends of one shard, two proxies, and a network of its own between each proxy and each backend."""

    def __init__(self, stack: ExitStack, protocol: str, replicas: int, **options: Any) -> None:
        self.protocol = protocol
        self.servers: list[Server] = [stack.enter_context(SERVERS[protocol]()) for _ in range(replicas)]
        self.proxies: list[ProxyProcess] = []
        self.gates = [stack.enter_context(Gate(each.port, self.proxies, 2)) for each in self.servers]
        addresses = [gate.address for gate in self.gates]
        for _ in range(2):
            config = {"pools": {"p": pool(protocol, addresses, **{**QUICK, "health": HEALTH, **options})}}
            self.proxies.append(ProxyProcess(config))
            stack.enter_context(self.proxies[-1])
        self.acknowledged: dict[bytes, bytes] = {}
        self.refused = ""
        self._number = 0

    def part(self, *sides: tuple[int, ...]) -> None:
        """Each proxy reaches the backends of its side only."""
        for proxy, side in enumerate(sides):
            for number in set(range(len(self.gates))) - set(side):
                self.gates[number].routes[proxy].black_hole()

    def heal(self) -> None:
        """What was held back on the way is lost, and everybody reaches everybody."""
        for gate in self.gates:
            for route in gate.routes:
                route.reset()
                route.pass_through()

    def write(self, proxy: int) -> bool:
        """A write of a new key, remembered if it is acknowledged."""
        self._number += 1
        key, value = b"key:%d" % self._number, b"p%d" % proxy
        try:
            with connect(self.protocol, self.proxies[proxy].ports["p"]) as client:
                client.set(key, value)
        except Refused as refused:
            self.refused = str(refused)
            return False
        self.acknowledged[key] = value
        return True

    def write_until(self, is_over: Event, proxy: int) -> None:
        """Writes one key again and again."""
        with connect(self.protocol, self.proxies[proxy].ports["p"]) as client:
            while not is_over.is_set():
                client.set(b"busy", b"1")

    def refusal(self, proxy: int, *, of_read: bool) -> str:
        """What a read or a write is refused with, "" if it is not."""
        try:
            with connect(self.protocol, self.proxies[proxy].ports["p"]) as client:
                if of_read:
                    client.get(b"k")
                else:
                    client.set(b"k", b"refused")
        except Refused as refused:
            return str(refused)
        return ""

    def shard(self, proxy: int) -> dict[str, Any]:
        found: dict[str, Any] = self.proxies[proxy].status()["pools"]["p"]["shards"]["s1"]
        return found

    def states(self, proxy: int) -> list[str]:
        found = self.proxies[proxy].backend_states("p")
        return [found[gate.address] for gate in self.gates]

    def agree(self, *states: str) -> bool:
        """Both proxies follow one view and see the backends in these states, or in any with one in sync."""
        both = [(self.shard(proxy)["epoch"], self.states(proxy)) for proxy in (0, 1)]
        assert both[0] == both[1], both
        assert both[0][1] == list(states) if states else "in_sync" in both[0][1], both
        return True

    def conflicts(self) -> float:
        return sum(each.metric("shardproxy_view_conflicts_total") for each in self.proxies)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_with_majority_the_smaller_side_refuses_and_nothing_acknowledged_is_lost(
    protocol: str, stack: ExitStack
) -> None:
    halves = Halves(stack, protocol, 3, views="majority", resync={"auto": True})
    for proxy in (0, 1):
        eventually(lambda proxy=proxy: halves.write(proxy))
    epoch = halves.shard(0)["epoch"]
    halves.part((0,), (1, 2))
    # Both write all the time: what is acknowledged on the way there counts too.
    refused = eventually(lambda: not halves.write(0) and halves.refusal(0, of_read=False), within=20.0)
    assert NOBODY in refused
    assert NOBODY in halves.refusal(0, of_read=True), "what it holds may be out of date"
    eventually(lambda: halves.write(1), within=20.0)
    assert halves.shard(0)["lead"] is None
    assert {each["reason"] for each in halves.shard(0)["backends"]} >= {"no_majority"}
    assert halves.shard(0)["epoch"] == epoch, "it has made no view of its own"
    assert halves.states(1)[1:] == ["in_sync", "in_sync"]
    for _ in range(10):
        assert halves.write(1)
        assert not halves.write(0)
    halves.heal()
    # A write of the smaller side may have reached one of the others and not the next, so more may leave than
    # the one that was cut off; only Redis backends come back by themselves.
    last = ("in_sync",) * 3 if protocol == "redis" else ()
    eventually(lambda: halves.agree(*last), within=BACK_SECONDS)
    assert halves.conflicts() == 0
    for number, server in enumerate(halves.servers):
        if halves.states(0)[number] == "in_sync":
            held = contents(server)
            assert [key for key in halves.acknowledged if key not in held] == []
    for proxy in (0, 1):
        assert halves.write(proxy), halves.refused
        with connect(protocol, halves.proxies[proxy].ports["p"]) as client:
            assert {key: client.get(key) for key in halves.acknowledged} == halves.acknowledged


DECIDED = {
    "INCR": ("redis", ("INCR", "k"), 501),
    "EVAL": ("redis", ("EVAL", "return redis.call('INCR', KEYS[1])", "1", "k"), 501),
    "incr": ("memcached", b"incr k 1", b"501"),
    "append": ("memcached", b"append k 0 0 1\r\n1", b"STORED"),
}
"""Writes that the leader decides: protocol, request, and reply behind a write of 500."""


@pytest.mark.parametrize("has_record", [False, True], ids=["cut off", "takes the record"])
@pytest.mark.parametrize(("protocol", "request_", "reply"), DECIDED.values(), ids=DECIDED)
def test_who_has_not_heard_of_a_new_leader_undoes_nothing(
    protocol: str, request_: Any, reply: Any, has_record: bool, stack: ExitStack
) -> None:
    """One proxy has given its leader up, and another reaches it: what that one holds is old from then on."""
    rare = {"interval": "60s", "timeout": "500ms"}
    halves = Halves(stack, protocol, 2, health=rare)
    with (
        connect(protocol, halves.proxies[0].ports["p"]) as one,
        connect(protocol, halves.proxies[1].ports["p"]) as other,
    ):
        one.set(b"k", b"1")
        # Without a pause, so that what the backends have shown the other one is always new.
        stack.enter_context(beside(lambda is_over: halves.write_until(is_over, 1)))
        if has_record:
            halves.gates[0].routes[0].stall_large(100_000)
            one.set(b"large", b"x" * 200_000)
        else:
            halves.gates[0].routes[0].black_hole()
        one.set(b"k", b"500")
        assert halves.shard(0)["lead"] == halves.gates[1].address
        assert isinstance(other, RedisStore | MemcachedStore)
        assert (other.ask(*request_) if isinstance(other, RedisStore) else other.ask(request_)) == reply
        value = b"5001" if reply == b"STORED" else b"501"
        assert one.get(b"k") == other.get(b"k") == value


def test_with_majority_a_view_of_the_smaller_side_does_not_outlive_a_restart(stack: ExitStack) -> None:
    halves = Halves(stack, "redis", 3, views="majority")
    halves.part((0,), (1, 2))
    eventually(lambda: NOBODY in halves.refusal(0, of_read=False), within=20.0)
    halves.proxies[0].kill9()
    with suppress(Exception):
        halves.proxies[0].restart()
    eventually(lambda: NOBODY in halves.refusal(0, of_read=False), within=20.0)
    eventually(lambda: halves.write(1), within=20.0)
    halves.heal()
    # Of the others one may leave as well: the smaller side meets it with what it believed of it before.
    eventually(lambda: halves.agree(), within=BACK_SECONDS)
    assert halves.states(0)[0] == "stale"
    with connect("redis", halves.proxies[0].ports["p"]) as client:
        assert {key: client.get(key) for key in halves.acknowledged} == halves.acknowledged


def test_with_majority_a_shard_of_two_needs_both(stack: ExitStack) -> None:
    halves = Halves(stack, "redis", 2, views="majority")
    eventually(lambda: halves.write(0))
    halves.servers[1].kill9()
    eventually(lambda: NOBODY in halves.refusal(0, of_read=False), within=20.0)
    assert halves.shard(0)["epoch"] == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_with_majority_one_that_came_back_empty_votes_again(protocol: str, stack: ExitStack) -> None:
    halves = Halves(stack, protocol, 3, views="majority")
    eventually(lambda: halves.write(0))
    halves.servers[2].kill9()
    halves.servers[2].restart()
    eventually(lambda: halves.agree("in_sync", "in_sync", "stale"), within=20.0)
    record = view_key("p", "s1").encode()

    def is_told() -> bool:
        held = []
        for server in halves.servers[0], halves.servers[2]:
            with connect(protocol, server.port) as client:
                held.append(client.get(record))
        assert held[0] == held[1], held
        return halves.agree("in_sync", "in_sync", "stale")

    eventually(is_told, within=20.0)
    halves.servers[1].kill9()
    eventually(lambda: halves.agree("in_sync", "down", "stale"), within=20.0)
    for proxy in (0, 1):
        assert halves.write(proxy), halves.refused


def test_with_available_both_sides_go_on_and_one_is_discarded(stack: ExitStack) -> None:
    halves = Halves(stack, "redis", 2, views="available", resync={"auto": True})
    eventually(lambda: halves.write(0))
    before = dict(halves.acknowledged)
    halves.part((0,), (1,))
    for proxy in (0, 1):
        eventually(lambda proxy=proxy: halves.write(proxy), within=20.0)
    with connect("redis", halves.proxies[0].ports["p"]) as client:
        client.set(b"k", b"p0")
    with connect("redis", halves.proxies[1].ports["p"]) as client:
        client.set(b"k", b"p1")
    assert (halves.states(0)[0], halves.states(1)[1]) == ("in_sync", "in_sync")
    assert halves.shard(0)["epoch"] == halves.shard(1)["epoch"], "a conflict, not a succession"
    assert halves.conflicts() == 0
    halves.heal()
    eventually(lambda: halves.agree("in_sync", "in_sync"), within=BACK_SECONDS)
    eventually(lambda: halves.conflicts() >= 1)
    assert "conflict" in "".join(each.log_text() for each in halves.proxies)
    copies = [contents(server) for server in halves.servers]
    assert copies[0] == copies[1]
    assert set(before) <= set(copies[0]), "what both had is there"
    read = []
    for proxy in (0, 1):
        with connect("redis", halves.proxies[proxy].ports["p"]) as client:
            read.append(client.get(b"k"))
    assert read == [b"p1", b"p1"], "the view decided by who stands later in the old one wins"
