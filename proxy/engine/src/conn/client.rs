//! A client connection: unparsed input, the queue of unanswered requests, output.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use super::lane::Side;
use crate::buf::OutBuf;
use crate::command::session::Session;
use crate::proto::meta::Form;
use crate::proto::Resume;
use crate::route::Spot;
use crate::slab::Handle;

/// One request that is not answered yet, in its place in the client's order (P1).
pub struct Slot {
    /// The reply, when it came before an earlier request's; written as soon as it is first.
    pub parked: Vec<u8>,
    pub ready: bool,
    /// Drop the reply instead of writing it (CLIENT REPLY SKIP).
    pub mute: bool,
    pub form: Form,
    pub write: bool,
    /// Command id, for the metrics.
    pub command: u16,
    /// Requests of this slot handled by this worker / handed to another, on shards whose writes
    /// another worker orders (see `worker/handover.rs`).
    pub local: u16,
    pub remote: u16,
    /// It went by a side lane (`worker/aside.rs`).
    pub aside: bool,
    /// Low 32 bits of the microsecond clock when the request was read.
    pub started: u32,
}

/// Why a client's next request is not looked at yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// It can go on.
    None,
    /// limits.client_inflight requests are unanswered.
    Inflight,
    /// Its replies are not being read.
    Output,
    /// Its own earlier requests must be answered first.
    Drain,
    /// A backend is asked about its next command.
    Command,
    /// A blocking command is not answered yet, and holds up what follows it.
    Blocked,
    /// A shard is waited for: a membership change, the other lane's writes, room in a queue.
    Shard,
}

/// An EVALSHA under way that may have to be made again (`worker/scripts.rs`).
pub struct Called {
    /// Its slot.
    pub seq: u32,
    pub spot: Spot,
    pub lane: u8,
    pub bytes: Vec<u8>,
}

/// Requests of one client that are taken whatever their replies weigh.
const FREE_INFLIGHT: usize = 64;
/// Bytes of replies one client may be owed, by the mean of those it had.
const OWED_BYTES: usize = 4 * 1024 * 1024;
/// Mean that is assumed before the first reply, so that a first burst is bounded too.
const FIRST_REPLY_BYTES: u32 = 16 * 1024;

pub struct Client {
    pub fd: OwnedFd,
    pub pool: u16,
    pub lane: u8,
    pub block: Block,
    /// The socket may have more to read although no edge will say so again.
    pub readable: bool,
    /// No more requests are taken; closed when the last reply is out.
    pub closing: bool,
    /// It said QUIT or broke the protocol: what it sent behind that is dropped.
    pub quitting: bool,
    /// The peer has closed or broken the connection; its end is still to be read.
    pub hangup: bool,
    /// Its buffers were given back since it last asked something.
    pub lean: bool,
    pub dirty: bool,
    /// In the list of clients to look at again this turn.
    pub listed: bool,
    /// The wait for a shard took too long; the next request is answered with an error.
    pub expired: bool,
    /// All requests for shards of other workers are handed over (`worker/handover.rs`).
    pub handover: bool,
    /// Its next request waits until those before it are answered: they went another way.
    pub fenced: bool,
    /// The shard whose keys it watches, on a connection that its worker or the shard's owner keeps for it
    /// (`worker/lease.rs`).
    pub watching: Option<Spot>,
    /// Those keys are with another shard by now.
    pub watch_moved: bool,
    /// It has to log in first: a Memcached pool with users. Redis' clients have it in their session.
    pub locked: bool,
    /// It speaks Memcached's binary protocol, as its first byte said.
    pub binary: bool,
    /// A SASL exchange of it waits for its second message.
    pub exchange: bool,
    /// Bytes of an oversized memcached data block still to be skipped.
    pub skip: u64,
    /// Milliseconds of the worker clock when the wait for a shard began; 0 when not waiting.
    pub waiting_since: u64,
    /// Sequence number of the last write, or its like, that a PUBLISH must not overtake.
    pub barrier: u32,
    /// While it is `Block::Blocked`.
    pub wait: Handle,
    /// Id of the last command, once there was one.
    pub command: Option<u16>,
    pub active_second: u32,
    pub local: u32,
    pub remote: u32,
    /// Unanswered reads on the side lanes of a shard, and on which: all that it has under way there.
    pub aside: u32,
    pub aside_at: (Spot, Side),
    /// Running mean of the size of its replies, in bytes.
    pub reply_bytes: u32,
    /// Bytes of replies that wait for an earlier one.
    pub parked: usize,
    pub input: Vec<u8>,
    pub resume: Resume,
    /// Of the reply to the request that is being taken, until that has a slot or its reply.
    pub form: Form,
    pub out: OutBuf,
    pub slots: VecDeque<Slot>,
    /// Sequence number of the first slot.
    pub head: u32,
    pub called: Option<Box<Called>>,
    /// What Redis remembers of a connection; None on Memcached pools.
    pub session: Option<Box<Session>>,
}

