//! What must hold for any input of the parsers. Panics where it does not.
//!
//! Included by the fuzz targets (`fuzz_targets/`) and by `tests/fuzz_seeds.rs`, which replays `seeds/`
//! in a plain `cargo test`. The invariants:
//!
//! - the same bytes give the same messages whether they come at once, one by one, or in odd chunks;
//! - positions lie inside the buffer, and what is kept per message is bounded by its length;
//! - an error reply is one line, whatever a client wrote into its request.

#![allow(dead_code)] // each includer calls one or a few of these

use _engine::command::{admit, first_key, keys, ROWS};
use _engine::proto::login::{login, Login};
use _engine::proto::{binary, dump, memcache, meta, resp, token, Arg, Args, Resume, Step};

/// Small, so that inputs a fuzzer makes go past it.
const LIMIT: usize = 8 * 1024;
/// Inputs up to this length are also fed byte by byte.
const BYTEWISE_MAX: usize = 4096;
/// The fewest bytes a RESP argument takes: `$0`, line end, line end.
const ARG_MIN_BYTES: usize = 6;

/// One message as its parser saw it: its length and what else was said about it.
type Message = (usize, String);

/// What a stream of messages came to.
#[derive(Debug, PartialEq)]
struct Stream {
    messages: Vec<Message>,
    /// The error that ended it, if one did.
    error: Option<String>,
}

/// What `parse` made of the bytes it was shown: a message (with its length and the bytes to skip
/// behind it), nothing yet, or an error.
enum Seen {
    Message(usize, u64, String),
    Nothing,
    Error(String),
}

/// Feeds `input` so that the parser sees it grow to each of `ends` in turn.
fn feed(
    input: &[u8],
    ends: impl Iterator<Item = usize>,
    parse: &mut dyn FnMut(&[u8], &mut Resume) -> Seen,
) -> Stream {
    let mut messages = Vec::new();
    let mut resume = Resume::default();
    let mut at = 0;
    let mut skip = 0u64;
    for end in ends {
        loop {
            let skipped = skip.min((end - at) as u64);
            skip -= skipped;
            at += skipped as usize;
            if at == end {
                break;
            }
            match parse(&input[at..end], &mut resume) {
                Seen::Message(len, skip_next, what) => {
                    assert!(
                        len > 0 && len <= end - at,
                        "a message of {len} bytes of {}",
                        end - at
                    );
                    assert_eq!(resume, Resume::default(), "a finished message left a trace");
                    at += len;
                    skip = skip_next;
                    messages.push((len, what));
                }
                Seen::Nothing => {
                    assert!(resume.at <= end - at, "scanned past the end");
                    break;
                }
                Seen::Error(error) => {
                    return Stream {
                        messages,
                        error: Some(error),
                    }
                }
            }
        }
    }
    Stream {
        messages,
        error: None,
    }
}

/// The same stream however it is cut.
fn split_invariant(input: &[u8], mut parse: impl FnMut(&[u8], &mut Resume) -> Seen) {
    let whole = feed(input, std::iter::once(input.len()), &mut parse);
    let odd = 1 + input.first().map_or(0, |byte| usize::from(*byte) % 61);
    let chunks = (1..)
        .map(|i| (i * odd).min(input.len()))
        .take(input.len().div_ceil(odd));
    assert_eq!(whole, feed(input, chunks, &mut parse), "in chunks of {odd}");
    if input.len() <= BYTEWISE_MAX {
        assert_eq!(
            whole,
            feed(input, 1..=input.len(), &mut parse),
            "byte by byte"
        );
    }
}

fn words(buf: &[u8], list: &[Arg]) -> String {
    let args = Args { buf, list };
    args.iter()
        .map(|word| format!("{} ", word.escape_ascii()))
        .collect()
}

/// Requests of Redis clients, multibulk and inline, as a connection reads them.
pub fn resp_request(input: &[u8]) {
    for is_guest in [false, true] {
        resp_request_of(input, is_guest);
    }
}

