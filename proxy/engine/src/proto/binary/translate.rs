//! Binary requests as text requests, and text replies as binary ones.
//!
//! get and gat become `gets` and `gats`, everything else a meta command, since only those say the CAS
//! token of what they stored. (`mg` would do for gets as well, but it takes the right to renew a stale
//! item, which a binary get does not.) A key that no line can carry travels in base64.

use memchr::memchr;

use super::super::memcache::{is_error, unsigned, KEY_LIMIT};
use super::super::meta;
use super::super::resp::write_number;
use super::{number, opcode, write_plain, Ask, Command, Head, Request, Status};

/// An increment with this expiry creates nothing.
const NEVER_CREATE: u32 = u32::MAX;

/// Appends the text request that does the same.
///
/// # Errors
/// What to answer instead, if there is none.
pub fn write_text(request: &Request, out: &mut Vec<u8>) -> Result<(), Status> {
    let Request { extras, key, .. } = *request;
    match request.opcode.command {
        Command::Flush => {
            out.extend_from_slice(b"flush_all");
            if !extras.is_empty() {
                write_flag(b" ", expiry(extras, 0), out);
            }
            out.extend_from_slice(b"\r\n");
        }
        Command::Stat => {
            let name = statistics(key).ok_or(Status::NotFound)?;
            out.extend_from_slice(b"stats");
            if !name.is_empty() {
                out.push(b' ');
                out.extend_from_slice(name);
            }
            out.extend_from_slice(b"\r\n");
        }
        Command::Noop
        | Command::Version
        | Command::Quit
        | Command::SaslList
        | Command::SaslAuth
        | Command::SaslStep => return Err(Status::Unknown),
        _ if is_one_word(key) => write_item(request, key, false, out),
        _ => {
            let mut encoded = Vec::with_capacity(KEY_LIMIT);
            meta::encode(key, &mut encoded);
            if encoded.len() > KEY_LIMIT {
                return Err(Status::Invalid);
            }
            write_item(request, &encoded, true, out);
        }
    }
    Ok(())
}

/// The list that STAT with this key asks for, if the server has it in this protocol: of the text protocol's neither
/// `conns` nor `cachedump`, and two of the others it knows by how they begin.
fn statistics(key: &[u8]) -> Option<&[u8]> {
    const BEGINNINGS: [&[u8]; 2] = [b"reset", b"settings"];
    match key {
        b"" | b"items" | b"slabs" | b"sizes" => Some(key),
        _ => BEGINNINGS.into_iter().find(|name| key.starts_with(name)),
    }
}

