//! Replays what a real redis-server said (`tests/vectors/redis_commands/`) against the command table
//! and the local answers.

use std::path::Path;

use _engine::command::census::{Hit, Question};
use _engine::command::client::Seen;
use _engine::command::totals::Totals;
use _engine::command::{
    admit, answer, find, info, keys, keys::refuse, Context, FanKind, Handling, Outcome, Row,
    Session, ROWS, VERSION,
};
use _engine::error::Wire;
use _engine::proto::{Arg, Args};
use serde_json::Value;

struct Request {
    buf: Vec<u8>,
    list: Vec<Arg>,
}

impl Request {
    fn new(words: &[Vec<u8>]) -> Request {
        let (mut buf, mut list) = (Vec::new(), Vec::new());
        for word in words {
            list.push(Arg {
                start: buf.len() as u32,
                len: word.len() as u32,
            });
            buf.extend_from_slice(word);
        }
        Request { buf, list }
    }

    fn args(&self) -> Args<'_> {
        Args {
            buf: &self.buf,
            list: &self.list,
        }
    }
}

fn vectors(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/vectors/redis_commands")
        .join(name);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str::<Value>(&text)
        .unwrap()
        .as_array()
        .unwrap()
        .clone()
}

/// The vectors hold bytes as the characters of the same number.
fn bytes(value: &Value) -> Vec<u8> {
    value
        .as_str()
        .unwrap()
        .chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap())
        .collect()
}

fn words(value: &Value) -> Vec<Vec<u8>> {
    value.as_array().unwrap().iter().map(bytes).collect()
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn context(users: &[(String, Vec<u8>)]) -> Context<'_> {
    Context {
        server_version: VERSION,
        run_id: "0123456789012345678901234567890123456789",
        port: 6380,
        process_id: 7,
        uptime_seconds: 90_000,
        unix_time_us: 1_700_000_000_000_005,
        clients_connected: 3,
        clients_limit: 10_000,
        clients_blocked: 0,
        client_idle_timeout_seconds: 0,
        is_cluster: false,
        slot_of: |_| 0,
        databases: 16,
        users,
    }
}

/// The answer where there is no other client.
fn alone(
    session: &Session,
    row: &Row,
    context: &Context<'_>,
    question: &Question,
    out: &mut Vec<u8>,
) -> Outcome {
    let seen = Seen {
        session,
        command: Some(row.id),
        is_blocked: false,
        idle_seconds: 0,
        unix_time_us: context.unix_time_us,
    };
    let hit = question.ask(&seen, session.id);
    let mut lines = Vec::new();
    if let Some(Hit::Line(line)) = &hit {
        lines.push((session.id, line.clone()));
    }
    let count = u64::from(hit.is_some());
    question.reply(count, &mut lines, session.resp3, out);
    match hit {
        Some(Hit::Kill) => Outcome::Close,
        _ => Outcome::Reply,
    }
}

/// What the engine does with a request that does not leave the proxy.
fn reply(session: &mut Session, words: &[Vec<u8>], context: &Context<'_>) -> (Vec<u8>, Outcome) {
    let request = Request::new(words);
    let args = request.args();
    let mut out = Vec::new();
    let row = admit(&args, &mut out);
    let muted = session.mutes(row);
    let outcome = match row {
        None => Outcome::Reply,
        Some(row) if !session.allows(row) => {
            out.extend_from_slice(Wire::NoAuth.redis());
            Outcome::Reply
        }
        Some(row) if row.handling == Handling::Fan(FanKind::Info) => {
            let mut totals = Totals::new(2);
            totals.add(
                b"used_memory:1048576\r\ndb0:keys=4,expires=0,avg_ttl=0\r\n",
                1,
            );
            info(&args, context, &totals, session.resp3, &mut out);
            Outcome::Reply
        }
        Some(row) if matches!(row.handling, Handling::Local(_)) => {
            match answer(session, row, &args, context, &mut out) {
                Outcome::Ask(question) => alone(session, row, context, &question, &mut out),
                outcome => outcome,
            }
        }
        Some(row) => {
            let error = keys(row, &args, &mut Vec::new()).expect_err("a request that stays here");
            refuse(row, error, &mut out);
            Outcome::Reply
        }
    };
    if muted {
        out.clear();
    }
    (out, outcome)
}

