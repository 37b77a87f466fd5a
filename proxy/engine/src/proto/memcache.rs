//! The text protocol of memcached: requests of clients, replies of backends. What is peculiar to meta commands is
//! in `meta.rs`; the verbs are in `verb.rs`, CAS tokens in `token.rs`.
//!
//! Rules and texts are those of memcached 1.6 (`proto_text.c`, `doc/protocol.txt`). A request that
//! a server would refuse *before* reading its data block must be refused here, or the block would
//! be taken for commands on a connection that other clients share.

use memchr::memchr;

use super::meta::{self, Flags};
pub use super::verb::{Verb, VerbRow, VERBS};
use super::{Arg, Resume, Step};

/// Longest key, as memcached's KEY_MAX_LENGTH.
pub const KEY_LIMIT: usize = 250;
/// A longer line closes the connection unless it is a get of many keys. memcached allows 2 KiB while the
/// line's end has not come and any length once it has; this is one bound for both, so that the answer
/// does not depend on how the bytes were cut, and long enough for "key too long" to be said instead.
const LINE_LIMIT: usize = 64 * 1024;
/// The longest get of many keys: half a million of the shortest, whose positions are all kept.
const MANY_LINE_LIMIT: usize = 1024 * 1024;
/// Words that memcached takes a line apart into (MAX_TOKENS, less the one behind the last).
const WORDS_LIMIT: usize = 23;

/// What is wrong with a request that is whole all the same; the connection stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Unknown verb or wrong number of words.
    Unknown,
    /// Key too long, numbers that are none, a length out of range.
    BadLine,
    BadDelete,
    BadExptime,
    BadDelta,
    BadChunk,
    Shutdown,
    TooManyFlags,
    InvalidFlag,
    OpaqueTooLong,
    /// The data block is larger than the limit; it is still to be skipped.
    TooLarge {
        skip: u64,
    },
    /// A browser or a request smuggled in: close without a word, as memcached does.
    Http,
}

impl Fault {
    pub fn text(self) -> &'static [u8] {
        match self {
            Fault::Unknown => b"ERROR\r\n",
            Fault::BadLine => b"CLIENT_ERROR bad command line format\r\n",
            Fault::BadDelete => {
                b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n"
            }
            Fault::BadExptime => b"CLIENT_ERROR invalid exptime argument\r\n",
            Fault::BadDelta => b"CLIENT_ERROR invalid numeric delta argument\r\n",
            Fault::Shutdown => b"ERROR: shutdown not enabled\r\n",
            Fault::BadChunk => b"CLIENT_ERROR bad data chunk\r\n",
            Fault::TooManyFlags => b"CLIENT_ERROR options flags are too long\r\n",
            Fault::InvalidFlag => b"CLIENT_ERROR invalid flag\r\n",
            Fault::OpaqueTooLong => b"CLIENT_ERROR opaque token too long\r\n",
            Fault::TooLarge { .. } => b"SERVER_ERROR object too large for cache\r\n",
            Fault::Http => b"",
        }
    }
}

/// One request: the verb, and what the words (in `args`) do not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub verb: Verb,
    pub noreply: bool,
    /// Of a meta command.
    pub flags: Flags,
    pub fault: Option<Fault>,
    /// Where the line ends, its line end included; the data block follows.
    pub line_end: usize,
}

/// A line that never ends: the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndlessLine;

/// Parses one request at the start of `buf`; its words are put into `args` (`noreply` is not one).
///
/// `limit` bounds the request in bytes.
#[inline]
pub fn request(
    buf: &[u8],
    args: &mut Vec<Arg>,
    resume: &mut Resume,
    limit: usize,
) -> (Step<EndlessLine>, Option<Request>) {
    // `resume.remaining` holds the full size of a storage request once its line was read.
    if resume.started && (buf.len() as u64) < resume.remaining {
        return (Step::Incomplete, None);
    }
    let from = if resume.started { 0 } else { resume.at };
    let Some(newline) = memchr(b'\n', &buf[from..]).map(|i| i + from) else {
        resume.at = buf.len();
        if is_endless(buf, buf.len(), limit) {
            return (Step::Invalid(EndlessLine), None);
        }
        return (Step::Incomplete, None);
    };
    if is_endless(buf, newline, limit) {
        return (Step::Invalid(EndlessLine), None);
    }
    let line_end = newline + 1;
    let line = buf[..newline]
        .strip_suffix(b"\r")
        .unwrap_or(&buf[..newline]);
    words(line, args);
    let mut request = Request {
        verb: Verb::Unknown,
        noreply: false,
        flags: Flags::default(),
        fault: None,
        line_end,
    };
    let whole = check(&mut request, buf, args, limit);
    match whole {
        Some(size) if size > buf.len() => {
            *resume = Resume {
                at: 0,
                remaining: size as u64,
                started: true,
            };
            (Step::Incomplete, None)
        }
        Some(size) => {
            *resume = Resume::default();
            if buf[size - 2..size] != *b"\r\n" && request.fault.is_none() {
                request.fault = Some(Fault::BadChunk);
            }
            (Step::Complete(size), Some(request))
        }
        None => {
            *resume = Resume::default();
            (Step::Complete(line_end), Some(request))
        }
    }
}

