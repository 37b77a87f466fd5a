//! Answers of several shards become one. Bytes in, bytes out: called by `fan.rs`, knows nobody who asked.
//!
//! `Err` is the reply that the client gets instead: the first error, as a sum or a list without a shard
//! would be wrong.

use crate::command::{cursor, is_reserved, RESERVED_PREFIX};
use crate::error::Wire;
use crate::proto::resp;

pub(super) type Merged<'a, T> = Result<T, &'a [u8]>;

/// The values in an array, which is known to be complete; an error is passed on.
pub(super) fn elements(reply: &[u8]) -> Merged<'_, Vec<&[u8]>> {
    if resp::is_error(reply) {
        return Err(reply);
    }
    let (count, start) = resp::aggregate(reply).ok_or(Wire::BadReply.redis())?;
    let mut rest = &reply[start..];
    // The count is not trusted with memory: each value takes a byte at least.
    let mut found = Vec::with_capacity(count.min(rest.len()));
    for _ in 0..count {
        if rest.is_empty() {
            return Err(Wire::BadReply.redis());
        }
        let (value, tail) = rest.split_at(resp::value_len(rest));
        found.push(value);
        rest = tail;
    }
    Ok(found)
}

/// The replies of one part, which stand behind each other.
fn replies(part: &[u8]) -> Vec<&[u8]> {
    let mut rest = part;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (reply, tail) = rest.split_at(resp::value_len(rest));
        found.push(reply);
        rest = tail;
    }
    found
}

/// How many keys a shard holds without our own: the first two replies, of DBSIZE and EXISTS.
fn counted<'a>(answers: &[&'a [u8]]) -> Merged<'a, u64> {
    let number = |at: usize| {
        let answer = answers.get(at).copied().unwrap_or_default();
        match resp::integer(answer) {
            Some(number) => Ok(number),
            None if resp::is_error(answer) => Err(answer),
            None => Err(Wire::BadReply.redis()),
        }
    };
    Ok((number(0)? - number(1)?).max(0) as u64)
}

pub(super) fn dbsize(parts: &[Vec<u8>]) -> Merged<'_, u64> {
    let mut sum = 0;
    for part in parts {
        sum += counted(&replies(part))?;
    }
    Ok(sum)
}

/// The keys in all arrays, but for our own.
pub(super) fn keys(parts: &[Vec<u8>]) -> Merged<'_, Vec<&[u8]>> {
    let mut found = Vec::new();
    for part in parts {
        found.append(&mut elements(part)?);
    }
    found.retain(is_clients);
    Ok(found)
}

fn is_clients(key: &&[u8]) -> bool {
    !resp::string(key).is_some_and(is_reserved)
}

/// What the answers of one script on several shards, none of them an error, are together: of numbers the sum, of
/// lists (sets, maps) one after the other. Of anything else, as of answers of several kinds, the first that is
/// not null.
pub(super) fn scripts(parts: &[Vec<u8>], out: &mut Vec<u8>) {
    let numbers: Option<Vec<i64>> = parts.iter().map(|part| resp::integer(part)).collect();
    if let Some(numbers) = numbers {
        let sum = numbers.into_iter().fold(0, i64::saturating_add);
        out.extend_from_slice(format!(":{sum}\r\n").as_bytes());
        return;
    }
    let kind = parts[0][0];
    let body = |part: &'_ Vec<u8>| match part[0] == kind {
        true => resp::aggregate(part).or_else(|| resp::map(part)),
        false => None,
    };
    let bodies: Option<Vec<(usize, usize)>> = parts.iter().map(body).collect();
    if let Some(bodies) = bodies {
        let count: usize = bodies.iter().map(|(count, _)| count).sum();
        out.extend_from_slice(format!("{}{count}\r\n", char::from(kind)).as_bytes());
        for (part, (_, start)) in parts.iter().zip(bodies) {
            out.extend_from_slice(&part[start..]);
        }
        return;
    }
    let is_null = |part: &&Vec<u8>| matches!(part.get(..2), Some(b"_\r" | b"$-" | b"*-"));
    let first = parts
        .iter()
        .find(|part| !is_null(part))
        .unwrap_or(&parts[0]);
    out.extend_from_slice(first);
}

