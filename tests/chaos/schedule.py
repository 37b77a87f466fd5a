"""What is broken when, drawn from a seed: a value that can be printed, repeated and judged by.

Called by `chaos.run`. Decides everything by the seed alone, without IO, so a number names a schedule on
every machine; when the requests of the clients fall between the faults is up to the machine.

One backend of each shard, its *survivor*, is never touched, for as long as a backend that fell out of
sync stays out (`Capabilities.resynchronises` False): it alone is then certain to hold everything. Where a
shard has one backend only, nothing is done to it that loses data; then writes of unknown outcome abound.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

PROTOCOLS = ("redis", "memcached")


class Target(Enum):
    """What a fault is done to."""

    BACKEND = "backend"
    ROUTE = "route"
    """The network between backend and proxies, all of them or one."""
    PROXY = "proxy"
    SHARD = "shard"
    """All backends of a shard, the survivor included, which loses nothing by it."""
    LINK = "link"
    """The network between a backend and those that copy from it."""


@dataclass(frozen=True, slots=True)
class Sort:
    """A sort of fault.

    Args:
        weight: in the first draw.
        protocols: those it exists for.
        needs: what a machine may lack: ``network`` (namespaces with a wire), ``clock`` (that jumps). Such
            faults take the place of others in some schedules, so that a seed noted before there were any is
            still the schedule that it was.
    """

    target: Target
    weight: int = 0
    protocols: tuple[str, ...] = PROTOCOLS
    needs: str = ""


SORTS: Mapping[str, Sort] = {
    "kill": Sort(Target.BACKEND, 5),
    "stop": Sort(Target.BACKEND, 4),
    "oom": Sort(Target.BACKEND, 1, ("redis",)),
    "misconf": Sort(Target.BACKEND, 1, ("redis",)),
    "oom_all": Sort(Target.SHARD, 1, ("redis",)),
    "stop_all": Sort(Target.SHARD, 1),
    "reset": Sort(Target.ROUTE, 3),
    "cut": Sort(Target.ROUTE, 3),
    "cut_reset": Sort(Target.ROUTE, 2),
    "black_hole": Sort(Target.ROUTE, 3),
    "delay": Sort(Target.ROUTE, 3),
    "refuse": Sort(Target.ROUTE, 2),
    "proxy_kill": Sort(Target.PROXY, 2),
    "proxy_restart": Sort(Target.PROXY, 2),
    "loss": Sort(Target.ROUTE, needs="network"),
    "partition": Sort(Target.ROUTE, needs="network"),
    "lose_requests": Sort(Target.ROUTE, needs="network"),
    "lose_replies": Sort(Target.ROUTE, needs="network"),
    "reorder": Sort(Target.ROUTE, needs="network"),
    "clock": Sort(Target.BACKEND, needs="clock"),
    "proxy_clock": Sort(Target.PROXY, needs="clock"),
    # Only while a backend is being refilled.
    "link_reset": Sort(Target.LINK, protocols=("redis",)),
    "link_hole": Sort(Target.LINK, protocols=("redis",)),
    "link_delay": Sort(Target.LINK, protocols=("redis",)),
    "proxy_stop": Sort(Target.PROXY),
}
"""All faults; how each is done is in `chaos.faults`."""


NEEDS: Mapping[str, float] = {"network": 0.2, "clock": 0.15}
"""Share of the schedules with faults that need it."""
LARGE_SHARE = 0.4
"""Of the schedules that can have large values, those that do."""
SHARE = 0.7
"""Of the faults of such a schedule."""
JUMPS_SECONDS = (2.0, 10.0, 120.0)
"""Of clocks, either way. Expiries that the workload sets are longer, so no key may come or go by it."""
SHARD_STOP_SECONDS = 0.15
"""Of all its backends: shorter than the time limits, so that nobody may notice but by waiting."""

DISTURBING: tuple[tuple[str, str], ...] = (
    ("kill", "source"), ("kill", "target"), ("stop", "source"), ("stop", "target"),
    ("link_reset", "source"), ("link_hole", "source"), ("link_delay", "source"),
    ("black_hole", "source"), ("refuse", "target"), ("delay", "source"),
    ("proxy_kill", "worker"), ("proxy_stop", "worker"), ("proxy_stop", "another"),
    ("proxy_restart", "worker"),
)  # fmt: skip
"""What may happen to whom while a backend is refilled. A source that holds the last copy is stopped, not
killed: `chaos.faults` sees to that, since only the run shows which one that is."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the proxy can do by now.

    Args:
        resynchronises: the protocols whose backends are brought up to date when they return. Then faults
            wander over all backends, each when all shards are whole again, whatever moment was drawn for it.
    """

    resynchronises: frozenset[str] = frozenset()


PRESENT = Capabilities(frozenset(PROTOCOLS))
"""What it can do at present."""
NOTHING = Capabilities()


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Args:
        at, seconds: when, after the start of the clients, and for how long.
        backend: position in its shard.
        proxy: the proxy concerned; None for all of them.
        amount: bytes until a cut, seconds of a delay or of a clock's jump, share of packets lost.
        during: not by the clock, but ``at`` seconds after a backend of the shard is seen to be refilled, and
            to whom: the ``source``, the ``target``, the ``worker``, which is the proxy that has it done, or
            ``another`` proxy, if there is one. A ``delay`` of the worker is on its way to the source.
    """

    sort: str
    at: float
    seconds: float
    shard: int = 0
    backend: int = 0
    proxy: int | None = None
    amount: float = 0.0
    during: str = ""

    def __str__(self) -> str:
        target = SORTS[self.sort].target
        amount = f" ({self.amount:g})" if self.amount else ""
        if self.during:
            what = f"{self.sort}{amount} {self.during}"
            return f"{self.at:5.2f} s into a refill of shard {self.shard} for {self.seconds:4.2f} s: {what}"
        where = {
            Target.BACKEND: f"backend {self.shard}.{self.backend}",
            Target.ROUTE: f"backend {self.shard}.{self.backend} "
            + ("from all" if self.proxy is None else f"from proxy {self.proxy}"),
            Target.PROXY: f"proxy {self.proxy}",
            Target.SHARD: f"shard {self.shard}",
            Target.LINK: f"copies from backend {self.shard}.{self.backend}",
        }[target]
        return f"{self.at:5.2f} s for {self.seconds:4.2f} s: {self.sort}{amount} {where}"