/// True if a line of `len` bytes, at the start of `buf`, is too long.
#[inline]
fn is_endless(buf: &[u8], len: usize, limit: usize) -> bool {
    len > LINE_LIMIT && (len > limit.min(MANY_LINE_LIMIT) || !is_many_get(buf))
}

fn is_many_get(buf: &[u8]) -> bool {
    [&b"get "[..], b"gets ", b"gat ", b"gats "]
        .iter()
        .any(|verb| buf.starts_with(verb))
}

/// Splits at spaces. memcached takes no other white space.
#[inline]
fn words(line: &[u8], args: &mut Vec<Arg>) {
    args.clear();
    let mut start = 0;
    for (i, &byte) in line.iter().enumerate() {
        if byte == b' ' {
            if i > start {
                args.push(Arg {
                    start: start as u32,
                    len: (i - start) as u32,
                });
            }
            start = i + 1;
        }
    }
    if line.len() > start {
        args.push(Arg {
            start: start as u32,
            len: (line.len() - start) as u32,
        });
    }
}

/// True if memcached, which tells commands apart by their first letters, asks whether a line with this unknown
/// command is a browser's.
fn may_be_http(command: &[u8]) -> bool {
    match command {
        [] | [_] | [b'm', _] => false,
        [first, ..] => !b"gsacidt".contains(first),
    }
}

/// Fills in the verb, `noreply` and what is wrong. Returns the size of the whole request when a
/// data block belongs to it.
#[inline]
fn check(request: &mut Request, buf: &[u8], args: &mut Vec<Arg>, limit: usize) -> Option<usize> {
    let word = |args: &Vec<Arg>, i: usize| {
        let arg: Arg = args[i];
        &buf[arg.start as usize..(arg.start + arg.len) as usize]
    };
    if args.is_empty() {
        request.fault = Some(Fault::Unknown);
        return None;
    }
    let verb = Verb::of(word(args, 0));
    let row = verb.row();
    request.verb = verb;
    let count = args.len();
    if verb == Verb::Unknown {
        // Of a longer line memcached looks at the last word that it has taken apart.
        let last = word(args, count.min(WORDS_LIMIT) - 1);
        let http = last.starts_with(b"HTTP/") && may_be_http(word(args, 0));
        request.fault = Some(if http { Fault::Http } else { Fault::Unknown });
        return None;
    }
    if verb.is_meta() {
        return meta::check(request, buf, args, limit);
    }
    if count < row.words.0 || count > row.words.1 {
        request.fault = Some(Fault::Unknown);
        return None;
    }
    // Of a delete its key is not taken for it.
    let least = if verb == Verb::Delete { 2 } else { 1 };
    if row.quiet && count > least && word(args, count - 1) == b"noreply" {
        request.noreply = true;
        args.pop();
    }
    let count = args.len();
    let fault = |request: &mut Request, fault: Fault| request.fault = Some(fault);
    match verb {
        Verb::Get | Verb::Gets | Verb::Gat | Verb::Gats => {
            let first = if matches!(verb, Verb::Gat | Verb::Gats) {
                2
            } else {
                1
            };
            if first == 2 && !is_signed(word(args, 1)) {
                fault(request, Fault::BadExptime);
            } else if args[first..].iter().any(|key| key.len as usize > KEY_LIMIT) {
                fault(request, Fault::BadLine);
            }
            None
        }
        Verb::Set | Verb::Add | Verb::Replace | Verb::Append | Verb::Prepend | Verb::Cas => {
            let need = if verb == Verb::Cas { 6 } else { 5 };
            let length = if count == need {
                unsigned(word(args, 4))
            } else {
                None
            };
            let numbers = count == need
                && unsigned(word(args, 2)).is_some_and(|flags| flags <= u64::from(u32::MAX))
                && is_signed(word(args, 3))
                && (verb != Verb::Cas || unsigned(word(args, 5)).is_some());
            match length {
                Some(length)
                    if numbers
                        && args[1].len as usize <= KEY_LIMIT
                        && length <= i32::MAX as u64 - 2 =>
                {
                    let size = request.line_end as u64 + length + 2;
                    if size > limit as u64 {
                        fault(request, Fault::TooLarge { skip: length + 2 });
                        return None;
                    }
                    Some(size as usize)
                }
                _ => {
                    fault(request, Fault::BadLine);
                    None
                }
            }
        }
        Verb::Delete => {
            let zero = count == 3 && word(args, 2) == b"0";
            if count > 2 && !zero {
                fault(request, Fault::BadDelete);
            } else if args[1].len as usize > KEY_LIMIT {
                fault(request, Fault::BadLine);
            }
            None
        }
        Verb::Incr | Verb::Decr | Verb::Touch => {
            if count < 3 {
                fault(request, Fault::Unknown);
            } else if args[1].len as usize > KEY_LIMIT {
                fault(request, Fault::BadLine);
            } else if verb == Verb::Touch && !is_signed(word(args, 2)) {
                fault(request, Fault::BadExptime);
            } else if verb != Verb::Touch && unsigned(word(args, 2)).is_none() {
                fault(request, Fault::BadDelta);
            }
            None
        }
        Verb::FlushAll => {
            if count > 1 && !is_signed(word(args, 1)) {
                fault(request, Fault::BadExptime);
            }
            None
        }
        Verb::Verbosity => {
            if count < 2 || unsigned(word(args, 1)).is_none() {
                fault(request, Fault::BadLine);
            }
            None
        }
        Verb::Shutdown => {
            fault(request, Fault::Shutdown);
            None
        }
        Verb::CacheMemlimit | Verb::Lru | Verb::Slabs | Verb::Extstore | Verb::Watch => {
            fault(request, Fault::Unknown);
            None
        }
        _ => None,
    }
}

