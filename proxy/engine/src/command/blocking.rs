//! Blocking commands, taken apart: what is asked of a backend in their place, and what their client gets.
//!
//! No backend ever blocks for us: its connection is shared, and an element that it popped at a moment of its
//! own could not be popped on the other replicas in the same order. So the form that does not block is tried
//! (`attempt`), as a request like any other, and again when a key has changed (`worker/blocking.rs`). Texts
//! and order of errors are those of Redis 7.0. Bytes in, bytes out; no clock and no connection.
//!
//! | request | tried with one key | with several |
//! |---|---|---|
//! | BLPOP, BRPOP | LPOP, RPOP | LMPOP |
//! | BZPOPMIN, BZPOPMAX | ZPOPMIN, ZPOPMAX | ZMPOP |
//! | BLMPOP, BZMPOP | LMPOP, ZMPOP | the same |
//! | BLMOVE, BRPOPLPUSH | LMOVE, RPOPLPUSH | |
//! | XREAD, XREADGROUP | the same without BLOCK | the same |

use std::ops::Range;

use super::keys::{self, number};
use super::table::Row;
use crate::error::Wire;
use crate::proto::{resp, Args};

/// What is kept for each word of a request besides its bytes, here and where keys are waited for.
const WORD_BYTES: usize = 128;

/// What a command waits for, and how it takes that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One element of a list.
    Pop,
    /// One member of a sorted set.
    ZPop,
    /// One element of a list, which goes to another list.
    Move,
    /// Elements of a list.
    ListMany,
    /// Members of a sorted set.
    ZsetMany,
    /// Entries of streams; taking them changes nothing.
    Read,
    /// Entries of streams for a consumer group.
    Group,
}

/// What a key holds, as TYPE tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    List,
    Zset,
    Stream,
    /// Nothing, or what nobody waits for.
    Other,
}

impl Holds {
    /// Reads a reply of TYPE.
    pub fn read(reply: &[u8]) -> Holds {
        match reply {
            b"+list\r\n" => Holds::List,
            b"+zset\r\n" => Holds::Zset,
            b"+stream\r\n" => Holds::Stream,
            _ => Holds::Other,
        }
    }
}

/// A request that may block.
#[derive(Clone, Debug)]
pub struct Call {
    pub kind: Kind,
    /// Milliseconds; None for ever.
    pub timeout_ms: Option<u64>,
    /// Keys waited for, in the order of the request.
    pub keys: Vec<Vec<u8>>,
    /// An id for each stream.
    ids: Vec<Vec<u8>>,
    /// Words of the attempt before the keys and behind them.
    head: Vec<Vec<u8>>,
    tail: Vec<Vec<u8>>,
    /// A server finds fault with its options, before it looks at any key.
    is_faulty: bool,
}

/// What an attempt came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// The reply in the shape of the blocking command.
    Reply(Vec<u8>),
    /// The reply is an error.
    Error,
}

