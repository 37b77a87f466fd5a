"""Finds out that a backend is being refilled, and by whom, and breaks something just then.

Called by `chaos.run`. What is done is in `chaos.faults`; whom it hits can only be seen in the run.
"""

from __future__ import annotations

import http.client
import time
from dataclasses import replace
from math import inf

from chaos.faults import DEEDS, Stage
from chaos.schedule import SORTS, Fault, Target

LOOK_SECONDS = 0.01
"""Between two looks."""


def disturb(stage: Stage, fault: Fault, within: float) -> tuple[Fault, int] | None:
    """Does a fault while a backend of its shard is refilled: ``fault.during`` says to whom.

    One that hits the last copy begins a blackout, which lasts until the shard is whole again.

    Args:
        within: longest wait for that to begin, in seconds.

    Returns:
        The fault as it was done, and how often it bit; None if nothing was refilled or nobody was there.
    """
    until = time.monotonic() + within
    while (found := _refill(stage, fault)) is None:
        if time.monotonic() > until:
            return None
        time.sleep(LOOK_SECONDS)
    worker, source, target, in_sync = found
    time.sleep(fault.at)
    if fault.during == "another":
        others = [each for each in range(len(stage.proxies)) if each != worker]
        if not others:
            return None
        worker = others[0]
    # A delay of the worker is one of its way to the source.
    is_source = fault.during == "source" or (fault.during == "worker" and fault.sort == "delay")
    is_last = is_source and in_sync < 2
    if is_last and SORTS[fault.sort].target is not Target.LINK:
        stage.blackouts.append((time.monotonic(), inf))
    done = replace(
        fault,
        sort="stop" if fault.sort == "kill" and is_last and not stage.is_persistent else fault.sort,
        backend=target if fault.during == "target" else source,
        proxy=worker if fault.during in ("worker", "another") else None,
    )
    return done, DEEDS[done.sort](stage, done)


def _refill(stage: Stage, fault: Fault) -> tuple[int, int, int, int] | None:
    """The proxy that has a backend of the shard refilled, the positions of source and target, and how many
    are in sync."""
    addresses = [gate.address for gate in stage.gates[fault.shard]]
    for number, proxy in enumerate(stage.proxies):
        try:
            shard = proxy.status()["pools"]["p"]["shards"][f"s{fault.shard + 1}"]
        except (OSError, http.client.HTTPException):
            continue
        in_sync = sum(each["state"] == "in_sync" for each in shard["backends"])
        for each in shard["backends"]:
            if "resync" in each and shard["lead"] is not None:
                source, target = addresses.index(shard["lead"]), addresses.index(each["address"])
                return number, source, target, in_sync
    return None
