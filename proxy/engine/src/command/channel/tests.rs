use super::*;

#[test]
fn channels_are_placed_by_name_and_notifications_by_key() {
    let cases: [(Kind, &[u8], Place); 10] = [
        (Kind::Channel, b"news", Place::At(b"news")),
        (Kind::Channel, b"__keyspace@0__:k", Place::At(b"k")),
        (Kind::Channel, b"__keyspace@12__:{a}:", Place::At(b"{a}:")),
        (Kind::Channel, b"__keyevent@0__:set", Place::Everywhere),
        (
            Kind::Channel,
            b"__keyspace@__:k",
            Place::At(b"__keyspace@__:k"),
        ),
        (
            Kind::Channel,
            b"__keyevent@0_:set",
            Place::At(b"__keyevent@0_:set"),
        ),
        (Kind::Channel, b"", Place::At(b"")),
        (
            Kind::Shard,
            b"__keyevent@0__:set",
            Place::At(b"__keyevent@0__:set"),
        ),
        (Kind::Pattern, b"news", Place::Everywhere),
        (Kind::Monitor, b"", Place::Everywhere),
    ];
    for (kind, name, expected) in cases {
        assert_eq!(place(kind, name), expected, "{kind:?} {name:?}");
    }
    assert_eq!(published_at(b"__keyspace@0__:k"), b"k");
    assert_eq!(published_at(b"__keyevent@0__:set"), b"__keyevent@0__:set");
}

#[test]
fn records_of_the_proxy_are_not_shown() {
    let record = b"__shardproxy:view:p:s1";
    for (channel, payload, hidden) in [
        (&b"__shardproxy:x"[..], &b"m"[..], true),
        (b"__keyspace@0__:__shardproxy:view:p:s1", b"set", true),
        (b"__keyevent@0__:set", record, true),
        (b"__keyevent@0__:set", b"k", false),
        (b"__keyspace@0__:k", record, false),
        (b"news", record, false),
    ] {
        assert_eq!(is_hidden(channel, payload), hidden, "{channel:?}");
    }
}

#[test]
fn confirmations_have_the_form_of_the_protocol() {
    for (resp3, name, expected) in [
        (
            false,
            Some(&b"a"[..]),
            &b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:2\r\n"[..],
        ),
        (
            true,
            Some(b"a"),
            b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:2\r\n",
        ),
        (false, None, b"*3\r\n$9\r\nsubscribe\r\n$-1\r\n:2\r\n"),
        (true, None, b">3\r\n$9\r\nsubscribe\r\n_\r\n:2\r\n"),
    ] {
        let mut out = Vec::new();
        confirm(resp3, "subscribe", name, 2, &mut out);
        assert_eq!(out, expected);
    }
    assert_eq!(Kind::Channel.count(&[1, 2, 4]), 3);
    assert_eq!(Kind::Pattern.count(&[1, 2, 4]), 3);
    assert_eq!(Kind::Shard.count(&[1, 2, 4]), 4);
}

#[test]
fn what_a_server_sends_is_told_apart() {
    let (kind, name) = (Kind::Channel, &b"a"[..]);
    let message = News::Message {
        kind,
        name,
        channel: name,
        payload: b"x\r\ny",
    };
    assert_eq!(
        news(b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$4\r\nx\r\ny\r\n"),
        message
    );
    let (kind, name) = (Kind::Pattern, &b"a*"[..]);
    let message = News::Message {
        kind,
        name,
        channel: b"ab",
        payload: b"",
    };
    assert_eq!(
        news(b"*4\r\n$8\r\npmessage\r\n$2\r\na*\r\n$2\r\nab\r\n$0\r\n\r\n"),
        message
    );
    for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
        for (begins, (_, word)) in [(true, kind.subscribe()), (false, kind.unsubscribe())] {
            let mut reply = Vec::new();
            confirm(false, word, Some(b"a"), 1, &mut reply);
            assert_eq!(news(&reply), News::Confirmed { kind, begins });
        }
    }
    for (reply, expected) in [
        (&b"+PONG\r\n"[..], News::Pong),
        (b"*2\r\n$4\r\npong\r\n$0\r\n\r\n", News::Pong),
        (b"-ERR no\r\n", News::Error),
        (b"$1\r\na\r\n", News::Strange),
        (b"*0\r\n", News::Strange),
        (b"*3\r\n$3\r\nwho\r\n$1\r\na\r\n:1\r\n", News::Strange),
        (b"*5\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n", News::Strange),
    ] {
        assert_eq!(news(reply), expected, "{reply:?}");
    }
}

#[test]
fn lines_of_the_proxy_itself_are_known() {
    for (line, own) in [
        (&b"+1.2 [0 127.0.0.1:1] \"GET\" \"k\"\r\n"[..], false),
        (
            b"+1.2 [0 127.0.0.1:1] \"GET\" \"__shardproxy:view\"\r\n",
            true,
        ),
        (
            b"+1.2 [0 127.0.0.1:1] \"SET\" \"k\" \"a \\\"__shardproxy:x\"\r\n",
            false,
        ),
        (
            b"+1.2 [0 127.0.0.1:1] \"SET\" \"k\" \"in __shardproxy:x\"\r\n",
            false,
        ),
        (
            b"+1.2 [0 127.0.0.1:1] \"EVAL\" \"x\" \"1\" \"__shardproxy:v\"\r\n",
            true,
        ),
        (b"+1.2 [0 127.0.0.1:1] \"Ping\"\r\n", true),
        (b"+1.2 [0 127.0.0.1:1] \"PINGS\"\r\n", false),
        (
            b"+1.2 [0 127.0.0.1:1] \"client\" \"setname\" \"x\"\r\n",
            true,
        ),
    ] {
        assert_eq!(is_own(line), own, "{}", String::from_utf8_lossy(line));
    }
}

#[test]
fn queries_are_merged() {
    let merged = |kind, names: &[&[u8]], parts: &[&[u8]]| {
        let names: Vec<_> = names.iter().map(|name| name.to_vec()).collect();
        let parts: Vec<_> = parts.iter().map(|part| part.to_vec()).collect();
        let mut out = Vec::new();
        merge(kind, &names, &parts, &mut out);
        String::from_utf8(out).unwrap()
    };
    let event = "$18\r\n__keyevent@0__:set\r\n";
    assert_eq!(
        merged(
            QueryKind::Channels,
            &[],
            &[
                format!("*2\r\n$1\r\na\r\n{event}").as_bytes(),
                format!("*2\r\n{event}$14\r\n__shardproxy:x\r\n").as_bytes(),
                b"*0\r\n",
            ]
        ),
        format!("*2\r\n$1\r\na\r\n{event}")
    );
    assert_eq!(
        merged(
            QueryKind::NumSub,
            &[b"a", b"__keyevent@0__:set"],
            &[
                format!("*4\r\n$1\r\na\r\n:0\r\n{event}:2\r\n").as_bytes(),
                format!("*4\r\n$1\r\na\r\n:3\r\n{event}:2\r\n").as_bytes(),
            ]
        ),
        format!("*4\r\n$1\r\na\r\n:3\r\n{event}:2\r\n")
    );
    assert_eq!(
        merged(QueryKind::NumPat, &[], &[b":2\r\n", b":2\r\n"]),
        ":2\r\n"
    );
}
