//! FLUSHALL, FLUSHDB, SWAPDB, and whatever else is the same write of every shard.
//!
//! What a backend gets is made from the request itself, by whoever orders the shard's writes.

use super::ask::request;
use super::forward::{Copies, Flow, Incoming, Outgoing};
use super::split::{Merge, Parts};
use super::*;
use crate::command::keys::number;
use crate::command::FanKind;
use crate::proto::memcache::ReplyKind;
use crate::proto::Args;

/// Removes all keys but our own, in one step that no other proxy sees the middle of. A script, because it may
/// go beyond the memory limit, and because what stands there stays, whatever was recorded a moment ago.
const FLUSH: &str = "#!lua flags=allow-oom
if ARGV[1] == 'FLUSHALL' then redis.call('SELECT', 0) end
local kept = {}
for _, key in ipairs(KEYS) do
  local value = redis.call('GET', key)
  if value then
    local set = {'SET', key, value}
    local at = redis.call('PEXPIRETIME', key)
    if at > 0 then
      set[4], set[5] = 'PXAT', at
    end
    kept[#kept + 1] = set
  end
end
redis.call(ARGV[1], ARGV[2])
for _, set in ipairs(kept) do redis.call(unpack(set)) end
return redis.status_reply('OK')
";

/// Swaps two databases; our own keys stay in the first of all. Whoever waits for a key that comes so is told
/// by a key of its own, the first one (`ready.rs`): servers track keys by their names, whatever the database.
const SWAP: &str = "redis.call('SWAPDB', ARGV[1], ARGV[2])
if ARGV[1] == '0' then
  redis.call('SELECT', ARGV[2])
  for at = 2, #KEYS do redis.call('MOVE', KEYS[at], 0) end
end
redis.call('SET', KEYS[1], '')
redis.call('DEL', KEYS[1])
return redis.status_reply('OK')
";

/// Written by who swaps databases, and never there.
pub(super) const SWAPPED: &[u8] = b"__shardproxy:swapped";

/// True for what `flush_request` has made.
pub(super) fn is_made(args: &Args<'_>) -> bool {
    args.get(1) == FLUSH.as_bytes() && args.get(0) == b"EVAL"
}

/// What a backend gets for FLUSHALL and FLUSHDB. ASYNC unless SYNC is asked for: while a server frees memory it
/// answers nobody, and one that does not answer leaves its shard.
pub(super) fn flush_request(args: &Args<'_>, reserved: &[Vec<u8>]) -> Vec<u8> {
    let name = args.get(0).to_ascii_uppercase();
    let is_sync = args.get(1).eq_ignore_ascii_case(b"SYNC");
    let how: &[u8] = if is_sync { b"SYNC" } else { b"ASYNC" };
    if reserved.is_empty() {
        return request(&[&name, how]);
    }
    let count = reserved.len().to_string();
    let mut words: Vec<&[u8]> = vec![b"EVAL", FLUSH.as_bytes(), count.as_bytes()];
    words.extend(reserved.iter().map(Vec::as_slice));
    words.extend([&name[..], how]);
    request(&words)
}

/// What a backend gets for SWAPDB.
fn swap_request(first: u8, second: u8, reserved: &[Vec<u8>]) -> Vec<u8> {
    let (least, other) = (first.min(second), first.max(second));
    let (least, other) = (least.to_string(), other.to_string());
    if first == second {
        return request(&[b"SWAPDB", least.as_bytes(), other.as_bytes()]);
    }
    let count = (1 + reserved.len()).to_string();
    let mut words: Vec<&[u8]> = vec![b"EVAL", SWAP.as_bytes(), count.as_bytes(), SWAPPED];
    words.extend(reserved.iter().map(Vec::as_slice));
    words.extend([least.as_bytes(), other.as_bytes()]);
    request(&words)
}

/// The databases that SWAPDB names, if there are so many.
fn swapped(args: &Args<'_>, databases: u8) -> Result<(u8, u8), Wire> {
    let first = number(args.get(1)).and_then(|number| i32::try_from(number).ok());
    let second = number(args.get(2)).and_then(|number| i32::try_from(number).ok());
    let first = first.ok_or(Wire::FirstDatabase)?;
    let second = second.ok_or(Wire::SecondDatabase)?;
    let known = |number: i32| u8::try_from(number).ok().filter(|it| *it < databases);
    known(first).zip(known(second)).ok_or(Wire::DatabaseIndex)
}

/// True if FLUSHALL or FLUSHDB is asked as it may be.
pub(super) fn is_flush(args: &Args<'_>) -> bool {
    let is = |word: &[u8]| args.get(1).eq_ignore_ascii_case(word);
    args.len() == 1 || (args.len() == 2 && (is(b"SYNC") || is(b"ASYNC")))
}

impl Worker {
    /// FLUSHALL and FLUSHDB.
    pub(super) fn flush(&mut self, asked: &Incoming) -> Flow {
        if !is_flush(&asked.args) {
            self.reply_now(asked.who, asked.meta, Wire::Syntax.redis());
            return Flow::Taken;
        }
        self.write_everywhere(asked)
    }

    /// SWAPDB. Who copies a shard key by key would miss those that change places meanwhile.
    pub(super) fn swap(&mut self, asked: &Incoming) -> Flow {
        let pool = asked.pool;
        let databases = self.shared.config.pools[pool as usize].databases;
        let is_joined = |shard: &u16| self.shard_table(pool, *shard).joining != 0;
        let refused = match swapped(&asked.args, databases) {
            Err(wire) => Some(wire),
            Ok(_) if self.present(pool).iter().any(is_joined) => Some(Wire::ShardJoined),
            Ok(_) => None,
        };
        if let Some(wire) = refused {
            self.reply_now(asked.who, asked.meta, wire.redis());
            return Flow::Taken;
        }
        self.write_everywhere(asked)
    }

    /// The same request as a write of every shard.
    pub(super) fn write_everywhere(&mut self, asked: &Incoming) -> Flow {
        let spots = self.spots_of_write(asked.pool, asked.row);
        self.send_everywhere(asked, spots, asked.frame.to_vec(), true, Merge::Same)
    }

    /// Sends each of these shards the same request, whose replicas get what follows from its bytes.
    pub(super) fn send_everywhere(
        &mut self,
        asked: &Incoming,
        spots: Vec<Spot>,
        frame: Vec<u8>,
        write: bool,
        merge: Merge,
    ) -> Flow {
        let parts = Parts {
            bytes: vec![frame; spots.len()],
            spots,
            ..Parts::default()
        };
        let out = Outgoing {
            write,
            bytes: b"",
            copies: Copies::FromBytes,
            ..asked.outgoing(Spot {
                pool: asked.pool,
                shard: 0,
            })
        };
        self.dispatch_parts(asked.who, asked.meta, merge, parts, &out)
    }

    /// FLUSHALL, FLUSHDB or SWAPDB for one shard, made from the bytes that the client sent.
    pub(super) fn carry_out_flush(&mut self, handover: &Handover, kind: FanKind, args: &Args<'_>) {
        let Handover {
            pool,
            shard,
            lane,
            to,
            ref bytes,
        } = *handover;
        let databases = self.shared.config.pools[pool as usize].databases;
        let table = self.shard_table(pool, shard);
        let made = match (kind, swapped(args, databases)) {
            (FanKind::Swap, _) if table.joining != 0 => {
                return self.fail(pool, to, Wire::ShardJoined);
            }
            (FanKind::Swap, Ok((first, second))) => swap_request(first, second, &table.reserved),
            (FanKind::Swap, Err(wire)) => return self.fail(pool, to, wire),
            _ => flush_request(args, &table.reserved),
        };
        let (bytes, copies) = match table.members().count_ones() {
            0 | 1 => (&made, Copies::Same),
            _ => (bytes, Copies::Made { bytes: &made }),
        };
        let out = Outgoing {
            pool,
            shard,
            lane,
            write: true,
            kind: ReplyKind::Line,
            bytes,
            copies,
            trailer: b"",
        };
        self.send(to, &out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{resp, Resume};

    fn flush_of(line: &str, reserved: &[&str]) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let buf = request(&words);
        let mut list = Vec::new();
        resp::request(&buf, &mut list, &mut Resume::default(), usize::MAX);
        let reserved: Vec<Vec<u8>> = reserved.iter().map(|key| key.as_bytes().to_vec()).collect();
        let args = Args {
            buf: &buf,
            list: &list,
        };
        String::from_utf8(flush_request(&args, &reserved)).unwrap()
    }

    #[test]
    fn a_flush_does_not_stop_a_server_unless_that_is_asked_for() {
        let plain = "*2\r\n$8\r\nFLUSHALL\r\n$5\r\nASYNC\r\n";
        assert_eq!(flush_of("flushall", &[]), plain);
        assert_eq!(flush_of("FLUSHALL async", &[]), plain);
        assert!(flush_of("FLUSHDB sync", &[]).ends_with("$7\r\nFLUSHDB\r\n$4\r\nSYNC\r\n"));
    }

    #[test]
    fn our_own_keys_stay_in_their_database() {
        let reserved = [b"__shardproxy:a".to_vec()];
        let text = |made: Vec<u8>| String::from_utf8(made).unwrap();
        let plain = text(swap_request(2, 2, &reserved));
        assert_eq!(plain, "*3\r\n$6\r\nSWAPDB\r\n$1\r\n2\r\n$1\r\n2\r\n");
        for made in [swap_request(3, 0, &reserved), swap_request(0, 3, &reserved)] {
            let words = "$14\r\n__shardproxy:a\r\n$1\r\n0\r\n$1\r\n3\r\n";
            assert!(text(made).ends_with(words));
        }
        assert!(text(swap_request(2, 1, &[])).ends_with("swapped\r\n$1\r\n1\r\n$1\r\n2\r\n"));
    }

    #[test]
    fn our_own_keys_are_named_to_the_script() {
        let made = flush_of("FLUSHDB", &["__shardproxy:a", "__shardproxy:b"]);
        assert!(made.starts_with("*7\r\n$4\r\nEVAL\r\n"));
        let words = "$1\r\n2\r\n$14\r\n__shardproxy:a\r\n$14\r\n__shardproxy:b\r\n$7\r\nFLUSHDB\r\n$5\r\nASYNC\r\n";
        assert!(made.ends_with(words), "{made}");
    }
}
