"""Whether all proxies say the same, and whether all backends are in sync again.

Called by `chaos.run` between faults and in the end. Asks the proxies, judges nothing.
"""

from __future__ import annotations

import time
from typing import Any

from chaos.faults import Stage
from support.eventually import eventually

REST_SECONDS = 20.0
"""Longest wait for all proxies to agree once nothing is broken any more."""
HEAL_SECONDS = 20.0
"""Longest time to bring back a backend that holds next to nothing."""

LATE_SECONDS = 0.9
"""A request timeout, and the view that follows from it. Whoever breaks the next backend before that may break
the last one in sync."""

Status = dict[str, dict[str, Any]]


def at_rest(stage: Stage) -> Status | None:
    """What all proxies say of the shards, if they say the same and each shard is led."""
    views = [outline(proxy.status()["pools"]["p"]["shards"]) for proxy in stage.proxies]
    if any(view != views[0] for view in views) or any(shard["lead"] is None for shard in views[0].values()):
        return None
    return views[0]


def heals(stage: Stage) -> bool:
    """Waits until every proxy finds every backend in sync, and still does when what was under way during the
    last fault has timed out; False if that takes too long."""

    def is_whole() -> bool:
        return all(set(proxy.backend_states("p").values()) == {"in_sync"} for proxy in stage.proxies)

    def stays_whole() -> bool:
        if not is_whole():
            return False
        time.sleep(LATE_SECONDS)
        return is_whole()

    try:
        return eventually(stays_whole, within=HEAL_SECONDS)
    except AssertionError:
        return False


def outline(shards: Status) -> Status:
    return {
        name: {
            "lead": shard["lead"],
            "epoch": shard["epoch"],
            "in_sync": sorted(b["address"] for b in shard["backends"] if b["state"] == "in_sync"),
        }
        for name, shard in shards.items()
    }


def in_sync(status: Status, shard: int) -> list[str]:
    found: list[str] = status[f"s{shard + 1}"]["in_sync"]
    return found
