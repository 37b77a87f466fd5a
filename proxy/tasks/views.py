"""Recording views on backends by compare-and-set: two round trips on a connection that is open already.

Called by `proxy.tasks.controller` to perform `Commit` and `Restore`. What may overwrite what is decided
by `may_write`, a pure function; the rest is the two protocols' ways to make it atomic. Must not know why
a view changes. Members are written in the order of the old view: the first that answers decides between
proxies that race, since a proxy that loses there has written nowhere. All others are told too, also those
that leave: the first may die, or refuse one proxy and not the other. `tests/model` has the reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import trio

from proxy.control.event import Commit, CommitFailed, CommitLost, CommitWon, Restore
from proxy.control.model import Reason, View
from proxy.control.routing import resp_request
from proxy.control.view import beats, encode, is_conflict, parse, view_key
from proxy.tasks.link import Link, LinkError, Talk
from proxy.tasks.wire import ErrorReply, Listing, Reply, Value, reason_of

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
    """The record stands there; ``is_new``: as we have just put it there."""

    is_new: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """Something else stands there and stays: ``record``, or nothing where something was expected."""

    record: bytes | None


def may_write(
    current: bytes | None,
    view: View,
    *,
    blank: bool,
    settles: bool,
    elected: bool = False,
    address: str = "",
    skips: bool = False,
) -> bool:
    """Whether ``view`` may replace what stands on a backend.

    Args:
        current: the record there.
        address: the backend.
        blank: an absent record is expected; otherwise its absence is a flush that must come to light.
        settles: the view is agreed already, so it also replaces a loser of its own epoch, and whatever a
            backend was told of that epoch as one that leaves. A proposal never does: who came first has
            won.
        elected: no other view of its epoch counts.
        skips: as in `Commit`.
    """
    if current is None:
        return blank
    found = parse(current, view.pool, view.shard)
    if isinstance(found, Reason):
        return False
    if not settles:
        return found.epoch + skips < view.epoch
    is_moot = elected or address not in found.in_sync
    return beats(view, found) or (is_conflict(view, found) and is_moot)


async def commit(
    action: Commit, links: Mapping[str, Link], seconds: float
) -> CommitWon | CommitLost | CommitFailed:
    """Records the view: on whoever decides, then on the others at once.

    Args:
        links: by address; every arbiter, every witness, and whoever in the view is configured.
        seconds: for each member; those that leave get `ARBITER_SECONDS` at most, unless their votes count.
    """
    return await _Ballot(action, links, seconds).run()


class _Ballot:
    """One commit under way: who has taken the view, and who has not."""

    def __init__(self, action: Commit, links: Mapping[str, Link], seconds: float) -> None:
        self._action = action
        self._view = action.view
        self._links = links
        self._seconds = seconds
        self._taken: list[str] = []
        self._changed: list[str] = []
        self._missed: list[str] = []
        self._lost: list[CommitLost] = []

    async def run(self) -> CommitWon | CommitLost | CommitFailed:
        # Who was blank may have forgotten a vote, but nobody has voted before the first view.
        last = self._action.blank if self._action.needed and self._view.epoch > 1 else ()
        for address in self._action.arbiters:
            if address not in last:
                await self._tell(address)
            if self._lost:
                return self._lost[0]
        first, *others = self._view.in_sync
        failure = None if first in last else await self._tell_first(first)
        if failure is not None:
            return failure
        async with trio.open_nursery() as nursery:
            for address in (*others, *self._view.joining, *self._action.witnesses):
                if address not in last:
                    nursery.start_soon(self._tell, address)
        if last and len(self._changed) + len(last) >= self._action.needed:
            for address in last:
                await self._tell(address)
        else:
            self._missed.extend(last)
        return self._result()

    def _result(self) -> CommitWon | CommitLost | CommitFailed:
        view, missed = self._view, tuple(sorted(self._missed))
        listed = (*view.in_sync, *view.joining)
        won = CommitWon(view, tuple(each for each in missed if each in listed))
        if self._action.needed:
            if len(self._taken) >= self._action.needed:
                return replace(won, is_fresh=len(self._changed) >= self._action.needed)
            return self._lost[0] if self._lost else CommitFailed(view, "", Reason.NO_MAJORITY, True, missed)
        return self._lost[0] if self._lost else won

    async def _tell_first(self, first: str) -> CommitLost | CommitFailed | None:
        """The first who stays decides, except where votes are counted: there it is one of many."""
        if self._action.needed:
            await self._tell(first)
            return self._lost[0] if self._lost else None
        try:
            outcome = await self._put(first, self._seconds)
        except LinkError as error:
            return CommitFailed(self._view, first, error.reason, bool(self._taken))
        if isinstance(outcome, Held):
            return CommitLost(self._view, first, outcome.record, bool(self._taken))
        self._taken.append(first)
        return None

    async def _tell(self, address: str) -> None:
        """Has it take the view, or say which rival it knows. Who leaves does so because it fails: whoever
        else cannot reach it goes on to the next as well."""
        listed = (*self._view.in_sync, *self._view.joining)
        is_awaited = address in listed or self._action.needed > 0
        try:
            outcome = await self._put(
                address, self._seconds if is_awaited else min(self._seconds, ARBITER_SECONDS)
            )
        except LinkError:
            self._missed.append(address)
            return
        if isinstance(outcome, Stored):
            self._taken.append(address)
            if outcome.is_new:
                self._changed.append(address)
        elif _is_view(outcome.record, self._view):
            self._lost.append(CommitLost(self._view, address, outcome.record, bool(self._taken)))
        else:
            self._missed.append(address)

    async def _put(self, address: str, seconds: float) -> Stored | Held:
        link = self._links.get(address)
        if link is None:
            raise LinkError(Reason.OTHER_MEMBERS)
        is_blank = address in self._action.blank
        return await _Put(self._view, address, is_blank, skips=self._action.skips).on(link, seconds)


def _is_view(record: bytes | None, view: View) -> bool:
    return record is not None and not isinstance(parse(record, view.pool, view.shard), Reason)


async def restore(action: Restore, view: View, link: Link, seconds: float) -> bool:
    """Puts the record back; True if it stands there now.

    Raises:
        LinkError: no usable answer.
    """
    put = _Put(view, action.address, action.blank, settles=True, elected=action.elected)
    return isinstance(await put.on(link, seconds), Stored)


@dataclass(frozen=True, slots=True)
class _Put:
    """One record to be put on one backend; the fields as in `may_write`."""

    view: View
    address: str
    blank: bool = False
    settles: bool = False
    elected: bool = False
    skips: bool = False

    @property
    def key(self) -> str:
        return view_key(self.view.pool, self.view.shard)

    def judge(self, current: bytes | None) -> Stored | Held | None:
        """The outcome if nothing is to be written, None if the view is."""
        if current == encode(self.view):
            return Stored()
        is_free = may_write(
            current,
            self.view,
            blank=self.blank,
            settles=self.settles,
            elected=self.elected,
            address=self.address,
            skips=self.skips,
        )
        return None if is_free else Held(current)

    async def on(self, link: Link, seconds: float) -> Stored | Held:
        """Raises `LinkError`: no usable answer."""
        put = _put_redis if link.protocol == "redis" else _put_memcached

        async def work(talk: Talk) -> Stored | Held:
            for _ in range(RACES_LIMIT):
                outcome = await put(talk, self)
                if outcome is not None:
                    return outcome
            raise LinkError(Reason.VIEW_NOT_TAKEN)

        return await link.exchange(work, seconds)


async def _put_redis(talk: Talk, put: _Put) -> Stored | Held | None:
    (current,) = await talk(resp_request("GET", put.key), 1)
    current = stored_bytes(current)
    outcome = put.judge(current)
    if outcome is not None:
        return outcome
    # Of a record that stands there not a byte may be missing: it is compared whole. None is ever empty.
    swap = resp_request("EVAL", COMPARE_AND_SET, "1", put.key, current or b"", encode(put.view))
    (reply,) = await talk(swap, 1)
    if isinstance(reply, ErrorReply) and reply.word in NO_SCRIPTS:
        return await _put_redis_watched(talk, put)
    if isinstance(reply, ErrorReply):
        raise LinkError(reason_of(reply))
    return Stored(is_new=True) if reply == 1 else None


async def _put_redis_watched(talk: Talk, put: _Put) -> Stored | Held | None:
    """The same without a script; a server that is out of memory refuses this one."""
    watched, current = await talk(resp_request("WATCH", put.key) + resp_request("GET", put.key), 2)
    if watched != b"OK":
        raise LinkError(reason_of(watched))
    outcome = put.judge(stored_bytes(current))
    if outcome is not None:
        await talk(resp_request("UNWATCH"), 1)
        return outcome
    return Stored(is_new=True) if await store_watched(talk, put.key, encode(put.view)) else None


async def store_watched(talk: Talk, key: str, record: bytes) -> bool:
    """Sets a key that the connection watches; False if somebody was first.

    Raises:
        LinkError: the server refused.
    """
    change = resp_request("MULTI") + resp_request("SET", key, record) + resp_request("EXEC")
    replies = await talk(change, 3)
    refusal = next((reply for reply in replies if isinstance(reply, ErrorReply)), None)
    if refusal is not None:
        raise LinkError(reason_of(refusal))
    return replies[2] is not None


def stored_bytes(reply: Reply) -> bytes | None:
    """The record in the reply to GET.

    Raises:
        LinkError: the server would not say.
    """
    if isinstance(reply, ErrorReply) and reply.word == "WRONGTYPE":
        return b""  # somebody's key of another type: as unreadable as a damaged record, and as untouchable
    if reply is None or isinstance(reply, bytes):
        return reply
    raise LinkError(reason_of(reply))


async def _put_memcached(talk: Talk, put: _Put) -> Stored | Held | None:
    (listing,) = await talk(f"gets {put.key}\r\n".encode(), 1)
    if not isinstance(listing, Listing):
        raise LinkError(reason_of(listing))
    value = listing.values.get(put.key.encode())
    outcome = put.judge(value.data if value else None)
    if outcome is not None:
        return outcome
    return Stored(is_new=True) if await store_in_place_of(talk, put.key, value, encode(put.view)) else None


async def store_in_place_of(talk: Talk, key: str, value: Value | None, record: bytes) -> bool:
    """Stores what nothing but ``value`` may stand in the way of; False if somebody was first.

    Raises:
        LinkError: the server refused.
    """
    verb, token = (b"cas", b" %d" % value.cas) if value is not None else (b"add", b"")
    (reply,) = await talk(b"%s %s 0 0 %d%s\r\n%s\r\n" % (verb, key.encode(), len(record), token, record), 1)
    if reply not in (b"STORED", b"EXISTS", b"NOT_FOUND", b"NOT_STORED"):
        raise LinkError(reason_of(reply))
    return reply == b"STORED"
