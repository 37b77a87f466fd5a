//! Tests of `meta.rs`.

use super::super::memcache::{self, ReplyKind};
use super::super::{Resume, Step};
use super::*;

const LIMIT: usize = 64 * 1024;

/// A request, its words and its length.
fn parse(bytes: &[u8]) -> (Request, Vec<Arg>, usize) {
    let mut args = Vec::new();
    match memcache::request(bytes, &mut args, &mut Resume::default(), LIMIT) {
        (Step::Complete(len), Some(request)) => (request, args, len),
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    }
}

fn canonical(bytes: &[u8]) -> String {
    let (request, list, _) = parse(bytes);
    let args = Args {
        buf: bytes,
        list: &list,
    };
    let hides = hides_key(&args, request.flags);
    if is_canonical(request.verb, request.flags, bytes, hides) {
        return "as it is".to_owned();
    }
    let mut out = Vec::new();
    write_canonical(&mut out, request.verb, &args, request.flags, hides);
    out.escape_ascii().to_string()
}

fn form(request: &[u8], reply: &str) -> String {
    let (parsed, list, _) = parse(request);
    let args = Args {
        buf: request,
        list: &list,
    };
    let hides = hides_key(&args, parsed.flags);
    let form = Form::of_text(parsed.verb, &args, parsed.flags, hides);
    let mut out = Vec::new();
    form.write(reply.as_bytes(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn every_flag_is_known_and_cut_anywhere() {
    let all: &[&[u8]] = &[
        b"mg foo b c C7 f h k l Oabc q s t u v E9 N30\r\n",
        b"mg foo R30 T-1 P/x L/y x I D1 J2 MI F3 S\r\n",
        b"ms foo 3 b c C7 E9 F4294967295 I k Oabc q s T2147483647\r\nb\r\n\r\n",
        b"ms foo 0 MA N60\r\n\r\n",
        b"ms foo 2 MS T0 F0\nhi\r\n",
        b"md foo b C7 E9 I k O1 q T30 x\r\n",
        b"ma foo b C7 E9 N0 J13 D18446744073709551615 T1 M- O1 q t c v k\r\n",
        b"me foo b\r\n",
        b"mn\r\n",
        b"mn with words\r\n",
    ];
    let stream = all.concat();
    let odd = [
        false, true, false, false, false, false, false, false, false, false,
    ];
    for step in [1, 2, 7, stream.len()] {
        let (mut at, mut count, mut resume) = (0, 0, Resume::default());
        let mut args = Vec::new();
        for end in (step..stream.len() + step).step_by(step) {
            let end = end.min(stream.len());
            while at < end {
                match memcache::request(&stream[at..end], &mut args, &mut resume, LIMIT) {
                    (Step::Complete(len), Some(request)) => {
                        assert_eq!(len, all[count].len());
                        assert_eq!(request.fault, None, "{}", all[count].escape_ascii());
                        assert_eq!(request.flags.is_odd(), odd[count]);
                        at += len;
                        count += 1;
                    }
                    (Step::Incomplete, None) => break,
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(count, all.len());
    }
}

#[test]
fn what_servers_read_differently_is_odd() {
    for line in [
        "mg k S",
        "mg k T+1",
        "mg k T3000000000",
        "mg k N-",
        "mg k T00000000001",
        "ma k D-1",
        "ma k D1\t",
        "mg k Mx",
        "ms k 1 MAppend",
        "ma k MIx",
        "ms k 1 F4294967296",
        "ms k 1 E99999999999999999999",
        "ms k 1 W5",
    ] {
        let bytes = format!("{line}\r\nx\r\n");
        let (request, ..) = parse(bytes.as_bytes());
        assert!(
            request.flags.is_odd() && !request.flags.is_refused(),
            "{line}"
        );
        assert!(request.is_write(), "{line}: nobody knows");
        assert_eq!(request.fault, None, "{line}");
    }
    let many = " v".repeat(20);
    for line in [
        "mg k v v",
        "mg k !",
        "mg k T",
        "mg k T1x",
        "md k C",
        "ma k MX",
        "ma k M",
        "ms k 1 Mx",
        "ms k 1 MM",
        "ms k 1 v v",
        "ms k 1 W5 W6",
        &format!("ma k{many}"),
        &format!("ma {}", "k".repeat(251)),
    ] {
        let bytes = format!("{line}\r\nx\r\n");
        let (request, ..) = parse(bytes.as_bytes());
        assert!(request.flags.is_refused(), "{line}");
        assert!(!request.is_write(), "{line}: it does nothing");
        assert_eq!(request.fault, None, "{line}");
    }
    for line in ["ma k M+", "mg k v123", "mg k T-0000000001"] {
        let bytes = format!("{line}\r\nx\r\n");
        assert!(!parse(bytes.as_bytes()).0.flags.is_odd(), "{line}");
    }
}

#[test]
fn what_is_refused_takes_its_data_block_along() {
    let key = "k".repeat(251);
    let long = "O".repeat(33);
    let many = " v".repeat(17);
    for (line, fault, takes) in [
        ("ms k".to_owned(), Fault::BadLine, false),
        ("ms k x".to_owned(), Fault::BadLine, false),
        ("ms k -1".to_owned(), Fault::BadLine, false),
        ("ms k +1".to_owned(), Fault::BadLine, false),
        ("ms k 1\tT0".to_owned(), Fault::BadLine, false),
        ("ms k 2147483646".to_owned(), Fault::BadLine, false),
        ("ms k 00000000001".to_owned(), Fault::BadLine, false),
        (format!("ms {key} 1"), Fault::BadLine, true),
        ("ms k 1 T0\0".to_owned(), Fault::BadLine, true),
        (format!("ms k 1{many}"), Fault::TooManyFlags, true),
        ("ms k 1 !".to_owned(), Fault::InvalidFlag, true),
        ("ms k 1 \u{e4}".to_owned(), Fault::InvalidFlag, true),
        (format!("ms k 1 {long}"), Fault::OpaqueTooLong, true),
        (format!("mg k {long}"), Fault::OpaqueTooLong, false),
        (format!("mg {}", "k".repeat(2100)), Fault::BadLine, false),
        ("mg a\0b".to_owned(), Fault::BadLine, false),
        (format!("mg k T{}", "1".repeat(2100)), Fault::BadLine, false),
    ] {
        let bytes = format!("{line}\r\nx\r\n");
        let (request, _, len) = parse(bytes.as_bytes());
        assert_eq!(request.fault, Some(fault), "{line}");
        let expected = if takes { bytes.len() } else { line.len() + 2 };
        assert_eq!(len, expected, "{line}");
        assert!(fault.text().starts_with(b"CLIENT_ERROR "));
    }
    let (request, _, len) = parse(b"ms k 99999999 !\r\nx");
    assert_eq!(len, 17);
    let skip = 100_000_001;
    assert_eq!(request.fault, Some(Fault::TooLarge { skip }));
    let (request, _, len) = parse(b"ms k 1 T0\r\nxyz\r\n");
    assert_eq!((request.fault, len), (Some(Fault::BadChunk), 14));
}

#[test]
fn a_line_is_as_long_as_servers_get_it() {
    let fault = |start: &str, size: usize, end: &str| {
        let line = format!("{start:x<size$}{end}");
        let (request, _, _) = parse(line.as_bytes());
        (request.fault, request.flags)
    };
    let longest = SENT_LINE_LIMIT - "\r\n".len();
    for start in ["ma foo F", "mg "] {
        for size in [longest - 1, longest, longest + 1] {
            assert_eq!(fault(start, size, "\n"), fault(start, size, "\r\n"));
        }
    }
    assert_eq!(fault("ma foo F", longest, "\n").0, None);
    let longer = fault("ma foo F", longest + 1, "\n").0;
    assert_eq!(longer, Some(Fault::BadLine));
}

#[test]
fn a_request_without_a_key_is_a_question() {
    for line in ["mg", "ms", "md", "ma", "me"] {
        let bytes = format!("{line}\r\n");
        let (request, ..) = parse(bytes.as_bytes());
        assert_eq!((request.verb, request.fault), (Verb::Me, None), "{line}");
        assert!(!request.is_write());
        assert_eq!(canonical(bytes.as_bytes()), "as it is");
    }
}

#[test]
fn a_key_is_routed_by_its_bytes() {
    let routed = |line: &[u8]| {
        let (request, list, _) = parse(line);
        let args = Args {
            buf: line,
            list: &list,
        };
        let mut space = [0; KEY_LIMIT];
        key(&args, request.flags, &mut space).to_vec()
    };
    assert_eq!(routed(b"mg foo\r\n"), b"foo");
    assert_eq!(routed(b"mg Zm9v b\r\n"), b"foo");
    assert_eq!(routed(b"mg Zm9v v b\r\n"), b"foo");
    assert_eq!(routed(b"me Zm9v b\r\n"), b"foo");
    assert_eq!(routed(b"me Zm9v x b\r\n"), b"Zm9v");
    assert_eq!(routed(b"ms Zm8= 1 b\r\nx\r\n"), b"fo");
    assert_eq!(
        routed(b"md Z-m8= b\r\n"),
        b"fo",
        "other characters are skipped"
    );
    assert_eq!(routed(b"md Zm8 b\r\n"), b"Zm8", "a server will say so");
    assert_eq!(routed(b"md A=== b\r\n"), b"A===");
}

#[test]
fn base64_goes_both_ways() {
    let mut space = [0; KEY_LIMIT];
    for len in 1..=187 {
        let key: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
        let mut word = Vec::new();
        encode(&key, &mut word);
        assert_eq!(decode(&word, &mut space), key.len());
        assert_eq!(&space[..key.len()], key);
    }
    assert_eq!(decode(b"", &mut space), 0);
    assert_eq!(decode(&[b'A'; 336], &mut space), 0, "longer than a key");
}

#[test]
fn servers_get_what_concerns_them() {
    assert_eq!(canonical(b"mg foo v t\r\n"), "as it is");
    assert_eq!(canonical(b"mg foo v q Oabc k\r\n"), r"mg foo v Oabc k\r\n");
    assert_eq!(canonical(b" mg  foo  v\n"), r"mg foo v\r\n");
    assert_eq!(
        canonical(b"ms foo 2 q P/a L T0\r\nhi\r\n"),
        r"ms foo 2 T0\r\n"
    );
    assert_eq!(canonical(b"ms q 2\r\nhi\r\n"), "as it is");
    assert_eq!(canonical(b"mg q q\r\n"), r"mg q\r\n");
    assert_eq!(canonical(b"md a q L q\r\n"), r"md a q q\r\n");
    assert_eq!(canonical(b"me Zm9v b\r\n"), r"me Zm9v b b\r\n");
    assert_eq!(canonical(b"mg Zm9v b k\r\n"), "as it is");
    assert_eq!(
        canonical(b"mg Zm8K b k v\r\n"),
        r"mg Zm8K b v\r\n",
        "a line end in the key"
    );
}

#[test]
fn q_hides_the_usual() {
    for (request, hidden, shown) in [
        (
            "mg a q",
            &["EN\r\n", "EN O1\r\n"][..],
            &["HD\r\n", "VA 1\r\nx\r\n", "ENOUGH\r\n"][..],
        ),
        (
            "ms a 0 q",
            &["HD\r\n", "HD c1\r\n"],
            &["NS\r\n", "EX\r\n", "NF\r\n", "SERVER_ERROR x\r\n"],
        ),
        ("md a q", &["HD\r\n"], &["NF\r\n", "EX O1\r\n"]),
        (
            "ma a q",
            &["HD\r\n", "VA 1\r\n7\r\n"],
            &["NF\r\n", "NS\r\n", "CLIENT_ERROR x\r\n"],
        ),
        ("mg a", &[], &["EN\r\n", "HD\r\n"]),
    ] {
        let request = format!("{request}\r\n\r\n");
        for reply in hidden {
            assert_eq!(form(request.as_bytes(), reply), "", "{request}: {reply}");
        }
        for reply in shown {
            assert_eq!(&form(request.as_bytes(), reply), reply, "{request}");
        }
    }
}

#[test]
fn a_key_that_servers_may_not_show_is_put_in_its_place() {
    let hit = form(b"mg Zm8K b t k v c\r\n", "VA 2 t30 c7 W\r\nxy\r\n");
    assert_eq!(hit, "VA 2 t30 kZm8K b c7 W\r\nxy\r\n");
    assert_eq!(
        form(b"mg Zm8K k b O1 v\r\n", "EN O1\r\n"),
        "EN kZm8K b O1\r\n"
    );
    assert_eq!(form(b"mg Zm8K b O1 k q\r\n", "EN O1\r\n"), "");
    assert_eq!(
        form(b"ms Zm8K 0 b c k\r\n\r\n", "NS c0\r\n"),
        "NS c0 kZm8K b\r\n"
    );
    assert_eq!(form(b"md Zm8K b k\r\n", "HD\r\n"), "HD kZm8K b\r\n");
    assert_eq!(
        form(b"mg Zm8K b k\r\n", "SERVER_ERROR x\r\n"),
        "SERVER_ERROR x\r\n"
    );
}

#[test]
fn that_somebody_has_won_is_a_write() {
    for (request, expected) in [
        (&b"mg foo v t\r\n"[..], "mg foo L\r\n"),
        (b"mg Zm8= b v\r\n", "mg Zm8= L b\r\n"),
    ] {
        let mut out = Vec::new();
        write_won(request, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), expected);
        assert!(parse(&out).0.is_write() && !parse(request).0.is_write());
    }
}

#[test]
fn replies_are_read() {
    assert!(shows(b"VA 1 W X\r\nZ\r\n", b'X') && !shows(b"VA 1 W X\r\nZ\r\n", b'Z'));
    assert!(!shows(b"EN\r\n", b'E'));
    assert_eq!(
        number(b"HD t-1 c18446744073709551615\r\n", b'c'),
        Some(u64::MAX)
    );
    assert_eq!(number(b"VA 2 t1\r\n c5\r\n", b'c'), None);
    assert!(is_done(b"HD\r\n") && is_done(b"VA 0\r\n\r\n") && !is_done(b"NS\r\n"));
    let reply = b"VA 4 c7\r\nEN\r\n\r\nEN\r\n";
    let mut resume = Resume::default();
    for kind in [ReplyKind::Item, ReplyKind::ItemTokens] {
        let step = memcache::reply(reply, kind, &mut resume);
        assert_eq!(step, Step::Complete(reply.len() - 4));
    }
}

#[test]
fn outcomes_are_without_what_servers_count_for_themselves() {
    for (one, other) in [
        ("VA 2 c7 t30\r\n41\r\n", "VA 3 c8 t29\r\n41 \r\n"),
        ("HD c7\r\n", "HD c8 X\r\n"),
        ("NF\r\n", "NF Oa\r\n"),
    ] {
        assert_eq!(outcome(one.as_bytes()), outcome(other.as_bytes()));
    }
    for (one, other) in [
        ("VA 2 c7\r\n41\r\n", "VA 2 c7\r\n42\r\n"),
        ("HD\r\n", "NS\r\n"),
        ("CLIENT_ERROR a\r\n", "CLIENT_ERROR b\r\n"),
    ] {
        assert_ne!(outcome(one.as_bytes()), outcome(other.as_bytes()));
    }
}

#[test]
fn a_value_that_nobody_asked_for_is_not_shown() {
    for (reply, shown) in [
        ("VA 2 c7 Ov1 kk\r\n41\r\n", "HD c7 Ov1 kk\r\n"),
        ("VA 1\r\n5\r\n", "HD\r\n"),
        ("NF Ox\r\n", "NF Ox\r\n"),
        ("CLIENT_ERROR x\r\n", "CLIENT_ERROR x\r\n"),
    ] {
        assert_eq!(without_value(reply.as_bytes()), shown.as_bytes());
    }
}
