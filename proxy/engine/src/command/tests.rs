use super::admit::admit;
use super::channel::{Act, Kind};
use super::overlay::{Handling, LocalKind, Refusal, SplitKind, EFFECTS, HANDLINGS, LIFETIMES};
use super::spec::{Flags, KeyFlags};
use super::table::{RequestPolicy, ResponsePolicy};
use super::*;
use crate::proto::{Arg, Args};

/// A request as the parser would show it.
pub(super) struct Request {
    buf: Vec<u8>,
    list: Vec<Arg>,
}

impl Request {
    pub(super) fn new<T: AsRef<[u8]>>(words: &[T]) -> Request {
        let (mut buf, mut list) = (Vec::new(), Vec::new());
        for word in words {
            let word = word.as_ref();
            list.push(Arg {
                start: buf.len() as u32,
                len: word.len() as u32,
            });
            buf.extend_from_slice(word);
        }
        Request { buf, list }
    }

    pub(super) fn words(line: &str) -> Request {
        Request::new(&line.split(' ').collect::<Vec<_>>())
    }

    pub(super) fn args(&self) -> Args<'_> {
        Args {
            buf: &self.buf,
            list: &self.list,
        }
    }
}

fn admitted(line: &str) -> Result<&'static Row, String> {
    let mut out = Vec::new();
    admit(&Request::words(line).args(), &mut out).ok_or_else(|| String::from_utf8(out).unwrap())
}

fn key_names(line: &str) -> Result<Vec<String>, KeyError> {
    let request = Request::words(line);
    let args = request.args();
    let row = find(&args).unwrap();
    let mut positions = Vec::new();
    keys(row, &args, &mut positions)?;
    Ok(positions
        .iter()
        .map(|&at| String::from_utf8(args.get(at as usize).to_vec()).unwrap())
        .collect())
}

fn written_names(line: &str) -> Vec<String> {
    let request = Request::words(line);
    let args = request.args();
    let mut positions = Vec::new();
    super::keys::written(find(&args).unwrap(), &args, &mut positions);
    let name = |at: &u32| String::from_utf8(args.get(*at as usize).to_vec()).unwrap();
    positions.iter().map(name).collect()
}

#[test]
fn what_a_server_answers_twice_is_answered_here() {
    for (line, is_taken) in [
        ("SET k v IFDEQ zz GET", false),
        ("set k v get ifdne 0123456789abcdex", false),
        ("SET k v IFDEQ zz", true),
        ("SET k v IFDEQ 0123456789ABCDEF GET", true),
        ("SET IFDEQ GET EX 5 GET", true),
        ("SET k v IFEQ zz GET", true),
    ] {
        let mut out = Vec::new();
        let row = admit(&Request::words(line).args(), &mut out);
        assert_eq!(
            (row.is_some(), out.is_empty()),
            (is_taken, is_taken),
            "{line}"
        );
    }
}

#[test]
fn keys_that_are_only_read_are_not_written() {
    for (line, keys) in [
        ("SET a 1", "a"),
        ("SUNIONSTORE d a b", "d"),
        ("ZUNIONSTORE d 2 a b", "d"),
        ("BITOP AND d a b", "d"),
        ("PFMERGE d a", "d"),
        ("COPY a d", "d"),
        ("SORT a STORE d", "d"),
        ("GEORADIUS a 1 2 3 km STORE d", "d"),
        ("RENAME a b", "a b"),
        ("LMOVE a b LEFT RIGHT", "a b"),
        ("SMOVE a b m", "a b"),
        ("EVAL x 2 a b c", "a b"),
        ("MSET a 1 b 2", "a b"),
        // Its row says that it reads, which is true of the stream but not of its groups.
        ("XREADGROUP GROUP g c STREAMS a b > >", "a b"),
    ] {
        assert_eq!(written_names(line).join(" "), keys, "{line}");
    }
}

#[test]
fn what_is_done_with_a_key_may_depend_on_options() {
    for (line, flags) in [
        ("DELEX k", "RM delete"),
        ("DELEX k IFEQ v", "RW delete"),
        ("DELIFEQ k v", "RM delete"),
        ("XDELEX k IDS 1 1-1", "RW delete"),
        ("XACKDEL k g IDS 1 1-1", "RW update delete"),
        ("XCFGSET k IDMP-MAXSIZE 1", "RW update"),
    ] {
        let request = Request::words(line);
        let row = find(&request.args()).unwrap();
        let found: Vec<_> = super::keys::key_flags(row, &request.args(), 1)
            .names()
            .collect();
        assert_eq!(found.join(" "), flags, "{line}");
    }
}

