//! A backend connection: a pipeline of requests in flight and whom their replies are for.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use super::lane;
use crate::buf::OutBuf;
use crate::proto::memcache::ReplyKind;
use crate::proto::Resume;
use crate::slab::Handle;

/// Whom a reply is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyTo {
    /// A client's slot.
    Slot { client: Handle, seq: u32 },
    /// One part of a split request. `last` is false for the earlier of its replies, where it has several.
    Part {
        gather: Handle,
        part: u16,
        last: bool,
    },
    /// One replica's answer to a write. `last` is false for the earlier replies of a batch, which
    /// only matter when they are errors.
    Leg { op: Handle, backend: u8, last: bool },
    /// Something on another worker: a slot, or a part if `part` is not `NO_PART`, or a wait (`WAIT_PART`).
    Remote {
        worker: u8,
        target: Handle,
        seq: u32,
        part: u16,
    },
    /// What a backend knows of a command (`worker/learn.rs`).
    Lesson(Handle),
    /// A client that waits, or will if there is nothing (`worker/blocking.rs`).
    Try(Handle),
    /// What tells when to try again (`worker/ready.rs`).
    Armed { watch: u32, generation: u32 },
    /// The record was asked for again (`worker/renew.rs`).
    Record,
    /// It was asked what only its own answer can follow (`worker/in_step.rs`).
    Step,
    /// Nobody.
    Nobody,
}

/// More than this is large: what takes longer than one read of a socket.
pub const BULK_BYTES: usize = 64 * 1024;

pub const NO_PART: u16 = u16::MAX;
pub const WAIT_PART: u16 = u16::MAX - 1;

/// What a connection of subscriptions was asked, whose confirmation is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To begin the subscription of a topic. One command asks for several; they
    /// have its number in common, as an error is for all of them.
    Begin {
        topic: Handle,
        command: u32,
    },
    End,
}

/// A connection that carries no requests but what a server says by itself (`worker/upstream.rs`).
#[derive(Debug, Default)]
pub struct Feed {
    /// Lines of MONITOR instead of messages.
    pub monitors: bool,
    pub asked: VecDeque<Asked>,
    /// Commands sent so far.
    pub commands: u32,
}

/// One request on its way.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    pub to: ReplyTo,
    /// A read may be asked of another replica; `tried` are those that had it.
    pub read: bool,
    pub tried: u32,
    pub kind: ReplyKind,
    /// A message is published: not a read, for it is not made again, and no write, as it leaves nothing
    /// behind that a replica has to have.
    pub publishes: bool,
    /// A read that means nothing to another backend: it fails with its connection (`worker/fan.rs`).
    pub pinned: bool,
    /// Timed out and answered: the late reply is dropped.
    pub tombstone: bool,
    /// Worker clock in milliseconds when it was queued or, if later, when the connection was ready.
    pub sent_at: u32,
    /// Bytes of the request, and the connection's running count of bytes at its end.
    pub len: u32,
    pub end: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnState {
    /// Not connected. A request that wants it connects it, but not before `retry_at`.
    Closed,
    Connecting,
    /// Logging in and showing who it is; nothing of clients has been sent.
    Verifying,
    Ready,
    /// It showed something unexpected. Writes wait for the next table, reads went elsewhere.
    Held,
}

/// What the next reply of a connection that is being verified answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    Auth,
    Hello,
    Verify(u8),
    /// memcached: how large an item may be (`stats settings`).
    Settings,
    /// The lane's database. Last, since the record is in the first one.
    Select,
}

/// The replies of a batch (`ReplyKind::Batch`) so far.
#[derive(Default)]
pub struct Batch {
    seen: u32,
    /// The first error in front of the last reply.
    pub refused: Vec<u8>,
}

impl Batch {
    /// Takes the next of `replies` replies. True if it is the last one.
    pub fn take(&mut self, reply: &[u8], replies: u32) -> bool {
        if self.seen == 0 {
            self.refused.clear();
        }
        self.seen += 1;
        if self.seen == replies {
            self.seen = 0;
            return true;
        }
        if reply.starts_with(b"-") && self.refused.is_empty() {
            self.refused.extend_from_slice(reply);
        }
        false
    }

    pub fn clear(&mut self) {
        *self = Batch::default();
    }
}

