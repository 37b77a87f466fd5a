//! The first decision about a request: is it a command we take, and if not, what is said instead.
//!
//! Called once per request, before login is checked, in the order Redis checks: known, then arity.
//! An admitted row is then acted on by its `handling`.

use std::borrow::Cow;

use super::overlay::{EffectRule, Handling, Refusal, TransactionKind};
use super::table::{arity_ok, find, lookup, Row, ROWS};
use crate::error::{self, Wire};
use crate::proto::Args;

/// The row of a request that is to be forwarded, split or answered locally; or `None`, and the
/// error reply is in `out`. Never asks for the connection to be closed.
#[inline]
pub fn admit(args: &Args<'_>, out: &mut Vec<u8>) -> Option<&'static Row> {
    match find(args) {
        Some(row) => admit_row(row, args, out),
        None => {
            unknown(args, out);
            None
        }
    }
}

/// The same, with the row found.
#[inline]
pub fn admit_row(row: &'static Row, args: &Args<'_>, out: &mut Vec<u8>) -> Option<&'static Row> {
    if let Some(reason) = row.refusal() {
        refuse(row, reason, args, out);
        return None;
    }
    if !arity_ok(row, args.len()) {
        if row.handling == Handling::Transaction(TransactionKind::Exec) {
            // A refused EXEC ends the transaction, which its error says.
            error::exec_abort_arity(row.name, out);
        } else {
            error::wrong_arity(row.name, out);
        }
        return None;
    }
    if row.effect == EffectRule::Set && args.len() > 5 && is_answered_twice(args) {
        out.extend_from_slice(DIGEST_NOT_HEX);
        return None;
    }
    Some(row)
}

/// What the error in `out` is where the proxy shows itself as a cluster: what it does not take of that is unknown.
#[cold]
pub fn refuse_in_cluster(args: &Args<'_>, out: &mut Vec<u8>) {
    if out != Wire::ClusterDisabled.redis() {
        return;
    }
    out.clear();
    match lookup(args.get(0)).filter(|row| row.subcommands > 0) {
        Some(container) if args.len() == 1 => error::wrong_arity(container.name, out),
        Some(container) => {
            error::unknown_subcommand(container.name.as_bytes(), args.get(1), out);
        }
        None => error::unknown_command(args.get(0), args.iter().skip(1), out),
    }
}

const DIGEST_NOT_HEX: &[u8] = b"-ERR must be exactly 16 hexadecimal characters\r\n";

/// SET with GET and with a digest that is none: Redis 8.4 and 8.6 answer it with the value and with the error, and
/// every reply behind on the connection, which many clients share, would go to whoever asked before.
fn is_answered_twice(args: &Args<'_>) -> bool {
    let is = |at: usize, name: &[u8]| args.get(at).eq_ignore_ascii_case(name);
    let is_hex = |word: &[u8]| word.len() == 16 && word.iter().all(u8::is_ascii_hexdigit);
    let is_wrong = |at| (is(at, b"IFDEQ") || is(at, b"IFDNE")) && !is_hex(args.get(at + 1));
    (3..args.len()).any(|at| is(at, b"GET")) && (3..args.len()).any(is_wrong)
}

/// What a client that is not logged in is told.
pub fn no_auth(row: &Row) -> Cow<'static, [u8]> {
    let text = Wire::NoAuth.redis();
    if row.handling != Handling::Transaction(TransactionKind::Exec) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::new();
    error::exec_abort(text, &mut out);
    Cow::Owned(out)
}

impl Row {
    /// Why the command is not taken, if it is not.
    #[inline]
    pub fn refusal(&self) -> Option<Refusal> {
        match self.handling {
            Handling::Refuse(reason) => Some(reason),
            _ => None,
        }
    }
}

/// Appends the error for a request that no row fits.
fn unknown(args: &Args<'_>, out: &mut Vec<u8>) {
    match lookup(args.get(0)) {
        // A container that is refused as a whole is as unknown as its subcommands.
        Some(container) if !matches!(container.handling, Handling::Refuse(_)) => {
            error::unknown_subcommand(container.name.as_bytes(), args.get(1), out);
        }
        Some(container) if container.handling == Handling::Refuse(Refusal::Cluster) => {
            out.extend_from_slice(Wire::ClusterDisabled.redis());
        }
        _ => error::unknown_command(args.get(0), args.iter().skip(1), out),
    }
}

/// Appends the error for a command that the proxy does not take: mostly Redis' own text for one that
/// does not exist, since clients fall back on that.
fn refuse(row: &Row, reason: Refusal, args: &Args<'_>, out: &mut Vec<u8>) {
    match reason {
        Refusal::Cluster => out.extend_from_slice(Wire::ClusterDisabled.redis()),
        Refusal::Blocking
        | Refusal::PubSub
        | Refusal::Keyspace
        | Refusal::Scripting
        | Refusal::Admin
        | Refusal::Replication
        | Refusal::Keyless => match row.parent.map(|parent| &ROWS[parent as usize]) {
            Some(container) if !matches!(container.handling, Handling::Refuse(_)) => {
                error::unknown_subcommand(container.name.as_bytes(), args.get(1), out);
            }
            _ => error::unknown_command(args.get(0), args.iter().skip(1), out),
        },
    }
}
