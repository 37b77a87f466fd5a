"""What the controller knows, in the words of the status page and the metrics list.

Called by `proxy.tasks.controller` when somebody asks. Reads values, changes none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from proxy.control.model import Phase, PoolSpec
from proxy.control.remap import Standing
from proxy.control.resync import Progress
from proxy.control.state import ShardState

Sample = tuple[str, tuple[str, ...], float]
"""Name without prefix, label values in the order of ``admin.metrics.METRICS``, value."""


@dataclass(slots=True)
class Counts:
    """Everything the controller counts, by the labels of its metric."""

    probes: Counter[tuple[str, ...]] = field(default_factory=Counter)
    state_changes: Counter[tuple[str, ...]] = field(default_factory=Counter)
    failovers: Counter[tuple[str, ...]] = field(default_factory=Counter)
    view_writes: Counter[tuple[str, ...]] = field(default_factory=Counter)
    engine_events: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def samples(self) -> Iterator[Sample]:
        """All counters that ever moved."""
        for name, counter in (
            ("backend_probes_total", self.probes),
            ("backend_state_changes_total", self.state_changes),
            ("failovers_total", self.failovers),
            ("view_writes_total", self.view_writes),
            ("engine_events_total", self.engine_events),
        ):
            for labels, count in counter.items():
                yield name, labels, float(count)


def status_body(
    pools: Sequence[tuple[PoolSpec, Sequence[ShardState]]],
    table_epoch: int,
    now: float,
    wall: float,
    progress: Mapping[tuple[tuple[str, str], str], Progress] | None = None,
    standings: Mapping[tuple[str, str], Standing] | None = None,
) -> dict[str, Any]:
    """The body of ``GET /api/v1/status``.

    Args:
        table_epoch: version of the routing table, the pools' ``epoch``.
        now, wall: the same moment by the controller's clock and as seconds since 1970.
        progress: resynchronisations that this proxy does, by pool and shard, and by backend.
        standings: of shards whose keys may be with others, by pool and shard.
    """
    return {
        "pools": {
            pool.name: {
                "epoch": table_epoch,
                "protocol": pool.protocol,
                "shards": {
                    shard.spec.name: _shard(shard, now, wall, progress or {}, standings or {})
                    for shard in shards
                },
            }
            for pool, shards in pools
        }
    }


_PHASES = {Standing.ABSENT: Phase.REMAPPED, Standing.SETTLING: Phase.REMAPPING}


def _shard(
    shard: ShardState,
    now: float,
    wall: float,
    progress: Mapping[tuple[tuple[str, str], str], Progress],
    standings: Mapping[tuple[str, str], Standing],
) -> dict[str, Any]:
    place = (shard.pool.name, shard.spec.name)
    moved = _PHASES.get(standings.get(place, Standing.PRESENT))
    return {
        "epoch": shard.epoch,
        "lead": shard.lead if moved is None else None,
        "phase": (moved or shard.phase).value,
        "reason": shard.reason.value,
        "backends": [
            {
                "address": member.address,
                "zone": spec.zone,
                "state": member.state.value,
                "drained": member.drained,
                "reason": member.reason.value,
                "since": _moment(wall - (now - member.since)),
                **_progress(progress.get((place, member.address)), now),
            }
            for member, spec in zip(shard.members, shard.spec.backends, strict=True)
        ],
    }


def _progress(progress: Progress | None, now: float) -> dict[str, Any]:
    if progress is None:
        return {}
    left = progress.seconds_left(now)
    work = {
        "phase": progress.phase.value,
        "bytes": progress.done,
        "expected_bytes": progress.total,
        "bytes_per_second": int(progress.rate(now)),
        "seconds_left": None if left is None else round(left, 1),
    }
    return {"resync": work}


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
