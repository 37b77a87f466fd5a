//! Connections: what one client or one backend connection remembers. No decisions and no routing
//! here; `worker` moves bytes between them.

pub mod backend;
pub mod client;
pub mod lane;

pub use backend::{Asked, Conn, ConnState, Feed, Pending, ReplyTo};
pub use client::{Block, Client, Slot};
pub use lane::{LANES, MAIN_LANES};
