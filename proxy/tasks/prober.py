"""One task per backend: ask how it is, again and again, and send the answer to the controller.

Started by `proxy.tasks.controller`. Asks over the backend's `Link`; reports facts as `ProbeResult`,
and judges nothing. Between probes it watches the connection: a server that closes it is asked at once.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import lru_cache

import trio

from proxy.control.event import ConnectionFailed
from proxy.control.model import Condition, HealthSpec, Incarnation, ProbeResult, Reason
from proxy.control.routing import resp_request
from proxy.tasks.link import Link, LinkError, Talk
from proxy.tasks.wire import ErrorReply, Listing, Reply, condition_of, info_fields

JITTER = 0.1
"""Share of the interval by which probes of many proxies drift apart instead of marching in step."""
GAP_SHARE, GAP_SECONDS_LIMIT = 0.1, 0.05
"""Least pause before a probe that was asked for, so that an event storm is not a probe storm."""
FLUSH_COMMANDS = ("cmdstat_flushall", "cmdstat_flushdb", "cmdstat_swapdb")
INFO_SECTIONS = ("server", "replication", "persistence", "commandstats", "keyspace")

FLUSH_SECONDS = 180
"""A flush that was due within so long may be why a record is missing: longer than between two probes, and by
far not as long as a memcached takes to be full again and evict."""
UPTIME_LAG_SECONDS = 60
"""By how much memcached's own clock, by which "oldest" is told, is ahead of its uptime."""

FLUSHED = "flushed"
"""The lineage of a memcached that may have been emptied since; what it holds is all from after that."""

Report = Callable[[ProbeResult | ConnectionFailed], Awaitable[None]]


class Prober:
    """Probes one backend for ever.

    Args:
        key: the view key to look under, None where no view is kept.
        report: receives each result.
        absent_key: the key to look under for the pool's absent shards, None where none ever is.
        draw: random numbers in [0, 1) for the jitter; tests give a constant.
    """

    def __init__(
        self,
        link: Link,
        health: HealthSpec,
        key: str | None,
        report: Report,
        draw: Callable[[], float] = random.random,
        absent_key: str | None = None,
    ) -> None:
        self._link = link
        self._health = health
        self._key = key
        self._absent_key = absent_key
        self._report = report
        self._draw = draw
        self._is_asked = False
        self._rest: trio.CancelScope | None = None
        self._earliest = 0.0

    def __repr__(self) -> str:
        return f"<Prober {self._link!r}>"

    def probe_now(self) -> None:
        """Asks for a probe that begins after this call."""
        self._is_asked = True
        if self._rest is not None:
            self._rest.deadline = min(self._rest.deadline, self._earliest)

    async def run(self) -> None:
        """Never returns."""
        while True:
            self._is_asked = False
            await self._report(await probe(self._link, self._key, self._health.timeout, self._absent_key))
            await self._pause()

    async def _pause(self) -> None:
        """Until the next probe is due, or asked for, or the connection is lost.

        All in this task, and with one scope: with hundreds of backends that is most of what a probe costs.
        """
        ended = trio.current_time()
        self._earliest = ended + min(GAP_SHARE * self._health.interval, GAP_SECONDS_LIMIT)
        interval = self._health.interval * (1 + JITTER * (2 * self._draw() - 1))
        with trio.CancelScope(deadline=self._earliest if self._is_asked else ended + interval) as self._rest:
            await self._link.wait_lost()
        is_due, self._rest = self._rest.cancelled_caught, None
        if not is_due:
            await self._report(ConnectionFailed(self._link.address, Reason.EOF.value))
            await trio.sleep_until(self._earliest)


async def probe(link: Link, key: str | None, seconds: float, absent_key: str | None = None) -> ProbeResult:
    """One probe; every failure is a result."""

    async def ask(talk: Talk) -> ProbeResult:
        if link.protocol == "redis":
            return await _ask_redis(talk, link.address, key, absent_key)
        return await _ask_memcached(talk, link.address, key, absent_key)

    started = trio.current_time()
    try:
        result = await link.exchange(ask, seconds)
    except LinkError as error:
        result = ProbeResult(link.address, failure=error.reason)
    return _located(result, link.resolved, trio.current_time() - started)


def _located(result: ProbeResult, resolved: str, seconds: float) -> ProbeResult:
    return replace(result, resolved=resolved, seconds=seconds)


async def _ask_redis(talk: Talk, address: str, key: str | None, absent_key: str | None) -> ProbeResult:
    replies = await talk(*_redis_request(key, absent_key))
    absent = [replies.pop()] if absent_key is not None else []
    result = read_redis(address, replies)
    return _with_absence(result, *_redis_record(absent)) if absent and result.failure is None else result


@lru_cache(1024)
def _redis_request(key: str | None, absent_key: str | None) -> tuple[bytes, int]:
    """The bytes of all requests, and how many they are."""
    requests = [resp_request("PING"), *(resp_request("INFO", section) for section in INFO_SECTIONS)]
    requests += [resp_request("GET", each) for each in (key, absent_key) if each is not None]
    return b"".join(requests), len(requests)


