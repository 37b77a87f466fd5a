//! Meta commands of Memcached: from a request to what the leader of its shard and the others are sent.
//!
//! The leader decides, the others get what came of it. `T F N J D M I b` are as in the request.
//!
//! | request | the leader | others |
//! |---|---|---|
//! | `mg`, `me` | the request: a read | nothing; if it says W to an `mg`, `mg` afterwards, so that nobody else wins |
//! | `mg T` | the request | `mg T`, at the same time |
//! | `mg N`, `mg R` | the request | if it says W: `mg` with N and T, and an R that wins; else `mg T`, if T was given |
//! | `ms` (set) | the request | `ms`, at the same time |
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
//! While somebody joins, who holds part of the data, what looks at what is there travels as what `mg` has shown
//! then (`behind.rs` says why), and everything goes behind the leader's answer. That `mg` may be the first to see
//! that an item is stale, and takes what is promised to the client that is: it is given back by `md I`, to the
//! same item only.
//!
//! CAS tokens are each server's own (`proto/token.rs`).

use super::behind::RELATIVE_SECONDS_LIMIT;
use super::forward::{Copies, Flow, Meta, Outgoing};
use super::legs::{Held, Plan, Shape};
use super::memcache::data_block;
use super::*;
use crate::command;
use crate::conn::ReplyTo;
use crate::proto::memcache::{self as text, ReplyKind, Request, Verb};
use crate::proto::meta::{self as dialect, Flags, Form};
use crate::proto::{token, Args, Resume, Step};

/// A time before which everything ends that ever does: `R` with it wins.
const LAST_MOMENT: &[u8] = b" R2147483647";

