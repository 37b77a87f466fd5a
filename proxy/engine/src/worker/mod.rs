//! One worker: a thread with its own poll, clients, backend connections and counters.
//!
//! ```text
//! poll ─► listeners      accept, or hand the client to a less busy worker
//!      ─► clients        read once into the shared buffer ─► requests.rs / memcache.rs ─► forward.rs
//!      ─► backends       read once into the shared buffer ─► backends.rs ─► deliver.rs
//!      ─► wake-up        mail of other workers, a new table
//!      ─► every 10 ms    timeouts, idle clients, reconnects
//! end of the turn        write every dirty connection once, post the mail, poll again
//! ```
//!
//! Nothing here blocks but the poll, and nothing decides about membership: when a write fails on a
//! replica the worker reports it, lets the shard's writes wait, and goes on with the next table.

mod aside;
mod ask;
mod backends;
mod behind;
mod binary;
mod blocking;
pub mod census;
mod clients;
mod cut;
mod deliver;
mod dump;
mod everywhere;
mod exec;
mod fan;
mod flush;
mod facts;
mod forward;
mod greeting;
mod handover;
mod in_step;
mod items;
mod learn;
mod lease;
mod lease_request;
mod legs;
mod lent;
mod loss;
mod memcache;
mod meta;
mod news;
mod moved;
mod op;
mod pieces;
mod publish;
mod pubsub;
mod reads;
mod ready;
mod repair;
mod renew;
mod replicate;
mod merge;
mod requests;
mod resolve;
mod retry;
mod scan;
mod scripts;
pub mod shared;
mod split;
mod tables;
mod sums;
mod tally;
mod transaction;
mod topics;
mod upstream;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::Arc;

use crate::buf::OutBuf;
use crate::command::session::{Context, Session};
use crate::conn::{Block, Client, Conn, ConnState, LANES, MAIN_LANES};
use crate::error::Wire;
use crate::proto::Arg;
use crate::route::{Spot, Table};
use crate::slab::{Handle, Slab};
use crate::stats::{PoolCount, PoolStats};
use crate::sys::{self, Io, Poll, PollEvents};
use op::{LogEntry, Op};
use shared::{Handover, Message, Protocol, Shared};
use split::Gather;

/// One read takes at most this much; also the fairness quantum between connections.
const READ_BYTES: usize = 64 * 1024;
/// A connection is written this much before the others have their turn.
const WRITE_BYTES: usize = 256 * 1024;
pub const EVENTS_PER_TURN: usize = 512;
/// Timeouts are looked at this often while something is under way.
const TICK_MS: u64 = 10;
/// Idle clients are looked for, and an idle worker wakes, this often.
const SWEEP_MS: u64 = 1_000;
/// Memory of large values is given back when there were none for so many sweeps. By then those who rest have
/// shed their buffers (`LEAN_MS`), and a steady stream of large values never pays for it.
const TRIM_SWEEPS: u8 = 4;
/// A client's replies may pile up to here before its requests wait.
const CLIENT_OUTPUT_MARK: usize = 256 * 1024;
/// Places for requests in flight that an idle backend connection keeps.
const INFLIGHT_KEPT: usize = 1024;
/// A backend's queue may hold this many bytes before requests for it wait.
const BACKEND_OUTPUT_MARK: usize = 4 * 1024 * 1024;
const NO_CONN: u32 = u32::MAX;

/// What a poll token stands for; the rest of it is an index and a generation.
const TOKEN_CLIENT: u64 = 0;
const TOKEN_CONN: u64 = 1;
const TOKEN_LISTENER: u64 = 2;
const TOKEN_WAKE: u64 = 3;

/// kind: 4 bits, generation: 28 bits (enough to tell neighbours in time apart), index: 32 bits.
fn token(kind: u64, index: u32, generation: u32) -> u64 {
    kind << 60 | u64::from(generation & 0x0fff_ffff) << 32 | u64::from(index)
}

fn listener_token(pool: usize, listener: usize) -> u64 {
    token(TOKEN_LISTENER, pool as u32, listener as u32)
}

