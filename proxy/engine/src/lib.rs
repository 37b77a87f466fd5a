//! The data plane of shardproxy.

pub mod proto;
