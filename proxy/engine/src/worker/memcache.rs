//! Requests of Memcached clients (classic text): parse, route, split.

use super::behind::{self, Behind};
use super::clients::Taken;
use super::forward::{Copies, Flow, Meta, Outgoing};
use super::split::{Merge, Parts};
use super::*;
use crate::command::{self, users};
use crate::proto::login::{login, Login};
use crate::proto::memcache::{self as text, Fault, ReplyKind, Request, Verb};
use crate::proto::meta as dialect;
use crate::proto::{binary, token, Arg, Args, Resume, Step};

/// What memcached 1.6 adds to a key and a value: a header, a CAS token, a NUL behind the key, a line end.
const ITEM_BYTES: u64 = 48 + 8 + 1 + 2;
/// And the flags, if there are any.
const ITEM_FLAGS_BYTES: u64 = 4;

impl Worker {
    /// Takes the request at the start of `bytes`, which are not empty.
    pub(super) fn take_memcache(&mut self, who: Handle, bytes: &[u8]) -> Taken {
        let Some(client) = self.clients.get_mut(who) else {
            return Taken::Last;
        };
        if client.binary || (client.command.is_none() && bytes[0] == binary::MAGIC) {
            return self.take_binary(who, bytes);
        }
        if client.locked {
            return self.take_login(who, bytes);
        }
        if client.aside > 0 && !bytes.starts_with(b"get ") {
            client.block = Block::Drain;
            return Taken::Nothing;
        }
        let mut list = std::mem::take(&mut self.args);
        let pool = client.pool;
        let limit = self.shared.config.pools[pool as usize].request_bytes_limit;
        let taken = match text::request(bytes, &mut list, &mut client.resume, limit) {
            (Step::Complete(len), Some(request)) => {
                let (frame, list) = (&bytes[..len], &list[..]);
                let args = Args { buf: frame, list };
                self.memcache_request(who, &request, args, frame).taken(len)
            }
            (Step::Incomplete, _) | (Step::Complete(_), None) => Taken::Nothing,
            (Step::Invalid(_), _) => {
                self.pool_stats(pool).of(PoolCount::ProtocolErrors).add(1);
                Taken::Last
            }
        };
        self.args = list;
        taken
    }

    /// Takes a login, or one line of what may not be asked before it.
    fn take_login(&mut self, who: Handle, bytes: &[u8]) -> Taken {
        let Some(client) = self.clients.get_mut(who) else {
            return Taken::Last;
        };
        let pool = client.pool;
        let (step, found) = login(bytes, &mut client.resume);
        let (len, found) = match (step, found) {
            (Step::Complete(len), Some(found)) => (len, found),
            (Step::Incomplete, _) | (Step::Complete(_), None) => return Taken::Nothing,
            (Step::Invalid(_), _) => {
                self.pool_stats(pool).of(PoolCount::ProtocolErrors).add(1);
                return Taken::Last;
            }
        };
        let text = match found {
            Login::Credentials { user, password } => {
                let users = &self.shared.config.pools[pool as usize].users;
                client.locked = !users::is_known(users, user, password);
                match client.locked {
                    true => Wire::WrongPassword.memcached(),
                    false => b"STORED\r\n",
                }
            }
            Login::Refused(text) => text,
        };
        let meta = Meta {
            command: Verb::Set as u16,
            write: false,
            mute: false,
        };
        self.reply_now(who, meta, text);
        Taken::Bytes(len)
    }

