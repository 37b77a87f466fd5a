"""The plan of a resynchronisation, and what the servers say of it. Values in, values out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.control.following import (
    LAG_BYTES,
    Server,
    advance,
    has_caught_up,
    judge,
    read_server,
)
from proxy.control.resync import (
    STALL_SECONDS,
    Phase,
    Progress,
    Trouble,
    backoff,
)

A, B, C = "a:1", "b:1", "c:1"
LATER = 100.0
"""When every proxy has long followed the view."""
LEADER = Server("master", "ra", 1_000_000, "h", memory=5000)
REPLICA = Server("slave", "rb", 1_000_000, "h", is_linked=True)

REPLICA_INFO = {
    "role": "slave",
    "run_id": "rb",
    "master_replid": "h",
    "master_link_status": "up",
    "master_sync_in_progress": "0",
    "slave_repl_offset": "70",
    "master_repl_offset": "71",
    "used_memory_dataset": "900",
}


# What the servers say.


def test_a_linked_replica() -> None:
    assert read_server(REPLICA_INFO) == Server("slave", "rb", 70, "h", True, memory=900)


@pytest.mark.parametrize(
    "change", [{"master_link_status": "down"}, {"master_sync_in_progress": "1"}, {"role": "master"}]
)
def test_a_server_that_is_no_linked_replica(change: dict[str, str]) -> None:
    assert not read_server(REPLICA_INFO | change).is_linked


def test_a_copy_under_way_and_a_server_that_does_not_know_how_much() -> None:
    info = {**REPLICA_INFO, "master_link_status": "down", "master_sync_in_progress": "1"}
    found = read_server(info | {"master_sync_read_bytes": "12", "master_sync_total_bytes": "-1"})
    assert (found.received, found.expected) == (12, 0)


@pytest.mark.parametrize(
    ("leader", "target", "expected"),
    [
        ({}, {}, Phase.SWITCHING),
        ({}, {"offset": 1_000_000 - LAG_BYTES}, Phase.SWITCHING),
        ({}, {"offset": 1_000_000 - LAG_BYTES - 1}, Phase.FOLLOWING),
        ({}, {"is_linked": False}, Phase.COPYING),
        ({}, {"role": "master", "is_linked": False}, Phase.LINKING),
        ({}, {"history": "other"}, Trouble.OTHER_MASTER),
        ({}, {"run": "reborn"}, Trouble.TARGET_CHANGED),
        ({"run": "reborn"}, {}, Trouble.LEADER_CHANGED),
        ({"role": "slave"}, {}, Trouble.LEADER_CHANGED),
    ],
)
def test_what_is_due(leader: dict[str, object], target: dict[str, object], expected: object) -> None:
    found = judge(replace(LEADER, **leader), replace(REPLICA, **target), "ra", "rb")  # type: ignore[arg-type]
    assert found is expected


def test_a_leader_that_hides_its_process_is_judged_by_the_rest() -> None:
    assert judge(replace(LEADER, run=""), REPLICA, "ra", "rb") is Phase.SWITCHING
    assert judge(LEADER, REPLICA, "", "") is Phase.SWITCHING


def test_caught_up_is_to_the_byte() -> None:
    assert has_caught_up(LEADER, REPLICA)
    assert not has_caught_up(LEADER, replace(REPLICA, offset=999_999))
    assert not has_caught_up(LEADER, replace(REPLICA, is_linked=False))
    assert not has_caught_up(LEADER, replace(REPLICA, history="other")), (
        "offsets of two histories mean nothing"
    )


def test_progress_and_its_estimate() -> None:
    progress = Progress(A, B, 0.0, 0.0, Phase.LINKING)
    assert progress.seconds_left(5.0) is None
    progress = advance(progress, Phase.COPYING, LEADER, replace(REPLICA, received=1000), 10.0)
    assert (progress.done, progress.total, progress.rate(10.0)) == (1000, 5000, 100.0)
    assert progress.seconds_left(10.0) == 40.0
    progress = advance(progress, Phase.COPYING, LEADER, replace(REPLICA, received=2000, expected=3000), 20.0)
    assert (progress.total, progress.seconds_left(20.0)) == (3000, 10.0)


def test_a_copy_that_does_not_move_is_stalled() -> None:
    progress = Progress(A, B, 0.0, 0.0, Phase.LINKING)
    target = replace(REPLICA, received=1000)
    progress = advance(progress, Phase.COPYING, LEADER, target, 10.0)
    progress = advance(progress, Phase.COPYING, LEADER, target, 20.0)
    assert not progress.is_stalled(10.0 + STALL_SECONDS)
    assert progress.is_stalled(10.1 + STALL_SECONDS)
    assert not advance(progress, Phase.FOLLOWING, LEADER, target, 30.0).is_stalled(1e6)


def test_backoff_grows_to_a_limit() -> None:
    waits = [backoff(failures) for failures in range(1, 30)]
    assert waits[0] == 0.5
    assert waits == sorted(waits)
    assert waits[-1] == 30.0