/// A request for the item of `key`, which may be encoded.
fn write_item(request: &Request, key: &[u8], is_encoded: bool, out: &mut Vec<u8>) {
    let Request {
        cas, extras, value, ..
    } = *request;
    let command = request.opcode.command;
    let mut begin = |name: &[u8]| {
        out.extend_from_slice(name);
        out.extend_from_slice(key);
    };
    match command {
        Command::Get if !is_encoded => begin(b"gets "),
        Command::GetAndTouch if !is_encoded => {
            write_flag(b"gats ", expiry(extras, 0), out);
            out.push(b' ');
            out.extend_from_slice(key);
        }
        Command::Get => {
            begin(b"mg ");
            out.extend_from_slice(b" b v f c");
        }
        Command::GetAndTouch => {
            begin(b"mg ");
            write_flag(b" b v f c T", expiry(extras, 0), out);
        }
        Command::Touch => {
            begin(b"mg ");
            write_base64(is_encoded, out);
            write_flag(b" f c T", expiry(extras, 0), out);
        }
        Command::Delete => {
            begin(b"md ");
            write_base64(is_encoded, out);
            write_token(cas, out);
        }
        Command::Increment | Command::Decrement => {
            begin(b"ma ");
            write_base64(is_encoded, out);
            out.extend_from_slice(b" v c");
            if command == Command::Decrement {
                out.extend_from_slice(b" MD");
            }
            write_flag(b" D", u64::from_be_bytes(number(extras, 0)), out);
            if u32::from_be_bytes(number(extras, 16)) != NEVER_CREATE {
                write_flag(b" N", expiry(extras, 16), out);
                write_flag(b" J", u64::from_be_bytes(number(extras, 8)), out);
            }
            write_token(cas, out);
        }
        _ => {
            begin(b"ms ");
            write_flag(b" ", value.len() as u64, out);
            write_base64(is_encoded, out);
            out.extend_from_slice(match command {
                Command::Append => b" c MA",
                Command::Prepend => b" c MP",
                // With a token all three ways to store are one: what has that token is replaced.
                Command::Add if cas == 0 => b" c ME",
                Command::Replace if cas == 0 => b" c MR",
                _ => b" c",
            });
            if !extras.is_empty() {
                let flags = u32::from_be_bytes(number(extras, 0));
                write_flag(b" F", u64::from(flags), out);
                write_flag(b" T", expiry(extras, 4), out);
            }
            write_token(cas, out);
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn write_flag(letters: &[u8], number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(letters);
    write_number(out, number);
}

fn write_base64(is_encoded: bool, out: &mut Vec<u8>) {
    if is_encoded {
        out.extend_from_slice(b" b");
    }
}

fn write_token(cas: u64, out: &mut Vec<u8>) {
    if cas != 0 {
        write_flag(b" C", cas, out);
    }
}

/// An expiry as a line may have it: servers read 31 bits of one there, so that no item is given a time
/// after January 2038. A time before 1970, which is at once, cannot be said in this protocol.
fn expiry(extras: &[u8], at: usize) -> u64 {
    u64::from(u32::from_be_bytes(number(extras, at)).min(i32::MAX as u32))
}

/// True if a line can carry the key as it is. Servers cut lines at blanks and line ends, and older ones
/// at NUL; no other byte means anything to them.
fn is_one_word(key: &[u8]) -> bool {
    !key.iter()
        .any(|byte| matches!(byte, b' ' | b'\n' | b'\r' | 0))
}

/// Appends the binary answer; nothing where a quiet request has come out as usual.
///
/// Args:
///     key: of the request, where its opcode has it in the reply.
///     text: the whole reply to the request that `write_text` has made, or an error line of our own.
#[inline]
pub fn write_answer(ask: Ask, key: &[u8], text: &[u8], out: &mut Vec<u8>) {
    let Some(opcode) = opcode(ask.opcode) else {
        return;
    };
    let line_end = memchr(b'\n', text).map_or(text.len(), |newline| newline + 1);
    let line = text[..line_end].trim_ascii_end();
    let mut words = line.split(|byte| *byte == b' ');
    let command = opcode.command;
    let status = match words.next().unwrap_or(b"") {
        b"VALUE" => {
            // VALUE key flags length token
            let mut word = || unsigned(words.next().unwrap_or(b"")).unwrap_or(0);
            word();
            let (flags, len, cas) = (word() as u32, word() as usize, word());
            let data = text.get(line_end..line_end + len).unwrap_or(b"");
            return write_item_reply(ask, key, flags, cas, data, out);
        }
        b"VA" => {
            let len = unsigned(words.next().unwrap_or(b"")).unwrap_or(0) as usize;
            let data = text.get(line_end..line_end + len).unwrap_or(b"");
            let (flags, cas) = shown(words);
            return match command {
                Command::Increment | Command::Decrement if opcode.quiet => {}
                Command::Increment | Command::Decrement => {
                    let sum = unsigned(data).unwrap_or(0).to_be_bytes();
                    write_plain(ask, Status::Success, cas, &sum, out);
                }
                _ => write_item_reply(ask, key, flags, cas, data, out),
            };
        }
        b"STAT" | b"END" | b"RESET" if command == Command::Stat => {
            return write_statistics(ask, text, out)
        }
        b"EN" | b"END" | b"NF" => Status::NotFound,
        b"NS" => match command {
            Command::Add => Status::Exists,
            Command::Replace => Status::NotFound,
            _ => Status::NotStored,
        },
        b"EX" => Status::Exists,
        b"VERSION" => {
            let version = line.get(b"VERSION ".len()..).unwrap_or(b"");
            return write_plain(ask, Status::Success, 0, version, out);
        }
        _ if is_error(line) => {
            let (status, reason) = failure(command, line);
            return write_plain(ask, status, 0, reason, out);
        }
        // HD, OK, MN
        _ => {
            let (flags, cas) = shown(words);
            return match command {
                _ if opcode.quiet => {}
                Command::Touch => write_item_reply(ask, key, flags, cas, b"", out),
                _ => write_plain(ask, Status::Success, cas, b"", out),
            };
        }
    };
    let is_read = matches!(command, Command::Get | Command::GetAndTouch);
    match (is_read, opcode.key) {
        (true, _) if opcode.quiet => {}
        (true, true) => {
            let (flags, cas, value_bytes) = (None, 0, 0);
            let head = Head {
                ask,
                status,
                cas,
                flags,
                key,
                value_bytes,
            };
            head.write(out);
        }
        _ => write_plain(ask, status, 0, status.text(), out),
    }
}

/// Flags and CAS token among the flags of a meta reply.
fn shown<'a>(words: impl Iterator<Item = &'a [u8]>) -> (u32, u64) {
    let (mut flags, mut cas) = (0, 0);
    for word in words {
        match word.split_first() {
            Some((b'f', number)) => flags = unsigned(number).unwrap_or(0) as u32,
            Some((b'c', number)) => cas = unsigned(number).unwrap_or(0),
            _ => {}
        }
    }
    (flags, cas)
}

fn write_item_reply(ask: Ask, key: &[u8], flags: u32, cas: u64, data: &[u8], out: &mut Vec<u8>) {
    let head = Head {
        ask,
        status: Status::Success,
        cas,
        flags: Some(flags),
        key,
        value_bytes: data.len(),
    };
    head.write(out);
    out.extend_from_slice(data);
}

/// One packet for each line, and an empty one behind the last.
fn write_statistics(ask: Ask, text: &[u8], out: &mut Vec<u8>) {
    for line in text.split(|byte| *byte == b'\n') {
        let Some(row) = line.trim_ascii_end().strip_prefix(b"STAT ") else {
            continue;
        };
        let (name, value) = match memchr(b' ', row) {
            Some(blank) => (&row[..blank], &row[blank + 1..]),
            None => (row, &b""[..]),
        };
        let head = Head {
            ask,
            status: Status::Success,
            cas: 0,
            flags: None,
            key: name,
            value_bytes: value.len(),
        };
        head.write(out);
        out.extend_from_slice(value);
    }
    write_plain(ask, Status::Success, 0, b"", out);
}

/// Status and text for an error line.
fn failure(command: Command, line: &[u8]) -> (Status, &[u8]) {
    let of = |status: Status| (status, status.text());
    let Some(reason) = line.strip_prefix(b"SERVER_ERROR ") else {
        return match line.strip_prefix(b"CLIENT_ERROR ") {
            _ if command == Command::Stat => of(Status::NotFound),
            Some(b"cannot increment or decrement non-numeric value") => of(Status::NotNumeric),
            Some(reason) => (Status::Invalid, reason),
            None => of(Status::Invalid),
        };
    };
    let is_full =
        |text: &[u8]| reason.len() >= text.len() && reason[..text.len()].eq_ignore_ascii_case(text);
    match command {
        _ if reason.starts_with(b"object too large") => of(Status::TooLarge),
        _ if !is_full(b"out of memory") => (Status::Internal, reason),
        Command::Increment | Command::Decrement => {
            (Status::OutOfMemory, b"Out of memory incrementing value")
        }
        Command::Get | Command::Touch | Command::GetAndTouch => of(Status::OutOfMemory),
        _ => (Status::OutOfMemory, b"Out of memory allocating item"),
    }
}
