"""Listening sockets, bound before anything else starts, so that nothing half-starts.

Called by ``app`` for pools and the admin address. Knows nothing of who accepts on them.
"""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.config import Address, parse_address
from proxy.errors import ListenError

# The kernel cuts this to net.core.somaxconn (4096 since Linux 5.4). A burst of reconnects after a
# network outage must find room, or clients wait out a SYN retransmission of a second.
BACKLOG = 4096

_REASONS = {
    errno.EADDRINUSE: "the address is in use: another process listens there",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EACCES: "not permitted (ports below 1024 and foreign directories need rights)",
    errno.EPERM: "not permitted (ports below 1024 and foreign directories need rights)",
    errno.ENOENT: "the directory of the socket does not exist",
    errno.EROFS: "the file system is read-only",
    errno.EAFNOSUPPORT: "this machine has no IPv6",
}


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound, listening socket. ``address`` is the real one, where port 0 was asked for."""

    owner: str
    address: str
    socket: socket.socket
    path: str = ""

    def close(self) -> None:
        """Closes our descriptor. Copies held by others (the engine) go on accepting."""
        self.socket.close()

    def remove(self) -> None:
        """Takes a unix socket out of the file system; nothing for TCP."""
        if self.path:
            with contextlib.suppress(OSError):
                os.unlink(self.path)


def bind(text: str, owner: str) -> Listener:
    """Binds and listens.

    Args:
        text: as configured: ``host:port``, ``[ipv6]:port``, ``unix:/path``.
        owner: for messages: ``"pool sessions"``, ``"admin"``.

    Raises:
        ListenError: with owner, address and the reason in words.
    """
    address = parse_address(text, port_zero=True)
    try:
        return _bind_unix(address, owner) if address.is_unix else _bind_tcp(address, owner)
    except socket.gaierror as error:
        raise ListenError(owner, text, f"the name cannot be resolved: {error.strerror}") from None
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise ListenError(owner, text, reason) from None


def bind_all(wanted: Sequence[tuple[str, str]]) -> list[Listener]:
    """Binds every ``(address, owner)``, or none.

    Raises:
        ListenError: for the first that fails; those bound before are given back.
    """
    listeners: list[Listener] = []
    try:
        for text, owner in wanted:
            listeners.append(bind(text, owner))
    except ListenError:
        for listener in listeners:
            listener.close()
            listener.remove()
        raise
    return listeners


def _bind_tcp(address: Address, owner: str) -> Listener:
    family, kind, protocol, _, place = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        # A restart must not wait for the old connections' TIME_WAIT.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(place)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    real = Address(address.host, sock.getsockname()[1])
    return Listener(owner, str(real), sock)


def _bind_unix(address: Address, owner: str) -> Listener:
    _remove_dead_socket(address.path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(address.path)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return Listener(owner, str(address), sock, address.path)


def _remove_dead_socket(path: str) -> None:
    """Removes what a killed process left behind; never a file that is no socket, nor a live socket."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return  # bind() will say that it exists
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except BlockingIOError:
            pass  # its queue is full: somebody lives there
