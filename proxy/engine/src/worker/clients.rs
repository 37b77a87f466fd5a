//! Client connections: accepting, reading, writing, waiting, ending.
//!
//! A client's bytes are read once into the worker's shared buffer and handled there; only what is
//! left over (half a request, or one that has to wait) is kept with the client.

use super::*;

/// Clients accepted in one turn, so that a connection storm does not starve the others.
const ACCEPTS_PER_TURN: usize = 64;
/// A client that asked nothing for this long gives its buffers back.
const LEAN_MS: u64 = 2_000;

/// Positions of arguments for which room is kept between requests.
const POSITIONS_KEPT: usize = 64 * 1024;

/// What was taken from a client's bytes.
pub(super) enum Taken {
    /// One request of that many bytes.
    Bytes(usize),
    /// None: it is not whole yet, or has to wait.
    Nothing,
    /// The last one there will be.
    Last,
}

impl Worker {
    pub(super) fn accept(&mut self, pool: usize, listener: usize) {
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

    pub(super) fn add_client(&mut self, fd: std::os::fd::OwnedFd, pool: u16) {
        let id = self.shared.next_client_id.fetch_add(1, Relaxed);
        let session = self.new_session(id, pool, &fd);
        let mut client = Client::new(fd, pool, session, (self.now_ms / 1000) as u32);
        let config = &self.shared.config.pools[pool as usize];
        client.locked = client.session.is_none() && !config.users.is_empty();
        let who = self.clients.insert(client);
        self.pool_stats(pool).of(PoolCount::Clients).add(1);
        let token = token(TOKEN_CLIENT, who.index, who.generation);
        let added = match self.clients.get_mut(who) {
            Some(client) => self.poll.add_connection(&client.fd, token).is_ok(),
            None => false,
        };
        if !added {
            self.close_client(who);
        }
    }

    /// What Redis remembers of a connection; Memcached remembers nothing.
    pub(super) fn new_session(
        &self,
        id: u64,
        pool: u16,
        fd: &std::os::fd::OwnedFd,
    ) -> Option<Box<Session>> {
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
    pub(super) fn context(&self, pool: u16) -> Context<'_> {
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
            clients_blocked: self.count_blocked(pool),
            client_idle_timeout_seconds: config.client_idle_timeout / 1000,
            is_cluster: config.is_cluster,
            slot_of: crate::ring::slot_of_key,
            databases: config.databases,
            users: &config.users,
        }
    }

    pub(super) fn close_client(&mut self, who: Handle) {
        if let Some(client) = self.clients.remove(who) {
            self.aside -= client.aside;
            self.poll.remove(&client.fd);
            self.pool_stats(client.pool).of(PoolCount::Clients).sub(1);
            self.shared.pool_clients[client.pool as usize].fetch_sub(1, SeqCst);
            self.shared.worker_clients[self.id].fetch_sub(1, SeqCst);
            if let (Some(watching), Some(session)) = (client.watching, &client.session) {
                self.unwatch(watching, session.id);
            }
            if client.block == Block::Blocked {
                self.leave_wait(client.wait);
            }
            if client.session.is_some_and(|session| session.modal) {
                self.leave_channels(client.pool, who);
            }
        }
    }

    pub(super) fn client_event(&mut self, index: u32, generation: u32, ready: sys::Ready) {
        // The token carries 28 bits of the generation.
        let who = self.clients.handle(index);
        if who.generation & 0x0fff_ffff != generation {
            return;
        }
        let Some(client) = self.clients.get_mut(who) else {
            return;
        };
        client.hangup |= ready.closing;
        if ready.writable && client.out.waiting() > 0 {
            self.mark_client(who);
        }
        if ready.readable || ready.closing {
            self.read_client(who);
        }
    }

