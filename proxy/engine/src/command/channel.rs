//! Publish/subscribe as values: where a channel lives, what subscribers are sent, what they are not shown.
//!
//! Called by `worker/pubsub.rs`, `worker/publish.rs` and `worker/news.rs`. Reply forms are those of
//! redis-server 7 (`pubsub.c`). No connection and no table of subscribers here.

use std::collections::HashSet;

use super::{is_reserved, RESERVED_PREFIX};
use crate::proto::resp;

/// What a client subscribes to. The first three are also the order of `Session::subscriptions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Channel,
    Pattern,
    /// SSUBSCRIBE. Counted apart from the other two.
    Shard,
    /// MONITOR: everything a server does, as lines of text. Has no name.
    Monitor,
}

pub const KINDS: usize = 4;

/// A question about subscriptions (PUBSUB).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryKind {
    Channels,
    NumPat,
    NumSub,
    ShardChannels,
    ShardNumSub,
}

/// What a command of publish/subscribe does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Subscribe(Kind),
    Unsubscribe(Kind),
    Publish,
    Query(QueryKind),
}

impl Kind {
    /// The command that subscribes, as sent to a server, and the word of its confirmation.
    pub const fn subscribe(self) -> (&'static str, &'static str) {
        match self {
            Kind::Channel => ("SUBSCRIBE", "subscribe"),
            Kind::Pattern => ("PSUBSCRIBE", "psubscribe"),
            Kind::Shard => ("SSUBSCRIBE", "ssubscribe"),
            Kind::Monitor => ("MONITOR", "monitor"),
        }
    }

    pub const fn unsubscribe(self) -> (&'static str, &'static str) {
        match self {
            Kind::Channel => ("UNSUBSCRIBE", "unsubscribe"),
            Kind::Pattern => ("PUNSUBSCRIBE", "punsubscribe"),
            Kind::Shard => ("SUNSUBSCRIBE", "sunsubscribe"),
            Kind::Monitor => ("RESET", "reset"),
        }
    }

    /// The count that a confirmation shows, of what a client has by kind.
    pub fn count(self, subscriptions: &[u32; 3]) -> u32 {
        match self {
            Kind::Shard => subscriptions[2],
            _ => subscriptions[0] + subscriptions[1],
        }
    }
}

/// Where something that is subscribed to happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// On the shard of this name.
    At(&'a [u8]),
    Everywhere,
}

/// Where to subscribe. Notifications happen where their key is, and those by event anywhere.
pub fn place(kind: Kind, name: &[u8]) -> Place<'_> {
    match kind {
        Kind::Pattern | Kind::Monitor => Place::Everywhere,
        Kind::Shard => Place::At(name),
        Kind::Channel => match notification(name) {
            Some((Notification::Key, key)) => Place::At(key),
            Some((Notification::Event, _)) => Place::Everywhere,
            None => Place::At(name),
        },
    }
}

/// The name whose shard a message is published at.
pub fn published_at(name: &[u8]) -> &[u8] {
    match place(Kind::Channel, name) {
        Place::At(name) => name,
        Place::Everywhere => name,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notification {
    /// `__keyspace@0__:key`; the message is the event.
    Key,
    /// `__keyevent@0__:event`; the message is the key.
    Event,
}

/// What a channel of keyspace notifications is about: the kind, and the key or event.
pub fn notification(name: &[u8]) -> Option<(Notification, &[u8])> {
    let (kind, rest) = match (
        name.strip_prefix(b"__keyspace@"),
        name.strip_prefix(b"__keyevent@"),
    ) {
        (Some(rest), _) => (Notification::Key, rest),
        (_, Some(rest)) => (Notification::Event, rest),
        _ => return None,
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let subject = rest[digits..].strip_prefix(b"__:")?;
    (digits > 0).then_some((kind, subject))
}

/// True for what clients are not shown: the proxy's own names, and notifications about its records.
pub fn is_hidden(channel: &[u8], payload: &[u8]) -> bool {
    is_reserved(channel)
        || match notification(channel) {
            Some((Notification::Key, key)) => is_reserved(key),
            Some((Notification::Event, _)) => is_reserved(payload),
            None => false,
        }
}

/// Appends one confirmation; `name` is None where nothing was left to unsubscribe from.
pub fn confirm(resp3: bool, word: &str, name: Option<&[u8]>, count: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(if resp3 { b">3\r\n" } else { b"*3\r\n" });
    resp::write_bulk(out, word.as_bytes());
    match name {
        Some(name) => resp::write_bulk(out, name),
        None if resp3 => out.extend_from_slice(b"_\r\n"),
        None => out.extend_from_slice(b"$-1\r\n"),
    }
    out.push(b':');
    resp::write_number(out, u64::from(count));
    out.extend_from_slice(b"\r\n");
}

/// What a server sends to a RESP2 connection that is subscribed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News<'a> {
    /// Something was published: `name` is what was subscribed to, `channel` where it was published.
    Message {
        kind: Kind,
        name: &'a [u8],
        channel: &'a [u8],
        payload: &'a [u8],
    },
    /// A subscription or its end is confirmed; `begins` tells which.
    Confirmed {
        kind: Kind,
        begins: bool,
    },
    /// The answer to a PING, which says only that somebody is there.
    Pong,
    Error,
    /// Nothing that this connection could be sent.
    Strange,
}

/// Reads one whole reply.
pub fn news(reply: &[u8]) -> News<'_> {
    match reply.first() {
        Some(b'+') => return News::Pong,
        Some(b'-') => return News::Error,
        _ => {}
    }
    let Some((count, mut at)) = resp::aggregate(reply) else {
        return News::Strange;
    };
    let mut parts: [&[u8]; 4] = [b""; 4];
    if count < 2 || count > parts.len() {
        return News::Strange;
    }
    for part in parts.iter_mut().take(count) {
        let rest = &reply[at..];
        let len = resp::value_len(rest);
        *part = resp::string(&rest[..len]).unwrap_or(b"");
        at += len;
    }
    let [word, name, third, fourth] = parts;
    let message = |kind, channel, payload| News::Message {
        kind,
        name,
        channel,
        payload,
    };
    match (word, count) {
        (b"message", 3) => message(Kind::Channel, name, third),
        (b"smessage", 3) => message(Kind::Shard, name, third),
        (b"pmessage", 4) => message(Kind::Pattern, third, fourth),
        (b"pong", 2) => News::Pong,
        (_, 3) => {
            for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
                for (begins, (_, known)) in [(true, kind.subscribe()), (false, kind.unsubscribe())]
                {
                    if word == known.as_bytes() {
                        return News::Confirmed { kind, begins };
                    }
                }
            }
            News::Strange
        }
        _ => News::Strange,
    }
}

