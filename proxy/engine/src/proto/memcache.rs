//! Memcached text (see mod.rs).
