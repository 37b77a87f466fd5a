//! Which arguments of a request are keys, by the key specifications of its row.
//!
//! Called for each request that goes to a backend. A request whose keys cannot be told gets the
//! error that the server gives for it (`refuse`), because guessing a shard could act on the wrong one.

use super::spec::{Begin, Find, Flags, KeyFlags, KeySpec};
use super::table::{Row, OTHER};
use crate::error::{self, Wire};
use crate::proto::Args;

/// Why the keys of a request cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// The number of keys is no number.
    NotANumber,
    /// The number of keys is zero, where one is needed.
    NoKeys,
    /// The number of keys is negative.
    Negative,
    /// The number of keys is larger than what follows.
    TooFew,
    /// XREAD without one id per stream.
    Unbalanced,
    /// The word that keys follow is missing.
    NoKeyword,
}

/// Position of the key where a command has exactly one, at a fixed place: the common case.
/// `None` if `keys` has to look. The arity must have been checked.
#[inline]
pub fn first_key(row: &Row, args: &Args<'_>) -> Option<u32> {
    match row.key_at {
        0 => None,
        at => ((at as usize) < args.len()).then_some(u32::from(at)),
    }
}

/// Puts the positions of all keys into `out` (cleared first), in the order COMMAND GETKEYS has them.
/// The arity must have been checked.
///
/// Raises: `KeyError` if the request does not say which arguments are keys. A script with zero
/// keys is no error and leaves `out` empty.
pub fn keys(row: &Row, args: &Args<'_>, out: &mut Vec<u32>) -> Result<(), KeyError> {
    out.clear();
    for spec in row.specs {
        match (spec.begin, spec.find) {
            // SORT and SORT_RO: the server has code where others have a specification.
            (Begin::Unknown, _) | (_, Find::Unknown) => {}
            _ => by_spec(row, spec, args, out)?,
        }
    }
    if row.name == "SORT" {
        out.extend(sort_store(args));
    }
    if out.is_empty() && !row.flags.has(Flags::NO_MANDATORY_KEYS) {
        return Err(KeyError::NoKeyword);
    }
    Ok(())
}

/// Puts the positions of the keys that a write may change into `out`: all but those that it only reads, or
/// all if its row knows of no other (XREADGROUP changes groups). `keys` must have taken the request.
pub fn written(row: &Row, args: &Args<'_>, out: &mut Vec<u32>) {
    out.clear();
    for spec in row.specs {
        let is_known = spec.begin != Begin::Unknown && spec.find != Find::Unknown;
        if is_known && !spec.flags.has(KeyFlags::RO) {
            // An error leaves out what the request does not name.
            let _ = by_spec(row, spec, args, out);
        }
    }
    if row.name == "SORT" {
        out.extend(sort_store(args));
    }
    if out.is_empty() {
        let _ = keys(row, args, out);
    }
}

/// What a request does with the key at a position that `keys` has found.
pub fn key_flags(row: &Row, args: &Args<'_>, position: u32) -> KeyFlags {
    let written = KeyFlags::OW.with(KeyFlags::UPDATE);
    let read = KeyFlags::RO.with(KeyFlags::ACCESS);
    let has = |from: usize, word: &[u8]| {
        (from..args.len()).any(|at| args.get(at).eq_ignore_ascii_case(word))
    };
    // Those whose flags depend on other arguments, as the server's own code has them.
    match row.name {
        "SET" if !has(3, b"GET") => return written,
        // Without a condition it does not look at the value.
        "DELEX" if args.len() == 2 => return KeyFlags::RM.with(KeyFlags::DELETE),
        "BITFIELD" if !has(2, b"SET") && !has(2, b"INCRBY") => return read,
        "SORT" if sort_store(args) == Some(position) => return written,
        "SORT" | "SORT_RO" => return read,
        _ => {}
    }
    let mut found = Vec::new();
    let spec = row.specs.iter().find(|spec| {
        found.clear();
        let is_known = spec.begin != Begin::Unknown && spec.find != Find::Unknown;
        is_known && by_spec(row, spec, args, &mut found).is_ok() && found.contains(&position)
    });
    let flags = spec.map_or(KeyFlags::NONE, |spec| spec.flags);
    flags.without(KeyFlags::VARIABLE_FLAGS.with(KeyFlags::INCOMPLETE))
}

