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
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Sort:
    """A sort of fault: its weight in the draw, and the protocols it exists for."""

    target: Target
    weight: int
    protocols: tuple[str, ...] = PROTOCOLS


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
}
"""All faults; how each is done is in `chaos.faults`."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the proxy can do by now.

    Args:
        resynchronises: the protocols whose backends are brought up to date when they return. Then faults
            wander over all backends, each when all shards are whole again, whatever moment was drawn for it.
    """

    resynchronises: frozenset[str] = frozenset()


PRESENT = Capabilities()
"""What it can do at present; the one place to change when it learns more."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Args:
        at, seconds: when, after the start of the clients, and for how long.
        backend: position in its shard.
        proxy: the proxy concerned; None for all of them.
        amount: bytes until a cut, seconds of a delay.
    """

    sort: str
    at: float
    seconds: float
    shard: int = 0
    backend: int = 0
    proxy: int | None = None
    amount: float = 0.0

    def __str__(self) -> str:
        target = SORTS[self.sort].target
        where = {
            Target.BACKEND: f"backend {self.shard}.{self.backend}",
            Target.ROUTE: f"backend {self.shard}.{self.backend} "
            + ("from all" if self.proxy is None else f"from proxy {self.proxy}"),
            Target.PROXY: f"proxy {self.proxy}",
            Target.SHARD: f"shard {self.shard}",
        }[target]
        amount = f" ({self.amount:g})" if self.amount else ""
        return f"{self.at:5.2f} s for {self.seconds:4.2f} s: {self.sort}{amount} {where}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A whole run.

    Args:
        interval: seconds between the probes of a backend.
        persistent: the servers keep what they hold over a restart.
        evicts: the servers are too small for what is written.
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

    def __str__(self) -> str:
        extras = [name for name in ("persistent", "evicts", "resynchronises") if getattr(self, name)]
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
    return Schedule(
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
    possible = [name for name, sort in SORTS.items() if protocol in sort.protocols]
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
        seconds = 0.15 if name == "stop_all" else seconds
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