/// Takes a request apart. `None` if it does not block: XREAD and XREADGROUP without BLOCK.
///
/// The row has the flag BLOCKING and a row of its own above; the arity is checked.
///
/// # Errors
/// The error reply.
pub fn take(row: &Row, args: &Args<'_>) -> Result<Option<Call>, Vec<u8>> {
    let last = args.len() - 1;
    let texts = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect();
    let words = |range: Range<usize>| range.map(|at| args.get(at).to_vec()).collect();
    let call = |kind, timeout_ms, keys, tail: Vec<Vec<u8>>| {
        Ok(Some(Call {
            kind,
            timeout_ms,
            keys,
            ids: Vec::new(),
            head: Vec::new(),
            tail,
            is_faulty: false,
        }))
    };
    match row.name {
        "BLPOP" | "BRPOP" => {
            let end = if row.name == "BLPOP" { "LEFT" } else { "RIGHT" };
            call(
                Kind::Pop,
                seconds(args.get(last))?,
                words(1..last),
                texts(&[end]),
            )
        }
        "BZPOPMIN" | "BZPOPMAX" => {
            let end = &row.name["BZPOP".len()..];
            call(
                Kind::ZPop,
                seconds(args.get(last))?,
                words(1..last),
                texts(&[end]),
            )
        }
        "BRPOPLPUSH" => {
            let mut found = call(Kind::Move, seconds(args.get(3))?, words(1..2), words(2..3));
            name(&mut found, "RPOPLPUSH");
            found
        }
        "BLMOVE" => {
            let is_end = |at| is_one_of(args.get(at), &["LEFT", "RIGHT"]);
            if !is_end(3) || !is_end(4) {
                return Err(Wire::Syntax.redis().to_vec());
            }
            let mut found = call(Kind::Move, seconds(args.get(5))?, words(1..2), words(2..5));
            name(&mut found, "LMOVE");
            found
        }
        "BLMPOP" | "BZMPOP" => {
            let mut positions = Vec::new();
            if let Err(error) = keys::keys(row, args, &mut positions) {
                let mut text = Vec::new();
                keys::refuse(row, error, &mut text);
                return Err(text);
            }
            let (kind, ends) = match row.name {
                "BLMPOP" => (Kind::ListMany, ["LEFT", "RIGHT"]),
                _ => (Kind::ZsetMany, ["MIN", "MAX"]),
            };
            let tail = 3 + positions.len();
            check_many(args, tail, &ends)?;
            let timeout = seconds(args.get(1))?;
            call(kind, timeout, words(3..tail), words(tail..args.len()))
        }
        _ => streams(row, args),
    }
}

fn name(found: &mut Result<Option<Call>, Vec<u8>>, word: &str) {
    if let Ok(Some(call)) = found {
        call.head.push(word.as_bytes().to_vec());
    }
}

fn is_one_of(word: &[u8], names: &[&str]) -> bool {
    names
        .iter()
        .any(|name| word.eq_ignore_ascii_case(name.as_bytes()))
}

/// Checks what follows the keys of BLMPOP and BZMPOP, which Redis looks at before the timeout.
fn check_many(args: &Args<'_>, tail: usize, ends: &[&str]) -> Result<(), Vec<u8>> {
    let error = |wire: Wire| Err(wire.redis().to_vec());
    if !is_one_of(args.get(tail), ends) {
        return error(Wire::Syntax);
    }
    match args.len() - tail {
        1 => return Ok(()),
        3.. if is_one_of(args.get(tail + 1), &["COUNT"]) => {}
        _ => return error(Wire::Syntax),
    }
    // The count is looked at before what may stand behind it.
    match number(args.get(tail + 2)).filter(|count| *count > 0) {
        None => error(Wire::CountNotPositive),
        Some(_) if args.len() - tail > 3 => error(Wire::Syntax),
        Some(_) => Ok(()),
    }
}

