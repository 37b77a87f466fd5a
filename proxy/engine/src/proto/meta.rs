//! The meta dialect of memcached: what stands in a request, and the reply as its client wants it.
//!
//! Rules and texts are those of memcached 1.6.18 and 1.6.45 (`proto_text.c`, `proto_parser.c`,
//! `doc/protocol.txt`). Where they differ, or a later one may, a request is *odd*: it goes to a server as it is,
//! whose answer is the right one by definition. Only what the two would read differently far enough to take a
//! data block for commands, on a connection that other clients share, is refused here.
//!
//! | | refused here | with its data block |
//! |---|---|---|
//! | no length, or none that is a plain number | bad command line format | no |
//! | NUL in the line, key of an `ms` too long | bad command line format | yes |
//! | `ms` with more than 19 words | options flags are too long | yes |
//! | `ms` with a flag that is no letter | invalid flag | yes |
//! | opaque of more than 31 bytes | opaque token too long | yes |

use super::binary::{self, Ask};
use super::memcache::{unsigned, Fault, Request, Verb, KEY_LIMIT};
use super::{Arg, Args};

/// Words of a request that 1.6.18 takes; of an `ms` with more it does not read the data block.
const WORDS_LIMIT: usize = 19;
/// Longest opaque, its `O` included.
const OPAQUE_LIMIT: usize = 32;
/// A server closes the connection if it has so much of a line and not its end.
const SENT_LINE_LIMIT: usize = 2000;
/// Longest data block that a length may announce.
const DATA_LIMIT: u64 = i32::MAX as u64 - 2;

/// The flags of a request: a set of letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u64);

impl Flags {
    /// Something in the line is unknown or malformed, or taken by some servers only.
    const ODD: u64 = 1;
    /// All servers refuse the line.
    const REFUSED: u64 = 1 << 63;

    const fn bit(letter: u8) -> u64 {
        // Letters are 65 to 122, so no two have a bit in common and none has the lowest.
        1 << (letter & 63)
    }

    pub const fn of(letters: &[u8]) -> Flags {
        let (mut bits, mut i) = (0, 0);
        while i < letters.len() {
            bits |= Flags::bit(letters[i]);
            i += 1;
        }
        Flags(bits)
    }

    #[inline]
    pub fn has(self, letter: u8) -> bool {
        self.0 & Flags::bit(letter) != 0
    }

    #[inline]
    pub fn has_any(self, letters: &[u8]) -> bool {
        self.0 & Flags::of(letters).0 != 0
    }

    /// True if nobody here can say what it does.
    #[inline]
    pub fn is_odd(self) -> bool {
        self.0 & Flags::ODD != 0
    }

    /// True if it does nothing, as every server finds the line wrong.
    #[inline]
    pub fn is_refused(self) -> bool {
        self.0 & Flags::REFUSED != 0
    }
}

/// What all meta commands understand, whether or not it means something to them.
const KNOWN: Flags = Flags::of(b"bcCDEfFhIJklLMNOPqRstTuvx");

