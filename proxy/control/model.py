"""The words of the control plane: every value that the deciding modules take and return, all frozen.

Called by everything in ``control/``, ``tasks/`` and ``admin/``. Knows no IO, no clock and no engine.
Addresses are the strings of the configuration (``host:port``, ``[ip6]:port``, ``unix:/path``): they
name a backend in views, logs and metrics, whatever it resolves to today. Times are seconds of one
monotonic clock, given by the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class BackendState(StrEnum):
    """What a backend is to its shard."""

    IN_SYNC = "in_sync"
    JOINING = "joining"
    STALE = "stale"
    DOWN = "down"


class Phase(StrEnum):
    """What a shard is doing; derived from its state, for the status page and metrics."""

    CONTACT = "contact"
    """No view is known yet: first probes are out, or bootstrap waits."""
    SERVING = "serving"
    """Somebody leads, and the view agrees with what is seen."""
    COMMITTING = "committing"
    """A new view is on its way to the survivors."""
    LOST = "lost"
    """No in-sync backend can be used; requests get errors."""
    REMAPPING = "remapping"
    """Its keys are on their way to other shards or back; requests get errors."""
    REMAPPED = "remapped"
    """Its keys are with other shards."""


class Condition(StrEnum):
    """A server that lives and says why it will not serve. Never counted as a death."""

    LOADING = "loading"
    MISCONF = "misconf"
    READONLY = "readonly"
    NOAUTH = "noauth"
    OOM = "oom"
    BUSY = "busy"


BLINDING = frozenset({Condition.LOADING, Condition.NOAUTH, Condition.BUSY})
"""Conditions under which a server neither shows the view record nor serves reads. What was known of
it stays true; reads go elsewhere if anybody else is in sync."""


class Reason(StrEnum):
    """Why something is as it is: one word for the log line, the metric label and the status page."""

    NONE = "none"
    NOT_CONTACTED = "not_contacted"
    ANSWERS = "answers"
    # Failures to reach it.
    REFUSED = "refused"
    RESET = "reset"
    EOF = "eof"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    UNRESOLVED = "unresolved"
    PROTOCOL = "protocol"
    # Conditions, by the same words as `Condition`.
    LOADING = "loading"
    MISCONF = "misconf"
    READONLY = "readonly"
    NOAUTH = "noauth"
    OOM = "oom"
    BUSY = "busy"
    # What the process or its data turned out to be.
    RESTARTED = "restarted"
    FLUSHED = "flushed"
    EVICTED = "evicted"
    MISSED_VIEW = "missed_view"
    WRITE_FAILED = "write_failed"
    VIEW_NOT_TAKEN = "view_not_taken"
    RECORD_DAMAGED = "record_damaged"
    RECORD_NEWER_VERSION = "record_newer_version"
    RECORD_FOREIGN = "record_foreign"
    DIFFERS = "differs"
    NOT_REPLICATED = "not_replicated"
    # Why a shard has the view it has.
    BOOTSTRAPPED = "bootstrapped"
    BOOTSTRAP_REFUSED = "bootstrap_refused"
    ADOPTED = "adopted"
    COMMITTED = "committed"
    LAST_COPY = "last_copy"
    JOINING = "joining"
    REJOINED = "rejoined"
    NOT_JOINED = "not_joined"
    WAITING_FOR_OTHERS = "waiting_for_others"
    NOBODY_REACHABLE = "nobody_reachable"
    NO_MAJORITY = "no_majority"
    OTHER_MEMBERS = "other_members"
    CONFLICT = "conflict"
    # Why a shard's keys are where they are.
    EMPTIED = "emptied"
    SWEPT = "swept"


HOLD_SHARE, HOLD_SECONDS_LIMIT = 0.4, 1.0
"""Writes are held for this share of the request timeout at most, however long that is."""

WRITE_LEASE_SECONDS = 0.3
"""A proxy writes only while the leader, and with ``ack: all`` each backend in sync, has shown the view's
record within so long. The same for all versions: whoever copies waits for it (`proxy.control.copying`), and
so does whoever goes on without a leader that may still serve others (`ShardState.succeeds`). It is asked for
three times as often, so that writes do not wait for an answer unless it takes two thirds of that."""

SILENCE = frozenset({Reason.TIMEOUT, Reason.UNREACHABLE, Reason.UNRESOLVED})
"""Failures that may as well be the proxy's own network; a refusal proves that the network works."""


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """A backend as configured. ``zone`` is "" where none is given."""

    address: str
    zone: str = ""


@dataclass(frozen=True, slots=True)
class ShardSpec:
    """A shard as configured: ring label, weight, backends with the preferred primary first."""

    name: str
    backends: tuple[BackendSpec, ...]
    weight: int = 1


PROBE_SPREAD = 1.1
"""The longest pause between two probes, in intervals (the prober's jitter)."""


