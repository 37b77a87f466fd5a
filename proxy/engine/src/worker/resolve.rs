//! What the leader of a shard and the others are sent for a meta write. Values only.
//!
//! Called by `meta.rs`, and by `replicate.rs` when the leader has answered.
//!
//! The leader decides, the others get what came of it. `T F N J D M I b` are as in the request.
//!
//! | request | the leader | others |
//! |---|---|---|
//! | `mg`, `me` | the request: a read | nothing; if it says W to an `mg`, `mg` afterwards, so that nobody else wins |
//! | `mg N R T` | the request | if it says W: `mg` with N and T, and an R that wins; else `mg T`, if T was given and it was there |
//! | `ms` (set) | the request | the same, at the same time |
//! | `ms ME MR`, `ms C` | the request | `ms` (set) if HD; `md` if the leader had no room, as it has dropped what was there |
//! | `ms C I`, unless the key has a line end, which `me` may show | `me`, the request | as before if HD and `me` has shown that token; else `ms C1 I`: marked as stale |
//! | `ms MA MP` | the request | the same, at the same time |
//! | `ms MA MP` with C or N | the request | if HD: the same without C; and with N `ms ME`, which the appended or vivified item outlives |
//! | `md`, `md I` | the request | the same, at the same time |
//! | `md C`, `md I C` | the request | the same without C, if HD |
//! | `md x` | the request | if HD: `ms MR` of nothing; `md I` if I was given |
//! | `ma` | the request | the same, at the same time; with C: without it, if HD or VA |
//! | what is odd (`proto/meta.rs`) | the request, `mg` of the key | what `mg` has shown, unless the request failed |
//!
//! Counting and appending are compared, and mended where a replica differs (`repair.rs`). What goes to all at the same
//! time is the very same request, as any of them may have to answer the client. With E it
//! goes behind the leader's answer too, without E, for which the others may be too old.
//!
//! While somebody joins, who holds part of the data, what looks at what is there travels as what `mg` has shown
//! then (`behind.rs` says why), and everything goes behind the leader's answer. That `mg` may be the first to see
//! that an item is stale, and takes what is promised to the client that is: it is given back by `md I`, to the
//! same item only.
//!
//! CAS tokens are each server's own (`proto/token.rs`).

use super::items::{self, Travel, LAST_MOMENT};
use super::legs::{Held, Plan, Shape};
use crate::proto::memcache::{self as text, ReplyKind, Verb};
use crate::proto::meta::{self as dialect, Flags};
use crate::proto::{resp, token, Args};

/// How a meta write is replicated that the leader decides.
pub(super) struct Resolution {
    /// What the leader is sent.
    pub lead: Vec<u8>,
    pub rule: Rule,
}

/// What the others get once the leader has answered.
#[derive(Clone)]
pub(super) enum Rule {
    /// Nothing.
    Nothing,
    /// `bytes`, if it was done; if the leader had no room, `lost`.
    Done {
        bytes: Vec<u8>,
        replies: u32,
        lost: Vec<u8>,
    },
    /// These bytes, whatever the leader says that is no error.
    Always(Vec<u8>),
    /// What an `mg` does: if the client has won, or if there was an item; may be nothing.
    Won { won: Vec<u8>, hit: Vec<u8> },
    /// A set that `I` allows: if the item had this token, or another one. `me` was asked before.
    Stale {
        token: u64,
        same: Vec<u8>,
        stale: Vec<u8>,
        lost: Vec<u8>,
    },
    /// The item of this key (and ` b`) as `mg` shows it behind the request.
    After { word: Vec<u8>, mark: &'static [u8] },
    /// As `mg` has shown it before the request, which is these bytes.
    Before {
        word: Vec<u8>,
        mark: &'static [u8],
        then: Vec<u8>,
    },
}

/// What follows for the others.
pub(super) enum Outcome {
    Copy(Vec<u8>, u32),
    Nothing,
    /// The leader has refused it.
    Refused,
    /// It was done, but what came of it is not known.
    Unclear,
}

impl Resolution {
    /// `kind` is that of the reply to the request itself.
    pub(super) fn plan(&self, kind: ReplyKind) -> Plan {
        let (replies, then, shape) = match self.rule {
            Rule::After { .. } => (2, ReplyKind::Item, Shape::First),
            Rule::Stale { .. } | Rule::Before { .. } => (2, kind, Shape::Last),
            _ => (1, kind, Shape::Last),
        };
        let (rule, seen) = (self.rule.clone(), Vec::new());
        Plan {
            replies,
            then,
            shape,
            ..Plan::held(Held::Meta { rule, seen })
        }
    }
}

impl Rule {
    /// True if the client's answer is the leader's first reply.
    pub(super) fn answers_first(&self) -> bool {
        matches!(self, Rule::After { .. })
    }