/// What RANDOMKEY comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Drawn<'a> {
    /// As the server sent it.
    Key(&'a [u8]),
    Nothing,
    /// The shard that was chosen showed none but our own.
    Again,
}

/// Chooses a shard by its number of keys, and of it the first of the keys drawn. Each part has the replies to
/// DBSIZE, EXISTS, and RANDOMKEY some times.
///
/// Args: `dice` any number.
pub(super) fn random_key(parts: &[Vec<u8>], dice: u64) -> Merged<'_, Drawn<'_>> {
    let mut shards = Vec::with_capacity(parts.len());
    let mut sum = 0;
    for part in parts {
        let answers = replies(part);
        let count = counted(&answers)?;
        sum += count;
        shards.push((count, answers));
    }
    if sum == 0 {
        return Ok(Drawn::Nothing);
    }
    let mut at = dice % sum;
    for (count, answers) in shards {
        if at < count {
            let drawn = answers[2..]
                .iter()
                .find(|key| resp::string(key).is_some() && is_clients(key));
            return Ok(drawn.map_or(Drawn::Again, |key| Drawn::Key(key)));
        }
        at -= count;
    }
    Ok(Drawn::Nothing)
}

/// A page of SCAN: the server's cursor, and the keys but for our own.
pub(super) fn page(reply: &[u8]) -> Merged<'_, (u64, Vec<&[u8]>)> {
    let answer = elements(reply)?;
    let [cursor, keys] = answer[..] else {
        return Err(Wire::BadReply.redis());
    };
    let cursor = resp::string(cursor)
        .and_then(cursor::parse)
        .ok_or(Wire::BadReply.redis())?;
    let mut keys = elements(keys)?;
    keys.retain(is_clients);
    Ok((cursor, keys))
}

/// A reply that is no error, if each shard has one; else the first error of one that has none. `shards` are
/// those of the parts, in order.
pub(super) fn one_of_each(
    shards: impl Iterator<Item = u16>,
    parts: &[Vec<u8>],
) -> Merged<'_, &[u8]> {
    let rows: Vec<(u16, &Vec<u8>)> = shards.zip(parts).collect();
    let mut found = Err(Wire::BadReply.redis());
    for group in rows.chunk_by(|a, b| a.0 == b.0) {
        match group.iter().find(|(_, part)| !resp::is_error(part)) {
            Some((_, part)) => found = Ok(&part[..]),
            None => return Err(group[0].1),
        }
    }
    found
}

/// The parts that are no errors, if of each shard there is one.
pub(super) fn taken<'a>(
    shards: impl Iterator<Item = u16>,
    parts: &'a [Vec<u8>],
) -> Merged<'a, impl Iterator<Item = &'a Vec<u8>>> {
    one_of_each(shards, parts)?;
    Ok(parts.iter().filter(|part| !resp::is_error(part)))
}

/// The values of all lists, but for those that speak of our own keys.
pub(super) fn lists(
    shards: impl Iterator<Item = u16>,
    parts: &[Vec<u8>],
) -> Merged<'_, Vec<&[u8]>> {
    let mut found = Vec::new();
    for part in taken(shards, parts)? {
        found.append(&mut elements(part)?);
    }
    found.retain(|value| memchr::memmem::find(value, RESERVED_PREFIX).is_none());
    Ok(found)
}

pub(super) fn sum(shards: impl Iterator<Item = u16>, parts: &[Vec<u8>]) -> Merged<'_, i64> {
    let parts = taken(shards, parts)?;
    Ok(parts.filter_map(|part| resp::integer(part)).sum())
}

/// The least number that any of them says.
pub(super) fn least(parts: &[Vec<u8>]) -> Merged<'_, i64> {
    let mut found = None;
    for part in parts {
        match resp::integer(part) {
            Some(number) => found = Some(found.map_or(number, |least: i64| least.min(number))),
            None if resp::is_error(part) => return Err(part),
            None => return Err(Wire::BadReply.redis()),
        }
    }
    found.ok_or(Wire::BadReply.redis())
}

