//! Commands that the table does not have, of modules and of newer servers: what a backend says of them (COMMAND
//! INFO) made into rows, and kept for the life of the process.
//!
//! Asked for where a request names no known command (`worker/learn.rs`). A learned command is taken if its keys
//! can be told from the request and it neither blocks nor administers; a write's effect is unknown, so the state
//! of its keys travels to the replicas. `modules.rs` knows more of some.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use super::spec::{Begin, Find, Flags, KeyFlags, KeySpec, Raw};
use super::table::{self, Row};
use crate::proto::{resp, Args};

/// Longer names are unknown without asking anybody; servers and modules have none.
pub const NAME_BYTES_LIMIT: usize = 64;
/// Commands that are remembered, known ones first: these are never forgotten, as requests refer to them.
const KNOWN_LIMIT: usize = 1024;
const UNKNOWN_LIMIT: usize = 4096;
/// For so long an unknown command is not asked about again: a module may be loaded meanwhile.
const UNKNOWN_MS: u64 = 10_000;
/// The same where no backend could say.
const UNCLEAR_MS: u64 = 500;
/// Keys that one specification may name a place for; more is no command.
const SPECS_LIMIT: usize = 32;

/// What is known of a name.
#[derive(Clone, Copy)]
pub enum Known {
    Command(&'static Learned),
    /// No backend has it.
    Nothing,
    /// Nobody was asked lately.
    Unasked,
}

/// A command with its subcommands.
pub struct Learned {
    row: Row,
    children: Vec<Row>,
}

impl Learned {
    /// The row of a request for this command; `None` for a subcommand that it does not have.
    pub fn find(&'static self, args: &Args<'_>) -> Option<&'static Row> {
        if self.children.is_empty() || args.len() == 1 {
            return Some(&self.row);
        }
        let named = |row: &&Row| {
            let name = row.subcommand_name().as_bytes();
            name.eq_ignore_ascii_case(args.get(1))
        };
        self.children.iter().find(named)
    }
}

/// What one pool's backends were asked about.
#[derive(Default)]
pub struct Registry(RwLock<Names>);

#[derive(Default)]
struct Names {
    commands: HashMap<Vec<u8>, &'static Learned>,
    /// Until when each is unknown, in milliseconds of the caller's clock.
    unknown: HashMap<Vec<u8>, u64>,
}

impl Registry {
    /// What is known of a command by its name, in any case.
    pub fn get(&self, name: &[u8], now_ms: u64) -> Known {
        if name.is_empty() || name.len() > NAME_BYTES_LIMIT {
            return Known::Nothing;
        }
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let name = name.to_ascii_uppercase();
        if let Some(learned) = names.commands.get(&name) {
            return Known::Command(learned);
        }
        match names.unknown.get(&name) {
            Some(until) if now_ms < *until => Known::Nothing,
            _ if names.commands.len() >= KNOWN_LIMIT => Known::Nothing,
            _ => Known::Unasked,
        }
    }

    /// The row of a request for a learned command.
    pub fn row(&self, args: &Args<'_>) -> Option<&'static Row> {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let learned = *names.commands.get(&args.get(0).to_ascii_uppercase())?;
        drop(names);
        learned.find(args)
    }

    /// Takes note of a backend's reply to COMMAND INFO, or of the error that came instead.
    pub fn learn(&self, name: &[u8], reply: &[u8], now_ms: u64) {
        let name = name.to_ascii_uppercase();
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if names.commands.contains_key(&name) {
            return;
        }
        if let Some(learned) = read(&name, reply) {
            names.unknown.remove(&name);
            names.commands.insert(name, Box::leak(Box::new(learned)));
            return;
        }
        if names.unknown.len() >= UNKNOWN_LIMIT {
            names.unknown.clear();
        }
        let for_ms = match resp::is_error(reply) {
            true => UNCLEAR_MS,
            false => UNKNOWN_MS,
        };
        names.unknown.insert(name, now_ms + for_ms);
    }
}

/// Values one behind the other.
struct Values<'a>(&'a [u8]);

