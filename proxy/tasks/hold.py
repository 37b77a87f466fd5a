"""Writes to one shard held in this proxy's engine for as long as a view says so, and the leader told.

Made and steered by `proxy.tasks.controller`. Must not know why writes are held, nor who waits for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from proxy.control.fence import Owner
from proxy.control.routing import resp_request
from proxy.errors import EngineError
from proxy.log import Log
from proxy.tasks.link import Link, LinkError, Talk
from proxy.tasks.wire import ErrorReply, reason_of

_log = Log("hold")


class Brake(Protocol):
    """What is needed of `proxy.dataplane.Dataplane`."""

    def pause_writes(self, pool: int, shard: int) -> bool: ...
    def resume_writes(self, pool: int, shard: int) -> None: ...


class Hold:
    """One shard's writes.

    Args:
        brake: the engine.
        place: positions of pool and shard.
        owner: names this proxy's connections.
        link_of: the control connection to a backend.
        seconds: for telling the leader.
    """

    def __init__(
        self,
        brake: Brake,
        place: tuple[int, int],
        owner: Owner,
        link_of: Callable[[str], Link],
        seconds: float,
    ) -> None:
        self._brake = brake
        self._place = place
        self._owner = owner
        self._link_of = link_of
        self._seconds = seconds
        self._epoch = 0
        self._leader = ""
        self._changed = trio.Event()

    def __repr__(self) -> str:
        return f"<Hold {self._owner.control(self._epoch)}>"

    def steer(self, epoch: int, leader: str) -> None:
        """Holds writes under the view of ``epoch`` and tells ``leader``; 0: lets them go."""
        if epoch != self._epoch:
            self._epoch, self._leader = epoch, leader
            self._changed.set()
            self._changed = trio.Event()

    async def run(self) -> None:
        """Never returns. One at a time, so that a slow hold cannot outlive the order to let go."""
        while True:
            if not self._epoch:
                await self._changed.wait()
                continue
            try:
                while self._epoch:
                    await self._hold_once()
            except EngineError as error:
                _log.debug("writes not held", error=str(error))
                await self._changed.wait()
            # Not when cancelled: what the leader was told must stay true until the process has ended.
            self._resume()

    async def _hold_once(self) -> None:
        epoch, leader, changed = self._epoch, self._leader, self._changed
        is_quiet = await trio.to_thread.run_sync(self._brake.pause_writes, *self._place)
        link = self._link_of(leader)
        if is_quiet and epoch == self._epoch:
            link.name = self._owner.control(epoch)
            try:
                await link.exchange(_rename(link.name), self._seconds)
            except LinkError as error:
                _log.debug("leader not told that writes are held", backend=leader, reason=error.reason.value)
        await changed.wait()
        link.name = self._owner.control()

    def _resume(self) -> None:
        try:
            self._brake.resume_writes(*self._place)
        except EngineError as error:
            _log.debug("writes not resumed", error=str(error))


def _rename(name: str) -> Callable[[Talk], Awaitable[None]]:
    async def work(talk: Talk) -> None:
        (reply,) = await talk(resp_request("CLIENT", "SETNAME", name), 1)
        if isinstance(reply, ErrorReply):
            raise LinkError(reason_of(reply))

    return work