/// XREAD and XREADGROUP. No BLOCK that a server might take for the option is left in the attempt.
fn streams(row: &Row, args: &Args<'_>) -> Result<Option<Call>, Vec<u8>> {
    let is_block = |word: &[u8]| word.eq_ignore_ascii_case(b"BLOCK");
    if !args.iter().skip(1).any(is_block) {
        return Ok(None);
    }
    let error = |wire: Wire| Err(wire.redis().to_vec());
    let kind = match row.name {
        "XREAD" => Kind::Read,
        _ => Kind::Group,
    };
    let mut head = vec![row.name.as_bytes().to_vec()];
    let (mut timeout, mut at) = (None, 1);
    let only_group = (kind == Kind::Read).then_some(Wire::Syntax);
    // The server finds fault with an earlier word.
    let mut fault = None;
    loop {
        let left = (args.len() - at).saturating_sub(1);
        let is = |name: &[u8]| args.get(at).eq_ignore_ascii_case(name);
        let count = if is(b"BLOCK") && left >= 1 {
            match milliseconds(args.get(at + 1)) {
                Ok(limit) => timeout = Some(limit),
                Err(_) if fault.is_some() => timeout = Some(None),
                Err(text) => return Err(text),
            }
            at += 2;
            continue;
        } else if is(b"STREAMS") && left >= 1 {
            break;
        } else if (is(b"COUNT") || is(b"CLAIM")) && left >= 1 {
            let is_number = number(args.get(at + 1)).is_some();
            fault = fault.or((!is_number).then_some(Wire::NotInteger));
            2
        } else if is(b"GROUP") && left >= 2 {
            fault = fault.or(only_group);
            3
        } else if is(b"NOACK") {
            fault = fault.or(only_group);
            1
        } else {
            // An option of a newer server, perhaps, and a BLOCK behind it: whose word is that?
            return error(fault.unwrap_or(Wire::Syntax));
        };
        head.extend((at..at + count).map(|at| args.get(at).to_vec()));
        at += count;
    }
    let Some(timeout_ms) = timeout else {
        return Ok(None);
    };
    let (first, count) = (at + 1, args.len() - at - 1);
    if count % 2 != 0 {
        return error(Wire::UnbalancedStreams);
    }
    let is_group = |word: &Vec<u8>| word.eq_ignore_ascii_case(b"GROUP");
    if kind == Kind::Group && fault.is_none() && !head.iter().any(is_group) {
        return error(Wire::MissingGroup);
    }
    head.push(b"STREAMS".to_vec());
    let words = |range: Range<usize>| range.map(|at| args.get(at).to_vec()).collect();
    let middle = first + count / 2;
    Ok(Some(Call {
        kind,
        timeout_ms,
        keys: words(first..middle),
        ids: words(middle..args.len()),
        head,
        tail: Vec::new(),
        is_faulty: fault.is_some(),
    }))
}

/// A timeout in seconds, as milliseconds; none for ever.
fn seconds(text: &[u8]) -> Result<Option<u64>, Vec<u8>> {
    let number = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse::<f64>().ok().or_else(|| hex_float(text)));
    let Some(seconds) = number.filter(|seconds| !seconds.is_nan()) else {
        return Err(Wire::TimeoutNotFloat.redis().to_vec());
    };
    let limit = (seconds * 1000.0).ceil();
    // What does not fit becomes the smallest number there.
    if limit < 0.0 || limit >= i64::MAX as f64 {
        return Err(Wire::TimeoutNegative.redis().to_vec());
    }
    Ok((limit > 0.0).then_some(limit as u64))
}

/// A number as C writes it in base 16: `0x1.8p3` is 12.
fn hex_float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let rest = unsigned
        .strip_prefix("0x")
        .or_else(|| unsigned.strip_prefix("0X"))?;
    let (digits, exponent) = match rest.split_once(['p', 'P']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (rest, 0),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    let mut number = 0.0;
    for digit in whole.chars().chain(part.chars()) {
        number = number * 16.0 + f64::from(digit.to_digit(16)?);
    }
    let behind_point = i32::try_from(part.len()).ok()?.checked_mul(4)?;
    let number = number * f64::from(exponent.saturating_sub(behind_point)).exp2();
    Some(match text.starts_with('-') {
        true => -number,
        false => number,
    })
}

fn milliseconds(text: &[u8]) -> Result<Option<u64>, Vec<u8>> {
    match number(text) {
        Some(limit) if limit < 0 => Err(Wire::TimeoutNegative.redis().to_vec()),
        Some(limit) => Ok((limit > 0).then_some(limit as u64)),
        None => Err(Wire::TimeoutNotInteger.redis().to_vec()),
    }
}

/// What a client is told when nothing came.
pub const fn nil(resp3: bool) -> &'static [u8] {
    if resp3 {
        b"_\r\n"
    } else {
        b"*-1\r\n"
    }
}

impl Call {
    /// Bytes that it takes to remember it, about.
    pub fn weight(&self) -> usize {
        let all = [&self.keys, &self.ids, &self.head, &self.tail];
        let words = all.iter().flat_map(|words| words.iter().map(Vec::len));
        words.sum::<usize>() + WORD_BYTES * all.iter().map(|words| words.len()).sum::<usize>()
    }

