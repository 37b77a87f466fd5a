"""What is measured: one row per load. `bench/README.md` says why these; `--list` prints them."""

from dataclasses import dataclass, replace
from itertools import product

WIRES = {"redis": "redis", "resp3": "redis", "memcache_text": "memcached", "memcache_binary": "memcached"}
"""What clients speak, in memtier_benchmark's words, and the servers behind it."""

UNITS = ((2**20, "MiB"), (2**10, "KiB"))
MOST_KEYS_BYTES = 48 * 2**20
"""What all keys together may take, so that nothing is evicted from a memcached of 64 MiB."""
MOST_KEYS = 100_000


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What stands behind the load: processes that scenarios share."""

    protocol: str
    shards: int = 2
    replicas: int = 0
    ack: str = "all"
    workers: int = 1


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One load.

    Attributes:
        wire: a key of `WIRES`.
        sets, gets: the mix.
        keys_per_get: above 1 each read is an MGET or a get of so many keys.
        replicas: further backends that get each write.
        idle: connections that ask for nothing meanwhile.
        fault: ``"kill"``: the leader of the first shard is killed in the middle of it.
    """

    wire: str = "redis"
    clients: int = 50
    pipeline: int = 1
    sets: int = 1
    gets: int = 10
    keys_per_get: int = 1
    value_bytes: int = 32
    shards: int = 2
    replicas: int = 0
    ack: str = "all"
    workers: int = 1
    idle: int = 0
    fault: str = ""

    @property
    def name(self) -> str:
        """Short and unique; what ``--only`` matches and results are filed under."""
        extras = [
            (f"{self.sets}:{self.gets}", (self.sets, self.gets) != (1, 10)),
            (f"get{self.keys_per_get}", self.keys_per_get > 1),
            (size(self.value_bytes), self.value_bytes != 32),
            (f"shards={self.shards}", self.shards != 2),
            (f"replicas={self.replicas}", self.replicas > 0),
            (f"ack={self.ack}", self.ack != "all"),
            (f"workers={self.workers}", self.workers > 1),
            (f"idle={self.idle}", self.idle > 0),
            (self.fault, bool(self.fault)),
        ]
        words = [self.wire, f"c{self.clients}", f"P{self.pipeline}"]
        return " ".join(words + [word for word, wanted in extras if wanted])

    @property
    def layout(self) -> Layout:
        """What it needs."""
        protocol = WIRES[self.wire]
        return Layout(
            protocol=protocol,
            shards=self.shards,
            replicas=self.replicas,
            ack=self.ack,
            workers=self.workers,
        )

    @property
    def keys(self) -> int:
        """How many there are, all written before."""
        return max(64, min(MOST_KEYS, MOST_KEYS_BYTES // self.value_bytes))

    @property
    def cores(self) -> int:
        """How many it takes for each process to have one: the load, the backends, and each worker."""
        return 2 + self.workers


def size(count: int) -> str:
    """A number of bytes as people write it."""
    for unit, word in UNITS:
        if count >= unit:
            return f"{count // unit} {word}".replace(" ", "")
    return f"{count}B"


@dataclass(frozen=True)
class Group:
    """Scenarios that are compared with each other: their processes are up at the same time, and a round goes
    through all of them."""

    name: str
    about: str
    scenarios: tuple[Scenario, ...]
    more: tuple[Scenario, ...] = ()
    """With ``--all`` only."""


BOTH = ("redis", "memcache_text")
ACKS = {1: ("all", "primary"), 2: ("all", "quorum", "primary")}
"""By replicas, those that differ."""


def _product(**axes: tuple[object, ...]) -> tuple[Scenario, ...]:
    """One scenario for each combination of values."""
    return tuple(Scenario(**dict(zip(axes, each, strict=True))) for each in product(*axes.values()))  # type: ignore[arg-type]


GROUPS = (
    Group(
        "pipeline",
        "requests in flight per client, and clients: where relays differ most",
        (*_product(wire=BOTH, pipeline=(1, 16, 64)), *_product(wire=BOTH, clients=(1,))),
        _product(wire=BOTH, clients=(1, 500, 10_000), pipeline=(1, 16, 64)),
    ),
    Group(
        "replicas",
        "what a second copy of each write costs",
        tuple(
            replace(each, replicas=replicas)
            for each in _product(wire=BOTH, pipeline=(1, 16), gets=(1,))
            for replicas in (0, 1)
        ),
        tuple(
            replace(each, replicas=replicas, ack=ack)
            for each in _product(wire=BOTH, pipeline=(16,), gets=(1,))
            for replicas, acks in ACKS.items()
            for ack in acks
        ),
    ),
    Group(
        "multiget",
        "many keys at once, which are split over the shards and put together again",
        _product(wire=BOTH, clients=(10,), sets=(0,), keys_per_get=(100,), shards=(4,)),
        _product(wire=BOTH, clients=(10,), sets=(0,), keys_per_get=(10, 100), shards=(1, 4, 16, 64, 256)),
    ),
    Group(
        "shards",
        "whether a request costs more with more shards",
        _product(pipeline=(16,), shards=(1, 256)),
        _product(wire=BOTH, pipeline=(1, 16), shards=(1, 16, 256)),
    ),
    Group(
        "idle",
        "whether clients that ask for nothing cost anything, and their memory",
        _product(idle=(100, 10_000)),
        _product(wire=BOTH, pipeline=(1, 16), idle=(100, 10_000)),
    ),
    Group(
        "values",
        "larger values, and other shares of writes",
        _product(pipeline=(1,), value_bytes=(1024, 65_536, 1_048_576 - 512)),
        (
            *_product(wire=BOTH, value_bytes=(1024, 65_536, 1_048_576 - 512)),
            *_product(wire=BOTH, pipeline=(1, 16), gets=(1, 0)),
        ),
    ),
    Group(
        "wires",
        "the other protocols of clients",
        _product(wire=("resp3", "memcache_binary"), pipeline=(1,)),
        _product(wire=tuple(WIRES), pipeline=(1, 16, 64)),
    ),
    Group(
        "workers",
        "two threads against one",
        _product(pipeline=(16,), workers=(1, 2)),
        _product(wire=BOTH, pipeline=(1, 16, 64), workers=(1, 2)),
    ),
    Group(
        "failover",
        "a leader killed in the middle",
        _product(wire=BOTH, gets=(1,), replicas=(1,), fault=("kill",)),
    ),
)


def chosen(everything: bool) -> dict[str, list[Scenario]]:
    """The scenarios of each group, none twice."""
    return {
        group.name: list(dict.fromkeys((*group.scenarios, *(group.more if everything else ()))))
        for group in GROUPS
    }
