"""What a client asks of a proxy while the answers of a newer memcached are recorded, or played back.

Called by tests/integration/test_memcached_recorded.py and tests/vectors/make_memcached.py. Mostly what newer
versions answer otherwise than 1.6.18, or what it does not know; nothing in it depends on CAS tokens that a
server counts, or on a second more or less.
"""

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from support.cluster import merge
from support.proxy_process import ProxyProcess, pool
from support.raw import RawClient
from support.recorded import Answers, RecordedServer, read_answer
from support.servers import MemcachedServer
from support.store import QUICK

REQUESTS = """
set plain 5 0 3|abc
get plain none
gets plain
append plain 0 0 1|d
incr plain 1
set n 0 0 2|10
incr n 5
incr n +1
decr n 20
touch n 1000
gat 0 n
get plain
ms a 3 E7 F5 c|abc
mg a v c f k
ms a 1 C7 E9 c|d
ms a 1 C7 c|e
ms a 1 C8 I|e
mg a v
ms a 1 C9 E10 MA c s|f
mg a v s t
mg a C10
mg a C11
md a C11 E12
md a C10 x E12 c
mg a v f
ms b 3 E60|abc
md b C60 x E61
mg b v c f
md a
mg a v
ma counter N0 J5 E20 c v
ma counter D3 MI v t
ma counter D100 M- q v
ma counter N0 E30 v c q
mg vivified N30 E33 v c
mg vivified v
ms vivified 2 T0 E34|ok
ms stale 3|old
md stale I T30 E50
mg stale v c
mg stale v c
ms stale 3 C49 I|new
mg none E5 k O1
mg none q
ms YSBi 3 b k|bin
mg YSBi b v k s
ma YyBk b N0 J1 v
mg YyBk b v
md YyBk b
me none
mx none
mg a y
ms a 2 ME S100 N30|hi
lru_crawler metadump all
lru_crawler mgdump all
"""

COUNTED = re.compile(rb"^(VALUE \S+ \d+ \d+) \d+\r$", re.MULTILINE)
"""With a CAS token that a server counts."""


def requests() -> list[bytes]:
    """One by one; a data block follows its line."""
    lines = [line for line in REQUESTS.strip().split("\n") if line]
    return [line.replace("|", "\r\n").encode() + b"\r\n" for line in lines]


def answers(port: int) -> list[str]:
    """What is answered to each, without what differs each time; in Latin-1."""
    with RawClient(port, timeout=20) as client:
        return [answer(client, request).decode("latin-1") for request in requests()]


def answer(client: RawClient, request: bytes) -> bytes:
    if request.startswith(b"lru_crawler"):
        client.send(request)
        text = read_answer(client, b"lru_crawler")
        # What the proxy leaves out; times and tokens; and their order.
        words = [line.split(b" exp=")[0] for line in text.splitlines() if b"__shardproxy" not in line]
        return b"\n".join(sorted(word for word in words if word != b"OK"))
    client.send(request + b"mn\r\n")
    return COUNTED.sub(rb"\1 token\r", client.read_until(b"MN\r\n")[: -len(b"MN\r\n")])


@dataclass
class Session:
    """What was said in one session: to a client, and between a proxy and each of two replicas."""

    answers: list[str]
    heard: list[dict[str, list[str]]]
    unknown: list[bytes]


def session(program: str | None, recording: Sequence[Answers | None] = (None, None)) -> Session:
    """A client asks a proxy all of it; then the second replica starts anew and is filled from the first.

    Args:
        program: the memcached behind; None for the installed one.
        recording: what is played back in its place, of each replica.
    """
    with ExitStack() as stack:
        servers = [stack.enter_context(MemcachedServer(program=program)) for _ in recording]
        replicas = [
            stack.enter_context(RecordedServer(server.port, each))
            for server, each in zip(servers, recording, strict=True)
        ]
        addresses = [replica.address for replica in replicas]
        config = {**pool("memcached", addresses), **merge(QUICK, {"resync": {"auto": True}})}
        proxy = stack.enter_context(ProxyProcess({"workers": 1, "pools": {"p": config}}))
        found = answers(proxy.memcached_port)
        servers[1].restart()
        proxy.wait_state("p", addresses[1], "joining", within=20)
        proxy.wait_state("p", addresses[1], "in_sync", within=20)
        unknown = [request for replica in replicas for request in replica.unknown]
        return Session(found, [replica.heard for replica in replicas], unknown)
