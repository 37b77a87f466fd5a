//! The data plane of shardproxy.

pub mod buf;
pub mod proto;
pub mod slab;
pub mod sys;
