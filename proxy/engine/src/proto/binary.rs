//! The binary protocol of memcached, as its clients speak it; backends are not spoken to in it.
//!
//! A request is told apart and checked here, as `proto_bin.c` of memcached 1.6 does it, and rewritten
//! into one of the text protocol (`translate.rs`), which goes the way of all others. What comes back
//! is written as a packet again. So there is one set of rules for routing and replication, and one
//! for answers.
//!
//! Every packet says at its start how long it is, so nothing is scanned and no `Resume` is kept.

mod translate;

#[cfg(test)]
mod tests;

pub use translate::{write_answer, write_text};

use super::login::TOKEN_LIMIT;
use super::memcache::KEY_LIMIT;

/// First byte of a request, and of a connection that speaks this protocol.
pub const MAGIC: u8 = 0x80;
const REPLY_MAGIC: u8 = 0x81;
const HEADER_BYTES: usize = 24;
/// A body above this closes the connection: memcached's ITEM_SIZE_MAX_UPPER_LIMIT.
const BODY_LIMIT: u32 = 1024 * 1024 * 1024;
/// Longest name of a SASL mechanism (RFC 4422 has 20; memcached allows this many).
const MECHANISM_LIMIT: usize = 32;

/// What a request asks for, loud or quiet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Get,
    Touch,
    GetAndTouch,
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    Delete,
    Increment,
    Decrement,
    Flush,
    Noop,
    Version,
    Stat,
    Quit,
    SaslList,
    SaslAuth,
    SaslStep,
}

/// What an opcode stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opcode {
    pub command: Command,
    /// What is usual is not answered: a miss of a get, the success of everything else.
    pub quiet: bool,
    /// The reply of a get names the key.
    pub key: bool,
}

const fn loud(command: Command) -> Option<Opcode> {
    let (quiet, key) = (false, false);
    Some(Opcode {
        command,
        quiet,
        key,
    })
}

const fn quiet(command: Command) -> Option<Opcode> {
    let (quiet, key) = (true, false);
    Some(Opcode {
        command,
        quiet,
        key,
    })
}

const fn keyed(command: Command, quiet: bool) -> Option<Opcode> {
    let key = true;
    Some(Opcode {
        command,
        quiet,
        key,
    })
}

/// The opcodes in order. memcached knows no VERBOSITY (0x1b) in this protocol, and so neither do we.
const OPCODES: [Option<Opcode>; 0x25] = [
    loud(Command::Get),
    loud(Command::Set),
    loud(Command::Add),
    loud(Command::Replace),
    loud(Command::Delete),
    loud(Command::Increment),
    loud(Command::Decrement),
    loud(Command::Quit),
    loud(Command::Flush),
    quiet(Command::Get),
    loud(Command::Noop),
    loud(Command::Version),
    keyed(Command::Get, false),
    keyed(Command::Get, true),
    loud(Command::Append),
    loud(Command::Prepend),
    loud(Command::Stat),
    quiet(Command::Set),
    quiet(Command::Add),
    quiet(Command::Replace),
    quiet(Command::Delete),
    quiet(Command::Increment),
    quiet(Command::Decrement),
    quiet(Command::Quit),
    quiet(Command::Flush),
    quiet(Command::Append),
    quiet(Command::Prepend),
    None,
    loud(Command::Touch),
    loud(Command::GetAndTouch),
    quiet(Command::GetAndTouch),
    None,
    loud(Command::SaslList),
    loud(Command::SaslAuth),
    loud(Command::SaslStep),
    keyed(Command::GetAndTouch, false),
    keyed(Command::GetAndTouch, true),
];

/// What an opcode stands for, if it is one.
#[inline]
pub fn opcode(byte: u8) -> Option<Opcode> {
    OPCODES.get(usize::from(byte)).copied().flatten()
}

/// The status of a reply, with the text that memcached puts into the body of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Success,
    NotFound,
    Exists,
    TooLarge,
    Invalid,
    NotStored,
    NotNumeric,
    Unauthorized,
    Continue,
    Unknown,
    OutOfMemory,
    /// What the text protocol calls SERVER_ERROR.
    Internal,
}

impl Status {
    fn code(self) -> u16 {
        match self {
            Status::Success => 0x00,
            Status::NotFound => 0x01,
            Status::Exists => 0x02,
            Status::TooLarge => 0x03,
            Status::Invalid => 0x04,
            Status::NotStored => 0x05,
            Status::NotNumeric => 0x06,
            Status::Unauthorized => 0x20,
            Status::Continue => 0x21,
            Status::Unknown => 0x81,
            Status::OutOfMemory => 0x82,
            Status::Internal => 0x84,
        }
    }

