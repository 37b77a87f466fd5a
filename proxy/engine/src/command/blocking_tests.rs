use super::blocking::{nil, take, Call, Found, Holds};
use super::find;
use super::tests::Request;

fn taken(line: &str) -> Result<Option<Call>, String> {
    let request = Request::words(line);
    let args = request.args();
    let text = |error| String::from_utf8(error).unwrap();
    take(find(&args).unwrap(), &args).map_err(text)
}

fn call(line: &str) -> Call {
    taken(line).unwrap().unwrap()
}

/// A request or reply as words: `*2 $1 a ...` without the lengths of strings.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let is_word = |word: &&str| !word.is_empty() && !word.starts_with(['*', '$']);
    let words: Vec<&str> = text.split("\r\n").filter(is_word).collect();
    words.join(" ")
}

fn attempted(line: &str) -> String {
    let call = call(line);
    let mut out = Vec::new();
    call.attempt(0..call.keys.len(), &mut out);
    shown(&out)
}

#[test]
fn each_is_tried_in_the_form_that_does_not_block() {
    for (line, attempt) in [
        ("BLPOP a 0", "LPOP a"),
        ("brpop a 0", "RPOP a"),
        ("BLPOP a b 0", "LMPOP 2 a b LEFT"),
        ("BRPOP a b c 1.5", "LMPOP 3 a b c RIGHT"),
        ("BZPOPMIN z 0", "ZPOPMIN z"),
        ("BZPOPMAX z 0", "ZPOPMAX z"),
        ("BZPOPMAX z y 0", "ZMPOP 2 z y MAX"),
        ("BLMOVE a b left RIGHT 0", "LMOVE a b left RIGHT"),
        ("BRPOPLPUSH a b 0", "RPOPLPUSH a b"),
        ("BLMPOP 0 2 a b RIGHT COUNT 3", "LMPOP 2 a b RIGHT COUNT 3"),
        ("BZMPOP 0 1 z min", "ZMPOP 1 z min"),
        (
            "XREAD COUNT 2 BLOCK 5 STREAMS a b 0 1-1",
            "XREAD COUNT 2 STREAMS a b 0 1-1",
        ),
        (
            "XREADGROUP GROUP BLOCK STREAMS BLOCK 5 NOACK STREAMS block >",
            "XREADGROUP GROUP BLOCK STREAMS NOACK STREAMS block >",
        ),
        (
            "XREADGROUP BLOCK 1 GROUP g c BLOCK 2 STREAMS s >",
            "XREADGROUP GROUP g c STREAMS s >",
        ),
        // The server finds the fault, and says so without blocking.
        (
            "XREAD COUNT x BLOCK y STREAMS a 0",
            "XREAD COUNT x STREAMS a 0",
        ),
        (
            "XREAD GROUP g c BLOCK 0 STREAMS a 0",
            "XREAD GROUP g c STREAMS a 0",
        ),
    ] {
        assert_eq!(attempted(line), attempt, "{line}");
    }
}

#[test]
fn what_may_be_claimed_is_known() {
    for (line, claims) in [
        ("XREADGROUP GROUP CLAIM CLAIM BLOCK 5 STREAMS s >", None),
        (
            "XREADGROUP BLOCK 5 GROUP CLAIM CLAIM claim 70 STREAMS s >",
            Some("70"),
        ),
        (
            "XREADGROUP NOACK CLAIM 7 COUNT 2 GROUP g c BLOCK 0 STREAMS s >",
            Some("7"),
        ),
        ("XREAD BLOCK 0 STREAMS s $", None),
    ] {
        let found = call(line);
        let claims = claims.map(|text: &str| text.as_bytes().to_vec());
        assert_eq!(found.claims(), claims.as_ref(), "{line}");
    }
}

#[test]
fn one_of_several_keys_is_tried_alone() {
    for (line, attempt) in [
        ("BLPOP a b 0", "LPOP b"),
        ("BZPOPMIN a b 0", "ZPOPMIN b"),
        ("BLMPOP 0 2 a b LEFT COUNT 2", "LMPOP 1 b LEFT COUNT 2"),
        ("XREAD BLOCK 0 STREAMS a b 0 7", "XREAD STREAMS b 7"),
    ] {
        let mut out = Vec::new();
        call(line).attempt(1..2, &mut out);
        assert_eq!(shown(&out), attempt, "{line}");
    }
}

#[test]
fn streams_without_block_do_not_block() {
    for line in [
        "XREAD STREAMS block 0",
        "XREAD COUNT 1 STREAMS a BLOCK 0 0",
        "XREADGROUP GROUP block block STREAMS s >",
        "XREADGROUP GROUP g c STREAMS s >",
    ] {
        assert!(taken(line).unwrap().is_none(), "{line}");
    }
}