    pub(super) fn memcache_request(
        &mut self,
        who: Handle,
        request: &Request,
        args: Args,
        frame: &[u8],
    ) -> Flow {
        let Some(client) = self.clients.get_mut(who) else {
            return Flow::Taken;
        };
        let pool = client.pool;
        let verb = request.verb;
        let meta = Meta {
            command: verb as u16,
            write: request.is_write(),
            mute: request.noreply,
        };
        if let Some(fault) = request.fault {
            match fault {
                Fault::Http => return Flow::Close,
                Fault::TooLarge { skip } if verb == Verb::Set => {
                    let (key, bytes) = (args.get(1), behind::delete(args.get(1)));
                    return self.refuse_large(who, meta, key, bytes, skip);
                }
                Fault::TooLarge { skip } if verb == Verb::Ms => {
                    let mut space = [0; text::KEY_LIMIT];
                    let key = dialect::key(&args, request.flags, &mut space);
                    let mark: &[u8] = if request.flags.has(b'b') { b" b" } else { b"" };
                    let bytes = [b"md ", args.get(1), mark, b"\r\n"].concat();
                    return self.refuse_large(who, meta, key, bytes, skip);
                }
                Fault::TooLarge { skip } => client.skip = skip,
                Fault::Unknown => self.pool_stats(pool).of(PoolCount::Unsupported).add(1),
                _ => {}
            }
            self.reply_now(who, meta, fault.text());
            return Flow::Taken;
        }
        match verb {
            Verb::Get | Verb::Config if self.cluster_text(who, meta, verb, args) => Flow::Taken,
            Verb::Get | Verb::Gets | Verb::Gat | Verb::Gats => {
                self.retrieve(who, meta, pool, verb, args, frame)
            }
            Verb::Version => {
                let version = &self.shared.config.pools[pool as usize].server_version;
                let line = format!("VERSION {version}\r\n");
                self.reply_now(who, meta, line.as_bytes());
                Flow::Taken
            }
            Verb::Verbosity => {
                self.reply_now(who, meta, b"OK\r\n");
                Flow::Taken
            }
            Verb::Quit | Verb::Unknown => Flow::Close,
            Verb::Mg | Verb::Ms | Verb::Md | Verb::Ma | Verb::Me | Verb::Mn => {
                self.meta_text(who, request, args, frame)
            }
            Verb::Stats => self.stats_text(who, meta, pool, args),
            Verb::FlushAll => self.flush_text(who, meta, pool, args),
            Verb::LruCrawler => self.crawl_text(who, meta, args),
            Verb::Config => {
                self.reply_now(who, meta, Fault::Unknown.text());
                Flow::Taken
            }
            _ => {
                let key = args.get(1);
                if command::is_reserved(key) {
                    self.reply_now(who, meta, Wire::ReservedKey.memcached());
                    return Flow::Taken;
                }
                let Spot { pool, shard } = self.spot_of(pool, key);
                let length = verb.row().data;
                if length > 0 && self.is_too_large(pool, shard, args) {
                    if verb == Verb::Set {
                        let bytes = behind::delete(key);
                        return self.refuse_large(who, meta, key, bytes, 0);
                    }
                    self.reply_now(who, meta, Wire::RequestTooLarge.memcached());
                    return Flow::Taken;
                }
                let mut bytes = std::mem::take(&mut self.scratch);
                bytes.clear();
                let is_misread = verb == Verb::Delete && key == b"noreply";
                if is_misread {
                    bytes = behind::delete(key);
                } else if request.noreply {
                    write_loud(&mut bytes, args, &frame[request.line_end..]);
                }
                let sent = match request.noreply || is_misread {
                    true => &bytes[..],
                    false => frame,
                };
                let shard_table = self.shard_table(pool, shard);
                let is_tagged = verb == Verb::Cas && shard_table.is_replicated();
                let flow = if is_tagged && self.owner(pool, shard) == self.id {
                    let bare = self.untag(pool, shard, args, sent);
                    self.with_outgoing(pool, shard, verb, args, &bare, |worker, out| {
                        worker.dispatch(who, meta, out)
                    })
                } else {
                    self.with_outgoing(pool, shard, verb, args, sent, |worker, out| {
                        worker.dispatch(who, meta, out)
                    })
                };
                self.scratch = bytes;
                flow
            }
        }
    }

