//! COMMAND and its subcommands, from the table. Commands that the proxy refuses do not exist here.
//!
//! Called by `local.rs`.

use super::channel::{Act, Kind};
use super::glob;
use super::keys::{key_flags, keys};
use super::overlay::Handling;
use super::reply::Reply;
use super::spec::{Begin, Find, Flags, KeySpec};
use super::table::{arity_ok, lookup, subcommand, Row, ROWS};
use crate::error::Wire;
use crate::proto::Args;

/// MONITOR is not told of: where it is not switched on it does not exist.
fn is_taken(row: &Row) -> bool {
    !matches!(
        row.handling,
        Handling::Refuse(_) | Handling::Channel(Act::Subscribe(Kind::Monitor))
    )
}

/// Every command that is taken, without subcommands.
fn taken() -> impl Iterator<Item = &'static Row> {
    ROWS.iter()
        .filter(|row| row.parent.is_none() && is_taken(row))
}

/// The row of `get` or `xgroup|create`, if the proxy takes it.
fn named(name: &[u8]) -> Option<&'static Row> {
    let row = match name.iter().position(|&byte| byte == b'|') {
        Some(bar) => subcommand(lookup(&name[..bar])?, &name[bar + 1..])?,
        None => lookup(name)?,
    };
    is_taken(row).then_some(row)
}

pub(super) fn all(reply: &mut Reply<'_>) {
    reply.array(taken().count());
    taken().for_each(|row| describe(row, reply));
}

pub(super) fn count(reply: &mut Reply<'_>) {
    reply.integer(taken().count() as i64);
}

/// COMMAND INFO [name ...]: null for what does not exist.
pub(super) fn info(args: &Args<'_>, reply: &mut Reply<'_>) {
    if args.len() == 2 {
        return all(reply);
    }
    reply.array(args.len() - 2);
    for name in args.iter().skip(2) {
        match named(name) {
            Some(row) => describe(row, reply),
            None => reply.null(),
        }
    }
}

/// COMMAND DOCS [name ...]. The summary says what the proxy does with the command; redis-cli shows it
/// for `help`.
pub(super) fn docs(args: &Args<'_>, reply: &mut Reply<'_>) {
    let rows: Vec<&Row> = if args.len() == 2 {
        taken().collect()
    } else {
        args.iter().skip(2).filter_map(named).collect()
    };
    reply.map(rows.len());
    for row in rows {
        reply.bulk(row.lower_name());
        reply.map(2);
        reply.bulk("summary");
        reply.bulk(row.handling.summary());
        reply.bulk("group");
        reply.bulk(group(row));
    }
}

/// The group that redis-cli files a command under, by its ACL category.
fn group(row: &Row) -> &'static str {
    const GROUPS: [(&str, &str); 13] = [
        ("string", "string"),
        ("list", "list"),
        ("set", "set"),
        ("sortedset", "sorted-set"),
        ("hash", "hash"),
        ("hyperloglog", "hyperloglog"),
        ("geo", "geo"),
        ("stream", "stream"),
        ("bitmap", "bitmap"),
        ("scripting", "scripting"),
        ("transaction", "transactions"),
        ("connection", "connection"),
        ("keyspace", "generic"),
    ];
    let fits = |entry: &&(&str, &str)| row.raw.categories.contains(&entry.0);
    GROUPS.iter().find(fits).map_or("server", |entry| entry.1)
}

/// COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]
pub(super) fn list(args: &Args<'_>, reply: &mut Reply<'_>) {
    let (kind, value) = (args.get(3), args.get(4));
    let is = |name: &[u8]| kind.eq_ignore_ascii_case(name);
    let mut names: Vec<String> = Vec::new();
    match args.len() {
        2 => names.extend(ROWS.iter().filter(|row| is_taken(row)).map(Row::lower_name)),
        5 if !args.get(2).eq_ignore_ascii_case(b"FILTERBY") => return reply.wire(Wire::Syntax),
        // The proxy has no modules.
        5 if is(b"MODULE") => {}
        5 if is(b"ACLCAT") => {
            let in_category = |row: &Row| {
                row.raw
                    .categories
                    .iter()
                    .any(|c| value.eq_ignore_ascii_case(c.as_bytes()))
            };
            names.extend(
                ROWS.iter()
                    .filter(|row| is_taken(row) && in_category(row))
                    .map(Row::lower_name),
            );
        }
        5 if is(b"PATTERN") => {
            let all = ROWS.iter().filter(|row| is_taken(row)).map(Row::lower_name);
            names.extend(all.filter(|name| glob::matches(value, name.as_bytes())));
        }
        _ => return reply.wire(Wire::Syntax),
    }
    reply.set(names.len());
    for name in names {
        reply.bulk(name);
    }
}

