//! Memcached commands that concern the proxy itself, or every shard: stats, flush_all, lru_crawler, config.

use super::behind::Behind;
use super::forward::{Copies, Flow, Meta, Outgoing};
use super::split::{Merge, Parts};
use super::tally::{self, Sheet};
use super::*;
use crate::command::census::Question;
use crate::conn::ReplyTo;
use crate::proto::dump::Kind;
use crate::proto::memcache::{self as text, Fault, ReplyKind, Verb};
use crate::proto::Args;

/// What ElastiCache's clients ask older servers for, in place of `config get cluster`.
const CLUSTER_KEY: &[u8] = b"AmazonElastiCache:cluster";
/// Where `flush_all` and its like take a number for a moment, as all expiry times.
const RELATIVE_SECONDS_LIMIT: i64 = 60 * 60 * 24 * 30;
const FLUSH: &[u8] = b"flush_all\r\n";
const RESET: &[u8] = b"stats reset\r\n";
/// Slab classes are below it.
const CLASSES: u64 = 64;

impl Worker {
    /// stats [name ...]
    pub(super) fn stats_text(&mut self, who: Handle, meta: Meta, pool: u16, args: Args) -> Flow {
        let name = args.get(1);
        let refused: &[u8] = match name {
            b"reset" => {
                let write = Meta {
                    write: true,
                    ..meta
                };
                return self.everywhere(who, write, pool, RESET, Merge::Same);
            }
            b"conns" => return self.ask_clients(who, meta, (0, false), Question::Conns),
            b"cachedump" => {
                let number =
                    |at| text::unsigned(args.get(at)).filter(|n| *n <= u64::from(u32::MAX));
                match (args.len() < 4, number(2).zip(number(3))) {
                    (true, _) => b"CLIENT_ERROR bad command line\r\n",
                    (_, None) => Fault::BadLine.text(),
                    (_, Some((class, _))) if class >= CLASSES => {
                        b"CLIENT_ERROR Illegal slab id\r\n"
                    }
                    (_, Some((class, count))) => {
                        let request = format!("stats cachedump {class} {count}\r\n").into_bytes();
                        return self.begin_dump(who, meta, Kind::Cache, request);
                    }
                }
            }
            // Prefixes of keys may be any bytes, and counting them costs a server memory.
            b"detail" => match args.get(2) {
                b"on" | b"off" | b"dump" => b"CLIENT_ERROR stats detail not allowed\r\n",
                _ => b"CLIENT_ERROR usage: stats detail on|off|dump\r\n",
            },
            _ => match Sheet::of(name) {
                Some(sheet) => {
                    let mut bytes = b"stats".to_vec();
                    if !name.is_empty() {
                        bytes.push(b' ');
                        bytes.extend_from_slice(name);
                    }
                    bytes.extend_from_slice(b"\r\n");
                    let merge = Merge::Stats(sheet);
                    return self.everywhere(who, meta, pool, &bytes, merge);
                }
                None => Fault::Unknown.text(),
            },
        };
        self.reply_now(who, meta, refused);
        Flow::Taken
    }

    /// flush_all [delay]. A delay is the proxy's: a server would drop our record with the rest, and one that is
    /// filled meanwhile would not know of it.
    pub(super) fn flush_text(&mut self, who: Handle, meta: Meta, pool: u16, args: Args) -> Flow {
        let delay = delay_seconds(args.get(1), (sys::unix_micros() / 1_000_000) as i64);
        let due = match delay {
            0 => 0,
            _ => self.now_ms + delay * 1000,
        };
        // The last one counts, as with a server.
        for flags in &self.shared.shards[pool as usize] {
            flags.flush_at.store(due, SeqCst);
        }
        if due == 0 {
            return self.everywhere(who, meta, pool, FLUSH, Merge::Same);
        }
        self.reply_now(who, meta, b"OK\r\n");
        Flow::Taken
    }

