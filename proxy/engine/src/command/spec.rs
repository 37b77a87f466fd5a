//! The vocabulary of the command table: flags, key specifications, one row as the server gave it.
//!
//! Named and numbered after Redis' own (`COMMAND`, https://redis.io/docs/reference/key-specs).
//! Used by the generated `rows.rs` and by `table.rs`; knows nothing of what the proxy does.

/// Defines a set of named bits that prints and lists by Redis' lower-case names.
macro_rules! bit_set {
    ($(#[$meta:meta])* $type:ident: $($name:ident = $text:literal),+ $(,)?) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct $type(u32);

        impl $type {
            pub const NONE: $type = $type(0);
            bit_set!(@each $type, 0u32, $($name)+);

            /// Every name with its bit, in the order of the bits.
            pub const NAMES: &'static [(&'static str, $type)] = &[$(($text, $type::$name)),+];

            pub const fn with(self, other: $type) -> $type {
                $type(self.0 | other.0)
            }

            pub const fn without(self, other: $type) -> $type {
                $type(self.0 & !other.0)
            }

            /// True if every bit of `other` is set here.
            pub const fn has(self, other: $type) -> bool {
                self.0 & other.0 == other.0
            }

            /// True if any bit of `other` is set here.
            pub const fn has_any(self, other: $type) -> bool {
                self.0 & other.0 != 0
            }

            pub fn names(self) -> impl Iterator<Item = &'static str> {
                Self::NAMES.iter().filter(move |(_, bit)| self.has(*bit)).map(|(name, _)| *name)
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.names().collect::<Vec<_>>().join("|"))
            }
        }
    };
    (@each $type:ident, $at:expr, $name:ident $($rest:ident)*) => {
        pub const $name: $type = $type(1 << $at);
        bit_set!(@each $type, $at + 1, $($rest)*);
    };
    (@each $type:ident, $at:expr,) => {};
}

bit_set! {
    /// What COMMAND says of a command.
    Flags:
    WRITE = "write", READONLY = "readonly", DENYOOM = "denyoom", MODULE = "module", ADMIN = "admin",
    PUBSUB = "pubsub", NOSCRIPT = "noscript", BLOCKING = "blocking", LOADING = "loading", STALE = "stale",
    SKIP_MONITOR = "skip_monitor", SKIP_SLOWLOG = "skip_slowlog", ASKING = "asking", FAST = "fast",
    NO_AUTH = "no_auth", MAY_REPLICATE = "may_replicate", NO_MANDATORY_KEYS = "no_mandatory_keys",
    ALLOW_BUSY = "allow_busy", NO_ASYNC_LOADING = "no_async_loading", NO_MULTI = "no_multi",
    MOVABLEKEYS = "movablekeys",
}

bit_set! {
    /// What a command does to the keys of one specification.
    KeyFlags:
    RO = "RO", RW = "RW", OW = "OW", RM = "RM", ACCESS = "access", UPDATE = "update", INSERT = "insert",
    DELETE = "delete", NOT_KEY = "not_key", INCOMPLETE = "incomplete", VARIABLE_FLAGS = "variable_flags",
}

/// Where the search for keys begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At this argument.
    Index(i32),
    /// Behind the argument that is `word`, looked for from `from` on; backwards if that is negative
    /// (-1 is the last argument).
    Keyword {
        word: &'static str,
        from: i32,
    },
    Unknown,
}

/// Which arguments from there on are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// Every `step`-th up to `last`, relative to the first, or from the end if negative; with
    /// `limit` 2 only the first half of what remains.
    Range {
        last: i32,
        step: i32,
        limit: i32,
    },
    /// As many as the argument `count` says, the first at `first`, both relative.
    KeyNum {
        count: i32,
        first: i32,
        step: i32,
    },
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    pub begin: Begin,
    pub find: Find,
    pub flags: KeyFlags,
}

/// A command as the server describes it. `name` in upper case, `"XGROUP|CREATE"` for subcommands.
#[derive(Debug)]
pub struct Raw {
    pub name: &'static str,
    /// Arguments with the name; negative means "at least".
    pub arity: i16,
    pub flags: Flags,
    /// First key, last key, step, as clients before key specifications read them.
    pub legacy: (i16, i16, i16),
    /// ACL categories without the `@`.
    pub categories: &'static [&'static str],
    pub tips: &'static [&'static str],
    pub specs: &'static [KeySpec],
}