SLOW_COPIER = Fault("delay", 0.0, 4.0, during="worker")
"""Whoever copies a Memcached sees late what others write there. Before it copies, all proxies have to follow
the joining view, so this one lasts."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A whole run.

    Args:
        interval: seconds between the probes of a backend.
        persistent: the servers keep what they hold over a restart.
        evicts: the servers are too small for what is written.
        large: some values are too large to be written or sent on in one turn.
        survivors: per shard, the backend that is left alone.
    """

    seed: int
    protocol: str
    proxies: int
    workers: int
    replicas: int
    shards: int
    reads: str
    interval: float
    persistent: bool
    evicts: bool
    clients: int
    seconds: float
    survivors: tuple[int, ...]
    faults: tuple[Fault, ...]
    resynchronises: bool = False
    large: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """What the machine must have; see `Sort`."""
        return frozenset(SORTS[fault.sort].needs for fault in self.faults) - {""}

    @property
    def jump_seconds(self) -> float:
        """The farthest that two clocks are apart."""
        amounts = [0.0, *(each.amount for each in self.faults if "clock" in each.sort)]
        return max(amounts) - min(amounts)

    @property
    def pause_seconds(self) -> float:
        """The longest time that a proxy is stopped."""
        return max((each.seconds for each in self.faults if each.sort == "proxy_stop"), default=0.0)

    def __str__(self) -> str:
        extras = [name for name in ("persistent", "evicts", "large", "resynchronises") if getattr(self, name)]
        head = (
            f"seed {self.seed}: {self.protocol}, {self.proxies} proxies of {self.workers} workers, "
            f"{self.shards} shards of {self.replicas}, reads {self.reads}, probes every {self.interval} s, "
            f"{self.clients} clients each, survivors {list(self.survivors)}{' '.join(['', *extras])}"
        )
        return "\n  ".join([head, *map(str, self.faults)])


