//! THE command table: the server's rows joined with what the proxy does, and how to find one.
//!
//! Called for every request (`find`, `lookup`), so lookups touch one cache line of an index that is
//! made at compile time. Rows are static; a row's `id` is its position and its metric label.

use super::modules;
use super::overlay::{
    Effect, EffectRule, Handling, Lifetime, Refusal, EFFECTS, HANDLINGS, LIFETIMES,
};
use super::rows::RAW;
use super::spec::{Begin, Find, Flags, KeyFlags, KeySpec, Raw};
use crate::proto::Args;

/// Number of rows; ids are below it.
pub const COUNT: usize = RAW.len();
/// The id that all learned commands share (`learned.rs`).
pub const OTHER: u16 = COUNT as u16;

/// A tip `request_policy`, by Redis' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestPolicy {
    Default,
    AllNodes,
    AllShards,
    MultiShard,
    Special,
}

/// A tip `response_policy`, by Redis' names (those that some command uses).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponsePolicy {
    Default,
    OneSucceeded,
    AllSucceeded,
    AggLogicalAnd,
    AggMin,
    AggSum,
    Special,
}

/// One command.
#[derive(Clone, Copy)]
pub struct Row {
    /// Upper case; `"XGROUP|CREATE"` for a subcommand.
    pub name: &'static str,
    /// Position in the table.
    pub id: u16,
    /// Arguments with the name; negative means "at least".
    pub arity: i16,
    pub flags: Flags,
    pub specs: &'static [KeySpec],
    pub request_policy: RequestPolicy,
    pub response_policy: ResponsePolicy,
    pub handling: Handling,
    pub effect: EffectRule,
    pub lifetime: Lifetime,
    /// Position of the only key, or 0 if there is none or possibly more than one.
    pub key_at: u8,
    /// Keys come in pairs with values, so an odd number of arguments behind the name is wrong.
    pub paired: bool,
    /// Subcommands, which follow this row.
    pub subcommands: u16,
    /// The command this is a subcommand of.
    pub parent: Option<u16>,
    write: bool,
    /// Has options that name keys by a pattern (`keys::patterns`).
    pub has_patterns: bool,
    /// As the server gave it, for COMMAND.
    pub raw: &'static Raw,
}

impl Row {
    /// True if replicas must see it too. PFCOUNT stores a cache but says READONLY, and is a read.
    #[inline]
    pub const fn is_write(&self) -> bool {
        self.write
    }

    /// The last part of the name: `"CREATE"` of `"XGROUP|CREATE"`.
    pub fn subcommand_name(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(_, sub)| sub)
    }

    /// The name as error texts and COMMAND have it, `"xgroup|create"`.
    pub fn lower_name(&self) -> String {
        self.name.to_ascii_lowercase()
    }

    /// The rows of the subcommands.
    pub fn children(&self) -> &'static [Row] {
        let first = self.id as usize + 1;
        &ROWS[first..first + self.subcommands as usize]
    }
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Row({} {:?})", self.name, self.handling)
    }
}

/// Every row by id: sorted by name, subcommands behind their container.
pub static ROWS: [Row; COUNT] = join();

/// True if `n` arguments (with the name) can be right for the command.
#[inline]
pub fn arity_ok(row: &Row, n: usize) -> bool {
    let count = if row.arity >= 0 {
        n == row.arity as usize
    } else {
        n >= row.arity.unsigned_abs() as usize
    };
    count && !(row.paired && n % 2 == 0)
}

