"""Clients are spread over the workers by how many each has, so that a few that stay long do not share one."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.raw import RawClient
from support.store import PROTOCOLS

CLIENTS = 10
REQUESTS = {"redis": b"PING\r\n", "memcached": b"version\r\n"}


def polled(pid: int) -> dict[str, int]:
    """How many descriptors each poll of the process has: one poll is a worker's."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        if entry.is_symlink() and "eventpoll" in str(entry.readlink()):
            text = Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text()
            found[entry.name] = sum(line.startswith("tfd:") for line in text.splitlines())
    return found


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_few_clients_are_shared_out(protocol: str) -> None:
    with Cluster(protocol, replicas=1, workers=2) as cluster:
        before = polled(cluster.proxy.pid)
        with ExitStack() as stack:
            for _ in range(CLIENTS):
                client = stack.enter_context(RawClient(cluster.proxy.ports["p"]))
                client.send(REQUESTS[protocol])
                client.read_line()  # it is some worker's by now
            after = polled(cluster.proxy.pid)
    gained = sorted((after[poll] - count for poll, count in before.items()), reverse=True)
    assert gained[:2] == [CLIENTS // 2, CLIENTS // 2], (before, after)
