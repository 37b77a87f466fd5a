//! What modules that many use do not say of their commands themselves: COMMAND INFO calls the index of a search a
//! key, names the first key only where there are more, and knows nothing of effects.
//!
//! Called when a command is learned (`learned.rs`). A module that is not here is taken at its word.

use super::overlay::{Effect, FanKind, Handling, Lifetime};
use super::spec::{Begin, Find, Flags, KeyFlags, KeySpec, Raw};

/// How a command departs from what the server says of it.
pub struct Amended {
    pub handling: Option<Handling>,
    pub effect: Option<Effect>,
    pub lifetime: Lifetime,
}

const AS_SAID: Amended = Amended {
    handling: None,
    effect: None,
    lifetime: Lifetime::None,
};

/// Commands of RediSearch that change what every server of every shard has, as libraries of functions are: an
/// index is no key, and each server keeps up its own from the keys it holds.
#[rustfmt::skip]
const DEFINES: &[&str] = &[
    "FT.CREATE", "FT._CREATEIFNX", "FT.ALTER", "FT._ALTERIFNX", "FT.DROPINDEX", "FT._DROPINDEXIFX", "FT.DROP",
    "FT._DROPIFX", "FT.ALIASADD", "FT._ALIASADDIFNX", "FT.ALIASUPDATE", "FT.ALIASDEL", "FT._ALIASDELIFX",
    "FT.SYNUPDATE", "FT.DICTADD", "FT.DICTDEL",
];
/// Commands whose answer is of all keys: whole only where one shard has them all.
#[rustfmt::skip]
const LOOKS: &[&str] = &[
    "FT.SEARCH", "FT.AGGREGATE", "FT.HYBRID", "FT.PROFILE", "FT.CURSOR", "FT.SPELLCHECK", "FT.TAGVALS", "FT.INFO",
    "FT.MGET", "TS.MGET", "TS.MRANGE", "TS.MREVRANGE", "TS.QUERYINDEX",
];
/// Commands that ask for what every server has.
const TELLS: &[&str] = &[
    "FT._LIST",
    "FT.EXPLAIN",
    "FT.EXPLAINCLI",
    "FT.SYNDUMP",
    "FT.DICTDUMP",
];

/// Families whose writes are decided by keys and arguments alone, so that the request itself can go to all: their
/// values may be large, and each write would send one whole. A time series sent whole would arrive without its
/// rules, by which a server fills others from it. Vector sets (VADD, part of Redis 8) are none of them: each
/// server throws dice for where a vector stands in the graph, and what a search finds depends on it.
const REPEATABLE: &[&str] = &["JSON.", "BF.", "CMS.", "TS."];
/// Where these take the server's clock.
#[rustfmt::skip]
const LIFETIMES: &[(&str, Lifetime)] = &[
    ("TS.ADD", Lifetime::Stamps { many: false }),
    ("TS.MADD", Lifetime::Stamps { many: true }),
    ("TS.INCRBY", Lifetime::StampOption),
    ("TS.DECRBY", Lifetime::StampOption),
];

/// All arguments but the last are keys.
const ALL_BUT_LAST: &[KeySpec] = &[spec(Begin::Index(1), range(-2), KeyFlags::RO)];
/// A destination, a number, and so many sources.
const MERGED: &[KeySpec] = &[
    spec(Begin::Index(1), range(0), KeyFlags::RW),
    spec(
        Begin::Index(2),
        Find::KeyNum {
            count: 0,
            first: 1,
            step: 1,
        },
        KeyFlags::RO,
    ),
];
/// A source and a destination.
const BOTH: &[KeySpec] = &[spec(Begin::Index(1), range(1), KeyFlags::RW)];
/// A document behind the index, which is no key.
const DOCUMENT: &[KeySpec] = &[spec(Begin::Index(2), range(0), KeyFlags::RW)];
const SPECS: &[(&str, &[KeySpec])] = &[
    ("FT.ADD", DOCUMENT),
    ("FT.DEL", DOCUMENT),
    ("FT.GET", DOCUMENT),
    ("FT.SAFEADD", DOCUMENT),
    ("JSON.MGET", ALL_BUT_LAST),
    ("CMS.MERGE", MERGED),
    ("TDIGEST.MERGE", MERGED),
    ("TS.CREATERULE", BOTH),
    ("TS.DELETERULE", BOTH),
];

