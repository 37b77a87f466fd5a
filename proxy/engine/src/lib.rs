//! The data plane of shardproxy.

pub mod command;
pub mod error;
pub mod proto;
