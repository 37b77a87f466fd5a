//! RESP2 and RESP3: requests of clients (multibulk and inline), replies of backends.
//!
//! Rules and error texts are those of redis-server 7 (`processMultibulkBuffer`,
//! `processInlineBuffer`) and of the RESP3 specification for reply types. Streamed types
//! (`$?`, `*?`) are not sent by any server and are refused as invalid.

use std::ops::RangeInclusive;

use memchr::memchr;

use super::{Arg, Resume, Step};

/// A head line (`*3`, `$5`) or an inline request without its end longer than this is hostile;
/// redis-server's PROTO_INLINE_MAX_SIZE.
const LINE_LIMIT: usize = 64 * 1024;
/// The fewest bytes an argument takes on the wire: `$0`, line end, line end.
const ARG_MIN_BYTES: u64 = 6;
/// The most arguments, as redis-server before 7 had it: positions of all are kept at once.
const ARGS_LIMIT: i64 = 1024 * 1024;
/// Counts of arguments that redis-server does not take from a client before its login. One behind these is
/// no count at all, whoever sends it.
const GUEST_ARGS_REFUSED: RangeInclusive<i64> = 11..=i32::MAX as i64;
/// And lengths of an argument, up to redis-server's `proto-max-bulk-len`.
const GUEST_BYTES_REFUSED: RangeInclusive<i64> = 16 * 1024 + 1..=512 * 1024 * 1024;

/// Why a request cannot be read. The client is told and its connection closed, as Redis does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    MultibulkLength,
    BulkLength,
    ExpectedDollar(u8),
    BigMultibulkLine,
    BigBulkLine,
    BigInline,
    UnbalancedQuotes,
    GuestMultibulkLength,
    GuestBulkLength,
}

impl RequestError {
    /// The reply, whole.
    pub fn text(self) -> Vec<u8> {
        let what = match self {
            RequestError::MultibulkLength => "invalid multibulk length".to_owned(),
            RequestError::BulkLength => "invalid bulk length".to_owned(),
            RequestError::ExpectedDollar(got) => {
                // As Redis does: a line end inside the text would make two replies of it.
                let got = if matches!(got, b'\r' | b'\n') {
                    b' '
                } else {
                    got
                };
                return [
                    b"-ERR Protocol error: expected '$', got '",
                    &[got][..],
                    b"'\r\n",
                ]
                .concat();
            }
            RequestError::BigMultibulkLine => "too big mbulk count string".to_owned(),
            RequestError::BigBulkLine => "too big bulk count string".to_owned(),
            RequestError::BigInline => "too big inline request".to_owned(),
            RequestError::UnbalancedQuotes => "unbalanced quotes in request".to_owned(),
            RequestError::GuestMultibulkLength => "unauthenticated multibulk length".to_owned(),
            RequestError::GuestBulkLength => "unauthenticated bulk length".to_owned(),
        };
        format!("-ERR Protocol error: {what}\r\n").into_bytes()
    }
}

/// A number in a head line: the value and the position behind the line end.
enum Head {
    Number(i64, usize),
    Incomplete,
    Invalid,
}

/// Reads a number and its line end at `at`, as redis-server's `string2ll` does: one number has one form, so no
/// plus, no zero in front of a digit and no `-0`.
fn head(buf: &[u8], at: usize) -> Head {
    let mut value = match buf.get(at) {
        Some(first @ b'1'..=b'9') => i64::from(first - b'0'),
        _ => return head_without_digit(buf, at),
    };
    let mut i = at + 1;
    while i < buf.len() {
        let digit = buf[i].wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        if i - at >= 18 {
            return Head::Invalid;
        }
        value = value * 10 + i64::from(digit);
        i += 1;
    }
    head_end(buf, i, value)
}

/// `head` of zero, of a number below it, or of none.
#[inline(never)]
fn head_without_digit(buf: &[u8], at: usize) -> Head {
    match (buf.get(at), buf.get(at + 1)) {
        (None, _) | (Some(b'-'), None) => Head::Incomplete,
        (Some(b'0'), _) => head_end(buf, at + 1, 0),
        (Some(b'-'), Some(b'1'..=b'9')) => match head(buf, at + 1) {
            Head::Number(value, next) => Head::Number(-value, next),
            other => other,
        },
        _ => Head::Invalid,
    }
}

