"""A backend that answers what it is told to: for replies no real server would send.

What is not told is answered by a real server behind it.
"""

import contextlib
import socket
import threading

from support.acceptor import Acceptor

READ_BYTES = 65_536


class LyingServer(Acceptor):
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
        super().__init__()

    def serve(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", self.target), timeout=30)
        self.also_close(server)
        threading.Thread(target=self._move, args=(server, client, False), daemon=True).start()
        self._move(client, server, True)

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
