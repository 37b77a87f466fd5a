//! The commands of redis-server 7.0.15 as data, and the few newer ones listed in `newer_commands.py`.
//!
//! Generated, do not edit: `python3 tests/vectors/redis_commands/generate.py` writes this file from
//! the COMMAND reply of a live server. What the proxy does with a command is decided in `overlay.rs`.

use super::spec::{Begin, Find, Flags, KeyFlags, KeySpec, Raw};

/// The server this was learned from.
pub const VERSION: &str = "7.0.15";

#[rustfmt::skip]
const S0: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::RW.with(KeyFlags::INSERT) };
#[rustfmt::skip]
const S1: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::RO.with(KeyFlags::ACCESS) };
#[rustfmt::skip]
const S2: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::UPDATE).with(KeyFlags::VARIABLE_FLAGS) };
#[rustfmt::skip]
const S3: KeySpec = KeySpec { begin: Begin::Index(2), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::OW.with(KeyFlags::UPDATE) };
#[rustfmt::skip]
const S4: KeySpec = KeySpec { begin: Begin::Index(3), find: Find::Range { last: -1, step: 1, limit: 0 }, flags: KeyFlags::RO.with(KeyFlags::ACCESS) };
#[rustfmt::skip]
const S5: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE) };
#[rustfmt::skip]
const S6: KeySpec = KeySpec { begin: Begin::Index(2), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::RW.with(KeyFlags::INSERT) };
#[rustfmt::skip]
const S7: KeySpec = KeySpec { begin: Begin::Index(2), find: Find::KeyNum { count: 0, first: 1, step: 1 }, flags: KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE) };
#[rustfmt::skip]
const S8: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: -2, step: 1, limit: 0 }, flags: KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE) };
#[rustfmt::skip]
const S9: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::UPDATE) };
#[rustfmt::skip]
const S10: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: -1, step: 1, limit: 0 }, flags: KeyFlags::RM.with(KeyFlags::DELETE) };
#[rustfmt::skip]
const S11: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::RW.with(KeyFlags::DELETE).with(KeyFlags::VARIABLE_FLAGS) };
#[rustfmt::skip]
const S12: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::RM.with(KeyFlags::DELETE) };
#[rustfmt::skip]
const S13: KeySpec = KeySpec { begin: Begin::Index(2), find: Find::KeyNum { count: 0, first: 1, step: 1 }, flags: KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::UPDATE) };
#[rustfmt::skip]
const S14: KeySpec = KeySpec { begin: Begin::Index(2), find: Find::KeyNum { count: 0, first: 1, step: 1 }, flags: KeyFlags::RO.with(KeyFlags::ACCESS) };
#[rustfmt::skip]
const S15: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: -1, step: 1, limit: 0 }, flags: KeyFlags::RO };
#[rustfmt::skip]
const S16: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::RW.with(KeyFlags::UPDATE) };
#[rustfmt::skip]
const S17: KeySpec = KeySpec { begin: Begin::Keyword { word: "STORE", from: 6 }, find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::OW.with(KeyFlags::UPDATE) };
#[rustfmt::skip]
const S18: KeySpec = KeySpec { begin: Begin::Keyword { word: "STOREDIST", from: 6 }, find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::OW.with(KeyFlags::UPDATE) };
#[rustfmt::skip]
const S19: KeySpec = KeySpec { begin: Begin::Keyword { word: "STORE", from: 5 }, find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::OW.with(KeyFlags::UPDATE) };
#[rustfmt::skip]
const S20: KeySpec = KeySpec { begin: Begin::Keyword { word: "STOREDIST", from: 5 }, find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::OW.with(KeyFlags::UPDATE) };
#[rustfmt::skip]
const S21: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::OW.with(KeyFlags::UPDATE) };
#[rustfmt::skip]
const S22: KeySpec = KeySpec { begin: Begin::Index(2), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::RO.with(KeyFlags::ACCESS) };
#[rustfmt::skip]
const S23: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::RW.with(KeyFlags::DELETE) };
#[rustfmt::skip]
const S24: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::RO };
#[rustfmt::skip]
const S25: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: 1, step: 1, limit: 0 }, flags: KeyFlags::RO.with(KeyFlags::ACCESS) };
#[rustfmt::skip]
const S26: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::KeyNum { count: 0, first: 1, step: 1 }, flags: KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE) };
#[rustfmt::skip]
const S27: KeySpec = KeySpec { begin: Begin::Index(2), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::RO };
#[rustfmt::skip]
const S28: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: -1, step: 1, limit: 0 }, flags: KeyFlags::RO.with(KeyFlags::ACCESS) };
#[rustfmt::skip]
const S29: KeySpec = KeySpec { begin: Begin::Index(3), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE) };
#[rustfmt::skip]
const S30: KeySpec = KeySpec { begin: Begin::Keyword { word: "KEYS", from: -2 }, find: Find::Range { last: -1, step: 1, limit: 0 }, flags: KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE).with(KeyFlags::INCOMPLETE) };
#[rustfmt::skip]
const S31: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: -1, step: 2, limit: 0 }, flags: KeyFlags::OW.with(KeyFlags::UPDATE) };
#[rustfmt::skip]
const S32: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::KeyNum { count: 0, first: 1, step: 2 }, flags: KeyFlags::OW.with(KeyFlags::UPDATE) };
#[rustfmt::skip]
const S33: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: -1, step: 2, limit: 0 }, flags: KeyFlags::OW.with(KeyFlags::INSERT) };
#[rustfmt::skip]
const S34: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: -1, step: 1, limit: 0 }, flags: KeyFlags::RW.with(KeyFlags::ACCESS) };
#[rustfmt::skip]
const S35: KeySpec = KeySpec { begin: Begin::Index(2), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::RW.with(KeyFlags::ACCESS) };
#[rustfmt::skip]
const S36: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::INSERT) };
#[rustfmt::skip]
const S37: KeySpec = KeySpec { begin: Begin::Index(2), find: Find::Range { last: -1, step: 1, limit: 0 }, flags: KeyFlags::RO.with(KeyFlags::ACCESS) };
#[rustfmt::skip]
const S38: KeySpec = KeySpec { begin: Begin::Index(2), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::OW.with(KeyFlags::INSERT) };
#[rustfmt::skip]
const S39: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::OW.with(KeyFlags::INSERT) };
#[rustfmt::skip]
const S40: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::KeyNum { count: 0, first: 1, step: 1 }, flags: KeyFlags::RO.with(KeyFlags::ACCESS) };
#[rustfmt::skip]
const S41: KeySpec = KeySpec { begin: Begin::Unknown, find: Find::Unknown, flags: KeyFlags::RO.with(KeyFlags::ACCESS) };
#[rustfmt::skip]
const S42: KeySpec = KeySpec { begin: Begin::Unknown, find: Find::Unknown, flags: KeyFlags::OW.with(KeyFlags::UPDATE) };
#[rustfmt::skip]
const S43: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::NOT_KEY };
#[rustfmt::skip]
const S44: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: -1, step: 1, limit: 0 }, flags: KeyFlags::NOT_KEY };
#[rustfmt::skip]
const S45: KeySpec = KeySpec { begin: Begin::Index(1), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::RW.with(KeyFlags::DELETE).with(KeyFlags::UPDATE) };
#[rustfmt::skip]
const S46: KeySpec = KeySpec { begin: Begin::Index(2), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::RW.with(KeyFlags::DELETE) };
#[rustfmt::skip]
const S47: KeySpec = KeySpec { begin: Begin::Index(2), find: Find::Range { last: 0, step: 1, limit: 0 }, flags: KeyFlags::RW.with(KeyFlags::UPDATE) };
#[rustfmt::skip]
const S48: KeySpec = KeySpec { begin: Begin::Keyword { word: "STREAMS", from: 1 }, find: Find::Range { last: -1, step: 1, limit: 2 }, flags: KeyFlags::RO.with(KeyFlags::ACCESS) };
#[rustfmt::skip]
const S49: KeySpec = KeySpec { begin: Begin::Keyword { word: "STREAMS", from: 4 }, find: Find::Range { last: -1, step: 1, limit: 2 }, flags: KeyFlags::RO.with(KeyFlags::ACCESS) };

