//! What workers and the control plane share: the current table, mailboxes, the queue of events, and
//! a few flags. Locks are taken only when something changed (a wake-up, a hand-over), never per request
//! served by one worker alone.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::census::{Asked, Told};
use crate::command::learned::Registry;
use crate::command::scripts::Scripts;
use crate::conn::ReplyTo;
use crate::route::Table;
use crate::slab::Handle;
use crate::stats::WorkerStats;
use crate::sys::{Clock, Wake};

/// Which protocol a pool speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Redis,
    Memcached,
}

/// How many in-sync replicas must have answered before a write is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    All,
    Quorum,
    Primary,
}

/// What stays the same about a pool; see `PoolConfig` in `_engine.pyi`. Times in milliseconds.
pub struct PoolConfig {
    pub name: String,
    pub protocol: Protocol,
    pub listeners: Vec<OwnedFd>,
    pub port: u16,
    pub connect_timeout: u64,
    pub request_timeout: u64,
    pub client_idle_timeout: u64,
    pub client_limit: usize,
    pub request_bytes_limit: usize,
    pub client_inflight_limit: usize,
    pub client_output_limit: usize,
    pub backend_inflight_limit: usize,
    pub ack: Ack,
    /// Requests with keys on several shards are split; otherwise refused.
    pub cross_shard: bool,
    /// A script that names no keys runs on every shard; otherwise on one.
    pub keyless_everywhere: bool,
    /// Shown to clients as a cluster of one node.
    pub is_cluster: bool,
    /// Databases that clients may select.
    pub databases: u8,
    /// Clients may use MONITOR.
    pub monitor: bool,
    pub users: Vec<(String, Vec<u8>)>,
    pub backend_login: Option<(String, Vec<u8>)>,
    pub server_version: String,
}

pub struct Config {
    pub workers: usize,
    pub pools: Vec<PoolConfig>,
    /// 40 hex digits that name this process, as a server's run_id does.
    pub run_id: String,
}

/// Names of `Event::kind`, in the order of `EventKind`.
pub const EVENT_KINDS: [&str; 5] = [
    "connection_failed",
    "write_failed",
    "verify_failed",
    "connection_made",
    "stopped",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    ConnectionFailed,
    WriteFailed,
    VerifyFailed,
    ConnectionMade,
    Stopped,
}

/// Names of `Failure`, in its order.
pub const FAILURE_REASONS: [&str; 9] = [
    "refused",
    "reset",
    "closed",
    "timeout",
    "connect_timeout",
    "protocol",
    "login",
    "refused_write",
    "database",
];

/// Why a backend connection or a write on it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Refused,
    Reset,
    Closed,
    Timeout,
    ConnectTimeout,
    Protocol,
    Login,
    RefusedWrite,
    /// It has not as many databases as the pool.
    Database,
}

impl Failure {
    pub fn name(self) -> &'static str {
        FAILURE_REASONS[self as usize]
    }
}

#[derive(Clone, Debug)]
pub struct Event {
    pub kind: EventKind,
    pub pool: u16,
    pub shard: u16,
    pub backend: u8,
    pub table_epoch: u64,
    pub detail: String,
    pub data: Vec<u8>,
}

/// Bounds the queue of events: what does not fit is a repetition of what does, since each backend
/// reports a failure once per connection and Python probes whatever it hears of.
const EVENT_LIMIT: usize = 65_536;

/// From one worker to another.
pub enum Message {
    /// A client that this worker shall serve.
    Client {
        fd: OwnedFd,
        pool: u16,
    },
    /// A question to all clients, and what those of one worker said.
    Asked(Asked),
    Told {
        census: Handle,
        told: Told,
    },
    /// A request to carry out; the reply goes back as `Reply` to `to` (a `ReplyTo::Remote`).
    Request(Handover),
    Reply {
        to: ReplyTo,
        bytes: Vec<u8>,
    },
}

/// A request handed to the worker that orders its shard's writes.
pub struct Handover {
    pub pool: u16,
    pub shard: u16,
    pub lane: u8,
    pub to: ReplyTo,
    pub bytes: Vec<u8>,
}

pub struct Mailbox {
    messages: Mutex<Vec<Message>>,
    pub wake: Wake,
}

/// A poisoned lock guards plain values that every holder leaves whole, so it is used on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mailbox {
    pub fn new() -> std::io::Result<Self> {
        Ok(Mailbox {
            messages: Mutex::new(Vec::new()),
            wake: Wake::new()?,
        })
    }

    /// Appends everything in `batch` and wakes the worker.
    pub fn post(&self, batch: &mut Vec<Message>) {
        lock(&self.messages).append(batch);
        self.wake.signal();
    }

    pub fn take(&self) -> Vec<Message> {
        std::mem::take(&mut *lock(&self.messages))
    }
}

/// One shard's flags.
#[derive(Default)]
pub struct ShardFlags {
    /// Backends on which a write failed and that the table still calls in sync: not read from.
    pub suspects: AtomicU32,
    /// New writes wait (`Engine::pause_writes`).
    pub paused: AtomicBool,
    /// When the shard is to be emptied, by a memcached flush_all with a delay; 0 for never. Worker clock in
    /// milliseconds.
    pub flush_at: AtomicU64,
    /// Bytes an item may have, by backend, as memcached said when it was connected to last; 0 is not known.
    pub item_limits: [AtomicU64; 16],
}