/// Why writing ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    /// Nothing is left, or the socket has no room.
    Enough,
    /// The others have their turn first.
    Share,
    Broken,
}

/// Writes what waits in `out`, but no more than one turn's share; how much that was.
#[inline]
fn write_share(fd: &OwnedFd, out: &mut OutBuf) -> (usize, Written) {
    let mut sent = 0;
    while out.waiting() > 0 {
        if sent >= WRITE_BYTES {
            return (sent, Written::Share);
        }
        let bytes = out.unwritten();
        match sys::write(fd, &bytes[..bytes.len().min(WRITE_BYTES)]) {
            Io::Done(count) => {
                out.advance(count);
                sent += count;
            }
            Io::Blocked => break,
            Io::End | Io::Broken => return (sent, Written::Broken),
        }
    }
    (sent, Written::Enough)
}

/// A shard as this worker knows it.
struct ShardState {
    conns: Vec<[u32; LANES]>,
    /// Clients whose next request waits for this shard.
    waiting: VecDeque<Handle>,
    /// Handed-over requests that wait, with the millisecond they came; in order.
    queue: VecDeque<(Handover, u64)>,
    /// Writes that go before all others once there is a new view (`retry.rs`).
    retries: VecDeque<retry::Retry>,
    /// Writes for the non-leading replicas that may not go yet (`replicate.rs`).
    log: VecDeque<LogEntry>,
    /// Connections for clients that watch keys (`lease.rs`).
    leases: lease::Leases,
    /// Writes wait for a table without the suspects.
    awaiting_view: bool,
    /// Since when whoever leads by the table does: nothing is written before (`renew.rs`). The same for who led
    /// before this succession.
    leads_at: u64,
    led_at: u64,
    succession: u64,
    is_succeeding: bool,
    /// Connections to the leader whose writes may have gone out too late, and whether one of them was lost
    /// before that was known (`renew.rs`).
    doubts: u32,
    is_doubtful: bool,
    /// Replicated writes in flight per lane, and those that touch other databases than their lane's.
    lane_writes: [u32; MAIN_LANES],
    wide_writes: u32,
    rotate: u32,
    /// Until then something large may be on one of its lanes, on one of its main lanes (`aside.rs`). Milliseconds
    /// of the worker clock.
    bulky_until: u64,
    main_bulky_until: u64,
}

struct PoolState {
    shards: Vec<ShardState>,
    protocol: Protocol,
}

pub struct Worker {
    id: usize,
    shared: Arc<Shared>,
    table: Arc<Table>,
    poll: Poll,
    clients: Slab<Client>,
    conns: Vec<Conn>,
    ops: Slab<Op>,
    gathers: Slab<Gather>,
    lessons: Slab<learn::Lesson>,
    censuses: Slab<census::Census>,
    /// Lists of keys under way, and connections that such lists had.
    dumps: Slab<dump::Dump>,
    dump_conns: Vec<u32>,
    pools: Vec<PoolState>,
    /// Clients in blocking commands, and what tells them when to try again.
    waits: Slab<blocking::Wait>,
    watches: Vec<ready::Watch>,
    watch_index: HashMap<ready::Place, u32>,
    /// Ends of waits, the next first: millisecond of the worker clock, order, wait.
    timeouts: BTreeSet<(u64, u64, Handle)>,
    /// What could not be put back yet: due, wait.
    put_backs: VecDeque<(u64, Handle)>,
    /// What `waits` take, and the order of the next one.
    waits_bytes: usize,
    next_wait: u64,
    /// Answers of TYPE about keys that are waited for (ready.rs): the clock of what is known of them.
    types_told: u64,
    /// What is known of the large buffer whose bytes are handled (`lent.rs`).
    lent: lent::Lent,
    /// The read buffer all connections share; taken out while its bytes are handled.
    input: Vec<u8>,
    args: Vec<Arg>,
    keys: Vec<u32>,
    placed: Vec<(Spot, u32)>,
    scratch: Vec<u8>,
    inline: Vec<u8>,
    /// Emptied buffers for parked replies.
    spare: Vec<Vec<u8>>,
    dirty_clients: Vec<Handle>,
    dirty_conns: Vec<u32>,
    /// Connections whose socket had more than one buffer's worth.
    again: Vec<u64>,
    /// Connections that may take more than their share of a turn.
    write_again: Vec<u64>,
    /// Clients whose next request may go on now.
    resumable: Vec<Handle>,
    /// Shards whose waiters may go on: (pool, shard).
    woken: Vec<(u16, u16)>,
    mail: Vec<Vec<Message>>,
    known: scripts::Known,
    /// Reads of all clients under way on side lanes; until when something large may be under way (`aside.rs`).
    aside: u32,
    bulky_until: u64,
    /// False if neither speaks for a side lane: nearly always.
    is_watchful: bool,
    /// When gathers end whatever has come (millisecond, gather), in order.
    fan_deadlines: VecDeque<(u64, Handle)>,
    /// Microseconds and milliseconds of the clock, read once per turn.
    now: u64,
    now_ms: u64,
    /// The shortest request timeout. A turn that took that long may have outlived a lease (`renew.rs`).
    stall_ms: u64,
    next_tick: u64,
    next_sweep: u64,
    /// Sweeps until memory of large values is given back; 0 if there is none.
    trim_in: u8,
    entropy: u32,
    accepting: bool,
    /// Listeners taken out of the poll for a moment (pool, listener).
    resting: Vec<(usize, usize)>,
    /// Nothing can time out, so the poll may wait long. Set by the tick, cleared by any request.
    idle: bool,
    /// The last pause this worker has reported itself quiet for.
    quiet: u64,
    channels: pubsub::Channels,
}