/// Sorted by name; the subcommands of a container follow it.
#[rustfmt::skip]
pub static RAW: [Raw; 397] = [
    Raw { name: "ACL", arity: -2, flags: Flags::NONE, legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "ACL|CAT", arity: -2, flags: Flags::LOADING.with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "ACL|DELUSER", arity: -3, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "ACL|DRYRUN", arity: -4, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "ACL|GENPASS", arity: -2, flags: Flags::LOADING.with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "ACL|GETUSER", arity: 3, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "ACL|HELP", arity: 2, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "ACL|LIST", arity: 2, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "ACL|LOAD", arity: 2, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "ACL|LOG", arity: -2, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "ACL|SAVE", arity: 2, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "ACL|SETUSER", arity: -3, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "ACL|USERS", arity: 2, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "ACL|WHOAMI", arity: 2, flags: Flags::LOADING.with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "APPEND", arity: 3, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "string", "fast"], tips: &[], specs: &[S0] },
    Raw { name: "ASKING", arity: 1, flags: Flags::FAST, legacy: (0, 0, 0), categories: &["fast", "connection"], tips: &[], specs: &[] },
    Raw { name: "AUTH", arity: -2, flags: Flags::ALLOW_BUSY.with(Flags::FAST).with(Flags::LOADING).with(Flags::NO_AUTH).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["fast", "connection"], tips: &[], specs: &[] },
    Raw { name: "BGREWRITEAOF", arity: 1, flags: Flags::ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::NOSCRIPT), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "BGSAVE", arity: -1, flags: Flags::ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::NOSCRIPT), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "BITCOUNT", arity: -2, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "bitmap", "slow"], tips: &[], specs: &[S1] },
    Raw { name: "BITFIELD", arity: -2, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "bitmap", "slow"], tips: &[], specs: &[S2] },
    Raw { name: "BITFIELD_RO", arity: -2, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "bitmap", "fast"], tips: &[], specs: &[S1] },
    Raw { name: "BITOP", arity: -4, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (2, -1, 1), categories: &["write", "bitmap", "slow"], tips: &[], specs: &[S3, S4] },
    Raw { name: "BITPOS", arity: -3, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "bitmap", "slow"], tips: &[], specs: &[S1] },
    Raw { name: "BLMOVE", arity: 6, flags: Flags::BLOCKING.with(Flags::DENYOOM).with(Flags::NOSCRIPT).with(Flags::WRITE), legacy: (1, 2, 1), categories: &["write", "list", "slow", "blocking"], tips: &[], specs: &[S5, S6] },
    Raw { name: "BLMPOP", arity: -5, flags: Flags::BLOCKING.with(Flags::MOVABLEKEYS).with(Flags::WRITE), legacy: (0, 0, 0), categories: &["write", "list", "slow", "blocking"], tips: &[], specs: &[S7] },
    Raw { name: "BLPOP", arity: -3, flags: Flags::BLOCKING.with(Flags::NOSCRIPT).with(Flags::WRITE), legacy: (1, -2, 1), categories: &["write", "list", "slow", "blocking"], tips: &[], specs: &[S8] },
    Raw { name: "BRPOP", arity: -3, flags: Flags::BLOCKING.with(Flags::NOSCRIPT).with(Flags::WRITE), legacy: (1, -2, 1), categories: &["write", "list", "slow", "blocking"], tips: &[], specs: &[S8] },
    Raw { name: "BRPOPLPUSH", arity: 4, flags: Flags::BLOCKING.with(Flags::DENYOOM).with(Flags::NOSCRIPT).with(Flags::WRITE), legacy: (1, 2, 1), categories: &["write", "list", "slow", "blocking"], tips: &[], specs: &[S5, S6] },
    Raw { name: "BZMPOP", arity: -5, flags: Flags::BLOCKING.with(Flags::MOVABLEKEYS).with(Flags::WRITE), legacy: (0, 0, 0), categories: &["write", "sortedset", "slow", "blocking"], tips: &[], specs: &[S7] },
    Raw { name: "BZPOPMAX", arity: -3, flags: Flags::BLOCKING.with(Flags::FAST).with(Flags::NOSCRIPT).with(Flags::WRITE), legacy: (1, -2, 1), categories: &["write", "sortedset", "fast", "blocking"], tips: &[], specs: &[S8] },
    Raw { name: "BZPOPMIN", arity: -3, flags: Flags::BLOCKING.with(Flags::FAST).with(Flags::NOSCRIPT).with(Flags::WRITE), legacy: (1, -2, 1), categories: &["write", "sortedset", "fast", "blocking"], tips: &[], specs: &[S8] },
    Raw { name: "CLIENT", arity: -2, flags: Flags::NONE, legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "CLIENT|CACHING", arity: 3, flags: Flags::LOADING.with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "connection"], tips: &[], specs: &[] },
    Raw { name: "CLIENT|CAPA", arity: -3, flags: Flags::LOADING.with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "connection"], tips: &[], specs: &[] },
    Raw { name: "CLIENT|GETNAME", arity: 2, flags: Flags::LOADING.with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "connection"], tips: &[], specs: &[] },
    Raw { name: "CLIENT|GETREDIR", arity: 2, flags: Flags::LOADING.with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "connection"], tips: &[], specs: &[] },
    Raw { name: "CLIENT|HELP", arity: 2, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "connection"], tips: &[], specs: &[] },
    Raw { name: "CLIENT|ID", arity: 2, flags: Flags::LOADING.with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "connection"], tips: &[], specs: &[] },
    Raw { name: "CLIENT|IMPORT-SOURCE", arity: 3, flags: Flags::LOADING.with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "connection"], tips: &[], specs: &[] },
    Raw { name: "CLIENT|INFO", arity: 2, flags: Flags::LOADING.with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "connection"], tips: &["nondeterministic_output"], specs: &[] },
    Raw { name: "CLIENT|KILL", arity: -3, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous", "connection"], tips: &[], specs: &[] },
    Raw { name: "CLIENT|LIST", arity: -2, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous", "connection"], tips: &["nondeterministic_output"], specs: &[] },
    Raw { name: "CLIENT|NO-EVICT", arity: 3, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous", "connection"], tips: &[], specs: &[] },
    Raw { name: "CLIENT|NO-TOUCH", arity: 3, flags: Flags::LOADING.with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "connection"], tips: &[], specs: &[] },
    Raw { name: "CLIENT|PAUSE", arity: -3, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous", "connection"], tips: &[], specs: &[] },
    Raw { name: "CLIENT|REPLY", arity: 3, flags: Flags::LOADING.with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "connection"], tips: &[], specs: &[] },
    Raw { name: "CLIENT|SETINFO", arity: 4, flags: Flags::LOADING.with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "connection"], tips: &[], specs: &[] },
    Raw { name: "CLIENT|SETNAME", arity: 3, flags: Flags::LOADING.with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "connection"], tips: &[], specs: &[] },
    Raw { name: "CLIENT|TRACKING", arity: -3, flags: Flags::LOADING.with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "connection"], tips: &[], specs: &[] },
    Raw { name: "CLIENT|TRACKINGINFO", arity: 2, flags: Flags::LOADING.with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "connection"], tips: &[], specs: &[] },
    Raw { name: "CLIENT|UNBLOCK", arity: -3, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous", "connection"], tips: &[], specs: &[] },
    Raw { name: "CLIENT|UNPAUSE", arity: 2, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous", "connection"], tips: &[], specs: &[] },
    Raw { name: "CLUSTER", arity: -2, flags: Flags::NONE, legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "CLUSTER|ADDSLOTS", arity: -3, flags: Flags::ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "CLUSTER|ADDSLOTSRANGE", arity: -4, flags: Flags::ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "CLUSTER|BUMPEPOCH", arity: 2, flags: Flags::ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &["nondeterministic_output"], specs: &[] },
    Raw { name: "CLUSTER|COUNT-FAILURE-REPORTS", arity: 3, flags: Flags::ADMIN.with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &["nondeterministic_output"], specs: &[] },
    Raw { name: "CLUSTER|COUNTKEYSINSLOT", arity: 3, flags: Flags::STALE, legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "CLUSTER|DELSLOTS", arity: -3, flags: Flags::ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "CLUSTER|DELSLOTSRANGE", arity: -4, flags: Flags::ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "CLUSTER|FAILOVER", arity: -2, flags: Flags::ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "CLUSTER|FLUSHSLOTS", arity: 2, flags: Flags::ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "CLUSTER|FORGET", arity: 3, flags: Flags::ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "CLUSTER|GETKEYSINSLOT", arity: 4, flags: Flags::STALE, legacy: (0, 0, 0), categories: &["slow"], tips: &["nondeterministic_output"], specs: &[] },
    Raw { name: "CLUSTER|HELP", arity: 2, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "CLUSTER|INFO", arity: 2, flags: Flags::STALE, legacy: (0, 0, 0), categories: &["slow"], tips: &["nondeterministic_output"], specs: &[] },
    Raw { name: "CLUSTER|KEYSLOT", arity: 3, flags: Flags::STALE, legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "CLUSTER|LINKS", arity: 2, flags: Flags::STALE, legacy: (0, 0, 0), categories: &["slow"], tips: &["nondeterministic_output"], specs: &[] },
    Raw { name: "CLUSTER|MEET", arity: -4, flags: Flags::ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "CLUSTER|MYID", arity: 2, flags: Flags::STALE, legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "CLUSTER|MYSHARDID", arity: 2, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "CLUSTER|NODES", arity: 2, flags: Flags::STALE, legacy: (0, 0, 0), categories: &["slow"], tips: &["nondeterministic_output"], specs: &[] },
    Raw { name: "CLUSTER|REPLICAS", arity: 3, flags: Flags::ADMIN.with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &["nondeterministic_output"], specs: &[] },
    Raw { name: "CLUSTER|REPLICATE", arity: 3, flags: Flags::ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "CLUSTER|RESET", arity: -2, flags: Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "CLUSTER|SAVECONFIG", arity: 2, flags: Flags::ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "CLUSTER|SET-CONFIG-EPOCH", arity: 3, flags: Flags::ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "CLUSTER|SETSLOT", arity: -4, flags: Flags::ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "CLUSTER|SHARDS", arity: 2, flags: Flags::STALE, legacy: (0, 0, 0), categories: &["slow"], tips: &["nondeterministic_output"], specs: &[] },
    Raw { name: "CLUSTER|SLAVES", arity: 3, flags: Flags::ADMIN.with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &["nondeterministic_output"], specs: &[] },
    Raw { name: "CLUSTER|SLOTS", arity: 2, flags: Flags::STALE, legacy: (0, 0, 0), categories: &["slow"], tips: &["nondeterministic_output"], specs: &[] },
    Raw { name: "CLUSTERSCAN", arity: -2, flags: Flags::READONLY, legacy: (0, 0, 0), categories: &["keyspace", "read", "slow"], tips: &[], specs: &[] },
    Raw { name: "COMMAND", arity: -1, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "connection"], tips: &["nondeterministic_output_order"], specs: &[] },
    Raw { name: "COMMAND|COUNT", arity: 2, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "connection"], tips: &[], specs: &[] },
    Raw { name: "COMMAND|DOCS", arity: -2, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "connection"], tips: &["nondeterministic_output_order"], specs: &[] },
    Raw { name: "COMMAND|GETKEYS", arity: -4, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "connection"], tips: &[], specs: &[] },
    Raw { name: "COMMAND|GETKEYSANDFLAGS", arity: -4, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "connection"], tips: &[], specs: &[] },
    Raw { name: "COMMAND|HELP", arity: 2, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "connection"], tips: &[], specs: &[] },
    Raw { name: "COMMAND|INFO", arity: -2, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "connection"], tips: &["nondeterministic_output_order"], specs: &[] },
    Raw { name: "COMMAND|LIST", arity: -2, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "connection"], tips: &["nondeterministic_output_order"], specs: &[] },
    Raw { name: "COMMANDLOG", arity: -2, flags: Flags::NONE, legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "COMMANDLOG|GET", arity: 4, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &["request_policy:all_nodes"], specs: &[] },
    Raw { name: "COMMANDLOG|HELP", arity: 2, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "COMMANDLOG|LEN", arity: 3, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &["request_policy:all_nodes", "response_policy:agg_sum"], specs: &[] },
    Raw { name: "COMMANDLOG|RESET", arity: 3, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &["request_policy:all_nodes", "response_policy:all_succeeded"], specs: &[] },
    Raw { name: "CONFIG", arity: -2, flags: Flags::NONE, legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "CONFIG|GET", arity: -3, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "CONFIG|HELP", arity: 2, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "CONFIG|RESETSTAT", arity: 2, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "CONFIG|REWRITE", arity: 2, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "CONFIG|SET", arity: -4, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &["request_policy:all_nodes", "response_policy:all_succeeded"], specs: &[] },
    Raw { name: "COPY", arity: -3, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (1, 2, 1), categories: &["keyspace", "write", "slow"], tips: &[], specs: &[S1, S3] },
    Raw { name: "DBSIZE", arity: 1, flags: Flags::FAST.with(Flags::READONLY), legacy: (0, 0, 0), categories: &["keyspace", "read", "fast"], tips: &["request_policy:all_shards", "response_policy:agg_sum"], specs: &[] },
    Raw { name: "DEBUG", arity: -2, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "DECR", arity: 2, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "string", "fast"], tips: &[], specs: &[S9] },
    Raw { name: "DECRBY", arity: 3, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "string", "fast"], tips: &[], specs: &[S9] },
    Raw { name: "DEL", arity: -2, flags: Flags::WRITE, legacy: (1, -1, 1), categories: &["keyspace", "write", "slow"], tips: &["request_policy:multi_shard", "response_policy:agg_sum"], specs: &[S10] },
    Raw { name: "DELEX", arity: -2, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "string", "fast"], tips: &[], specs: &[S11] },
    Raw { name: "DELIFEQ", arity: 3, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "string", "fast"], tips: &[], specs: &[S12] },
    Raw { name: "DISCARD", arity: 1, flags: Flags::ALLOW_BUSY.with(Flags::FAST).with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["fast", "transaction"], tips: &[], specs: &[] },
    Raw { name: "DUMP", arity: 2, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["keyspace", "read", "slow"], tips: &["nondeterministic_output"], specs: &[S1] },
    Raw { name: "ECHO", arity: 2, flags: Flags::FAST.with(Flags::LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["fast", "connection"], tips: &[], specs: &[] },
    Raw { name: "EVAL", arity: -3, flags: Flags::MOVABLEKEYS.with(Flags::NO_MANDATORY_KEYS).with(Flags::NOSCRIPT).with(Flags::SKIP_MONITOR).with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "scripting"], tips: &[], specs: &[S13] },
    Raw { name: "EVAL_RO", arity: -3, flags: Flags::MOVABLEKEYS.with(Flags::NO_MANDATORY_KEYS).with(Flags::NOSCRIPT).with(Flags::READONLY).with(Flags::SKIP_MONITOR).with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "scripting"], tips: &[], specs: &[S14] },
    Raw { name: "EVALSHA", arity: -3, flags: Flags::MOVABLEKEYS.with(Flags::NO_MANDATORY_KEYS).with(Flags::NOSCRIPT).with(Flags::SKIP_MONITOR).with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "scripting"], tips: &[], specs: &[S13] },
    Raw { name: "EVALSHA_RO", arity: -3, flags: Flags::MOVABLEKEYS.with(Flags::NO_MANDATORY_KEYS).with(Flags::NOSCRIPT).with(Flags::READONLY).with(Flags::SKIP_MONITOR).with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "scripting"], tips: &[], specs: &[S14] },
    Raw { name: "EXEC", arity: 1, flags: Flags::LOADING.with(Flags::NOSCRIPT).with(Flags::SKIP_SLOWLOG).with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "transaction"], tips: &[], specs: &[] },
    Raw { name: "EXISTS", arity: -2, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, -1, 1), categories: &["keyspace", "read", "fast"], tips: &["request_policy:multi_shard", "response_policy:agg_sum"], specs: &[S15] },
    Raw { name: "EXPIRE", arity: -3, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["keyspace", "write", "fast"], tips: &[], specs: &[S16] },
    Raw { name: "EXPIREAT", arity: -3, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["keyspace", "write", "fast"], tips: &[], specs: &[S16] },
    Raw { name: "EXPIRETIME", arity: 2, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["keyspace", "read", "fast"], tips: &[], specs: &[S1] },
    Raw { name: "FAILOVER", arity: -1, flags: Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "FCALL", arity: -3, flags: Flags::MOVABLEKEYS.with(Flags::NO_MANDATORY_KEYS).with(Flags::NOSCRIPT).with(Flags::SKIP_MONITOR).with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "scripting"], tips: &[], specs: &[S13] },
    Raw { name: "FCALL_RO", arity: -3, flags: Flags::MOVABLEKEYS.with(Flags::NO_MANDATORY_KEYS).with(Flags::NOSCRIPT).with(Flags::READONLY).with(Flags::SKIP_MONITOR).with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "scripting"], tips: &[], specs: &[S14] },
    Raw { name: "FLUSHALL", arity: -1, flags: Flags::WRITE, legacy: (0, 0, 0), categories: &["keyspace", "write", "slow", "dangerous"], tips: &["request_policy:all_shards", "response_policy:all_succeeded"], specs: &[] },
    Raw { name: "FLUSHDB", arity: -1, flags: Flags::WRITE, legacy: (0, 0, 0), categories: &["keyspace", "write", "slow", "dangerous"], tips: &["request_policy:all_shards", "response_policy:all_succeeded"], specs: &[] },
    Raw { name: "FUNCTION", arity: -2, flags: Flags::NONE, legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "FUNCTION|DELETE", arity: 3, flags: Flags::NOSCRIPT.with(Flags::WRITE), legacy: (0, 0, 0), categories: &["write", "slow", "scripting"], tips: &["request_policy:all_shards", "response_policy:all_succeeded"], specs: &[] },
    Raw { name: "FUNCTION|DUMP", arity: 2, flags: Flags::NOSCRIPT, legacy: (0, 0, 0), categories: &["slow", "scripting"], tips: &[], specs: &[] },
    Raw { name: "FUNCTION|FLUSH", arity: -2, flags: Flags::NOSCRIPT.with(Flags::WRITE), legacy: (0, 0, 0), categories: &["write", "slow", "scripting"], tips: &["request_policy:all_shards", "response_policy:all_succeeded"], specs: &[] },
    Raw { name: "FUNCTION|HELP", arity: 2, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "scripting"], tips: &[], specs: &[] },
    Raw { name: "FUNCTION|KILL", arity: 2, flags: Flags::ALLOW_BUSY.with(Flags::NOSCRIPT), legacy: (0, 0, 0), categories: &["slow", "scripting"], tips: &["request_policy:all_shards", "response_policy:one_succeeded"], specs: &[] },
    Raw { name: "FUNCTION|LIST", arity: -2, flags: Flags::NOSCRIPT, legacy: (0, 0, 0), categories: &["slow", "scripting"], tips: &["nondeterministic_output_order"], specs: &[] },
    Raw { name: "FUNCTION|LOAD", arity: -3, flags: Flags::DENYOOM.with(Flags::NOSCRIPT).with(Flags::WRITE), legacy: (0, 0, 0), categories: &["write", "slow", "scripting"], tips: &["request_policy:all_shards", "response_policy:all_succeeded"], specs: &[] },
    Raw { name: "FUNCTION|RESTORE", arity: -3, flags: Flags::DENYOOM.with(Flags::NOSCRIPT).with(Flags::WRITE), legacy: (0, 0, 0), categories: &["write", "slow", "scripting"], tips: &["request_policy:all_shards", "response_policy:all_succeeded"], specs: &[] },
    Raw { name: "FUNCTION|STATS", arity: 2, flags: Flags::ALLOW_BUSY.with(Flags::NOSCRIPT), legacy: (0, 0, 0), categories: &["slow", "scripting"], tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"], specs: &[] },
    Raw { name: "GEOADD", arity: -5, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "geo", "slow"], tips: &[], specs: &[S16] },
    Raw { name: "GEODIST", arity: -4, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "geo", "slow"], tips: &[], specs: &[S1] },
    Raw { name: "GEOHASH", arity: -2, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "geo", "slow"], tips: &[], specs: &[S1] },
    Raw { name: "GEOPOS", arity: -2, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "geo", "slow"], tips: &[], specs: &[S1] },
    Raw { name: "GEORADIUS", arity: -6, flags: Flags::DENYOOM.with(Flags::MOVABLEKEYS).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "geo", "slow"], tips: &[], specs: &[S1, S17, S18] },
    Raw { name: "GEORADIUS_RO", arity: -6, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "geo", "slow"], tips: &[], specs: &[S1] },
    Raw { name: "GEORADIUSBYMEMBER", arity: -5, flags: Flags::DENYOOM.with(Flags::MOVABLEKEYS).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "geo", "slow"], tips: &[], specs: &[S1, S19, S20] },
    Raw { name: "GEORADIUSBYMEMBER_RO", arity: -5, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "geo", "slow"], tips: &[], specs: &[S1] },
    Raw { name: "GEOSEARCH", arity: -7, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "geo", "slow"], tips: &[], specs: &[S1] },
    Raw { name: "GEOSEARCHSTORE", arity: -8, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (1, 2, 1), categories: &["write", "geo", "slow"], tips: &[], specs: &[S21, S22] },
    Raw { name: "GET", arity: 2, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "string", "fast"], tips: &[], specs: &[S1] },
    Raw { name: "GETBIT", arity: 3, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "bitmap", "fast"], tips: &[], specs: &[S1] },
    Raw { name: "GETDEL", arity: 2, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "string", "fast"], tips: &[], specs: &[S5] },
    Raw { name: "GETEX", arity: -2, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "string", "fast"], tips: &[], specs: &[S9] },
    Raw { name: "GETRANGE", arity: 4, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "string", "slow"], tips: &[], specs: &[S1] },
    Raw { name: "GETSET", arity: 3, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "string", "fast"], tips: &[], specs: &[S9] },
    Raw { name: "HDEL", arity: -3, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "hash", "fast"], tips: &[], specs: &[S23] },
    Raw { name: "HELLO", arity: -1, flags: Flags::ALLOW_BUSY.with(Flags::FAST).with(Flags::LOADING).with(Flags::NO_AUTH).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["fast", "connection"], tips: &[], specs: &[] },
    Raw { name: "HEXISTS", arity: 3, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "hash", "fast"], tips: &[], specs: &[S24] },
    Raw { name: "HEXPIRE", arity: -6, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "hash", "fast"], tips: &[], specs: &[S16] },
    Raw { name: "HEXPIREAT", arity: -6, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "hash", "fast"], tips: &[], specs: &[S16] },
    Raw { name: "HEXPIRETIME", arity: -5, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "hash", "fast"], tips: &[], specs: &[S1] },
    Raw { name: "HGET", arity: 3, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "hash", "fast"], tips: &[], specs: &[S1] },
    Raw { name: "HGETALL", arity: 2, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "hash", "slow"], tips: &["nondeterministic_output_order"], specs: &[S1] },
    Raw { name: "HGETDEL", arity: -5, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "hash", "fast"], tips: &[], specs: &[S5] },
    Raw { name: "HGETEX", arity: -5, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "hash", "fast"], tips: &[], specs: &[S9] },
    Raw { name: "HINCRBY", arity: 4, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "hash", "fast"], tips: &[], specs: &[S9] },
    Raw { name: "HINCRBYFLOAT", arity: 4, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "hash", "fast"], tips: &[], specs: &[S9] },
    Raw { name: "HKEYS", arity: 2, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "hash", "slow"], tips: &["nondeterministic_output_order"], specs: &[S1] },
    Raw { name: "HLEN", arity: 2, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "hash", "fast"], tips: &[], specs: &[S24] },
    Raw { name: "HMGET", arity: -3, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "hash", "fast"], tips: &[], specs: &[S1] },
    Raw { name: "HMSET", arity: -4, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "hash", "fast"], tips: &[], specs: &[S16] },
    Raw { name: "HPERSIST", arity: -5, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "hash", "fast"], tips: &[], specs: &[S16] },
    Raw { name: "HPEXPIRE", arity: -6, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "hash", "fast"], tips: &[], specs: &[S16] },
    Raw { name: "HPEXPIREAT", arity: -6, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "hash", "fast"], tips: &[], specs: &[S16] },
    Raw { name: "HPEXPIRETIME", arity: -5, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "hash", "fast"], tips: &[], specs: &[S1] },
    Raw { name: "HPTTL", arity: -5, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "hash", "fast"], tips: &[], specs: &[S1] },
    Raw { name: "HRANDFIELD", arity: -2, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "hash", "slow"], tips: &["nondeterministic_output"], specs: &[S1] },
    Raw { name: "HSCAN", arity: -3, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "hash", "slow"], tips: &["nondeterministic_output"], specs: &[S1] },
    Raw { name: "HSET", arity: -4, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "hash", "fast"], tips: &[], specs: &[S16] },
    Raw { name: "HSETEX", arity: -6, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "hash", "fast"], tips: &[], specs: &[S16] },
    Raw { name: "HSETNX", arity: 4, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "hash", "fast"], tips: &[], specs: &[S0] },
    Raw { name: "HSTRLEN", arity: 3, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "hash", "fast"], tips: &[], specs: &[S24] },
    Raw { name: "HTTL", arity: -5, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "hash", "fast"], tips: &[], specs: &[S1] },
    Raw { name: "HVALS", arity: 2, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "hash", "slow"], tips: &["nondeterministic_output_order"], specs: &[S1] },
    Raw { name: "INCR", arity: 2, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "string", "fast"], tips: &[], specs: &[S9] },
    Raw { name: "INCRBY", arity: 3, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "string", "fast"], tips: &[], specs: &[S9] },
    Raw { name: "INCRBYFLOAT", arity: 3, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "string", "fast"], tips: &[], specs: &[S9] },
    Raw { name: "INFO", arity: -1, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "dangerous"], tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"], specs: &[] },
    Raw { name: "KEYS", arity: 2, flags: Flags::READONLY, legacy: (0, 0, 0), categories: &["keyspace", "read", "slow", "dangerous"], tips: &["request_policy:all_shards", "nondeterministic_output_order"], specs: &[] },
    Raw { name: "LASTSAVE", arity: 1, flags: Flags::FAST.with(Flags::LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "fast", "dangerous"], tips: &["nondeterministic_output"], specs: &[] },
    Raw { name: "LATENCY", arity: -2, flags: Flags::NONE, legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "LATENCY|DOCTOR", arity: 2, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"], specs: &[] },
    Raw { name: "LATENCY|GRAPH", arity: 3, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"], specs: &[] },
    Raw { name: "LATENCY|HELP", arity: 2, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "LATENCY|HISTOGRAM", arity: -2, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"], specs: &[] },
    Raw { name: "LATENCY|HISTORY", arity: 3, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"], specs: &[] },
    Raw { name: "LATENCY|LATEST", arity: 2, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"], specs: &[] },
    Raw { name: "LATENCY|RESET", arity: -2, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &["request_policy:all_nodes", "response_policy:all_succeeded"], specs: &[] },
    Raw { name: "LCS", arity: -3, flags: Flags::READONLY, legacy: (1, 2, 1), categories: &["read", "string", "slow"], tips: &[], specs: &[S25] },
    Raw { name: "LINDEX", arity: 3, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "list", "slow"], tips: &[], specs: &[S1] },
    Raw { name: "LINSERT", arity: 5, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "list", "slow"], tips: &[], specs: &[S0] },
    Raw { name: "LLEN", arity: 2, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "list", "fast"], tips: &[], specs: &[S24] },
    Raw { name: "LMOVE", arity: 5, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (1, 2, 1), categories: &["write", "list", "slow"], tips: &[], specs: &[S5, S6] },
    Raw { name: "LMPOP", arity: -4, flags: Flags::MOVABLEKEYS.with(Flags::WRITE), legacy: (0, 0, 0), categories: &["write", "list", "slow"], tips: &[], specs: &[S26] },
    Raw { name: "LOLWUT", arity: -1, flags: Flags::FAST.with(Flags::READONLY), legacy: (0, 0, 0), categories: &["read", "fast"], tips: &[], specs: &[] },
    Raw { name: "LPOP", arity: -2, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "list", "fast"], tips: &[], specs: &[S5] },
    Raw { name: "LPOS", arity: -3, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "list", "slow"], tips: &[], specs: &[S1] },
    Raw { name: "LPUSH", arity: -3, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "list", "fast"], tips: &[], specs: &[S0] },
    Raw { name: "LPUSHX", arity: -3, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "list", "fast"], tips: &[], specs: &[S0] },
    Raw { name: "LRANGE", arity: 4, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "list", "slow"], tips: &[], specs: &[S1] },
    Raw { name: "LREM", arity: 4, flags: Flags::WRITE, legacy: (1, 1, 1), categories: &["write", "list", "slow"], tips: &[], specs: &[S23] },
    Raw { name: "LSET", arity: 4, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "list", "slow"], tips: &[], specs: &[S16] },
    Raw { name: "LTRIM", arity: 4, flags: Flags::WRITE, legacy: (1, 1, 1), categories: &["write", "list", "slow"], tips: &[], specs: &[S23] },
    Raw { name: "MEMORY", arity: -2, flags: Flags::NONE, legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "MEMORY|DOCTOR", arity: 2, flags: Flags::NONE, legacy: (0, 0, 0), categories: &["slow"], tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"], specs: &[] },
    Raw { name: "MEMORY|HELP", arity: 2, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "MEMORY|MALLOC-STATS", arity: 2, flags: Flags::NONE, legacy: (0, 0, 0), categories: &["slow"], tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"], specs: &[] },
    Raw { name: "MEMORY|PURGE", arity: 2, flags: Flags::NONE, legacy: (0, 0, 0), categories: &["slow"], tips: &["request_policy:all_shards", "response_policy:all_succeeded"], specs: &[] },
    Raw { name: "MEMORY|STATS", arity: 2, flags: Flags::NONE, legacy: (0, 0, 0), categories: &["slow"], tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"], specs: &[] },
    Raw { name: "MEMORY|USAGE", arity: -3, flags: Flags::READONLY, legacy: (2, 2, 1), categories: &["read", "slow"], tips: &[], specs: &[S27] },
    Raw { name: "MGET", arity: -2, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, -1, 1), categories: &["read", "string", "fast"], tips: &["request_policy:multi_shard"], specs: &[S28] },
    Raw { name: "MIGRATE", arity: -6, flags: Flags::MOVABLEKEYS.with(Flags::WRITE), legacy: (3, 3, 1), categories: &["keyspace", "write", "slow", "dangerous"], tips: &["nondeterministic_output"], specs: &[S29, S30] },
    Raw { name: "MODULE", arity: -2, flags: Flags::NONE, legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "MODULE|HELP", arity: 2, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "MODULE|LIST", arity: 2, flags: Flags::ADMIN.with(Flags::NOSCRIPT), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &["nondeterministic_output_order"], specs: &[] },
    Raw { name: "MODULE|LOAD", arity: -3, flags: Flags::ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::NOSCRIPT), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "MODULE|LOADEX", arity: -3, flags: Flags::ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::NOSCRIPT), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "MODULE|UNLOAD", arity: 3, flags: Flags::ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::NOSCRIPT), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "MONITOR", arity: 1, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "MOVE", arity: 3, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["keyspace", "write", "fast"], tips: &[], specs: &[S9] },
    Raw { name: "MSET", arity: -3, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (1, -1, 2), categories: &["write", "string", "slow"], tips: &["request_policy:multi_shard", "response_policy:all_succeeded"], specs: &[S31] },
    Raw { name: "MSETEX", arity: -4, flags: Flags::DENYOOM.with(Flags::MOVABLEKEYS).with(Flags::WRITE), legacy: (0, 0, 0), categories: &["write", "string", "slow"], tips: &["request_policy:multi_shard", "response_policy:all_succeeded"], specs: &[S32] },
    Raw { name: "MSETNX", arity: -3, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (1, -1, 2), categories: &["write", "string", "slow"], tips: &["request_policy:multi_shard", "response_policy:agg_min"], specs: &[S33] },
    Raw { name: "MULTI", arity: 1, flags: Flags::ALLOW_BUSY.with(Flags::FAST).with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["fast", "transaction"], tips: &[], specs: &[] },
    Raw { name: "OBJECT", arity: -2, flags: Flags::NONE, legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "OBJECT|ENCODING", arity: 3, flags: Flags::READONLY, legacy: (2, 2, 1), categories: &["keyspace", "read", "slow"], tips: &["nondeterministic_output"], specs: &[S27] },
    Raw { name: "OBJECT|FREQ", arity: 3, flags: Flags::READONLY, legacy: (2, 2, 1), categories: &["keyspace", "read", "slow"], tips: &["nondeterministic_output"], specs: &[S27] },
    Raw { name: "OBJECT|HELP", arity: 2, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["keyspace", "slow"], tips: &[], specs: &[] },
    Raw { name: "OBJECT|IDLETIME", arity: 3, flags: Flags::READONLY, legacy: (2, 2, 1), categories: &["keyspace", "read", "slow"], tips: &["nondeterministic_output"], specs: &[S27] },
    Raw { name: "OBJECT|REFCOUNT", arity: 3, flags: Flags::READONLY, legacy: (2, 2, 1), categories: &["keyspace", "read", "slow"], tips: &["nondeterministic_output"], specs: &[S27] },
    Raw { name: "PERSIST", arity: 2, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["keyspace", "write", "fast"], tips: &[], specs: &[S16] },
    Raw { name: "PEXPIRE", arity: -3, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["keyspace", "write", "fast"], tips: &[], specs: &[S16] },
    Raw { name: "PEXPIREAT", arity: -3, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["keyspace", "write", "fast"], tips: &[], specs: &[S16] },
    Raw { name: "PEXPIRETIME", arity: 2, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["keyspace", "read", "fast"], tips: &[], specs: &[S1] },
    Raw { name: "PFADD", arity: -2, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "hyperloglog", "fast"], tips: &[], specs: &[S0] },
    Raw { name: "PFCOUNT", arity: -2, flags: Flags::READONLY, legacy: (1, -1, 1), categories: &["read", "hyperloglog", "slow"], tips: &[], specs: &[S34] },
    Raw { name: "PFDEBUG", arity: 3, flags: Flags::ADMIN.with(Flags::DENYOOM).with(Flags::WRITE), legacy: (2, 2, 1), categories: &["write", "hyperloglog", "admin", "slow", "dangerous"], tips: &[], specs: &[S35] },
    Raw { name: "PFMERGE", arity: -2, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (1, -1, 1), categories: &["write", "hyperloglog", "slow"], tips: &[], specs: &[S36, S37] },
    Raw { name: "PFSELFTEST", arity: 1, flags: Flags::ADMIN, legacy: (0, 0, 0), categories: &["hyperloglog", "admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "PING", arity: -1, flags: Flags::FAST, legacy: (0, 0, 0), categories: &["fast", "connection"], tips: &["request_policy:all_shards", "response_policy:all_succeeded"], specs: &[] },
    Raw { name: "PSETEX", arity: 4, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "string", "slow"], tips: &[], specs: &[S21] },
    Raw { name: "PSUBSCRIBE", arity: -2, flags: Flags::LOADING.with(Flags::NOSCRIPT).with(Flags::PUBSUB).with(Flags::STALE), legacy: (0, 0, 0), categories: &["pubsub", "slow"], tips: &[], specs: &[] },
    Raw { name: "PSYNC", arity: -3, flags: Flags::ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::NO_MULTI).with(Flags::NOSCRIPT), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "PTTL", arity: 2, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["keyspace", "read", "fast"], tips: &["nondeterministic_output"], specs: &[S1] },
    Raw { name: "PUBLISH", arity: 3, flags: Flags::FAST.with(Flags::LOADING).with(Flags::PUBSUB).with(Flags::STALE), legacy: (0, 0, 0), categories: &["pubsub", "fast"], tips: &[], specs: &[] },
    Raw { name: "PUBSUB", arity: -2, flags: Flags::NONE, legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "PUBSUB|CHANNELS", arity: -2, flags: Flags::LOADING.with(Flags::PUBSUB).with(Flags::STALE), legacy: (0, 0, 0), categories: &["pubsub", "slow"], tips: &[], specs: &[] },
    Raw { name: "PUBSUB|HELP", arity: 2, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "PUBSUB|NUMPAT", arity: 2, flags: Flags::LOADING.with(Flags::PUBSUB).with(Flags::STALE), legacy: (0, 0, 0), categories: &["pubsub", "slow"], tips: &[], specs: &[] },
    Raw { name: "PUBSUB|NUMSUB", arity: -2, flags: Flags::LOADING.with(Flags::PUBSUB).with(Flags::STALE), legacy: (0, 0, 0), categories: &["pubsub", "slow"], tips: &[], specs: &[] },
    Raw { name: "PUBSUB|SHARDCHANNELS", arity: -2, flags: Flags::LOADING.with(Flags::PUBSUB).with(Flags::STALE), legacy: (0, 0, 0), categories: &["pubsub", "slow"], tips: &[], specs: &[] },
    Raw { name: "PUBSUB|SHARDNUMSUB", arity: -2, flags: Flags::LOADING.with(Flags::PUBSUB).with(Flags::STALE), legacy: (0, 0, 0), categories: &["pubsub", "slow"], tips: &[], specs: &[] },
    Raw { name: "PUNSUBSCRIBE", arity: -1, flags: Flags::LOADING.with(Flags::NOSCRIPT).with(Flags::PUBSUB).with(Flags::STALE), legacy: (0, 0, 0), categories: &["pubsub", "slow"], tips: &[], specs: &[] },
    Raw { name: "QUIT", arity: -1, flags: Flags::ALLOW_BUSY.with(Flags::FAST).with(Flags::LOADING).with(Flags::NO_AUTH).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["fast", "connection"], tips: &[], specs: &[] },
    Raw { name: "RANDOMKEY", arity: 1, flags: Flags::READONLY, legacy: (0, 0, 0), categories: &["keyspace", "read", "slow"], tips: &["request_policy:all_shards", "nondeterministic_output"], specs: &[] },
    Raw { name: "READONLY", arity: 1, flags: Flags::FAST.with(Flags::LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["fast", "connection"], tips: &[], specs: &[] },
    Raw { name: "READWRITE", arity: 1, flags: Flags::FAST.with(Flags::LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["fast", "connection"], tips: &[], specs: &[] },
    Raw { name: "RENAME", arity: 3, flags: Flags::WRITE, legacy: (1, 2, 1), categories: &["keyspace", "write", "slow"], tips: &[], specs: &[S5, S3] },
    Raw { name: "RENAMENX", arity: 3, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 2, 1), categories: &["keyspace", "write", "fast"], tips: &[], specs: &[S5, S38] },
    Raw { name: "REPLCONF", arity: -1, flags: Flags::ADMIN.with(Flags::ALLOW_BUSY).with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "REPLICAOF", arity: 3, flags: Flags::ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "RESET", arity: 1, flags: Flags::ALLOW_BUSY.with(Flags::FAST).with(Flags::LOADING).with(Flags::NO_AUTH).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["fast", "connection"], tips: &[], specs: &[] },
    Raw { name: "RESTORE", arity: -4, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["keyspace", "write", "slow", "dangerous"], tips: &[], specs: &[S21] },
    Raw { name: "RESTORE-ASKING", arity: -4, flags: Flags::ASKING.with(Flags::DENYOOM).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["keyspace", "write", "slow", "dangerous"], tips: &[], specs: &[S21] },
    Raw { name: "ROLE", arity: 1, flags: Flags::FAST.with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "fast", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "RPOP", arity: -2, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "list", "fast"], tips: &[], specs: &[S5] },
    Raw { name: "RPOPLPUSH", arity: 3, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (1, 2, 1), categories: &["write", "list", "slow"], tips: &[], specs: &[S5, S6] },
    Raw { name: "RPUSH", arity: -3, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "list", "fast"], tips: &[], specs: &[S0] },
    Raw { name: "RPUSHX", arity: -3, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "list", "fast"], tips: &[], specs: &[S0] },
    Raw { name: "SADD", arity: -3, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "set", "fast"], tips: &[], specs: &[S0] },
    Raw { name: "SAVE", arity: 1, flags: Flags::ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::NO_MULTI).with(Flags::NOSCRIPT), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "SCAN", arity: -2, flags: Flags::READONLY, legacy: (0, 0, 0), categories: &["keyspace", "read", "slow"], tips: &["nondeterministic_output", "request_policy:special"], specs: &[] },
    Raw { name: "SCARD", arity: 2, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "set", "fast"], tips: &[], specs: &[S24] },
    Raw { name: "SCRIPT", arity: -2, flags: Flags::NONE, legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "SCRIPT|DEBUG", arity: 3, flags: Flags::NOSCRIPT, legacy: (0, 0, 0), categories: &["slow", "scripting"], tips: &[], specs: &[] },
    Raw { name: "SCRIPT|EXISTS", arity: -3, flags: Flags::NOSCRIPT, legacy: (0, 0, 0), categories: &["slow", "scripting"], tips: &["request_policy:all_shards", "response_policy:agg_logical_and"], specs: &[] },
    Raw { name: "SCRIPT|FLUSH", arity: -2, flags: Flags::NOSCRIPT, legacy: (0, 0, 0), categories: &["slow", "scripting"], tips: &["request_policy:all_nodes", "response_policy:all_succeeded"], specs: &[] },
    Raw { name: "SCRIPT|HELP", arity: 2, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "scripting"], tips: &[], specs: &[] },
    Raw { name: "SCRIPT|KILL", arity: 2, flags: Flags::ALLOW_BUSY.with(Flags::NOSCRIPT), legacy: (0, 0, 0), categories: &["slow", "scripting"], tips: &["request_policy:all_shards", "response_policy:one_succeeded"], specs: &[] },
    Raw { name: "SCRIPT|LOAD", arity: 3, flags: Flags::NOSCRIPT.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "scripting"], tips: &["request_policy:all_nodes", "response_policy:all_succeeded"], specs: &[] },
    Raw { name: "SCRIPT|SHOW", arity: 3, flags: Flags::NOSCRIPT.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow", "scripting"], tips: &[], specs: &[] },
    Raw { name: "SDIFF", arity: -2, flags: Flags::READONLY, legacy: (1, -1, 1), categories: &["read", "set", "slow"], tips: &["nondeterministic_output_order"], specs: &[S28] },
    Raw { name: "SDIFFSTORE", arity: -3, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (1, -1, 1), categories: &["write", "set", "slow"], tips: &[], specs: &[S21, S37] },
    Raw { name: "SELECT", arity: 2, flags: Flags::FAST.with(Flags::LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["fast", "connection"], tips: &[], specs: &[] },
    Raw { name: "SET", arity: -3, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "string", "slow"], tips: &[], specs: &[S2] },
    Raw { name: "SETBIT", arity: 4, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "bitmap", "slow"], tips: &[], specs: &[S9] },
    Raw { name: "SETEX", arity: 4, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "string", "slow"], tips: &[], specs: &[S21] },
    Raw { name: "SETNX", arity: 3, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "string", "fast"], tips: &[], specs: &[S39] },
    Raw { name: "SETRANGE", arity: 4, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "string", "slow"], tips: &[], specs: &[S16] },
    Raw { name: "SHUTDOWN", arity: -1, flags: Flags::ADMIN.with(Flags::ALLOW_BUSY).with(Flags::LOADING).with(Flags::NO_MULTI).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "SINTER", arity: -2, flags: Flags::READONLY, legacy: (1, -1, 1), categories: &["read", "set", "slow"], tips: &["nondeterministic_output_order"], specs: &[S28] },
    Raw { name: "SINTERCARD", arity: -3, flags: Flags::MOVABLEKEYS.with(Flags::READONLY), legacy: (0, 0, 0), categories: &["read", "set", "slow"], tips: &[], specs: &[S40] },
    Raw { name: "SINTERSTORE", arity: -3, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (1, -1, 1), categories: &["write", "set", "slow"], tips: &[], specs: &[S16, S37] },
    Raw { name: "SISMEMBER", arity: 3, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "set", "fast"], tips: &[], specs: &[S24] },
    Raw { name: "SLAVEOF", arity: 3, flags: Flags::ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "SLOWLOG", arity: -2, flags: Flags::NONE, legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "SLOWLOG|GET", arity: -2, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &["request_policy:all_nodes", "nondeterministic_output"], specs: &[] },
    Raw { name: "SLOWLOG|HELP", arity: 2, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "SLOWLOG|LEN", arity: 2, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"], specs: &[] },
    Raw { name: "SLOWLOG|RESET", arity: 2, flags: Flags::ADMIN.with(Flags::LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &["request_policy:all_nodes", "response_policy:all_succeeded"], specs: &[] },
    Raw { name: "SMEMBERS", arity: 2, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "set", "slow"], tips: &["nondeterministic_output_order"], specs: &[S1] },
    Raw { name: "SMISMEMBER", arity: -3, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "set", "fast"], tips: &[], specs: &[S1] },
    Raw { name: "SMOVE", arity: 4, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 2, 1), categories: &["write", "set", "fast"], tips: &[], specs: &[S5, S6] },
    Raw { name: "SORT", arity: -2, flags: Flags::DENYOOM.with(Flags::MOVABLEKEYS).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "set", "sortedset", "list", "slow", "dangerous"], tips: &[], specs: &[S1, S41, S42] },
    Raw { name: "SORT_RO", arity: -2, flags: Flags::MOVABLEKEYS.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "set", "sortedset", "list", "slow", "dangerous"], tips: &[], specs: &[S1, S41] },
    Raw { name: "SPOP", arity: -2, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "set", "fast"], tips: &["nondeterministic_output"], specs: &[S5] },
    Raw { name: "SPUBLISH", arity: 3, flags: Flags::FAST.with(Flags::LOADING).with(Flags::PUBSUB).with(Flags::STALE), legacy: (1, 1, 1), categories: &["pubsub", "fast"], tips: &[], specs: &[S43] },
    Raw { name: "SRANDMEMBER", arity: -2, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "set", "slow"], tips: &["nondeterministic_output"], specs: &[S1] },
    Raw { name: "SREM", arity: -3, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "set", "fast"], tips: &[], specs: &[S23] },
    Raw { name: "SSCAN", arity: -3, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "set", "slow"], tips: &["nondeterministic_output"], specs: &[S1] },
    Raw { name: "SSUBSCRIBE", arity: -2, flags: Flags::LOADING.with(Flags::NOSCRIPT).with(Flags::PUBSUB).with(Flags::STALE), legacy: (1, -1, 1), categories: &["pubsub", "slow"], tips: &[], specs: &[S44] },
    Raw { name: "STRLEN", arity: 2, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "string", "fast"], tips: &[], specs: &[S24] },
    Raw { name: "SUBSCRIBE", arity: -2, flags: Flags::LOADING.with(Flags::NOSCRIPT).with(Flags::PUBSUB).with(Flags::STALE), legacy: (0, 0, 0), categories: &["pubsub", "slow"], tips: &[], specs: &[] },
    Raw { name: "SUBSTR", arity: 4, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "string", "slow"], tips: &[], specs: &[S1] },
    Raw { name: "SUNION", arity: -2, flags: Flags::READONLY, legacy: (1, -1, 1), categories: &["read", "set", "slow"], tips: &["nondeterministic_output_order"], specs: &[S28] },
    Raw { name: "SUNIONSTORE", arity: -3, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (1, -1, 1), categories: &["write", "set", "slow"], tips: &[], specs: &[S21, S37] },
    Raw { name: "SUNSUBSCRIBE", arity: -1, flags: Flags::LOADING.with(Flags::NOSCRIPT).with(Flags::PUBSUB).with(Flags::STALE), legacy: (1, -1, 1), categories: &["pubsub", "slow"], tips: &[], specs: &[S44] },
    Raw { name: "SWAPDB", arity: 3, flags: Flags::FAST.with(Flags::WRITE), legacy: (0, 0, 0), categories: &["keyspace", "write", "fast", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "SYNC", arity: 1, flags: Flags::ADMIN.with(Flags::NO_ASYNC_LOADING).with(Flags::NO_MULTI).with(Flags::NOSCRIPT), legacy: (0, 0, 0), categories: &["admin", "slow", "dangerous"], tips: &[], specs: &[] },
    Raw { name: "TIME", arity: 1, flags: Flags::FAST.with(Flags::LOADING).with(Flags::STALE), legacy: (0, 0, 0), categories: &["fast"], tips: &["nondeterministic_output"], specs: &[] },
    Raw { name: "TOUCH", arity: -2, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, -1, 1), categories: &["keyspace", "read", "fast"], tips: &["request_policy:multi_shard", "response_policy:agg_sum"], specs: &[S15] },
    Raw { name: "TTL", arity: 2, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["keyspace", "read", "fast"], tips: &["nondeterministic_output"], specs: &[S1] },
    Raw { name: "TYPE", arity: 2, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["keyspace", "read", "fast"], tips: &[], specs: &[S24] },
    Raw { name: "UNLINK", arity: -2, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, -1, 1), categories: &["keyspace", "write", "fast"], tips: &["request_policy:multi_shard", "response_policy:agg_sum"], specs: &[S10] },
    Raw { name: "UNSUBSCRIBE", arity: -1, flags: Flags::LOADING.with(Flags::NOSCRIPT).with(Flags::PUBSUB).with(Flags::STALE), legacy: (0, 0, 0), categories: &["pubsub", "slow"], tips: &[], specs: &[] },
    Raw { name: "UNWATCH", arity: 1, flags: Flags::ALLOW_BUSY.with(Flags::FAST).with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (0, 0, 0), categories: &["fast", "transaction"], tips: &[], specs: &[] },
    Raw { name: "WAIT", arity: 3, flags: Flags::NOSCRIPT, legacy: (0, 0, 0), categories: &["slow", "connection"], tips: &["request_policy:all_shards", "response_policy:agg_min"], specs: &[] },
    Raw { name: "WAITAOF", arity: 4, flags: Flags::BLOCKING, legacy: (0, 0, 0), categories: &["slow", "blocking", "connection"], tips: &["request_policy:all_shards", "response_policy:agg_min"], specs: &[] },
    Raw { name: "WATCH", arity: -2, flags: Flags::ALLOW_BUSY.with(Flags::FAST).with(Flags::LOADING).with(Flags::NOSCRIPT).with(Flags::STALE), legacy: (1, -1, 1), categories: &["fast", "transaction"], tips: &[], specs: &[S15] },
    Raw { name: "XACK", arity: -4, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "stream", "fast"], tips: &[], specs: &[S16] },
    Raw { name: "XACKDEL", arity: -6, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "stream", "fast"], tips: &[], specs: &[S45] },
    Raw { name: "XADD", arity: -5, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "stream", "fast"], tips: &["nondeterministic_output"], specs: &[S16] },
    Raw { name: "XAUTOCLAIM", arity: -6, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "stream", "fast"], tips: &["nondeterministic_output"], specs: &[S23] },
    Raw { name: "XCFGSET", arity: -2, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "stream", "fast"], tips: &[], specs: &[S16] },
    Raw { name: "XCLAIM", arity: -6, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "stream", "fast"], tips: &["nondeterministic_output"], specs: &[S16] },
    Raw { name: "XDEL", arity: -3, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "stream", "fast"], tips: &[], specs: &[S23] },
    Raw { name: "XDELEX", arity: -5, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "stream", "fast"], tips: &[], specs: &[S23] },
    Raw { name: "XGROUP", arity: -2, flags: Flags::NONE, legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "XGROUP|CREATE", arity: -5, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (2, 2, 1), categories: &["write", "stream", "slow"], tips: &[], specs: &[S6] },
    Raw { name: "XGROUP|CREATECONSUMER", arity: 5, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (2, 2, 1), categories: &["write", "stream", "slow"], tips: &[], specs: &[S6] },
    Raw { name: "XGROUP|DELCONSUMER", arity: 5, flags: Flags::WRITE, legacy: (2, 2, 1), categories: &["write", "stream", "slow"], tips: &[], specs: &[S46] },
    Raw { name: "XGROUP|DESTROY", arity: 4, flags: Flags::WRITE, legacy: (2, 2, 1), categories: &["write", "stream", "slow"], tips: &[], specs: &[S46] },
    Raw { name: "XGROUP|HELP", arity: 2, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["stream", "slow"], tips: &[], specs: &[] },
    Raw { name: "XGROUP|SETID", arity: -5, flags: Flags::WRITE, legacy: (2, 2, 1), categories: &["write", "stream", "slow"], tips: &[], specs: &[S47] },
    Raw { name: "XINFO", arity: -2, flags: Flags::NONE, legacy: (0, 0, 0), categories: &["slow"], tips: &[], specs: &[] },
    Raw { name: "XINFO|CONSUMERS", arity: 4, flags: Flags::READONLY, legacy: (2, 2, 1), categories: &["read", "stream", "slow"], tips: &["nondeterministic_output"], specs: &[S22] },
    Raw { name: "XINFO|GROUPS", arity: 3, flags: Flags::READONLY, legacy: (2, 2, 1), categories: &["read", "stream", "slow"], tips: &[], specs: &[S22] },
    Raw { name: "XINFO|HELP", arity: 2, flags: Flags::LOADING.with(Flags::STALE), legacy: (0, 0, 0), categories: &["stream", "slow"], tips: &[], specs: &[] },
    Raw { name: "XINFO|STREAM", arity: -3, flags: Flags::READONLY, legacy: (2, 2, 1), categories: &["read", "stream", "slow"], tips: &[], specs: &[S22] },
    Raw { name: "XLEN", arity: 2, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "stream", "fast"], tips: &[], specs: &[S24] },
    Raw { name: "XPENDING", arity: -3, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "stream", "slow"], tips: &["nondeterministic_output"], specs: &[S1] },
    Raw { name: "XRANGE", arity: -4, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "stream", "slow"], tips: &[], specs: &[S1] },
    Raw { name: "XREAD", arity: -4, flags: Flags::BLOCKING.with(Flags::MOVABLEKEYS).with(Flags::READONLY), legacy: (0, 0, 0), categories: &["read", "stream", "slow", "blocking"], tips: &[], specs: &[S48] },
    Raw { name: "XREADGROUP", arity: -7, flags: Flags::BLOCKING.with(Flags::MOVABLEKEYS).with(Flags::WRITE), legacy: (0, 0, 0), categories: &["write", "stream", "slow", "blocking"], tips: &[], specs: &[S49] },
    Raw { name: "XREVRANGE", arity: -4, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "stream", "slow"], tips: &[], specs: &[S1] },
    Raw { name: "XSETID", arity: -3, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "stream", "fast"], tips: &[], specs: &[S16] },
    Raw { name: "XTRIM", arity: -4, flags: Flags::WRITE, legacy: (1, 1, 1), categories: &["write", "stream", "slow"], tips: &["nondeterministic_output"], specs: &[S23] },
    Raw { name: "ZADD", arity: -4, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "sortedset", "fast"], tips: &[], specs: &[S16] },
    Raw { name: "ZCARD", arity: 2, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "sortedset", "fast"], tips: &[], specs: &[S24] },
    Raw { name: "ZCOUNT", arity: 4, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "sortedset", "fast"], tips: &[], specs: &[S1] },
    Raw { name: "ZDIFF", arity: -3, flags: Flags::MOVABLEKEYS.with(Flags::READONLY), legacy: (0, 0, 0), categories: &["read", "sortedset", "slow"], tips: &[], specs: &[S40] },
    Raw { name: "ZDIFFSTORE", arity: -4, flags: Flags::DENYOOM.with(Flags::MOVABLEKEYS).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "sortedset", "slow"], tips: &[], specs: &[S21, S14] },
    Raw { name: "ZINCRBY", arity: 4, flags: Flags::DENYOOM.with(Flags::FAST).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "sortedset", "fast"], tips: &[], specs: &[S9] },
    Raw { name: "ZINTER", arity: -3, flags: Flags::MOVABLEKEYS.with(Flags::READONLY), legacy: (0, 0, 0), categories: &["read", "sortedset", "slow"], tips: &[], specs: &[S40] },
    Raw { name: "ZINTERCARD", arity: -3, flags: Flags::MOVABLEKEYS.with(Flags::READONLY), legacy: (0, 0, 0), categories: &["read", "sortedset", "slow"], tips: &[], specs: &[S40] },
    Raw { name: "ZINTERSTORE", arity: -4, flags: Flags::DENYOOM.with(Flags::MOVABLEKEYS).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "sortedset", "slow"], tips: &[], specs: &[S21, S14] },
    Raw { name: "ZLEXCOUNT", arity: 4, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "sortedset", "fast"], tips: &[], specs: &[S1] },
    Raw { name: "ZMPOP", arity: -4, flags: Flags::MOVABLEKEYS.with(Flags::WRITE), legacy: (0, 0, 0), categories: &["write", "sortedset", "slow"], tips: &[], specs: &[S26] },
    Raw { name: "ZMSCORE", arity: -3, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "sortedset", "fast"], tips: &[], specs: &[S1] },
    Raw { name: "ZPOPMAX", arity: -2, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "sortedset", "fast"], tips: &[], specs: &[S5] },
    Raw { name: "ZPOPMIN", arity: -2, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "sortedset", "fast"], tips: &[], specs: &[S5] },
    Raw { name: "ZRANDMEMBER", arity: -2, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "sortedset", "slow"], tips: &["nondeterministic_output"], specs: &[S1] },
    Raw { name: "ZRANGE", arity: -4, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "sortedset", "slow"], tips: &[], specs: &[S1] },
    Raw { name: "ZRANGEBYLEX", arity: -4, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "sortedset", "slow"], tips: &[], specs: &[S1] },
    Raw { name: "ZRANGEBYSCORE", arity: -4, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "sortedset", "slow"], tips: &[], specs: &[S1] },
    Raw { name: "ZRANGESTORE", arity: -5, flags: Flags::DENYOOM.with(Flags::WRITE), legacy: (1, 2, 1), categories: &["write", "sortedset", "slow"], tips: &[], specs: &[S21, S22] },
    Raw { name: "ZRANK", arity: -3, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "sortedset", "fast"], tips: &[], specs: &[S1] },
    Raw { name: "ZREM", arity: -3, flags: Flags::FAST.with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "sortedset", "fast"], tips: &[], specs: &[S23] },
    Raw { name: "ZREMRANGEBYLEX", arity: 4, flags: Flags::WRITE, legacy: (1, 1, 1), categories: &["write", "sortedset", "slow"], tips: &[], specs: &[S23] },
    Raw { name: "ZREMRANGEBYRANK", arity: 4, flags: Flags::WRITE, legacy: (1, 1, 1), categories: &["write", "sortedset", "slow"], tips: &[], specs: &[S23] },
    Raw { name: "ZREMRANGEBYSCORE", arity: 4, flags: Flags::WRITE, legacy: (1, 1, 1), categories: &["write", "sortedset", "slow"], tips: &[], specs: &[S23] },
    Raw { name: "ZREVRANGE", arity: -4, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "sortedset", "slow"], tips: &[], specs: &[S1] },
    Raw { name: "ZREVRANGEBYLEX", arity: -4, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "sortedset", "slow"], tips: &[], specs: &[S1] },
    Raw { name: "ZREVRANGEBYSCORE", arity: -4, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "sortedset", "slow"], tips: &[], specs: &[S1] },
    Raw { name: "ZREVRANK", arity: -3, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "sortedset", "fast"], tips: &[], specs: &[S1] },
    Raw { name: "ZSCAN", arity: -3, flags: Flags::READONLY, legacy: (1, 1, 1), categories: &["read", "sortedset", "slow"], tips: &["nondeterministic_output"], specs: &[S1] },
    Raw { name: "ZSCORE", arity: 3, flags: Flags::FAST.with(Flags::READONLY), legacy: (1, 1, 1), categories: &["read", "sortedset", "fast"], tips: &[], specs: &[S1] },
    Raw { name: "ZUNION", arity: -3, flags: Flags::MOVABLEKEYS.with(Flags::READONLY), legacy: (0, 0, 0), categories: &["read", "sortedset", "slow"], tips: &[], specs: &[S40] },
    Raw { name: "ZUNIONSTORE", arity: -4, flags: Flags::DENYOOM.with(Flags::MOVABLEKEYS).with(Flags::WRITE), legacy: (1, 1, 1), categories: &["write", "sortedset", "slow"], tips: &[], specs: &[S21, S14] },
];
