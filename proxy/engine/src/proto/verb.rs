//! The commands of memcached's text protocol, meta commands included: one table.

/// The commands we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    Gets,
    Gat,
    Gats,
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    Cas,
    Delete,
    Incr,
    Decr,
    Touch,
    Version,
    Verbosity,
    Stats,
    FlushAll,
    Quit,
    LruCrawler,
    Config,
    /// Those below are the operator's, and refused; a few may be told to be silent about it.
    Shutdown,
    CacheMemlimit,
    Lru,
    Slabs,
    Extstore,
    Watch,
    Mg,
    Ms,
    Md,
    Ma,
    Me,
    Mn,
    Unknown,
}

/// What the engine needs to know about a verb: one row each, in the order of `Verb`.
pub struct VerbRow {
    pub verb: Verb,
    /// Also the `command` label of metrics.
    pub name: &'static str,
    /// Words allowed, the verb and `noreply` included; outside of it the answer is `ERROR`.
    pub words: (usize, usize),
    /// Position of the word that gives the length of the data block; 0 if there is none.
    pub data: usize,
    /// May end in `noreply`.
    pub quiet: bool,
    pub write: bool,
}

const MANY: usize = usize::MAX;

const fn row(
    verb: Verb,
    name: &'static str,
    words: (usize, usize),
    data: usize,
    quiet: bool,
    write: bool,
) -> VerbRow {
    VerbRow {
        verb,
        name,
        words,
        data,
        quiet,
        write,
    }
}

pub const VERBS: [VerbRow; 34] = [
    row(Verb::Get, "get", (2, MANY), 0, false, false),
    row(Verb::Gets, "gets", (2, MANY), 0, false, false),
    row(Verb::Gat, "gat", (2, MANY), 0, false, true),
    row(Verb::Gats, "gats", (2, MANY), 0, false, true),
    row(Verb::Set, "set", (5, 6), 4, true, true),
    row(Verb::Add, "add", (5, 6), 4, true, true),
    row(Verb::Replace, "replace", (5, 6), 4, true, true),
    row(Verb::Append, "append", (5, 6), 4, true, true),
    row(Verb::Prepend, "prepend", (5, 6), 4, true, true),
    row(Verb::Cas, "cas", (6, 7), 4, true, true),
    row(Verb::Delete, "delete", (2, 4), 0, true, true),
    row(Verb::Incr, "incr", (3, 4), 0, true, true),
    row(Verb::Decr, "decr", (3, 4), 0, true, true),
    row(Verb::Touch, "touch", (3, 4), 0, true, true),
    row(Verb::Version, "version", (1, MANY), 0, false, false),
    row(Verb::Verbosity, "verbosity", (2, 3), 0, true, false),
    row(Verb::Stats, "stats", (1, MANY), 0, false, false),
    row(Verb::FlushAll, "flush_all", (1, 3), 0, true, true),
    row(Verb::Quit, "quit", (1, MANY), 0, false, false),
    row(Verb::LruCrawler, "lru_crawler", (1, MANY), 0, false, false),
    row(Verb::Config, "config", (1, MANY), 0, false, false),
    row(Verb::Shutdown, "shutdown", (1, MANY), 0, false, false),
    row(
        Verb::CacheMemlimit,
        "cache_memlimit",
        (2, 3),
        0,
        true,
        false,
    ),
    row(Verb::Lru, "lru", (2, MANY), 0, true, false),
    row(Verb::Slabs, "slabs", (1, MANY), 0, false, false),
    row(Verb::Extstore, "extstore", (2, MANY), 0, true, false),
    row(Verb::Watch, "watch", (1, MANY), 0, true, false),
    // What a meta command allows and needs is in `meta::check`, whether an `mg` is a write in `is_write`.
    row(Verb::Mg, "mg", (1, MANY), 0, false, false),
    row(Verb::Ms, "ms", (1, MANY), 0, false, true),
    row(Verb::Md, "md", (1, MANY), 0, false, true),
    row(Verb::Ma, "ma", (1, MANY), 0, false, true),
    row(Verb::Me, "me", (1, MANY), 0, false, false),
    row(Verb::Mn, "mn", (1, MANY), 0, false, false),
    row(Verb::Unknown, "unknown", (1, MANY), 0, false, false),
];

impl Verb {
    #[inline]
    pub fn row(self) -> &'static VerbRow {
        &VERBS[self as usize]
    }

    #[inline]
    pub fn is_meta(self) -> bool {
        matches!(
            self,
            Verb::Mg | Verb::Ms | Verb::Md | Verb::Ma | Verb::Me | Verb::Mn
        )
    }

    #[inline]
    pub(super) fn of(word: &[u8]) -> Verb {
        match word {
            b"get" => Verb::Get,
            b"set" => Verb::Set,
            b"gets" => Verb::Gets,
            b"gat" => Verb::Gat,
            b"gats" => Verb::Gats,
            b"add" => Verb::Add,
            b"replace" => Verb::Replace,
            b"append" => Verb::Append,
            b"prepend" => Verb::Prepend,
            b"cas" => Verb::Cas,
            b"delete" => Verb::Delete,
            b"incr" => Verb::Incr,
            b"decr" => Verb::Decr,
            b"touch" => Verb::Touch,
            b"version" => Verb::Version,
            b"verbosity" => Verb::Verbosity,
            b"stats" => Verb::Stats,
            b"flush_all" => Verb::FlushAll,
            b"quit" => Verb::Quit,
            b"lru_crawler" => Verb::LruCrawler,
            b"config" => Verb::Config,
            b"shutdown" => Verb::Shutdown,
            b"cache_memlimit" => Verb::CacheMemlimit,
            b"lru" => Verb::Lru,
            b"slabs" => Verb::Slabs,
            b"extstore" => Verb::Extstore,
            b"watch" => Verb::Watch,
            b"mg" => Verb::Mg,
            b"ms" => Verb::Ms,
            b"md" => Verb::Md,
            b"ma" => Verb::Ma,
            b"me" => Verb::Me,
            b"mn" => Verb::Mn,
            _ => Verb::Unknown,
        }
    }
}