/// Milliseconds of the worker's clock: from 1 on, so that 0 can mean "not set".
fn in_ms(micros: u64) -> u64 {
    micros / 1000 + 1
}

impl Worker {
    /// # Errors
    /// No descriptor for the poll, or a listener that cannot be polled.
    pub fn new(id: usize, shared: Arc<Shared>) -> io::Result<Self> {
        let poll = Poll::new()?;
        poll.add_wake(&shared.mailboxes[id].wake, token(TOKEN_WAKE, 0, 0))?;
        for (pool, config) in shared.config.pools.iter().enumerate() {
            for (i, listener) in config.listeners.iter().enumerate() {
                poll.add_listener(listener, listener_token(pool, i))?;
            }
        }
        let table = shared.table();
        let pools = table.pools.iter().zip(&shared.config.pools);
        let pools = pools.map(|(pool, config)| PoolState {
            protocol: config.protocol,
            shards: pool
                .shards
                .iter()
                .map(|shard| ShardState {
                    conns: vec![[NO_CONN; LANES]; shard.backends.len()],
                    waiting: VecDeque::new(),
                    queue: VecDeque::new(),
                    retries: VecDeque::new(),
                    log: VecDeque::new(),
                    leases: lease::Leases::default(),
                    awaiting_view: false,
                    leads_at: 0,
                    led_at: 0,
                    succession: 0,
                    is_succeeding: false,
                    doubts: 0,
                    is_doubtful: false,
                    lane_writes: [0; MAIN_LANES],
                    wide_writes: 0,
                    rotate: id as u32,
                    bulky_until: 0,
                    main_bulky_until: 0,
                })
                .collect(),
        });
        let pools = pools.collect();
        let timeouts = shared.config.pools.iter().map(|pool| pool.request_timeout);
        let stall_ms = timeouts.min().unwrap_or(SWEEP_MS);
        let workers = shared.config.workers;
        let channels = pubsub::Channels::new(&table);
        Ok(Worker {
            id,
            table,
            poll,
            pools,
            shared,
            clients: Slab::default(),
            conns: Vec::new(),
            ops: Slab::default(),
            gathers: Slab::default(),
            lessons: Slab::default(),
            censuses: Slab::default(),
            dumps: Slab::default(),
            dump_conns: Vec::new(),
            waits: Slab::default(),
            watches: Vec::new(),
            watch_index: HashMap::new(),
            timeouts: BTreeSet::new(),
            put_backs: VecDeque::new(),
            waits_bytes: 0,
            next_wait: 0,
            types_told: 0,
            lent: lent::Lent::default(),
            input: vec![0; READ_BYTES],
            args: Vec::new(),
            keys: Vec::new(),
            placed: Vec::new(),
            scratch: Vec::new(),
            inline: Vec::new(),
            spare: Vec::new(),
            dirty_clients: Vec::new(),
            dirty_conns: Vec::new(),
            again: Vec::new(),
            write_again: Vec::new(),
            resumable: Vec::new(),
            woken: Vec::new(),
            mail: (0..workers).map(|_| Vec::new()).collect(),
            known: scripts::Known::default(),
            aside: 0,
            bulky_until: 0,
            is_watchful: false,
            fan_deadlines: VecDeque::new(),
            now: 0,
            now_ms: 0,
            stall_ms,
            next_tick: 0,
            next_sweep: 0,
            trim_in: 0,
            entropy: 0x9e37_79b9 ^ (id as u32 + 1),
            accepting: true,
            resting: Vec::new(),
            idle: true,
            quiet: 0,
            channels,
        })
    }