#[test]
fn every_write_of_a_key_names_what_it_writes() {
    let is_sent = |row: &&Row| matches!(row.handling, Handling::Forward | Handling::Split(_));
    for row in ROWS.iter().filter(is_sent).filter(|row| row.is_write()) {
        let has_other = row.specs.iter().any(|spec| !spec.flags.has(KeyFlags::RO));
        assert!(
            has_other || ["SORT", "XREADGROUP"].contains(&row.name) || row.specs.is_empty(),
            "{}",
            row.name
        );
    }
}

#[test]
fn rows_are_sane() {
    for (id, row) in ROWS.iter().enumerate() {
        assert_eq!(row.id as usize, id);
        assert_ne!(row.arity, 0, "{row:?}");
        assert_eq!(row.name, row.name.to_ascii_uppercase());
        assert!(row.name.len() <= 40, "{row:?}");
        assert!(
            !row.flags.has(Flags::WRITE.with(Flags::READONLY)),
            "{row:?}"
        );
        match row.handling {
            Handling::Forward | Handling::Split(_) | Handling::Block => {
                assert!(
                    row.specs
                        .iter()
                        .any(|spec| !spec.flags.has(KeyFlags::NOT_KEY)),
                    "{row:?}"
                )
            }
            Handling::Local(_) | Handling::Fan(_) => assert!(row.specs.is_empty(), "{row:?}"),
            Handling::Container => assert!(row.subcommands > 0 && row.arity == -2, "{row:?}"),
            Handling::Transaction(_) => {
                assert!(row.raw.categories.contains(&"transaction"), "{row:?}")
            }
            Handling::Channel(_) => assert!(!row.is_write() && row.key_at == 0, "{row:?}"),
            Handling::Refuse(_) => {}
        }
        for sub in row.children() {
            assert_eq!(sub.parent, Some(row.id));
            assert!(sub.name.starts_with(&format!("{}|", row.name)));
        }
        assert_eq!(row.parent.is_some(), row.name.contains('|'));
    }
}

#[test]
fn overlay_names_exist_and_stand_once() {
    for table in [
        HANDLINGS.iter().map(|entry| entry.0).collect::<Vec<_>>(),
        EFFECTS.iter().map(|entry| entry.0).collect(),
        LIFETIMES.iter().map(|entry| entry.0).collect(),
    ] {
        for (i, name) in table.iter().enumerate() {
            assert!(ROWS.iter().any(|row| row.name == *name), "{name}");
            assert!(!table[..i].contains(name), "{name} twice");
        }
    }
    let effects = EFFECTS.iter().map(|entry| &entry.0);
    for name in effects.chain(LIFETIMES.iter().map(|entry| &entry.0)) {
        assert!(
            ROWS.iter()
                .find(|row| row.name == *name)
                .unwrap()
                .is_write(),
            "{name}"
        );
    }
}

#[test]
fn every_tip_about_policies_is_understood() {
    for row in &ROWS {
        let has = |prefix: &str| row.raw.tips.iter().any(|tip| tip.starts_with(prefix));
        assert_eq!(
            has("request_policy:"),
            row.request_policy != RequestPolicy::Default,
            "{row:?}"
        );
        assert_eq!(
            has("response_policy:"),
            row.response_policy != ResponsePolicy::Default,
            "{row:?}"
        );
    }
}

#[test]
fn split_is_what_the_server_says_may_be_split() {
    // 7.0 says it of MSETNX too, and newer ones of MSETEX, which are all or nothing and so cannot be.
    for row in ROWS
        .iter()
        .filter(|row| !["MSETNX", "MSETEX"].contains(&row.name))
    {
        let split = matches!(row.handling, Handling::Split(_));
        assert_eq!(
            split,
            row.request_policy == RequestPolicy::MultiShard,
            "{row:?}"
        );
        match row.handling {
            Handling::Split(SplitKind::Mget) => {
                assert_eq!(row.response_policy, ResponsePolicy::Default)
            }
            Handling::Split(SplitKind::Mset) => {
                assert_eq!(row.response_policy, ResponsePolicy::AllSucceeded)
            }
            Handling::Split(SplitKind::Sum) => {
                assert_eq!(row.response_policy, ResponsePolicy::AggSum)
            }
            _ => {}
        }
    }
}

