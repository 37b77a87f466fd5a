//! Parsers against written expectations, and against themselves for any split of the input.

use super::resp::RequestError;
use super::{memcache, resp, Arg, Resume, Step};

const LIMIT: usize = 1 << 20;

fn words(buf: &[u8], args: &[Arg]) -> Vec<Vec<u8>> {
    args.iter()
        .map(|a| buf[a.start as usize..(a.start + a.len) as usize].to_vec())
        .collect()
}

#[test]
fn multibulk_is_read_whole() {
    let buf = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nv\n\r\nrest";
    let (mut args, mut resume) = (Vec::new(), Resume::default());
    assert_eq!(
        resp::request(buf, &mut args, &mut resume, LIMIT),
        Step::Complete(buf.len() - 4)
    );
    assert_eq!(
        words(buf, &args),
        [b"SET".to_vec(), b"k".to_vec(), b"v\n".to_vec()]
    );
}

#[test]
fn multibulk_errors_are_those_of_redis() {
    let cases: [(&[u8], &str); 6] = [
        (
            b"*x\r\n",
            "-ERR Protocol error: invalid multibulk length\r\n",
        ),
        (
            b"*99999999999\r\n",
            "-ERR Protocol error: invalid multibulk length\r\n",
        ),
        (
            b"*1\r\n:1\r\n",
            "-ERR Protocol error: expected '$', got ':'\r\n",
        ),
        (
            b"*1\r\n$-1\r\n",
            "-ERR Protocol error: invalid bulk length\r\n",
        ),
        (
            b"*1\r\n$99999999999\r\n",
            "-ERR Protocol error: invalid bulk length\r\n",
        ),
        (
            b"*1\r\n$a\r\n",
            "-ERR Protocol error: invalid bulk length\r\n",
        ),
    ];
    for (input, text) in cases {
        let step = resp::request(input, &mut Vec::new(), &mut Resume::default(), LIMIT);
        let Step::Invalid(error) = step else {
            panic!("{input:?} gave {step:?}")
        };
        assert_eq!(String::from_utf8_lossy(&error.text()), text);
    }
}

type Parser = fn(&[u8], &mut Vec<Arg>, &mut Resume, usize) -> Step<RequestError>;

/// What a parser says of a request that is none.
fn error_at_once(input: &[u8], parse: Parser) -> Option<RequestError> {
    match parse(input, &mut Vec::new(), &mut Resume::default(), LIMIT) {
        Step::Invalid(error) => Some(error),
        _ => None,
    }
}

/// Also byte by byte.
fn error_of(input: &[u8], parse: Parser) -> Option<RequestError> {
    let mut resume = Resume::default();
    let bytewise = (1..=input.len())
        .map(|end| parse(&input[..end], &mut Vec::new(), &mut resume, LIMIT))
        .find(|step| *step != Step::Incomplete);
    let whole = error_at_once(input, parse);
    match bytewise {
        Some(Step::Invalid(error)) => assert_eq!(Some(error), whole),
        _ => assert_eq!(None, whole),
    }
    whole
}

#[test]
fn a_length_has_one_form_as_for_redis() {
    let bad = [
        "01", "00", "+1", "-0", "-01", "-", "--1", "", " 1", "1 ", "0x1", "1\n",
    ];
    let long = ["-".repeat(1 << 20), "0".repeat(1 << 20)];
    for length in bad.into_iter().chain(long.iter().map(String::as_str)) {
        let (count, bulk) = (format!("*{length}\r\n"), format!("*1\r\n${length}\r\n"));
        for (input, error) in [
            (count, RequestError::MultibulkLength),
            (bulk, RequestError::BulkLength),
        ] {
            // The long ones are of interest whole: they must not need as much stack.
            let found = if input.len() < 100 {
                error_of(input.as_bytes(), resp::request)
            } else {
                error_at_once(input.as_bytes(), resp::request)
            };
            assert_eq!(found, Some(error), "{input:.20}");
        }
    }
    for length in ["0", "-1", "-9", "-10", "-2147483648"] {
        let input = format!("*{length}\r\n");
        assert_eq!(error_of(input.as_bytes(), resp::request), None);
    }
    for length in [0, 1, 9, 10, 99, 100, 12345] {
        let input = format!("*1\r\n${length}\r\n{}\r\n", "x".repeat(length));
        let (mut args, mut resume) = (Vec::new(), Resume::default());
        let step = resp::request(input.as_bytes(), &mut args, &mut resume, LIMIT);
        assert_eq!(step, Step::Complete(input.len()));
        assert_eq!(args[0].len as usize, length);
    }
}