/// How a meta write is replicated that the leader decides.
pub(super) struct Resolution {
    /// What the leader is sent.
    pub lead: Vec<u8>,
    rule: Rule,
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
            Rule::After { word, mark } => copy_item(word, mark, seen, now),
            Rule::Before { word, mark, then } => {
                let is_done = dialect::is_done(answer);
                match copy_item(word, mark, seen, now) {
                    Outcome::Copy(mut bytes, replies) if is_done => {
                        bytes.extend_from_slice(then);
                        Outcome::Copy(bytes, replies + 1)
                    }
                    // It is another item than the client wants to mark.
                    Outcome::Copy(..) if answer.starts_with(b"EX") => Outcome::Nothing,
                    other => other,
                }
            }
        }
    }

    /// What the leader is sent if our own `mg` was the first to see that the item is stale.
    pub(super) fn give_back(&self, seen: &[u8], answer: &[u8]) -> Option<Vec<u8>> {
        let (word, mark) = match self {
            Rule::After { word, mark } => (word, mark),
            // Otherwise it is marked anew already.
            Rule::Before { word, mark, .. } if !dialect::is_done(answer) => (word, mark),
            _ => return None,
        };
        let is_taken = dialect::shows(seen, b'X') && dialect::shows(seen, b'W');
        let token = dialect::number(seen, b'c').filter(|_| is_taken)?;
        let token = token.to_string();
        Some([b"md ", &word[..], b" I C", token.as_bytes(), mark, b"\r\n"].concat())
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

/// Asks for all there is of an item.
fn ask_item(out: &mut Vec<u8>, word: &[u8], mark: &[u8]) {
    for part in [b"mg ", word, b" v f t c u", mark, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// Requests that give another server the item that `mg v f t c` has shown, marked as it is there.
fn copy_item(word: &[u8], mark: &[u8], reply: &[u8], now: i64) -> Outcome {
    let Some((item, _)) = text::item(reply) else {
        return Outcome::Unclear;
    };
    let Some(item) = item.filter(|item| item.ttl != 0) else {
        return Outcome::Copy([b"md ", word, mark, b"\r\n"].concat(), 1);
    };
    let expiry = match item.ttl {
        ttl if ttl < 0 => 0,
        ttl if ttl > RELATIVE_SECONDS_LIMIT => now + ttl,
        ttl => ttl,
    };
    let is_stale = dialect::shows(reply, b'X');
    let is_won = dialect::shows(reply, b'Z');
    // Only an item that ends can be won without being stale, so it ends until it is.
    let wins_early = is_won && !is_stale;
    let first = if wins_early { 100 } else { expiry };
    let head = format!(" {} F{} T{first}", item.data.len(), item.flags);
    let mut bytes = [
        b"ms ",
        word,
        head.as_bytes(),
        mark,
        b"\r\n",
        item.data,
        b"\r\n",
    ]
    .concat();
    let mut replies = 1;
    if is_stale {
        bytes.extend_from_slice(&[b"md ", word, b" I", mark, b"\r\n"].concat());
        replies += 1;
    }
    if is_won {
        let time = format!(" T{expiry}");
        let win = [b"mg ", word, LAST_MOMENT, time.as_bytes(), mark, b"\r\n"].concat();
        bytes.extend_from_slice(&win);
        replies += 1;
    }
    Outcome::Copy(bytes, replies)
}

/// One request, and how it is put together anew.
struct Words<'a> {
    args: Args<'a>,
    flags: Flags,
    data: &'a [u8],
}

impl<'a> Words<'a> {
    fn word(&self) -> &'a [u8] {
        self.args.get(1)
    }

    fn mark(&self) -> &'static [u8] {
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

    /// Its mode, by one letter.
    fn mode(&self) -> u8 {
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
enum Others {
    /// These bytes, at the same time.
    Now(Vec<u8>),
    /// What the leader's answer says.
    Then(Rule),
}

/// Says how the others get a write. `token` is what the request compares with, as the server knows it.
fn others(verb: Verb, words: &Words<'_>, token: u64, feeds: bool) -> Others {
    let flags = words.flags;
    let after = || {
        let (word, mark) = (words.word().to_vec(), words.mark());
        Others::Then(Rule::After { word, mark })
    };
    if flags.is_odd() {
        return after();
    }
    let is_compared = flags.has(b'C');
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
        Verb::Mg if flags.has(b'L') => Others::Now(words.line(b"mg", b"")),
        Verb::Mg => {
            let hit = match flags.has(b'T') {
                true => words.line(b"mg", &words.flags(b"T")),
                false => Vec::new(),
            };
            if !flags.has_any(b"NR") {
                return Others::Now(hit);
            }
            let early: &[u8] = if flags.has(b'R') { LAST_MOMENT } else { b"" };
            let won = words.line(b"mg", &[early, &words.flags(b"NT")].concat());
            Others::Then(Rule::Won { won, hit })
        }
        Verb::Ms => {
            let mode = words.mode();
            if matches!(mode, b'A' | b'P') {
                if feeds {
                    return after();
                }
                let mut bytes = words.set(&[b" M", &[mode][..]].concat());
                if !is_compared && !flags.has(b'N') {
                    return Others::Now(bytes);
                }
                let mut replies = 1;
                if let Some(time) = dialect::token(&words.args, b'N') {
                    let viv = [b" ME T", time, &words.flags(b"F")].concat();
                    bytes.extend_from_slice(&words.set(&viv));
                    replies = 2;
                }
                return done(bytes, replies, words.delete());
            }
            let set = words.set(&words.flags(b"TF"));
            let is_cas = is_compared && mode != b'E';
            if is_cas && flags.has(b'I') {
                if feeds || dialect::has_line_end(&words.args, flags) {
                    return after();
                }
                return Others::Then(Rule::Stale {
                    token,
                    same: set,
                    stale: words.set(&[&words.flags(b"F")[..], b" C1 I"].concat()),
                    lost: words.delete(),
                });
            }
            if mode == b'S' && !is_cas && !feeds {
                return Others::Now(set);
            }
            done(set, 1, words.delete())
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
        Verb::Md => {
            let is_marked = flags.has(b'I');
            let bytes = words.line(b"md", &words.flags(if is_marked { b"IT" } else { b"" }));
            match (feeds, is_compared) {
                (true, _) if is_marked => Others::Then(Rule::Before {
                    word: words.word().to_vec(),
                    mark: words.mark(),
                    then: bytes,
                }),
                (true, false) => Others::Then(Rule::Always(bytes)),
                (false, false) => Others::Now(bytes),
                (_, true) => done(bytes, 1, Vec::new()),
            }
        }
        Verb::Ma if feeds => after(),
        Verb::Ma => {
            let bytes = words.line(b"ma", &words.flags(b"NJDMT"));
            match is_compared {
                true => done(bytes, 1, Vec::new()),
                false => Others::Now(bytes),
            }
        }
        _ => Others::Then(Rule::Nothing),
    }
}

/// The line with the tokens that servers know in place of the client's, and the data block.
fn with_tokens(verb: Verb, words: &Words<'_>, token: u64) -> Vec<u8> {
    let mut out = verb.row().name.as_bytes().to_vec();
    for i in 1..words.args.len() {
        let word = words.args.get(i);
        out.push(b' ');
        let is_flag = i >= 2 + usize::from(verb == Verb::Ms);
        match word.split_first() {
            Some((b'C', digits)) if is_flag && text::unsigned(digits).is_some() => {
                out.push(b'C');
                crate::proto::resp::write_number(&mut out, token);
            }
            Some((b'E', digits)) if is_flag => match text::unsigned(digits) {
                Some(given) => {
                    out.push(b'E');
                    crate::proto::resp::write_number(&mut out, token::given(given));
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

impl Worker {
    /// Takes a meta request as a text client wrote it.
    pub(super) fn meta_text(
        &mut self,
        index: u32,
        generation: u32,
        request: &Request,
        args: Args,
        frame: &[u8],
    ) -> Flow {
        let (verb, flags) = (request.verb, request.flags);
        let hides_key = dialect::hides_key(&args, flags);
        let form = match verb {
            Verb::Me | Verb::Mn => Form::Same,
            _ => Form::of_text(verb, &args, flags, hides_key),
        };
        if dialect::is_canonical(verb, flags, frame, hides_key) {
            return self.meta_request(index, generation, request, args, frame, form);
        }
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        dialect::write_canonical(&mut bytes, verb, &args, flags, hides_key);
        bytes.extend_from_slice(&frame[request.line_end..]);
        let flow = self.meta_bytes(index, generation, &bytes, form);
        self.scratch = bytes;
        flow
    }

    /// Takes a whole meta request without `q`, whoever made it; `form` says how its reply is written for the
    /// client.
    pub(super) fn meta_bytes(
        &mut self,
        index: u32,
        generation: u32,
        bytes: &[u8],
        form: Form,
    ) -> Flow {
        let mut list = Vec::new();
        let (step, request) = text::request(bytes, &mut list, &mut Resume::default(), usize::MAX);
        let (Step::Complete(_), Some(request)) = (step, request) else {
            debug_assert!(false, "not a request");
            return Flow::Close;
        };
        let args = Args {
            buf: bytes,
            list: &list,
        };
        self.meta_request(index, generation, &request, args, bytes, form)
    }

    fn meta_request(
        &mut self,
        index: u32,
        generation: u32,
        request: &Request,
        args: Args,
        bytes: &[u8],
        form: Form,
    ) -> Flow {
        let Some(client) = self.clients.at(index) else {
            return Flow::Taken;
        };
        client.form = form;
        let pool = client.pool;
        let verb = request.verb;
        let meta = Meta {
            command: verb as u16,
            write: request.is_write(),
            mute: false,
        };
        let mut space = [0; text::KEY_LIMIT];
        let key = dialect::key(&args, request.flags, &mut space);
        // Of a key that is stored as it is `me` would show the line end that is in it.
        let is_bad_me = verb == Verb::Me && dialect::has_line_end(&args, request.flags);
        let answer = match request.fault {
            Some(fault) => Some(fault.text()),
            None if verb == Verb::Mn => Some(&b"MN\r\n"[..]),
            None if is_bad_me => Some(text::Fault::BadLine.text()),
            None if command::is_reserved(key) => Some(Wire::ReservedKey.memcached()),
            None => None,
        };
        if let Some(answer) = answer {
            self.reply_now(index, generation, meta, answer);
            return Flow::Taken;
        }
        let shard = self.shard_of(pool, key);
        if meta.write && self.owner(pool, shard) != self.id {
            let table = self.shard_table(pool, shard);
            if table.is_replicated() {
                // Its owner makes of it what servers are sent.
                let out = outgoing(pool, shard, request, bytes, Copies::Same);
                return self.dispatch(index, generation, meta, &out);
            }
        }
        self.with_meta(pool, shard, request, args, bytes, |worker, out| {
            worker.dispatch(index, generation, meta, out)
        })
    }

    /// Somebody has won an item by a read: the other servers have to know.
    pub(super) fn tell_won(&mut self, pool: u16, shard: u16, request: &[u8]) {
        let mut bytes = Vec::new();
        dialect::write_won(request, &mut bytes);
        let (owner, lane, to) = (self.owner(pool, shard), 0, ReplyTo::Nobody);
        self.pass_on(
            owner,
            Handover {
                pool,
                shard,
                lane,
                to,
                bytes,
            },
        );
    }

    /// Builds what the leader and the others are sent for a meta request, and hands it to `send`.
    pub(super) fn with_meta<R>(
        &mut self,
        pool: u16,
        shard: u16,
        request: &Request,
        args: Args,
        bytes: &[u8],
        send: impl FnOnce(&mut Self, &Outgoing) -> R,
    ) -> R {
        let (verb, flags) = (request.verb, request.flags);
        let table = self.shard_table(pool, shard);
        if !table.is_replicated() || !request.is_write() {
            return send(self, &outgoing(pool, shard, request, bytes, Copies::Same));
        }
        let data = match verb {
            Verb::Ms => data_block(bytes),
            _ => b"",
        };
        let words = Words { args, flags, data };
        let (is_alone, feeds) = (table.members().count_ones() < 2, table.joining != 0);
        let compared = dialect::token(&args, b'C').and_then(text::unsigned);
        let token = token::compared(compared.unwrap_or(0), self.lead_tag(pool, shard));
        let told;
        let sent = match flags.has_any(b"CE") {
            true => {
                told = with_tokens(verb, &words, token);
                &told[..]
            }
            // Asked again, the leader would give away what has been marked anew meanwhile. The others do, but
            // only until somebody wins that.
            false if verb == Verb::Mg && flags.has(b'L') => b"mn\r\n",
            false => bytes,
        };
        if is_alone {
            return send(self, &outgoing(pool, shard, request, sent, Copies::Same));
        }
        match others(verb, &words, token, feeds) {
            Others::Now(copy) => {
                let copies = Copies::Other {
                    bytes: &copy,
                    replies: 1,
                };
                send(self, &outgoing(pool, shard, request, sent, copies))
            }
            Others::Then(rule) => {
                let mut lead = Vec::new();
                let (word, mark) = (words.word(), words.mark());
                match &rule {
                    Rule::Stale { .. } => {
                        // 1.6.41 and later decode the key only if another word follows.
                        let twice = if mark.is_empty() { b"" } else { &b" b b"[..] };
                        lead = [b"me ", word, twice, b"\r\n", sent].concat();
                    }
                    Rule::Before { .. } => {
                        ask_item(&mut lead, word, mark);
                        lead.extend_from_slice(sent);
                    }
                    Rule::After { .. } => {
                        lead.extend_from_slice(sent);
                        ask_item(&mut lead, word, mark);
                    }
                    _ => lead.extend_from_slice(sent),
                }
                let resolution = Resolution { lead, rule };
                let copies = Copies::Meta(&resolution);
                // As the client wrote it, if it has to be made again.
                send(self, &outgoing(pool, shard, request, bytes, copies))
            }
        }
    }
}

fn outgoing<'a>(
    pool: u16,
    shard: u16,
    request: &Request,
    bytes: &'a [u8],
    copies: Copies<'a>,
) -> Outgoing<'a> {
    let shows_token = request.flags.has(b'c') && request.verb != Verb::Md;
    Outgoing {
        pool,
        shard,
        lane: 0,
        write: request.is_write(),
        kind: match shows_token {
            true => ReplyKind::ItemTokens,
            false => ReplyKind::Item,
        },
        bytes,
        copies,
        trailer: b"",
    }
}