fn ask(session: &mut Session, line: &str, context: &Context<'_>) -> String {
    let words: Vec<Vec<u8>> = line
        .split(' ')
        .map(|word| word.as_bytes().to_vec())
        .collect();
    String::from_utf8(reply(session, &words, context).0).unwrap()
}

fn session(context: &Context<'_>) -> Session {
    Session::new(
        5,
        b"127.0.0.1:5000".to_vec(),
        b"127.0.0.1:6380".to_vec(),
        context,
    )
}

#[test]
fn keys_are_those_the_server_finds() {
    let cases = vectors("getkeys.json");
    assert!(cases.len() > 50);
    for case in &cases {
        let request = Request::new(&words(&case["request"]));
        let args = request.args();
        let row = find(&args).unwrap_or_else(|| panic!("{}", case["request"]));
        let mut positions = Vec::new();
        let found = keys(row, &args, &mut positions).map(|()| {
            positions
                .iter()
                .map(|&at| args.get(at as usize).to_vec())
                .collect::<Vec<_>>()
        });
        match &case["keys"] {
            // COMMAND GETKEYS calls it invalid, yet the server runs it: a merge of nothing into one key.
            Value::Null if case["request"] == serde_json::json!(["PFMERGE", "d"]) => {
                assert_eq!(found.unwrap(), [b"d".to_vec()]);
            }
            Value::Null => assert!(
                found.is_err() && positions.is_empty(),
                "{}",
                case["request"]
            ),
            // The server shows no keys for a script with a wrong count, and refuses to run it.
            Value::Array(none) if none.is_empty() => {
                assert!(
                    found.is_err() || found.unwrap().is_empty(),
                    "{}",
                    case["request"]
                );
            }
            expected => assert_eq!(found.unwrap(), words(expected), "{}", case["request"]),
        }
    }
}

#[test]
fn local_answers_are_the_bytes_of_the_server() {
    let mut compared = 0;
    for script in vectors("replies.json") {
        let users: Vec<(String, Vec<u8>)> = script["users"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, password)| (name.clone(), bytes(password)))
            .collect();
        let context = context(&users);
        let mut session = session(&context);
        let steps = script["steps"].as_array().unwrap();
        if let Some(id) = steps
            .iter()
            .find_map(|step| hello_id(&bytes(&step["reply"])))
        {
            session.id = id;
        }
        for step in steps {
            let (actual, outcome) = reply(&mut session, &words(&step["request"]), &context);
            assert_eq!(
                shown(&actual),
                shown(&bytes(&step["reply"])),
                "{}",
                step["request"]
            );
            let quits = bytes(&step["request"][0]).eq_ignore_ascii_case(b"QUIT");
            assert_eq!(outcome == Outcome::Close, quits, "{}", step["request"]);
            compared += 1;
        }
    }
    assert!(compared > 150, "{compared}");
}

/// The connection's number in a reply to HELLO.
fn hello_id(reply: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(reply).ok()?;
    let (_, rest) = text.split_once("$2\r\nid\r\n:")?;
    rest.split_once("\r\n")?.0.parse().ok()
}

/// Whether the client with id 5, one of three, fits `line`, asked by the one with id 7.
fn is_hit(line: &str) -> bool {
    let context = context(&[]);
    let mut asker = Session::new(
        7,
        b"1.2.3.4:5".to_vec(),
        b"127.0.0.1:6380".to_vec(),
        &context,
    );
    let mut other = session(&context);
    other.connected_us -= 12_000_000;
    let words: Vec<Vec<u8>> = line
        .split(' ')
        .map(|word| word.as_bytes().to_vec())
        .collect();
    let request = Request::new(&words);
    let (args, mut out) = (request.args(), Vec::new());
    let row = admit(&args, &mut out).unwrap();
    let outcome = answer(&mut asker, row, &args, &context, &mut out);
    let Outcome::Ask(question) = outcome else {
        panic!("{line}: {}", shown(&out))
    };
    let seen = Seen {
        session: &other,
        command: None,
        is_blocked: true,
        idle_seconds: 2,
        unix_time_us: context.unix_time_us,
    };
    question.ask(&seen, asker.id).is_some()
}