    /// Runs until the engine is shut down and the last client is gone or the grace is over.
    pub fn run(mut self) {
        self.begin();
        let mut events = PollEvents::new(EVENTS_PER_TURN);
        while !self.is_finished() && self.turn(&mut events).is_ok() {}
        for who in self.clients.handles() {
            self.close_client(who);
        }
    }

    /// What comes before the first turn.
    pub fn begin(&mut self) {
        self.read_clock();
        self.adopt_table();
    }

    /// Waits for input and does all that follows from it: one round of the picture above.
    ///
    /// # Errors
    /// The poll is broken.
    pub fn turn(&mut self, events: &mut PollEvents) -> io::Result<()> {
        let timeout = self.poll_timeout();
        self.poll.wait(events, timeout)?;
        let before = self.now_ms;
        self.read_clock();
        let stood_ms = self.now_ms - before;
        if stood_ms >= self.stall_ms && !self.idle {
            // Nobody is late before what has come meanwhile is read.
            self.next_tick = self.now_ms + TICK_MS;
            self.doubt_writes(stood_ms);
        }
        for i in 0..events.len() {
            self.handle(events.get(i));
        }
        let (again, write_again) = (
            std::mem::take(&mut self.again),
            std::mem::take(&mut self.write_again),
        );
        let tokens = again.into_iter().map(|token| (token, true));
        for (token, readable) in tokens.chain(write_again.into_iter().map(|token| (token, false))) {
            self.handle(sys::Ready {
                token,
                readable,
                writable: !readable,
                closing: false,
            });
        }
        if self.now_ms >= self.next_tick {
            self.tick();
        }
        if self.next_timeout().is_some_and(|end| end <= self.now_ms) {
            self.expire_blocked();
        }
        self.finish_turn();
        self.report_quiet();
        Ok(())
    }

    fn pool_stats(&self, pool: u16) -> &PoolStats {
        &self.shared.stats[self.id].pools[pool as usize]
    }

    fn read_clock(&mut self) {
        self.now = self.shared.clock.micros();
        self.now_ms = in_ms(self.now);
    }

    fn poll_timeout(&self) -> Option<u32> {
        let is_unfinished = !self.again.is_empty() || !self.write_again.is_empty();
        if is_unfinished || !self.resumable.is_empty() || !self.woken.is_empty() {
            return Some(0);
        }
        let until = if !self.idle || self.shared.draining.load(Relaxed) {
            self.next_tick
        } else {
            self.next_sweep
        };
        let until = self.next_timeout().map_or(until, |end| until.min(end));
        Some(until.saturating_sub(self.now_ms).min(SWEEP_MS) as u32)
    }

    /// True while something may time out.
    fn is_busy(&self) -> bool {
        !self.ops.is_empty()
            || self.is_subscribing()
            || !self.fan_deadlines.is_empty()
            || !self.put_backs.is_empty()
            || !self.dumps.is_empty()
            || self.is_watching_blind()
            || self
                .conns
                .iter()
                .any(|conn| !conn.inflight.is_empty() || !conn.greetings.is_empty())
            || self.pools.iter().any(|pool| {
                pool.shards.iter().any(|shard| {
                    !shard.waiting.is_empty()
                        || !shard.queue.is_empty()
                        || !shard.retries.is_empty()
                        || shard.leases.is_waiting()
                })
            })
    }

