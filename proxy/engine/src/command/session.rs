//! What the proxy remembers of one Redis client between its requests.
//!
//! A backend connection is shared by many clients, so everything that Redis keeps per connection
//! lives here. Owned by the client's connection, changed by the local answers, asked for every
//! request (`allows`, `mutes`).

use super::channel::Act;
use super::overlay::{Handling, LocalKind};
use super::queue::Queue;
use super::spec::Flags;
use super::table::Row;
use super::users::{self, Users};
use crate::error::{self, Wire};

/// The facts of the world that an answer may need. Values only; read once per loop turn.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub server_version: &'a str,
    /// 40 hexadecimal digits, new with each process.
    pub run_id: &'a str,
    /// TCP port clients use, 0 if none.
    pub port: u16,
    pub process_id: u32,
    pub uptime_seconds: u64,
    /// Microseconds since 1970.
    pub unix_time_us: u64,
    pub clients_connected: u64,
    pub clients_limit: u64,
    pub clients_blocked: u64,
    pub client_idle_timeout_seconds: u64,
    /// Shown as a cluster of one node.
    pub is_cluster: bool,
    /// The slot of a key by the cluster specification.
    pub slot_of: fn(&[u8]) -> usize,
    /// Databases that may be selected.
    pub databases: u8,
    /// Who may log in; empty means that nobody has to.
    pub users: &'a Users,
}

impl Context<'_> {
    /// What clients call the way the servers are run.
    pub(super) fn mode(&self) -> &'static str {
        if self.is_cluster {
            "cluster"
        } else {
            "standalone"
        }
    }
}

/// CLIENT REPLY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyMode {
    #[default]
    On,
    Off,
    /// The next reply only is not sent.
    SkipNext,
}

/// One client.
#[derive(Clone, Debug)]
pub struct Session {
    pub resp3: bool,
    pub database: u8,
    pub authenticated: bool,
    pub user: Vec<u8>,
    /// Unique in the process, rising.
    pub id: u64,
    /// CLIENT SETNAME; empty for none.
    pub name: Vec<u8>,
    pub lib_name: Vec<u8>,
    pub lib_ver: Vec<u8>,
    pub no_evict: bool,
    pub no_touch: bool,
    pub reply: ReplyMode,
    /// What came since MULTI; None outside of a transaction.
    pub queue: Option<Box<Queue>>,
    /// `ip:port` of the client, as CLIENT LIST shows it.
    pub address: Vec<u8>,
    /// `ip:port` the client connected to.
    pub local_address: Vec<u8>,
    /// Microseconds since 1970.
    pub connected_us: u64,
    /// How many channels, patterns and shard channels are subscribed to.
    pub subscriptions: [u32; 3],
    /// A SUBSCRIBE is under way: what follows has to wait for it.
    pub joining: bool,
    pub monitoring: bool,
    /// Some of the three above; asked for every request.
    pub modal: bool,
}

pub(super) const DEFAULT_USER: &[u8] = b"default";

impl Session {
    pub fn new(
        id: u64,
        address: Vec<u8>,
        local_address: Vec<u8>,
        context: &Context<'_>,
    ) -> Session {
        Session {
            resp3: false,
            database: 0,
            authenticated: context.users.is_empty(),
            user: DEFAULT_USER.to_vec(),
            id,
            name: Vec::new(),
            lib_name: Vec::new(),
            lib_ver: Vec::new(),
            no_evict: false,
            no_touch: false,
            reply: ReplyMode::On,
            queue: None,
            address,
            local_address,
            connected_us: context.unix_time_us,
            subscriptions: [0; 3],
            joining: false,
            monitoring: false,
            modal: false,
        }
    }

    pub fn is_subscribed(&self) -> bool {
        self.subscriptions != [0; 3]
    }

    /// True while only subscriptions may be asked for.
    fn is_restricted(&self) -> bool {
        self.is_subscribed() && !self.resp3
    }

    /// Follows a change of `subscriptions`, `joining` or `monitoring`.
    pub fn settle(&mut self) {
        self.modal = self.joining || self.monitoring || self.is_subscribed();
    }

    /// Appends the error for a request that may not be made while subscribed (RESP2), or monitoring; true
    /// if it is one.
    pub fn refuses(&self, row: &Row, out: &mut Vec<u8>) -> bool {
        let leaves = || {
            matches!(
                row.handling,
                Handling::Channel(Act::Subscribe(_) | Act::Unsubscribe(_))
                    | Handling::Local(LocalKind::Ping | LocalKind::Quit | LocalKind::Reset)
            ) && row.name != "MONITOR"
        };
        if self.is_restricted() && !leaves() {
            error::not_while_subscribed(row.name, out);
            return true;
        }
        // A server takes whoever monitors for a replica.
        let publishes = row.handling == Handling::Channel(Act::Publish);
        let touches = row.flags.has_any(Flags::READONLY.with(Flags::WRITE)) || row.is_write();
        if self.monitoring && (publishes || touches) {
            out.extend_from_slice(Wire::MonitorKeyspace.redis());
            return true;
        }
        false
    }

    /// True if the command may run now; if not, the answer is `Wire::NoAuth`.
    #[inline]
    pub fn allows(&self, row: &Row) -> bool {
        self.authenticated || row.flags.has(Flags::NO_AUTH)
    }

    /// True if the reply to this request is not sent. Call once for each request, in order, before
    /// it is answered. CLIENT REPLY is not muted here where it is carried out: its answer says what is sent.
    #[inline]
    pub fn mutes(&mut self, row: Option<&Row>) -> bool {
        if self.reply == ReplyMode::On {
            return false;
        }
        let is = |kind| row.is_some_and(|row| row.handling == Handling::Local(kind));
        let acts = self.queue.is_none() && !self.is_restricted();
        if acts && is(LocalKind::ClientReply) {
            return false;
        }
        match self.reply {
            // RESET ends the silence before it is answered.
            ReplyMode::Off => !is(LocalKind::Reset),
            _ => {
                self.reply = ReplyMode::On;
                true
            }
        }
    }

    /// Logs in, or says why not.
    ///
    /// Args:
    ///     name: None for `AUTH password`, which means the user "default".
    pub(super) fn login(
        &mut self,
        name: Option<&[u8]>,
        password: &[u8],
        users: &Users,
    ) -> Result<(), Wire> {
        if users.is_empty() {
            return match name {
                None => Err(Wire::NoPassword),
                // Redis' default user then has "nopass": any password will do.
                Some(DEFAULT_USER) => Ok(()),
                Some(_) => Err(Wire::WrongPassword),
            };
        }
        let name = name.unwrap_or(DEFAULT_USER);
        if !users::is_known(users, name, password) {
            return Err(Wire::WrongPassword);
        }
        self.authenticated = true;
        self.user = name.to_vec();
        Ok(())
    }

    /// RESET: as a new connection, except for what names the client library.
    pub(super) fn reset(&mut self, users: &Users) {
        self.resp3 = false;
        self.database = 0;
        self.authenticated = users.is_empty();
        self.user = DEFAULT_USER.to_vec();
        self.name.clear();
        self.reply = ReplyMode::On;
        self.queue = None;
        self.no_touch = false;
        self.subscriptions = [0; 3];
        self.monitoring = false;
        self.settle();
    }
}