#[test]
fn filters_choose_among_all_clients() {
    for line in [
        "CLIENT LIST",
        "CLIENT LIST TYPE normal",
        "CLIENT LIST ID 1 5",
        "CLIENT KILL 127.0.0.1:5000",
        "CLIENT KILL ID 5",
        "CLIENT KILL ADDR 127.0.0.1:5000 LADDR 127.0.0.1:6380 USER default TYPE normal",
        "CLIENT KILL MAXAGE 12",
        "CLIENT UNBLOCK 5",
        "CLIENT UNBLOCK 5 ERROR",
    ] {
        assert!(is_hit(line), "{line}");
    }
    for line in [
        "CLIENT LIST TYPE pubsub",
        "CLIENT LIST ID 7",
        "CLIENT KILL 1.2.3.4:5",
        "CLIENT KILL ID 7 SKIPME no",
        "CLIENT KILL ID 5 ADDR 1.2.3.4:5",
        "CLIENT KILL LADDR 127.0.0.1:1",
        "CLIENT KILL TYPE replica",
        "CLIENT KILL MAXAGE 13",
        "CLIENT UNBLOCK 7",
        "CLIENT UNBLOCK -5",
    ] {
        assert!(!is_hit(line), "{line}");
    }
}

#[test]
fn a_client_kills_itself_when_it_says_so() {
    let context = context(&[]);
    let mut session = session(&context);
    let mut kill = |line: &str| {
        let words: Vec<Vec<u8>> = line
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect();
        let (out, outcome) = reply(&mut session, &words, &context);
        (String::from_utf8(out).unwrap(), outcome)
    };
    assert_eq!(
        kill("CLIENT KILL 127.0.0.1:5000"),
        ("+OK\r\n".into(), Outcome::Close)
    );
    assert_eq!(kill("CLIENT KILL ID 5"), (":0\r\n".into(), Outcome::Reply));
    assert_eq!(
        kill("CLIENT KILL ID 5 SKIPME no"),
        (":1\r\n".into(), Outcome::Close)
    );
    assert_eq!(
        kill("CLIENT KILL TYPE normal ADDR 127.0.0.1:1 SKIPME no"),
        (":0\r\n".into(), Outcome::Reply)
    );
}

#[test]
fn info_has_what_clients_look_for() {
    let context = context(&[]);
    let mut session = session(&context);
    let all = ask(&mut session, "INFO", &context);
    for line in [
        "redis_version:7.0.15",
        "redis_mode:standalone",
        "run_id:0123456789012345678901234567890123456789",
        "tcp_port:6380",
        "uptime_in_seconds:90000",
        "connected_clients:3",
        "loading:0",
        "role:master",
        "connected_slaves:0",
        "maxmemory_policy:noeviction",
        "used_memory:1048576",
        "used_memory_human:1.00M",
        "keyspace_hits:0",
        "shards:2",
        "shards_counted:1",
        "db0:keys=3,expires=0,avg_ttl=0",
    ] {
        assert!(all.contains(&format!("\r\n{line}\r\n")), "{line}");
    }
    assert_eq!(ask(&mut session, "INFO default", &context), all);
    let everything = ask(&mut session, "INFO cpu everything", &context);
    assert_eq!(everything.matches("# CPU\r\n").count(), 1);
    assert!(everything.contains("# Commandstats\r\n") && !all.contains("# Commandstats"));
    let server = ask(&mut session, "INFO server", &context);
    assert!(server.contains("# Server\r\n") && !server.contains("# Clients"));
    let two = ask(&mut session, "INFO REPLICATION clients", &context);
    assert!(two.contains("# Clients\r\n") && two.contains("\r\n\r\n# Replication\r\n"));
    assert_eq!(ask(&mut session, "INFO nosuch", &context), "$0\r\n\r\n");
    ask(&mut session, "HELLO 3", &context);
    let verbatim = ask(&mut session, "INFO keyspace", &context);
    assert_eq!(
        verbatim,
        "=48\r\ntxt:# Keyspace\r\ndb0:keys=3,expires=0,avg_ttl=0\r\n\r\n"
    );
}

