"""Recording views on backends by compare-and-set: two round trips on a connection that is open already.

Called by `proxy.tasks.controller` to perform `Commit` and `Restore`. What may overwrite what is decided
by `may_write`, a pure function; the rest is the two protocols' ways to make it atomic. Must not know why
a view changes. Members are written in the order of the old view: the first that answers decides between
proxies that race, since a proxy that loses there has written nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import trio

from proxy.control.event import Commit, CommitFailed, CommitLost, CommitWon, Restore
from proxy.control.model import Reason, View
from proxy.control.routing import resp_request
from proxy.control.view import beats, encode, parse, view_key
from proxy.tasks.link import Link, LinkError, Talk
from proxy.tasks.wire import ErrorReply, Listing, Reply, reason_of

RACES_LIMIT = 8
"""Tries before giving up: each lost race means that somebody else made progress, and few ever try."""
ARBITER_SECONDS = 0.1
"""How long a member that leaves may take to decide a race: many round trips within a region, and little
beside the request timeout that writes to a silent leader have been through already."""
COMPARE_AND_SET = """#!lua flags=allow-oom
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
"""A member that is out of memory refuses SET, but must still decide between proxies: two that skip it,
because it refuses both, can both win. A script may say that it goes beyond the limit."""
NO_SCRIPTS = frozenset({"ERR", "NOPERM"})
"""How a server answers that does not know the flag (before Redis 7), or lets nobody run scripts."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The record stands there."""


@dataclass(frozen=True, slots=True)
class Held:
    """Something else stands there and stays: ``record``, or nothing where something was expected."""

    record: bytes | None


def may_write(current: bytes | None, view: View, *, blank: bool, settles: bool) -> bool:
    """Whether ``view`` may replace what stands on a backend.

    Args:
        current: the record there.
        blank: an absent record is expected; otherwise its absence is a flush that must come to light.
        settles: the view is agreed already, so it also replaces a loser of its own epoch. A proposal
            never does: who came first has won.
    """
    if current is None:
        return blank
    found = parse(current, view.pool, view.shard)
    if isinstance(found, Reason):
        return False
    return beats(view, found) if settles else found.epoch < view.epoch


async def commit(
    action: Commit, links: Mapping[str, Link], seconds: float
) -> CommitWon | CommitLost | CommitFailed:
    """Records the view: on its first member, then on the others at once.

    Args:
        links: by address; every arbiter and everybody in the view.
        seconds: for each member.
    """
    view = action.view
    for address in action.arbiters:
        try:
            outcome = await _put(links[address], view, False, False, min(seconds, ARBITER_SECONDS))
        except LinkError:
            continue  # it leaves because it fails; whoever else cannot reach it goes on to the next as well
        if isinstance(outcome, Held) and _is_view(outcome.record, view):
            return CommitLost(view, address, outcome.record)
    first, *others = view.in_sync
    try:
        outcome = await _put(links[first], view, first in action.blank, False, seconds)
    except LinkError as error:
        return CommitFailed(view, first, error.reason)
    if isinstance(outcome, Held):
        return CommitLost(view, first, outcome.record)
    missed: list[str] = []
    lost: list[CommitLost] = []

    async def tell(address: str) -> None:
        try:
            result = await _put(links[address], view, address in action.blank, False, seconds)
        except LinkError:
            missed.append(address)
            return
        if isinstance(result, Held):
            if _is_view(result.record, view):
                lost.append(CommitLost(view, address, result.record))
            else:
                missed.append(address)

    async with trio.open_nursery() as nursery:
        for address in (*others, *view.joining):
            nursery.start_soon(tell, address)
    return lost[0] if lost else CommitWon(view, tuple(sorted(missed)))


def _is_view(record: bytes | None, view: View) -> bool:
    return record is not None and not isinstance(parse(record, view.pool, view.shard), Reason)


