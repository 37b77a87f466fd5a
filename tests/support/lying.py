"""A backend that answers what it is told to: for replies no real server would send.

Listens on a free port; a thread per connection, each ends with its peer or with the server. What is
not told is answered by a real server behind it.
"""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

from support.ports import free_port

READ_BYTES = 65_536


class LyingServer:
    """Relays to the real server on port ``target``, except that a request that contains ``trigger``
    is answered with ``reply`` and never reaches it.

    Args:
        target: port of a real server.
        trigger: bytes of a request, such as the name of a key.
        reply: the lie.
    """

    def __init__(self, target: int, trigger: bytes, reply: bytes) -> None:
        self.target, self.trigger, self.reply = target, trigger, reply
        self.lies = 0
        """How often the trigger was seen."""
        self._listener = socket.create_server(("127.0.0.1", free_port()))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = [self._listener]
        self._thread = threading.Thread(target=self._accept, name="lying", daemon=True)
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
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target), timeout=30)
            except OSError:
                return
            self._open += [client, server]
            for source, sink, lie in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._move, args=(source, sink, lie), daemon=True).start()

    def _move(self, source: socket.socket, sink: socket.socket, lie: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(READ_BYTES):
                if lie and self.trigger in data:
                    self.lies += 1
                    source.sendall(self.reply)
                else:
                    sink.sendall(data)
        for connection in (source, sink):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