#[test]
fn who_is_asked_is_what_the_server_says() {
    for row in ROWS {
        if let Handling::Fan(kind) = row.handling {
            use RequestPolicy::{Default, MultiShard};
            let is_one = row.request_policy == Default;
            // A cluster has one database, so SWAPDB says nothing of shards; nor does LASTSAVE.
            let is_ours = matches!(kind, FanKind::First | FanKind::Swap | FanKind::Least);
            assert_eq!(is_one, is_ours, "{row:?}");
            assert_ne!(row.request_policy, MultiShard, "{row:?}");
            let is_write = matches!(kind, FanKind::Flush | FanKind::Write | FanKind::Swap);
            assert_eq!(is_write, row.is_write(), "{row:?}");
        }
    }
}

#[test]
fn every_name_is_found_in_any_case_and_nothing_else() {
    for row in ROWS.iter().filter(|row| row.parent.is_none()) {
        for name in [row.name.to_string(), row.lower_name()] {
            assert_eq!(lookup(name.as_bytes()).map(|row| row.name), Some(row.name));
            assert!(lookup(&name.as_bytes()[..name.len() - 1])
                .is_none_or(|other| other.name != row.name));
            assert!(lookup(format!("{name}\0").as_bytes()).is_none());
            assert!(
                lookup(format!("{name}X").as_bytes()).is_none_or(|other| other.name != row.name)
            );
        }
    }
    for name in [
        &b""[..],
        b"\0",
        b"G\0T",
        b"ge",
        b"get ",
        b"`ET",
        b"GET\xff",
        b"g\xe5t",
        b"{}[]@`",
        b"XGROUP|CREATE",
    ] {
        assert!(lookup(name).is_none(), "{name:?}");
    }
    assert!(lookup(&[b'A'; 1000]).is_none());
}

#[test]
fn case_is_folded_for_letters_only() {
    // '@' and '`' differ by the bit that folds letters, as do '[' and '{'.
    for row in ROWS.iter().filter(|row| row.parent.is_none()) {
        for i in 0..row.name.len() {
            for byte in 0..=255u8 {
                let mut name = row.name.as_bytes().to_vec();
                name[i] = byte;
                let expected = ROWS.iter().find(|row| {
                    row.parent.is_none() && row.name.as_bytes().eq_ignore_ascii_case(&name)
                });
                assert_eq!(
                    lookup(&name).map(|row| row.id),
                    expected.map(|row| row.id),
                    "{name:?}"
                );
            }
        }
    }
}

#[test]
fn subcommands_are_found() {
    assert_eq!(
        find(&Request::words("xgroup create k g $").args())
            .unwrap()
            .name,
        "XGROUP|CREATE"
    );
    assert_eq!(
        find(&Request::words("CLIENT setname x").args())
            .unwrap()
            .name,
        "CLIENT|SETNAME"
    );
    assert_eq!(
        find(&Request::words("client").args()).unwrap().name,
        "CLIENT"
    );
    assert!(find(&Request::words("client foo").args()).is_none());
    assert!(find(&Request::words("client setnam x").args()).is_none());
}

#[test]
fn common_commands_have_one_key_at_a_fixed_place() {
    for line in [
        "GET k",
        "SET k v",
        "INCR k",
        "HSET k f v",
        "OBJECT ENCODING k",
        "XGROUP CREATE k g $",
        "ZADD k 1 a",
    ] {
        let request = Request::words(line);
        let args = request.args();
        let row = find(&args).unwrap();
        let position = first_key(row, &args).unwrap();
        assert_eq!(args.get(position as usize), b"k", "{line}");
        let mut all = Vec::new();
        keys(row, &args, &mut all).unwrap();
        assert_eq!(all, [position]);
    }
    for line in ["MGET k", "EVAL s 1 k", "RENAME k l", "SORT k", "MSET k v"] {
        let request = Request::words(line);
        assert_eq!(
            first_key(find(&request.args()).unwrap(), &request.args()),
            None,
            "{line}"
        );
    }
}

#[test]
fn sort_names_its_destination() {
    assert_eq!(
        key_names("SORT k BY nosort GET # LIMIT 0 store STORE d").unwrap(),
        ["k", "d"]
    );
    assert_eq!(key_names("SORT k STORE a STORE b").unwrap(), ["k", "b"]);
    assert_eq!(key_names("SORT k BY store").unwrap(), ["k"]);
    assert_eq!(key_names("SORT k STORE").unwrap(), ["k"]);
}

