//! The data plane of shardproxy: worker threads that move request bytes and decide nothing about
//! membership. `engine.rs` is the surface, `py.rs` its translation to Python (`_engine.pyi`).
//!
//! The life of a request, all inside one turn of a worker's loop on either side of the backend:
//!
//! ```text
//! client bytes                                                                  client bytes
//!      │                                                                              ▲
//!      ▼             proto/            command/          ring, route                  │
//! conn/client ────► resp, memcache ─► table row ──────► key ► shard ─► worker/forward │
//!   (shared read buffer)              keys, effect                       │     │      │
//!                            worker/split: one part per shard ◄──────────┤     │      │
//!                            worker/replicate: one leg per replica ◄─────┘     │      │
//!                                                                              ▼      │
//!                                                             conn/backend: queue ─► backend
//!                                                                                     │
//!   worker/deliver: the client's in-order slot ◄─ split, replicate ◄─ proto ◄─ worker/backends
//! ```
//!
//! Layers, each using only those above it (`tests/unit/test_import_order.py` checks it):

pub mod sys; // the operating system; the only `unsafe`

pub mod error; // every text a client can be told
pub mod buf; // output buffers
pub mod slab; // storage with generations
pub mod proto; // bytes to positions: RESP, memcached text
pub mod command; // the Redis command table and what the proxy answers itself
pub mod hash; // key to number
pub mod ring; // number to shard
pub mod route; // the routing table
pub mod stats; // counters
pub mod conn; // what a client or backend connection remembers
pub mod worker; // one thread: the loop and everything that moves bytes
pub mod engine; // threads, tables in, events and numbers out
#[cfg(feature = "python")]
mod py; // the Python module