    /// True if one of the shard's backends would not store a value that another one would: they then store it
    /// nowhere. Where all have the same limit they say so themselves.
    fn is_too_large(&self, pool: u16, shard: u16, args: Args) -> bool {
        let table = self.shard_table(pool, shard);
        if !table.is_replicated() {
            return false;
        }
        let limits = &self.shared.shards[pool as usize][shard as usize].item_limits;
        let known = (0..table.backends.len())
            .filter(|backend| table.members() & (1 << backend) != 0)
            .map(|backend| limits[backend].load(Relaxed))
            .filter(|limit| *limit > 0);
        let (least, most) = known.fold((u64::MAX, 0), |(least, most), limit| {
            (least.min(limit), most.max(limit))
        });
        let value = text::unsigned(args.get(4)).unwrap_or(0);
        let flags = if args.get(2) == b"0" {
            0
        } else {
            ITEM_FLAGS_BYTES
        };
        least < most && ITEM_BYTES + args.get(1).len() as u64 + flags + value > least
    }

    /// A set with a value beyond the limit; `bytes` delete what is there. As with a server the value that was there is gone all the same: it is
    /// not the one the client believes to be there.
    pub(super) fn refuse_large(
        &mut self,
        who: Handle,
        meta: Meta,
        key: &[u8],
        bytes: Vec<u8>,
        skip: u64,
    ) -> Flow {
        let Some(pool) = self.clients.get_mut(who).map(|client| client.pool) else {
            return Flow::Taken;
        };
        let flow = if command::is_reserved(key) {
            self.reply_now(who, meta, Wire::ReservedKey.memcached());
            Flow::Taken
        } else {
            let parts = Parts {
                spots: vec![self.spot_of(pool, key)],
                bytes: vec![bytes],
                ..Parts::default()
            };
            let out = Outgoing {
                pool,
                shard: 0,
                lane: 0,
                write: true,
                kind: ReplyKind::Line,
                bytes: b"",
                copies: Copies::FromBytes,
                trailer: b"",
            };
            self.dispatch_parts(who, meta, Merge::TooLarge, parts, &out)
        };
        if let Some(client) = self.clients.get_mut(who).filter(|_| flow == Flow::Taken) {
            client.skip = skip;
        }
        flow
    }

    /// The tag of CAS tokens that a backend gives out now. It changes with the view: whoever holds a token
    /// from before reads again, which costs one round trip.
    pub(super) fn token_tag(&self, pool: u16, shard: u16, backend: u8) -> u8 {
        match self.lead_tag(pool, shard) {
            Some(tag) if self.shard_table(pool, shard).lead == Some(backend) => tag,
            _ => token::FOREIGN,
        }
    }

    /// That of the leader, if there is one.
    pub(super) fn lead_tag(&self, pool: u16, shard: u16) -> Option<u8> {
        let table = self.shard_table(pool, shard);
        table.lead.map(|_| token::tag_of(table.epoch))
    }

    /// A cas with the server's own token.
    fn untag(&self, pool: u16, shard: u16, args: Args, bytes: &[u8]) -> Vec<u8> {
        let token = text::unsigned(args.get(5)).unwrap_or(0);
        let token = token::compared(token, self.lead_tag(pool, shard));
        let mut bare = Vec::with_capacity(bytes.len());
        for i in 0..5 {
            bare.extend_from_slice(args.get(i));
            bare.push(b' ');
        }
        crate::proto::resp::write_number(&mut bare, token);
        bare.extend_from_slice(b"\r\n");
        bare.extend_from_slice(data_block(bytes));
        bare
    }