#[test]
fn no_block_is_left_for_a_server_to_find() {
    for line in [
        "XREAD NEWER BLOCK 0 STREAMS a 0",
        "XREAD BLOCK 0 NEWER 1 STREAMS a 0",
        "XREAD COUNT 1 BLOCK",
        "XREAD BLOCK 0 COUNT 1",
        "XREAD BLOCK 0 STREAMS",
    ] {
        assert_eq!(taken(line).unwrap_err(), "-ERR syntax error\r\n", "{line}");
    }
    let unbalanced = taken("XREAD BLOCK 0 STREAMS a b 0").unwrap_err();
    assert!(unbalanced.starts_with("-ERR Unbalanced"));
}

#[test]
fn timeouts_are_read_as_redis_reads_them() {
    for (text, limit) in [
        ("0", None),
        ("0.0", None),
        ("-0.0001", None),
        ("1", Some(1000)),
        ("0.0001", Some(1)),
        ("0.25", Some(250)),
        ("1e2", Some(100_000)),
        ("0x10", Some(16_000)),
        ("0X.8", Some(500)),
        ("+0x1.8p1", Some(3000)),
        ("0x1P-2", Some(250)),
        ("0x0", None),
        ("9000000000000000", Some(9_000_000_000_000_000_000)),
    ] {
        assert_eq!(call(&format!("BLPOP a {text}")).timeout_ms, limit, "{text}");
    }
    for (text, error) in [
        ("x", "timeout is not a float or out of range"),
        ("", "timeout is not a float or out of range"),
        ("nan", "timeout is not a float or out of range"),
        ("0x", "timeout is not a float or out of range"),
        ("0x.", "timeout is not a float or out of range"),
        ("0xp1", "timeout is not a float or out of range"),
        ("0x1p", "timeout is not a float or out of range"),
        ("0x1pa", "timeout is not a float or out of range"),
        ("0xg", "timeout is not a float or out of range"),
        ("-0x1", "timeout is negative"),
        ("1 ", "timeout is not a float or out of range"),
        ("-1", "timeout is negative"),
        ("inf", "timeout is negative"),
        ("1e400", "timeout is negative"),
        ("9223372036854776", "timeout is negative"),
    ] {
        let request = Request::new(&["BRPOP", "a", text]);
        let found = take(find(&request.args()).unwrap(), &request.args());
        assert_eq!(found.unwrap_err(), format!("-ERR {error}\r\n").as_bytes());
    }
    assert_eq!(call("XREAD BLOCK 7 STREAMS a 0").timeout_ms, Some(7));
    for (text, error) in [
        ("1.5", "timeout is not an integer or out of range"),
        ("-1", "timeout is negative"),
    ] {
        let found = taken(&format!("XREAD BLOCK {text} STREAMS a 0"));
        assert_eq!(found.unwrap_err(), format!("-ERR {error}\r\n"));
    }
}

#[test]
fn errors_come_in_the_order_of_redis() {
    for (line, error) in [
        ("BLMPOP x 0 k LEFT", "numkeys should be greater than 0"),
        ("BLMPOP x y k LEFT", "numkeys should be greater than 0"),
        ("BLMPOP 0 2 k LEFT", "syntax error"),
        ("BLMPOP x 1 k MIN", "syntax error"),
        (
            "BLMPOP x 1 k LEFT COUNT 0",
            "count should be greater than 0",
        ),
        (
            "BLMPOP x 1 k LEFT COUNT 5-5 2",
            "count should be greater than 0",
        ),
        ("BLMPOP x 1 k LEFT COUNT 5 2", "syntax error"),
        ("BLMPOP x 1 k LEFT COUNT", "syntax error"),
        ("BZMPOP x 1 k MIN", "timeout is not a float or out of range"),
        ("BZMPOP 0 1 k LEFT", "syntax error"),
        ("BLMOVE a b X LEFT x", "syntax error"),
        (
            "BLMOVE a b LEFT LEFT x",
            "timeout is not a float or out of range",
        ),
    ] {
        let text = format!("-ERR {error}\r\n");
        assert_eq!(taken(line).unwrap_err(), text, "{line}");
    }
}

/// (request, reply of the backend, what the client gets, what puts it back)
type Conversion = (&'static str, &'static str, &'static str, &'static str);

