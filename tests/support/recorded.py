"""A backend that answers as another memcached was heard to: for versions that are not installed.

What the proxy asks for itself (records, statistics) is answered by a real server behind it. Called by
tests/integration/test_memcached_recorded.py, and by the script that makes the recording.
"""

import socket
import threading
from collections.abc import Mapping, Sequence

from support.acceptor import Acceptor
from support.raw import RawClient

STORING = {b"set": 4, b"add": 4, b"replace": 4, b"append": 4, b"prepend": 4, b"cas": 4, b"ms": 2}
"""Where in its line a request says how long its data block is."""
LISTS = (b"get", b"gets", b"gat", b"gats", b"stats", b"lru_crawler")
"""Answered by lines up to one that ends them."""
OWN = (b"stats", b"flush_all")
"""What the proxy asks for itself."""
ENDS = (b"END", b"EN", b"RESET")
REFUSALS = (b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR", b"BUSY")

Answers = Mapping[str, Sequence[str]]
"""What was answered to each request, the first time, the second time, ...; in Latin-1."""


class RecordedServer(Acceptor):
    """Relays requests to the real server on port ``target``, or answers those that were recorded.

    Args:
        target: port of a real server.
        answers: the recording; None to make one.

    Attributes:
        heard: what was asked and answered so far.
        unknown: what was asked and is not in the recording.
    """

    def __init__(self, target: int, answers: Answers | None = None) -> None:
        self.target, self._answers = target, answers
        self.heard: dict[str, list[str]] = {}
        self.unknown: list[bytes] = []
        self._lock = threading.Lock()
        super().__init__()

    def serve(self, client: socket.socket) -> None:
        with RawClient(self.target, timeout=30) as server:
            asked = client.makefile("rb")
            while line := asked.readline():
                words = line.split()
                at = STORING.get(words[0])
                request = line if at is None else line + asked.read(int(words[at]) + 2)
                client.sendall(self._answer(server, words[0], request))

    def _answer(self, server: RawClient, verb: bytes, request: bytes) -> bytes:
        is_own = verb in OWN or b"__shardproxy:" in request
        if not is_own and self._answers is not None:
            with self._lock:
                recorded = self._answers.get(request.decode("latin-1"))
                if recorded is not None:
                    times = self.heard.setdefault(request.decode("latin-1"), [])
                    times.append(recorded[min(len(times), len(recorded) - 1)])
                    return times[-1].encode("latin-1")
                self.unknown.append(request)
        server.send(request)
        answer = read_answer(server, verb)
        if not is_own:
            with self._lock:
                self.heard.setdefault(request.decode("latin-1"), []).append(answer.decode("latin-1"))
        return answer


def read_answer(server: RawClient, verb: bytes) -> bytes:
    """One answer, whole."""
    answer = b""
    while True:
        line = server.read_line()
        answer += line
        kind, *words = line.split()
        if kind == b"VALUE":
            answer += server.read_exactly(int(words[2]) + 2)
        elif kind == b"VA":
            return answer + server.read_exactly(int(words[0]) + 2)
        # The lines of `metadump` end otherwise than the last one.
        elif verb not in LISTS or line.startswith(REFUSALS) or line.strip().split(b"\n")[-1] in ENDS:
            return answer
