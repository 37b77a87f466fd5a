"""A backend of a test's own: listens on a free port, a thread per connection.

Base of `support.lying` and `support.recorded`, which know what is answered. Each thread ends with its peer or
with the server.
"""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

from support.ports import free_port


class Acceptor:
    """Accepts from its making on; call the constructor last, when all is there that `serve` needs."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", free_port()))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = [self._listener]
        self._thread = threading.Thread(target=self._accept, name=type(self).__name__, daemon=True)
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

    def serve(self, client: socket.socket) -> None:
        """Answers one client until it leaves or an `OSError` ends it; then the connection is closed."""
        raise NotImplementedError

    def also_close(self, connection: socket.socket) -> None:
        """Closed with the server."""
        self._open.append(connection)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                threading.Thread(target=self._guard, args=(client,), daemon=True).start()

    def _guard(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            self.serve(client)
