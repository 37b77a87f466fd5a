"""The engine: worker threads that move request bytes (built from ``proxy/engine/``).

This stub is the documentation of the seam between the control plane (Python) and the data plane
(Rust); ``stubtest`` compares it with the built module in ``make lint``. One frozen configuration
goes in, immutable values come out, and no worker thread ever calls Python.

Who decides: everything about membership (who leads, who is in sync, in which order reads try)
arrives in a `RoutingTable`; the engine only reports what it saw (`Event`) and obeys.

Backends and shards are named by their positions: ``pool`` in ``EngineConfig.pools``, ``shard`` in
``PoolTable.shards``, ``backend`` in ``ShardTable.backends``. Positions never change for the life of
an `Engine`, only what the table says about them does.
"""

from collections.abc import Sequence
from typing import final

__all__ = [
    "DISTRIBUTIONS",
    "EVENT_KINDS",
    "FAILURE_REASONS",
    "HASHES",
    "HISTOGRAM_BOUNDS_SECONDS",
    "BackendTable",
    "CommandRow",
    "Engine",
    "EngineConfig",
    "Event",
    "KeyRoute",
    "Metric",
    "PoolConfig",
    "PoolTable",
    "RoutingTable",
    "Sample",
    "ShardTable",
    "__version__",
    "build_profile",
    "command_table",
    "hash_key",
    "metrics",
]

__version__: str
build_profile: str
"""``"release"`` or ``"debug"``; benchmarks refuse anything but the first."""

@final
class PoolConfig:
    """What stays the same about a pool while the engine runs.

    Args:
        name: the pool's name, the ``pool`` label of its metrics.
        protocol: ``"redis"`` or ``"memcached"``.
        listeners: file descriptors of listening sockets (bound by the caller, duplicated by the engine).
        connect_timeout, request_timeout: seconds. The request timeout runs from the moment the
            bytes go to the backend.
        client_idle_timeout: seconds after which a client without requests is closed; 0 never.
        client_limit: clients at once over all workers.
        request_bytes_limit: size of one request.
        client_inflight_limit: requests of one client that may be unanswered; further ones wait.
        client_output_bytes_limit: bytes of unread replies after which a client is closed.
        backend_inflight_limit: unanswered requests per backend connection; further ones wait.
        ack: ``"all"``, ``"quorum"`` or ``"primary"``: how many in-sync replicas must have answered a write.
        cross_shard: ``"split"`` or ``"refuse"``: what becomes of a request with keys on several shards.
        keyless_everywhere: a script that names no keys runs on every shard of a Redis pool, not on one.
        cluster: show clients a cluster of one node instead of a server without cluster support.
        databases: how many a client may SELECT, 1 to 16.
        users: ``(name, password)`` pairs clients may log in with; empty means no login is needed.
        backend_login: ``(name, password)`` for backends, name ``""`` for password-only AUTH; or None.
        server_version: the version clients are told (HELLO, INFO; memcached ``version``).
        admin_commands: what clients may use of the commands that are kept from them otherwise: ``"monitor"``.

    Raises:
        ValueError: an unknown protocol, ack, cross_shard or admin command, more than 16 databases, or a limit
            that is not positive.
    """

    def __new__(
        cls,
        *,
        name: str,
        protocol: str,
        listeners: Sequence[int],
        connect_timeout: float,
        request_timeout: float,
        client_idle_timeout: float,
        client_limit: int,
        request_bytes_limit: int,
        client_inflight_limit: int,
        client_output_bytes_limit: int,
        backend_inflight_limit: int,
        ack: str,
        cross_shard: str,
        keyless_everywhere: bool,
        cluster: bool,
        databases: int,
        users: Sequence[tuple[str, bytes]],
        backend_login: tuple[str, bytes] | None,
        server_version: str,
        admin_commands: Sequence[str] = ...,
    ) -> PoolConfig: ...

@final
class EngineConfig:
    """All that an `Engine` needs to start.

    Args:
        workers: threads, 1 to 255.
        run_id: 40 hexadecimal digits that name this process, as a server's run_id does.
        pools: in an order that stays.
    """

    def __new__(cls, *, workers: int, run_id: str, pools: Sequence[PoolConfig]) -> EngineConfig: ...

