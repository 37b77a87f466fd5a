"""Ends what other proxies send by a view that is over, where another backend leads from now on.

Called by `proxy.tasks.controller` once a view is recorded, before anything is acknowledged under it. Redis
only: nothing else lets connections be listed and closed. Must not know why a view changes.

A write that depends on what is there is decided by the leader, and the others are given what it holds then
(`worker/legs.rs`, `worker/repair.rs`). A proxy that has not heard that its leader has left would give them
what that one holds, and it lacks whatever is acknowledged from now on: an INCR through that proxy would undo
it. So where the old leader has taken the record, the connections there that carry others' requests are
closed: a new one is shown the record first. What they have under way goes on by what the rest answers, as
when a leader is lost, and no client gets an error.

What remains: a leader that this proxy does not reach, or that takes no record, while it serves others, a
server that does not let connections be listed, and Memcached. There others go on until their next probe.
Closing their connections to the new members instead would end reads which have left the lost leader already
and have nowhere else to go.
"""

from __future__ import annotations

from proxy.control.fence import Owner, traffic_of_others
from proxy.control.routing import resp_request
from proxy.log import Log
from proxy.tasks.link import Link, LinkError, Talk
from proxy.tasks.wire import listing_reader

_log = Log("parting")


async def part(leader: Link, owner: Owner, seconds: float) -> None:
    """Closes what other proxies have open to the leader of the view before, which has taken the new one.

    Args:
        leader: to that backend.
        owner: names our own connections, which stay.
        seconds: for all of it.
    """

    async def work(talk: Talk) -> int:
        (listing,) = await talk(resp_request("CLIENT", "LIST"), 1)
        found = traffic_of_others(listing, owner) if isinstance(listing, bytes) else ()
        if found:
            requests = [resp_request("CLIENT", "KILL", "ID", str(number)) for number in found]
            await talk(b"".join(requests), len(requests))
        return len(found)

    apart = leader.apart(listing_reader)
    try:
        count = await apart.exchange(work, seconds)
    except LinkError as error:
        _log.debug(
            "connections of other proxies not closed", backend=leader.address, reason=error.reason.value
        )
        return
    finally:
        apart.close()
    if count:
        _log.info("connections of other proxies closed", backend=leader.address, connections=count)