    /// Empties the shards whose time has come, if their writes are ordered here. One without a leader is emptied
    /// when it has one. A proxy that ends empties them before it does: nobody else knows of the delay, and what a
    /// cache forgets early does no harm.
    pub(super) fn flush_due(&mut self) {
        let is_last = self.shared.draining.load(SeqCst);
        for pool in 0..self.pools.len() as u16 {
            for shard in self.present(pool) {
                let at = self.shared.shards[pool as usize][shard as usize]
                    .flush_at
                    .load(SeqCst);
                let is_due = at > 0
                    && (self.now_ms >= at || is_last)
                    && self.owner(pool, shard) == self.id
                    && self.shard_table(pool, shard).lead.is_some();
                let flags = &self.shared.shards[pool as usize][shard as usize];
                // A client may have said something else meanwhile.
                if is_due
                    && flags
                        .flush_at
                        .compare_exchange(at, 0, SeqCst, SeqCst)
                        .is_ok()
                {
                    self.receive(Handover {
                        pool,
                        shard,
                        lane: 0,
                        to: ReplyTo::Nobody,
                        bytes: FLUSH.to_vec(),
                    });
                }
            }
        }
    }

    /// lru_crawler metadump|mgdump all|hash|CLASSES; what else it can do is the operator's.
    pub(super) fn crawl_text(&mut self, who: Handle, meta: Meta, args: Args) -> Flow {
        let kind = match args.get(1) {
            b"metadump" if args.len() == 3 => Some(Kind::Meta),
            b"mgdump" if args.len() == 3 => Some(Kind::Mg),
            _ => None,
        };
        let Some(kind) = kind else {
            self.reply_now(who, meta, Fault::Unknown.text());
            return Flow::Taken;
        };
        let request = [b"lru_crawler metadump ", args.get(2), b"\r\n"].concat();
        self.begin_dump(who, meta, kind, request)
    }