const CONVERSIONS: &[Conversion] = &[
    (
        "BLPOP k 0",
        "$1\r\ne\r\n",
        "*2\r\n$1\r\nk\r\n$1\r\ne\r\n",
        "LPUSH k e",
    ),
    (
        "BRPOP k l 0",
        "*2\r\n$1\r\nl\r\n*1\r\n$1\r\ne\r\n",
        "*2\r\n$1\r\nl\r\n$1\r\ne\r\n",
        "RPUSH l e",
    ),
    (
        "BZPOPMIN k 0",
        "*2\r\n$1\r\nm\r\n$3\r\n1.5\r\n",
        "*3\r\n$1\r\nk\r\n$1\r\nm\r\n$3\r\n1.5\r\n",
        "ZADD k 1.5 m",
    ),
    (
        "BZPOPMAX k l 0",
        "*2\r\n$1\r\nl\r\n*1\r\n*2\r\n$1\r\nm\r\n,inf\r\n",
        "*3\r\n$1\r\nl\r\n$1\r\nm\r\n,inf\r\n",
        "ZADD l inf m",
    ),
    (
        "BLMPOP 0 1 k LEFT COUNT 2",
        "*2\r\n$1\r\nk\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n",
        "*2\r\n$1\r\nk\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n",
        "LPUSH k b a",
    ),
    (
        "BZMPOP 0 1 k MIN COUNT 2",
        "*2\r\n$1\r\nk\r\n*2\r\n*2\r\n$1\r\nm\r\n,1\r\n*2\r\n$1\r\nn\r\n,2\r\n",
        "*2\r\n$1\r\nk\r\n*2\r\n*2\r\n$1\r\nm\r\n,1\r\n*2\r\n$1\r\nn\r\n,2\r\n",
        "ZADD k 2 n 1 m",
    ),
    ("BLMOVE a b LEFT LEFT 0", "$1\r\ne\r\n", "$1\r\ne\r\n", ""),
    (
        "XREAD BLOCK 0 STREAMS s 0",
        "%1\r\n$1\r\ns\r\n*0\r\n",
        "%1\r\n$1\r\ns\r\n*0\r\n",
        "",
    ),
];

#[test]
fn replies_take_the_shape_of_the_blocking_form() {
    for (line, reply, expected, back) in CONVERSIONS {
        let call = call(line);
        let keys = 0..call.keys.len();
        let found = call.found(keys, reply.as_bytes());
        assert_eq!(found, Found::Reply(expected.as_bytes().to_vec()), "{line}");
        let put_back = call.put_back(expected.as_bytes());
        assert_eq!(shown(&put_back.unwrap_or_default()), *back, "{line}");
    }
}

#[test]
fn nothing_is_told_from_an_empty_string() {
    for reply in ["$-1\r\n", "*-1\r\n", "_\r\n", "*0\r\n"] {
        let found = call("BLPOP a 0").found(0..1, reply.as_bytes());
        assert_eq!(found, Found::Nothing);
    }
    let found = call("BLPOP a 0").found(0..1, b"$0\r\n\r\n");
    assert!(matches!(found, Found::Reply(reply) if reply == b"*2\r\n$1\r\na\r\n$0\r\n\r\n"));
    let found = call("BLPOP a 0").found(0..1, b"-WRONGTYPE x\r\n");
    assert_eq!(found, Found::Error);
    assert_eq!((nil(false), nil(true)), (&b"*-1\r\n"[..], &b"_\r\n"[..]));
}

#[test]
fn the_last_entry_of_a_stream_is_asked_for_once() {
    let mut call = call("XREAD BLOCK 0 STREAMS a b c $ 5 $");
    assert_eq!(call.unresolved(0), Some(0));
    let mut out = Vec::new();
    call.ask_last(0, &mut out);
    assert_eq!(shown(&out), "XREVRANGE a + - COUNT 1");
    call.resolve(0, b"*1\r\n*2\r\n$3\r\n7-2\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n");
    assert_eq!(call.unresolved(1), Some(2));
    call.resolve(2, b"*0\r\n");
    assert_eq!(call.unresolved(0), None);
    out.clear();
    call.attempt(0..3, &mut out);
    assert_eq!(shown(&out), "XREAD STREAMS a b c 7-2 5 0-0");
    let group = taken("XREADGROUP GROUP g c BLOCK 0 STREAMS a $");
    assert_eq!(group.unwrap().unwrap().unresolved(0), None);
    let faulty = taken("XREAD COUNT x BLOCK 5 STREAMS a b 0 $");
    assert_eq!(faulty.unwrap().unwrap().unresolved(0), None);
}

#[test]
fn who_waits_for_the_same() {
    let is_like = |a: &str, b: &str| call(a).is_like(&call(b));
    assert!(is_like("BLPOP a 0", "BRPOPLPUSH a b 0"));
    assert!(!is_like("BLPOP a 0", "BZPOPMIN a 0"));
    let group = |name: &str, consumer: &str| {
        format!("XREADGROUP GROUP {name} {consumer} BLOCK 0 STREAMS s >")
    };
    assert!(is_like(&group("g", "c"), &group("g", "d")));
    assert!(!is_like(&group("g", "c"), &group("h", "c")));
    let read = "XREAD BLOCK 0 STREAMS s 0";
    assert!(!is_like(read, read) && !is_like(read, &group("g", "c")));
}

#[test]
fn types_are_told_apart() {
    for (reply, holds) in [
        ("+list\r\n", Holds::List),
        ("+zset\r\n", Holds::Zset),
        ("+stream\r\n", Holds::Stream),
        ("+none\r\n", Holds::Other),
        ("+hash\r\n", Holds::Other),
    ] {
        assert_eq!(Holds::read(reply.as_bytes()), holds);
    }
    assert_eq!(call("BZMPOP 0 1 z MIN").wants(), Holds::Zset);
    let destination = |line| call(line).destination().map(<[u8]>::to_vec);
    assert_eq!(destination("BLMOVE a b LEFT LEFT 0"), Some(b"b".to_vec()));
    assert_eq!(destination("BLPOP a b 0"), None);
}
