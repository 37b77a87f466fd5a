"""Walking through all keys of one backend, deleting some of them, and emptying it.

Called by `proxy.tasks.remap` over links of its own. Must not know why. The reserved keys of one pool are
known here, because a server that holds another pool's must not be emptied.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import groupby
from operator import itemgetter
from urllib.parse import unquote_to_bytes

import trio

from proxy.control.absence import absence_key, is_of_pool
from proxy.control.model import Reason
from proxy.control.routing import resp_request, select_request
from proxy.control.view import RESERVED_PREFIX
from proxy.tasks.link import Link, LinkError, Talk
from proxy.tasks.views import stored_bytes
from proxy.tasks.wire import DumpReader, ErrorReply, Listing, Reply, key_counts, reason_of

SCAN_COUNT = "1000"
DELETE_COUNT = 500
KEPT_LIMIT = 50_000
"""Keys remembered from one walk; if more were wanted, the walk is repeated."""
DUMP_SECONDS = 300.0
"""For a list of all keys: a server writes a million of them in about a second."""
SECOND_FLUSH_SECONDS = 2.0
"""memcached compares whole seconds: what was stored in the second of a flush may outlive it."""
RESERVED = RESERVED_PREFIX.encode()
NO_DATABASE = ErrorReply("ERR DB index is out of range")
"""What stands for the reply of a server that has no such database, where nothing can be."""
NOT_AGREED = "it does not hold the record under which it is absent"


class NotEmptied(Exception):
    """For ``reason``; ``detail`` says more."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


Place = tuple[int, bytes]
"""A database and a key in it; Memcached has only database 0."""


async def walk(
    link: Link,
    databases: int,
    wanted: Callable[[bytes], bool],
    rest: Callable[[float], Awaitable[None]],
    seconds: float,
) -> tuple[list[Place], bool]:
    """The wanted keys, and whether these are all.

    Args:
        databases: the pool's, from 0 on.
        rest: called between two steps with the seconds that the step took.
        seconds: for each step.

    Raises:
        LinkError: it did not answer to the end, or does not let us look.
    """
    if link.protocol == "redis":
        return await _walk_redis(link, databases, wanted, rest, seconds)
    return await _walk_memcached(link, wanted)


async def _walk_redis(
    link: Link,
    databases: int,
    wanted: Callable[[bytes], bool],
    rest: Callable[[float], Awaitable[None]],
    seconds: float,
) -> tuple[list[Place], bool]:
    kept: dict[Place, None] = {}
    database, cursor = 0, b"0"
    while database < databases:
        began = trio.current_time()
        reply = await _ask_one(link, resp_request("SCAN", cursor, "COUNT", SCAN_COUNT), seconds, database)
        if reply is not NO_DATABASE:
            if not isinstance(reply, list) or len(reply) != 2 or not isinstance(reply[1], list):
                raise LinkError(reason_of(reply))
            cursor = reply[0] if isinstance(reply[0], bytes) else b"0"
            found = (key for key in reply[1] if isinstance(key, bytes) and wanted(key))
            kept |= dict.fromkeys((database, key) for key in found)
        database += cursor == b"0"
        if len(kept) > KEPT_LIMIT and database < databases:
            return list(kept), False
        await rest(trio.current_time() - began)
    return list(kept), True


async def _walk_memcached(link: Link, wanted: Callable[[bytes], bool]) -> tuple[list[Place], bool]:
    """``hash`` mode: an item that is there for the whole walk is shown exactly once. Read without pauses, as
    older servers hold a lock while they write."""
    kept: list[Place] = []
    is_all = True

    def take(line: bytes) -> None:
        nonlocal is_all
        key = unquote_to_bytes(line[4:].partition(b" ")[0])
        if wanted(key):
            is_all = len(kept) < KEPT_LIMIT
            if is_all:
                kept.append((0, key))

    async def dump(talk: Talk) -> Reply:
        nonlocal is_all
        is_all = True
        kept.clear()
        return (await talk(b"lru_crawler metadump hash\r\n", 1))[0]

    apart = link.apart(lambda: DumpReader(take))
    try:
        reply = await apart.exchange(dump, DUMP_SECONDS)
    finally:
        apart.close()
    if reply != b"END":
        # One crawl at a time; others copy or sweep as well.
        is_busy = isinstance(reply, bytes) and reply.startswith((b"BUSY", b"ERROR locked"))
        raise LinkError(Reason.BUSY if is_busy else Reason.PROTOCOL)
    return kept, is_all


async def delete(
    link: Link, places: list[Place], rest: Callable[[float], Awaitable[None]], seconds: float
) -> int:
    """Deletes the keys; returns how many were still there.

    Raises:
        LinkError: no usable answer; some may be deleted.
    """
    gone = 0
    for database, group in groupby(sorted(places), key=itemgetter(0)):
        keys = [key for _, key in group]
        if link.protocol == "memcached":
            # Those that the text protocol cannot name did not come through us either.
            keys = [key for key in keys if not any(byte <= 32 or byte == 127 for byte in key)]
        for start in range(0, len(keys), DELETE_COUNT):
            began = trio.current_time()
            part = keys[start : start + DELETE_COUNT]
            if link.protocol == "redis":
                reply = await _ask_one(link, resp_request("UNLINK", *part), seconds, database)
                if not isinstance(reply, int):
                    raise LinkError(reason_of(reply))
                gone += reply
            else:
                gone += await link.exchange(_deleting(part), seconds)
            await rest(trio.current_time() - began)
    return gone