@dataclass(frozen=True, slots=True)
class HealthSpec:
    """Probe every ``interval`` seconds, give up after ``timeout`` seconds; ``fall`` failures in a row
    make a backend down, ``rise`` successes up again."""

    interval: float = 1.0
    timeout: float = 0.5
    fall: int = 3
    rise: int = 2

    @property
    def adoption_seconds(self) -> float:
        """From the recording of a view until every proxy that can read it follows it: a pause between two
        probes and one probe."""
        return PROBE_SPREAD * self.interval + self.timeout


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """A pool as the control plane needs it (the app fills it from the configuration).

    Args:
        protocol: ``redis`` or ``memcached``.
        replication: ``fanout`` or ``none``.
        reads: ``primary``, ``nearest`` or ``spread``.
        zone: where this proxy runs, for ``nearest``.
        views: ``available`` or ``majority``: who may go on where backends cannot be reached.
        bootstrap: ``sync``, ``trust`` or ``refuse``: what first contact without views does.
        panic_threshold: share of all backends beyond which silence is blamed on our own network.
        login: ``(name, password)`` for backends, name "" for the password alone.
        connect_timeout: seconds.
        request_timeout: seconds; writes may be held for a part of it without an error.
        resync_auto: whether stale backends are brought back without being asked.
        resync_parallel: shards that are brought back at once.
        resync_rate: bytes per second that one proxy copies for a shard; 0 for no limit.
        on_shard_loss: ``error`` or ``remap``.
        resync_method: ``auto``, ``replicaof`` or ``copy``.
        databases: of Redis that clients may use, from 0 on.
        routes: prefixes of keys that belong to the shard at a position.
        leads: prefixes of keys that belong to the pool at a position of the file.
    """

    name: str
    protocol: str
    shards: tuple[ShardSpec, ...]
    hash: str = "fnv1a_64"
    distribution: str = "ketama"
    hash_tag: str = ""
    replication: str = "fanout"
    reads: str = "primary"
    zone: str = ""
    views: str = "available"
    bootstrap: str = "sync"
    panic_threshold: float = 0.5
    health: HealthSpec = HealthSpec()
    login: tuple[str, bytes] | None = None
    connect_timeout: float = 0.25
    request_timeout: float = 1.0
    resync_auto: bool = True
    resync_parallel: int = 1
    resync_rate: int = 0
    on_shard_loss: str = "error"
    resync_method: str = "auto"
    databases: int = 1
    routes: tuple[tuple[bytes, int], ...] = ()
    leads: tuple[tuple[bytes, int], ...] = ()

    @property
    def may_copy(self) -> bool:
        """Some proxy may bring a backend back by copying keys. What one proxy has found out about a server
        must not matter here: the others do not know it."""
        return self.protocol == "memcached" or self.resync_method != "replicaof"

    @property
    def may_follow(self) -> bool:
        """Backends may be brought back by the servers' own replication."""
        return self.protocol == "redis" and self.resync_method != "copy"

    @property
    def hold_limit(self) -> float:
        """Seconds within which whoever had writes held must be through; the rest see to it after twice
        that. Both leave room below the request timeout, so that a held write is no failed one."""
        return HOLD_SHARE * min(self.request_timeout, HOLD_SECONDS_LIMIT)

    def votes_needed(self, shard: ShardSpec) -> int:
        """Backends that must take a view before it counts; 0 if as many as can be reached are enough."""
        return len(shard.backends) // 2 + 1 if self.views == "majority" else 0

    def keeps_view(self, shard: ShardSpec) -> bool:
        """A shard without replicas has nothing to agree on: its one backend is the truth."""
        return self.replication != "none" and len(shard.backends) > 1


@dataclass(frozen=True, slots=True)
class Incarnation:
    """One life of one server process. ``token`` is Redis's ``run_id``, or memcached's pid and start
    time as ``pid@seconds``; "" where the server would not tell."""

    token: str

    def is_same(self, token: str) -> bool:
        """False only if both are known and differ; a server that hides its id cannot be told apart."""
        return not token or not self.token or token == self.token


@dataclass(frozen=True, slots=True)
class View:
    """Who is in sync with whom: the membership of one shard at one epoch.

    ``in_sync`` is in order of succession, ``lead`` among them; ``runs`` holds, position by position,
    the `Incarnation` token each had when the view was made. The tokens are in the record because a
    proxy that has just started remembers no process: without them a Redis that came back with an
    old snapshot (and the old record in it) would pass for in sync. ``joining_runs`` does the same for
    those that join: one that restarts half-way has lost the writes that it was sent. ``parent`` is the
    in-sync list of the view this one came from (empty in a first view): of two rivals it tells which was
    decided by whom.

    ``fans_out`` says what a view with somebody joining means: True, every write goes to them as well,
    behind the leader's answer; False, writes are held.
    """

    pool: str
    shard: str
    epoch: int
    lead: str
    in_sync: tuple[str, ...]
    runs: tuple[str, ...]
    joining: tuple[str, ...] = ()
    joining_runs: tuple[str, ...] = ()
    fans_out: bool = False
    parent: tuple[str, ...] = ()

    def run_of(self, address: str) -> str:
        """The token recorded for whoever is in sync or joins, or ""."""
        members = (*self.in_sync, *self.joining)
        return (*self.runs, *self.joining_runs)[members.index(address)] if address in members else ""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One answer, or its absence, of one backend.

    Args:
        failure: why there was no usable answer; None if it answered.
        condition: what the server says is wrong with it, if anything.
        record: the bytes under the view key, None if there are none.
        record_known: False if the server did not let us look (loading, no login, or no view is kept).
        absent: the bytes under the pool's key for absent shards, None if there are none.
        absent_known: False if nobody asked, or the server did not let us look.
        flushes: how often this process was flushed, None if it does not tell.
        lineage: where its data came from, "" if it does not tell: another one once it has taken over that of
            another server (``master_replid`` of Redis), or was emptied by a flush that was counted earlier.
        items: keys held, the view record not counted; None if unknown.
        resolved: numeric address that answered or was tried, "" if the name did not resolve.
        seconds: how long the answer took.
    """

    address: str
    failure: Reason | None = None
    condition: Condition | None = None
    incarnation: Incarnation | None = None
    record: bytes | None = None
    record_known: bool = False
    absent: bytes | None = None
    absent_known: bool = False
    flushes: int | None = None
    lineage: str = ""
    items: int | None = None
    resolved: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of one backend's state, or (``address`` "") of the shard's view: one log line."""

    address: str
    old: str
    new: str
    reason: Reason
    epoch: int
