//! Redis commands: the table, the keys of a request, and what the proxy answers itself.
//!
//! ```text
//! Args ─► admit ─► row ─► handling ─┬─► Forward: first_key / keys ─► shard;  expiry, effect ─► replicas
//!                                   ├─► Split:   keys ─► parts per shard
//!                                   ├─► Channel: channel
//!                                   ├─► Fan:     every shard, merged
//!                                   ├─► Block:   blocking::take ─► attempts
//!                                   └─► Local:   local::answer
//! ```
//!
//! No descriptor and no clock: what an answer needs to know of the world comes in as a value.

pub mod admit;
pub mod blocking;
pub mod census;
pub mod channel;
pub mod client;
mod cluster;
pub mod cursor;
pub mod effect;
pub mod expiry;
mod facts;
mod glob;
mod introspect;
pub mod keys;
pub mod learned;
pub mod local;
mod modules;
pub mod overlay;
pub mod queue;
mod reply;
mod rows;
pub mod scripts;
pub mod session;
pub mod spec;
pub mod table;
pub mod totals;
pub mod users;

#[cfg(test)]
mod blocking_tests;
#[cfg(test)]
mod effect_tests;
#[cfg(test)]
mod tests;

pub use admit::{admit, admit_row};
pub use facts::{info, sections_of_backends};
pub use keys::{first_key, keys, KeyError};
pub use local::{answer, Outcome};
pub use overlay::{Effect, FanKind, Handling, LocalKind, Refusal, SplitKind, TransactionKind};
pub use queue::Queue;
pub use rows::VERSION;
pub use session::{Context, ReplyMode, Session};
pub use table::{arity_ok, find, lookup, Row, ROWS};

/// Keys that begin so are the proxy's own records in the backends; clients may not name them.
pub const RESERVED_PREFIX: &[u8] = b"__shardproxy:";

/// True for the first word of a line of an HTTP request, by which Redis tells that a browser was made
/// to talk to it: what follows may be commands in the body, so the connection is closed without a word.
pub fn is_http(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"POST") || word.eq_ignore_ascii_case(b"Host:")
}

#[inline]
pub fn is_reserved(key: &[u8]) -> bool {
    key.starts_with(RESERVED_PREFIX)
}
