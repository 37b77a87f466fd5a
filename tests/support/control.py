"""What tests of the control plane share: short configurations, an engine that only remembers, a runner.

Called by tests under ``unit/`` and ``integration/`` that have no use for the real engine.
"""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import trio
from support.eventually import PATIENCE, POLL_SECONDS

from proxy.config import Config
from proxy.control.event import EngineEvent
from proxy.control.routing import Routing, ShardRouting
from proxy.tasks.controller import Controller

LIMIT_SECONDS = 20.0


def make_config(protocol: str, shards: Sequence[Sequence[str]], **pool: object) -> Config:
    """One pool ``p`` with shards ``s0``, ``s1``, ... of these addresses, probed every 100 ms."""
    settings: dict[str, object] = {
        "protocol": protocol,
        "listen": "127.0.0.1:0",
        "shards": [
            {"name": f"s{position}", "backends": list(addresses)} for position, addresses in enumerate(shards)
        ],
        "health": {"interval": "100ms", "timeout": "500ms", "fall": 3, "rise": 2},
        # A backend that is healed in the background changes under a test that is about something else.
        "resync": {"auto": False},
        **pool,
    }
    return Config.model_validate({"pools": {"p": settings}})


class FakePlane:
    """Takes tables as the engine does, and tells events that a test makes up."""

    def __init__(self) -> None:
        self.tables: list[Routing] = []
        self.is_started = False
        self.held: set[int] = set()
        """Shards whose writes are held."""
        self._events: deque[EngineEvent] = deque()
        self._told = trio.Event()

    def start(self, routing: Routing) -> None:
        assert not self.is_started
        self.is_started = True
        self.tables.append(routing)

    def publish(self, routing: Routing) -> None:
        assert self.is_started
        assert routing.epoch > self.tables[-1].epoch, "the engine refuses an epoch that does not rise"
        self.tables.append(routing)

    def locate(self, pool: int, key: bytes) -> tuple[int, int]:
        return 0, 0

    def pause_writes(self, pool: int, shard: int) -> bool:
        self.held.add(shard)
        return True

    def resume_writes(self, pool: int, shard: int) -> None:
        self.held.discard(shard)

    async def events(self) -> AsyncIterator[EngineEvent]:
        while True:
            while self._events:
                yield self._events.popleft()
            self._told = trio.Event()
            await self._told.wait()

    def tell(self, kind: str, shard: int, backend: int, detail: str = "") -> None:
        """As if a worker that holds the newest table had seen it."""
        event = EngineEvent(kind, 0, shard, backend, self.tables[-1].epoch, detail)
        self._events.append(event)
        self._told.set()

    def shard(self, position: int = 0) -> ShardRouting:
        """The shard in the newest table."""
        return self.tables[-1].pools[0].shards[position]


async def until(condition: Callable[[], Any], *, within: float = 5.0) -> None:
    """Waits for the condition in a trio task; the message has what the test's function is called."""
    limit = trio.current_time() + within * PATIENCE
    while not condition():
        if trio.current_time() > limit:
            raise AssertionError(f"not within {within} s: {condition.__qualname__}")
        await trio.sleep(POLL_SECONDS)


async def until_equal(ask: Callable[[], Awaitable[object]], expected: object, *, within: float = 5.0) -> None:
    """Asks until the answer is the expected one."""
    limit = trio.current_time() + within * PATIENCE
    while (answer := await ask()) != expected:
        if trio.current_time() > limit:
            raise AssertionError(f"not within {within} s: still {answer!r}")
        await trio.sleep(POLL_SECONDS)


def run_controller(config: Config, story: Callable[[Controller, FakePlane], Awaitable[None]]) -> None:
    """Runs ``story`` beside a controller that has published its first table."""

    async def main() -> None:
        plane = FakePlane()
        controller = Controller(config, plane, trio.current_time)
        with trio.fail_after(LIMIT_SECONDS * PATIENCE):
            async with trio.open_nursery() as nursery:
                await nursery.start(controller.run)
                await story(controller, plane)
                nursery.cancel_scope.cancel()

    trio.run(main)