#[test]
fn client_lines_show_what_was_set() {
    let context = context(&[]);
    let mut session = session(&context);
    session.connected_us -= 12_000_000;
    for line in [
        "CLIENT SETINFO lib-name redis-py",
        "CLIENT SETINFO LIB-VER 8.0",
        "CLIENT NO-TOUCH on",
    ] {
        assert_eq!(ask(&mut session, line, &context), "+OK\r\n");
    }
    assert!(ask(&mut session, "CLIENT SETINFO lib-foo x", &context)
        .starts_with("-ERR Unrecognized option"));
    ask(&mut session, "CLIENT SETNAME me", &context);
    let list = ask(&mut session, "CLIENT LIST", &context);
    for field in [
        "id=5 addr=127.0.0.1:5000 laddr=127.0.0.1:6380 ",
        " name=me age=12 ",
        " flags=T ",
        " cmd=client|list user=default ",
        " resp=2 lib-name=redis-py lib-ver=8.0\n",
    ] {
        assert!(list.contains(field), "{field} in {list}");
    }
    assert_eq!(ask(&mut session, "CLIENT LIST ID 4 5", &context), list);
    assert!(ask(&mut session, "CLIENT INFO", &context).contains(" cmd=client|info "));
}

#[test]
fn time_is_the_time_given() {
    let context = context(&[]);
    let time = ask(&mut session(&context), "TIME", &context);
    assert_eq!(time, "*2\r\n$10\r\n1700000000\r\n$1\r\n5\r\n");
}

#[test]
fn commands_that_are_refused_do_not_exist() {
    let context = context(&[]);
    let mut session = session(&context);
    assert_eq!(
        ask(
            &mut session,
            "COMMAND INFO pfselftest client|tracking",
            &context
        ),
        "*2\r\n$-1\r\n$-1\r\n"
    );
    assert!(ask(&mut session, "COMMAND GETKEYS PFDEBUG x k", &context).contains("Invalid command"));
    assert_eq!(
        ask(&mut session, "COMMAND GETKEYS BLPOP a b 0", &context),
        "*2\r\n$1\r\na\r\n$1\r\nb\r\n"
    );
    let list = ask(&mut session, "COMMAND LIST", &context);
    assert!(list.contains("\r\nget\r\n") && !list.contains("\r\npfselftest\r\n"));
    assert!(list.contains("\r\nclient|list\r\n") && !list.contains("\r\nclient|pause\r\n"));
    // MONITOR is shown to nobody, as only some may use it.
    let is_shown = |row: &&Row| {
        row.parent.is_none()
            && row.name != "MONITOR"
            && !matches!(row.handling, Handling::Refuse(_))
    };
    let count = ROWS.iter().filter(is_shown).count();
    assert_eq!(
        ask(&mut session, "COMMAND COUNT", &context),
        format!(":{count}\r\n")
    );
    assert!(ask(&mut session, "COMMAND", &context).starts_with(&format!("*{count}\r\n*10\r\n")));
    let docs = ask(&mut session, "COMMAND DOCS get", &context);
    assert!(docs.starts_with("*2\r\n$3\r\nget\r\n*4\r\n$7\r\nsummary\r\n$37\r\nRuns on the shard"));
    assert!(docs.ends_with("$5\r\ngroup\r\n$6\r\nstring\r\n"));
}

#[test]
fn help_lists_what_is_taken() {
    let context = context(&[]);
    let help = ask(&mut session(&context), "XGROUP HELP", &context);
    assert!(help.starts_with("*7\r\n+XGROUP <subcommand>") && help.contains("+CREATECONSUMER\r\n"));
    let help = ask(&mut session(&context), "CLIENT HELP", &context);
    assert!(help.contains("+SETNAME\r\n") && !help.contains("+TRACKING"));
}

#[test]
fn an_error_never_grows_with_what_the_client_sent() {
    let context = context(&[]);
    let mut session = session(&context);
    let huge = "\n".repeat(100_000);
    for line in [
        format!("HELLO 3 {huge}"),
        format!("CLIENT SETINFO {huge} x"),
        format!("CLIENT KILL TYPE {huge}"),
        format!("CLIENT LIST TYPE {huge}"),
        format!("CLIENT {huge}"),
        format!("{huge} {huge} {huge}"),
    ] {
        let error = ask(&mut session, &line, &context);
        assert!(
            error.starts_with("-ERR ") && error.len() < 600,
            "{} bytes",
            error.len()
        );
        assert_eq!(error.matches('\n').count(), 1);
    }
}
