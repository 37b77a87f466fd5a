//! How a write reaches the other replicas: by its arguments, and after the leader's reply.
//!
//! Called for each write to a shard with replicas (`worker/replicate.rs`). The reasons for each
//! command stand in `overlay.rs`. Bytes in, bytes out; no clock and no connection.

use super::keys::{number, sort_store};
use super::overlay::{Effect, EffectRule};
use super::table::Row;
use crate::proto::{resp, Args};

impl Row {
    /// How the request reaches the other replicas.
    #[inline]
    pub fn effect_of(&self, args: &Args<'_>) -> Effect {
        match self.effect {
            EffectRule::Always(effect) => effect,
            EffectRule::Set => set_effect(args),
            EffectRule::GetExpire if args.len() == 2 => Effect::Nothing,
            EffectRule::GetExpire => Effect::Compared,
            EffectRule::StreamAdd => {
                let options = stream_options(args);
                match args.get(options.end) {
                    // No id at all: every server refuses it alike.
                    _ if options.end >= args.len() => Effect::Compared,
                    // Servers take the name of what is added once only beside an id that they make.
                    _ if options.is_once => Effect::State,
                    id if options.is_about || id.ends_with(b"*") => Effect::StreamAdd {
                        about: options.is_about,
                    },
                    _ => Effect::Verified,
                }
            }
            EffectRule::StreamTrim if stream_options(args).is_about => Effect::StreamTrim,
            EffectRule::StreamTrim => Effect::Compared,
            EffectRule::SortStore if sort_store(args).is_some() => Effect::State,
            EffectRule::SortStore => Effect::Nothing,
            EffectRule::CopyTo if copy_database(args).is_none() => Effect::Verified,
            EffectRule::CopyTo => Effect::Moved,
            EffectRule::Script if says_no_writes(args) => Effect::Nothing,
            EffectRule::Script if number(args.get(2)) == Some(0) => Effect::Program,
            EffectRule::Script => Effect::State,
        }
    }
}

/// True for EVAL of a text with the flag `no-writes`, which servers hold it to.
fn says_no_writes(args: &Args<'_>) -> bool {
    let text = args.get(1);
    if !args.get(0).eq_ignore_ascii_case(b"EVAL") || !text.starts_with(b"#!") {
        return false;
    }
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or(text);
    let mut words = first.split(|byte| *byte == b' ');
    let flags = words.find_map(|word| word.strip_prefix(b"flags="));
    flags.is_some_and(|flags| {
        flags
            .split(|byte| *byte == b',')
            .any(|flag| flag == b"no-writes")
    })
}

/// A key of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub database: u8,
    pub key: Vec<u8>,
}

/// The keys that an `Effect::Moved` request of a client in `database` may change. What names a database that
/// no server has is refused by it, and changes nothing.
pub fn places(row: &Row, args: &Args<'_>, database: u8) -> Vec<Place> {
    let place = |database, at| Place {
        database,
        key: args.get(at).to_vec(),
    };
    let there = |word, at| {
        let database = number(word).and_then(|number| u8::try_from(number).ok())?;
        Some(place(database, at))
    };
    match (row.name, copy_database(args)) {
        ("COPY", to) => to.and_then(|to| there(to, 2)).into_iter().collect(),
        _ => there(args.get(2), 1)
            .into_iter()
            .chain([place(database, 1)])
            .collect(),
    }
}

/// What stands behind the last option DB of COPY, or the first that no server has. None as well if an option is
/// wrong, which the server says.
pub(super) fn copy_database<'a>(args: &Args<'a>) -> Option<&'a [u8]> {
    let (mut at, mut found) = (3, None);
    while at < args.len() {
        let is = |name: &[u8]| args.get(at).eq_ignore_ascii_case(name);
        if is(b"DB") && at + 1 < args.len() {
            found = Some(args.get(at + 1));
            if found
                .and_then(number)
                .is_none_or(|number| u8::try_from(number).is_err())
            {
                return found;
            }
            at += 2;
        } else if is(b"REPLACE") {
            at += 1;
        } else {
            return None;
        }
    }
    found
}

/// SET key value [NX|XX] [GET] [EX|PX|EXAT|PXAT n|KEEPTTL]
#[inline]
fn set_effect(args: &Args<'_>) -> Effect {
    let (mut effect, mut at) = (Effect::Verbatim, 3);
    while at < args.len() {
        let word = args.get(at);
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        if is(b"EX") || is(b"PX") || is(b"EXAT") || is(b"PXAT") {
            at += 1;
        } else if is(b"NX") || is(b"XX") || is(b"GET") {
            effect = Effect::Compared;
        } else {
            // KEEPTTL, and what a newer server may know.
            return Effect::Verified;
        }
        at += 1;
    }
    effect
}

/// What matters in XADD key and XTRIM key, which take in any order [NOMKSTREAM] [KEEPREF|DELREF|ACKED]
/// [IDMPAUTO producer|IDMP producer name] [MAXLEN|MINID [=|~] threshold [LIMIT count]].
struct StreamOptions<'a> {
    /// Position of what is no option: the id of XADD.
    end: usize,
    /// Trimmed with `~`.
    is_about: bool,
    /// What becomes of the groups' references to what is trimmed, if it says.
    references: Option<&'a [u8]>,
    /// It has a name by which the server knows it again.
    is_once: bool,
}