    /// Reads once; after a hang-up again until the end shows, since no edge will follow.
    pub(super) fn read_client(&mut self, who: Handle) {
        let mut input = std::mem::take(&mut self.input);
        while let Some(client) = self.clients.get_mut(who) {
            if client.block != Block::None || client.closing {
                client.readable = true;
                if client.hangup && client.block == Block::Blocked {
                    self.abandon_wait(who);
                }
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
                    self.feed_client(who, &input[..count]);
                    if hangup {
                        continue;
                    }
                    if full {
                        self.again
                            .push(token(TOKEN_CLIENT, who.index, who.generation));
                        break;
                    } else {
                        if let Some(client) = self.clients.get_mut(who) {
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
                    self.mark_client(who);
                    break;
                }
                Io::Broken => {
                    self.close_client(who);
                    break;
                }
            }
        }
        self.input = input;
    }

    /// Handles what was read, together with what was left over before.
    pub(super) fn feed_client(&mut self, who: Handle, bytes: &[u8]) {
        let Some(client) = self.clients.get_mut(who) else {
            return;
        };
        if client.input.is_empty() {
            let used = self.consume(who, bytes);
            if let Some(client) = self.clients.get_mut(who) {
                client.input.extend_from_slice(&bytes[used..]);
            }
        } else {
            client.input.extend_from_slice(bytes);
            if client.input.len() > READ_BYTES {
                self.trim_in = TRIM_SWEEPS;
            }
            self.consume_kept(who);
        }
    }

    pub(super) fn consume_kept(&mut self, who: Handle) {
        let Some(client) = self.clients.get_mut(who) else {
            return;
        };
        let input = std::mem::take(&mut client.input);
        self.lent.lend(&input);
        let used = self.consume(who, &input);
        let Some(mut input) = self.settle(input) else {
            return;
        };
        let Some(client) = self.clients.get_mut(who) else {
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
    fn consume(&mut self, who: Handle, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let Some(client) = self.clients.get_mut(who) else {
                return bytes.len();
            };
            if client.quitting {
                return bytes.len();
            }
            if client.fenced {
                if !client.slots.is_empty() {
                    client.block = Block::Drain;
                    break;
                }
                client.fenced = false;
            }
            if client.skip > 0 {
                let skipped = client.skip.min((bytes.len() - at) as u64);
                client.skip -= skipped;
                at += skipped as usize;
                continue;
            }
            if client.block == Block::Blocked {
                break;
            }
            let pool = client.pool as usize;
            if client.is_full(self.shared.config.pools[pool].client_inflight_limit) {
                client.block = Block::Inflight;
                break;
            }
            if client.out.waiting() > CLIENT_OUTPUT_MARK {
                client.block = Block::Output;
                break;
            }
            let rest = &bytes[at..];
            let taken = match self.pools[pool].protocol {
                Protocol::Redis => self.take_redis(who, rest),
                Protocol::Memcached => self.take_memcache(who, rest),
            };
            match taken {
                Taken::Bytes(len) => at += len,
                Taken::Nothing => break,
                Taken::Last => {
                    self.quit(who);
                    return bytes.len();
                }
            }
        }
        for positions in [self.args.capacity(), self.placed.capacity()] {
            if positions > POSITIONS_KEPT {
                (self.args, self.keys, self.placed) = (Vec::new(), Vec::new(), Vec::new());
            }
        }
        at
    }

    /// Takes no more requests; what was asked before is still answered.
    pub(super) fn quit(&mut self, who: Handle) {
        if let Some(client) = self.clients.get_mut(who) {
            client.quitting = true;
            client.closing = true;
            self.mark_client(who);
        }
    }

    /// Looks at a client's kept input again after a wait, then at its socket.
    pub(super) fn resume_client(&mut self, who: Handle) {
        let Some(client) = self.clients.get_mut(who) else {
            return;
        };
        client.listed = false;
        if client.block == Block::Blocked {
            return;
        }
        client.block = Block::None;
        if !client.input.is_empty() {
            self.consume_kept(who);
        }
        if let Some(client) = self.clients.get_mut(who) {
            if client.readable && client.block == Block::None {
                client.readable = false;
                self.again
                    .push(token(TOKEN_CLIENT, who.index, who.generation));
            }
            if client.closing {
                self.mark_client(who);
            }
        }
    }

    /// Has the client's next request looked at again before the turn ends.
    pub(super) fn list_client(&mut self, who: Handle) {
        if let Some(client) = self.clients.get_mut(who) {
            if !client.listed {
                client.listed = true;
                self.resumable.push(who);
            }
        }
    }

    pub(super) fn mark_client(&mut self, who: Handle) {
        if let Some(client) = self.clients.get_mut(who) {
            if !client.dirty {
                client.dirty = true;
                self.dirty_clients.push(who);
            }
        }
    }

    pub(super) fn flush_client(&mut self, who: Handle) {
        let Some(client) = self.clients.get_mut(who) else {
            return;
        };
        client.dirty = false;
        let pool = client.pool;
        let (sent, end) = write_share(&client.fd, &mut client.out);
        client.out.release(sent);
        let broken = end == Written::Broken;
        let waiting = client.out.waiting();
        let is_over =
            waiting + client.parked > self.shared.config.pools[pool as usize].client_output_limit;
        // A closing client with kept input still has requests to be answered, unless they are a torn one.
        let is_done = client.closing
            && waiting == 0
            && client.slots.is_empty()
            && (client.quitting || client.input.is_empty() || client.block == Block::None);
        let resume = client.block == Block::Output && waiting < CLIENT_OUTPUT_MARK / 2;
        if end == Written::Share {
            self.write_again
                .push(token(TOKEN_CLIENT, who.index, who.generation));
        }
        self.pool_stats(pool)
            .of(PoolCount::SentBytes)
            .add(sent as u64);
        if is_over && !broken {
            self.pool_stats(pool).of(PoolCount::OutputClosed).add(1);
        }
        if broken || is_over || is_done {
            self.close_client(who);
        } else if resume {
            self.list_client(who);
        }
    }

    /// Closes clients that are idle for too long, and takes the buffers of those that rest.
    pub(super) fn sweep(&mut self) {
        let second = (self.now_ms / 1000) as u32;
        for who in self.clients.handles() {
            let Some(client) = self.clients.get_mut(who) else {
                continue;
            };
            if !client.slots.is_empty() {
                continue;
            }
            // Whoever is subscribed says nothing for long.
            let listens = client.session.as_ref().is_some_and(|session| session.modal);
            let limit = self.shared.config.pools[client.pool as usize].client_idle_timeout;
            let idle = u64::from(second.saturating_sub(client.active_second)) * 1000;
            if limit > 0 && idle >= limit.max(1000) && !listens {
                self.close_client(who);
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
        self.sweep_feeds();
        if self.trim_in > 0 {
            self.trim_in -= 1;
            if self.trim_in == 0 {
                self.spare.retain(|spare| spare.capacity() <= READ_BYTES);
                if self.scratch.capacity() > READ_BYTES {
                    self.scratch = Vec::new();
                }
                sys::trim_memory();
            }
        }
    }
}