    /// Builds what a one-key request sends to the leader and to the others, and hands it to `send`.
    fn with_outgoing<R>(
        &mut self,
        pool: u16,
        shard: u16,
        verb: Verb,
        args: Args,
        bytes: &[u8],
        send: impl FnOnce(&mut Self, &Outgoing) -> R,
    ) -> R {
        // A conditional write is decided by the leader; the others store what it stored.
        let conditional = matches!(verb, Verb::Add | Verb::Replace | Verb::Cas);
        let table = self.shard_table(pool, shard);
        let has_joining = table.joining != 0;
        let mut copy = Vec::new();
        if conditional && table.is_replicated() {
            for word in [
                b"set ",
                args.get(1),
                b" ",
                args.get(2),
                b" ",
                args.get(3),
                b" ",
                args.get(4),
                b"\r\n",
            ] {
                copy.extend_from_slice(word);
            }
            copy.extend_from_slice(data_block(bytes));
        }
        let copies = match verb {
            _ if !copy.is_empty() => Copies::IfStored { bytes: &copy },
            Verb::Incr | Verb::Decr | Verb::Append | Verb::Prepend | Verb::Touch
                if !has_joining =>
            {
                Copies::Compared {
                    key: args.get(1),
                    // Whether a shorter number is padded depends on who reads the item at the time.
                    with_size: matches!(verb, Verb::Incr | Verb::Decr),
                }
            }
            _ if !has_joining => Copies::Same,
            Verb::Set => Copies::Behind(Behind::Set { key: args.get(1) }),
            Verb::Delete => Copies::Behind(Behind::Same),
            _ => Copies::Behind(items(args, 1, 2)),
        };
        let (lane, write, kind) = (0, verb.row().write, ReplyKind::Line);
        send(
            self,
            &Outgoing {
                pool,
                shard,
                lane,
                write,
                kind,
                bytes,
                copies,
                trailer: b"",
            },
        )
    }

    /// get, gets, gat, gats: of one shard as it is, of several split.
    #[allow(clippy::too_many_arguments)]
    fn retrieve(
        &mut self,
        who: Handle,
        meta: Meta,
        pool: u16,
        verb: Verb,
        args: Args,
        frame: &[u8],
    ) -> Flow {
        let first = first_key(verb);
        let count = args.len() - first;
        if count == 0 {
            // Of a gat without keys the server finds none of them.
            self.reply_now(who, meta, b"END\r\n");
            return Flow::Taken;
        }
        let key = |i: usize| args.get(first + i);
        if (0..count).any(|i| command::is_reserved(key(i))) {
            self.reply_now(who, meta, Wire::ReservedKey.memcached());
            return Flow::Taken;
        }
        let mut out = Outgoing {
            pool,
            shard: 0,
            lane: 0,
            write: meta.write,
            kind: reply_kind(verb),
            bytes: frame,
            copies: Copies::Same,
            trailer: b"",
        };
        if count == 1 && !meta.write {
            let spot = self.spot_of(pool, key(0));
            (out.pool, out.shard) = (spot.pool, spot.shard);
            return self.dispatch(who, meta, &out);
        }
        self.place(pool, count, key);
        if self.is_one_shard() {
            let touches = touches(verb, args);
            let Spot { pool, shard } = self.placed[0].0;
            (out.pool, out.shard) = (pool, shard);
            out.copies = self.copies_of_touches(pool, shard, &touches, args);
            return self.dispatch(who, meta, &out);
        }
        let mut parts = Parts {
            order: vec![0; count],
            ..Parts::default()
        };
        for group in self.placed.chunk_by(|a, b| a.0 == b.0) {
            let mut bytes = self.spare.pop().unwrap_or_default();
            bytes.extend_from_slice(verb.row().name.as_bytes());
            if first == 2 {
                bytes.push(b' ');
                bytes.extend_from_slice(args.get(1));
            }
            for (_, i) in group {
                parts.order[*i as usize] = parts.spots.len() as u16;
                bytes.push(b' ');
                bytes.extend_from_slice(key(*i as usize));
            }
            bytes.extend_from_slice(b"\r\n");
            parts.spots.push(group[0].0);
            parts.bytes.push(bytes);
        }
        parts.keys = (0..count).map(|i| key(i).to_vec()).collect();
        self.dispatch_parts(who, meta, Merge::Values, parts, &out)
    }