fn resp_request_of(input: &[u8], is_guest: bool) {
    let (mut list, mut inline) = (Vec::new(), Vec::new());
    split_invariant(input, |bytes, resume| {
        let is_inline = bytes[0] != b'*';
        let step = if is_inline {
            resp::inline(bytes, resume, &mut inline)
        } else if is_guest {
            resp::request_of_guest(bytes, &mut list, resume, LIMIT)
        } else {
            resp::request(bytes, &mut list, resume, LIMIT)
        };
        match step {
            Step::Complete(len) if is_inline => {
                list.clear();
                if !inline.is_empty() {
                    let step =
                        resp::request(&inline, &mut list, &mut Resume::default(), usize::MAX);
                    assert_eq!(
                        step,
                        Step::Complete(inline.len()),
                        "an inline request written anew"
                    );
                    assert!(list.len() <= len);
                }
                Seen::Message(len, 0, words(&inline, &list))
            }
            Step::Complete(len) => {
                assert!(list.len() * ARG_MIN_BYTES <= len && len <= LIMIT + 2);
                assert!(!is_guest || list.len() <= 10);
                if !list.is_empty() {
                    let (buf, list) = (&bytes[..len], &list[..]);
                    let words: Vec<&[u8]> = Args { buf, list }.iter().collect();
                    let mut anew = Vec::new();
                    resp::write_request(&mut anew, &words);
                    assert_eq!(anew.len(), len, "a length has one form");
                }
                Seen::Message(len, 0, words(&bytes[..len], &list))
            }
            Step::Incomplete => Seen::Nothing,
            Step::Invalid(error) => {
                one_line(&error.text());
                Seen::Error(format!("{error:?}"))
            }
        }
    });
}

/// Replies of Redis backends.
pub fn resp_reply(input: &[u8]) {
    split_invariant(input, |bytes, resume| match resp::reply(bytes, resume) {
        Step::Complete(len) => {
            let reply = &bytes[..len];
            assert_eq!(resp::value_len(bytes), len);
            let read = (
                resp::aggregate(reply),
                resp::integer(reply),
                resp::string(reply).map(<[u8]>::len),
            );
            Seen::Message(len, 0, format!("{read:?} {}", resp::is_error(reply)))
        }
        Step::Incomplete => Seen::Nothing,
        Step::Invalid(_) => Seen::Error("bad reply".to_owned()),
    });
}

/// Requests of memcached clients, those who have to log in first among them.
pub fn memcache_request(input: &[u8]) {
    memcache_login(input);
    let mut list = Vec::new();
    split_invariant(input, |bytes, resume| {
        match memcache::request(bytes, &mut list, resume, LIMIT) {
            (Step::Complete(len), Some(request)) => {
                assert!(request.line_end <= len && list.len() <= request.line_end);
                let skip = match request.fault {
                    Some(memcache::Fault::TooLarge { skip }) => skip,
                    Some(fault) if !fault.text().is_empty() => {
                        one_line(fault.text());
                        0
                    }
                    _ => 0,
                };
                Seen::Message(
                    len,
                    skip,
                    format!("{request:?} {}", words(&bytes[..len], &list)),
                )
            }
            (Step::Complete(_), None) => panic!("whole, but no request"),
            (Step::Incomplete, _) => Seen::Nothing,
            (Step::Invalid(_), _) => Seen::Error("endless line".to_owned()),
        }
    });
}

/// Logins of memcached clients, and what comes in their place.
fn memcache_login(input: &[u8]) {
    split_invariant(input, |bytes, resume| match login(bytes, resume) {
        (Step::Complete(len), Some(found)) => {
            if let Login::Refused(text) = found {
                one_line(text);
            }
            Seen::Message(len, 0, format!("{found:?}"))
        }
        (Step::Complete(_), None) => panic!("whole, but no login"),
        (Step::Incomplete, _) => Seen::Nothing,
        (Step::Invalid(_), _) => Seen::Error("endless line".to_owned()),
    });
}

