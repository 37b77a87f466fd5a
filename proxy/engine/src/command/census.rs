//! CLIENT LIST, KILL and UNBLOCK: questions about all clients of a pool, wherever they are served.
//!
//! `read` takes a request apart, `ask` puts it to one client, `reply` makes the answer of what all said;
//! whom to ask is known to `worker/census.rs`. Texts are those of Redis.

use super::client::{line, Seen};
use super::keys::number;
use super::overlay::LocalKind;
use super::reply::Reply;
use super::session::{Context, Session, DEFAULT_USER};
use crate::error::{quoted, Wire};
use crate::proto::Args;

/// A type of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Normal,
    Master,
    /// Who monitors passes for one.
    Replica,
    Pubsub,
}

impl Type {
    fn fits(self, session: &Session) -> bool {
        let (replica, pubsub) = (session.monitoring, session.is_subscribed());
        match self {
            Type::Normal => !replica && !pubsub,
            Type::Master => false,
            Type::Replica => replica,
            Type::Pubsub => pubsub && !replica,
        }
    }
}

/// Which clients are meant; what is not asked for fits all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    ids: Option<Vec<u64>>,
    kind: Option<Type>,
    address: Option<Vec<u8>>,
    local_address: Option<Vec<u8>>,
    user: Option<Vec<u8>>,
    age_seconds: Option<u64>,
}

impl Filter {
    fn fits(&self, seen: &Seen<'_>) -> bool {
        let session = seen.session;
        let is = |wanted: &Option<Vec<u8>>, has: &Vec<u8>| wanted.as_ref().is_none_or(|w| w == has);
        self.kind.is_none_or(|kind| kind.fits(session))
            && self
                .ids
                .as_ref()
                .is_none_or(|ids| ids.contains(&session.id))
            && is(&self.address, &session.address)
            && is(&self.local_address, &session.local_address)
            && is(&self.user, &session.user)
            && self.age_seconds.is_none_or(|age| seen.age_seconds() >= age)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    List(Filter),
    /// `by_address`: the form with an address only, which hits one client or is an error.
    Kill {
        filter: Filter,
        skip_me: bool,
        by_address: bool,
    },
    Unblock {
        id: u64,
        with_error: bool,
    },
    /// memcached's `stats conns`; its clients have no session to ask.
    Conns,
}

/// What a question is to one client.
#[derive(Debug, PartialEq, Eq)]
pub enum Hit {
    Line(Vec<u8>),
    Kill,
    Unblock { with_error: bool },
}

impl Question {
    /// Puts the question to a client; `asker` is the id of the one that asks.
    pub fn ask(&self, seen: &Seen<'_>, asker: u64) -> Option<Hit> {
        let id = seen.session.id;
        match self {
            Question::Conns => None,
            Question::List(filter) => filter.fits(seen).then(|| Hit::Line(line(seen))),
            Question::Kill {
                filter, skip_me, ..
            } => (filter.fits(seen) && !(*skip_me && id == asker)).then_some(Hit::Kill),
            Question::Unblock {
                id: wanted,
                with_error,
            } => (seen.is_blocked && id == *wanted).then_some(Hit::Unblock {
                with_error: *with_error,
            }),
        }
    }