    /// True for a reply to what the leader was asked besides.
    pub(super) fn is_asked(&self, is_first: bool, is_last: bool) -> bool {
        match self {
            Rule::After { .. } => !is_first,
            Rule::Stale { .. } | Rule::Before { .. } => !is_last,
            _ => false,
        }
    }

    /// What the others get. `seen` was asked besides, `answer` is the client's; `now` in seconds since 1970.
    pub(super) fn outcome(&self, seen: &[u8], answer: &[u8], is_taken: bool, now: i64) -> Outcome {
        let is_error = text::is_error(answer);
        let set = |bytes: &[u8], replies: u32, lost: &[u8]| {
            if dialect::is_done(answer) {
                Outcome::Copy(bytes.to_vec(), replies)
            } else if answer.starts_with(b"SERVER_ERROR") && !lost.is_empty() {
                Outcome::Copy(lost.to_vec(), 1)
            } else if is_error {
                Outcome::Refused
            } else {
                Outcome::Nothing
            }
        };
        match self {
            _ if !is_taken => Outcome::Nothing,
            Rule::Nothing if is_error => Outcome::Refused,
            Rule::Nothing => Outcome::Nothing,
            Rule::Done {
                bytes,
                replies,
                lost,
            } => set(bytes, *replies, lost),
            Rule::Always(_) | Rule::Before { .. } if is_error => Outcome::Refused,
            Rule::Always(bytes) => Outcome::Copy(bytes.clone(), 1),
            Rule::Won { won, hit } => {
                let bytes = if dialect::shows(answer, b'W') {
                    won
                } else {
                    hit
                };
                set(bytes, u32::from(!bytes.is_empty()), b"").or_nothing()
            }
            Rule::Stale {
                token,
                same,
                stale,
                lost,
            } => {
                let is_same = shown_token(seen) == Some(*token);
                set(if is_same { same } else { stale }, 1, lost)
            }
            Rule::After { word, mark } => copy_item((word, mark), seen, now),
            Rule::Before { word, mark, then } => match copy_item((word, mark), seen, now) {
                Outcome::Copy(mut bytes, replies) if dialect::is_done(answer) => {
                    bytes.extend_from_slice(then);
                    Outcome::Copy(bytes, replies + 1)
                }
                // It is another item than the client wants to mark.
                Outcome::Copy(..) if answer.starts_with(b"EX") => Outcome::Nothing,
                other => other,
            },
        }
    }

    /// What the leader is told besides, if asking it has won the item.
    pub(super) fn give_back(&self, seen: &[u8], answer: &[u8]) -> Option<Vec<u8>> {
        match self {
            Rule::After { word, mark } => items::give_back((word, mark), seen),
            // Otherwise it is marked anew already.
            Rule::Before { word, mark, .. } if !dialect::is_done(answer) => {
                items::give_back((word, mark), seen)
            }
            _ => None,
        }
    }
}

fn copy_item(name: items::Name<'_>, seen: &[u8], now: i64) -> Outcome {
    let mut travel = Travel::default();
    match items::take(&mut travel, name, seen, now) {
        Some(_) => Outcome::Copy(travel.bytes, travel.replies),
        None => Outcome::Unclear,
    }
}

impl Outcome {
    /// No bytes are nothing.
    fn or_nothing(self) -> Outcome {
        match self {
            Outcome::Copy(bytes, _) if bytes.is_empty() => Outcome::Nothing,
            other => other,
        }
    }
}

/// The CAS token in a reply to `me`.
fn shown_token(reply: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b" cas=";
    let at = memchr::memmem::rfind(reply, NAME)? + NAME.len();
    let rest = &reply[at..];
    let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    text::unsigned(&rest[..len])
}

/// One request, and how it is put together anew.
pub(super) struct Words<'a> {
    pub args: Args<'a>,
    pub flags: Flags,
    pub data: &'a [u8],
}