#[test]
fn who_has_not_logged_in_sends_little() {
    let args = |count: usize, len: usize| {
        let arg = format!("${len}\r\n{}\r\n", "x".repeat(len));
        format!("*{count}\r\n{}", arg.repeat(count))
    };
    let count = Some(RequestError::GuestMultibulkLength);
    let length = Some(RequestError::GuestBulkLength);
    let cases = [
        (args(10, 5), None),
        (args(10, 16_384), None),
        (args(11, 1), count),
        ("*11\r\n".to_owned(), count),
        ("*2147483647\r\n".to_owned(), count),
        (
            "*2147483648\r\n".to_owned(),
            Some(RequestError::MultibulkLength),
        ),
        ("*011\r\n".to_owned(), Some(RequestError::MultibulkLength)),
        ("*2\r\n$4\r\nAUTH\r\n$16385\r\n".to_owned(), length),
        ("*1\r\n$536870912\r\n".to_owned(), length),
        (
            "*1\r\n$536870913\r\n".to_owned(),
            Some(RequestError::BulkLength),
        ),
        ("*1\r\n$-1\r\n".to_owned(), Some(RequestError::BulkLength)),
        ("*0\r\n".to_owned(), None),
    ];
    for (input, error) in cases {
        let found = error_of(input.as_bytes(), resp::request_of_guest);
        assert_eq!(found, error, "{input:.40}");
    }
    for input in [args(11, 1), args(1, 16_385)] {
        assert_eq!(error_of(input.as_bytes(), resp::request), None);
    }
    let texts = [
        (count, "unauthenticated multibulk length"),
        (length, "unauthenticated bulk length"),
    ];
    for (error, text) in texts {
        let expected = format!("-ERR Protocol error: {text}\r\n").into_bytes();
        assert_eq!(error.map(RequestError::text), Some(expected));
    }
}

#[test]
fn inline_follows_sdssplitargs() {
    let cases: [(&[u8], &[&[u8]]); 5] = [
        (b"PING\r\n", &[b"PING"]),
        (b"  set  a   b \n", &[b"set", b"a", b"b"]),
        (b"set a \"x\\x41\\n\"\r\n", &[b"set", b"a", b"xA\n"]),
        (b"set a 'it\\'s'\r\n", &[b"set", b"a", b"it's"]),
        (b"\r\n", &[]),
    ];
    for (line, expected) in cases {
        let mut out = Vec::new();
        assert_eq!(
            resp::inline(line, &mut Resume::default(), &mut out),
            Step::Complete(line.len())
        );
        let mut args = Vec::new();
        if !expected.is_empty() {
            resp::request(&out, &mut args, &mut Resume::default(), LIMIT);
        }
        assert_eq!(words(&out, &args), expected);
    }
    for line in [&b"get \"a\n"[..], b"get \"a\"b\n"] {
        let step = resp::inline(line, &mut Resume::default(), &mut Vec::new());
        assert_eq!(step, Step::Invalid(resp::RequestError::UnbalancedQuotes));
    }
}

