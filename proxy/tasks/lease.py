"""A lease on a server: a key with a time to live that names its holder.

Called by `proxy.tasks.job`. Taken only where nobody holds it, kept by saying so again in time, gone by
itself when its holder is. Must not know what it is for.
"""

from __future__ import annotations

from proxy.control.routing import resp_request
from proxy.tasks.link import Link, LinkError, Talk
from proxy.tasks.views import NO_SCRIPTS
from proxy.tasks.wire import ErrorReply, Listing, Reply, reason_of

HOLD = """#!lua flags=allow-oom
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
"""A script, as for records: a full server refuses SET, and its replicas would never be brought back."""


async def hold(link: Link, key: str, holder: str, lease: float, seconds: float) -> bool:
    """Takes the lease, or prolongs it; False if another holds it.

    Args:
        lease: seconds until it ends unless it is prolonged.
        seconds: for the exchange.

    Raises:
        LinkError: no usable answer.
    """
    if link.protocol == "memcached":
        return await _change_memcached(link, key, holder, max(1, round(lease)), seconds)
    milliseconds = str(int(lease * 1000))

    async def work(talk: Talk) -> Reply:
        return (await talk(resp_request("EVAL", HOLD, "1", key, holder, milliseconds), 1))[0]

    reply = await link.exchange(work, seconds)
    if isinstance(reply, ErrorReply) and reply.word in NO_SCRIPTS:
        keep = resp_request("SET", key, holder, "PX", milliseconds)
        return await _change(link, key, holder, keep, True, seconds)
    if not isinstance(reply, int):
        raise LinkError(reason_of(reply))
    return reply == 1


async def release(link: Link, key: str, holder: str, seconds: float) -> None:
    """Gives the lease back if it is still held.

    Raises:
        LinkError: no usable answer; it then ends by itself.
    """
    if link.protocol == "memcached":
        await _change_memcached(link, key, holder, -1, seconds)
    else:
        await _change(link, key, holder, resp_request("DEL", key), False, seconds)


async def _change(link: Link, key: str, holder: str, change: bytes, if_free: bool, seconds: float) -> bool:
    async def work(talk: Talk) -> bool:
        watched, current = await talk(resp_request("WATCH", key) + resp_request("GET", key), 2)
        for reply in (watched, current):
            if isinstance(reply, ErrorReply):
                raise LinkError(reason_of(reply))
        if current != holder.encode() and not (if_free and current is None):
            await talk(resp_request("UNWATCH"), 1)
            return False
        replies = await talk(resp_request("MULTI") + change + resp_request("EXEC"), 3)
        refusal = next((reply for reply in replies if isinstance(reply, ErrorReply)), None)
        if refusal is not None:
            raise LinkError(reason_of(refusal))
        return replies[2] is not None

    return await link.exchange(work, seconds)


async def _change_memcached(link: Link, key: str, holder: str, lease: int, seconds: float) -> bool:
    """The same with whole seconds; -1 ends the lease."""

    async def work(talk: Talk) -> bool:
        (listing,) = await talk(f"gets {key}\r\n".encode(), 1)
        if not isinstance(listing, Listing):
            raise LinkError(reason_of(listing))
        value = listing.values.get(key.encode())
        if (value is None and lease < 0) or (value is not None and value.data != holder.encode()):
            return False
        verb, token = (b"cas", b" %d" % value.cas) if value is not None else (b"add", b"")
        head = b"%s %s 0 %d %d%s\r\n" % (verb, key.encode(), lease, len(holder), token)
        (reply,) = await talk(head + holder.encode() + b"\r\n", 1)
        if reply in (b"EXISTS", b"NOT_FOUND", b"NOT_STORED"):
            return False
        if reply != b"STORED":
            raise LinkError(reason_of(reply))
        return True

    return await link.exchange(work, seconds)