/// All texts that came, each under its title.
pub(super) fn texts<'a, 'b>(
    titles: impl Iterator<Item = &'b str>,
    parts: &'a [Vec<u8>],
) -> Merged<'a, Vec<u8>> {
    let mut found = Vec::new();
    for (title, part) in titles.zip(parts) {
        let Some(text) = resp::string(part) else {
            continue;
        };
        // A verbatim string begins with its kind.
        let text = if part[0] == b'=' {
            &text[text.len().min(4)..]
        } else {
            text
        };
        found.extend_from_slice(title.as_bytes());
        found.extend_from_slice(b":\n");
        found.extend_from_slice(text);
        if !text.ends_with(b"\n") {
            found.push(b'\n');
        }
    }
    match parts.first() {
        Some(part) if found.is_empty() => Err(part),
        _ => Ok(found),
    }
}

/// What is 1 in all arrays of ones and noughts.
pub(super) fn all_of(parts: &[Vec<u8>]) -> Merged<'_, Vec<bool>> {
    let mut found: Option<Vec<bool>> = None;
    for part in parts {
        let flags = elements(part)?.into_iter().map(|flag| flag == b":1\r\n");
        found = Some(match found {
            Some(found) => found.into_iter().zip(flags).map(|(a, b)| a && b).collect(),
            None => flags.collect(),
        });
    }
    Ok(found.unwrap_or_default())
}

pub(super) fn write_flags(out: &mut Vec<u8>, flags: &[bool]) {
    resp::write_array(out, flags.len());
    for flag in flags {
        out.extend_from_slice(if *flag { b":1\r\n" } else { b":0\r\n" });
    }
}

/// The first success of a KILL; else the error that says most: that something runs and cannot be killed.
pub(super) fn any(parts: &[Vec<u8>]) -> &[u8] {
    let success = parts.iter().find(|part| !resp::is_error(part));
    let telling = |part: &&Vec<u8>| part.starts_with(b"-UNKILLABLE") || part.starts_with(b"-BUSY ");
    let found = success.or(parts.iter().find(telling)).or(parts.first());
    found.map_or(Wire::BadReply.redis(), Vec::as_slice)
}

/// FUNCTION STATS of a server where something runs, else of the first that can tell.
pub(super) fn running(parts: &[Vec<u8>]) -> Merged<'_, &[u8]> {
    for part in parts {
        // The value of running_script, which stands first: null in RESP2, in RESP3, or what runs.
        let at = memchr::memmem::find(part, b"running_script\r\n").map(|at| at + 16);
        let is_idle =
            at.is_none_or(|at| part[at..].starts_with(b"$-1") || part[at..].starts_with(b"_"));
        if !is_idle {
            return Ok(part);
        }
    }
    // What a server says that runs a script which is no function.
    let busy = parts.iter().find(|part| part.starts_with(b"-BUSY "));
    let good = parts.iter().find(|part| !resp::is_error(part));
    match busy.or(good).or(parts.first()) {
        Some(part) if resp::is_error(part) => Err(part),
        Some(part) => Ok(part),
        None => Err(Wire::BadReply.redis()),
    }
}