/// Checks a meta request whose words are in `args`; says in `request` what it has and what is wrong with it.
/// Returns the size of the whole request if a data block belongs to it.
pub(super) fn check(
    request: &mut Request,
    buf: &[u8],
    args: &mut [Arg],
    limit: usize,
) -> Option<usize> {
    let args = Args { buf, list: args };
    if args.len() == 1 && request.verb != Verb::Mn {
        // Without a key it changes nothing, and servers say so in different words: asked like a `me`.
        request.verb = Verb::Me;
    }
    let is_set = request.verb == Verb::Ms;
    let first = 2 + usize::from(is_set);
    let mut block = None;
    if is_set {
        match length(args.get(2)) {
            Some(length) => block = Some(request.line_end as u64 + length + 2),
            None => {
                request.fault = Some(Fault::BadLine);
                return None;
            }
        }
    }
    let line = &buf[..request.line_end];
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    // As servers get it, whatever end the client gave it.
    let sent = text.strip_suffix(b"\r").unwrap_or(text).len() + 2;
    let is_long = args.get(1).len() > KEY_LIMIT;
    if is_long && !is_set && sent < SENT_LINE_LIMIT {
        request.flags.0 |= Flags::REFUSED;
    } else if is_long || memchr::memchr(0, line).is_some() {
        request.fault = Some(Fault::BadLine);
    } else if request.verb == Verb::Me {
        let is_binary = args.get(2) == b"b";
        request.flags = Flags(if is_binary { Flags::bit(b'b') } else { 0 });
    } else if request.verb != Verb::Mn {
        for i in first..args.len() {
            flag(request, args.get(i));
        }
        if is_set && request.fault.is_none() && args.len() > WORDS_LIMIT {
            request.fault = Some(Fault::TooManyFlags);
        }
        if !is_set && args.len() > WORDS_LIMIT + 1 {
            request.flags.0 |= Flags::REFUSED;
        }
        let is_bad = request.flags.is_odd() || request.flags.is_refused();
        if is_bad && request.fault.is_none() && sent > SENT_LINE_LIMIT {
            request.fault = Some(Fault::BadLine);
        }
    }
    let size = block?;
    if size > limit as u64 {
        let skip = size - request.line_end as u64;
        request.fault = Some(Fault::TooLarge { skip });
        return None;
    }
    Some(size as usize)
}

/// The length of a data block, if all servers read it so.
fn length(word: &[u8]) -> Option<u64> {
    unsigned(word).filter(|length| word.len() <= 10 && *length <= DATA_LIMIT)
}

/// What servers make of a flag.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Grade {
    Plain,
    Odd,
    Refused,
}

/// Takes one flag into the request.
fn flag(request: &mut Request, word: &[u8]) {
    let Some((&letter, token)) = word.split_first() else {
        return;
    };
    if !letter.is_ascii_alphabetic() {
        if request.verb == Verb::Ms && request.fault.is_none() {
            request.fault = Some(Fault::InvalidFlag);
        }
        request.flags.0 |= Flags::REFUSED;
        return;
    }
    let modes: &[u8] = if request.verb == Verb::Ms {
        b"EAPRS"
    } else {
        b"ID+-"
    };
    let grade = match letter {
        b'N' | b'T' | b'R' => number_grade(token, is_time(token)),
        b'F' => {
            let is_plain = unsigned(token).is_some_and(|flags| flags <= u64::from(u32::MAX));
            number_grade(token, is_plain)
        }
        b'C' | b'E' | b'J' | b'D' => number_grade(token, unsigned(token).is_some()),
        b'M' if token.len() == 1 && modes.contains(&token[0]) => Grade::Plain,
        // Some take a longer word by its first letter.
        b'M' if token.first().is_some_and(|mode| modes.contains(mode)) => Grade::Odd,
        b'M' if matches!(request.verb, Verb::Ms | Verb::Ma) => Grade::Refused,
        b'M' => Grade::Odd,
        b'O' if word.len() > OPAQUE_LIMIT => {
            request.fault = request.fault.or(Some(Fault::OpaqueTooLong));
            Grade::Plain
        }
        _ if KNOWN.has(letter) => Grade::Plain,
        _ => Grade::Odd,
    };
    request.flags.0 |= match grade {
        _ if request.flags.has(letter) => Flags::REFUSED,
        Grade::Plain => 0,
        Grade::Odd => Flags::ODD,
        Grade::Refused => Flags::REFUSED,
    };
    request.flags.0 |= Flags::bit(letter);
}

/// Of a number that is not plain: some take signs and blanks around it, or what is out of range.
fn number_grade(token: &[u8], is_plain: bool) -> Grade {
    let is_loose = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'\t'..=b'\r');
    match token {
        _ if is_plain => Grade::Plain,
        b"" => Grade::Refused,
        _ if token.iter().all(is_loose) => Grade::Odd,
        _ => Grade::Refused,
    }
}