    /// What the keys must hold.
    pub fn wants(&self) -> Holds {
        match self.kind {
            Kind::Pop | Kind::Move | Kind::ListMany => Holds::List,
            Kind::ZPop | Kind::ZsetMany => Holds::Zset,
            Kind::Read | Kind::Group => Holds::Stream,
        }
    }

    /// The key that gets what was taken.
    pub fn destination(&self) -> Option<&[u8]> {
        match self.kind {
            Kind::Move => self.tail.first().map(Vec::as_slice),
            _ => None,
        }
    }

    /// True if nothing for this one means nothing for the other either, on the same key.
    pub fn is_like(&self, other: &Call) -> bool {
        self.kind != Kind::Read
            && other.kind != Kind::Read
            && self.wants() == other.wants()
            && self.group() == other.group()
    }

    /// The consumer group it reads for.
    pub fn group(&self) -> Option<&Vec<u8>> {
        if self.kind != Kind::Group {
            return None;
        }
        let is_group = |word: &Vec<u8>| word.eq_ignore_ascii_case(b"GROUP");
        let at = self.head.iter().position(is_group)?;
        self.head.get(at + 1)
    }

    /// For how many milliseconds another consumer may keep an entry: XREADGROUP with CLAIM.
    pub fn claims(&self) -> Option<&Vec<u8>> {
        let mut at = 1;
        while self.kind == Kind::Group && at < self.head.len() {
            let is = |name: &[u8]| self.head[at].eq_ignore_ascii_case(name);
            if is(b"CLAIM") {
                return self.head.get(at + 1);
            }
            at += if is(b"GROUP") { 3 } else { 1 };
        }
        None
    }

    /// Appends the request that does not block, for some of the keys.
    pub fn attempt(&self, keys: Range<usize>, out: &mut Vec<u8>) {
        let (count, is_left) = (keys.len(), self.is_left());
        let number = count.to_string();
        let many = |name: &'static str| vec![name.as_bytes(), number.as_bytes()];
        let mut words: Vec<&[u8]> = match self.kind {
            Kind::Pop if count == 1 => vec![if is_left { b"LPOP" } else { b"RPOP" }],
            Kind::ZPop if count == 1 => vec![if is_left { b"ZPOPMIN" } else { b"ZPOPMAX" }],
            Kind::Pop | Kind::ListMany => many("LMPOP"),
            Kind::ZPop | Kind::ZsetMany => many("ZMPOP"),
            Kind::Move | Kind::Read | Kind::Group => self.head.iter().map(Vec::as_slice).collect(),
        };
        words.extend(self.keys[keys.clone()].iter().map(Vec::as_slice));
        match self.kind {
            Kind::Pop | Kind::ZPop if count == 1 => {}
            Kind::Read | Kind::Group => words.extend(self.ids[keys].iter().map(Vec::as_slice)),
            _ => words.extend(self.tail.iter().map(Vec::as_slice)),
        }
        resp::write_array(out, words.len());
        words.iter().for_each(|word| resp::write_bulk(out, word));
    }

    /// Reads the reply to an attempt with these keys.
    pub fn found(&self, keys: Range<usize>, reply: &[u8]) -> Found {
        if resp::is_error(reply) {
            return Found::Error;
        }
        let is_nil = matches!(
            reply,
            b"$-1\r\n" | b"*-1\r\n" | b"_\r\n" | b"*0\r\n" | b"%0\r\n"
        );
        if is_nil {
            return Found::Nothing;
        }
        let mut out = Vec::with_capacity(reply.len() + 64);
        match self.kind {
            Kind::Pop if keys.len() == 1 => {
                resp::write_array(&mut out, 2);
                resp::write_bulk(&mut out, &self.keys[keys.start]);
                out.extend_from_slice(reply);
            }
            Kind::ZPop if keys.len() == 1 => {
                resp::write_array(&mut out, 3);
                resp::write_bulk(&mut out, &self.keys[keys.start]);
                out.extend_from_slice(inside(reply));
            }
            // The key, and an array of the one that was taken.
            Kind::Pop | Kind::ZPop => {
                let (key, taken) = split(inside(reply));
                let taken = match self.kind {
                    Kind::Pop => inside(taken),
                    _ => inside(inside(taken)),
                };
                resp::write_array(&mut out, if self.kind == Kind::Pop { 2 } else { 3 });
                out.extend_from_slice(key);
                out.extend_from_slice(taken);
            }
            _ => out.extend_from_slice(reply),
        }
        Found::Reply(out)
    }

