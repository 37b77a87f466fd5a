"""A hub and edges, each in a network namespace of its own, with a wire between them that can be made bad.

Called by `chaos.run` and tests of packet loss. What listens in the hub is reached from every edge at
`wire.HUB`; that address is the hub's own as well.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from support import wire
from support.namespace import Namespace

MASK = "255.255.255.0"
ANSWER_SECONDS = 20.0


class Network:
    """The namespaces, and the process that carries packets between them.

    Args:
        edges: how many.

    Attributes:
        hub, edges: the namespaces; see `Namespace.inside`.
    """

    def __init__(self, edges: int) -> None:
        self._stack = ExitStack()
        self._lock = threading.Lock()
        try:
            self.hub = self._namespace()
            self.edges = [self._namespace() for _ in range(edges)]
            tunnels = [self.hub.tunnel(wire.HUB, MASK)]
            self._stack.callback(os.close, tunnels[0])
            for number, edge in enumerate(self.edges):
                tunnels.append(edge.tunnel(f"{wire.EDGES}{wire.FIRST_EDGE + number}", MASK))
                self._stack.callback(os.close, tunnels[-1])
            self._control, theirs = socket.socketpair()
            self._control.settimeout(ANSWER_SECONDS)
            script = Path(wire.__file__)
            with theirs:
                passed = [theirs.fileno(), *tunnels]
                self._child = subprocess.Popen(
                    [sys.executable, str(script), *map(str, passed)],
                    pass_fds=passed,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            self._stack.callback(self._child.wait)  # it ends with the control connection
            self._stack.callback(self._control.close)
            self.counts()
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def set(self, edge: int, port: int, *, to_hub: wire.Weather, from_hub: wire.Weather) -> None:
        """What happens to packets between an edge and a port of the hub from now on."""
        for is_up, weather in ((1, to_hub), (0, from_hub)):
            self._order(f"{edge} {port} {is_up} {weather.loss} {weather.delay}")

    def edge_of(self, host: str) -> int | None:
        """The number of the edge with this address; None for the hub."""
        number = int(host.rpartition(".")[2]) - wire.FIRST_EDGE
        return number if 0 <= number < len(self.edges) else None

    def counts(self) -> Counter[str]:
        """How many packets were lost and so on so far, by the words of `wire.Wire.counts`."""
        return self._order("")

    def _namespace(self) -> Namespace:
        namespace = Namespace()
        self._stack.callback(namespace.close)
        return namespace

    def _order(self, line: str) -> Counter[str]:
        with self._lock:
            self._control.sendall(line.encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                data = self._control.recv(4096)
                if not data:
                    raise RuntimeError("the wire has ended")
                answer += data
        return Counter(dict(zip(wire.COUNTED, map(int, answer.split()), strict=True)))