@final
class BackendTable:
    """One backend as the table sees it.

    Args:
        name: the address as configured, the ``backend`` label of metrics.
        address: where to connect: numeric ``"ip:port"``, ``"[ip6]:port"`` or ``"unix:/path"``.
        verify: ``(request, needle)`` pairs, each a whole request in RESP2 or memcached text. Every
            new connection sends the requests first and carries nothing until each reply contained
            its needle. So a process that restarted empty is never read (see ``proxy/control/view.py``).
    """

    def __new__(cls, *, name: str, address: str, verify: Sequence[tuple[bytes, bytes]]) -> BackendTable: ...

@final
class ShardTable:
    """One shard: who leads, who gets writes, in which order reads try.

    Args:
        name: the ring label; what ketama and its like hash to place points.
        weight: share of the ring, at least 1.
        backends: every backend configured for the shard, in sync or not, in configuration order.
        lead: position of the backend that decides; None when the shard is lost and answers errors.
        in_sync: positions that every write goes to, ``lead`` among them.
        reads: positions reads try in this order; a subset of ``in_sync``.
        spread: True if reads start at a different position each time instead of the first.
        epoch: epoch of the shard's view.
        restore: request that puts the view record back after a flush, in RESP2 or memcached text;
            empty if the shard keeps no view. The engine sends it behind each ``flush_all``.
        joining: positions that get every write too, behind the lead's answer and as what came of it; they
            are not read from, and a write is acknowledged when they have it.
        lease: seconds. A write goes only if the lead, and with ``ack: all`` each that is in sync, has shown
            the record (the first of its ``verify`` pairs that has a needle) on the same connection within so
            long; it is asked again while there are writes, and what was shown under another table does not
            count. 0: the greeting is enough.
        succession: epoch of the view since which somebody else may lead than before.
        succeeds: True if who did may still serve other proxies. Then nothing is written or acknowledged until
            their lease is over, from the first table with that succession on.
        reserved: keys of our own that may stand on a backend of the shard (Redis): not counted by DBSIZE,
            and kept by FLUSHALL. In database 0.

    Raises:
        ValueError: a position out of range, or more than 16 backends.
    """

    def __new__(
        cls,
        *,
        name: str,
        weight: int,
        backends: Sequence[BackendTable],
        lead: int | None,
        in_sync: Sequence[int],
        reads: Sequence[int],
        spread: bool,
        epoch: int,
        restore: bytes,
        joining: Sequence[int] = ...,
        lease: float = 0.0,
        succession: int = 0,
        succeeds: bool = False,
        reserved: Sequence[bytes] = ...,
    ) -> ShardTable: ...

@final
class PoolTable:
    """How a pool's keys are placed.

    Args:
        hash: a name of `HASHES`.
        distribution: a name of `DISTRIBUTIONS`.
        hash_tag: two characters such as ``"{}"``, or ``""`` for none.
        shards: in configuration order.
        absent: positions of shards whose keys, and no others, go to the next shard that is not: the next
            point of a ring, the next highest score, or the next in the list. Nothing is asked of them.
        routes: ``(prefix, position of a shard)``: keys that begin so belong to it whatever their hash; the
            longest prefix wins.
        leads: ``(prefix, position of another pool)``: keys that begin so belong to it, and it places them as
            those of its own clients, but leads them no further; the longest prefix of both kinds wins.

    Raises:
        ValueError: an unknown hash or distribution, no shards, all of them absent, or a placement that
            cannot be made (weights or labels the distribution does not take). The message names the shard.
    """

    def __new__(
        cls,
        *,
        hash: str,
        distribution: str,
        hash_tag: str,
        shards: Sequence[ShardTable],
        absent: Sequence[int] = ...,
        routes: Sequence[tuple[bytes, int]] = ...,
        leads: Sequence[tuple[bytes, int]] = ...,
    ) -> PoolTable: ...
    def route(self, key: bytes) -> KeyRoute:
        """Where ``key`` goes, and why; what ``shardproxy route`` prints."""

@final
class RoutingTable:
    """One version of all routing; immutable. ``epoch`` rises with each publication.

    Raises:
        ValueError: a pool leads to itself or to one that there is not.
    """

    def __new__(cls, *, epoch: int, pools: Sequence[PoolTable]) -> RoutingTable: ...

@final
class KeyRoute:
    """``pool``: None, or the position of the other pool that has the key, which its own table then places.
    ``shard``: position. ``home``: the position if no shard were absent. ``hash``: the number looked up.
    ``hashed``: the part of the key hashed. ``prefix``: of the route that has decided instead, or empty."""

    @property
    def pool(self) -> int | None: ...
    @property
    def shard(self) -> int: ...
    @property
    def home(self) -> int: ...
    @property
    def hash(self) -> int: ...
    @property
    def hashed(self) -> bytes: ...
    @property
    def prefix(self) -> bytes: ...

