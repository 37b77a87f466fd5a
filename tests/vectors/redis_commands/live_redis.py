"""A private redis-server and the few bytes of protocol needed to question it.

Called by the generator beside this file and by ``tests/integration/test_command_table.py``. Uses only
the standard library and shows replies as raw bytes, because vectors must hold what the server really
sent; it knows nothing about the proxy.
"""

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_SECONDS = 10.0
"""Generous: a loaded machine may take a second to start a process."""


class ReplyError(str):
    """An error reply, without the leading ``-``."""


class Connection:
    """One connection; requests are answered one at a time."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(START_SECONDS)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def send(self, *args: bytes) -> None:
        """Sends one request; whoever asks next must know whether a reply comes first."""
        parts = [b"*%d\r\n" % len(args)]
        parts += [b"$%d\r\n%s\r\n" % (len(arg), arg) for arg in args]
        self._socket.sendall(b"".join(parts))

    def raw(self, *args: bytes) -> bytes:
        """Sends one request and returns the reply's bytes as they came (RESP2 or RESP3)."""
        self.send(*args)
        seen: list[bytes] = []
        self._read(seen)
        return b"".join(seen)

    def call(self, *args: bytes) -> Any:
        """Like `raw`, decoded: str for simple strings, bytes for bulk, list for aggregates."""
        self.send(*args)
        return self._read([])

    def _read(self, seen: list[bytes]) -> Any:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError("the server closed the connection")
        seen.append(line)
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            return ReplyError(rest.decode("latin-1"))
        if kind == b"+":
            return rest.decode()
        if kind == b":":
            return int(rest)
        if kind in b"$=":
            if rest == b"-1":
                return None
            body = self._file.read(int(rest) + 2)
            seen.append(body)
            return body[:-2]
        if kind in b"*~>":
            return None if rest == b"-1" else [self._read(seen) for _ in range(int(rest))]
        if kind == b"%":
            return [self._read(seen) for _ in range(2 * int(rest))]
        if kind == b"_":
            return None
        if kind == b"#":
            return rest == b"t"
        if kind == b",":
            return float(rest)
        raise ValueError(f"unknown reply type {line!r}")


@contextmanager
def private_server(program: str = "redis-server") -> Iterator[Path]:
    """Runs a redis-server on a unix socket in a temporary directory; yields the socket's path."""
    with tempfile.TemporaryDirectory(prefix="redis-commands-") as directory:
        path = Path(directory) / "redis.sock"
        process = subprocess.Popen(
            [program, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", directory],
            stdout=subprocess.DEVNULL,
        )
        try:
            _wait_ready(path, process)
            yield path
        finally:
            process.terminate()
            process.wait(timeout=START_SECONDS)


def _wait_ready(path: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            connection = Connection(path)
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
            continue
        try:
            connection.call(b"PING")
        finally:
            connection.close()
        return