fn stream_options<'a>(args: &Args<'a>) -> StreamOptions<'a> {
    let mut found = StreamOptions {
        end: 2,
        is_about: false,
        references: None,
        is_once: false,
    };
    while found.end < args.len() {
        let (at, word) = (found.end, args.get(found.end));
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        found.end += if is(b"NOMKSTREAM") {
            1
        } else if is(b"KEEPREF") || is(b"DELREF") || is(b"ACKED") {
            found.references = Some(word);
            1
        } else if is(b"IDMPAUTO") || is(b"IDMP") {
            found.is_once = true;
            if is(b"IDMP") {
                3
            } else {
                2
            }
        } else if is(b"LIMIT") {
            2
        } else if is(b"MAXLEN") || is(b"MINID") {
            let sign = args.get(at + 1);
            found.is_about |= sign == b"~";
            if sign == b"~" || sign == b"=" {
                3
            } else {
                2
            }
        } else {
            break;
        };
    }
    found
}

/// The request that gives the others the effect of `args`, by what the leader replied.
///
/// Args: `effect` that of the request; `replies` the leader's replies: to the request, and for a trim
/// "about" to XLEN behind it. `None` if nothing is to be sent: the leader refused or did nothing.
pub fn follow(effect: Effect, args: &Args<'_>, replies: &[u8]) -> Option<Vec<u8>> {
    let (first, rest) = replies.split_at(resp::value_len(replies));
    let second = &rest[..resp::value_len(rest)];
    let mut out = Vec::with_capacity(args.buf.len() + 64);
    match effect {
        Effect::Popped => removed(args.get(1), first, &mut out),
        Effect::StreamAdd { about: false } => {
            let (id, made) = (resp::string(first)?, stream_options(args).end);
            resp::write_array(&mut out, args.len());
            for (at, word) in args.iter().enumerate() {
                resp::write_bulk(&mut out, if at == made { id } else { word });
            }
            Some(())
        }
        Effect::StreamAdd { about: true } => {
            let (id, options) = (resp::string(first)?, stream_options(args));
            let length = resp::integer(second)?;
            write_trim(&options, args, length, args.len() - options.end, &mut out);
            resp::write_bulk(&mut out, id);
            for word in args.iter().skip(options.end + 1) {
                resp::write_bulk(&mut out, word);
            }
            Some(())
        }
        Effect::StreamTrim => {
            resp::integer(first).filter(|count| *count > 0)?;
            let length = resp::integer(second)?;
            write_trim(&stream_options(args), args, length, 0, &mut out);
            Some(())
        }
        _ => None,
    }?;
    Some(out)
}

/// The command trimming to a length, as servers tell their replicas; `more` words are to follow.
fn write_trim(
    options: &StreamOptions<'_>,
    args: &Args<'_>,
    length: i64,
    more: usize,
    out: &mut Vec<u8>,
) {
    let length = length.to_string();
    let words = [args.get(0), args.get(1)]
        .into_iter()
        .chain(options.references)
        .chain([&b"MAXLEN"[..], b"=", length.as_bytes()]);
    resp::write_array(out, 5 + usize::from(options.references.is_some()) + more);
    for word in words {
        resp::write_bulk(out, word);
    }
}

/// SREM of the one or the many members in a reply of SPOP.
fn removed(key: &[u8], reply: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (count, mut rest) = match resp::aggregate(reply) {
        Some((count, at)) => (count, &reply[at..]),
        None => (1, reply),
    };
    if count == 0 {
        return None;
    }
    resp::write_array(out, 2 + count);
    resp::write_bulk(out, b"SREM");
    resp::write_bulk(out, key);
    for _ in 0..count {
        let (member, tail) = rest.split_at(resp::value_len(rest));
        resp::write_bulk(out, resp::string(member)?);
        rest = tail;
    }
    Some(())
}

/// Errors of a server that answers nobody for a while: another one with the same data may.
pub fn is_away(reply: &[u8]) -> bool {
    const AWAY: [&[u8]; 3] = [b"-LOADING ", b"-BUSY ", b"-MASTERDOWN "];
    AWAY.iter().any(|prefix| reply.starts_with(prefix))
}

/// Errors that tell of the server, not of its data: whoever answers so has not applied what others
/// with the same data have.
pub fn is_condition(reply: &[u8]) -> bool {
    const CONDITIONS: [&[u8]; 10] = [
        b"-OOM ",
        b"-MISCONF ",
        b"-READONLY ",
        b"-LOADING ",
        b"-BUSY ",
        b"-NOREPLICAS ",
        b"-NOAUTH ",
        b"-NOPERM ",
        b"-MASTERDOWN ",
        b"-EXECABORT ",
    ];
    CONDITIONS.iter().any(|prefix| reply.starts_with(prefix))
}