fn by_spec(row: &Row, spec: &KeySpec, args: &Args<'_>, out: &mut Vec<u32>) -> Result<(), KeyError> {
    let count = args.len() as i64;
    let Some(begin) = begin(spec.begin, args) else {
        return Ok(());
    };
    let (first, last, step) = match spec.find {
        Find::Range { last, step, limit } => {
            let last = match (last, limit) {
                (last, _) if last >= 0 => begin + i64::from(last),
                (last, 0 | 1) => count + i64::from(last),
                (last, limit) => {
                    let rest = count - begin;
                    if rest % i64::from(limit) != 0 {
                        return Err(KeyError::Unbalanced);
                    }
                    begin + rest / i64::from(limit) + i64::from(last)
                }
            };
            (begin, last, step)
        }
        Find::KeyNum {
            count: at,
            first,
            step,
        } => {
            let number =
                number(args.get((begin + i64::from(at)) as usize)).ok_or(KeyError::NotANumber)?;
            let first = begin + i64::from(first);
            match number {
                ..=-1 => return Err(KeyError::Negative),
                0 if row.flags.has(Flags::NO_MANDATORY_KEYS) => return Ok(()),
                0 => return Err(KeyError::NoKeys),
                // The last one has to be there, what stands behind each of them (MSETEX) is not looked for.
                _ if number - 1 > (count - 1 - first).div_euclid(i64::from(step)) => {
                    return Err(KeyError::TooFew)
                }
                _ => (first, first + (number - 1) * i64::from(step), step),
            }
        }
        Find::Unknown => return Ok(()),
    };
    // An optional part that is not there (PFMERGE with a destination only) leaves no keys.
    let last = last.min(count - 1);
    let mut at = first;
    while at <= last {
        out.push(at as u32);
        at += i64::from(step);
    }
    Ok(())
}

/// Where a specification begins; `None` if its keyword is not in the request.
fn begin(begin: Begin, args: &Args<'_>) -> Option<i64> {
    match begin {
        Begin::Index(at) => Some(i64::from(at)),
        Begin::Keyword { word, from } => {
            let is_word = |i: &usize| args.get(*i).eq_ignore_ascii_case(word.as_bytes());
            let found = if from >= 0 {
                (from as usize..args.len()).find(is_word)
            } else {
                let start = args.len().checked_sub(from.unsigned_abs() as usize)?;
                (1..=start).rev().find(is_word)
            };
            found.map(|at| at as i64 + 1)
        }
        Begin::Unknown => None,
    }
}

/// The destination of SORT: the last STORE that stands where an option may stand.
pub(super) fn sort_store(args: &Args<'_>) -> Option<u32> {
    let mut store = None;
    let mut at = 2;
    while at < args.len() {
        let word = args.get(at);
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        if is(b"STORE") && at + 1 < args.len() {
            store = Some(at as u32 + 1);
            at += 1;
        } else if is(b"LIMIT") {
            at += 2;
        } else if is(b"BY") || is(b"GET") {
            at += 1;
        }
        at += 1;
    }
    store
}

/// The patterns of SORT that stand for keys, one per element: those of BY and GET with a `*`.
pub fn patterns<'a>(args: &Args<'a>) -> Vec<&'a [u8]> {
    let mut found = Vec::new();
    let mut at = 2;
    while at < args.len() {
        let word = args.get(at);
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        if is(b"BY") || is(b"GET") {
            found.extend((at + 1 < args.len()).then(|| args.get(at + 1)));
            at += 1;
        } else if is(b"LIMIT") {
            at += 2;
        } else if is(b"STORE") {
            at += 1;
        }
        at += 1;
    }
    found.retain(|pattern| pattern.contains(&b'*'));
    found
}

/// A decimal number as Redis reads it: no blanks, no plus, no leading zeros.
pub fn number(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let plain = match digits {
        [b'0'] => text.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if plain {
        std::str::from_utf8(text).ok()?.parse().ok()
    } else {
        None
    }
}

/// True where the error depends on what the server knows: whether there is such a function or script comes first,
/// or whether it has the command. It is an error in any case, so any server may be asked.
pub fn is_told_by_server(row: &Row) -> bool {
    let is_learned_read = row.id == OTHER && !row.is_write();
    let is_named = matches!(
        row.name,
        "EVALSHA" | "EVALSHA_RO" | "FCALL" | "FCALL_RO" | "MSETEX"
    );
    is_learned_read || is_named
}

/// Appends the error that the server gives where `keys` fails. Families of commands differ here.
pub fn refuse(row: &Row, error: KeyError, out: &mut Vec<u8>) {
    let script = row.flags.has(Flags::NO_MANDATORY_KEYS);
    let counts_first = row.name == "SINTERCARD" || row.name.ends_with("MPOP");
    let wire = match error {
        // Of a module, which counts the arguments itself.
        KeyError::NoKeyword if row.id == OTHER => return error::wrong_arity(row.name, out),
        KeyError::NotANumber | KeyError::Negative | KeyError::NoKeys | KeyError::NoKeyword
            if counts_first =>
        {
            Wire::NumkeysNotPositive
        }
        KeyError::NotANumber if row.name.starts_with("FCALL") => Wire::BadNumkeys,
        KeyError::NotANumber => Wire::NotInteger,
        KeyError::Negative if script => Wire::NumkeysNegative,
        KeyError::Negative | KeyError::NoKeys => return error::no_input_key(row.name, out),
        KeyError::TooFew if script || row.name == "SINTERCARD" => Wire::NumkeysTooMany,
        KeyError::Unbalanced => Wire::UnbalancedStreams,
        KeyError::TooFew | KeyError::NoKeyword => Wire::Syntax,
    };
    out.extend_from_slice(wire.redis());
}