impl Client {
    pub fn new(fd: OwnedFd, pool: u16, session: Option<Box<Session>>, second: u32) -> Self {
        Client {
            fd,
            pool,
            lane: 0,
            block: Block::None,
            readable: false,
            closing: false,
            quitting: false,
            hangup: false,
            lean: true,
            dirty: false,
            listed: false,
            expired: false,
            handover: false,
            fenced: false,
            watching: None,
            watch_moved: false,
            locked: false,
            binary: false,
            exchange: false,
            skip: 0,
            waiting_since: 0,
            // None yet: the one before the first.
            barrier: u32::MAX,
            wait: Handle::default(),
            command: None,
            active_second: second,
            local: 0,
            remote: 0,
            aside: 0,
            aside_at: (Spot { pool: 0, shard: 0 }, Side::Small),
            reply_bytes: FIRST_REPLY_BYTES,
            parked: 0,
            input: Vec::new(),
            resume: Resume::default(),
            form: Form::default(),
            out: OutBuf::default(),
            slots: VecDeque::new(),
            head: 0,
            called: None,
            session,
        }
    }

    /// True if another request would exceed what may be unanswered at once: `limit` requests, or
    /// fewer when replies are large. A client that asks for gigabytes and does not read them would
    /// otherwise keep the backends busy for everybody else.
    #[inline]
    pub fn is_full(&self, limit: usize) -> bool {
        let inflight = self.slots.len();
        inflight >= limit
            || (inflight >= FREE_INFLIGHT && inflight * self.reply_bytes as usize >= OWED_BYTES)
    }

    /// True if enough was answered to go on after `is_full`.
    pub fn has_drained(&self, limit: usize) -> bool {
        let inflight = self.slots.len();
        inflight <= FREE_INFLIGHT / 2
            || (inflight <= limit / 2 && inflight * self.reply_bytes as usize <= OWED_BYTES / 2)
    }

    /// True for a client of Redis that has to log in first.
    #[inline]
    pub fn is_guest(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|session| !session.authenticated)
    }

    /// True between MULTI and EXEC.
    pub fn is_in_transaction(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|session| session.queue.is_some())
    }

    /// Gives buffers back that an idle client does not need.
    pub fn shed(&mut self) {
        self.lean = true;
        self.out.shed();
        self.slots.shrink_to_fit();
        self.input.shrink_to_fit();
    }

    /// Appends a slot; returns its sequence number.
    #[inline]
    pub fn push_slot(&mut self, slot: Slot) -> u32 {
        self.slots.push_back(slot);
        self.head.wrapping_add(self.slots.len() as u32 - 1)
    }

    /// The slot of a sequence number, while it is unanswered.
    #[inline]
    pub fn slot(&mut self, seq: u32) -> Option<&mut Slot> {
        self.slots.get_mut(seq.wrapping_sub(self.head) as usize)
    }
}