    /// config get cluster, and what stands for it with older servers: a cluster of one node, which is the
    /// address the client has connected to. False if it asks for something else, or came over a unix socket.
    pub(super) fn cluster_text(&mut self, who: Handle, meta: Meta, verb: Verb, args: Args) -> bool {
        let is_config = verb == Verb::Config;
        let is_asked = match is_config {
            true => args.len() == 3 && args.get(1) == b"get" && args.get(2) == b"cluster",
            false => args.len() == 2 && args.get(1) == CLUSTER_KEY,
        };
        let Some(client) = self.clients.get_mut(who).filter(|_| is_asked) else {
            return false;
        };
        let name = sys::names(&client.fd).1;
        let Some((host, port)) = name.rsplit_once(':').filter(|_| is_asked) else {
            return false;
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let nodes = format!("1\n{host}|{host}|{port}\n");
        let text = match is_config {
            true => format!("CONFIG cluster 0 {}\r\n{nodes}\r\nEND\r\n", nodes.len()),
            false => format!(
                "VALUE AmazonElastiCache:cluster 0 {}\r\n{nodes}\r\nEND\r\n",
                nodes.len()
            ),
        };
        self.reply_now(who, meta, text.as_bytes());
        true
    }

    /// The same request of each shard.
    fn everywhere(
        &mut self,
        who: Handle,
        meta: Meta,
        pool: u16,
        bytes: &[u8],
        merge: Merge,
    ) -> Flow {
        let spots = self.present_spots(pool);
        let parts = Parts {
            bytes: vec![bytes.to_vec(); spots.len()],
            spots,
            ..Parts::default()
        };
        let is_flush = bytes == FLUSH;
        let kind = match merge {
            Merge::Stats(_) => ReplyKind::Stats,
            _ => ReplyKind::Line,
        };
        let out = Outgoing {
            pool,
            shard: 0,
            lane: 0,
            write: meta.write,
            kind,
            bytes: b"",
            copies: Copies::Same,
            // Any text: each shard has its own, filled in when its part is sent.
            trailer: if is_flush { b"restore" } else { b"" },
        };
        self.dispatch_parts(who, meta, merge, parts, &out)
    }

    /// flush_all or stats of one shard, handed over by another worker or waiting for its turn.
    pub(super) fn carry_out_everywhere(&mut self, handover: &Handover, args: &Args) {
        let Handover {
            pool,
            shard,
            lane,
            to,
            ref bytes,
        } = *handover;
        let table = self.shard_table(pool, shard);
        let is_flush = bytes == FLUSH;
        let restore = match is_flush {
            true => table.restore.clone(),
            false => Vec::new(),
        };
        let copies = match table.joining {
            0 => Copies::Same,
            _ => Copies::Behind(Behind::Same),
        };
        let write = is_flush || is_reset(args);
        let out = Outgoing {
            pool,
            shard,
            lane,
            write,
            kind: match write {
                true => ReplyKind::Line,
                false => ReplyKind::Stats,
            },
            bytes,
            copies,
            trailer: &restore,
        };
        self.send(to, &out);
    }

    /// What `stats` comes to.
    pub(super) fn merge_stats(
        &self,
        pool: u16,
        sheet: Sheet,
        parts: &[Vec<u8>],
        out: &mut Vec<u8>,
    ) {
        let clients = self.shared.pool_clients[pool as usize].load(Relaxed);
        let config = &self.shared.config.pools[pool as usize];
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        let limit = config.client_limit.to_string();
        let workers = self.shared.config.workers.to_string();
        // The server that was asked need not be the one that takes least.
        let limits = self.shared.shards[pool as usize].iter();
        let limits = limits.flat_map(|flags| &flags.item_limits);
        let least = limits
            .map(|limit| limit.load(Relaxed))
            .filter(|limit| *limit > 0)
            .min();
        let mut own = match sheet {
            Sheet::General => vec![
                ("pid", std::process::id().to_string()),
                ("uptime", self.shared.clock.seconds().to_string()),
                ("time", (sys::unix_micros() / 1_000_000).to_string()),
                ("version", config.server_version.clone()),
                ("pointer_size", usize::BITS.to_string()),
                ("max_connections", limit),
                ("curr_connections", clients.to_string()),
                ("threads", workers),
            ],
            Sheet::Settings => vec![
                ("maxconns", limit),
                ("tcpport", config.port.to_string()),
                ("udpport", "0".to_owned()),
                ("inter", "NULL".to_owned()),
                ("domain_socket", "NULL".to_owned()),
                ("num_threads", workers),
                ("auth_enabled_sasl", yes(!config.users.is_empty())),
                ("auth_enabled_ascii", yes(!config.users.is_empty())),
            ],
            _ => Vec::new(),
        };
        if let Some(least) = least.filter(|_| sheet == Sheet::Settings) {
            own.push(("item_size_max", least.to_string()));
        }
        let table = &self.table.pools[pool as usize];
        let answers = parts.iter().filter(|part| part.starts_with(b"STAT "));
        let further = match sheet {
            Sheet::General => vec![
                ("proxy_shards", table.shards.len().to_string()),
                ("proxy_shards_counted", answers.count().to_string()),
            ],
            _ => Vec::new(),
        };
        let records = |shard: &crate::route::Shard| {
            memchr::memmem::find_iter(&shard.restore, b"set __shardproxy:").count() as u64
        };
        let hidden = table.shards.iter().map(records).sum();
        tally::merge(sheet, parts, &own, &further, hidden, out);
    }
}

/// True for `stats reset`, which is a write: it concerns every server.
pub(super) fn is_reset(args: &Args) -> bool {
    args.get(0) == b"stats" && args.get(1) == b"reset"
}

/// Seconds from `now`, in seconds since 1970, until what a flush_all says; 0 for at once.
fn delay_seconds(word: &[u8], now: i64) -> u64 {
    let number = std::str::from_utf8(word)
        .ok()
        .and_then(|word| word.parse().ok());
    let delay = match number.unwrap_or(0i64) {
        moment if moment > RELATIVE_SECONDS_LIMIT => moment - now,
        seconds => seconds,
    };
    delay.max(0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_relative_up_to_a_month() {
        for (word, expected) in [
            (&b""[..], 0),
            (b"0", 0),
            (b"-5", 0),
            (b"30", 30),
            (b"2592000", 2_592_000),
            (b"2592001", 0),
            (b"1000000060", 60),
        ] {
            assert_eq!(delay_seconds(word, 1_000_000_000), expected, "{word:?}");
        }
    }
}