async def restore(action: Restore, view: View, link: Link, seconds: float) -> bool:
    """Puts the record back; True if it stands there now.

    Raises:
        LinkError: no usable answer.
    """
    return isinstance(await _put(link, view, action.blank, True, seconds), Stored)


async def _put(link: Link, view: View, blank: bool, settles: bool, seconds: float) -> Stored | Held:
    put = _put_redis if link.protocol == "redis" else _put_memcached
    key = view_key(view.pool, view.shard)

    async def work(talk: Talk) -> Stored | Held:
        for _ in range(RACES_LIMIT):
            outcome = await put(talk, key, view, blank, settles)
            if outcome is not None:
                return outcome
        raise LinkError(Reason.VIEW_NOT_TAKEN)

    return await link.exchange(work, seconds)


def _judge(current: bytes | None, view: View, blank: bool, settles: bool) -> Stored | Held | None:
    """The outcome if nothing is to be written, None if the view is."""
    if current == encode(view):
        return Stored()
    return None if may_write(current, view, blank=blank, settles=settles) else Held(current)


async def _put_redis(talk: Talk, key: str, view: View, blank: bool, settles: bool) -> Stored | Held | None:
    (current,) = await talk(resp_request("GET", key), 1)
    current = _stored_bytes(current)
    outcome = _judge(current, view, blank, settles)
    if outcome is not None:
        return outcome
    # Of a record that stands there not a byte may be missing: it is compared whole. None is ever empty.
    swap = resp_request("EVAL", COMPARE_AND_SET, "1", key, current or b"", encode(view))
    (reply,) = await talk(swap, 1)
    if isinstance(reply, ErrorReply) and reply.word in NO_SCRIPTS:
        return await _put_redis_watched(talk, key, view, blank, settles)
    if isinstance(reply, ErrorReply):
        raise LinkError(reason_of(reply))
    return Stored() if reply == 1 else None


async def _put_redis_watched(
    talk: Talk, key: str, view: View, blank: bool, settles: bool
) -> Stored | Held | None:
    """The same without a script; a server that is out of memory refuses this one."""
    watched, current = await talk(resp_request("WATCH", key) + resp_request("GET", key), 2)
    if watched != b"OK":
        raise LinkError(reason_of(watched))
    outcome = _judge(_stored_bytes(current), view, blank, settles)
    if outcome is not None:
        await talk(resp_request("UNWATCH"), 1)
        return outcome
    change = resp_request("MULTI") + resp_request("SET", key, encode(view)) + resp_request("EXEC")
    replies = await talk(change, 3)
    refusal = next((reply for reply in replies if isinstance(reply, ErrorReply)), None)
    if refusal is not None:
        raise LinkError(reason_of(refusal))
    return Stored() if replies[2] is not None else None


def _stored_bytes(reply: Reply) -> bytes | None:
    if isinstance(reply, ErrorReply) and reply.word == "WRONGTYPE":
        return b""  # somebody's key of another type: as unreadable as a damaged record, and as untouchable
    if reply is None or isinstance(reply, bytes):
        return reply
    raise LinkError(reason_of(reply))


async def _put_memcached(
    talk: Talk, key: str, view: View, blank: bool, settles: bool
) -> Stored | Held | None:
    (listing,) = await talk(f"gets {key}\r\n".encode(), 1)
    if not isinstance(listing, Listing):
        raise LinkError(reason_of(listing))
    value = listing.values.get(key.encode())
    outcome = _judge(value.data if value else None, view, blank, settles)
    if outcome is not None:
        return outcome
    record = encode(view)
    verb, token = (b"cas", b" %d" % value.cas) if value else (b"add", b"")
    reply: Reply
    (reply,) = await talk(b"%s %s 0 0 %d%s\r\n%s\r\n" % (verb, key.encode(), len(record), token, record), 1)
    if reply == b"STORED":
        return Stored()
    if reply in (b"EXISTS", b"NOT_FOUND", b"NOT_STORED"):
        return None
    raise LinkError(reason_of(reply))