def draw(seed: int, capabilities: Capabilities | None = None, *, protocol: str | None = None) -> Schedule:
    """The schedule of a seed.

    Args:
        protocol: this one instead of the seed's own; the rest of the schedule is then drawn for it.
    """
    known = capabilities or PRESENT
    rng = random.Random(f"chaos {seed}")
    drawn = rng.choice(PROTOCOLS)
    protocol = protocol or drawn
    proxies, workers = rng.choice((1, 1, 1, 2, 2, 3)), rng.randint(1, 4)
    replicas, shards = rng.choice((1, 2, 2, 3, 3, 3)), rng.choice((1, 1, 2))
    survivors = tuple(rng.randrange(replicas) for _ in range(shards))
    persistent = protocol == "redis" and rng.random() < 0.3
    heals = protocol in known.resynchronises and replicas > 1
    seconds = rng.choice((3.0, 4.0, 5.0))
    count = rng.choice((1, 2, 2, 3, 4))
    moments = sorted(rng.uniform(0.3, seconds - 0.7) for _ in range(count))
    together = random.Random(f"together {seed}")
    if together.random() < 0.4:
        moments = [moments[0] + each * together.choice((0.0, 0.02, 0.2)) for each in range(count)]
    faults = tuple(
        _fault(rng, moment, protocol, proxies, replicas, survivors, persistent, heals) for moment in moments
    )
    faults = _apart(seed, protocol, proxies, replicas, faults)
    if heals:
        faults = _with_disturbance(seed, protocol, proxies, replicas, faults)
    schedule = Schedule(
        seed=seed,
        protocol=protocol,
        proxies=proxies,
        workers=workers,
        replicas=replicas,
        shards=shards,
        reads=rng.choice(("primary", "spread", "spread")),
        interval=rng.choice((0.4, 0.4, 1.5)),
        persistent=persistent,
        evicts=protocol == "memcached" and rng.random() < 0.15,
        clients=4 if proxies > 1 else 6,
        seconds=seconds,
        survivors=survivors,
        faults=faults,
        resynchronises=heals,
    )
    # What is lost on a wire comes again so late that a large value would never arrive.
    fits = not schedule.evicts and "network" not in schedule.needs
    return replace(schedule, large=fits and random.Random(f"large {seed}").random() < LARGE_SHARE)


def _fault(
    rng: random.Random,
    moment: float,
    protocol: str,
    proxies: int,
    replicas: int,
    survivors: tuple[int, ...],
    persistent: bool,
    wanders: bool,
) -> Fault:
    possible = [name for name, sort in SORTS.items() if sort.weight and protocol in sort.protocols]
    if replicas == 1 and not persistent:
        possible.remove("kill")
    name = rng.choices(possible, [SORTS[each].weight for each in possible])[0]
    target = SORTS[name].target
    shard = rng.randrange(len(survivors))
    others = [each for each in range(replicas) if wanders or replicas == 1 or each != survivors[shard]]
    proxy = rng.randrange(proxies)
    if target is Target.ROUTE and (proxies == 1 or rng.random() < 0.5):
        proxy = -1
    seconds = rng.choice((0.1, 0.3, 0.6, 1.2, 2.0))
    if target is Target.SHARD:
        seconds = SHARD_STOP_SECONDS if name == "stop_all" else seconds
    amount = {
        "cut": float(rng.randrange(400)),
        "cut_reset": float(rng.randrange(400)),
        "delay": rng.choice((0.02, 0.1, 0.35, 0.6)),
    }.get(name, 0.0)
    is_route_or_proxy = target in (Target.ROUTE, Target.PROXY)
    return Fault(
        sort=name,
        at=round(moment, 2),
        seconds=seconds,
        shard=shard,
        backend=rng.choice(others),
        proxy=None if proxy < 0 or not is_route_or_proxy else proxy,
        amount=amount,
    )


def _apart(
    seed: int, protocol: str, proxies: int, replicas: int, faults: tuple[Fault, ...]
) -> tuple[Fault, ...]:
    """The faults, some of them replaced by ones that not every machine can have."""
    rng = random.Random(f"apart {seed}")
    need = rng.choices((*NEEDS, ""), (*NEEDS.values(), 1 - sum(NEEDS.values())))[0]
    if not need:
        return faults
    sorts = [name for name, sort in SORTS.items() if sort.needs == need and protocol in sort.protocols]
    if protocol == "memcached" and replicas == 1 and need == "clock":
        sorts.remove("clock")  # it restarts the server, which then holds nothing
    chosen = rng.randrange(len(faults))
    return tuple(
        _special(rng, rng.choice(sorts), proxies, fault) if at == chosen or rng.random() < SHARE else fault
        for at, fault in enumerate(faults)
    )


