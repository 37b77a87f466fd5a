"""How a Redis that missed writes is brought back by its own replication. Values only.

Called by `proxy.tasks.following`, which asks the servers and does what is said here. Must not know sockets,
tasks or the clock.

    stale ──► LINKING ──► COPYING ──► FOLLOWING ──► SWITCHING ──► in sync
              REPLICAOF   full sync   small lag     writes held

While the target is a replica, the servers' own replication brings it every write that reaches the leader,
whichever proxy sent it. So nothing can be missed until it stops being one, and all that has to be shown is
that no write reaches the leader alone between that moment and the moment when every proxy knows the target
as in sync. That is what SWITCHING does, with three facts to lean on:

 1. A view is recorded on the leader by compare-and-set, and whoever follows a view that lists somebody as
    joining sends no writes to the shard.
 2. A proxy says in the name of its control connection that its writes are held under that view, once none
    is in flight (`proxy.tasks.hold`).
 3. A new connection carries nothing before the leader has shown the record that the proxy knows.

The view E+1 with the target joining is recorded on the leader. Then CLIENT LIST there shows every connection
of every proxy. Each proxy in it holds its writes (2), or is waited for, and in the end its connections are
cut. A connection that comes after the list was made sees E+1 or newer (3), so its proxy follows that, and
holds its writes (1). So from the list on, no write reaches the leader while E+1 is the shard's view: the
offsets, once equal, stay equal, and the target may stop being a replica. E+2 with it in sync is recorded on
the leader if E+1 still stands there, then on the target, and writes go on, to both. A proxy that still
follows an older view can reach neither the leader (3) nor, for the same reason, the target.

What a proxy sent the target before it gave it up may come late, from a network that held it back. A replica
refuses it, so the target's connections that carry requests are closed before it stops being one.

REPLICAOF gives up what the target holds, so it is sent only if the target's record, at that moment, is no
newer than the sender's view (WATCH and MULTI): by then another proxy may have brought it back. For the same
reason the target has the record of E+1, through replication, before it stops being a replica.

If the proxy that does all this dies, whoever follows E+1 records an E+2 without the target after a moment
(`ShardState.joining_since`). Compare-and-set lets one E+2 win. The lease only keeps two proxies from doing
the same work: nothing above depends on it.

Out of reach of this argument, as of any: a write that a proxy had given up (its client got an error) and
that the leader reads from its socket only after it has answered CLIENT LIST.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from proxy.control.resync import Phase, Progress, Trouble

LAG_BYTES = 256 * 1024
"""Small enough to be applied within milliseconds once writes are held."""
NOT_ALLOWED = ("unknown command", "unknown subcommand", "not allowed", "not permitted", "not supported")
"""How servers say that a command was taken away: renamed, denied, or not for clients of a managed service."""
CUT_TRIES = 3
"""The switch is tried so often before connections of proxies that do not answer are cut: theirs may be
requests in flight, whose clients then get an error."""


@dataclass(frozen=True, slots=True)
class Server:
    """What INFO says about one server's part in replication.

    Args:
        run: its run_id.
        offset: bytes of the replication stream it wrote (master) or applied (replica).
        history: the stream's id.
        is_linked: as a replica: the link to the master is up and the first copy is done.
        received, expected: bytes of the first copy; 0 where unknown.
        memory: bytes its data takes; what travels is mostly less.
    """

    role: str
    run: str
    offset: int
    history: str
    is_linked: bool = False
    received: int = 0
    expected: int = 0
    memory: int = 0


def is_not_allowed(error: str) -> bool:
    """True if a server's error says that it will never take the command, rather than not now."""
    text = error.lower()
    return text.startswith("noperm") or any(words in text for words in NOT_ALLOWED)


def read_server(info: Mapping[str, str]) -> Server:
    """The server whose INFO (sections server, replication, memory) this is."""

    def number(name: str) -> int:
        text = info.get(name, "")
        return int(text) if text.isdigit() else 0

    role = info.get("role", "")
    is_replica = role == "slave"
    return Server(
        role=role,
        run=info.get("run_id", ""),
        offset=number("slave_repl_offset" if is_replica else "master_repl_offset"),
        history=info.get("master_replid", ""),
        is_linked=is_replica
        and info.get("master_link_status") == "up"
        and info.get("master_sync_in_progress") == "0",
        received=number("master_sync_read_bytes"),
        expected=number("master_sync_total_bytes"),
        memory=number("used_memory_dataset"),
    )


def judge(leader: Server, target: Server, leader_run: str, target_run: str) -> Phase | Trouble:
    """Where the copy is. SWITCHING: it may be tried.

    Args:
        leader_run: token of the leader in the view, "" if it hides it.
        target_run: token of the target when the work began.
    """
    if leader.role != "master" or (leader_run and leader.run and leader.run != leader_run):
        return Trouble.LEADER_CHANGED
    if target_run and target.run and target.run != target_run:
        return Trouble.TARGET_CHANGED
    if target.role != "slave":
        return Phase.LINKING
    if not target.is_linked:
        return Phase.COPYING
    if target.history != leader.history:
        return Trouble.OTHER_MASTER
    return Phase.SWITCHING if leader.offset - target.offset <= LAG_BYTES else Phase.FOLLOWING


def has_caught_up(leader: Server, target: Server) -> bool:
    """True if the target has applied all that the leader wrote before it was asked."""
    return target.is_linked and target.history == leader.history and target.offset >= leader.offset


def advance(progress: Progress, phase: Phase, leader: Server, target: Server, now: float) -> Progress:
    """The progress after a look at both servers."""
    done, total = progress.done, target.expected or leader.memory
    if phase is Phase.COPYING:
        done = max(done, target.received)
    elif phase is not Phase.LINKING:
        done = total = max(done, min(total, leader.memory))
    is_moving = phase is not progress.phase or done != progress.done
    moved = now if is_moving else progress.moved
    return replace(progress, phase=phase, done=done, total=max(total, done), moved=moved)