    fn is_finished(&self) -> bool {
        // While it accepts, what is to be done before the end has not been begun.
        let is_done = || {
            !self.accepting
                && self.clients.is_empty()
                && self.ops.is_empty()
                && self.waits.is_empty()
                && self
                    .pools
                    .iter()
                    .all(|pool| pool.shards.iter().all(|shard| shard.queue.is_empty()))
        };
        self.shared.draining.load(SeqCst)
            && (is_done() || self.now_ms >= self.shared.drain_deadline.load(SeqCst))
    }

    fn handle(&mut self, ready: sys::Ready) {
        let index = ready.token as u32;
        let generation = (ready.token >> 32) as u32 & 0x0fff_ffff;
        match ready.token >> 60 {
            TOKEN_CLIENT => self.client_event(index, generation, ready),
            TOKEN_CONN => self.conn_event(index, generation, ready),
            TOKEN_LISTENER => self.accept(index as usize, generation as usize),
            _ => {
                self.shared.mailboxes[self.id].wake.clear();
                self.read_mail();
                if self.shared.table_epoch.load(SeqCst) != self.table.epoch {
                    self.adopt_table();
                }
                self.wake_unpaused();
                if self.shared.draining.load(SeqCst) {
                    self.start_draining();
                }
            }
        }
    }

    /// Everything that follows from the turn's input: requests that can go on, then one write per
    /// connection, then the mail. Writing may find connections broken, which makes more of each.
    fn finish_turn(&mut self) {
        loop {
            for (pool, shard) in std::mem::take(&mut self.woken) {
                self.wake_shard(pool, shard);
            }
            for who in std::mem::take(&mut self.resumable) {
                self.resume_client(who);
            }
            for index in std::mem::take(&mut self.dirty_conns) {
                self.flush_conn(index);
            }
            for who in std::mem::take(&mut self.dirty_clients) {
                self.flush_client(who);
            }
            let dirty = !self.dirty_conns.is_empty() || !self.dirty_clients.is_empty();
            if !dirty && self.woken.is_empty() && self.resumable.is_empty() {
                break;
            }
        }
        for (worker, batch) in self.mail.iter_mut().enumerate() {
            if !batch.is_empty() {
                self.shared.mailboxes[worker].post(batch);
            }
        }
    }

    fn tick(&mut self) {
        self.next_tick = self.now_ms + TICK_MS;
        self.relax();
        self.expire_requests();
        self.end_successions();
        self.expire_waits();
        self.expire_fans();
        self.expire_blocked();
        self.tend_watches();
        self.wake_unshown();
        self.tick_channels();
        self.tend_dumps();
        if self.now_ms >= self.next_sweep {
            self.next_sweep = self.now_ms + SWEEP_MS;
            self.sweep();
            self.sweep_watches();
            self.flush_due();
        }
        for (pool, listener) in std::mem::take(&mut self.resting) {
            let fd = &self.shared.config.pools[pool].listeners[listener];
            if self.accepting
                && self
                    .poll
                    .add_listener(fd, listener_token(pool, listener))
                    .is_err()
            {
                self.resting.push((pool, listener));
            }
        }
        if self.shared.draining.load(Relaxed) {
            self.start_draining();
        }
    }

    /// Stops accepting and closes every client that has nothing outstanding.
    fn start_draining(&mut self) {
        if self.accepting {
            self.accepting = false;
            for pool in &self.shared.config.pools {
                for listener in &pool.listeners {
                    self.poll.remove(listener);
                }
            }
        }
        self.release_blocked();
        self.flush_due();
        for who in self.clients.handles() {
            if let Some(client) = self.clients.get_mut(who) {
                let is_idle = client.slots.is_empty() && client.out.waiting() == 0;
                if is_idle && client.input.is_empty() && !client.is_in_transaction() {
                    client.closing = true;
                    self.mark_client(who);
                }
            }
        }
    }
}