/// What a number is whose line end should be at `i`.
#[inline]
fn head_end(buf: &[u8], i: usize, value: i64) -> Head {
    match (buf.get(i), buf.get(i + 1)) {
        (Some(b'\r'), Some(b'\n')) => Head::Number(value, i + 2),
        (None | Some(b'\r'), None) => Head::Incomplete,
        _ => Head::Invalid,
    }
}

/// Parses one multibulk request at the start of `buf` into `args`.
///
/// `buf[0]` is `*`. On `Complete` with no arguments (`*0`, `*-1`) there is nothing to answer.
/// `limit` bounds the whole request in bytes.
///
/// On `Incomplete` `resume` remembers the scanned part; the arguments are collected anew from the
/// start once everything is there, so a request is scanned at most twice however it arrives.
#[inline]
pub fn request(
    buf: &[u8],
    args: &mut Vec<Arg>,
    resume: &mut Resume,
    limit: usize,
) -> Step<RequestError> {
    parse::<false>(buf, args, resume, limit)
}

/// `request` from a client that has to log in first: redis-server takes no more of it than a login may need.
pub fn request_of_guest(
    buf: &[u8],
    args: &mut Vec<Arg>,
    resume: &mut Resume,
    limit: usize,
) -> Step<RequestError> {
    parse::<true>(buf, args, resume, limit)
}

#[inline]
fn parse<const GUEST: bool>(
    buf: &[u8],
    args: &mut Vec<Arg>,
    resume: &mut Resume,
    limit: usize,
) -> Step<RequestError> {
    if resume.started {
        match scan::<GUEST>(buf, resume, None, limit) {
            Step::Complete(_) => {}
            other => return other,
        }
    }
    *resume = Resume::default();
    args.clear();
    let step = scan::<GUEST>(buf, resume, Some(args), limit);
    if let Step::Complete(_) = step {
        *resume = Resume::default();
    }
    step
}

fn scan<const GUEST: bool>(
    buf: &[u8],
    resume: &mut Resume,
    mut args: Option<&mut Vec<Arg>>,
    limit: usize,
) -> Step<RequestError> {
    if !resume.started {
        match head(buf, 1) {
            Head::Number(count, next) => {
                if count <= 0 {
                    return Step::Complete(next);
                }
                if GUEST && GUEST_ARGS_REFUSED.contains(&count) {
                    return Step::Invalid(RequestError::GuestMultibulkLength);
                }
                if count > ARGS_LIMIT || count as u64 * ARG_MIN_BYTES > limit as u64 {
                    return Step::Invalid(RequestError::MultibulkLength);
                }
                *resume = Resume {
                    at: next,
                    remaining: count as u64,
                    started: true,
                };
            }
            Head::Incomplete if buf.len() > LINE_LIMIT => {
                return Step::Invalid(RequestError::BigMultibulkLine)
            }
            Head::Incomplete => return Step::Incomplete,
            Head::Invalid => return Step::Invalid(RequestError::MultibulkLength),
        }
    }
    while resume.remaining > 0 {
        let at = resume.at;
        if at >= buf.len() {
            return Step::Incomplete;
        }
        if buf[at] != b'$' {
            return Step::Invalid(RequestError::ExpectedDollar(buf[at]));
        }
        let (len, start) = match head(buf, at + 1) {
            Head::Number(len, start) => (len, start),
            Head::Incomplete if buf.len() - at > LINE_LIMIT => {
                return Step::Invalid(RequestError::BigBulkLine)
            }
            Head::Incomplete => return Step::Incomplete,
            Head::Invalid => return Step::Invalid(RequestError::BulkLength),
        };
        if GUEST && GUEST_BYTES_REFUSED.contains(&len) {
            return Step::Invalid(RequestError::GuestBulkLength);
        }
        if len < 0 || len as u64 + start as u64 > limit as u64 {
            return Step::Invalid(RequestError::BulkLength);
        }
        let end = start + len as usize + 2;
        if end > buf.len() {
            return Step::Incomplete;
        }
        if let Some(args) = args.as_deref_mut() {
            args.push(Arg {
                start: start as u32,
                len: len as u32,
            });
        }
        resume.at = end;
        resume.remaining -= 1;
    }
    Step::Complete(resume.at)
}