impl<'a> Words<'a> {
    pub fn word(&self) -> &'a [u8] {
        self.args.get(1)
    }

    pub fn mark(&self) -> &'static [u8] {
        if self.flags.has(b'b') {
            b" b"
        } else {
            b""
        }
    }

    /// Those of the flags that the request has, as they stand in it and in its order.
    fn flags(&self, letters: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for i in 2..self.args.len() {
            let word = self.args.get(i);
            if word.first().is_some_and(|letter| letters.contains(letter)) {
                out.push(b' ');
                out.extend_from_slice(word);
            }
        }
        out
    }

    /// N and T in the request's order, and an R that wins where it has one: what stands before it decides, too.
    fn winning(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for i in 2..self.args.len() {
            let word = self.args.get(i);
            match word.first() {
                Some(b'R') => out.extend_from_slice(LAST_MOMENT),
                Some(b'N' | b'T') => out.extend_from_slice(&[b" ", word].concat()),
                _ => {}
            }
        }
        out
    }

    /// Its mode, by one letter.
    pub fn mode(&self) -> u8 {
        let mode = dialect::token(&self.args, b'M').and_then(|mode| mode.first());
        mode.copied().unwrap_or(b'S')
    }

    /// A request of one line for the same key.
    fn line(&self, name: &[u8], flags: &[u8]) -> Vec<u8> {
        [name, b" ", self.word(), flags, self.mark(), b"\r\n"].concat()
    }

    /// The same data block for the same key.
    fn set(&self, flags: &[u8]) -> Vec<u8> {
        let length = self.args.get(2);
        let mark = self.mark();
        let parts = [
            b"ms ",
            self.word(),
            b" ",
            length,
            flags,
            mark,
            b"\r\n",
            self.data,
        ];
        parts.concat()
    }

    fn delete(&self) -> Vec<u8> {
        self.line(b"md", b"")
    }
}

/// How the others get a write.
pub(super) enum Others {
    /// As it is, at the same time. So each can answer the client, if the leader is lost.
    Same,
    /// What the leader's answer says.
    Then(Rule),
}

/// Says how the others get a write. `token` is what the request compares with, as the server knows it.
pub(super) fn others(verb: Verb, words: &Words<'_>, token: u64, feeds: bool) -> Others {
    let flags = words.flags;
    let after = || {
        let (word, mark) = (words.word().to_vec(), words.mark());
        Others::Then(Rule::After { word, mark })
    };
    if flags.is_odd() {
        return after();
    }
    let is_compared = flags.has(b'C');
    // With E the others cannot do the same: they may be too old for it.
    let is_same = !is_compared && !flags.has(b'E') && !feeds;
    let done = |bytes: Vec<u8>, replies: u32, lost: Vec<u8>| {
        Others::Then(Rule::Done {
            bytes,
            replies,
            lost,
        })
    };
    match verb {
        Verb::Mg if !flags.has_any(b"NRTL") => Others::Then(Rule::Nothing),
        Verb::Mg if feeds => after(),
        Verb::Mg if flags.has(b'L') => Others::Then(Rule::Always(words.line(b"mg", b""))),
        Verb::Mg => {
            let hit = match flags.has(b'T') {
                true => words.line(b"mg", &words.flags(b"T")),
                false => Vec::new(),
            };
            let won = words.line(b"mg", &words.winning());
            Others::Then(Rule::Won { won, hit })
        }
        Verb::Ms => {
            let mode = words.mode();
            if matches!(mode, b'A' | b'P') {
                if is_same && !flags.has(b'N') {
                    return Others::Same;
                }
                if feeds {
                    return after();
                }
                let mut bytes = words.set(&[b" M", &[mode][..]].concat());
                let mut replies = 1;
                if let Some(time) = dialect::token(&words.args, b'N') {
                    let viv = [b" ME T", time, &words.flags(b"F")].concat();
                    bytes.extend_from_slice(&words.set(&viv));
                    replies = 2;
                }
                return done(bytes, replies, words.delete());
            }
            if mode == b'S' && is_same {
                return Others::Same;
            }
            let set = words.set(&words.flags(b"TF"));
            let is_cas = is_compared && mode != b'E';
            if !(is_cas && flags.has(b'I')) {
                return done(set, 1, words.delete());
            }
            if feeds || dialect::has_line_end(&words.args, flags) {
                return after();
            }
            Others::Then(Rule::Stale {
                token,
                same: set,
                stale: words.set(&[&words.flags(b"F")[..], b" C1 I"].concat()),
                lost: words.delete(),
            })
        }
        Verb::Md if flags.has(b'x') => {
            if feeds {
                return after();
            }
            let (word, mark) = (words.word(), words.mark());
            let like = words.flags(b"TF");
            let mut bytes = [b"ms ", word, b" 0 MR", &like, mark, b"\r\n\r\n"].concat();
            if flags.has(b'I') {
                bytes.extend_from_slice(&words.line(b"md", b" I"));
            }
            done(bytes, 1 + u32::from(flags.has(b'I')), Vec::new())
        }
        Verb::Md if is_same => Others::Same,
        Verb::Md => {
            let is_marked = flags.has(b'I');
            let bytes = words.line(b"md", &words.flags(if is_marked { b"IT" } else { b"" }));
            if feeds && is_marked {
                return Others::Then(Rule::Before {
                    word: words.word().to_vec(),
                    mark: words.mark(),
                    then: bytes,
                });
            }
            match is_compared {
                true => done(bytes, 1, Vec::new()),
                false => Others::Then(Rule::Always(bytes)),
            }
        }
        Verb::Ma if is_same => Others::Same,
        Verb::Ma if feeds => after(),
        Verb::Ma => done(words.line(b"ma", &words.flags(b"NJDMT")), 1, Vec::new()),
        _ => Others::Then(Rule::Nothing),
    }
}