/// A decimal number that fits 64 bits, as memcached's `safe_strtoull` takes it (no sign).
#[inline]
pub fn unsigned(word: &[u8]) -> Option<u64> {
    if word.is_empty() || word.len() > 20 {
        return None;
    }
    let mut value: u64 = 0;
    for &byte in word {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

/// An expiry: a decimal number with or without a minus that fits 32 bits.
#[inline]
fn is_signed(word: &[u8]) -> bool {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    unsigned(digits).is_some_and(|value| value <= i32::MAX as u64)
}

/// What kind of reply a request gets, since the reply alone does not tell where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyKind {
    /// One line.
    Line,
    /// `VALUE` blocks up to `END`, or one line of error.
    Values,
    /// The same, with CAS tokens that are tagged on their way (`tag_tokens`).
    Tokens,
    /// `STAT` lines up to `END`, or one line.
    Stats,
    /// `VA` with its data block, or one line: what meta commands answer.
    Item,
    /// The same, with the CAS token tagged.
    ItemTokens,
    /// Redis only, where replies tell their own end: so many of them, of which the last one counts.
    Batch { replies: u32 },
}

/// A reply that is not memcached's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadReply;

/// Longest line a backend may send without an end.
const REPLY_LINE_LIMIT: usize = 64 * 1024;

/// Finds the end of the reply at the start of `buf`.
#[inline]
pub fn reply(buf: &[u8], kind: ReplyKind, resume: &mut Resume) -> Step<BadReply> {
    loop {
        let at = resume.at;
        let Some(newline) = buf.get(at..).and_then(|rest| memchr(b'\n', rest)) else {
            let endless = buf.len().saturating_sub(at) > REPLY_LINE_LIMIT;
            return if endless {
                Step::Invalid(BadReply)
            } else {
                Step::Incomplete
            };
        };
        let next = at + newline + 1;
        let Some(line) = buf[at..at + newline].strip_suffix(b"\r") else {
            return Step::Invalid(BadReply);
        };
        match kind {
            ReplyKind::Values | ReplyKind::Tokens if line.starts_with(b"VALUE ") => {
                let Some(length) = value_length(line) else {
                    return Step::Invalid(BadReply);
                };
                let end = next + length + 2;
                match buf.get(end - 2..end) {
                    // The head line is scanned again when more came; it is short.
                    None => return Step::Incomplete,
                    Some(b"\r\n") => resume.at = end,
                    Some(_) => return Step::Invalid(BadReply),
                }
            }
            ReplyKind::Stats if line.starts_with(b"STAT ") => resume.at = next,
            ReplyKind::Item | ReplyKind::ItemTokens if line.starts_with(b"VA ") => {
                let Some(length) = length_at(&line[3..]) else {
                    return Step::Invalid(BadReply);
                };
                let end = next + length + 2;
                return match buf.get(end - 2..end) {
                    None => Step::Incomplete,
                    Some(b"\r\n") => {
                        *resume = Resume::default();
                        Step::Complete(end)
                    }
                    Some(_) => Step::Invalid(BadReply),
                };
            }
            _ => {
                *resume = Resume::default();
                // The most frequent ones first.
                let is_usual = match kind {
                    ReplyKind::Line => line == b"STORED",
                    ReplyKind::Values | ReplyKind::Tokens => line == b"END",
                    _ => false,
                };
                return match is_usual || is_last(line, kind) {
                    true => Step::Complete(next),
                    false => Step::Invalid(BadReply),
                };
            }
        }
    }
}

/// True for a line, without its end, that a reply of this kind may end with. Any other is the answer to something
/// else, or no server's: whose is the next one?
#[inline(never)]
fn is_last(line: &[u8], kind: ReplyKind) -> bool {
    let is_known = match kind {
        ReplyKind::Values | ReplyKind::Tokens => line == b"END",
        ReplyKind::Stats => matches!(line, b"END" | b"RESET"),
        ReplyKind::Item | ReplyKind::ItemTokens => is_meta_status(line),
        // Copies of a request in the one dialect may be in the other.
        ReplyKind::Line => is_status(line) || is_meta_status(line),
        ReplyKind::Batch { .. } => false,
    };
    is_known || is_error(line)
}

fn is_status(line: &[u8]) -> bool {
    match line {
        b"STORED" | b"NOT_STORED" | b"EXISTS" | b"NOT_FOUND" | b"DELETED" | b"TOUCHED" | b"OK"
        | b"RESET" => true,
        _ => unsigned(line).is_some() || line.starts_with(b"VERSION "),
    }
}

fn is_meta_status(line: &[u8]) -> bool {
    matches!(
        line.first_chunk(),
        Some(b"HD" | b"EN" | b"NF" | b"NS" | b"EX" | b"MN" | b"ME")
    ) && matches!(line.get(2), None | Some(b' '))
}

/// The length in `VALUE key flags length [cas]`.
#[inline]
fn value_length(line: &[u8]) -> Option<usize> {
    let blank = |rest: &[u8]| rest.iter().position(|byte| *byte == b' ');
    let rest = line.get(b"VALUE ".len()..)?;
    let rest = &rest[blank(rest)? + 1..];
    length_at(&rest[blank(rest)? + 1..])
}

/// The length that `rest` begins with, up to a blank or the end.
#[inline]
fn length_at(rest: &[u8]) -> Option<usize> {
    let mut length: usize = 0;
    for (i, byte) in rest.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return (*byte == b' ' && i > 0).then_some(length);
        }
        length = length * 10 + usize::from(digit);
        if length >= i32::MAX as usize {
            return None;
        }
    }
    (!rest.is_empty()).then_some(length)
}