/// The same messages whether the bytes come at once or one by one.
fn each_split(
    buf: &[u8],
    mut parse: impl FnMut(&[u8], &mut Resume) -> Option<usize>,
) -> Vec<usize> {
    let mut whole = Vec::new();
    let (mut at, mut resume) = (0, Resume::default());
    while let Some(len) = parse(&buf[at..], &mut resume) {
        whole.push(len);
        at += len;
        if at == buf.len() {
            break;
        }
    }
    let mut bytewise = Vec::new();
    let (mut at, mut resume) = (0, Resume::default());
    for end in 1..=buf.len() {
        if let Some(len) = parse(&buf[at..end], &mut resume) {
            bytewise.push(len);
            at += len;
        }
    }
    assert_eq!(whole, bytewise);
    whole
}

#[test]
fn replies_end_where_they_end_for_any_split() {
    let buf =
        b"+OK\r\n$-1\r\n*2\r\n$1\r\na\r\n*1\r\n:7\r\n-ERR x\r\n%1\r\n+a\r\n~1\r\n,1.5\r\n_\r\n\
        |1\r\n+k\r\n+v\r\n:1\r\n=5\r\ntxt:a\r\n*-1\r\n#t\r\n(12\r\n>2\r\n+a\r\n+b\r\n";
    let lens = each_split(buf, |bytes, resume| match resp::reply(bytes, resume) {
        Step::Complete(len) => Some(len),
        Step::Incomplete => None,
        Step::Invalid(_) => panic!("invalid"),
    });
    assert_eq!(lens.len(), 12);
    assert_eq!(lens.iter().sum::<usize>(), buf.len());
}

#[test]
fn requests_end_where_they_end_for_any_split() {
    let buf = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*0\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$0\r\n\r\n";
    let mut args = Vec::new();
    let lens = each_split(buf, |bytes, resume| {
        match resp::request(bytes, &mut args, resume, LIMIT) {
            Step::Complete(len) => Some(len),
            Step::Incomplete => None,
            Step::Invalid(_) => panic!("invalid"),
        }
    });
    assert_eq!(lens.len(), 3);
}

