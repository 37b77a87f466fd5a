"""One pool's absent shards: does what `proxy.control.remap` decides, over the backends of the whole pool.

Made, fed (`Remapper.saw`) and asked by `proxy.tasks.controller`; there is one for each pool with
``on_shard_loss: remap``. Decides nothing itself, and changes no shard state. The rules, and why they are
right, stand in `proxy.control.remap`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Protocol

import trio

from proxy.control import remap as rules
from proxy.control.absence import blind_key, chore_key
from proxy.control.event import Commit, CommitWon
from proxy.control.model import BackendState, PoolSpec, ProbeResult, Reason, View
from proxy.control.remap import Action, Empty, Propose, PutBack, Standing, Sweep
from proxy.control.state import ShardState
from proxy.control.view import RESERVED_PREFIX
from proxy.log import Log
from proxy.tasks import keyspace, lease, swap, views
from proxy.tasks.link import Link, LinkError
from proxy.tasks.status import Sample

TURN_SECONDS, TURN_SHARE = 0.05, 0.05
"""Between two looks at the whole pool, and the share of time they may take: one at a thousand shards takes
some 15 ms, so there it is three a second."""
WITNESSES = 3
"""Backends that are told who is blind; enough that two proxies with a fault each share one."""
LEASE_SECONDS = 30.0
FRESH_EPOCHS = 16
"""How far the view of an emptied shard is ahead: a view that others make of the old members meanwhile is
one or two ahead, and must lose."""
STEP_SECONDS = 2.0
"""For one step of a walk through a keyspace."""
RESERVED = RESERVED_PREFIX.encode()

_log = Log("remap")


class Desk(Protocol):
    """What is needed of the controller, for one pool."""

    def shards(self) -> Sequence[ShardState]:
        """As they are now."""
        ...

    def link(self, address: str) -> Link:
        """The shared connection to a backend."""
        ...

    def open_link(self, address: str) -> Link:
        """One of our own."""
        ...

    def probe_now(self, address: str) -> None: ...

    def locate(self, key: bytes) -> tuple[int, int]:
        """Position of the shard that has the key by the table in force, and of its home."""
        ...

    async def republish(self) -> None:
        """The routing table is out of date."""
        ...


class Remapper:
    """The work for one pool.

    Args:
        desk: the pool.
        proxy: this proxy's id.
        clock: monotonic seconds.
    """

    def __init__(self, desk: Desk, pool: PoolSpec, proxy: str, clock: Callable[[], float]) -> None:
        self.remap = rules.new_remap(pool)
        self._desk = desk
        self._pool = pool
        self._proxy = proxy
        self._clock = clock
        self._standings: tuple[Standing, ...] = ()
        self._told: dict[str, int] = {}
        self._busy: set[str] = set()
        self._retry_at: dict[str, float] = {}
        self._is_urgent = False
        self._complaints: dict[str, str] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def __repr__(self) -> str:
        return f"<Remapper {self._pool.name} {self.remap.record}>"

    def saw(self, result: ProbeResult) -> bool:
        """Takes what a probe found; True if the routing table is out of date."""
        self._told.pop(result.address, None)
        if not result.absent_known:
            return False
        return self._become(rules.observe(self.remap, result.absent, self._clock()))

    def standing(self, shard: ShardState) -> Standing:
        """What the pool's keys have to do with the shard, now."""
        return rules.standing(self.remap, shard, self._clock())

    def standings(self) -> tuple[Standing, ...]:
        """Of all shards, by position."""
        return tuple(map(self.standing, self._desk.shards()))

    def samples(self) -> Iterator[Sample]:
        """What was counted here."""
        for (name, shard), count in self._counts.items():
            yield name, (self._pool.name, shard), float(count)

    async def run(self) -> None:
        """Never returns."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._say_blind)
            while True:
                began = self._clock()
                await self._turn(nursery)
                pause = max(TURN_SECONDS, (self._clock() - began) / TURN_SHARE)
                await trio.sleep(min(pause, self._pool.health.interval))

    async def _turn(self, nursery: trio.Nursery) -> None:
        shards = self._desk.shards()
        if not self.remap.has_begun and all(shard.is_contacted for shard in shards):
            self.remap = rules.begin(self.remap)
        remap, actions = rules.decide(self.remap, shards, self._clock())
        self._become(remap)
        for action in actions:
            self._perform(action, nursery)
        standings = self.standings()
        if standings != self._standings:
            self._standings = standings
            await self._desk.republish()

    def _perform(self, action: Action, nursery: trio.Nursery) -> None:
        if isinstance(action, Propose):
            nursery.start_soon(self._record, action)
        elif isinstance(action, PutBack):
            if self._told.get(action.address) != action.record.epoch:
                self._told[action.address] = action.record.epoch
                nursery.start_soon(self._put_back, action)
        elif isinstance(action, Empty):
            self._begin(f"empty {action.shard}", nursery, self._empty, action)
        else:
            self._is_urgent = action.is_urgent
            self._begin("sweep", nursery, self._sweep, action)

    def _begin(
        self, chore: str, nursery: trio.Nursery, work: Callable[..., Awaitable[str]], action: Action
    ) -> None:
        """Starts the work unless it is under way or was given up just now."""
        if chore in self._busy or self._clock() < self._retry_at.get(chore, 0.0):
            return
        self._busy.add(chore)
        nursery.start_soon(self._attempt, chore, work, action)

    async def _attempt(self, chore: str, work: Callable[[Action], Awaitable[str]], action: Action) -> None:
        trouble = ""
        try:
            witness = self._witnesses(1)
            if not witness or await self._claim(witness[0]):
                async with trio.open_nursery() as nursery:
                    if witness:
                        nursery.start_soon(self._keep_claim, witness[0])
                    trouble = await _outcome(work, action)
                    nursery.cancel_scope.cancel()
                if witness:  # whoever sees more than we do may try at once
                    key = chore_key(self._pool.name)
                    await lease.release(witness[0], key, self._proxy, self._pool.health.timeout)
        except LinkError as error:
            trouble = error.reason.value
        finally:
            self._busy.discard(chore)
            self._retry_at[chore] = self._clock() + self._pool.health.interval
        if trouble and trouble != self._complaints.get(chore):
            _log.warning("not done yet", pool=self._pool.name, what=chore, why=trouble)
        self._complaints[chore] = trouble

    async def _claim(self, witness: Link) -> bool:
        """True if this proxy is the one to empty and sweep. Two at once would do no harm."""
        key, seconds = chore_key(self._pool.name), self._pool.health.timeout
        return await lease.hold(witness, key, self._proxy, LEASE_SECONDS, seconds)

    async def _keep_claim(self, witness: Link) -> None:
        while True:
            await trio.sleep(LEASE_SECONDS / 3)
            try:
                await self._claim(witness)
            except LinkError as error:
                _log.debug("lease not prolonged", reason=error.reason.value)

    # The record.

    def _become(self, remap: rules.Remap, reason: Reason = Reason.ADOPTED) -> bool:
        before, self.remap = self.remap.record, remap
        after = remap.record
        if after == before:
            return False
        fields = {"pool": self._pool.name, "reason": reason.value, "epoch": after.epoch}
        for name in sorted(set(after.absent) - set(before.absent)):
            self._counts["shard_absences_total", name] += 1
            _log.warning("a lost shard's keys go to others", shard=name, **fields)
        for name in sorted(set(before.absent) - set(after.absent)):
            _log.info("an emptied shard has its keys again", shard=name, **fields)
        for name in sorted(set(before.floors) - set(after.floors) - set(after.absent)):
            _log.info("nothing is left of a shard elsewhere", shard=name, **fields)
        return True

    async def _record(self, action: Propose) -> None:
        outcome = swap.Outcome(False)
        try:
            links = {each: self._desk.link(each) for each in rules.answering(self._desk.shards())}
            outcome = await swap.record(action.record, links, self._pool.health.timeout)
            if not outcome.is_recorded and outcome.found is None:
                await trio.sleep(self._pool.health.interval)  # nobody could take it
        finally:
            now = self._clock()
            if outcome.is_recorded:
                self._told |= dict.fromkeys(outcome.told, action.record.epoch)
                changed = self._become(rules.recorded(self.remap, action.record, now), action.reason)
            else:
                changed = self._become(rules.refused(self.remap, action.record, outcome.found, now))
        if changed:
            await self._desk.republish()

    async def _put_back(self, action: PutBack) -> None:
        try:
            found = await swap.put(self._desk.link(action.address), action.record, self._pool.health.timeout)
        except LinkError as error:
            _log.debug("record not put back", backend=action.address, reason=error.reason.value)
            return
        if self._become(rules.observe(self.remap, found, self._clock())):
            await self._desk.republish()

    # Who may work, and who must not.

    def _witnesses(self, count: int) -> list[Link]:
        addresses = rules.answering(self._desk.shards(), but=self.remap.record.absent)
        return [self._desk.link(address) for address in addresses[:count]]

    async def _say_blind(self) -> None:
        health = self._pool.health
        lifetime = 3 * health.interval + 2 * health.timeout + 1
        while True:
            for name in rules.blind_to(self.remap, self._desk.shards()):
                for link in self._witnesses(WITNESSES):
                    try:
                        await swap.mark(
                            link, blind_key(self._pool.name, name), self._proxy, lifetime, health.timeout
                        )
                    except LinkError as error:
                        _log.debug("not told", backend=link.address, reason=error.reason.value)
            await trio.sleep(health.interval)

    async def _is_somebody_blind(self, shard: str) -> bool:
        for link in self._witnesses(WITNESSES):
            try:
                who = await swap.marked(link, blind_key(self._pool.name, shard), self._pool.health.timeout)
            except LinkError:
                continue
            # Our own is from before we could reach it; of several the last that wrote is seen, and each
            # writes more often than a shard can come back.
            if who not in (None, self._proxy.encode()):
                return True
        return False

    # Emptying.

    async def _empty(self, action: Empty) -> str:
        """What is in the way, or ""."""
        record = self.remap.data
        if await self._is_somebody_blind(action.shard):
            return "another proxy cannot reach it"
        began = self._clock()
        for address in action.addresses:
            link = self._desk.open_link(address)
            try:
                if await keyspace.empty(link, self._pool.name, self._pool.databases, record, STEP_SECONDS):
                    self._counts["shard_emptied_total", action.shard] += 1
            finally:
                link.close()
        shard = next(each for each in self._desk.shards() if each.spec.name == action.shard)
        floor = await self._fresh_view(shard, action.addresses) if shard.keeps_view else 0
        if self.remap.data != record:
            return "the record changed meanwhile"
        _log.info(
            "an absent shard was emptied",
            pool=self._pool.name,
            shard=action.shard,
            backends=len(action.addresses),
            seconds=round(self._clock() - began, 3),
        )
        self.remap, proposals = rules.emptied(self.remap, action.shard, floor)
        for proposal in proposals:
            assert isinstance(proposal, Propose)
            await self._record(proposal)
        return ""

    async def _fresh_view(self, shard: ShardState, addresses: Sequence[str]) -> int:
        """Epoch of the view of those that were emptied.

        Raises:
            LinkError: it could not be recorded.
        """
        lives = {member.address: member.seen.incarnation for member in shard.members if member.seen}
        runs = tuple(life.token if (life := lives.get(each)) else "" for each in addresses)
        names = self._pool.name, shard.spec.name
        view = View(*names, shard.epoch + FRESH_EPOCHS, addresses[0], tuple(addresses), runs)
        links = {address: self._desk.link(address) for address in addresses}
        outcome = await views.commit(Commit(view, view.in_sync), links, self._pool.health.timeout)
        if not isinstance(outcome, CommitWon) or outcome.missed:
            raise LinkError(Reason.VIEW_NOT_TAKEN)
        for address in addresses:
            self._desk.probe_now(address)
        return view.epoch

    # Sweeping.

    async def _sweep(self, action: Sweep) -> str:
        """What is in the way, or ""."""
        epoch = self.remap.record.epoch
        shards = self._desk.shards()
        homes = {*self.remap.record.absent, *self.remap.record.floors}
        movable = {position for position, shard in enumerate(shards) if shard.spec.name in homes}
        gone = {shard.spec.name for shard in shards if rules.is_gone(shard)}
        deleted = 0
        if self._pool.distribution != "random":  # where every shard has every key
            for position, shard in enumerate(shards):
                name = shard.spec.name
                if name in gone or self.standing(shard) is Standing.ABSENT:
                    continue  # it is emptied before it is used again
                holders = _holders(shard)
                if not holders:
                    return f"nobody leads {name}, which is not gone either"
                deleted += await self._sweep_shard(position, name, holders, movable, epoch)
                if self.remap.record.epoch != epoch:
                    return ""  # begin again by the new record
        # What a lost one still holds of the others is not known; of itself nothing is left elsewhere.
        names = tuple(name for name in action.shards if name in gone) or action.shards
        _log.info("leftovers were deleted", pool=self._pool.name, shards=list(names), keys=deleted)
        self.remap, proposals = rules.finished(self.remap, names, epoch)
        for proposal in proposals:
            assert isinstance(proposal, Propose)
            await self._record(proposal)
        return ""

    async def _sweep_shard(
        self, position: int, name: str, holders: Sequence[str], movable: set[int], epoch: int
    ) -> int:
        def is_leftover(key: bytes) -> bool:
            if key.startswith(RESERVED):
                return False
            now, home = self._desk.locate(key)
            return home in movable and now != position

        async def rest(seconds: float) -> None:
            """Half of the time of one connection at most, unless clients wait for the end of it."""
            await trio.sleep(0 if self._is_urgent else seconds)

        deleted = 0
        for address in holders:
            link = self._desk.open_link(address)
            try:
                is_all = False
                while not is_all and self.remap.record.epoch == epoch:
                    keys, is_all = await keyspace.walk(
                        link, self._pool.databases, is_leftover, rest, STEP_SECONDS
                    )
                    if self.remap.record.epoch == epoch:
                        deleted += await keyspace.delete(link, keys, rest, STEP_SECONDS)
            finally:
                link.close()
        self._counts["leftovers_deleted_total", name] += deleted
        return deleted


async def _outcome(work: Callable[[Action], Awaitable[str]], action: Action) -> str:
    """What was in the way, or ""."""
    try:
        return await work(action)
    except LinkError as error:
        return error.reason.value
    except keyspace.NotEmptied as error:
        return f"{error.reason.value}: {error.detail}"


def _holders(shard: ShardState) -> list[str]:
    """Who may be read from, now or soon; all others are filled anew before that."""
    if not shard.keeps_view:
        return [shard.members[0].address]
    wanted = (BackendState.IN_SYNC, BackendState.JOINING)
    return [member.address for member in shard.members if member.state in wanted]
