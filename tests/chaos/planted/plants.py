"""The faults that `plant` puts into a copy of the source, each as small as a slip of the pen.

A plant replaces a text that stands in a file exactly once; `tests/unit/test_chaos_plants.py` says which
the code has outgrown. Those of a protocol's resynchronisation need schedules that expect it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plant:
    """One planted fault.

    Args:
        file: relative to the root of the source.
        seeds: schedules that bring it to light, the likeliest first.
        rules: those that may be the first to notice.
    """

    meaning: str
    file: str
    old: str
    new: str
    seeds: tuple[int, ...]
    rules: tuple[str, ...]

    @property
    def needs_build(self) -> bool:
        """Whether it is in the engine."""
        return self.file.endswith(".rs")


WORKER = "proxy/engine/src/worker/"
FOLLOWING = "proxy/tasks/following.py"
LOSSES = ("stale read", "stale increment", "repeated answer", "lost write", "disagreement", "divergence")
"""What a backend shows that is taken for in sync and is not."""

PLANTS: Mapping[str, Plant] = {
    "acknowledge_before_replica": Plant(
        "with `ack: all`, the client is answered as soon as the leader has answered",
        WORKER + "replicate.rs",
        "Ack::All => outstanding & required == 0 && state.check.is_none(),",
        "Ack::All => lead_done,",
        (94, 34, 19, 11, 1),
        ("stale read", "stale increment", "disagreement", "lost write", "divergence"),
    ),
    "skip_view_commit": Plant(
        "a new view is published without having been recorded anywhere",
        "proxy/tasks/views.py",
        "        return await link.exchange(work, seconds)",
        "        return Stored()",
        (30, 41, 53),
        (
            "stale read",
            "stale increment",
            "lost write",
            "disagreement",
            "no rest",
            "failed read",
            "divergence",
        ),
    ),
    "drop_held_entry": Plant(
        "a write that waited for the leader's decision is never sent to the replicas",
        WORKER + "replicate.rs",
        "        } else if copy.is_none() {\n            state.check = None;",
        "        } else {\n            copy = None;\n            state.check = None;",
        (19, 7, 1, 91),
        ("divergence", "stale read", "lost write"),
    ),
    "read_from_stale_backend": Plant(
        "a backend that another proxy has taken out of the view is read from as before",
        "proxy/control/transitions.py",
        "(_IN, _F.OUTSIDE): Move(_STALE),",
        "(_IN, _F.OUTSIDE): Move(_IN),",
        (70, 36, 35, 98),
        ("stale read", "stale increment", "lost write", "repeated answer", "disagreement"),
    ),
    "lie_about_lost_writes": Plant(
        "a write whose connection broke is answered as not applied",
        "proxy/engine/src/error.rs",
        "-ERR outcome unknown: the connection to the backend was lost, the write may have been applied",
        "-CLUSTERDOWN the connection to the backend was lost, nothing was applied",
        (22, 46, 105, 15, 73),
        ("dishonest error", "double increment"),
    ),
    "copy_without_verification": Plant(
        "what was copied to a Memcached is not compared with what the leader holds by then",
        "proxy/tasks/memcached_copying.py",
        "if is_changed(item, now_there)",
        "if is_changed(item, item)",
        (131, 362, 213, 117),
        LOSSES,
    ),
    "admit_without_offset": Plant(
        "a backend stops being a replica before it has applied all that the leader wrote",
        FOLLOWING,
        "if not has_caught_up(leader, target) or record != shard.record:",
        "if not target.is_linked:",
        (1354, 459, 222),
        LOSSES,
    ),
    "skip_fence": Plant(
        "a backend is admitted without waiting until all proxies hold their writes",
        FOLLOWING,
        "if is_held_here and not found.missing:",
        "if found is not None:",
        (282, 442, 684),
        LOSSES,
    ),
    # Not here, since other rules stand before it: a copy that overwrites what was written meanwhile (the
    # verification takes it back), and REPLICAOF without a look at the target's record (the lease, and the run
    # id of the leader; the model shows it, tests/model, `guarded`).
}
