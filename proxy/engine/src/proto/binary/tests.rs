use super::*;

const LIMIT: usize = 4096;
const OPAQUE: [u8; 4] = *b"\xde\xad\xbe\xef";

fn packet(opcode: u8, cas: u64, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![MAGIC, opcode];
    bytes.extend_from_slice(&(key.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[extras.len() as u8, 0, 0, 0]);
    bytes.extend_from_slice(&((extras.len() + key.len() + value.len()) as u32).to_be_bytes());
    bytes.extend_from_slice(&OPAQUE);
    bytes.extend_from_slice(&cas.to_be_bytes());
    for part in [extras, key, value] {
        bytes.extend_from_slice(part);
    }
    bytes
}

/// Flags and expiry of a storage request.
fn store(flags: u32, expiry: u32) -> Vec<u8> {
    [flags.to_be_bytes(), expiry.to_be_bytes()].concat()
}

/// Delta, initial value and expiry of an increment.
fn delta(by: u64, initial: u64, expiry: u32) -> Vec<u8> {
    let mut extras = [by.to_be_bytes(), initial.to_be_bytes()].concat();
    extras.extend_from_slice(&expiry.to_be_bytes());
    extras
}

/// The text request that a packet is, or what it is answered with.
fn text_of(packet: &[u8]) -> Result<String, Status> {
    match request(packet, LIMIT, false) {
        Seen::Request(len, found) => {
            assert_eq!(len, packet.len());
            let mut text = Vec::new();
            write_text(&found, &mut text)?;
            Ok(text.escape_ascii().to_string())
        }
        Seen::Refused(_, refusal) => Err(refusal.status),
        seen => panic!("{seen:?}"),
    }
}

/// Opcode, status, CAS token, extras, key and value of each packet.
type Row = (u8, u16, u64, Vec<u8>, Vec<u8>, Vec<u8>);

fn rows(mut bytes: &[u8]) -> Vec<Row> {
    let mut rows = Vec::new();
    while !bytes.is_empty() {
        assert_eq!((bytes[0], bytes[5]), (REPLY_MAGIC, 0));
        assert_eq!(bytes[12..16], OPAQUE, "the opaque is echoed");
        let key_at = HEADER_BYTES + usize::from(bytes[4]);
        let value_at = key_at + usize::from(u16::from_be_bytes(number(bytes, 2)));
        let end = HEADER_BYTES + u32::from_be_bytes(number(bytes, 8)) as usize;
        rows.push((
            bytes[1],
            u16::from_be_bytes(number(bytes, 6)),
            u64::from_be_bytes(number(bytes, 16)),
            bytes[HEADER_BYTES..key_at].to_vec(),
            bytes[key_at..value_at].to_vec(),
            bytes[value_at..end].to_vec(),
        ));
        bytes = &bytes[end..];
    }
    rows
}

fn answers(opcode: u8, text: &str) -> Vec<Row> {
    let ask = Ask {
        opcode,
        opaque: OPAQUE,
    };
    let mut out = Vec::new();
    let is_keyed = super::opcode(opcode).is_some_and(|known| known.key);
    let key: &[u8] = if is_keyed { b"the key" } else { b"" };
    write_answer(ask, key, text.as_bytes(), &mut out);
    rows(&out)
}

fn error(opcode: u8, status: u16, text: &str) -> Vec<Row> {
    let (extras, key) = (Vec::new(), Vec::new());
    vec![(opcode, status, 0, extras, key, text.as_bytes().to_vec())]
}

fn done(opcode: u8, cas: u64) -> Vec<Row> {
    vec![(opcode, 0, cas, Vec::new(), Vec::new(), Vec::new())]
}

#[test]
fn requests_become_text() {
    let four = 60u32.to_be_bytes();
    for (packet, text) in [
        (packet(0x00, 0, b"", b"k", b""), "gets k\\r\\n"),
        (packet(0x09, 0, b"", b"k", b""), "gets k\\r\\n"),
        (packet(0x0c, 0, b"", b"k", b""), "gets k\\r\\n"),
        (
            packet(0x0d, 7, b"", b"\xff\x01", b""),
            "gets \\xff\\x01\\r\\n",
        ),
        (packet(0x0d, 0, b"", b"a b", b""), "mg YSBi b v f c\\r\\n"),
        (packet(0x1c, 0, &four, b"k", b""), "mg k f c T60\\r\\n"),
        (packet(0x1d, 0, &four, b"k", b""), "gats 60 k\\r\\n"),
        (
            packet(0x24, 0, &four, b"\0", b""),
            "mg AA== b v f c T60\\r\\n",
        ),
        (
            packet(0x01, 0, &store(5, 9), b"k", b"v\r\n"),
            "ms k 3 c F5 T9\\r\\nv\\r\\n\\r\\n",
        ),
        (
            packet(0x11, 8, &store(0, u32::MAX), b"k\n", b""),
            "ms awo= 0 b c F0 T2147483647 C8\\r\\n\\r\\n",
        ),
        (
            packet(0x02, 0, &store(0, 0), b"k", b"v"),
            "ms k 1 c ME F0 T0\\r\\nv\\r\\n",
        ),
        (
            packet(0x12, 8, &store(0, 0), b"k", b"v"),
            "ms k 1 c F0 T0 C8\\r\\nv\\r\\n",
        ),
        (
            packet(0x03, 0, &store(0, 0), b"k", b"v"),
            "ms k 1 c MR F0 T0\\r\\nv\\r\\n",
        ),
        (packet(0x0e, 0, b"", b"k", b"v"), "ms k 1 c MA\\r\\nv\\r\\n"),
        (
            packet(0x1a, 3, b"", b"k", b"v"),
            "ms k 1 c MP C3\\r\\nv\\r\\n",
        ),
        (packet(0x04, 0, b"", b"k", b""), "md k\\r\\n"),
        (packet(0x14, 3, b"", b"k\r", b""), "md aw0= b C3\\r\\n"),
        (
            packet(0x05, 0, &delta(2, 10, 0), b"k", b""),
            "ma k v c D2 N0 J10\\r\\n",
        ),
        (
            packet(0x16, 4, &delta(u64::MAX, 10, u32::MAX), b"k", b""),
            "ma k v c MD D18446744073709551615 C4\\r\\n",
        ),
        (packet(0x08, 0, b"", b"", b""), "flush_all\\r\\n"),
        (packet(0x18, 0, &four, b"", b""), "flush_all 60\\r\\n"),
        (packet(0x10, 0, b"", b"", b""), "stats\\r\\n"),
        (packet(0x10, 0, b"", b"items", b""), "stats items\\r\\n"),
        (packet(0x10, 0, b"", b"reset x", b""), "stats reset\\r\\n"),
    ] {
        assert_eq!(text_of(&packet).as_deref(), Ok(text));
    }
    for name in [
        &b"a\nflush_all"[..],
        b"cachedump 1 0",
        b"conns",
        b"detail on",
        b"extstore",
        b"items x",
    ] {
        let unknown = packet(0x10, 0, b"", name, b"");
        assert_eq!(text_of(&unknown), Err(Status::NotFound));
    }
}

#[test]
fn keys_that_need_base64_may_be_186_bytes_long() {
    let key = |len: usize, byte: u8| [vec![b'k'; len - 1], vec![byte]].concat();
    let sent = |key: &[u8]| text_of(&packet(0x00, 0, b"", key, b""));
    assert!(sent(&key(250, b'\x07')).is_ok());
    assert!(sent(&key(186, b' ')).is_ok_and(|text| text.contains(" b ")));
    assert_eq!(sent(&key(187, b' ')), Err(Status::Invalid));
}

#[test]
fn nothing_is_decided_before_the_head_is_there_and_nothing_taken_before_the_whole() {
    let whole = packet(0x01, 0, &store(1, 2), b"key", b"some value");
    let head = whole.len() - 10;
    for end in 0..whole.len() {
        assert_eq!(
            request(&whole[..end], LIMIT, false),
            Seen::Incomplete,
            "{end}"
        );
        // Too large is known from the head on, and the same whatever follows.
        let expected = match end < head {
            true => Seen::Incomplete,
            false => {
                let ask = Ask {
                    opcode: 0x01,
                    opaque: OPAQUE,
                };
                let (status, skip, last) = (Status::TooLarge, 10, false);
                let key = &b"key"[..];
                let refusal = Refusal {
                    ask,
                    key,
                    status,
                    skip,
                    last,
                };
                Seen::Refused(head, refusal)
            }
        };
        assert_eq!(request(&whole[..end], whole.len() - 1, false), expected);
    }
    let two = [&whole[..], &whole].concat();
    assert!(matches!(request(&two, LIMIT, false), Seen::Request(len, _) if len == whole.len()));
    assert_eq!(request(&[b'g'; 24], LIMIT, false), Seen::Foreign);
}

/// Status, bytes passed over and whether the connection ends.
fn refusal(packet: &[u8], locked: bool) -> Option<(Status, u64, bool)> {
    match request(packet, LIMIT, locked) {
        Seen::Refused(_, refusal) => Some((refusal.status, refusal.skip, refusal.last)),
        _ => None,
    }
}

#[test]
fn what_is_wrong_is_answered_as_by_memcached() {
    let mut longer_than_its_body = packet(0x00, 0, b"", b"key", b"");
    longer_than_its_body[11] = 2;
    let mut endless = packet(0x01, 0, &store(0, 0), b"k", b"");
    endless[8] = 0x7f;
    let invalid = Some((Status::Invalid, 0, true));
    for (packet, expected) in [
        (longer_than_its_body, Some((Status::Unknown, 0, true))),
        (endless, invalid),
        (
            packet(0x1b, 0, b"1234", b"k", b"body"),
            Some((Status::Unknown, 4, false)),
        ),
        (
            packet(0x1f, 0, b"", b"", b""),
            Some((Status::Unknown, 0, false)),
        ),
        (
            packet(0xff, 0, b"", b"", b"12"),
            Some((Status::Unknown, 2, false)),
        ),
        (packet(0x00, 0, b"", &[b'k'; 251], b""), invalid),
        (packet(0x00, 0, b"", &[b'k'; 250], b""), None),
        (packet(0x00, 0, b"", b"", b""), invalid),
        (packet(0x00, 0, b"1234", b"k", b""), invalid),
        (packet(0x0d, 0, b"", b"k", b"value"), invalid),
        (packet(0x01, 0, b"1234", b"k", b"v"), invalid),
        (packet(0x12, 0, &store(0, 0), b"", b"v"), invalid),
        (packet(0x04, 0, b"", b"k", b"v"), invalid),
        (packet(0x05, 0, &delta(1, 1, 1)[..16], b"k", b""), invalid),
        (packet(0x05, 0, &delta(1, 1, 1), b"k", b"v"), invalid),
        (packet(0x07, 0, b"", b"k", b""), invalid),
        (packet(0x08, 0, b"12345678", b"", b""), invalid),
        (packet(0x0a, 0, b"", b"", b"x"), invalid),
        (packet(0x0b, 0, b"x", b"", b""), invalid),
        (packet(0x0e, 0, b"1234", b"k", b"v"), invalid),
        (packet(0x10, 0, b"1234", b"", b""), invalid),
        (packet(0x1c, 0, b"", b"k", b""), invalid),
        (packet(0x1d, 0, b"1234", b"", b""), invalid),
        (packet(0x20, 0, b"", b"PLAIN", b""), invalid),
        (packet(0x21, 0, b"", b"", b""), invalid),
        (
            packet(0x21, 0, b"", &[b'M'; 33], b"xyz"),
            Some((Status::Invalid, 3, false)),
        ),
    ] {
        assert_eq!(
            refusal(&packet, false),
            expected,
            "{}",
            packet.escape_ascii()
        );
    }
}

#[test]
fn a_set_that_is_too_large_takes_away_what_was_there() {
    let removal = Some(b"md YSBi b\r\n".to_vec());
    for (opcode, expected) in [
        (0x01, &removal),
        (0x11, &removal),
        (0x02, &None),
        (0x0e, &None),
    ] {
        let extras = if opcode == 0x0e {
            Vec::new()
        } else {
            store(0, 0)
        };
        let whole = packet(opcode, 0, &extras, b"a b", &[0; 5000]);
        let Seen::Refused(_, refusal) = request(&whole, LIMIT, false) else {
            panic!("taken")
        };
        assert_eq!(refusal.removal(), *expected, "{opcode:#x}");
    }
}

#[test]
fn who_has_to_log_in_may_do_only_that_and_ask_for_the_version() {
    for opcode in 0..=0x30 {
        let is_free = matches!(opcode, 0x0b | 0x20 | 0x21 | 0x22);
        let refused = Some((Status::Unauthorized, 0, true));
        let key: &[u8] = if opcode > 0x20 { b"PLAIN" } else { b"" };
        let found = refusal(&packet(opcode, 0, b"", key, b""), true);
        assert_eq!(found, refused.filter(|_| !is_free), "{opcode:#x}");
    }
}

#[test]
fn credentials_are_what_stands_behind_the_first_nul() {
    let found = plain_credentials(b"admin\0user\0pass\0word");
    assert_eq!(found, Some((&b"user"[..], &b"pass\0word"[..])));
    assert_eq!(plain_credentials(b"\0\0"), Some((&b""[..], &b""[..])));
    assert_eq!(plain_credentials(b"user\0pass"), None);
}

#[test]
fn items_come_with_flags_and_token_and_the_key_where_it_is_asked_for() {
    let found = |opcode, key: &[u8]| {
        let (flags, value) = (vec![0, 0, 1, 2], b"a\r\nb".to_vec());
        vec![(opcode, 0, 99, flags, key.to_vec(), value)]
    };
    let values = [
        "VALUE k 258 4 99\r\na\r\nb\r\nEND\r\n",
        "VA 4 f258 c99\r\na\r\nb\r\n",
    ];
    for text in values {
        for opcode in [0x00, 0x09, 0x1d, 0x1e] {
            assert_eq!(answers(opcode, text), found(opcode, b""));
        }
        for opcode in [0x0c, 0x0d, 0x23, 0x24] {
            assert_eq!(answers(opcode, text), found(opcode, b"the key"));
        }
    }
    let (extras, none) = (vec![0, 0, 0, 3], Vec::new());
    let touched = vec![(0x1c, 0, 12, extras, none.clone(), none.clone())];
    assert_eq!(answers(0x1c, "HD f3 c12\r\n"), touched);
    for miss in ["END\r\n", "EN\r\n"] {
        assert_eq!(answers(0x00, miss), error(0x00, 1, "Not found"));
        assert_eq!(answers(0x1c, miss), error(0x1c, 1, "Not found"));
        for opcode in [0x0c, 0x23] {
            let key = b"the key".to_vec();
            assert_eq!(
                answers(opcode, miss),
                [(opcode, 1, 0, none.clone(), key, none.clone())]
            );
        }
        for quiet in [0x09, 0x0d, 0x1e, 0x24] {
            assert_eq!(answers(quiet, miss), []);
        }
    }
}

#[test]
fn quiet_writes_say_only_what_went_wrong() {
    for (loud, quiet) in [
        (0x01, 0x11),
        (0x02, 0x12),
        (0x03, 0x13),
        (0x04, 0x14),
        (0x0e, 0x19),
        (0x0f, 0x1a),
        (0x08, 0x18),
    ] {
        assert_eq!(answers(loud, "HD c5\r\n"), done(loud, 5));
        assert_eq!(answers(loud, "OK\r\n"), done(loud, 0));
        assert_eq!(answers(quiet, "HD c5\r\n"), []);
        assert_eq!(answers(quiet, "OK\r\n"), []);
        for opcode in [loud, quiet] {
            assert_eq!(
                answers(opcode, "EX\r\n"),
                error(opcode, 2, "Data exists for key.")
            );
            assert_eq!(answers(opcode, "NF\r\n"), error(opcode, 1, "Not found"));
            let failed = "SERVER_ERROR nobody is there\r\n";
            assert_eq!(
                answers(opcode, failed),
                error(opcode, 0x84, "nobody is there")
            );
        }
    }
    for quiet in [false, true] {
        let opcode = |loud, silent| if quiet { silent } else { loud };
        let (add, replace) = (opcode(0x02, 0x12), opcode(0x03, 0x13));
        let (append, set) = (opcode(0x0e, 0x19), opcode(0x01, 0x11));
        assert_eq!(
            answers(add, "NS\r\n"),
            error(add, 2, "Data exists for key.")
        );
        assert_eq!(answers(replace, "NS\r\n"), error(replace, 1, "Not found"));
        assert_eq!(answers(append, "NS\r\n"), error(append, 5, "Not stored."));
        let large = "SERVER_ERROR object too large for cache\r\n";
        assert_eq!(answers(set, large), error(set, 3, "Too large."));
        let full = "SERVER_ERROR out of memory storing object\r\n";
        assert_eq!(
            answers(set, full),
            error(set, 0x82, "Out of memory allocating item")
        );
    }
}

#[test]
fn sums_are_eight_bytes() {
    let sum = |opcode, value: u64| {
        let body = value.to_be_bytes().to_vec();
        vec![(opcode, 0, 31, Vec::new(), Vec::new(), body)]
    };
    for opcode in [0x05, 0x06] {
        assert_eq!(answers(opcode, "VA 3 c31\r\n258\r\n"), sum(opcode, 258));
        let largest = "VA 20 c31\r\n18446744073709551615\r\n";
        assert_eq!(answers(opcode, largest), sum(opcode, u64::MAX));
    }
    for opcode in [0x15, 0x16] {
        assert_eq!(answers(opcode, "VA 3 c31\r\n258\r\n"), []);
        let text = "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
        let why = "Non-numeric server-side value for incr or decr";
        assert_eq!(answers(opcode, text), error(opcode, 6, why));
        assert_eq!(answers(opcode, "NF\r\n"), error(opcode, 1, "Not found"));
    }
}

#[test]
fn statistics_end_with_an_empty_packet() {
    let row = |name: &str, value: &str| {
        let (name, value) = (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        (0x10, 0, 0, Vec::new(), name, value)
    };
    let text = "STAT pid 12\r\nSTAT note a b\r\nSTAT none\r\nEND\r\n";
    let expected = [
        row("pid", "12"),
        row("note", "a b"),
        row("none", ""),
        row("", ""),
    ];
    assert_eq!(answers(0x10, text), expected);
    assert_eq!(answers(0x10, "RESET\r\n"), [row("", "")]);
    assert_eq!(answers(0x10, "ERROR\r\n"), error(0x10, 1, "Not found"));
    assert_eq!(answers(0x0b, "VERSION 1.6.18\r\n")[0].5, b"1.6.18");
}

#[test]
fn errors_are_told_apart_from_misses() {
    let ask = Ask::default();
    for (status, expected) in [
        (Status::Success, false),
        (Status::NotFound, false),
        (Status::Exists, false),
        (Status::NotStored, false),
        (Status::Invalid, true),
        (Status::Internal, true),
        (Status::Unauthorized, true),
    ] {
        let mut out = Vec::new();
        write_error(ask, status, &mut out);
        assert_eq!(is_error(&out), expected);
    }
    assert!(!is_error(b"END\r\n"));
    // What only we refuse says why.
    let reserved = "CLIENT_ERROR this key is reserved\r\n";
    assert_eq!(
        answers(0x00, reserved),
        error(0x00, 4, "this key is reserved")
    );
    assert_eq!(
        answers(0x00, "ERROR\r\n"),
        error(0x00, 4, "Invalid arguments")
    );
}

#[test]
fn a_login_is_bounded_for_who_has_not_logged_in() {
    let limit = 4 * TOKEN_LIMIT as usize;
    for opcode in [0x21, 0x22] {
        let packet = |size: u64| packet(opcode, 0, b"", b"PLAIN", &vec![b'x'; size as usize]);
        let (largest, larger) = (packet(TOKEN_LIMIT), packet(TOKEN_LIMIT + 1));
        for (bytes, locked) in [(&largest, true), (&larger, false)] {
            assert!(matches!(request(bytes, limit, locked), Seen::Request(..)));
        }
        // Said as soon as its length is known; the rest is passed over.
        for bytes in [&larger[..], &larger[..HEADER_BYTES + 5]] {
            let Seen::Refused(used, refusal) = request(bytes, limit, true) else {
                panic!("{opcode:#x} is taken");
            };
            assert_eq!(used, HEADER_BYTES + 5);
            assert_eq!(refusal.status, Status::TooLarge);
            assert_eq!((refusal.skip, refusal.last), (TOKEN_LIMIT + 1, false));
        }
    }
}
