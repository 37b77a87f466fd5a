"""Free ports, and whether a process listens on one.

Called by `support.servers` and `support.proxy_process`. A port that is free now may be taken before
the server binds it, so callers also retry when the bind fails; what is here makes that rare.
"""

import os
import random
import socket
from collections import deque
from pathlib import Path

# Below the kernel's ephemeral range (from 32768 on), so that no outgoing connection of any process
# can sit on a port between two lives of a server that must return on it.
#
# Each parallel worker has its own: a proxy of one test still asks for backends that are gone, and must
# not find those of another test at their ports. It would know them by pool and shard, which are named alike.
WORKERS_LIMIT = 16
PORTS = range(
    12_000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % WORKERS_LIMIT, 32_000, WORKERS_LIMIT
)

LISTEN = "0A"
"""The state column of /proc/net/tcp for a listening socket."""

_random = random.Random(os.urandom(8))  # not the tests' seed: parallel workers must choose differently
_given: deque[int] = deque(maxlen=200)
"""Nobody may have bound these yet, or a server that was killed is to return on one."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing is bound to at this moment."""
    for _ in range(1000):
        port = _random.choice(PORTS)
        if port in _given:
            continue
        with socket.socket() as probe:
            # As servers do it: a port whose last connections are in TIME_WAIT counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given.append(port)
            return port
    raise RuntimeError("no free port found")


def listens(pid: int, port: int) -> bool:
    """True if the process itself holds a socket listening on the TCP port.

    A connection that succeeds does not prove that: when two test processes picked the same port, the
    loser would find the winner's server and take it for its own.
    """
    inodes = set()
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = row.split()
            if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    return bool(inodes) and not inodes.isdisjoint(_open_files(pid))


def unread_connections(pid: int) -> int:
    """How many TCP connections of the process hold what it has not read yet."""
    unread = set()
    for row in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = row.split()
        if fields[3] != LISTEN and int(fields[4].rpartition(":")[2], 16) > 0:
            unread.add(f"socket:[{fields[9]}]")
    return len(unread & _open_files(pid))


def _open_files(pid: int) -> set[str]:
    files = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            files.add(os.readlink(descriptor))
        except FileNotFoundError:  # closed since the listing
            continue
    return files