/// COMMAND GETKEYS name arg ..., and GETKEYSANDFLAGS, which says of each key what is done with it.
pub(super) fn getkeys(args: &Args<'_>, with_flags: bool, reply: &mut Reply<'_>) {
    let request = Args {
        buf: args.buf,
        list: args.list.get(2..).unwrap_or_default(),
    };
    let Some(row) = super::find(&request).filter(|row| is_taken(row)) else {
        return reply.error("Invalid command specified");
    };
    if row.specs.is_empty() {
        return reply.error("The command has no key arguments");
    }
    if !arity_ok(row, request.len()) {
        return reply.error("Invalid number of arguments specified for command");
    }
    let mut positions = Vec::new();
    // A script whose count of keys is wrong has none for COMMAND, and an error when it runs.
    let has_fault = keys(row, &request, &mut positions).is_err();
    if has_fault && !row.flags.has(Flags::NO_MANDATORY_KEYS) {
        return reply.error("Invalid arguments specified for command");
    }
    reply.array(positions.len());
    for position in positions {
        if with_flags {
            reply.array(2);
        }
        reply.bulk(request.get(position as usize));
        if with_flags {
            let flags: Vec<_> = key_flags(row, &request, position).names().collect();
            reply.set(flags.len());
            flags.iter().for_each(|flag| reply.status(flag));
        }
    }
}

/// One row as COMMAND shows it: ten fields, subcommands nested.
fn describe(row: &Row, reply: &mut Reply<'_>) {
    let (first, last, step) = row.raw.legacy;
    reply.array(10);
    reply.bulk(row.lower_name());
    reply.integer(row.arity.into());
    let flags: Vec<_> = row.flags.names().collect();
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.status(flag));
    reply.integer(first.into());
    reply.integer(last.into());
    reply.integer(step.into());
    reply.set(row.raw.categories.len());
    row.raw
        .categories
        .iter()
        .for_each(|category| reply.status(&format!("@{category}")));
    reply.set(row.raw.tips.len());
    row.raw.tips.iter().for_each(|tip| reply.bulk(tip));
    reply.set(row.specs.len());
    row.specs.iter().for_each(|spec| describe_spec(spec, reply));
    let children: Vec<_> = row.children().iter().filter(|sub| is_taken(sub)).collect();
    reply.set(children.len());
    children.iter().for_each(|sub| describe(sub, reply));
}

fn describe_spec(spec: &KeySpec, reply: &mut Reply<'_>) {
    reply.map(3);
    reply.bulk("flags");
    let flags: Vec<_> = spec.flags.names().collect();
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.status(flag));
    reply.bulk("begin_search");
    match spec.begin {
        Begin::Index(at) => {
            typed("index", 1, reply);
            pair("index", at, reply);
        }
        Begin::Keyword { word, from } => {
            typed("keyword", 2, reply);
            reply.bulk("keyword");
            reply.bulk(word);
            pair("startfrom", from, reply);
        }
        Begin::Unknown => typed("unknown", 0, reply),
    }
    reply.bulk("find_keys");
    match spec.find {
        Find::Range { last, step, limit } => {
            typed("range", 3, reply);
            pair("lastkey", last, reply);
            pair("keystep", step, reply);
            pair("limit", limit, reply);
        }
        Find::KeyNum { count, first, step } => {
            typed("keynum", 3, reply);
            pair("keynumidx", count, reply);
            pair("firstkey", first, reply);
            pair("keystep", step, reply);
        }
        Find::Unknown => typed("unknown", 0, reply),
    }
}

/// `{type: name, spec: {` and the caller writes `pairs` pairs.
fn typed(name: &str, pairs: usize, reply: &mut Reply<'_>) {
    reply.map(2);
    reply.bulk("type");
    reply.bulk(name);
    reply.bulk("spec");
    reply.map(pairs);
}

fn pair(name: &str, value: i32, reply: &mut Reply<'_>) {
    reply.bulk(name);
    reply.integer(value.into());
}
