"""Who may have led a shard until now, for proxies that have not heard of the view that we begin to follow.

Called by `proxy.control.shard` for each such view. Values only. A proxy decides a write by its leader only
while all in sync have lately shown it its own view (`WRITE_LEASE_SECONDS`). So if another leads from now on,
nothing may be acknowledged until that is over for everybody: the engine waits (`worker/renew.rs`), where
`ShardState.succeeds`. What that needs was tried in ``tests/model`` (``decide``).
"""

from __future__ import annotations

from dataclasses import replace

from proxy.control.model import View
from proxy.control.state import ShardState

UNSEEN_RETURN = 3
"""So many views take a backend out, list it as joining, and have it in sync again, to lead perhaps."""


def note(shard: ShardState, before: View | None, view: View) -> ShardState:
    """The shard, which follows ``view`` from now on and followed ``before``, with the succession there is."""
    members = tuple(each.address for each in shard.members)
    if before is None:
        predecessors = tuple(each for each in members if each not in view.in_sync)
    elif view.epoch >= before.epoch + UNSEEN_RETURN:
        predecessors = members
    elif before.lead not in view.in_sync:
        # Of several that left one after the other, each may have led when the one before it had.
        is_next = view.epoch == before.epoch + 1
        left = tuple(each for each in before.in_sync if each not in view.in_sync)
        predecessors = (before.lead,) if is_next else left
    else:
        return shard
    return replace(shard, predecessors=predecessors, succession=view.epoch) if predecessors else shard