    fn text(self) -> &'static [u8] {
        match self {
            Status::Success | Status::Continue => b"",
            Status::NotFound => b"Not found",
            Status::Exists => b"Data exists for key.",
            Status::TooLarge => b"Too large.",
            Status::Invalid => b"Invalid arguments",
            Status::NotStored => b"Not stored.",
            Status::NotNumeric => b"Non-numeric server-side value for incr or decr",
            Status::Unauthorized => b"Auth failure.",
            Status::Unknown => b"Unknown command",
            Status::OutOfMemory => b"Out of memory",
            Status::Internal => b"Internal error",
        }
    }
}

/// What a reply repeats of its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    pub opcode: u8,
    /// As it came; it means something to the client only.
    pub opaque: [u8; 4],
}

/// A request that is to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    pub ask: Ask,
    pub opcode: Opcode,
    /// 0 is none.
    pub cas: u64,
    pub extras: &'a [u8],
    pub key: &'a [u8],
    pub value: &'a [u8],
}

/// A request that is answered with an error before it is read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    pub ask: Ask,
    pub key: &'a [u8],
    pub status: Status,
    /// Bytes of it behind those that were used, still to come or to be passed over.
    pub skip: u64,
    /// The connection is closed behind the answer: it cannot be trusted to be in step.
    pub last: bool,
}

/// What the bytes at the start of a buffer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// Not whole yet.
    Incomplete,
    /// No request of this protocol: the connection is closed without a word.
    Foreign,
    /// That many bytes, and what is wrong.
    Refused(usize, Refusal<'a>),
    /// That many bytes.
    Request(usize, Request<'a>),
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut number = [0; N];
    if let Some(found) = bytes.get(at..at + N) {
        number.copy_from_slice(found);
    }
    number
}

/// Looks at the request at the start of `buf`.
///
/// Args:
///     limit: bytes a request may have.
///     locked: the client has still to log in.
#[inline]
pub fn request(buf: &[u8], limit: usize, locked: bool) -> Seen<'_> {
    if buf.len() < HEADER_BYTES {
        return Seen::Incomplete;
    }
    if buf[0] != MAGIC {
        return Seen::Foreign;
    }
    let ask = Ask {
        opcode: buf[1],
        opaque: number(buf, 12),
    };
    let key_bytes = usize::from(u16::from_be_bytes(number(buf, 2)));
    let extras_bytes = usize::from(buf[4]);
    let body_bytes = u32::from_be_bytes(number(buf, 8));
    let head = HEADER_BYTES + extras_bytes + key_bytes;
    // memcached looks at nothing before it has all but the value.
    if buf.len() < head {
        return Seen::Incomplete;
    }
    let key_at = HEADER_BYTES + extras_bytes;
    let key = &buf[key_at..head];
    let refused = |status, skip, last| {
        let refusal = Refusal {
            ask,
            key,
            status,
            skip,
            last,
        };
        Seen::Refused(head, refusal)
    };
    let Some(value_bytes) = (body_bytes as usize).checked_sub(extras_bytes + key_bytes) else {
        return refused(Status::Unknown, 0, true);
    };
    if body_bytes > BODY_LIMIT {
        return refused(Status::Invalid, 0, true);
    }
    let opcode = opcode(ask.opcode);
    if locked && !opcode.is_some_and(|opcode| opcode.command.is_free()) {
        return refused(Status::Unauthorized, 0, true);
    }
    if key_bytes > KEY_LIMIT {
        return refused(Status::Invalid, 0, true);
    }
    let skip = value_bytes as u64;
    let Some(opcode) = opcode else {
        return refused(Status::Unknown, skip, false);
    };
    let (has_key, has_value) = (key_bytes > 0, value_bytes > 0);
    if !opcode
        .command
        .is_well_formed(extras_bytes, has_key, has_value)
    {
        return refused(Status::Invalid, 0, true);
    }
    let is_sasl = matches!(opcode.command, Command::SaslAuth | Command::SaslStep);
    if is_sasl && key_bytes > MECHANISM_LIMIT {
        return refused(Status::Invalid, skip, false);
    }
    let whole = head + value_bytes;
    // Who has yet to log in sends nothing else with a value.
    if whole > limit || (locked && skip > TOKEN_LIMIT) {
        return refused(Status::TooLarge, skip, false);
    }
    if buf.len() < whole {
        return Seen::Incomplete;
    }
    let found = Request {
        ask,
        opcode,
        cas: u64::from_be_bytes(number(buf, 16)),
        extras: &buf[HEADER_BYTES..key_at],
        key,
        value: &buf[head..whole],
    };
    Seen::Request(whole, found)
}