def read_redis(address: str, replies: list[Reply]) -> ProbeResult:
    """The answer in the replies to PING, INFO of each of `INFO_SECTIONS`, and perhaps GET."""
    ping = replies[0]
    condition = condition_of(ping)
    if condition is None and ping != b"PONG":
        return ProbeResult(address, failure=Reason.PROTOCOL)
    info: dict[str, str] = {}
    for section in replies[1 : 1 + len(INFO_SECTIONS)]:
        info |= info_fields(section)
    if condition is None and info.get("loading") == "1":
        condition = Condition.LOADING
    if condition is None and info.get("role") == "slave":
        condition = Condition.READONLY
    record, is_known = _redis_record(replies[1 + len(INFO_SECTIONS) :])
    refusal = next((each for each in replies[1:] if isinstance(each, ErrorReply)), None)
    if is_known and refusal is not None and refusal.word != "WRONGTYPE":
        # Without INFO it would be held for empty, and one that came back empty for the process it was.
        is_known = None
    if is_known is None:
        condition = condition or condition_of(refusal or replies[-1]) or Condition.NOAUTH
    run = info.get("run_id", "")
    keys = sum(int(_field(text, "keys") or 0) for name, text in info.items() if _is_database(name))
    return ProbeResult(
        address,
        condition=condition,
        incarnation=Incarnation(run),
        record=record,
        record_known=bool(is_known),
        flushes=sum(int(_field(info.get(name, ""), "calls") or 0) for name in FLUSH_COMMANDS),
        lineage=info.get("master_replid", ""),
        items=max(0, keys - (record is not None)),
    )


def _redis_record(replies: list[Reply]) -> tuple[bytes | None, bool | None]:
    """The record, and whether it is known: False if nobody asked, None if the server would not say."""
    if not replies:
        return None, False
    reply = replies[0]
    if reply is None or isinstance(reply, bytes):
        return reply, True
    if isinstance(reply, ErrorReply) and reply.word == "WRONGTYPE":
        return b"", True  # a key of another type under our name: damage, to be seen by a person
    return None, None


def _is_database(name: str) -> bool:
    return name.startswith("db") and name[2:].isdigit()


def _field(text: str, name: str) -> str | None:
    """``keys`` of ``keys=5,expires=0``."""
    for part in text.split(","):
        word, _, value = part.partition("=")
        if word == name and value.isdigit():
            return value
    return None


async def _ask_memcached(talk: Talk, address: str, key: str | None, absent_key: str | None) -> ProbeResult:
    keys = [each for each in (key, absent_key) if each is not None]
    request = b"".join([b"stats\r\n", *(f"get {each}\r\n".encode() for each in keys)])
    replies = await talk(request, 1 + len(keys))
    absent = replies.pop() if absent_key is not None else None
    result = read_memcached(address, replies, key)
    if result.record_known and result.record is None:
        (settings,) = await talk(b"stats settings\r\n", 1)
        if has_flushed_lately(replies[0], settings):
            result = replace(result, lineage=FLUSHED)
    if absent_key is None or not isinstance(absent, Listing) or result.failure is not None:
        return result
    value = absent.values.get(absent_key.encode())
    return _with_absence(result, value.data if value is not None else None, True)


def has_flushed_lately(statistics: Reply, settings: Reply) -> bool:
    """True if a flush may be why the record is not there, whenever it was asked for: memcached counts one
    with a delay when it comes, not when it is due.

    Args:
        statistics, settings: the answers to ``stats`` and ``stats settings``.
    """
    if not isinstance(statistics, Listing) or not isinstance(settings, Listing):
        return True
    uptime, due = statistics.statistics.get(b"uptime", b""), settings.statistics.get(b"oldest", b"0")
    if not uptime.isdigit() or not due.isdigit():
        return True
    since = int(uptime) - (int(due) - UPTIME_LAG_SECONDS)
    return int(due) > 0 and -1 <= since < FLUSH_SECONDS


def _with_absence(result: ProbeResult, record: bytes | None, is_known: bool | None) -> ProbeResult:
    """With what stands under the pool's key, which is no item of anybody."""
    items = result.items
    if items is not None and record is not None:
        items = max(0, items - 1)
    return replace(result, absent=record, absent_known=bool(is_known), items=items)


def read_memcached(address: str, replies: list[Reply], key: str | None) -> ProbeResult:
    """The answer in the replies to ``stats`` and perhaps ``get``."""
    statistics, *rest = replies
    condition = condition_of(statistics)
    if condition is not None:
        return ProbeResult(address, condition=condition, incarnation=Incarnation(""))
    if not isinstance(statistics, Listing):
        return ProbeResult(address, failure=Reason.PROTOCOL)
    numbers = {name: int(text) for name, text in statistics.statistics.items() if text.isdigit()}
    pid, clock, uptime = (numbers.get(name) for name in (b"pid", b"time", b"uptime"))
    # Both tick together, so the difference is the same for all of a process's life.
    run = f"{pid}@{clock - uptime}" if pid is not None and clock is not None and uptime is not None else ""
    record = None
    if key is not None:
        listing = rest[0]
        if not isinstance(listing, Listing):
            return ProbeResult(address, failure=Reason.PROTOCOL)
        value = listing.values.get(key.encode())
        record = value.data if value is not None else None
    items = numbers.get(b"curr_items")
    return ProbeResult(
        address,
        incarnation=Incarnation(run),
        record=record,
        record_known=key is not None,
        flushes=numbers.get(b"cmd_flush"),
        items=max(0, items - (record is not None)) if items is not None else None,
    )