/// The block at the start of a `Values` reply: its key and its whole length. None at `END`.
pub fn value_block(reply: &[u8]) -> Option<(&[u8], usize)> {
    let newline = memchr(b'\n', reply)?;
    let line = reply[..newline].strip_suffix(b"\r")?;
    let rest = line.strip_prefix(b"VALUE ")?;
    let key = rest.split(|byte| *byte == b' ').next()?;
    Some((key, newline + 1 + value_length(line)? + 2))
}

/// What `mg key v f t` shows of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    pub data: &'a [u8],
    pub flags: u64,
    /// Seconds left; -1 for ever.
    pub ttl: i64,
}

/// The reply to `mg key v f t` at the start of `reply`, with its length; `Some((None, _))` is a miss. None if
/// it is another reply, or not whole.
pub fn item(reply: &[u8]) -> Option<(Option<Item<'_>>, usize)> {
    let newline = memchr(b'\n', reply)?;
    let line = reply[..newline].strip_suffix(b"\r")?;
    if line == b"EN" {
        return Some((None, newline + 1));
    }
    let mut words = line.strip_prefix(b"VA ")?.split(|byte| *byte == b' ');
    let length = unsigned(words.next()?)? as usize;
    let (mut flags, mut ttl) = (None, None);
    for word in words {
        match word.split_first()? {
            (b'f', number) => flags = Some(unsigned(number)?),
            (b't', b"-1") => ttl = Some(-1),
            (b't', number) => ttl = Some(i64::try_from(unsigned(number)?).ok()?),
            _ => {}
        }
    }
    let end = length.checked_add(newline + 1)?;
    let data = reply.get(newline + 1..end)?;
    let (flags, ttl) = (flags?, ttl?);
    (reply.get(end..end + 2)? == b"\r\n").then_some((Some(Item { data, flags, ttl }), end + 2))
}

/// True for the three error lines of the protocol.
#[inline]
pub fn is_error(reply: &[u8]) -> bool {
    reply.starts_with(b"ERROR")
        || reply.starts_with(b"SERVER_ERROR")
        || reply.starts_with(b"CLIENT_ERROR")
}