    /// Appends the answer.
    ///
    /// Args: `count` clients that were hit; `lines` by id, where they are listed.
    pub fn reply(&self, count: u64, lines: &mut [(u64, Vec<u8>)], resp3: bool, out: &mut Vec<u8>) {
        let mut reply = Reply::new(out, resp3);
        match self {
            Question::List(_) => {
                lines.sort_unstable_by_key(|line| line.0);
                let text: Vec<u8> = lines
                    .iter()
                    .flat_map(|line| line.1.iter().copied())
                    .collect();
                reply.text(&text);
            }
            Question::Kill {
                by_address: true, ..
            } if count == 0 => reply.error("No such client"),
            Question::Kill {
                by_address: true, ..
            } => reply.ok(),
            Question::Conns => {
                lines.sort_unstable_by_key(|line| line.0);
                for (_, line) in lines {
                    out.extend_from_slice(line);
                }
                out.extend_from_slice(b"END\r\n");
            }
            Question::Kill { .. } | Question::Unblock { .. } => reply.integer(count as i64),
        }
    }
}

/// Takes a request apart. `None`, and the error is in `reply`, if it is wrong.
pub(super) fn read(
    kind: LocalKind,
    args: &Args<'_>,
    context: &Context<'_>,
    reply: &mut Reply<'_>,
) -> Option<Question> {
    match kind {
        LocalKind::ClientList => list(args, reply),
        LocalKind::ClientKill => kill(args, context, reply),
        _ => unblock(args, reply),
    }
}

/// CLIENT LIST [TYPE type | ID id ...]
fn list(args: &Args<'_>, reply: &mut Reply<'_>) -> Option<Question> {
    let mut filter = Filter::default();
    match args.len() {
        2 => {}
        4 if args.get(2).eq_ignore_ascii_case(b"TYPE") => {
            filter.kind = Some(type_of(args.get(3), reply)?);
        }
        4.. if args.get(2).eq_ignore_ascii_case(b"ID") => {
            let mut ids = Vec::new();
            for id in args.iter().skip(3) {
                let Some(id) = number(id) else {
                    reply.error("Invalid client ID");
                    return None;
                };
                ids.extend(u64::try_from(id));
            }
            filter.ids = Some(ids);
        }
        _ => {
            reply.wire(Wire::Syntax);
            return None;
        }
    }
    Some(Question::List(filter))
}

/// CLIENT KILL addr, or with filters.
fn kill(args: &Args<'_>, context: &Context<'_>, reply: &mut Reply<'_>) -> Option<Question> {
    let mut filter = Filter::default();
    if args.len() == 3 {
        filter.address = Some(args.get(2).to_vec());
        return Some(Question::Kill {
            filter,
            skip_me: false,
            by_address: true,
        });
    }
    let mut skip_me = true;
    for at in (2..args.len()).step_by(2) {
        let (name, value) = (args.get(at), args.get(at + 1));
        let is = |filter: &[u8]| name.eq_ignore_ascii_case(filter);
        if at + 1 >= args.len() {
            reply.wire(Wire::Syntax);
            return None;
        } else if is(b"ID") {
            let Some(id) = number(value).filter(|id| *id > 0) else {
                reply.error("client-id should be greater than 0");
                return None;
            };
            filter.ids = Some(vec![id as u64]);
        } else if is(b"MAXAGE") {
            let Some(age) = number(value).filter(|age| *age > 0) else {
                reply.error("maxage should be greater than 0");
                return None;
            };
            filter.age_seconds = Some(age as u64);
        } else if is(b"TYPE") {
            filter.kind = Some(type_of(value, reply)?);
        } else if is(b"ADDR") {
            filter.address = Some(value.to_vec());
        } else if is(b"LADDR") {
            filter.local_address = Some(value.to_vec());
        } else if is(b"USER") {
            let is_user = |user: &(String, Vec<u8>)| user.0.as_bytes() == value;
            if value != DEFAULT_USER && !context.users.iter().any(is_user) {
                reply.error(&format!("No such user '{}'", quoted(value)));
                return None;
            }
            filter.user = Some(value.to_vec());
        } else if is(b"SKIPME") && value.eq_ignore_ascii_case(b"YES") {
            skip_me = true;
        } else if is(b"SKIPME") && value.eq_ignore_ascii_case(b"NO") {
            skip_me = false;
        } else {
            reply.wire(Wire::Syntax);
            return None;
        }
    }
    Some(Question::Kill {
        filter,
        skip_me,
        by_address: false,
    })
}

/// CLIENT UNBLOCK id [TIMEOUT|ERROR]
fn unblock(args: &Args<'_>, reply: &mut Reply<'_>) -> Option<Question> {
    let reason = args.get(3);
    let with_error = reason.eq_ignore_ascii_case(b"ERROR");
    let is_known = with_error || reason.eq_ignore_ascii_case(b"TIMEOUT");
    match args.len() {
        4 if !is_known => reply.error("CLIENT UNBLOCK reason should be TIMEOUT or ERROR"),
        3 | 4 => match number(args.get(2)) {
            Some(id) => {
                let id = u64::try_from(id).unwrap_or(0);
                return Some(Question::Unblock { id, with_error });
            }
            None => reply.wire(Wire::NotInteger),
        },
        _ => reply.error(
            "unknown subcommand or wrong number of arguments for 'UNBLOCK'. Try CLIENT HELP.",
        ),
    }
    None
}

/// A client type by its name; `None` if there is no such type, which is then in `reply`.
fn type_of(name: &[u8], reply: &mut Reply<'_>) -> Option<Type> {
    let types: [(&[u8], Type); 5] = [
        (b"normal", Type::Normal),
        (b"master", Type::Master),
        (b"replica", Type::Replica),
        (b"slave", Type::Replica),
        (b"pubsub", Type::Pubsub),
    ];
    let is_it = |entry: &&(&[u8], Type)| name.eq_ignore_ascii_case(entry.0);
    let found = types.iter().find(is_it);
    if found.is_none() {
        reply.error(&format!("Unknown client type '{}'", quoted(name)));
    }
    found.map(|entry| entry.1)
}
