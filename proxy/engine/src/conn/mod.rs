//! Connections: what one client or one backend connection remembers. No decisions and no routing
//! here; `worker` moves bytes between them.

pub mod backend;
pub mod client;

pub use backend::{Conn, ConnState, Pending, ReplyTo};
pub use client::{Block, Client, Slot};

/// RESP2 and RESP3 clients get replies from backend connections of their own protocol, since a
/// backend shapes replies by it. Memcached has one lane.
pub const LANES: usize = 2;
