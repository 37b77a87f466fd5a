//! FLUSHALL, FLUSHDB, and whatever else is the same write of every shard.
//!
//! What a backend gets is made from the request itself, by whoever orders the shard's writes.

use super::ask::request;
use super::forward::{Copies, Flow, Meta, Outgoing};
use super::split::{Merge, Parts};
use super::*;
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

/// What a backend gets for FLUSHALL and FLUSHDB. ASYNC unless SYNC is asked for: while a server frees memory it
/// answers nobody, and one that does not answer leaves its shard.
fn flush_request(args: &Args<'_>, reserved: &[Vec<u8>]) -> Vec<u8> {
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

impl Worker {
    /// FLUSHALL and FLUSHDB.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn flush(
        &mut self,
        index: u32,
        generation: u32,
        meta: Meta,
        pool: u16,
        lane: u8,
        args: Args,
        frame: &[u8],
    ) -> Flow {
        let is = |word: &[u8]| args.get(1).eq_ignore_ascii_case(word);
        if args.len() > 2 || (args.len() == 2 && !is(b"SYNC") && !is(b"ASYNC")) {
            self.reply_now(index, generation, meta, Wire::Syntax.redis());
            return Flow::Taken;
        }
        self.write_everywhere(index, generation, meta, pool, lane, frame)
    }

    /// The same request as a write of every shard.
    pub(super) fn write_everywhere(
        &mut self,
        index: u32,
        generation: u32,
        meta: Meta,
        pool: u16,
        lane: u8,
        frame: &[u8],
    ) -> Flow {
        let shards = self.present(pool);
        let parts = Parts {
            bytes: vec![frame.to_vec(); shards.len()],
            shards,
            ..Parts::default()
        };
        let (write, kind, copies) = (true, ReplyKind::Line, Copies::FromBytes);
        let out = Outgoing {
            pool,
            shard: 0,
            lane,
            write,
            kind,
            bytes: b"",
            copies,
            trailer: b"",
        };
        self.dispatch_parts(index, generation, meta, Merge::Same, parts, &out)
    }

    /// FLUSHALL or FLUSHDB for one shard, made from the bytes that the client sent.
    pub(super) fn carry_out_flush(&mut self, handover: &Handover, args: &Args<'_>) {
        let Handover {
            pool,
            shard,
            lane,
            to,
            ref bytes,
        } = *handover;
        let table = self.shard_table(pool, shard);
        let made = flush_request(args, &table.reserved);
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
    fn our_own_keys_are_named_to_the_script() {
        let made = flush_of("FLUSHDB", &["__shardproxy:a", "__shardproxy:b"]);
        assert!(made.starts_with("*7\r\n$4\r\nEVAL\r\n"));
        let words = "$1\r\n2\r\n$14\r\n__shardproxy:a\r\n$14\r\n__shardproxy:b\r\n$7\r\nFLUSHDB\r\n$5\r\nASYNC\r\n";
        assert!(made.ends_with(words), "{made}");
    }
}
