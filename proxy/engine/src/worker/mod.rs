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

mod backends;
mod deliver;
mod forward;
mod handover;
mod memcache;
mod replicate;
mod requests;
pub mod shared;
mod split;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::Arc;

use crate::command::session::{Context, Session};
use crate::conn::{Block, Client, Conn, ConnState, LANES};
use crate::error::Wire;
use crate::proto::Arg;
use crate::route::Table;
use crate::slab::Slab;
use crate::stats::{PoolCount, PoolStats};
use crate::sys::{self, Io, Poll, PollEvents};
use replicate::{LogEntry, Op};
use shared::{Handover, Message, Protocol, Shared};
use split::Gather;

/// One read takes at most this much; also the fairness quantum between connections.
const READ_BYTES: usize = 64 * 1024;
const EVENTS_PER_TURN: usize = 512;
/// Timeouts are looked at this often while something is under way.
const TICK_MS: u64 = 10;
/// Idle clients are looked for, and an idle worker wakes, this often.
const SWEEP_MS: u64 = 1_000;
/// A client's replies may pile up to here before its requests wait.
const CLIENT_OUTPUT_MARK: usize = 256 * 1024;
/// A client that asked nothing for this long gives its buffers back.
const LEAN_MS: u64 = 2_000;
/// Places for requests in flight that an idle backend connection keeps.
const INFLIGHT_KEPT: usize = 1024;
/// A backend's queue may hold this many bytes before requests for it wait.
const BACKEND_OUTPUT_MARK: usize = 4 * 1024 * 1024;
/// Clients accepted in one turn, so that a connection storm does not starve the others.
const ACCEPTS_PER_TURN: usize = 64;
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

