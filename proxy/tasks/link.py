"""One control connection to one backend: opened when needed, kept, shared by probes and view commits.

Made by `proxy.tasks.controller`; used by `proxy.tasks.prober` and `proxy.tasks.views`, one at a time.
Knows names, sockets, logins and timeouts, and turns every failure into `LinkError` with a `Reason`.
Must not know what is asked, nor what an answer means.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from proxy.config.address import parse_address
from proxy.control.model import Reason
from proxy.control.routing import resp_request
from proxy.tasks.wire import READERS, Reader, Reply, WireError

RECEIVE_BYTES = 64 * 1024
LOGIN_KEY = b"__shardproxy:login"

T = TypeVar("T")
Talk = Callable[[bytes, int], Awaitable[list[Reply]]]
"""Sends a request and returns that many replies."""


class LinkError(Exception):
    """The backend gave no usable answer, for ``reason``. The connection is closed."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Link:
    """The connection to ``address`` (as configured).

    Args:
        protocol: ``redis`` or ``memcached``.
        login: name and password, or None.
        connect_timeout: seconds to resolve and connect.
        name: what the connection is called on the server (Redis only), "" for nothing.
        reader: makes what reads the replies; the protocol's ordinary one if it is None.
    """

    def __init__(
        self,
        address: str,
        protocol: str,
        login: tuple[str, bytes] | None,
        connect_timeout: float,
        name: str = "",
        reader: Callable[[], Reader] | None = None,
    ) -> None:
        self.name = name
        """Given to each new connection; whoever changes it renames an open one himself."""
        self.address = address
        self.protocol = protocol
        self.resolved = ""
        self._login = login
        self._connect_timeout = connect_timeout
        self._socket: socket.socket | None = None
        self._new_reader: Callable[[], Reader] = reader or READERS[protocol]
        self._reader: Reader = self._new_reader()
        self._lock = trio.Lock()
        self._idle = trio.lowlevel.ParkingLot()
        self._watch: trio.CancelScope | None = None

    def __repr__(self) -> str:
        return (
            f"<Link {self.address} ({self.resolved or 'unresolved'}) {'open' if self._socket else 'closed'}>"
        )

    def apart(self, reader: Callable[[], Reader]) -> Link:
        """Another connection to the same backend, whose replies are read otherwise."""
        return Link(self.address, self.protocol, self._login, self._connect_timeout, reader=reader)

    def close(self) -> None:
        """Closes the connection; the next exchange opens a new one."""
        if self._socket is not None:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
            self._socket = None

    async def exchange(self, work: Callable[[Talk], Awaitable[T]], seconds: float) -> T:
        """Runs ``work`` with the connection to itself and returns its result.

        An idle connection that turns out to be closed is opened again and ``work`` run once more,
        so it must be harmless to begin twice.

        Args:
            seconds: for the whole of it, a new connection included.

        Raises:
            LinkError: no usable answer.
        """
        with trio.CancelScope(deadline=trio.current_time() + seconds):
            try:
                self._lock.acquire_nowait()
            except trio.WouldBlock:
                await self._lock.acquire()
            try:
                return await self._attempt(work)
            finally:
                self._lock.release()
        raise LinkError(Reason.TIMEOUT)

    async def _attempt(self, work: Callable[[Talk], Awaitable[T]]) -> T:
        if self._watch is not None:
            self._watch.cancel()
        done = False
        try:
            if self._socket is not None:
                try:
                    result = await work(self._talk)
                except LinkError as error:
                    if error.reason not in (Reason.EOF, Reason.RESET):
                        raise
                    self.close()
                else:
                    done = True
                    return result
            await self._connect()
            result = await work(self._talk)
            done = True
            return result
        finally:
            if not done:
                # Replies to what was sent may still come; nobody could tell them from the next ones.
                self.close()
            self._idle.unpark_all()

    async def wait_lost(self) -> None:
        """Returns when the idle connection is closed by the peer (or sends what nobody asked for)."""
        while True:
            if self._socket is None or self._lock.locked():
                await self._idle.park()
                continue
            with trio.CancelScope() as watch:
                self._watch = watch
                await trio.lowlevel.wait_readable(self._socket)
            # An exchange may have begun after the socket became readable but before this task ran again:
            # too late for its cancel to interrupt the wait, and the connection is its own now.
            if not watch.cancel_called:
                self.close()
                return

    async def _talk(self, request: bytes, count: int) -> list[Reply]:
        assert self._socket is not None
        replies: list[Reply] = []
        try:
            view = memoryview(request)
            while view := view[_send_nowait(self._socket, view) :]:
                await trio.lowlevel.wait_writable(self._socket)
            while len(replies) < count:
                await trio.lowlevel.wait_readable(self._socket)
                try:
                    data = self._socket.recv(RECEIVE_BYTES)
                except BlockingIOError:
                    continue
                if not data:
                    raise LinkError(Reason.EOF)
                self._reader.feed(data)
                replies += self._reader.replies()
        except OSError as error:
            raise LinkError(_reason(error)) from error
        except WireError as error:
            raise LinkError(Reason.PROTOCOL) from error
        if len(replies) > count:
            raise LinkError(Reason.PROTOCOL)
        return replies

    async def _connect(self) -> None:
        self._reader = self._new_reader()
        try:
            with trio.fail_after(self._connect_timeout):
                self._socket = await self._open()
        except trio.TooSlowError:
            raise LinkError(Reason.TIMEOUT) from None
        except socket.gaierror as error:
            raise LinkError(Reason.UNRESOLVED) from error
        except OSError as error:
            raise LinkError(_reason(error)) from error
        if self._login is not None:
            await self._log_in(*self._login)
        if self.name and self.protocol == "redis":
            await self._talk(resp_request("CLIENT", "SETNAME", self.name), 1)

    async def _open(self) -> socket.socket:
        """Resolves anew each time: a name may have moved, which is often why we reconnect."""
        address = parse_address(self.address)
        if address.is_unix:
            self.resolved = self.address
            return await _open_one(socket.AF_UNIX, address.path)
        found = await trio.socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        failure: OSError = OSError("no address")
        for family, _, _, _, place in found:
            self.resolved = _numeric(family, str(place[0]), int(place[1]))
            try:
                return await _open_one(family, place)
            except OSError as error:
                failure = error
        raise failure

    async def _log_in(self, name: str, password: bytes) -> None:
        # Whether it was refused shows in every later reply, where it is named NOAUTH; and a server
        # that wants no password refuses one, which is no reason to give it up.
        if self.protocol == "redis":
            await self._talk(resp_request("AUTH", *([name] if name else []), password), 1)
        else:
            # A server without logins stores this: under a key of our own, as an item that is over at once.
            token = name.encode() + b" " + password
            await self._talk(b"set %s 0 -1 %d\r\n%s\r\n" % (LOGIN_KEY, len(token), token), 1)


def _numeric(family: int, host: str, port: int) -> str:
    return f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"


async def _open_one(family: int, place: object) -> socket.socket:
    """A plain socket: Trio's own would try to read what cannot be there yet."""
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        await trio.socket.from_stdlib_socket(connection).connect(place)
        if family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connection.close()
        raise
    return connection


def _send_nowait(connection: socket.socket, view: memoryview) -> int:
    """How many bytes it took, perhaps none."""
    try:
        return connection.send(view)
    except BlockingIOError:
        return 0


def _reason(error: OSError) -> Reason:
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return Reason.REFUSED
    if isinstance(error, ConnectionResetError | BrokenPipeError | ConnectionAbortedError):
        return Reason.RESET
    if isinstance(error, TimeoutError):
        return Reason.TIMEOUT
    return Reason.UNREACHABLE