impl<'a> Iterator for Values<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let (value, rest) = self.0.split_at(resp::value_len(self.0));
        self.0 = rest;
        Some(value)
    }
}

/// The elements of an array, set or map.
fn elements(value: &[u8]) -> Option<Values<'_>> {
    resp::aggregate(value).map(|(_, start)| Values(&value[start..]))
}

/// The text of a status or a string.
fn text(value: &[u8]) -> Option<&str> {
    let bytes = match value.strip_prefix(b"+") {
        Some(line) => line.strip_suffix(b"\r\n")?,
        None => resp::string(value)?,
    };
    std::str::from_utf8(bytes).ok()
}

fn number(value: &[u8]) -> Option<i32> {
    resp::integer(value).and_then(|number| i32::try_from(number).ok())
}

/// What stands behind a name in a flat list of names and values.
fn field<'a>(value: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut values = elements(value)?;
    while let (Some(key), Some(value)) = (values.next(), values.next()) {
        if text(key) == Some(name) {
            return Some(value);
        }
    }
    None
}

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// The command in the reply to COMMAND INFO of one name; `None` if it is unknown or cannot be read.
fn read(name: &[u8], reply: &[u8]) -> Option<Learned> {
    let entry = elements(reply)?.next()?;
    let name = std::str::from_utf8(name).ok()?.to_owned();
    let row = table::learned(read_entry(entry, name.clone())?);
    let subcommands = elements(entry)?.nth(9);
    let mut children = Vec::new();
    for child in subcommands.and_then(elements).into_iter().flatten() {
        let full = text(elements(child)?.next()?)?;
        let last = full.rsplit('|').next().unwrap_or(full);
        let name = format!("{name}|{}", last.to_ascii_uppercase());
        children.push(table::learned(read_entry(child, name)?));
    }
    Some(Learned { row, children })
}

/// One command as the server describes it (https://redis.io/commands/command).
fn read_entry(entry: &[u8], name: String) -> Option<Raw> {
    let mut values = elements(entry)?;
    values.next()?;
    let arity = i16::try_from(number(values.next()?)?).ok()?;
    let flags = values.next()?;
    let mut legacy = [0i16; 3];
    for place in &mut legacy {
        *place = i16::try_from(number(values.next()?)?).ok()?;
    }
    let (_categories, _tips) = (values.next(), values.next());
    let mut specs = Vec::new();
    for spec in values.next().and_then(elements).into_iter().flatten() {
        specs.push(read_spec(spec)?);
        if specs.len() > SPECS_LIMIT {
            return None;
        }
    }
    let named = |names: &[u8]| {
        let mut found = Flags::NONE;
        for name in elements(names).into_iter().flatten().filter_map(text) {
            if let Some((_, flag)) = Flags::NAMES.iter().find(|entry| entry.0 == name) {
                found = found.with(*flag);
            }
        }
        found
    };
    Some(Raw {
        name: leak(name),
        arity,
        flags: named(flags),
        legacy: (legacy[0], legacy[1], legacy[2]),
        categories: &[],
        tips: &[],
        specs: Box::leak(specs.into_boxed_slice()),
    })
}

