//! RESP (see mod.rs).
