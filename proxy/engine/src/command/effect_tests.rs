//! One test per row of the tables EFFECTS and LIFETIMES in `overlay.rs`.

use super::effect::{follow, is_condition};
use super::expiry::absolute;
use super::find;
use super::overlay::Effect::{self, *};
use super::overlay::{EffectRule, EFFECTS, LIFETIMES};
use super::tests::Request;
use super::{Handling, ROWS};
use crate::proto::resp;

const NOW_MS: i64 = 1_700_000_000_000;

fn effect(line: &str) -> Effect {
    let request = Request::words(line);
    find(&request.args()).unwrap().effect_of(&request.args())
}

fn multibulk(line: &str) -> Vec<u8> {
    let words: Vec<&str> = line.split(' ').collect();
    let mut out = Vec::new();
    resp::write_array(&mut out, words.len());
    for word in words {
        resp::write_bulk(&mut out, word.as_bytes());
    }
    out
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The request with its time to live made absolute; `None` if it goes as it came.
fn made_absolute(line: &str) -> Option<Vec<u8>> {
    let request = Request::words(line);
    let row = find(&request.args()).unwrap();
    let mut out = Vec::new();
    let is_made = absolute(row, &request.args(), || NOW_MS, &mut out);
    assert_eq!(is_made, !out.is_empty(), "{line}");
    is_made.then_some(out)
}

#[test]
fn each_row_has_its_effect() {
    for (wanted, lines) in [
        (
            Verbatim,
            &[
                "SET k v",
                "SET k v EX 5",
                "set k v pxat 5",
                "SET k v EXAT 5",
                "SETEX k 5 v",
                "PSETEX k 5 v",
                "MSET k v",
                "DEL k",
                "UNLINK k",
            ][..],
        ),
        (
            Compared,
            &[
                "SET k v NX",
                "SET k v XX GET PX 5",
                "set k v get",
                "SETNX k v",
                "GETSET k v",
                "GETDEL k",
                "DELEX k",
                "DELEX k IFNE v",
                "DELEX k IFDEQ 0123456789abcdef",
                "DELIFEQ k v",
                "EXPIRE k 5",
                "EXPIREAT k 5 NX",
                "PEXPIRE k 5 GT",
                "PEXPIREAT k 5 LT",
                "PERSIST k",
                "GETEX k EX 5",
                "GETEX k PERSIST",
                "GETEX k PXAT 5",
                "HDEL h f",
                "HGETDEL h FIELDS 1 f",
                "LINSERT l BEFORE p v",
                "LPOP l",
                "LPUSHX l v",
                "LREM l 0 v",
                "LSET l 0 v",
                "LTRIM l 0 1",
                "RPOP l 2",
                "RPUSHX l v",
                "SREM s m",
                "XACK s g 1-1",
                "XDEL s 1-1",
                "XGROUP DELCONSUMER s g c",
                "XGROUP DESTROY s g",
                "XGROUP SETID s g $",
                "XSETID s 5-5",
                "XACKDEL s g ACKED IDS 1 1-1",
                "XDELEX s IDS 1 1-1",
                "XDELEX s DELREF IDS 1 1-1",
                "XCFGSET s IDMP-DURATION 5",
                "XTRIM s MAXLEN 5",
                "XTRIM s MAXLEN = 5",
                "XTRIM s MINID 5",
                "XTRIM s ACKED MAXLEN 5",
                "LMPOP 1 a LEFT",
                // With several keys: compared inside a transaction, as all that compare are.
                "LMPOP 2 a b LEFT",
                "ZMPOP 1 a MIN",
                "ZPOPMAX z",
                "ZPOPMIN z 2",
                "ZREM z m",
                "ZREMRANGEBYLEX z - +",
                "ZREMRANGEBYRANK z 0 1",
                "ZREMRANGEBYSCORE z 0 1",
                "XADD s NOMKSTREAM MAXLEN 5",
            ],
        ),
        (
            Verified,
            &[
                "SET k v KEEPTTL",
                "SET k v NX KEEPTTL",
                "SET k v IFEQ x",
                "APPEND k v",
                "BITFIELD k INCRBY u8 0 1",
                "DECR k",
                "DECRBY k 2",
                "GEOADD g 1 2 m",
                "HINCRBY h f 1",
                "HINCRBYFLOAT h f 1",
                "HMSET h f v",
                "HSET h f v",
                "HSETNX h f v",
                "INCR k",
                "INCRBY k 2",
                "INCRBYFLOAT k 1",
                "LPUSH l v",
                "PFADD p v",
                "RESTORE k 0 v",
                "RPUSH l v",
                "SADD s m",
                "SETBIT k 0 1",
                "SETRANGE k 0 v",
                "XADD s 1-1 f v",
                "XADD s 1-1 f *",
                "XADD s MAXLEN 5 1-1 f *",
                "XADD s MAXLEN = 5 1-1 f v",
                "XADD s NOMKSTREAM 1-1 ~ *",
                "XGROUP CREATE s g $ MKSTREAM",
                "ZADD z NX 1 m",
                "ZADD z GT CH INCR 1 m",
                "ZINCRBY z 1 m",
                "HEXPIRE h 5 FIELDS 1 f",
                "HSETEX h EX 5 FIELDS 1 f v",
                "HGETEX h EX 5 FIELDS 1 f",
                "HPERSIST h FIELDS 1 f",
                // With several keys: compared inside a transaction.
                "BITOP AND d a b",
                "COPY a b",
                "COPY a b NOSUCH DB 3",
                "COPY a b DB 3 NOSUCH",
                "COPY a b DB",
                "GEORADIUS g 1 2 3 m STORE d",
                "GEOSEARCHSTORE d g",
                "LMOVE a b LEFT RIGHT",
                "MSETNX a 1 b 2",
                "PFMERGE d a",
                "RENAME a b",
                "RENAMENX a b",
                "RPOPLPUSH a b",
                "SDIFFSTORE d a",
                "SINTERSTORE d a",
                "SMOVE a b m",
                "SUNIONSTORE d a",
                "ZDIFFSTORE d 1 a",
                "ZINTERSTORE d 1 a",
                "ZRANGESTORE d a 0 1",
                "ZUNIONSTORE d 1 a",
            ],
        ),
        (Nothing, &["SORT k", "SORT k LIMIT 0 5 ALPHA", "GETEX k"]),
        (Popped, &["SPOP s", "SPOP s 2"]),
        (
            StreamAdd { about: false },
            &[
                "XADD s * f v",
                "XADD s 5-* f v",
                "XADD s NOMKSTREAM MAXLEN = 5 * f v",
                "XADD s MAXLEN 5 * f v",
                "XADD s DELREF * f v",
                "XADD s MAXLEN 5 ACKED * ~ *",
            ],
        ),
        (
            StreamAdd { about: true },
            &[
                "XADD s MAXLEN ~ 5 1-1 f v",
                "XADD s minid ~ 1 LIMIT 5 1-1 f v",
                "XADD s MAXLEN ~ 5 * f v",
                "XADD s ACKED LIMIT 5 MAXLEN ~ 5 1-1 f v",
            ],
        ),
        (
            StreamTrim,
            &[
                "XTRIM s MAXLEN ~ 5",
                "XTRIM s MINID ~ 5 LIMIT 10",
                "XTRIM s DELREF MAXLEN ~ 5",
                "XTRIM s LIMIT 10 MAXLEN ~ 5 acked",
            ],
        ),
        (Program, &["EVAL s 0", "EVALSHA s 0 a", "FCALL f 0"]),
        (
            State,
            &[
                "EVAL s 1 k",
                "EVALSHA s 1 k",
                "FCALL f 1 k",
                "XADD s IDMPAUTO p * f v",
                "XADD s MAXLEN ~ 5 idmp p i * f v",
                "XREADGROUP GROUP g c STREAMS s >",
                "XCLAIM s g c 0 1-1",
                "XAUTOCLAIM s g c 0 0",
                "XGROUP CREATECONSUMER s g c",
                "SORT k STORE d",
            ],
        ),
    ] {
        for line in lines {
            assert_eq!(effect(line), wanted, "{line}");
        }
    }
}

#[test]
fn a_script_that_says_so_writes_nothing() {
    for (text, wanted) in [
        ("#!lua flags=no-writes\nreturn 1", Effect::Nothing),
        ("#!lua name=x flags=allow-stale,no-writes", Effect::Nothing),
        ("#!lua flags=no-writes-at-all\nreturn 1", Effect::State),
        ("#!lua\n flags=no-writes", Effect::State),
        ("-- #!lua flags=no-writes\nreturn 1", Effect::State),
    ] {
        for (name, count) in [("EVAL", "1"), ("eval", "0"), ("FCALL", "1")] {
            let request = Request::new(&[name, text, count, "k"]);
            let effect = find(&request.args()).unwrap().effect_of(&request.args());
            let wanted = match (wanted, count) {
                _ if name == "FCALL" => Effect::State,
                (Effect::State, "0") => Effect::Program,
                (wanted, _) => wanted,
            };
            assert_eq!(effect, wanted, "{name} {text} {count}");
        }
    }
}

#[test]
fn every_write_that_is_sent_has_an_effect_made_for_it() {
    // A command that says READONLY or names no key is no write; blocking ones are not taken.
    for row in &ROWS {
        if row.is_write() && row.handling == Handling::Forward {
            let named = EFFECTS.iter().any(|entry| entry.0 == row.name);
            assert!(
                named || row.effect == EffectRule::Always(Verified),
                "{row:?}"
            );
        }
        assert!(!row.is_write() || !row.name.ends_with("_RO"), "{row:?}");
    }
    assert!(!ROWS
        .iter()
        .any(|row| row.name == "PFCOUNT" && row.is_write()));
}

#[test]
fn times_to_live_become_points_in_time() {
    for (line, wanted) in [
        ("SET k v EX 5", "SET k v PXAT 1700000005000"),
        ("set k v px 5", "set k v PXAT 1700000000005"),
        ("SET k v NX GET ex 5", "SET k v NX GET PXAT 1700000005000"),
        ("SET k v PX 5 XX", "SET k v PXAT 1700000000005 XX"),
        ("SET EX PX EX 1", "SET EX PX PXAT 1700000001000"),
        (
            "SET k v ifeq EX PX 5 GET",
            "SET k v ifeq EX PXAT 1700000000005 GET",
        ),
        ("SET k v EX 5 IFDNE 0", "SET k v PXAT 1700000005000 IFDNE 0"),
        ("SETEX k 5 v", "SET k v PXAT 1700000005000"),
        ("PSETEX k 5 v", "SET k v PXAT 1700000000005"),
        ("EXPIRE k 5", "PEXPIREAT k 1700000005000"),
        ("EXPIRE k 5 GT", "PEXPIREAT k 1700000005000 GT"),
        ("pexpire k 5 nx", "PEXPIREAT k 1700000000005 nx"),
        ("GETEX k EX 5", "GETEX k PXAT 1700000005000"),
        ("GETEX k px 5", "GETEX k PXAT 1700000000005"),
        ("RESTORE k 5 v", "RESTORE k 1700000000005 v ABSTTL"),
        (
            "RESTORE k 5 v REPLACE FREQ 3 IDLETIME 9",
            "RESTORE k 1700000000005 v REPLACE FREQ 3 IDLETIME 9 ABSTTL",
        ),
        (
            "HEXPIRE h 5 NX FIELDS 2 a b",
            "HPEXPIREAT h 1700000005000 NX FIELDS 2 a b",
        ),
        (
            "HPEXPIRE h 5 FIELDS 1 a",
            "HPEXPIREAT h 1700000000005 FIELDS 1 a",
        ),
        (
            "HGETEX h EX 5 FIELDS 1 EX",
            "HGETEX h PXAT 1700000005000 FIELDS 1 EX",
        ),
        (
            "HSETEX h FNX PX 5 FIELDS 1 f v",
            "HSETEX h FNX PXAT 1700000000005 FIELDS 1 f v",
        ),
    ] {
        let made = made_absolute(line).unwrap_or_default();
        assert_eq!(shown(&made), shown(&multibulk(wanted)), "{line}");
    }
    let named = |line: &&str| LIFETIMES.iter().any(|entry| line.starts_with(entry.0));
    assert!(["SET k v", "HGETEX h"].iter().all(named));
}

#[test]
fn what_may_be_refused_goes_as_it_came() {
    for line in [
        "SET k v",
        "SET k v NX",
        "SET k v EX 0",
        "SET k v EX -1",
        "SET k v EX x",
        "SET k v EX 1.5",
        "SET k v EX 05",
        "SET k v EX",
        "SET k v EX 5 PX 5",
        "SET k v EX 5 EX 5",
        "SET k v EX 5 KEEPTTL",
        "SET k v EX 5 PXAT 5",
        "SET k v EX 5 SOON",
        "SET k v IFEQ EX 5",
        "SET k v EXAT 5",
        "SET k v EX 9223372036854775807",
        "SET k v PX 9223372036854775807",
        "SET k v EX 9223372036854775",
        "SETEX k 0 v",
        "SETEX k -5 v",
        "SETEX k x v",
        "PSETEX k 99999999999999999999 v",
        "EXPIRE k 0",
        "EXPIRE k -1",
        "EXPIRE k x",
        "EXPIREAT k 5",
        "PEXPIREAT k 5",
        "GETEX k",
        "GETEX k PERSIST",
        "GETEX k EX 5 PERSIST",
        "GETEX k EX 0",
        "RESTORE k 0 v",
        "RESTORE k -1 v",
        "RESTORE k 5 v ABSTTL",
        "RESTORE k 5 v IDLETIME",
        "RESTORE k 5 v SOON",
        "HEXPIRE h 0 FIELDS 1 a",
        "HEXPIRE h 281474976710656 FIELDS 1 a",
        "HGETEX h PERSIST FIELDS 1 EX",
        "HGETEX h EX 5",
        "HSETEX h KEEPTTL EX 5 FIELDS 1 f v",
        "INCR k",
        "EX 5",
    ] {
        if let Some(row) = find(&Request::words(line).args()) {
            assert_eq!(made_absolute(line), None, "{row:?} {line}");
        }
    }
}

fn followed(line: &str, replies: &str) -> Option<String> {
    let request = Request::words(line);
    let bytes = follow(effect(line), &request.args(), replies.as_bytes())?;
    let (mut list, mut resume) = (Vec::new(), Default::default());
    resp::request(&bytes, &mut list, &mut resume, usize::MAX);
    let args = crate::proto::Args {
        buf: &bytes,
        list: &list,
    };
    let words: Vec<_> = args.iter().map(shown).collect();
    Some(words.join(" "))
}

#[test]
fn the_reply_tells_what_was_popped() {
    for (line, reply, wanted) in [
        ("SPOP s", "$1\r\na\r\n", Some("SREM s a")),
        ("SPOP s", "$-1\r\n", None),
        ("SPOP s", "_\r\n", None),
        (
            "SPOP s 2",
            "*2\r\n$1\r\na\r\n$2\r\nbb\r\n",
            Some("SREM s a bb"),
        ),
        (
            "SPOP s 2",
            "~2\r\n$1\r\na\r\n$2\r\nbb\r\n",
            Some("SREM s a bb"),
        ),
        ("SPOP s 2", "*0\r\n", None),
        ("SPOP s 2", "~0\r\n", None),
        ("SPOP s", "-WRONGTYPE x\r\n", None),
    ] {
        assert_eq!(followed(line, reply).as_deref(), wanted, "{line} {reply:?}");
    }
}

#[test]
fn the_reply_tells_the_id_and_the_length() {
    for (line, replies, wanted) in [
        ("XADD s * f v", "$3\r\n5-1\r\n", Some("XADD s 5-1 f v")),
        (
            "XADD s 5-* f v g w",
            "$3\r\n5-1\r\n",
            Some("XADD s 5-1 f v g w"),
        ),
        ("XADD s NOMKSTREAM * f v", "$-1\r\n", None),
        ("XADD s NOMKSTREAM * f v", "_\r\n", None),
        ("XADD s * f v", "-WRONGTYPE x\r\n", None),
        (
            "XADD s MAXLEN ~ 100 LIMIT 50 * f v",
            "$3\r\n5-1\r\n:104\r\n:-1\r\n",
            Some("XADD s MAXLEN = 104 5-1 f v"),
        ),
        (
            "XADD s MINID ~ 3 4-0 f v",
            "$3\r\n4-0\r\n:7\r\n:-1\r\n",
            Some("XADD s MAXLEN = 7 4-0 f v"),
        ),
        (
            "XTRIM s MAXLEN ~ 5",
            ":3\r\n:9\r\n",
            Some("XTRIM s MAXLEN = 9"),
        ),
        (
            "XTRIM s MINID ~ 5 LIMIT 7",
            ":3\r\n:0\r\n",
            Some("XTRIM s MAXLEN = 0"),
        ),
        (
            "XADD s MAXLEN ~ 100 DELREF NOMKSTREAM * f v",
            "$3\r\n5-1\r\n:104\r\n:-1\r\n",
            Some("XADD s DELREF MAXLEN = 104 5-1 f v"),
        ),
        (
            "XTRIM s MINID ~ 5 ACKED LIMIT 7",
            ":3\r\n:2\r\n",
            Some("XTRIM s ACKED MAXLEN = 2"),
        ),
        ("XTRIM s MAXLEN ~ 5", ":0\r\n:9\r\n", None),
        (
            "XTRIM s MAXLEN ~ 5",
            "-WRONGTYPE x\r\n-WRONGTYPE x\r\n",
            None,
        ),
    ] {
        assert_eq!(
            followed(line, replies).as_deref(),
            wanted,
            "{line} {replies:?}"
        );
    }
}

#[test]
fn an_exact_trim_beside_a_made_id_is_kept() {
    let line = "XADD s NOMKSTREAM MAXLEN = 5 * f v";
    assert_eq!(
        followed(line, "$3\r\n5-1\r\n").as_deref(),
        Some("XADD s NOMKSTREAM MAXLEN = 5 5-1 f v")
    );
    let line = "XADD s ACKED MAXLEN 5 * f v";
    assert_eq!(
        followed(line, "$3\r\n5-1\r\n").as_deref(),
        Some("XADD s ACKED MAXLEN 5 5-1 f v")
    );
}

#[test]
fn errors_of_the_server_are_told_from_those_of_its_data() {
    for reply in [
        "-OOM command not allowed\r\n",
        "-MISCONF x\r\n",
        "-READONLY x\r\n",
        "-EXECABORT x\r\n",
    ] {
        assert!(is_condition(reply.as_bytes()), "{reply}");
    }
    for reply in [
        "-WRONGTYPE x\r\n",
        "-ERR no such key\r\n",
        "-BUSYKEY x\r\n",
        "-BUSYGROUP x\r\n",
        "+OOM \r\n",
    ] {
        assert!(!is_condition(reply.as_bytes()), "{reply}");
    }
}