/// Appends values as one array.
pub(super) fn write_values(out: &mut Vec<u8>, values: &[&[u8]]) {
    resp::write_array(out, values.len());
    for value in values {
        out.extend_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(texts: &[&str]) -> Vec<Vec<u8>> {
        texts.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    #[test]
    fn answers_of_scripts_are_put_together_by_what_they_are() {
        let merged = |texts: &[&str]| {
            let mut out = Vec::new();
            scripts(&parts(texts), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(merged(&[":1\r\n", ":-3\r\n"]), ":-2\r\n");
        let most = format!(":{}\r\n", i64::MAX);
        assert_eq!(merged(&[&most, ":1\r\n"]), most);
        let (two, none, one) = ("*2\r\n:1\r\n*1\r\n+a\r\n", "*0\r\n", "*1\r\n$1\r\nb\r\n");
        assert_eq!(
            merged(&[two, none, one]),
            "*3\r\n:1\r\n*1\r\n+a\r\n$1\r\nb\r\n"
        );
        assert_eq!(
            merged(&["~1\r\n:1\r\n", "~1\r\n:1\r\n"]),
            "~2\r\n:1\r\n:1\r\n"
        );
        let maps = ["%1\r\n+a\r\n:1\r\n", "%1\r\n+b\r\n:2\r\n"];
        assert_eq!(merged(&maps), "%2\r\n+a\r\n:1\r\n+b\r\n:2\r\n");
        for null in ["$-1\r\n", "*-1\r\n", "_\r\n"] {
            assert_eq!(merged(&[null, "$1\r\na\r\n", "$1\r\nb\r\n"]), "$1\r\na\r\n");
            assert_eq!(merged(&[null, null]), null);
            assert_eq!(merged(&[null, ":2\r\n"]), ":2\r\n");
        }
        assert_eq!(merged(&["+OK\r\n", ":1\r\n"]), "+OK\r\n");
        assert_eq!(
            merged(&["*1\r\n:1\r\n", "%1\r\n+a\r\n:1\r\n"]),
            "*1\r\n:1\r\n"
        );
    }

    #[test]
    fn counts_are_summed_without_our_own() {
        let counts = parts(&[":5\r\n:1\r\n", ":7\r\n:0\r\n", ":1\r\n:1\r\n"]);
        assert_eq!(dbsize(&counts), Ok(11));
    }

    #[test]
    fn an_error_stands_for_the_whole() {
        let counts = parts(&[":5\r\n:1\r\n", "-LOADING x\r\n"]);
        assert_eq!(dbsize(&counts), Err(&b"-LOADING x\r\n"[..]));
        let inside = parts(&["-NOPERM x\r\n:1\r\n"]);
        assert_eq!(dbsize(&inside), Err(&b"-NOPERM x\r\n"[..]));
        for bad in ["", ":1\r\n", "+a\r\n:1\r\n"] {
            assert_eq!(dbsize(&parts(&[bad])), Err(Wire::BadReply.redis()), "{bad}");
        }
    }

    #[test]
    fn our_own_keys_are_not_listed() {
        let lists = parts(&[
            "*2\r\n$1\r\na\r\n$15\r\n__shardproxy:vw\r\n",
            "*0\r\n",
            "*1\r\n$1\r\nb\r\n",
        ]);
        let mut out = Vec::new();
        write_values(&mut out, &keys(&lists).unwrap());
        assert_eq!(out, b"*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    }

    #[test]
    fn a_shard_is_drawn_by_its_size() {
        let shards = parts(&[
            ":3\r\n:1\r\n$15\r\n__shardproxy:vw\r\n$1\r\na\r\n",
            ":1\r\n:1\r\n$15\r\n__shardproxy:vw\r\n$15\r\n__shardproxy:vw\r\n",
            ":1\r\n:0\r\n$1\r\nb\r\n$1\r\nb\r\n",
        ]);
        for (dice, key) in [(0, "a"), (1, "a"), (2, "b"), (3, "a"), (5, "b")] {
            let expected = format!("$1\r\n{key}\r\n");
            assert_eq!(
                random_key(&shards, dice),
                Ok(Drawn::Key(expected.as_bytes()))
            );
        }
    }

    #[test]
    fn nothing_is_drawn_only_where_nothing_is() {
        let own = ":1\r\n:1\r\n$15\r\n__shardproxy:vw\r\n";
        assert_eq!(random_key(&parts(&[own, own]), 7), Ok(Drawn::Nothing));
        let unlucky = ":2\r\n:1\r\n$15\r\n__shardproxy:vw\r\n";
        assert_eq!(random_key(&parts(&[own, unlucky]), 7), Ok(Drawn::Again));
        let gone = ":2\r\n:1\r\n$-1\r\n";
        assert_eq!(random_key(&parts(&[gone]), 7), Ok(Drawn::Again));
    }

    #[test]
    fn each_shard_must_have_one_that_took_it() {
        let took = parts(&["-CLUSTERDOWN x\r\n", "+OK\r\n", "+OK\r\n"]);
        assert_eq!(
            one_of_each([0, 0, 1].into_iter(), &took),
            Ok(&b"+OK\r\n"[..])
        );
        assert_eq!(
            one_of_each([0, 1, 1].into_iter(), &took),
            Err(&b"-CLUSTERDOWN x\r\n"[..])
        );
    }

    #[test]
    fn exists_what_exists_everywhere() {
        let lists = parts(&["*3\r\n:1\r\n:1\r\n:0\r\n", "*3\r\n:1\r\n:0\r\n:0\r\n"]);
        let mut out = Vec::new();
        write_flags(&mut out, &all_of(&lists).unwrap());
        assert_eq!(out, b"*3\r\n:1\r\n:0\r\n:0\r\n");
        let failed = parts(&["*1\r\n:1\r\n", "-LOADING x\r\n"]);
        assert_eq!(all_of(&failed), Err(&b"-LOADING x\r\n"[..]));
    }

    #[test]
    fn what_servers_have_measured_stands_behind_each_other() {
        let logs = parts(&[
            "*2\r\n*1\r\n:1\r\n*1\r\n$17\r\n__shardproxy:view\r\n",
            "-CLUSTERDOWN x\r\n",
            "*1\r\n*1\r\n:2\r\n",
        ]);
        let all = lists([0, 0, 1].into_iter(), &logs).unwrap();
        assert_eq!(all, [b"*1\r\n:1\r\n", b"*1\r\n:2\r\n"]);
        assert!(lists([0, 1, 2].into_iter(), &logs).is_err());
        let lengths = parts(&[":4\r\n", "-CLUSTERDOWN x\r\n", ":3\r\n"]);
        assert_eq!(sum([0, 0, 1].into_iter(), &lengths), Ok(7));
        assert_eq!(least(&parts(&[":4\r\n", ":3\r\n", ":9\r\n"])), Ok(3));
        assert!(least(&lengths).is_err() && least(&[]).is_err());
        let reports = parts(&["$3\r\nA.\n\r\n", "=6\r\ntxt:B.\r\n"]);
        let text = texts(["one", "two"].into_iter(), &reports).unwrap();
        assert_eq!(text, b"one:\nA.\ntwo:\nB.\n");
        assert!(texts(["one"].into_iter(), &parts(&["-ERR x\r\n"])).is_err());
    }

    #[test]
    fn one_killed_is_enough() {
        let killed = parts(&["-NOTBUSY x\r\n", "+OK\r\n", "-CLUSTERDOWN x\r\n"]);
        assert_eq!(any(&killed), b"+OK\r\n");
        let none = parts(&["-NOTBUSY x\r\n", "-UNKILLABLE x\r\n"]);
        assert_eq!(any(&none), b"-UNKILLABLE x\r\n");
        assert_eq!(any(&none[..1]), b"-NOTBUSY x\r\n");
    }

    #[test]
    fn what_runs_is_shown() {
        let idle = "*4\r\n$14\r\nrunning_script\r\n$-1\r\n$7\r\nengines\r\n*0\r\n";
        let busy = "*4\r\n$14\r\nrunning_script\r\n*0\r\n$7\r\nengines\r\n*0\r\n";
        assert_eq!(running(&parts(&[idle, busy])), Ok(busy.as_bytes()));
        assert_eq!(running(&parts(&[idle, idle])), Ok(idle.as_bytes()));
        let error = "-ERR x\r\n";
        assert_eq!(running(&parts(&[error, busy])), Ok(busy.as_bytes()));
        assert_eq!(running(&parts(&[error, idle])), Ok(idle.as_bytes()));
        assert_eq!(running(&parts(&[error])), Err(error.as_bytes()));
        let other = "-BUSY a script runs\r\n";
        assert_eq!(running(&parts(&[idle, other])), Err(other.as_bytes()));
    }

    #[test]
    fn a_page_has_a_cursor_and_keys() {
        let reply = b"*2\r\n$2\r\n17\r\n*2\r\n$15\r\n__shardproxy:vw\r\n$1\r\na\r\n";
        assert_eq!(page(reply), Ok((17, vec![&b"$1\r\na\r\n"[..]])));
        assert_eq!(
            page(b"-ERR syntax error\r\n"),
            Err(&b"-ERR syntax error\r\n"[..])
        );
        for bad in [
            &b"*1\r\n$1\r\n0\r\n"[..],
            b"*2\r\n$1\r\nx\r\n*0\r\n",
            b"$1\r\n0\r\n",
        ] {
            assert_eq!(page(bad), Err(Wire::BadReply.redis()));
        }
    }
}