const fn spec(begin: Begin, find: Find, flags: KeyFlags) -> KeySpec {
    KeySpec { begin, find, flags }
}

const fn range(last: i32) -> Find {
    Find::Range {
        last,
        step: 1,
        limit: 0,
    }
}

/// Corrects what a server has said of a command, and says how else it is taken.
pub fn amend(raw: &mut Raw) -> Amended {
    if !raw.flags.has(Flags::MODULE) {
        return AS_SAID;
    }
    if let Some((_, specs)) = SPECS.iter().find(|entry| entry.0 == raw.name) {
        raw.specs = specs;
    }
    let (kind, effect) = match raw.name {
        name if DEFINES.contains(&name) => {
            // Some call themselves reads, which every replica would take by itself.
            raw.flags = raw.flags.without(Flags::READONLY).with(Flags::WRITE);
            (Some(FanKind::Write), Some(Effect::Everything))
        }
        name if LOOKS.contains(&name) => (Some(FanKind::Only), None),
        name if TELLS.contains(&name) => (Some(FanKind::First), None),
        _ => (None, None),
    };
    if kind.is_some() {
        raw.specs = &[];
    }
    let lifetime = LIFETIMES.iter().find(|entry| entry.0 == raw.name);
    let is_repeatable = REPEATABLE.iter().any(|family| raw.name.starts_with(family));
    Amended {
        handling: kind.map(Handling::Fan),
        effect: effect.or(is_repeatable.then_some(Effect::Verified)),
        lifetime: lifetime.map_or(Lifetime::None, |entry| entry.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &[KeySpec] = &[spec(Begin::Index(1), range(0), KeyFlags::RW)];

    fn raw(name: &'static str, flags: Flags) -> Raw {
        Raw {
            name,
            arity: -1,
            flags,
            legacy: (1, 1, 1),
            categories: &[],
            tips: &[],
            specs: FIRST,
        }
    }

    #[test]
    fn an_index_is_no_key() {
        let mut alias = raw("FT.ALIASADD", Flags::MODULE.with(Flags::READONLY));
        let amended = amend(&mut alias);
        assert_eq!(amended.handling, Some(Handling::Fan(FanKind::Write)));
        assert_eq!(amended.effect, Some(Effect::Everything));
        assert!(alias.specs.is_empty() && alias.flags == Flags::MODULE.with(Flags::WRITE));
        let mut search = raw("FT.SEARCH", Flags::MODULE.with(Flags::READONLY));
        let amended = amend(&mut search);
        assert_eq!(amended.handling, Some(Handling::Fan(FanKind::Only)));
        assert!(search.flags.has(Flags::READONLY));
    }

    #[test]
    fn all_keys_are_known() {
        for (name, specs) in [("TS.CREATERULE", BOTH), ("FT.GET", DOCUMENT)] {
            let mut said = raw(name, Flags::MODULE);
            assert!(amend(&mut said).handling.is_none());
            assert!(said.specs == specs, "{name}");
        }
    }

    #[test]
    fn other_commands_and_names_of_others_are_taken_at_their_word() {
        let mut get = raw("DOC.GET", Flags::MODULE.with(Flags::READONLY));
        let amended = amend(&mut get);
        assert!(amended.handling.is_none() && amended.effect.is_none() && get.specs.len() == 1);
        let mut renamed = raw("FT.SEARCH", Flags::READONLY);
        assert!(amend(&mut renamed).handling.is_none());
        let mut many = raw("JSON.MGET", Flags::MODULE.with(Flags::READONLY));
        assert!(amend(&mut many).handling.is_none() && many.specs == ALL_BUT_LAST);
    }
}