    /// What a get or gat of one shard sends to those that do not answer it.
    fn copies_of_touches<'a>(
        &self,
        pool: u16,
        shard: u16,
        touches: &'a [u8],
        args: Args<'a>,
    ) -> Copies<'a> {
        if touches.is_empty() {
            Copies::Same
        } else if self.shard_table(pool, shard).joining != 0 {
            Copies::Behind(items(args, 2, args.len()))
        } else {
            Copies::Then {
                bytes: touches,
                replies: (args.len() - 2) as u32,
            }
        }
    }

    /// A request handed over by another worker, made again from its bytes.
    pub(super) fn carry_out_memcache(&mut self, handover: &Handover, list: &mut Vec<Arg>) {
        let Handover {
            pool,
            shard,
            to,
            bytes,
            ..
        } = handover;
        let (_, request) = text::request(bytes, list, &mut Resume::default(), usize::MAX);
        let Some(request) = request else { return };
        let args = Args { buf: bytes, list };
        let verb = request.verb;
        match verb {
            Verb::Get | Verb::Gets | Verb::Gat | Verb::Gats => {
                let touches = touches(verb, args);
                let out = Outgoing {
                    pool: *pool,
                    shard: *shard,
                    lane: 0,
                    write: verb.row().write,
                    kind: reply_kind(verb),
                    bytes,
                    copies: self.copies_of_touches(*pool, *shard, &touches, args),
                    trailer: b"",
                };
                self.send(*to, &out);
            }
            Verb::FlushAll | Verb::Stats => self.carry_out_everywhere(handover, &args),
            _ if verb.is_meta() => {
                self.with_meta(*pool, *shard, &request, args, bytes, |worker, out| {
                    worker.send(*to, out);
                });
            }
            Verb::Cas if self.shard_table(*pool, *shard).is_replicated() => {
                let bare = self.untag(*pool, *shard, args, bytes);
                self.with_outgoing(*pool, *shard, verb, args, &bare, |worker, out| {
                    worker.send(*to, out);
                });
            }
            _ => self.with_outgoing(*pool, *shard, verb, args, bytes, |worker, out| {
                worker.send(*to, out)
            }),
        }
    }
}

fn reply_kind(verb: Verb) -> ReplyKind {
    match verb {
        Verb::Gets | Verb::Gats => ReplyKind::Tokens,
        _ => ReplyKind::Values,
    }
}

/// Position of the first key among the words.
fn first_key(verb: Verb) -> usize {
    match verb {
        Verb::Gat | Verb::Gats => 2,
        _ => 1,
    }
}

/// What a gat is to the replicas that do not answer it: a touch of each key. Empty for a get.
fn touches(verb: Verb, args: Args) -> Vec<u8> {
    let mut bytes = Vec::new();
    if matches!(verb, Verb::Gat | Verb::Gats) {
        for i in 2..args.len() {
            for word in [b"touch ", args.get(i), b" ", args.get(1), b"\r\n"] {
                bytes.extend_from_slice(word);
            }
        }
    }
    bytes
}

/// The words from `first` on, up to `end`, as keys whose items travel.
fn items(args: Args<'_>, first: usize, end: usize) -> Behind<'_> {
    Behind::Items { args, first, end }
}

/// The request without its `noreply`: the proxy has to know the outcome even if the client does not.
fn write_loud(out: &mut Vec<u8>, args: Args, data: &[u8]) {
    for (i, word) in args.iter().enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
}

/// What follows the first line.
pub(super) fn data_block(bytes: &[u8]) -> &[u8] {
    memchr::memchr(b'\n', bytes).map_or(b"", |newline| &bytes[newline + 1..])
}
