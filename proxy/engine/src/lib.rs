//! The data plane of shardproxy.

pub mod hash;
pub mod proto;
pub mod ring;