    /// The request that puts back what was taken, where its client is gone: at the same end, in the same
    /// order. `reply` is what the client would have been sent. `None` where nothing is lost with it.
    pub fn put_back(&self, reply: &[u8]) -> Option<Vec<u8>> {
        if matches!(self.kind, Kind::Move | Kind::Read | Kind::Group) {
            return None;
        }
        let (key, rest) = split(inside(reply));
        let rest = match self.kind {
            Kind::ListMany | Kind::ZsetMany => inside(rest),
            _ => rest,
        };
        // Members of sorted sets come with their scores, in pairs or in a row.
        let mut taken = Vec::new();
        collect(rest, &mut taken);
        let is_list = self.wants() == Holds::List;
        let name: &[u8] = match (is_list, self.is_left()) {
            (false, _) => b"ZADD",
            (true, true) => b"LPUSH",
            (true, false) => b"RPUSH",
        };
        // The last one that was taken goes back first; of a member and its score the score stands first.
        taken.reverse();
        let mut out = Vec::with_capacity(reply.len() + 64);
        resp::write_array(&mut out, 2 + taken.len());
        resp::write_bulk(&mut out, name);
        resp::write_bulk(&mut out, resp::string(key)?);
        taken
            .iter()
            .for_each(|word| resp::write_bulk(&mut out, word));
        Some(out)
    }

    fn is_left(&self) -> bool {
        let end = self.tail.first().map_or(&b""[..], Vec::as_slice);
        is_one_of(end, &["LEFT", "MIN"])
    }

    /// The first stream from `from` on whose id is `$`: what comes after its last entry as it is now. Of a faulty
    /// request there is none: what holds no stream would be found fault with first.
    pub fn unresolved(&self, from: usize) -> Option<usize> {
        if self.is_faulty {
            return None;
        }
        let is_last = |at: &usize| self.kind == Kind::Read && self.ids[*at] == b"$";
        (from..self.ids.len()).find(is_last)
    }

    /// Appends the request that tells the last entry of such a stream.
    pub fn ask_last(&self, key: usize, out: &mut Vec<u8>) {
        let words = [
            b"XREVRANGE",
            &self.keys[key][..],
            b"+",
            b"-",
            b"COUNT",
            b"1",
        ];
        resp::write_array(out, words.len());
        words.iter().for_each(|word| resp::write_bulk(out, word));
    }

    /// Replaces `$` by what the reply says. An entry that was deleted since does not come back, so the last
    /// one that is there will do.
    pub fn resolve(&mut self, key: usize, reply: &[u8]) {
        let entry = inside(inside(reply));
        let id = match entry.is_empty() {
            true => None,
            false => resp::string(split(entry).0),
        };
        self.ids[key] = id.unwrap_or(b"0-0").to_vec();
    }
}

/// What is in an array.
fn inside(reply: &[u8]) -> &[u8] {
    resp::aggregate(reply).map_or(b"", |(_, at)| &reply[at..])
}

/// The first value and the rest.
fn split(values: &[u8]) -> (&[u8], &[u8]) {
    values.split_at(resp::value_len(values).min(values.len()))
}

/// The strings and numbers in a row of values, out of their arrays.
fn collect<'a>(mut values: &'a [u8], out: &mut Vec<&'a [u8]>) {
    while !values.is_empty() {
        let (value, rest) = split(values);
        match value.first() {
            Some(b'*') => collect(inside(value), out),
            Some(b',') => out.push(&value[1..value.len() - 2]),
            _ => out.extend(resp::string(value)),
        }
        values = rest;
    }
}
