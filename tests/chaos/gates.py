"""A network of its own between each proxy and each backend, under one address for all proxies.

Proxies that share backends must give them the same names, so a relay per proxy cannot have an address
per proxy. Here one listener stands in front of a backend; it looks up which process a connection comes
from and hands it to that proxy's relay. Called by `chaos.run` and steered by `chaos.faults`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from support.network import Network
from support.ports import free_port
from support.proxy_process import ProxyProcess
from support.relay import Relay
from support.wire import HUB

# Of sock_diag(7).
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST = 4, 20, 1
ALL_STATES, ANY_COOKIE = 0xFFFFFFFF, 0xFFFFFFFF
HEADER_BYTES, INODE_AT = 16, 84


class Route(Relay):
    """The way from one proxy to one backend; its connections are given to it, not accepted."""

    def adopt(self, client: socket.socket) -> None:
        """Relays this connection; resets it at once while the relay refuses."""
        with self._steering():
            if self._listener is None or self._closing:
                self.disturbed += 1
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
                return
            with _Handed(client) as listener:
                self._accept(listener)


class _Handed(socket.socket):
    """A listener that has accepted already: what `Relay` asks for its next connection."""

    def __init__(self, client: socket.socket) -> None:
        super().__init__()
        self._client = client

    def accept(self) -> tuple[socket.socket, object]:
        """The connection handed over. Whose it was cannot be asked any more if he has left already."""
        return self._client, None


class Gate:
    """The listener in front of one backend.

    Args:
        target: the backend's port.
        proxies: in their order; the list may grow, and their processes change. One must be in it before
            it is started.
        network: where each proxy has one of its own, which then tells them apart.

    Attributes:
        routes: by number of the proxy.
        peers: for everybody else: a backend that copies from this one.
    """

    def __init__(
        self, target: int, proxies: Sequence[ProxyProcess], count: int, network: Network | None = None
    ) -> None:
        self._proxies = proxies
        self._network = network
        self.routes = [Route(target) for _ in range(count)]
        self.peers = Route(target)
        self.host = "127.0.0.1" if network is None else HUB
        self._listener = socket.create_server((self.host, free_port()), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._run, name="gate", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for route in (*self.routes, self.peers):
            route.close()

    @property
    def address(self) -> str:
        """As the configuration names the backend."""
        return f"{self.host}:{self.port}"

    def _run(self) -> None:
        while True:
            try:
                client, (host, port) = self._listener.accept()
            except OSError:
                return
            number = self._owner(port) if self._network is None else self._network.edge_of(host)
            route = self.peers if number is None else self.routes[number]
            route.adopt(client)

    def _owner(self, port: int) -> int | None:
        """The number of the proxy whose socket has this local port."""
        inode = socket_inode(port, self.port)
        for number, proxy in enumerate(self._proxies):
            with contextlib.suppress(OSError, RuntimeError):  # it has just ended
                if inode in _sockets(proxy.pid):
                    return number
        return None


def socket_inode(local: int, remote: int) -> int | None:
    """The inode of the TCP socket between these two ports of 127.0.0.1; None if there is none any more.

    Asked of the kernel by name: a listing of all sockets takes longer, on a busy machine, than the proxy
    waits for a connection.
    """
    loopback = socket.inet_aton("127.0.0.1").ljust(16, b"\0")
    query = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, ALL_STATES)
    query += struct.pack("!HH", local, remote) + loopback + loopback
    query += struct.pack("=III", 0, ANY_COOKIE, ANY_COOKIE)
    header = struct.pack("=IHHII", HEADER_BYTES + len(query), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_SOCK_DIAG) as kernel:
        kernel.send(header + query)
        answer = kernel.recv(4096)
    if struct.unpack_from("=IH", answer)[1] != SOCK_DIAG_BY_FAMILY:
        return None
    inode: int = struct.unpack_from("=I", answer, INODE_AT)[0]
    return inode


def _sockets(pid: int) -> set[int]:
    """The inodes of a process's open sockets."""
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(f"/proc/{pid}/fd/{name}")
            if target.startswith("socket:["):
                found.add(int(target[len("socket:[") : -1]))
    return found