/// Lines of lists of keys: what is shown is a line, and none of our own keys.
fn dump_lines(input: &[u8]) {
    let is_ours = |key: &[u8]| key.starts_with(b"__shardproxy:");
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        for kind in [dump::Kind::Meta, dump::Kind::Mg, dump::Kind::Cache] {
            let mut out = Vec::new();
            kind.take(line, is_ours, &mut out);
            assert!(out.iter().filter(|byte| **byte == b'\n').count() <= 1);
            assert!(!out.starts_with(b"mg __shardproxy:"));
        }
    }
}

/// Replies of memcached backends, each kind by all of the input.
pub fn memcache_reply(input: &[u8]) {
    dump_lines(input);
    use memcache::ReplyKind::{Item, Line, Stats, Values};
    for kind in [Line, Values, Stats, Item] {
        split_invariant(input, |bytes, resume| {
            match memcache::reply(bytes, kind, resume) {
                Step::Complete(len) => {
                    let reply = &bytes[..len];
                    let mut at = 0;
                    while let Some((key, block)) = memcache::value_block(&reply[at..]) {
                        assert!(key.len() < block);
                        at += block;
                        if kind != Values || at > len {
                            break;
                        }
                    }
                    assert!(
                        kind != Values || at < len,
                        "the last line is never part of a block"
                    );
                    Seen::Message(len, 0, String::new())
                }
                Step::Incomplete => Seen::Nothing,
                Step::Invalid(_) => Seen::Error("bad reply".to_owned()),
            }
        });
    }
}

/// Requests of memcached clients in the binary protocol with the text made of them, and all of the input as
/// the text reply to each opcode.
pub fn memcache_binary(input: &[u8]) {
    split_invariant(input, |bytes, _| {
        match binary::request(bytes, LIMIT, false) {
            binary::Seen::Incomplete => Seen::Nothing,
            binary::Seen::Foreign => Seen::Error("foreign".to_owned()),
            binary::Seen::Refused(_, refusal) if refusal.last => {
                Seen::Error(format!("{refusal:?}"))
            }
            binary::Seen::Refused(len, refusal) => {
                Seen::Message(len, refusal.skip, format!("{refusal:?}"))
            }
            binary::Seen::Request(len, request) => {
                assert!(len <= LIMIT);
                let mut text = Vec::new();
                if binary::write_text(&request, &mut text).is_ok() {
                    let line = text.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
                    let data = match text.starts_with(b"ms ") {
                        true => request.value.len() + 2,
                        false => 0,
                    };
                    assert_eq!(text.len(), line + data, "a line within a line");
                    one_line(&text[..line]);
                    assert!(line < 512, "a line of {line} bytes");
                }
                Seen::Message(len, 0, format!("{request:?}"))
            }
        }
    });
    let opaque = *b"mark";
    for byte in 0..=u8::MAX {
        let ask = binary::Ask {
            opcode: byte,
            opaque,
        };
        let mut reply = Vec::new();
        binary::write_answer(ask, b"key", input, &mut reply);
        let mut rest = &reply[..];
        while !rest.is_empty() {
            assert_eq!((rest[0], rest[1], &rest[12..16]), (0x81, byte, &opaque[..]));
            let key_bytes = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
            let body = u32::from_be_bytes([rest[8], rest[9], rest[10], rest[11]]) as usize;
            assert!(usize::from(rest[4]) + key_bytes <= body);
            rest = &rest[24 + body..];
        }
    }
}

