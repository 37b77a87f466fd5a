"""Where keys go, asked without running anything: what ``route`` and ``check`` print.

Builds the engine's own ring from a pool's configuration, so that the answer is the one that traffic
gets. Beside ``dataplane`` the only importer of ``_engine``; starts no threads, opens nothing.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from proxy import _engine
from proxy.config import PoolConfig, ShardConfig

# Enough that the share of a shard is known to about 0.3 %: 1 / sqrt(100000).
SAMPLE_KEYS = 100_000
# The ring never looks at addresses, and names would have to be resolved to pass as one.
_UNUSED_ADDRESS = "127.0.0.1:1"


class Placed(NamedTuple):
    """Where one key goes. ``hash`` is the number looked up, ``hashed`` the part of the key it is of; or
    ``prefix`` that of the route that has decided. If a route leads to another ``pool``, that is its name and
    ``led_by`` the prefix; all else is then of that pool."""

    shard: ShardConfig
    hash: int
    hashed: bytes
    prefix: bytes
    pool: str = ""
    led_by: bytes = b""


class Placement:
    """The ring of one pool.

    Args:
        pools: all pools of the file; needed for one with routes to others.

    Raises:
        ValueError: the engine refuses the combination, in its own words.
    """

    def __init__(self, pool: PoolConfig, pools: Mapping[str, PoolConfig] = MappingProxyType({})) -> None:
        self._pool = pool
        self._pools = pools
        self._others: dict[str, Placement] = {}
        self._table = self._build(())
        self._table.route(b"")  # the ring is built, or refused, when it is first asked

    def _build(self, absent: Sequence[int]) -> _engine.PoolTable:
        return _engine.PoolTable(
            hash=self._pool.hash,
            distribution=self._pool.distribution,
            hash_tag=self._pool.hash_tag,
            shards=[_shard_table(shard) for shard in self._pool.shards],
            absent=absent,
            routes=self._pool.routes_by_position,
            leads=self._pool.leads_by_position(self._pools),
        )

    def place(self, key: bytes) -> Placed:
        """Where ``key`` goes."""
        route = self._table.route(key)
        if route.pool is not None:
            name = list(self._pools)[route.pool]
            return self._other(name).place(key)._replace(pool=name, led_by=bytes(route.prefix))
        return Placed(self._pool.shards[route.shard], route.hash, bytes(route.hashed), bytes(route.prefix))

    def _other(self, name: str) -> "Placement":
        if name not in self._others:
            self._others[name] = Placement(self._pools[name], self._pools)
        return self._others[name]

    def heir(self, key: bytes) -> ShardConfig | None:
        """Who gets ``key`` while its shard is lost, with ``on_shard_loss: remap``; None for nobody."""
        if (pool := self._table.route(key).pool) is not None:
            return self._other(list(self._pools)[pool]).heir(key)
        if self._pool.on_shard_loss != "remap" or len(self._pool.shards) == 1:
            return None
        table = self._build([self._table.route(key).home])
        return self._pool.shards[table.route(key).shard]

    def shares(self, keys: int = SAMPLE_KEYS) -> Sequence[float]:
        """The share of evenly named keys that each shard gets, by position; measured, not computed."""
        if self._pool.distribution == "random":
            # Not a function of the key: asking about one tells nothing.
            return [1 / len(self._pool.shards)] * len(self._pool.shards)
        counts = [0] * len(self._pool.shards)
        for number in range(keys):
            counts[self._table.route(b"key:%d" % number).shard] += 1
        return [count / keys for count in counts]


def _shard_table(shard: ShardConfig) -> _engine.ShardTable:
    everyone = range(len(shard.backends))
    return _engine.ShardTable(
        name=shard.name,
        weight=shard.weight,
        backends=[
            _engine.BackendTable(name=backend.address, address=_UNUSED_ADDRESS, verify=())
            for backend in shard.backends
        ],
        lead=0,
        in_sync=list(everyone),
        reads=[0],
        spread=False,
        epoch=0,
        restore=b"",
    )
