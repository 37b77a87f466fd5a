//! The subcommands of CLIENT. A client sees itself and nobody else.
//!
//! Called by `local.rs`. Texts are those of Redis.

use super::keys::number;
use super::local::Outcome;
use super::reply::Reply;
use super::session::{Context, ReplyMode, Session, DEFAULT_USER};
use super::table::Row;
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
    } else if session.reply != ReplyMode::Off {
        reply.wire(Wire::Syntax);
    }
}

/// Nobody blocks on the proxy, so nobody is unblocked.
pub(super) fn unblock(args: &Args<'_>, reply: &mut Reply<'_>) {
    let reason = args.get(3);
    let known = reason.eq_ignore_ascii_case(b"TIMEOUT") || reason.eq_ignore_ascii_case(b"ERROR");
    match args.len() {
        4 if !known => reply.error("CLIENT UNBLOCK reason should be TIMEOUT or ERROR"),
        3 | 4 if number(args.get(2)).is_none() => reply.wire(Wire::NotInteger),
        3 | 4 => reply.integer(0),
        _ => reply.error(
            "unknown subcommand or wrong number of arguments for 'UNBLOCK'. Try CLIENT HELP.",
        ),
    }
}

/// One line of CLIENT LIST. Sizes of buffers are the proxy's own business and shown as 0.
pub(super) fn line(session: &Session, context: &Context<'_>, row: &Row) -> Vec<u8> {
    let age = context.unix_time_us.saturating_sub(session.connected_us) / 1_000_000;
    let marks = [
        (session.monitoring, 'O'),
        (session.is_subscribed(), 'P'),
        (session.no_evict, 'e'),
        (session.no_touch, 'T'),
    ];
    let mut flags: String = marks
        .iter()
        .filter(|mark| mark.0)
        .map(|mark| mark.1)
        .collect();
    if flags.is_empty() {
        flags.push('N');
    }
    let [sub, psub, ssub] = session.subscriptions;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "id={} addr={} laddr={} fd=-1 name={} age={age} idle=0 flags={flags} db={} sub={sub} psub={psub} ssub={ssub} \
         multi={} qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 \
         events=r cmd={} user={} redir=-1 resp={} lib-name={} lib-ver={}\n",
        session.id,
        text(&session.address),
        text(&session.local_address),
        text(&session.name),
        session.database,
        session.queue.as_ref().map_or(-1, |queue| queue.len() as i64),
        row.lower_name(),
        text(&session.user),
        if session.resp3 { 3 } else { 2 },
        text(&session.lib_name),
        text(&session.lib_ver),
    )
    .into_bytes()
}

/// CLIENT LIST [TYPE type | ID id ...]
pub(super) fn list(
    session: &Session,
    row: &Row,
    args: &Args<'_>,
    context: &Context<'_>,
    reply: &mut Reply<'_>,
) {
    let shown = match args.len() {
        2 => true,
        4 if args.get(2).eq_ignore_ascii_case(b"TYPE") => match is_type(session, args.get(3)) {
            Some(fits) => fits,
            None => return unknown_type(args.get(3), reply),
        },
        4.. if args.get(2).eq_ignore_ascii_case(b"ID") => {
            let mut shown = false;
            for id in args.iter().skip(3) {
                match number(id) {
                    Some(id) => shown |= id == session.id as i64,
                    None => return reply.error("Invalid client ID"),
                }
            }
            shown
        }
        _ => return reply.wire(Wire::Syntax),
    };
    if shown {
        reply.text(&line(session, context, row));
    } else {
        reply.text(b"");
    }
}

/// CLIENT KILL addr, or with filters. Only the client itself can be hit.
pub(super) fn kill(
    session: &Session,
    args: &Args<'_>,
    context: &Context<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    if args.len() == 3 {
        if args.get(2) != session.address {
            reply.error("No such client");
            return Outcome::Reply;
        }
        reply.ok();
        return Outcome::Close;
    }
    let (mut hit, mut skip_me) = (true, true);
    for at in (2..args.len()).step_by(2) {
        let (filter, value) = (args.get(at), args.get(at + 1));
        let is = |name: &[u8]| filter.eq_ignore_ascii_case(name);
        if at + 1 >= args.len() {
            reply.wire(Wire::Syntax);
            return Outcome::Reply;
        } else if is(b"ID") {
            match number(value) {
                Some(id) if id > 0 => hit &= id as u64 == session.id,
                _ => {
                    reply.error("client-id should be greater than 0");
                    return Outcome::Reply;
                }
            }
        } else if is(b"TYPE") {
            match is_type(session, value) {
                Some(fits) => hit &= fits,
                None => {
                    unknown_type(value, reply);
                    return Outcome::Reply;
                }
            }
        } else if is(b"ADDR") {
            hit &= value == session.address;
        } else if is(b"LADDR") {
            hit &= value == session.local_address;
        } else if is(b"USER") {
            let known = value == DEFAULT_USER
                || context.users.iter().any(|user| user.0.as_bytes() == value);
            if !known {
                reply.error(&format!("No such user '{}'", quoted(value)));
                return Outcome::Reply;
            }
            hit &= value == session.user;
        } else if is(b"SKIPME") && value.eq_ignore_ascii_case(b"YES") {
            skip_me = true;
        } else if is(b"SKIPME") && value.eq_ignore_ascii_case(b"NO") {
            skip_me = false;
        } else {
            reply.wire(Wire::Syntax);
            return Outcome::Reply;
        }
    }
    let closes = hit && !skip_me;
    reply.integer(i64::from(closes));
    if closes {
        Outcome::Close
    } else {
        Outcome::Reply
    }
}

/// Whether a client is of a type; `None` if there is no such type. Who monitors passes for a replica.
fn is_type(session: &Session, name: &[u8]) -> Option<bool> {
    let (replica, pubsub) = (session.monitoring, session.is_subscribed());
    let types: [(&[u8], bool); 5] = [
        (b"normal", !replica && !pubsub),
        (b"master", false),
        (b"replica", replica),
        (b"slave", replica),
        (b"pubsub", pubsub && !replica),
    ];
    types
        .iter()
        .find(|entry| name.eq_ignore_ascii_case(entry.0))
        .map(|entry| entry.1)
}

fn unknown_type(name: &[u8], reply: &mut Reply<'_>) {
    reply.error(&format!("Unknown client type '{}'", quoted(name)));
}