/// A meta request, as a server gets it, and what follows it as the reply.
pub fn meta_dialect(input: &[u8]) {
    let mut list = Vec::new();
    let (step, request) = memcache::request(input, &mut list, &mut Resume::default(), LIMIT);
    let (Step::Complete(len), Some(request)) = (step, request) else {
        return;
    };
    if !request.verb.is_meta() || request.fault.is_some() {
        return;
    }
    let (frame, reply) = input.split_at(len);
    let args = Args {
        buf: frame,
        list: &list,
    };
    let (verb, flags) = (request.verb, request.flags);
    let (mut space, mut other) = ([0; memcache::KEY_LIMIT], [0; memcache::KEY_LIMIT]);
    let key = meta::key(&args, flags, &mut space);
    let hides_key = meta::hides_key(&args, flags);
    let mut sent = Vec::new();
    meta::write_canonical(&mut sent, verb, &args, flags, hides_key);
    // A carriage return that stands alone is a character like others.
    assert_eq!(count_of(b'\n', &sent), 1);
    assert!(sent.ends_with(b"\r\n"));
    sent.extend_from_slice(&frame[request.line_end..]);
    let mut words = Vec::new();
    let (step, again) = memcache::request(&sent, &mut words, &mut Resume::default(), usize::MAX);
    assert_eq!(step, Step::Complete(sent.len()), "of another length");
    let again = again.expect("whole, but no request");
    let args_again = Args {
        buf: &sent,
        list: &words,
    };
    assert_eq!((again.verb, again.fault), (verb, None));
    assert_eq!(meta::key(&args_again, again.flags, &mut other), key);
    if verb != memcache::Verb::Me && !flags.is_refused() {
        assert!(!again.flags.has_any(b"qPL"), "a server would be silent");
        assert_eq!(again.is_write() || flags.has(b'L'), request.is_write());
        assert!(
            !(again.flags.has(b'k') && hides_key),
            "a server would show the key"
        );
    }
    let form = meta::Form::of_text(verb, &args, flags, hides_key);
    let (mut shaped, mut tagged) = (Vec::new(), Vec::new());
    form.write(reply, &mut shaped);
    assert!(shaped.len() <= reply.len() + frame.len() + 4);
    token::tag_item(reply, token::tag_of(7), &mut tagged);
    if reply.ends_with(b"\r\n") {
        assert!(tagged.ends_with(b"\r\n"));
    }
    let _ = (
        memcache::item(reply),
        meta::number(reply, b'c'),
        meta::shows(reply, b'W'),
    );
}

/// A request of any command: its first two bytes choose the row, lines are the arguments.
pub fn key_extraction(input: &[u8]) {
    let Some((choice, rest)) = input.split_first_chunk::<2>() else {
        return;
    };
    let row = &ROWS[usize::from(u16::from_le_bytes(*choice)) % ROWS.len()];
    let mut buf = Vec::new();
    let mut list = Vec::new();
    // The name of a subcommand's row is its container and itself, as two words of the request.
    for word in row
        .name
        .as_bytes()
        .split(|byte| *byte == b'|')
        .chain(rest.split(|byte| *byte == b'\n'))
    {
        list.push(Arg {
            start: buf.len() as u32,
            len: word.len() as u32,
        });
        buf.extend_from_slice(word);
    }
    let args = Args {
        buf: &buf,
        list: &list,
    };
    let mut out = Vec::new();
    let Some(found) = admit(&args, &mut out) else {
        one_line(&out);
        return;
    };
    assert!(out.is_empty(), "an admitted request was answered");
    let mut positions = Vec::new();
    match keys(found, &args, &mut positions) {
        Ok(()) => {
            assert!(positions
                .iter()
                .all(|at| *at > 0 && (*at as usize) < args.len()));
            assert!(positions.len() < args.len());
            if let Some(first) = first_key(found, &args) {
                assert_eq!(positions, [first], "{}", found.name);
            }
        }
        Err(error) => {
            _engine::command::keys::refuse(found, error, &mut out);
            one_line(&out);
        }
    }
}

fn count_of(byte: u8, bytes: &[u8]) -> usize {
    bytes.iter().filter(|each| **each == byte).count()
}

/// An error reply that a client reads as one reply.
fn one_line(reply: &[u8]) {
    let Some(line) = reply.strip_suffix(b"\r\n") else {
        panic!("no line end: {}", reply.escape_ascii())
    };
    assert!(!line.is_empty());
    assert!(
        !line.contains(&b'\r') && !line.contains(&b'\n'),
        "two lines: {}",
        reply.escape_ascii()
    );
}