#[test]
fn memcached_requests_for_any_split() {
    let buf = b"get a b\r\nset a 0 0 3\r\na\r\n\r\ndelete a noreply\r\nincr a 1\r\ncas a 1 -1 1 7 noreply\r\nx\r\n";
    let mut args = Vec::new();
    let lens = each_split(buf, |bytes, resume| {
        match memcache::request(bytes, &mut args, resume, LIMIT) {
            (Step::Complete(len), Some(request)) => {
                assert_eq!(request.fault, None, "{:?}", String::from_utf8_lossy(bytes));
                Some(len)
            }
            (Step::Incomplete, _) => None,
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(lens.len(), 5);
    assert_eq!(lens.iter().sum::<usize>(), buf.len());
}

#[test]
fn memcached_faults() {
    use memcache::Fault;
    let long = [b"get ".as_slice(), &[b'k'; 251], b"\r\n"].concat();
    let cases: [(&[u8], Fault); 22] = [
        (b"bogus\r\n", Fault::Unknown),
        (b"\r\n", Fault::Unknown),
        (b"get\r\n", Fault::Unknown),
        (b"GET a\r\n", Fault::Unknown),
        (&long, Fault::BadLine),
        (b"set a x 0 1\r\n", Fault::BadLine),
        (b"set a 0 0 -1\r\n", Fault::BadLine),
        (b"set a 0 0 noreply\r\n", Fault::BadLine),
        (b"set a 0 0 1\r\nabc\r\n", Fault::BadChunk),
        (
            b"set a 0 0 9999999\r\n",
            Fault::TooLarge { skip: 10_000_001 },
        ),
        (b"incr a x\r\n", Fault::BadDelta),
        (b"touch a x\r\n", Fault::BadExptime),
        (b"delete a 5\r\n", Fault::BadDelete),
        (b"GET / HTTP/1.1\r\n", Fault::Http),
        (b"flush_all x\r\n", Fault::BadExptime),
        (b"verbosity x\r\n", Fault::BadLine),
        (b"verbosity noreply\r\n", Fault::BadLine),
        (b"verbosity 1 2 3\r\n", Fault::Unknown),
        (b"shutdown graceful\r\n", Fault::Shutdown),
        (b"cache_memlimit 64\r\n", Fault::Unknown),
        (b"watch fetchers\r\n", Fault::Unknown),
        (b"slabs automove 1\r\n", Fault::Unknown),
    ];
    for (line, fault) in cases {
        let (_, request) = memcache::request(line, &mut Vec::new(), &mut Resume::default(), LIMIT);
        assert_eq!(
            request.and_then(|r| r.fault),
            Some(fault),
            "{:?}",
            String::from_utf8_lossy(line)
        );
    }
    let endless = vec![b'x'; 70_000];
    let (step, _) = memcache::request(&endless, &mut Vec::new(), &mut Resume::default(), LIMIT);
    assert_eq!(step, Step::Invalid(memcache::EndlessLine));
}

#[test]
fn browsers_are_told_from_commands_that_nobody_knows() {
    use memcache::Fault;
    let of = |line: &str| {
        let (mut args, mut resume) = (Vec::new(), Resume::default());
        let (_, request) = memcache::request(line.as_bytes(), &mut args, &mut resume, LIMIT);
        request.and_then(|request| request.fault)
    };
    // By what memcached 1.6.18 does.
    for (line, fault) in [
        ("GET / HTTP/1.1\r\n", Fault::Http),
        ("HTTP/1.1\r\n", Fault::Http),
        (" HTTP/ \r\n", Fault::Http),
        ("xx HTTP/1.1 \n", Fault::Http),
        ("mqq HTTP/1.1\r\n", Fault::Http),
        ("GET /\r\n", Fault::Unknown),
        ("GET / HTTP/1.1 x\r\n", Fault::Unknown),
        ("x HTTP/1.1\r\n", Fault::Unknown),
        ("mq HTTP/1.1\r\n", Fault::Unknown),
        ("options HTTP\r\n", Fault::Unknown),
        ("connect HTTP/1.1\r\n", Fault::Unknown),
        ("trace HTTP/1.1\r\n", Fault::Unknown),
    ] {
        assert_eq!(of(line), Some(fault), "{line:?}");
    }
    let words = "xx ".repeat(22);
    assert_eq!(of(&format!("{words}HTTP/1.1 y\r\n")), Some(Fault::Http));
    assert_eq!(of(&format!("{words}xx HTTP/1.1\r\n")), Some(Fault::Unknown));
}

#[test]
fn only_a_last_word_that_may_be_one_is_noreply() {
    for (line, noreply, words) in [
        (&b"delete noreply\r\n"[..], false, 2),
        (b"delete noreply noreply\r\n", true, 2),
        (b"delete a noreply 0\r\n", false, 4),
        (b"get noreply\r\n", false, 2),
        (b"flush_all noreply\r\n", true, 1),
        (b"flush_all 5 noreply\r\n", true, 2),
        (b"verbosity 1 noreply\r\n", true, 2),
        (b"touch noreply 0\r\n", false, 3),
        (b"touch a noreply\r\n", true, 2),
        (b"stats noreply\r\n", false, 2),
        (b"slabs x noreply\r\n", false, 3),
        (b"lru x noreply\r\n", true, 2),
        (b"set noreply 0 0 noreply\r\n", true, 4),
    ] {
        let mut args = Vec::new();
        let (_, request) = memcache::request(line, &mut args, &mut Resume::default(), LIMIT);
        let found = (request.is_some_and(|request| request.noreply), args.len());
        assert_eq!(
            found,
            (noreply, words),
            "{:?}",
            String::from_utf8_lossy(line)
        );
    }
}

#[test]
fn integers_have_all_their_digits() {
    assert_eq!(resp::integer(b":9223372036854775807\r\n"), Some(i64::MAX));
    assert_eq!(resp::integer(b":-9223372036854775808\r\n"), Some(i64::MIN));
    assert_eq!(resp::integer(b":\r\n"), None);
    assert_eq!(resp::integer(b"+1\r\n"), None);
}

#[test]
fn memcached_replies_for_any_split() {
    use memcache::ReplyKind::{Line, Stats, Values};
    let cases = [
        (
            Values,
            &b"VALUE a 0 2\r\n\r\n\r\nVALUE b 1 0 77\r\n\r\nEND\r\nEND\r\nSERVER_ERROR x\r\n"[..],
            3,
        ),
        (Line, b"STORED\r\n7\r\nNOT_FOUND\r\n", 3),
        (Stats, b"STAT a 1\r\nSTAT b 2\r\nEND\r\nRESET\r\n", 2),
    ];
    for (kind, buf, count) in cases {
        let lens = each_split(buf, |bytes, resume| {
            match memcache::reply(bytes, kind, resume) {
                Step::Complete(len) => Some(len),
                Step::Incomplete => None,
                Step::Invalid(_) => panic!("invalid"),
            }
        });
        assert_eq!(lens.len(), count);
    }
    assert_eq!(
        memcache::value_block(b"VALUE a 0 2\r\nxy\r\nEND\r\n"),
        Some((&b"a"[..], 17))
    );
    assert_eq!(memcache::value_block(b"END\r\n"), None);
}

#[test]
fn what_cannot_be_the_answer_is_refused() {
    use memcache::ReplyKind::{Item, ItemTokens, Line, Stats, Tokens, Values};
    let step = |kind, reply: &[u8]| memcache::reply(reply, kind, &mut Resume::default());
    let errors = [
        &b"ERROR\r\n"[..],
        b"CLIENT_ERROR bad data chunk\r\n",
        b"SERVER_ERROR out of memory storing object\r\n",
    ];
    for kind in [Line, Values, Tokens, Stats, Item, ItemTokens] {
        for error in errors {
            assert_eq!(step(kind, error), Step::Complete(error.len()));
        }
        for reply in [
            &b"hello, I am a web server\r\n"[..],
            b"HTTP/1.1 400 Bad Request\r\n",
            b"\r\n",
            b"END\n",
            b"STORED\n",
            b"+OK\r\n",
            b"ENDS\r\n",
            b"STORED x\r\n",
            b"HDD\r\n",
            b"5x\r\n",
        ] {
            assert_eq!(step(kind, reply), Step::Invalid(memcache::BadReply));
        }
    }
    for (reply, kinds) in [
        (&b"STORED\r\n"[..], &[Line][..]),
        (b"NOT_FOUND\r\n", &[Line]),
        (b"18446744073709551615\r\n", &[Line]),
        (b"END\r\n", &[Values, Tokens, Stats]),
        (b"RESET\r\n", &[Line, Stats]),
        (b"HD\r\n", &[Line, Item, ItemTokens]),
        (b"NS c5 Oa\r\n", &[Line, Item, ItemTokens]),
        (b"VALUE a 0 1\r\nx\r\nEND\r\n", &[Values, Tokens]),
        (b"VA 1 c5\r\nx\r\n", &[Item, ItemTokens]),
        (b"STAT a 1\r\nEND\r\n", &[Stats]),
    ] {
        for kind in [Line, Values, Tokens, Stats, Item, ItemTokens] {
            let expected = match kinds.contains(&kind) {
                true => Step::Complete(reply.len()),
                false => Step::Invalid(memcache::BadReply),
            };
            assert_eq!(step(kind, reply), expected, "{kind:?} {reply:?}");
        }
    }
    // A value that is longer or shorter than was said.
    for reply in [
        &b"VALUE a 0 3\r\nabcdef\r\nEND\r\n"[..],
        b"VALUE a 0 3\r\nab\r\nEND\r\n",
        b"VALUE a 0 3\nabc\r\nEND\r\n",
    ] {
        assert_eq!(step(Values, reply), Step::Invalid(memcache::BadReply));
    }
    assert_eq!(
        step(Item, b"VA 3\r\nabcdef\r\n"),
        Step::Invalid(memcache::BadReply)
    );
    assert_eq!(step(Item, b"VA 3\r\nabc\r"), Step::Incomplete);
}
