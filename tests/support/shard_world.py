"""A shard whose world is a handful of values: for tests of its state machine, without clock or IO."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.control.event import (
    Action,
    Commit,
    CommitWon,
    Event,
    Probed,
)
from proxy.control.model import (
    BackendSpec,
    HealthSpec,
    Incarnation,
    PoolSpec,
    ProbeResult,
    Reason,
    ShardSpec,
    View,
)
from proxy.control.shard import step
from proxy.control.state import ShardState, new_shard

A, B, C = "a:1", "b:1", "c:1"


class World:
    """A shard under test, its actions since the last look, and a clock that only moves by hand."""

    def __init__(self, *addresses: str, **pool: object) -> None:
        spec = ShardSpec("s", tuple(BackendSpec(each) for each in addresses))
        settings: dict[str, object] = {"health": HealthSpec(interval=1.0, fall=3, rise=2), **pool}
        self.now = 0.0
        self.shard: ShardState = new_shard(PoolSpec("p", "redis", (spec,), **settings), spec, 0.0)  # type: ignore[arg-type]
        self.actions: list[Action] = []

    def happen(self, *events: Event) -> World:
        for event in events:
            self.shard, actions = step(self.shard, event, self.now)
            self.actions.extend(actions)
        return self

    def answer(
        self, address: str, run: str | None = None, record: bytes | None = None, **facts: object
    ) -> World:
        known: dict[str, object] = {"record_known": True, "flushes": 0, "items": 0, **facts}
        token = run if run is not None else f"run-{address}"
        return self.happen(
            Probed(ProbeResult(address, incarnation=Incarnation(token), record=record, **known))  # type: ignore[arg-type]
        )

    def current(self, *addresses: str) -> World:
        for address in addresses:
            self.answer(address, record=self.shard.record)
        return self

    def fail(
        self, address: str, reason: Reason = Reason.TIMEOUT, times: int = 1, panic: bool = False
    ) -> World:
        for _ in range(times):
            self.happen(Probed(ProbeResult(address, failure=reason), panic))
        return self

    def proposed(self) -> View:
        commits = [each.view for each in self.actions if isinstance(each, Commit)]
        self.actions.clear()
        assert commits, "no view was proposed"
        return commits[-1]

    def win(self) -> View:
        view = self.proposed()
        self.happen(CommitWon(view))
        return view

    def states(self) -> dict[str, str]:
        return {each.address: each.state.value for each in self.shard.members}


def serving(*addresses: str, **pool: object) -> World:
    """A shard whose backends were all empty at first contact and are all in sync, at epoch 1."""
    world = World(*addresses, **pool)
    for address in addresses:
        world.answer(address)
    world.win()
    world.current(*addresses)
    world.actions.clear()
    assert world.shard.in_sync == addresses
    return world


def view_of(epoch: int, lead: str, in_sync: Sequence[str], **runs: str) -> View:
    return View(
        "p", "s", epoch, lead, tuple(in_sync), tuple(runs.get(each[0], f"run-{each}") for each in in_sync)
    )