/// A time: 32 bits with or without a minus, in no more digits than that takes.
fn is_time(token: &[u8]) -> bool {
    let digits = token.strip_prefix(b"-").unwrap_or(token);
    digits.len() <= 10 && unsigned(digits).is_some_and(|time| time <= i32::MAX as u64)
}

impl Request {
    /// True if it may change what replicas have to have in common.
    #[inline]
    pub fn is_write(&self) -> bool {
        match self.verb {
            _ if self.flags.is_refused() => false,
            // C: it is compared with the leader's token, and so is the leader's to answer. L: `write_won`.
            Verb::Mg => self.flags.is_odd() || self.flags.has_any(b"NRTCL"),
            _ => self.verb.row().write,
        }
    }
}

/// The token of a flag, if the request has it. `args` are its words.
pub fn token<'a>(args: &Args<'a>, letter: u8) -> Option<&'a [u8]> {
    (2..args.len()).find_map(|i| args.get(i).strip_prefix(&[letter]))
}

/// Room for a key that was decoded.
pub type KeySpace = [u8; KEY_LIMIT];

/// The key itself, by which a request is routed: decoded if it is given in base64. What cannot be decoded is
/// routed as it stands, for the server to say so.
#[inline]
pub fn key<'a>(args: &Args<'a>, flags: Flags, space: &'a mut KeySpace) -> &'a [u8] {
    let word = args.get(1);
    if !flags.has(b'b') {
        return word;
    }
    match decode(word, space) {
        0 => word,
        len => &space[..len],
    }
}

/// Decodes base64 as memcached does: other characters are skipped, padding ends it. Returns the length, 0 if
/// it is malformed.
pub fn decode(word: &[u8], out: &mut KeySpace) -> usize {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        b'=' => Some(0),
        _ => None,
    };
    let count = word.iter().filter(|byte| digit(**byte).is_some()).count();
    if count == 0 || count % 4 != 0 || count / 4 * 3 > out.len() {
        return 0;
    }
    let (mut at, mut filled, mut bits, mut pad) = (0, 0, 0u32, 0);
    for &byte in word {
        let Some(value) = digit(byte) else { continue };
        pad += usize::from(byte == b'=');
        bits = bits << 6 | u32::from(value);
        filled += 1;
        if filled == 4 {
            out[at..at + 3].copy_from_slice(&bits.to_be_bytes()[1..]);
            at += 3;
            (filled, bits) = (0, 0);
            if pad > 0 {
                return if pad <= 2 { at - pad } else { 0 };
            }
        }
    }
    at
}

/// Appends a key in base64.
pub fn encode(key: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for three in key.chunks(3) {
        let mut bytes = [0; 4];
        bytes[1..=three.len()].copy_from_slice(three);
        let bits = u32::from_be_bytes(bytes);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= three.len() { digit } else { b'=' });
        }
    }
}

/// True if a key can stand in a line as it is.
pub fn is_text(key: &[u8]) -> bool {
    key.len() <= KEY_LIMIT && key.iter().all(|byte| *byte > b' ' && *byte != 0x7f)
}

/// True if a server must not show this key: one that it has not stored as base64 it shows as it is, and a
/// line end in it would make two replies of one.
pub fn hides_key(args: &Args<'_>, flags: Flags) -> bool {
    let mut space = [0; KEY_LIMIT];
    flags.has(b'b') && !is_text(key(args, flags, &mut space))
}

/// True if the key has a line end in it.
pub fn has_line_end(args: &Args<'_>, flags: Flags) -> bool {
    let mut space = [0; KEY_LIMIT];
    memchr::memchr(b'\n', key(args, flags, &mut space)).is_some()
}

/// True if a server may get the line as the client wrote it.
pub fn is_canonical(verb: Verb, flags: Flags, frame: &[u8], hides_key: bool) -> bool {
    let is_changed = flags.has_any(b"qPL")
        || hides_key && flags.has(b'k')
        || verb == Verb::Me && flags.has(b'b');
    // Some take a line that begins with a blank.
    !is_changed && frame.first() == Some(&b'm')
}

