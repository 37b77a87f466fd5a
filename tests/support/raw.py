"""A client that sends the bytes it is told to and reads back bytes; it knows next to no protocol.

For tests of what a real client library would never send (garbage, half a request, silence) or would
hide (the exact error text, the order of replies). Every read has an end: the time limit of the client.
"""

import socket
import struct
from types import TracebackType
from typing import Self

from support.eventually import PATIENCE

READ_BYTES = 65_536
CLOSED = b"<closed>"
"""Where a connection ended, in what `answers` returns."""


class Closed(ConnectionError):
    """The other side closed the connection before all that was waited for had come."""


class RawClient:
    """One connection to ``127.0.0.1:port``, open from construction to `close`.

    Args:
        port: a TCP port, or the path of a unix socket.
        timeout: seconds that one call may take, multiplied by ``SHARDPROXY_TEST_PATIENCE``; after that it
            raises `TimeoutError`.
        receive_buffer: size of the kernel's receive buffer, for clients that are to be slow readers.
    """

    def __init__(self, port: int | str, *, timeout: float = 5.0, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket(socket.AF_UNIX if isinstance(port, str) else socket.AF_INET)
        if receive_buffer is not None:  # before connecting, or the window is already announced
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout * PATIENCE)
        self._unread = b""
        try:
            self.socket.connect(port if isinstance(port, str) else ("127.0.0.1", port))
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def unread(self) -> bytes:
        """What came and was not read yet, without waiting for more."""
        return self._unread

    def send(self, data: bytes) -> None:
        """Sends all of it."""
        self.socket.sendall(data)

    def send_bytewise(self, data: bytes) -> None:
        """Sends it in segments of one byte each, as far as the kernel lets one say so."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for position in range(len(data)):
            self.socket.sendall(data[position : position + 1])

    def read_exactly(self, count: int) -> bytes:
        """The next ``count`` bytes.

        Raises:
            Closed: fewer came; the message has them.
            TimeoutError: fewer came in time; the message has them.
        """
        while len(self._unread) < count:
            self._receive(f"{count} bytes")
        data, self._unread = self._unread[:count], self._unread[count:]
        return data

    def read_until(self, marker: bytes) -> bytes:
        """All up to and with the next ``marker``. Raises as `read_exactly`."""
        searched = 0
        while (found := self._unread.find(marker, searched)) < 0:
            searched = max(0, len(self._unread) - len(marker) + 1)
            self._receive(repr(marker))
        end = found + len(marker)
        data, self._unread = self._unread[:end], self._unread[end:]
        return data

    def read_line(self) -> bytes:
        """The next line, its CRLF included. Raises as `read_exactly`."""
        return self.read_until(b"\r\n")

    def read_reply(self) -> bytes:
        """The bytes of one whole RESP2 or RESP3 reply. Raises as `read_exactly`."""
        line = self.read_line()
        kind, rest = line[:1], line[1:-2]
        if kind in b"$=!" and rest != b"-1":
            return line + self.read_exactly(int(rest) + 2)
        elements = {b"*": 1, b"~": 1, b">": 1, b"%": 2, b"|": 2}.get(kind, 0) * int(
            rest if kind in b"*~>%|" else 0
        )
        if kind == b"|":
            elements += 1  # an attribute stands before the reply it belongs to
        return line + b"".join(self.read_reply() for _ in range(elements))

    def ask(self, request: bytes) -> bytes:
        """Sends a request and returns the one RESP reply to it."""
        self.send(request)
        return self.read_reply()

    def expect(self, data: bytes) -> None:
        """Reads as many bytes as are expected and compares. Raises as `read_exactly`."""
        got = self.read_exactly(len(data))
        assert got == data, f"expected {data!r}, got {got!r}"

    def expect_closed(self) -> bytes:
        """Reads until the other side has closed or reset the connection, and returns what came before."""
        try:
            while True:
                self._receive("the end of the connection")
        except Closed:
            data, self._unread = self._unread, b""
            return data

    def close(self) -> None:
        """Closes the connection with FIN. May be called twice."""
        self.socket.close()

    def reset(self) -> None:
        """Closes the connection with RST, as a crashed client's kernel does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _receive(self, waited_for: str) -> None:
        try:
            data = self.socket.recv(READ_BYTES)
        except TimeoutError:
            raise TimeoutError(f"waited for {waited_for}, got only {self._unread[-200:]!r}") from None
        except ConnectionResetError:
            data = b""
        if not data:
            raise Closed(f"closed; waited for {waited_for}, got only {self._unread[-200:]!r}")
        self._unread += data


def answers(port: int, data: bytes, end: tuple[bytes, bytes]) -> bytes:
    """All that is answered to ``data``, up to the answer to ``end`` or to the end of the connection."""
    with RawClient(port) as client:
        try:
            client.send(data + end[0])
            return client.read_until(end[1])
        except (Closed, BrokenPipeError, ConnectionResetError):
            return client.expect_closed() + CLOSED
