//! What the proxy says of all shards from its own knowledge, or with sums of theirs: WAIT and INFO.

use super::ask::{count_reserved, request, Ask};
use super::*;
use crate::command::keys::number;
use crate::command::totals::Totals;
use crate::command::{info, sections_of_backends};
use crate::conn::lane;
use crate::proto::{resp, Args, Resume};
use shared::Ack;

impl Worker {
    /// WAIT numreplicas timeout. All that the client wrote is answered, so there is nothing to wait for, and what
    /// is certain of its writes is what `ack` says.
    pub(super) fn wait_for_replicas(&self, pool: u16, args: &Args<'_>) -> Vec<u8> {
        let wire = match (number(args.get(1)), number(args.get(2))) {
            (None, _) => Some(Wire::NotInteger),
            (_, None) => Some(Wire::TimeoutNotInteger),
            (_, Some(..=-1)) => Some(Wire::TimeoutNegative),
            _ => None,
        };
        if let Some(wire) = wire {
            return wire.redis().to_vec();
        }
        let ack = self.shared.config.pools[pool as usize].ack;
        let replicas = |shard: &u16| {
            let in_sync = self.shard_table(pool, *shard).in_sync.count_ones();
            match ack {
                Ack::All => in_sync.saturating_sub(1),
                Ack::Quorum => in_sync / 2,
                Ack::Primary => 0,
            }
        };
        let least = self.present(pool).iter().map(replicas).min();
        format!(":{}\r\n", least.unwrap_or(0)).into_bytes()
    }

    /// What the leaders are asked for INFO. Nobody where nothing of theirs is in it.
    pub(super) fn ask_for_totals(&self, pool: u16, lane: u8, args: &Args<'_>) -> Vec<Ask> {
        let Some(info) = info_of_backends(args) else {
            return Vec::new();
        };
        // Where our own keys are.
        let lane = lane::of(0, lane::is_resp3(lane));
        let mut asks = Vec::new();
        for shard in self.present(pool) {
            let table = self.shard_table(pool, shard);
            if let Some(lead) = table.lead {
                let bytes = [count_reserved(&table.reserved), info.clone()].concat();
                asks.push(Ask::of(shard, lead, lane, bytes, 2));
            }
        }
        asks
    }

    /// INFO from what has come by now: of each shard how many of our own keys there are, and its INFO.
    pub(super) fn write_info(
        &self,
        pool: u16,
        resp3: bool,
        asked: &[u8],
        parts: &[Vec<u8>],
        out: &mut Vec<u8>,
    ) {
        let mut totals = Totals::new(self.table.pools[pool as usize].shards.len());
        for part in parts {
            let (reserved, info) = part.split_at(resp::value_len(part));
            let answer = resp::integer(reserved).zip(resp::string(info));
            if let Some((reserved, info)) = answer {
                totals.add(info, reserved.max(0) as u64);
            }
        }
        let mut list = Vec::new();
        resp::request(asked, &mut list, &mut Resume::default(), usize::MAX);
        let args = Args {
            buf: asked,
            list: &list,
        };
        info(&args, &self.context(pool), &totals, resp3, out);
    }
}

/// What backends are asked for this INFO; nothing where nothing of theirs is in it.
pub(super) fn info_of_backends(args: &Args<'_>) -> Option<Vec<u8>> {
    let sections = sections_of_backends(args);
    let mut words: Vec<&[u8]> = vec![b"INFO"];
    words.extend(sections.iter().map(|name| name.as_bytes()));
    (!sections.is_empty()).then(|| request(&words))
}