/// Appends the line as servers get it: no `q`, since the outcome has to be known; none of the flags that are
/// for proxies; no `k` where the key is not to be shown. What is there twice stays, for servers to refuse it.
pub fn write_canonical(
    out: &mut Vec<u8>,
    verb: Verb,
    args: &Args<'_>,
    flags: Flags,
    hides_key: bool,
) {
    out.extend_from_slice(verb.row().name.as_bytes());
    let first = 2 + usize::from(verb == Verb::Ms);
    for i in 1..args.len() {
        let word = args.get(i);
        let is_ours = match word.first() {
            Some(b'q' | b'P' | b'L') => true,
            Some(b'k') => hides_key,
            _ => false,
        };
        if i >= first && is_ours && verb != Verb::Me {
            let flags = (first..args.len()).map(|i| args.get(i).first());
            let count = flags.filter(|flag| *flag == word.first()).count();
            if count == 1 {
                continue;
            }
        }
        out.push(b' ');
        out.extend_from_slice(word);
    }
    if verb == Verb::Me && flags.has(b'b') {
        // 1.6.41 and later decode the key only if another word follows.
        out.extend_from_slice(b" b");
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the request by which other servers learn that somebody has won an item, as they do by being asked
/// too: a write, told by a flag that no client's request has here. `request` is the `mg` that has won.
pub fn write_won(request: &[u8], out: &mut Vec<u8>) {
    let line = memchr::memchr(b'\n', request).map_or(request, |end| &request[..end]);
    let mut words = line.trim_ascii_end().split(|byte| *byte == b' ').skip(1);
    out.extend_from_slice(b"mg ");
    out.extend_from_slice(words.next().unwrap_or(b""));
    out.extend_from_slice(b" L");
    if words.any(|word| word.first() == Some(&b'b')) {
        out.extend_from_slice(b" b");
    }
    out.extend_from_slice(b"\r\n");
}

/// How the reply to a request is written for its client.
#[derive(Clone, Debug, Default)]
pub enum Form {
    /// As the server gave it.
    #[default]
    Same,
    /// Nothing, if it is one that `q` hides.
    Quiet(Verb),
    /// With the key in base64, which the server was not asked to show.
    Keyed(Box<Keyed>),
    /// As a packet of the binary protocol.
    Packet(Ask),
    /// The same with the key of the request, for an answer that has it.
    KeyedPacket(Box<(Ask, Vec<u8>)>),
}

#[derive(Clone, Debug)]
pub struct Keyed {
    pub verb: Verb,
    pub quiet: bool,
    /// Flags that stand before `k`.
    pub before: Flags,
    /// In base64.
    pub key: Vec<u8>,
}

impl Form {
    /// What a meta request in text wants.
    pub fn of_text(verb: Verb, args: &Args<'_>, flags: Flags, hides_key: bool) -> Form {
        let quiet = flags.has(b'q');
        if !hides_key || !flags.has(b'k') {
            return if quiet { Form::Quiet(verb) } else { Form::Same };
        }
        let first = 2 + usize::from(verb == Verb::Ms);
        let letters = (first..args.len()).filter_map(|i| args.get(i).first());
        let before = letters.take_while(|letter| **letter != b'k');
        let before = before.fold(0, |bits, letter| bits | Flags::bit(*letter));
        let (before, key) = (Flags(before), args.get(1).to_vec());
        Form::Keyed(Box::new(Keyed {
            verb,
            quiet,
            before,
            key,
        }))
    }

    /// Appends the bytes for the client.
    #[inline]
    pub fn write(&self, reply: &[u8], out: &mut Vec<u8>) {
        match self {
            Form::Same => out.extend_from_slice(reply),
            Form::Quiet(verb) if is_hidden(*verb, reply) => {}
            Form::Quiet(_) => out.extend_from_slice(reply),
            Form::Keyed(keyed) if keyed.quiet && is_hidden(keyed.verb, reply) => {}
            Form::Keyed(keyed) if is_status(reply) => keyed.write(reply, out),
            Form::Keyed(_) => out.extend_from_slice(reply),
            Form::Packet(ask) => binary::write_answer(*ask, b"", reply, out),
            Form::KeyedPacket(asked) => binary::write_answer(asked.0, &asked.1, reply, out),
        }
    }
}

impl Keyed {
    /// Puts the key where `k` stood: behind what the flags before it have given.
    fn write(&self, reply: &[u8], out: &mut Vec<u8>) {
        let line = memchr::memchr(b'\n', reply).unwrap_or(0);
        let line = reply[..line].strip_suffix(b"\r").unwrap_or(b"");
        let skip = 1 + usize::from(line.starts_with(b"VA"));
        let mut at = 0;
        for (i, word) in line.split(|byte| *byte == b' ').enumerate() {
            let is_before = i < skip || word.first().is_some_and(|b| self.before.has(*b));
            if !is_before {
                break;
            }
            at += usize::from(i > 0) + word.len();
        }
        out.extend_from_slice(&reply[..at]);
        out.extend_from_slice(b" k");
        out.extend_from_slice(&self.key);
        out.extend_from_slice(b" b");
        out.extend_from_slice(&reply[at..]);
    }
}

/// True for a reply of meta commands that is no error.
pub(super) fn is_status(reply: &[u8]) -> bool {
    matches!(
        reply.first_chunk(),
        Some(b"VA" | b"HD" | b"EN" | b"NF" | b"NS" | b"EX")
    ) && matches!(reply.get(2), Some(b' ' | b'\r'))
}

/// True if `q` hides this reply.
#[inline]
fn is_hidden(verb: Verb, reply: &[u8]) -> bool {
    let is = |status: &[u8; 2]| reply.starts_with(status) && is_status(reply);
    match verb {
        Verb::Mg => is(b"EN"),
        Verb::Ma => is(b"HD") || is(b"VA"),
        _ => is(b"HD"),
    }
}

/// True if an item was there, or was changed as wanted.
pub fn is_done(reply: &[u8]) -> bool {
    reply.starts_with(b"HD") || reply.starts_with(b"VA ")
}

/// True if one of the flags of a reply is just this letter: `W`, `X`, `Z`.
pub fn shows(reply: &[u8], letter: u8) -> bool {
    let line = memchr::memchr(b'\n', reply).map_or(reply, |end| &reply[..end]);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = line.split(|byte| *byte == b' ').skip(1);
    words.any(|word| word == [letter])
}

/// What a server did, by its reply: the status, or all of an error, and the value if it has one.
pub fn outcome(reply: &[u8]) -> (&[u8], &[u8]) {
    if !is_status(reply) {
        return (reply, b"");
    }
    let head = memchr::memchr(b'\n', reply).map_or(reply.len(), |newline| newline + 1);
    (&reply[..2], reply[head..].trim_ascii_end())
}

/// The reply to the same request without `v`.
pub fn without_value(reply: &[u8]) -> Vec<u8> {
    let head = memchr::memchr(b'\n', reply).map_or(reply.len(), |newline| newline + 1);
    match reply[..head].strip_prefix(b"VA ") {
        Some(rest) => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
            [b"HD", &rest[digits.count()..]].concat()
        }
        None => reply.to_vec(),
    }
}

/// The number behind one of the flags of a reply: 7 of `c7`.
pub fn number(reply: &[u8], letter: u8) -> Option<u64> {
    let line = memchr::memchr(b'\n', reply).map_or(reply, |end| &reply[..end]);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = line.split(|byte| *byte == b' ').skip(1);
    words.find_map(|word| word.strip_prefix(&[letter]).and_then(unsigned))
}

#[cfg(test)]
#[path = "meta_tests.rs"]
mod tests;
