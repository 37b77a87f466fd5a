"""Network namespaces without names: a process started inside has a network of its own.

Called by `support.network`. A namespace lives as long as a descriptor, a process or a device in it, so
nothing is left behind, whatever happens to the test, and parallel ones cannot meet. Needs root.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import os
import socket
import struct
import threading
from collections.abc import Iterator

CLONE_NEWNET = 0x40000000
# Of netdevice(7) and linux/if_tun.h.
SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
IFF_UP, IFF_RUNNING = 0x1, 0x40
OWN_NETWORK = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(status: int, what: str) -> None:
    if status:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


class Namespace:
    """A network with nothing in it but loopback.

    Raises:
        OSError: not permitted, or the kernel has none.
    """

    def __init__(self) -> None:
        self._descriptor = -1
        failures: list[OSError] = []

        def make() -> None:
            # In a thread that ends: the caller stays where it is.
            try:
                _checked(_libc.unshare(CLONE_NEWNET), "unshare")
                self._descriptor = os.open(OWN_NETWORK, os.O_RDONLY | os.O_CLOEXEC)
                _interface("lo", SIOCSIFFLAGS, struct.pack("<h", IFF_UP | IFF_RUNNING))
            except OSError as failure:
                failures.append(failure)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if failures:
            self.close()
            raise failures[0]

    def close(self) -> None:
        """Lets go of it; it ends with the last process in it. May be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread, and what it starts, is in the namespace; sockets made there stay there."""
        outside = os.open(OWN_NETWORK, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _checked(_libc.setns(self._descriptor, CLONE_NEWNET), "setns")
            try:
                yield
            finally:
                _checked(_libc.setns(outside, CLONE_NEWNET), "setns")
        finally:
            os.close(outside)

    def tunnel(self, address: str, mask: str) -> int:
        """A network device with this address, whose packets are read from and written to the descriptor
        returned. It ends with that."""
        with self.inside():
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            try:
                request = struct.pack("16sh22x", b"wire", IFF_TUN | IFF_NO_PI)
                fcntl.ioctl(device, TUNSETIFF, request)
                for order, value in ((SIOCSIFADDR, address), (SIOCSIFNETMASK, mask)):
                    _interface(
                        "wire", order, struct.pack("<hH4s", socket.AF_INET, 0, socket.inet_aton(value))
                    )
                _interface("wire", SIOCSIFFLAGS, struct.pack("<h", IFF_UP | IFF_RUNNING))
            except BaseException:
                os.close(device)
                raise
        return device


def _interface(name: str, order: int, value: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, order, struct.pack("16s24s", name.encode(), value))


@functools.cache
def why_not() -> str:
    """Why namespaces with a wire cannot be had here; empty if they can."""
    try:
        namespace = Namespace()
        try:
            os.close(namespace.tunnel("198.18.0.1", "255.255.255.0"))
        finally:
            namespace.close()
    except OSError as failure:
        return f"network namespaces need root and /dev/net/tun ({failure})"
    return ""
