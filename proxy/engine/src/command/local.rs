//! The answers the proxy gives itself: connection state and facts about "the server".
//!
//! Called for rows with `Handling::Local`, after `admit`. A backend never sees these requests. The
//! subcommands of CLIENT and COMMAND are in `client.rs` and `introspect.rs`, INFO and CONFIG in
//! `facts.rs`.

use super::census::{self, Question};
use super::keys::number;
use super::overlay::{Handling, LocalKind};
use super::reply::Reply;
use super::session::{Context, Session};
use super::table::{Row, ROWS};
use super::{client, cluster, facts, introspect};
use crate::error::{quoted, Wire};
use crate::proto::Args;

/// What becomes of the connection once the reply is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Reply,
    /// All clients of the pool are asked for the reply.
    Ask(Question),
    /// Close after everything up to this reply has been sent.
    Close,
}

/// Appends the answer to `out` (nothing for CLIENT REPLY OFF and SKIP).
///
/// The row must be `Handling::Local` and its arity checked. A client that is not logged in gets
/// `-NOAUTH` here too, so that a caller that forgot to ask tells nothing.
pub fn answer(
    session: &mut Session,
    row: &Row,
    args: &Args<'_>,
    context: &Context<'_>,
    out: &mut Vec<u8>,
) -> Outcome {
    let Handling::Local(kind) = row.handling else {
        debug_assert!(false, "{row:?} is not answered by the proxy");
        return Outcome::Reply;
    };
    let mut reply = Reply::new(out, session.resp3);
    if !session.allows(row) {
        reply.wire(Wire::NoAuth);
        return Outcome::Reply;
    }
    match kind {
        LocalKind::AclWhoami => reply.bulk(&session.user),
        LocalKind::Auth => auth(session, args, context, &mut reply),
        // What a client says it can do concerns redirections, which the proxy never sends.
        LocalKind::ClientCapa => reply.ok(),
        LocalKind::ClientGetname => client::getname(session, &mut reply),
        LocalKind::ClientGetredir => reply.integer(-1),
        LocalKind::ClientId => reply.integer(session.id as i64),
        LocalKind::ClientInfo => reply.text(&client::line(&client::Seen {
            session,
            command: Some(row.id),
            is_blocked: false,
            idle_seconds: 0,
            unix_time_us: context.unix_time_us,
        })),
        LocalKind::ClientKill | LocalKind::ClientList | LocalKind::ClientUnblock => {
            if let Some(question) = census::read(kind, args, context, &mut reply) {
                return Outcome::Ask(question);
            }
        }
        LocalKind::ClientNoEvict => client::switch(&mut session.no_evict, args, &mut reply),
        LocalKind::ClientNoTouch => client::switch(&mut session.no_touch, args, &mut reply),
        LocalKind::ClientReply => client::reply_mode(session, args, &mut reply),
        LocalKind::ClientSetinfo => client::setinfo(session, args, &mut reply),
        LocalKind::ClientSetname => client::setname(session, args, &mut reply),
        LocalKind::Cluster => cluster::answer(session, row, args, context, &mut reply),
        LocalKind::Command => introspect::all(&mut reply),
        LocalKind::CommandCount => introspect::count(&mut reply),
        LocalKind::CommandDocs => introspect::docs(args, &mut reply),
        LocalKind::CommandGetkeys => introspect::getkeys(args, false, &mut reply),
        LocalKind::CommandGetkeysandflags => introspect::getkeys(args, true, &mut reply),
        LocalKind::CommandInfo => introspect::info(args, &mut reply),
        LocalKind::CommandList => introspect::list(args, &mut reply),
        LocalKind::ConfigGet => facts::config_get(args, context, &mut reply),
        LocalKind::Echo => reply.bulk(args.get(1)),
        LocalKind::Hello => hello(session, args, context, out),
        LocalKind::Help => help(row, &mut reply),
        LocalKind::Ping => match args.len() {
            1 | 2 if session.is_subscribed() && !session.resp3 => {
                reply.array(2);
                reply.bulk("pong");
                reply.bulk(args.get(1));
            }
            1 => reply.status("PONG"),
            2 => reply.bulk(args.get(1)),
            _ => reply.wrong_arity(row.name),
        },
        LocalKind::Quit => {
            reply.ok();
            return Outcome::Close;
        }
        LocalKind::Reset => {
            session.reset(context.users);
            reply.status("RESET");
        }
        LocalKind::Role => {
            reply.array(3);
            reply.bulk("master");
            reply.integer(0);
            reply.array(0);
        }
        LocalKind::Select => match number(args.get(1)) {
            Some(index) if (0..i64::from(context.databases)).contains(&index) => {
                session.database = index as u8;
                reply.ok();
            }
            Some(index) if i32::try_from(index).is_err() => reply.wire(Wire::NotInt32),
            Some(_) => reply.wire(Wire::DatabaseIndex),
            None => reply.wire(Wire::NotInteger),
        },
        LocalKind::WaitAof => facts::wait_aof(args, &mut reply),
        LocalKind::Time => {
            reply.array(2);
            reply.bulk((context.unix_time_us / 1_000_000).to_string());
            reply.bulk((context.unix_time_us % 1_000_000).to_string());
        }
    }
    Outcome::Reply
}

