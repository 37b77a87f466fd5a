//! Times to live that count from now, as points in time, so that a key expires on every replica at the
//! same millisecond however long its write was on the way. So are timestamps that a server would make.
//!
//! Called before a write goes to several replicas (`worker/replicate.rs`), the leader included. A request
//! is changed only where the server is certain to take it both ways: an error would name another command,
//! so whatever looks wrong goes as it came and gets the server's own words. The clock is an argument.

use super::keys::number;
use super::overlay::Lifetime;
use super::table::Row;
use crate::proto::{resp, Args};

/// Points in time beyond this many milliseconds are left to the server's own overflow checks.
const LATEST_MS: i64 = 1 << 62;
/// The same for fields of a hash, where a time has 48 bits.
const LATEST_FIELD_MS: i64 = 1 << 47;

/// Appends the request with a point in time to `out`; false, and nothing appended, if it has no time
/// to live that counts from now, or is not certain to be valid.
///
/// `now_ms` is called only where it is needed: milliseconds since 1970.
#[inline]
pub fn absolute(
    row: &Row,
    args: &Args<'_>,
    now_ms: impl FnOnce() -> i64,
    out: &mut Vec<u8>,
) -> bool {
    match row.lifetime {
        Lifetime::None => false,
        Lifetime::Option { from } if args.len() == from as usize => false,
        _ => change(row, args, now_ms, out).is_some(),
    }
}

fn change(
    row: &Row,
    args: &Args<'_>,
    now_ms: impl FnOnce() -> i64,
    out: &mut Vec<u8>,
) -> Option<()> {
    match row.lifetime {
        Lifetime::Stamps { many } => return stamps(args, many, now_ms, out),
        Lifetime::StampOption => return stamp_option(args, now_ms, out),
        _ => {}
    }
    let until = |text: &[u8], unit_ms: i64| {
        let count = number(text).filter(|count| *count > 0)?;
        let at = count.checked_mul(unit_ms)?.checked_add(now_ms())?;
        let latest = match row.lifetime {
            Lifetime::FieldOption => LATEST_FIELD_MS,
            Lifetime::Expire { absolute, .. } if absolute.starts_with('H') => LATEST_FIELD_MS,
            _ => LATEST_MS,
        };
        (at < latest).then(|| at.to_string())
    };
    match row.lifetime {
        Lifetime::None | Lifetime::Stamps { .. } | Lifetime::StampOption => return None,
        Lifetime::Option { from } => {
            let (at, unit_ms) = option(args, from as usize, args.len())?;
            let until = until(args.get(at + 1), unit_ms)?;
            write(args, out, &[(at, b"PXAT"), (at + 1, until.as_bytes())], b"");
        }
        Lifetime::FieldOption => {
            let is_end = |at: &usize| args.get(*at).eq_ignore_ascii_case(b"FIELDS");
            let (at, unit_ms) = option(args, 2, (2..args.len()).find(is_end)?)?;
            let until = until(args.get(at + 1), unit_ms)?;
            write(args, out, &[(at, b"PXAT"), (at + 1, until.as_bytes())], b"");
        }
        Lifetime::SetEx { unit_ms } => {
            let until = until(args.get(2), unit_ms)?;
            resp::write_array(out, 5);
            for word in [b"SET", args.get(1), args.get(3), b"PXAT", until.as_bytes()] {
                resp::write_bulk(out, word);
            }
        }
        Lifetime::Expire { unit_ms, absolute } => {
            let until = until(args.get(2), unit_ms)?;
            let words = [(0, absolute.as_bytes()), (2, until.as_bytes())];
            write(args, out, &words, b"");
        }
        Lifetime::Restore => {
            restore_options(args)?;
            let until = until(args.get(2), 1)?;
            write(args, out, &[(2, until.as_bytes())], b"ABSTTL");
        }
    }
    Some(())
}

/// The time in place of each `*` that stands for it.
fn stamps(
    args: &Args<'_>,
    many: bool,
    now_ms: impl FnOnce() -> i64,
    out: &mut Vec<u8>,
) -> Option<()> {
    let end = if many { args.len() } else { 3 };
    let clocks: Vec<usize> = (2..end)
        .step_by(3)
        .filter(|at| args.get(*at) == b"*")
        .collect();
    if clocks.is_empty() {
        return None;
    }
    let now = now_ms().to_string();
    let words: Vec<_> = clocks.into_iter().map(|at| (at, now.as_bytes())).collect();
    write(args, out, &words, b"");
    Some(())
}

/// The time behind TIMESTAMP, if it is not said already.
fn stamp_option(args: &Args<'_>, now_ms: impl FnOnce() -> i64, out: &mut Vec<u8>) -> Option<()> {
    let is_option = |at: &usize| args.get(*at).eq_ignore_ascii_case(b"TIMESTAMP");
    let found = (3..args.len()).find(is_option);
    match found {
        Some(at) if args.get(at + 1) == b"*" => {
            write(args, out, &[(at + 1, now_ms().to_string().as_bytes())], b"");
        }
        None if args.len() >= 3 => {
            resp::write_array(out, args.len() + 2);
            for word in args.iter().take(3) {
                resp::write_bulk(out, word);
            }
            resp::write_bulk(out, b"TIMESTAMP");
            resp::write_bulk(out, now_ms().to_string().as_bytes());
            for word in args.iter().skip(3) {
                resp::write_bulk(out, word);
            }
        }
        _ => return None,
    }
    Some(())
}

/// Where EX or PX stands, and its unit, if every option in between is known and fits with it.
fn option(args: &Args<'_>, from: usize, end: usize) -> Option<(usize, i64)> {
    const ALONE: [&[u8]; 5] = [b"NX", b"XX", b"GET", b"FNX", b"FXX"];
    // Each with what the value, or a digest of it, is compared with.
    const WITH_VALUE: [&[u8]; 4] = [b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE"];
    let (mut found, mut at) = (None, from);
    while at < end {
        let word = args.get(at);
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        if is(b"EX") || is(b"PX") {
            let unit_ms = if is(b"EX") { 1000 } else { 1 };
            if found.replace((at, unit_ms)).is_some() || at + 1 >= end {
                return None;
            }
            at += 1;
        } else if WITH_VALUE.iter().any(|name| is(name)) {
            at += 1;
        } else if !ALONE.iter().any(|name| is(name)) {
            return None;
        }
        at += 1;
    }
    found
}

/// Some if all that follows the payload is known and there is no ABSTTL yet.
fn restore_options(args: &Args<'_>) -> Option<()> {
    let mut at = 4;
    while at < args.len() {
        let word = args.get(at);
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        if is(b"IDLETIME") || is(b"FREQ") {
            number(args.get(at + 1))?;
            at += 1;
        } else if !is(b"REPLACE") {
            return None;
        }
        at += 1;
    }
    Some(())
}

/// Copies a request with some words replaced, in order, and one appended unless it is empty.
fn write(args: &Args<'_>, out: &mut Vec<u8>, words: &[(usize, &[u8])], last: &[u8]) {
    resp::write_array(out, args.len() + usize::from(!last.is_empty()));
    for at in 0..args.len() {
        let word = words.iter().find(|word| word.0 == at);
        resp::write_bulk(out, word.map_or(args.get(at), |word| word.1));
    }
    if !last.is_empty() {
        resp::write_bulk(out, last);
    }
}