/// Parses one inline request (`GET key\r\n`) and writes it into `out` as a multibulk request.
///
/// `out` stays empty for an empty line, which has no answer.
pub fn inline(buf: &[u8], resume: &mut Resume, out: &mut Vec<u8>) -> Step<RequestError> {
    out.clear();
    let Some(end) = memchr(b'\n', &buf[resume.at..]).map(|i| i + resume.at) else {
        if buf.len() > LINE_LIMIT {
            return Step::Invalid(RequestError::BigInline);
        }
        resume.at = buf.len();
        return Step::Incomplete;
    };
    if end > LINE_LIMIT {
        // Also when it came at once: what is too long must not depend on how the bytes were cut.
        return Step::Invalid(RequestError::BigInline);
    }
    *resume = Resume::default();
    let line = buf[..end].strip_suffix(b"\r").unwrap_or(&buf[..end]);
    let Some(words) = split_words(line) else {
        return Step::Invalid(RequestError::UnbalancedQuotes);
    };
    if !words.is_empty() {
        out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in &words {
            write_bulk(out, word);
        }
    }
    Step::Complete(end + 1)
}

/// Splits a line as Redis' `sdssplitargs` does: quotes, and escapes inside double quotes.
/// None when a quote is not closed or is followed by something other than a space.
fn split_words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        while let [b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, tail @ ..] = rest {
            rest = tail;
        }
        if rest.is_empty() {
            return Some(words);
        }
        let mut word = Vec::new();
        loop {
            match rest {
                [] | [b' ' | b'\t' | b'\n' | b'\r' | 0, ..] => break,
                [quote @ (b'"' | b'\''), tail @ ..] => {
                    rest = quoted(tail, *quote, &mut word)?;
                    match rest {
                        [] | [b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, ..] => break,
                        _ => return None,
                    }
                }
                [byte, tail @ ..] => {
                    word.push(*byte);
                    rest = tail;
                }
            }
        }
        words.push(word);
        if let [0, tail @ ..] = rest {
            rest = tail;
        }
    }
}

/// Reads up to the closing quote; returns what follows it.
fn quoted<'a>(mut rest: &'a [u8], quote: u8, word: &mut Vec<u8>) -> Option<&'a [u8]> {
    let hex = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    loop {
        match rest {
            [] => return None,
            [byte, tail @ ..] if *byte == quote => return Some(tail),
            [b'\\', b'\'', tail @ ..] if quote == b'\'' => {
                word.push(b'\'');
                rest = tail;
            }
            [b'\\', escaped, tail @ ..] if quote == b'"' => {
                if let (b'x', [high, low, tail @ ..]) = (*escaped, tail) {
                    if let (Some(high), Some(low)) = (hex(*high), hex(*low)) {
                        word.push(high << 4 | low);
                        rest = tail;
                        continue;
                    }
                }
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest = tail;
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                rest = tail;
            }
        }
    }
}

/// A reply that is not RESP: the connection is beyond repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadReply;