#[test]
fn key_counts_are_checked() {
    assert_eq!(key_names("EVAL s 0 a"), Ok(vec![]));
    assert_eq!(key_names("EVAL s 2 a b c").unwrap(), ["a", "b"]);
    assert_eq!(key_names("EVAL s 3 a b"), Err(KeyError::TooFew));
    assert_eq!(key_names("EVAL s 1"), Err(KeyError::TooFew));
    // What stands between keys counts for them, as for COMMAND GETKEYS; what they lack the server says.
    assert_eq!(key_names("MSETEX 2 a 1 b").unwrap(), ["a", "b"]);
    assert_eq!(key_names("MSETEX 3 a 1 b 2 c 3").unwrap(), ["a", "b", "c"]);
    assert_eq!(key_names("MSETEX 3 a 1 b 2 EX").unwrap(), ["a", "b", "EX"]);
    for line in [
        "MSETEX 4 a 1 b 2 EX",
        "MSETEX 5 a 1 b 2 KEEPTTL",
        "MSETEX 9223372036854775807 a 1 b 2",
    ] {
        assert_eq!(key_names(line), Err(KeyError::TooFew), "{line}");
    }
    assert_eq!(key_names("EVAL s -1"), Err(KeyError::Negative));
    assert_eq!(key_names("EVAL s x a"), Err(KeyError::NotANumber));
    assert_eq!(
        key_names("EVAL s 9223372036854775807 a"),
        Err(KeyError::TooFew)
    );
    assert_eq!(
        key_names("EVAL s 9223372036854775808 a"),
        Err(KeyError::NotANumber)
    );
    assert_eq!(key_names("ZUNION 0 a"), Err(KeyError::NoKeys));
    assert_eq!(
        key_names("XREAD STREAMS a b c 0 0"),
        Err(KeyError::Unbalanced)
    );
    assert_eq!(key_names("XREAD COUNT 1 a 0"), Err(KeyError::NoKeyword));
}

#[test]
fn arity_counts_the_name_and_pairs() {
    let fits = |line: &str| {
        let request = Request::words(line);
        arity_ok(find(&request.args()).unwrap(), request.args().len())
    };
    assert!(fits("GET k") && !fits("GET") && !fits("GET a b"));
    assert!(fits("SET k v") && fits("SET k v EX 1") && !fits("SET k"));
    assert!(
        fits("MSET a 1 b 2") && !fits("MSET a 1 b") && !fits("MSET a") && !fits("MSETNX a 1 b")
    );
}

#[test]
fn writes_are_told_from_reads() {
    let is_write = |name: &str| lookup(name.as_bytes()).unwrap().is_write();
    for name in [
        "SET",
        "DEL",
        "EVAL",
        "EVALSHA",
        "FCALL",
        "SORT",
        "GETEX",
        "XREADGROUP",
        "PFADD",
        "GETDEL",
    ] {
        assert!(is_write(name), "{name}");
    }
    for name in [
        "GET", "PFCOUNT", "EVAL_RO", "SORT_RO", "XREAD", "TTL", "PING", "TOUCH",
    ] {
        assert!(!is_write(name), "{name}");
    }
}

#[test]
fn what_is_forwarded() {
    for line in [
        "GET k",
        "SET k v",
        "XREAD STREAMS s 0",
        "XREADGROUP GROUP g c STREAMS s >",
        "EVAL s 1 k",
        "EVAL s 0",
        "FCALL_RO s 0 a",
        "FCALL f 1 k",
        "MEMORY USAGE k",
        "OBJECT FREQ k",
        "XINFO STREAM k",
        "XGROUP DESTROY k g",
        "DUMP k",
        "RESTORE k 0 x",
        "SORT k GET # DESC",
        "SORT k BY nosort",
        "COPY a b DB 0 REPLACE",
        "PFCOUNT a",
        "HEXPIRE k 1 FIELDS 1 f",
        // The word may be the name of a stream, a group or a consumer.
        "XREAD STREAMS block 0",
        "XREADGROUP GROUP block block STREAMS s >",
    ] {
        assert_eq!(
            admitted(line).unwrap().handling,
            Handling::Forward,
            "{line}"
        );
    }
}

