//! Meta commands of Memcached: from a request's bytes, whoever made them, to the shard. What the leader and the others
//! are sent for a write is in `resolve.rs`, what of a request is whose in `proto/meta.rs`.

use super::forward::{Copies, Flow, Meta, Outgoing};
use super::items;
use super::memcache::data_block;
use super::resolve::{others, with_tokens, Others, Resolution, Rule, Words};
use super::*;
use crate::command;
use crate::conn::ReplyTo;
use crate::proto::memcache::{self as text, ReplyKind, Request, Verb};
use crate::proto::meta::{self as dialect, Form};
use crate::proto::{token, Args, Resume, Step};

impl Worker {
    /// Takes a meta request as a text client wrote it.
    pub(super) fn meta_text(
        &mut self,
        who: Handle,
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
            return self.meta_request(who, request, args, frame, form);
        }
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        dialect::write_canonical(&mut bytes, verb, &args, flags, hides_key);
        bytes.extend_from_slice(&frame[request.line_end..]);
        let flow = self.meta_bytes(who, &bytes, form);
        self.scratch = bytes;
        flow
    }

    /// Takes a whole meta request without `q`, whoever made it; `form` says how its reply is written for the
    /// client.
    pub(super) fn meta_bytes(&mut self, who: Handle, bytes: &[u8], form: Form) -> Flow {
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
        self.meta_request(who, &request, args, bytes, form)
    }

    fn meta_request(
        &mut self,
        who: Handle,
        request: &Request,
        args: Args,
        bytes: &[u8],
        form: Form,
    ) -> Flow {
        let Some(client) = self.clients.get_mut(who) else {
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
            self.reply_now(who, meta, answer);
            return Flow::Taken;
        }
        let Spot { pool, shard } = self.spot_of(pool, key);
        if meta.write && self.owner(pool, shard) != self.id {
            let table = self.shard_table(pool, shard);
            if table.is_replicated() {
                // Its owner makes of it what servers are sent.
                let out = outgoing(pool, shard, request, bytes, Copies::Same);
                return self.dispatch(who, meta, &out);
            }
        }
        self.with_meta(pool, shard, request, args, bytes, |worker, out| {
            worker.dispatch(who, meta, out)
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
            Others::Same => {
                let is_compared =
                    verb == Verb::Ma || verb == Verb::Ms && matches!(words.mode(), b'A' | b'P');
                let copies = match is_compared {
                    true => Copies::ComparedItem {
                        word: words.word(),
                        mark: words.mark(),
                        not_asked: verb == Verb::Ma && !flags.has(b'v'),
                    },
                    false => Copies::Same,
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
                        items::ask(&mut lead, (word, mark));
                        lead.extend_from_slice(sent);
                    }
                    Rule::After { .. } => {
                        lead.extend_from_slice(sent);
                        items::ask(&mut lead, (word, mark));
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
