//! Redis commands: the table, the keys of a request, and what the proxy answers itself.
//!
//! ```text
//! Args ─► admit ─► row ─► handling ─┬─► Forward: first_key / keys ─► shard;  expiry, effect ─► replicas
//!                                   ├─► Split:   keys ─► parts per shard
//!                                   └─► Local:   local::answer
//! ```
//!
//! No descriptor and no clock: what an answer needs to know of the world comes in as a value.

pub mod admit;
mod client;
pub mod effect;
pub mod expiry;
mod facts;
mod glob;
mod introspect;
pub mod keys;
pub mod local;
pub mod overlay;
mod reply;
mod rows;
pub mod session;
pub mod spec;
pub mod table;

#[cfg(test)]
mod effect_tests;
#[cfg(test)]
mod tests;

pub use admit::admit;
pub use keys::{first_key, keys, KeyError};
pub use local::{answer, Outcome};
pub use overlay::{Effect, Handling, LocalKind, Refusal, SplitKind};
pub use rows::VERSION;
pub use session::{Context, ReplyMode, Session};
pub use table::{arity_ok, find, lookup, Row, ROWS};

/// Keys that begin so are the proxy's own records in the backends; clients may not name them.
pub const RESERVED_PREFIX: &[u8] = b"__shardproxy:";

#[inline]
pub fn is_reserved(key: &[u8]) -> bool {
    key.starts_with(RESERVED_PREFIX)
}
