//! The subcommands of CLIENT that concern the client itself; `census.rs` has the others.
//!
//! Called by `local.rs`. Texts are those of Redis.

use super::reply::Reply;
use super::session::{ReplyMode, Session};
use super::table::ROWS;
use crate::error::{quoted, Wire};
use crate::proto::Args;

pub(super) const BAD_NAME: &str =
    "Client names cannot contain spaces, newlines or special characters.";

/// True if every byte is printable ASCII and none is a blank: fit for one field of CLIENT LIST.
pub(super) fn is_plain(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_graphic)
}

pub(super) fn getname(session: &Session, reply: &mut Reply<'_>) {
    if session.name.is_empty() {
        reply.null();
    } else {
        reply.bulk(&session.name);
    }
}

pub(super) fn setname(session: &mut Session, args: &Args<'_>, reply: &mut Reply<'_>) {
    if !is_plain(args.get(2)) {
        return reply.error(BAD_NAME);
    }
    session.name = args.get(2).to_vec();
    reply.ok();
}

pub(super) fn setinfo(session: &mut Session, args: &Args<'_>, reply: &mut Reply<'_>) {
    let (option, value) = (args.get(2), args.get(3));
    let (field, name) = if option.eq_ignore_ascii_case(b"LIB-NAME") {
        (&mut session.lib_name, "lib-name")
    } else if option.eq_ignore_ascii_case(b"LIB-VER") {
        (&mut session.lib_ver, "lib-ver")
    } else {
        return reply.error(&format!("Unrecognized option '{}'", quoted(option)));
    };
    if !is_plain(value) {
        return reply.error(&format!(
            "{name} cannot contain spaces, newlines or special characters."
        ));
    }
    *field = value.to_vec();
    reply.ok();
}

/// CLIENT NO-EVICT and NO-TOUCH: remembered, and shown by CLIENT INFO.
pub(super) fn switch(flag: &mut bool, args: &Args<'_>, reply: &mut Reply<'_>) {
    let word = args.get(2);
    if word.eq_ignore_ascii_case(b"ON") {
        *flag = true;
    } else if word.eq_ignore_ascii_case(b"OFF") {
        *flag = false;
    } else {
        return reply.wire(Wire::Syntax);
    }
    reply.ok();
}

/// CLIENT REPLY ON|OFF|SKIP: only ON is answered. `Session::mutes` has seen this request already.
pub(super) fn reply_mode(session: &mut Session, args: &Args<'_>, reply: &mut Reply<'_>) {
    let word = args.get(2);
    if word.eq_ignore_ascii_case(b"ON") {
        session.reply = ReplyMode::On;
        reply.ok();
    } else if word.eq_ignore_ascii_case(b"OFF") {
        session.reply = ReplyMode::Off;
    } else if word.eq_ignore_ascii_case(b"SKIP") {
        if session.reply == ReplyMode::On {
            session.reply = ReplyMode::SkipNext;
        }
    } else if session.reply == ReplyMode::On {
        reply.wire(Wire::Syntax);
    } else if session.reply == ReplyMode::SkipNext {
        // This was the next one.
        session.reply = ReplyMode::On;
    }
}

/// A client as the others see it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub session: &'a Session,
    /// Id of its last command, once there was one.
    pub command: Option<u16>,
    pub is_blocked: bool,
    /// Seconds since it asked something.
    pub idle_seconds: u64,
    /// Microseconds since 1970.
    pub unix_time_us: u64,
}

impl Seen<'_> {
    /// Seconds since it connected.
    pub fn age_seconds(&self) -> u64 {
        self.unix_time_us.saturating_sub(self.session.connected_us) / 1_000_000
    }

    pub fn command_name(&self) -> String {
        let row = self.command.and_then(|id| ROWS.get(id as usize));
        row.map_or("NULL".to_owned(), |row| row.lower_name())
    }
}

/// One line of CLIENT LIST. Sizes of buffers are the proxy's own business and shown as 0.
pub(super) fn line(seen: &Seen<'_>) -> Vec<u8> {
    let session = seen.session;
    let mut flags = String::new();
    for (is_set, flag) in [
        (session.monitoring, 'O'),
        (session.is_subscribed(), 'P'),
        (session.queue.is_some(), 'x'),
        (seen.is_blocked, 'b'),
        (session.no_evict, 'e'),
        (session.no_touch, 'T'),
    ] {
        flags.extend(is_set.then_some(flag));
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let [sub, psub, ssub] = session.subscriptions;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={flags} db={} sub={sub} psub={psub} ssub={ssub} \
         multi={} qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 \
         events=r cmd={} user={} redir=-1 resp={} lib-name={} lib-ver={}\n",
        session.id,
        text(&session.address),
        text(&session.local_address),
        text(&session.name),
        seen.age_seconds(),
        seen.idle_seconds,
        session.database,
        session.queue.as_ref().map_or(-1, |queue| queue.len() as i64),
        seen.command_name(),
        text(&session.user),
        if session.resp3 { 3 } else { 2 },
        text(&session.lib_name),
        text(&session.lib_ver),
    )
    .into_bytes()
}