pub struct Shared {
    pub config: Config,
    pub clock: Clock,
    table: Mutex<Arc<Table>>,
    /// Epoch of `table`, so that workers see a change without the lock.
    pub table_epoch: AtomicU64,
    adopted: Mutex<Vec<u64>>,
    adoption: Condvar,
    /// Rises with each pause; `quiet` holds, per worker, up to which of them it has no write left to a
    /// paused shard. A worker decides whether a write may go and sends it within one turn, so what it
    /// says between two turns leaves no write behind.
    pub pauses: AtomicU64,
    quiet: Mutex<Vec<u64>>,
    quieted: Condvar,
    pub mailboxes: Vec<Mailbox>,
    events: Mutex<VecDeque<Event>>,
    pub events_wake: Wake,
    /// Clients per worker, and per pool over all workers.
    pub worker_clients: Vec<AtomicUsize>,
    pub pool_clients: Vec<AtomicUsize>,
    pub shards: Vec<Vec<ShardFlags>>,
    /// By pool: commands that are not in the table.
    pub learned: Vec<Registry>,
    pub next_client_id: AtomicU64,
    scripts: Mutex<Scripts>,
    /// Rises when all scripts are forgotten.
    pub scripts_epoch: AtomicU64,
    pub draining: AtomicBool,
    /// Milliseconds of the clock at which draining ends.
    pub drain_deadline: AtomicU64,
    pub running: AtomicUsize,
    pub stats: Vec<WorkerStats>,
}

impl Shared {
    /// # Errors
    /// No descriptors for the wake-ups.
    pub fn new(config: Config, table: Table, stats: Vec<WorkerStats>) -> std::io::Result<Self> {
        let workers = config.workers;
        let pools = config.pools.len();
        let flags =
            |pool: &crate::route::Pool| pool.shards.iter().map(|_| ShardFlags::default()).collect();
        Ok(Shared {
            clock: Clock::new(),
            table_epoch: AtomicU64::new(table.epoch),
            adopted: Mutex::new(vec![0; workers]),
            adoption: Condvar::new(),
            pauses: AtomicU64::new(0),
            quiet: Mutex::new(vec![0; workers]),
            quieted: Condvar::new(),
            mailboxes: (0..workers)
                .map(|_| Mailbox::new())
                .collect::<Result<_, _>>()?,
            events: Mutex::new(VecDeque::new()),
            events_wake: Wake::new()?,
            worker_clients: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            pool_clients: (0..pools).map(|_| AtomicUsize::new(0)).collect(),
            shards: table.pools.iter().map(flags).collect(),
            learned: (0..pools).map(|_| Registry::default()).collect(),
            next_client_id: AtomicU64::new(1),
            scripts: Mutex::default(),
            scripts_epoch: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            drain_deadline: AtomicU64::new(0),
            running: AtomicUsize::new(workers),
            stats,
            table: Mutex::new(Arc::new(table)),
            config,
        })
    }

    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&lock(&self.table))
    }

    /// The texts of scripts; held for a look only.
    pub fn scripts(&self) -> MutexGuard<'_, Scripts> {
        lock(&self.scripts)
    }

    /// Makes `table` the current one and wakes every worker.
    ///
    /// A suspect stays one until a table leaves it out, or until it is the only one left, which is
    /// the truth by definition (design: the last in-sync replica is never marked stale by a write).
    pub fn publish(&self, table: Arc<Table>) {
        for (pool, flags) in table.pools.iter().zip(&self.shards) {
            for (shard, flags) in pool.shards.iter().zip(flags) {
                let in_sync = u32::from(shard.in_sync);
                let kept = if in_sync.count_ones() > 1 { in_sync } else { 0 };
                let joining = u32::from(shard.joining);
                flags.suspects.fetch_and(kept | joining, SeqCst);
            }
        }
        let epoch = table.epoch;
        *lock(&self.table) = table;
        self.table_epoch.store(epoch, SeqCst);
        self.wake_all();
    }

    pub fn wake_all(&self) {
        for mailbox in &self.mailboxes {
            mailbox.wake.signal();
        }
    }

    /// Called by a worker that has switched to the table of that epoch.
    pub fn set_adopted(&self, worker: usize, epoch: u64) {
        lock(&self.adopted)[worker] = epoch;
        self.adoption.notify_all();
    }

    /// Waits until every worker has adopted `epoch`. False if some did not within the limit.
    pub fn wait_adopted(&self, epoch: u64, limit: Duration) -> bool {
        wait_reached(&self.adopted, &self.adoption, epoch, limit)
    }

    /// Called by a worker between two turns; see `pauses`.
    pub fn set_quiet(&self, worker: usize, pause: u64) {
        lock(&self.quiet)[worker] = pause;
        self.quieted.notify_all();
    }

    /// Waits until no worker has a write to a paused shard in flight. False if some has after the limit.
    pub fn wait_quiet(&self, pause: u64, limit: Duration) -> bool {
        wait_reached(&self.quiet, &self.quieted, pause, limit)
    }

    pub fn report(&self, event: Event) {
        let mut events = lock(&self.events);
        if events.len() < EVENT_LIMIT {
            events.push_back(event);
        }
        drop(events);
        self.events_wake.signal();
    }

    /// Up to `max` events; clears the wake-up once none is left.
    pub fn drain_events(&self, max: usize) -> Vec<Event> {
        let mut events = lock(&self.events);
        let count = events.len().min(max);
        let drained = events.drain(..count).collect();
        if events.is_empty() {
            self.events_wake.clear();
        }
        drained
    }
}

/// Waits until every count has reached `least`. False if some did not within the limit.
fn wait_reached(counts: &Mutex<Vec<u64>>, changed: &Condvar, least: u64, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    let mut counts = lock(counts);
    while counts.iter().any(|have| *have < least) {
        let Some(left) = deadline.checked_duration_since(Instant::now()) else {
            return false;
        };
        counts = changed
            .wait_timeout(counts, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
    true
}