/// The line with the tokens that servers know in place of the client's, and the data block.
pub(super) fn with_tokens(verb: Verb, words: &Words<'_>, token: u64) -> Vec<u8> {
    let mut out = verb.row().name.as_bytes().to_vec();
    for i in 1..words.args.len() {
        let word = words.args.get(i);
        out.push(b' ');
        let is_flag = i >= 2 + usize::from(verb == Verb::Ms);
        match word.split_first() {
            Some((b'C', digits)) if is_flag && text::unsigned(digits).is_some() => {
                out.push(b'C');
                resp::write_number(&mut out, token);
            }
            Some((b'E', digits)) if is_flag => match text::unsigned(digits) {
                Some(given) => {
                    out.push(b'E');
                    resp::write_number(&mut out, token::given(given));
                }
                None => out.extend_from_slice(word),
            },
            _ => out.extend_from_slice(word),
        }
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(words.data);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Resume;

    /// How others get a request, and what that is once the leader has answered.
    fn resolved(line: &str, feeds: bool, seen: &str, answer: &str) -> String {
        let bytes = line.as_bytes();
        let mut list = Vec::new();
        let (_, request) = text::request(bytes, &mut list, &mut Resume::default(), usize::MAX);
        let request = request.unwrap();
        let args = Args {
            buf: bytes,
            list: &list,
        };
        let (flags, data) = (request.flags, &bytes[request.line_end..]);
        let words = Words { args, flags, data };
        match others(request.verb, &words, 77, feeds) {
            Others::Same => "same".to_owned(),
            Others::Then(rule) => {
                match rule.outcome(seen.as_bytes(), answer.as_bytes(), true, 1_000_000) {
                    Outcome::Copy(bytes, replies) => {
                        let text = String::from_utf8_lossy(&bytes).replace("\r\n", "|");
                        format!("{replies} {text}")
                    }
                    Outcome::Nothing => "nothing".to_owned(),
                    Outcome::Refused => "refused".to_owned(),
                    Outcome::Unclear => "unclear".to_owned(),
                }
            }
        }
    }

    #[test]
    fn what_comes_out_alike_goes_to_all() {
        for line in [
            "ms a 1 k c T30 Ox\r\nx\r\n",
            "ms a 1 MA\r\nx\r\n",
            "md a k\r\n",
            "md YQ== b I T30\r\n",
            "ma a N0 J5 D2 v\r\n",
        ] {
            assert_eq!(resolved(line, false, "", ""), "same", "{line}");
        }
    }

    #[test]
    fn what_the_leader_decides_becomes_what_it_did() {
        for (line, answer, expected) in [
            ("ms a 1 ME T30 F5 k\r\nx\r\n", "HD ka", "1 ms a 1 T30 F5|x|"),
            ("ms a 1 MR E9 b\r\nx\r\n", "HD", "1 ms a 1 b|x|"),
            ("ms a 1 C7\r\nx\r\n", "HD", "1 ms a 1|x|"),
            ("ms a 1 C7\r\nx\r\n", "EX", "nothing"),
            (
                "ms a 1 ME\r\nx\r\n",
                "SERVER_ERROR out of memory storing object",
                "1 md a|",
            ),
            ("ms a 1 ME\r\nx\r\n", "CLIENT_ERROR invalid flag", "refused"),
            (
                "ms a 1 MA N30 F5\r\nx\r\n",
                "HD",
                "2 ms a 1 MA|x|ms a 1 ME T30 F5|x|",
            ),
            ("ms a 1 MP C7\r\nx\r\n", "HD", "1 ms a 1 MP|x|"),
            ("md a C7 I T5 b\r\n", "HD", "1 md a I T5 b|"),
            ("md a C7\r\n", "NF", "nothing"),
            ("md a x I F2\r\n", "HD", "2 ms a 0 MR F2||md a I|"),
            ("ma a C7 N0 v\r\n", "VA 1\r\n7", "1 ma a N0|"),
            ("mg a C7 v\r\n", "HD", "nothing"),
            ("mg a T30 v\r\n", "VA 1\r\nx", "1 mg a T30|"),
            (
                "mg a N30 R9 T60 v\r\n",
                "VA 0 W\r\n",
                "1 mg a N30 R2147483647 T60|",
            ),
            ("mg a N30 v\r\n", "VA 1 Z\r\nx", "nothing"),
            ("mg a N30 T60\r\n", "HD Z", "1 mg a T60|"),
            ("mg a T30\r\n", "EN", "nothing"),
            ("mg a L\r\n", "MN", "1 mg a|"),
        ] {
            let answer = format!("{answer}\r\n");
            assert_eq!(resolved(line, false, "", &answer), expected, "{line}");
        }
    }

    #[test]
    fn a_set_that_may_be_stale_is_what_it_was_on_the_leader() {
        let line = "ms a 1 C7 I T30 F5\r\nx\r\n";
        let shown = |cas| format!("ME a exp=-1 la=0 cas={cas} fetch=no cls=1 size=63\r\n");
        let plain = "1 ms a 1 T30 F5|x|";
        assert_eq!(resolved(line, false, &shown(77), "HD\r\n"), plain);
        let stale = "1 ms a 1 F5 C1 I|x|";
        assert_eq!(resolved(line, false, &shown(78), "HD\r\n"), stale);
        assert_eq!(resolved(line, false, "EN\r\n", "NF\r\n"), "nothing");
    }

    #[test]
    fn who_joins_gets_what_there_is() {
        let seen = "VA 1 f5 t30 c9 X W\r\nx\r\n";
        let item = "2 ms a 1 F5 T30|x|md a I|";
        for line in [
            "ma a\r\n",
            "ms a 1 MA\r\ny\r\n",
            "mg a T30\r\n",
            "md a x\r\n",
            "mg a S\r\n",
        ] {
            assert_eq!(resolved(line, true, seen, "HD\r\n"), item, "{line}");
        }
        let marked = "3 ms a 1 F5 T30|x|md a I|md a I T9|";
        assert_eq!(resolved("md a I T9\r\n", true, seen, "HD\r\n"), marked);
        assert_eq!(resolved("md a I C7\r\n", true, seen, "EX\r\n"), "nothing");
        assert_eq!(resolved("md a\r\n", true, "", "NF\r\n"), "1 md a|");
        assert_eq!(
            resolved("ms a 1\r\nx\r\n", true, "", "HD\r\n"),
            "1 ms a 1|x|"
        );
        assert_eq!(resolved("ma a\r\n", true, "EN\r\n", "NF\r\n"), "1 md a|");
        assert_eq!(resolved("ma a\r\n", true, "ERROR\r\n", "HD\r\n"), "unclear");
    }

    #[test]
    fn what_asking_has_won_is_given_back_unless_it_is_marked_anew() {
        let seen = b"VA 1 f5 t30 c9 X W\r\nx\r\n";
        let (word, mark) = (b"a".to_vec(), &b""[..]);
        let then = b"md a I\r\n".to_vec();
        let back = Some(b"md a I C9\r\n".to_vec());
        let after = Rule::After {
            word: word.clone(),
            mark,
        };
        assert_eq!(after.give_back(seen, b"CLIENT_ERROR x\r\n"), back);
        assert_eq!(
            after.give_back(b"VA 1 f5 t30 c9 Z X\r\nx\r\n", b"HD\r\n"),
            None
        );
        let before = Rule::Before { word, mark, then };
        assert_eq!(before.give_back(seen, b"EX\r\n"), back);
        assert_eq!(before.give_back(seen, b"HD\r\n"), None);
    }

    #[test]
    fn the_leader_gets_tokens_as_it_knows_them() {
        let bytes = b"ms C5 1 C9 E7 c k\r\nx\r\n";
        let mut list = Vec::new();
        let (_, request) = text::request(bytes, &mut list, &mut Resume::default(), usize::MAX);
        let flags = request.unwrap().flags;
        let (args, data) = (
            Args {
                buf: bytes,
                list: &list,
            },
            &b"x\r\n"[..],
        );
        let words = Words { args, flags, data };
        let sent = with_tokens(Verb::Ms, &words, 1234);
        let expected = format!("ms C5 1 C1234 E{} c k\r\nx\r\n", token::given(7));
        assert_eq!(String::from_utf8_lossy(&sent), expected);
    }
}