fn read_spec(spec: &[u8]) -> Option<KeySpec> {
    let mut flags = KeyFlags::NONE;
    for name in elements(field(spec, "flags")?)?.filter_map(text) {
        if let Some((_, flag)) = KeyFlags::NAMES.iter().find(|entry| entry.0 == name) {
            flags = flags.with(*flag);
        }
    }
    let (begin, find) = (field(spec, "begin_search")?, field(spec, "find_keys")?);
    let at = |value, name| field(field(value, "spec")?, name).and_then(number);
    let begin = match text(field(begin, "type")?)? {
        "index" => Begin::Index(at(begin, "index")?),
        "keyword" => Begin::Keyword {
            word: leak(text(field(field(begin, "spec")?, "keyword")?)?.to_ascii_uppercase()),
            from: at(begin, "startfrom")?,
        },
        _ => Begin::Unknown,
    };
    let find = match text(field(find, "type")?)? {
        "range" => Find::Range {
            last: at(find, "lastkey")?,
            step: at(find, "keystep")?.max(1),
            limit: at(find, "limit")?,
        },
        "keynum" => Find::KeyNum {
            count: at(find, "keynumidx")?,
            first: at(find, "firstkey")?,
            step: at(find, "keystep")?.max(1),
        },
        _ => Find::Unknown,
    };
    Some(KeySpec { begin, find, flags })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::overlay::{Effect, Handling};

    /// GETSET as redis-server 7.0.15 describes it.
    const GETSET: &str = "*1\n*10\n$6\ngetset\n:3\n*3\n+write\n+denyoom\n+fast\n:1\n:1\n:1\n*1\n+@write\n*0\n*1\n*6\n$5\n\
        flags\n*3\n+RW\n+access\n+update\n$12\nbegin_search\n*4\n$4\ntype\n$5\nindex\n$4\nspec\n*2\n$5\nindex\n:1\n$9\n\
        find_keys\n*4\n$4\ntype\n$5\nrange\n$4\nspec\n*6\n$7\nlastkey\n:0\n$7\nkeystep\n:1\n$5\nlimit\n:0\n*0\n";

    fn wire(text: &str) -> Vec<u8> {
        text.replace('\n', "\r\n").into_bytes()
    }

    fn request(line: &str) -> (Vec<u8>, Vec<crate::proto::Arg>) {
        let mut bytes = Vec::new();
        let words: Vec<&str> = line.split(' ').collect();
        resp::write_array(&mut bytes, words.len());
        for word in words {
            resp::write_bulk(&mut bytes, word.as_bytes());
        }
        let mut list = Vec::new();
        resp::request(&bytes, &mut list, &mut Default::default(), usize::MAX);
        (bytes, list)
    }

    #[test]
    fn a_learned_command_is_routed_by_its_key() {
        let registry = Registry::default();
        assert!(matches!(registry.get(b"json.set", 0), Known::Unasked));
        registry.learn(b"json.set", &wire(GETSET), 0);
        let (buf, list) = request("Json.Set k v");
        let args = Args {
            buf: &buf,
            list: &list,
        };
        let row = registry.row(&args).unwrap();
        assert_eq!(
            (row.name, row.arity, row.handling),
            ("JSON.SET", 3, Handling::Forward)
        );
        assert!(row.is_write());
        assert_eq!(row.effect_of(&args), Effect::State);
        assert_eq!(crate::command::first_key(row, &args), Some(1));
        assert!(matches!(registry.get(b"JSON.SET", 0), Known::Command(_)));
    }

    #[test]
    fn what_blocks_or_has_no_keys_is_refused() {
        let registry = Registry::default();
        registry.learn(
            b"a.block",
            &wire(&GETSET.replace("+denyoom", "+blocking")),
            0,
        );
        registry.learn(b"a.admin", &wire(&GETSET.replace("+denyoom", "+admin")), 0);
        registry.learn(
            b"a.keyless",
            b"*1\r\n*10\r\n$1\r\na\r\n:1\r\n*0\r\n:0\r\n:0\r\n:0\r\n*0\r\n*0\r\n*0\r\n*0\r\n",
            0,
        );
        registry.learn(
            b"a.unclear",
            &wire(
                &GETSET
                    .replace("+RW", "+RW\n+incomplete")
                    .replace("*3\n+RW", "*4\n+RW"),
            ),
            0,
        );
        for name in ["a.block", "a.admin", "a.keyless", "a.unclear"] {
            let (buf, list) = request(name);
            let row = registry
                .row(&Args {
                    buf: &buf,
                    list: &list,
                })
                .unwrap();
            assert!(matches!(row.handling, Handling::Refuse(_)), "{name}");
        }
    }

    #[test]
    fn a_time_series_gets_the_same_timestamps_everywhere() {
        let registry = Registry::default();
        let entry = wire(&GETSET.replace("+fast", "+module").replace(":3\n", ":-1\n"));
        for (line, wanted) in [
            ("TS.ADD k * 5 LABELS a *", "TS.ADD k 77 5 LABELS a *"),
            ("TS.ADD k 6 5 ON_DUPLICATE LAST", ""),
            ("TS.MADD a * 1 b 6 * c * 3", "TS.MADD a 77 1 b 6 * c 77 3"),
            ("TS.MADD a 5 1", ""),
            (
                "TS.INCRBY k 1 LABELS a b",
                "TS.INCRBY k 1 TIMESTAMP 77 LABELS a b",
            ),
            (
                "TS.DECRBY k 1 RETENTION 9 timestamp *",
                "TS.DECRBY k 1 RETENTION 9 timestamp 77",
            ),
            ("TS.INCRBY k 1 TIMESTAMP 6", ""),
            ("TS.INCRBY k", ""),
            ("TS.ADD", ""),
        ] {
            let (buf, list) = request(line);
            let args = Args {
                buf: &buf,
                list: &list,
            };
            registry.learn(args.get(0), &entry, 0);
            let row = registry.row(&args).unwrap();
            assert_eq!(row.effect_of(&args), Effect::Verified, "{line}");
            let mut made = Vec::new();
            let is_made = crate::command::expiry::absolute(row, &args, || 77, &mut made);
            assert_eq!(is_made, !wanted.is_empty(), "{line}");
            assert!(!is_made || made == request(wanted).0, "{line}");
        }
    }

    #[test]
    fn subcommands_have_rows_of_their_own() {
        let one = GETSET
            .strip_prefix("*1\n")
            .unwrap()
            .replace("getset", "x|sub!");
        let container = format!("*1\n*10\n$1\nx\n:-2\n*0\n:0\n:0\n:0\n*0\n*0\n*0\n*1\n{one}");
        let registry = Registry::default();
        registry.learn(b"m.x", &wire(&container), 0);
        let (buf, list) = request("M.X sub! v");
        let row = registry
            .row(&Args {
                buf: &buf,
                list: &list,
            })
            .unwrap();
        assert_eq!(row.name, "M.X|SUB!");
        let (buf, list) = request("M.X other v");
        assert!(registry
            .row(&Args {
                buf: &buf,
                list: &list
            })
            .is_none());
    }

    #[test]
    fn what_nobody_has_is_asked_about_again_later() {
        let registry = Registry::default();
        registry.learn(b"nosuch", b"*1\r\n$-1\r\n", 5);
        assert!(matches!(registry.get(b"NoSuch", 6), Known::Nothing));
        assert!(matches!(
            registry.get(b"nosuch", 5 + UNKNOWN_MS),
            Known::Unasked
        ));
        registry.learn(b"nosuch", &wire(GETSET), 20_000);
        assert!(matches!(registry.get(b"nosuch", 20_001), Known::Command(_)));
    }

    #[test]
    fn no_reply_breaks_it() {
        let whole = wire(GETSET);
        for reply in [
            &b"-ERR x\r\n"[..],
            b"*0\r\n",
            b"*1\r\n*0\r\n",
            b":1\r\n",
            b"*1\r\n*1\r\n$1\r\nx\r\n",
        ] {
            assert!(read(b"X", reply).is_none());
        }
        for word in ["index", "range", "spec", "flags", "type"] {
            let text = GETSET.replacen(
                &format!("{word}\n"),
                &format!("{}\n", "z".repeat(word.len())),
                1,
            );
            // Whatever it makes of it.
            let _ = read(b"X", &wire(&text));
        }
        assert!(read(b"X", &whole).is_some());
        let long = vec![b'x'; NAME_BYTES_LIMIT + 1];
        assert!(matches!(Registry::default().get(&long, 0), Known::Nothing));
    }
}