/// A shard as this worker knows it.
struct ShardState {
    conns: Vec<[u32; LANES]>,
    /// Clients (index, generation) whose next request waits for this shard.
    waiting: VecDeque<(u32, u32)>,
    /// Handed-over requests that wait, with the millisecond they came; in order.
    queue: VecDeque<(Handover, u64)>,
    /// Writes for the non-leading replicas that may not go yet (`replicate.rs`).
    log: VecDeque<LogEntry>,
    /// Writes wait for a table without the suspects.
    awaiting_view: bool,
    /// Replicated writes in flight per lane.
    lane_writes: [u32; LANES],
    rotate: u32,
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
    pools: Vec<PoolState>,
    /// The read buffer all connections share; taken out while its bytes are handled.
    input: Vec<u8>,
    args: Vec<Arg>,
    keys: Vec<u32>,
    placed: Vec<(u16, u32)>,
    scratch: Vec<u8>,
    inline: Vec<u8>,
    /// Emptied buffers for parked replies.
    spare: Vec<Vec<u8>>,
    dirty_clients: Vec<(u32, u32)>,
    dirty_conns: Vec<u32>,
    /// Connections whose socket had more than one buffer's worth.
    again: Vec<u64>,
    /// Clients whose next request may go on now.
    resumable: Vec<(u32, u32)>,
    /// Shards whose waiters may go on: (pool, shard).
    woken: Vec<(u16, u16)>,
    mail: Vec<Vec<Message>>,
    /// Microseconds and milliseconds of the clock, read once per turn.
    now: u64,
    now_ms: u64,
    next_tick: u64,
    next_sweep: u64,
    entropy: u32,
    accepting: bool,
    /// Listeners taken out of the poll for a moment (pool, listener).
    resting: Vec<(usize, usize)>,
    /// Nothing can time out, so the poll may wait long. Set by the tick, cleared by any request.
    idle: bool,
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
                    log: VecDeque::new(),
                    awaiting_view: false,
                    lane_writes: [0; LANES],
                    rotate: id as u32,
                })
                .collect(),
        });
        let pools = pools.collect();
        let workers = shared.config.workers;
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
            resumable: Vec::new(),
            woken: Vec::new(),
            mail: (0..workers).map(|_| Vec::new()).collect(),
            now: 0,
            now_ms: 0,
            next_tick: 0,
            next_sweep: 0,
            entropy: 0x9e37_79b9 ^ (id as u32 + 1),
            accepting: true,
            resting: Vec::new(),
            idle: true,
        })
    }

    /// Runs until the engine is shut down and the last client is gone or the grace is over.
    pub fn run(mut self) {
        self.read_clock();
        self.adopt_table();
        let mut events = PollEvents::new(EVENTS_PER_TURN);
        while !self.is_finished() {
            let timeout = self.poll_timeout();
            if self.poll.wait(&mut events, timeout).is_err() {
                break;
            }
            self.read_clock();
            for i in 0..events.len() {
                self.handle(events.get(i));
            }
            for token in std::mem::take(&mut self.again) {
                let (readable, writable, closing) = (true, false, false);
                self.handle(sys::Ready {
                    token,
                    readable,
                    writable,
                    closing,
                });
            }
            if self.now_ms >= self.next_tick {
                self.tick();
            }
            self.finish_turn();
        }
        for (index, generation) in self.clients.keys() {
            self.close_client(index, generation);
        }
    }

    fn read_clock(&mut self) {
        self.now = self.shared.clock.micros();
        // From 1 on, so that 0 can mean "not set".
        self.now_ms = self.now / 1000 + 1;
    }

    fn poll_timeout(&self) -> Option<u32> {
        if !self.again.is_empty() || !self.resumable.is_empty() || !self.woken.is_empty() {
            return Some(0);
        }
        let until = if !self.idle || self.shared.draining.load(Relaxed) {
            self.next_tick
        } else {
            self.next_sweep
        };
        Some(until.saturating_sub(self.now_ms).min(SWEEP_MS) as u32)
    }

    /// True while something may time out.
    fn is_busy(&self) -> bool {
        !self.ops.is_empty()
            || self
                .conns
                .iter()
                .any(|conn| !conn.inflight.is_empty() || !conn.greetings.is_empty())
            || self.pools.iter().any(|pool| {
                pool.shards
                    .iter()
                    .any(|shard| !shard.waiting.is_empty() || !shard.queue.is_empty())
            })
    }

    fn is_finished(&self) -> bool {
        self.shared.draining.load(SeqCst)
            && ((self.clients.is_empty() && self.ops.is_empty())
                || self.now_ms >= self.shared.drain_deadline.load(SeqCst))
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
            for (index, generation) in std::mem::take(&mut self.resumable) {
                self.resume_client(index, generation);
            }
            for index in std::mem::take(&mut self.dirty_conns) {
                self.flush_conn(index);
            }
            for (index, generation) in std::mem::take(&mut self.dirty_clients) {
                self.flush_client(index, generation);
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

    // --- clients ---------------------------------------------------------------------------------

    fn pool_stats(&self, pool: u16) -> &PoolStats {
        &self.shared.stats[self.id].pools[pool as usize]
    }

    fn accept(&mut self, pool: usize, listener: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.accepting {
                return;
            }
            let fd = match sys::accept(&self.shared.config.pools[pool].listeners[listener]) {
                Ok(Some(fd)) => fd,
                Ok(None) => return,
                Err(_) => {
                    // Out of descriptors. The listener stays readable and would keep us spinning, so
                    // it is put back with a later tick.
                    self.poll
                        .remove(&self.shared.config.pools[pool].listeners[listener]);
                    self.resting.push((pool, listener));
                    self.idle = false;
                    return;
                }
            };
            self.pool_stats(pool as u16)
                .of(PoolCount::ClientsTotal)
                .add(1);
            let limit = self.shared.config.pools[pool].client_limit;
            if self.shared.pool_clients[pool].fetch_add(1, SeqCst) >= limit {
                self.shared.pool_clients[pool].fetch_sub(1, SeqCst);
                self.pool_stats(pool as u16).of(PoolCount::Rejected).add(1);
                let wire = Wire::TooManyClients;
                let text = match self.pools[pool].protocol {
                    Protocol::Redis => wire.redis(),
                    Protocol::Memcached => wire.memcached(),
                };
                sys::write(&fd, text);
                continue;
            }
            // The least busy worker serves it, so that few long-lived clients spread evenly.
            let loads = &self.shared.worker_clients;
            let idlest = (0..loads.len()).min_by_key(|worker| loads[*worker].load(SeqCst));
            let target = idlest.unwrap_or(self.id);
            let here = loads[self.id].load(SeqCst) <= loads[target].load(SeqCst);
            let target = if here { self.id } else { target };
            loads[target].fetch_add(1, SeqCst);
            if target == self.id {
                self.add_client(fd, pool as u16);
            } else {
                self.mail[target].push(Message::Client {
                    fd,
                    pool: pool as u16,
                });
            }
        }
    }

    fn add_client(&mut self, fd: std::os::fd::OwnedFd, pool: u16) {
        let id = self.shared.next_client_id.fetch_add(1, Relaxed);
        let session = self.new_session(id, pool, &fd);
        let client = Client::new(fd, pool, session, (self.now_ms / 1000) as u32);
        let (index, generation) = self.clients.insert(client);
        self.pool_stats(pool).of(PoolCount::Clients).add(1);
        let token = token(TOKEN_CLIENT, index, generation);
        let added = match self.clients.at(index) {
            Some(client) => self.poll.add_connection(&client.fd, token).is_ok(),
            None => false,
        };
        if !added {
            self.close_client(index, generation);
        }
    }

    /// What Redis remembers of a connection; Memcached remembers nothing.
    fn new_session(&self, id: u64, pool: u16, fd: &std::os::fd::OwnedFd) -> Option<Box<Session>> {
        if self.pools[pool as usize].protocol == Protocol::Memcached {
            return None;
        }
        let (peer, local) = sys::names(fd);
        let context = self.context(pool);
        Some(Box::new(Session::new(
            id,
            peer.into_bytes(),
            local.into_bytes(),
            &context,
        )))
    }

    /// The facts that answers of our own may need.
    fn context(&self, pool: u16) -> Context<'_> {
        let config = &self.shared.config.pools[pool as usize];
        Context {
            server_version: &config.server_version,
            run_id: &self.shared.config.run_id,
            port: config.port,
            process_id: std::process::id(),
            uptime_seconds: self.shared.clock.seconds(),
            unix_time_us: sys::unix_micros(),
            clients_connected: self.shared.pool_clients[pool as usize].load(Relaxed) as u64,
            clients_limit: config.client_limit as u64,
            client_idle_timeout_seconds: config.client_idle_timeout / 1000,
            used_memory_bytes: 0,
            users: &config.users,
        }
    }

    fn close_client(&mut self, index: u32, generation: u32) {
        if self.clients.get(index, generation).is_none() {
            return;
        }
        if let Some(client) = self.clients.remove(index) {
            self.poll.remove(&client.fd);
            self.pool_stats(client.pool).of(PoolCount::Clients).sub(1);
            self.shared.pool_clients[client.pool as usize].fetch_sub(1, SeqCst);
            self.shared.worker_clients[self.id].fetch_sub(1, SeqCst);
        }
    }

    fn client_event(&mut self, index: u32, generation: u32, ready: sys::Ready) {
        // The token carries 28 bits of the generation.
        let full = self.clients.generation(index);
        if full & 0x0fff_ffff != generation {
            return;
        }
        let Some(client) = self.clients.at(index) else {
            return;
        };
        client.hangup |= ready.closing;
        if ready.writable && client.out.waiting() > 0 {
            self.mark_client(index, full);
        }
        if ready.readable || ready.closing {
            self.read_client(index, full);
        }
    }

    /// Reads once; after a hang-up again until the end shows, since no edge will follow.
    fn read_client(&mut self, index: u32, generation: u32) {
        let mut input = std::mem::take(&mut self.input);
        while let Some(client) = self.clients.get_mut(index, generation) {
            if client.block != Block::None || client.closing {
                client.readable = true;
                break;
            }
            match sys::read(&client.fd, &mut input) {
                Io::Done(count) => {
                    client.active_second = (self.now_ms / 1000) as u32;
                    client.lean = false;
                    let (pool, hangup) = (client.pool, client.hangup);
                    self.pool_stats(pool)
                        .of(PoolCount::ReceivedBytes)
                        .add(count as u64);
                    let full = count == input.len();
                    self.feed_client(index, generation, &input[..count]);
                    if hangup {
                        continue;
                    }
                    if full {
                        self.again.push(token(TOKEN_CLIENT, index, generation));
                        break;
                    } else {
                        if let Some(client) = self.clients.get_mut(index, generation) {
                            client.readable = false;
                        }
                        break;
                    }
                }
                Io::Blocked => {
                    client.readable = false;
                    break;
                }
                Io::End => {
                    // What was asked is still answered: `printf 'GET a\r\n' | nc -N` works.
                    client.closing = true;
                    self.mark_client(index, generation);
                    break;
                }
                Io::Broken => {
                    self.close_client(index, generation);
                    break;
                }
            }
        }
        self.input = input;
    }

    /// Handles what was read, together with what was left over before.
    fn feed_client(&mut self, index: u32, generation: u32, bytes: &[u8]) {
        let Some(client) = self.clients.get_mut(index, generation) else {
            return;
        };
        if client.input.is_empty() {
            let used = self.consume(index, generation, bytes);
            if let Some(client) = self.clients.get_mut(index, generation) {
                client.input.extend_from_slice(&bytes[used..]);
            }
        } else {
            client.input.extend_from_slice(bytes);
            self.consume_kept(index, generation);
        }
    }

    fn consume_kept(&mut self, index: u32, generation: u32) {
        let Some(client) = self.clients.get_mut(index, generation) else {
            return;
        };
        let mut input = std::mem::take(&mut client.input);
        let used = self.consume(index, generation, &input);
        let Some(client) = self.clients.get_mut(index, generation) else {
            return;
        };
        if used == input.len() {
            input = Vec::new();
        } else if used > 0 {
            input.drain(..used);
        }
        client.input = input;
    }

    /// Takes requests from `bytes` until they are used up or one has to wait. Returns bytes used.
    fn consume(&mut self, index: u32, generation: u32, bytes: &[u8]) -> usize {
        let Some(client) = self.clients.get_mut(index, generation) else {
            return bytes.len();
        };
        match self.pools[client.pool as usize].protocol {
            Protocol::Redis => self.consume_redis(index, generation, bytes),
            Protocol::Memcached => self.consume_memcache(index, generation, bytes),
        }
    }

    /// Looks at a client's kept input again after a wait, then at its socket.
    fn resume_client(&mut self, index: u32, generation: u32) {
        let Some(client) = self.clients.get_mut(index, generation) else {
            return;
        };
        client.listed = false;
        client.block = Block::None;
        if !client.input.is_empty() {
            self.consume_kept(index, generation);
        }
        if let Some(client) = self.clients.get_mut(index, generation) {
            if client.readable && client.block == Block::None {
                client.readable = false;
                self.again.push(token(TOKEN_CLIENT, index, generation));
            }
            if client.closing {
                self.mark_client(index, generation);
            }
        }
    }

    /// Has the client's next request looked at again before the turn ends.
    fn list_client(&mut self, index: u32, generation: u32) {
        if let Some(client) = self.clients.get_mut(index, generation) {
            if !client.listed {
                client.listed = true;
                self.resumable.push((index, generation));
            }
        }
    }

    fn mark_client(&mut self, index: u32, generation: u32) {
        if let Some(client) = self.clients.get_mut(index, generation) {
            if !client.dirty {
                client.dirty = true;
                self.dirty_clients.push((index, generation));
            }
        }
    }

    fn flush_client(&mut self, index: u32, generation: u32) {
        let Some(client) = self.clients.get_mut(index, generation) else {
            return;
        };
        client.dirty = false;
        let pool = client.pool;
        let mut sent = 0;
        let mut broken = false;
        while client.out.waiting() > 0 {
            match sys::write(&client.fd, client.out.unwritten()) {
                Io::Done(count) => {
                    client.out.advance(count);
                    client.out.release(count);
                    sent += count as u64;
                }
                Io::Blocked => break,
                Io::End | Io::Broken => {
                    broken = true;
                    break;
                }
            }
        }
        let waiting = client.out.waiting();
        let is_over =
            waiting + client.parked > self.shared.config.pools[pool as usize].client_output_limit;
        // A closing client with kept input still has requests to be answered, unless they are a torn one.
        let is_done = client.closing
            && waiting == 0
            && client.slots.is_empty()
            && (client.quitting || client.input.is_empty() || client.block == Block::None);
        let resume = client.block == Block::Output && waiting < CLIENT_OUTPUT_MARK / 2;
        self.pool_stats(pool).of(PoolCount::SentBytes).add(sent);
        if is_over && !broken {
            self.pool_stats(pool).of(PoolCount::OutputClosed).add(1);
        }
        if broken || is_over || is_done {
            self.close_client(index, generation);
        } else if resume {
            self.list_client(index, generation);
        }
    }

    // --- time ------------------------------------------------------------------------------------

    fn tick(&mut self) {
        self.next_tick = self.now_ms + TICK_MS;
        self.expire_requests();
        self.expire_waits();
        if self.now_ms >= self.next_sweep {
            self.next_sweep = self.now_ms + SWEEP_MS;
            self.sweep();
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

    /// Closes clients that are idle for too long, and takes the buffers of those that rest.
    fn sweep(&mut self) {
        let second = (self.now_ms / 1000) as u32;
        for (index, generation) in self.clients.keys() {
            let Some(client) = self.clients.get_mut(index, generation) else {
                continue;
            };
            if !client.slots.is_empty() {
                continue;
            }
            let limit = self.shared.config.pools[client.pool as usize].client_idle_timeout;
            let idle = u64::from(second.saturating_sub(client.active_second)) * 1000;
            if limit > 0 && idle >= limit.max(1000) {
                self.close_client(index, generation);
            } else if idle >= LEAN_MS && !client.lean {
                client.shed();
            }
        }
        for conn in &mut self.conns {
            if conn.inflight.is_empty() {
                conn.out.shed();
                conn.inflight.shrink_to(INFLIGHT_KEPT);
            }
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
        for (index, generation) in self.clients.keys() {
            if let Some(client) = self.clients.get_mut(index, generation) {
                if client.slots.is_empty() && client.out.waiting() == 0 && client.input.is_empty() {
                    client.closing = true;
                    self.mark_client(index, generation);
                }
            }
        }
    }

    // --- tables ----------------------------------------------------------------------------------

    fn adopt_table(&mut self) {
        let table = self.shared.table();
        let old = std::mem::replace(&mut self.table, Arc::clone(&table));
        for pool in 0..table.pools.len() {
            for shard in 0..table.pools[pool].shards.len() {
                let (before, after) = (
                    &old.pools[pool].shards[shard],
                    &table.pools[pool].shards[shard],
                );
                self.adopt_shard(pool as u16, shard as u16, before, after);
            }
        }
        self.shared.set_adopted(self.id, table.epoch);
    }

    fn adopt_shard(
        &mut self,
        pool: u16,
        shard: u16,
        before: &crate::route::Shard,
        after: &crate::route::Shard,
    ) {
        let suspects = self.shared.shards[pool as usize][shard as usize]
            .suspects
            .load(SeqCst);
        let state = &mut self.pools[pool as usize].shards[shard as usize];
        state.awaiting_view = u32::from(after.in_sync) & suspects != 0;
        for backend in 0..after.backends.len() {
            let was = before.in_sync & (1 << backend) != 0;
            let is = after.in_sync & (1 << backend) != 0;
            let moved = before.backends[backend].address != after.backends[backend].address;
            let changed = before.backends[backend].verify != after.backends[backend].verify;
            for lane in 0..LANES {
                let index = self.pools[pool as usize].shards[shard as usize].conns[backend][lane];
                if index == NO_CONN {
                    continue;
                }
                if (was && !is) || moved {
                    self.retire_conn(index);
                } else if self.conns[index as usize].state == ConnState::Held && (changed || is) {
                    self.reconnect(index);
                }
                if is {
                    self.conns[index as usize].retry_at = 0;
                    self.conns[index as usize].attempts = 0;
                }
            }
        }
        self.recheck_ops(pool, shard);
        self.wake_later(pool, shard);
    }
}