#[test]
fn what_is_refused_is_unknown_and_says_why_where_that_helps() {
    for line in [
        "SYNC",
        "PSYNC ? -1",
        "DEBUG SLEEP 1",
        "SHUTDOWN",
        "REPLICAOF NO ONE",
        "SLAVEOF NO ONE",
        "SAVE",
        "BGSAVE",
        "FAILOVER",
        "PFDEBUG x k",
        "MIGRATE h 1 k 0 1",
        "RESTORE-ASKING k 0 v",
        // Refused before the arity is looked at, as a command that does not exist would be.
        "MIGRATE",
        "PFSELFTEST now",
    ] {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest: String = rest
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(|word| format!("'{word}' "))
            .collect();
        let expected =
            format!("-ERR unknown command '{name}', with args beginning with: {rest}\r\n");
        if name == "RESTORE-ASKING" {
            assert!(admitted(line)
                .unwrap_err()
                .contains("cluster support disabled"));
        } else {
            assert_eq!(admitted(line).unwrap_err(), expected, "{line}");
        }
    }
    for line in [
        "CLIENT TRACKING ON",
        "CLIENT MAINT_NOTIFICATIONS ON",
        "CLIENT PAUSE 1",
        "SCRIPT DEBUG YES",
        "MODULE LOAD x",
        "CONFIG REWRITE",
        "CONFIG SET a b",
        "ACL SETUSER x",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let expected = format!(
            "-ERR unknown subcommand '{}'. Try {} HELP.\r\n",
            words[1], words[0]
        );
        assert_eq!(admitted(line).unwrap_err(), expected, "{line}");
    }
    for line in ["CLUSTER MEET h 1", "CLUSTER", "cluster foo"] {
        assert_eq!(
            admitted(line).unwrap_err(),
            "-ERR This instance has cluster support disabled\r\n",
            "{line}"
        );
    }
}

#[test]
fn patterns_of_sort_stand_where_options_may() {
    for (line, expected) in [
        ("SORT k", &[][..]),
        ("SORT k BY nosort GET # GET x", &[]),
        ("SORT k BY w_* GET # GET o_*->f DESC", &["w_*", "o_*->f"]),
        ("SORT k STORE by GET o_*", &["o_*"]),
        ("SORT k LIMIT BY a_* GET b_*", &["b_*"]),
        ("SORT_RO k by a_* get", &["a_*"]),
    ] {
        let request = Request::words(line);
        let args = request.args();
        let found = super::keys::patterns(&args);
        let expected: Vec<_> = expected.iter().map(|each| each.as_bytes()).collect();
        assert_eq!(found, expected, "{line}");
    }
}

#[test]
fn wrong_arity_names_the_subcommand() {
    assert_eq!(
        admitted("get").unwrap_err(),
        "-ERR wrong number of arguments for 'get' command\r\n"
    );
    assert_eq!(
        admitted("client setname").unwrap_err(),
        "-ERR wrong number of arguments for 'client|setname' command\r\n"
    );
    assert_eq!(
        admitted("xgroup").unwrap_err(),
        "-ERR wrong number of arguments for 'xgroup' command\r\n"
    );
}

#[test]
fn refusals_follow_the_flags() {
    let handling = |name: &str| lookup(name.as_bytes()).unwrap().handling;
    assert_eq!(handling("BZMPOP"), Handling::Block);
    assert_eq!(
        handling("PSUBSCRIBE"),
        Handling::Channel(Act::Subscribe(Kind::Pattern))
    );
    assert_eq!(handling("SPUBLISH"), Handling::Channel(Act::Publish));
    assert_eq!(handling("BGREWRITEAOF"), Handling::Refuse(Refusal::Admin));
    assert_eq!(handling("PING"), Handling::Local(LocalKind::Ping));
    for row in ROWS
        .iter()
        .filter(|row| row.flags.has_any(Flags::ADMIN.with(Flags::PUBSUB)))
    {
        assert!(
            !matches!(row.handling, Handling::Forward | Handling::Split(_)),
            "{row:?}"
        );
    }
}

#[test]
fn reserved_keys_are_told_by_their_prefix() {
    assert!(is_reserved(b"__shardproxy:view"));
    assert!(is_reserved(b"__shardproxy:"));
    assert!(!is_reserved(b"__shardproxy"));
    assert!(!is_reserved(b"x__shardproxy:"));
}