def _special(rng: random.Random, name: str, proxies: int, fault: Fault) -> Fault:
    """A fault of this sort in the place of another. Where that was about a shard or a proxy, its backend is
    one that may be touched as well."""
    target = SORTS[name].target
    proxy = None if target is Target.BACKEND else rng.randrange(proxies)
    if target is Target.ROUTE and rng.random() < 0.5:
        proxy = None
    amount = 0.0
    if name == "loss":
        amount = rng.choice((0.02, 0.1, 0.3, 0.6))
    elif name == "reorder":
        amount = rng.choice((0.01, 0.05, 0.2, 0.5))
    elif SORTS[name].needs == "clock":
        amount = rng.choice(JUMPS_SECONDS) * rng.choice((1, -1))
    return replace(fault, sort=name, proxy=proxy, amount=amount, seconds=rng.choice((0.3, 0.6, 1.2, 2.0)))


def _with_disturbance(
    seed: int, protocol: str, proxies: int, replicas: int, faults: tuple[Fault, ...]
) -> tuple[Fault, ...]:
    """The faults, in half of the schedules with a kill among them and another fault while its victim is
    refilled."""
    rng = random.Random(f"disturbance {seed}")
    if rng.random() < 0.5:
        return faults
    shard, backend, at = faults[0].shard, rng.randrange(replicas), rng.randrange(len(faults) + 1)
    first = Fault("kill", 0.0, rng.choice((0.1, 0.3)), shard, backend)
    sort, role = rng.choice([each for each in DISTURBING if protocol in SORTS[each[0]].protocols])
    amount = rng.choice((0.05, 0.2, 0.6)) if sort in ("delay", "link_delay") else 0.0
    proxy = rng.randrange(proxies) if SORTS[sort].target is Target.PROXY else None
    second = Fault(
        sort=sort,
        at=rng.choice((0.0, 0.0, 0.02, 0.1, 0.3)),
        seconds=rng.choice((0.1, 0.3, 0.6, 1.2)) if sort != "proxy_stop" else rng.choice((0.6, 1.2, 4.0)),
        shard=shard,
        proxy=proxy,
        amount=amount,
        during=role,
    )
    apart = random.Random(f"copier {seed}")
    if protocol == "memcached" and proxies > 1 and apart.random() < 0.4:
        second = replace(SLOW_COPIER, shard=shard, amount=apart.choice((0.05, 0.1)))
    return (*faults[:at], first, second, *faults[at:])


def each_sort() -> list[Schedule]:
    """For each sort and protocol a schedule with this fault alone, in which it cannot but bite."""
    found = []
    for protocol in PROTOCOLS:
        for name, sort in SORTS.items():
            is_healing = sort.target is Target.LINK or name == "proxy_stop"
            if protocol not in sort.protocols or (is_healing and protocol not in PRESENT.resynchronises):
                continue
            amount = {"cut": 50.0, "cut_reset": 50.0, "loss": 0.3, "clock": 60.0, "proxy_clock": 60.0}.get(
                name, 0.1
            )
            proxy = 0 if sort.target is Target.PROXY else None
            seconds = SHARD_STOP_SECONDS if name == "stop_all" else 0.8
            fault = Fault(name, 0.5, seconds, proxy=proxy, amount=amount)
            faults: tuple[Fault, ...] = (fault,)
            if is_healing:
                # Long enough for the copy to be under way.
                disturbance = replace(fault, at=0.0, during="worker" if name == "proxy_stop" else "source")
                faults = (Fault("kill", 0.0, 0.1, backend=1), disturbance)
            found.append(
                Schedule(
                    seed=len(found),
                    protocol=protocol,
                    proxies=2,
                    workers=2,
                    replicas=2,
                    shards=1,
                    reads="spread",
                    interval=0.4,
                    persistent=False,
                    evicts=False,
                    clients=4,
                    seconds=2.0,
                    survivors=(1,),
                    faults=faults,
                    resynchronises=is_healing,
                )
            )
    return found