@final
class Event:
    """Something a worker saw. ``kind`` is one of `EVENT_KINDS`:

    ``connection_failed``
        A connection to the backend could not be made, or was lost, or timed out repeatedly.
        ``detail`` is one of `FAILURE_REASONS`. Reads go elsewhere already.
    ``write_failed``
        A write that may have reached others failed on this backend, or its outcome there is unknown.
        All workers have stopped reading from it; writes to the shard wait for a table in which the
        backend is not in sync.
    ``verify_failed``
        A new connection showed something else than the table's needle. ``detail`` is which pair
        (``"0"``, ``"1"``), ``data`` the reply. The connection is closed.
    ``connection_made``
        A connection is verified and carries requests.
    ``stopped``
        Every worker has ended after `Engine.shutdown`.
    """

    @property
    def kind(self) -> str: ...
    @property
    def pool(self) -> int: ...
    @property
    def shard(self) -> int: ...
    @property
    def backend(self) -> int: ...
    @property
    def table_epoch(self) -> int:
        """Epoch of the table the worker held when it saw this."""
    @property
    def detail(self) -> str: ...
    @property
    def data(self) -> bytes: ...

@final
class Metric:
    """One row of the engine's list of metrics: ``kind`` is counter, gauge or histogram."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def help(self) -> str: ...
    @property
    def labels(self) -> list[str]: ...

@final
class Sample:
    """One value of a metric. ``labels`` in the order of `Metric.labels`; for a histogram ``buckets``
    holds the count of each bucket of `HISTOGRAM_BOUNDS_SECONDS` (not cumulative, one more for the
    rest) and ``value`` the sum in seconds."""

    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> list[str]: ...
    @property
    def value(self) -> float: ...
    @property
    def buckets(self) -> list[int]: ...

@final
class CommandRow:
    """One Redis command as the engine knows it. ``handling``: what becomes of it, in a word; ``summary``:
    in a sentence."""

    @property
    def name(self) -> str: ...
    @property
    def arity(self) -> int: ...
    @property
    def flags(self) -> list[str]: ...
    @property
    def handling(self) -> str: ...
    @property
    def summary(self) -> str: ...

@final
class Engine:
    """The worker threads. Not reusable: construct, `start`, `publish` ..., `shutdown`."""

    def __new__(cls, config: EngineConfig) -> Engine: ...
    def start(self, table: RoutingTable) -> None:
        """Starts the workers with this table; clients are accepted from here on.

        Raises:
            ValueError: the table does not fit the configuration.
            OSError: threads, epoll or event descriptors could not be made.
        """
    def publish(self, table: RoutingTable) -> int:
        """Hands a new table to every worker and returns its epoch once all have adopted it.

        Takes one loop turn (microseconds to a millisecond). Writes that waited for a membership
        change go on or fail by what the new table says.

        Raises:
            ValueError: the epoch does not rise, or the shape (pools, shards, backends) differs.
            RuntimeError: the engine does not run.
        """
    def fileno(self) -> int:
        """A descriptor that is readable while events wait; for ``trio.lowlevel.wait_readable``."""
    def drain_events(self, max: int) -> list[Event]:
        """At most ``max`` events, oldest first; clears `fileno` when none is left."""
    def statistics(self) -> list[Sample]:
        """Sums over all workers, read without stopping them."""
    def pause_writes(self, pool: int, shard: int) -> bool:
        """Makes new writes to the shard wait, and waits until every worker has none in flight.

        A write that timed out counts until its late reply. False if some is left after 5 seconds;
        new ones wait all the same. Writes that wait longer than the request timeout are answered
        with an error: they were not sent.
        """
    def resume_writes(self, pool: int, shard: int) -> None:
        """Undoes `pause_writes`."""
    def shutdown(self, grace_seconds: float) -> None:
        """Stops accepting, lets requests in flight finish, closes idle clients; after the grace all.

        Returns at once; the event ``stopped`` follows.
        """

HASHES: list[str]
DISTRIBUTIONS: list[str]
EVENT_KINDS: list[str]
FAILURE_REASONS: list[str]
HISTOGRAM_BOUNDS_SECONDS: list[float]

def metrics() -> list[Metric]:
    """The engine's metrics; names without the ``shardproxy_`` prefix."""

def command_table() -> list[CommandRow]:
    """Every Redis command the engine knows, by name."""

def hash_key(hash: str, key: bytes) -> int:
    """The 32-bit hash of ``key``.

    Raises:
        ValueError: an unknown hash.
    """
