"""A TCP relay that can be told to misbehave: between a proxy and its backend, or a client and a proxy.

It forwards bytes until told otherwise; what it is told holds for open connections and new ones, from
the next byte on. It knows no protocol. One thread of its own moves the bytes; the calls that steer it
are plain and have taken effect when they return, so pytest functions and trio tasks use them alike.
"""

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from support.ports import free_port

CHUNK_BYTES = 65_536
QUEUE_CHUNKS = 64
"""Chunks held per direction before no more is read: back-pressure as from a slow host."""


class _Pipe:
    """One direction of a connection: what was read from ``source`` and not yet sent to ``sink``."""

    def __init__(self, source: socket.socket, sink: socket.socket, *, replies: bool) -> None:
        self.source = source
        self.sink = sink
        self.replies = replies
        self.queue: deque[tuple[float, bytes]] = deque()
        """Chunks, each with the clock reading from which on it may be sent."""
        self.ended = False
        """Nothing more comes from ``source``; the sink gets FIN once the queue is empty."""
        self.cut = False
        """As ``ended``, but because of `Relay.cut_replies`."""
        self.finished = False
        """The sink got its FIN."""
        self.moved = 0
        """Bytes read since the last `Relay.stall_large`."""


class Relay:
    """Listens on a free port and relays each connection to ``127.0.0.1:target``.

    Args:
        target: the port behind it.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.accepted = 0
        """Connections accepted so far."""
        self.disturbed = 0
        """Connections reset, cut or refused, and chunks delayed, so far: how often the modes below bit."""
        self._lock = threading.Lock()
        self._holding = False
        self._stall_bytes: int | None = None
        self._delay_seconds = 0.0
        self._reply_bytes_left: int | None = None
        self._cut_with_reset = False
        self._closing = False
        self._pipes: list[_Pipe] = []
        self._listener: socket.socket | None = _listen(free_port())
        self.port = int(self._listener.getsockname()[1])
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """As a configuration names it: ``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Modes. Each may be called at any time.

    def pass_through(self) -> None:
        """Ends every other mode: what was held back flows, and new connections are accepted."""
        with self._steering():
            if self._holding:
                sources = [pipe.source for pipe in self._pipes if pipe.source.fileno() >= 0]
                self.disturbed += len(select.select(sources, [], [], 0)[0])
            self._holding = False
            self._stall_bytes = None
            self._delay_seconds = 0.0
            self._reply_bytes_left = None
            self._listener = self._listener or _listen(self.port)

    def black_hole(self) -> None:
        """Accepts and forwards nothing, in either direction: a host that hangs, a network that drops."""
        with self._steering():
            self._holding = True

    def stall_large(self, after_bytes: int) -> None:
        """Forwards nothing more in a direction of a connection once so much has come that way from now on."""
        with self._steering():
            for pipe in self._pipes:
                pipe.moved = 0
            self._stall_bytes = after_bytes

    def stalled(self) -> int:
        """In how many directions `stall_large` holds something up."""
        with self._lock:
            return sum(self._is_stalled(pipe) for pipe in self._pipes)

    def delay(self, seconds: float) -> None:
        """Forwards what the target sends that much later."""
        with self._steering():
            self._delay_seconds = seconds

    def cut_replies(self, after_bytes: int, *, reset: bool = False) -> None:
        """Lets so many more bytes from the target through, then ends the connection they are on.

        Args:
            after_bytes: counted over all connections; each that exceeds it is ended.
            reset: end with RST instead of FIN.
        """
        with self._steering():
            self._reply_bytes_left = after_bytes
            self._cut_with_reset = reset

    def reset(self) -> None:
        """Resets every open connection (RST); new ones are accepted as before."""
        with self._steering():
            self._abort(self._pipes)

    def refuse(self) -> None:
        """Nobody listens, and open connections are reset: a process that died. Until `pass_through`."""
        with self._steering():
            self._stop_listening()
            self._abort(self._pipes)

    def close(self) -> None:
        """Ends everything and waits for the thread. May be called twice."""
        if not self._thread.is_alive():
            return
        with self._steering():
            self._closing = True
            self._stop_listening()
            self._abort(self._pipes)
        self._thread.join()
        os.close(self._wake)

    # Inside: called with the lock held, from the callers above or from the thread.

    @contextlib.contextmanager
    def _steering(self) -> Iterator[None]:
        with self._lock:
            yield
            os.eventfd_write(self._wake, 1)

    def _is_stalled(self, pipe: _Pipe) -> bool:
        return self._stall_bytes is not None and pipe.moved > self._stall_bytes

    def _stop_listening(self) -> None:
        if self._listener is not None:
            # The thread may be polling it, which keeps a closed socket listening until the poll returns.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def _abort(self, pipes: list[_Pipe]) -> None:
        """Closes the sockets of these pipes with RST."""
        for pipe in pipes:
            for connection in (pipe.source, pipe.sink):
                if connection.fileno() >= 0:
                    self.disturbed += 1
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    connection.close()
        self._forget_closed()

    def _forget_closed(self) -> None:
        self._pipes = [pipe for pipe in self._pipes if pipe.source.fileno() >= 0]

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._closing:
                    return
                poll, wait_ms = self._interests()
            ready = {descriptor for descriptor, _ in poll.poll(wait_ms)}
            # A socket may have been closed since by a caller, never opened: that happens only here. So a
            # descriptor in `ready` is the one that was polled, or one that is in no pipe any more.
            with self._lock:
                if self._wake in ready:
                    os.eventfd_read(self._wake)
                for pipe in list(self._pipes):
                    self._move(pipe, ready)
                if self._listener is not None and self._listener.fileno() in ready:
                    self._accept(self._listener)

    def _interests(self) -> tuple["select.poll", float | None]:
        """What to wait for, and at most how many milliseconds."""
        wanted = {self._wake: select.POLLIN}
        due = None
        if self._listener is not None:
            wanted[self._listener.fileno()] = select.POLLIN
        now = time.monotonic()
        for pipe in self._pipes if not self._holding else []:
            if self._is_stalled(pipe):
                continue
            if not pipe.ended and len(pipe.queue) < QUEUE_CHUNKS:
                wanted[pipe.source.fileno()] = wanted.get(pipe.source.fileno(), 0) | select.POLLIN
            if pipe.queue and pipe.queue[0][0] > now:
                due = min(due or pipe.queue[0][0], pipe.queue[0][0])
            elif pipe.queue or (pipe.ended and not pipe.finished):
                wanted[pipe.sink.fileno()] = wanted.get(pipe.sink.fileno(), 0) | select.POLLOUT
        poll = select.poll()
        for descriptor, mask in wanted.items():
            poll.register(descriptor, mask)
        return poll, None if due is None else max(1.0, (due - now) * 1000)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # gone before it was accepted
            client, _ = listener.accept()
            self.accepted += 1
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:  # the target is dead: the client sees a connection that dies
                self._abort([_Pipe(client, client, replies=False)])
                return
            self._pipes.append(_Pipe(client, server, replies=False))
            self._pipes.append(_Pipe(server, client, replies=True))
            for connection in (client, server):
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _move(self, pipe: _Pipe, ready: set[int]) -> None:
        if self._holding or pipe.source.fileno() < 0 or pipe.sink.fileno() < 0 or self._is_stalled(pipe):
            return
        try:
            if pipe.source.fileno() in ready and not pipe.ended and len(pipe.queue) < QUEUE_CHUNKS:
                self._read(pipe)
            self._write(pipe)
        except BlockingIOError:
            return
        except OSError:  # reset by one side: the other learns it the same way
            self._abort([pipe])

    def _read(self, pipe: _Pipe) -> None:
        data = pipe.source.recv(CHUNK_BYTES)
        pipe.moved += len(data)
        if not data:
            pipe.ended = True
            return
        if pipe.replies and self._reply_bytes_left is not None:
            pipe.ended = pipe.cut = len(data) > self._reply_bytes_left
            self.disturbed += pipe.cut
            data = data[: self._reply_bytes_left]
            self._reply_bytes_left -= len(data)
        if data:
            self.disturbed += pipe.replies and self._delay_seconds > 0
            pipe.queue.append((time.monotonic() + (self._delay_seconds if pipe.replies else 0.0), data))

    def _write(self, pipe: _Pipe) -> None:
        while pipe.queue and pipe.queue[0][0] <= time.monotonic():
            due, data = pipe.queue[0]
            sent = pipe.sink.send(data)
            if sent < len(data):
                pipe.queue[0] = (due, data[sent:])
                return
            pipe.queue.popleft()
        if pipe.queue or not pipe.ended or pipe.finished:
            return
        if pipe.cut and self._cut_with_reset:
            self._abort([pipe])
            return
        pipe.sink.shutdown(socket.SHUT_WR)
        pipe.finished = True
        opposite = next((p for p in self._pipes if p.source is pipe.sink and p.sink is pipe.source), None)
        if opposite is None or opposite.finished:
            pipe.source.close()
            pipe.sink.close()
            self._forget_closed()


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    listener.setblocking(False)
    return listener
