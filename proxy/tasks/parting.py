"""Ends what other proxies send by a view that is over, where another backend leads from now on.

Called by `proxy.tasks.controller` once a view is recorded, before anything is acknowledged under it. Redis
only: nothing else lets connections be listed and closed. Must not know why a view changes.

A write that depends on what is there is decided by the leader, and the others are given what it holds then
(`worker/legs.rs`, `worker/repair.rs`). A proxy that has not heard that its leader has left would give them
what that one holds, and it lacks whatever is acknowledged from now on: an INCR through that proxy would undo
it. So connections that carry its requests are closed, behind the recording: a new one is shown the record
first.

That is done where the old leader is, if it has the new record: what others have under way then goes on by
what the rest answers, as when a leader is lost, and no client gets an error. If the old leader does not
answer us it may answer others, so it is done where the new members are; what others have under way there ends
with an unknown outcome. A leader whose process is gone decides nothing, and none is closed.

What remains: a leader that refuses one proxy and serves others (a network that refuses in its name), a server
that does not let connections be listed, and Memcached. There others go on until their next probe.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from proxy.control.fence import Owner, traffic_of_others
from proxy.control.model import Reason, View
from proxy.control.routing import resp_request
from proxy.control.view import encode, view_key
from proxy.log import Log
from proxy.tasks.link import Link, LinkError, Talk
from proxy.tasks.views import ARBITER_SECONDS
from proxy.tasks.wire import LISTING_BYTES_LIMIT, Reply, RespReader

_log = Log("parting")


async def part(
    leader: Link, members: Sequence[Link], view: View, owner: Owner, seconds: float, *, is_silent: bool
) -> None:
    """Closes what other proxies may still send by the view before.

    Args:
        leader: to the one of the view before.
        members: to those in sync now.
        owner: names our own connections, which stay.
        seconds: for each server.
        is_silent: the old leader has just been asked, in vain.
    """
    if not is_silent:
        try:
            record = await leader.exchange(_asking_for(view), min(seconds, ARBITER_SECONDS))
        except LinkError as error:
            if error.reason is Reason.REFUSED:
                return
        else:
            if record is None:
                return  # another process, which nobody is connected to yet
            if record == encode(view):
                await _close(leader, owner, seconds)
                return
    async with trio.open_nursery() as nursery:
        for link in members:
            nursery.start_soon(_close, link, owner, seconds)


def _asking_for(view: View) -> Callable[[Talk], Awaitable[Reply]]:
    async def work(talk: Talk) -> Reply:
        (record,) = await talk(resp_request("GET", view_key(view.pool, view.shard)), 1)
        return record

    return work


async def _close(link: Link, owner: Owner, seconds: float) -> None:
    """Where the server does not let us, others go on until their next probe."""

    async def work(talk: Talk) -> int:
        (listing,) = await talk(resp_request("CLIENT", "LIST"), 1)
        found = traffic_of_others(listing, owner) if isinstance(listing, bytes) else ()
        if found:
            requests = [resp_request("CLIENT", "KILL", "ID", str(number)) for number in found]
            await talk(b"".join(requests), len(requests))
        return len(found)

    apart = link.apart(partial(RespReader, LISTING_BYTES_LIMIT))
    try:
        count = await apart.exchange(work, seconds)
    except LinkError as error:
        _log.debug("connections of other proxies not closed", backend=link.address, reason=error.reason.value)
        return
    finally:
        apart.close()
    if count:
        _log.info("connections of other proxies closed", backend=link.address, connections=count)