pub struct Conn {
    pub pool: u16,
    pub shard: u16,
    pub backend: u8,
    pub lane: u8,
    pub state: ConnState,
    pub fd: Option<OwnedFd>,
    /// Tells events of an earlier socket of this connection apart.
    pub generation: u32,
    pub dirty: bool,
    pub readable: bool,
    /// The last connection attempt failed.
    pub failing: bool,
    /// What it tells changes of keys to (`worker/ready.rs`); `u32::MAX` for all others, which carry requests.
    pub watch: u32,
    /// Keep requests until they are answered, to ask another replica.
    pub keep: bool,
    /// Milliseconds of the worker clock.
    pub retry_at: u64,
    pub deadline: u64,
    pub last_reply: u64,
    pub attempts: u32,
    /// Epoch of the table whose records it was asked to show.
    pub greeted_epoch: u64,
    /// When the greeting was sent. Worker clock in milliseconds.
    pub greeted_at: u64,
    /// When the record was last asked for and then shown; 0 never. Worker clock in milliseconds.
    pub shown_at: u64,
    /// When it was last asked for by `worker/renew.rs`.
    pub asked_at: u64,
    /// Since when its writes may have gone out too late, until it shows the record behind them; 0: they have not.
    pub doubted_at: u64,
    pub greetings: VecDeque<Greeting>,
    pub greeting_out: OutBuf,
    pub out: OutBuf,
    pub input: Vec<u8>,
    pub resume: Resume,
    pub inflight: VecDeque<Pending>,
    /// Of the first in flight.
    pub batch: Batch,
    /// How many of `inflight`, from the front, are tombstones.
    pub tombstones: usize,
    /// One of `inflight` is to show that replies still belong to their requests.
    pub asks_step: bool,
    /// When it was first found with requests in flight since it had none, or since such a question was answered;
    /// 0: it was not. Worker clock in milliseconds.
    pub busy_since: u64,
    /// Running counts of bytes queued and written since the connection was made (wrapping).
    pub queued: u32,
    pub written: u32,
    /// Present on a connection of subscriptions.
    pub feed: Option<Box<Feed>>,
    /// The list of keys it is made for (`worker/dump.rs`).
    pub dump: Option<Handle>,
}

impl Conn {
    pub fn new(pool: u16, shard: u16, backend: u8, lane: u8, keep: bool) -> Self {
        Conn {
            pool,
            shard,
            backend,
            lane,
            state: ConnState::Closed,
            fd: None,
            generation: 0,
            dirty: false,
            readable: false,
            failing: false,
            watch: u32::MAX,
            keep,
            retry_at: 0,
            deadline: 0,
            last_reply: 0,
            attempts: 0,
            greeted_epoch: 0,
            greeted_at: 0,
            shown_at: 0,
            asked_at: 0,
            doubted_at: 0,
            greetings: VecDeque::new(),
            greeting_out: OutBuf::default(),
            out: OutBuf::default(),
            input: Vec::new(),
            resume: Resume::default(),
            inflight: VecDeque::new(),
            batch: Batch::default(),
            tombstones: 0,
            asks_step: false,
            busy_since: 0,
            queued: 0,
            written: 0,
            feed: None,
            dump: None,
        }
    }

    /// Queues one request. `bytes` may be empty when an earlier entry of a batch carries them.
    #[inline]
    pub fn push(&mut self, bytes: &[u8], pending: Pending) {
        self.out.extend(bytes);
        self.push_counted(bytes.len(), pending);
    }

    /// Queues a request whose bytes are in `out` already, or will be before anything else is.
    #[inline]
    pub fn push_counted(&mut self, len: usize, mut pending: Pending) {
        self.queued = self.queued.wrapping_add(len as u32);
        pending.len = len as u32;
        pending.end = self.queued;
        self.inflight.push_back(pending);
    }

    /// True if a write is unanswered, even one that was given up.
    pub fn is_writing(&self) -> bool {
        let is_write = |pending: &Pending| {
            let is_own = matches!(pending.to, ReplyTo::Record | ReplyTo::Step);
            !pending.read && !pending.publishes && !is_own
        };
        self.inflight.iter().any(is_write)
    }

    /// The main lane that its lane stands beside, or its own.
    #[inline]
    pub fn main_lane(&self) -> u8 {
        lane::main(self.lane)
    }

    /// True if something large is on its way: bytes of requests that wait, or a part of a reply.
    #[inline]
    pub fn is_bulky(&self) -> bool {
        self.out.waiting() > BULK_BYTES || self.input.len() > BULK_BYTES
    }

    /// What it has shown says nothing about the table that is new.
    pub fn forget_shown(&mut self) {
        self.shown_at = 0;
        self.asked_at = 0;
    }

    /// True if some byte of the request may have reached the backend.
    #[inline]
    pub fn was_sent(&self, pending: &Pending) -> bool {
        let start = pending.end.wrapping_sub(pending.len);
        (self.written.wrapping_sub(start) as i32) > 0
    }
}
