//! The data plane of shardproxy.

pub mod buf;
pub mod command;
pub mod conn;
pub mod engine;
pub mod error;
pub mod hash;
pub mod proto;
#[cfg(feature = "python")]
mod py;
pub mod ring;
pub mod route;
pub mod slab;
pub mod stats;
pub mod sys;
pub mod worker;
