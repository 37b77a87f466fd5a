//! PUBLISH to the leader of a channel's shard, and PUBSUB asked of all leaders.
//!
//! Only leaders have subscriptions, so neither goes to another replica, and neither is made again once it
//! may have been sent: a message would come twice.

use super::forward::{Flow, Incoming, Reach};
use super::split::{Gather, Merge};
use super::*;
use crate::command;
use crate::command::channel::{self, QueryKind};
use crate::conn::{Pending, ReplyTo};
use crate::error;
use crate::proto::memcache::ReplyKind;

impl Worker {
    /// To the leader of the channel's shard, behind the client's earlier writes: who gets a message may
    /// look at once for what was written before it.
    pub(super) fn publish(&mut self, asked: &Incoming) -> Flow {
        let Incoming {
            who,
            meta,
            pool,
            lane,
            args,
            frame,
            ..
        } = *asked;
        let name = args.get(1);
        if command::is_reserved(name) {
            self.reply_now(who, meta, Wire::ReservedKey.redis());
            return Flow::Taken;
        }
        let Some(client) = self.clients.get_mut(who) else {
            return Flow::Taken;
        };
        if client.slot(client.barrier).is_some_and(|slot| !slot.ready) {
            client.block = Block::Drain;
            return Flow::Wait;
        }
        let shard = self.channel_shard(pool, channel::published_at(name));
        let out = asked.outgoing(Spot { pool, shard });
        let table = self.shard_table(pool, shard);
        let (lead, others) = (table.lead, table.in_sync.count_ones() > 1);
        let Some(lead) = lead else {
            self.pool_stats(pool).of(PoolCount::ShardLost).add(1);
            self.reply_now(who, meta, Wire::ShardLost.redis());
            return Flow::Taken;
        };
        let awaits = self.shard_state(pool, shard).awaiting_view;
        if awaits || !self.may_go(pool, shard, lane, Reach::Nothing) {
            return self.wait(who, meta, Block::Shard, &out);
        }
        let conn = self.conn_for(pool, shard, lead, lane);
        if self.conns[conn as usize].state == ConnState::Closed {
            if others {
                // Another will lead, or this one can be reached again.
                self.channels.held.push((pool, shard));
                return self.wait(who, meta, Block::Shard, &out);
            }
            self.reply_now(who, meta, Wire::BackendUnreachable.redis());
            return Flow::Taken;
        }
        let seq = self.open_slot(who, meta, &[]);
        let to = ReplyTo::Slot { client: who, seq };
        let publishes = true;
        let pending = Pending {
            publishes,
            ..self.pending(to, ReplyKind::Line, false, 0)
        };
        self.enqueue(conn, frame, pending);
        Flow::Taken
    }

    pub(super) fn query(&mut self, asked: &Incoming, kind: QueryKind) -> Flow {
        let Incoming {
            who,
            meta,
            pool,
            lane,
            args,
            frame,
            ..
        } = *asked;
        let lists = matches!(kind, QueryKind::Channels | QueryKind::ShardChannels);
        if lists && args.len() > 3 {
            let mut text = Vec::new();
            error::subcommand_syntax(args.get(0), args.get(1), &mut text);
            self.reply_now(who, meta, &text);
            return Flow::Taken;
        }
        let shards = 0..self.table.pools[pool as usize].shards.len() as u16;
        let shards: Vec<u16> = shards.filter(|shard| !self.is_off(pool, *shard)).collect();
        if shards.is_empty() {
            self.pool_stats(pool).of(PoolCount::ShardLost).add(1);
            self.reply_now(who, meta, Wire::ShardLost.redis());
            return Flow::Taken;
        }
        if let Some(full) = shards
            .iter()
            .find(|shard| !self.may_go(pool, **shard, lane, Reach::Nothing))
        {
            return self.wait(
                who,
                meta,
                Block::Shard,
                &asked.outgoing(Spot { pool, shard: *full }),
            );
        }
        let names = args.iter().skip(2).map(<[u8]>::to_vec).collect();
        let seq = self.open_slot(who, meta, &[]);
        let to = ReplyTo::Slot { client: who, seq };
        let gather = Gather::unordered(to, pool, Merge::Channels(kind), shards.len(), names);
        let gather = self.gathers.insert(gather);
        for (part, shard) in shards.into_iter().enumerate() {
            let part = part as u16;
            let to = ReplyTo::Part {
                gather,
                part,
                last: true,
            };
            let Some(lead) = self.shard_table(pool, shard).lead else {
                self.fail(pool, to, Wire::ShardLost);
                continue;
            };
            let conn = self.conn_for(pool, shard, lead, lane);
            if self.conns[conn as usize].state == ConnState::Closed {
                self.fail(pool, to, Wire::BackendUnreachable);
            } else {
                // Only the leader has subscriptions, so nobody else is asked.
                let pending = self.pending(to, ReplyKind::Line, true, super::reads::PARKED);
                self.enqueue(conn, frame, pending);
            }
        }
        Flow::Taken
    }
}
