"""The record of absent shards, written by compare-and-set; and keys with a time to live beside it.

Called by `proxy.tasks.remap`. What may overwrite what is decided by `proxy.control.absence.may_write`. The
first backend that answers, in configuration order, decides between proxies that race: who loses there
has written nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import trio

from proxy.control.absence import Absence, absence_key, encode, may_write, parse
from proxy.control.model import Reason
from proxy.control.routing import resp_request
from proxy.tasks.link import Link, LinkError, Talk
from proxy.tasks.views import (
    COMPARE_AND_SET,
    NO_SCRIPTS,
    RACES_LIMIT,
    store_in_place_of,
    store_watched,
    stored_bytes,
)
from proxy.tasks.wire import ErrorReply, Listing, reason_of

WRITES_AT_ONCE = 64
"""Backends that are told at the same time."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """``is_recorded``: it stands on ``told``. Otherwise ``found`` stands somewhere instead, or (None) nobody
    could take it."""

    is_recorded: bool
    told: tuple[str, ...] = ()
    found: bytes | None = None


async def record(absence: Absence, links: Mapping[str, Link], seconds: float) -> Outcome:
    """Records it on the first backend that answers, then on all others that do.

    Args:
        links: by address, in configuration order.
        seconds: for each backend.
    """
    told: list[str] = []
    rest = list(links)
    while rest and not told:
        address = rest.pop(0)
        try:
            stands = await put(links[address], absence, seconds)
        except LinkError:
            continue
        if stands == encode(absence):
            told.append(address)
        elif _is_readable(stands, absence.pool):
            return Outcome(False, found=stands)
    found: list[bytes] = []
    limiter = trio.CapacityLimiter(WRITES_AT_ONCE)

    async def tell(address: str) -> None:
        async with limiter:
            try:
                stands = await put(links[address], absence, seconds)
            except LinkError:
                return  # it is told when it answers a probe
        if stands == encode(absence):
            told.append(address)
        elif _is_readable(stands, absence.pool):
            found.append(stands)

    async with trio.open_nursery() as nursery:
        for address in rest:
            nursery.start_soon(tell, address)
    return Outcome(False, found=max(found)) if found else Outcome(bool(told), tuple(sorted(told)))


def _is_readable(data: bytes, pool: str) -> bool:
    """False for what is left alone: damage, or a newer version's."""
    return not isinstance(parse(data, pool), Reason)


async def put(link: Link, absence: Absence, seconds: float) -> bytes:
    """Writes the record if it may be written; returns what stands there now.

    Raises:
        LinkError: no usable answer.
    """
    step = _put_redis if link.protocol == "redis" else _put_memcached

    async def work(talk: Talk) -> bytes:
        for _ in range(RACES_LIMIT):
            stands = await step(talk, absence_key(absence.pool), absence)
            if stands is not None:
                return stands
        raise LinkError(Reason.VIEW_NOT_TAKEN)

    return await link.exchange(work, seconds)


async def _put_redis(talk: Talk, key: str, absence: Absence) -> bytes | None:
    """None: somebody wrote in between."""
    new = encode(absence)
    watched, reply = await talk(resp_request("WATCH", key) + resp_request("GET", key), 2)
    if watched != b"OK":
        raise LinkError(reason_of(watched))
    current = stored_bytes(reply)
    if current == new or not may_write(current, absence):
        await talk(resp_request("UNWATCH"), 1)
        return current or b""
    # A script, because it may say that it goes beyond the memory limit.
    (swapped,) = await talk(resp_request("EVAL", COMPARE_AND_SET, "1", key, current or b"", new), 1)
    if isinstance(swapped, ErrorReply) and swapped.word in NO_SCRIPTS:
        return new if await store_watched(talk, key, new) else None
    await talk(resp_request("UNWATCH"), 1)
    if isinstance(swapped, ErrorReply):
        raise LinkError(reason_of(swapped))
    return new if swapped == 1 else None


async def _put_memcached(talk: Talk, key: str, absence: Absence) -> bytes | None:
    (listing,) = await talk(f"gets {key}\r\n".encode(), 1)
    if not isinstance(listing, Listing):
        raise LinkError(reason_of(listing))
    value, new = listing.values.get(key.encode()), encode(absence)
    current = value.data if value is not None else None
    if current == new or not may_write(current, absence):
        return current or b""
    return new if await store_in_place_of(talk, key, value, new) else None


# Keys with a time to live.


async def mark(link: Link, key: str, value: str, lifetime: float, seconds: float) -> None:
    """Sets the key for ``lifetime`` seconds.

    Raises:
        LinkError: no usable answer.
    """
    if link.protocol == "redis":
        request = resp_request("SET", key, value, "PX", str(math.ceil(lifetime * 1000)))
    else:
        request = b"set %s 0 %d %d\r\n%s\r\n" % (
            key.encode(),
            math.ceil(lifetime) + 1,
            len(value),
            value.encode(),
        )

    async def work(talk: Talk) -> None:
        (reply,) = await talk(request, 1)
        if reply not in (b"OK", b"STORED"):
            raise LinkError(reason_of(reply))

    await link.exchange(work, seconds)


async def marked(link: Link, key: str, seconds: float) -> bytes | None:
    """The value of the key, None if it is not there.

    Raises:
        LinkError: no usable answer.
    """
    request = resp_request("GET", key) if link.protocol == "redis" else f"get {key}\r\n".encode()

    async def work(talk: Talk) -> bytes | None:
        (reply,) = await talk(request, 1)
        if isinstance(reply, Listing):
            return next((value.data for value in reply.values.values()), None)
        return stored_bytes(reply)

    return await link.exchange(work, seconds)
