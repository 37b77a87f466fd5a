"""The wire between network namespaces: what it loses and delays, the kernels' TCP makes good."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.eventually import PATIENCE
from support.namespace import why_not
from support.network import Network
from support.wire import HUB, Weather

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(bool(reason := why_not()), reason=reason),
]

SIZE = 100_000


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(2) as made:
        yield made


def echo(network: Network) -> int:
    """The port of a server in the hub that sends back what it gets, on every connection."""
    with network.hub.inside():
        listener = socket.create_server((HUB, 0))

    def serve(connection: socket.socket) -> None:
        # A client that left with its network is told as an error, where its last segments were under way.
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65_536):
                connection.sendall(data)

    def accept() -> None:
        with listener:
            for _ in range(3):
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(listener.getsockname()[1])


def connect(network: Network, edge: int, port: int) -> socket.socket:
    with network.edges[edge].inside():
        return socket.create_connection((HUB, port), timeout=10 * PATIENCE)


def exchange(connection: socket.socket, data: bytes) -> bytes:
    threading.Thread(target=connection.sendall, args=(data,), daemon=True).start()
    received = b""
    while len(received) < len(data):
        part = connection.recv(65_536)
        assert part
        received += part
    return received


@pytest.mark.parametrize(
    ("weather", "counted"),
    [(Weather(loss=0.05), "lost"), (Weather(delay=0.01), "overtook"), (Weather(), None)],
)
def test_what_comes_through_is_whole(network: Network, weather: Weather, counted: str | None) -> None:
    port = echo(network)
    network.set(0, port, to_hub=weather, from_hub=weather)
    data = bytes(range(250)) * (SIZE // 250)
    with connect(network, 0, port) as connection:
        assert exchange(connection, data) == data
    counts = network.counts()
    assert counts[counted] > 0 if counted else not any(counts.values())


def test_a_partition_is_of_one_edge_and_ends(network: Network) -> None:
    port = echo(network)
    with connect(network, 0, port) as cut, connect(network, 1, port) as other:
        assert exchange(cut, b"before") == b"before"
        network.set(0, port, to_hub=Weather(), from_hub=Weather(loss=1.0))
        cut.sendall(b"within")
        assert exchange(other, b"meanwhile") == b"meanwhile"
        cut.settimeout(0.05)
        with pytest.raises(TimeoutError):
            cut.recv(100)
        assert network.counts()["lost"] > 0
        cut.settimeout(20 * PATIENCE)
        network.set(0, port, to_hub=Weather(), from_hub=Weather())
        assert cut.recv(100) == b"within"


def test_the_network_of_the_test_itself_has_no_part_in_it(network: Network) -> None:
    assert network.counts() is not None
    assert "wire:" not in Path("/proc/net/dev").read_text()