fn auth(session: &mut Session, args: &Args<'_>, context: &Context<'_>, reply: &mut Reply<'_>) {
    let (name, password) = match args.len() {
        2 => (None, args.get(1)),
        3 => (Some(args.get(1)), args.get(2)),
        _ => return reply.wire(Wire::Syntax),
    };
    match session.login(name, password, context.users) {
        Ok(()) => reply.ok(),
        Err(wire) => reply.wire(wire),
    }
}

/// HELLO [2|3 [AUTH name password] [SETNAME name]]. Nothing changes unless all of it is right, and
/// the reply is already in the version asked for.
fn hello(session: &mut Session, args: &Args<'_>, context: &Context<'_>, out: &mut Vec<u8>) {
    let mut reply = Reply::new(out, session.resp3);
    let mut resp3 = session.resp3;
    if args.len() >= 2 {
        match number(args.get(1)) {
            Some(version @ (2 | 3)) => resp3 = version == 3,
            Some(_) => return reply.wire(Wire::NoProto),
            None => return reply.error("Protocol version is not an integer or out of range"),
        }
    }
    let (mut login, mut name) = (None, None);
    let mut at = 2;
    while at < args.len() {
        let (option, left) = (args.get(at), args.len() - 1 - at);
        if option.eq_ignore_ascii_case(b"AUTH") && left >= 2 {
            login = Some((args.get(at + 1), args.get(at + 2)));
            at += 3;
        } else if option.eq_ignore_ascii_case(b"SETNAME") && left >= 1 {
            if !client::is_plain(args.get(at + 1)) {
                return reply.error(client::BAD_NAME);
            }
            name = Some(args.get(at + 1));
            at += 2;
        } else {
            let option = quoted(option);
            return reply.error(&format!("Syntax error in HELLO option '{option}'"));
        }
    }
    if let Some((user, password)) = login {
        if let Err(wire) = session.login(Some(user), password, context.users) {
            return reply.wire(wire);
        }
    }
    if !session.authenticated {
        return reply.wire(Wire::HelloNoAuth);
    }
    if let Some(name) = name {
        session.name = name.to_vec();
    }
    session.resp3 = resp3;
    let mut reply = Reply::new(out, resp3);
    reply.map(7);
    reply.bulk("server");
    reply.bulk("redis");
    reply.bulk("version");
    reply.bulk(context.server_version);
    reply.bulk("proto");
    reply.integer(if resp3 { 3 } else { 2 });
    reply.bulk("id");
    reply.integer(session.id as i64);
    reply.bulk("mode");
    reply.bulk(context.mode());
    reply.bulk("role");
    reply.bulk("master");
    reply.bulk("modules");
    reply.array(0);
}

/// The HELP subcommand of a container: what of it the proxy takes.
fn help(row: &Row, reply: &mut Reply<'_>) {
    let container = row.parent.map_or(row, |parent| &ROWS[parent as usize]);
    let taken: Vec<&Row> = container
        .children()
        .iter()
        .filter(|sub| !matches!(sub.handling, Handling::Refuse(_)))
        .collect();
    reply.array(taken.len() + 1);
    reply.status(&format!(
        "{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        container.name
    ));
    for sub in taken {
        reply.status(sub.subcommand_name());
    }
}