/// Commands that clients' requests never become at a backend, as the proxy answers them itself: in the
/// stream of a MONITOR they are the proxy's, or somebody's behind its back.
const OWN_COMMANDS: [&[u8]; 14] = [
    b"auth",
    b"client",
    b"hello",
    b"info",
    b"monitor",
    b"ping",
    b"psubscribe",
    b"punsubscribe",
    b"reset",
    b"select",
    b"ssubscribe",
    b"subscribe",
    b"sunsubscribe",
    b"unsubscribe",
];

/// True if a line of MONITOR shows a request of the proxy's own: one of those commands, or one that
/// names a reserved key.
pub fn is_own(line: &[u8]) -> bool {
    let Some(quote) = line.iter().position(|byte| *byte == b'"') else {
        return false;
    };
    let words = &line[quote + 1..];
    let end = words.iter().position(|byte| *byte == b'"');
    let command = &words[..end.unwrap_or(words.len())];
    let own = |name: &&[u8]| command.eq_ignore_ascii_case(name);
    if OWN_COMMANDS.iter().any(own) {
        return true;
    }
    // An argument begins behind a quote; what is in one has its quotes escaped, so a value that holds
    // the prefix in the middle is not meant.
    memchr::memmem::find_iter(words, RESERVED_PREFIX)
        .any(|at| at >= 2 && words[at - 1] == b'"' && words[at - 2] == b' ')
}

/// Appends the answer to a PUBSUB query, of what the shards' leaders say.
///
/// Args:
///     names: those asked about (NUMSUB).
///     parts: by shard.
pub fn merge(kind: QueryKind, names: &[Vec<u8>], parts: &[Vec<u8>], out: &mut Vec<u8>) {
    match kind {
        QueryKind::Channels | QueryKind::ShardChannels => {
            let mut seen: HashSet<&[u8]> = HashSet::new();
            let mut channels = Vec::new();
            for part in parts {
                for name in elements(part) {
                    let hidden = is_hidden(name, b"");
                    if !hidden && seen.insert(name) {
                        channels.push(name);
                    }
                }
            }
            resp::write_array(out, channels.len());
            channels.iter().for_each(|name| resp::write_bulk(out, name));
        }
        QueryKind::NumSub | QueryKind::ShardNumSub => {
            resp::write_array(out, names.len() * 2);
            let topic = if kind == QueryKind::NumSub {
                Kind::Channel
            } else {
                Kind::Shard
            };
            for (i, name) in names.iter().enumerate() {
                let counts = parts
                    .iter()
                    .map(|part| integers(part).nth(i).unwrap_or(0).max(0) as u64);
                // One that is subscribed to on every shard is not counted once for each.
                let count = match place(topic, name) {
                    Place::Everywhere => counts.max().unwrap_or(0),
                    Place::At(_) => counts.sum(),
                };
                resp::write_bulk(out, name);
                number(count, out);
            }
        }
        // Every pattern is subscribed to on every shard.
        QueryKind::NumPat => {
            let counts = parts
                .iter()
                .map(|part| resp::integer(part).unwrap_or(0).max(0) as u64);
            number(counts.max().unwrap_or(0), out);
        }
    }
}

fn number(value: u64, out: &mut Vec<u8>) {
    out.push(b':');
    resp::write_number(out, value);
    out.extend_from_slice(b"\r\n");
}

/// The values of an array, each as its bytes on the wire.
fn values(array: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (count, mut at) = resp::aggregate(array).unwrap_or((0, 0));
    (0..count).map(move |_| {
        let rest = &array[at..];
        let len = resp::value_len(rest);
        at += len;
        &rest[..len]
    })
}

fn elements(array: &[u8]) -> impl Iterator<Item = &[u8]> {
    values(array).filter_map(resp::string)
}

fn integers(array: &[u8]) -> impl Iterator<Item = i64> + '_ {
    values(array).filter_map(resp::integer)
}

#[cfg(test)]
mod tests;