/// The row of a command by its first word, in any case; a container if it has subcommands.
#[inline]
pub fn lookup(name: &[u8]) -> Option<&'static Row> {
    let prefix = upper_prefix(name);
    let mut slot = hash(prefix, name.len());
    loop {
        let entry = &INDEX[slot];
        if entry.len == 0 {
            return None;
        }
        if entry.len as usize == name.len() && entry.prefix == prefix {
            let row = &ROWS[entry.row as usize];
            if name.len() <= 8 || name[8..].eq_ignore_ascii_case(&row.name.as_bytes()[8..]) {
                return Some(row);
            }
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// The row of a request: `lookup`, then the subcommand. `None` if either is unknown; a container
/// alone is found, its arity says that it is not enough.
#[inline]
pub fn find(args: &Args<'_>) -> Option<&'static Row> {
    let row = lookup(args.get(0))?;
    if row.subcommands == 0 || args.len() == 1 {
        return Some(row);
    }
    subcommand(row, args.get(1))
}

/// The subcommand `name` of a container.
pub fn subcommand(row: &Row, name: &[u8]) -> Option<&'static Row> {
    row.children()
        .iter()
        .find(|sub| sub.subcommand_name().as_bytes().eq_ignore_ascii_case(name))
}

/// The id of a row by its name. For constants: it does not compile if there is none.
pub const fn id(name: &str) -> u16 {
    let mut i = 0;
    while !same(RAW[i].name, name) {
        i += 1;
    }
    i as u16
}

// --- the index -----------------------------------------------------------------------------------

/// Four slots a command keep chains short; 16 KiB, of which a workload touches a few lines.
const SLOTS: usize = 1024;

#[derive(Clone, Copy)]
struct Slot {
    prefix: u64,
    row: u16,
    /// 0: free.
    len: u8,
}

static INDEX: [Slot; SLOTS] = index();

/// The first eight bytes in upper case, the first byte lowest. Overlapping loads instead of a loop.
#[inline]
const fn upper_prefix(name: &[u8]) -> u64 {
    let n = name.len();
    let word = if n >= 8 {
        u64::from_le_bytes([
            name[0], name[1], name[2], name[3], name[4], name[5], name[6], name[7],
        ])
    } else if n >= 4 {
        let low = u32::from_le_bytes([name[0], name[1], name[2], name[3]]) as u64;
        let high = u32::from_le_bytes([name[n - 4], name[n - 3], name[n - 2], name[n - 1]]) as u64;
        low | high << ((n - 4) * 8)
    } else if n > 0 {
        let middle = (name[n / 2] as u64) << (n / 2 * 8);
        name[0] as u64 | middle | (name[n - 1] as u64) << ((n - 1) * 8)
    } else {
        0
    };
    upper(word)
}

/// Eight bytes to upper case at once: bit 7 of each lane says whether the byte is in `a..=z`, and
/// shifted by two it is the bit that makes the difference.
#[inline]
const fn upper(word: u64) -> u64 {
    const LANES: u64 = 0x0101_0101_0101_0101;
    let low7 = word & (LANES * 0x7f);
    let from_a = low7 + LANES * (0x80 - b'a' as u64);
    let above_z = low7 + LANES * (0x7f - b'z' as u64);
    let lower = (from_a ^ above_z) & !word & (LANES * 0x80);
    word ^ (lower >> 2)
}

#[inline]
const fn hash(prefix: u64, len: usize) -> usize {
    // An odd constant close to 2^64 divided by the golden ratio spreads every bit to the top.
    ((prefix ^ len as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SLOTS.trailing_zeros()))
        as usize
}

const fn index() -> [Slot; SLOTS] {
    let mut slots = [Slot {
        prefix: 0,
        row: 0,
        len: 0,
    }; SLOTS];
    let mut i = 0;
    while i < COUNT {
        let name = RAW[i].name.as_bytes();
        if bar(name) == name.len() {
            let prefix = upper_prefix(name);
            let mut slot = hash(prefix, name.len());
            while slots[slot].len != 0 {
                slot = (slot + 1) % SLOTS;
            }
            slots[slot] = Slot {
                prefix,
                row: i as u16,
                len: name.len() as u8,
            };
        }
        i += 1;
    }
    slots
}

// --- joining rows and overlay, at compile time ---------------------------------------------------

const fn join() -> [Row; COUNT] {
    let mut rows = [row(0, None); COUNT];
    let mut parent = 0;
    let mut i = 1;
    while i < COUNT {
        let name = RAW[i].name.as_bytes();
        if bar(name) == name.len() {
            parent = i;
            rows[i] = row(i, None);
        } else {
            rows[parent].subcommands += 1;
            rows[i] = row(i, Some(parent as u16));
        }
        i += 1;
    }
    rows
}

const fn row(id: usize, parent: Option<u16>) -> Row {
    let raw = &RAW[id];
    let effect = if is_write(raw) {
        effect(raw.name)
    } else {
        EffectRule::Always(Effect::Nothing)
    };
    Row {
        id: id as u16,
        lifetime: lifetime(raw.name),
        parent,
        ..made(raw, handling(raw, parent), effect)
    }
}

/// The row of a command that is not in the table, as a server describes it.
pub fn learned(mut raw: Raw) -> Row {
    let amended = modules::amend(&mut raw);
    let raw: &'static Raw = Box::leak(Box::new(raw));
    let is_clear = |spec: &KeySpec| {
        spec.begin != Begin::Unknown
            && spec.find != Find::Unknown
            && !spec.flags.has(KeyFlags::INCOMPLETE)
    };
    let handling = match amended.handling.unwrap_or(by_flags(raw)) {
        Handling::Forward if !raw.specs.iter().all(is_clear) => Handling::Refuse(Refusal::Keyless),
        other => other,
    };
    let effect = if is_write(raw) {
        amended.effect.unwrap_or(Effect::State)
    } else {
        Effect::Nothing
    };
    Row {
        lifetime: amended.lifetime,
        ..made(raw, handling, EffectRule::Always(effect))
    }
}

const fn made(raw: &'static Raw, handling: Handling, effect: EffectRule) -> Row {
    let (key_at, paired) = shape(raw.specs);
    Row {
        name: raw.name,
        id: OTHER,
        arity: raw.arity,
        flags: raw.flags,
        specs: raw.specs,
        request_policy: request_policy(raw.tips),
        response_policy: response_policy(raw.tips),
        handling,
        effect,
        lifetime: Lifetime::None,
        key_at,
        paired,
        subcommands: 0,
        parent: None,
        write: is_write(raw),
        has_patterns: has_patterns(raw.name),
        raw,
    }
}

const fn is_write(raw: &Raw) -> bool {
    raw.flags.has(Flags::WRITE) || (has_keys(raw.specs) && !raw.flags.has(Flags::READONLY))
}

const fn handling(raw: &Raw, parent: Option<u16>) -> Handling {
    if let Some(handling) = overlay(raw.name) {
        return handling;
    }
    if let Some(parent) = parent {
        if let Some(Handling::Refuse(reason)) = overlay(RAW[parent as usize].name) {
            return Handling::Refuse(reason);
        }
    }
    by_flags(raw)
}

const fn by_flags(raw: &Raw) -> Handling {
    if raw.flags.has(Flags::PUBSUB) {
        Handling::Refuse(Refusal::PubSub)
    } else if raw.flags.has(Flags::BLOCKING) {
        Handling::Refuse(Refusal::Blocking)
    } else if raw.flags.has(Flags::ADMIN) {
        Handling::Refuse(Refusal::Admin)
    } else if has_keys(raw.specs) {
        Handling::Forward
    } else {
        Handling::Refuse(Refusal::Keyless)
    }
}

const fn overlay(name: &str) -> Option<Handling> {
    let mut i = 0;
    while i < HANDLINGS.len() {
        if same(HANDLINGS[i].0, name) {
            return Some(HANDLINGS[i].1);
        }
        i += 1;
    }
    None
}

const fn effect(name: &str) -> EffectRule {
    let mut i = 0;
    while i < EFFECTS.len() {
        if same(EFFECTS[i].0, name) {
            return EFFECTS[i].1;
        }
        i += 1;
    }
    EffectRule::Always(Effect::Verified)
}

const fn lifetime(name: &str) -> Lifetime {
    let mut i = 0;
    while i < LIFETIMES.len() {
        if same(LIFETIMES[i].0, name) {
            return LIFETIMES[i].1;
        }
        i += 1;
    }
    Lifetime::None
}

const fn has_patterns(name: &str) -> bool {
    same(name, "SORT") || same(name, "SORT_RO")
}

const fn has_keys(specs: &[KeySpec]) -> bool {
    let mut i = 0;
    while i < specs.len() {
        if !specs[i].flags.has(KeyFlags::NOT_KEY) {
            return true;
        }
        i += 1;
    }
    false
}

/// (`Row::key_at`, `Row::paired`)
const fn shape(specs: &[KeySpec]) -> (u8, bool) {
    if specs.len() != 1 || specs[0].flags.has(KeyFlags::NOT_KEY) {
        return (0, false);
    }
    match (specs[0].begin, specs[0].find) {
        (Begin::Index(at), Find::Range { last: 0, .. }) => (at as u8, false),
        (
            Begin::Index(_),
            Find::Range {
                last: -1, step: 2, ..
            },
        ) => (0, true),
        _ => (0, false),
    }
}

const fn request_policy(tips: &[&str]) -> RequestPolicy {
    use RequestPolicy::{AllNodes, AllShards, Default, MultiShard, Special};
    const POLICIES: [(&str, RequestPolicy); 4] = [
        ("request_policy:all_nodes", AllNodes),
        ("request_policy:all_shards", AllShards),
        ("request_policy:multi_shard", MultiShard),
        ("request_policy:special", Special),
    ];
    let mut i = 0;
    while i < POLICIES.len() {
        if contains(tips, POLICIES[i].0) {
            return POLICIES[i].1;
        }
        i += 1;
    }
    Default
}

const fn response_policy(tips: &[&str]) -> ResponsePolicy {
    use ResponsePolicy::{
        AggLogicalAnd, AggMin, AggSum, AllSucceeded, Default, OneSucceeded, Special,
    };
    const POLICIES: [(&str, ResponsePolicy); 6] = [
        ("response_policy:one_succeeded", OneSucceeded),
        ("response_policy:all_succeeded", AllSucceeded),
        ("response_policy:agg_logical_and", AggLogicalAnd),
        ("response_policy:agg_min", AggMin),
        ("response_policy:agg_sum", AggSum),
        ("response_policy:special", Special),
    ];
    let mut i = 0;
    while i < POLICIES.len() {
        if contains(tips, POLICIES[i].0) {
            return POLICIES[i].1;
        }
        i += 1;
    }
    Default
}

const fn contains(tips: &[&str], tip: &str) -> bool {
    let mut i = 0;
    while i < tips.len() {
        if same(tips[i], tip) {
            return true;
        }
        i += 1;
    }
    false
}

/// Position of the `|` in a name, or its length.
const fn bar(name: &[u8]) -> usize {
    let mut i = 0;
    while i < name.len() && name[i] != b'|' {
        i += 1;
    }
    i
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}
