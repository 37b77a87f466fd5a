"""What carries IP packets between network namespaces, and loses, delays or reorders them when told.

    python tests/support/wire.py CONTROL TUNNEL...      (descriptors)

A program of its own, so that the threads of a test do not delay what it should pass on; started and
steered by `support.network`. Each tunnel is the device of one namespace; the first is the hub, with which
the others, the *edges*, exchange packets. The kernels' TCP at both ends sees what a bad network does.

Not by the kernel's netem, which many kernels are built without; this needs nothing but tunnel devices.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import random
import select
import socket
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass

HUB = "198.18.0.1"
EDGES = "198.18.0."
FIRST_EDGE = 10
"""Last octet of the first edge's address; the others follow."""
PACKET_BYTES = 65_536
BURST = 64
"""Packets taken from one device before the others have their turn."""
TCP = 6


@dataclass
class Weather:
    """What happens to packets one way between an edge and a port of the hub.

    Args:
        loss: probability that a packet is lost.
        delay: longest time that one is held back, in seconds; each takes its own, so they overtake
            each other.
    """

    loss: float = 0.0
    delay: float = 0.0


Way = tuple[int, int, bool]
"""Number of the edge, port at the hub, whether towards the hub."""


class Wire:
    """The packets under way, without the devices: times and random numbers are given to it."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._weather: dict[Way, Weather] = {}
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._number = 0
        self.counts: Counter[str] = Counter()
        """Packets lost, delayed, and that overtook one sent before them, by these words."""

    def set(self, way: Way, weather: Weather) -> None:
        """From the next packet on."""
        self._weather[way] = weather

    def take(self, source: int, packet: bytes, now: float) -> tuple[int, bytes] | None:
        """A packet from a device: where it goes at once, if it does."""
        if len(packet) < 24 or packet[0] >> 4 != 4:
            return None  # IPv6 announces itself unasked
        header = (packet[0] & 15) * 4
        edge = source or packet[19] - FIRST_EDGE + 1
        target = 0 if source else edge
        weather = None
        if packet[9] == TCP and len(packet) >= header + 4:
            ports = struct.unpack_from("!HH", packet, header)
            weather = self._weather.get((edge - 1, ports[1 if source else 0], bool(source)))
        if weather is None:
            return target, packet
        if weather.loss and self._rng.random() < weather.loss:
            self.counts["lost"] += 1
            return None
        if weather.delay:
            due = now + self._rng.random() * weather.delay
            self.counts["delayed"] += 1
            self.counts["overtook"] += any(due < each[0] and each[2] == target for each in self._waiting)
            self._number += 1
            heapq.heappush(self._waiting, (due, self._number, target, packet))
            return None
        return target, packet

    def due(self, now: float) -> list[tuple[int, bytes]]:
        """What has been held back long enough, in the order in which it is due."""
        found = []
        while self._waiting and self._waiting[0][0] <= now:
            _, _, target, packet = heapq.heappop(self._waiting)
            found.append((target, packet))
        return found

    def next_due(self) -> float | None:
        """When `due` will have something."""
        return self._waiting[0][0] if self._waiting else None


def serve(control: socket.socket, tunnels: list[int]) -> None:
    """Carries packets until the control connection ends.

    An order is a line ``EDGE PORT 0|1 LOSS DELAY``; each, also an empty one, is answered by the counts.
    """
    wire = Wire(random.Random())
    poll = select.poll()
    for each in (control.fileno(), *tunnels):
        os.set_blocking(each, False)
        poll.register(each, select.POLLIN)
    number = {tunnel: at for at, tunnel in enumerate(tunnels)}
    pending = b""
    while True:
        due = wire.next_due()
        wait_ms = None if due is None else max(0.0, (due - time.monotonic()) * 1000)
        for descriptor, _ in poll.poll(wait_ms):
            if descriptor == control.fileno():
                data = control.recv(4096)
                if not data:
                    return
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    if words := line.split():
                        way = int(words[0]), int(words[1]), words[2] == b"1"
                        wire.set(way, Weather(float(words[3]), float(words[4])))
                    control.sendall(b"%d %d %d\n" % tuple(wire.counts[each] for each in COUNTED))
                continue
            for _ in range(BURST):
                try:
                    packet = os.read(descriptor, PACKET_BYTES)
                except BlockingIOError:
                    break
                if (onward := wire.take(number[descriptor], packet, time.monotonic())) is not None:
                    _send(tunnels, *onward)
        for target, packet in wire.due(time.monotonic()):
            _send(tunnels, target, packet)


COUNTED = ("lost", "delayed", "overtook")


def _send(tunnels: list[int], target: int, packet: bytes) -> None:
    if target < len(tunnels):
        with contextlib.suppress(OSError):  # its queue is full: lost, as on any wire
            os.write(tunnels[target], packet)


if __name__ == "__main__":
    descriptors = [int(word) for word in sys.argv[1:]]
    serve(socket.socket(fileno=descriptors[0]), descriptors[1:])