/// Finds the end of the reply at the start of `buf`, whatever is nested in it.
///
/// Nothing is built: one counter of values still to come is enough, since aggregates only add to
/// it. A push (`>`) counts as a reply; the caller looks at the first byte.
#[inline]
pub fn reply(buf: &[u8], resume: &mut Resume) -> Step<BadReply> {
    if !resume.started {
        *resume = Resume {
            at: 0,
            remaining: 1,
            started: true,
        };
    }
    while resume.remaining > 0 {
        let at = resume.at;
        let Some(&kind) = buf.get(at) else {
            return Step::Incomplete;
        };
        match kind {
            b'+' | b'-' | b':' | b',' | b'#' | b'_' | b'(' => match memchr(b'\n', &buf[at..]) {
                Some(i) => resume.at = at + i + 1,
                None => return Step::Incomplete,
            },
            b'$' | b'=' | b'!' => match head(buf, at + 1) {
                Head::Number(len, next) if len >= 0 => {
                    let Some(end) = (next as u64).checked_add(len as u64 + 2) else {
                        return Step::Invalid(BadReply);
                    };
                    if end > buf.len() as u64 {
                        return Step::Incomplete;
                    }
                    resume.at = end as usize;
                }
                Head::Number(_, next) => resume.at = next,
                Head::Incomplete => return Step::Incomplete,
                Head::Invalid => return Step::Invalid(BadReply),
            },
            b'*' | b'~' | b'>' | b'%' | b'|' => match head(buf, at + 1) {
                Head::Number(count, next) => {
                    let values = match kind {
                        b'%' => count.max(0) as u64 * 2,
                        // An attribute stands before the value it belongs to.
                        b'|' => count.max(0) as u64 * 2 + 1,
                        _ => count.max(0) as u64,
                    };
                    let Some(remaining) = resume.remaining.checked_add(values) else {
                        return Step::Invalid(BadReply);
                    };
                    resume.remaining = remaining;
                    resume.at = next;
                }
                Head::Incomplete => return Step::Incomplete,
                Head::Invalid => return Step::Invalid(BadReply),
            },
            _ => return Step::Invalid(BadReply),
        }
        resume.remaining -= 1;
    }
    let end = resume.at;
    *resume = Resume::default();
    Step::Complete(end)
}

/// Length of the whole value at the start of `buf`, which is known to be complete.
pub fn value_len(buf: &[u8]) -> usize {
    match reply(buf, &mut Resume::default()) {
        Step::Complete(len) => len,
        _ => buf.len(),
    }
}

/// Number of elements of the aggregate at the start of `reply` and where the first begins.
pub fn aggregate(reply: &[u8]) -> Option<(usize, usize)> {
    if !matches!(reply.first(), Some(b'*' | b'~' | b'>')) {
        return None;
    }
    match head(reply, 1) {
        Head::Number(count, next) if count >= 0 => Some((count as usize, next)),
        _ => None,
    }
}

/// Number of pairs of the map at the start of `reply` and where the first begins.
pub fn map(reply: &[u8]) -> Option<(usize, usize)> {
    match head(reply.strip_prefix(b"%").map(|_| reply)?, 1) {
        Head::Number(count, next) if count >= 0 => Some((count as usize, next)),
        _ => None,
    }
}

/// The number in an integer reply: any 64-bit one, unlike the lengths that `head` reads.
pub fn integer(reply: &[u8]) -> Option<i64> {
    let digits = reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The bytes of a bulk or simple string; None for anything else, null included.
pub fn string(reply: &[u8]) -> Option<&[u8]> {
    match reply.first()? {
        b'$' | b'=' => match head(reply, 1) {
            Head::Number(len, next) if len >= 0 => reply.get(next..next + len as usize),
            _ => None,
        },
        b'+' => reply.get(1..reply.len() - 2),
        _ => None,
    }
}

#[inline]
pub fn is_error(reply: &[u8]) -> bool {
    matches!(reply.first(), Some(b'-' | b'!'))
}

/// Appends `$len\r\nbytes\r\n`.
#[inline]
pub fn write_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'$');
    write_number(out, bytes.len() as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends a request made of words.
pub fn write_request(out: &mut Vec<u8>, words: &[&[u8]]) {
    write_array(out, words.len());
    for word in words {
        write_bulk(out, word);
    }
}

/// Appends `*count\r\n`.
#[inline]
pub fn write_array(out: &mut Vec<u8>, count: usize) {
    out.push(b'*');
    write_number(out, count as u64);
    out.extend_from_slice(b"\r\n");
}

#[inline]
pub fn write_number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut i = digits.len();
    loop {
        i -= 1;
        digits[i] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[i..]);
}
