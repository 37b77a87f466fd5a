"""The wire of the tests decides by port and direction, and hands over what it held when that is due."""

from __future__ import annotations

import random
import struct

from support.wire import FIRST_EDGE, Weather, Wire

PORT = 7000
HUB_HOST, FAR = 1, FIRST_EDGE


def packet(edge: int, port: int, *, up: bool, protocol: int = 6) -> bytes:
    hosts = (FAR + edge, HUB_HOST) if up else (HUB_HOST, FAR + edge)
    addresses = b"".join(bytes((198, 18, 0, host)) for host in hosts)
    ports = struct.pack("!HH", *((40_000, port) if up else (port, 40_000)))
    return bytes((0x45,)) + bytes(8) + bytes((protocol,)) + bytes(2) + addresses + ports + bytes(16)


def test_what_is_not_spoken_of_passes() -> None:
    wire = Wire(random.Random(1))
    assert wire.take(2, packet(1, PORT, up=True), 0.0) == (0, packet(1, PORT, up=True))
    assert wire.take(0, packet(1, PORT, up=False), 0.0) == (2, packet(1, PORT, up=False))
    assert wire.take(1, b"\x60" + bytes(50), 0.0) is None, "no IPv6"
    assert wire.take(1, b"\x45", 0.0) is None, "no packet"


def test_loss_is_of_one_edge_one_port_one_way() -> None:
    wire = Wire(random.Random(1))
    wire.set((1, PORT, True), Weather(loss=1.0))
    assert wire.take(2, packet(1, PORT, up=True), 0.0) is None
    assert wire.take(2, packet(1, PORT, up=True, protocol=1), 0.0) is not None
    assert wire.take(2, packet(1, PORT + 1, up=True), 0.0) is not None
    assert wire.take(1, packet(0, PORT, up=True), 0.0) is not None
    assert wire.take(0, packet(1, PORT, up=False), 0.0) is not None
    assert wire.counts == {"lost": 1}
    wire.set((1, PORT, True), Weather())
    assert wire.take(2, packet(1, PORT, up=True), 0.0) is not None


def test_some_are_lost() -> None:
    wire = Wire(random.Random(1))
    wire.set((0, PORT, False), Weather(loss=0.3))
    passed = sum(wire.take(0, packet(0, PORT, up=False), 0.0) is not None for _ in range(1000))
    assert 650 < passed < 750


def test_the_delayed_come_when_they_are_due_and_overtake() -> None:
    wire = Wire(random.Random(1))
    wire.set((0, PORT, True), Weather(delay=1.0))
    sent = [packet(0, PORT, up=True) + bytes((number,)) for number in range(50)]
    assert all(wire.take(1, each, 0.0) is None for each in sent)
    first = wire.next_due()
    assert first is not None
    assert wire.due(first - 0.001) == []
    early = wire.due(0.5)
    late = wire.due(1.0)
    assert early
    assert late
    arrived = [data for _, data in early + late]
    assert sorted(arrived) == sorted(sent)
    assert arrived != sent
    assert wire.counts["overtook"] > 0
    assert wire.next_due() is None