def _deleting(keys: list[bytes]) -> Callable[[Talk], Awaitable[int]]:
    async def work(talk: Talk) -> int:
        # With a word behind it, as memcached 1.6.45 does not answer where the key is `noreply`.
        replies = await talk(b"".join(b"delete %s 0\r\n" % key for key in keys), len(keys))
        odd = next((reply for reply in replies if reply not in (b"DELETED", b"NOT_FOUND")), None)
        if odd is not None:
            raise LinkError(reason_of(odd))
        return sum(reply == b"DELETED" for reply in replies)

    return work


async def empty(link: Link, pool: str, databases: int, record: bytes, seconds: float) -> bool:
    """Makes sure that the backend holds nothing but our reserved keys; True if it held anything else.

    Args:
        databases: the pool's, from 0 on; others are not emptied.
        record: what stands under the pool's absence key. It is emptied only while exactly this does:
            whoever comes late finds the record by which the shard has its keys again.
        seconds: for each step but the walks.

    Raises:
        NotEmptied: it must not, or cannot, be emptied.
        LinkError: no usable answer.
    """
    if not await _look(link, pool, databases, seconds):
        return False
    if link.protocol == "redis":
        await _flush_redis(link, absence_key(pool), databases, record, seconds)
    else:
        await _flush_memcached(link, absence_key(pool), record, seconds)
    if await _look(link, pool, databases, seconds):
        raise NotEmptied(Reason.VIEW_NOT_TAKEN, "it still holds keys after it was flushed")
    return True


async def _look(link: Link, pool: str, databases: int, seconds: float) -> bool:
    """True if there is anything to flush."""
    seen = 0

    def wanted(key: bytes) -> bool:
        nonlocal seen
        is_reserved = key.startswith(RESERVED)
        seen += not is_reserved
        return is_reserved and not is_of_pool(key, pool)

    async def go_on(_: float) -> None:
        await trio.lowlevel.checkpoint()

    foreign, _ = await walk(link, databases, wanted, go_on, seconds)
    if foreign:
        raise NotEmptied(Reason.RECORD_FOREIGN, "it also belongs to another pool")
    return seen > 0


async def _flush_redis(link: Link, key: str, databases: int, record: bytes, seconds: float) -> None:
    if stored_bytes(await _ask_one(link, resp_request("GET", key), seconds)) != record:
        raise NotEmptied(
            Reason.VIEW_NOT_TAKEN, NOT_AGREED
        )  # it may be in use: not even a connection is closed
    # What was sent by whoever has not noticed yet may still lie in a connection; none survives. A server
    # that does not allow this is emptied all the same.
    await _ask_one(link, resp_request("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"), seconds)

    async def work(talk: Talk) -> None:
        watched, current = await talk(resp_request("WATCH", key) + resp_request("GET", key), 2)
        if watched != b"OK":
            raise LinkError(reason_of(watched))
        if stored_bytes(current) != record:
            await talk(resp_request("UNWATCH"), 1)
            raise NotEmptied(Reason.VIEW_NOT_TAKEN, NOT_AGREED)
        # Not all databases: the others are not the pool's. What is empty may not even exist.
        (text,) = await talk(resp_request("INFO", "keyspace"), 1)
        found = sorted({0, *(number for number in key_counts(text) if number < databases)})
        flushes = [
            part for number in found for part in (select_request(number), resp_request("FLUSHDB", "ASYNC"))
        ]
        requests = [resp_request("MULTI"), *flushes, select_request(0), resp_request("EXEC")]
        replies = await talk(b"".join(requests), len(requests))
        refusal = next((reply for reply in replies if isinstance(reply, ErrorReply)), None)
        if refusal is not None:
            raise NotEmptied(reason_of(refusal), refusal.text)
        if replies[-1] is None:
            raise NotEmptied(Reason.VIEW_NOT_TAKEN, "the record changed while it was being emptied")

    await link.exchange(work, seconds)


async def _flush_memcached(link: Link, key: str, record: bytes, seconds: float) -> None:
    for is_again in (False, True):
        if is_again:
            await trio.sleep(SECOND_FLUSH_SECONDS)

        async def work(talk: Talk, allowed: tuple[bytes | None, ...]) -> None:
            (listing,) = await talk(f"get {key}\r\n".encode(), 1)
            if not isinstance(listing, Listing):
                raise LinkError(reason_of(listing))
            value = listing.values.get(key.encode())
            if (value.data if value is not None else None) not in allowed:
                raise NotEmptied(Reason.VIEW_NOT_TAKEN, NOT_AGREED)
            (reply,) = await talk(b"flush_all\r\n", 1)
            if reply != b"OK":
                raise NotEmptied(reason_of(reply), repr(reply))

        allowed = (record, None) if is_again else (record,)
        await link.exchange(lambda talk, allowed=allowed, work=work: work(talk, allowed), seconds)  # type: ignore[misc]


async def _ask_one(link: Link, request: bytes, seconds: float, database: int = 0) -> Reply:
    """The reply, or `NO_DATABASE`. The connection is left in database 0."""

    async def work(talk: Talk) -> Reply:
        if not database:
            return (await talk(request, 1))[0]
        (selected,) = await talk(select_request(database), 1)
        if selected != b"OK":
            return NO_DATABASE
        return (await talk(request + select_request(0), 2))[0]

    return await link.exchange(work, seconds)