impl Command {
    /// May be asked before the client has logged in.
    fn is_free(self) -> bool {
        matches!(
            self,
            Command::SaslList | Command::SaslAuth | Command::SaslStep | Command::Version
        )
    }

    /// True if a request has the parts that belong to the command, and no others.
    fn is_well_formed(self, extras_bytes: usize, has_key: bool, has_value: bool) -> bool {
        match self {
            Command::Get | Command::Delete => extras_bytes == 0 && has_key && !has_value,
            Command::Touch | Command::GetAndTouch => extras_bytes == 4 && has_key,
            Command::Set | Command::Add | Command::Replace => extras_bytes == 8 && has_key,
            Command::Append | Command::Prepend => extras_bytes == 0 && has_key,
            Command::Increment | Command::Decrement => extras_bytes == 20 && has_key && !has_value,
            Command::Flush => matches!(extras_bytes, 0 | 4) && !has_key && !has_value,
            Command::Stat => extras_bytes == 0,
            Command::SaslAuth | Command::SaslStep => extras_bytes == 0 && has_key,
            Command::Noop | Command::Version | Command::Quit | Command::SaslList => {
                extras_bytes == 0 && !has_key && !has_value
            }
        }
    }
}

impl Refusal<'_> {
    /// The text request that takes away what was there, if the refused one is a set: as with a server the value is
    /// gone, since it is not the one that the client believes to be there.
    pub fn removal(&self) -> Option<Vec<u8>> {
        let is_set = opcode(self.ask.opcode).is_some_and(|known| known.command == Command::Set);
        if !is_set || self.status != Status::TooLarge {
            return None;
        }
        let mut text = Vec::new();
        let (command, quiet, key) = (Command::Delete, false, false);
        let removal = Request {
            ask: self.ask,
            opcode: Opcode {
                command,
                quiet,
                key,
            },
            cas: 0,
            extras: b"",
            key: self.key,
            value: b"",
        };
        write_text(&removal, &mut text).is_ok().then_some(text)
    }
}

/// User and password in the response of SASL's PLAIN mechanism (RFC 4616).
pub fn plain_credentials(response: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = response.splitn(3, |byte| *byte == 0);
    let (_acting_as, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    Some((user, password))
}

/// A reply, as far as it stands before the value.
struct Head<'a> {
    ask: Ask,
    status: Status,
    cas: u64,
    /// Flags of an item.
    flags: Option<u32>,
    key: &'a [u8],
    value_bytes: usize,
}

impl Head<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let mut bytes = [0u8; HEADER_BYTES + 4];
        let extras_bytes = if self.flags.is_some() { 4 } else { 0 };
        let body_bytes = extras_bytes + self.key.len() + self.value_bytes;
        bytes[0] = REPLY_MAGIC;
        bytes[1] = self.ask.opcode;
        bytes[2..4].copy_from_slice(&(self.key.len() as u16).to_be_bytes());
        bytes[4] = extras_bytes as u8;
        bytes[6..8].copy_from_slice(&self.status.code().to_be_bytes());
        bytes[8..12].copy_from_slice(&(body_bytes as u32).to_be_bytes());
        bytes[12..16].copy_from_slice(&self.ask.opaque);
        bytes[16..24].copy_from_slice(&self.cas.to_be_bytes());
        bytes[24..].copy_from_slice(&self.flags.unwrap_or(0).to_be_bytes());
        out.extend_from_slice(&bytes[..HEADER_BYTES + extras_bytes]);
        out.extend_from_slice(self.key);
    }
}

/// Appends a reply without key and flags.
fn write_plain(ask: Ask, status: Status, cas: u64, body: &[u8], out: &mut Vec<u8>) {
    let head = Head {
        ask,
        status,
        cas,
        flags: None,
        key: b"",
        value_bytes: body.len(),
    };
    head.write(out);
    out.extend_from_slice(body);
}

/// Appends the answer to a refused request.
pub fn write_error(ask: Ask, status: Status, out: &mut Vec<u8>) {
    write_plain(ask, status, 0, status.text(), out);
}

/// Appends a reply that carries nothing but text.
pub fn write_reply(ask: Ask, status: Status, body: &[u8], out: &mut Vec<u8>) {
    write_plain(ask, status, 0, body, out);
}

/// True for a packet that tells of an error; a miss is none.
pub fn is_error(packet: &[u8]) -> bool {
    let status = u16::from_be_bytes(number(packet, 6));
    packet.first() == Some(&REPLY_MAGIC) && !matches!(status, 0x00 | 0x01 | 0x02 | 0x05 | 0x21)
}
